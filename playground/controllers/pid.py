"""Proportional, integral and derivative control."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from playground.controllers.setpoint import Setpoint
from playground.errors import PlaygroundError
from playground.parameters import Duration, InUnitOf, SignalName
from playground.table import TimeTable


class PID:
    """PID in its ideal form, made for actuators with end stops.

    ``u = kp · (e + ∫e dt / ti − td · dy/dt)`` with e = set point − y. The
    derivative acts on the measurement, so a step of the set point gives no kick.
    At an end stop the integral is moved to where the output just reaches it
    (back-calculation), so it does not wind up. The first decision starts from
    ``start``, bumplessly.

    Args:
        measure: The signal y that is to follow the set point.
        command: The signal u that is set.
        setpoint: Wanted value, in the unit of ``measure``; or a table of times
            and values; or the name of a signal that carries it.
        kp: Gain, unit of ``command`` per unit of ``measure``; negative where
            more command lowers the measurement.
        ti_s: Integral time; None for none.
        td_s: Derivative time; 0 for none.
        filter_s: Time constant of the filter of the derivative; by default a
            tenth of ``td``.
        low: Lower end stop of the command.
        high: Upper end stop of the command.
        start: Output before the first decision; ``low`` if it is not given.
        period_s: Seconds between two decisions.
    """

    def __init__(
        self,
        *,
        measure: SignalName,
        command: SignalName,
        setpoint: Annotated[
            float | str | TimeTable, InUnitOf("measure", or_signal=True)
        ],
        kp: float,
        ti_s: Duration | None = None,
        td_s: Duration = 0.0,
        filter_s: Duration | None = None,
        low: Annotated[float, InUnitOf("command")] = 0.0,
        high: Annotated[float, InUnitOf("command")] = 1.0,
        start: Annotated[float, InUnitOf("command")] | None = None,
        period_s: Duration = 10.0,
    ) -> None:
        if not low < high:
            raise PlaygroundError(
                f"The end stops {low:g} and {high:g} leave no room.",
                "write low below high",
            )
        if kp == 0 or (ti_s is not None and not ti_s > 0):
            raise PlaygroundError(
                "A PID needs a gain that is not 0 and an integral time above 0.",
                "leave 'ti' out for control without integral",
            )
        self._setpoint = Setpoint(setpoint)
        self.measures = (measure, *self._setpoint.measures)
        self.commands = (command,)
        self.period_s = period_s
        self._kp, self._ti_s, self._td_s = kp, ti_s, td_s
        self._filter_s = td_s / 10 if filter_s is None else filter_s
        self._low, self._high = low, high
        self._start = low if start is None else start
        self.reset()

    def reset(self, *, seed: int = 0) -> None:
        """Goes back to ``start``; integral and derivative are forgotten."""
        self._integral: float | None = None
        self._before: tuple[float, float] | None = None
        self._slope = 0.0

    def step(self, now: float, values: Mapping[str, float]) -> dict[str, float]:
        """Decides; see `playground.controllers.Controller`."""
        measured = values[self.measures[0]]
        error = self._setpoint.at(now, values) - measured
        elapsed_s = 0.0 if self._before is None else now - self._before[0]
        if self._before is not None and elapsed_s > 0 and self._td_s:
            slope = (measured - self._before[1]) / elapsed_s
            share = elapsed_s / (self._filter_s + elapsed_s)
            self._slope += share * (slope - self._slope)
        self._before = (now, measured)
        direct = self._kp * (error - self._td_s * self._slope)
        if self._integral is None:
            # Bumpless: the integral takes up what the other terms leave over.
            self._integral = self._start - direct if self._ti_s else 0.0
        elif self._ti_s:
            self._integral += self._kp * error * elapsed_s / self._ti_s
        output = direct + self._integral
        clipped = min(max(output, self._low), self._high)
        if self._ti_s and output != clipped:
            self._integral = clipped - direct
        return {self.commands[0]: clipped}
