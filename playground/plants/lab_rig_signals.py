"""What the lab rig says and hears: its topics, registers and channels.

The contract of the real rig, written once; ``scenarios/signals/lab-rig.yaml``
says the same for people who start from a recording. No physics here.
"""

from __future__ import annotations

from typing import Any

from playground.signals import Publication, Signal, Signals, Wire

REGISTERS_TOPIC = "modbus/device/0/registers"
REGISTERS_PERIOD_S = 5.015
SECOND_BLOCK_S = 0.5015
NIDAQ_DEVICE = "cDAQ9189-0"
NIDAQ_TOPIC = f"nidaq/{NIDAQ_DEVICE}/snapshot"
POWER_TOPIC = "power/powermeter/measurements"
NOT_VALID = "0.000E+99"
"""What the power meter writes for "not valid"; read as missing."""


def _register(
    name: str,
    address: int,
    unit: str,
    description: str,
    *,
    scale: float = 0.1,
    wire: Wire = "int16",
) -> Signal:
    return Signal(
        name=name,
        topic=REGISTERS_TOPIC,
        path=str(address),
        unit=unit,
        role="measurement",
        type=wire,
        scale=scale,
        description=description,
    )


def _whole(name: str, address: int, unit: str, description: str) -> Signal:
    return _register(name, address, unit, description, scale=1.0, wire="uint16")


REGISTERS = (
    _whole("unit_on", 2011, "1", "unit switched on at its panel"),
    _whole("mode", 2012, "1", "operating mode, 1 is heating"),
    _register("water_set_point", 2013, "degC", "set point of the water outlet"),
    _register("water_inlet", 2023, "degC", "water into the heat pump"),
    _register("water_outlet", 2024, "degC", "water out of the heat pump"),
    _register("air_ambient", 2026, "degC", "air around the unit"),
    _register("coil_1", 2027, "degC", "evaporator coil, circuit 1"),
    _register("coil_2", 2031, "degC", "evaporator coil, circuit 2"),
    _register("suction_1", 2043, "degC", "suction gas, circuit 1"),
    _register("suction_2", 2044, "degC", "suction gas, circuit 2"),
    _register("discharge_1", 2047, "degC", "discharge gas, circuit 1"),
    _register("discharge_2", 2048, "degC", "discharge gas, circuit 2"),
    _register("antifreeze_1", 2059, "degC", "antifreeze sensor, circuit 1"),
    _register("antifreeze_2", 2063, "degC", "antifreeze sensor, circuit 2"),
    _register("low_pressure_1", 2087, "bar", "low pressure (gauge), circuit 1"),
    _register("low_pressure_2", 2088, "bar", "low pressure (gauge), circuit 2"),
    _register("absent_1", 2103, "degC", "no sensor connected: always -2.9"),
    _register("absent_2", 2104, "degC", "no sensor connected: always -2.9"),
    _register("evaporating_1", 2111, "degC", "evaporating temperature, circuit 1"),
    _register("superheat_1", 2112, "K", "superheat, circuit 1"),
    _register("evaporating_2", 2113, "degC", "evaporating temperature, circuit 2"),
    _register("superheat_2", 2114, "K", "superheat, circuit 2"),
    _whole("fan_speed", 2122, "rpm", "fan speed"),
    _whole("compressor_frequency", 2126, "Hz", "compressor speed"),
    _register("compressor_current", 2128, "A", "current of the compressor's motor"),
    _whole("dc_bus", 2131, "V", "DC bus of the inverter"),
    _whole("fan_speed_target", 2142, "rpm", "fan speed asked for"),
)
SPLIT_AT = 2090
"""Last address of the first of the two blocks."""

PROCESSED = {
    "inlet_temp": "water_inlet",
    "outlet_temp": "water_outlet",
    "air_ambient": "air_ambient",
    "air_ambient2": "air_ambient",
    "coil_temp": "coil_1",
    "pressure_low": "low_pressure_1",
}
"""Topic below ``processed/`` and the register signal it repeats as plain text."""

CHANNELS = (
    ("flow_1_current", "flow_1", "A", "flow meter of the heat pump's loop, 4-20 mA"),
    ("flow_2_current", "flow_2", "A", "flow meter of the tower's loop, 4-20 mA"),
    ("valve_voltage", "valve_position", "V", "position of the ball valve, 0-10 V"),
    ("vsd1_voltage", "vsd1_speed", "V", "speed of pump 1, 0-10 V"),
    ("vsd2_voltage", "vsd2_speed", "V", "speed of pump 2, 0-10 V"),
    ("buffer_temp", "tc_buffer", "degC", "buffer tank"),
    ("hot_in_temp", "tc_hot_in", "degC", "heat exchanger, hot side in"),
    ("hot_out_temp", "tc_hot_out", "degC", "heat exchanger, hot side out"),
    ("cold_in_temp", "tc_cold_in", "degC", "heat exchanger, cold side in"),
    ("cold_out_temp", "tc_cold_out", "degC", "heat exchanger, cold side out"),
)
"""Signal, channel of the NI-DAQ, unit, meaning."""

