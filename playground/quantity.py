"""Numbers with a unit, as people write them: ``50 degC``, ``2 K``, ``10min``.

Durations are read without pint, which takes a third of a second to import and
is not needed for ``--for 10min``. Nothing here knows what a signal is.
"""

from __future__ import annotations

import functools
import math
import re
from typing import TYPE_CHECKING, Any

from playground.errors import PlaygroundError, closest

if TYPE_CHECKING:
    import pint

_SECONDS = {
    "ns": 1e-9,
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "sec": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "w": 604_800.0,
}
_PART = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Z]+)")
_NUMBER = re.compile(r"\s*([-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*?)\s*$")


def seconds(text: str | float) -> float:
    """Reads a duration such as ``10min``, ``1h30min``, ``500ms``, in seconds.

    Raises:
        PlaygroundError: The text is no duration, or a number has no unit.
    """
    if not isinstance(text, str):
        raise PlaygroundError(
            f"Duration {text!r} has no unit.", f"write '{text}s' or '{text}min'"
        )
    rest, total, found = text.strip(), 0.0, False
    while rest:
        part = _PART.match(rest)
        if part is None:
            number = _NUMBER.match(rest)
            if number and not number[2]:
                raise PlaygroundError(
                    f"Duration {text!r} has no unit.",
                    f"write '{rest}s', '{rest}min' or '{rest}h'",
                )
            raise PlaygroundError(
                f"{text!r} is not a duration.", "write for instance 10min, 1h30min, 5s"
            )
        if part[2] not in _SECONDS:
            raise PlaygroundError(
                f"Duration {text!r}: {part[2]!r} is not a unit of time "
                f"({', '.join(_SECONDS)}).{closest(part[2], _SECONDS)}",
                "write for instance 10min, 1h30min, 5s",
            )
        total += float(part[1]) * _SECONDS[part[2]]
        found = True
        rest = rest[part.end() :].strip()
    if not found:
        raise PlaygroundError("The duration is empty.", "write for instance 10min")
    return total


def say_seconds(duration_s: float) -> str:
    """Renders a duration for people: ``2 d 03:04:05``, ``1:02:03``, ``12.3 s``."""
    if duration_s < 0:
        return "-" + say_seconds(-duration_s)
    if duration_s < 60:
        return f"{duration_s:.3g} s"
    whole = round(duration_s)
    days, rest = divmod(whole, 86_400)
    clock = f"{rest // 3600}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days} d {clock}" if days else clock


@functools.cache
def _registry() -> pint.UnitRegistry[Any]:
    import pint

    registry: pint.UnitRegistry[Any] = pint.UnitRegistry(
        autoconvert_offset_to_baseunit=True
    )
    registry.define("EUR = [currency]")
    return registry


@functools.cache
def check_unit(unit: str) -> str:
    """Returns the unit if it is one (``degC``, ``l/s``, ``W``, ``1`` for none).

    Raises:
        PlaygroundError: Nobody knows such a unit.
    """
    if unit in _USUAL or unit in _TO_SI:
        return unit
    try:
        _registry().Unit(_spelled(unit))
    except Exception as error:
        raise PlaygroundError(
            f"{unit!r} is not a unit.{closest(unit, _USUAL)}",
            "write for instance degC, K, W, kWh, l/s, bar, rpm, A, V, or '1' for none",
        ) from error
    return unit


_USUAL = frozenset(
    {"1", "degC", "K", "degF", "W", "kW", "kWh", "J", "l/s", "l/min", "m^3/h", "bar"}
    | {"kPa", "Pa", "rpm", "Hz", "A", "mA", "V", "ppm", "percent", "kg/s", "s", "min"}
    | {"VA", "kVA", "l", "1/h", "1/s", "EUR/kWh", "kg/kWh", "K/W", "kW/K"}
    | {"h", "EUR", "kg", "m", "mm", "W/m^2", "psi", "W/K", "J/K"}
)


_DIFFERENCE = {"degC": "K", "degF": "degR"}
"""Unit of the difference of two values that are in this unit."""


def _spelled(unit: str) -> str:
    return "dimensionless" if unit == "1" else unit.replace("%", "percent")


