"""Locks whose waiting is parking: what ``_thread`` offers, in virtual time.

Everything else of ``threading`` and ``queue`` (conditions, events, semaphores,
barriers, queues) is Python code over these and needs no replacement. Under
the baton nothing is pre-empted, so taking a free lock is one assignment.
Waiters are served in the order in which they came.
"""

# The signatures are those of the classes that are replaced.
# ruff: noqa: FBT001, FBT002

from __future__ import annotations

import _thread
from collections import deque

from playground.host.baton import BATON, INTERRUPTED, WOKEN, Strand, Ticket

TIMEOUT_MAX = _thread.TIMEOUT_MAX


def _deadline(blocking: bool, timeout: float) -> int | None:
    """Checks a lock's arguments as the real ones do; None waits without end."""
    if timeout < 0:
        if timeout != -1:
            raise ValueError("timeout value must be a non-negative number")
        return None
    if not blocking:
        raise ValueError("can't specify a timeout for a non-blocking call")
    if timeout > TIMEOUT_MAX:
        raise OverflowError("timeout value is too large")
    return BATON.after(timeout)


class Lock:
    """``threading.Lock``."""

    __slots__ = ("__weakref__", "_held", "_waiters")

    def __init__(self) -> None:
        self._held = False
        self._waiters: deque[Ticket] | None = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Takes the lock; waits for it where asked to."""
        if not self._held:
            self._held = True
            return True
        if not blocking and timeout == -1:
            return False
        return self._wait(_deadline(blocking, timeout))

    def _wait(self, deadline: int | None) -> bool:
        if self._waiters is None:
            self._waiters = deque()
        try:
            while (woken := BATON.park(deadline, self._waiters)) == INTERRUPTED:
                pass
        except BaseException:
            # A signal handler raised: an owner that never hears of its luck
            # would never release.
            if BATON.current.woken == WOKEN:
                self.release()
            raise
        return woken == WOKEN

    def release(self) -> None:
        """Gives the lock to the next in the queue, or sets it free."""
        if not self._held:
            raise RuntimeError("release unlocked lock")
        waiters = self._waiters
        while waiters:
            if BATON.wake(waiters.popleft()):
                return
        self._held = False

    def locked(self) -> bool:
        """Says whether somebody has it."""
        return self._held

    __enter__ = acquire
    acquire_lock = acquire
    release_lock = release
    locked_lock = locked

    def __exit__(self, *_: object) -> None:
        self.release()

    def _at_fork_reinit(self) -> None:
        self.__init__()  # type: ignore[misc]

    def __repr__(self) -> str:
        state = "locked" if self._held else "unlocked"
        return f"<{state} _thread.lock object at {id(self):#x}>"


class RLock:
    """``threading.RLock``."""

    __slots__ = ("__weakref__", "_count", "_owner", "_waiters")

    def __init__(self) -> None:
        self._owner: Strand | None = None
        self._count = 0
        self._waiters: deque[Ticket] | None = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Takes the lock, or once more if this thread has it."""
        me = BATON.current
        if self._owner is None:
            self._owner = me
            self._count = 1
            return True
        if self._owner is me:
            self._count += 1
            return True
        if not blocking and timeout == -1:
            return False
        return self._wait(me, _deadline(blocking, timeout))

    def _wait(self, me: Strand, deadline: int | None) -> bool:
        if self._waiters is None:
            self._waiters = deque()
        try:
            while (woken := BATON.park(deadline, self._waiters)) == INTERRUPTED:
                pass
        except BaseException:
            if me.woken == WOKEN:
                self.release()
            raise
        return woken == WOKEN

    def release(self) -> None:
        """Undoes one `acquire`."""
        if self._owner is not BATON.current:
            raise RuntimeError("cannot release un-acquired lock")
        self._count -= 1
        if not self._count:
            self._pass_on()

    def _pass_on(self) -> None:
        waiters = self._waiters
        while waiters:
            ticket = waiters.popleft()
            if BATON.wake(ticket):
                self._owner = ticket[0]
                self._count = 1
                return
        self._owner = None

    def locked(self) -> bool:
        """Says whether somebody has it."""
        return self._owner is not None

    __enter__ = acquire

    def __exit__(self, *_: object) -> None:
        self.release()

    # What threading.Condition asks of a lock.

    def _is_owned(self) -> bool:
        return self._owner is BATON.current

    def _recursion_count(self) -> int:
        return self._count if self._owner is BATON.current else 0

    def _release_save(self) -> tuple[int, Strand | None]:
        if not self._count:
            raise RuntimeError("cannot release un-acquired lock")
        saved = self._count, self._owner
        self._count = 0
        self._pass_on()
        return saved

    def _acquire_restore(self, saved: tuple[int, Strand | None]) -> None:
        self.acquire()
        self._count = saved[0]

    def _at_fork_reinit(self) -> None:
        self.__init__()  # type: ignore[misc]

    def __repr__(self) -> str:
        owner = self._owner.number if self._owner else None
        state = "locked" if self._count else "unlocked"
        return (
            f"<{state} _thread.RLock object owner={owner} count={self._count} "
            f"at {id(self):#x}>"
        )


def allocate_lock() -> Lock:
    """``_thread.allocate_lock``."""
    return Lock()


class ThreadHandle:
    """``_thread._ThreadHandle`` of Python 3.13."""

    def __init__(self) -> None:
        self.ident = 0
        self._done = Lock()
        self._done.acquire()
        self._is_done = False

    def is_done(self) -> bool:
        """Says whether the thread has ended."""
        return self._is_done

    def _set_done(self) -> None:
        if not self._is_done:
            self._is_done = True
            self._done.release()

    def join(self, timeout: float | None = None) -> None:
        """Waits for the thread's end."""
        if self._is_done:
            return
        if self._done.acquire(timeout=-1 if timeout is None else max(timeout, 0)):
            self._done.release()
