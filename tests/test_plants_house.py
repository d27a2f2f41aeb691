import math
import pickle
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.bus import LocalBus
from playground.clock import VirtualClock
from playground.document import Document
from playground.errors import PlaygroundError
from playground.parameters import build
from playground.plants import plant_class
from playground.plants.device import Device
from playground.plants.house import House
from playground.testing import check_plant

WINTER = {
    "heat_pump": 1.0,
    "set_point": 40.0,
    "emitter_pump": 1.0,
    "ambient": 2.0,
    "sun": 0.0,
    "internal_gains": 200.0,
}


def run(house: House, hours: float, inputs=WINTER) -> dict[str, float]:
    values = {}
    for tick in range(1, round(hours * 3600 / house.period_s) + 1):
        values = house.step(tick * house.period_s, inputs)
    return values


def quiet(**parameters) -> House:
    return House(noise=False, **parameters)


@pytest.mark.parametrize("emitter", ["radiator", "floor"])
def test_it_keeps_the_rules_of_a_plant(emitter):
    check_plant(lambda: House(emitter=emitter))
    assert plant_class("house") is House


@settings(max_examples=10, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "heat_pump": st.sampled_from([0.0, 1.0]),
                "set_point": st.floats(20.0, 60.0),
                "emitter_pump": st.floats(0.0, 1.0),
                "ambient": st.floats(-25.0, 40.0),
                "sun": st.floats(0.0, 1_000.0),
                "internal_gains": st.floats(0.0, 2_000.0),
            }
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(["radiator", "floor"]),
)
def test_energy_is_conserved_whatever_is_done(inputs, emitter):
    house = quiet(emitter=emitter, relative_humidity=0.95)
    for each in inputs:
        run(house, 1, each)
        assert abs(house.energy.imbalance) < 1e-9


@pytest.mark.parametrize("period_s", [1.0, 5.0, 60.0])
def test_the_length_of_the_step_changes_nothing_beyond_a_thousandth(period_s):
    def end(period):
        # Weather in which the unit modulates and neither stops nor frosts.
        house = quiet(period_s=period)
        run(house, 6, WINTER | {"ambient": 9.0})
        return house

    expected, found = end(10.0), end(period_s)
    assert found._heat == pytest.approx(expected._heat, rel=1e-3)
    for name in ("electricity_j", "from_air_j", "to_sink_j", "to_water_j"):
        assert getattr(found.energy, name) == pytest.approx(
            getattr(expected.energy, name), rel=1e-3
        )


def test_the_tank_is_warm_at_the_top_and_turns_over_when_it_is_not():
    house = quiet()
    for tick in range(1, 2_000):
        values = house.step(tick * 10.0, WINTER)
    assert values["tank_top"] > values["tank_bottom"] + 1.0
    still = WINTER | {"heat_pump": 0.0, "emitter_pump": 0.0}
    house = quiet()
    house._heat[:5] = [20.0, 20.0, 30.0, 40.0, 40.0]
    total = sum(house._heat[:5])
    values = run(house, 0.5, still)
    assert values["tank_top"] >= values["tank_bottom"] - 0.3
    assert sum(house._heat[:5]) == pytest.approx(total, abs=1.0)


def test_a_tank_at_rest_keeps_its_layers_for_hours():
    house = quiet()
    house._heat[:5] = [50.0, 45.0, 40.0, 30.0, 25.0]
    values = run(house, 2, WINTER | {"heat_pump": 0.0, "emitter_pump": 0.0})
    assert values["tank_top"] - values["tank_bottom"] > 20.0


@pytest.mark.parametrize("emitter", ["radiator", "floor"])
def test_more_heating_more_sun_and_milder_weather_make_it_warmer(emitter):
    def zone(**inputs):
        return run(quiet(emitter=emitter), 6, WINTER | inputs)["zone_temp"]

    usual = zone()
    assert zone(set_point=28.0) < usual - 0.05
    assert zone(sun=300.0) > usual + 0.05
    assert zone(ambient=8.0) > usual + 0.05
    assert zone(internal_gains=1_200.0) > usual + 0.05
    assert zone(emitter_pump=0.0) < usual - 0.05
    assert zone(heat_pump=0.0) < usual - 0.05


