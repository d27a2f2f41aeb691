import itertools
import math

import pytest

from playground.plants.hydraulics import (
    CP_WATER_J_PER_KG_K,
    BallValve,
    CoolingTower,
    HeatExchanger,
    PumpDrive,
)


def pump(**changes) -> PumpDrive:
    sizes = {
        "shut_off_kpa": 80.0,
        "pump_kpa_s2_per_kg2": 15.0,
        "loop_kpa_s2_per_kg2": 35.0,
    }
    return PumpDrive(**(sizes | changes))


def test_flow_is_proportional_to_speed_and_sits_on_both_curves():
    drive = pump()
    drive.speed = 1.0
    full = drive.flow_kg_per_s()
    assert 80.0 - 15.0 * full**2 == pytest.approx(35.0 * full**2)
    drive.speed = 0.5
    assert drive.flow_kg_per_s() == pytest.approx(0.5 * full)


def test_a_shut_valve_stops_the_flow_and_an_open_one_hardly_slows_it():
    drive, valve = pump(), BallValve()
    drive.speed = 1.0
    free = drive.flow_kg_per_s()
    assert drive.flow_kg_per_s(valve.conductance_kg_per_s_sqrt_kpa) > 0.99 * free
    valve.place(0.1)
    assert drive.flow_kg_per_s(valve.conductance_kg_per_s_sqrt_kpa) == 0.0


def test_the_drive_ramps_and_does_not_turn_below_its_dead_speed():
    drive = pump(ramp_s=8.0)
    steps = 0
    while drive.ramp(1.0, 1.0):
        steps += 1
    assert (steps, drive.speed) == (8, 1.0)
    while drive.ramp(0.09, 1.0):
        pass
    assert drive.speed == 0.0


def test_the_shaft_power_is_hydraulic_power_over_efficiency():
    drive = pump(efficiency=0.5)
    drive.speed = 1.0
    flow = drive.flow_kg_per_s()
    # kPa · kg/s / 1000 kg/m³ = W/1000
    assert drive.heat_w(flow) == pytest.approx(35.0 * flow**2 * flow / 0.5)


def test_the_valve_takes_its_time_and_has_play():
    valve = BallValve(travel_s=30.0, play=0.02, dead_band=0.0)
    valve.place(0.5)
    for _ in range(15):
        valve.move(1.0, 1.0)
    assert valve.motor == pytest.approx(1.0)
    assert valve.ball == pytest.approx(0.99)
    # Back again: nothing happens until the play is taken up.
    valve.move(0.985, 1.0)
    assert valve.ball == pytest.approx(0.99)
    valve.move(0.9, 1.0)
    valve.move(0.9, 1.0)
    valve.move(0.9, 1.0)
    assert valve.ball == pytest.approx(0.91)


def test_the_motor_ignores_changes_within_its_dead_band_but_not_the_ends():
    valve = BallValve(dead_band=0.005)
    valve.place(0.996)
    assert not valve.move(0.992, 1.0)
    assert valve.move(1.0, 1.0)


def test_its_characteristic_is_shut_first_and_then_steep():
    valve = BallValve()
    found = []
    for step in range(21):
        valve.place(step / 20)
        found.append(valve.conductance_kg_per_s_sqrt_kpa)
    assert found[:4] == [0.0, 0.0, 0.0, 0.0]
    assert found == sorted(found)
    assert found[-1] == pytest.approx(1.4)


@pytest.mark.parametrize(("hot", "cold"), [(0.886, 0.886), (0.5, 1.2), (1.2, 0.3)])
def test_the_exchanger_agrees_with_the_mean_logarithmic_difference(hot, cold):
    exchanger = HeatExchanger(ua_w_per_k=2_400.0, nominal_kg_per_s=0.886)
    heat = exchanger.conductance_w_per_k(hot, cold) * 30.0
    hot_in, cold_in = 60.0, 30.0
    hot_out = hot_in - heat / (hot * CP_WATER_J_PER_KG_K)
    cold_out = cold_in + heat / (cold * CP_WATER_J_PER_KG_K)
    near, far = hot_in - cold_out, hot_out - cold_in
    mean = near if hot == cold else (near - far) / math.log(near / far)
    films = ((0.886 / hot) ** 0.8 + (0.886 / cold) ** 0.8) / 2.0
    assert heat == pytest.approx(2_400.0 / films * mean, rel=1e-6)


def test_the_exchanger_has_no_jump_where_both_flows_are_equal():
    exchanger = HeatExchanger(ua_w_per_k=2_400.0, nominal_kg_per_s=0.886)
    found = [
        exchanger.conductance_w_per_k(0.8, 0.8 * (1 + d))
        for d in (-3e-4, -1.01e-4, -0.99e-4, 0.0, 0.99e-4, 1.01e-4, 3e-4)
    ]
    steps = [b - a for a, b in itertools.pairwise(found)]
    assert max(map(abs, steps)) < 0.3


def test_nothing_passes_without_flow():
    exchanger = HeatExchanger(ua_w_per_k=2_400.0, nominal_kg_per_s=0.886)
    assert exchanger.conductance_w_per_k(0.0, 0.8) == 0.0
    assert exchanger.conductance_w_per_k(0.8, 0.0) == 0.0
    assert CoolingTower(ua_w_per_k=1_000.0).conductance_w_per_k(0.0) == 0.0


def test_the_tower_gives_off_at_most_what_the_water_brings_or_its_surface_passes():
    tower = CoolingTower(ua_w_per_k=1_000.0)
    for flow in (0.01, 0.1, 1.0, 100.0):
        found = tower.conductance_w_per_k(flow)
        assert found <= min(1_000.0, flow * CP_WATER_J_PER_KG_K)
    assert tower.conductance_w_per_k(100.0) == pytest.approx(1_000.0, rel=0.01)
