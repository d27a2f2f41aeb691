"""For tests of your own parts: conformance suites, and a client for lockstep runs.

Call a suite from a test: ``check_plant(lambda: MyPlant())``. Each raises
`AssertionError` that says which rule was broken, where and with what. Nothing
here needs pytest.
"""

from __future__ import annotations

import contextlib
import json
import math
import pickle
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn
from unittest import mock

import numpy as np

from playground.bus import Bus, LocalBus, Will
from playground.clock import Phase, VirtualClock
from playground.controllers import Controller
from playground.controllers.process import Process, ProcessLoop
from playground.errors import ConnectionFailed
from playground.lockstep import ACK_TOPIC, TICK_TOPIC
from playground.message import Message
from playground.mqtt import Dialogue, MqttBus, MqttConnection
from playground.plants import Plant
from playground.plants.batch import batched
from playground.signals import Signal, Signals

Trajectory = list[Mapping[str, float]]
RUNS, BATCH_STEPS = 3, 60
"""Size of the batch that `check_plant` compares with single runs."""


def check_plant(make: Callable[[], Plant], *, steps: int = 300, seed: int = 0) -> None:
    """Checks that a plant keeps the rules.

    Deterministic for a seed, no wall clock, only and all declared signals, finite
    values, inputs left alone, picklable in mid-run, back to a snapshot, and many runs
    in a batch (`playground.plants.batch`) equal to so many single ones.

    Args:
        make: Makes a new plant.
        steps: Length of each trajectory.
        seed: Of the random inputs, and handed to the plant.

    Raises:
        AssertionError: A rule is broken.
    """
    plant = make()
    assert isinstance(plant, Plant), f"{plant!r} lacks a member of Plant"
    assert plant.period_s > 0, f"period_s is {plant.period_s}; it must be above 0"
    inputs = random_inputs(plant.signals, steps, seed)
    with _no_wall_clock():
        first = _trajectory(plant, inputs, seed)
    _check_names(plant, first)
    again = _trajectory(plant, inputs, seed)
    _same(first, again, "after another reset with the same seed")
    _same(first, _trajectory(make(), inputs, seed), "in a new plant of the same seed")
    _check_continues(plant, inputs, seed, first)
    _check_batch(make, seed, min(steps, BATCH_STEPS))


def _check_batch(make: Callable[[], Plant], seed: int, steps: int) -> None:
    batch, single = batched(make()), make()
    drawn = [random_inputs(single.signals, steps, seed + run) for run in range(RUNS)]
    said = [batch.reset_batch(RUNS, seed=seed)]
    for number in range(steps):
        told = [[run[number][name] for name in batch.inputs] for run in drawn]
        now = (number + 1) * batch.period_s
        said.append(batch.step_batch(now, np.array(told, dtype=np.float64)))
    for run in range(RUNS):
        alone = _trajectory(single, drawn[run], seed + run)
        for number, (expected, rows) in enumerate(zip(alone, said, strict=True)):
            for name, value in zip(batch.outputs, rows[run].tolist(), strict=True):
                # Sums of many runs may round otherwise than those of one.
                assert math.isclose(
                    value, expected[name], rel_tol=1e-6, abs_tol=1e-6
                ), (
                    f"run {run} of a batch, step {number}: {name} is {value!r}, alone "
                    f"it is {expected[name]!r}"
                )


def _check_names(plant: Plant, trajectory: Trajectory) -> None:
    declared = {signal.name for signal in plant.signals.with_role("measurement")}
    for number, outputs in enumerate(trajectory):
        said = set(outputs)
        assert said == declared, (
            f"step {number}: not declared: {sorted(said - declared)}, "
            f"missing: {sorted(declared - said)}"
        )
        for name, value in outputs.items():
            assert isinstance(value, float | int), (
                f"step {number}: {name} is {value!r}, not a number"
            )
            assert math.isfinite(value), f"step {number}: {name} is {value}"


