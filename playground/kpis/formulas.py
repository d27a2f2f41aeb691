"""The formulas behind the KPIs, on plain arrays.

Arrays have shape (n,): value k belongs to instant k of ``times_s``, seconds,
ascending; NaN is a gap and counts nowhere. Formulas of BOPTEST integrate by the
trapezoidal rule, as BOPTEST does; the others hold each value until the next,
as messages do. Nothing here knows a signal, a file or a scenario.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from playground.arrays import Array, np

KWH_PER_J = 2.77778e-7
"""As BOPTEST rounds it (kpis/kpi_calculator.py); the exact factor would differ
in the seventh digit and with it every published figure."""
STARTING_POWER_W = 150.0
PEAK_S = 900.0


def integral(times_s: Array, values: Array) -> float:
    """Returns ∫ values dt by the trapezoidal rule; gaps count nothing."""
    parts = np.diff(times_s) * (values[1:] + values[:-1]) / 2.0
    return float(parts.sum() if not np.isnan(parts).any() else np.nansum(parts))


def held_sum(durations_s: Array, values: Array) -> float:
    """Returns ∫ values dt where each value holds for its duration."""
    return float(np.nansum(values * durations_s))


# BOPTEST, docs/design core_kpi.rst


def tdis_tot(
    times_s: Array, *, zones: Sequence[Array], lower: Array, upper: Array
) -> float:
    """Thermal discomfort, K·h per zone: ∫ outside ``lower`` … ``upper``."""
    total = 0.0
    for zone in zones:
        total += integral(times_s, np.maximum(lower - zone, 0.0))
        total += integral(times_s, np.maximum(zone - upper, 0.0))
    return total / 3600.0 / len(zones)


def idis_tot(times_s: Array, *, co2: Sequence[Array], co2_upper: Array) -> float:
    """Indoor air discomfort, ppm·h per zone: ∫ above ``co2_upper``."""
    total = sum(integral(times_s, np.maximum(zone - co2_upper, 0.0)) for zone in co2)
    return total / 3600.0 / len(co2)


def ener_tot(
    times_s: Array, *, electricity: Sequence[Array], area_m2: float = 1.0
) -> float:
    """Energy per floor area, kWh/m²; ``electricity`` is the power of each source, W."""
    return sum(integral(times_s, p) * KWH_PER_J for p in electricity) / area_m2


def cost_tot(
    times_s: Array,
    *,
    electricity: Sequence[Array],
    price: Array,
    area_m2: float = 1.0,
) -> float:
    """Cost per floor area, EUR/m²; ``price`` in EUR/kWh, may be negative."""
    costs = sum(integral(times_s, price * p) * KWH_PER_J for p in electricity)
    return costs / area_m2


def emis_tot(
    times_s: Array,
    *,
    electricity: Sequence[Array],
    emission: Array,
    area_m2: float = 1.0,
) -> float:
    """Emissions per floor area, kgCO2/m²; ``emission`` in kg/kWh."""
    emitted = sum(integral(times_s, emission * p) * KWH_PER_J for p in electricity)
    return emitted / area_m2


def pele_tot(
    times_s: Array, *, electricity: Sequence[Array], area_m2: float = 1.0
) -> float | None:
    """Peak power per floor area, kW/m²: largest mean over 15 min.

    The bins begin at multiples of 900 s. None without a source.
    """
    if not len(electricity):
        return None
    power = np.sum(np.stack(list(electricity)), axis=0)
    known = ~np.isnan(power)
    if not known.any():
        return None
    bins = np.floor(times_s[known] / PEAK_S).astype(np.int64)
    _, place = np.unique(bins, return_inverse=True)
    means = np.bincount(place, weights=power[known]) / np.bincount(place)
    return float(means.max()) / area_m2 / 1000.0


# Heat pump


def pf(durations_s: Array, *, heat: Array, electricity: Array) -> float | None:
    """Performance factor: delivered heat over electricity, where both are known.

    Not the mean of the momentary COP, see `cop_mean`.
    """
    both = ~np.isnan(heat) & ~np.isnan(electricity)
    used = held_sum(durations_s[both], electricity[both])
    return held_sum(durations_s[both], heat[both]) / used if used else None


def running_pf(
    durations_s: Array,
    *,
    heat: Array,
    electricity: Array,
    starting_power_w: float = STARTING_POWER_W,
) -> float | None:
    """`pf` of the time in which the heat pump runs."""
    running = electricity >= starting_power_w
    return pf(
        durations_s,
        heat=np.where(running, heat, np.nan),
        electricity=np.where(running, electricity, np.nan),
    )


def cop_mean(
    *, heat: Array, electricity: Array, starting_power_w: float = STARTING_POWER_W
) -> float | None:
    """Mean of heat over electricity of the samples in which the machine runs."""
    both = ~np.isnan(heat) & (electricity >= starting_power_w)
    return float(np.mean(heat[both] / electricity[both])) if both.any() else None


def carnot_cop(*, cold_degc: float, hot_degc: float) -> float:
    """Largest possible COP of heating between two temperatures."""
    return (hot_degc + 273.15) / (hot_degc - cold_degc)


def energy_kwh(durations_s: Array, power_w: Array) -> float:
    """Energy of a held power, kWh (exact factor)."""
    return held_sum(durations_s, power_w) / 3.6e6


def standby_kwh(
    durations_s: Array,
    *,
    electricity: Array,
    starting_power_w: float = STARTING_POWER_W,
) -> float:
    """Electricity used while the machine does not run, kWh."""
    running = electricity >= starting_power_w
    return energy_kwh(durations_s, np.where(running, np.nan, electricity))


def defrost_kwh(durations_s: Array, *, heat: Array) -> float:
    """Heat taken back out of the water, kWh, as a positive number."""
    return energy_kwh(durations_s, np.maximum(-heat, 0.0))


# Wear


def starts(running: Array) -> int:
    """Transitions from off to on; gaps (NaN) are skipped."""
    known = running[~np.isnan(running)] > 0
    return int(np.count_nonzero(known[1:] & ~known[:-1]))


def starts_per_hour(durations_s: Array, *, running: Array) -> float | None:
    """Starts over all hours of the span."""
    hours = float(durations_s.sum()) / 3600.0
    return starts(running) / hours if hours else None


def shortest(durations_s: Array, *, running: Array, on: bool) -> float | None:
    """Returns the shortest complete time on (or off), seconds.

    Times cut by the edge of the span are not complete. None: there is none.
    """
    known = ~np.isnan(running)
    state = running[known] > 0
    if not len(state):
        return None
    lengths = durations_s[known]
    edges = np.flatnonzero(np.diff(state)) + 1
    sums = np.add.reduceat(lengths, np.concatenate([[0], edges]))
    firsts = state[np.concatenate([[0], edges])]
    complete = [
        float(length)
        for length, is_on in zip(sums[1:-1], firsts[1:-1], strict=True)
        if is_on == on
    ]
    return min(complete) if complete else None


def travel(values: Array) -> float:
    """Way of an actuator, Σ|Δu|; gaps are skipped."""
    return float(np.abs(np.diff(values[~np.isnan(values)])).sum())


def saturation_share(
    durations_s: Array, *, values: Array, low: float, high: float
) -> float | None:
    """Share of time at an end stop."""
    known = ~np.isnan(values)
    whole = float(durations_s[known].sum())
    stuck = known & ((values <= low) | (values >= high))
    return float(durations_s[stuck].sum()) / whole if whole else None


# Control quality


def iae(durations_s: Array, *, values: Array, setpoint: Array) -> float:
    """Integral of the absolute error, unit·s."""
    return held_sum(durations_s, np.abs(setpoint - values))


def ise(durations_s: Array, *, values: Array, setpoint: Array) -> float:
    """Integral of the squared error, unit²·s."""
    return held_sum(durations_s, (setpoint - values) ** 2)


def _step(values: Array, setpoint: Array) -> tuple[Array, float] | None:
    """Returns the way to the last set point as 0 … 1, and the size of the step."""
    known = np.flatnonzero(~np.isnan(values) & ~np.isnan(setpoint))
    if not len(known):
        return None
    first = float(values[known[0]])
    size = float(setpoint[known[-1]]) - first
    return ((values - first) / size, size) if size else None


def overshoot(*, values: Array, setpoint: Array) -> float | None:
    """Largest excess beyond the set point, percent of the step; None: no step."""
    step = _step(values, setpoint)
    return None if step is None else max(0.0, float(np.nanmax(step[0])) - 1.0) * 100.0


def rise_time_s(times_s: Array, *, values: Array, setpoint: Array) -> float | None:
    """Seconds from 10 % to 90 % of the step; None: never got there."""
    step = _step(values, setpoint)
    if step is None:
        return None
    low, high = step[0] >= 0.1, step[0] >= 0.9
    if not high.any():
        return None
    return float(times_s[int(np.argmax(high))] - times_s[int(np.argmax(low))])


def settling_time_s(
    times_s: Array, *, values: Array, setpoint: Array, band: float | None = None
) -> float | None:
    """Seconds until the error stays within the band; None: it never does.

    Args:
        times_s: Instants.
        values: What should follow.
        setpoint: What it should follow.
        band: Half its width, in the unit of the values; by default 5 % of the
            step.
    """
    if band is None:
        step = _step(values, setpoint)
        if step is None:
            return None
        band = 0.05 * abs(step[1])
    outside = np.flatnonzero(~(np.abs(setpoint - values) <= band))
    if not len(outside):
        return 0.0
    after = int(outside[-1]) + 1
    return float(times_s[after] - times_s[0]) if after < len(times_s) else None


def unmet_hours(
    durations_s: Array,
    *,
    values: Array,
    setpoint: Array,
    band: float = 1.0,
    side: Literal["below", "above", "both"] = "below",
) -> float:
    """Hours in which the set point is missed by more than the band."""
    error = setpoint - values
    missed = {"below": error > band, "above": -error > band}.get(
        side, np.abs(error) > band
    )
    return float(durations_s[missed].sum()) / 3600.0