_TO_SI: dict[str, tuple[str, float, float]] = {
    "1": ("", 1.0, 0.0),
    "percent": ("", 1e-2, 0.0),
    "%": ("", 1e-2, 0.0),
    "ppm": ("", 1e-6, 0.0),
    "K": ("K", 1.0, 0.0),
    "degC": ("K", 1.0, 273.15),
    "degF": ("K", 5 / 9, 459.67 * 5 / 9),
    "K/s": ("K/s", 1.0, 0.0),
    "K/min": ("K/s", 1 / 60, 0.0),
    "K/h": ("K/s", 1 / 3600, 0.0),
    "W": ("W", 1.0, 0.0),
    "kW": ("W", 1e3, 0.0),
    "J": ("J", 1.0, 0.0),
    "kWh": ("J", 3.6e6, 0.0),
    "l/s": ("m^3/s", 1e-3, 0.0),
    "l/min": ("m^3/s", 1e-3 / 60, 0.0),
    "m^3/h": ("m^3/s", 1 / 3600, 0.0),
    "kg/s": ("kg/s", 1.0, 0.0),
    "Hz": ("1/s", 1.0, 0.0),
    "rpm": ("1/s", 2 * math.pi / 60, 0.0),
    "Pa": ("Pa", 1.0, 0.0),
    "kPa": ("Pa", 1e3, 0.0),
    "bar": ("Pa", 1e5, 0.0),
    "s": ("s", 1.0, 0.0),
    "min": ("s", 60.0, 0.0),
    "h": ("s", 3600.0, 0.0),
    "A": ("A", 1.0, 0.0),
    "mA": ("A", 1e-3, 0.0),
    "m": ("m", 1.0, 0.0),
    "mm": ("m", 1e-3, 0.0),
    "m^2": ("m^2", 1.0, 0.0),
}
"""Dimension, size in SI and zero in SI of what nearly everybody writes. Pint would
say the same, but takes a fifth of a second to import."""


@functools.cache
def _conversion(source: str, target: str, *, difference: bool) -> tuple[float, float]:
    """Returns ``(factor, offset)`` so that target = factor * source + offset."""
    if source == target:
        return 1.0, 0.0
    if source in _TO_SI and target in _TO_SI:
        dimension, size, zero = _TO_SI[source]
        other_dimension, other_size, other_zero = _TO_SI[target]
        if dimension == other_dimension:
            shift = 0.0 if difference else (zero - other_zero) / other_size
            return float(f"{size / other_size:.12g}"), float(f"{shift:.12g}")
        raise _no_conversion(source, target, difference=difference)
    import pint

    registry = _registry()

    def spelled(unit: str) -> str:
        temperatures = {"degC": "delta_degC", "degF": "delta_degF"}
        return temperatures.get(unit, _spelled(unit)) if difference else _spelled(unit)

    try:
        zero = registry.Quantity(0.0, spelled(source)).to(spelled(target)).magnitude
        one = registry.Quantity(1.0, spelled(source)).to(spelled(target)).magnitude
    except pint.DimensionalityError as error:
        raise _no_conversion(source, target, difference=difference) from error
    factor = one - zero
    # 273.15 + 1 - 273.15 is not 1; a factor this near to a short number is it.
    return float(f"{factor:.12g}"), float(f"{zero:.12g}")


def _no_conversion(source: str, target: str, *, difference: bool) -> PlaygroundError:
    shown = _DIFFERENCE.get(target, target) if difference else target
    return PlaygroundError(
        f"{source!r} does not convert to {shown!r}.",
        f"write the value in {shown} or a unit that converts to it",
    )


def convert(
    value: float, source: str, target: str, *, difference: bool = False
) -> float:
    """Converts a number between units.

    Args:
        value: The number, in ``source``.
        source: Unit it is in.
        target: Unit wanted.
        difference: The value is a difference: 2 K are then 2 degC apart, not
            -271.15 degC.

    Raises:
        PlaygroundError: A unit is unknown, or the two do not convert.
    """
    factor, offset = _conversion(
        check_unit(source), check_unit(target), difference=difference
    )
    return value * factor + offset


def split_quantity(text: str) -> tuple[float, str]:
    """Splits ``"50 degC"`` into ``(50.0, "degC")``; the unit may be empty.

    Raises:
        PlaygroundError: The text does not begin with a finite number.
    """
    found = _NUMBER.match(text)
    if found is None or not math.isfinite(float(found[1])):
        raise PlaygroundError(
            f"{text!r} is not a number with a unit.", "write for instance '50 degC'"
        )
    return float(found[1]), found[2]


def quantity(text: str | float, unit: str, *, difference: bool = False) -> float:
    """Reads ``"50 degC"`` as a number in the given unit.

    A bare number is accepted only where the unit is ``1``.

    Args:
        text: What a person wrote.
        unit: That of what it is for: a signal or a parameter.
        difference: It is a difference between two values (hysteresis, margin).

    Raises:
        PlaygroundError: No number, no unit where one is needed, or a unit that
            does not convert.
    """
    if isinstance(text, str):
        value, written = split_quantity(text)
    else:
        value, written = float(text), ""
    if not written:
        if unit != "1":
            shown = _DIFFERENCE.get(unit, unit) if difference else unit
            raise PlaygroundError(
                f"{text!r} has no unit, but must be in {unit}.",
                f"write '{value:g} {shown}'",
            )
        return value
    return convert(value, written, unit, difference=difference)
