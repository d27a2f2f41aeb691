"""Water and what moves it: pump on a VSD, ball valve, heat exchanger.

Each part is a small object with plain float state. Temperatures in °C, flows in
kg/s, pressures in kPa, heat in W.
"""

from __future__ import annotations

from math import exp, inf, pow, sqrt

CP_WATER_J_PER_KG_K = 4186.0
"""Specific heat of water, 40 °C; taken as constant."""
DENSITY_KG_PER_M3 = 1000.0


class PumpDrive:
    """A centrifugal pump on a variable-speed drive in a closed loop.

    Affinity laws: at speed n the pump lifts n²·shut_off − a·m²; the loop takes
    R·m². So flow is proportional to speed, as in every loop without static head.

    Args:
        shut_off_kpa: Pressure rise at full speed without flow.
        pump_kpa_s2_per_kg2: a, fall of the pump's own curve.
        loop_kpa_s2_per_kg2: R, resistance of the loop without its valve.
        efficiency: Hydraulic over shaft power; what is lost warms the water.
        dead_speed: Below this command the motor does not turn.
        ramp_s: Seconds from standstill to full speed.
    """

    def __init__(
        self,
        *,
        shut_off_kpa: float,
        pump_kpa_s2_per_kg2: float,
        loop_kpa_s2_per_kg2: float,
        efficiency: float = 0.5,
        dead_speed: float = 0.1,
        ramp_s: float = 10.0,
    ) -> None:
        self.shut_off_kpa = shut_off_kpa
        self.pump_resistance = pump_kpa_s2_per_kg2
        self.loop_resistance = loop_kpa_s2_per_kg2
        self.efficiency = efficiency
        self.dead_speed = dead_speed
        self.ramp_per_s = 1.0 / ramp_s
        self.speed = 0.0

    def ramp(self, command: float, dt_s: float) -> bool:
        """Moves the speed towards the command; says whether it moved."""
        target = command if command >= self.dead_speed else 0.0
        gap = target - self.speed
        if gap == 0.0:
            return False
        most = self.ramp_per_s * dt_s
        self.speed = (
            target
            if -most <= gap <= most
            else self.speed + (most if gap > 0 else -most)
        )
        return True

    def flow_kg_per_s(self, valve_kg_per_s_sqrt_kpa: float = inf) -> float:
        """Returns the flow at the present speed.

        Args:
            valve_kg_per_s_sqrt_kpa: Flow through the loop's valve at 1 kPa; 0 is
                shut, infinite where there is none.
        """
        if valve_kg_per_s_sqrt_kpa <= 0.0:
            return 0.0
        resistance = self.pump_resistance + self.loop_resistance
        resistance += 1.0 / (valve_kg_per_s_sqrt_kpa * valve_kg_per_s_sqrt_kpa)
        return self.speed * sqrt(self.shut_off_kpa / resistance)

    def heat_w(self, flow_kg_per_s: float) -> float:
        """Returns the shaft power, all of which ends as heat in the water."""
        rise_kpa = (
            self.speed * self.speed * self.shut_off_kpa
            - self.pump_resistance * flow_kg_per_s * flow_kg_per_s
        )
        return flow_kg_per_s * rise_kpa * 1000.0 / DENSITY_KG_PER_M3 / self.efficiency


