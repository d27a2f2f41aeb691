"""Parameters of plants and controllers, as people write them in a scenario.

A class says with a type what a parameter is, and `build` turns the text into
the number it wants::

    class Thermostat:
        def __init__(
            self,
            *,
            measure: SignalName,
            setpoint: Annotated[float, InUnitOf("measure")],
            hysteresis: Annotated[float, InUnitOf("measure", difference=True)],
            period_s: Duration = 10.0,
        ): ...

``setpoint: 50 degC``, ``hysteresis: 2 K`` and ``period: 30s`` are then what one
writes. A parameter whose name ends in a unit (``start_degc``) may be written with
or without it: ``start: 20 degC``, ``start_degc: 20``. Any other takes a plain
number, text or list. Nothing here knows what a plant or a controller does.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, NamedTuple

from playground.document import Document, DocumentError, Mistake, Place
from playground.errors import PlaygroundError, closest
from playground.quantity import quantity, seconds
from playground.signals import Signals
from playground.table import read_table


class NameOfSignal:
    """Marks a parameter that names a signal."""


class Seconds:
    """Marks a duration; ``period_s`` is written ``period: 10s``."""


class InUnitOf(NamedTuple):
    """Marks a quantity in the unit of the signal that another parameter names.

    Attributes:
        parameter: That other parameter.
        difference: It is a difference between two values of that signal.
        or_signal: The name of a signal, or a table of times and values, may
            stand instead of a number.
    """

    parameter: str
    difference: bool = False
    or_signal: bool = False


class In(NamedTuple):
    """Marks a quantity in a fixed unit: ``Annotated[float, In("kW")]``."""

    unit: str
    difference: bool = False


class NameOfFile:
    """Marks a parameter that names a file: beside the scenario, or else here."""


SignalName = Annotated[str, NameOfSignal()]
InputFile = Annotated[str, NameOfFile()]
Duration = Annotated[float, Seconds()]


def parameters_of(target: Any) -> dict[str, inspect.Parameter]:
    """Returns what a class or function can be given, by the key in the file."""
    keys = {}
    for name, parameter in inspect.signature(target).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        keys[_key(target, name)] = parameter
    return keys


_SUFFIXES = {
    "_kg_per_s": "kg/s",
    "_w_per_k": "W/K",
    "_j_per_k": "J/K",
    "_k_per_w": "K/W",
    "_degc": "degC",
    "_kpa": "kPa",
    "_bar": "bar",
    "_kwh": "kWh",
    "_kw": "kW",
    "_hz": "Hz",
    "_kg": "kg",
    "_m2": "m^2",
    "_k": "K",
    "_w": "W",
    "_s": "s",
}
"""Endings of names of parameters that say a unit."""


def unit_of(name: str) -> str:
    """Returns the unit that the ending of a parameter's name says, else ``1``."""
    return _SUFFIXES.get(_suffix(name), "1")


def _suffix(name: str) -> str:
    return next((s for s in _SUFFIXES if name.endswith(s)), "")


def _key(target: Any, name: str) -> str:
    hint = _hint(target, name)
    if isinstance(_marker(hint), Seconds) or (_suffix(name) and _is_number(hint)):
        return name.removesuffix(_suffix(name))
    return name


def _is_number(hint: Any) -> bool:
    if typing.get_origin(hint) in (typing.Union, UnionType):
        members = [m for m in typing.get_args(hint) if m is not type(None)]
        return members == [float]
    return hint in (float, int)


def build(
    target: Any,
    given: Any,
    *,
    signals: Signals | None,
    document: Document,
    place: Place,
    mistakes: list[Mistake],
) -> Any:
    """Calls a class with parameters from a scenario.

    Args:
        target: The class, or a function that returns the object.
        given: What stands in the file, a mapping; None for none.
        signals: What the parameters may speak of; also handed over where the
            class has a parameter ``signals``. None while there are none yet.
        document: Says where things stand.
        place: Where the parameters stand.
        mistakes: Every mistake is added here.

    Returns:
        The object; None if there was a mistake.
    """
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        mistakes.append(
            document.mistake(
                place,
                f"{given!r} is not a block of 'key: value' lines.",
                f"parameters: {', '.join(parameters_of(target))}",
            )
        )
        return None
    before = len(mistakes)
    known = parameters_of(target)
    with_unit = {p.name: k for k, p in known.items() if p.name != k}
    bare = {with_unit[k] for k in given if k in with_unit}
    lines = {with_unit.get(k, k): k for k in given}
    given = {with_unit.get(k, k): v for k, v in given.items()}
    injected = signals is not None and "signals" in known and "signals" not in given
    mistakes.extend(
        document.mistake(
            (*place, lines[key]),
            f"unknown parameter {key!r}.{closest(str(key), known)}",
            f"parameters: {', '.join(k for k in known if k != 'signals') or 'none'}",
        )
        for key in given
        if key not in known
    )
    values: dict[str, Any] = {}
    for key, parameter in known.items():
        if key in given:
            hint: Any = _hint(target, parameter.name)
            there = (*place, lines[key])
            suffix = _suffix(parameter.name)
            if key in bare:
                hint = float
            elif suffix and _is_number(hint):
                hint = Annotated[float, In(_SUFFIXES[suffix])]
            try:
                values[parameter.name] = _value(
                    hint, given[key], given, signals, document, there
                )
            except DocumentError as error:
                mistakes.extend(error.mistakes)
            except PlaygroundError as error:
                mistakes.append(document.mistake(there, error.problem, error.fix))
        elif key == "signals" and injected:
            values["signals"] = signals
        elif parameter.default is inspect.Parameter.empty:
            mistakes.append(
                document.mistake(
                    place, f"the parameter {key!r} is missing.", f"add '{key}: …'"
                )
            )
    if len(mistakes) > before:
        return None
    try:
        return target(**values)
    except PlaygroundError as error:
        mistakes.append(document.mistake(place, error.problem, error.fix))
        return None


