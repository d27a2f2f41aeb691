"""What an expression comes to: numbers with a unit, and truths with a margin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from playground.arrays import Array, np, npt

Values: TypeAlias = Mapping[str, Array]


class Truth(NamedTuple):
    """How an expression fares at each of a row of instants.

    Attributes:
        known: Whether it can be said at all; shape (n,), bool.
        true: Whether it holds where it is known; shape (n,), bool.
        margin: By how much it holds, negative where it does not; infinite for
            yes-or-no expressions; NaN where unknown; shape (n,).
    """

    known: npt.NDArray[np.bool_]
    true: npt.NDArray[np.bool_]
    margin: Array

    def __invert__(self) -> Truth:
        return Truth(self.known, ~self.true, -self.margin)

    def __and__(self, other: Truth) -> Truth:
        # Kleene: false and unknown is false.
        no = (self.known & ~self.true) | (other.known & ~other.true)
        known = no | (self.known & other.known)
        margin = np.fmin(self.margin, other.margin)
        return Truth(known, known & ~no, np.where(known, margin, np.nan))

    def __or__(self, other: Truth) -> Truth:
        return ~(~self & ~other)


class Number(NamedTuple):
    """A numeric part: how to compute it, and what it is."""

    compute: Callable[[Array, Values], Any]
    unit: str
    difference: bool = False
    literal: float | None = None
    bare: bool = False
    """A number written without a unit: takes the unit ``1``."""
    scale: float = 0.0
    """Span of the range of the signals in it; 0 where none is declared."""


class Logic(NamedTuple):
    """A part that is true or false over time, and the units of what it compares."""

    evaluate: Callable[[Array, Values, bool], Truth]
    units: tuple[str, ...]
    """Units of the margins in it; yes-or-no parts add none."""


def join(left: Logic, right: Logic, *, either: bool) -> Logic:
    """Returns that both hold, or that either does."""
    first, second = left.evaluate, right.evaluate

    def evaluate(times_s: Array, values: Values, mixed: bool) -> Truth:  # noqa: FBT001
        a, b = first(times_s, values, mixed), second(times_s, values, mixed)
        return a | b if either else a & b

    return Logic(evaluate, left.units + right.units)


def negated(logic: Logic) -> Logic:
    """Returns that something does not hold."""
    inner = logic.evaluate
    return Logic(lambda t, v, mixed: ~inner(t, v, mixed), logic.units)
