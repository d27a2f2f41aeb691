"""Controllers: measurements in, commands out.

A controller knows no bus and no file; `playground.controllers.loop` is the one
adapter that puts it on a bus. Built-in controllers are named in `BUILT_IN`; a
user's own is named ``module:Class``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Controller(Protocol):
    """What every controller offers.

    Attributes:
        measures: Names of the signals it must know before it can act.
        commands: Names of the signals it may set.
        period_s: Seconds between two decisions.
    """

    measures: tuple[str, ...]
    commands: tuple[str, ...]
    period_s: float

    def reset(self, *, seed: int = 0) -> None:
        """Forgets everything learned since it was made."""
        ...

    def step(self, now: float, values: Mapping[str, float]) -> Mapping[str, float]:
        """Decides.

        Args:
            now: Seconds since the start of the run.
            values: Last known value of each of ``measures``, in its unit.

        Returns:
            The commands it wants to give now, in the unit of each signal; one
            that is left out stays as it was.
        """
        ...


BUILT_IN: dict[str, str] = {
    "thermostat": "playground.controllers.thermostat:Thermostat",
    "pid": "playground.controllers.pid:PID",
    "schedule": "playground.controllers.schedule:Schedule",
    "weather_compensation": (
        "playground.controllers.weather_compensation:WeatherCompensation"
    ),
}
"""Name in a scenario and the class behind it; imported when first asked for."""
