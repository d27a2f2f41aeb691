"""Many runs at once are what so many single runs are."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from heated_tank import HeatedTank as Tank
from heater_model import heater_model

from playground.errors import PlaygroundError
from playground.plants.batch import Batch, OneByOne, batched
from playground.plants.boptest_testcase1 import SimpleRC
from playground.plants.house import House
from playground.plants.lab_rig import LabRig
from playground.plants.learned import LearnedPlant
from playground.testing import check_plant, random_inputs


class HeatedTank(Tank):
    """The tank with what a conformant plant needs besides."""

    def snapshot(self):
        return self.temp

    def restore(self, snapshot):
        self.temp = snapshot


class Biased(HeatedTank):
    inputs, outputs = ("heater", "room"), ("temp", "power")

    def reset_batch(self, runs, *, seed=0):
        self.one = OneByOne(HeatedTank())
        return self.one.reset_batch(runs, seed=seed)

    def step_batch(self, now, inputs):
        return self.one.step_batch(now, inputs) + np.array([0.01, 0.0])


class Forgetful(HeatedTank):
    def reset(self, *, seed=0):
        self.heat = 0.0
        return super().reset(seed=seed)

    def step(self, now, inputs):
        self.heat += 0.5 * (inputs["heater"] - self.heat)
        return super().step(now, {**inputs, "heater": self.heat})


PLANTS = {
    "rig": LabRig,
    "rig without noise": lambda: LabRig(noise=False, period_s=5.0),
    "house": House,
    "testcase1": SimpleRC,
    "learned": lambda: LearnedPlant(heater_model()),
}


@pytest.mark.parametrize("name", PLANTS)
def test_each_run_of_a_batch_is_the_single_run_of_its_seed(name):
    batch = batched(PLANTS[name]())
    assert isinstance(batch, Batch)
    runs, steps = 3, 40
    single = PLANTS[name]()
    drawn = [random_inputs(single.signals, steps, seed) for seed in range(runs)]
    said = [batch.reset_batch(runs, seed=5)]
    for k in range(steps):
        rows = [[d[k][n] for n in batch.inputs] for d in drawn]
        said.append(batch.step_batch((k + 1) * batch.period_s, np.array(rows)))
    for run in range(runs):
        alone = [single.reset(seed=5 + run)]
        alone += [
            single.step((k + 1) * single.period_s, drawn[run][k]) for k in range(steps)
        ]
        expected = [[one[n] for n in batch.outputs] for one in alone]
        got = [rows[run] for rows in said]
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


def test_a_learned_plant_is_its_own_batch_and_others_go_one_by_one():
    plant = LearnedPlant(heater_model())
    assert batched(plant) is plant
    assert isinstance(batched(LabRig()), OneByOne)


def test_what_is_not_a_number_leaves_an_input_as_it_was():
    batch = batched(HeatedTank())
    batch.reset_batch(2)
    first = batch.step_batch(1.0, np.array([[1.0, 20.0], [1.0, 20.0]]))
    again = batch.step_batch(2.0, np.array([[np.nan, 20.0], [0.0, np.nan]]))
    power = batch.outputs.index("power")
    assert first[:, power].tolist() == [10.0, 10.0]
    assert again[:, power].tolist() == [10.0, 0.0]


def test_inputs_of_another_shape_are_refused_with_the_names_of_the_columns():
    batch = batched(HeatedTank())
    batch.reset_batch(2)
    with pytest.raises(PlaygroundError, match=r"2 × 2: heater, room"):
        batch.step_batch(1.0, np.zeros((3, 2)))


def test_check_plant_finds_a_batch_that_is_not_the_single_run():
    with pytest.raises(AssertionError, match=r"run 0 of a batch.*temp"):
        check_plant(Biased)


def test_check_plant_finds_a_snapshot_that_forgets_part_of_the_plant():
    with pytest.raises(AssertionError, match="after it was restored"):
        check_plant(Forgetful)


@pytest.mark.parametrize("name", ["rig", "testcase1", "learned"])
def test_check_plant_asks_for_batches_too(name):
    check_plant(PLANTS[name], steps=40)
