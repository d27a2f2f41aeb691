"""A strategy with a timing of its own: a SimPy generator on a bus.

Where `Controller.step` is asked on a period, a `Process` goes its own course and says
itself when to go on::

    def rinse(env, plant):
        while True:
            if plant["flow"] < 0.05:
                plant.set(vsd1=0.0)
                yield env.timeout(300)      # seconds
                plant.set(vsd1=0.5)
            yield env.timeout(10)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from playground.bus import Bus
from playground.clock import Phase, VirtualClock
from playground.errors import PlaygroundError, closest
from playground.message import Message
from playground.signals import Signals


@runtime_checkable
class Process(Protocol):
    """A controller whose timing is its own.

    Attributes:
        measures: Names of the signals it must know before it begins.
        commands: Names of the signals it may set; empty for all commands.
    """

    measures: tuple[str, ...]
    commands: tuple[str, ...]

    def reset(self, *, seed: int = 0) -> None:
        """Forgets everything learned since it was made."""
        ...

    def process(self, env: Any, plant: Panel) -> Iterator[Any]:
        """Goes its course; yields what it waits for.

        Args:
            env: The clock of the run, a `simpy.Environment`: ``env.now`` in seconds
                since the start, ``env.timeout(30)``.
            plant: What it sees and sets.
        """
        ...


class Panel(Mapping[str, float]):
    """What a `Process` sees and sets: the last value of each signal, in its unit.

    After ``yield env.timeout(…)`` it shows what was said before that instant.
    """

    def __init__(
        self,
        values: Mapping[str, float],
        give: Callable[[Mapping[str, float]], object],
        wait: Callable[[str], Any],
    ) -> None:
        self._values = values
        self._give = give
        self._wait = wait

    def __getitem__(self, name: str) -> float:
        """Returns the last known value of a signal, in its unit."""
        try:
            return self._values[name]
        except KeyError:
            raise PlaygroundError(
                f"Nothing is known of a signal {name!r}.{closest(name, self._values)}",
                f"known: {', '.join(self._values) or 'nothing'}; name others in "
                "'measures'",
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def set(self, **commands: float) -> None:
        """Gives commands, each in the unit of its signal."""
        self._give(commands)

    def heard(self, name: str) -> Any:
        """Returns an event that happens when a signal is said the next time."""
        return self._wait(name)


class ProcessLoop:
    """Connects a `Process` to a bus and runs it there.

    It begins at the first instant at which all that it measures is known.

    Args:
        controller: Is reset here.
        signals: Meaning of the topics.
        bus: Where it listens and speaks.
        clock: Of the run.
        seed: Handed to the controller.
        client_id: Name of the controller on the bus.
    """

    def __init__(
        self,
        controller: Process,
        signals: Signals,
        bus: Bus,
        clock: VirtualClock,
        *,
        seed: int = 0,
        client_id: str = "controller",
    ) -> None:
        self.controller = controller
        self.signals = signals
        self.clock = clock
        self.values: dict[str, float] = {}
        self._measures = frozenset(signals.need(n).name for n in controller.measures)
        self._allowed = controller.commands or tuple(
            signal.name for signal in signals.with_role("command")
        )
        self._sent: dict[str, bytes] = {}
        self._awaited: dict[str, Any] = {}
        self._begun = False
        controller.reset(seed=seed)
        self.connection = bus.connect(client_id, self._on_message)
        for topic in dict.fromkeys(signals[n].topic for n in controller.measures):
            self.connection.subscribe(topic)
        self._begin_when_known()

    def _begin_when_known(self) -> None:
        if self._begun or len(self.values) < len(self._measures):
            return
        self._begun = True
        event = self.clock.at(self.clock.now, phase=Phase.CONTROLLER)
        assert event.callbacks is not None
        event.callbacks.append(self._begin)

    def _begin(self, _: object) -> None:
        panel = Panel(self.values, self._give, self._heard)
        course = self.controller.process(self.clock, panel)
        self.clock.process(course)  # type: ignore[arg-type]

    def _on_message(self, message: Message) -> None:
        for name, value in self.signals.decode(message.topic, message.payload):
            if name in self._measures and not math.isnan(value):
                self.values[name] = value
                awaited = self._awaited.pop(name, None)
                if awaited is not None:
                    awaited.succeed(value)
        self._begin_when_known()

    def _heard(self, name: str) -> Any:
        if name not in self._measures:
            raise PlaygroundError(
                f"It waits for {name!r}, which it does not measure."
                f"{closest(name, self._measures)}",
                f"it measures {', '.join(sorted(self._measures)) or 'nothing'}",
            )
        return self._awaited.setdefault(name, self.clock.event())

    def _give(self, commands: Mapping[str, float]) -> None:
        for name, value in commands.items():
            if name not in self._allowed:
                raise PlaygroundError(
                    f"It wants to set {name!r}, which is none of its commands."
                    f"{closest(name, self._allowed)}",
                    f"its commands: {', '.join(self._allowed) or 'none'}",
                )
            signal = self.signals[name]
            payload = signal.encode(signal.clip(float(value)))
            if self._sent.get(name) != payload:
                self._sent[name] = payload
                self.connection.publish(signal.topic, payload)
