"""Expressions over signals: ``outlet_temp > 65 degC and flow in 0.1..0.6 l/s``.

Their own small language, parsed by hand: nothing is ever handed to ``eval``.
Every number carries a unit or stands beside something that has none, and what
does not convert is refused when the expression is read, not when it runs.

The grammar, loosest first::

    or    and    not
    a > b    a <= b <= c    a == b    a != b    x in lo..hi    x not in lo..hi
    a + b    a - b    a * b    a / b    -a
    50 degC    signal    (…)    abs(a)  min(a, b)  max(a, b)  rate(a, 5min)

A truth has a *margin* beside it: by how much it is true (positive) or not
(negative), in the unit of the left-hand side; it is the robustness of signal
temporal logic (Donzé and Maler, 2010). ``==`` and ``!=`` are yes or no and
have none.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from playground.arrays import Array, np
from playground.errors import PlaygroundError
from playground.expression.parser import FUNCTIONS, Parser
from playground.expression.value import Logic, Truth, Values
from playground.signals import Signals

__all__ = ["FUNCTIONS", "Array", "Expression", "Truth", "Values", "limit", "parse"]


@dataclass(frozen=True, slots=True, eq=False)
class Expression:
    """A parsed expression whose truth can be asked.

    Attributes:
        text: As it was written.
        signals: Names of the signals it speaks of, in order of appearance.
        unit: Unit of its margin; None for yes or no. ``"1"`` where it mixes
            units: each margin is then a share of the signal's range (or of the
            limit, where the signal declares none).
    """

    text: str
    signals: tuple[str, ...]
    unit: str | None
    sampled: bool
    """It looks back in time (``rate``), so every sample counts, changed or not."""
    _logic: Logic = field(repr=False)
    _mixed: bool = False

    def evaluate(self, times_s: Array, values: Values) -> Truth:
        """Says how the expression fares.

        Args:
            times_s: Instants, ascending; shape (n,).
            values: For each of ``signals`` its value at these instants in its
                unit, NaN where unknown; shape (n,) each.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._logic.evaluate(times_s, values, self._mixed)


def parse(text: str, signals: Signals) -> Expression:
    """Reads an expression that is true or false.

    Raises:
        PlaygroundError: It cannot be read, names an unknown signal, lacks a
            unit, or compares what does not convert.
    """
    parser = Parser(text, signals)
    logic = parser.whole()
    units = tuple(dict.fromkeys(logic.units))
    mixed = len(units) > 1
    unit = None if not units else "1" if mixed else units[0]
    return Expression(text, tuple(parser.names), unit, parser.sampled, logic, mixed)


def limit(text: str) -> tuple[str, str, float, str]:
    """Reads ``"starts_per_hour <= 6 1/h"`` as name, operator, number and rest.

    Raises:
        PlaygroundError: It is not of that form.
    """
    found = re.fullmatch(
        r"\s*([^\W\d]\w*)\s*(<=|>=|<|>|==|!=)\s*"
        r"([-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*?)\s*",
        text,
    )
    if found is None or not math.isfinite(float(found[3])):
        raise PlaygroundError(
            f"{text!r} is not a limit.", "write for instance 'starts_per_hour <= 6'"
        )
    return found[1], found[2], float(found[3]), found[4]
