import math

import pytest

from playground.plants import refrigerant as propane


def test_pressure_and_temperature_are_inverse():
    for degc in range(-30, 76, 5):
        bar = propane.saturation_pressure_bar(degc)
        assert propane.saturation_temperature_degc(bar) == pytest.approx(degc)


def test_pressure_is_that_of_published_tables():
    # Saturated propane, ASHRAE Fundamentals (2017), table "Refrigerant 290".
    for degc, bar in ((-20.0, 2.445), (0.0, 4.745), (20.0, 8.365), (50.0, 17.13)):
        assert propane.saturation_pressure_bar(degc) == pytest.approx(bar, rel=6e-3)


def test_the_fits_are_as_good_as_they_say():
    properties = pytest.importorskip(
        "CoolProp.CoolProp", reason="CoolProp (extra 'physics') is not installed"
    ).PropsSI
    for tenth in range(-300, 751, 7):
        degc = tenth / 10
        kelvin = degc + 273.15
        bar = properties("P", "T", kelvin, "Q", 1, "R290") / 1e5
        assert propane.saturation_pressure_bar(degc) == pytest.approx(bar, rel=5e-3)
        assert propane.saturation_temperature_degc(bar) == pytest.approx(degc, abs=0.25)
        if degc <= 30:
            density = properties("D", "T", kelvin, "Q", 1, "R290")
            assert propane.vapour_density_kg_per_m3(degc) == pytest.approx(
                density, rel=5e-4
            )


def test_hot_gas_lies_between_those_of_good_and_poor_compressors():
    properties = pytest.importorskip(
        "CoolProp.CoolProp", reason="CoolProp (extra 'physics') is not installed"
    ).PropsSI

    def discharge(evaporating, condensing, superheat, efficiency):
        low = properties("P", "T", evaporating + 273.15, "Q", 1, "R290")
        high = properties("P", "T", condensing + 273.15, "Q", 1, "R290")
        state = ("T", evaporating + superheat + 273.15, "P", low, "R290")
        begin = properties("H", *state)
        ideal = properties("H", "P", high, "S", properties("S", *state), "R290")
        end = begin + (ideal - begin) / efficiency
        return properties("T", "P", high, "H", end, "R290") - 273.15

    for evaporating, condensing in ((13.8, 57.4), (5.0, 35.0), (0.0, 55.0)):
        found = propane.discharge_temperature_degc(
            evaporating + 4.0, evaporating, condensing
        )
        assert discharge(evaporating, condensing, 4.0, 0.85) < found
        assert found < discharge(evaporating, condensing, 4.0, 0.65)


def test_compression_without_a_rise_of_pressure_heats_nothing():
    found = propane.discharge_temperature_degc(20.0, 10.0, 10.0)
    assert math.isclose(found, 20.0)
