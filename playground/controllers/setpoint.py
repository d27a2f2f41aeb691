"""What a controller should keep to: a number, a signal, or a table over time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping

from playground.table import TimeTable


class Setpoint:
    """A wanted value that may change.

    Args:
        wanted: A number, the name of a signal that carries it, or a table
            (``{0s: 38 degC, 2h: 42 degC}`` in a scenario).

    Attributes:
        measures: Names of the signals it must know.
    """

    def __init__(self, wanted: float | str | TimeTable) -> None:
        self.measures: tuple[str, ...] = (wanted,) if isinstance(wanted, str) else ()
        self._wanted = wanted
        if isinstance(wanted, TimeTable):
            self._times = wanted.times_s
            self._values = wanted.values

    def at(self, now: float, values: Mapping[str, float]) -> float:
        """Returns what is wanted now."""
        wanted = self._wanted
        if isinstance(wanted, str):
            return values[wanted]
        if isinstance(wanted, TimeTable):
            # Times are multiples of the period up to rounding.
            row = bisect_right(self._times, now + 1e-9) - 1
            return float(self._values[max(row, 0)])
        return float(wanted)
