"""A learned plant keeps the promises of every plant."""

import json
import math
import pickle

import numpy as np
import pytest

from playground.bus import LocalBus
from playground.clock import VirtualClock
from playground.errors import FileFormatError, PlaygroundError
from playground.model import Model, save_model
from playground.plants import Plant
from playground.plants.device import Device
from playground.plants.learned import LearnedPlant
from playground.signals import Publication, Signal, Signals
from playground.testing import check_plant

SIGNALS = Signals(
    [
        Signal(
            name="heater",
            topic="lab/heater",
            unit="percent",
            role="command",
            range=(0, 100),
            values={"ON": 100.0, "OFF": 0.0},
        ),
        Signal(
            name="tank",
            topic="lab/state",
            path="tank.t",
            unit="degC",
            role="measurement",
            scale=0.1,
            invalid=("9E9",),
        ),
    ],
    [
        Publication(
            topic="lab/state",
            signals=("tank",),
            period_s=5.0,
            retain=True,
            fields={"device": "7"},
            timestamp="ts",
        )
    ],
)


def made_model(**changes) -> Model:
    settings = {
        "signals": SIGNALS,
        "period_s": 5.0,
        "inputs": ("heater",),
        "outputs": ("tank",),
        "history": 1,
        "members": ({"family": "arx", "na": 1, "nb": 1},),
        "parameters": {
            "scaling.u_mean": np.array([0.0]),
            "scaling.u_std": np.array([1.0]),
            "scaling.y_mean": np.array([20.0]),
            "scaling.y_std": np.array([1.0]),
            "start.u": np.array([[0.0]]),
            "start.y": np.array([[20.0]]),
            "weights": np.array([[1.0]]),
            "envelope.low": np.array([-5.0, -10.0]),
            "envelope.high": np.array([105.0, 70.0]),
            "envelope.states": np.array(
                [[h, t] for h in range(0, 101, 10) for t in range(-10, 71, 5)], float
            ),
            "envelope.reach": np.array([12.0]),
            "interval.floor": np.array([0.5]),
            "interval.factor": np.array([[1.0], [2.0], [3.0]]),
            "interval.spread": np.array([0.0]),
            "0.weights": np.array([[-0.1], [0.2], [0.0]]),
            "0.low": np.array([-100.0]),
            "0.high": np.array([100.0]),
        },
        "card": {
            "errors": [
                {
                    "output": "tank",
                    "unit": "degC",
                    "rmse": 0.5,
                    "persistence": 2.0,
                    "train_mean": 3.0,
                }
            ]
        },
    }
    return Model(**{**settings, **changes})


def test_it_is_a_plant_with_the_signals_of_the_model():
    plant = LearnedPlant(made_model())
    assert isinstance(plant, Plant)
    assert list(plant.signals) == list(SIGNALS)
    assert plant.signals.publications == SIGNALS.publications
    assert plant.period_s == 5.0


def test_it_opens_a_folder(tmp_path):
    save_model(made_model(), tmp_path / "tank")
    assert LearnedPlant(tmp_path / "tank").reset() == {"tank": 20.0}


def test_a_step_is_the_model_by_hand():
    # increment = -0.1 (tank - 20) + 0.2 heater
    plant = LearnedPlant(made_model())
    plant.reset()
    assert plant.step(5.0, {"heater": 10.0}) == {"tank": pytest.approx(22.0)}
    assert plant.step(10.0, {"heater": 0.0}) == {"tank": pytest.approx(21.8)}


def test_an_input_that_is_missing_is_named():
    plant = LearnedPlant(made_model())
    with pytest.raises(PlaygroundError, match="'heater'") as caught:
        plant.step(5.0, {"heatre": 1.0})
    assert "Did you mean 'heatre'?" in str(caught.value)


def test_reset_starts_the_same_run_again():
    plant = LearnedPlant(made_model())
    runs = []
    for _ in range(2):
        plant.reset(seed=3)
        runs.append([plant.step(k * 5.0, {"heater": k % 7}) for k in range(50)])
    assert runs[0] == runs[1]


def test_a_snapshot_is_the_moment_and_not_what_came_after():
    plant = LearnedPlant(made_model())
    plant.reset()
    plant.step(5.0, {"heater": 3.0})
    moment = plant.snapshot()
    after = [plant.step(5.0 * k, {"heater": 2.0}) for k in range(5)]
    plant.restore(moment)
    assert [plant.step(5.0 * k, {"heater": 2.0}) for k in range(5)] == after
    plant.restore(moment)
    assert [plant.step(5.0 * k, {"heater": 2.0}) for k in range(5)] == after


def test_a_pickled_plant_goes_on_where_it_was():
    plant = LearnedPlant(made_model())
    plant.step(5.0, {"heater": 3.0})
    other = pickle.loads(pickle.dumps(plant))
    assert other.step(10.0, {"heater": 1.0}) == plant.step(10.0, {"heater": 1.0})


def test_a_batch_answers_as_single_runs_do():
    rng = np.random.default_rng(1)
    inputs = rng.uniform(0, 100, (20, 6, 1))
    batch = LearnedPlant(made_model())
    batch.reset_batch(6)
    together = np.stack([batch.step_batch(5.0 * k, u) for k, u in enumerate(inputs)])
    for run in range(6):
        single = LearnedPlant(made_model())
        single.reset()
        for k, u in enumerate(inputs[:, run, 0]):
            said = single.step(5.0 * k, {"heater": float(u)})["tank"]
            assert said == pytest.approx(together[k, run, 0], rel=1e-12)


def test_outputs_stay_within_their_limits_whatever_the_inputs():
    plant = LearnedPlant(made_model())
    for heater in (1e9, -1e9, 1e300):
        plant.reset()
        said = [plant.step(5.0 * k, {"heater": heater})["tank"] for k in range(20)]
        assert all(math.isfinite(v) and -80.0 <= v <= 120.0 for v in said)


