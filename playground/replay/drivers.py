"""What a replay waits with: the machine's clock, or the events of a simulation.

What is said and when is not known here.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Protocol

from simpy.events import Event, EventPriority

from playground.clock import VirtualClock

if TYPE_CHECKING:
    from playground.replay.player import Replayer


class Timer(Protocol):
    """A clock one can wait with, in nanoseconds from any origin."""

    def now_ns(self) -> int:
        """Returns the present instant."""
        ...

    def wait(self, until_ns: int | None, woken: threading.Event) -> None:
        """Returns at an instant (None: never), or soon after ``woken`` is set."""
        ...


class MonotonicTimer:
    """The machine's monotonic clock."""

    FINE_NS = 20_000_000
    """`time.sleep` wakes up more exactly than an event does, but only by itself."""

    def now_ns(self) -> int:
        """Returns the present instant."""
        return time.monotonic_ns()

    def wait(self, until_ns: int | None, woken: threading.Event) -> None:
        """Returns at an instant, or within 20 ms after ``woken`` is set."""
        while not woken.is_set():
            if until_ns is None:
                woken.wait()
                return
            rest_ns = until_ns - time.monotonic_ns()
            if rest_ns <= 0:
                return
            if rest_ns <= self.FINE_NS:
                time.sleep(rest_ns / 1e9)
                return
            woken.wait(min((rest_ns - self.FINE_NS / 2) / 1e9, 3600.0))


class Simulated:
    """Drives a replay by the events of a simulation.

    One event that puts itself back costs a third of a process with a fresh
    event per message; and where nobody else has anything to do, none is needed.
    """

    def __init__(
        self,
        replayer: Replayer,
        play: Generator[int | None, bool | None, None],
        clock: VirtualClock,
        phase: int,
    ) -> None:
        self.end = clock.event()
        self._replayer = replayer
        self._play = play
        self._clock = clock
        self._phase = EventPriority(phase)
        self._begun_ns = clock.time_ns()
        self._start_ns = clock.start_ns
        self._callbacks: list[Callable[[Any], None]] = [self._go_on]
        # What is needed for each message, and is the same for all.
        self._send, self._skip_to = play.send, clock.skip_to
        self._alarm = self._new_alarm()
        self.wake()

    def _new_alarm(self) -> Event:
        alarm = self._clock.event()
        alarm._ok, alarm._value = True, None  # noqa: SLF001 - decided from the start
        return alarm

    def wake(self) -> None:
        """Has it look for commands at this instant."""
        is_playing = inspect.getgeneratorstate(self._play) == inspect.GEN_RUNNING
        if is_playing or self.end.triggered:
            return
        # The one that is queued stays in the queue and does nothing.
        self._alarm.callbacks = []
        self._alarm = self._new_alarm()
        self._put(self._clock.now)

    def _put(self, time_s: float) -> None:
        self._alarm.callbacks = self._callbacks
        self._clock.put(self._alarm, time_s, self._phase)

    def skip_to(self, time_ns: int) -> bool:
        """Says whether it is an instant at once, because nobody comes before it."""
        return self._skip_to(time_ns, self._phase)

    def _go_on(self, _: Event) -> None:
        try:
            # A generator that has not begun takes None and nothing else.
            until_ns = self._send(None)
        except StopIteration:
            self._replayer.target.close()
            took_ns = self._clock.time_ns() - self._begun_ns
            self.end.succeed(self._replayer.report(took_ns))
            return
        if until_ns is not None:
            self._put((until_ns - self._start_ns) / 1e9)
