"""What is to be found: parameters, their bounds, and what was known before.

An optimiser works on coordinates in which all unknowns are alike: the logarithm of
what must be positive, a temperature in tens of kelvin. Nothing here simulates.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from playground.document import Document, DocumentError, Mistake, plain_scalar
from playground.errors import PlaygroundError, closest
from playground.parameters import build, parameters_of, unit_of
from playground.quantity import quantity, split_quantity

_LINEAR_SCALE = 10.0
_PLUS_MINUS = re.compile(r"±|\+/-|\+-")
_NEVER = ("period_s",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What was known of a parameter before: a mean and one standard deviation."""

    mean: float
    deviation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A parameter to be found.

    Attributes:
        name: Keyword of the plant's class.
        unit: As the ending of the name says.
        start: Where the search begins.
        low, high: Bounds, in ``unit``.
        positive: Searched in its logarithm.
        prior: What was known before; None for nothing.
        recording: Number of the recording to which alone it belongs; None where
            it is a property of the plant.
    """

    name: str
    unit: str
    start: float
    low: float
    high: float
    positive: bool
    prior: Prior | None = None
    recording: int | None = None

    def coordinate(self, value: float) -> float:
        """Returns where a value lies; 0 is the start."""
        if self.positive:
            return math.log(value / self.start)
        return (value - self.start) / _LINEAR_SCALE

    def value(self, coordinate: float) -> float:
        """Returns the value at a coordinate."""
        if self.positive:
            return self.start * math.exp(coordinate)
        return self.start + _LINEAR_SCALE * coordinate

    @property
    def bounds(self) -> tuple[float, float]:
        """Both bounds as coordinates; minus infinity for a lowest value of 0."""
        low = -math.inf if self.positive and self.low <= 0 else None
        return (
            self.coordinate(self.low) if low is None else low,
            self.coordinate(self.high),
        )

    @property
    def prior_coordinates(self) -> tuple[float, float] | None:
        """Mean and standard deviation of the prior as coordinates."""
        if self.prior is None:
            return None
        if self.positive:
            relative = self.prior.deviation / self.prior.mean
            return self.coordinate(self.prior.mean), relative
        return (
            self.coordinate(self.prior.mean),
            self.prior.deviation / _LINEAR_SCALE,
        )


def defaults_of(target: Any) -> dict[str, Any]:
    """Returns the keywords of a plant's class and their defaults."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    }


def read_settings(
    target: Any,
    written: Mapping[str, Any],
    *,
    document: Document | None = None,
    place: tuple[str | int, ...] = (),
) -> dict[str, Any]:
    """Reads parameters as a scenario writes them, into the class's keywords.

    Args:
        target: The plant's class.
        written: ``{"ua_hx": "2.4 kW/K"}`` or ``{"ua_hx_w_per_k": 2400}``.
        document: Where they stand, for messages.
        place: Where in it.

    Raises:
        DocumentError: With every mistake.
    """

    @functools.wraps(target.__init__)
    def keep(**values: Any) -> dict[str, Any]:
        return values

    keep.__signature__ = inspect.signature(target)  # type: ignore[attr-defined]
    mistakes: list[Mistake] = []
    document = document or Document("the settings", dict(written))
    found = build(
        keep, written, signals=None, document=document, place=place, mistakes=mistakes
    )
    if mistakes:
        raise DocumentError(document.path, mistakes)
    return typing.cast("dict[str, Any]", found)


def full_name(target: Any, name: str) -> str:
    """Returns the keyword for a name with or without its unit.

    Raises:
        PlaygroundError: The plant has no such parameter that is a number.
    """
    known = defaults_of(target)
    numbers = ", ".join(n for n in known if _number(known[n]) and n not in _NEVER)
    if name not in known:
        bare = {key: one.name for key, one in parameters_of(target).items()}
        if name not in bare:
            raise PlaygroundError(
                f"{target.__name__} has no parameter {name!r}."
                f"{closest(name, [*known, *bare])}",
                f"parameters: {numbers}",
            )
        name = bare[name]
    if name in _NEVER or not _number(known[name]):
        raise PlaygroundError(
            f"{name!r} cannot be estimated: it is no number of the plant's physics.",
            f"parameters: {numbers}",
        )
    return name


def _number(default: Any) -> bool:
    return isinstance(default, float | int) and not isinstance(default, bool)


