"""What is read, and what is said about what is wrong.

``tests/wrong_scenarios.yaml`` holds the wrong files: each has the lines that
replace or follow those of a good one, and the texts that must be said.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.document import Document, DocumentError
from playground.errors import FileFormatError
from playground.scenario import Scenario, dump, load_scenario, read_scenario

HERE = Path(__file__).parent
GOOD = """\
version: "1.0"
name: tank
plant: {heated_tank:HeatedTank: {start: 38 degC}}
duration: 2h
warm_up: 10min
controllers:
  - thermostat: {measure: temp, command: heater, setpoint: 40 degC, hysteresis: 2 K}
"""
CASES = Document.read(HERE / "wrong_scenarios.yaml").data


@pytest.fixture(autouse=True)
def _tank(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))


def changed(replace, add):
    lines = GOOD.splitlines()
    for key, line in (replace or {}).items():
        at = next(i for i, text in enumerate(lines) if text.startswith(f"{key}:"))
        lines[at : at + 1] = [] if line is None else line.splitlines()
    return "\n".join([*lines, *(add or "").splitlines()]) + "\n"


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_file_is_told_what_is_wrong_and_where(name, tmp_path):
    case = CASES[name]
    path = tmp_path / "tank.yaml"
    path.write_text(changed(case.get("replace"), case.get("add")))
    if "bytes" in case:
        path.write_bytes(case["bytes"].encode("latin1"))
    with pytest.raises(FileFormatError) as error:
        load_scenario(path)
    text = str(error.value).replace(f"{tmp_path}/", "")
    for part in case["says"]:
        assert part in text, text
    for part in case.get("not", []):
        assert part not in text, text
    assert "Traceback" not in text
    if isinstance(error.value, DocumentError):
        assert all(mistake.line for mistake in error.value.mistakes), text
        assert all(mistake.fix for mistake in error.value.mistakes), text
    else:
        assert error.value.fix, text


def test_a_missing_file_is_told_with_what_is_there(tmp_path):
    (tmp_path / "tank.yaml").write_text(GOOD)
    with pytest.raises(FileFormatError, match=r"Did you mean 'tank\.yaml'") as error:
        load_scenario(tmp_path / "tnk.yaml")
    assert "tank.yaml" in error.value.fix


def test_a_seed_below_zero_is_refused_from_python_too():
    with pytest.raises(DocumentError, match="seed: -3 is below 0"):
        Scenario(name="x", plant="lab_rig", duration="1h", seed=-3).prepare()


def test_there_are_at_least_forty_wrong_files():
    assert len(CASES) >= 40


def test_all_that_is_wrong_is_said_at_once():
    text = GOOD.replace("duration: 2h", "duration: 2").replace("temp,", "tmp,")
    text += (
        "colour: red\n"
        "checks:\n"
        "  - never: temp > 5\n"
        "  - {nevr: temp > 5 degC}\n"
        "  - always: heater == 1\n"
        "    within: 5s\n"
        "seed: many\n"
    )
    with pytest.raises(DocumentError) as error:
        read_scenario(Document.parse(text, "tank.yaml"))
    assert [(m.line, m.text.split(":")[0]) for m in error.value.mistakes] == [
        (4, "duration"),
        (7, "controllers[0].thermostat.measure"),
        (8, "colour"),
        (10, "checks[0]"),
        (11, "checks[1].nevr"),
        (12, "checks[2]"),
        (14, "seed"),
    ]


def good(text=""):
    return read_scenario(Document.parse(GOOD + text, "tank.yaml"))


def test_a_good_file_is_read():
    scenario = good("checks:\n  - never: temp > 60 degC\n")
    assert scenario.name == "tank"
    setup = scenario.prepare()
    assert (setup.duration_s, setup.warm_up_s) == (7200, 600)
    assert setup.plant.start_degc == 38
    assert [name for name, _ in setup.controllers] == ["thermostat"]
    assert [check.name for check in setup.checks] == ["never temp > 60 degC"]


def test_the_name_of_the_file_is_the_name_of_the_scenario(tmp_path):
    path = tmp_path / "warm.scenario.yaml"
    path.write_text(GOOD.replace("name: tank\n", ""))
    assert load_scenario(path).name == "warm"


def test_yaml_and_python_make_the_same_scenario():
    scenario = good(
        "checks:\n"
        "  - {always: temp > 5 degC, while: heater == 1, for: 10s}\n"
        "events:\n"
        "  - {at: 1h, fault: {kind: bias, signal: temp, by: 2 K, for: 5min}}\n"
        "  - {when: temp > 50 degC, publish: {topic: a, payload: '1'}}\n"
        "kpis: {use: [{travel: {of: heater}}], limits: [travel <= 100]}\n"
        "monte_carlo: {runs: 3, vary: {room_offset: {normal: [0 K, 1 K]}}}\n"
    )
    again = read_scenario(Document.parse(dump(scenario.plain()), "tank.yaml"))
    assert again == scenario
    built = Scenario(**scenario.plain())
    assert built == scenario
    assert json.loads(json.dumps(scenario.plain())) == scenario.plain()


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
DURATIONS = st.integers(1, 90).map(lambda n: f"{n}min")
TEXTS = st.text(
    st.characters(
        blacklist_categories=("Cs", "Cc"), blacklist_characters="\u2028\u2029"
    ),
    max_size=20,
)
SCENARIOS = st.fixed_dictionaries(
    {
        "name": NAMES,
        "plant": st.sampled_from(
            ["heated_tank:HeatedTank", {"heated_tank:HeatedTank": {"start": "30 degC"}}]
        ),
        "duration": st.integers(100, 900).map(lambda n: f"{n}min"),
    },
    optional={
        "description": TEXTS,
        "tags": st.lists(TEXTS, max_size=3),
        "seed": st.integers(0, 10**6),
        "warm_up": DURATIONS,
        "disturbances": st.fixed_dictionaries(
            {"room": st.integers(-20, 40).map(lambda t: f"{t} degC")}
        ),
        "initial": st.fixed_dictionaries(
            {}, optional={"retained": st.dictionaries(NAMES, TEXTS, max_size=2)}
        ),
        "controllers": st.lists(
            st.floats(0.5, 5).map(
                lambda k: {
                    "thermostat": {
                        "measure": "temp",
                        "command": "heater",
                        "setpoint": "40 degC",
                        "hysteresis": f"{k!r} K",
                    }
                }
            ),
            max_size=1,
        ),
        "events": st.lists(
            st.fixed_dictionaries(
                {
                    "at": DURATIONS,
                    "publish": st.fixed_dictionaries(
                        {"topic": NAMES, "payload": TEXTS},
                        optional={"qos": st.sampled_from([0, 1, 2])},
                    ),
                }
            )
            | st.fixed_dictionaries(
                {
                    "when": st.just("temp > 35 degC"),
                    "for": DURATIONS,
                    "fault": st.fixed_dictionaries(
                        {"kind": st.just("bias"), "signal": st.just("temp")},
                        optional={"for": DURATIONS, "probability": st.floats(0.01, 1)},
                    ).map(lambda fault: {**fault, "by": "2 K"}),
                }
            ),
            max_size=3,
        ),
        "checks": st.lists(st.integers(40, 90), max_size=3, unique=True).map(
            lambda limits: [{"never": f"temp > {t} degC"} for t in limits]
        ),
        "matrix": st.fixed_dictionaries(
            {"seed": st.lists(st.integers(0, 9), min_size=1)}
        ),
        "monte_carlo": st.fixed_dictionaries({"runs": st.integers(1, 9)}),
    },
)


@given(SCENARIOS)
def test_what_python_makes_reads_back_from_yaml_as_the_same(written):
    made = Scenario(**written)
    text = dump(made.plain())
    again = read_scenario(Document.parse(text, "again.yaml"))
    assert again == made
    assert again.plain() == made.plain()
    assert Scenario(**made.plain()) == made
    assert dump(again.plain()) == text


def test_two_controllers_of_one_kind_have_different_names():
    text = (
        "  - schedule: {command: room, table: {0s: 20 degC}}\n"
        "  - schedule: {command: heater, table: {0s: 0.5}}\n"
    )
    start = GOOD[: GOOD.index("  - thermostat")]
    scenario = read_scenario(Document.parse(start + text, "tank.yaml"))
    assert [n for n, _ in scenario.prepare().controllers] == ["schedule", "schedule-2"]


def test_a_file_may_extend_another(tmp_path):
    (tmp_path / "base.yaml").write_text(GOOD)
    path = tmp_path / "cold.yaml"
    path.write_text(
        "extends: base.yaml\nname: cold\nduration: 30min\n"
        "plant: {heated_tank:HeatedTank: {start: 5 degC}}\n"
    )
    scenario = load_scenario(path)
    assert (scenario.name, scenario.duration, scenario.warm_up) == (
        "cold",
        "30min",
        "10min",
    )
    assert scenario.prepare().plant.start_degc == 5
    assert len(scenario.controllers) == 1


def test_a_mistake_in_the_extended_file_is_told_there(tmp_path):
    (tmp_path / "base.yaml").write_text(GOOD.replace("40 degC", "40"))
    path = tmp_path / "cold.yaml"
    path.write_text("extends: base.yaml\nseed: x\n")
    with pytest.raises(DocumentError) as error:
        load_scenario(path)
    text = str(error.value)
    assert f"{tmp_path}/base.yaml:7: controllers[0].thermostat.setpoint: 40 has" in text
    assert f"{path}:2: seed: 'x' should be a whole number" in text


@pytest.mark.parametrize("name", ["../out.yaml", "self.yaml", "none.yaml"])
def test_extends_stays_in_its_folder_and_ends(tmp_path, name):
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "out.yaml").write_text(GOOD)
    path = folder / "self.yaml"
    path.write_text(f"extends: {name}\n")
    with pytest.raises(FileFormatError, match=r"leaves|extends itself|no file"):
        load_scenario(path)


def test_a_part_may_be_included(tmp_path):
    (tmp_path / "checks.yaml").write_text("- never: temp > 60 degC\n")
    path = tmp_path / "tank.yaml"
    path.write_text(GOOD + "checks: !include checks.yaml\n")
    assert load_scenario(path).checks[0].never == "temp > 60 degC"
    (tmp_path / "checks.yaml").write_text("\n- never: temp > 60\n")
    with pytest.raises(DocumentError, match=r"checks\.yaml:2: checks\[0\]: .*no unit"):
        load_scenario(path)


def test_a_huge_file_is_refused(tmp_path):
    path = tmp_path / "huge.yaml"
    path.write_text("#" * 1_000_001)
    with pytest.raises(FileFormatError, match="1,000,000 are allowed"):
        load_scenario(path)


def test_reading_is_fast_enough_to_be_done_all_the_time():
    # Not a benchmark: an order of magnitude above what it takes.
    text = (
        GOOD
        + "checks:\n"
        + "".join(f"  - never: temp > {limit} degC\n" for limit in range(50, 70))
    )
    began = time.process_time()
    read_scenario(Document.parse(text, "tank.yaml"))
    assert time.process_time() - began < 2


def test_what_only_a_run_needs_is_not_imported_to_read_a_scenario():
    names = ("thermostat", "overheating", "cheap_hours", "frozen_sensor")
    paths = [str(HERE.parent / "scenarios" / f"{name}.yaml") for name in names]
    code = (
        "import sys\n"
        "from playground.scenario import load_scenario\n"
        "for path in sys.argv[1:]: load_scenario(path)\n"
        "heavy = ('numpy', 'pyarrow', 'scipy', 'simpy', 'paho', 'pint', 'hashlib')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True
    )
    assert said.stdout == "[]\n"
