"""The lab heat-pump rig: two water loops between an evaporator and a tower.

    air -> heat pump -> buffer tank -> heat exchanger (hot side) -> pump 1 -> back
    heat exchanger (cold side) -> cooling tower -> pump 2 and ball valve -> back

Five bodies of water store heat; flows follow the pumps at once, because water
has little inertia beside the drives' ramps. Every heat flow leaves one place
and enters another in the same step, so that `LabRig.energy` closes to rounding.
Here are wiring, sensors and integration; the parts are in `heat_pump` and
`hydraulics`, topics and registers in `lab_rig_signals`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from playground.errors import PlaygroundError
from playground.plants.heat_pump import RATED_HZ, HeatPump
from playground.plants.hydraulics import (
    CP_WATER_J_PER_KG_K,
    BallValve,
    CoolingTower,
    HeatExchanger,
    PumpDrive,
)
from playground.plants.lab_rig_signals import lab_rig_signals
from playground.plants.refrigerant import ATMOSPHERE_BAR, saturation_pressure_bar

LONGEST_STEP_S = 1.0
"""Longer periods are walked through in equal parts of at most this."""
NOMINAL_KG_PER_S = 0.886
"""20 kW over the 5.4 K between inlet and outlet in the contract."""
_NOISE_BLOCK = 512
_NOISES = 38
_FULL_SCALE_A = 0.020
_ZERO_SCALE_A = 0.004


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Heat balance since the last reset, joules.

    Attributes:
        electricity_j: Taken by compressor, fan, electronics and both pumps.
        from_air_j: Taken from the air by the evaporator, with its moisture.
        to_air_j: Given off by the electronics, the fan and the tank.
        to_tower_j: Given off by the cooling tower.
        to_water_j: Given to the water by the heat pump.
        stored_j: More than at the reset in water, coil and frost.
    """

    electricity_j: float
    from_air_j: float
    to_air_j: float
    to_tower_j: float
    to_water_j: float
    stored_j: float

    @property
    def imbalance(self) -> float:
        """What is missing, as a fraction of all heat that has moved."""
        moved = (
            abs(self.electricity_j)
            + abs(self.from_air_j)
            + abs(self.to_air_j)
            + abs(self.to_tower_j)
            + abs(self.stored_j)
        )
        if moved == 0.0:
            return 0.0
        gained = self.electricity_j + self.from_air_j
        gone = self.to_air_j + self.to_tower_j
        return (gained - gone - self.stored_j) / moved