def _check_continues(
    plant: Plant, inputs: list[Mapping[str, float]], seed: int, whole: Trajectory
) -> None:
    half = len(inputs) // 2
    _trajectory(plant, inputs[:half], seed)
    copy = pickle.loads(pickle.dumps(plant))
    snapshot = plant.snapshot()
    rest = _continue(plant, inputs, half)
    _same(whole[half + 1 :], rest, "after it was pickled and asked for a snapshot")
    plant.restore(snapshot)
    _same(rest, _continue(plant, inputs, half), "after it was restored from a snapshot")
    _same(rest, _continue(copy, inputs, half), "in a copy made with pickle")


def _trajectory(
    plant: Plant, inputs: list[Mapping[str, float]], seed: int
) -> Trajectory:
    return [dict(plant.reset(seed=seed)), *_continue(plant, inputs, 0)]


def _continue(
    plant: Plant, inputs: list[Mapping[str, float]], begin: int
) -> Trajectory:
    return [
        dict(plant.step((number + 1) * plant.period_s, inputs[number]))
        for number in range(begin, len(inputs))
    ]


def _same(expected: Trajectory, got: Trajectory, when: str) -> None:
    for number, (a, b) in enumerate(zip(expected, got, strict=True)):
        for name in a:
            assert a[name] == b[name], (
                f"{when}, step {number} differs: {name} is {b[name]!r}, was {a[name]!r}"
            )


def check_bus(make: Callable[[], Bus], *, within_s: float = 10.0) -> None:
    """Checks that a bus keeps the rules of MQTT that the parts of a run stand on.

    Filters and ``$`` topics, QoS, order, retained messages, overlapping
    subscriptions, sessions, take-over and wills; each on a bus of its own.

    Args:
        make: Makes a bus on which nothing has been said yet. It may deliver from
            another thread.
        within_s: Wall seconds after which a message counts as not delivered.

    Raises:
        AssertionError: A rule is broken.
    """
    for rule in (
        _filters_choose,
        _qos_and_order_are_kept,
        _retained_messages_stay,
        _overlapping_subscriptions_deliver_once,
        _sessions_last,
        _wills_are_published,
    ):
        rule(_Room(make(), within_s))


class _Room:
    """A bus under test, and what its clients have heard."""

    def __init__(self, bus: Bus, within_s: float) -> None:
        self.bus = bus
        self.within_s = within_s
        self.speaker = bus.connect("check-speaker")
        self._settled = 0

    def ear(self, client_id: str, *filters: str, qos: int = 2, **options: Any) -> _Ear:
        ear = _Ear(self, client_id, **options)
        for topic_filter in filters:
            ear.connection.subscribe(topic_filter, qos=qos)
        return ear

    def expect(self, ear: _Ear, told: list[tuple[str, bytes, int, bool]]) -> None:
        """Compares what an ear was told, after all that was said has come."""
        self._settled += 1
        last = f"check-settle/{self._settled}"
        ear.connection.subscribe(last, qos=1)
        self.speaker.publish(last, b"", qos=1)
        self.wait(lambda: any(m.topic == last for m in ear.heard), f"{last} at QoS 1")
        ear.connection.unsubscribe(last)
        got = [
            (m.topic, m.payload, m.qos, m.retain)
            for m in ear.heard
            if not m.topic.startswith("check-settle/")
        ]
        assert got == told, f"{ear.connection.client_id} heard {got}, not {told}"

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        give_up = time.monotonic() + self.within_s
        pause = threading.Event()
        while not condition():
            assert time.monotonic() < give_up, f"{what} did not come"
            pause.wait(0.002)


class _Ear:
    """A client that keeps what it hears."""

    def __init__(self, room: _Room, client_id: str, **options: Any) -> None:
        self.heard: list[Message] = []
        self.connection = room.bus.connect(client_id, self.heard.append, **options)


