"""Fixtures that more than one test module needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# On a busy machine an example may take any time; that is no mistake of the code.
settings.register_profile("playground", deadline=None)
settings.load_profile("playground")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def data_dir() -> Path:
    """The real data the tests may read; skips where it is not there."""
    found = Path(os.environ.get("PLAYGROUND_DATA", ROOT / ".." / "shared" / "data"))
    if not found.is_dir():
        pytest.skip(f"no data at {found} (set PLAYGROUND_DATA)")
    return found.resolve()


@pytest.fixture
def embedded() -> Iterator[object]:
    """An embedded broker on a free port."""
    from playground.broker import EmbeddedBroker

    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture
def mosquitto() -> Iterator[object]:
    """A mosquitto process of our own on a free port; skips where there is none."""
    from playground.broker import EmbeddedBroker, find_mosquitto

    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    with EmbeddedBroker(backend="mosquitto") as broker:
        yield broker


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Waits for a condition, with a deadline, instead of sleeping for it."""
    import threading
    import time

    def wait(condition: Callable[[], object], *, within_s: float = 10.0) -> None:
        deadline = time.monotonic() + within_s
        pause = threading.Event()
        while not condition():
            assert time.monotonic() < deadline, f"not within {within_s} s"
            pause.wait(0.005)

    return wait
