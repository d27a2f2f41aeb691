import itertools
import math

import pytest

from playground.plants.heat_pump import RATED_HZ, HeatPump, carnot_cop


class Bench:
    """A test bench: the unit with water whose temperature is held."""

    def __init__(self, ambient=20.0, water=45.0, flow=0.9, **parameters):
        self.unit = HeatPump(**parameters)
        self.unit.reset(ambient_degc=ambient)
        self.ambient, self.water, self.flow = ambient, water, flow
        self.now = 0.0
        self.seen: list[tuple[float, str]] = []

    def run(self, seconds, dt=1.0, each=None):
        unit = self.unit
        end = self.now + seconds
        state = "off"
        while self.now < end - 1e-9:
            before = (unit.frequency_hz > 0, unit.defrosting)
            unit.advance(dt, self.ambient, self.water)
            unit.control(dt, self.ambient, self.water, self.flow)
            self.now += dt
            if (unit.frequency_hz > 0, unit.defrosting) != before:
                state = (
                    "defrost"
                    if unit.defrosting
                    else "on"
                    if unit.frequency_hz > 0
                    else "off"
                )
                self.seen.append((self.now, state))
            if each:
                each(unit)
        return unit


def test_carnots_cop_is_the_textbooks():
    # Heating from 0 to 35 degC.
    assert carnot_cop(0.0, 35.0) == pytest.approx(8.80, abs=0.01)


def test_at_its_rating_it_gives_what_it_is_rated_for():
    unit = Bench(ambient=26.7, water=55.4).run(1.0)
    # Put it where the contract's columns are and let it settle there.
    bench = Bench(ambient=26.7, water=50.0)
    unit = bench.run(300)
    bench.water = 55.4
    bench.run(600)
    assert unit.frequency_hz == pytest.approx(RATED_HZ, abs=0.5)
    assert unit.heat_w == pytest.approx(20_000.0, rel=0.03)
    assert unit.compressor_w == pytest.approx(unit.rated_power_w, rel=0.03)
    assert unit.motor_current_a == pytest.approx(12.8, abs=0.2)


def test_the_motors_current_follows_its_torque_and_not_its_power():
    # Voltage goes with speed, so what is left for the current is the torque: more
    # lift needs more of it at any speed, more speed alone does not.
    seen = {}
    for water in (35.0, 50.0):
        bench = Bench(ambient=20.0, water=water, set_point_degc=water + 1.4)
        bench.water = water - 10.0
        bench.run(200)
        bench.water = water
        unit = bench.run(900)
        torque = unit.compressor_w / unit.frequency_hz
        seen[water] = unit.motor_current_a, torque, unit.frequency_hz
    (low, low_torque, _), (high, high_torque, _) = seen.values()
    assert high > 1.15 * low
    assert high / low == pytest.approx(high_torque / low_torque, rel=1e-6)
    stopped = Bench(flow=0.0).run(10)
    assert stopped.motor_current_a == 0.0


def test_it_starts_gently():
    heats, powers, speeds = [], [], []

    def look(unit):
        heats.append(unit.heat_w)
        powers.append(unit.compressor_w)
        speeds.append(unit.frequency_hz)

    Bench(water=30.0).run(600, each=look)
    assert max(speeds[:60]) <= 30.0
    assert max(b - a for a, b in itertools.pairwise(speeds)) <= 1.0
    # The same speed yields less at first: the refrigerant is not in place yet.
    assert speeds[32] == speeds[58] == 30.0
    assert heats[32] < 0.8 * heats[58]
    assert heats[32] / powers[32] < heats[58] / powers[58]


def test_it_does_not_start_within_its_pause_nor_stop_within_its_run():
    bench = Bench(water=45.0, min_run_s=180.0, min_off_s=180.0)
    bench.run(10)
    bench.water = 58.0
    bench.run(300)
    bench.water = 45.0
    bench.run(600)
    (on, a), (off, b), (again, c) = bench.seen
    assert (a, b, c) == ("on", "off", "on")
    assert off - on >= 180.0
    assert again - off >= 180.0


def test_far_above_its_set_point_it_stops_at_once():
    bench = Bench(water=45.0)
    bench.run(30)
    bench.water = 63.0
    bench.run(2)
    assert [state for _, state in bench.seen] == ["on", "off"]


