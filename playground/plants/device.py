"""A plant as the bus sees it: the one adapter between `Plant` and `Bus`.

It subscribes to the topics of commands and disturbances, steps the plant on
its period and publishes the measurements as the signals say. No physics here.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence

from playground.bus import Bus
from playground.clock import Phase, VirtualClock
from playground.message import Message
from playground.plants import Plant

logger = logging.getLogger(__name__)

_Said = tuple[str, Callable[[Mapping[str, float], int], bytes], int, bool]
"""Topic, encoder, QoS and retain flag of a publication."""


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
        self.outputs = plant.reset(seed=seed)
        self.connection = bus.connect(client_id, self._on_message)
        for topic in dict.fromkeys(signal.topic for signal in listened):
            self.connection.subscribe(topic)
        # At time 0 the plant is as it was reset; the first step ends at one period.
        clock.every(
            plant.period_s, self._step, offset_s=plant.period_s, phase=Phase.PLANT
        )
        # What is said at the same instants is said in one go: in a run of a day
        # the events cost more than the messages.
        together: dict[tuple[float, float], list[_Said]] = {}
        for publication in plant.signals.publications_every(plant.period_s):
            when = (publication.period_s, publication.offset_s)
            together.setdefault(when, []).append(
                (
                    publication.topic,
                    plant.signals.encoder(publication),
                    publication.qos,
                    publication.retain,
                )
            )
        for (period_s, offset_s), publications in together.items():
            clock.every(
                period_s,
                functools.partial(self._publish, publications),
                offset_s=offset_s,
                phase=Phase.PUBLICATION,
            )

    def _step(self) -> None:
        self.outputs = self.plant.step(self.clock.now, self.inputs)

    def _publish(self, publications: Sequence[_Said]) -> None:
        outputs, time_ns = self.outputs, self.clock.time_ns()
        publish = self.connection.publish
        for topic, encode, qos, retain in publications:
            publish(topic, encode(outputs, time_ns), qos=qos, retain=retain)

    def _on_message(self, message: Message) -> None:
        signals = self.plant.signals
        for name, value in signals.decode(message.topic, message.payload):
            if name not in self.inputs:
                continue
            if math.isnan(value):
                # As the rig does: what is no number changes nothing.
                logger.warning(
                    "%s: ignored %r, which is not a number for %s",
                    message.topic,
                    message.payload[:80],
                    name,
                )
                continue
            self.inputs[name] = signals[name].clip(value)
