"""Ctrl-C and SIGTERM as an event: what runs ends in good order, and says so."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


@contextlib.contextmanager
def stop_event() -> Iterator[threading.Event]:
    """Gives an event that the first Ctrl-C or SIGTERM sets.

    A second one acts as it always does, so nothing can become unstoppable.
    """
    stop = threading.Event()
    earlier: dict[signal.Signals, Any] = {}

    def handle(_number: int, _frame: FrameType | None) -> None:
        for number, handler in earlier.items():
            signal.signal(number, handler)
        # The main thread may hold the event's own lock at this moment.
        threading.Thread(target=stop.set, daemon=True).start()

    for number in (signal.SIGINT, signal.SIGTERM):
        earlier[number] = signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
