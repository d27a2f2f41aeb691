"""When a reader was behind: more had come than it could read.

A broker holds back what a subscriber does not read, and in the end throws it
away. MQTT has no packet that says so. What a reader can see is its own side: a
read after which more is waiting; and a look at the clock that comes much later
than it was meant to, because the program was stopped, the machine slept, or a
disk made it wait.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

OnBehind = Callable[[int, int], object]

LOOK_EVERY_S = 1.0
"""A reader that waits for data looks at the clock so often."""
BEHIND_AFTER_S = 2.0
"""Shorter backlogs fit into the buffers on the way."""
_SETTLED_AFTER_S = 1.0
"""After an absence the first reads bring little: the kernel held little."""
_LITTLE = 1024


class Backlog:
    """Tells from when to when a reader was behind.

    Args:
        on_behind: Called with both instants, nanoseconds, when the reader has
            caught up, or has lost its connection, after ``BEHIND_AFTER_S``.
        speed: Seconds that the clock of the instants counts in one second; buffers
            fill in those of the machine.

    Attributes:
        since_ns: Since when it is behind; None if it is not.
        last_ns: When it was seen to be behind, however shortly; 0 if never.
        away_since_ns: The last look before an absence that has just ended.
    """

    def __init__(self, on_behind: OnBehind, *, speed: float = 1.0) -> None:
        self._behind_after_ns = round(BEHIND_AFTER_S * speed * 1e9)
        self._settled_after_ns = round(_SETTLED_AFTER_S * speed * 1e9)
        self._on_behind = on_behind
        self._looked_ns: int | None = None
        self._settled_ns = 0
        self._has_all = True
        self.last_ns = 0
        self.away_since_ns: int | None = None
        self.since_ns: int | None = None

    @property
    def is_watched(self) -> bool:
        """Says whether also reads of all that was there matter now."""
        return self.since_ns is not None or self.away_since_ns is not None

    def look(self, now_ns: int, *, is_idle: bool) -> None:
        """The reader is there; called at least every ``LOOK_EVERY_S``.

        Args:
            now_ns: The present instant.
            is_idle: There is nothing to read.
        """
        looked_ns, self._looked_ns = self._looked_ns, now_ns
        if looked_ns is not None and now_ns - looked_ns > self._behind_after_ns:
            self.away_since_ns = looked_ns
            self._settled_ns = now_ns + self._settled_after_ns
        elif now_ns >= self._settled_ns:
            self.away_since_ns = None
        if self.since_ns is not None and (is_idle or self._has_all):
            self._catch_up(now_ns)

    def read(self, now_ns: int, size: int, *, is_all: bool) -> None:
        """Something was read.

        Args:
            now_ns: The present instant.
            size: Of it, in bytes.
            is_all: Nothing is waiting behind it.
        """
        self._has_all = is_all
        self.last_ns = now_ns
        if self.since_ns is None:
            if self.away_since_ns is not None and size >= _LITTLE:
                self.since_ns = self.away_since_ns
            elif not is_all:
                self.since_ns = now_ns
        elif is_all:
            self._catch_up(now_ns)

    def end(self, now_ns: int) -> None:
        """There is nothing to read any more."""
        self._settled_ns = 0
        if self.since_ns is not None:
            self._catch_up(now_ns)
        self._looked_ns = None
        self._has_all = True

    def _catch_up(self, now_ns: int) -> None:
        if now_ns < self._settled_ns or self.since_ns is None:
            return
        since_ns, self.since_ns = self.since_ns, None
        if now_ns - since_ns > self._behind_after_ns:
            self._on_behind(since_ns, now_ns)


def waiting_bytes(descriptor: int) -> int:
    """Returns how much has come on a socket and was not read."""
    try:
        import fcntl
        import termios
    except ImportError:  # pragma: no cover - Windows cannot be asked
        return 0
    try:
        told = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4))
    except OSError:
        return 0
    return int(struct.unpack("i", told)[0])
