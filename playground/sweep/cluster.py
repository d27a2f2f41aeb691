"""Where the runs of a sweep are made: here, or on a cluster that joblib can reach."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import joblib

from playground.errors import ConnectionFailed, PlaygroundError, closest

KINDS = ("dask", "ray")
ANSWER_S = 10.0
"""So long a cluster has to answer."""


@contextlib.contextmanager
def cluster(url: str) -> Iterator[dict[str, Any]]:
    """Connects to a cluster while it is open.

    Args:
        url: ``dask://HOST:PORT`` of a Dask scheduler, ``ray://HOST:PORT`` of a Ray
            cluster's client server.

    Yields:
        What `joblib.Parallel` is to be given.

    Raises:
        PlaygroundError: There is no such kind, or its package is not installed.
        ConnectionFailed: The cluster does not answer.
    """
    kind, separator, address = url.partition("://")
    if kind not in KINDS or not separator or not address:
        raise PlaygroundError(
            f"--backend {url}: there is no such backend.{closest(kind, KINDS)}",
            "write dask://HOST:PORT or ray://HOST:PORT, or leave it out",
        )
    with _dask(address) if kind == "dask" else _ray(url) as options:
        yield options


def _missing(package: str, error: ImportError) -> PlaygroundError:
    return PlaygroundError(
        f"{package} is not installed ({error}).",
        "pip install 'mqtt-playground[cluster]'",
    )


@contextlib.contextmanager
def _dask(address: str) -> Iterator[dict[str, Any]]:
    try:
        from distributed import Client
    except ImportError as error:
        raise _missing("dask", error) from error
    try:
        client: Any = Client(  # type: ignore[no-untyped-call]
            f"tcp://{address}", timeout=ANSWER_S, set_as_default=False
        )
    except (OSError, TimeoutError, ValueError) as error:
        raise ConnectionFailed(
            f"No Dask scheduler answers at {address}.",
            "start one with 'dask scheduler' and workers with 'dask worker "
            f"tcp://{address}'",
        ) from error
    with client, joblib.parallel_config(backend="dask", client=client):
        yield {"n_jobs": -1}


@contextlib.contextmanager
def _ray(url: str) -> Iterator[dict[str, Any]]:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise _missing("ray", error) from error
    try:
        ray.init(address=url)
    except (OSError, ConnectionError, TimeoutError, RuntimeError) as error:
        raise ConnectionFailed(
            f"No Ray cluster answers at {url}.", "start one with 'ray start --head'"
        ) from error
    register_ray()
    try:
        with joblib.parallel_config(backend="ray"):
            # It gives its results all at once; the rows are on disk before.
            yield {"n_jobs": -1, "return_as": "list"}
    finally:
        ray.shutdown()
