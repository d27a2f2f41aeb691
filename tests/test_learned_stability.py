"""A learned plant stays bounded, whatever admissible inputs do to it."""

import os
from pathlib import Path

import numpy as np
import pytest

from playground.learn import learn_segments
from playground.learn.card import limits_of
from playground.learn.dataset import Segment
from playground.plants.learned import LearnedPlant
from playground.signals import Signal, Signals

ROOT = Path(__file__).parent.parent
SHIPPED = sorted(p.parent.name for p in (ROOT / "models").glob("*/model.json"))


def driven(plant, *, runs, steps):
    """Moves every input at random within its range seen; yields the outputs."""
    rng = np.random.default_rng(5)
    count = len(plant.inputs)
    low = plant.model.parameters["envelope.low"][:count]
    high = plant.model.parameters["envelope.high"][:count]
    low = low * plant.scaling.u_std + plant.scaling.u_mean
    high = high * plant.scaling.u_std + plant.scaling.u_mean
    plant.reset_batch(runs)
    u = rng.uniform(low, high, (runs, count))
    for row in range(steps):
        # From a new value at each step to one that stands for long.
        anew = rng.random((runs, 1)) < np.geomspace(0.002, 1.0, runs)[:, None]
        u = np.where(anew, rng.uniform(low, high, (runs, count)), u)
        yield plant.step_batch((row + 1) * plant.period_s, u)


def check_bounded(plant, *, runs, steps):
    low, high = limits_of(plant)
    margin = 1e-6 * (high - low)
    at_limit = np.zeros(len(plant.outputs))
    for y in driven(plant, runs=runs, steps=steps):
        assert np.isfinite(y).all()
        assert ((y >= low - margin) & (y <= high + margin)).all()
        at_limit += ((y <= low + margin) | (y >= high - margin)).mean(axis=0)
    # A plant that ran away would sit at its limits.
    assert (at_limit / steps < 0.2).all(), dict(
        zip(plant.outputs, at_limit / steps, strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_a_million_steps_of_random_inputs_stay_bounded(name):
    """A million with `make soak`, two hundred thousand otherwise."""
    steps = 2000 if os.environ.get("PLAYGROUND_BENCH") == "full" else 400
    check_bounded(LearnedPlant(ROOT / "models" / name), runs=500, steps=steps)


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
    check_bounded(plant, runs=100, steps=1000)
