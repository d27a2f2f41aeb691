"""Calls side by side in processes of their own."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from joblib import Parallel

# joblib says so of a process that had taken much memory, as fits and lessons do. Nothing
# is lost by that, and nobody can do anything about it.
warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")


def side_by_side(calls: Iterable[Any], workers: int) -> Iterator[Any]:
    """Makes calls, and yields what they return in the order of the calls.

    Args:
        calls: As `joblib.delayed` makes them.
        workers: Processes; with 1 the calls are made in this one.
    """
    yield from Parallel(n_jobs=workers, return_as="generator")(calls)
