"""One network in place of all members: it steps as written, and runs decide by it."""

import pickle
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from heater_model import heater_model

from playground.errors import FileFormatError, PlaygroundError
from playground.model import save_model
from playground.plants.learned import LearnedPlant
from playground.plants.learned.bank import GIVEN, Bank
from playground.plants.learned.distilled import Distilled, base_of
from playground.plants.learned.envelope import NEIGHBOURS, Envelope
from playground.run import run
from playground.scenario import load_scenario
from playground.testing import check_plant

SETTINGS = {"lags": 2, "given": 3, "filters": [3, 20], "decays": [5, 40]}
ON_A_BASE = {**SETTINGS, "base": {"na": 2, "nb": 3, "memory": 2, "filters": [4.0]}}
FORMS = pytest.mark.parametrize("settings", [SETTINGS, ON_A_BASE])


def arrays_of(settings, *, inputs, outputs, seed=0, units=(5, 4)):
    """Draws a network."""
    rng = np.random.default_rng(seed)
    decays = len(settings["decays"])
    blocks = settings["lags"] + len(settings["filters"])
    width = blocks * inputs + decays * (outputs + 1) + 1

    def drawn(*shape):
        return 0.3 * rng.standard_normal(shape)

    below = {}
    if "base" in settings:
        width += outputs
        told = 2 * outputs + 2 + 4 * inputs + 1
        below = {
            "base.skeleton": 0.3 * drawn(1, told, outputs + 2),
            "base.inner": drawn(1, told, 3),
            "base.outer": drawn(1, 3, outputs + 2),
            "base.opening": drawn(1, told, 2),
        }
    return {
        **below,
        "straight": drawn(width, 2 * outputs),
        "first": drawn(width, units[0]),
        "second": drawn(*units),
        "third": drawn(units[1], 2 * outputs),
        "low": np.full(outputs, -200.0),
        "high": np.full(outputs, 300.0),
    }


def with_fast_form(model, *, default=False, settings=SETTINGS):
    """Adds a network that was taught nothing, and answers somehow."""
    arrays = arrays_of(settings, inputs=len(model.inputs), outputs=len(model.outputs))
    interval = {f"fast {k}": v for k, v in model.parameters.items() if "interval" in k}
    interval["fast interval.spread"] = np.ones(1)
    return replace(
        model,
        history=3,
        parameters={
            **model.parameters,
            **{f"fast.{name}": array for name, array in arrays.items()},
            **interval,
            "start.u": np.zeros((3, len(model.inputs))),
            "start.y": np.full((3, len(model.outputs)), 20.0),
        },
        card={**model.card, "fast": {"settings": settings, "default": default}},
    )


