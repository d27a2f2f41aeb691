"""Propane (R290) at saturation: what the rig's pressures and temperatures obey.

Small fits, so that a step needs no property library. They were fitted by least
squares to CoolProp 8.0 (Lemmon, McLinden and Wagner's equation of state for
propane); the tests compare them with CoolProp where it is installed.

Why propane: the registers show 5.9 to 6.2 bar at 13.1 to 14.6 °C evaporating,
and 7.2 bar at 19.8 °C at rest. Of the usual refrigerants only propane has these
saturation pressures (7.1 and 8.3 bar absolute), read as gauge pressure.
"""

from __future__ import annotations

from math import exp, log

ATMOSPHERE_BAR = 1.01325
ZERO_K = 273.15

_A, _B, _C = 9.70681967, 2173.02927907, 266.57925179
_D = (2.33713544, 2.94902065e-2, -9.24605835e-5, 6.10313827e-7)


def saturation_pressure_bar(temperature_degc: float) -> float:
    """Returns the saturation pressure of propane, bar absolute.

    Antoine form, -30 to 75 °C; within 0.5 % of CoolProp.
    """
    return exp(_A - _B / (temperature_degc + _C))


def saturation_temperature_degc(pressure_bar: float) -> float:
    """Returns the saturation temperature of propane, °C; inverse of the above.

    Within 0.25 K of CoolProp between -30 and 75 °C.
    """
    return _B / (_A - log(pressure_bar)) - _C


def vapour_density_kg_per_m3(temperature_degc: float) -> float:
    """Returns the density of saturated propane vapour.

    Cubic in the logarithm, -30 to 30 °C; within 0.05 % of CoolProp there.
    """
    a, b, c, d = _D
    t = temperature_degc
    return exp(a + t * (b + t * (c + t * d)))


def discharge_temperature_degc(
    suction_degc: float, evaporating_degc: float, condensing_degc: float
) -> float:
    """Returns the temperature of the gas that leaves the compressor.

    Polytropic compression, T2/T1 = (p2/p1)^n with n = 0.163. CoolProp gives n
    between 0.153 and 0.170 for isentropic efficiencies of 0.8 and 0.7; 0.163
    is what the rig's own registers give (17.2 °C to 71.2 °C).
    """
    # ln(p2/p1) follows from the Antoine form without any logarithm.
    rise = _B / (evaporating_degc + _C) - _B / (condensing_degc + _C)
    return (suction_degc + ZERO_K) * exp(0.163 * rise) - ZERO_K