def make_unknown(
    target: Any,
    name: str,
    *,
    settings: Mapping[str, Any],
    bounds: tuple[float, float] | None = None,
    prior: Prior | None = None,
    recording: int | None = None,
) -> Unknown:
    """Makes an unknown from what the plant's class and its user say.

    Args:
        target: The plant's class.
        name: Its keyword.
        settings: Parameters that differ from the defaults; the search begins
            there, or else at the prior's mean.
        bounds: Lowest and highest value; by default a tenth to tenfold (at most 1
            for a fraction), 60 K around a temperature.
        prior: What was known before.
        recording: See `Unknown`.

    Raises:
        PlaygroundError: Bounds that exclude the start, or a prior outside.
    """
    start = float(settings.get(name, defaults_of(target)[name]))
    if prior is not None and name not in settings:
        start = prior.mean
    unit = unit_of(name)
    positive = start > 0 and unit != "degC"
    if bounds is None:
        if positive:
            top = 1.0 if unit == "1" and start <= 1.0 else start * 10.0
            low, high = start / 10.0, top
        else:
            low, high = start - 60.0, start + 60.0
    else:
        low, high = bounds
    if not low < high:
        raise PlaygroundError(
            f"The bounds of {name} are {low:g} and {high:g}: the first must be below "
            "the second.",
            f"write {name}={min(low, high):g}..{max(low, high) or 1.0:g}",
        )
    if not low <= start <= high:
        raise PlaygroundError(
            f"The bounds of {name}, {low:g} to {high:g} {unit}, exclude where the search "
            f"begins: {start:g} {unit}.",
            f"begin inside with --set {name}={(low + high) / 2:g}, or widen the bounds",
        )
    if positive and low < 0:
        low = 0.0
    return Unknown(
        name=name,
        unit=unit,
        start=start,
        low=low,
        high=high,
        positive=positive,
        prior=prior,
        recording=recording,
    )


def read_prior(name: str, text: str) -> Prior:
    """Reads ``2400±300 W/K``, ``2.4 +/- 0.3 kW/K`` or ``0.5±10%``.

    The number behind the sign is one standard deviation. Units may be left out:
    the name says them.

    Raises:
        PlaygroundError: It is no such text.
    """
    parts = _PLUS_MINUS.split(str(text).strip())
    if len(parts) != 2 or not all(part.strip() for part in parts):
        raise PlaygroundError(
            f"The prior {name}={text} does not say how sure it is.",
            f"write for instance {name}=2400±300, the second being one standard "
            "deviation (+/- will do)",
        )
    unit = unit_of(name)
    mean_text, spread_text = (part.strip() for part in parts)
    if spread_text.endswith("%"):
        mean = _in_unit(mean_text, unit)
        spread = abs(mean) * _in_unit(spread_text[:-1], "1") / 100.0
    else:
        written = split_quantity(spread_text)[1]
        if written and not split_quantity(mean_text)[1]:
            mean_text = f"{mean_text} {'degC' if unit == 'degC' else written}"
        mean = _in_unit(mean_text, unit)
        spread = _in_unit(spread_text, unit, difference=True)
    if not spread > 0.0 or (mean <= 0.0 and unit != "degC"):
        raise PlaygroundError(
            f"The prior {name}={text} must have a positive mean and deviation.",
            f"write for instance {name}=2400±300",
        )
    return Prior(mean=mean, deviation=spread)


def read_bounds(name: str, text: str) -> tuple[float, float]:
    """Reads ``1000..5000`` or ``1 kW/K..5 kW/K``.

    Raises:
        PlaygroundError: It is no such text.
    """
    low, dots, high = str(text).partition("..")
    if not dots or not low.strip() or not high.strip():
        raise PlaygroundError(
            f"The bounds {name}={text} are not two values.",
            f"write for instance {name}=1000..5000",
        )
    written = split_quantity(high)[1]
    if written and not split_quantity(low)[1]:
        low = f"{low} {written}"
    unit = unit_of(name)
    return _in_unit(low, unit), _in_unit(high, unit)


def _in_unit(text: str, unit: str, *, difference: bool = False) -> float:
    value, written = split_quantity(text)
    if not written:
        return value
    return quantity(text, unit, difference=difference)


def read_assignments(texts: Sequence[str], option: str) -> dict[str, str]:
    """Reads ``name=value`` from a command line.

    Raises:
        PlaygroundError: There is no ``=``.
    """
    found = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.strip() or not value.strip():
            raise PlaygroundError(
                f"{option} {text!r} gives no value to a name.",
                f"write {option} name=value",
            )
        found[name.strip()] = value.strip()
    return found


def scalars(texts: Mapping[str, str]) -> dict[str, Any]:
    """Returns what YAML would read in place of each text."""
    return {name: plain_scalar(text) for name, text in texts.items()}
