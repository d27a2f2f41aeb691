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
from typing import Any

from playground.errors import PlaygroundError
from playground.plants.energy import Energy
from playground.plants.heat_pump import HeatPump
from playground.plants.hydraulics import (
    CP_WATER_J_PER_KG_K,
    BallValve,
    CoolingTower,
    HeatExchanger,
    PumpDrive,
)
from playground.plants.lab_rig_sensors import Sensors
from playground.plants.lab_rig_signals import lab_rig_signals

LONGEST_STEP_S = 1.0
"""Longer periods are walked through in equal parts of at most this, and of less
where a part of the rig is unusually small."""
NOMINAL_KG_PER_S = 0.886
"""20 kW over the 5.4 K between inlet and outlet in the contract."""
_Five = tuple[float, float, float, float, float]


class LabRig:
    """The rig as a `playground.plants.Plant`.

    Sources of the parameters: "contract" is the operating point of the rig's
    registers (20 kW is the free choice that fixes the scale: ΔT 5.4 K then means
    0.886 kg/s); the rest are ordinary sizes of such parts.

    Args:
        period_s: Seconds of one step.
        noise: Sensors scatter. False gives exact values. Registers are rounded
            where they are written, on the bus; the ``processed`` values, which
            repeat registers, are rounded already here.
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
        outlet_water_kg, tank_water_kg, return_water_kg: Water of the heat pump's
            loop: condenser and pipe, buffer tank (200 L), pipe back.
        hot_pipe_water_kg, tower_water_kg: Water of the tower's loop: pipe to the
            tower, its basin and the way back.
        flow_span_kg_per_s: Flow at 20 mA of both flow meters (4 mA is none).
        start_difference_k, stop_difference_k: The unit starts this much below
            its set point and stops this much above it.
        min_run_s, min_off_s: Its shortest run and shortest pause.
        defrost_interval_s: Running time with a cold coil between two defrosts.
        valve_travel_s: Full stroke of the ball valve's motor.
        valve_play: Play between motor and ball, as a part of the stroke.
        valve_dead_band: A smaller change of command moves nothing.
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
        outlet_water_kg: float = 12.0,
        tank_water_kg: float = 200.0,
        return_water_kg: float = 10.0,
        hot_pipe_water_kg: float = 15.0,
        tower_water_kg: float = 80.0,
        flow_span_kg_per_s: float = 1.5,
        start_difference_k: float = 5.0,
        stop_difference_k: float = 2.0,
        min_run_s: float = 180.0,
        min_off_s: float = 180.0,
        defrost_interval_s: float = 2_700.0,
        valve_travel_s: float = 30.0,
        valve_play: float = 0.01,
        valve_dead_band: float = 0.005,
    ) -> None:
        for name, value in (
            ("period_s", period_s),
            ("capacity_w", capacity_w),
            ("carnot_fraction", carnot_fraction),
            ("ua_air_w_per_k", ua_air_w_per_k),
            ("ua_hx_w_per_k", ua_hx_w_per_k),
            ("ua_tower_w_per_k", ua_tower_w_per_k),
            ("outlet_water_kg", outlet_water_kg),
            ("tank_water_kg", tank_water_kg),
            ("return_water_kg", return_water_kg),
            ("hot_pipe_water_kg", hot_pipe_water_kg),
            ("tower_water_kg", tower_water_kg),
            ("flow_span_kg_per_s", flow_span_kg_per_s),
            ("valve_travel_s", valve_travel_s),
        ):
            if not (value > 0.0 and math.isfinite(value)):
                raise PlaygroundError(
                    f"The lab rig has {name} = {value}: it must be above 0.",
                    f"leave {name} out, or write a positive number",
                )
        self.period_s = period_s
        self.signals = lab_rig_signals(ambient_degc=ambient_degc)
        self.start_degc = start_degc
        self.ambient_degc = ambient_degc
        self.heat_pump = HeatPump(
            capacity_w=capacity_w,
            carnot_fraction=carnot_fraction,
            set_point_degc=set_point_degc,
            switched_on=switched_on,
            relative_humidity=relative_humidity,
            ua_air_w_per_k=ua_air_w_per_k,
            start_difference_k=start_difference_k,
            stop_difference_k=stop_difference_k,
            min_run_s=min_run_s,
            min_off_s=min_off_s,
            defrost_interval_s=defrost_interval_s,
        )
        self.exchanger = HeatExchanger(
            ua_w_per_k=ua_hx_w_per_k, nominal_kg_per_s=NOMINAL_KG_PER_S
        )
        self.tower = CoolingTower(ua_w_per_k=ua_tower_w_per_k)
        self.ua_tank_w_per_k = ua_tank_w_per_k
        # 8 m of head; at 70 % speed the nominal flow.
        loop = {"shut_off_kpa": 80.0, "pump_kpa_s2_per_kg2": 15.0}
        self.pump_1 = PumpDrive(**loop, loop_kpa_s2_per_kg2=34.9)
        self.pump_2 = PumpDrive(**loop, loop_kpa_s2_per_kg2=34.4)
        self.valve = BallValve(
            travel_s=valve_travel_s, play=valve_play, dead_band=valve_dead_band
        )
        self._capacities = tuple(
            mass * CP_WATER_J_PER_KG_K
            for mass in (
                outlet_water_kg,
                tank_water_kg,
                return_water_kg,
                hot_pipe_water_kg,
                tower_water_kg,
            )
        )
        self.flow_span_kg_per_s = flow_span_kg_per_s
        self.sensors = Sensors(
            period_s=period_s, noise=noise, flow_span_kg_per_s=flow_span_kg_per_s
        )
        # A body of water must not be swept through in a step, nor the coil cool
        # down in one: the extrapolation would overshoot.
        self.pump_1.speed = 1.0
        least_kg = min(
            outlet_water_kg, tank_water_kg, return_water_kg, hot_pipe_water_kg
        )
        sweep_s = least_kg / self.pump_1.flow_kg_per_s()
        cooling_s = self.heat_pump.coil_j_per_k / (1.4 * ua_air_w_per_k)
        longest_s = min(LONGEST_STEP_S, 0.3 * sweep_s, 0.3 * cooling_s)
        self._parts = max(1, math.ceil(period_s / longest_s - 1e-9))
        self._rest(seed=0)

    def reset(self, *, seed: int = 0) -> dict[str, float]:
        """Puts the rig at rest: pumps stopped, valve open, all water alike."""
        self._rest(seed=seed)
        return self._outputs(self.ambient_degc)

    def _rest(self, *, seed: int) -> None:
        ambient = self.ambient_degc
        start = self.start_degc
        self.heat_pump.reset(ambient_degc=ambient)
        self.pump_1.speed = 0.0
        self.pump_2.speed = 0.0
        self.valve.place(1.0)
        # In the rig at rest the outlet reads 0.4 K above the inlet.
        self._water: _Five = (start + 0.4, start, start, start, start)
        self._slopes: _Five = (0.0, 0.0, 0.0, 0.0, 0.0)
        self._boundary = (0.0, 0.0, 0.0)
        self._pump_heat = (0.0, 0.0)
        self._flows: _Five = (0.0, 0.0, 0.0, 0.0, 0.0)
        self._books: _Five = (0.0, 0.0, 0.0, 0.0, 0.0)
        # Commands that valve and drives have carried out; None while they move.
        self._told: tuple[float, float, float] | None = None
        self._stored_before = self._stored()
        self.sensors.reset(
            seed=seed,
            inlet_degc=start,
            outlet_degc=start + 0.4,
            ambient_degc=ambient,
        )

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
            to_sink_j=to_tower,
            to_water_j=to_water,
            stored_j=self._stored() - self._stored_before,
        )

    def step(self, now: float, inputs: Mapping[str, float]) -> dict[str, float]:
        """Advances by one period; see `playground.plants.Plant.step`."""
        if self._told is None and not self.sensors.read_before:
            # A new rig has not been read: who only looks through a scenario needs
            # no scatter. Instruments remember, so the reading at rest comes first.
            self._outputs(self.ambient_degc)
        ambient = inputs["ambient"]
        commands = (inputs["valve"], inputs["vsd1"], inputs["vsd2"])
        parts = self._parts
        dt = self.period_s / parts
        for _ in range(parts):
            self._advance(dt, commands, ambient)
        return self._outputs(ambient)

    def _advance(
        self, dt: float, commands: tuple[float, float, float], ambient: float
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
        if commands != self._told:
            # Not `or`: each of the three has to move.
            moved = self.pump_1.ramp(commands[1], dt)
            moved |= self.pump_2.ramp(commands[2], dt)
            moved |= self.valve.move(commands[0], dt)
            if moved:
                self._find_flows()
            self._told = None if moved else commands
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
        return self.sensors.read(
            self.heat_pump,
            self._water,
            self._flows,
            ambient,
            (self.valve.ball, self.pump_1.speed, self.pump_2.speed),
        )

    def snapshot(self) -> dict[str, Any]:
        """Returns all that `restore` needs to go on from here, plain values."""
        return {
            part: {name: getattr(owner, name) for name in names}
            for part, owner, names in self._parts_with_state()
        }

    def restore(self, snapshot: Any) -> None:
        """Goes back to a snapshot, of this or of an equally built rig."""
        for part, owner, names in self._parts_with_state():
            for name in names:
                setattr(owner, name, snapshot[part][name])
        self.sensors.draw()

    def _parts_with_state(self) -> list[tuple[str, Any, tuple[str, ...]]]:
        return [
            ("rig", self, _STATE),
            ("heat_pump", self.heat_pump, self.heat_pump.STATE),
            ("pump_1", self.pump_1, ("speed",)),
            ("pump_2", self.pump_2, ("speed",)),
            ("valve", self.valve, ("motor", "ball", "target")),
            ("sensors", self.sensors, self.sensors.STATE),
        ]


_STATE = (
    "_water",
    "_slopes",
    "_boundary",
    "_flows",
    "_pump_heat",
    "_books",
    "_stored_before",
    "_told",
)
