"""An air-source heat pump with its own controller, as the rig has one.

The map is small and honest: capacity follows compressor speed and the density
of the suction gas, the COP is a fraction of Carnot's, so it falls with the
lift. Around it stand what a real unit adds: a controller with hysteresis,
modulation, minimum times and protections, a start-up transient, a coil that
stores heat and frosts, and defrosting by reversal.

Every heat flow is taken from one place and given to another in the same
expression, so energy is conserved whatever the parameters are.
"""

from __future__ import annotations

from math import exp, expm1

from playground.plants.refrigerant import (
    ZERO_K,
    vapour_density_kg_per_m3,
)

RATED_HZ = 51.0
"""Speed at the operating point of the contract, to which the map is anchored."""
RATED_EVAPORATING_DEGC = 13.8
RATED_CONDENSING_DEGC = 57.4
RATED_FAN_RPM = 500.0
_RATED_DENSITY = vapour_density_kg_per_m3(RATED_EVAPORATING_DEGC)
_INTO_REFRIGERANT = 0.95
"""Part of the compressor's power that reaches the refrigerant; the rest warms
the air around inverter and motor."""
_SMALLEST_LIFT_K = 12.0
_FUSION_J_PER_KG = 334e3
_SUBLIMATION_J_PER_KG = 2.834e6
_CP_AIR_J_PER_KG_K = 1006.0
_HUMIDITY_RATIO = 0.622 / 1013.25


def carnot_cop(evaporating_degc: float, condensing_degc: float) -> float:
    """Returns the heating COP of Carnot between two temperatures.

    The lift counts as at least 12 K: below it the compressor's valves and the
    oil need their pressure difference, and real units gain nothing more.
    """
    lift = max(condensing_degc - evaporating_degc, _SMALLEST_LIFT_K)
    return (condensing_degc + ZERO_K) / lift