def _filters_choose(room: _Room) -> None:
    topics = ["a", "a/b", "a/b/c", "b", "/b", "$a/b"]
    for topic_filter, covered in {
        "#": ["a", "a/b", "a/b/c", "b", "/b"],
        "a/#": ["a", "a/b", "a/b/c"],
        "+/b": ["a/b", "/b"],
        "+": ["a", "b"],
        "$a/+": ["$a/b"],
    }.items():
        ear = room.ear(f"check {topic_filter}", topic_filter, qos=0)
        for topic in topics:
            room.speaker.publish(topic, topic.encode())
        room.expect(ear, [(topic, topic.encode(), 0, False) for topic in covered])
        ear.connection.disconnect()


def _qos_and_order_are_kept(room: _Room) -> None:
    ears = [room.ear(f"check-qos-{qos}", "a/+", qos=qos) for qos in (0, 1, 2)]
    for qos in (0, 1, 2):
        for number in range(20):
            room.speaker.publish(f"a/{number % 3}", b"%d" % number, qos=qos)
        for ear, granted in zip(ears, (0, 1, 2), strict=True):
            told = [
                (f"a/{n % 3}", b"%d" % n, min(qos, granted), False) for n in range(20)
            ]
            room.expect(ear, told)
            ear.heard.clear()


def _retained_messages_stay(room: _Room) -> None:
    early = room.ear("check-early", "a")
    room.speaker.publish("a", b"1", qos=1, retain=True)
    room.speaker.publish("a", b"2", qos=1, retain=True)
    room.expect(early, [("a", b"1", 1, False), ("a", b"2", 1, False)])
    late = room.ear("check-late", "a")
    room.expect(late, [("a", b"2", 1, True)])
    room.speaker.publish("a", b"", retain=True)
    room.expect(late, [("a", b"2", 1, True), ("a", b"", 0, False)])
    room.expect(room.ear("check-later", "a"), [])


def _overlapping_subscriptions_deliver_once(room: _Room) -> None:
    ear = room.ear("check-overlap", "a/#", "a/+", "a/b", qos=1)
    room.speaker.publish("a/b", b"1", qos=1)
    ear.connection.unsubscribe("a/#")
    room.speaker.publish("a/b", b"2")
    room.expect(ear, [("a/b", b"1", 1, False), ("a/b", b"2", 0, False)])


def _sessions_last(room: _Room) -> None:
    room.ear("check-away", "a", qos=1, clean=False).connection.disconnect()
    room.speaker.publish("a", b"missed", qos=1)
    room.speaker.publish("a", b"not kept")
    room.expect(room.ear("check-witness"), [])  # all of it has been taken
    back = room.ear("check-away", clean=False)
    room.wait(lambda: bool(back.heard), "what was said at QoS 1 to a client away")
    assert back.heard[0].payload == b"missed"
    back.connection.disconnect()
    room.ear("check-away").connection.disconnect()
    clean = room.ear("check-away", clean=False)
    room.speaker.publish("a", b"nobody", qos=1)
    room.expect(clean, [])


def _wills_are_published(room: _Room) -> None:
    ear = room.ear("check-heir", "state", qos=1)
    will = Will(topic="state", payload=b"gone", qos=1)
    room.bus.connect("check-polite", will=will).disconnect()
    room.expect(ear, [])
    rude = room.bus.connect("check-rude", will=will)
    abort = getattr(rude, "abort", None)
    if abort is not None:
        abort()
        room.wait(
            lambda: any(m.topic == "state" for m in ear.heard),
            "the will of a client that was cut off",
        )
        room.expect(ear, [("state", b"gone", 1, False)])


