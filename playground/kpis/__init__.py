"""Key performance indicators: functions of a trajectory.

`formulas` holds the arithmetic on plain arrays; here a KPI gets its signals. A
scenario says once which signal plays which role (``electricity``, ``heat``,
``zones`` …), and each KPI takes the roles it needs::

    kpis:
      roles: {electricity: power, heat: heat_power, of: vsd1}
      use: [ener_tot, pf, starts_per_hour, travel: {of: valve, as: valve_travel}]
      limits: ["starts_per_hour <= 6"]

A user's own is named ``module:function``; it is called with a `Trajectory` and
returns a number. No file is read here but tables of prices and limits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from playground.arrays import Array, np
from playground.errors import PlaygroundError, closest
from playground.expression import limit
from playground.kpis import formulas
from playground.parameters import load_class
from playground.quantity import convert, quantity, split_quantity
from playground.signals import Signals
from playground.table import read_table
from playground.trajectory import Trajectory


class _Role(NamedTuple):
    """A parameter of a KPI that is an array over time.

    Attributes:
        unit: What the formula wants; None: as the signal has it.
        many: A list of signals.
        like: Another role, whose signal's unit is wanted.
        optional: May be left out.
    """

    unit: str | None = None
    many: bool = False
    like: str | None = None
    optional: bool = False


class _Number(NamedTuple):
    """A parameter of a KPI that is one number.

    Attributes:
        unit: Its unit; None: that of the role ``like``.
        default: Where it is left out.
        like: A role, whose signal's unit it has.
        difference: It is a difference of two values.
    """

    unit: str | None = None
    default: float | None = None
    like: str | None = None
    difference: bool = False


class _Kind(NamedTuple):
    """A kind of KPI: its parameters, its formula, its unit."""

    unit: str
    formula: Callable[[_Given], float | None]
    parameters: Mapping[str, _Role | _Number]
    about: str
    trapezoid: bool = False


class _Given(NamedTuple):
    """What a formula is called with."""

    times_s: Array
    durations_s: Array
    arrays: Mapping[str, Any]
    numbers: Mapping[str, float | None]

    def running(self) -> Array:
        """Returns 1 where the signal ``of`` is above its threshold, NaN in gaps."""
        of, above = self.arrays["of"], self.numbers["above"]
        return np.where(np.isnan(of), np.nan, (of > above).astype(float))


_POWER = _Role("W")
_SOURCES = _Role("W", many=True)
_AREA = _Number("m^2", 1.0)
_START = _Number("W", formulas.STARTING_POWER_W)
_OF: dict[str, _Role | _Number] = {"of": _Role(), "above": _Number(like="of")}
_FOLLOW: dict[str, _Role | _Number] = {"of": _Role(), "setpoint": _Role(like="of")}


def _boptest(name: str) -> Callable[[_Given], float | None]:
    formula = getattr(formulas, name)
    return lambda g: formula(g.times_s, **g.arrays, **g.numbers)


def _held(name: str) -> Callable[[_Given], float | None]:
    formula = getattr(formulas, name)
    return lambda g: formula(g.durations_s, **g.arrays, **g.numbers)


def _follow(g: _Given) -> dict[str, Array]:
    return {"values": g.arrays["of"], "setpoint": g.arrays["setpoint"]}


_ENERGY: dict[str, _Role | _Number] = {"electricity": _SOURCES, "area_m2": _AREA}
KPIS: dict[str, _Kind] = {
    "tdis_tot": _Kind(
        "K*h",
        _boptest("tdis_tot"),
        {
            "zones": _Role("K", many=True),
            "lower": _Role("K"),
            "upper": _Role("K"),
        },
        "thermal discomfort per zone (BOPTEST)",
        trapezoid=True,
    ),
    "idis_tot": _Kind(
        "ppm*h",
        _boptest("idis_tot"),
        {"co2": _Role("ppm", many=True), "co2_upper": _Role("ppm")},
        "indoor air discomfort per zone (BOPTEST)",
        trapezoid=True,
    ),
    "ener_tot": _Kind(
        "kWh/m^2",
        _boptest("ener_tot"),
        _ENERGY,
        "energy per area (BOPTEST)",
        trapezoid=True,
    ),
    "cost_tot": _Kind(
        "EUR/m^2",
        _boptest("cost_tot"),
        {**_ENERGY, "price": _Role("EUR/kWh")},
        "cost per area (BOPTEST)",
        trapezoid=True,
    ),
    "emis_tot": _Kind(
        "kg/m^2",
        _boptest("emis_tot"),
        {**_ENERGY, "emission": _Role("kg/kWh")},
        "CO2 per area (BOPTEST)",
        trapezoid=True,
    ),
    "pele_tot": _Kind(
        "kW/m^2",
        _boptest("pele_tot"),
        _ENERGY,
        "largest electric 15-min mean per area (BOPTEST)",
        trapezoid=True,
    ),
    "pgas_tot": _Kind(
        "kW/m^2",
        lambda g: formulas.pele_tot(
            g.times_s, electricity=g.arrays["gas"], area_m2=g.numbers["area_m2"] or 1.0
        ),
        {"gas": _Role("W", many=True, optional=True), "area_m2": _AREA},
        "largest 15-min mean of gas per area (BOPTEST)",
        trapezoid=True,
    ),
    "pdih_tot": _Kind(
        "kW/m^2",
        lambda g: formulas.pele_tot(
            g.times_s,
            electricity=g.arrays["district_heat"],
            area_m2=g.numbers["area_m2"] or 1.0,
        ),
        {"district_heat": _Role("W", many=True, optional=True), "area_m2": _AREA},
        "largest 15-min mean of district heat per area (BOPTEST)",
        trapezoid=True,
    ),
    "pf": _Kind(
        "1",
        _held("pf"),
        {"heat": _POWER, "electricity": _POWER},
        "heat over electricity",
    ),
    "running_pf": _Kind(
        "1",
        _held("running_pf"),
        {"heat": _POWER, "electricity": _POWER, "starting_power_w": _START},
        "heat over electricity while it runs",
    ),
    "cop_mean": _Kind(
        "1",
        lambda g: formulas.cop_mean(
            heat=g.arrays["heat"],
            electricity=g.arrays["electricity"],
            starting_power_w=g.numbers["starting_power_w"] or 0.0,
        ),
        {"heat": _POWER, "electricity": _POWER, "starting_power_w": _START},
        "mean of the momentary COP while it runs",
    ),
    "electricity_kwh": _Kind(
        "kWh",
        lambda g: formulas.energy_kwh(g.durations_s, g.arrays["electricity"]),
        {"electricity": _POWER},
        "electricity used",
    ),
    "heat_kwh": _Kind(
        "kWh",
        lambda g: formulas.energy_kwh(g.durations_s, g.arrays["heat"]),
        {"heat": _POWER},
        "heat delivered",
    ),
    "standby_kwh": _Kind(
        "kWh",
        _held("standby_kwh"),
        {"electricity": _POWER, "starting_power_w": _START},
        "electricity used while it does not run",
    ),
    "defrost_kwh": _Kind(
        "kWh", _held("defrost_kwh"), {"heat": _POWER}, "heat taken back from the water"
    ),
    "starts": _Kind("1", lambda g: float(formulas.starts(g.running())), _OF, "starts"),
    "starts_per_hour": _Kind(
        "1/h",
        lambda g: formulas.starts_per_hour(g.durations_s, running=g.running()),
        _OF,
        "starts per hour",
    ),
    "min_run_time_s": _Kind(
        "s",
        lambda g: formulas.shortest(g.durations_s, running=g.running(), on=True),
        _OF,
        "shortest complete time on",
    ),
    "min_off_time_s": _Kind(
        "s",
        lambda g: formulas.shortest(g.durations_s, running=g.running(), on=False),
        _OF,
        "shortest complete time off",
    ),
    "travel": _Kind(
        "of",
        lambda g: formulas.travel(g.arrays["of"]),
        {"of": _Role()},
        "way of an actuator",
    ),
    "saturation_share": _Kind(
        "1",
        lambda g: formulas.saturation_share(
            g.durations_s,
            values=g.arrays["of"],
            low=_or(g.numbers["low"], -math.inf),
            high=_or(g.numbers["high"], math.inf),
        ),
        {"of": _Role(), "low": _Number(like="of"), "high": _Number(like="of")},
        "share of time at an end stop",
    ),
    "iae": _Kind(
        "of*s",
        lambda g: formulas.iae(g.durations_s, **_follow(g)),
        _FOLLOW,
        "integral of the absolute error",
    ),
    "ise": _Kind(
        "of^2*s",
        lambda g: formulas.ise(g.durations_s, **_follow(g)),
        _FOLLOW,
        "integral of the squared error",
    ),
    "overshoot": _Kind(
        "percent",
        lambda g: formulas.overshoot(**_follow(g)),
        _FOLLOW,
        "overshoot of the step",
    ),
    "rise_time_s": _Kind(
        "s",
        lambda g: formulas.rise_time_s(g.times_s, **_follow(g)),
        _FOLLOW,
        "10 % to 90 %",
    ),
    "settling_time_s": _Kind(
        "s",
        lambda g: formulas.settling_time_s(
            g.times_s, **_follow(g), band=g.numbers["band"]
        ),
        {**_FOLLOW, "band": _Number(like="of", difference=True)},
        "time until the error stays in the band",
    ),
    "unmet_hours": _Kind(
        "h",
        lambda g: formulas.unmet_hours(
            g.durations_s,
            values=g.arrays["of"],
            setpoint=g.arrays["setpoint"],
            band=_or(g.numbers["band"], 1.0),
        ),
        {**_FOLLOW, "band": _Number(like="of", difference=True)},
        "hours below the set point by more than the band",
    ),
}


def _or(value: float | None, other: float) -> float:
    return other if value is None else value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kpi:
    """A KPI that knows its signals.

    Attributes:
        name: In tables and limits.
        unit: Of its value.
        signals: Names of the signals it needs.
        about: A few words for people.
    """

    name: str
    unit: str
    signals: tuple[str, ...]
    about: str
    _compute: Callable[[Trajectory], float | None] = field(repr=False)

    def of(self, trajectory: Trajectory) -> float | None:
        """Computes it; None where there is nothing to compute it from."""
        value = self._compute(trajectory)
        return None if value is None or not math.isfinite(value) else float(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """``starts_per_hour <= 6``, or ``cost_tot <= 105 % of baseline``.

    Attributes:
        text: As it was written.
        kpi: Name of the KPI.
        operator: One of ``<= < >= > == !=``.
        value: In the unit of the KPI; a share of the baseline where ``relative``.
        relative: To the same KPI of the baseline.
    """

    text: str
    kpi: str
    operator: str
    value: float
    relative: bool = False


def read_kpi(
    kind: str,
    given: Mapping[str, Any],
    roles: Mapping[str, Any],
    signals: Signals,
    *,
    folder: Path = Path(),
) -> Kpi:
    """Makes a KPI from what stands in a scenario.

    Args:
        kind: One of `KPIS`, or ``module:function``.
        given: Its own parameters; ``as`` gives it another name.
        roles: What all KPIs of the scenario may take.
        signals: The plant's.
        folder: Where tables are looked for.

    Raises:
        PlaygroundError: There is no such KPI, or a parameter is missing,
            unknown, or has a wrong unit.
    """
    if ":" in kind:
        return _users_own(kind, given, signals)
    if kind not in KPIS:
        raise PlaygroundError(
            f"There is no KPI {kind!r}.{closest(kind, KPIS)}",
            f"known KPIs: {', '.join(KPIS)}; your own: 'module:function'",
        )
    spec = KPIS[kind]
    keys = {
        name.removesuffix("_m2").removesuffix("_w"): name for name in spec.parameters
    }
    for key in given:
        if key != "as" and key not in keys:
            raise PlaygroundError(
                f"unknown parameter {key!r} of {kind}.{closest(str(key), keys)}",
                f"parameters: {', '.join(keys)}, as",
            )
    written = {**roles, **given}
    arrays: dict[str, Any] = {}
    for key, name in keys.items():
        role = spec.parameters[name]
        if isinstance(role, _Role):
            arrays[name] = _sources(kind, key, role, written, signals, folder)
    numbers: dict[str, float | None] = {}
    for key, name in keys.items():
        number = spec.parameters[name]
        if isinstance(number, _Number):
            numbers[name] = _number(key, number, written, signals)
    needed: dict[str, None] = {}
    for sources in arrays.values():
        for source in sources if isinstance(sources, list) else [sources]:
            if source.signal is not None:
                needed[source.signal] = None

    def compute(trajectory: Trajectory) -> float | None:
        times, durations, filled = _samples(trajectory, tuple(needed), spec.trapezoid)
        values = {
            name: [s.at(times, filled) for s in sources]
            if isinstance(sources, list)
            else sources.at(times, filled)
            for name, sources in arrays.items()
        }
        return spec.formula(_Given(times, durations, values, numbers))

    return Kpi(
        name=str(given.get("as", kind)),
        unit=_unit(spec.unit, written, signals),
        signals=tuple(needed),
        about=spec.about,
        _compute=compute,
    )


def _samples(
    trajectory: Trajectory,
    names: Sequence[str],
    trapezoid: bool,  # noqa: FBT001
) -> tuple[Array, Array, dict[str, Array]]:
    """Returns the instants at which one of the signals changes hands, and values.

    A trapezoid needs a last sample at the end of the span.
    """
    times, durations = trajectory.times_s, trajectory.durations_s
    values = {name: trajectory.values[name] for name in names}
    if trapezoid and trajectory.end_s > times[-1]:
        times = np.append(times, trajectory.end_s)
        durations = np.append(durations, 0.0)
        values = {name: np.append(v, v[-1]) for name, v in values.items()}
    return times, durations, values


class _Source(NamedTuple):
    """Where an array comes from: a signal, a number, or a table."""

    signal: str | None
    factor: float
    offset: float
    table: Any = None

    def at(self, times_s: Array, values: Mapping[str, Array]) -> Array:
        if self.signal is not None:
            column = values[self.signal]
            if self.factor == 1.0 and self.offset == 0.0:
                return column
            return column * self.factor + self.offset
        if self.table is not None:
            return np.asarray(self.table.at(times_s), float)
        return np.full(times_s.shape, self.offset)


def _sources(
    kind: str,
    key: str,
    role: _Role,
    written: Mapping[str, Any],
    signals: Signals,
    folder: Path,
) -> Any:
    if key not in written:
        if role.optional:
            return []
        raise PlaygroundError(
            f"{kind} needs to know which signal is its {key!r}.",
            f"write 'roles: {{{key}: …}}' below kpis, or '{kind}: {{{key}: …}}'",
        )
    unit = role.unit
    if role.like is not None:
        like = written.get(role.like)
        unit = signals.need(like).unit if isinstance(like, str) else None
    value = written[key]
    if role.many:
        several = value if isinstance(value, list) else [value]
        return [_source(one, unit, signals, folder) for one in several]
    if isinstance(value, list):
        if len(value) != 1:
            raise PlaygroundError(f"{kind} takes one signal as {key!r}, not a list.")
        value = value[0]
    return _source(value, unit, signals, folder)


def _source(value: Any, unit: str | None, signals: Signals, folder: Path) -> _Source:
    if isinstance(value, Mapping):
        return _Source(None, 1.0, 0.0, read_table(value, unit or "1", folder=folder))
    if isinstance(value, str) and not _begins_with_number(value):
        signal = signals.need(value)
        wanted = unit or signal.unit
        zero = convert(0.0, signal.unit, wanted)
        return _Source(value, convert(1.0, signal.unit, wanted) - zero, zero)
    return _Source(None, 0.0, quantity(value, unit or "1"))


def _begins_with_number(text: str) -> bool:
    try:
        split_quantity(text)
    except PlaygroundError:
        return False
    return True


def _number(
    key: str, number: _Number, written: Mapping[str, Any], signals: Signals
) -> float | None:
    of = written.get(number.like) if number.like else None
    signal = signals.need(of) if isinstance(of, str) else None
    unit = signal.unit if signal is not None else number.unit or "1"
    if key in written:
        return quantity(written[key], unit, difference=number.difference)
    if key in ("low", "high") and signal is not None and signal.range is not None:
        return signal.range[0] if key == "low" else signal.range[1]
    if key == "above":
        try:
            return convert(formulas.STARTING_POWER_W, "W", unit)
        except PlaygroundError:
            return 0.0
    return number.default


def _unit(unit: str, written: Mapping[str, Any], signals: Signals) -> str:
    if not unit.startswith("of"):
        return unit
    of = written.get("of")
    own = signals.need(of).unit if isinstance(of, str) else "1"
    # All that is summed up of a temperature are differences.
    own = {"degC": "K", "degF": "degR"}.get(own, own)
    if unit != "of" and own == "1":
        own = ""
    if unit == "of^2*s":
        return f"({own})^2*s" if own else "s"
    return own + unit.removeprefix("of") if own else unit.removeprefix("of*")


def _users_own(kind: str, given: Mapping[str, Any], signals: Signals) -> Kpi:
    function = load_class(kind, "KPI", KPIS)
    names = given.get("signals", [])
    if not isinstance(names, list):
        names = [names]
    for name in names:
        signals.need(name)
    rest = {k: v for k, v in given.items() if k not in ("as", "unit", "signals")}

    def compute(trajectory: Trajectory) -> float | None:
        value = function(trajectory, **rest)
        return None if value is None else float(value)

    return Kpi(
        name=str(given.get("as", kind.partition(":")[2])),
        unit=str(given.get("unit", "1")),
        signals=tuple(names),
        about=(getattr(function, "__doc__", "") or "").partition("\n")[0],
        _compute=compute,
    )


def read_limit(text: str, kpis: Mapping[str, Kpi]) -> Limit:
    """Reads ``starts_per_hour <= 6`` or ``cost_tot <= 105 % of baseline``.

    Raises:
        PlaygroundError: There is no such KPI, or its unit does not convert.
    """
    name, operator, value, rest = limit(text)
    if name not in kpis:
        raise PlaygroundError(
            f"{text!r}: there is no KPI {name!r} below 'use'.{closest(name, kpis)}",
            f"KPIs in use: {', '.join(kpis) or 'none'}",
        )
    share = rest.removesuffix("of baseline").strip() if "baseline" in rest else None
    if share is not None:
        if not rest.endswith("of baseline") or share not in ("%", "percent"):
            raise PlaygroundError(
                f"{text!r} is not a share of the baseline.",
                f"write for instance '{name} {operator} 105 % of baseline'",
            )
        return Limit(
            text=text, kpi=name, operator=operator, value=value / 100, relative=True
        )
    unit = kpis[name].unit
    # A KPI has one unit, which its name says: a bare number is in that unit.
    number = convert(value, rest, unit) if rest else value
    return Limit(text=text, kpi=name, operator=operator, value=number)