class LabRig:
    """The rig as a `playground.plants.Plant`.

    Sources of the parameters: "contract" is the operating point of the rig's
    registers (20 kW is the free choice that fixes the scale: ΔT 5.4 K then means
    0.886 kg/s); the rest are ordinary sizes of such parts.

    Args:
        period_s: Seconds of one step.
        noise: Sensors scatter, and registers are rounded as on the wire either
            way. False gives exact values.
        start_degc: Temperature of all water at the reset.
        ambient_degc: Ambient temperature until a disturbance says another.
        set_point_degc: Water set point at the unit's panel.
        switched_on: Button at the unit's panel.
        capacity_w: Heat of the unit at the operating point.
        carnot_fraction: Its COP over Carnot's there.
        relative_humidity: Of the ambient air, 0 to 1; decides about frost.
        ua_air_w_per_k: Evaporator, at 500 rpm (contract: coil 10.6 K below air).
        ua_hx_w_per_k: Heat exchanger at the nominal flows.
        ua_tower_w_per_k: Cooling tower.
        ua_tank_w_per_k: Loss of the buffer tank to the room.
        outlet_kg, tank_kg, return_kg: Water of the heat pump's loop: condenser
            and pipe, buffer tank (200 L), pipe back.
        hot_pipe_kg, tower_kg: Water of the tower's loop: pipe to the tower, its
            basin and the way back.
        flow_span_kg_per_s: Flow at 20 mA of both flow meters (4 mA is none).
        valve: The ball valve; by default as `BallValve` has it.
        heat_pump: The unit; by default as `HeatPump` has it, with the
            parameters above. What is given there wins.
    """

    def __init__(
        self,
        *,
        period_s: float = 1.0,
        noise: bool = True,
        start_degc: float = 20.6,
        ambient_degc: float = 26.7,
        set_point_degc: float = 55.0,
        switched_on: bool = True,
        capacity_w: float = 20_000.0,
        carnot_fraction: float = 0.5,
        relative_humidity: float = 0.6,
        ua_air_w_per_k: float = 1_400.0,
        ua_hx_w_per_k: float = 2_400.0,
        ua_tower_w_per_k: float = 1_130.0,
        ua_tank_w_per_k: float = 3.0,
        outlet_kg: float = 12.0,
        tank_kg: float = 200.0,
        return_kg: float = 10.0,
        hot_pipe_kg: float = 15.0,
        tower_kg: float = 80.0,
        flow_span_kg_per_s: float = 1.5,
        valve: Mapping[str, float] | None = None,
        heat_pump: Mapping[str, float] | None = None,
    ) -> None:
        for name, value in (
            ("period_s", period_s),
            ("capacity_w", capacity_w),
            ("carnot_fraction", carnot_fraction),
            ("ua_air_w_per_k", ua_air_w_per_k),
            ("ua_hx_w_per_k", ua_hx_w_per_k),
            ("ua_tower_w_per_k", ua_tower_w_per_k),
            ("outlet_kg", outlet_kg),
            ("tank_kg", tank_kg),
            ("return_kg", return_kg),
            ("hot_pipe_kg", hot_pipe_kg),
            ("tower_kg", tower_kg),
            ("flow_span_kg_per_s", flow_span_kg_per_s),
        ):
            if not (value > 0.0 and math.isfinite(value)):
                raise PlaygroundError(
                    f"The lab rig has {name} = {value}: it must be above 0.",
                    f"leave {name} out, or write a positive number",
                )
        self.period_s = period_s
        self.noise = noise
        self.signals = lab_rig_signals(ambient_degc=ambient_degc)
        self.start_degc = start_degc
        self.ambient_degc = ambient_degc
        parameters: dict[str, Any] = {
            "capacity_w": capacity_w,
            "carnot_fraction": carnot_fraction,
            "set_point_degc": set_point_degc,
            "switched_on": switched_on,
            "relative_humidity": relative_humidity,
            "ua_air_w_per_k": ua_air_w_per_k,
        }
        self.heat_pump = HeatPump(**(parameters | dict(heat_pump or {})))
        self.exchanger = HeatExchanger(
            ua_w_per_k=ua_hx_w_per_k, nominal_kg_per_s=NOMINAL_KG_PER_S
        )
        self.tower = CoolingTower(ua_w_per_k=ua_tower_w_per_k)
        self.ua_tank_w_per_k = ua_tank_w_per_k
        # 8 m of head; at 70 % speed the nominal flow.
        loop = {"shut_off_kpa": 80.0, "pump_kpa_s2_per_kg2": 15.0}
        self.pump_1 = PumpDrive(**loop, loop_kpa_s2_per_kg2=34.9)
        self.pump_2 = PumpDrive(**loop, loop_kpa_s2_per_kg2=34.4)
        self.valve = BallValve(**(valve or {}))
        self._capacities = tuple(
            mass * CP_WATER_J_PER_KG_K
            for mass in (outlet_kg, tank_kg, return_kg, hot_pipe_kg, tower_kg)
        )
        self.flow_span_kg_per_s = flow_span_kg_per_s
        self._parts = max(1, math.ceil(period_s / LONGEST_STEP_S - 1e-9))
        self.reset()

    def reset(self, *, seed: int = 0) -> dict[str, float]:
        """Puts the rig at rest: pumps stopped, valve open, all water alike."""
        self._seed = seed
        self._noise_block = 0
        self._noise_at = 0
        self._noise = self._draw(0)
        ambient = self.ambient_degc
        self.heat_pump.reset(ambient_degc=ambient)
        self.pump_1.speed = 0.0
        self.pump_2.speed = 0.0
        self.valve.place(1.0)
        start = self.start_degc
        # In the rig at rest the outlet reads 0.4 K above the inlet.
        self._water = (start + 0.4, start, start, start, start)
        self._slopes = (0.0, 0.0, 0.0, 0.0, 0.0)
        self._boundary = (0.0, 0.0, 0.0)
        self._pump_heat = (0.0, 0.0)
        self._flows = (0.0, 0.0, 0.0, 0.0, 0.0)
        self._books = (0.0, 0.0, 0.0, 0.0, 0.0)
        self._stored_before = self._stored()
        # Lagged sensors: inlet, outlet, ambient, coil, suction, discharge,
        # evaporating, superheat wander, heat (antifreeze), DC bus.
        evaporating = ambient - 0.5
        self._sensors = (
            start,
            start + 0.4,
            ambient,
            ambient + 0.2,
            ambient + 0.7,
            ambient + 0.5,
            evaporating,
            0.0,
            0.0,
            264.0,
        )
        self._lags = self._lag_factors()
        return self._outputs(ambient)

    def _lag_factors(self) -> tuple[float, float, float]:
        fast, middle, slow = (
            -math.expm1(-self.period_s / tau) for tau in (8.0, 15.0, 60.0)
        )
        return fast, middle, slow

    def _draw(self, block: int) -> list[float]:
        if not self.noise:
            return [0.0] * (_NOISES * _NOISE_BLOCK)
        generator = np.random.default_rng((self._seed, block))
        numbers: list[float] = generator.standard_normal(
            _NOISES * _NOISE_BLOCK
        ).tolist()
        return numbers

    def _stored(self) -> float:
        water = sum(
            capacity * temperature
            for capacity, temperature in zip(self._capacities, self._water, strict=True)
        )
        return water + self.heat_pump.stored_j

    @property
    def energy(self) -> Energy:
        """Heat balance since the last reset."""
        electricity, from_air, to_air, to_tower, to_water = self._books
        return Energy(
            electricity_j=electricity,
            from_air_j=from_air,
            to_air_j=to_air,
            to_tower_j=to_tower,
            to_water_j=to_water,
            stored_j=self._stored() - self._stored_before,
        )

    def step(self, now: float, inputs: Mapping[str, float]) -> dict[str, float]:
        """Advances by one period; see `playground.plants.Plant.step`."""
        ambient = inputs["ambient"]
        parts = self._parts
        dt = self.period_s / parts
        for _ in range(parts):
            self._advance(dt, inputs["valve"], inputs["vsd1"], inputs["vsd2"], ambient)
        return self._outputs(ambient)

    def _advance(
        self, dt: float, valve: float, vsd1: float, vsd2: float, ambient: float
    ) -> None:
        _, flow_1, flow_2, exchange, cooling = self._flows
        outlet, tank, inlet, hot, basin = self._water
        unit = self.heat_pump
        unit.advance(dt, ambient, outlet)
        pump_1_w, pump_2_w = self._pump_heat
        across = exchange * (tank - basin)
        rejected = cooling * (hot - ambient)
        loss = self.ua_tank_w_per_k * (tank - ambient)
        slopes = (
            flow_1 * (inlet - outlet),
            flow_1 * (outlet - tank) - loss,
            flow_1 * (tank - inlet) - across + pump_1_w,
            flow_2 * (basin - hot) + across,
            flow_2 * (hot - basin) - rejected + pump_2_w,
        )
        a, b, c, d, e = slopes
        a0, b0, c0, d0, e0 = self._slopes
        self._slopes = slopes
        loss0, rejected0, pumps0 = self._boundary
        pumps = pump_1_w + pump_2_w
        self._boundary = (loss, rejected, pumps)
        # Adams-Bashforth of second order: one evaluation a step, and linear in
        # the flows, so what one body loses another gains to the last bit.
        c_a, c_b, c_c, c_d, c_e = self._capacities
        self._water = (
            outlet + (1.5 * a - 0.5 * a0 + unit.heat_w) * dt / c_a,
            tank + (1.5 * b - 0.5 * b0) * dt / c_b,
            inlet + (1.5 * c - 0.5 * c0) * dt / c_c,
            hot + (1.5 * d - 0.5 * d0) * dt / c_d,
            basin + (1.5 * e - 0.5 * e0) * dt / c_e,
        )
        electricity, from_air, to_air, to_tower, to_water = self._books
        self._books = (
            electricity + (unit.electric_w + 1.5 * pumps - 0.5 * pumps0) * dt,
            from_air + unit.from_air_w * dt,
            to_air + (unit.to_air_w + 1.5 * loss - 0.5 * loss0) * dt,
            to_tower + (1.5 * rejected - 0.5 * rejected0) * dt,
            to_water + unit.heat_w * dt,
        )
        # Not `or`: each of the three has to move.
        moved = self.pump_1.ramp(vsd1, dt)
        moved |= self.pump_2.ramp(vsd2, dt)
        moved |= self.valve.move(valve, dt)
        if moved:
            self._find_flows()
        unit.control(dt, ambient, self._water[0], self._flows[0])

    def _find_flows(self) -> None:
        flow_1 = self.pump_1.flow_kg_per_s()
        flow_2 = self.pump_2.flow_kg_per_s(self.valve.conductance_kg_per_s_sqrt_kpa)
        self._flows = (
            flow_1,
            flow_1 * CP_WATER_J_PER_KG_K,
            flow_2 * CP_WATER_J_PER_KG_K,
            self.exchanger.conductance_w_per_k(flow_1, flow_2),
            self.tower.conductance_w_per_k(flow_2),
        )
        self._pump_heat = (self.pump_1.heat_w(flow_1), self.pump_2.heat_w(flow_2))

    def _outputs(self, ambient: float) -> dict[str, float]:
        """Reads all sensors: lag, offset, noise, and the registers' rounding."""
        at = self._noise_at
        if at == _NOISE_BLOCK:
            self._noise_block += 1
            self._noise = self._draw(self._noise_block)
            at = 0
        self._noise_at = at + 1
        g = self._noise[at * _NOISES : (at + 1) * _NOISES]
        unit = self.heat_pump
        hz = unit.frequency_hz
        on = hz > 0.0
        outlet, tank, inlet, hot, basin = self._water
        flow_1, flow_1_w, flow_2_w, exchange, _ = self._flows
        fast, middle, slow = self._lags
        (
            s_inlet,
            s_outlet,
            s_ambient,
            s_coil,
            s_suction,
            s_discharge,
            s_evaporating,
            wander,
            load,
            dc_bus,
        ) = self._sensors
        s_inlet += (inlet - s_inlet) * fast
        s_outlet += (outlet - s_outlet) * fast
        s_ambient += (ambient - s_ambient) * slow
        s_coil += (unit.coil_degc + 0.2 - s_coil) * middle
        # Superheat hunts: the expansion valve chases it with a slow wander, and
        # it is high until the refrigerant has found its place.
        wander += -wander * slow + 0.25 * g[0]
        if on:
            evaporating = unit.evaporating_degc
            superheat = 3.0 + 4.0 * (1.0 - unit.charge)
            # The shell averages: hot gas does not follow the hunting.
            discharge = unit.discharge_degc(evaporating + superheat + 0.4)
            superheat += abs(wander)
            suction = evaporating + superheat + 0.4
            bus = 523.0
        else:
            superheat = 0.0
            evaporating = unit.evaporating_degc - 0.5
            suction = unit.coil_degc + 0.7
            discharge = unit.coil_degc + 0.5
            bus = 264.0
        s_evaporating += (evaporating - s_evaporating) * middle
        s_suction += (suction - s_suction) * middle
        s_discharge += (discharge - s_discharge) * slow
        load += (unit.charge * hz / RATED_HZ - load) * fast
        dc_bus += (bus - dc_bus) * middle
        self._sensors = (
            s_inlet,
            s_outlet,
            s_ambient,
            s_coil,
            s_suction,
            s_discharge,
            s_evaporating,
            wander,
            load,
            dc_bus,
        )
        r_inlet = round(10.0 * s_inlet + 0.5 * g[1]) / 10.0
        r_outlet = round(10.0 * s_outlet + 0.5 * g[2]) / 10.0
        r_ambient = round(10.0 * s_ambient + 0.5 * g[3]) / 10.0
        r_coil = round(10.0 * s_coil + 0.7 * g[4]) / 10.0
        pressure = saturation_pressure_bar(s_evaporating) - ATMOSPHERE_BAR - 0.1
        second = 0.5 * load
        r_pressure = round(10.0 * pressure + 0.4 * g[5]) / 10.0
        # Three phases of the unit's supply, power = sum of U·I·cos φ.
        power = unit.electric_w * (1.0 + 0.002 * g[6])
        # The inverter's rectifier shapes the current better under load.
        factor = 0.55 + 0.40 * power / (power + 400.0)
        u_1 = 230.4 + 0.3 * g[7]
        u_2 = 229.7 + 0.3 * g[8]
        u_3 = 231.1 + 0.3 * g[9]
        third = power / (3.0 * factor)
        apparent = power / factor
        span = (_FULL_SCALE_A - _ZERO_SCALE_A) / self.flow_span_kg_per_s
        flow_2 = flow_2_w / CP_WATER_J_PER_KG_K
        across = exchange * (tank - basin)
        hot_out = tank - across / flow_1_w if flow_1_w > 0.0 else inlet
        cold_out = basin + across / flow_2_w if flow_2_w > 0.0 else hot
        return {
            "unit_on": 1.0 if unit.switched_on else 0.0,
            "mode": 1.0,
            "water_set_point": unit.set_point_degc,
            "water_inlet": r_inlet,
            "water_outlet": r_outlet,
            "air_ambient": r_ambient,
            "coil_1": r_coil,
            "coil_2": round(10.0 * (s_coil + 0.3 - 1.6 * second) + 0.6 * g[10]) / 10.0,
            "suction_1": round(10.0 * s_suction + 0.7 * g[11]) / 10.0,
            "suction_2": round(10.0 * (s_suction - 0.1 + 1.4 * second) + 0.7 * g[12])
            / 10.0,
            "discharge_1": round(10.0 * s_discharge + 0.9 * g[13]) / 10.0,
            "discharge_2": round(10.0 * (s_discharge - second) + 0.9 * g[14]) / 10.0,
            "antifreeze_1": round(10.0 * (s_outlet - 0.6 + 1.4 * second) + 0.6 * g[15])
            / 10.0,
            "antifreeze_2": round(10.0 * (s_outlet - 0.7 + 0.2 * second) + 0.6 * g[16])
            / 10.0,
            "low_pressure_1": r_pressure,
            "low_pressure_2": round(10.0 * (pressure - 0.2 * second) + 0.3 * g[17])
            / 10.0,
            "absent_1": -2.9,
            "absent_2": -2.9,
            "evaporating_1": round(10.0 * s_evaporating + 0.6 * g[18]) / 10.0,
            "superheat_1": round(10.0 * superheat + (0.8 * g[19] if on else 0.0))
            / 10.0,
            "evaporating_2": round(10.0 * (s_evaporating - second) + 0.6 * g[20])
            / 10.0,
            "superheat_2": round(
                10.0 * (superheat + 1.4 * second) + (0.8 * g[21] if on else 0.0)
            )
            / 10.0,
            "fan_speed": float(
                round(0.996 * unit.fan_rpm + (3.0 * g[22] if on else 0.0))
            ),
            "compressor_frequency": float(round(hz)),
            "compressor_current": round(
                10.0 * unit.motor_current_a + (0.5 * g[23] if on else 0.0)
            )
            / 10.0,
            "dc_bus": float(round(dc_bus + 0.4 * g[24])),
            "fan_speed_target": float(round(unit.fan_target_rpm)),
            "processed_inlet_temp": r_inlet,
            "processed_outlet_temp": r_outlet,
            "processed_air_ambient": r_ambient,
            "processed_air_ambient2": r_ambient,
            "processed_coil_temp": r_coil,
            "processed_pressure_low": r_pressure,
            "flow_1_current": _ZERO_SCALE_A + span * flow_1 + 2e-5 * g[25],
            "flow_2_current": _ZERO_SCALE_A + span * flow_2 + 2e-5 * g[26],
            "valve_voltage": 10.0 * self.valve.ball + 0.004 * g[27],
            "vsd1_voltage": 10.0 * self.pump_1.speed + 0.004 * g[28],
            "vsd2_voltage": 10.0 * self.pump_2.speed + 0.004 * g[29],
            "buffer_temp": tank + 0.03 * g[30],
            "hot_in_temp": tank + 0.03 * g[31],
            "hot_out_temp": hot_out + 0.03 * g[32],
            "cold_in_temp": basin + 0.03 * g[33],
            "cold_out_temp": cold_out + 0.03 * g[34],
            "voltage_1": u_1,
            "voltage_2": u_2,
            "voltage_3": u_3,
            "current_1": third / u_1,
            "current_2": third / u_2,
            "current_3": third / u_3,
            "power": power,
            "reactive_power": math.sqrt(apparent * apparent - power * power),
            "apparent_power": apparent,
            "power_factor": factor,
            "grid_frequency": 49.97 + 0.01 * g[35],
        }

    def snapshot(self) -> dict[str, Any]:
        """Returns all that `restore` needs to go on from here, plain values."""
        unit = self.heat_pump
        return {
            "rig": {name: getattr(self, name) for name in _STATE},
            "heat_pump": {name: getattr(unit, name) for name in unit.STATE},
            "pumps": (self.pump_1.speed, self.pump_2.speed),
            "valve": (self.valve.motor, self.valve.ball, self.valve.target),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes back to a snapshot, of this or of an equally built rig."""
        for name, value in state["rig"].items():
            setattr(self, name, value)
        for name, value in state["heat_pump"].items():
            setattr(self.heat_pump, name, value)
        self.pump_1.speed, self.pump_2.speed = state["pumps"]
        self.valve.motor, self.valve.ball, self.valve.target = state["valve"]
        self._noise = self._draw(self._noise_block)


_STATE = (
    "_seed",
    "_noise_block",
    "_noise_at",
    "_water",
    "_slopes",
    "_boundary",
    "_flows",
    "_pump_heat",
    "_books",
    "_stored_before",
    "_sensors",
)