POWER_FIELDS = (
    ("voltage_1", "U1_Ins", "V"),
    ("voltage_2", "U2_Ins", "V"),
    ("voltage_3", "U3_Ins", "V"),
    ("current_1", "I1_Ins", "A"),
    ("current_2", "I2_Ins", "A"),
    ("current_3", "I3_Ins", "A"),
    ("power", "P_Ins", "W"),
    ("reactive_power", "Q_Ins", "VA"),
    ("apparent_power", "S_Ins", "VA"),
    ("power_factor", "PF_Ins", "1"),
    ("grid_frequency", "Freq_Ins", "Hz"),
)
"""Signal, HIOKI's name, unit; all of the heat pump's supply."""


def _signals(ambient_degc: float) -> list[Signal]:
    found = [
        Signal(
            name=name,
            topic=f"{name}/write",
            unit="1",
            role="command",
            range=(0.0, 1.0),
            initial=initial,
            description=text,
        )
        for name, initial, text in (
            ("valve", 1.0, "ball valve in the tower's loop, 1 is open"),
            ("vsd1", 0.0, "speed of pump 1, in the heat pump's loop"),
            ("vsd2", 0.0, "speed of pump 2, in the tower's loop"),
        )
    ]
    found.append(
        Signal(
            name="ambient",
            topic="weather/ambient",
            unit="degC",
            role="disturbance",
            range=(-40.0, 60.0),
            initial=ambient_degc,
            description="true temperature of the air around unit and tower",
        )
    )
    found.extend(REGISTERS)
    by_name = {signal.name: signal for signal in REGISTERS}
    found.extend(
        Signal(
            name=f"processed_{tail}",
            topic=f"processed/{tail}",
            unit=by_name[source].unit,
            role="measurement",
            description=f"{source}, as the preprocessing repeats it",
        )
        for tail, source in PROCESSED.items()
    )
    found.extend(
        Signal(
            name=name,
            topic=NIDAQ_TOPIC,
            path=channel,
            unit=unit,
            role="measurement",
            description=text,
        )
        for name, channel, unit, text in CHANNELS
    )
    found.extend(
        Signal(
            name=name,
            topic=POWER_TOPIC,
            path=field,
            unit=unit,
            role="measurement",
            invalid=(NOT_VALID,),
            description=f"{field} of the power meter",
        )
        for name, field, unit in POWER_FIELDS
    )
    return found


def _block(first: int, last: int, offset_s: float) -> Publication:
    # Registers that nobody decodes are zero. They also keep the places of those
    # that somebody does, so that the addresses stand in order.
    fields: dict[str, Any] = {"device": "0", "type": "modbus"}
    fields.update((str(address), 0) for address in range(first, last + 1))
    return Publication(
        topic=REGISTERS_TOPIC,
        signals=tuple(s.name for s in REGISTERS if first <= int(s.path or "0") <= last),
        period_s=REGISTERS_PERIOD_S,
        offset_s=offset_s,
        retain=True,
        fields=fields,
        timestamp="timestamp",
    )


def _publications() -> list[Publication]:
    found = [
        _block(2001, SPLIT_AT, 0.0),
        _block(SPLIT_AT + 1, 2180, SECOND_BLOCK_S),
    ]
    # The preprocessing answers each message of the first block, in which all of
    # its registers are.
    found.extend(
        Publication(
            topic=f"processed/{tail}",
            signals=(f"processed_{tail}",),
            period_s=REGISTERS_PERIOD_S,
        )
        for tail in PROCESSED
    )
    found.extend(
        Publication(
            topic=topic,
            signals=names,
            period_s=1.0,
            retain=True,
            # The placeholder says that the time stands after the device.
            fields={"device": device, "timestamp": 0},
            timestamp="timestamp",
        )
        for topic, device, names in (
            (NIDAQ_TOPIC, NIDAQ_DEVICE, tuple(c[0] for c in CHANNELS)),
            (POWER_TOPIC, "powermeter", tuple(f[0] for f in POWER_FIELDS)),
        )
    )
    return found


def lab_rig_signals(*, ambient_degc: float = 26.7) -> Signals:
    """Returns the rig's signals and publications.

    Args:
        ambient_degc: Ambient temperature until somebody says another.
    """
    return Signals(_signals(ambient_degc), _publications())
