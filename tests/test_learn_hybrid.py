"""A learned part on compartments or on a physical plant, and what a model may name."""

import json
import pickle
import sys

import numpy as np
import pytest

from playground.cli import _run as run_command
from playground.errors import PlaygroundError
from playground.learn import Segment, learn_segments
from playground.learn.candidates import HISTORY, bundles, tried, worth_trying
from playground.learn.folds import blocks_free_run, folds_of
from playground.message import Message
from playground.model import load_model, save_model
from playground.plants.boptest_testcase1 import SimpleRC
from playground.plants.learned import LearnedPlant
from playground.plants.learned.base import Base, physical_plant, standing_below
from playground.plants.learned.simulator import Scaling
from playground.recording import RecordingWriter
from playground.signals import Signal, Signals

ROOM = Signals(
    [
        Signal(name="heater", topic="room/heater", unit="kW", role="command"),
        Signal(name="zone_temp", topic="room/t", unit="degF", role="measurement"),
        Signal(name="dust", topic="room/dust", unit="1", role="measurement"),
    ]
)
STILL = {"testcase1": {"ambient_amplitude_k": 0.0}}


def room(rows=500, *, seed=0, capacity=1e6, gain=0.0, noise=0.01):
    """A room of testcase1 in other units; ``gain``: what the heater does besides."""
    rng = np.random.default_rng(seed)
    heat = np.repeat(rng.uniform(0, 2, rows // 30 + 1), 30)[:rows]
    plant = SimpleRC(period_s=600.0, capacity_j_per_k=capacity, ambient_amplitude_k=0.0)
    y, dust = np.empty((rows, 2)), 0.0
    for row in range(rows):
        power = 1000.0 * (heat[row] + gain * np.sin(3 * heat[row]))
        said = plant.step(600.0 * (row + 1), {"heater": max(power, 0.0)})
        dust = 0.9 * dust + 0.1 * heat[row]
        y[row] = said["zone_temp"] * 1.8 + 32, dust
    y += noise * rng.standard_normal(y.shape)
    return Segment(
        t0=0.0,
        dt=600.0,
        u=heat[:, None],
        y=y,
        inputs=("heater",),
        outputs=("zone_temp", "dust"),
    )


def below(segment, signals=ROOM, **parameters):
    return standing_below(
        "testcase1",
        {"ambient_amplitude_k": 0.0, **parameters},
        period_s=segment.dt,
        signals=signals,
        inputs=segment.inputs,
        outputs=segment.outputs,
        scaling=Scaling.of(segment.u, segment.y),
    )


def scaled(segment):
    scaling = Scaling.of(segment.u, segment.y)
    return Segment(
        t0=0.0,
        dt=segment.dt,
        u=scaling.scaled_u(segment.u),
        y=scaling.scaled_y(segment.y),
        inputs=segment.inputs,
        outputs=segment.outputs,
    )


LIMITS = {"low": np.full(2, -5.0), "high": np.full(2, 5.0)}
ARX = {"family": "arx", "na": 2, "nb": 2, "ridge": 1e-4}


def test_a_plant_below_says_what_it_would_in_the_units_of_the_learned_one():
    segment = room(noise=0.0)
    base = Base(below(segment))
    (said,) = blocks_free_run(base, [scaled(segment).part(100, 500)], history=HISTORY)
    truth = scaled(segment).y[100 + HISTORY : 500]
    # It began as if the first inputs had stood for long; after hours that is forgotten.
    np.testing.assert_allclose(said[150:, 0], truth[150:, 0], atol=0.01)
    assert (said[:, 1] == 0).all()


def test_what_a_plant_does_not_know_is_learned_on_it():
    segment = room(gain=0.3, capacity=2e6)
    folds = folds_of([scaled(segment)])
    settings = {"base": below(segment), "learned": ARX, "way": "inputs"}
    candidate = tried("hybrid", settings, folds, **LIMITS)
    alone = np.vstack(
        [
            said - b.y[HISTORY:]
            for fold in folds
            for b in fold
            for said in blocks_free_run(Base(settings["base"]), [b], history=HISTORY)
        ]
    )
    assert (candidate.parameters["helps"] == 1).all()
    assert (candidate.errors < 0.5 * np.sqrt((alone**2).mean(axis=0))).all()


def test_a_plant_that_knows_all_keeps_the_last_word():
    segment = room(noise=0.3)
    learned = {**ARX, "na": 1, "nb": 1, "ridge": 1.0}
    for way in ("inputs", "residual"):
        settings = {"base": below(segment), "learned": learned, "way": way}
        candidate = tried("hybrid", settings, folds_of([scaled(segment)]), **LIMITS)
        assert candidate.parameters["helps"][0] == 0


def test_runs_side_by_side_are_those_alone_and_snapshots_lead_back():
    segment = room()
    settings = {"base": below(segment), "learned": ARX, "way": "residual"}
    candidate = tried("hybrid", settings, folds_of([scaled(segment)]), **LIMITS)
    from playground.plants.learned.families import FAMILIES

    rng = np.random.default_rng(1)
    u, y = rng.normal(size=(3, HISTORY + 20, 1)), rng.normal(size=(3, HISTORY, 2))
    many = FAMILIES["hybrid"](settings, candidate.parameters)
    many.begin(u[:, :HISTORY], y)
    first = [many.advance(u[:, HISTORY + k]) for k in range(10)]
    state = many.state()
    then = [many.advance(u[:, HISTORY + 10 + k]) for k in range(10)]
    many.set_state(state)
    np.testing.assert_array_equal(
        then, [many.advance(u[:, HISTORY + 10 + k]) for k in range(10)]
    )
    one = FAMILIES["hybrid"](settings, candidate.parameters)
    one.begin(u[1:2, :HISTORY], y[1:2])
    alone = [one.advance(u[1:2, HISTORY + k]) for k in range(10)]
    np.testing.assert_allclose(
        np.array(alone)[:, 0], np.array(first)[:, 1], rtol=1e-9, atol=1e-12
    )


@pytest.fixture
def model(monkeypatch):
    """A model whose one member is learned on testcase1."""
    module = sys.modules["playground.learn.learn"]

    def only(**asked):
        wanted = [c for c in worth_trying(**asked) if "plant" in c[1].get("base", ())]
        return wanted[:1]

    monkeypatch.setattr(module, "worth_trying", only)
    return learn_segments([room(gain=0.3)], ROOM, base=STILL, budget_s=5.0, jobs=1)


def test_a_model_names_the_plant_below_it_and_steps_it_when_loaded(model, tmp_path):
    assert [m["family"] for m in model.members] == ["hybrid"]
    assert model.card["base"] == STILL
    save_model(model, tmp_path / "room")
    document = json.loads((tmp_path / "room" / "model.json").read_text())
    assert document["members"][0]["base"]["plant"] == "testcase1"
    runs = []
    for plant in (LearnedPlant(model), LearnedPlant(tmp_path / "room")):
        plant.reset()
        said = [plant.step(600.0 * (k + 1), {"heater": k % 3}) for k in range(20)]
        moment, copy = plant.snapshot(), pickle.loads(pickle.dumps(plant))
        after = [plant.step(600.0 * (k + 21), {"heater": 1.0}) for k in range(5)]
        plant.restore(moment)
        again = [plant.step(600.0 * (k + 21), {"heater": 1.0}) for k in range(5)]
        assert after == again
        assert after == [copy.step(600.0 * (k + 21), {"heater": 1.0}) for k in range(5)]
        runs.append(said + after)
    assert runs[0] == runs[1]
    assert (
        model.card["errors"][0]["rmse"] < 0.3 * model.card["errors"][0]["train_mean"]
    ), model.card["errors"]


@pytest.mark.parametrize("name", ["subprocess:Popen", "replayed", "tests:Plant", "lab"])
def test_a_model_can_name_no_code_but_that_of_the_package(name):
    with pytest.raises(PlaygroundError, match="cannot stand below"):
        physical_plant(name, {}, 10.0)


def test_a_plant_that_does_not_fit_is_refused_with_the_reason():
    segment = room(60)
    with pytest.raises(PlaygroundError, match="capacity"):
        below(segment, capacity=1.0)
    odd = Segment(
        t0=0.0,
        dt=1.5,
        u=segment.u,
        y=segment.y,
        inputs=("heater",),
        outputs=("zone_temp", "dust"),
    )
    with pytest.raises(PlaygroundError, match=r"does not say|says nothing"):
        standing_below(
            "testcase1",
            {},
            period_s=600.0,
            signals=ROOM,
            inputs=("heater",),
            outputs=("dust",),
            scaling=Scaling.of(odd.u, odd.y[:, 1:]),
        )
    with pytest.raises(PlaygroundError, match="must be one"):
        learn_segments([room(200)], ROOM, base={"testcase1": {}, "house": {}})


def test_hybrids_are_tried_right_after_what_they_stand_on():
    columns = {
        "inputs": ["other"],
        "outputs": ["temperature"],
        "u_scale": [1.0],
        "u_offset": [1.0],
        "y_scale": [1.0],
        "y_offset": [0.0],
        "signs": [[0]],
    }
    ladder = worth_trying(rows=5000, budget_s=300.0, columns=columns)
    for bundle in bundles(ladder):
        kinds = [family for family, _ in bundle]
        if "hybrid" in kinds:
            assert kinds[0] == "grey box"
            assert all(s["base"] == bundle[0][1] for _, s in bundle[1:])
    assert [c for b in bundles(ladder) for c in b] == ladder


def test_the_command_learns_on_a_plant_or_a_plant_file(tmp_path, capsys):
    segment = room(200)
    start = 1_700_000_000 * 10**9
    with RecordingWriter(tmp_path / "r.parquet", journal=False) as writer:
        for k in range(len(segment)):
            at = start + k * 600 * 10**9
            writer.append(Message(at - 10**9, "room/heater", b"%g" % segment.u[k, 0]))
            writer.append(Message(at, "room/t", b"%g" % segment.y[k, 0]))
            writer.append(Message(at, "room/dust", b"%g" % segment.y[k, 1]))
    writer.close()
    (tmp_path / "room.yaml").write_text(
        "signals:\n"
        "  heater: {topic: room/heater, unit: kW, role: command}\n"
        "  zone_temp: {topic: room/t, unit: degF, role: measurement}\n"
        "  dust: {topic: room/dust, unit: '1', role: measurement}\n"
    )
    (tmp_path / "plant.yaml").write_text(
        "testcase1:\n  ambient_amplitude: 0 K\n  capacity: 2 MJ/K\n"
    )
    arguments = [
        "learn",
        str(tmp_path / "r.parquet"),
        "-s",
        str(tmp_path / "room.yaml"),
    ]
    arguments += ["--period", "10min", "--budget", "3s", "--on"]
    target = ["-o", str(tmp_path / "models" / "room")]
    assert run_command([*arguments, str(tmp_path / "plant.yaml"), *target]) == 0
    card = load_model(tmp_path / "models" / "room").card
    assert card["base"] == {
        "testcase1": {"ambient_amplitude_k": 0.0, "capacity_j_per_k": 2e6}
    }
    assert any(c["family"] == "hybrid" for c in card["candidates"])
    capsys.readouterr()
    assert (
        run_command([*arguments, "lab_rig", "-o", str(tmp_path / "models" / "b")]) == 2
    )
    assert "says nothing" in capsys.readouterr().err