@FORMS
def test_a_step_is_a_network_on_what_a_bank_holds_and_a_base_says(settings):
    settings = {**settings, "given": GIVEN}
    arrays = arrays_of(settings, inputs=2, outputs=2)
    rng = np.random.default_rng(1)
    given = rng.standard_normal((4, 4, 2)), rng.standard_normal((4, 4, 2))
    network = Distilled(settings, arrays)
    bank = Bank(settings["filters"], settings["decays"], inputs=2, outputs=2, lags=2)
    base = base_of(settings, arrays)
    for simulator in (network, bank):
        simulator.begin(*given)
    if base:
        base.begin(*(rows[:, -base.history :] for rows in given))
    for _ in range(40):
        u = rng.standard_normal((4, 2))
        said, x = network.advance(u), bank.with_inputs(u)
        if base:
            x = np.hstack([x[:, :-1], base.advance(u), x[:, -1:]])
        one = np.maximum(x @ arrays["first"], 0.0)
        two = np.maximum(one @ arrays["second"], 0.0)
        both = x @ arrays["straight"] + two @ arrays["third"]
        np.testing.assert_allclose(said, both[:, :2], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(
            network.apart, np.maximum(both[:, 2:], 0.0), rtol=1e-9, atol=1e-12
        )


def test_what_has_faded_is_no_number_that_is_slow_to_multiply():
    network = Distilled(SETTINGS, arrays_of(SETTINGS, inputs=1, outputs=1))
    network.begin(np.zeros((1, 3, 1)), np.full((1, 3, 1), 0.5))
    for _ in range(5000):
        network.advance(np.ones((1, 1)))
    x = network.state()[0]
    assert (np.abs(x[x != 0]) > 1e-200).all()


def test_a_fast_form_of_an_earlier_version_is_refused():
    model = with_fast_form(heater_model(), settings=SETTINGS)
    old = {"na": 3, "nb": 3, "memory": 2, "filters": [3, 20]}
    old_card = {**model.card, "fast": {"settings": old, "default": True}}
    with pytest.raises(FileFormatError, match="earlier version"):
        LearnedPlant(replace(model, card=old_card))
    assert not LearnedPlant(replace(model, card=old_card), fast=False).fast


@FORMS
def test_it_keeps_the_rules_of_every_plant(settings):
    model = with_fast_form(heater_model(), settings=settings)
    check_plant(lambda: LearnedPlant(model, fast=True))


@FORMS
def test_a_batch_answers_as_single_runs_do(settings):
    model = with_fast_form(heater_model(outputs=("tank", "loose")), settings=settings)
    rng = np.random.default_rng(1)
    told = rng.uniform(0, 100, (30, 5, 1))
    batch = LearnedPlant(model, fast=True)
    batch.reset_batch(5)
    together, wide = [], []
    for k, u in enumerate(told):
        together.append(batch.step_batch(5.0 * k, u))
        wide.append(batch.half_widths())
    for number in range(5):
        single = LearnedPlant(model, fast=True)
        single.reset()
        for k, u in enumerate(told[:, number, 0]):
            said = single.step(5.0 * k, {"heater": float(u)})
            np.testing.assert_allclose(
                list(said.values()), together[k][number], rtol=1e-9
            )
            np.testing.assert_allclose(
                single.half_widths()[0], wide[k][number], rtol=1e-9
            )


@FORMS
@pytest.mark.parametrize("way", ["snapshot", "pickle"])
def test_it_goes_on_from_where_it_was(way, settings):
    model = with_fast_form(heater_model(), settings=settings)
    plant = LearnedPlant(model, fast=True)
    for k in range(7):
        plant.step(5.0 * k, {"heater": 10.0 * k})
    moment = plant.snapshot()
    other = pickle.loads(pickle.dumps(plant))
    before = plant.intervals()
    after = [plant.step(5.0 * k, {"heater": 30.0}) for k in range(5)]
    assert len({a["tank"] for a in after}) == 5
    if way == "snapshot":
        plant.restore(moment)
        other = plant
    assert other.intervals() == before
    assert [other.step(5.0 * k, {"heater": 30.0}) for k in range(5)] == after


def test_what_steps_is_what_the_model_says_unless_one_is_named():
    for default in (False, True):
        model = with_fast_form(heater_model(), default=default)
        assert LearnedPlant(model).fast is default
        assert LearnedPlant(model, fast=True).fast
        assert not LearnedPlant(model, fast=False).fast
    # A plain ARX is as fast as a network would be; none is taught.
    assert not LearnedPlant(heater_model(), fast=True).fast
    slow = replace(heater_model(), members=({"family": "reservoir"},))
    with pytest.raises(PlaygroundError, match="no fast form"):
        LearnedPlant(slow, fast=True)


def test_runs_in_the_fast_form_are_equal_and_not_those_of_the_members(tmp_path):
    save_model(with_fast_form(heater_model(), default=True), tmp_path / "model")

    def hash_of(beside, number=0):
        path = tmp_path / "fast.yaml"
        path.write_text(
            f"""\
version: "1.0"
plant: {{model: model{beside}}}
duration: 10min
controllers:
  - schedule: {{command: heater, table: {{0s: 50 %, 5min: 20 %}}}}
checks:
  - always: tank in -100 degC..300 degC
"""
        )
        name = f"out{len(beside)}-{number}"
        result = run(load_scenario(path), out=tmp_path / name)
        assert result.verdict == "pass"
        return result.sha256

    fast = hash_of(", fast: true")
    assert hash_of(", fast: true", 1) == fast == hash_of("")
    assert hash_of(", fast: false") != fast


def test_near_is_the_mean_distance_to_the_nearest_five():
    rng = np.random.default_rng(0)
    states = rng.standard_normal((300, 3))
    envelope = Envelope(
        {
            "low": np.full(3, -9.0),
            "high": np.full(3, 9.0),
            "states": states,
            "reach": np.array([0.5]),
        },
        ("a", "b", "c"),
    )
    asked = 1.3 * rng.standard_normal((400, 3))
    apart = np.sqrt(((asked[:, None] - states) ** 2).sum(axis=2))
    known = np.sort(apart, axis=1)[:, :NEIGHBOURS].mean(axis=1) <= 0.5
    assert 20 < known.sum() < 380
    np.testing.assert_array_equal(envelope.near(asked), known)