def test_an_input_without_initial_value_begins_as_in_the_recording():
    model = made_model()
    model = made_model(parameters={**model.parameters, "start.u": np.array([[37.0]])})
    assert LearnedPlant(model).signals["heater"].initial == 37.0


def test_on_a_bus_it_says_what_the_real_one_said():
    clock = VirtualClock()
    bus = LocalBus(clock)
    heard = []
    bus.connect("ear", heard.append).subscribe("lab/state")
    Device(LearnedPlant(made_model()), bus, clock)
    clock.run(until=10.5)
    assert [m.topic for m in heard] == ["lab/state"] * 3
    assert json.loads(heard[0].payload) == {
        "ts": clock.start_ns / 1e9,
        "device": "7",
        "tank": {"t": 200.0},
    }


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"members": ({"family": "oracle"},)}, "oracle"),
        ({"parameters": {"0.low": np.zeros(1)}}, "no parameter 'scaling.u_mean'"),
    ],
)
def test_a_model_it_cannot_step_is_refused(changes, named):
    with pytest.raises(FileFormatError, match=named):
        LearnedPlant(made_model(**changes))


def test_a_step_outside_the_range_of_the_training_data_is_said_with_its_signal():
    plant = LearnedPlant(made_model())
    plant.reset()
    assert plant.in_envelope
    plant.step(5.0, {"heater": 50.0})
    assert plant.in_envelope
    plant.step(10.0, {"heater": 150.0})
    assert not plant.in_envelope
    plant.step(15.0, {"heater": 20.0})
    assert plant.in_envelope
    seen = plant.departures
    assert (seen.steps, seen.outside, seen.first_s) == (3, 1, 10.0)
    assert dict(seen.signals) == {"heater": 1}


def test_an_unseen_combination_is_outside_although_each_signal_is_in_range():
    model = made_model()
    states = np.array([[h, 0.5 * h] for h in np.linspace(0, 100, 60)])
    parameters = {
        **model.parameters,
        "envelope.states": states,
        "envelope.reach": np.array([5.0]),
    }
    plant = LearnedPlant(made_model(parameters=parameters))
    plant.begin(np.array([[[0.0]]]), np.array([[[20.0]]]))
    plant.step(5.0, {"heater": 100.0})
    assert not plant.in_envelope
    assert dict(plant.departures.signals) == {"the combination of all signals": 1}


def with_rates(**changes):
    model = made_model()
    rates = {"envelope.rate": np.array([30.0, 50.0])}
    return LearnedPlant(made_model(parameters={**model.parameters, **rates, **changes}))


def test_a_jump_that_was_never_seen_is_outside_although_both_ends_are_known():
    plant = with_rates()
    plant.reset()
    inside = []
    for step, heat in enumerate([20.0, 50.0, 90.0, 90.0, 61.0]):
        plant.step(5.0 * (step + 1), {"heater": heat})
        inside.append(plant.in_envelope)
    assert inside == [True, True, False, True, True]
    seen = plant.departures
    assert (seen.steps, seen.outside, seen.first_s) == (5, 1, 15.0)
    assert dict(seen.signals) == {"the rate of heater": 1}


def test_an_output_that_moves_faster_than_it_ever_did_is_outside_too():
    plant = with_rates(**{"envelope.rate": np.array([np.inf, 3.0])})
    plant.reset()
    plant.step(5.0, {"heater": 100.0})
    assert dict(plant.departures.signals) == {"the rate of tank": 1}


def test_rates_are_counted_from_step_to_step_however_often_one_looks():
    drawn = np.random.default_rng(0).uniform(0.0, 20.0, 200)
    rates = {"envelope.rate": np.array([8.0, 50.0])}
    often, once = with_rates(**rates), with_rates(**rates)
    for plant in (often, once):
        plant.reset()
        for step, heat in enumerate(drawn):
            plant.step(5.0 * (step + 1), {"heater": heat})
            if plant is often:
                assert plant.departures.outside >= 0
                plant.restore(plant.snapshot())
    expected = int((np.abs(np.diff(drawn, prepend=0.0)) > 8.0).sum())
    assert often.departures == once.departures
    assert once.departures.outside == expected
    assert often.in_envelope == once.in_envelope


def test_intervals_widen_with_the_time_since_the_start():
    plant = LearnedPlant(made_model())
    plant.reset()
    widths = []
    for step in range(1, 9):
        middle = plant.step(5.0 * step, {"heater": 10.0})["tank"]
        low, high = plant.intervals()["tank"]
        assert low + high == pytest.approx(2 * middle)
        widths.append((high - low) / 2)
    # Measured at 1, 2 and 4 steps; in between they go with the logarithm.
    between = 1 + 0.5 * math.log2(3 / 2)
    assert widths == pytest.approx([0.5, 1, between, 1.5, 1.5, 1.5, 1.5, 1.5])


def test_an_input_that_is_no_number_stays_as_it_was():
    plant, other = LearnedPlant(made_model()), LearnedPlant(made_model())
    plant.step(5.0, {"heater": 10.0})
    other.step(5.0, {"heater": 10.0})
    said = plant.step(10.0, {"heater": math.nan})
    assert said == other.step(10.0, {"heater": 10.0})


def test_outputs_marked_unusable_in_the_card_are_named():
    assert LearnedPlant(made_model()).unusable == ()
    marked = made_model(card={"unusable": ["tank"], "errors": []})
    assert LearnedPlant(marked).unusable == ("tank",)


def test_it_keeps_the_rules_of_every_plant():
    check_plant(lambda: LearnedPlant(made_model()))
