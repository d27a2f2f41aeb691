"""Two-point control with hysteresis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from playground.controllers.setpoint import Setpoint
from playground.errors import PlaygroundError
from playground.parameters import Duration, InUnitOf, SignalName
from playground.table import TimeTable


class Thermostat:
    """Switches a command on below the set point and off above it.

    It switches at set point ± hysteresis / 2. After each switch it waits for
    ``min_on_s`` or ``min_off_s``, which spares the compressor.

    Args:
        measure: The signal that is to be kept at the set point.
        command: The signal that is switched.
        setpoint: Wanted value, in the unit of ``measure``; or a table of times
            and values; or the name of a signal that carries it.
        hysteresis: Distance between switching on and off.
        on: Value of the command when on.
        off: Value of the command when off.
        min_on_s: Shortest time it stays on.
        min_off_s: Shortest time it stays off.
        cooling: On above the set point, off below it.
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
        hysteresis: Annotated[float, InUnitOf("measure", difference=True)],
        on: Annotated[float, InUnitOf("command")] = 1.0,
        off: Annotated[float, InUnitOf("command")] = 0.0,
        min_on_s: Duration = 0.0,
        min_off_s: Duration = 0.0,
        cooling: bool = False,
        period_s: Duration = 10.0,
    ) -> None:
        if not hysteresis > 0:
            raise PlaygroundError(
                f"A hysteresis of {hysteresis:g} would switch at every decision.",
                "write a value above 0, for instance '2 K'",
            )
        self._setpoint = Setpoint(setpoint)
        self.measures = (measure, *self._setpoint.measures)
        self.commands = (command,)
        self.period_s = period_s
        self._half = hysteresis / 2
        self._levels = {True: on, False: off}
        self._stay_s = {True: min_on_s, False: min_off_s}
        self._cooling = cooling
        self.reset()

    def reset(self, *, seed: int = 0) -> None:
        """Switches off and forgets when it last switched."""
        self._is_on = False
        self._switched_s = float("-inf")

    def step(self, now: float, values: Mapping[str, float]) -> dict[str, float]:
        """Decides; see `playground.controllers.Controller`."""
        missing = self._setpoint.at(now, values) - values[self.measures[0]]
        if self._cooling:
            missing = -missing
        switch_on = missing >= self._half if not self._is_on else missing > -self._half
        if (
            switch_on is not self._is_on
            and now - self._switched_s >= self._stay_s[self._is_on]
        ):
            self._is_on = switch_on
            self._switched_s = now
        return {self.commands[0]: self._levels[self._is_on]}
