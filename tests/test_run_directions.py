"""Which way an output goes is declared; a model that goes the other way is refused.

So is a scenario that depends on an output that the model cannot predict.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from heater_model import heater_model

from playground.document import DocumentError
from playground.errors import PlaygroundError
from playground.learn import Segment, learn_segments
from playground.learn.card import written as written_card
from playground.model import load_model, save_model
from playground.run import run
from playground.scenario import load_scenario
from playground.signals import Signal, Signals
from playground.signals_file import load_signals

HERE = Path(__file__).parent
SCENARIO = """\
version: "1.0"
plant: {plant}
duration: 5min
controllers:
  - schedule: {{command: heater, table: {{0s: 20 %}}}}
{rest}
"""
SIGNALS = """\
version: "1.0"
signals:
  heater: {{topic: lab/heater, unit: percent, role: command}}
  tank: {{topic: lab/tank, unit: degC, role: {role}, responds: {responds}}}
"""


def scenario(folder, *, plant="{model: model}", rest=""):
    path = folder / "hot.yaml"
    path.write_text(SCENARIO.format(plant=plant, rest=rest))
    return path


def signals_file(folder, responds, role="measurement"):
    path = folder / "signals.yaml"
    path.write_text(SIGNALS.format(role=role, responds=responds))
    return path


# -- the signals file


def test_a_signals_file_declares_which_way_a_measurement_goes(tmp_path):
    signals = load_signals(signals_file(tmp_path, "{heater: up}"))
    assert signals["tank"].responds == {"heater": "up"}
    assert signals["heater"].responds is None


@pytest.mark.parametrize(
    ("responds", "role", "said"),
    [
        ("{heater: upwards}", "measurement", "upwards"),
        ("{heatr: up}", "measurement", "'heater'"),
        ("{tank: up}", "measurement", "no command and no disturbance"),
        ("{heater: up}", "disturbance", "how a measurement answers"),
    ],
)
def test_a_direction_that_nothing_can_have_is_refused(tmp_path, responds, role, said):
    path = signals_file(tmp_path, responds, role)
    with pytest.raises(DocumentError) as caught:
        load_signals(path)
    assert said in str(caught.value)
    assert f"{path}:4" in str(caught.value)


def test_a_model_keeps_the_directions(tmp_path):
    save_model(heater_model(responds={"heater": "up"}), tmp_path / "model")
    assert load_model(tmp_path / "model").signals["tank"].responds == {"heater": "up"}


def test_a_model_without_directions_is_written_as_ever(tmp_path):
    save_model(heater_model(), tmp_path / "model")
    document = json.loads((tmp_path / "model" / "model.json").read_text())
    assert all("responds" not in signal for signal in document["signals"]["signals"])


# -- the card


def tank(*, gain, responds, role="command"):
    """A minute-long tank experiment, learned; its sensor may be mounted backwards."""
    rng = np.random.default_rng(1)
    heat = np.repeat(rng.uniform(0, 100, 40), 15)
    t, said = 30.0, []
    for power in heat:
        t += 0.1 * (20 + gain * power - t)
        said.append(t)
    y = np.array(said)[:, None] + 0.1 * rng.standard_normal((len(heat), 1))
    signals = Signals(
        [
            Signal(name="heater", topic="h", unit="percent", role=role),
            Signal(
                name="tank",
                topic="t",
                unit="degC",
                role="measurement",
                responds=responds,
            ),
        ]
    )
    names = {"inputs": ("heater",), "outputs": ("tank",)}
    segment = Segment(t0=0.0, dt=5.0, u=heat[:, None], y=y, **names)
    return learn_segments([segment], signals, budget_s=0.1)


def test_the_card_flags_a_step_response_against_the_declared_direction():
    model = tank(gain=-0.5, responds={"heater": "up"})
    (text,) = model.card["contradictions"]
    assert text.startswith("tank goes down when heater rises (-0.")
    assert "declared to go up" in text
    assert text in written_card(model, [])["card.md"]


def test_a_direction_that_is_declared_for_a_disturbance_counts_too():
    responds = {"heater": "up"}
    sound, wrong = (
        tank(gain=gain, responds=responds, role="disturbance") for gain in (0.5, -0.5)
    )
    assert sound.card["contradictions"] == []
    assert "tank goes down when heater rises" in wrong.card["contradictions"][0]
    undeclared = tank(gain=0.5, responds=None, role="disturbance")
    assert undeclared.card["step_responses"] == []


@pytest.mark.parametrize("responds", [None, {"heater": "up"}])
def test_the_card_flags_nothing_that_is_as_declared_or_not_declared(responds):
    model = tank(gain=0.5, responds=responds)
    assert model.card["contradictions"] == []
    assert "Wrong sign" not in written_card(model, [])["card.md"]


# -- the run


def test_a_model_with_the_wrong_sign_is_refused_with_the_pair(tmp_path):
    save_model(heater_model(responds={"heater": "up"}, gain=-0.2), tmp_path / "model")
    path = scenario(tmp_path)
    with pytest.raises(DocumentError) as caught:
        load_scenario(path).prepare()
    said = str(caught.value)
    assert f"{path}:2" in said
    assert "tank goes down when heater rises" in said
    assert "force" in said


@pytest.mark.parametrize("direction", ["up", None])
def test_a_model_as_declared_is_run(tmp_path, direction):
    responds = None if direction is None else {"heater": direction}
    save_model(heater_model(responds=responds), tmp_path / "model")
    result = run(load_scenario(scenario(tmp_path)), out=tmp_path / "out")
    assert result.verdict == "pass"
    assert result.notes == ()


def test_directions_of_the_scenarios_own_signals_file_count(tmp_path):
    save_model(heater_model(gain=-0.2), tmp_path / "model")
    signals_file(tmp_path, "{heater: up}")
    path = scenario(tmp_path, rest="signals: signals.yaml\n")
    with pytest.raises(DocumentError, match="tank goes down when heater rises"):
        load_scenario(path).prepare()


def test_a_forced_model_runs_and_says_so(tmp_path):
    save_model(heater_model(responds={"heater": "up"}, gain=-0.2), tmp_path / "model")
    path = scenario(tmp_path, plant="{model: model, force: true}")
    result = run(load_scenario(path), out=tmp_path / "out")
    (note,) = result.notes
    assert note.startswith("the model is forced: tank goes down")
    assert any(note in line for line in result.lines())
    assert result.plain()["notes"] == [note]


def test_the_command_refuses_it_with_two_and_forces_it_when_told(tmp_path):
    save_model(heater_model(responds={"heater": "up"}, gain=-0.2), tmp_path / "model")
    path = scenario(tmp_path)
    command = [str(Path(sys.executable).parent / "playground"), "run", str(path)]
    command += ["-o", str(tmp_path / "out"), "--no-report"]
    options = {"capture_output": True, "text": True, "check": False}
    options["env"] = {**os.environ, "PYTHONPATH": str(HERE)}
    refused = subprocess.run(command, **options)
    assert refused.returncode == 2
    assert "tank goes down when heater rises" in refused.stderr
    assert "Traceback" not in refused.stderr
    done = subprocess.run([*command, "--force-model"], **options)
    assert done.returncode == 0, done.stderr
    assert "the model is forced" in done.stdout


def test_there_is_nothing_to_force_in_a_plant_that_was_not_learned():
    from playground.scenario.entries import forced

    with pytest.raises(PlaygroundError, match="no model"):
        forced("lab_rig")


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        ("{model: model, fsat: true}", "'fast'"),
        ("{model: model, fast: 3}", "neither true nor false"),
    ],
)
def test_what_stands_beside_the_model_is_checked(tmp_path, plant, said):
    save_model(heater_model(), tmp_path / "model")
    path = scenario(tmp_path, plant=plant)
    with pytest.raises(DocumentError) as caught:
        load_scenario(path).prepare()
    assert said in str(caught.value)
    assert f"{path}:2" in str(caught.value)


# -- unusable outputs


def with_a_loose_output(folder):
    model = heater_model(outputs=("tank", "loose"), card={"unusable": ["loose"]})
    save_model(model, folder / "model")


@pytest.mark.parametrize(
    ("rest", "line"),
    [
        ("checks:\n  - always: tank < 200 degC\n  - never: loose > 30 degC", 8),
        ("checks:\n  - {when: tank > 0 degC, then: loose < 9 degC, within: 5s}", 7),
        ("kpis:\n  use: [{travel: {of: loose}}]", 7),
        (
            "events:\n  - {when: loose > 3 degC, set: {heater: 20 %}}",
            7,
        ),
    ],
)
def test_what_depends_on_an_unusable_output_is_refused_at_its_line(
    tmp_path, rest, line
):
    with_a_loose_output(tmp_path)
    path = scenario(tmp_path, rest=rest)
    with pytest.raises(DocumentError) as caught:
        load_scenario(path).prepare()
    said = str(caught.value)
    assert f"{path}:{line}" in said
    assert "'loose' is unusable: no candidate predicts it better than its mean" in said
    assert "free-run RMSE 4.2 degC; train mean 3" in said


def test_a_controller_of_an_unusable_output_is_refused(tmp_path):
    with_a_loose_output(tmp_path)
    path = tmp_path / "hot.yaml"
    path.write_text(
        'version: "1.0"\nplant: {model: model}\nduration: 5min\ncontrollers:\n'
        "  - thermostat: {measure: loose, command: heater, setpoint: 40 degC,\n"
        "                 hysteresis: 2 K, on: 50 %, off: 0 %}\n"
    )
    with pytest.raises(DocumentError) as caught:
        load_scenario(path).prepare()
    assert f"{path}:5" in str(caught.value)
    assert "'loose' is unusable" in str(caught.value)


def test_the_other_outputs_of_such_a_model_may_be_checked(tmp_path):
    with_a_loose_output(tmp_path)
    path = scenario(tmp_path, rest="checks:\n  - always: tank < 200 degC")
    assert run(load_scenario(path), out=tmp_path / "out").verdict == "pass"
