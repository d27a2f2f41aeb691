import json
import math

import pytest

from playground.bus import LocalBus, Will
from playground.clock import VirtualClock
from playground.errors import PlaygroundError
from playground.faults import KINDS, FaultEntry, read_fault
from playground.faults.bus import FaultyBus
from playground.signals import Signal, Signals

SIGNALS = Signals(
    [
        Signal(name="t", topic="t", unit="degC", role="measurement", range=(0, 100)),
        Signal(name="bare", topic="bare", unit="1", role="measurement"),
        Signal(
            name="inlet",
            topic="regs",
            path="2023",
            unit="degC",
            role="measurement",
            type="int16",
            scale=0.1,
        ),
        Signal(name="deep", topic="regs", path="a.b", unit="W", role="measurement"),
    ]
)


def fault(**entry):
    entry = {"for_" if k == "for" else k: v for k, v in entry.items()}
    return read_fault(FaultEntry(**entry), SIGNALS)


class Stage:
    """A sender and a listener on a bus on which faults can begin."""

    def __init__(self, seed=0):
        self.clock = VirtualClock()
        self.real = LocalBus(self.clock)
        self.bus = FaultyBus(self.real, self.clock, seed=seed)
        self.log = []
        self.real.observe(
            lambda m: (
                m.kind in ("publish", "will")
                and self.log.append((self.clock.now, m.payload))
            )
        )
        self.sender = self.bus.connect("sender")
        self.heard = []
        self.listener = self.bus.connect(
            "listener", lambda m: self.heard.append((self.clock.now, m.payload))
        )

    def play(self, payloads, topic="t", begin=None, at_s=0.0, period_s=1.0, **flags):
        """Publishes one payload each second; the fault begins at ``at_s``."""
        steps = iter(payloads)

        def say():
            payload = next(steps, None)
            if payload is not None:
                self.sender.publish(topic, payload, **flags)

        if begin is not None:
            self.clock.at(at_s, phase=2).callbacks.append(
                lambda _: self.bus.begin(begin)
            )
        self.clock.every(period_s, say, phase=4)
        self.clock.run(until=len(payloads) * period_s + 100)
        return [payload for _, payload in self.log]


def numbers(*values):
    return [repr(float(v)).encode() for v in values]


TEN_TO_FOURTEEN = numbers(10, 11, 12, 13, 14)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"kind": "stuck"}, [10, 11, 11, 11, 11]),
        ({"kind": "stuck", "for": "2s"}, [10, 11, 11, 11, 14]),
        ({"kind": "stuck", "value": "5 degC"}, [10, 11, 5, 5, 5]),
        ({"kind": "bias", "by": "2 K"}, [10, 11, 14, 15, 16]),
        ({"kind": "bias", "by": "-2 K", "for": "1s"}, [10, 11, 10, 13, 14]),
        ({"kind": "scale", "factor": 2}, [10, 11, 24, 26, 28]),
        ({"kind": "drift", "rate": "3600 K/h"}, [10, 11, 12, 14, 16]),
        ({"kind": "delay", "delay": "2s"}, [10, 11, 11, 11, 12]),
        ({"kind": "out_of_range"}, [10, 11, 200, 200, 200]),
        ({"kind": "wrong_unit", "unit": "degF"}, [10, 11, 53.6, 55.4, 57.2]),
    ],
)
def test_a_sensor_that_lies(entry, said):
    found = Stage().play(TEN_TO_FOURTEEN, begin=fault(signal="t", **entry), at_s=2)
    assert [float(p) for p in found] == pytest.approx(said)


def test_a_slow_sensor_approaches_the_truth():
    lag = fault(signal="t", kind="lag", tau="2s")
    found = Stage().play(numbers(0, 0, 10, 10, 10), begin=lag, at_s=2)
    expected = [10 * (1 - math.exp(-k / 2)) for k in (0, 1, 2)]
    # It lags behind from the value before the fault.
    assert [float(p) for p in found[:2]] == [0, 0]
    assert [float(p) for p in found[2:]] == pytest.approx(expected, abs=1e-6)


def test_a_sensor_that_is_no_number_or_says_nothing():
    def said(**more):
        return Stage().play(TEN_TO_FOURTEEN, begin=fault(signal="t", **more), at_s=3)

    assert said(kind="nan") == [*TEN_TO_FOURTEEN[:3], b"nan", b"nan"]
    assert said(kind="dropout") == TEN_TO_FOURTEEN[:3]
    garbage = said(kind="garbage")
    assert garbage[:3] == TEN_TO_FOURTEEN[:3]
    assert all(math.isnan(SIGNALS["t"].decode(p)) for p in garbage[3:])


