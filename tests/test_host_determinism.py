"""The same log, whatever else the machine does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

RUN = """
import sys, tempfile
from pathlib import Path
from playground.run import run
from playground.recording import Recording
from playground.scenario import Scenario

scenario = Scenario(
    name="mixed",
    plant="lab_rig",
    duration="60s",
    seed=5,
    controllers=[
        {"schedule": {"command": "vsd2", "table": {"0s": 0.5, "30s": 0.2}}},
        {"thermostat": {"measure": "hot_out_temp", "command": "valve",
                        "setpoint": "30 degC", "hysteresis": "2 K"}},
    ],
    programs=[
        {"run": "python scenarios/programs/keep_warm.py"},
        {"run": "python tests/programs/dice.py"},
    ],
    links={"dice": {"latency": "20ms", "jitter": "50ms"}},
    events=[{"at": f"{second}s", "publish": {"topic": "job/new", "payload": "1"}}
            for second in range(1, 60, 2)],
)
for _ in range(int(sys.argv[1])):
    with tempfile.TemporaryDirectory() as folder:
        result = run(scenario, out=Path(folder) / "out")
        assert not result.checks, result.checks
        said = {m.client for m in Recording.open(result.recording).messages()}
        assert {"plant", "schedule", "thermostat", "keep-warm"} < said, said
        assert result.messages > 250, result.messages
        print(result.sha256)
"""


def _hashes(repeats: int, hash_seed: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(repeats)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
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
