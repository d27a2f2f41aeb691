"""Calls side by side in processes of their own."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from joblib import Parallel

REPLACED = "A worker stopped while some jobs were given to the executor"
"""How joblib warns that it replaced a process that had taken much memory, as fits and
lessons do; nothing is lost by that, and nobody can do anything about it."""


def side_by_side(calls: Iterable[Any], workers: int) -> Iterator[Any]:
    """Makes calls, and yields what they return in the order of the calls.

    Args:
        calls: As `joblib.delayed` makes them.
        workers: Processes; with 1 the calls are made in this one.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=REPLACED)
        yield from Parallel(n_jobs=workers, return_as="generator")(calls)
