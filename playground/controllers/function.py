"""A plain function as a controller: values in, commands out.

``def cool(now, values, limit_degc=50.0): return {"vsd2": 1.0}`` is a controller as it
stands; in a scenario it is ``module:cool``. A function that yields is a strategy with
a timing of its own, see `playground.controllers.process`. What stands around the
function in a scenario becomes its further parameters, in their units.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from playground.errors import PlaygroundError, closest
from playground.parameters import Duration
from playground.signals import Signals

if TYPE_CHECKING:
    from playground.controllers.process import Panel

DECIDES = ("now", "values")
"""The first parameters of a function that decides, as those of `Controller.step`."""
RUNS = ("env", "plant")
"""The first parameters of a function that yields, as those of `Process.process`."""


def is_strategy(target: Any) -> bool:
    """Says whether something is a controller by itself, and not what makes one."""
    if not inspect.isfunction(target):
        return False
    names = tuple(inspect.signature(target).parameters)[:2]
    return names == (RUNS if inspect.isgeneratorfunction(target) else DECIDES)


def maker_of(function: Callable[..., Any]) -> Callable[..., Function | Course]:
    """Returns what makes a controller of a function, for `playground.parameters.build`.

    Its parameters are those of the function from the third on, and ``measures``,
    ``commands`` and (of one that decides) ``period``.
    """
    yields = inspect.isgeneratorfunction(function)
    kind: Any = Course if yields else Function

    def make(signals: Signals, **given: Any) -> Function | Course:
        own = {key: given.pop(key) for key in list(given) if key in _OWN}
        made: Function | Course = kind(function, signals, given=given, **own)
        return made

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        one.replace(kind=keyword)
        for one in list(inspect.signature(function).parameters.values())[2:]
        if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    taken = {one.name for one in parameters}
    for name in (*_OWN, "signals"):
        if name in taken:
            raise PlaygroundError(
                f"{function.__name__} has a parameter {name!r}, which says for every "
                "function what it may see and do.",
                "give that parameter another name",
            )
    for name, default in _OWN.items():
        if name != "period_s" or not yields:
            parameters.append(inspect.Parameter(name, keyword, default=default))
    parameters.append(inspect.Parameter("signals", keyword))
    make.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):
        # It may name types that exist only for a type checker.
        hints = {}
    make.__annotations__ = {
        name: hint for name, hint in hints.items() if name in taken
    } | {"period_s": Duration}
    return make


_OWN: dict[str, Any] = {"measures": None, "commands": None, "period_s": 10.0}


class Function:
    """A function of the time and of what is known, asked on a period.

    Args:
        function: Called as ``function(now, values, **given)``; returns commands in
            their units, or None to leave all as it is.
        signals: Of the plant.
        measures: What it wants to know; all measurements by default. It is asked
            from when all of these have been said.
        commands: What it may set; all commands of the plant by default.
        period_s: Seconds between two decisions.
        given: Its further arguments.

    Raises:
        PlaygroundError: There is no such signal.
    """

    def __init__(
        self,
        function: Callable[..., Mapping[str, float] | None],
        signals: Signals,
        *,
        measures: Sequence[str] | None = None,
        commands: Sequence[str] | None = None,
        period_s: float = 10.0,
        given: Mapping[str, Any] | None = None,
    ) -> None:
        self.function = function
        self.measures = _named(signals, measures, "measurement")
        self.commands = () if commands is None else _named(signals, commands, "")
        self.period_s = period_s
        self._given = dict(given or {})
        self._allowed = self.commands or _named(signals, None, "command")

    def reset(self, *, seed: int = 0) -> None:
        """Has nothing to forget: what a plain function keeps is its own affair."""

    def step(self, now: float, values: Mapping[str, float]) -> Mapping[str, float]:
        """Decides; see `playground.controllers.Controller`.

        Raises:
            PlaygroundError: It wants to set what is no command, or answers something
                else than commands.
        """
        said = self.function(now, values, **self._given)
        if said is None:
            return {}
        name = self.function.__name__
        if not isinstance(said, Mapping):
            raise PlaygroundError(
                f"{name} returned {said!r}, which is not a mapping of commands.",
                "return {'vsd1': 0.5}, or nothing to leave all as it is",
            )
        for each in said:
            if each not in self._allowed:
                raise PlaygroundError(
                    f"{name} wants to set {each!r}, which is none of its commands."
                    f"{closest(str(each), self._allowed)}",
                    f"its commands: {', '.join(self._allowed) or 'none'}",
                )
        return said


class Course:
    """A function that yields, as a `playground.controllers.process.Process`.

    Args:
        function: Called as ``function(env, plant, **given)``.
        signals: Of the plant.
        measures: What it wants to know; all measurements by default.
        commands: What it may set; all commands of the plant by default.
        given: Its further arguments.

    Raises:
        PlaygroundError: There is no such signal.
    """

    def __init__(
        self,
        function: Callable[..., Iterator[Any]],
        signals: Signals,
        *,
        measures: Sequence[str] | None = None,
        commands: Sequence[str] | None = None,
        given: Mapping[str, Any] | None = None,
    ) -> None:
        self.function = function
        self.measures = _named(signals, measures, "measurement")
        self.commands = () if commands is None else _named(signals, commands, "")
        self._given = dict(given or {})

    def reset(self, *, seed: int = 0) -> None:
        """Has nothing to forget: what a function keeps is its own affair."""

    def process(self, env: Any, plant: Panel) -> Iterator[Any]:
        """Goes its course; see `playground.controllers.process.Process`."""
        return self.function(env, plant, **self._given)


def _named(
    signals: Signals, written: Sequence[str] | None, role: str
) -> tuple[str, ...]:
    if written is None:
        return tuple(signal.name for signal in signals.values() if signal.role == role)
    if isinstance(written, str) or not isinstance(written, Sequence):
        raise PlaygroundError(
            f"{written!r} is not a list of signals.", f"write [{written}]"
        )
    return tuple(signals.need(str(name)).name for name in written)
