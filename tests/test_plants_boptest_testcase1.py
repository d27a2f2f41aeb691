import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from playground.errors import PlaygroundError
from playground.plants import plant_class
from playground.plants.boptest_testcase1 import SimpleRC
from playground.testing import check_plant


def test_it_keeps_the_rules_of_a_plant():
    check_plant(SimpleRC)
    assert plant_class("testcase1") is SimpleRC


def test_it_agrees_with_a_numerical_solution_of_its_equation():
    def heater(t):
        return 1_500.0 if t >= 30_000 else 0.0

    def slope(t, y):
        ambient = 20.0 + 10.0 * math.sin(2 * math.pi * t / 86_400)
        return [((ambient - y[0]) / 0.01 + heater(t)) / 1e6]

    room = SimpleRC()
    found = [room.reset()["zone_temp"]]
    for minute in range(1, 2_881):
        begin = (minute - 1) * 60.0
        found.append(room.step(minute * 60.0, {"heater": heater(begin)})["zone_temp"])
    grid = [60.0 * k for k in range(2_881)]
    expected = []
    at = 20.0
    for begin, end in ((0, 500), (500, 2_880)):
        part = solve_ivp(
            slope,
            (grid[begin], grid[end] - 1e-9),
            [at],
            t_eval=[*grid[begin:end], grid[end] - 1e-9],
            rtol=1e-10,
            atol=1e-10,
        ).y[0]
        expected.extend(part[:-1])
        at = part[-1]
    expected.append(at)
    assert found == pytest.approx(expected, abs=1e-6)


@given(heat=st.floats(0.0, 100e3), parts=st.sampled_from([2, 3, 60, 600]))
def test_the_length_of_the_step_changes_nothing(heat, parts):
    whole, fine = SimpleRC(period_s=3_600.0), SimpleRC(period_s=3_600.0 / parts)
    whole.step(3_600.0, {"heater": heat})
    for k in range(1, parts + 1):
        fine.step(k * fine.period_s, {"heater": heat})
    assert fine.temperature_degc == pytest.approx(whole.temperature_degc, rel=1e-9)
    assert fine.to_ambient_j == pytest.approx(whole.to_ambient_j, rel=1e-9, abs=1.0)


@settings(deadline=None)
@given(st.lists(st.floats(0.0, 100e3), min_size=1, max_size=100))
def test_energy_is_conserved_whatever_is_done(heats):
    room = SimpleRC()
    for k, heat in enumerate(heats, 1):
        room.step(k * 60.0, {"heater": heat})
    missing = room.heat_j - room.to_ambient_j - room.stored_j
    assert abs(missing) <= 1e-6 * (room.heat_j + abs(room.to_ambient_j) + 1.0)
    assert room.electricity_j == pytest.approx(room.heat_j / 0.99)


def test_a_day_without_heating_follows_the_ambient_with_lag_and_less_swing():
    room = SimpleRC()
    temperatures = [
        room.step(k * 60.0, {"heater": 0.0})["zone_temp"] for k in range(1, 7 * 1_440)
    ]
    last = temperatures[-1_440:]
    # First order with a time constant of 10,000 s at one period a day.
    gain = 1 / math.sqrt(1 + (2 * math.pi * 10_000 / 86_400) ** 2)
    assert max(last) == pytest.approx(20 + 10 * gain, abs=0.01)
    assert min(last) == pytest.approx(20 - 10 * gain, abs=0.01)


def test_power_is_heat_over_the_efficiency():
    outputs = SimpleRC().step(60.0, {"heater": 990.0})
    assert outputs["heater_power"] == pytest.approx(1_000.0)


@pytest.mark.parametrize("name", ["period_s", "resistance_k_per_w"])
def test_a_parameter_that_cannot_be_is_refused(name):
    with pytest.raises(PlaygroundError, match=name):
        SimpleRC(**{name: 0.0})
