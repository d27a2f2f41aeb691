"""Signals in virtual time: Ctrl-C, SIGTERM, alarms.

No real signal reaches a hosted program. The run sends it virtual ones (the
request to end, for instance), alarms ring at virtual times, and handlers run
as Python runs them: in the main thread, between two of its steps; a wait that
they interrupt goes on afterwards unless the handler raises.
"""

from __future__ import annotations

import _thread
import os
import signal as signal_module
import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from playground.host.baton import BATON, TIMED_OUT, Baton, Ticket
from playground.host.frames import SIGNAL
from playground.host.network import NETWORK
from playground.host.replacement import Replacements

STOP = 0
"""The run's request to end: SIGTERM to programs that handle it, else Ctrl-C."""
PROCESS_ID = 4242
"""The same on every machine: programs put it into client ids."""

_IGNORED_BY_DEFAULT = {
    getattr(signal_module, name)
    for name in ("SIGCHLD", "SIGURG", "SIGWINCH", "SIGCONT", "SIGINFO")
    if hasattr(signal_module, name)
}


class KilledBySignal(BaseException):
    """A signal that the program does not handle ends it at once."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Interrupts:
    """The signal handlers of the program, and what waits for them."""

    def __init__(self, die: Callable[[int], object]) -> None:
        self._die = die
        self._handlers: dict[int, Any] = dict.fromkeys(
            signal_module.valid_signals(), signal_module.SIG_DFL
        )
        self._handlers[signal_module.SIGINT] = signal_module.default_int_handler
        self._handlers[signal_module.SIGPIPE] = signal_module.SIG_IGN
        self.stopping = False
        """The run has asked the program to end."""
        self._pending: deque[int] = deque()
        self._masks: dict[Any, set[int]] = {}
        """What threads have blocked; only what the main thread blocks is held back."""
        self._held: list[int] = []
        self._waiters: list[_Waiter] = []
        self._wakeup_fd = -1
        self._alarm = _Alarm(self)
        BATON.on_interrupt = self.run_handlers
        BATON.on_action[SIGNAL] = lambda number, _: self.deliver(number)

    def deliver(self, number: int) -> None:
        """Makes a signal pending and sees to it that it is noticed."""
        if number == STOP:
            self.stopping = True
            term = signal_module.SIGTERM
            handled = callable(self._handlers[term])
            awaited = any(term in each.wanted for each in self._waiters)
            number = term if handled or awaited else signal_module.SIGINT
        for waiter in self._waiters:
            if number in waiter.wanted and not waiter.got:
                waiter.got = number
                waiter.wake()
                return
        if number in self._mask(BATON.main):
            if number not in self._held:
                self._held.append(number)
            return
        handler = self._handlers.get(number, signal_module.SIG_DFL)
        if handler == signal_module.SIG_IGN:
            return
        if handler == signal_module.SIG_DFL:
            if number not in _IGNORED_BY_DEFAULT:
                self._die(number)
            return
        if self._wakeup_fd >= 0:
            # asyncio learns of signals this way.
            waker = NETWORK.sockets.get(self._wakeup_fd)
            if waker is not None:
                waker.send(bytes((number,)))
        self._pending.append(number)
        if BATON.current is BATON.main and not BATON.main.parked:
            self.run_handlers()
        else:
            BATON.interrupt()

    def run_handlers(self) -> None:
        """Runs the handlers of what is pending; the main thread calls it."""
        while self._pending:
            number = self._pending.popleft()
            handler = self._handlers.get(number)
            if callable(handler):
                handler(number, sys._getframe(1))  # noqa: SLF001 - documented

    # ------------------------------------------- the functions of ``signal``

    def signal(self, number: int, handler: Any, /) -> Any:
        """``signal.signal``."""
        if BATON.current is not BATON.main:
            raise ValueError("signal only works in main thread of the main interpreter")
        number = int(number)
        if number not in self._handlers:
            raise ValueError("signal number out of range")
        if not callable(handler) and handler not in (
            signal_module.SIG_DFL,
            signal_module.SIG_IGN,
        ):
            raise TypeError(
                "signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a "
                "callable object"
            )
        earlier, self._handlers[number] = self._handlers[number], handler
        return earlier

    def getsignal(self, number: int, /) -> Any:
        """``signal.getsignal``."""
        return self._handlers[int(number)]

    def alarm(self, seconds: int, /) -> int:
        """``signal.alarm``."""
        left, _ = self._alarm.set(float(seconds), 0.0)
        return int(left + 0.999_999_999)

    def setitimer(
        self, which: int, seconds: float, interval: float = 0.0, /
    ) -> tuple[float, float]:
        """``signal.setitimer``; processor time stands still."""
        if which != signal_module.ITIMER_REAL:
            return (0.0, 0.0)
        return self._alarm.set(seconds, interval)

    def getitimer(self, which: int, /) -> tuple[float, float]:
        """``signal.getitimer``."""
        if which != signal_module.ITIMER_REAL:
            return (0.0, 0.0)
        return self._alarm.left()

    def pause(self) -> None:
        """``signal.pause``."""
        BATON.park()

    def _mask(self, thread: Any) -> set[int]:
        return self._masks.get(thread, set())

    def pthread_sigmask(self, how: int, mask: Iterable[int], /) -> set[Any]:
        """``signal.pthread_sigmask``."""
        asked = set(map(int, mask))
        before = self._mask(BATON.current)
        self._masks[BATON.current] = {
            signal_module.SIG_BLOCK: before | asked,
            signal_module.SIG_UNBLOCK: before - asked,
            signal_module.SIG_SETMASK: asked,
        }[signal_module.Sigmasks(how)]
        held, self._held = self._held, []
        for number in held:
            self.deliver(number)  # If it is still blocked, it is held again.
        return {_named(number) for number in before}

    def sigpending(self) -> set[Any]:
        """``signal.sigpending``."""
        return {_named(number) for number in self._held}

    def sigwait(self, sigset: Iterable[int], /) -> Any:
        """``signal.sigwait``."""
        number = self._wait_for(sigset, None)
        assert number is not None
        return _named(number)

    def sigwaitinfo(self, sigset: Iterable[int], /) -> Any:
        """``signal.sigwaitinfo``."""
        return _info(self._wait_for(sigset, None))

    def sigtimedwait(self, sigset: Iterable[int], timeout: float, /) -> Any:
        """``signal.sigtimedwait``."""
        if timeout < 0:
            raise ValueError("timeout must be non-negative")
        return _info(self._wait_for(sigset, BATON.after(timeout)))

    def _wait_for(self, wanted: Iterable[int], deadline: int | None) -> int | None:
        waiter = _Waiter(frozenset(map(int, wanted)))
        for number in self._held:
            if number in waiter.wanted:
                self._held.remove(number)
                return number
        self._waiters.append(waiter)
        try:
            while not waiter.got:
                if BATON.park(deadline, waiter.tickets) == TIMED_OUT:
                    break
        finally:
            self._waiters.remove(waiter)
        return waiter.got or None

    def set_wakeup_fd(self, fd: int, /, *, warn_on_full_buffer: bool = True) -> int:
        """``signal.set_wakeup_fd``."""
        earlier, self._wakeup_fd = self._wakeup_fd, fd
        return earlier

    def raise_signal(self, number: int, /) -> None:
        """``signal.raise_signal``."""
        self.deliver(int(number))

    def pthread_kill(self, thread_id: int, number: int, /) -> None:
        """``signal.pthread_kill``; Python handles it in the main thread anyway."""
        if number:
            self.deliver(int(number))

    def interrupt_main(self, signum: int = signal_module.SIGINT, /) -> None:
        """``_thread.interrupt_main``."""
        self.deliver(int(signum))

    def install(self, replacements: Replacements) -> None:
        """Replaces the functions of ``signal`` and ``os`` that send or take signals."""
        real_kill = os.kill

        def kill(pid: int, number: int, /) -> None:
            if pid != PROCESS_ID:
                real_kill(pid, number)  # Refused by the allowance.
            elif number:
                self.deliver(int(number))

        put = replacements.put
        for name in (
            "signal",
            "getsignal",
            "alarm",
            "setitimer",
            "getitimer",
            "pause",
            "set_wakeup_fd",
            "raise_signal",
            "pthread_kill",
            "pthread_sigmask",
            "sigpending",
            "sigwait",
            "sigwaitinfo",
            "sigtimedwait",
        ):
            put(signal_module, name, getattr(self, name))
        put(signal_module, "siginterrupt", lambda *_: None)
        put(_thread, "interrupt_main", self.interrupt_main)
        put(os, "kill", kill)
        put(os, "getpid", lambda: PROCESS_ID)


class _Waiter:
    """A thread in ``sigwait``."""

    def __init__(self, wanted: frozenset[int]) -> None:
        self.wanted = wanted
        self.got = 0
        self.tickets: deque[Ticket] = deque()

    def wake(self) -> None:
        while self.tickets:
            BATON.wake(self.tickets.popleft())


def _named(number: int) -> Any:
    try:
        return signal_module.Signals(number)
    except ValueError:  # A real-time signal has no name.
        return number


def _info(number: int | None) -> Any:
    """Returns what ``sigwaitinfo`` tells of a signal; None for none."""
    if number is None:
        return None
    return signal_module.struct_siginfo((number, 0, 0, PROCESS_ID, 0, 0, 0))


class _Alarm:
    """The one real-time interval timer of a process."""

    def __init__(self, interrupts: Interrupts) -> None:
        self.ticket = 0
        self._interrupts = interrupts
        self._due: int | None = None
        self._interval = 0.0

    def left(self) -> tuple[float, float]:
        if self._due is None:
            return (0.0, 0.0)
        return ((self._due - BATON.now) / 1e9, self._interval)

    def set(self, seconds: float, interval: float) -> tuple[float, float]:
        earlier = self.left()
        self.ticket += 1
        self._interval = interval
        self._due = None
        if seconds > 0:
            self._due = BATON.after(seconds)
            BATON.sleep_until(self._due, self)
        return earlier

    def expire(self, baton: Baton) -> None:
        assert self._due is not None
        self.ticket += 1
        if self._interval > 0:
            self._due += max(1, int(self._interval * 1e9 + 0.75))
            baton.sleep_until(self._due, self)
        else:
            self._due = None
        self._interrupts.deliver(signal_module.SIGALRM)
