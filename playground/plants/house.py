"""A house: heat pump, stratified buffer tank, radiators or floor heating, rooms.

    air -> heat pump -> top of the tank ... bottom -> back
    top of the tank -> emitters -> bottom of the tank
    emitters -> rooms <-> walls -> ambient, sun and people on top

The heat pump is that of the lab rig, smaller. Every heat flow leaves one place
and enters another in the same step; `House.energy` closes to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from playground.errors import PlaygroundError
from playground.plants.energy import Energy
from playground.plants.heat_pump import HeatPump
from playground.plants.hydraulics import CP_WATER_J_PER_KG_K
from playground.signals import Signal, Signals

LONGEST_STEP_S = 2.0
LAYERS = 5
_CONDUCTION_W_PER_K = 2.0
"""Between two layers, water and steel of the tank."""
_BUOYANCY_W_PER_K = 2_500.0
"""Between two layers when the lower one is the warmer: it turns over in a minute."""
_BLOCK = 512
_SENSORS = 10
_WALL, _ZONE, _EMITTER, _OUTLET = range(LAYERS, LAYERS + 4)


class House:
    """The house as a `playground.plants.Plant`.

    Default sizes: a detached house of 140 m² and 180 W/K, heated by 8 kW; U·A and
    capacities are ordinary ones for a light-brick building of the 1990s.

    Args:
        emitter: ``radiator`` (little mass, exponent 1.3) or ``floor`` (a slab).
        period_s: Seconds of one step.
        noise: Sensors scatter by 0.05 K.
        start_degc: Rooms, walls and emitters at the reset.
        tank_start_degc: Tank at the reset.
        ambient_degc: Ambient temperature until a disturbance says another.
        relative_humidity: Of the ambient air, 0 to 1; decides about frost.
        capacity_w: Heat of the unit at 51 Hz, 13.8 °C evaporating and 57.4 °C
            condensing.
        carnot_fraction: Its COP over Carnot's.
        flow_kg_per_s: Of the pump inside the unit.
        tank_water_kg: Water in the tank.
        ua_tank_w_per_k: Loss of the tank, to the rooms around it.
        emitter_flow_kg_per_s: Of the emitters' pump at full speed.
        ua_vent_w_per_k: Windows and ventilation, rooms to ambient.
        ua_wall_w_per_k: Walls to ambient.
        ua_inside_w_per_k: Rooms to walls.
        zone_j_per_k: Air and furniture.
        wall_j_per_k: Walls.
        window_m2: Aperture through which the sun reaches rooms and walls.
    """

    def __init__(
        self,
        *,
        emitter: Literal["radiator", "floor"] = "radiator",
        period_s: float = 10.0,
        noise: bool = True,
        start_degc: float = 20.0,
        tank_start_degc: float = 35.0,
        ambient_degc: float = 5.0,
        relative_humidity: float = 0.8,
        capacity_w: float = 8_000.0,
        carnot_fraction: float = 0.5,
        flow_kg_per_s: float = 0.35,
        tank_water_kg: float = 300.0,
        ua_tank_w_per_k: float = 2.5,
        emitter_flow_kg_per_s: float = 0.25,
        ua_vent_w_per_k: float = 90.0,
        ua_wall_w_per_k: float = 100.0,
        ua_inside_w_per_k: float = 1_200.0,
        zone_j_per_k: float = 5e6,
        wall_j_per_k: float = 40e6,
        window_m2: float = 6.0,
    ) -> None:
        if emitter not in ("radiator", "floor"):
            raise PlaygroundError(
                f"The house has no emitter {emitter!r}.", "write radiator or floor"
            )
        for name, value in (
            ("period_s", period_s),
            ("capacity_w", capacity_w),
            ("carnot_fraction", carnot_fraction),
            ("flow_kg_per_s", flow_kg_per_s),
            ("tank_water_kg", tank_water_kg),
            ("emitter_flow_kg_per_s", emitter_flow_kg_per_s),
            ("zone_j_per_k", zone_j_per_k),
            ("wall_j_per_k", wall_j_per_k),
        ):
            if not (value > 0.0 and math.isfinite(value)):
                raise PlaygroundError(
                    f"The house has {name} = {value}: it must be above 0.",
                    f"leave {name} out, or write a positive number",
                )
        self.period_s = period_s
        self.noise = noise
        self.start_degc = start_degc
        self.tank_start_degc = tank_start_degc
        self.ambient_degc = ambient_degc
        self.signals = _signals(ambient_degc)
        size = capacity_w / 20_000.0
        self.heat_pump = HeatPump(
            capacity_w=capacity_w,
            carnot_fraction=carnot_fraction,
            relative_humidity=relative_humidity,
            ua_air_w_per_k=1_400.0 * size,
            coil_j_per_k=30e3 * size,
            min_flow_kg_per_s=0.5 * flow_kg_per_s,
            sample_s=LONGEST_STEP_S,
        )
        self.flow_w_per_k = flow_kg_per_s * CP_WATER_J_PER_KG_K
        self.emitter_flow_w_per_k = emitter_flow_kg_per_s * CP_WATER_J_PER_KG_K
        self.ua_tank = ua_tank_w_per_k
        self.ua_vent = ua_vent_w_per_k
        self.ua_wall = ua_wall_w_per_k
        self.ua_inside = ua_inside_w_per_k
        self.window_m2 = window_m2
        if emitter == "radiator":
            # 10 kW at 50 K over the rooms, EN 442's exponent; steel and water.
            emitter_j_per_k = 180e3
            self._ua_water, self._exponent = 3_000.0, 0.3
            self._to_zone = 10_000.0 / 50.0**1.3
        else:
            # 100 m² of screed, 6 cm; EN 1264's 8.92 W/m²K with exponent 1.1.
            emitter_j_per_k = 12e6
            self._ua_water, self._exponent = 700.0, 0.1
            self._to_zone = 892.0
        layer = tank_water_kg * CP_WATER_J_PER_KG_K / LAYERS
        self._capacities = (
            *[layer] * LAYERS,
            wall_j_per_k,
            zone_j_per_k,
            emitter_j_per_k,
            12e3 + 5.0 * CP_WATER_J_PER_KG_K,  # condenser with 5 kg of water
        )
        # No layer may be swept through in a step, nor the emitters cool down in
        # one: the extrapolation would overshoot.
        through = self.flow_w_per_k + self.emitter_flow_w_per_k + _BUOYANCY_W_PER_K
        longest_s = 0.3 * min(
            layer / through,
            self._capacities[_OUTLET] / self.flow_w_per_k,
            emitter_j_per_k / (self.emitter_flow_w_per_k + 4.0 * self._to_zone),
            zone_j_per_k / (ua_inside_w_per_k + ua_vent_w_per_k + 4.0 * self._to_zone),
            wall_j_per_k / (ua_inside_w_per_k + ua_wall_w_per_k),
        )
        longest_s = min(LONGEST_STEP_S, longest_s)
        self._parts = max(1, math.ceil(period_s / longest_s - 1e-9))
        self.reset()

    def reset(self, *, seed: int = 0) -> dict[str, float]:
        """Goes back to rest: all pumps stopped, the tank warm, the house at start."""
        self._seed = seed
        self._block = -1
        self._at = _BLOCK
        self.heat_pump.reset(ambient_degc=self.ambient_degc)
        start = self.start_degc
        tank = self.tank_start_degc
        self._heat = [*[tank] * LAYERS, start, start, start, tank]
        self._slopes = [0.0] * len(self._heat)
        self._boundary = (0.0, 0.0)
        self._books = (0.0, 0.0, 0.0, 0.0, 0.0)
        self._supply = self._return = tank
        self._stored_before = self._stored()
        return self._outputs(self.ambient_degc)

    def _stored(self) -> float:
        house = sum(c * t for c, t in zip(self._capacities, self._heat, strict=True))
        return house + self.heat_pump.stored_j

    @property
    def energy(self) -> Energy:
        """Heat balance since the last reset."""
        electricity, from_air, to_air, to_ambient, to_water = self._books
        return Energy(
            electricity_j=electricity,
            from_air_j=from_air,
            to_air_j=to_air,
            to_sink_j=to_ambient,
            to_water_j=to_water,
            stored_j=self._stored() - self._stored_before,
        )

    def step(self, now: float, inputs: Mapping[str, float]) -> dict[str, float]:
        """Advances by one period; see `playground.plants.Plant.step`."""
        unit = self.heat_pump
        unit.switched_on = inputs["heat_pump"] >= 0.5
        unit.set_point_degc = inputs["set_point"]
        for _ in range(self._parts):
            self._advance(self.period_s / self._parts, inputs)
        return self._outputs(inputs["ambient"])

    def _advance(self, dt: float, inputs: Mapping[str, float]) -> None:
        unit = self.heat_pump
        ambient = inputs["ambient"]
        heat = self._heat
        wall, zone, emitter, outlet = heat[_WALL:]
        unit.advance(dt, ambient, outlet)
        # The unit's own pump runs as long as it is switched on.
        through = self.flow_w_per_k if unit.switched_on else 0.0
        taken = self.emitter_flow_w_per_k * inputs["emitter_pump"]
        top, bottom = heat[0], heat[LAYERS - 1]
        given = 0.0
        if taken > 0.0:
            given = taken * -math.expm1(-self._ua_water / taken) * (top - emitter)
            self._supply = top
            self._return = top - given / taken
        else:
            self._supply = self._return = emitter
        gap = emitter - zone
        warming = self._to_zone * gap * (abs(gap) + 1e-9) ** self._exponent
        inside = self.ua_inside * (zone - wall)
        lost_wall = self.ua_wall * (wall - ambient)
        lost_zone = self.ua_vent * (zone - ambient)
        sun = self.window_m2 * inputs["sun"]
        gains = inputs["internal_gains"]
        slopes = [0.0] * len(heat)
        tank_loss = self._tank_slopes(slopes, heat, through, taken, zone)
        slopes[_WALL] = inside - lost_wall + 0.6 * sun
        slopes[_ZONE] = warming - inside - lost_zone + 0.4 * sun + gains + tank_loss
        slopes[_EMITTER] = given - warming
        slopes[_OUTLET] = through * (bottom - outlet)
        slopes[0] += through * outlet
        slopes[LAYERS - 1] += taken * self._return
        boundary = lost_wall + lost_zone - sun - gains
        pump_w = 30.0 * inputs["emitter_pump"] ** 3 + (40.0 if through else 0.0)
        before = self._boundary
        old = self._slopes
        self._heat = [
            t + (1.5 * s - 0.5 * s0) * dt / c
            for t, s, s0, c in zip(heat, slopes, old, self._capacities, strict=True)
        ]
        self._heat[_OUTLET] += unit.heat_w * dt / self._capacities[_OUTLET]
        self._slopes = slopes
        self._boundary = (boundary, pump_w)
        electricity, from_air, to_air, to_ambient, to_water = self._books
        self._books = (
            electricity + (unit.electric_w + pump_w) * dt,
            from_air + unit.from_air_w * dt,
            # The circulators' motors stand in the cellar and warm nobody.
            to_air + (unit.to_air_w + pump_w) * dt,
            to_ambient + (1.5 * boundary - 0.5 * before[0]) * dt,
            to_water + unit.heat_w * dt,
        )
        flow = self.flow_w_per_k / CP_WATER_J_PER_KG_K if through else 0.0
        unit.control(dt, ambient, self._heat[_OUTLET], flow)

    def _tank_slopes(
        self,
        slopes: list[float],
        heat: list[float],
        through: float,
        taken: float,
        zone: float,
    ) -> float:
        """Adds what moves heat inside the tank; returns its loss to the rooms.

        The unit pushes water down, the emitters draw it up; the difference moves
        from layer to layer. What enters at both ends is added by the caller.
        """
        down = through - taken
        loss = 0.0
        share = self.ua_tank / LAYERS
        for layer in range(LAYERS):
            lost = share * (heat[layer] - zone)
            slopes[layer] -= lost
            loss += lost
        for upper in range(LAYERS - 1):
            lower = upper + 1
            a, b = heat[upper], heat[lower]
            moved = down * (a if down > 0.0 else b)
            moved += (_BUOYANCY_W_PER_K if b > a else _CONDUCTION_W_PER_K) * (a - b)
            slopes[upper] -= moved
            slopes[lower] += moved
        slopes[0] -= taken * heat[0]
        slopes[LAYERS - 1] -= through * heat[LAYERS - 1]
        return loss

    def _outputs(self, ambient: float) -> dict[str, float]:
        if self._at == _BLOCK:
            self._block += 1
            self._at = 0
            self._draw()
        g = self._rows[self._at]
        self._at += 1
        heat = self._heat
        unit = self.heat_pump
        return {
            "zone_temp": heat[_ZONE] + g[0],
            "tank_top": heat[0] + g[1],
            "tank_middle": heat[LAYERS // 2] + g[2],
            "tank_bottom": heat[LAYERS - 1] + g[3],
            "flow_temp": heat[_OUTLET] + g[4],
            "return_temp": heat[LAYERS - 1] + g[5],
            "supply_temp": self._supply + g[6],
            "emitter_return_temp": self._return + g[7],
            "emitter_temp": heat[_EMITTER] + g[8],
            "outdoor_temp": ambient + g[9],
            "compressor_frequency": unit.frequency_hz,
            "power": unit.electric_w,
            "heat_output": unit.heat_w,
            "defrost": 1.0 if unit.defrosting else 0.0,
        }

    def _draw(self) -> None:
        shape = (_BLOCK, _SENSORS)
        if self.noise:
            generator = np.random.default_rng((self._seed, self._block))
            numbers = 0.05 * generator.standard_normal(shape)
        else:
            numbers = np.zeros(shape)
        self._rows: list[list[float]] = numbers.tolist()

    def snapshot(self) -> Any:
        """Returns all that `restore` needs to go on from here, plain values."""
        unit = self.heat_pump
        return {
            "house": {name: getattr(self, name) for name in _STATE},
            "heat_pump": {name: getattr(unit, name) for name in unit.STATE},
        }

    def restore(self, snapshot: Any) -> None:
        """Goes back to a snapshot, of this or of an equally built house."""
        for name, value in snapshot["house"].items():
            setattr(self, name, value)
        for name, value in snapshot["heat_pump"].items():
            setattr(self.heat_pump, name, value)
        self._draw()


_STATE = (
    "_seed",
    "_block",
    "_at",
    "_heat",
    "_slopes",
    "_boundary",
    "_books",
    "_supply",
    "_return",
    "_stored_before",
)


def _signals(ambient_degc: float) -> Signals:
    inputs = (
        ("heat_pump", "1", "command", (0.0, 1.0), 1.0, "unit on (1) or off (0)"),
        ("set_point", "degC", "command", (20.0, 60.0), 40.0, "of the unit's outlet"),
        ("emitter_pump", "1", "command", (0.0, 1.0), 1.0, "speed of its pump"),
        ("ambient", "degC", "disturbance", (-40.0, 60.0), ambient_degc, "outside air"),
        ("sun", "W/m^2", "disturbance", (0.0, 1_400.0), 0.0, "on the windows"),
        ("internal_gains", "W", "disturbance", (0.0, 10e3), 200.0, "people, devices"),
    )
    outputs = (
        ("zone_temp", "degC", "rooms"),
        ("tank_top", "degC", "top layer of the buffer tank"),
        ("tank_middle", "degC", "middle layer"),
        ("tank_bottom", "degC", "bottom layer"),
        ("flow_temp", "degC", "water out of the heat pump"),
        ("return_temp", "degC", "water into the heat pump"),
        ("supply_temp", "degC", "water into the emitters"),
        ("emitter_return_temp", "degC", "water out of the emitters"),
        ("emitter_temp", "degC", "radiators or slab"),
        ("outdoor_temp", "degC", "outside air"),
        ("compressor_frequency", "Hz", "speed of the compressor"),
        ("power", "W", "electricity of the heat pump"),
        ("heat_output", "W", "heat into the water, below 0 while defrosting"),
        ("defrost", "1", "1 while defrosting"),
    )
    signals = [
        Signal(
            name=name,
            topic=f"house/{name}/set" if role == "command" else f"weather/{name}",
            unit=unit,
            role=role,  # type: ignore[arg-type]
            range=limits,
            initial=initial,
            description=text,
        )
        for name, unit, role, limits, initial, text in inputs
    ]
    signals.extend(
        Signal(
            name=name,
            topic=f"house/{name}",
            unit=unit,
            role="measurement",
            description=text,
        )
        for name, unit, text in outputs
    )
    return Signals(signals)
