"""A plant as the bus sees it: the one adapter between `Plant` and `Bus`.

It subscribes to the topics of commands and disturbances, steps the plant on
its period and publishes the measurements as the signals say. No physics here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

from playground.bus import Bus, LocalConnection, publish_all
from playground.clock import Phase, VirtualClock
from playground.message import Bundle, Message
from playground.plants import Plant
from playground.signals import Publication

logger = logging.getLogger(__name__)


class Device:
    """Connects a plant to a bus and runs it there.

    Args:
        plant: Is reset here.
        bus: Where it speaks.
        clock: Steps it; virtual or paced by the wall clock.
        seed: Handed to the plant.
        client_id: Name of the device on the bus.

    Attributes:
        inputs: What the plant is being told, by signal name, in its unit.
        outputs: What it said last, by signal name, in its unit.
    """

    def __init__(
        self,
        plant: Plant,
        bus: Bus,
        clock: VirtualClock,
        *,
        seed: int = 0,
        client_id: str = "plant",
    ) -> None:
        self.plant = plant
        self.clock = clock
        listened = plant.signals.with_role("command", "disturbance")
        self.inputs = {
            signal.name: 0.0 if signal.initial is None else signal.initial
            for signal in listened
        }
        self._plain = {
            topic: (signal.name, *(signal.range or (-math.inf, math.inf)))
            for topic, signal in plant.signals.plain.items()
            if signal.name in self.inputs
        }
        self.outputs = plant.reset(seed=seed)
        self.connection = bus.connect(client_id, self._on_message)
        if isinstance(self.connection, LocalConnection):
            self.connection.on_payload = self._hear
        for topic in dict.fromkeys(signal.topic for signal in listened):
            self.connection.subscribe(topic)
        # At time 0 the plant is as it was reset; the first step ends at one period.
        clock.every(
            plant.period_s, self._step, offset_s=plant.period_s, phase=Phase.PLANT
        )
        # What is said at the same instants is said in one go: in a run of a day
        # the events cost more than the messages.
        together: dict[tuple[float, float], list[Publication]] = {}
        for publication in plant.signals.publications_every(plant.period_s):
            when = (publication.period_s, publication.offset_s)
            together.setdefault(when, []).append(publication)
        for (period_s, offset_s), publications in together.items():
            clock.every(
                period_s,
                self._publisher(publications),
                offset_s=offset_s,
                phase=Phase.PUBLICATION,
            )

    def _step(self) -> None:
        self.outputs = self.plant.step(self.clock.now, self.inputs)

    def _publisher(self, publications: Sequence[Publication]) -> Callable[[], None]:
        """Returns what says publications that are due at the same instants."""
        encode = self.plant.signals.encoder_of_all(publications)
        bundle = Bundle(
            [publication.topic for publication in publications],
            [publication.qos for publication in publications],
            [publication.retain for publication in publications],
        )
        clock, connection = self.clock, self.connection

        def publish() -> None:
            publish_all(connection, bundle, encode(self.outputs, clock.time_ns()))

        return publish

    def _on_message(self, message: Message) -> None:
        self._hear(message.topic, message.payload)

    def _hear(self, topic: str, payload: bytes) -> None:
        plain = self._plain.get(topic)
        if plain is not None:
            try:
                value = float(payload)
            except ValueError:
                value = math.nan
            if value == value:
                name, low, high = plain
                self.inputs[name] = (
                    low if value < low else high if value > high else value
                )
                return
        signals = self.plant.signals
        for name, value in signals.decode(topic, payload):
            if name not in self.inputs:
                continue
            if value != value:
                # As the rig does: what is no number changes nothing.
                logger.warning(
                    "%s: ignored %r, which is not a number for %s",
                    topic,
                    payload[:80],
                    name,
                )
                continue
            self.inputs[name] = signals[name].clip(value)
