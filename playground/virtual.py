"""A plant in a test: told, let run, and asked.

`VirtualPlant` has it on a local bus in virtual time: an hour passes when the test
says so and takes no time. `VirtualHardware` has it on a real broker in real time,
in a thread, for code that needs sockets. Both are handled alike.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np
import simpy
from simpy.core import StopSimulation
from simpy.events import Event

from playground import transport
from playground.assertions import assert_eventually
from playground.bus import Bus, LocalBus
from playground.clock import Phase, RealtimeClock, VirtualClock
from playground.controllers import Controller
from playground.controllers.loop import ControlLoop
from playground.document import Document, DocumentError, Mistake
from playground.errors import ConnectionFailed, PlaygroundError
from playground.expression import Expression, parse
from playground.history import History, SignalHistory
from playground.message import Message
from playground.mqtt import MqttBus
from playground.parameters import build
from playground.plants import Plant, plant_class
from playground.plants.departures import DEFAULT_SHARE, Departures, Enclosed
from playground.plants.device import Device
from playground.quantity import quantity, say_seconds, seconds
from playground.recording import Recording, RecordingWriter
from playground.signals import Signals

_LAST = max(Phase) + 1
"""After everything else that is due at an instant."""
GRACE_S = 10.0
"""Wall seconds that real time may be late before a test gives up on it."""


def make_plant(spec: str | Plant | Callable[..., Plant], **parameters: Any) -> Plant:
    """Returns a plant.

    Args:
        spec: Name of a built-in plant, ``module:Class``, folder of a learned
            model, a class, or a plant, which is taken as it is.
        parameters: As one writes them in a scenario: ``start="20 degC"``.

    Raises:
        PlaygroundError: There is no such plant, or it takes no such parameter.
    """
    target: Any = spec
    if isinstance(spec, str):
        if Path(spec).is_dir():
            from playground.plants.learned import LearnedPlant

            return LearnedPlant(Path(spec))
        target = plant_class(spec)
    elif not callable(spec):
        return spec
    mistakes: list[Mistake] = []
    plant = build(
        target,
        parameters,
        signals=None,
        document=Document(f"plant {spec!r}", parameters),
        place=(),
        mistakes=mistakes,
    )
    if mistakes:
        raise DocumentError(f"plant {spec!r}", mistakes)
    made: Plant = plant
    return made


class LeftEnvelope(UserWarning):
    """A learned plant was asked what it cannot know, so its test decides nothing."""


class _Handled:
    """What a virtual plant and virtual hardware have in common."""

    plant: Plant
    device: Device
    history: History
    clock: VirtualClock
    folder: Path | None
    name: str

    @property
    def signals(self) -> Signals:
        """Meaning of its topics."""
        return self.plant.signals

    @property
    def now_s(self) -> float:
        """Seconds of plant time since the start."""
        return float(self.clock.now)

    @property
    def messages(self) -> list[Message]:
        """All that was published on the bus so far, by anybody."""
        return [m for m in list(self.history.messages) if m.kind == "publish"]

    @property
    def departures(self) -> Departures | None:
        """How often a learned plant left what it knows; None of other plants."""
        return self.plant.departures if isinstance(self.plant, Enclosed) else None

    def warn_of_departures(self) -> None:
        """Warns (`LeftEnvelope`) if the plant left what it knows for too long."""
        seen = self.departures
        if seen is not None and seen.share > DEFAULT_SHARE:
            warnings.warn(
                f"{self.name}: {seen.describe()}; what it says there means nothing",
                LeftEnvelope,
                stacklevel=2,
            )

    def signal(self, name: str) -> SignalHistory:
        """Returns a signal: its latest value and all before.

        Raises:
            PlaygroundError: There is no such signal.
        """
        return self.history.signal(name)

    @property
    def recording(self) -> Recording:
        """All that was published so far, as a recording."""
        if self.folder is None:
            raise PlaygroundError(
                "This plant was made without a folder for its recording.",
                "call save('name.parquet')",
            )
        return self.save(self.folder / f"{self.name}.parquet")

    def save(self, path: Path | str) -> Recording:
        """Writes all that was published so far; replaces an earlier file."""
        metadata = {
            "start_ns": self.history.start_ns,
            "end_ns": self.history.start_ns + round(self.history.end_s * 1e9),
            "session": "simulated",
        }
        with RecordingWriter(
            path, metadata=metadata, journal=False, overwrite=True
        ) as writer:
            for message in list(self.history.messages):
                if message.kind in ("publish", "will"):
                    writer.append(message)
        return writer.close()

    def _payload(self, name: str, value: float | str) -> tuple[str, bytes]:
        """Returns topic and payload that tell the plant a command."""
        signal = self.signals.need(name)
        if signal.role == "measurement":
            inputs = self.signals.with_role("command", "disturbance")
            raise PlaygroundError(
                f"{name!r} is a measurement; the plant says it, a test does not.",
                f"what can be set: {', '.join(s.name for s in inputs) or 'nothing'}",
            )
        number = (
            quantity(value, signal.unit) if isinstance(value, str) else float(value)
        )
        if signal.range is not None and signal.clip(number) != number:
            raise PlaygroundError(
                f"{number:g} {signal.unit} is outside the range of {name!r}, "
                f"{signal.range[0]:g}..{signal.range[1]:g} {signal.unit}.",
                "to see what the plant makes of it, publish it on "
                f"{signal.topic!r} by a client of your own",
            )
        return signal.topic, signal.encode(number)

    def _watched(
        self, expression: Expression, within_s: float
    ) -> Generator[Event, Any, float | None]:
        """Ends with the instant at which something holds, or None if it does not."""
        clock, device, period_s = self.clock, self.device, self.plant.period_s
        until_s = clock.now + within_s
        times: list[float] = []
        rows: list[list[float]] = []
        tick = int(clock.now / period_s)
        while True:
            known = {**device.inputs, **device.outputs}
            times.append(clock.now)
            rows.append([known[name] for name in expression.signals])
            kept = slice(None) if expression.sampled else slice(-1, None)
            columns = np.array(rows[kept]).reshape(-1, len(expression.signals)).T
            truth = expression.evaluate(
                np.array(times[kept]),
                dict(zip(expression.signals, columns, strict=True)),
            )
            if truth.known[-1] and truth.true[-1]:
                return float(clock.now)
            if not expression.sampled:
                times.clear()
                rows.clear()
            tick += 1
            if tick * period_s > until_s:
                return None
            yield clock.at(max(tick * period_s, clock.now), phase=_LAST)

    def _did_not_come(
        self, expression: Expression, within: str, began_s: float
    ) -> NoReturn:
        __tracebackhide__ = True
        # Says the margin, the nearest instant and what was said around it.
        assert_eventually(self.history, expression.text, within=within, since_s=began_s)
        raise AssertionError(f"{expression.text} did not come about within {within}")


class VirtualPlant(_Handled):
    """A plant on a local bus, in virtual time.

    Args:
        plant: The plant; is reset here.
        bus: Where it speaks; a bus of its own by default.
        seed: Handed to the plant.
        name: Its client id on the bus, and of its recording.
        folder: Where `recording` is written.

    Attributes:
        plant: The plant.
        bus: Where one may connect clients, controllers, programs.
        clock: Of the bus.
        device: The adapter between them.
        history: What was said so far.
    """

    def __init__(
        self,
        plant: Plant,
        *,
        bus: LocalBus | None = None,
        seed: int = 0,
        name: str = "plant",
        folder: Path | None = None,
    ) -> None:
        self.bus = LocalBus(VirtualClock()) if bus is None else bus
        clock = self.bus.clock
        if not isinstance(clock, VirtualClock):
            raise PlaygroundError(
                f"A virtual plant needs a VirtualClock, but the bus has {clock!r}.",
                "make the bus with LocalBus(VirtualClock())",
            )
        self.clock = clock
        self.plant = plant
        self.name = name
        self.folder = folder
        messages: list[Message] = []
        self.bus.observe(
            messages.append,
            lambda now, who, bundle, said: messages.extend(
                bundle.messages(now, who, said)
            ),
        )
        self.history = History(
            messages, plant.signals, start_ns=clock.start_ns, end_ns=clock.time_ns
        )
        self.device = Device(plant, self.bus, clock, seed=seed, client_id=name)
        self._hand = self.bus.connect(f"{name}-test")
        self._loops = 0

    def set(self, name: str, value: float | str) -> None:
        """Tells the plant a command or a disturbance, over the bus.

        Args:
            name: Of the signal.
            value: A number in the unit of the signal, or text: ``"50 degC"``.

        Raises:
            PlaygroundError: No such signal, a measurement, outside its range, or
                a unit that does not convert.
        """
        topic, payload = self._payload(name, value)
        self._hand.publish(topic, payload)

    def advance(self, duration: str) -> None:
        """Lets time pass; all that is due at the last instant has happened too.

        Args:
            duration: ``"10min"``.
        """
        until_s = round(self.clock.now + seconds(duration), 9)
        self.clock.run(until=self.clock.at(until_s, phase=_LAST))

    def wait_for(self, condition: str, *, within: str) -> float:
        """Lets time pass until something holds.

        Args:
            condition: ``"tank_temp > 50 degC and flow > 0.1 l/s"``.
            within: How much time may pass: ``"2h"``.

        Returns:
            Seconds since the start at which it held.

        Raises:
            AssertionError: It did not; with the margin and what was said.
            PlaygroundError: The condition cannot be read.
        """
        __tracebackhide__ = True
        expression = parse(condition, self.signals)
        began_s = self.now_s
        watch = self.clock.process(self._watched(expression, seconds(within)))
        found_s = self.clock.run(until=watch)
        if found_s is None:
            left_s = began_s + seconds(within) - self.now_s
            if left_s > 0:
                self.advance(f"{left_s!r}s")
            self._did_not_come(expression, within, began_s)
        return float(found_s)

    def control(self, controller: Controller, *, seed: int = 0) -> ControlLoop:
        """Puts a controller on the bus, which acts from this instant on."""
        self._loops += 1
        suffix = "" if self._loops == 1 else f"-{self._loops}"
        return ControlLoop(
            controller,
            self.signals,
            self.bus,
            self.clock,
            seed=seed,
            client_id=f"{self.name}-controller{suffix}",
            start_s=self.clock.now,
        )


class VirtualHardware(_Handled):
    """A plant on a real broker in real time, run by a thread of its own.

    Args:
        plant: The plant; is reset here.
        url: The broker.
        speed: Seconds of plant time in one second of the wall clock.
        seed: Handed to the plant.
        name: Its client id on the broker, and of its recording.
        folder: Where `recording` is written.

    Attributes:
        url: The broker, for the code under test.
        plant: The plant.
        bus: Where its side of the broker is.
        clock: Paces it.
        device: The adapter between them.
        history: What was said so far.

    Raises:
        ConnectionFailed: The broker cannot be reached.
    """

    def __init__(
        self,
        plant: Plant,
        *,
        url: str,
        speed: float = 1.0,
        seed: int = 0,
        name: str = "plant",
        folder: Path | None = None,
    ) -> None:
        self.url = url
        self.plant = plant
        self.name = name
        self.folder = folder
        self._failure: BaseException | None = None
        self._open = contextlib.ExitStack()
        with contextlib.ExitStack() as opening:
            place = opening.enter_context(transport.realtime(url=url, speed=speed))
            assert isinstance(place.clock, RealtimeClock)
            self.clock: RealtimeClock = place.clock
            self.bus: Bus = place.bus
            messages: list[Message] = []
            place.observe(messages.append)
            self.history = History(
                messages,
                plant.signals,
                start_ns=self.clock.start_ns,
                end_ns=self.clock.time_ns,
            )
            self.device = Device(plant, self.bus, self.clock, seed=seed, client_id=name)
            hand = MqttBus(url).connect(f"{name}-test")
            opening.callback(hand.disconnect)
            self._hand = hand
            self._open = opening.pop_all()
        self._thread = threading.Thread(
            target=self._run, name=f"hardware-{name}", daemon=True
        )
        self._thread.start()

    def _run(self) -> None:
        try:
            self.clock.run()
        except BaseException as error:  # noqa: BLE001 - told by the next call
            self._failure = error

    def set(self, name: str, value: float | str) -> None:
        """Tells the plant a command or a disturbance; returns when the broker has it.

        Args:
            name: Of the signal.
            value: A number in the unit of the signal, or text: ``"50 degC"``.

        Raises:
            PlaygroundError: No such signal, a measurement, outside its range, or
                a unit that does not convert.
        """
        self._must_run()
        topic, payload = self._payload(name, value)
        self._hand.publish(topic, payload, qos=1)
        self._hand.flush()

    def advance(self, duration: str) -> None:
        """Returns when so much plant time has passed.

        Args:
            duration: ``"10s"``; takes a ``speed``-th of it on the wall clock.
        """
        duration_s = seconds(duration)

        def passing() -> Generator[Event, Any, None]:
            yield self.clock.at(self.clock.now + duration_s, phase=_LAST)

        self._await(passing(), duration_s)

    def wait_for(self, condition: str, *, within: str) -> float:
        """Waits until something holds.

        Args:
            condition: ``"tank_temp > 50 degC and flow > 0.1 l/s"``.
            within: How much plant time may pass: ``"2min"``.

        Returns:
            Seconds since the start at which it held.

        Raises:
            AssertionError: It did not; with the margin and what was said.
            PlaygroundError: The condition cannot be read.
        """
        __tracebackhide__ = True
        expression = parse(condition, self.signals)
        within_s = seconds(within)
        began_s = self.now_s
        found_s = self._await(self._watched(expression, within_s), within_s)
        if found_s is None:
            self._did_not_come(expression, within, began_s)
        return float(found_s)

    def _await(self, watch: Generator[Event, Any, Any], within_s: float) -> Any:
        """Has something watched on the run's own thread; waits for its end."""
        self._must_run()
        ended = threading.Event()
        answer: list[Any] = []

        def take(process: Event) -> None:
            answer.append(process.value)
            ended.set()

        def begin() -> None:
            process: simpy.Process = self.clock.process(watch)
            assert process.callbacks is not None
            process.callbacks.append(take)

        self.clock.inject(begin)
        patience_s = within_s / self.clock.speed + GRACE_S
        if not ended.wait(patience_s):
            self._must_run()
            raise ConnectionFailed(
                f"The plant at {self.url} is {GRACE_S:g} s late: at "
                f"{say_seconds(self.now_s)} of plant time.",
                "ask for a lower speed; this machine cannot keep up",
            )
        return answer[0]

    def _must_run(self) -> None:
        if self._failure is not None:
            raise self._failure
        if not self._thread.is_alive():
            raise PlaygroundError(
                f"The hardware {self.name!r} has been stopped.", "make a new one"
            )

    def stop(self) -> None:
        """Ends the thread and disconnects; may be called again.

        Raises:
            BaseException: What the plant raised, if it did.
        """

        def end() -> NoReturn:
            raise StopSimulation(None)

        self.clock.inject(end)
        self._thread.join(GRACE_S)
        self._open.close()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
