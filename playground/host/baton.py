"""The baton: real threads, exactly one of them running, in a fixed order.

Rule 1: whoever runs holds the baton, and gives it away only by parking (sleep,
lock, select and so on) or by ending. So nothing is ever pre-empted, and the
order of everything follows from the program alone. Rule 2: the thread that
parks picks the next one itself: first those that are ready, in the order in
which they became so; then whoever sleeps shortest, as far as the run permits;
then it asks the run. Rule 3: time is integer nanoseconds since the start of
the run, and moves only when everybody is parked.

Only the process of a hosted program uses this module. It is imported before
anything is replaced, and keeps the real lock for itself.
"""

from __future__ import annotations

import _thread
import os
import sys
from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, Protocol, TypeAlias

from playground.host.frames import (
    CLOSED,
    CONNECT,
    EXITED,
    FOUND,
    INSTANT,
    NEVER,
    PRINTED,
    SENT,
    Action,
    Channel,
)

TIMED_OUT = 0
WOKEN = 1
INTERRUPTED = 2
"""How a park ended: its time was up, somebody woke it, or a signal came."""

MOST_ALONE = 10_000
"""Wake-ups that a process goes through alone before it reports again, so that
the run's watchdog does not mistake a long quiet stretch for a hang."""
SPINS = 10_000
"""Looks at the clock (or waits of no length) between two waits that are free."""
SPIN_NS = 1_000_000
"""What each further one costs. A program that spins until a time has come
would otherwise spin for ever, since computing takes no virtual time."""

_allocate_lock = _thread.allocate_lock
_start_new_thread = _thread.start_new_thread
_get_ident = _thread.get_ident
_exit_process = os._exit

Ticket: TypeAlias = "tuple[Strand, int]"
"""A parked strand and the number of its park: void once it has been woken."""


class Sleeper(Protocol):
    """Whatever can be due at an instant."""

    ticket: int

    def expire(self, baton: Baton) -> None:
        """Is called when its time has come."""
        ...


class Idle(Protocol):
    """A wait that nobody notices the end of, in a loop that would take it up again."""

    @property
    def span(self) -> int:
        """Returns for how long it waits each time, nanoseconds."""
        ...

    def silent_until(self, wakes: int) -> int:
        """Returns an instant before which nothing comes of it."""
        ...


