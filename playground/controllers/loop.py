"""A controller as the bus sees it: the one adapter between `Controller` and `Bus`.

It listens to the measurements, asks the controller on its period and publishes
a command when it changes, as a human at a dashboard would.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from playground.bus import Bus, LocalConnection, publish_all
from playground.clock import Phase, VirtualClock
from playground.controllers import Controller
from playground.message import Bundle, Message
from playground.signals import Signals

_Way = tuple[
    list[tuple[float, float]], Callable[[tuple[float, ...]], list[bytes]], Bundle
]
"""How commands are said: their ranges, their encoder, topics and flags."""


class ControlLoop:
    """Connects a controller to a bus and runs it there.

    Args:
        controller: Is reset here.
        signals: Meaning of the topics.
        bus: Where it listens and speaks.
        clock: Says when it is asked.
        seed: Handed to the controller.
        client_id: Name of the controller on the bus.
        start_s: Time of its first decision.
    """

    def __init__(
        self,
        controller: Controller,
        signals: Signals,
        bus: Bus,
        clock: VirtualClock,
        *,
        seed: int = 0,
        client_id: str = "controller",
        start_s: float = 0.0,
    ) -> None:
        self.controller = controller
        self.signals = signals
        self.clock = clock
        self.values: dict[str, float] = {}
        self._sent: dict[str, bytes] = {}
        self._ways: dict[tuple[str, ...], _Way] = {}
        self._measures = frozenset(signals.need(n).name for n in controller.measures)
        self._plain = {
            topic: signal.name
            for topic, signal in signals.plain.items()
            if signal.name in self._measures
        }
        self._way(tuple(controller.commands))  # an unknown one is told now
        controller.reset(seed=seed)
        self.connection = bus.connect(client_id, self._on_message)
        if isinstance(self.connection, LocalConnection):
            self.connection.on_payload = self._hear
        for topic in dict.fromkeys(signals[n].topic for n in controller.measures):
            self.connection.subscribe(topic)
        clock.every(
            controller.period_s, self._decide, offset_s=start_s, phase=Phase.CONTROLLER
        )

    def _on_message(self, message: Message) -> None:
        self._hear(message.topic, message.payload)

    def _hear(self, topic: str, payload: bytes) -> None:
        plain = self._plain.get(topic)
        if plain is not None:
            try:
                value = float(payload)
            except ValueError:
                return
            if value == value:  # NaN says nothing
                self.values[plain] = value
            return
        for name, value in self.signals.decode(topic, payload):
            if value == value and name in self._measures:  # NaN says nothing
                self.values[name] = value

    def _decide(self) -> None:
        if len(self.values) < len(self._measures):
            return
        told = self.controller.step(self.clock.now, self.values)
        names = tuple(told)
        ranges, encode, bundle = self._ways.get(names) or self._way(names)
        payloads = encode(
            tuple(
                [
                    low if value < low else high if value > high else value
                    for value, (low, high) in zip(told.values(), ranges, strict=True)
                ]
            )
        )
        sent = self._sent
        changed = [
            number
            for number, name in enumerate(names)
            if sent.get(name) != payloads[number]
        ]
        if len(changed) < len(names):
            names = tuple([names[number] for number in changed])
            payloads = [payloads[number] for number in changed]
            bundle = (self._ways.get(names) or self._way(names))[2]
        if changed:
            sent.update(zip(names, payloads, strict=True))
            publish_all(self.connection, bundle, payloads)

    def _way(self, names: tuple[str, ...]) -> _Way:
        """Finds out how commands are said that are given at the same instant."""
        signals = [self.signals.need(name) for name in names]
        none, never = [0] * len(names), [False] * len(names)
        way = self._ways[names] = (
            [signal.range or (-math.inf, math.inf) for signal in signals],
            self.signals.writer_of([signal.name for signal in signals]),
            Bundle([signal.topic for signal in signals], none, never),
        )
        return way
