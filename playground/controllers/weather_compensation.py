"""A set point that follows the weather: the heating curve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from playground.errors import PlaygroundError
from playground.parameters import Duration, InUnitOf, SignalName


class WeatherCompensation:
    """Sets a command by a heating curve from the outdoor temperature.

    Between two points of the curve it is a straight line, beyond them it is
    flat. The outdoor temperature is smoothed, as a building smooths it.

    Args:
        outdoor: The signal of the outdoor temperature.
        command: The signal that is set, usually a set point.
        cold: Outdoor temperature of the curve's cold end.
        mild: Outdoor temperature of its mild end, above ``cold``.
        at_cold: Command at ``cold`` and below.
        at_mild: Command at ``mild`` and above.
        smoothing_s: Time constant of the smoothing; 0 for none.
        period_s: Seconds between two decisions.
    """

    def __init__(
        self,
        *,
        outdoor: SignalName,
        command: SignalName,
        cold: Annotated[float, InUnitOf("outdoor")],
        mild: Annotated[float, InUnitOf("outdoor")],
        at_cold: Annotated[float, InUnitOf("command")],
        at_mild: Annotated[float, InUnitOf("command")],
        smoothing_s: Duration = 0.0,
        period_s: Duration = 60.0,
    ) -> None:
        if not cold < mild:
            raise PlaygroundError(
                f"The curve goes from {cold:g} to {mild:g}: its cold end is not colder.",
                "write cold below mild",
            )
        self.measures = (outdoor,)
        self.commands = (command,)
        self.period_s = period_s
        self._cold, self._mild = cold, mild
        self._at_cold, self._at_mild = at_cold, at_mild
        self._smoothing_s = smoothing_s
        self.reset()

    def reset(self, *, seed: int = 0) -> None:
        """Forgets the weather so far."""
        self._smooth: float | None = None

    def step(self, now: float, values: Mapping[str, float]) -> dict[str, float]:
        """Decides; see `playground.controllers.Controller`."""
        outdoor = values[self.measures[0]]
        if self._smooth is None or not self._smoothing_s:
            self._smooth = outdoor
        else:
            share = self.period_s / (self._smoothing_s + self.period_s)
            self._smooth += share * (outdoor - self._smooth)
        way = (self._smooth - self._cold) / (self._mild - self._cold)
        way = min(max(way, 0.0), 1.0)
        wanted = self._at_cold + way * (self._at_mild - self._at_cold)
        return {self.commands[0]: wanted}