def test_the_floor_is_slower_and_cooler_than_the_radiator():
    radiator = run(quiet(emitter="radiator"), 1)
    floor = run(quiet(emitter="floor"), 1)
    assert floor["emitter_temp"] < radiator["emitter_temp"] - 5.0


def test_the_house_loses_what_its_parameters_say():
    # At rest the heat it loses is UA · (zone − ambient), to the outside only.
    house = quiet(wall_j_per_k=1e6, zone_j_per_k=1e6)
    run(house, 36, WINTER | {"ambient": 9.0, "set_point": 45.0})
    before = house.energy
    zone = []
    for tick in range(2_000):
        house.step(tick * 10.0, WINTER | {"ambient": 9.0, "set_point": 45.0})
        zone.append(house._heat[6])
    lost = (house.energy.to_sink_j - before.to_sink_j + 200.0 * 20_000) / 20_000
    wall = 1 / (1 / 100.0 + 1 / 1_200.0)
    expected = (90.0 + wall) * (sum(zone) / len(zone) - 9.0)
    assert lost == pytest.approx(expected, rel=0.01)


def test_it_defrosts_in_humid_frost_and_takes_the_heat_from_the_water():
    house = quiet(relative_humidity=0.95)
    cold, seen = WINTER | {"ambient": -1.0}, []
    for tick in range(1, 4_000):
        values = house.step(tick * 10.0, cold)
        if values["defrost"]:
            seen.append(values["heat_output"])
    assert seen
    assert min(seen) < -1_000.0


def test_it_stays_finite_and_bounded_under_wild_inputs():
    house, chance = House(relative_humidity=0.95), random.Random(2)
    inputs = dict(WINTER)
    for tick in range(20_000):
        if tick % 83 == 0:
            inputs = {
                s.name: chance.uniform(*s.range)
                for s in house.signals.with_role("command", "disturbance")
            }
        values = house.step(tick * 10.0, inputs)
        assert all(map(math.isfinite, values.values()))
        assert all(-60.0 < t < 130.0 for t in house._heat)


def test_a_snapshot_is_where_it_goes_on_from():
    house = House()
    house.reset(seed=3)
    run(house, 1)
    state = pickle.loads(pickle.dumps(house.snapshot()))
    ahead = [house.step(t * 10.0, WINTER) for t in range(900)]
    house.restore(state)
    assert [house.step(t * 10.0, WINTER) for t in range(900)] == ahead


def test_it_speaks_plain_text_on_the_bus_once_a_period():
    clock = VirtualClock()
    bus = LocalBus(clock)
    heard = []
    bus.observe(
        lambda m: (
            heard.append((clock.now, float(m.payload)))
            if m.topic == "house/zone_temp"
            else None
        )
    )
    Device(House(), bus, clock)
    clock.run(until=35.0)
    assert [time for time, _ in heard] == [0.0, 10.0, 20.0, 30.0]
    assert all(19.0 < value < 21.0 for _, value in heard)


def test_its_parameters_are_written_with_their_units(tmp_path):
    (tmp_path / "house.yaml").write_text(
        "{zone: 4 MJ/K, tank_water: 0.5 t, ua_vent: 0.1 kW/K, period: 1min}"
    )
    document = Document.read(tmp_path / "house.yaml")
    mistakes = []
    house = build(
        House,
        document.data,
        signals=None,
        document=document,
        place=(),
        mistakes=mistakes,
    )
    assert mistakes == []
    assert house.period_s == 60.0
    assert house.ua_vent == 100.0
    assert house._capacities[6] == 4e6
    assert sum(house._capacities[:5]) == pytest.approx(500.0 * 4186.0)


def test_an_emitter_that_does_not_exist_is_refused():
    with pytest.raises(PlaygroundError, match="radiator or floor"):
        House(emitter="stove")


def test_a_parameter_that_cannot_be_is_refused():
    with pytest.raises(PlaygroundError, match="tank_water_kg"):
        House(tank_water_kg=0.0)
