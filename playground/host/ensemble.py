"""All hosted programs of one clock: who has something to do, and when.

There is one alarm for all of them. When it rings, every program that is due at
this instant is let go, and they compute side by side; what they did is taken
in the order in which they were hosted, so nothing depends on who was faster.
A program that is due alone may go on by itself up to the next instant at which
anybody else can have a say.
"""

from __future__ import annotations

from typing import Any, Protocol

from simpy.events import Event

from playground.clock import Phase, VirtualClock
from playground.errors import PlaygroundError
from playground.host.frames import NEVER

MOST_ROUNDS = 1_000
"""Exchanges within one instant, before it is clear that it will never end."""


class Member(Protocol):
    """What the ensemble asks of a hosted program."""

    name: str

    def due_ns(self) -> int:
        """Returns the instant at which it has something to do."""
        ...

    def go(self, now_ns: int, until_ns: int) -> None:
        """Lets it compute; does not wait for it."""
        ...

    def finish(self, now_ns: int) -> None:
        """Waits until it has computed, and takes what it did."""
        ...


class Ensemble:
    """The programs that are hosted on one clock."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.members: list[Member] = []
        self._alarm: Event | None = None
        self._alarm_ns = NEVER
        self._busy = False
        self._rounds = 0
        self._instant_ns = -1
        # A clock of another kind may be fed from outside between two events.
        self._alone_allowed = type(clock) is VirtualClock

    @classmethod
    def on(cls, clock: VirtualClock) -> Ensemble:
        """Returns the ensemble of a clock.

        It is kept in the clock: a table elsewhere would keep both alive.
        """
        names: dict[str, Any] = vars(clock)
        ensemble: Ensemble = names.setdefault("_ensemble", None) or cls(clock)
        names["_ensemble"] = ensemble
        return ensemble

    def now_ns(self) -> int:
        """Returns the present instant in nanoseconds since the start."""
        return round(self.clock.now * 1e9)

    def rearm(self) -> None:
        """Sets the alarm to the earliest instant at which a member is due."""
        if self._busy or self._alarm_ns <= self.now_ns():
            return  # Earlier than now it cannot be.
        due = min((each.due_ns() for each in self.members), default=NEVER)
        if due == self._alarm_ns:
            return
        self._alarm_ns = due
        if due == NEVER:
            self._alarm = None
        else:
            self._set(max(due / 1e9, self.clock.now))

    def _set(self, time_s: float) -> None:
        self._alarm = alarm = self.clock.at(time_s, phase=Phase.CONTROLLER)
        assert alarm.callbacks is not None
        alarm.callbacks.append(self._ring)

    def _ring(self, alarm: Event) -> None:
        if alarm is not self._alarm:
            return  # Set to another instant in the meantime.
        now_ns = self.now_ns()
        next_s = self.clock.peek()
        if next_s > self.clock.now and next_s * 1e9 < now_ns + 0.5:
            # The same instant but for the error of a float: 3 * 0.1 and 0.3.
            self._set(next_s)
            return
        self._alarm, self._alarm_ns = None, NEVER
        self._count(now_ns)
        due = [each for each in self.members if each.due_ns() <= now_ns]
        until_ns = self._until(due, next_s, now_ns)
        self._busy = True
        try:
            for member in due:
                member.go(now_ns, until_ns)
            for member in due:
                member.finish(now_ns)
        finally:
            self._busy = False
        self.rearm()

    def _until(self, due: list[Member], next_s: float, now_ns: int) -> int:
        if len(due) != 1 or not self._alone_allowed:
            return now_ns
        until = NEVER if next_s * 1e9 >= NEVER else round(next_s * 1e9)
        for member in self.members:
            if member is not due[0]:
                until = min(until, member.due_ns())
        return until

    def _count(self, now_ns: int) -> None:
        if now_ns != self._instant_ns:
            self._instant_ns, self._rounds = now_ns, 0
        self._rounds += 1
        if self._rounds > MOST_ROUNDS:
            names = ", ".join(each.name for each in self.members)
            raise PlaygroundError(
                f"The programs {names} have exchanged messages {MOST_ROUNDS} times "
                f"at {now_ns / 1e9:g} s, and time does not pass while they do.",
                "let one of them wait before it answers, or give the link a latency",
            )
