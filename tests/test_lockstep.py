import json
from pathlib import Path

import pytest

from playground.bus import LocalBus, Will
from playground.clock import Phase, VirtualClock, WallClock
from playground.errors import ExitCode
from playground.host import Hosted
from playground.lockstep import ClientSilent, LockstepBus, LockstepClock


class Program:
    """A cooperating client as the clock protocol describes it, on any broker."""

    def __init__(self, broker, name, act, *, wake_up=None, deaf_after=None):
        self.name, self.act, self.wake_up, self.deaf_after = (
            name,
            act,
            wake_up,
            deaf_after,
        )
        self.heard, self.ticks, self.ended = [], [], False
        self.connection = broker.connect(name, self.on_message)
        self.connection.subscribe("playground/clock")
        self.connection.subscribe("lab/#")

    def on_message(self, message):
        if message.topic != "playground/clock":
            self.heard.append((message.topic, message.payload))
            return
        tick = json.loads(message.payload)
        self.ended = self.ended or "end" in tick
        if tick.get("client") != self.name:
            return
        if self.deaf_after is not None and tick["tick"] > self.deaf_after:
            return
        if tick["tick"]:
            self.ticks.append(tick["now"])
            heard, self.heard = self.heard, []
            self.act(self.connection, tick, heard)
        answer = {"tick": tick["tick"]}
        if self.wake_up:
            answer["next"] = self.wake_up(tick)
        self.connection.publish(
            f"playground/clock/ack/{self.name}", json.dumps(answer).encode()
        )


def plant_and_controller(bus, clock):
    """A plant that speaks each second, a controller that answers at once."""

    def control(message):
        if message.topic == "lab/temp":
            controller.publish("lab/valve", b"open %s" % message.payload, qos=1)

    controller = bus.connect("controller", control)
    controller.subscribe("lab/#", qos=1)
    plant = bus.connect("plant")

    def say():
        plant.publish("lab/temp", b"%d" % clock.now, retain=True)
        plant.publish("lab/flow", b"1")

    clock.every(1, say, phase=Phase.PUBLICATION)


def log_of(bus):
    log = []
    bus.observe(lambda m: log.append(m) if m.kind in ("publish", "will") else None)
    return log


def local_log(build, until):
    clock = VirtualClock()
    bus = LocalBus(clock)
    log = log_of(bus)
    build(bus, clock)
    clock.run(until=until)
    return log


def test_a_lockstep_run_has_the_log_of_a_local_run():
    clock = LockstepClock()
    bus = LockstepBus(LocalBus(WallClock()), clock)
    log = log_of(bus)
    plant_and_controller(bus, clock)
    clock.run(until=20)
    assert log == local_log(plant_and_controller, 20)
    assert len(log) == 60


def test_a_client_gets_a_tick_after_each_instant_with_all_that_was_said_in_it():
    broker, clock = LocalBus(WallClock()), LockstepClock()
    seen = []
    program = Program(
        broker, "ctl", lambda c, tick, heard: seen.append((tick["now"], len(heard)))
    )
    bus = LockstepBus(broker, clock, clients=["ctl"])
    plant_and_controller(bus, clock)
    clock.run(until=3)
    assert seen == [(0, 3), (1, 3), (2, 3)]
    bus.close()
    assert program.ended


def test_what_a_client_says_has_the_time_of_its_tick_and_is_heard_at_that_instant():
    broker, clock = LocalBus(WallClock()), LockstepClock()

    def act(connection, tick, heard):
        for topic, payload in heard:
            if topic == "lab/temp":
                connection.publish("lab/set", payload, qos=1)

    Program(broker, "ctl", act)
    bus = LockstepBus(broker, clock, clients=["ctl"])
    log, heard = log_of(bus), []
    listener = bus.connect("listener", lambda m: heard.append((clock.now, m.payload)))
    listener.subscribe("lab/set")
    plant_and_controller(bus, clock)
    clock.run(until=3)
    said = [(m.time_ns - clock.start_ns, m.client) for m in log if m.topic == "lab/set"]
    assert said == [(0, "ctl"), (10**9, "ctl"), (2 * 10**9, "ctl")]
    assert heard == [(0, b"0"), (1, b"1"), (2, b"2")]


