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
_COMMAND = str(Path(sys.executable).parent / "playground")
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
    resolved = load_scenario(result.folder / RESOLVED)
    assert list(resolved.files) == ["module heated_tank"]
    assert resolved.replace(files={}).plain() == scenario.plain()


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


def test_ci_gets_junit_markdown_and_json(path, tmp_path, monkeypatch, capsys):
    from xml.etree import ElementTree as ET

    from playground.cli import main

    monkeypatch.chdir(tmp_path)
    text = path.read_text().replace("never: temp > 45 degC", "never: temp > 39 degC")
    path.write_text(text + "  # | in a name\n")
    with pytest.raises(SystemExit) as end:
        main(
            [
                *("run", "tank.yaml", "--no-report", "--json"),
                *("--junit", "out.xml", "--markdown", "out.md"),
            ]
        )
    assert end.value.code == 1
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == "fail"
    suite = ET.fromstring(Path("out.xml").read_text())
    assert (suite.get("tests"), suite.get("failures")) == ("4", "1")
    failed = suite.findall("testcase/failure/..")
    assert [case.get("name") for case in failed] == ["never temp > 39 degC"]
    summary = Path("out.md").read_text()
    assert summary.startswith("### ❌ tank: fail")
    assert "| ❌ | never temp > 39 degC |" in summary
    assert "| electricity_kwh |" in summary


def test_events_happen_at_their_time_or_when_something_comes_true(path, tmp_path):
    text = path.read_text().partition("checks:")[0] + (
        "events:\n"
        "  - {at: 20min, set: {room: 15 degC}}\n"
        "  - {when: temp > 40 degC, for: 5s, once: true, "
        "publish: {topic: note, payload: warm, retain: true}}\n"
        "  - {at: 30min, fault: {kind: stuck, signal: temp, for: 5min}}\n"
        "  - {when: temp > 40 degC and temp < 40.2 degC, "
        "publish: {topic: passing, payload: x}}\n"
    )
    path.write_text(text)
    result = run(load_scenario(path), out=tmp_path / "out")
    start = 1_767_225_600 * 10**9
    said = [
        ((m.time_ns - start) / 1e9, m.topic, m.payload, m.retain)
        for m in Recording.open(result.recording).messages()
    ]
    assert (1200.0, "room/temp", b"15.0", False) in said
    temps = {t: float(p) for t, topic, p, _ in said if topic == "tank/temp"}
    first = min(t for t, value in temps.items() if value > 40)
    notes = [(t, r) for t, topic, _, r in said if topic == "note"]
    assert notes == [(first + 5, True)]
    assert len({temps[t] for t in range(1800, 2100)}) == 1
    assert temps[1799] == temps[1800]
    assert temps[2100] != temps[2099]
    edges = [
        t
        for t, value in temps.items()
        if 40 < value < 40.2 and not 40 < temps.get(t - 1, 0) < 40.2
    ]
    assert [t for t, topic, _, _ in said if topic == "passing"] == edges
    assert len(edges) > 2
    happened = [(at_s, text) for at_s, text in result.events if "passing" not in text]
    assert happened == [
        (first + 5, "publish note warm"),
        (1200.0, "room = 15 degC"),
        (1800.0, "stuck temp"),
    ]


def test_without_faults_the_log_is_the_same_byte_for_byte(path, tmp_path):
    scenario = load_scenario(path)
    plain = run(scenario, out=tmp_path / "a")
    empty = run(scenario.replace(events=[]), out=tmp_path / "b")
    never = [{"when": "temp > 999 degC", "fault": {"kind": "stuck", "signal": "temp"}}]
    idle = run(scenario.replace(events=never), out=tmp_path / "c")
    assert plain.sha256 == empty.sha256 == idle.sha256