class LockstepClient:
    """A program outside the run that keeps its time; see docs/clock-protocol.md.

    ::

        def act(now, messages, client):
            for message in messages:
                client.publish("lab/valve", b"1")

        LockstepClient(url, "my-control", act, filters=["lab/#"]).run()

    Args:
        url: The broker of the run.
        client_id: As the scenario names it.
        act: Called at each instant with the time in seconds since the start,
            the messages since the last call and this client; what it returns is
            the time at which it wants to be called again even if nothing else
            happens, or None.
        filters: What it listens to.
        password: For the user in the URL.
    """

    def __init__(
        self,
        url: str,
        client_id: str,
        act: Callable[[float, list[Message], LockstepClient], float | None],
        *,
        filters: Sequence[str] = (),
        password: str | None = None,
    ) -> None:
        self.client_id = client_id
        self._act = act
        self._heard: list[Message] = []
        self._forgetting = False
        self._inbox: queue.Queue[Message] = queue.Queue()
        bus = MqttBus(url, password=password)
        self._connection: MqttConnection | Dialogue
        if bus.url.is_websocket:
            self._connection = bus.connect(client_id, self._inbox.put)
        else:
            self._connection = bus.converse(client_id, self._inbox.put)
        for topic_filter in (TICK_TOPIC, *filters):
            self._connection.subscribe(topic_filter)

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False
    ) -> None:
        """Says something at this instant."""
        self._connection.publish(topic, payload, qos=qos, retain=retain)

    def run(self, *, patience_s: float = 60.0) -> None:
        """Takes part until the run is over.

        Args:
            patience_s: Wall seconds without a message after which it gives up.

        Raises:
            ConnectionFailed: Nothing was heard for that long.
        """
        try:
            while True:
                try:
                    message = self._next_message(patience_s)
                except queue.Empty:
                    raise ConnectionFailed(
                        f"Client {self.client_id!r} heard no tick on {TICK_TOPIC} for "
                        f"{patience_s:g} s.",
                        "start the run, and name this client in it",
                    ) from None
                if message.topic != TICK_TOPIC:
                    if not self._forgetting:
                        self._heard.append(message)
                elif not self._take_turn(json.loads(message.payload)):
                    return
        finally:
            self._connection.disconnect()

    def _next_message(self, patience_s: float) -> Message:
        connection = self._connection
        if isinstance(connection, Dialogue):
            while self._inbox.empty():
                if not connection.receive(patience_s):
                    break
            patience_s = 0.0
        return self._inbox.get(timeout=patience_s)

    def _take_turn(self, tick: dict[str, Any]) -> bool:
        if tick.get("end"):
            return False
        self._forgetting = tick.get("forget", False)
        if tick.get("client") == self.client_id:
            answer: dict[str, Any] = {"tick": tick["tick"]}
            if tick["tick"]:
                heard, self._heard = self._heard, []
                wake_up = self._act(tick["now"], heard, self)
                if wake_up is not None:
                    answer["next"] = wake_up
            self._connection.publish(
                ACK_TOPIC + self.client_id, json.dumps(answer).encode()
            )
        return True


