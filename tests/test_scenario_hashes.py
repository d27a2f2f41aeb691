"""A resolved scenario carries the hashes of what it names, and gives the same log."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from playground.document import Document, DocumentError
from playground.recording import Recording
from playground.report import write_report
from playground.run import RESOLVED, run
from playground.scenario import Scenario, load_scenario

HERE = Path(__file__).parent
SHIPPED = HERE.parent / "scenarios"
TEXT = """\
name: tank
plant: {heated_tank:HeatedTank: {start: 38 degC}}
duration: 5min
controllers:
  - schedule: {command: heater, table: {0s: 0, 1min: 1}}
disturbances:
  room: {table: rooms/room.csv}
checks:
  - message: tank/temp
    schema: number.json
kpis: {use: [own_kpi:highest: {signals: temp}]}
"""


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_kpi", raising=False)
    (tmp_path / "rooms").mkdir()
    (tmp_path / "rooms" / "room.csv").write_text("time,value\n0,10\n1min,14\n")
    (tmp_path / "number.json").write_text('{"type": "object"}')
    (tmp_path / "own_kpi.py").write_text(
        "def highest(trajectory):\n    return trajectory.values['temp'].max()\n"
    )
    path = tmp_path / "tank.yaml"
    path.write_text(TEXT)
    return path


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_resolved_scenario_names_every_file_with_its_hash(path, tmp_path):
    first = run(load_scenario(path), out=tmp_path / "runs" / "one")
    resolved = load_scenario(first.folder / RESOLVED)
    assert resolved.files == {
        "../../number.json": sha256(tmp_path / "number.json"),
        "../../rooms/room.csv": sha256(tmp_path / "rooms" / "room.csv"),
        "module heated_tank": sha256(HERE / "heated_tank.py"),
        "module own_kpi": sha256(tmp_path / "own_kpi.py"),
    }
    again = run(resolved, out=tmp_path / "elsewhere" / "deep" / "two")
    assert again.sha256 == first.sha256
    thrice = load_scenario(again.folder / RESOLVED)
    assert run(thrice, out=tmp_path / "three").sha256 == first.sha256


def test_a_file_that_is_another_now_is_refused_with_its_line(path, tmp_path):
    first = run(load_scenario(path), out=tmp_path / "one")
    (tmp_path / "rooms" / "room.csv").write_text("time,value\n0,11\n")
    (tmp_path / "own_kpi.py").write_text("def highest(trajectory): return 0.0\n")
    resolved = load_scenario(first.folder / RESOLVED)
    with pytest.raises(DocumentError) as error:
        run(resolved, out=tmp_path / "two")
    said = str(error.value)
    lines = (first.folder / RESOLVED).read_text().splitlines()
    number = 1 + next(
        n for n, line in enumerate(lines) if "../rooms/room.csv: " in line
    )
    assert f"{RESOLVED}:{number}: files.../rooms/room.csv: the file is another" in said
    assert "put that file back" in said
    assert said.startswith("2 mistakes")
    assert not (tmp_path / "two").exists()
    # What was run can be looked at all the same.
    assert "room" in write_report(first.folder).read_text()


def test_a_hash_of_what_takes_no_part_is_refused(path, tmp_path):
    path.write_text(TEXT + "files: {rooms/rom.csv: abc}\n")
    with pytest.raises(DocumentError, match=r"Did you mean 'rooms/room.csv'"):
        run(load_scenario(path), out=tmp_path / "out")


def test_a_recording_is_named_with_its_hash(path, tmp_path):
    weather = run(load_scenario(path), out=tmp_path / "weather").recording
    shutil.copy(weather, tmp_path / "weather.parquet")
    scenario = load_scenario(path).replace(
        disturbances={"room": {"recording": "weather.parquet"}}
    )
    # `replace` keeps the folder in which files are looked for.
    first = run(scenario, out=tmp_path / "one")
    resolved = load_scenario(first.folder / RESOLVED)
    assert resolved.files["../weather.parquet"] == sha256(tmp_path / "weather.parquet")
    assert run(resolved, out=tmp_path / "two").sha256 == first.sha256


def test_a_baselines_files_are_named_too(path, tmp_path):
    (tmp_path / "mild.csv").write_text("time,value\n0,20\n")
    path.write_text(
        TEXT + "baseline: {disturbances: {room: {table: mild.csv}}, controllers: []}\n"
    )
    first = run(load_scenario(path), out=tmp_path / "runs" / "one")
    resolved = load_scenario(first.folder / RESOLVED)
    assert resolved.files["../../mild.csv"] == sha256(tmp_path / "mild.csv")
    again = run(resolved, out=tmp_path / "two")
    assert (again.sha256, again.kpis) == (first.sha256, first.kpis)


def test_where_the_parts_met_is_resolved_too(path, tmp_path):
    assert (
        load_scenario(
            run(load_scenario(path), out=tmp_path / "one").folder / RESOLVED
        ).transport
        == "local"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("own_program", "../../scenarios/programs/keep_warm.py"),
        ("learned_rig", "../../models/lab-rig/model.json"),
    ],
)
def test_programs_and_models_are_named_and_found_again(
    name, file, tmp_path, monkeypatch
):
    for folder in ("scenarios", "models"):
        shutil.copytree(HERE.parent / folder, tmp_path / folder)
    # From nowhere in particular: all is found from the scenario alone.
    (tmp_path / "nowhere").mkdir()
    monkeypatch.chdir(tmp_path / "nowhere")
    scenario = load_scenario(tmp_path / "scenarios" / f"{name}.yaml")
    short = scenario.replace(duration="10min", warm_up="0s", checks=[], kpis={})
    first = run(short, out=tmp_path / "runs" / name)
    resolved = load_scenario(first.folder / RESOLVED)
    assert file in resolved.files
    assert resolved.files[file] == sha256(first.folder / file)
    again = run(resolved, out=tmp_path / "again")
    assert again.sha256 == first.sha256
    assert again.messages > 100


def test_a_program_in_the_current_folder_is_found_again(path, tmp_path, monkeypatch):
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "idle.py").write_text("")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "tank.yaml").write_text(
        TEXT.replace("rooms/", "../rooms/").replace("number.json", "../number.json")
        + "programs: [run: python strategies/idle.py]\n"
    )
    monkeypatch.chdir(tmp_path)
    first = run(load_scenario("deep/tank.yaml"), out=tmp_path / "runs" / "one")
    monkeypatch.chdir(tmp_path / "deep")
    resolved = load_scenario(first.folder / RESOLVED)
    assert "../../strategies/idle.py" in resolved.files
    assert run(resolved, out=tmp_path / "two").sha256 == first.sha256


def test_the_recording_and_the_resolved_scenario_say_the_same(path, tmp_path):
    first = run(load_scenario(path), out=tmp_path / "one")
    files = Recording.open(first.recording).metadata["files"]
    resolved = load_scenario(first.folder / RESOLVED).files
    assert sorted(files.values()) == sorted(resolved.values())


def test_a_scenario_made_in_python_carries_hashes_too(path, tmp_path):
    scenario = Scenario(
        name="tank", plant="heated_tank:HeatedTank", duration="1min", files={}
    )
    first = run(scenario, out=tmp_path / "one")
    spoilt = scenario.replace(files={"module heated_tank": "0" * 64})
    with pytest.raises(DocumentError, match="is another than the one that was run"):
        run(spoilt, out=tmp_path / "two")
    right = scenario.replace(files=load_scenario(first.folder / RESOLVED).files)
    assert run(right, out=tmp_path / "two").sha256 == first.sha256


def test_a_strategy_of_a_script_is_found_again_as_a_module(tmp_path):
    shutil.copy(HERE / "heated_tank.py", tmp_path)
    (tmp_path / "experiment.py").write_text(
        "from playground.run import run\n"
        "from playground.scenario import Scenario\n"
        "def heat(now, values):\n"
        "    return {'heater': 1.0 if values['temp'] < 39 else 0.0}\n"
        "if __name__ == '__main__':\n"
        "    scenario = Scenario(name='e', plant='heated_tank:HeatedTank',\n"
        "                        duration='2min', controllers=[heat])\n"
        "    print(run(scenario, out='out').sha256)\n"
    )

    def said(*words):
        done = subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    sha256 = said("experiment.py").strip()
    resolved = Document.read(tmp_path / "out" / RESOLVED).data
    assert resolved["controllers"] == ["experiment:heat"]
    assert "module experiment" in resolved["files"]
    program = "import sys; from playground.cli import main; main(sys.argv[1:])"
    again = ["run", f"out/{RESOLVED}", "-o", "again", "--no-report"]
    assert f"sha256 {sha256}" in said("-c", program, *again)
