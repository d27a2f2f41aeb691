"""Two hours on the lab rig, recorded: every actuator moves, and so does the weather."""

from playground.bus import LocalBus
from playground.clock import Phase, VirtualClock
from playground.plants.device import Device
from playground.plants.lab_rig import LabRig
from playground.recording import Recording, RecordingWriter

START_NS = 1_769_155_200 * 10**9
# Minute and value.
MOVES = {
    "vsd1/write": {0: 0.7, 17: 0.5, 29: 0.9, 46: 0.6, 61: 0.8, 78: 0.45, 95: 0.7},
    "vsd2/write": {0: 0.5, 11: 0.9, 21: 0.2, 33: 0.6, 40: 0.15, 52: 0.8, 66: 0.35}
    | {73: 0.95, 83: 0.25, 97: 0.6, 108: 0.3},
    "valve/write": {0: 0.6, 25: 0.9, 37: 0.45, 57: 1.0, 70: 0.5, 88: 0.8, 104: 0.55},
    "weather/ambient": {0: 26, 15: 22, 44: 29, 63: 18, 80: 24, 100: 15},
}


def record_rig(path, *, seed, minutes=120, **parameters):
    """Records the virtual rig, noise and registers and all; returns the recording."""
    clock = VirtualClock(START_NS)
    bus = LocalBus(clock)
    heard = []
    bus.observe(heard.append)
    rig = LabRig(**{"start_degc": 30.0} | parameters)
    Device(rig, bus, clock, seed=seed)
    hand = bus.connect("experiment")

    def move(topic, table):
        phase = Phase.DISTURBANCE if "weather" in topic else Phase.CONTROLLER
        for minute, value in table.items():
            if minute < minutes:
                yield clock.at(minute * 60.0, phase=phase)
                hand.publish(topic, str(float(value)).encode())

    for topic, table in MOVES.items():
        clock.process(move(topic, table))
    clock.run(until=minutes * 60.0)
    with RecordingWriter(
        path, journal=False, metadata={"start_ns": START_NS}
    ) as writer:
        writer.extend([message for message in heard if message.kind == "publish"])
    return Recording.open(path)
