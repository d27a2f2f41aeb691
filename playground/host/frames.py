"""What the run and a hosted program's process say to each other: frames.

Rule 1: they take turns. The run sends "it is now t, this has happened, you may
go on alone until u"; the process answers "I have come to t, this is what I
did, and I have nothing to do before w". Rule 2: plain structs and JSON, so
that nothing a program does can make the run execute anything. Rule 3: no
MQTT, no SimPy, no thread in here; both sides import it.

A frame is a header (length, two instants in nanoseconds since the start of the
run, number of actions) and its actions (kind, number, length, bytes).
"""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from struct import Struct
from typing import TypeAlias

NEVER = 2**63 - 1
"""The instant that does not come."""

# From the run to the process.
CONFIGURE = 1
"""JSON: what to run and how; the first frame only."""
ARRIVED = 2
"""Bytes for the socket ``number``."""
HUNG_UP = 3
"""The other end of the socket ``number`` has closed."""
ACCEPTED = 4
"""The connection of socket ``number`` stands."""
REFUSED = 5
"""Nobody listens there: socket ``number`` is refused."""
SIGNAL = 6
"""The operating system's signal ``number``; 0 is "please end"."""

# From the process to the run.
CONNECT = 10
"""Socket ``number`` asks for a connection; JSON ``[host, port]``."""
SENT = 11
"""Bytes from the socket ``number``."""
CLOSED = 12
"""Socket ``number`` was closed."""
PRINTED = 13
"""A line on stream ``number`` (1 stdout, 2 stderr), behind its instant."""
FOUND = 14
"""JSON: a finding."""
EXITED = 15
"""JSON: the exit code."""

Action: TypeAlias = tuple[int, int, bytes]
"""Kind, number (of a socket, signal, stream), bytes."""

_HEADER = Struct("<IqqI")
_ACTION = Struct("<BqI")
INSTANT = Struct("<q")
_CHUNK = 1 << 16
"""Bytes read at once; for more the allocator would map and unmap pages each time."""


class Channel:
    """One end of the two pipes between the run and a process.

    Args:
        read_fd: Where the other side's frames arrive.
        write_fd: Where ours go.
    """

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self.read_fd = read_fd
        self.write_fd = write_fd
        self._pending = b""
        self._poll: select.poll | None = None

    def send(self, first_ns: int, second_ns: int, actions: Sequence[Action]) -> None:
        """Sends one frame."""
        if actions:
            parts = []
            for kind, number, data in actions:
                parts.append(_ACTION.pack(kind, number, len(data)))
                parts.append(data)
            body = b"".join(parts)
            frame = _HEADER.pack(len(body), first_ns, second_ns, len(actions)) + body
        else:
            frame = _HEADER.pack(0, first_ns, second_ns, 0)
        written = os.write(self.write_fd, frame)
        while written < len(frame):
            written += os.write(self.write_fd, memoryview(frame)[written:])

    def receive(self, timeout_s: float | None = None) -> tuple[int, int, list[Action]]:
        """Waits for the next frame: two instants and the actions.

        Raises:
            TimeoutError: Nothing came for ``timeout_s`` of wall time.
            EOFError: The other side is gone.
        """
        pending = self._pending
        while len(pending) < _HEADER.size:
            pending += self._read(timeout_s)
        length, first_ns, second_ns, count = _HEADER.unpack_from(pending)
        end = _HEADER.size + length
        while len(pending) < end:
            pending += self._read(timeout_s)
        actions: list[Action] = []
        at = _HEADER.size
        for _ in range(count):
            kind, number, size = _ACTION.unpack_from(pending, at)
            at += _ACTION.size
            actions.append((kind, number, pending[at : at + size]))
            at += size
        self._pending = pending[end:]
        return first_ns, second_ns, actions

    def _read(self, timeout_s: float | None) -> bytes:
        if timeout_s is not None:
            if self._poll is None:
                self._poll = select.poll()
                self._poll.register(self.read_fd, select.POLLIN)
            if not self._poll.poll(timeout_s * 1000):
                raise TimeoutError
        data = os.read(self.read_fd, _CHUNK)
        if not data:
            raise EOFError
        return data

    def close(self) -> None:
        """Closes both pipes."""
        os.close(self.read_fd)
        os.close(self.write_fd)
