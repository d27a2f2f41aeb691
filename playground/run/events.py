"""What a scenario does on the way: at an instant, or when something comes true."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import numpy as np

from playground.bus import Bus, Connection
from playground.clock import Phase, VirtualClock
from playground.faults import Fault
from playground.faults.bus import FaultyBus, call_at
from playground.message import Message
from playground.scenario import Event, Setup
from playground.scenario.entries import PublishEntry
from playground.signals import Signals


class Events:
    """Lets the events of a scenario happen.

    Args:
        setup: Of the run.
        outside: The scenario's own connection.
        bus: Where conditions are observed.
        clock: Of the run.
        faulty: Where faults begin; None where the scenario has none.
    """

    def __init__(
        self,
        setup: Setup,
        outside: Connection,
        bus: Bus,
        clock: VirtualClock,
        faulty: FaultyBus | None,
    ) -> None:
        self.setup = setup
        self.outside = outside
        self.clock = clock
        self.faulty = faulty
        self.happened: list[tuple[float, str]] = []
        """When each event happened, seconds, and what it was."""
        watches = []
        for event in setup.events:
            if event.at_s is not None:
                action = functools.partial(self.happen, event)
                call_at(clock, event.at_s, action, phase=Phase.DISTURBANCE)
            else:
                watches.append(_Watch(event, self))
        if watches:
            _Eyes(watches, setup.signals, bus, clock)

    def happen(self, event: Event) -> None:
        """Lets an event happen now."""
        action = event.action
        self.happened.append((self.clock.now, event.text))
        if isinstance(action, PublishEntry):
            self.outside.publish(
                action.topic,
                action.payload.encode(),
                qos=action.qos,
                retain=action.retain,
            )
        elif isinstance(action, Fault):
            assert self.faulty is not None, "faults need a bus on which they begin"
            self.faulty.begin(action)
        else:
            for signal, value in action:
                self.outside.publish(signal.topic, signal.encode(value))


class _Watch:
    """One condition: looks for its rising edge, and whether it lasts."""

    def __init__(self, event: Event, events: Events) -> None:
        self.event = event
        self.events = events
        self.since_s: float | None = None
        """Since when the condition has held; None while it does not."""
        self.done = False

    def look(self, values: Mapping[str, float]) -> None:
        """Looks at the values of the present instant."""
        expression = self.event.when
        assert expression is not None
        truth = expression.evaluate(
            np.zeros(1),
            {
                name: np.array([values.get(name, math.nan)])
                for name in expression.signals
            },
        )
        clock = self.events.clock
        if not (truth.known[0] and truth.true[0]):
            self.since_s = None
        elif self.since_s is None:
            self.since_s = clock.now
            if not self.event.for_s:
                self._happen()
            else:
                at_s = clock.now + self.event.for_s
                still = functools.partial(self._still, clock.now)
                call_at(clock, at_s, still, phase=Phase.OBSERVER)

    def _still(self, since_s: float) -> None:
        if self.since_s == since_s:
            self._happen()

    def _happen(self) -> None:
        if not (self.done and self.event.once):
            self.done = True
            self.events.happen(self.event)


class _Eyes:
    """Knows the last value of each signal that a condition speaks of.

    Conditions are asked once at the end of each instant in which one of their
    signals was said, never between two messages of one instant.
    """

    def __init__(
        self, watches: list[_Watch], signals: Signals, bus: Bus, clock: VirtualClock
    ) -> None:
        self.watches = watches
        self.signals = signals
        self.clock = clock
        needed = [n for w in watches if w.event.when for n in w.event.when.signals]
        self.values: dict[str, float] = {}
        for name in dict.fromkeys(needed):
            initial = signals[name].initial
            if signals[name].role != "measurement" and initial is not None:
                self.values[name] = initial
        self._wanted = frozenset(needed)
        self._asked = False
        connection = bus.connect("scenario-conditions", self._on_message)
        for topic in dict.fromkeys(signals[name].topic for name in needed):
            connection.subscribe(topic)

    def _on_message(self, message: Message) -> None:
        for name, value in self.signals.decode(message.topic, message.payload):
            if name in self._wanted:
                self.values[name] = value
        if not self._asked:
            self._asked = True
            call_at(self.clock, self.clock.now, self._ask, phase=Phase.OBSERVER)

    def _ask(self) -> None:
        self._asked = False
        for watch in self.watches:
            watch.look(self.values)