def test_an_answer_to_an_answer_falls_into_the_same_instant():
    broker, clock = LocalBus(WallClock()), LockstepClock()

    def act(connection, tick, heard):
        if ("lab/question", b"") in heard:
            connection.publish("lab/answer", b"")

    Program(broker, "ctl", act)
    bus = LockstepBus(broker, clock, clients=["ctl"])
    log = log_of(bus)

    def reply(message):
        inside.publish("lab/thanks", b"")

    inside = bus.connect("inside", reply)
    inside.subscribe("lab/answer")
    clock.at(1).callbacks.append(lambda _: inside.publish("lab/question", b""))
    clock.run(until=5)
    assert [(m.topic, m.time_ns - clock.start_ns) for m in log] == [
        ("lab/question", 10**9),
        ("lab/answer", 10**9),
        ("lab/thanks", 10**9),
    ]


def test_a_client_is_woken_when_it_asked_to_be():
    broker, clock = LocalBus(WallClock()), LockstepClock()
    program = Program(
        broker, "ctl", lambda *_: None, wake_up=lambda tick: tick.get("now", 0) + 2.5
    )
    bus = LockstepBus(broker, clock, clients=["ctl"])
    clock.at(0).callbacks.append(lambda _: None)
    clock.run(until=10)
    assert program.ticks == [0, 2.5, 5, 7.5]
    assert bus.ticks == 4


def test_several_clients_are_asked_in_the_order_in_which_they_were_named():
    broker, clock = LocalBus(WallClock()), LockstepClock()
    for name in ("b", "a"):
        Program(
            broker,
            name,
            lambda connection, tick, heard: (
                connection.publish("lab/x", connection.client_id.encode())
                if tick["now"] == 1 and tick["tick"] <= 4
                else None
            ),
        )
    bus = LockstepBus(broker, clock, clients=["a", "b"])
    log = log_of(bus)
    for instant in (0, 1):
        clock.at(instant).callbacks.append(lambda _: None)
    clock.run(until=2)
    assert [(m.payload, m.client) for m in log] == [(b"a", "a"), (b"b", "b")]


def test_a_client_that_does_not_answer_is_named():
    broker, clock = LocalBus(WallClock()), LockstepClock()
    Program(broker, "ctl", lambda *_: None, deaf_after=2)
    bus = LockstepBus(broker, clock, clients=["ctl"], deadline_s=0.05)
    plant_and_controller(bus, clock)
    with pytest.raises(ClientSilent, match="At 2 s of the run client 'ctl'") as error:
        clock.run(until=5)
    assert error.value.exit_code == ExitCode.UNDECIDED


def test_a_client_that_never_appears_is_named():
    clock = LockstepClock()
    bus = LockstepBus(LocalBus(WallClock()), clock, clients=["ctl"], deadline_s=0.1)
    plant_and_controller(bus, clock)
    with pytest.raises(ClientSilent, match="'ctl' did not appear"):
        clock.run(until=5)


def test_retained_messages_of_the_broker_are_state_and_not_part_of_the_run():
    broker, clock = LocalBus(WallClock()), LockstepClock()
    broker.connect("earlier").publish("lab/mode", b"heat", retain=True)
    bus = LockstepBus(broker, clock)
    log, heard = log_of(bus), []
    bus.connect("late", lambda m: heard.append((m.topic, m.retain))).subscribe("#")
    clock.at(1).callbacks.append(lambda _: None)
    clock.run(until=2)
    assert heard == [("lab/mode", True)]
    assert log == []


def test_a_part_that_crashes_leaves_its_will():
    def build(bus, clock):
        rig = bus.connect("rig", will=Will(topic="lab/state", payload=b"gone", qos=1))
        clock.at(3).callbacks.append(lambda _: rig.abort())

    clock = LockstepClock()
    bus = LockstepBus(LocalBus(WallClock()), clock)
    log = log_of(bus)
    build(bus, clock)
    clock.run(until=5)
    assert log == local_log(build, 5)
    assert [(m.kind, m.payload) for m in log] == [("will", b"gone")]


def test_an_answer_that_is_none_is_ignored_and_the_client_named(caplog):
    broker, clock = LocalBus(WallClock()), LockstepClock()
    odd = broker.connect("odd", lambda m: odd.publish("playground/clock/ack/odd", b"?"))
    odd.subscribe("playground/clock")
    bus = LockstepBus(broker, clock, clients=["odd"], deadline_s=0.1)
    plant_and_controller(bus, clock)
    with pytest.raises(ClientSilent, match="'odd'"):
        clock.run(until=5)
    assert "client 'odd' answered b'?'" in caplog.text


