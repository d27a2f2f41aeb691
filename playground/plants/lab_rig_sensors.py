"""The lab rig's sensors: lag, offset and scatter between what is and what is read.

Offsets are those that the rig's own registers show at rest. No physics of the
rig here, only that of its instruments.
"""

from __future__ import annotations

from math import expm1, sqrt

from playground.arrays import np
from playground.plants.heat_pump import RATED_HZ, HeatPump
from playground.plants.hydraulics import CP_WATER_J_PER_KG_K
from playground.plants.lab_rig_signals import lab_rig_signals
from playground.plants.refrigerant import (
    ATMOSPHERE_BAR,
    discharge_temperature_degc,
    saturation_pressure_bar,
)

ZERO_SCALE_A = 0.004
FULL_SCALE_A = 0.020
_BLOCK = 512
# Standard deviations, in the order in which `Sensors.read` uses them.
_SCATTER = (
    *(0.25,),  # superheat's wander, per second^0.5
    *(0.05, 0.05, 0.05, 0.07, 0.04),  # inlet, outlet, ambient, coil 1; bar
    *(0.002, 0.3, 0.3, 0.3),  # relative, of power; V
    *(0.06, 0.07, 0.07, 0.09, 0.09),  # coil 2, suction, discharge
    *(0.06, 0.06, 0.03),  # antifreeze; bar
    *(0.06, 0.08, 0.06, 0.08),  # evaporating and superheat, circuits 1 and 2
    *(3.0, 0.05, 0.4),  # rpm, A, V
    *(2e-5, 2e-5, 0.004, 0.004, 0.004),  # A, A, V, V, V
    *(0.03, 0.03, 0.03, 0.03, 0.03),  # thermocouples
    *(0.01,),  # Hz
)
_COUNT = len(_SCATTER)
_NAMES = tuple(s.name for s in lab_rig_signals().with_role("measurement"))


