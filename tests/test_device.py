"""The two adapters that put a plant and a controller on a bus."""

import logging

import pytest

from playground.bus import LocalBus
from playground.clock import VirtualClock
from playground.controllers.loop import ControlLoop
from playground.errors import PlaygroundError
from playground.plants import Plant, plant_class
from playground.plants.device import Device
from playground.signals import Publication, Signal, Signals

SIGNALS = Signals(
    [
        Signal(
            name="heat",
            topic="heat/write",
            unit="1",
            role="command",
            range=(0, 1),
            initial=0.5,
        ),
        Signal(
            name="ambient",
            topic="weather",
            path="t",
            unit="degC",
            role="disturbance",
        ),
        Signal(name="temp", topic="temp", unit="degC", role="measurement"),
        Signal(name="power", topic="meter", path="P", unit="W", role="measurement"),
    ],
    [
        Publication(
            topic="meter",
            signals=("power",),
            period_s=3,
            offset_s=0.5,
            retain=True,
            qos=1,
            timestamp="ts",
        )
    ],
)


class Tank:
    """Warms by its command each second."""

    signals = SIGNALS
    period_s = 1.0

    def reset(self, *, seed=0):
        self.temp = 20.0 + seed
        self.steps = []
        return self.say({"heat": 0, "ambient": 0})

    def step(self, now, inputs):
        self.steps.append((now, dict(inputs)))
        self.temp += inputs["heat"]
        return self.say(inputs)

    def snapshot(self):
        return self.temp

    def restore(self, snapshot):
        self.temp = snapshot

    def say(self, inputs):
        return {"temp": self.temp, "power": 1000 * inputs["heat"]}


class Thermostat:
    measures = ("temp",)
    commands = ("heat",)
    period_s = 2.0

    def __init__(self, decide):
        self.decide = decide

    def reset(self, *, seed=0):
        self.seen = []

    def step(self, now, values):
        self.seen.append((now, values["temp"]))
        return self.decide(now)


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def bus(clock):
    return LocalBus(clock)


@pytest.fixture
def log(bus, clock):
    log = []
    bus.observe(
        lambda m: (
            log.append(((m.time_ns - clock.start_ns) / 1e9, m.topic, m.payload))
            if m.kind == "publish"
            else None
        )
    )
    return log


def test_a_tank_is_a_plant():
    assert isinstance(Tank(), Plant)


def test_a_device_says_what_the_plant_measures_when_its_signals_say_so(bus, clock, log):
    Device(Tank(), bus, clock)
    clock.run(until=4)
    assert log == [
        (0, "temp", b"20.0"),
        (0.5, "meter", b'{"ts":1767225600.5,"P":0.0}'),
        (1, "temp", b"20.5"),
        (2, "temp", b"21.0"),
        (3, "temp", b"21.5"),
        (3.5, "meter", b'{"ts":1767225603.5,"P":500.0}'),
    ]


def test_the_first_step_of_a_plant_ends_after_one_period(bus, clock):
    tank = Tank()
    Device(tank, bus, clock)
    clock.run(until=2.5)
    assert [now for now, _ in tank.steps] == [1, 2]


def test_retain_and_qos_of_a_publication_are_as_declared(bus, clock):
    seen = []
    bus.observe(seen.append)
    Device(Tank(), bus, clock)
    clock.run(until=1)
    flags = {m.topic: (m.qos, m.retain, m.client) for m in seen if m.kind == "publish"}
    assert flags == {"temp": (0, False, "plant"), "meter": (1, True, "plant")}


def test_a_command_is_clamped_and_holds_from_the_next_step_on(bus, clock):
    tank = Tank()
    device = Device(tank, bus, clock)
    hand = bus.connect("hand")
    clock.at(1.5).callbacks.append(lambda _: hand.publish("heat/write", b"7"))
    clock.run(until=3)
    assert [inputs["heat"] for _, inputs in tank.steps] == [0.5, 1.0]
    assert device.inputs == {"heat": 1.0, "ambient": 0.0}


def test_a_command_that_is_no_number_changes_nothing_and_is_told(bus, clock, caplog):
    device = Device(Tank(), bus, clock)
    hand = bus.connect("hand")
    with caplog.at_level(logging.WARNING):
        hand.publish("heat/write", b"warm")
        hand.publish("heat/write", b"\xff")
    assert device.inputs["heat"] == 0.5
    assert "heat/write: ignored b'warm', which is not a number" in caplog.text


def test_a_disturbance_is_read_from_its_json(bus, clock):
    device = Device(Tank(), bus, clock)
    bus.connect("sky").publish("weather", b'{"t": -3.5, "wind": 2}')
    assert device.inputs["ambient"] == -3.5


def test_a_retained_command_from_before_the_start_is_known_at_once(bus, clock):
    bus.connect("hand").publish("heat/write", b"0.25", retain=True)
    assert Device(Tank(), bus, clock).inputs["heat"] == 0.25


def test_the_seed_reaches_the_plant(bus, clock):
    assert Device(Tank(), bus, clock, seed=3).outputs["temp"] == 23


def test_a_controller_sees_the_measurement_of_the_same_instant(bus, clock):
    controller = Thermostat(lambda now: {})
    ControlLoop(controller, SIGNALS, bus, clock)
    Device(Tank(), bus, clock)
    clock.run(until=5)
    assert controller.seen == [(0, 20), (2, 21), (4, 22)]


def test_a_controller_is_not_asked_before_it_knows_what_it_needs(bus, clock):
    controller = Thermostat(lambda now: {"heat": 1})
    ControlLoop(controller, SIGNALS, bus, clock)
    sensor = bus.connect("sensor")
    clock.at(1).callbacks.append(lambda _: sensor.publish("temp", b"nan"))
    clock.at(3).callbacks.append(lambda _: sensor.publish("temp", b"5"))
    clock.run(until=7)
    assert controller.seen == [(4, 5), (6, 5)]


def test_a_command_is_published_when_it_changes_and_within_its_range(bus, clock, log):
    given = {0: 0.2, 2: 0.2, 4: 9, 6: 0.2}
    ControlLoop(Thermostat(lambda now: {"heat": given[now]}), SIGNALS, bus, clock)
    bus.connect("sensor").publish("temp", b"20", retain=True)
    ControlLoop(Thermostat(lambda now: {}), SIGNALS, bus, clock, client_id="second")
    bus.connect("sensor").publish("temp", b"20")
    clock.run(until=8)
    said = [entry for entry in log if entry[1] == "heat/write"]
    assert said == [
        (0, "heat/write", b"0.2"),
        (4, "heat/write", b"1.0"),
        (6, "heat/write", b"0.2"),
    ]


def test_a_controller_that_names_an_unknown_signal_is_refused(bus, clock):
    controller = Thermostat(lambda now: {})
    controller.measures = ("tmep",)
    with pytest.raises(PlaygroundError, match="Did you mean 'temp'"):
        ControlLoop(controller, SIGNALS, bus, clock)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("lab_rg", r"no plant 'lab_rg'. Did you mean 'lab_rig'"),
        ("no_such_module:Tank", "cannot be imported"),
        ("json:JSONDecodr", r"has no 'JSONDecodr'. Did you mean 'JSONDecoder'"),
    ],
)
def test_a_plant_that_does_not_exist_is_refused(name, problem):
    with pytest.raises(PlaygroundError, match=problem):
        plant_class(name)


def test_a_plant_of_ones_own_is_named_by_module_and_class():
    import json

    assert plant_class("json:JSONDecoder") is json.JSONDecoder
