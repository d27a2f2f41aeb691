"""A run on a plant that left what it knows decides nothing, whatever its checks say."""

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from heater_model import heater_model

from playground.document import DocumentError
from playground.errors import ExitCode
from playground.model import save_model
from playground.report import write_report
from playground.run import junit, markdown, run
from playground.scenario import load_scenario
from playground.sweep import sweep
from playground.sweep.report import write_sweep_report

HERE = Path(__file__).parent
SCENARIO = """\
version: "1.0"
plant: {plant}
duration: 10min
warm_up: {warm_up}
controllers:
  - schedule: {{command: heater, table: {{0s: 50 %, {moment}: 105 %, 7min: 50 %}}}}
checks:
  - always: tank in 0 degC..{most} degC
{rest}
"""
"""At 105 percent the model of `heater_model` is outside, at 50 inside."""


@pytest.fixture
def written(tmp_path):
    save_model(heater_model(), tmp_path / "model")

    def write(
        *, plant="{model: model}", warm_up="0s", moment="5min", most="250", rest=""
    ):
        path = tmp_path / "hot.yaml"
        path.write_text(
            SCENARIO.format(
                plant=plant, warm_up=warm_up, moment=moment, most=most, rest=rest
            )
        )
        return path

    return write


def test_a_run_that_left_the_envelope_too_long_is_inconclusive(written, tmp_path):
    result = run(load_scenario(written()), out=tmp_path / "out")
    assert [check.verdict for check in result.checks] == ["pass"]
    assert result.verdict == "inconclusive"
    assert result.exit_code == ExitCode.UNDECIDED
    # 105 percent from 5 to 7 min: 24 of 119 steps.
    (doubt,) = result.doubts
    assert "20 %" in doubt
    assert "5 %" in doubt
    assert "0:05:05" in doubt
    assert "'heater'" in doubt
    assert any(doubt in line for line in result.lines())


def test_a_failed_check_stays_visible_but_does_not_decide(written, tmp_path):
    result = run(load_scenario(written(most="30")), out=tmp_path / "out")
    assert [check.verdict for check in result.checks] == ["fail"]
    assert result.verdict == "inconclusive"
    text = "\n".join(result.lines())
    assert "FAIL" in text
    assert "INCONCLUSIVE" in text


def test_the_scenario_may_allow_more(written, tmp_path):
    path = written(plant="{model: model, envelope: {share: 25 %}}")
    result = run(load_scenario(path), out=tmp_path / "out")
    assert result.verdict == "pass"
    assert result.doubts == ()
    assert result.plain()["envelope"] == {
        "steps": 119,
        "outside": 24,
        "allowed_share": 0.25,
        "first_s": 305.0,
        "signals": {"heater": 24},
    }
    assert any("20 % of the steps" in line for line in result.lines())


def test_what_happens_in_the_warm_up_is_not_judged(written, tmp_path):
    path = written(warm_up="8min", moment="2min")
    result = run(load_scenario(path), out=tmp_path / "out")
    assert result.verdict == "pass"
    assert result.plain()["envelope"]["outside"] == 0
    assert result.plain()["envelope"]["steps"] == 23


def test_a_plant_without_an_envelope_says_nothing_of_it(tmp_path):
    path = tmp_path / "rig.yaml"
    path.write_text('version: "1.0"\nplant: testcase1\nduration: 1h\n')
    result = run(load_scenario(path), out=tmp_path / "out")
    assert result.plain()["envelope"] is None
    assert result.verdict == "pass"


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        ("{model: model, envelope: {part: 5 %}}", "'part'"),
        ("{model: model, envelope: {share: 120 %}}", "1.2"),
        ("{model: model, envelope: 5 %}", "share"),
        ("{testcase1: {}, envelope: {share: 5 %}}", "knows no envelope"),
    ],
)
def test_a_limit_that_cannot_be_is_refused_at_its_line(written, plant, said):
    path = written(plant=plant)
    with pytest.raises(DocumentError) as caught:
        load_scenario(path).prepare()
    assert said in str(caught.value)
    assert f"{path}:2" in str(caught.value)


def test_a_baseline_that_left_it_casts_doubt_on_the_comparison(written, tmp_path):
    path = written(
        plant="{model: model, envelope: {share: 30 %}}",
        rest="baseline: {plant: {model: model, envelope: {share: 10 %}}}\n",
    )
    result = run(load_scenario(path), out=tmp_path / "out")
    assert result.verdict == "inconclusive"
    assert "baseline" in result.doubts[0]


def test_junit_markdown_and_the_report_say_so(written, tmp_path):
    result = run(load_scenario(written()), out=tmp_path / "out")
    suite = ET.fromstring(junit(result).encode())
    assert suite.get("errors") == "1"
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert "'heater'" in cases["envelope"].find("error").get("message")
    assert "inconclusive" in markdown(result)
    assert result.doubts[0] in markdown(result)
    page = write_report(result.folder, again="x").read_text()
    assert "inconclusive" in page
    assert "&#x27;heater&#x27;" in page


def test_a_sweep_counts_it_and_answers_three(written, tmp_path):
    path = written(
        rest="matrix: {envelope.share: [5 %, 50 %]}\n",
        plant="{model: model, envelope: {share: 5 %}}",
    )
    done = sweep(path, out=tmp_path / "sweep", workers=1, keep="all")
    assert done.verdicts["inconclusive"] == 1
    assert done.verdicts["pass"] == 1
    assert done.exit_code == ExitCode.UNDECIDED
    table = pq.read_table(done.folder / "sweep.parquet")
    assert "inconclusive" in table.column("verdict").to_pylist()
    assert any("'heater'" in (t or "") for t in table.column("doubts").to_pylist())
    page = write_sweep_report(done.folder, again="x").read_text()
    assert "inconclusive" in page


def test_the_command_answers_three_and_prints_it(written, tmp_path):
    path = written()
    command = [str(Path(sys.executable).parent / "playground"), "run", str(path)]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "out"), "--no-report", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )
    assert done.returncode == 3, done.stderr
    said = json.loads(done.stdout)
    assert said["verdict"] == "inconclusive"
    assert "'heater'" in said["doubts"][0]