class HeatPump:
    """The unit: compressor, fan, coil, controller.

    Args:
        capacity_w: Heat to the water at 51 Hz, 13.8 °C evaporating and 57.4 °C
            condensing.
        carnot_fraction: COP over Carnot's at 51 Hz; 0.4 to 0.55 in field tests.
        set_point_degc: Of the water outlet.
        switched_on: State of the button at the unit.
        start_difference_k: Starts this much below the set point.
        stop_difference_k: Stops this much above it.
        band_k: Proportional band of the modulation, downwards from the stop
            temperature.
        lowest_hz, highest_hz: Limits of the compressor's speed.
        min_run_s, min_off_s: Shortest run and shortest pause, 3 min as makers of
            compressors ask for.
        min_flow_kg_per_s: Flow switch: below it the compressor stops at once.
        ua_air_w_per_k: U·A of the coil at 500 rpm; 15 kW over the 10.6 K between
            ambient and coil in the contract's running column.
        coil_j_per_k: Heat capacity of coil and refrigerant.
        relative_humidity: Of the ambient air, 0 to 1; only frost needs it.
        defrost_start_degc: Defrosting is due when the coil has been below this ...
        defrost_interval_s: ... for so long while the compressor ran.
        defrost_end_degc: It ends when the coil is as warm as this ...
        defrost_longest_s: ... or after this time.
        lowest_ambient_degc, highest_ambient_degc: The unit refuses to run outside.
        highest_condensing_degc, lowest_evaporating_degc: Pressure switches.
        sample_s: How often the controller decides.
    """

    def __init__(
        self,
        *,
        capacity_w: float = 20_000.0,
        carnot_fraction: float = 0.5,
        set_point_degc: float = 55.0,
        switched_on: bool = True,
        start_difference_k: float = 5.0,
        stop_difference_k: float = 2.0,
        band_k: float = 3.4,
        lowest_hz: float = 25.0,
        highest_hz: float = 80.0,
        min_run_s: float = 180.0,
        min_off_s: float = 180.0,
        min_flow_kg_per_s: float = 0.2,
        ua_air_w_per_k: float = 1_400.0,
        coil_j_per_k: float = 30e3,
        relative_humidity: float = 0.6,
        defrost_start_degc: float = -3.0,
        defrost_interval_s: float = 2_700.0,
        defrost_end_degc: float = 13.0,
        defrost_longest_s: float = 480.0,
        lowest_ambient_degc: float = -20.0,
        highest_ambient_degc: float = 45.0,
        highest_condensing_degc: float = 70.0,
        lowest_evaporating_degc: float = -35.0,
        sample_s: float = 1.0,
    ) -> None:
        self.capacity_w = capacity_w
        self.carnot_fraction = carnot_fraction
        self.set_point_degc = set_point_degc
        self.switched_on = switched_on
        self.start_difference_k = start_difference_k
        self.stop_difference_k = stop_difference_k
        self.band_k = band_k
        self.lowest_hz = lowest_hz
        self.highest_hz = highest_hz
        self.min_run_s = min_run_s
        self.min_off_s = min_off_s
        self.min_flow_kg_per_s = min_flow_kg_per_s
        self.ua_air_w_per_k = ua_air_w_per_k
        self.coil_j_per_k = coil_j_per_k
        self.relative_humidity = relative_humidity
        self.defrost_start_degc = defrost_start_degc
        self.defrost_interval_s = defrost_interval_s
        self.defrost_end_degc = defrost_end_degc
        self.defrost_longest_s = defrost_longest_s
        self.lowest_ambient_degc = lowest_ambient_degc
        self.highest_ambient_degc = highest_ambient_degc
        self.highest_condensing_degc = highest_condensing_degc
        self.lowest_evaporating_degc = lowest_evaporating_degc
        self.sample_s = sample_s
        rated_cop = carnot_fraction * carnot_cop(
            RATED_EVAPORATING_DEGC, RATED_CONDENSING_DEGC
        )
        self.rated_power_w = capacity_w / rated_cop
        # 7.5 W of fan per kW of heat; a unit of 20 kW has two of 75 W.
        self.rated_fan_w = 0.0075 * capacity_w
        self.reset(ambient_degc=20.0)

    def reset(self, *, ambient_degc: float) -> None:
        """Goes back to rest: cold, dry, long since stopped."""
        self.running = False
        self.defrosting = False
        self.since_s = self.min_off_s
        self._elapsed_s = 0.0
        self.frozen_s = 0.0
        self.frequency_hz = 0.0
        self.fan_rpm = 0.0
        self.fan_target_rpm = 0.0
        self.charge = 0.0
        self.coil_degc = ambient_degc
        self.frost_kg = 0.0
        self.evaporating_degc = ambient_degc
        self.condensing_degc = ambient_degc
        self.heat_w = 0.0
        self.compressor_w = 0.0
        self.electric_w = 0.0
        self.from_air_w = 0.0
        self.to_air_w = 0.0
        self._coil_rate_w = 0.0
        self._heat_before_w = 0.0
        self._power_before_w = 0.0
        self._fan_of_ua = -1.0
        self._ua_clean = 0.0
        self._switched = False
        self._dt_s = 0.0

    STATE = (
        "running",
        "defrosting",
        "since_s",
        "_elapsed_s",
        "frozen_s",
        "frequency_hz",
        "fan_rpm",
        "fan_target_rpm",
        "charge",
        "coil_degc",
        "frost_kg",
        "evaporating_degc",
        "condensing_degc",
        "heat_w",
        "compressor_w",
        "electric_w",
        "from_air_w",
        "to_air_w",
        "_coil_rate_w",
        "_heat_before_w",
        "_power_before_w",
        "_fan_of_ua",
        "_ua_clean",
        "_switched",
    )
    """What changes in a step; a snapshot of these is a snapshot of the unit."""

    @property
    def stored_j(self) -> float:
        """Heat stored in coil and frost, relative to 0 °C and to water."""
        return self.coil_j_per_k * self.coil_degc - _FUSION_J_PER_KG * self.frost_kg

    @property
    def motor_current_a(self) -> float:
        """Current of the compressor's motor.

        Voltage goes with speed (V/f law), so the current goes with the torque.
        """
        if self.frequency_hz <= 0.0:
            return 0.0
        torque = self.compressor_w / self.rated_power_w * RATED_HZ / self.frequency_hz
        return 12.8 * torque

    def advance(self, dt_s: float, ambient_degc: float, outlet_degc: float) -> None:
        """Moves the refrigerant and the coil on by ``dt_s``, at most a second or so.

        Afterwards ``heat_w`` (to the water), ``electric_w``, ``from_air_w`` and
        ``to_air_w`` (losses) are means over the step. `control` belongs after it.

        Args:
            dt_s: Length of the step.
            ambient_degc: Air around the unit.
            outlet_degc: Water at its outlet, at the beginning of the step.
        """
        if dt_s != self._dt_s:
            self._dt_s = dt_s
            self._gain = -expm1(-dt_s / 60.0)
            self._decay = -expm1(-dt_s / 120.0)
            self._relax = -expm1(-dt_s / 20.0)
        hz = self.frequency_hz
        coil = self.coil_degc
        charge = self.charge
        if hz > 0.0:
            self.charge = charge + (1.0 - charge) * self._gain
            speed = hz / RATED_HZ
            evaporating = coil - 2.3 * speed * charge
            self.condensing_degc = condensing = outlet_degc + 2.0 * speed * charge
            if self.defrosting:
                # Reversed cycle: the water gives, the coil takes.
                taken = 0.5 * self.capacity_w * charge
                power = 0.35 * self.rated_power_w
                heat = -taken
                evaporating = coil
            else:
                off_rated = speed - 1.0
                cop = (
                    self.carnot_fraction
                    * (1.0 - 0.15 * off_rated * off_rated)
                    * carnot_cop(evaporating, condensing)
                )
                full = (
                    self.capacity_w
                    * speed
                    * vapour_density_kg_per_m3(max(evaporating, -40.0))
                    / _RATED_DENSITY
                    * (1.0 - 0.005 * (condensing - RATED_CONDENSING_DEGC))
                )
                full_power = full / max(cop, 1.0)
                power = full_power * (0.4 + 0.6 * charge)
                # Until the refrigerant is where it belongs, the coil yields less.
                from_coil = charge * (full - _INTO_REFRIGERANT * full_power)
                heat = from_coil + _INTO_REFRIGERANT * power
            self.evaporating_degc = evaporating
        else:
            self.charge = charge - charge * self._decay
            heat = power = 0.0
            relax = self._relax
            self.evaporating_degc += (coil - self.evaporating_degc) * relax
            self.condensing_degc += (outlet_degc - self.condensing_degc) * relax
        if self._switched:
            # A step in the flows is no slope: begin the extrapolation anew.
            self._switched = False
            self._heat_before_w = heat
            self._power_before_w = power
        # Mean over the step from this and the last slope (Adams-Bashforth): of
        # second order at one evaluation, and the same number on both sides.
        mean_heat = 1.5 * heat - 0.5 * self._heat_before_w
        mean_power = 1.5 * power - 0.5 * self._power_before_w
        self._heat_before_w = heat
        self._power_before_w = power
        self.heat_w = mean_heat
        self.compressor_w = power
        self._advance_coil(dt_s, ambient_degc, mean_heat, mean_power)

    def _advance_coil(
        self, dt_s: float, ambient_degc: float, heat_w: float, power_w: float
    ) -> None:
        fan = self.fan_rpm
        if fan != self._fan_of_ua:
            self._fan_of_ua = fan
            # Still air takes some heat too.
            self._ua_clean = (
                0.03 * self.ua_air_w_per_k
                + 0.97 * self.ua_air_w_per_k * (fan / RATED_FAN_RPM) ** 0.65
            )
        frost = self.frost_kg
        coil = self.coil_degc
        ua = self._ua_clean
        latent_w = 0.0
        melt_w = 0.0
        if frost > 0.0:
            ua /= 1.0 + frost * 20e3 / self.capacity_w / 8.0
        if coil < 0.0:
            if fan > 0.0:
                gain = ua / _CP_AIR_J_PER_KG_K * self._excess_humidity(ambient_degc)
                if gain > 0.0:
                    self.frost_kg = frost + gain * dt_s
                    # Vapour arrives with 2.5 MJ/kg above water, frost stays
                    # with -0.334 MJ/kg; the coil gets the difference.
                    latent_w = gain * (_SUBLIMATION_J_PER_KG - _FUSION_J_PER_KG)
                    melt_w = -gain * _FUSION_J_PER_KG
        elif frost > 0.0:
            melt_w = min(1_500.0 * coil, frost / dt_s * _FUSION_J_PER_KG)
            self.frost_kg = max(0.0, frost - melt_w * dt_s / _FUSION_J_PER_KG)
        from_coil = heat_w - _INTO_REFRIGERANT * power_w
        sensible = ua * (ambient_degc - coil)
        mean = 1.5 * sensible - 0.5 * self._coil_rate_w
        self._coil_rate_w = sensible
        self.coil_degc = (
            coil + (mean + latent_w - melt_w - from_coil) * dt_s / self.coil_j_per_k
        )
        fan_w = self.rated_fan_w * (fan / RATED_FAN_RPM) ** 3 if fan > 0.0 else 0.0
        self.electric_w = power_w + fan_w + 40.0
        self.to_air_w = (1.0 - _INTO_REFRIGERANT) * power_w + fan_w + 40.0
        self.from_air_w = mean + latent_w

    def _excess_humidity(self, ambient_degc: float) -> float:
        """Returns by how much the air's water exceeds that over ice, kg/kg.

        Magnus' formula with the constants of WMO-No. 8, over water and ice.
        """
        air = 6.112 * exp(17.62 * ambient_degc / (243.12 + ambient_degc))
        ice = 6.112 * exp(22.46 * self.coil_degc / (272.62 + self.coil_degc))
        return _HUMIDITY_RATIO * (self.relative_humidity * air - ice)

    def control(
        self,
        dt_s: float,
        ambient_degc: float,
        outlet_degc: float,
        flow_kg_per_s: float,
    ) -> None:
        """Runs the unit's controller, with what is true at the end of the step.

        It decides once per ``sample_s``, as the real one does, so that shorter
        steps of the plant do not make it start and stop at other times.
        """
        self.since_s += dt_s
        elapsed = self._elapsed_s + dt_s
        if elapsed > self.sample_s - 1e-6:
            self._elapsed_s = 0.0
            self._decide(elapsed, ambient_degc, outlet_degc, flow_kg_per_s)
        else:
            self._elapsed_s = elapsed
        fan_target = 0.0
        # Not in the very step of the start: the speed rises from there on.
        if self.running and self.since_s > 0.0:
            if self.defrosting:
                target = 60.0
            else:
                over = outlet_degc - self.set_point_degc - self.stop_difference_k
                span = self.highest_hz - self.lowest_hz
                target = self.lowest_hz - span * over / self.band_k
                target = min(max(target, self.lowest_hz), self.highest_hz)
                if self.since_s < 60.0 + 1e-6:
                    target = min(target, 30.0)  # oil comes back first
                fan_target = RATED_FAN_RPM + 10.0 * (25.0 - ambient_degc)
                fan_target = min(max(fan_target, RATED_FAN_RPM), 800.0)
            gap = target - self.frequency_hz
            if gap:
                self.frequency_hz += min(max(gap, -dt_s), dt_s)
        self.fan_target_rpm = fan_target
        gap = fan_target - self.fan_rpm
        if gap:
            most = 25.0 * dt_s
            self.fan_rpm += min(max(gap, -most), most)

    def _decide(
        self, elapsed_s: float, ambient_degc: float, outlet_degc: float, flow: float
    ) -> None:
        """Starts, stops, defrosts."""
        allowed = (
            self.switched_on
            and flow >= self.min_flow_kg_per_s
            and self.lowest_ambient_degc <= ambient_degc <= self.highest_ambient_degc
        )
        if not self.running:
            if (
                allowed
                and self.since_s > self.min_off_s - 1e-6
                and outlet_degc <= self.set_point_degc - self.start_difference_k
            ):
                self.running = True
                self.since_s = 0.0
            return
        over = outlet_degc - self.set_point_degc - self.stop_difference_k
        # It began to turn one step after it was told to.
        has_run = self.since_s - elapsed_s > self.min_run_s - 1e-6
        if (
            not allowed
            or (over > 0.0 and (has_run or over > 5.0))
            or self.condensing_degc > self.highest_condensing_degc
            or self.evaporating_degc < self.lowest_evaporating_degc
        ):
            self.running = self.defrosting = False
            self.since_s = 0.0
            self.frequency_hz = 0.0
            self._switched = True
        else:
            self._decide_defrost(elapsed_s, outlet_degc)

    def _decide_defrost(self, elapsed_s: float, outlet_degc: float) -> None:
        if self.defrosting:
            self.frozen_s += elapsed_s
            if (
                self.coil_degc >= self.defrost_end_degc
                or self.frozen_s >= self.defrost_longest_s
                or outlet_degc < 12.0
            ):
                self.defrosting = False
                self.frozen_s = 0.0
                self.charge = 0.3
                self._switched = True
        elif self.coil_degc < self.defrost_start_degc:
            self.frozen_s += elapsed_s
            if self.frozen_s >= self.defrost_interval_s:
                self.defrosting = True
                self.frozen_s = 0.0
                self.charge = 0.3
                self._switched = True