def _value(
    hint: Any,
    written: Any,
    given: Mapping[str, Any],
    signals: Signals | None,
    document: Document,
    place: Place,
) -> Any:
    marker = _marker(hint)
    if isinstance(marker, NameOfSignal):
        return _name(written, signals)
    if isinstance(marker, NameOfFile):
        return _file(written, document)
    if isinstance(marker, Seconds):
        return seconds(written)
    if isinstance(marker, In):
        if marker.unit == "s":
            return seconds(written)
        return quantity(written, marker.unit, difference=marker.difference)
    if isinstance(marker, InUnitOf):
        if marker.or_signal and isinstance(written, str) and written.isidentifier():
            return _name(written, signals)
        name = given.get(marker.parameter)
        if signals is None or not isinstance(name, str) or name not in signals:
            # That parameter has been complained about already.
            return 0.0
        if marker.or_signal and isinstance(written, Mapping):
            return read_table({"table": written}, signals[name].unit)
        return quantity(written, signals[name].unit, difference=marker.difference)
    if hint is MISSING or not _checkable(hint):
        return written
    return document.validate(hint, written, place)


def _file(written: Any, document: Document) -> str:
    if not isinstance(written, str):
        raise PlaygroundError(
            f"{written!r} is not the name of a file.", "write its name as text"
        )
    beside = Path(document.path).parent / written
    return str(beside if beside.exists() else written)


def _name(written: Any, signals: Signals | None) -> str:
    if not isinstance(written, str):
        raise PlaygroundError(
            f"{written!r} is not the name of a signal.", "write its name as text"
        )
    if signals is not None:
        signals.need(written)
    return written


def _hint(target: Any, name: str) -> Any:
    return _hints(target).get(name, MISSING)


@functools.lru_cache(maxsize=8)
def _hints(target: Any) -> dict[str, Any]:
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):
        # A user's class may name types that exist only for a type checker.
        return {}


def _marker(hint: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, UnionType):
        for member in typing.get_args(hint):
            if (marker := _marker(member)) is not None:
                return marker
    if typing.get_origin(hint) is Annotated:
        for mark in typing.get_args(hint)[1:]:
            if isinstance(mark, NameOfSignal | NameOfFile | Seconds | InUnitOf | In):
                return mark
    return None


def _checkable(hint: Any) -> bool:
    if typing.get_origin(hint) in (typing.Union, UnionType):
        return all(_checkable(m) for m in typing.get_args(hint))
    return (
        hint in (str, int, float, bool, type(None))
        or typing.get_origin(hint) is typing.Literal
    )


def name_of(part: Any) -> str:
    """Returns the ``module:Name`` of a class or function; `load_class` reads it.

    Raises:
        PlaygroundError: It cannot be found by a name.
    """
    module, name = getattr(part, "__module__", None), getattr(part, "__qualname__", "")
    if getattr(sys.modules.get(str(module)), name, None) is not part:
        raise PlaygroundError(
            f"{name or part!r} cannot be found again by a name, which a scenario needs.",
            "define it at the top of a module, with def or class",
        )
    return f"{module}:{name}"


def load_class(spec: str, what: str, built_in: Iterable[str]) -> Any:
    """Imports ``module:Class``.

    Args:
        spec: The text of the form ``module:Class``.
        what: What it should be, for the message: ``plant``, ``controller``.
        built_in: Names that need no module, for the message.

    Raises:
        PlaygroundError: The module or the class does not exist.
    """
    module_name, colon, class_name = spec.partition(":")
    if not colon:
        raise PlaygroundError(
            f"There is no {what} {spec!r}.{closest(spec, built_in)}",
            f"built in: {', '.join(built_in)}; your own: 'module:Class'",
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise PlaygroundError(
            f"The {what} {spec!r} names the module {module_name!r}, "
            "which cannot be imported.",
            "check the spelling, and that its folder is the current one or installed",
        ) from error
    try:
        return getattr(module, class_name)
    except AttributeError as error:
        raise PlaygroundError(
            f"Module {module_name!r} has no {class_name!r}."
            f"{closest(class_name, vars(module))}",
            f"write {module_name}:NAME, with a name that stands in that module",
        ) from error