def test_figures_can_be_compared_with_a_baseline(path, tmp_path):
    text = path.read_text().replace(
        "electricity_kwh <= 100", "electricity_kwh <= 60 % of baseline"
    )
    text += (
        "baseline:\n  controllers: [{schedule: {command: heater, table: {0s: 1}}}]\n"
    )
    path.write_text(text)
    result = run(load_scenario(path), out=tmp_path / "out")
    kwh = result.kpis[0]
    # Ten kilowatts for the 110 minutes after the warm-up.
    assert kwh.baseline == pytest.approx(10 * 110 / 60, rel=1e-3)
    limit = next(c for c in result.checks if "baseline" in c.name)
    assert limit.margin == pytest.approx(0.6 * kwh.baseline - kwh.value)
    assert (tmp_path / "out" / "baseline" / RECORDING).exists()


def test_messages_of_a_recording_can_be_a_disturbance(path, tmp_path):
    first = run(load_scenario(path), out=tmp_path / "first")
    text = path.read_text().replace(
        "{table: [[0s, 20 degC], [1h, 5 degC]]}", "{recording: first/run.parquet}"
    )
    path.write_text(text)
    second = run(load_scenario(path), out=tmp_path / "second")
    # What was published then is published again, at the same instants.
    assert second.sha256 == first.sha256
    again = run(load_scenario(second.folder / RESOLVED), out=tmp_path / "third")
    assert again.sha256 == first.sha256


def test_a_broker_keeps_what_was_retained_before_the_start(path, tmp_path):
    scenario = load_scenario(path).replace(
        initial={"heater": 0.5, "retained": {"lab/mode": "heat"}}, duration="11min"
    )
    result = run(scenario, out=tmp_path / "out")
    first = next(iter(Recording.open(result.recording).messages()))
    assert (first.topic, first.payload, first.retain) == ("lab/mode", b"heat", True)


@pytest.mark.slow
def test_an_unmodified_program_takes_part(path, tmp_path):
    (tmp_path / "night.py").write_text(
        "import time\n"
        "import paho.mqtt.client as mqtt\n"
        "client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, 'night')\n"
        "client.connect('broker')\n"
        "client.loop_start()\n"
        "time.sleep(600)\n"
        "client.publish('room/temp', '2.5').wait_for_publish()\n"
        "time.sleep(10**6)\n"
    )
    text = path.read_text() + "programs:\n  - run: python night.py\n"
    path.write_text(text.replace("[1h, 5 degC]", "[1h, 5 degC]"))
    first = run(load_scenario(path), out=tmp_path / "a")
    said = [
        (m.time_ns - 1_767_225_600 * 10**9, m.payload)
        for m in Recording.open(first.recording).messages()
        if m.client == "night"
    ]
    assert [p for _, p in said] == [b"2.5"]
    assert 600 <= said[0][0] / 1e9 < 601
    assert run(load_scenario(path), out=tmp_path / "b").sha256 == first.sha256


@pytest.mark.slow
@pytest.mark.broker
def test_lockstep_on_a_real_broker_gives_the_same_log(path, tmp_path):
    scenario = load_scenario(path).replace(duration="12min")
    local = run(scenario, out=tmp_path / "local")
    lockstep = run(scenario, out=tmp_path / "lockstep", transport="lockstep")
    assert lockstep.sha256 == local.sha256


def test_an_unknown_transport_is_refused(path, tmp_path):
    with pytest.raises(PlaygroundError, match="There is no transport 'moon'"):
        run(load_scenario(path), out=tmp_path / "out", transport="moon")
    assert not (tmp_path / "out").exists()


