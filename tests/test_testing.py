"""The conformance suites pass a good part and name what is wrong with a bad one."""

import contextlib
import math
import random
import time

import pytest

from playground.broker import EmbeddedBroker
from playground.bus import LocalBus
from playground.clock import VirtualClock
from playground.mqtt import MqttBus
from playground.signals import Signal, Signals
from playground.testing import (
    check_bus,
    check_controller,
    check_plant,
    random_inputs,
)

SIGNALS = Signals(
    [
        Signal(name="heat", topic="h", unit="1", role="command", range=(0, 1)),
        Signal(name="temp", topic="t", unit="degC", role="measurement"),
    ]
)


class Good:
    signals = SIGNALS
    period_s = 2.0

    def reset(self, *, seed=0):
        self.random = random.Random(seed)
        self.temp = 20.0
        return {"temp": self.temp}

    def step(self, now, inputs):
        self.temp += inputs["heat"] + self.random.gauss(0, 0.1)
        return {"temp": self.temp}

    def snapshot(self):
        return self.temp, self.random.getstate()

    def restore(self, snapshot):
        self.temp = snapshot[0]
        self.random.setstate(snapshot[1])


class Forgetful(Good):
    def restore(self, snapshot):
        self.temp = snapshot[0]


class Unseeded(Good):
    def reset(self, *, seed=0):
        super().reset(seed=seed)
        self.random = random.Random()
        return {"temp": 20.0}


class Clockwork(Good):
    def step(self, now, inputs):
        time.monotonic()
        return super().step(now, inputs)


class Writer(Good):
    def step(self, now, inputs):
        inputs["heat"] = 0
        return super().step(now, inputs)


class Talker(Good):
    def step(self, now, inputs):
        return {**super().step(now, inputs), "extra": 1.0}


class Silent(Good):
    def step(self, now, inputs):
        return {}


class Lost(Good):
    def step(self, now, inputs):
        return {"temp": math.nan if now > 10 else 1.0}


class Unpicklable(Good):
    def reset(self, *, seed=0):
        self.handler = lambda: None
        return super().reset(seed=seed)


def test_a_plant_that_keeps_the_rules_passes():
    check_plant(Good)


@pytest.mark.parametrize(
    ("plant", "complaint"),
    [
        (Forgetful, "after it was restored from a snapshot, step 0 differs: temp is"),
        (Unseeded, "after another reset with the same seed, step 1 differs"),
        (Clockwork, "reads or waits for the wall clock"),
        (Talker, r"step 1: not declared: \['extra'\]"),
        (Silent, r"missing: \['temp'\]"),
        (Lost, "step 6: temp is nan"),
    ],
)
def test_a_plant_that_breaks_a_rule_is_told_which(plant, complaint):
    with pytest.raises(AssertionError, match=complaint):
        check_plant(plant)


def test_a_plant_that_writes_into_its_inputs_fails():
    with pytest.raises(TypeError, match="item assignment"):
        check_plant(Writer)


def test_a_plant_that_cannot_be_pickled_fails():
    with pytest.raises((AttributeError, TypeError), match=r"pickle|lambda"):
        check_plant(Unpicklable)


def test_something_else_is_no_plant():
    with pytest.raises(AssertionError, match="lacks a member of Plant"):
        check_plant(lambda: object())


class Thermostat:
    measures = ("temp",)
    commands = ("heat",)
    period_s = 1.0

    def reset(self, *, seed=0):
        self.on = False

    def step(self, now, values):
        self.on = values["temp"] < (1 if self.on else -1)
        return {"heat": float(self.on)}


class Stubborn(Thermostat):
    def reset(self, *, seed=0):
        self.on = getattr(self, "on", False)
        self.count = getattr(self, "count", 0)

    def step(self, now, values):
        self.count += 1
        return {"heat": float(self.count)}


class Meddler(Thermostat):
    def step(self, now, values):
        return {"temp": 1.0}


class Late(Thermostat):
    def step(self, now, values):
        time.sleep(0)
        return super().step(now, values)


class Forgets(Thermostat):
    def __getstate__(self):
        return {}

    def __setstate__(self, state):
        self.on = None

    def step(self, now, values):
        assert self.on is not None, "it has lost its state"
        return super().step(now, values)


class Endless(Thermostat):
    def step(self, now, values):
        return {"heat": math.inf}


class Outsider(Thermostat):
    commands = ("temp",)


def test_a_controller_that_keeps_the_rules_passes():
    check_controller(Thermostat, SIGNALS)


@pytest.mark.parametrize(
    ("controller", "complaint"),
    [
        (Stubborn, "after a reset it decides otherwise"),
        (Meddler, r"commands not declared: \['temp'\]"),
        (Late, "reads or waits for the wall clock"),
        (Forgets, "it has lost its state"),
        (Endless, "step 0: heat is inf"),
        (Outsider, "temp is a measurement, not a command"),
    ],
)
def test_a_controller_that_breaks_a_rule_is_told_which(controller, complaint):
    with pytest.raises(AssertionError, match=complaint):
        check_controller(controller, SIGNALS)


def test_random_inputs_stay_in_range_and_are_the_same_for_a_seed():
    inputs = random_inputs(SIGNALS, 200, 3)
    assert inputs == random_inputs(SIGNALS, 200, 3)
    assert all(0 <= step["heat"] <= 1 for step in inputs)
    assert len({step["heat"] for step in inputs}) > 3


def test_the_local_bus_passes():
    check_bus(lambda: LocalBus(VirtualClock()))


@pytest.mark.slow
@pytest.mark.broker
def test_a_bus_over_a_broker_passes():
    brokers = contextlib.ExitStack()
    with brokers:
        check_bus(lambda: MqttBus(brokers.enter_context(EmbeddedBroker()).url))


class KeepsNothing(LocalBus):
    def _keep(self, message):
        pass


class Loud(LocalBus):
    def add_subscription(self, connection, topic_filter, qos):
        super().add_subscription(connection, topic_filter, 2)


class Cheerful(LocalBus):
    def connect(self, client_id, on_message=None, *, will=None, clean=True):
        return super().connect(client_id, on_message, will=None, clean=clean)


class Shortlived(LocalBus):
    def connect(self, client_id, on_message=None, *, will=None, clean=True):
        return super().connect(client_id, on_message, will=will, clean=True)


@pytest.mark.parametrize(
    ("bus", "complaint"),
    [
        (KeepsNothing, "check-late heard "),
        (Loud, "check-qos-0 heard "),
        (Cheerful, "the will of a client that was cut off did not come"),
        (Shortlived, "what was said at QoS 1 to a client away did not come"),
    ],
)
def test_a_bus_that_breaks_a_rule_is_told_which(bus, complaint):
    with pytest.raises(AssertionError, match=complaint):
        check_bus(lambda: bus(VirtualClock()), within_s=0.05)
