import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from playground.errors import ExitCode, PlaygroundError
from playground.recording import Recording
from playground.run import RECORDING, RESOLVED, RESULT, run
from playground.scenario import Scenario, load_scenario

HERE = Path(__file__).parent
SCENARIO = """\
version: "1.0"
plant: {heated_tank:HeatedTank: {start: 38 degC}}
duration: 2h
warm_up: 10min
controllers:
  - thermostat: {measure: temp, command: heater, setpoint: 40 degC, hysteresis: 2 K}
disturbances:
  room: {table: [[0s, 20 degC], [1h, 5 degC]]}
checks:
  - never: temp > 45 degC
  - always: temp in 38 degC..42 degC
kpis:
  roles: {electricity: power}
  use: [electricity_kwh, starts_per_hour: {of: heater}]
  limits: ["starts_per_hour <= 20", "electricity_kwh <= 100"]
"""


@pytest.fixture(autouse=True)
def _tank(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "tank.yaml"
    path.write_text(SCENARIO)
    return path


def test_a_run_leaves_a_recording_the_resolved_scenario_and_the_results(path, tmp_path):
    result = run(load_scenario(path), out=tmp_path / "out")
    assert result.verdict == "pass", result.lines()
    assert result.exit_code == ExitCode.GOOD
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(
        [RECORDING, RESOLVED, RESULT]
    )
    recording = Recording.open(result.recording)
    assert recording.verify() == result.sha256
    assert recording.metadata["scenario"]["duration"] == "2h"
    assert recording.count == result.messages
    written = json.loads((tmp_path / "out" / RESULT).read_text())
    assert written["verdict"] == "pass"
    assert written["sha256"] == result.sha256
    assert [c["verdict"] for c in written["checks"]] == ["pass"] * 4


def test_the_log_holds_what_plant_controller_and_scenario_published(path, tmp_path):
    result = run(load_scenario(path), out=tmp_path / "out")
    messages = list(Recording.open(result.recording).messages())
    start = 1_767_225_600 * 10**9
    assert {m.client for m in messages} == {"plant", "thermostat", "scenario"}
    assert {m.kind for m in messages} == {"publish"}
    assert [
        ((m.time_ns - start) / 1e9, m.payload)
        for m in messages
        if m.topic == "room/temp"
    ] == [(0.0, b"20.0"), (3600.0, b"5.0")]
    first = next(m for m in messages if m.topic == "tank/heater/set")
    # The controller sees what the plant said at second 0 and decides at once.
    assert (first.time_ns, first.payload) == (start, b"1.0")
    temps = [m for m in messages if m.topic == "tank/temp"]
    assert len(temps) == 7200
    assert temps[-1].time_ns == start + 7199 * 10**9


def test_a_margin_is_the_distance_of_the_worst_value_to_the_limit(path, tmp_path):
    result = run(load_scenario(path), out=tmp_path / "out")
    rows = Recording.open(result.recording).messages(topics=("tank/temp",))
    start = 1_767_225_600 * 10**9
    values = [float(m.payload) for m in rows if m.time_ns >= start + 600 * 10**9]
    assert result.checks[0].margin == pytest.approx(45 - max(values), abs=1e-12)
    assert result.checks[0].unit == "K"
    assert result.checks[1].margin == pytest.approx(
        min(42 - max(values), min(values) - 38), abs=1e-12
    )


def test_the_resolved_scenario_gives_the_same_log(path, tmp_path):
    first = run(load_scenario(path), out=tmp_path / "one")
    again = run(load_scenario(tmp_path / "one" / RESOLVED), out=tmp_path / "two")
    assert again.sha256 == first.sha256
    assert again.checks == first.checks


def test_the_log_is_the_same_under_every_hash_seed(path, tmp_path):
    program = (
        "import sys; from playground.run import run; "
        "from playground.scenario import load_scenario; "
        "print(run(load_scenario(sys.argv[1]), out=sys.argv[2]).sha256)"
    )
    hashes = set()
    for seed in ("0", "1", "4711"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(HERE)}
        done = subprocess.run(
            [sys.executable, "-c", program, str(path), str(tmp_path / seed)],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        hashes.add(done.stdout)
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("checks", "verdict", "code"),
    [
        ([{"never": "temp > 45 degC"}], "pass", 0),
        ([{"never": "temp > 39 degC"}], "fail", 1),
        ([{"always": "temp > 1 degC", "while": "room > 45 degC"}], "untested", 3),
        (
            [
                {
                    "always": "temp > 1 degC",
                    "while": "room > 45 degC",
                    "may_be_untested": True,
                }
            ],
            "pass",
            0,
        ),
        (
            [{"never": "temp > 39 degC"}, {"stays": "room > 45 degC", "for": "1s"}],
            "fail",
            1,
        ),
    ],
)
def test_the_exit_code_says_how_the_run_came_out(path, tmp_path, checks, verdict, code):
    text = path.read_text()
    before, _, _ = text.partition("checks:")
    path.write_text(before + "checks: " + json.dumps(checks))
    result = run(load_scenario(path), out=tmp_path / "out")
    assert (result.verdict, int(result.exit_code)) == (verdict, code)


def test_a_scenario_may_be_built_in_python(tmp_path):
    scenario = Scenario(
        name="python",
        plant={"heated_tank:HeatedTank": {"start_degc": 38}},
        duration="30min",
        controllers=[
            {
                "thermostat": {
                    "measure": "temp",
                    "command": "heater",
                    "setpoint": "40 degC",
                    "hysteresis": "2 K",
                }
            }
        ],
    )
    result = run(scenario, out=tmp_path / "out")
    assert result.verdict == "pass"
    assert load_scenario(result.folder / RESOLVED).plain() == scenario.plain()


def test_an_earlier_run_is_replaced_and_anything_else_is_left_alone(path, tmp_path):
    scenario = load_scenario(path).replace(duration="20min", checks=[])
    run(scenario, out=tmp_path / "out")
    run(scenario, out=tmp_path / "out")
    other = tmp_path / "other"
    other.mkdir()
    (other / "diary.txt").write_text("mine")
    with pytest.raises(PlaygroundError, match="holds other things"):
        run(scenario, out=other)
    assert (other / "diary.txt").read_text() == "mine"


def test_a_run_that_breaks_leaves_nothing_under_its_name(path, tmp_path):
    (tmp_path / "broken_controller.py").write_text(
        "class Broken:\n"
        "    measures, commands, period_s = ('temp',), ('heater',), 60.0\n"
        "    def reset(self, *, seed=0): pass\n"
        "    def step(self, now, values):\n"
        "        if now > 600: raise ZeroDivisionError('strategy')\n"
        "        return {}\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        scenario = load_scenario(path).replace(
            controllers=["broken_controller:Broken"], checks=[]
        )
        with pytest.raises(ZeroDivisionError):
            run(scenario, out=tmp_path / "out")
    finally:
        sys.path.remove(str(tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") == [
        "broken_controller.py",
        "tank.yaml",
    ]


def test_the_seed_reaches_plant_and_controllers(tmp_path, monkeypatch):
    (tmp_path / "dice.py").write_text(
        "import random\n"
        "from heated_tank import HeatedTank\n"
        "class Noisy(HeatedTank):\n"
        "    def reset(self, *, seed=0):\n"
        "        self.dice = random.Random(seed)\n"
        "        return super().reset(seed=seed)\n"
        "    def step(self, now, inputs):\n"
        "        values = super().step(now, inputs)\n"
        "        return values | {'temp': values['temp'] + self.dice.gauss(0, 0.1)}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    scenario = Scenario(name="dice", plant="dice:Noisy", duration="10min", seed=1)
    hashes = [
        run(scenario.replace(seed=seed), out=tmp_path / f"{n}").sha256
        for n, seed in enumerate((1, 1, 2))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_command_prints_verdict_margins_and_hash(
    path, tmp_path, monkeypatch, capsys
):
    from playground.cli import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["run", "tank.yaml", "--no-report", "-o", "out"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    written = json.loads(Path("out/result.json").read_text())
    assert said.startswith("tank: PASS\n")
    assert "pass  never temp > 45 degC; margin" in said
    assert f"sha256 {written['sha256']}" in said


def test_a_wrong_scenario_answers_2_and_says_where(path, tmp_path, capsys):
    from playground.cli import main

    path.write_text(SCENARIO.replace("never: temp", "never: tmp"))
    with pytest.raises(SystemExit) as end:
        main(["run", str(path), "-o", str(tmp_path / "out")])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert f"{path}:10: checks[0]: 'tmp > 45 degC': there is no signal 'tmp'" in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_the_hash_is_that_of_the_messages_alone(path, tmp_path):
    first = run(load_scenario(path), out=tmp_path / "a")
    second = run(
        load_scenario(path).replace(description="other words"), out=tmp_path / "b"
    )
    assert first.sha256 == second.sha256
    assert len(first.sha256) == len(hashlib.sha256().hexdigest())
