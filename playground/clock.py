"""The clock of a run: seconds since its start inside, nanoseconds outside.

Which clock is *which object*, never an ``if``: `VirtualClock` jumps from event
to event, `RealtimeClock` waits for each, `WallClock` reads the machine. Inside a run time is float seconds
since the start (SimPy's convention); in messages and files it is integer
nanoseconds since 1970 UTC.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from array import array
from collections.abc import Callable
from enum import IntEnum
from heapq import heappush
from typing import Protocol

import simpy
from simpy.core import SimTime
from simpy.events import NORMAL, Event, EventPriority

from playground.instant import from_iso as from_iso
from playground.instant import iso as iso

DEFAULT_START_NS = 1_767_225_600 * 10**9
"""2026-01-01T00:00:00Z: a run that names no start has one all the same, the
same on every machine."""


class Phase(IntEnum):
    """Who comes first when several are due at the same instant.

    A plant that steps at 10 s is to be seen by a controller that looks at 10 s,
    however their periods interleave. Events without a phase (a plain
    ``timeout``) come before all of these.
    """

    DISTURBANCE = 2
    PLANT = 3
    PUBLICATION = 4
    CONTROLLER = 5
    OBSERVER = 6


class Clock(Protocol):
    """Anything that can stamp a message."""

    def time_ns(self) -> int:
        """Returns nanoseconds since 1970 UTC."""
        ...


class VirtualClock(simpy.Environment):
    """SimPy's environment, anchored to a calendar instant.

    Args:
        start_ns: The instant at which ``now`` is 0, nanoseconds since 1970 UTC.
    """

    def __init__(self, start_ns: int = DEFAULT_START_NS) -> None:
        super().__init__()
        self.start_ns = start_ns
        self._stamped: SimTime = -1.0
        self._stamp_ns = 0
        # A clock that waits for something before each event must be stepped.
        self._may_skip = type(self).step is simpy.Environment.step

    def time_ns(self) -> int:
        """Returns the present instant, nanoseconds since 1970 UTC."""
        # Asked for each message, and an instant has many.
        now = self._now
        if now != self._stamped:
            self._stamp_ns = self.start_ns + round(now * 1e9)
            self._stamped = now
        return self._stamp_ns

    def at(self, time_s: float, *, phase: int = NORMAL) -> Event:
        """Returns an event that happens at exactly ``time_s`` since the start.

        ``timeout(time_s - now)`` may miss the instant by a rounding error, and
        two processes that meet at an instant would then not meet.
        """
        if time_s < self._now:
            raise ValueError(f"{time_s} s is in the past (now: {self._now} s)")
        event = _Instant(self)
        self.put(event, time_s, phase)
        return event

    def put(self, event: Event, time_s: float, phase: int) -> None:
        """Queues an event for exactly ``time_s``."""
        heappush(self._queue, (time_s, EventPriority(phase), next(self._eid), event))

    def skip_to(self, time_ns: int, phase: int) -> bool:
        """Goes on to an instant at once, if nothing is to happen before it.

        As an event queued with `put` and waited for, without the queue, which takes
        a third of the time of whoever has very many of them.

        Args:
            time_ns: Not in the past, nanoseconds since 1970 UTC.
            phase: Of what is to happen then.

        Returns:
            Whether it is that instant now.
        """
        if not self._may_skip:
            return False
        time_s = (time_ns - self.start_ns) / 1e9
        if self._queue:
            next_s, next_phase, _, _ = self._queue[0]
            if next_s < time_s or (next_s == time_s and next_phase <= phase):
                return False
        self._now = time_s
        return True

    def every(
        self,
        period_s: float,
        action: Callable[[], object],
        *,
        offset_s: float = 0.0,
        phase: int = NORMAL,
    ) -> None:
        """Calls ``action`` at ``offset_s + k * period_s``, with k = 0, 1, 2 and so on.

        Each instant is computed from k and never by adding up, so it does not
        drift.
        """
        if not period_s > 0:
            raise ValueError(f"period_s must be above 0, not {period_s}")
        _Periodic(self, period_s, action, offset_s, phase)


class _Instant(Event):
    """An event that has already been decided; only its time is to come."""

    def __init__(self, env: simpy.Environment) -> None:
        super().__init__(env)
        self._ok = True
        self._value = None


class _Periodic(_Instant):
    """One event that puts itself back into the queue each time it has happened.

    A process with a fresh timeout per tick costs three times as much, and this
    is where a run of a day spends its time.
    """

    def __init__(
        self,
        clock: VirtualClock,
        period_s: float,
        action: Callable[[], object],
        offset_s: float,
        phase: int,
    ) -> None:
        super().__init__(clock)
        self.clock = clock
        self.period_s = period_s
        self.action = action
        self.offset_s = offset_s
        self.phase = EventPriority(phase)
        self.tick = max(0, math.ceil((clock.now - offset_s) / period_s))
        self._callbacks: list[Callable[[Event], None]] = [self._happen]
        self._put_back()

    def _happen(self, _: Event) -> None:
        self.action()
        self.tick += 1
        self._put_back()

    def _put_back(self) -> None:
        # SimPy takes the callbacks away from an event that is being processed.
        self.callbacks = self._callbacks
        clock = self.clock
        time_s = self.offset_s + self.tick * self.period_s
        # As `VirtualClock.put`, without the call.
        heappush(clock._queue, (time_s, self.phase, next(clock._eid), self))  # noqa: SLF001


class RealtimeClock(VirtualClock):
    """A virtual clock that waits for the wall clock before each event.

    Everything that runs on a `VirtualClock` runs on this one unchanged; only
    `step` differs. Other threads hand their work in through `inject`.

    Args:
        start_ns: The instant at which ``now`` is 0; the present by default.
        speed: Seconds of the run in one second of the wall clock.
    """

    def __init__(self, start_ns: int | None = None, *, speed: float = 1.0) -> None:
        super().__init__(time.time_ns() if start_ns is None else start_ns)
        if not 0 < speed < math.inf:
            raise ValueError(f"speed must be above 0 and finite, not {speed}")
        self.speed = speed
        self.lateness_s = array("d")
        """Wall seconds by which each event came too late; never below 0."""
        # SimpleQueue.get waits for ever if its time is up before it begins to wait.
        self._inbox: queue.Queue[Callable[[], object]] = queue.Queue()
        self._anchor_s: float | None = None

    def inject(self, action: Callable[[], object]) -> None:
        """Has ``action`` called as soon as possible inside the run.

        May be called from any thread; a callback of a network thread uses it,
        because nothing inside a run may be touched from outside.
        """
        self._inbox.put(action)

    def catch_up(self) -> None:
        """Does what was injected and has not been done, without waiting."""
        while True:
            try:
                action = self._inbox.get_nowait()
            except queue.Empty:
                return
            action()

    def step(self) -> None:
        """Waits until the next event is due, then processes it."""
        if self._anchor_s is None:
            self._anchor_s = time.monotonic() - self._now / self.speed
        while True:
            wait_s = self._anchor_s + self.peek() / self.speed - time.monotonic()
            try:
                action = (
                    self._inbox.get_nowait()
                    if wait_s <= 0
                    else self._inbox.get(timeout=min(wait_s, threading.TIMEOUT_MAX))
                )
            except queue.Empty:
                if wait_s <= 0:
                    break
                continue  # Look again: we may have been woken late.
            elapsed_s = (time.monotonic() - self._anchor_s) * self.speed
            # An event that is due already keeps its place before the action.
            self._now = max(self._now, min(elapsed_s, self.peek()))
            action()
        self.lateness_s.append(max(0.0, -wait_s))
        super().step()


class WallClock:
    """The machine's clock, anchored once so that it never runs backwards.

    One reading of the wall clock is tied to one of the monotonic clock; from
    then on only the monotonic clock is asked, so an NTP step moves nothing.

    Args:
        speed: Seconds this clock counts in one second; above 1 to record
            something that runs in accelerated time.
    """

    def __init__(self, *, speed: float = 1.0) -> None:
        self.speed = speed
        self.anchor_wall_ns = time.time_ns()
        self.anchor_monotonic_ns = time.monotonic_ns()

    def time_ns(self) -> int:
        """Returns the present instant, nanoseconds since 1970 UTC."""
        elapsed_ns = time.monotonic_ns() - self.anchor_monotonic_ns
        if self.speed != 1.0:
            elapsed_ns = round(elapsed_ns * self.speed)
        return self.anchor_wall_ns + elapsed_ns