def test_noise_has_the_size_that_was_asked_for():
    noise = fault(signal="bare", kind="noise", std=0.5)
    found = Stage().play(numbers(*[1.0] * 4000), topic="bare", begin=noise)
    values = [float(p) for p in found]
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
    assert mean == pytest.approx(1.0, abs=0.05)
    assert spread == pytest.approx(0.5, rel=0.1)


def test_an_intermittent_sensor_misses_its_share():
    gone = fault(signal="bare", kind="intermittent", probability=0.2)
    found = Stage().play(numbers(*range(3000)), topic="bare", begin=gone)
    assert len(found) == pytest.approx(2400, rel=0.05)


def test_a_fault_of_one_signal_leaves_the_rest_of_its_message_alone():
    payload = b'{"timestamp":1.5,"2023":503,"a":{"b":1.25,"c":null},"x":"y"}'

    def said(**entry):
        return json.loads(
            Stage().play([payload], topic="regs", begin=fault(**entry))[0]
        )

    whole = json.loads(payload)
    assert said(signal="inlet", kind="bias", by="2 K") == whole | {"2023": 523}
    assert said(signal="inlet", kind="nan") == whole | {"2023": None}
    gone = dict(whole)
    del gone["2023"]
    assert said(signal="inlet", kind="dropout") == gone
    assert said(signal="deep", kind="scale", factor=2) == whole | {
        "a": {"b": 2.5, "c": None}
    }
    assert said(signal="deep", kind="dropout") == whole | {"a": {"c": None}}


def test_a_register_that_is_read_unsigned_jumps_below_zero():
    payloads = [b'{"2023":20}', b'{"2023":65507}']
    unsigned = fault(signal="inlet", kind="unsigned")
    raw = [json.loads(p)["2023"] for p in Stage().play(payloads, "regs", unsigned)]
    # On the wire it is the same; what the bridge makes of it is not.
    assert raw == [20, 65507]
    processed = fault(signal="t", kind="unsigned", factor=0.1)
    assert Stage().play(numbers(2, -2.9), begin=processed) == numbers(2, 6550.7)


def test_messages_get_lost_doubled_late_and_out_of_order():
    def said(**entry):
        stage = Stage(seed=5)
        stage.play(TEN_TO_FOURTEEN, begin=fault(topic="+", **entry), at_s=1)
        return stage.log

    assert said(kind="drop") == [(0.0, b"10.0")]
    assert [p for _, p in said(kind="duplicate")] == [
        TEN_TO_FOURTEEN[0],
        *(p for p in TEN_TO_FOURTEEN[1:] for _ in range(2)),
    ]
    assert said(kind="late", delay="2.5s") == [
        (0.0, b"10.0"),
        *((k + 2.5, p) for k, p in enumerate(TEN_TO_FOURTEEN[1:], start=1)),
    ]
    shuffled = said(kind="reorder", within="10s")
    assert sorted(p for _, p in shuffled) == TEN_TO_FOURTEEN
    assert [p for _, p in shuffled] != TEN_TO_FOURTEEN


def test_a_clock_that_is_wrong_shows_in_the_timestamp_alone():
    skew = fault(topic="regs", kind="clock_skew", by="-90s")
    found = Stage().play([b'{"timestamp":100.5,"2023":1}', b"text"], "regs", skew)
    assert found == [b'{"timestamp":10.5,"2023":1}', b"text"]


def test_a_partition_loses_qos_0_and_keeps_qos_1():
    for qos, heard in (
        (0, [(0.0, b"10.0"), (4.0, b"14.0")]),
        (1, [(0.0, b"10.0"), *((4.0, p) for p in TEN_TO_FOURTEEN[1:])]),
    ):
        stage = Stage()
        stage.listener.subscribe("t", qos=1)
        cut = fault(client="sender", kind="partition", **{"for": "3s"})
        stage.play(TEN_TO_FOURTEEN, begin=cut, at_s=1, qos=qos)
        assert stage.heard == heard
        stage = Stage()
        stage.listener.subscribe("t", qos=1)
        cut = fault(client="listener", kind="partition", **{"for": "3s"})
        stage.play(TEN_TO_FOURTEEN, begin=cut, at_s=1, qos=qos)
        assert sorted(stage.heard) == sorted(heard)


