"""How fast learned plants step, and a short form of the table of tasks."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from plants_table import DATA, TASKS, print_task

from playground.learn import Segment, learn_segments
from playground.plants.learned import LearnedPlant
from playground.signals import Signal, Signals

SIGNALS = Signals(
    [
        Signal(name="q", topic="q", unit="percent", role="command"),
        Signal(name="t", topic="t", unit="degC", role="measurement"),
    ]
)


def tank(rows=600):
    rng = np.random.default_rng(0)
    q = np.repeat(rng.uniform(0, 100, rows // 20), 20)
    t, said = 30.0, []
    for power in q:
        t += 0.08 * (20 + 0.5 * power - t)
        said.append(t)
    y = np.array(said)[:, None] + 0.1 * rng.standard_normal((len(q), 1))
    return Segment(t0=0.0, dt=5.0, u=q[:, None], y=y, inputs=("q",), outputs=("t",))


@pytest.fixture(scope="module", params=[0.01, 3.0], ids=["arx alone", "several"])
def plant(request):
    model = learn_segments([tank()], SIGNALS, budget_s=request.param)
    return LearnedPlant(model)


def test_single_steps(benchmark, plant):
    plant.reset()
    inputs = {"q": 40.0}

    def steps():
        for k in range(200):
            plant.step(5.0 * k, inputs)

    benchmark(steps)
    if benchmark.stats is not None:
        rate = 200 / benchmark.stats["min"]
        print(f"\n{len(plant.model.members)} members: {rate:,.0f} steps/s, single")


def test_steps_of_a_thousand_runs_at_once(benchmark, plant):
    plant.reset_batch(1000)
    u = np.full((1000, 1), 40.0)
    benchmark(lambda: plant.step_batch(0.0, u))
    if benchmark.stats is not None:
        rate = 1000 / benchmark.stats["min"]
        print(f"\n{len(plant.model.members)} members: {rate:,.0f} steps/s, batch")


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not on this machine")
@pytest.mark.slow
def test_the_temperature_lab_in_a_few_seconds():
    budget = float(os.environ.get("PLAYGROUND_BENCH_BUDGET_S", "1"))
    task = TASKS["tclab"]()
    model = learn_segments(task.train, task.signals, holdout=0.0, budget_s=budget)
    plant = LearnedPlant(model)
    table = print_task(task, plant, budget)
    errors, outside, _ = table["prbs"]
    assert all(e.rmse < 0.5 * e.persistence for e in errors)
    assert outside < 0.6
    for name in ("closed loop 0", "closed loop 4"):
        # Far outside the training range: said so, whatever the error.
        assert table[name][1] > 0.8
