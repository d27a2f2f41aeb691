import itertools
import json
import math
import pickle
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.bus import LocalBus
from playground.clock import VirtualClock
from playground.errors import PlaygroundError
from playground.plants import plant_class
from playground.plants.device import Device
from playground.plants.lab_rig import LabRig
from playground.plants.lab_rig_signals import NIDAQ_TOPIC, PROCESSED, REGISTERS_TOPIC
from playground.plants.refrigerant import saturation_pressure_bar
from playground.signals_file import load_signals
from playground.testing import check_plant

ROOT = Path(__file__).parents[1]
AT_REST = {"valve": 1.0, "vsd1": 0.0, "vsd2": 0.0, "ambient": 20.3}
RUNNING = {"valve": 1.0, "vsd1": 0.7, "vsd2": 0.7, "ambient": 26.7}

# Raw registers of the contract's two columns, least and greatest.
OFF = {
    2011: (0, 0), 2012: (1, 1), 2013: (350, 350), 2023: (206, 206),
    2024: (210, 210), 2026: (203, 203), 2027: (205, 205), 2031: (208, 208),
    2043: (210, 210), 2044: (209, 209), 2047: (208, 208), 2048: (208, 208),
    2059: (204, 204), 2063: (203, 203), 2087: (72, 72), 2088: (72, 72),
    2103: (65507, 65507), 2104: (65507, 65507), 2111: (198, 198),
    2113: (198, 198), 2112: (0, 0), 2114: (0, 0), 2122: (0, 0), 2142: (0, 0),
    2126: (0, 0), 2128: (0, 0), 2131: (264, 264),
}  # fmt: skip
ON = {
    2011: (1, 1), 2012: (1, 1), 2013: (550, 550), 2023: (497, 503),
    2024: (551, 557), 2026: (263, 268), 2027: (156, 165), 2031: (155, 160),
    2043: (170, 188), 2044: (177, 193), 2047: (701, 712), 2048: (702, 707),
    2059: (554, 560), 2063: (546, 552), 2087: (59, 62), 2088: (58, 60),
    2103: (65507, 65507), 2104: (65507, 65507), 2111: (131, 146),
    2113: (130, 138), 2112: (30, 82), 2114: (37, 83), 2122: (498, 522),
    2142: (500, 525), 2126: (51, 51), 2128: (127, 129), 2131: (523, 523),
}  # fmt: skip


def registers(rig: LabRig, values) -> dict[int, int]:
    """Both blocks as they stand on the wire."""
    found = {}
    for publication in rig.signals.publications:
        if publication.topic == REGISTERS_TOPIC:
            tree = json.loads(rig.signals.encode(publication, values, 0))
            found.update((int(k), v) for k, v in tree.items() if k.isdigit())
    return found


def run(rig: LabRig, seconds: float, inputs) -> dict[str, float]:
    values = {}
    for tick in range(1, round(seconds / rig.period_s) + 1):
        values = rig.step(tick * rig.period_s, inputs)
    return values


def outside(found: dict[int, int], expected) -> dict[int, int]:
    return {
        address: found[address]
        for address, (least, most) in expected.items()
        if not least <= found[address] <= most
    }


@pytest.fixture(scope="module")
def warm() -> tuple[LabRig, dict[str, float]]:
    rig = LabRig(noise=False)
    return rig, run(rig, 3 * 3600, RUNNING)


@pytest.mark.parametrize("noise", [True, False])
def test_it_keeps_the_rules_of_a_plant(noise):
    check_plant(lambda: LabRig(noise=noise), steps=700)
    assert plant_class("lab_rig") is LabRig


def test_switched_off_it_shows_the_contracts_off_column():
    rig = LabRig(noise=False, switched_on=False, set_point_degc=35.0, ambient_degc=20.3)
    assert outside(registers(rig, rig.reset()), OFF) == {}
    rig.reset()
    assert outside(registers(rig, run(rig, 60, AT_REST)), OFF) == {}


def test_running_it_shows_the_contracts_running_column(warm):
    rig, values = warm
    assert outside(registers(rig, values), ON) == {}


def test_running_with_noise_stays_in_the_running_column_on_average():
    rig = LabRig()
    run(rig, 2 * 3600, RUNNING)
    sums: dict[int, float] = dict.fromkeys(ON, 0.0)
    for tick in range(600):
        found = registers(rig, rig.step(tick, RUNNING))
        for address in ON:
            sums[address] += found[address] / 600
    assert {
        a: round(sums[a], 1)
        for a, (least, most) in ON.items()
        if not least - 0.5 <= sums[a] <= most + 0.5
    } == {}


