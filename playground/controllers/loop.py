"""A controller as the bus sees it: the one adapter between `Controller` and `Bus`.

It listens to the measurements, asks the controller on its period and publishes
a command when it changes, as a human at a dashboard would.
"""

from __future__ import annotations

from collections.abc import Callable

from playground.bus import Bus, Said, publish_all
from playground.clock import Phase, VirtualClock
from playground.controllers import Controller
from playground.message import Message
from playground.signals import Signals

_Command = tuple[str, Callable[[float], float], Callable[[float], bytes]]
"""Topic, clip and encoder of a command."""


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
        self._measures = frozenset(signals.need(n).name for n in controller.measures)
        self._commands: dict[str, _Command] = {
            signal.name: (signal.topic, signal.clip, signal.encoder())
            for signal in map(signals.need, controller.commands)
        }
        self._plain = {
            topic: signal.name
            for topic, signal in signals.plain.items()
            if signal.name in self._measures
        }
        controller.reset(seed=seed)
        self.connection = bus.connect(client_id, self._on_message)
        for topic in dict.fromkeys(signals[n].topic for n in controller.measures):
            self.connection.subscribe(topic)
        clock.every(
            controller.period_s, self._decide, offset_s=start_s, phase=Phase.CONTROLLER
        )

    def _on_message(self, message: Message) -> None:
        plain = self._plain.get(message.topic)
        if plain is not None:
            try:
                value = float(message.payload)
            except ValueError:
                return
            if value == value:  # NaN says nothing
                self.values[plain] = value
            return
        for name, value in self.signals.decode(message.topic, message.payload):
            if value == value and name in self._measures:  # NaN says nothing
                self.values[name] = value

    def _decide(self) -> None:
        if len(self.values) < len(self._measures):
            return
        said: list[Said] = []
        sent = self._sent
        for name, value in self.controller.step(self.clock.now, self.values).items():
            command = self._commands.get(name)
            if command is None:
                command = self._command(name)
            topic, clip, encode = command
            payload = encode(clip(value))
            if sent.get(name) != payload:
                sent[name] = payload
                said.append((topic, payload, 0, False))
        if said:
            publish_all(self.connection, said)

    def _command(self, name: str) -> _Command:
        """Returns how to say a command that the controller did not declare."""
        signal = self.signals.need(name)
        command = (signal.topic, signal.clip, signal.encoder())
        self._commands[name] = command
        return command
