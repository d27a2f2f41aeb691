"""The same unmodified program, hosted and against a real broker in real time."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from playground.bus import LocalBus
from playground.clock import Phase, VirtualClock
from playground.host import Hosted

PROGRAM = Path(__file__).parent / "programs" / "sampling.py"
DURATION_S = 3.0
PERIOD_S = 0.1
SAMPLED_EACH_S = 0.5


def _hosted() -> list[tuple[float, str]]:
    clock = VirtualClock()
    bus = LocalBus(clock)
    decided: list[tuple[float, str]] = []
    plant = bus.connect(
        "plant", lambda m: decided.append((clock.now, m.payload.decode()))
    )
    plant.subscribe("ramp/command")
    clock.every(
        PERIOD_S,
        lambda: plant.publish("ramp/value", f"{clock.now:.1f}".encode(), qos=1),
        phase=Phase.PUBLICATION,
    )
    with Hosted([str(PROGRAM), "1883"], bus, clock):
        clock.run(until=DURATION_S)
    return decided


def _real(port: int) -> list[tuple[float, str]]:
    """Returns decisions with the plant's time: what it last said, it said then."""
    decided: list[tuple[float, str]] = []
    ready = threading.Event()
    said = 0.0

    def on_message(
        client: paho.Client, userdata: object, message: paho.MQTTMessage
    ) -> None:
        if message.topic == "ramp/ready":
            ready.set()
        else:
            decided.append((said, message.payload.decode()))

    plant = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="plant")
    plant.on_message = on_message
    plant.connect("127.0.0.1", port)
    plant.loop_start()
    for topic in ("ramp/ready", "ramp/command"):
        plant.subscribe(topic, qos=1)
    program = subprocess.Popen([sys.executable, str(PROGRAM), str(port)])
    try:
        assert ready.wait(30)
        begin = time.monotonic()
        for step in range(round(DURATION_S / PERIOD_S)):
            time.sleep(max(0.0, begin + step * PERIOD_S - time.monotonic()))
            said = round(step * PERIOD_S, 1)
            plant.publish("ramp/value", f"{said:.1f}", qos=1)
    finally:
        program.kill()
        program.wait()
        plant.disconnect()
        plant.loop_stop()
    return decided


@pytest.mark.broker
@pytest.mark.slow
def test_hosted_and_real_decide_the_same_within_one_sampling_period(embedded) -> None:
    hosted, real = _hosted(), _real(embedded.port)
    assert [what for _, what in hosted] == ["on", "on", "off", "off", "off"]
    for decided in (hosted, real):
        switched = [what for _, what in decided]
        assert switched == sorted(switched, reverse=True)  # on … on, off … off
    first_off = [next(t for t, what in d if what == "off") for d in (hosted, real)]
    # One sampling period, and one of the plant's for the way there and back.
    assert abs(first_off[0] - first_off[1]) <= SAMPLED_EACH_S + PERIOD_S + 1e-9