def test_the_unit_waits_for_water_to_flow():
    rig = LabRig(noise=False)
    assert run(rig, 600, RUNNING | {"vsd1": 0.0})["compressor_frequency"] == 0
    assert run(rig, 120, RUNNING)["compressor_frequency"] > 0
    # The flow switch stops it at once, minimum run time or not.
    assert run(rig, 15, RUNNING | {"vsd1": 0.0})["compressor_frequency"] == 0


def test_it_keeps_its_minimum_times_and_stops_above_its_set_point():
    # Without a load the tank warms up and the unit has to cycle.
    rig = LabRig(
        noise=False, start_degc=49.0, ua_tank_w_per_k=150.0, tank_water_kg=40.0
    )
    idle = RUNNING | {"vsd2": 0.0}
    switches: list[tuple[int, bool]] = []
    on, hottest = False, 0.0
    for second in range(1, 6 * 3600):
        values = rig.step(second, idle)
        hottest = max(hottest, values["water_outlet"])
        if (values["compressor_frequency"] > 0) is not on:
            on = not on
            switches.append((second, on))
    lengths = [b[0] - a[0] for a, b in itertools.pairwise(switches)]
    assert len(switches) >= 6
    assert min(lengths) >= 180
    assert 57.0 <= hottest < 62.0


flows = st.floats(0.0, 1.0)


@settings(max_examples=20, deadline=None)
@given(
    commands=st.lists(
        st.tuples(flows, flows, flows, st.floats(-25.0, 48.0)), min_size=1, max_size=12
    ),
    period_s=st.sampled_from([0.5, 1.0, 5.0]),
)
def test_energy_is_conserved_whatever_is_done(commands, period_s):
    rig = LabRig(noise=False, period_s=period_s, relative_humidity=0.95)
    for valve, vsd1, vsd2, ambient in commands:
        inputs = {"valve": valve, "vsd1": vsd1, "vsd2": vsd2, "ambient": ambient}
        run(rig, 400, inputs)
        assert abs(rig.energy.imbalance) < 1e-9


def test_energy_is_conserved_through_frost_and_defrost():
    rig = LabRig(noise=False, relative_humidity=0.95, start_degc=30.0)
    seen = set()
    for second in range(1, 3 * 3600):
        rig.step(second, RUNNING | {"ambient": -1.0})
        seen.add(rig.heat_pump.defrosting)
    assert seen == {True, False}
    assert abs(rig.energy.imbalance) < 1e-9


SUMS = ("electricity_j", "from_air_j", "to_sink_j", "to_water_j")


@pytest.mark.parametrize("period_s", [0.25, 5.0])
def test_the_length_of_the_step_changes_nothing_beyond_a_thousandth(period_s):
    def trajectory(period):
        rig = LabRig(noise=False, period_s=period)
        points = []
        for minute in range(1, 91):
            inputs = RUNNING | {"vsd2": 0.7 if minute < 60 else 0.5}
            for tick in range(round(60 / period)):
                rig.step((minute - 1) * 60 + (tick + 1) * period, inputs)
            points.append((rig._water, rig.energy))
        return points

    both = zip(trajectory(1.0), trajectory(period_s), strict=True)
    for minute, ((water, energy), (other, other_energy)) in enumerate(both):
        assert other == pytest.approx(water, rel=1e-3)
        # Sums over the first minutes hang on the second in which the unit starts;
        # the tower's begins below zero, so heat is measured by the unit's.
        if minute > 15:
            for name in SUMS:
                assert getattr(other_energy, name) == pytest.approx(
                    getattr(energy, name), abs=1e-3 * energy.to_water_j
                )


@pytest.mark.parametrize(
    ("parameters", "inputs", "defrosts"),
    [
        # Starts and stops: hardly any load, a small tank.
        (
            {"start_degc": 49.0, "ua_tank_w_per_k": 150.0, "tank_water_kg": 40.0},
            {"vsd2": 0.0, "ambient": 20.0},
            False,
        ),
        # Frost and defrosts.
        ({"set_point_degc": 45.0, "relative_humidity": 0.9}, {"ambient": -1.0}, True),
    ],
)
def test_nor_does_it_through_starts_stops_and_defrosts(parameters, inputs, defrosts):
    def sums(period):
        rig = LabRig(noise=False, period_s=period, **parameters)
        states = set()
        for tick in range(round(3 * 3600 / period)):
            rig.step((tick + 1) * period, RUNNING | inputs)
            states.add((rig.heat_pump.running, rig.heat_pump.defrosting))
        assert ((True, True) in states) is defrosts
        return [getattr(rig.energy, name) for name in SUMS]

    whole = sums(1.0)
    assert sums(0.5) == pytest.approx(whole, rel=1e-3, abs=1e-3 * whole[-1])