@pytest.mark.parametrize(
    "trouble",
    [
        {"flow": 0.0},
        {"ambient": -21.0},
        {"ambient": 46.0},
    ],
)
def test_it_refuses_to_run_outside_its_limits(trouble):
    bench = Bench(water=45.0)
    bench.run(120)
    assert bench.unit.frequency_hz > 0
    for name, value in trouble.items():
        setattr(bench, name, value)
    bench.run(600)
    assert bench.unit.frequency_hz == 0.0
    assert [state for _, state in bench.seen] == ["on", "off"]


def test_switched_off_it_stays_off_and_takes_standby_power_only():
    unit = Bench(water=30.0, switched_on=False).run(600)
    assert unit.frequency_hz == 0.0
    assert unit.heat_w == 0.0
    assert unit.electric_w == 40.0


def test_the_condensing_temperature_is_limited_by_a_pressure_switch():
    bench = Bench(water=45.0, set_point_degc=75.0)
    bench.run(300)
    bench.water = 69.5
    bench.run(5)
    assert bench.seen[-1][1] == "off"


@pytest.mark.parametrize("ambient", [-15.0, -7.0, 2.0, 7.0, 20.0])
def test_the_cop_falls_with_warmer_water_and_colder_air(ambient):
    def cop(air, water):
        bench = Bench(
            ambient=air, water=water, set_point_degc=water + 1.0, relative_humidity=0.05
        )
        bench.unit.start_difference_k = 0.0
        unit = bench.run(900)
        return unit.heat_w / unit.electric_w

    found = [cop(ambient, water) for water in (30.0, 40.0, 50.0, 60.0)]
    assert found == sorted(found, reverse=True)
    assert cop(ambient + 5.0, 40.0) > cop(ambient, 40.0)
    # EN 14511 ratings of air-water units lie between these.
    assert all(1.2 < each < 7.0 for each in found)


def test_a_cold_humid_coil_frosts_and_a_dry_or_warm_one_does_not():
    def frost(ambient, humidity):
        return (
            Bench(ambient=ambient, water=40.0, relative_humidity=humidity)
            .run(1_800)
            .frost_kg
        )

    assert frost(0.0, 0.95) > 0.5
    assert frost(0.0, 0.95) > frost(0.0, 0.7) > frost(0.0, 0.4)
    assert frost(-15.0, 0.95) < frost(0.0, 0.95)
    assert frost(20.0, 0.95) == 0.0


def test_frost_costs_heat_and_defrosting_brings_it_back():
    bench = Bench(ambient=0.0, water=40.0, relative_humidity=0.95)
    heats = []
    bench.run(900)
    clean = bench.unit.heat_w
    bench.run(2 * 3_600, each=lambda unit: heats.append((unit.heat_w, unit.defrosting)))
    (_, _), (begin, first), (end, second), *_ = bench.seen
    assert (first, second) == ("defrost", "on")
    before = heats[int(begin) - 900 - 5][0]
    assert before < 0.97 * clean
    assert min(heat for heat, defrosting in heats if defrosting) < -3_000.0
    assert 60.0 < end - begin <= 480.0
    after = max(h for h, _ in heats[int(end) - 900 + 60 : int(end) - 900 + 900])
    assert after > before


def test_a_defrost_melts_the_frost():
    bench = Bench(ambient=0.0, water=40.0, relative_humidity=0.8)
    frosts = []
    bench.run(3 * 3_600, each=lambda unit: frosts.append(unit.frost_kg))
    starts = [int(t) for t, state in bench.seen if state == "defrost"]
    assert len(starts) >= 2
    assert all(frosts[t + 480] < 0.2 * frosts[t] for t in starts if t + 480 < 10_800)


def test_heat_and_power_balance_at_the_unit():
    bench = Bench(ambient=2.0, water=40.0, relative_humidity=0.9)
    unit = bench.unit
    stored = unit.stored_j
    gained = lost = 0.0

    def count(unit):
        nonlocal gained, lost
        gained += unit.electric_w + unit.from_air_w
        lost += unit.heat_w + unit.to_air_w

    bench.run(3 * 3_600, each=count)
    assert any(state == "defrost" for _, state in bench.seen)
    assert unit.stored_j - stored == pytest.approx(gained - lost, abs=1e-6 * gained)


def test_everything_stays_finite_where_nobody_runs_it():
    for ambient in (-40.0, -25.0, 0.0, 60.0):
        for water in (-5.0, 5.0, 60.0, 90.0):
            unit = Bench(ambient=ambient, water=water).run(600)
            for name in unit.STATE:
                assert math.isfinite(getattr(unit, name))
