"""Commands by the clock."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

from playground.errors import PlaygroundError
from playground.parameters import Duration, SignalName
from playground.quantity import quantity, seconds
from playground.signals import Signals


class Schedule:
    """Sets a command at given times since the start of the run.

    Args:
        command: The signal that is set.
        table: Time and value: ``{0s: 0.3, 30min: 0.8}``, or a list of pairs.
        repeat_s: After this time the table begins anew (``repeat: 24h``).
        period_s: Seconds between two looks at the clock.
        signals: Says the unit of ``command``.
    """

    def __init__(
        self,
        *,
        command: SignalName,
        table: Any,
        signals: Signals,
        repeat_s: Duration | None = None,
        period_s: Duration = 1.0,
    ) -> None:
        unit = signals.need(command).unit
        rows = list(table.items()) if isinstance(table, Mapping) else table
        if not isinstance(rows, list) or not rows:
            raise PlaygroundError(
                f"{table!r} is not a table of times and values.",
                "write for instance {0s: 0.3, 30min: 0.8}",
            )
        points = []
        for row in rows:
            if not isinstance(row, list | tuple) or len(row) != 2:
                raise PlaygroundError(
                    f"{row!r} is not a time and a value.",
                    "write for instance [0s, 0.3]",
                )
            points.append((seconds(row[0]), quantity(row[1], unit)))
        points.sort()
        self._times = [time_s for time_s, _ in points]
        self._values = [value for _, value in points]
        if len(set(self._times)) < len(self._times):
            raise PlaygroundError(
                "A time stands in the table twice.", "keep one of them"
            )
        if repeat_s is not None and not self._times[-1] < repeat_s:
            raise PlaygroundError(
                f"The table reaches to {self._times[-1]:g} s but repeats after "
                f"{repeat_s:g} s.",
                "repeat after its last time",
            )
        self._repeat_s = repeat_s
        self.measures: tuple[str, ...] = ()
        self.commands = (command,)
        self.period_s = period_s

    def reset(self, *, seed: int = 0) -> None:
        """Has nothing to forget."""

    def step(self, now: float, values: Mapping[str, float]) -> dict[str, float]:
        """Decides; see `playground.controllers.Controller`."""
        at = now % self._repeat_s if self._repeat_s else now
        # Times are multiples of the period up to rounding.
        row = bisect_right(self._times, at + 1e-9) - 1
        if row < 0 and (self._repeat_s is None or now < self._repeat_s):
            return {}
        return {self.commands[0]: self._values[row]}
