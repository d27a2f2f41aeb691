"""The same log, whatever else the machine does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

RUN = """
import hashlib, sys
from playground.bus import LocalBus
from playground.clock import Phase, VirtualClock
from playground.host import Hosted

def run():
    clock = VirtualClock()
    bus = LocalBus(clock)
    log = []
    bus.observe(log.append)
    plant = bus.connect("plant")
    heat = 0
    temperature = 20.0
    def on_heater(message):
        global heat
        heat = int(message.payload)
    heater = bus.connect("heater", on_heater)
    heater.subscribe("heater/on")
    def step():
        global temperature
        temperature += 0.1 * heat - 0.05
        plant.publish("room/temperature", b'{"value": %.3f}' % temperature, qos=1)
        plant.publish("job/new", b"%d" % clock.now)
    clock.every(0.7, step, phase=Phase.PLANT)
    programs = [
        Hosted(program, bus, clock, cwd="tests/programs", seed=1)
        for program in ("thermostat.py 20.2", "dice.py")
    ]
    clock.run(until=30)
    for program in programs:
        program.close()
        assert not program.findings, program.findings
    assert len(log) > 150
    said = [line for program in programs for line in program.output]
    return hashlib.sha256(repr((log, said)).encode()).hexdigest()

for _ in range(int(sys.argv[1])):
    heat, temperature = 0, 20.0
    print(run())
"""


def _hashes(repeats: int, hash_seed: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(repeats)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.slow
def test_the_log_is_the_same_in_20_repeats_under_3_hash_seeds_and_load() -> None:
    load = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        hashes = [
            each
            for repeats, hash_seed in ((7, "0"), (7, "1"), (6, "random"))
            for each in _hashes(repeats, hash_seed)
        ]
    finally:
        load.kill()
        load.wait()
    assert len(hashes) == 20
    assert len(set(hashes)) == 1