def check_controller(
    make: Callable[[], Controller | Process],
    signals: Signals,
    *,
    steps: int = 300,
    seed: int = 0,
) -> None:
    """Checks that a controller keeps the rules.

    Deterministic for a seed, no wall clock, only declared commands, numbers that
    are finite, measurements left alone, picklable in mid-run. One that goes its own
    course (`playground.controllers.process.Process`) runs against measurements that
    come every second, and need not be picklable.

    Args:
        make: Makes a new controller.
        signals: What it may measure and command.
        steps: Number of decisions, or seconds of a course.
        seed: Of the random measurements, and handed to the controller.

    Raises:
        AssertionError: A rule is broken.
    """
    controller = make()
    for name in (*controller.measures, *controller.commands):
        assert name in signals, f"there is no signal {name!r}"
    for name in controller.commands:
        role = signals[name].role
        assert role == "command", f"{name} is a {role}, not a command"
    if isinstance(controller, Process):
        _check_process(make, controller, signals, steps, seed)
        return
    assert controller.period_s > 0, f"period_s is {controller.period_s}"
    generator = random.Random(seed)
    values = [
        MappingProxyType(
            {name: _draw(generator, signals[name]) for name in controller.measures}
        )
        for _ in range(steps)
    ]

    def decide(subject: Controller, begin: int) -> list[dict[str, float]]:
        return [
            dict(subject.step(number * subject.period_s, values[number]))
            for number in range(begin, steps)
        ]

    with _no_wall_clock():
        controller.reset(seed=seed)
        first = decide(controller, 0)
    for number, commands in enumerate(first):
        declared = controller.commands or tuple(signals)
        unknown = set(commands) - set(declared)
        assert not unknown, f"step {number}: commands not declared: {sorted(unknown)}"
        for name, value in commands.items():
            assert math.isfinite(value), f"step {number}: {name} is {value}"
    controller.reset(seed=seed)
    assert decide(controller, 0) == first, "after a reset it decides otherwise"
    other = make()
    assert not isinstance(other, Process)
    other.reset(seed=seed)
    for number in range(steps // 2):
        other.step(number * other.period_s, values[number])
    copy = pickle.loads(pickle.dumps(other))
    rest = decide(copy, steps // 2)
    assert rest == first[steps // 2 :], "a copy made with pickle decides otherwise"


def _check_process(
    make: Callable[[], Controller | Process],
    controller: Process,
    signals: Signals,
    steps: int,
    seed: int,
) -> None:
    first = _course(controller, signals, steps, seed)
    for time_s, name, value in first:
        assert math.isfinite(value), f"at {time_s:g} s: {name} is {value}"
    again = _course(controller, signals, steps, seed)
    assert again == first, "after a reset it decides otherwise"
    other = make()
    assert isinstance(other, Process)
    again = _course(other, signals, steps, seed)
    assert again == first, "a new one of the same seed decides otherwise"


def _course(
    controller: Process, signals: Signals, steps: int, seed: int
) -> list[tuple[float, str, float]]:
    """Returns the commands that a process gives: when, which, what."""
    clock = VirtualClock()
    bus = LocalBus(clock)
    generator = random.Random(seed)
    given: list[tuple[float, str, float]] = []

    def heard(message: Message) -> None:
        if message.client == "controller":
            given.extend(
                (clock.now, name, value)
                for name, value in signals.decode(message.topic, message.payload)
                if signals[name].role == "command"
            )

    bus.observe(heard)
    plant = bus.connect("plant")

    def say() -> None:
        for name in controller.measures:
            signal = signals[name]
            plant.publish(signal.topic, signal.encode(_draw(generator, signal)))

    with _no_wall_clock():
        ProcessLoop(controller, signals, bus, clock, seed=seed)
        clock.every(1.0, say, phase=Phase.PUBLICATION)
        clock.run(until=steps)
    return given


def random_inputs(signals: Signals, steps: int, seed: int) -> list[Mapping[str, float]]:
    """Returns admissible inputs that jump now and then, one mapping per step.

    Args:
        signals: Commands and disturbances are drawn from their range; without
            one, around their initial value.
        steps: How many.
        seed: Equal seeds give equal inputs.
    """
    generator = random.Random(seed)
    subject = signals.with_role("command", "disturbance")
    held = {
        s.name: s.initial if s.initial is not None else _draw(generator, s)
        for s in subject
    }
    inputs = []
    for _ in range(steps):
        for signal in subject:
            if generator.random() < 0.05:
                held[signal.name] = _draw(generator, signal)
        # A part that writes into what it is given fails at once.
        inputs.append(MappingProxyType(dict(held)))
    return list(inputs)


def _draw(generator: random.Random, signal: Signal) -> float:
    middle = signal.initial or 0.0
    low, high = signal.range or (middle - 10.0, middle + 10.0)
    return generator.uniform(low, high)


@contextlib.contextmanager
def _no_wall_clock() -> Iterator[None]:
    def refuse(*_: Any) -> NoReturn:
        raise AssertionError(
            "the part reads or waits for the wall clock; its time is the argument 'now'"
        )

    with contextlib.ExitStack() as stack:
        for name in ("time", "time_ns", "monotonic", "monotonic_ns", "sleep"):
            stack.enter_context(mock.patch.object(time, name, refuse))
        yield