class Strand:
    """A thread of the program, as the baton sees it."""

    __slots__ = (
        "ended",
        "go",
        "idle",
        "number",
        "parked",
        "real_ident",
        "ticket",
        "woken",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.go = _allocate_lock()
        self.go.acquire()
        self.ticket = 0
        self.parked = False
        self.woken = WOKEN
        self.real_ident = 0
        self.idle: Idle | None = None
        """The loop that waits, if that is all it does."""
        self.ended: list[Callable[[], object]] = []
        """Called when the thread has ended, while it still holds the baton."""

    def expire(self, baton: Baton) -> None:
        """Is ready again, its time being up; or sleeps on, with nothing to do."""
        idle = self.idle
        # Who is ready before it may give it something to do.
        if idle and not baton.ready and idle.silent_until(baton.now) > baton.now:
            baton.sleep_until(baton.now + idle.span, self)
            return
        self.ticket += 1
        self.woken = TIMED_OUT
        baton.ready.append(self)


class Baton:
    """Decides which thread runs, and keeps the time while it does."""

    def __init__(self) -> None:
        self.now = 0
        self.until = 0
        """Up to here, exclusively, nobody outside can have a say."""
        self._spins = 0
        self._spinning = False
        self.main = Strand(1)
        self.main.real_ident = _get_ident()
        self.current = self.main
        self.strands: dict[int, Strand] = {1: self.main}
        self.ready: deque[Strand] = deque()
        self.on_action: dict[int, Callable[[int, bytes], object]] = {}
        """Who takes which kind of action of the run."""
        self.on_interrupt: Callable[[], object] = lambda: None
        """Runs pending signal handlers, in the main thread."""
        self.interrupted = False
        self.on_broken_promise: Callable[[], object] = lambda: None
        """Is called when an idle strand has said something all the same."""
        self._channel: Channel | None = None
        self._out: list[Action] = []
        self._urgent = False
        self._alone = 0
        self._told: tuple[int, int, list[Action]] | None = None
        """What the run has said; we have not come to that instant yet."""
        self._sleepers: list[tuple[int, int, Sleeper, int]] = []
        self._order = count()
        self._numbers = count(2)

    # ------------------------------------------------------------- the run

    def attach(self, channel: Channel) -> list[Action]:
        """Takes the run's first frame and returns its actions."""
        self._channel = channel
        channel.send(0, NEVER, ())  # The interpreter is up.
        self.now, self.until, actions = channel.receive()
        return actions

    def tell(self, kind: int, number: int, data: bytes = b"") -> None:
        """Puts an action into the next report to the run."""
        if kind == SENT:
            out = self._out
            if out and out[-1][0] == SENT and out[-1][1] == number:
                out[-1] = (SENT, number, out[-1][2] + data)
                return
        self._out.append((kind, number, data))
        if kind in (SENT, CONNECT, CLOSED, EXITED, FOUND):
            self._urgent = True

    def tell_line(self, stream: int, line: bytes) -> None:
        """Reports one line that the program wrote."""
        self._out.append((PRINTED, stream, INSTANT.pack(self.now) + line))

    def said_so_far(self) -> list[Action]:
        """Returns lines and findings of which the run has not heard; from any thread."""
        return [each for each in list(self._out) if each[0] in (PRINTED, FOUND)]

    def exit(self, code_json: bytes) -> None:
        """Reports the end and ends the process; does not return."""
        assert self._channel is not None
        self.tell(EXITED, 0, code_json)
        try:
            self._channel.send(self.now, NEVER, self._out)
        finally:
            _exit_process(0)

    def _report(self, next_ns: int) -> None:
        assert self._channel is not None
        try:
            self._channel.send(self.now, next_ns, self._out)
            self._told = self._channel.receive()
        except (EOFError, OSError):
            _exit_process(0)  # The run is gone; nobody is left to tell.
        self._out.clear()
        self._urgent = False
        self._alone = 0
        # First come the wake-ups before it, which nobody will have noticed.
        self.until = self._told[0]

    def _arrive(self, told: tuple[int, int, list[Action]]) -> None:
        """Takes what the run has said, at the instant for which it was said."""
        if self._urgent:
            self.on_broken_promise()
        now, self.until, actions = told
        self._told = None
        self.now = max(self.now, now)
        for kind, number, data in actions:
            self.on_action[kind](number, data)

    def _silent_until(self) -> int:
        """Returns an instant before which nobody outside will notice us."""
        first = NEVER
        for due, _, sleeper, ticket in self._sleepers:
            if due < first and sleeper.ticket == ticket:
                idle = getattr(sleeper, "idle", None)
                if idle is not None:
                    due = idle.silent_until(due)
                first = min(first, due)
        return first

    # ------------------------------------------------------------- waiting

    def after(self, duration_s: float) -> int:
        """Returns the instant that is ``duration_s`` from now.

        Rounded up like the real clocks do, but for what is no more than the
        error of a float; so a sleep is never too short, and 1.1 s is 1.1 s.
        """
        span = int(duration_s * 1e9 + 0.75) if duration_s > 0 else 0
        if span <= 0:
            self._spins += 1
            if self._spins > SPINS:
                span = SPIN_NS
                self._spinning = True
        return min(self.now + span, NEVER - 1)

    def look(self) -> int:
        """Returns the present instant to a program that asks for it."""
        self._spins += 1
        if self._spins > SPINS:
            self._spinning = True
            self.park(self.now + SPIN_NS)
        return self.now

    def sleep_until(self, deadline: int, sleeper: Sleeper) -> None:
        """Lets ``sleeper`` expire at an instant, unless its ticket moves on."""
        sleepers = self._sleepers
        if len(sleepers) > 1000 and len(sleepers) > 100 * len(self.strands):
            # Waits that ended early leave their deadline behind.
            live = [each for each in sleepers if each[2].ticket == each[3]]
            if len(live) < len(sleepers) // 2:
                sleepers[:] = live
                heapify(sleepers)
        heappush(sleepers, (deadline, next(self._order), sleeper, sleeper.ticket))

    def park(
        self,
        deadline: int | None = None,
        queue: deque[Ticket] | None = None,
        *,
        idle: Idle | None = None,
    ) -> int:
        """Gives the baton away until woken, or until ``deadline``.

        Args:
            deadline: Instant; None waits without end.
            queue: Where the ticket is left for whoever is to wake this thread.
            idle: See `Strand.idle`.

        Returns:
            `WOKEN`, `TIMED_OUT` or, in the main thread only, `INTERRUPTED`:
            signal handlers have run, and the caller takes up its wait again.
        """
        me = self.current
        if self._spinning:
            self._spinning = False
        elif deadline is None or deadline > self.now:
            self._spins = 0  # It waits in earnest.
        me.parked = True
        me.idle = idle
        if queue is not None:
            queue.append((me, me.ticket))
        if deadline is not None:
            self.sleep_until(deadline, me)
        chosen = self._choose()
        if chosen is not me:
            self.current = chosen
            chosen.go.release()
            me.go.acquire()
        me.parked = False
        if me is self.main and self.interrupted:
            self.interrupted = False
            woken = me.woken
            self.on_interrupt()
            return woken
        return me.woken

    def ticket(self) -> Ticket:
        """Returns the ticket of this thread's next park, to leave in many queues."""
        return (self.current, self.current.ticket)

    def wake(self, ticket: Ticket) -> bool:
        """Makes a parked strand ready; False where its ticket is void."""
        strand, number = ticket
        if strand.ticket != number:
            return False
        strand.ticket = number + 1
        strand.woken = WOKEN
        self.ready.append(strand)
        return True

    def interrupt(self) -> None:
        """Lets the main thread run its signal handlers, waking it if it waits."""
        self.interrupted = True
        main = self.main
        if main.parked and self.wake((main, main.ticket)):
            main.woken = INTERRUPTED

    def _choose(self) -> Strand:
        ready = self.ready
        while not ready:
            sleepers = self._sleepers
            while sleepers and sleepers[0][2].ticket != sleepers[0][3]:
                heappop(sleepers)
            due = sleepers[0][0] if sleepers else NEVER
            if due > self.now:
                alone = not self._urgent and self._alone < MOST_ALONE
                if due < self.until and (alone or self._told is not None):
                    self.now = due
                    self._alone += 1
                elif self._told is not None:
                    self._arrive(self._told)
                else:
                    self._report(self._silent_until())
                    continue
            self._wake_due()
        return ready.popleft()

    def _wake_due(self) -> None:
        sleepers = self._sleepers
        now = self.now
        while sleepers and sleepers[0][0] <= now:
            _, _, sleeper, ticket = heappop(sleepers)
            if sleeper.ticket == ticket:
                sleeper.expire(self)

    # ------------------------------------------------------------- threads

    def start(
        self,
        function: Callable[..., object],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        strand: Strand | None = None,
    ) -> Strand:
        """Starts a thread; it becomes ready behind all that are ready now."""
        strand = strand or Strand(next(self._numbers))
        self.strands[strand.number] = strand

        def run() -> None:
            strand.real_ident = _get_ident()
            strand.go.acquire()
            try:
                function(*args, **kwargs)
            except SystemExit:
                pass  # Ends a thread, not the program.
            except BaseException as error:  # noqa: BLE001 - whatever it raises
                sys.excepthook(type(error), error, error.__traceback__)
            self._end(strand)

        _start_new_thread(run, ())
        self.ready.append(strand)
        return strand

    def new_strand(self) -> Strand:
        """Returns a strand that has not started yet."""
        return Strand(next(self._numbers))

    def _end(self, strand: Strand) -> None:
        del self.strands[strand.number]
        for listener in strand.ended:
            listener()
        chosen = self._choose()
        self.current = chosen
        chosen.go.release()


BATON = Baton()
"""There is one per process, as there is one interpreter."""
