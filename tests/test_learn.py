"""From recordings to a plant that answers as they did."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from playground.cli import _run as run_command
from playground.errors import NotEnoughData, PlaygroundError
from playground.instant import from_iso
from playground.learn import Segment, judge, learn, learn_segments
from playground.learn.card import written
from playground.learn.free_run import free_runs
from playground.learn.learn import judged
from playground.message import Message
from playground.model import load_model, save_model
from playground.plants.learned import LearnedPlant
from playground.recording import Recording, RecordingWriter
from playground.signals import Signal, Signals

DATA = Path(
    os.environ.get(
        "PLAYGROUND_DATA", Path(__file__).parent.parent.parent / "shared" / "data"
    )
)
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="the shared data are not on this machine"
)

TANK = Signals(
    [
        Signal(name="q", topic="tank/q/set", unit="percent", role="command"),
        Signal(
            name="hot", topic="tank/state", path="hot", unit="degC", role="measurement"
        ),
        Signal(
            name="cold",
            topic="tank/state",
            path="cold",
            unit="degC",
            role="measurement",
        ),
    ]
)
TANK_YAML = """\
signals:
  q: {topic: tank/q/set, unit: percent, role: command}
  hot: {topic: tank/state, path: hot, unit: degC, role: measurement}
  cold: {topic: tank/state, path: cold, unit: degC, role: measurement}