class BallValve:
    """A ball valve with a motor that has a dead band and play in its coupling.

    The inherent characteristic is that of a ball with a round port: shut over
    the first part of the travel, then Kv grows with the open lens of the port,
    here (x − x0)^1.5. Fully open it resists far less than the loop, so the
    installed flow rises from nothing to nearly all within a third of the travel.

    Args:
        open_kg_per_s_sqrt_kpa: Flow at 1 kPa when fully open.
        shut_until: x0, the part of the travel over which the port stays shut.
        exponent: Of the characteristic.
        travel_s: Seconds of a full stroke.
        dead_band: A change of command smaller than this moves nothing.
        play: Width of the coupling's play: the ball follows only when the motor
            has taken it up, hence the hysteresis.
    """

    def __init__(
        self,
        *,
        open_kg_per_s_sqrt_kpa: float = 1.4,
        shut_until: float = 0.15,
        exponent: float = 1.5,
        travel_s: float = 30.0,
        dead_band: float = 0.005,
        play: float = 0.01,
    ) -> None:
        self.open_conductance = open_kg_per_s_sqrt_kpa
        self.shut_until = shut_until
        self.exponent = exponent
        self.rate_per_s = 1.0 / travel_s
        self.dead_band = dead_band
        self.half_play = 0.5 * play
        self.motor = 1.0
        self.ball = 1.0
        self.target = 1.0

    def place(self, position: float) -> None:
        """Puts motor and ball there at once."""
        self.motor = self.ball = self.target = position

    def move(self, command: float, dt_s: float) -> bool:
        """Runs the motor towards the command; says whether it moved."""
        if abs(command - self.target) > self.dead_band or command in (0.0, 1.0):
            self.target = command
        gap = self.target - self.motor
        if gap == 0.0:
            return False
        most = self.rate_per_s * dt_s
        if -most <= gap <= most:
            self.motor = self.target
        else:
            self.motor += most if gap > 0 else -most
        if self.motor > self.ball + self.half_play:
            self.ball = self.motor - self.half_play
        elif self.motor < self.ball - self.half_play:
            self.ball = self.motor + self.half_play
        return True

    @property
    def conductance_kg_per_s_sqrt_kpa(self) -> float:
        """Flow at 1 kPa in the present position."""
        lift = (self.ball - self.shut_until) / (1.0 - self.shut_until)
        return self.open_conductance * pow(max(lift, 0.0), self.exponent)


class HeatExchanger:
    """A counter-flow plate heat exchanger (effectiveness-NTU method).

    Both films count equally at the nominal flow and grow with flow^0.8
    (turbulent, Dittus-Boelter).

    Args:
        ua_w_per_k: U·A with the nominal flow on both sides.
        nominal_kg_per_s: That flow.
    """

    def __init__(self, *, ua_w_per_k: float, nominal_kg_per_s: float) -> None:
        self.ua_w_per_k = ua_w_per_k
        self.nominal = nominal_kg_per_s

    def conductance_w_per_k(self, hot_kg_per_s: float, cold_kg_per_s: float) -> float:
        """Returns heat per kelvin between the two inlets: ε · C_min."""
        if hot_kg_per_s <= 0.0 or cold_kg_per_s <= 0.0:
            return 0.0
        films: float = (self.nominal / hot_kg_per_s) ** 0.8
        films += (self.nominal / cold_kg_per_s) ** 0.8
        ua = 2.0 * self.ua_w_per_k / films
        least = CP_WATER_J_PER_KG_K * min(hot_kg_per_s, cold_kg_per_s)
        ratio = least / (CP_WATER_J_PER_KG_K * max(hot_kg_per_s, cold_kg_per_s))
        ntu = ua / least
        if ratio > 0.9999:
            return least * ntu / (1.0 + ntu)
        decay = exp(-ntu * (1.0 - ratio))
        return least * (1.0 - decay) / (1.0 - ratio * decay)


class CoolingTower:
    """A dry cooler with a fan that always runs, heat to the air around it.

    Its air flow is taken as large, so that its effectiveness is
    1 − exp(−UA / (m·cp)). Evaporation is not modelled: the sink is the ambient
    temperature, not the wet-bulb one.

    Args:
        ua_w_per_k: U·A between water and air.
    """

    def __init__(self, *, ua_w_per_k: float) -> None:
        self.ua_w_per_k = ua_w_per_k

    def conductance_w_per_k(self, flow_kg_per_s: float) -> float:
        """Returns heat per kelvin between entering water and ambient air."""
        if flow_kg_per_s <= 0.0:
            return 0.0
        capacity = CP_WATER_J_PER_KG_K * flow_kg_per_s
        return capacity * (1.0 - exp(-self.ua_w_per_k / capacity))