def test_one_constant_of_a_strategy_turns_a_green_scenario_red(
    path, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(str(tmp_path))
    strategy = """
class Strategy:
    measures, commands, period_s = ("temp",), ("heater",), 10.0
    LIMIT = 41.0
    def reset(self, *, seed=0):
        self.on = False
    def step(self, now, values):
        self.on = values["temp"] < (self.LIMIT if self.on else 39.0)
        return {"heater": float(self.on)}
"""
    verdicts = []
    for name, constant in (("green", "41.0"), ("red", "43.0")):
        (tmp_path / f"{name}_strategy.py").write_text(
            strategy.replace("41.0", constant)
        )
        scenario = load_scenario(path).replace(
            controllers=[f"{name}_strategy:Strategy"], kpis={}
        )
        result = run(scenario, out=tmp_path / name)
        verdicts.append([(c.name, c.verdict) for c in result.checks])
    check = "always temp in 38 degC..42 degC"
    assert verdicts[0] == [("never temp > 45 degC", "pass"), (check, "pass")]
    assert verdicts[1] == [("never temp > 45 degC", "pass"), (check, "fail")]
    broken = result.checks[1]
    values = {
        (m.time_ns - 1_767_225_600 * 10**9) / 1e9: float(m.payload)
        for m in Recording.open(result.recording).messages(topics=("tank/temp",))
    }
    assert values[broken.worst_s] == max(v for t, v in values.items() if t >= 600)
    assert "first broken at" in broken.detail


def test_a_seed_below_zero_is_refused_on_the_command_line(path, tmp_path, capsys):
    from playground.cli import main

    with pytest.raises(SystemExit) as end:
        main(["run", str(path), "--seed", "-3", "-o", str(tmp_path / "out")])
    assert end.value.code == 2
    assert "seed: -3 is below 0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_checks_on_messages_look_into_the_log(path, tmp_path):
    (tmp_path / "state.json").write_text('{"type": "number", "minimum": 0}')
    more = """\
  - {message: '#', schema: state.json}
  - {message: tank/temp, schema: {type: number, maximum: -300}}
  - {message: tank/temp, after: tank/heater/set, within: 2min}
  - {when: heater == 1, then_message: tank/temp, within: 2min}
  - {when: heater == 1, then: temp < 45 degC, until: heater == 0}
kpis:"""
    path.write_text(path.read_text().replace("kpis:", more))
    first = run(load_scenario(path), out=tmp_path / "first")
    verdicts = [check.verdict for check in first.checks[2:7]]
    assert verdicts == ["pass", "fail", "pass", "pass", "pass"], first.lines()
    # A schema that is named is found again from the folder of the results.
    second = run(load_scenario(first.folder / RESOLVED), out=tmp_path / "second")
    assert second.sha256 == first.sha256
    assert second.checks == first.checks


def test_a_run_tells_how_far_it_is(path, tmp_path):
    path.write_text(path.read_text() + "baseline: {seed: 5}\n")
    told = []
    result = run(
        load_scenario(path),
        out=tmp_path / "out",
        progress=lambda *share: told.append(share),
    )
    assert list(dict.fromkeys(name for name, _ in told)) == ["tank", "tank-baseline"]
    shares = [share for name, share in told if name == "tank"]
    assert len(shares) >= 10
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.2
    assert 0.9 < shares[-1] <= 1
    assert run(load_scenario(path), out=tmp_path / "again").sha256 == result.sha256


def test_the_bar_is_for_terminals_only(path, tmp_path):
    pty = pytest.importorskip("pty")

    def call(out, stderr):
        return subprocess.run(
            [_COMMAND, "run", str(path), "-o", str(out)],
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, "PYTHONPATH": str(HERE), "TERM": "xterm"},
            timeout=60,
            check=False,
        )

    ours, theirs = pty.openpty()
    on_terminal = call(tmp_path / "a", theirs)
    shown = os.read(ours, 1_000_000).decode()
    os.close(ours)
    os.close(theirs)
    plain = call(tmp_path / "b", subprocess.PIPE)
    assert on_terminal.returncode == plain.returncode == 0, shown
    assert "tank" in shown
    assert "%" in shown
    assert plain.stderr == b""
    # Wall time and folder aside, standard output is the same.
    lines = [line.splitlines() for line in (on_terminal.stdout, plain.stdout)]
    assert lines[0][2:-2] == lines[1][2:-2]
    assert b"\x1b" not in on_terminal.stdout


def test_a_summary_that_cannot_be_written_is_told_before_the_run(
    path, tmp_path, monkeypatch, capsys
):
    from playground.cli import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["run", str(path), "-o", "out", "--junit", f"{path}/junit.xml"])
    assert end.value.code == 2
    assert "cannot be written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