def test_what_was_retained_in_this_instant_is_told_as_retained():
    def build(bus, clock):
        said = bus.connect(
            "said", lambda m: said.publish("lab/heard", b"%d" % m.retain)
        )
        said.publish("lab/mode", b"heat", retain=True)
        said.subscribe("lab/mode")

    clock = LockstepClock()
    bus = LockstepBus(LocalBus(WallClock()), clock)
    log = log_of(bus)
    build(bus, clock)
    clock.at(0).callbacks.append(lambda _: None)
    clock.run(until=1)
    assert log == local_log(build, 1)
    assert log[-1].payload == b"1"


def test_topics_that_begin_with_a_dollar_are_the_same_as_on_a_local_bus():
    heard = []

    def build(bus, clock):
        listener = bus.connect("listener", lambda m: heard.append((clock.now, m.topic)))
        listener.subscribe("$lab/#")
        listener.subscribe("#")
        said = bus.connect("said")

        def say():
            for topic in ("$lab/x", "$other/x", "lab/x", "$SYS/x"):
                said.publish(topic, b"1", qos=1)

        clock.every(1, say)

    clock = LockstepClock()
    bus = LockstepBus(LocalBus(WallClock()), clock, deadline_s=1)
    log = log_of(bus)
    build(bus, clock)
    clock.run(until=3)
    there = [*heard]
    heard.clear()
    assert log == local_log(build, 3)
    assert there == heard != []


def test_a_broker_that_forgets_has_really_forgotten():
    broker, clock = LocalBus(WallClock()), LockstepClock()
    broker.connect("earlier").publish("lab/mode", b"heat", retain=True)
    heard = []
    outside = Program(broker, "ctl", lambda c, tick, new: heard.extend(new))
    bus = LockstepBus(broker, clock, clients=["ctl"])
    log = log_of(bus)
    plant_and_controller(bus, clock)
    clock.at(1.5).callbacks.append(lambda _: bus.forget_retained())
    late = []

    def come_late(_):
        bus.connect("late", late.append).subscribe("#")
        broker.connect("late outside", late.append).subscribe("lab/#")

    clock.at(1.7).callbacks.append(come_late)
    clock.run(until=1.8)
    assert outside.ticks[-1] == 1.7
    assert broker.retained == {}
    assert late == []
    # Nobody said that, so nobody hears it; a subscriber would have seen it go.
    assert [m for m in log if not m.payload] == []
    ignored = [payload for _, payload in heard if not payload]
    assert len(ignored) == 2
    bus.close()


def test_a_run_leaves_the_broker_as_it_found_it():
    broker = LocalBus(WallClock())
    broker.connect("earlier").publish("lab/mode", b"heat", qos=1, retain=True)
    logs = []
    for _ in range(2):
        clock = LockstepClock()
        bus = LockstepBus(broker, clock)
        logs.append(log_of(bus))
        before = dict(broker.retained)
        echo = bus.connect("echo")
        rig = bus.connect("rig", lambda m, e=echo: e.publish("lab/heard", m.payload))
        rig.subscribe("lab/temp")
        rig.subscribe("lab/mode")
        rig.publish("lab/temp", b"1", retain=True)
        rig.publish("lab/mode", b"cool", retain=True)
        clock.at(0).callbacks.append(lambda _: None)
        clock.run(until=1)
        assert set(broker.retained) == {"lab/mode", "lab/temp"}
        bus.close()
        assert [(m.topic, m.payload, m.qos) for m in broker.retained.values()] == [
            (m.topic, m.payload, m.qos) for m in before.values()
        ]
    assert logs[0] == logs[1] != []


@pytest.mark.slow
def test_a_hosted_program_takes_part_as_on_the_local_bus():
    programs = Path(__file__).parent / "programs"

    def build(bus, clock):
        plant = bus.connect("plant")
        clock.every(
            5,
            lambda: plant.publish("room/temperature", b'{"value": 20.1}', qos=1),
            phase=Phase.PUBLICATION,
        )
        return [
            Hosted(["thermostat.py", "20.2"], bus, clock, cwd=programs, seed=1),
            Hosted(["dice.py"], bus, clock, cwd=programs, seed=1),
        ]

    logs = []
    for make in (
        lambda: LocalBus(VirtualClock()),
        lambda: LockstepBus(LocalBus(WallClock()), LockstepClock()),
    ):
        bus = make()
        log = log_of(bus)
        hosted = build(bus, bus.clock)
        bus.clock.run(until=60)
        for program in hosted:
            program.close()
            assert not program.findings
        if isinstance(bus, LockstepBus):
            bus.settle()
        logs.append(log)
    assert len({message.client for message in logs[0]}) == 3
    assert logs[0] == logs[1]
