"""The same unmodified program, hosted and against mosquitto in real time.

``PLAYGROUND_REAL_S=60`` makes it the minute that ``make bench-transports`` takes.
"""

import os
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
DURATION_S = float(os.environ.get("PLAYGROUND_REAL_S", "6"))
PERIOD_S = 0.1
SAMPLED_EACH_S = 0.5


def _value(step: int) -> bytes:
    """Returns what the plant says: down and up again, through 1.5 each 3 s."""
    return f"{abs(step * PERIOD_S % 6 - 3):.1f}".encode()


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
        lambda: plant.publish("ramp/value", _value(round(clock.now / PERIOD_S)), qos=1),
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
            plant.publish("ramp/value", _value(step), qos=1)
    finally:
        program.kill()
        program.wait()
        plant.disconnect()
        plant.loop_stop()
    return decided


def _switched(decided: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Returns when it decided otherwise than before, and what."""
    before = [None, *(what for _, what in decided)]
    return [one for one, was in zip(decided, before, strict=False) if one[1] != was]


@pytest.mark.broker
@pytest.mark.slow
def test_hosted_and_real_decide_the_same_within_one_sampling_period(mosquitto) -> None:
    hosted, real = _switched(_hosted()), _switched(_real(mosquitto.port))
    # At the end one of them may have come to its next decision, the other not.
    count = min(len(hosted), len(real))
    assert count >= DURATION_S / 3 - 1
    assert max(len(hosted), len(real)) - count <= 1
    for (its_s, its), (real_s, decided) in zip(hosted, real, strict=False):
        assert its == decided
        # One sampling period, and one of the plant's for the way there and back.
        assert abs(its_s - real_s) <= SAMPLED_EACH_S + PERIOD_S + 1e-9