class Sensors:
    """All instruments of the rig.

    Args:
        period_s: Seconds between two readings.
        noise: False: no scatter.
        flow_span_kg_per_s: Flow at 20 mA.
    """

    STATE = ("seed", "block", "at", "lagged")
    """What changes from reading to reading."""

    def __init__(
        self, *, period_s: float, noise: bool, flow_span_kg_per_s: float
    ) -> None:
        self.noise = noise
        self.amperes_per_watt_per_k = (
            (FULL_SCALE_A - ZERO_SCALE_A) / flow_span_kg_per_s / CP_WATER_J_PER_KG_K
        )
        # Time constants: sensors in wells; on the coil and the suction pipe; the
        # shaded air sensor and the thick discharge pipe.
        self._fast = -expm1(-period_s / 8.0)
        self._middle = -expm1(-period_s / 15.0)
        self._slow = -expm1(-period_s / 60.0)
        # In the order of the signals; most are written anew at each reading.
        self._found = dict.fromkeys(_NAMES, 0.0) | {
            "mode": 1.0,
            "absent_1": -2.9,
            "absent_2": -2.9,
        }
        self._drawn: tuple[tuple[int, int] | None] | None = None
        self._scatter = (_SCATTER[0] * sqrt(period_s), *_SCATTER[1:])

    def reset(
        self, *, seed: int, outlet_degc: float, inlet_degc: float, ambient_degc: float
    ) -> None:
        """Goes back to rest, everything as warm as it has long been."""
        self.seed = seed
        self.block = -1
        self.at = _BLOCK
        self.lagged = (
            inlet_degc,
            outlet_degc,
            ambient_degc,
            ambient_degc + 0.2,  # coil
            ambient_degc + 0.7,  # suction
            ambient_degc + 0.5,  # discharge
            ambient_degc - 0.5,  # evaporating
            0.0,  # superheat's wander
            0.0,  # load
            264.0,  # DC bus
        )

    @property
    def read_before(self) -> bool:
        """Whether there has been a reading since they came to rest."""
        return self.block >= 0

    def draw(self) -> None:
        """Makes the scatter of the block of readings at hand.

        What is there already stays: who goes from snapshot to snapshot comes here
        before each step.
        """
        if not self.read_before:
            # A snapshot of a new rig: the first reading draws its block.
            return
        wanted = (self.seed, self.block) if self.noise else None
        if self._drawn == (wanted,):
            return
        self._drawn = (wanted,)
        shape = (_BLOCK, _COUNT)
        if self.noise:
            # By block number, so that a snapshot need not carry the generator.
            generator = np.random.default_rng((self.seed, self.block))
            numbers = generator.standard_normal(shape) * self._scatter
        else:
            numbers = np.zeros(shape)
        self._rows: list[list[float]] = numbers.tolist()

    def read(
        self,
        unit: HeatPump,
        water_degc: tuple[float, ...],
        flows: tuple[float, ...],
        ambient_degc: float,
        positions: tuple[float, float, float],
    ) -> dict[str, float]:
        """Returns every measurement of the rig, by name.

        Args:
            unit: The heat pump.
            water_degc: Outlet, tank, inlet, pipe to the tower, tower.
            flows: Flow 1 in kg/s, flows 1 and 2 in W/K, heat exchanger in W/K.
            ambient_degc: True temperature of the air.
            positions: Ball valve, pump 1, pump 2, each 0 to 1.
        """
        if self.at == _BLOCK:
            self.block += 1
            self.at = 0
            self.draw()
        g = self._rows[self.at]
        self.at += 1
        outlet, tank, inlet, hot, basin = water_degc
        _, flow_1, flow_2, exchange, _ = flows
        ball, speed_1, speed_2 = positions
        fast = self._fast
        middle = self._middle
        slow = self._slow
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
        ) = self.lagged
        hz = unit.frequency_hz
        evaporating = unit.evaporating_degc
        coil = unit.coil_degc
        # The expansion valve chases the superheat with a slow wander.
        wander += g[0] - wander * slow
        if hz > 0.0:
            charge = unit.charge
            # High until the refrigerant has found its place.
            superheat = 3.0 + 4.0 * (1.0 - charge)
            # The shell averages: hot gas does not follow the wander.
            discharge = discharge_temperature_degc(
                evaporating + superheat + 0.4, evaporating, unit.condensing_degc
            )
            superheat += abs(wander)
            suction = evaporating + superheat + 0.4
            full_load = charge * hz / RATED_HZ
            full_bus = 523.0
            fan = 0.996 * unit.fan_rpm + g[22]
            current = unit.motor_current_a + g[23]
            superheat_1 = superheat + g[19]
            superheat_2 = superheat + 0.7 * load + g[21]
        else:
            evaporating -= 0.5
            suction = coil + 0.7
            discharge = coil + 0.5
            full_load = 0.0
            full_bus = 264.0
            fan = 0.996 * unit.fan_rpm
            current = superheat_1 = superheat_2 = 0.0
        s_inlet += (inlet - s_inlet) * fast
        s_outlet += (outlet - s_outlet) * fast
        s_ambient += (ambient_degc - s_ambient) * slow
        s_coil += (coil + 0.2 - s_coil) * middle
        s_evaporating += (evaporating - s_evaporating) * middle
        s_suction += (suction - s_suction) * middle
        s_discharge += (discharge - s_discharge) * slow
        load += (full_load - load) * fast
        dc_bus += (full_bus - dc_bus) * middle
        self.lagged = (
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
        r_inlet = s_inlet + g[1]
        r_outlet = s_outlet + g[2]
        r_ambient = s_ambient + g[3]
        r_coil = s_coil + g[4]
        pressure = saturation_pressure_bar(s_evaporating) - ATMOSPHERE_BAR - 0.1
        r_pressure = pressure + g[5]
        # As Signal.raw_of rounds them to the wire, so that both agree always.
        p_ambient = round(r_ambient / 0.1) / 10.0
        # Three phases; the power is the sum of U·I·cos φ. The rectifier draws a
        # cleaner current under load.
        power = unit.electric_w * (1.0 + g[6])
        factor = 0.55 + 0.40 * power / (power + 400.0)
        u_1 = 230.4 + g[7]
        u_2 = 229.7 + g[8]
        u_3 = 231.1 + g[9]
        apparent = power / factor
        third = apparent / 3.0
        span = self.amperes_per_watt_per_k
        across = exchange * (tank - basin)
        # Filling a copy is cheaper than making a dict of so many keys.
        found = self._found.copy()
        found["unit_on"] = 1.0 if unit.switched_on else 0.0
        found["water_set_point"] = unit.set_point_degc
        found["water_inlet"] = r_inlet
        found["water_outlet"] = r_outlet
        found["air_ambient"] = r_ambient
        found["coil_1"] = r_coil
        found["coil_2"] = s_coil + 0.3 - 0.8 * load + g[10]
        found["suction_1"] = s_suction + g[11]
        found["suction_2"] = s_suction - 0.1 + 0.7 * load + g[12]
        found["discharge_1"] = s_discharge + g[13]
        found["discharge_2"] = s_discharge - 0.5 * load + g[14]
        found["antifreeze_1"] = s_outlet - 0.6 + 0.7 * load + g[15]
        found["antifreeze_2"] = s_outlet - 0.7 + 0.1 * load + g[16]
        found["low_pressure_1"] = r_pressure
        found["low_pressure_2"] = pressure - 0.1 * load + g[17]
        found["evaporating_1"] = s_evaporating + g[18]
        found["superheat_1"] = superheat_1
        found["evaporating_2"] = s_evaporating - 0.5 * load + g[20]
        found["superheat_2"] = superheat_2
        found["fan_speed"] = fan
        found["compressor_frequency"] = hz
        found["compressor_current"] = current
        found["dc_bus"] = dc_bus + g[24]
        found["fan_speed_target"] = unit.fan_target_rpm
        found["processed_inlet_temp"] = round(r_inlet / 0.1) / 10.0
        found["processed_outlet_temp"] = round(r_outlet / 0.1) / 10.0
        found["processed_air_ambient"] = p_ambient
        found["processed_air_ambient2"] = p_ambient
        found["processed_coil_temp"] = round(r_coil / 0.1) / 10.0
        found["processed_pressure_low"] = round(r_pressure / 0.1) / 10.0
        found["flow_1_current"] = ZERO_SCALE_A + span * flow_1 + g[25]
        found["flow_2_current"] = ZERO_SCALE_A + span * flow_2 + g[26]
        found["valve_voltage"] = 10.0 * ball + g[27]
        found["vsd1_voltage"] = 10.0 * speed_1 + g[28]
        found["vsd2_voltage"] = 10.0 * speed_2 + g[29]
        found["buffer_temp"] = tank + g[30]
        found["hot_in_temp"] = tank + g[31]
        found["hot_out_temp"] = (tank - across / flow_1 if flow_1 else inlet) + g[32]
        found["cold_in_temp"] = basin + g[33]
        found["cold_out_temp"] = (basin + across / flow_2 if flow_2 else hot) + g[34]
        found["voltage_1"] = u_1
        found["voltage_2"] = u_2
        found["voltage_3"] = u_3
        found["current_1"] = third / u_1
        found["current_2"] = third / u_2
        found["current_3"] = third / u_3
        found["power"] = power
        found["reactive_power"] = sqrt(apparent * apparent - power * power)
        found["apparent_power"] = apparent
        found["power_factor"] = factor
        found["grid_frequency"] = 49.97 + g[35]
        return found
