"""Threads that run under the baton: ``_thread.start_new_thread`` and its kin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playground.host.baton import BATON
from playground.host.locks import Lock, ThreadHandle


def start_new_thread(
    function: Callable[..., object],
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None = None,
) -> int:
    """``_thread.start_new_thread``."""
    return BATON.start(function, args, kwargs or {}).number


def set_sentinel() -> Lock:
    """``_thread._set_sentinel``: a lock that opens when this thread has ended."""
    lock = Lock()

    def open_it() -> None:
        # Thread._stop() may have seen to it already.
        if lock.locked():
            lock.release()

    BATON.current.ended.append(open_it)
    return lock


_NOT_DAEMONS: list[ThreadHandle] = []


def start_joinable_thread(
    function: Callable[[], object],
    handle: ThreadHandle | None = None,
    *,
    daemon: bool = True,
) -> ThreadHandle:
    """``_thread.start_joinable_thread`` of Python 3.13."""
    handle = handle or ThreadHandle()
    strand = BATON.new_strand()
    handle.ident = strand.number
    strand.ended.append(handle._set_done)  # noqa: SLF001 - the interpreter's part
    if not daemon:
        _NOT_DAEMONS[:] = [each for each in _NOT_DAEMONS if not each.is_done()]
        _NOT_DAEMONS.append(handle)
    BATON.start(function, (), {}, strand)
    return handle


def make_thread_handle(ident: int) -> ThreadHandle:
    """``_thread._make_thread_handle`` of Python 3.13."""
    handle = ThreadHandle()
    handle.ident = ident
    return handle


def shutdown() -> None:
    """``_thread._shutdown`` of Python 3.13: waits for all but daemon threads."""
    while _NOT_DAEMONS:
        _NOT_DAEMONS.pop(0).join()


def get_ident() -> int:
    """``_thread.get_ident``: 1, 2, 3 in the order of starting."""
    return BATON.current.number


def main_ident() -> int:
    """``_thread._get_main_thread_ident`` of Python 3.13."""
    return BATON.main.number


def count() -> int:
    """``_thread._count``."""
    return len(BATON.strands) - 1