def test_more_speed_and_more_valve_give_more_flow():
    def flow(signal, **inputs):
        return run(LabRig(noise=False), 60, RUNNING | inputs)[signal]

    speeds = [flow("flow_1_current", vsd1=n / 10) for n in range(11)]
    assert speeds[:1] == [0.004]
    assert speeds == sorted(speeds)
    assert speeds[-1] > 0.016
    openings = [flow("flow_2_current", valve=n / 20) for n in range(21)]
    assert openings == sorted(openings)
    share = [(i - 0.004) / (openings[-1] - 0.004) for i in openings]
    # Steep: nearly the whole flow comes within a quarter of the travel.
    assert share[3] < 0.02
    assert share[8] > 0.8


def test_the_ball_follows_with_hysteresis_and_a_dead_band():
    def position(*commands):
        rig = LabRig(noise=False)
        for command in commands:
            values = run(rig, 60, RUNNING | {"valve": command})
        return values["valve_voltage"] / 10

    assert position(0.2, 0.4) == pytest.approx(0.395)
    assert position(0.6, 0.4) == pytest.approx(0.405)
    assert position(0.6, 0.4, 0.404) == position(0.6, 0.4)


def test_the_cop_falls_with_the_lift():
    def cop(ambient, set_point):
        rig = LabRig(noise=False, set_point_degc=set_point, relative_humidity=0.1)
        run(rig, 3600, RUNNING | {"ambient": ambient})
        before = rig.energy
        run(rig, 600, RUNNING | {"ambient": ambient})
        after = rig.energy
        return (after.to_water_j - before.to_water_j) / (
            after.electricity_j - before.electricity_j
        )

    by_air = [cop(ambient, 45.0) for ambient in (5.0, 15.0, 25.0)]
    assert by_air == sorted(by_air)
    by_water = [cop(20.0, set_point) for set_point in (35.0, 45.0, 55.0)]
    assert by_water == sorted(by_water, reverse=True)
    assert 1.5 < min(by_air + by_water) < max(by_air + by_water) < 6.0


def test_power_is_the_product_of_what_its_meter_shows(warm):
    _, v = warm
    phases = sum(v[f"voltage_{n}"] * v[f"current_{n}"] for n in (1, 2, 3))
    assert v["power"] == pytest.approx(phases * v["power_factor"])
    assert v["apparent_power"] == pytest.approx(
        math.hypot(v["power"], v["reactive_power"])
    )


def test_heat_by_flow_and_temperatures_is_the_heat_of_the_unit(warm):
    rig, v = warm
    flow = (v["flow_1_current"] - 0.004) / 0.016 * rig.flow_span_kg_per_s
    heat = flow * 4186 * (rig._water[0] - rig._water[2])
    assert heat == pytest.approx(rig.heat_pump.heat_w, rel=0.01)


def test_unknown_noise_is_the_same_for_the_same_seed():
    def trajectory(seed):
        rig = LabRig()
        rig.reset(seed=seed)
        return [tuple(rig.step(t, RUNNING).values()) for t in range(1, 1200)]

    assert trajectory(3) == trajectory(3)
    assert trajectory(3) != trajectory(4)


def test_noise_changes_what_is_seen_and_not_what_is():
    seen, true = LabRig(noise=True), LabRig(noise=False)
    run(seen, 900, RUNNING)
    run(true, 900, RUNNING)
    assert seen._water == true._water


def test_a_snapshot_is_where_it_goes_on_from():
    rig = LabRig()
    rig.reset(seed=5)
    run(rig, 700, RUNNING)
    state = pickle.loads(pickle.dumps(rig.snapshot()))
    ahead = [rig.step(t, RUNNING) for t in range(900)]
    rig.restore(state)
    assert [rig.step(t, RUNNING) for t in range(900)] == ahead
    other = LabRig()
    other.restore(state)
    assert [other.step(t, RUNNING) for t in range(900)] == ahead


