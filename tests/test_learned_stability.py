"""A learned plant stays bounded, whatever admissible inputs do to it."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from test_learn_families import SMALL, made_segments
from test_learn_fast_form import _short_training, learned  # noqa: F401 - a fixture
from test_learn_hybrid import ARX, below, room, scaled

from playground.learn import fast_form, grey_box, learn_segments, members, network
from playground.learn.candidates import HISTORY, tried
from playground.learn.card import limits_of
from playground.learn.dataset import Segment
from playground.learn.folds import folds_of
from playground.plants.learned import LearnedPlant
from playground.plants.learned.distilled import Distilled
from playground.plants.learned.families import FAMILIES
from playground.signals import Signal, Signals

ROOT = Path(__file__).parent.parent
FULL = os.environ.get("PLAYGROUND_BENCH") == "full"
"""As with ``make soak``: a million steps each."""
SHIPPED = sorted(p.parent.name for p in (ROOT / "models").glob("*/model.json"))


def inputs_at_random(low, high, *, runs, steps):
    """Yields what moves every input at random within its range seen."""
    rng = np.random.default_rng(5)
    u = rng.uniform(low, high, (runs, len(low)))
    for _ in range(steps):
        # From a new value at each step to one that stands for long.
        anew = rng.random((runs, 1)) < np.geomspace(0.002, 1.0, runs)[:, None]
        u = np.where(anew, rng.uniform(low, high, u.shape), u)
        yield u


def check_bounded(step, inputs, low, high, outputs):
    """Steps on all inputs; no answer may leave its limits, or sit at them."""
    margin = 1e-6 * (high - low)
    at_limit = []
    for row, u in enumerate(inputs):
        y = step(row, u)
        assert np.isfinite(y).all()
        assert ((y >= low - margin) & (y <= high + margin)).all()
        at_limit.append(((y <= low + margin) | (y >= high - margin)).mean(axis=0))
    # A plant that ran away would sit at its limits.
    shares = np.mean(at_limit, axis=0)
    assert (shares < 0.2).all(), dict(zip(outputs, shares, strict=True))


def check_plant_is_bounded(plant, *, runs, steps):
    count = len(plant.inputs)
    seen = (
        plant.model.parameters[f"envelope.{end}"][:count] * plant.scaling.u_std
        + plant.scaling.u_mean
        for end in ("low", "high")
    )
    plant.reset_batch(runs)
    check_bounded(
        lambda row, u: plant.step_batch((row + 1) * plant.period_s, u),
        inputs_at_random(*seen, runs=runs, steps=steps),
        *limits_of(plant),
        plant.outputs,
    )


def check_simulator_is_bounded(simulator, folds, *, low, high, runs, steps):
    block = next(b for fold in folds for b in fold)
    u = np.vstack([b.u for fold in folds for b in fold])
    simulator.begin(
        np.repeat(block.u[None, HISTORY - simulator.history : HISTORY], runs, 0),
        np.repeat(block.y[None, HISTORY - simulator.history : HISTORY], runs, 0),
    )
    check_bounded(
        lambda _, u: simulator.advance(u),
        inputs_at_random(u.min(axis=0), u.max(axis=0), runs=runs, steps=steps),
        low,
        high,
        block.outputs,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_a_million_steps_of_random_inputs_stay_bounded(name):
    """A million with `make soak`, two hundred thousand otherwise."""
    plant = LearnedPlant(ROOT / "models" / name)
    check_plant_is_bounded(plant, runs=500, steps=2000 if FULL else 400)


@pytest.mark.parametrize("family", [*FAMILIES, "hybrid on a plant"])
def test_every_family_stays_bounded(family, monkeypatch):
    stages = (network.Stage(horizon=20, rounds=40, rate=3e-3),)
    monkeypatch.setattr(network, "STAGES", stages)
    monkeypatch.setattr(grey_box, "STAGES", ((20, 3), (60, 4)))
    if family in FAMILIES:
        folds, settings = folds_of(made_segments()), SMALL[family]
    else:
        segment = room(gain=0.3, capacity=2e6)
        folds, family = folds_of([scaled(segment)]), "hybrid"
        settings = {"base": below(segment), "learned": ARX, "way": "residual"}
    low, high = np.full(2, -5.0), np.full(2, 5.0)
    candidate = tried(family, settings, folds, low=low, high=high)
    simulator = FAMILIES[family](settings, candidate.parameters)
    runs, steps = (500, 2000) if FULL else (100, 100)
    check_simulator_is_bounded(
        simulator, folds, low=low, high=high, runs=runs, steps=steps
    )


@pytest.mark.slow
@pytest.mark.skipif(not FULL, reason="teaches a network for longer: make soak")
@pytest.mark.parametrize("form", ["members", "network"])
def test_members_together_and_the_network_they_taught_stay_bounded(form):
    candidates, chosen, folds, known = learned(["arx", "reservoir", "network"])
    assert len(chosen.members) > 1
    limits = {"low": np.full(2, -3.0), "high": np.full(2, 3.0)}
    simulator = members.Members(chosen)
    if form == "network":
        arrays, about, _ = fast_form.fast_form(
            candidates, chosen, folds, **known, **limits, rows=4000, seed=0
        )
        assert "base" in about["settings"]
        simulator = Distilled(about["settings"], arrays)
    check_simulator_is_bounded(simulator, folds, **limits, runs=500, steps=2000)


@pytest.mark.parametrize("pole", [0.9, 0.99])
def test_what_is_learned_from_a_slow_plant_stays_bounded(pole):
    rng = np.random.default_rng(0)
    u = np.repeat(rng.normal(size=(40, 1)), 20, axis=0)
    y = np.zeros((800, 1))
    for k in range(1, 800):
        y[k] = pole * y[k - 1] + (1 - pole) * u[k]
    y += 0.1 * y.std() * rng.standard_normal(y.shape)
    signals = Signals(
        [
            Signal(name="u", topic="u", unit="1", role="command"),
            Signal(name="y", topic="y", unit="1", role="measurement"),
        ]
    )
    segment = Segment(t0=0.0, dt=1.0, u=u, y=y, inputs=("u",), outputs=("y",))
    plant = LearnedPlant(learn_segments([segment], signals, budget_s=0.5))
    check_plant_is_bounded(plant, runs=100, steps=1000)
