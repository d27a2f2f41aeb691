"""BOPTEST's analytic test case 1: one room, one resistance, one heater.

    C dT/dt = (T_ambient − T) / R + Q,    P = Q / 0.99

with C = 1e6 J/K, R = 0.01 K/W and an ambient of 20 ± 10 °C over a day (IBPSA
Project 1, BOPTEST, ``testcase1``, model ``SimpleRC``). A step uses the exact
solution, so its length changes nothing: a plant whose right answers are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import atan, cos, exp, expm1, pi, sin, sqrt
from typing import Any

from playground.errors import PlaygroundError
from playground.signals import Signal, Signals

DAY_S = 86_400.0


class SimpleRC:
    """The room as a `playground.plants.Plant`.

    Args:
        period_s: Seconds of one step.
        capacity_j_per_k: C of the room.
        resistance_k_per_w: R to the outside.
        efficiency: Heat into the room over power of the heater.
        start_degc: Temperature of the room at time 0.
        ambient_mean_degc: Mean of the ambient temperature.
        ambient_amplitude_k: Its amplitude; it is at its mean, rising, at time 0.
        heater_limit_w: Most heat that the heater gives.
    """

    def __init__(
        self,
        *,
        period_s: float = 60.0,
        capacity_j_per_k: float = 1e6,
        resistance_k_per_w: float = 0.01,
        efficiency: float = 0.99,
        start_degc: float = 20.0,
        ambient_mean_degc: float = 20.0,
        ambient_amplitude_k: float = 10.0,
        heater_limit_w: float = 100e3,
    ) -> None:
        for name, value in (
            ("period_s", period_s),
            ("capacity_j_per_k", capacity_j_per_k),
            ("resistance_k_per_w", resistance_k_per_w),
            ("efficiency", efficiency),
            ("heater_limit_w", heater_limit_w),
        ):
            if not value > 0.0:
                raise PlaygroundError(
                    f"testcase1 has {name} = {value}: it must be above 0.",
                    f"leave {name} out, or write a positive number",
                )
        self.period_s = period_s
        self.capacity = capacity_j_per_k
        self.resistance = resistance_k_per_w
        self.efficiency = efficiency
        self.start_degc = start_degc
        self.mean = ambient_mean_degc
        self.amplitude = ambient_amplitude_k
        self.signals = _signals(heater_limit_w)
        tau = resistance_k_per_w * capacity_j_per_k
        omega = 2.0 * pi / DAY_S
        self._omega = omega
        self._lag = atan(omega * tau)
        self._swing = ambient_amplitude_k / sqrt(1.0 + (omega * tau) ** 2)
        self._decay = exp(-period_s / tau)
        self._tail_s = -tau * expm1(-period_s / tau)
        self.reset()

    def reset(self, *, seed: int = 0) -> dict[str, float]:
        """Goes back to time 0; nothing here is random."""
        self.temperature_degc = self.start_degc
        self.electricity_j = 0.0
        self.heat_j = 0.0
        self.to_ambient_j = 0.0
        return self._outputs(0.0, 0.0)

    def step(self, now: float, inputs: Mapping[str, float]) -> dict[str, float]:
        """Advances by one period; see `playground.plants.Plant.step`."""
        heat = inputs["heater"]
        begin = now - self.period_s
        # The room follows the ambient with a lag, heat lifts it, and what is
        # neither of the two fades.
        lifted = self.mean + self.resistance * heat
        omega, lag, swing = self._omega, self._lag, self._swing
        settled = lifted + swing * sin(omega * begin - lag)
        fading = self.temperature_degc - settled
        self.temperature_degc = (
            lifted + swing * sin(omega * now - lag) + fading * self._decay
        )
        # Integrals over the step of the room's and of the ambient temperature.
        waves = (cos(omega * begin - lag) - cos(omega * now - lag)) / omega
        room = lifted * self.period_s + swing * waves + fading * self._tail_s
        waves = (cos(omega * begin) - cos(omega * now)) / omega
        outside = self.mean * self.period_s + self.amplitude * waves
        self.to_ambient_j += (room - outside) / self.resistance
        self.heat_j += heat * self.period_s
        self.electricity_j += heat / self.efficiency * self.period_s
        return self._outputs(now, heat)

    @property
    def stored_j(self) -> float:
        """Heat in the room, more than at time 0."""
        return self.capacity * (self.temperature_degc - self.start_degc)

    def _outputs(self, now: float, heat: float) -> dict[str, float]:
        return {
            "zone_temp": self.temperature_degc,
            "ambient": self.mean + self.amplitude * sin(self._omega * now),
            "heater_power": heat / self.efficiency,
        }

    def snapshot(self) -> Any:
        """Returns all that `restore` needs."""
        return (
            self.temperature_degc,
            self.electricity_j,
            self.heat_j,
            self.to_ambient_j,
        )

    def restore(self, snapshot: Any) -> None:
        """Goes back to a snapshot."""
        (
            self.temperature_degc,
            self.electricity_j,
            self.heat_j,
            self.to_ambient_j,
        ) = snapshot


def _signals(heater_limit_w: float) -> Signals:
    return Signals(
        [
            Signal(
                name="heater",
                topic="zone/heater/set",
                unit="W",
                role="command",
                range=(0.0, heater_limit_w),
                initial=0.0,
                description="heat into the room (BOPTEST: oveAct_u)",
            ),
            Signal(
                name="zone_temp",
                topic="zone/temperature",
                unit="degC",
                role="measurement",
                description="room temperature (BOPTEST: TRooAir_y, there in K)",
            ),
            Signal(
                name="ambient",
                topic="zone/ambient",
                unit="degC",
                role="measurement",
                description="ambient temperature",
            ),
            Signal(
                name="heater_power",
                topic="zone/heater/power",
                unit="W",
                role="measurement",
                description="power of the heater (BOPTEST: PHea_y)",
            ),
        ]
    )
