"""A model from elsewhere whose hashes fit and whose parts do not."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from heater_model import heater_model
from test_learned_plant_fast import with_fast_form

from playground.cli import _run as run_command
from playground.errors import FileFormatError
from playground.model import _content_hash, load_model, save_model
from playground.plants.learned import LearnedPlant
from playground.plants.learned.families import FAMILIES
from playground.signals import Signals

RUN = """\
name: foreign
plant: {model: foreign}
duration: 1min
checks:
  - tank < 100 degC
"""


def changed(**parameters):
    """The heater with other parameters; None takes one away."""
    model = heater_model()
    arrays = {**model.parameters}
    for name, array in parameters.items():
        if array is None:
            del arrays[name]
        else:
            arrays[name] = array
    return replace(model, parameters=arrays)


def fast(**arrays):
    model = with_fast_form(heater_model(), default=True)
    return replace(model, parameters={**model.parameters, **arrays})


WRONG = {
    "no members": (lambda: replace(heater_model(), members=()), "no members"),
    "no inputs": (lambda: replace(heater_model(), inputs=()), "no inputs"),
    "unknown input": (lambda: replace(heater_model(), inputs=("x",)), "'x' is no comm"),
    "an output as input": (
        lambda: replace(heater_model(), inputs=("tank",)),
        "'tank' is no command",
    ),
    "no signals": (lambda: replace(heater_model(), signals=Signals([])), "'heater' is"),
    "no time": (lambda: replace(heater_model(), period_s=0.0), "takes 0 s"),
    "no number of seconds": (
        lambda: replace(heater_model(), period_s=math.nan),
        "takes nan s",
    ),
    "family": (
        lambda: replace(heater_model(), members=({"family": "oracle"},)),
        "'oracle', which is not known",
    ),
    "no family": (lambda: replace(heater_model(), members=({},)), "'None'"),
    "settings": (
        lambda: replace(heater_model(), members=({"family": "arx"},)),
        "Member 0 of the model has no 'na'",
    ),
    "settings of another kind": (
        lambda: replace(
            heater_model(), members=({"family": "arx", "na": 1, "nb": []},)
        ),
        "Member 0 of the model does not fit",
    ),
    "nothing to look at": (
        lambda: replace(heater_model(), members=({"family": "arx", "na": 1, "nb": 0},)),
        "Member 0 of the model does not fit",
    ),
    "too long a past": (
        lambda: replace(heater_model(), members=({"family": "arx", "na": 9, "nb": 1},)),
        "Member 0 of the model does not fit",
    ),
    "an array is missing": (lambda: changed(**{"0.low": None}), "has no 'low'"),
    "weights of a member": (
        lambda: changed(**{"0.weights": np.ones((7, 2))}),
        "Member 0 of the model",
    ),
    "weights for two inputs": (
        lambda: changed(**{"0.weights": np.ones((4, 1))}),
        r"does not fit its 1 inputs and 1 outputs \(it is made for 2\)",
    ),
    "no weights of a member": (
        lambda: changed(**{"0.weights": np.ones(())}),
        "Member 0 of the model does not fit",
    ),
    "weights that are no numbers": (
        lambda: changed(**{"0.weights": np.full((3, 1), np.nan)}),
        "no numbers",
    ),
    "limits of a member": (
        lambda: changed(**{"0.low": np.zeros(4), "0.high": np.zeros(4)}),
        "Member 0 of the model",
    ),
    "a parameter is missing": (
        lambda: changed(**{"interval.floor": None}),
        "no parameter 'interval.floor'",
    ),
    "a spread of nothing": (
        lambda: changed(**{"scaling.u_std": np.zeros(1)}),
        "'scaling.u_std' of the model has values that are not above 0",
    ),
    "a mean that is no number": (
        lambda: changed(**{"scaling.y_mean": np.array([np.nan])}),
        "'scaling.y_mean' of the model has values that are not numbers",
    ),
    "a reach beyond all squares": (
        lambda: changed(**{"envelope.reach": np.array([1e300])}),
        "'envelope.reach' of the model has values that are not numbers below 1e",
    ),
    "a network": (lambda: fast(**{"fast.second": np.ones((3, 9))}), "The fast form of"),
    "a network of other inputs": (
        lambda: fast(
            **{"fast.straight": np.ones((2, 2)), "fast.first": np.ones((2, 5))}
        ),
        "The fast form of",
    ),
    "a network with a row more": (
        lambda: fast(
            **{
                f"fast.{name}": np.vstack([fast().parameters[f"fast.{name}"], row])
                for name, row in (("straight", np.ones(2)), ("first", np.ones(5)))
            }
        ),
        "its rows fit no number of inputs",
    ),
    "a network below that no settings name": (
        lambda: fast(**{"fast.base.skeleton": np.ones((1, 4, 1))}),
        "its rows fit no number of inputs",
    ),
    "a network without settings": (
        lambda: replace(fast(), card={"fast": {"default": True}}),
        "no settings",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_a_mistake_of_the_file(name):
    make, said = WRONG[name]
    with pytest.raises(FileFormatError, match=said):
        LearnedPlant(make())


@pytest.mark.parametrize(
    "name",
    [name for name in heater_model().parameters if not name.startswith("0.")]
    + ["median", "envelope.rate"],
)
@pytest.mark.parametrize("shape", [(), (5,), (0, 3), (2, 7), (1, 1, 1)])
def test_a_parameter_of_another_shape_is_named(name, shape):
    with pytest.raises(FileFormatError, match=f"parameter '{name}'"):
        LearnedPlant(changed(**{name: np.ones(shape)}))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_says_what_it_lacks(family):
    model = replace(heater_model(), members=({"family": family},))
    with pytest.raises(FileFormatError, match="Member 0 of the model has no "):
        LearnedPlant(model)


@pytest.mark.parametrize("name", ["no members", "weights of a member", "a network"])
def test_a_run_says_so_without_a_traceback(tmp_path, capsys, monkeypatch, name):
    make, said = WRONG[name]
    monkeypatch.chdir(tmp_path)
    save_model(make(), "foreign")
    Path("foreign.yaml").write_text(RUN)
    assert run_command(["run", "foreign.yaml"]) == 2
    written = capsys.readouterr().err
    assert said in written
    assert "Traceback" not in written


@pytest.mark.parametrize(
    "card",
    [
        [],
        {"fast": True},
        {"errors": [{"output": "tank"}]},
        {"errors": 3},
        {"step_responses": [{"output": "tank", "gain": "up"}]},
        {"unusable": 1},
    ],
)
def test_a_card_that_cannot_be_read_is_refused_with_the_model(tmp_path, card):
    save_model(heater_model(), tmp_path / "foreign")
    path = tmp_path / "foreign" / "model.json"
    document = {**json.loads(path.read_text()), "card": card}
    document["sha256"]["content"] = _content_hash(document)
    path.write_text(json.dumps(document))
    with pytest.raises(FileFormatError, match="its content is not one"):
        load_model(tmp_path / "foreign")
