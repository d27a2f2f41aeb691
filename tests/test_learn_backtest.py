"""A learned plant against a new recording: still valid, or not."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from playground.cli import _run as run_command
from playground.learn import Segment, learn, learn_segments
from playground.learn.backtest import backtest
from playground.message import Message
from playground.model import save_model
from playground.plants.learned import LearnedPlant
from playground.recording import RecordingWriter
from playground.signals import Signal, Signals
from playground.signals_file import load_signals

TOWER = Path(__file__).parent.parent / "scenarios" / "signals" / "tower-loop.yaml"
SIGNALS = Signals(
    [
        Signal(name="q", topic="tank/q", unit="percent", role="command"),
        Signal(name="t", topic="tank/t", unit="degC", role="measurement"),
    ]
)


def tank(rows=700, *, seed=0, gain=0.5, high=100.0):
    rng = np.random.default_rng(seed)
    q = np.repeat(rng.uniform(0, high, rows // 20), 20)
    t, said = 30.0, []
    for power in q:
        t += 0.08 * (20 + gain * power - t)
        said.append(t)
    y = np.array(said)[:, None] + 0.2 * rng.standard_normal((len(q), 1))
    return Segment(t0=0.0, dt=5.0, u=q[:, None], y=y, inputs=("q",), outputs=("t",))


@pytest.fixture(scope="module")
def model():
    return learn_segments([tank()], SIGNALS, budget_s=0.1)


def test_the_same_plant_is_still_valid(model):
    found = backtest(LearnedPlant(model), [tank(seed=5)])
    assert found.verdict == "still valid"
    assert found.ratio["t"] < 1.15
    assert found.outside < 0.05


def test_a_plant_that_changed_is_wrong(model):
    found = backtest(LearnedPlant(model), [tank(seed=5, gain=0.3)])
    assert found.verdict == "wrong"
    assert found.ratio["t"] > 2


def test_where_the_model_has_never_been_nothing_is_decided(model):
    found = backtest(LearnedPlant(model), [tank(seed=5, high=600.0, gain=0.7)])
    assert found.verdict == "undecided"
    assert found.outside > 0.2


@pytest.mark.parametrize(("gain", "code"), [(0.5, 0), (0.3, 1)])
def test_the_command_answers_with_its_exit_code(model, tmp_path, capsys, gain, code):
    save_model(model, tmp_path / "tank")
    segment = tank(seed=7, gain=gain)
    start = 1_700_000_000 * 10**9
    with RecordingWriter(tmp_path / "new.parquet", journal=False) as writer:
        for k in range(len(segment)):
            time_ns = start + k * 5 * 10**9
            # The command comes before the step on which it acts.
            for topic, value, when in (
                ("tank/q", segment.u[k, 0], time_ns - 5 * 10**9 + 10),
                ("tank/t", segment.y[k, 0], time_ns),
            ):
                payload = json.dumps(float(value)).encode()
                writer.append(Message(when, topic, payload))
    writer.close()
    arguments = ["backtest", str(tmp_path / "tank"), str(tmp_path / "new.parquet")]
    arguments += ["--json", str(tmp_path / "nights" / "1.json")]
    assert run_command(arguments) == code
    kept = json.loads((tmp_path / "nights" / "1.json").read_text())
    assert (kept["verdict"] == "still valid") == (code == 0)
    for lead in kept["horizons"]:
        assert lead["rmse"]["t"] < lead["train_mean"]["t"]
    out = capsys.readouterr().out
    assert ("verdict: still valid" in out) == (code == 0)
    assert "outside the envelope" in out


# -- on the rig


def rig_moves(seed, minutes):
    """Draws an experiment: every actuator and the weather move within one range."""
    rng = np.random.default_rng(seed)
    moves = {}
    for topic, low, high, each in (
        ("vsd1/write", 0.45, 0.9, (6, 16)),
        ("vsd2/write", 0.2, 0.95, (4, 11)),
        ("valve/write", 0.45, 1.0, (5, 14)),
        ("weather/ambient", 15, 29, (10, 20)),
    ):
        minute, moves[topic] = 0.0, {}
        while minute < minutes:
            moves[topic][minute] = round(float(rng.uniform(low, high)), 2)
            minute += round(float(rng.uniform(*each)), 1)
    return moves


def crossed(message):
    """Returns the message with two thermocouples in each other's sockets."""
    if b"tc_hot_out" not in message.payload:
        return message
    tree = json.loads(message.payload)
    tree["tc_hot_out"], tree["tc_cold_out"] = tree["tc_cold_out"], tree["tc_hot_out"]
    return message._replace(payload=json.dumps(tree).encode())


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    """A folder with a model of the rig's tower loop and new recordings of rigs."""
    sys.path.insert(0, str(Path(__file__).parent))
    import lab_experiment

    folder = tmp_path_factory.mktemp("rig")
    before = lab_experiment.MOVES

    def recorded(name, seed, minutes, **parameters):
        lab_experiment.MOVES = rig_moves(seed, minutes)
        return lab_experiment.record_rig(
            folder / f"{name}.parquet",
            seed=seed,
            minutes=minutes,
            start_degc=45.0,
            **parameters,
        )

    try:
        experiment = recorded("experiment", 1, 240)
        same = recorded("same", 2, 120)
        recorded("fouled", 2, 120, ua_hx_w_per_k=1600.0)
    finally:
        lab_experiment.MOVES = before
    signals = load_signals(TOWER)
    found = learn([experiment], signals, period_s=10, budget_s=0.1, holdout=0.3, jobs=1)
    save_model(found, folder / "model")
    with RecordingWriter(folder / "swapped.parquet", journal=False) as writer:
        writer.extend([crossed(message) for message in same.messages()])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recording", "verdict", "code"),
    [("same", "still valid", 0), ("fouled", "wrong", 1), ("swapped", "wrong", 1)],
)
def test_the_rig_is_still_valid_fouled_or_has_its_sensors_swapped(
    rig, capsys, recording, verdict, code
):
    model, file = str(rig / "model"), str(rig / f"{recording}.parquet")
    report = rig / f"{recording}.json"
    assert run_command(["backtest", model, file, "--json", str(report)]) == code
    assert f"verdict: {verdict}" in capsys.readouterr().out
    told = json.loads(report.read_text())
    assert told["verdict"] == verdict
    assert set(told["outputs"]) == {"cold_out_temp", "hot_out_temp", "power"}
    assert told["outside"] < 0.1