"""


def tank_rows(rows=800, *, seed=0, noise=0.02):
    """Two coupled first-order tanks under random steps; u acts within its row."""
    rng = np.random.default_rng(seed)
    q = np.repeat(rng.uniform(0, 100, rows // 20 + 1), 20)[:rows]
    hot, cold, states = 30.0, 25.0, []
    for power in q:
        hot += 0.08 * (20 + 0.5 * power - hot) + 0.05 * (cold - hot)
        cold += 0.04 * (hot - cold)
        states.append((hot, cold))
    y = np.array(states) + noise * rng.standard_normal((rows, 2))
    return q[:, None], y


def tank_segment(rows=800, **settings):
    u, y = tank_rows(rows, **settings)
    return Segment(t0=0.0, dt=5.0, u=u, y=y, inputs=("q",), outputs=("hot", "cold"))


def tank_recording(path, rows=800):
    """Writes the tank as a broker would have seen it: a state each 5 s."""
    u, y = tank_rows(rows)
    start = 1_700_000_000 * 10**9
    with RecordingWriter(path, journal=False) as writer:
        for k in range(rows):
            time_ns = start + k * 5 * 10**9
            if k == 0 or u[k, 0] != u[k - 1, 0]:
                payload = str(float(u[k, 0])).encode()
                writer.append(Message(time_ns - 5 * 10**9, "tank/q/set", payload))
            state = json.dumps({"hot": y[k, 0], "cold": y[k, 1]}).encode()
            writer.append(Message(time_ns, "tank/state", state))
    return writer.close()


def test_a_plant_learned_from_a_recording_runs_free_almost_as_the_real_one(tmp_path):
    recording = tank_recording(tmp_path / "r.parquet")
    model = learn([recording], TANK, period_s=5.0, budget_s=0.1)
    for error in model.card["errors"]:
        assert error["rmse"] < 0.15 * error["persistence"]
        assert error["rmse"] < 0.15 * error["train_mean"]
        assert error["nrmse"] == pytest.approx(error["rmse"] / error["spread"])
    assert [e["unit"] for e in model.card["errors"]] == ["degC", "degC"]
    assert model.card["rows"] == {"train": 520, "test": 280}


def test_the_learned_plant_steps_as_the_free_run_judged_it():
    segment = tank_segment()
    model = learn_segments([segment], TANK, budget_s=0.1)
    plant = LearnedPlant(model)
    test = segment.part(520, 800)
    (said,) = free_runs(plant, [test])
    h = model.history
    plant.begin(test.u[None, :h], test.y[None, :h])
    for row in range(h, len(test)):
        outputs = plant.step(5.0 * row, {"q": float(test.u[row, 0])})
        assert list(outputs.values()) == pytest.approx(said[row].tolist(), rel=1e-12)


def test_learning_twice_writes_the_same_bytes(tmp_path):
    segments = [tank_segment(400)]
    first = save_model(learn_segments(segments, TANK, budget_s=0.6), tmp_path / "a")
    second = save_model(learn_segments(segments, TANK, budget_s=0.6), tmp_path / "b")
    assert first == second


def test_no_test_row_takes_part_in_learning():
    u, y = tank_rows()
    spoilt = y.copy()
    spoilt[520:] = 1e3
    models = [
        learn_segments(
            [
                Segment(
                    t0=0.0, dt=5.0, u=u, y=rows, inputs=("q",), outputs=("hot", "cold")
                )
            ],
            TANK,
            budget_s=0.6,
        )
        for rows in (y, spoilt)
    ]
    for name, array in models[0].parameters.items():
        np.testing.assert_array_equal(array, models[1].parameters[name])


def test_the_error_is_that_of_the_rows_after_the_given_ones():
    segment = tank_segment()
    model = learn_segments([segment], TANK, budget_s=0.1)
    test = segment.part(600, 700)
    h = model.history
    (error, _) = judge(LearnedPlant(model), [test])
    kept = np.sqrt(np.mean((test.y[h:, 0] - test.y[h - 1, 0]) ** 2))
    mean = np.sqrt(np.mean((test.y[h:, 0] - segment.y[:520, 0].mean()) ** 2))
    assert error.persistence == pytest.approx(kept)
    assert error.train_mean == pytest.approx(mean)
    assert error.rows == 100 - h


def test_too_few_rows_are_refused_with_their_number():
    with pytest.raises(NotEnoughData, match="26 rows"):
        learn_segments([tank_segment(40)], TANK)


def test_inputs_that_never_change_are_refused_with_their_value():
    segment = tank_segment()
    frozen = Segment(
        t0=0.0,
        dt=5.0,
        u=np.full_like(segment.u, 42.0),
        y=segment.y,
        inputs=segment.inputs,
        outputs=segment.outputs,
    )
    with pytest.raises(NotEnoughData, match="q = 42"):
        learn_segments([frozen], TANK)


@pytest.mark.parametrize("holdout", [-0.1, 0.95])
def test_a_holdout_that_cannot_be_is_refused(holdout):
    with pytest.raises(PlaygroundError, match=r"0 to 0\.9"):
        learn_segments([tank_segment()], TANK, holdout=holdout)


@pytest.mark.parametrize("role", ["command", "measurement"])
def test_signals_with_nothing_to_learn_are_refused(role):
    only = Signals([s for s in TANK.values() if s.role == role])
    with pytest.raises(NotEnoughData, match=r"no measurement|no command"):
        learn_segments([tank_segment()], only)


def test_learning_from_no_recording_is_refused():
    with pytest.raises(PlaygroundError, match="no recording"):
        learn([], TANK, period_s=5.0, budget_s=0.1)


def test_the_command_prints_the_errors_and_writes_the_model(tmp_path, capsys):
    tank_recording(tmp_path / "r.parquet", 400)
    (tmp_path / "tank.yaml").write_text(TANK_YAML)
    arguments = ["learn", str(tmp_path / "r.parquet")]
    arguments += ["--signals", str(tmp_path / "tank.yaml")]
    arguments += ["-o", str(tmp_path / "models" / "tank"), "--period", "5s"]
    arguments += ["--budget", "1s"]
    assert run_command(arguments) == 0
    said = capsys.readouterr().out
    assert "persistence" in said
    assert "train mean" in said
    assert load_model(tmp_path / "models" / "tank").outputs == ("hot", "cold")
    assert run_command(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run_command([*arguments, "--overwrite"]) == 0


def test_the_command_leaves_nothing_behind_when_it_fails(tmp_path, capsys):
    tank_recording(tmp_path / "r.parquet", 30)
    (tmp_path / "tank.yaml").write_text(TANK_YAML)
    arguments = [
        "learn",
        str(tmp_path / "r.parquet"),
        "-s",
        str(tmp_path / "tank.yaml"),
    ]
    assert run_command([*arguments, "-o", str(tmp_path / "models" / "t")]) == 3
    assert "rows to learn from" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_the_card_says_the_range_and_the_fastest_change_that_were_seen():
    segment = tank_segment()
    model = learn_segments([segment], TANK, holdout=0.0, budget_s=0.1)
    page = written(model, [])["card.md"]
    section = page.split("## Validity envelope")[1]
    line = next(each for each in section.splitlines() if each.startswith("| q | "))
    low, high, rate = (float(cell) for cell in line.split("|")[3:6])
    span = np.ptp(segment.u)
    assert (low, high) == pytest.approx(
        (segment.u.min() - 0.1 * span, segment.u.max() + 0.1 * span), abs=0.01 * span
    )
    assert rate == pytest.approx(1.1 * np.abs(np.diff(segment.u[:, 0])).max(), rel=0.01)


def test_the_card_says_from_which_recordings_the_rows_came(tmp_path):
    whole = tank_recording(tmp_path / "monday.parquet", 250)
    parts = tmp_path / "tuesday"
    parts.mkdir()
    shutil.copy(whole.paths[0], parts / "part-0001.parquet")
    recordings = [whole, Recording.open(parts)]
    model = learn(recordings, TANK, period_s=5.0, budget_s=0.1)
    said = model.card["recordings"]
    assert [each["name"] for each in said] == ["monday.parquet", "tuesday"]
    for each, recording in zip(said, recordings, strict=True):
        assert each["sha256"] == recording.sha256
        assert from_iso(each["start"]) == pytest.approx(recording.start_ns, abs=1000)
        assert from_iso(each["end"]) == pytest.approx(recording.end_ns, abs=1000)
    assert sum(each["rows"] for each in said) == sum(model.card["rows"].values())
    page = written(model, [])["card.md"]
    section = page.split("## Data")[1].split("##")[0]
    assert f"| monday.parquet | {said[0]['start']} | {said[0]['end']} |" in section
    assert f"`{whole.sha256}`" in section
    assert str(tmp_path) not in page + str(model.card)


@pytest.mark.parametrize(
    ("option", "value", "said"), [("--seed", "-1", "--seed"), ("--period", "0s", "0 s")]
)
def test_a_number_that_cannot_be_is_the_users_mistake(
    tmp_path, capsys, option, value, said
):
    tank_recording(tmp_path / "r.parquet", 30)
    (tmp_path / "tank.yaml").write_text(TANK_YAML)
    arguments = ["learn", str(tmp_path / "r.parquet"), "-o", str(tmp_path / "m")]
    arguments += ["-s", str(tmp_path / "tank.yaml"), option, value]
    assert run_command(arguments) == 2
    assert said in capsys.readouterr().err


def test_an_output_that_never_changed_is_unusable():
    segment = tank_segment(300)
    stuck = segment.y * [1.0, 0.0] + [0.0, 5.0]
    model = learn_segments([replace(segment, y=stuck)], TANK, budget_s=0.0)
    assert model.card["unusable"] == ["cold"]


def test_an_output_that_rests_while_it_is_examined_stays_usable():
    # Persistence is hard to beat where nothing moves; that says nothing against a
    # model that is far better than the mean.
    segment = tank_segment()
    model = learn_segments([segment], TANK, holdout=0.2, budget_s=2.0)
    u, y = np.tile([[80.0]], (200, 1)), np.empty((200, 2))
    y[:] = 60.0 + 1e-4 * np.random.default_rng(1).standard_normal((200, 2))
    still = Segment(t0=0.0, dt=5.0, u=u, y=y, inputs=("q",), outputs=("hot", "cold"))
    card = judged(model, [still]).card
    assert all(e["rmse"] > e["persistence"] for e in card["errors"])
    assert all(e["rmse"] < e["train_mean"] for e in card["errors"])
    assert card["unusable"] == []


@needs_data
def test_the_temperature_lab_is_learned_well_below_persistence(tmp_path):
    import pyarrow.parquet as pq

    table = pq.read_table(DATA / "tclab_mimo" / "prbs.parquet").to_pydict()
    start = 1_700_000_000 * 10**9
    with RecordingWriter(tmp_path / "prbs.parquet", journal=False) as writer:
        for k, t in enumerate(table["t_s"]):
            time_ns = start + round(t * 1e9)
            for name in ("Q1", "Q2", "T1", "T2"):
                payload = f"{table[name][k]!r}".encode()
                writer.append(Message(time_ns, f"tclab/{name}", payload))
    signals = Signals(
        [
            Signal(
                name=name,
                topic=f"tclab/{name}",
                unit="degC" if name[0] == "T" else "percent",
                role="measurement" if name[0] == "T" else "command",
            )
            for name in ("Q1", "Q2", "T1", "T2")
        ]
    )
    model = learn([writer.close()], signals, period_s=5.0, budget_s=0.5)
    print(model.describe())
    for error in model.card["errors"]:
        assert error["rmse"] < 0.5 * error["persistence"]
        assert error["rmse"] < 0.5 * error["train_mean"]
