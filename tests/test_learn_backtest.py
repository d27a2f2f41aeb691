"""A learned plant against a new recording: still valid, or not."""

import json

import numpy as np
import pytest

from playground.cli import _run as run_command
from playground.learn import Segment, learn_segments
from playground.learn.backtest import backtest
from playground.message import Message
from playground.model import save_model
from playground.plants.learned import LearnedPlant
from playground.recording import RecordingWriter
from playground.signals import Signal, Signals

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
    assert run_command(arguments) == code
    out = capsys.readouterr().out
    assert ("verdict: still valid" in out) == (code == 0)
    assert "outside the envelope" in out