def test_the_will_of_a_client_that_crashes_goes_out_and_it_comes_back():
    stage = Stage()
    stage.listener.subscribe("#")
    mortal = stage.bus.connect("mortal", will=Will(topic="state", payload=b"gone"))
    crash = fault(client="mortal", kind="client_crash", **{"for": "5s"})
    stage.clock.at(1.0).callbacks.append(lambda _: stage.bus.begin(crash))
    for at_s in (0.0, 3.0, 7.0):
        stage.clock.at(at_s).callbacks.append(
            lambda _: mortal.publish("x", str(stage.clock.now).encode())
        )
    stage.clock.run(until=10)
    assert stage.heard == [(0.0, b"0.0"), (1.0, b"gone"), (7.0, b"7.0")]


def test_a_broker_that_restarts_forgets_what_it_kept_and_everybody_comes_back():
    stage = Stage()
    stage.listener.subscribe("t")
    stage.sender.publish("kept", b"old", retain=True)
    restart = fault(kind="broker_restart", **{"for": "2s"})
    stage.play(TEN_TO_FOURTEEN, begin=restart, at_s=1)
    assert [p for _, p in stage.heard] == [b"10.0", b"13.0", b"14.0"]
    late = []
    stage.real.connect("late", late.append).subscribe("#")
    assert late == []


def test_retained_messages_can_be_lost_alone():
    stage = Stage()
    stage.sender.publish("kept", b"old", retain=True)
    stage.bus.begin(fault(kind="retained_loss"))
    assert stage.real.retained == {}


def test_the_same_seed_gives_the_same_faults():
    def said(seed):
        stage = Stage(seed=seed)
        drop = fault(topic="#", kind="drop", probability=0.5)
        return stage.play(numbers(*range(100)), begin=drop)

    assert said(1) == said(1) != said(2)
    assert 30 < len(said(1)) < 70


def test_without_an_active_fault_everything_passes_unchanged():
    stage = Stage()
    over = fault(signal="t", kind="bias", by="2 K", **{"for": "1s"})
    assert stage.play([b" 10 ", b"x", b"\xff"], begin=over, at_s=50) == [
        b" 10 ",
        b"x",
        b"\xff",
    ]


def test_every_kind_of_the_list_is_known():
    for kind in [
        "stuck",
        "bias",
        "scale",
        "noise",
        "drift",
        "lag",
        "delay",
        "dropout",
        "intermittent",
        "out_of_range",
        "nan",
        "wrong_unit",
        "garbage",
        "drop",
        "duplicate",
        "reorder",
        "partition",
        "broker_restart",
        "retained_loss",
        "client_crash",
        "clock_skew",
    ]:
        assert kind in KINDS


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            {"kind": "stuk", "signal": "t"},
            "There is no fault 'stuk'. Did you mean 'stuck'",
        ),
        ({"kind": "stuck"}, "needs to know its signal"),
        ({"kind": "stuck", "signal": "tt"}, "There is no signal 'tt'"),
        ({"kind": "bias", "signal": "t"}, "needs 'by'"),
        ({"kind": "bias", "signal": "t", "by": 2}, "2 has no unit"),
        ({"kind": "bias", "signal": "t", "by": "2 bar"}, "does not convert"),
        (
            {"kind": "stuck", "signal": "t", "by": "2 K"},
            "'by' does not go with 'stuck'",
        ),
        ({"kind": "drop", "signal": "t"}, "'signal' does not go with 'drop'"),
        ({"kind": "drop", "topic": "a/#/b"}, "must be the last level"),
        ({"kind": "drop", "topic": "a", "probability": 2.0}, "is not above 0"),
        ({"kind": "drop", "topic": "a", "for": "5"}, "has no unit"),
        ({"kind": "drift", "signal": "t", "rate": "1 K"}, "does not convert"),
        ({"kind": "wrong_unit", "signal": "t", "unit": "bar"}, "does not convert"),
        ({"kind": "out_of_range", "signal": "bare"}, "declares no range"),
        ({"kind": "late", "topic": "a", "delay": "2"}, "has no unit"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(entry, said):
    with pytest.raises(PlaygroundError) as error:
        fault(**entry)
    assert said in str(error.value)
