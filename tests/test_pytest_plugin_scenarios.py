"""Scenario files are tests: collected, selected, run, and told when they fail."""

import re
import shutil
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

# Imported before the tests: pytester forgets what an inner run has imported; numpy
# cannot be imported twice, and what pint brings along replaces importlib.metadata's
# own finder.
import pint  # noqa: F401
import pytest

import playground.collection
import playground.plants.lab_rig
import playground.report  # noqa: F401
from playground.model import save_model

sys.path.insert(0, str(Path(__file__).parent))

from heater_model import heater_model

pytest_plugins = ["pytester"]

FAILING = """\
version: "1.0"
name: too_hot
plant:
  tank:Tank: {start: 30 degC}
duration: 10min
initial: {heat: 0.5}
checks:
  - never: temp > 60 degC
  - eventually: temp > 50 degC
  - when: temp > 90 degC
    then: heat == 0
    within: 1min
"""


@pytest.fixture
def project(pytester):
    """A project of a user: its plant, its settings."""
    for file in (Path(__file__).parent / "plugin_project").iterdir():
        shutil.copy(file, pytester.path)
    return pytester


def run(project, *arguments):
    return project.runpytest_inprocess(*arguments)


def matrix(project, name="valve", extra=""):
    """Writes warm.yaml with a matrix and tags."""
    text = (project.path / "warm.yaml").read_text()
    folder = project.path / "scenarios"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.scenario.yaml").write_text(
        text
        + "tags: [slow, valve]\n"
        + "matrix: {start_degc: [30 degC, 31 degC], seed: {range: [0, 2]}}\n".replace(
            "start_degc", "tank:Tank.start"
        )
        + extra
    )


def collected(project, *arguments):
    return [
        line
        for line in run(project, "--collect-only", "-q", *arguments).outlines
        if "::" in line
    ]


def test_a_scenario_is_one_item_and_a_matrix_one_for_each_cell(project):
    shutil.copy(project.path / "warm.yaml", project.path / "cold.scenario.yaml")
    matrix(project)
    assert collected(project) == [
        "cold.scenario.yaml::warm",
        "scenarios/valve.scenario.yaml::tank:Tank.start=30-seed=0",
        "scenarios/valve.scenario.yaml::tank:Tank.start=30-seed=1",
        "scenarios/valve.scenario.yaml::tank:Tank.start=31-seed=0",
        "scenarios/valve.scenario.yaml::tank:Tank.start=31-seed=1",
    ]


def test_another_yaml_file_is_collected_only_if_it_is_named_and_a_scenario(project):
    project.makefile(".yaml", other="a: 1\n")
    assert collected(project) == []
    assert collected(project, "warm.yaml") == ["warm.yaml::warm"]
    assert collected(project, "other.yaml") == []


def test_cells_pass_and_are_chosen_by_name_tag_and_id(project):
    matrix(project)
    run(project, "scenarios").assert_outcomes(passed=4)
    run(project, "-k", "seed:1").assert_outcomes(passed=2, deselected=2)
    run(project, "-m", "valve").assert_outcomes(passed=4)
    run(project, "-m", "not slow").assert_outcomes(deselected=4)
    run(
        project, "scenarios/valve.scenario.yaml::tank:Tank.start=31-seed=1"
    ).assert_outcomes(passed=1)