def test_it_can_be_pickled_in_the_middle_of_a_run():
    rig = LabRig()
    run(rig, 300, RUNNING)
    twin = pickle.loads(pickle.dumps(rig))
    assert run(twin, 100, RUNNING) == run(rig, 100, RUNNING)


def test_it_stays_finite_and_bounded_under_wild_inputs():
    rig, chance = LabRig(relative_humidity=0.95), random.Random(1)
    inputs = dict(RUNNING)
    for tick in range(100_000):
        if tick % 97 == 0:
            inputs = {name: chance.random() for name in ("valve", "vsd1", "vsd2")}
            inputs["ambient"] = chance.uniform(-40.0, 60.0)
        values = rig.step(tick, inputs)
        if tick % 50 == 0:
            assert all(map(math.isfinite, values.values()))
            assert all(-45.0 < t < 75.0 for t in rig._water)
    assert abs(rig.energy.imbalance) < 1e-6


def test_every_signal_that_it_declares_is_measured():
    rig = LabRig()
    declared = {s.name for s in rig.signals.with_role("measurement")}
    assert set(rig.reset()) == declared
    assert set(rig.step(1.0, RUNNING)) == declared


def test_a_rig_with_very_little_water_does_not_overshoot():
    rig = LabRig(
        noise=False, outlet_water_kg=0.5, return_water_kg=0.5, ua_air_w_per_k=20_000.0
    )
    usual = LabRig(noise=False)
    run(rig, 1_800, RUNNING | {"vsd1": 1.0})
    run(usual, 1_800, RUNNING | {"vsd1": 1.0})
    assert rig._water == pytest.approx(usual._water, abs=6.0)
    assert abs(rig.energy.imbalance) < 1e-9


def test_the_refrigerants_registers_belong_together():
    # At any load: gauge pressure of propane at the evaporating temperature, and
    # a suction gas that is warmer than it by the superheat.
    rig = LabRig(noise=False)
    for second in range(1, 3_600):
        v = rig.step(second, RUNNING)
        if second > 300 and second % 60 == 0:
            bar = saturation_pressure_bar(v["evaporating_1"]) - 1.01325
            assert v["low_pressure_1"] == pytest.approx(bar, abs=0.15)
            heated = v["suction_1"] - v["evaporating_1"]
            assert heated == pytest.approx(v["superheat_1"], abs=0.6)
            assert v["discharge_1"] > v["water_outlet"] - 6.0
            assert v["evaporating_1"] < v["coil_1"] < v["air_ambient"]


def test_sensors_lag_behind_what_they_measure():
    rig = LabRig(noise=False, ambient_degc=20.0)
    still = RUNNING | {"vsd1": 0.0, "vsd2": 0.0, "ambient": 30.0}
    assert run(rig, 60, still)["air_ambient"] == pytest.approx(
        20 + 10 * (1 - 1 / math.e)
    )
    assert run(rig, 540, still)["air_ambient"] == pytest.approx(30.0, abs=0.01)


def test_registers_scatter_by_the_tenths_of_the_real_ones():
    rig = LabRig()
    run(rig, 2 * 3600, RUNNING)
    found = [registers(rig, rig.step(t, RUNNING)) for t in range(300)]
    for address in (2023, 2024, 2026, 2047, 2087):
        values = [each[address] for each in found]
        assert 2 <= len(set(values)) <= 10


@pytest.mark.parametrize(
    ("name", "value"), [("period_s", 0.0), ("ua_hx_w_per_k", -1.0)]
)
def test_a_parameter_that_cannot_be_is_refused(name, value):
    with pytest.raises(PlaygroundError, match=name):
        LabRig(**{name: value})


def test_the_signals_file_says_what_the_rig_says():
    rig = LabRig()
    loaded = load_signals(ROOT / "scenarios/signals/lab-rig.yaml")
    assert dict(loaded) == dict(rig.signals)
    assert loaded.publications == rig.signals.publications


# On the bus


@pytest.fixture(scope="module")
def spoken():
    clock = VirtualClock()
    bus = LocalBus(clock)
    heard: list[tuple[float, str, bytes, bool]] = []
    bus.observe(
        lambda m: (
            heard.append((clock.now, m.topic, m.payload, m.retain))
            if m.kind == "publish"
            else None
        )
    )
    Device(LabRig(), bus, clock, seed=1)
    clock.run(until=60.0)
    return heard


