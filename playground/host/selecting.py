"""Waiting for several sockets at once: ``select`` and ``selectors``."""

# ruff: noqa: SLF001 - a selector keeps its select to itself

from __future__ import annotations

import errno
import os
import select as select_module
import selectors
import sys
from collections.abc import Iterable
from typing import Any

from playground.host.baton import BATON
from playground.host.idle import IdleLoops
from playground.host.network import FIRST_FD, NETWORK
from playground.host.replacement import Replacements
from playground.host.sockets import VirtualSocket

_IDLE = IdleLoops()


def _find(waited_for: Any) -> VirtualSocket | None:
    """Returns the socket behind what select was given; None: a real file."""
    number = waited_for if isinstance(waited_for, int) else waited_for.fileno()
    if number < 0:
        raise ValueError(f"file descriptor cannot be a negative integer ({number})")
    if number < FIRST_FD:
        return None
    found = NETWORK.sockets.get(number)
    if found is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return found


def select(
    rlist: Iterable[Any],
    wlist: Iterable[Any],
    xlist: Iterable[Any],
    timeout: float | None = None,
    /,
) -> tuple[list[Any], list[Any], list[Any]]:
    """``select.select``; real files count as always ready."""
    readers = [(each, _find(each)) for each in rlist]
    writers = [(each, _find(each)) for each in wlist]
    if timeout is not None and timeout < 0:
        raise ValueError("timeout must be non-negative")
    deadline: int | None = None
    span = 0
    waits = False
    while True:
        can_read = [each for each, sock in readers if sock is None or sock.readable]
        can_write = [each for each, sock in writers if sock is None or sock.writable]
        if can_read or can_write:
            return can_read, can_write, []
        if not waits:
            waits = True
            if timeout is not None:
                deadline = BATON.after(timeout)
                span = deadline - BATON.now
        elif deadline is not None and BATON.now >= deadline:
            return [], [], []
        watched = [sock for _, sock in (*readers, *writers) if sock is not None]
        idle = None
        if span and not writers:
            idle = _IDLE.waiting(sys._getframe(1), span)
        ticket = BATON.ticket()
        for sock in watched:
            sock.waiting.append(ticket)
        BATON.park(deadline, idle=idle)
        for sock in watched:
            # Whoever has stirred has forgotten it already.
            if ticket in sock.waiting:
                sock.waiting.remove(ticket)


class Poll:
    """``select.poll`` and ``select.epoll`` over virtual sockets.

    Args:
        unit: Seconds in one unit of a time-out: poll counts milliseconds.
    """

    def __init__(self, unit: float = 1e-3) -> None:
        self._unit = unit
        self._watched: dict[int, int] = {}

    def register(self, fd: Any, eventmask: int = 0x007) -> None:
        """Watches a socket."""
        self._watched[fd if isinstance(fd, int) else fd.fileno()] = eventmask

    modify = register

    def unregister(self, fd: Any) -> None:
        """Watches a socket no longer."""
        del self._watched[fd if isinstance(fd, int) else fd.fileno()]

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[Any]:
        """Waits for events and returns ``(descriptor, events)``."""
        read = [fd for fd, events in self._watched.items() if events & 0x003]
        write = [fd for fd, events in self._watched.items() if events & 0x004]
        span = None if timeout is None or timeout < 0 else timeout * self._unit
        can_read, can_write, _ = select(read, write, [], span)
        events = dict.fromkeys(can_read, 0x001)
        for fd in can_write:
            events[fd] = events.get(fd, 0) | 0x004
        return list(events.items())

    def close(self) -> None:
        """Forgets everything."""
        self._watched.clear()


def _epoll(sizehint: int = -1, flags: int = 0) -> Poll:
    return Poll(unit=1.0)


def install(replacements: Replacements) -> None:
    """Replaces what waits for sockets."""
    put = replacements.put
    put(select_module, "select", select)
    put(select_module, "poll", Poll)
    put(select_module, "epoll", _epoll)
    # Bound as a method, a Python function would be handed the selector.
    plain: Any = selectors.SelectSelector
    plain._select = staticmethod(select)
    for name in ("DefaultSelector", "PollSelector", "EpollSelector", "KqueueSelector"):
        put(selectors, name, plain)