def test_a_failing_scenario_tells_check_margin_instant_and_report(project):
    project.makefile(".scenario.yaml", too_hot=FAILING)
    result = run(project, "-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    said = result.stdout.str()
    told = said[said.index("too_hot: FAIL") : said.index("=====", said.index("sha256"))]
    told = re.sub(r"sha256 [0-9a-f]{64}", "sha256 …", told)
    assert (
        told
        == """\
too_hot: FAIL, 1 of 3 checks passed in 0:10:00 of plant time, seed 0

never temp > 60 degC: is not so
  margin        -3.059 K
  worst instant 0:09:59 (2026-01-01T00:09:59Z)
  first broken at 0:08:46
  messages around it:
    0:09:56  tank/temp  62.93788721
    0:09:57  tank/temp  62.97828266
    0:09:58  tank/temp  63.01863771
    0:09:59  tank/temp  63.0589524

when temp > 90 degC, then heat == 0, within 1min: cannot be said
  its 'when' never came about
  known up to   0:10:00

sha256 …
report .playground/failures/too_hot.scenario.yaml--too_hot/report.html
"""
    )
    assert "Traceback" not in said
    assert "collection.py" not in said
    assert (
        project.path / ".playground/failures/too_hot.scenario.yaml--too_hot/report.html"
    ).is_file()


INCONCLUSIVE = """\
version: "1.0"
name: outside
plant: {model: heater}
duration: 10min
controllers:
  - schedule: {command: heater, table: {0s: 50 %, 5min: 105 %, 7min: 50 %}}
checks:
  - always: tank in 0 degC..MOST degC
"""


@pytest.mark.parametrize("most", [250, 30])
def test_a_run_that_decides_nothing_fails_and_says_why(project, most):
    save_model(heater_model(), project.path / "heater")
    text = INCONCLUSIVE.replace("MOST", str(most))
    project.makefile(".scenario.yaml", outside=text)
    result = run(project, "-p", "no:cacheprovider", "--junitxml=out.xml")
    result.assert_outcomes(failed=1)
    said = result.stdout.str()
    told = said[said.index("outside: INCON") : said.index("sha256")]
    beginning = f"""\
outside: INCONCLUSIVE, {int(most > 30)} of 1 checks passed in 0:10:00 of plant time, seed 0

in doubt: outside the envelope at 20 % of the steps, first at 0:05:05, by 'heater'; \
the scenario allows 5 %
"""
    assert told.startswith(beginning)
    # What a check found stays visible; it does not decide.
    assert ("always tank in 0 degC..30 degC: is not so" in told) == (most == 30)
    assert "report .playground/failures/outside.scenario.yaml--outside/report" in said
    assert "Traceback" not in said
    (case,) = ET.parse(project.path / "out.xml").getroot().iter("testcase")
    assert "in doubt: outside the envelope" in case.find("failure").text


def test_a_mistake_in_a_file_is_told_with_its_line_and_no_traceback(project):
    project.makefile(
        ".scenario.yaml",
        bad='version: "1.0"\nplant: tank:Tank\nduration: 10\nchecks: [{nevr: temp > 1}]\n',
        worse="plant: tank:Tank\nduration: 10s\nmatrix: {speed: [1], seed: 3}\n",
    )
    result = run(project)
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(
        [
            "*bad.scenario.yaml:3: duration: *",
            "*bad.scenario.yaml:4: *unknown key 'nevr'*",
            "*worse.scenario.yaml:3: matrix.seed: 3 is not a list of values.*",
            "*worse.scenario.yaml:3: matrix.speed: Nothing in this scenario is called*",
        ]
    )
    assert "Traceback" not in result.stdout.str()


def test_last_failed_and_first_failure_behave(project):
    project.makefile(".scenario.yaml", a_hot=FAILING)
    matrix(project)
    run(project, "-x").assert_outcomes(failed=1)
    run(project).assert_outcomes(failed=1, passed=4)
    result = run(project, "--lf")
    assert result.parseoutcomes()["failed"] == 1
    assert "passed" not in result.parseoutcomes()


def test_junit_xml_names_each_cell_and_its_hash(project):
    project.makefile(".scenario.yaml", too_hot=FAILING)
    matrix(project)
    run(project, "--junitxml=out.xml")
    cases = ET.parse(project.path / "out.xml").getroot().findall(".//testcase")
    assert len(cases) == 5
    failed = [case for case in cases if case.find("failure") is not None]
    assert [case.get("name") for case in failed] == ["too_hot"]
    assert "never temp > 60 degC: is not so" in failed[0].find("failure").text
    told = {p.get("name"): p.get("value") for p in failed[0].find("properties")}
    assert len(told["sha256"]) == 64
    assert float(told["margin of never temp > 60 degC"]) < 0


def test_equal_cells_have_equal_hashes_in_every_worker(project):
    matrix(project)
    hashes = []
    for arguments in ([], ["-n", "2"]):
        result = project.runpytest_subprocess("--junitxml=out.xml", *arguments)
        result.assert_outcomes(passed=4)
        root = ET.parse(project.path / "out.xml").getroot()
        hashes.append(
            {
                case.get("name"): case.find("properties/property").get("value")
                for case in root.iter("testcase")
            }
        )
    assert hashes[0] == hashes[1]
    assert len(hashes[0]) == 4