def test_register_blocks_alternate_at_the_contracts_times(spoken):
    blocks = [
        (t, [int(k) for k in json.loads(p) if k.isdigit()], retained)
        for t, topic, p, retained in spoken
        if topic == REGISTERS_TOPIC
    ]
    first, second = list(range(2001, 2091)), list(range(2091, 2181))
    expected = []
    for k in range(12):
        expected.append((k * 5.015, first, True))
        expected.append((0.5015 + k * 5.015, second, True))
    assert blocks == expected


def test_register_payloads_have_the_shape_of_the_real_ones(spoken):
    payload = next(p for t, topic, p, _ in spoken if topic == REGISTERS_TOPIC)
    assert payload.startswith(
        b'{"timestamp":1767225600.0,"device":"0","type":"modbus","2001":0,"2002":0,'
    )
    for _, topic, payload, _ in spoken:
        if topic == REGISTERS_TOPIC:
            tree = json.loads(payload)
            values = [v for k, v in tree.items() if k.isdigit()]
            assert all(type(v) is int and 0 <= v < 65536 for v in values)
            if "2103" in tree:
                assert b'"2103":65507,"2104":65507,' in payload


def test_processed_topics_repeat_the_registers_as_plain_text(spoken):
    address = {
        "inlet_temp": "2023",
        "outlet_temp": "2024",
        "air_ambient": "2026",
        "air_ambient2": "2026",
        "coil_temp": "2027",
        "pressure_low": "2087",
    }
    assert set(address) == set(PROCESSED)
    at = 0
    for now, topic, payload, _ in spoken:
        if topic == REGISTERS_TOPIC and b'"2023":' in payload:
            registers = json.loads(payload)
            after = [m for m in spoken if m[0] == now and m[1].startswith("processed/")]
            assert {
                topic.removeprefix("processed/"): (payload, retained)
                for _, topic, payload, retained in after
            } == {
                tail: (str(registers[key] / 10).encode(), False)
                for tail, key in address.items()
            }
            at += 1
    assert at == 12


def test_snapshot_and_power_come_every_second(spoken):
    for topic in (NIDAQ_TOPIC, "power/powermeter/measurements"):
        found = [(t, r) for t, name, _, r in spoken if name == topic]
        assert found == [(float(k), True) for k in range(60)]
    payload = next(p for _, topic, p, _ in spoken if topic == NIDAQ_TOPIC)
    assert payload.startswith(b'{"device":"cDAQ9189-0","timestamp":1767225600.0,"')
    tree = json.loads(payload)
    assert 0.0035 < tree["flow_1"] < 0.0045
    payload = next(p for _, topic, p, _ in spoken if topic.startswith("power/"))
    assert payload.startswith(b'{"device":"powermeter","timestamp":1767225600.0,"U1_')
    tree = json.loads(payload)
    assert tree["Freq_Ins"] == pytest.approx(49.97, abs=0.1)


def test_the_power_meters_not_valid_is_no_number():
    signals = LabRig().signals
    payload = b'{"device":"powermeter","U1_Ins":230.1,"PF_Ins":0.000E+99}'
    read = dict(signals.decode("power/powermeter/measurements", payload))
    assert read["voltage_1"] == 230.1
    assert math.isnan(read["power_factor"])


def test_commands_are_clamped_and_nonsense_is_ignored(caplog):
    clock = VirtualClock()
    bus = LocalBus(clock)
    device = Device(LabRig(), bus, clock)
    assert device.inputs == {"valve": 1.0, "vsd1": 0.0, "vsd2": 0.0, "ambient": 26.7}
    person = bus.connect("dashboard")
    for topic, payload in (
        ("vsd1/write", b"1.7"),
        ("vsd2/write", b"-3"),
        ("valve/write", b"0.42"),
        ("valve/write", b"shut"),
    ):
        person.publish(topic, payload)
    assert device.inputs == {"valve": 0.42, "vsd1": 1.0, "vsd2": 0.0, "ambient": 26.7}
    assert "shut" in caplog.text


def test_a_new_rig_stands_where_a_reset_one_does():
    new, reset = LabRig(), LabRig()
    begin = new.snapshot()
    reset.reset()
    said = [reset.step(now, RUNNING) for now in range(1, 4)]
    assert [new.step(now, RUNNING) for now in range(1, 4)] == said
    new.restore(begin)
    assert [new.step(now, RUNNING) for now in range(1, 4)] == said
