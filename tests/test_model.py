"""A learned plant on disk: what is written comes back, and nothing else does."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from playground.errors import FileFormatError, PlaygroundError
from playground.model import DOCUMENT, PARAMETERS, Model, load_model, save_model
from playground.signals import Publication, Signal, Signals

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


def test_what_is_written_comes_back(tmp_path):
    save_model(made_model(), tmp_path / "tank")
    model = load_model(tmp_path / "tank")
    assert dict(model.signals) == dict(SIGNALS)
    assert model.signals.publications == SIGNALS.publications
    assert (model.period_s, model.inputs, model.outputs, model.history) == (
        5.0,
        ("heater",),
        ("tank",),
        1,
    )
    assert model.members == made_model().members
    assert model.card == made_model().card
    assert sorted(model.parameters) == sorted(made_model().parameters)
    for name, array in made_model().parameters.items():
        np.testing.assert_array_equal(model.parameters[name], array)
    assert sorted(model.part(0)) == ["high", "low", "weights"]


def test_how_signals_become_rows_comes_back_where_it_was_declared(tmp_path):
    said = {"max_age": "30min", "resample": "last", "stamp": "ts"}
    tank = dataclasses.replace(SIGNALS["tank"], **said)
    signals = Signals([SIGNALS["heater"], tank], SIGNALS.publications)
    save_model(made_model(signals=signals), tmp_path / "tank")
    assert load_model(tmp_path / "tank").signals["tank"] == tank
    save_model(made_model(), tmp_path / "bare")
    document = json.loads((tmp_path / "bare" / "model.json").read_text())
    assert not said.keys() & document["signals"]["signals"][1].keys()


def test_the_same_model_written_twice_has_the_same_hashes(tmp_path):
    backwards = dict(reversed(made_model().parameters.items()))
    first = save_model(made_model(), tmp_path / "a")
    second = save_model(made_model(parameters=backwards), tmp_path / "b")
    assert first == second
    assert set(first) == {DOCUMENT, PARAMETERS}


def test_it_describes_itself(tmp_path):
    said = made_model().describe()
    assert "arx; 5 s per step" in said
    assert "tank: RMSE 0.5 degC in free run (persistence 2, train mean 3)" in said


@pytest.mark.parametrize("name", [DOCUMENT, PARAMETERS])
def test_a_single_changed_byte_is_found(tmp_path, name):
    save_model(made_model(), tmp_path / "tank")
    path = tmp_path / "tank" / name
    data = bytearray(path.read_bytes())
    if name == DOCUMENT:
        data = bytearray(data.replace(b'"period_s": 5.0', b'"period_s": 6.0'))
    else:
        data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match="changed"):
        load_model(tmp_path / "tank")


def test_a_file_cut_short_is_found(tmp_path):
    save_model(made_model(), tmp_path / "tank")
    path = tmp_path / "tank" / PARAMETERS
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FileFormatError, match="cut"):
        load_model(tmp_path / "tank")


def test_a_newer_format_is_refused_by_its_version(tmp_path):
    save_model(made_model(), tmp_path / "tank")
    path = tmp_path / "tank" / DOCUMENT
    document = json.loads(path.read_text())
    document["format_version"] = 99
    path.write_text(json.dumps(document))
    with pytest.raises(FileFormatError, match="version 99"):
        load_model(tmp_path / "tank")


@pytest.mark.parametrize("text", ["{}", "[1, 2]", '{"format": "other"}', "nonsense"])
def test_a_foreign_document_is_refused(tmp_path, text):
    (tmp_path / DOCUMENT).write_text(text)
    with pytest.raises(FileFormatError, match=r"not a model|not JSON"):
        load_model(tmp_path)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileFormatError, match="no model folder"):
        load_model(tmp_path / "absent")
    save_model(made_model(), tmp_path / "tank")
    (tmp_path / "tank" / PARAMETERS).unlink()
    with pytest.raises(FileFormatError, match=r"parameters\.npz"):
        load_model(tmp_path / "tank")


def test_a_pickle_inside_the_parameters_is_not_loaded(tmp_path):
    save_model(made_model(), tmp_path / "tank")
    np.savez(tmp_path / "evil.npz", thing=np.array([{"a": 1}], dtype=object))
    shutil.move(tmp_path / "evil.npz", tmp_path / "tank" / PARAMETERS)
    with pytest.raises(FileFormatError):
        load_model(tmp_path / "tank")


def test_a_model_is_replaced_only_when_asked(tmp_path):
    save_model(made_model(), tmp_path / "tank")
    with pytest.raises(PlaygroundError, match="holds a model already"):
        save_model(made_model(period_s=7.0), tmp_path / "tank")
    assert load_model(tmp_path / "tank").period_s == 5.0
    save_model(made_model(period_s=7.0), tmp_path / "tank", overwrite=True)
    assert load_model(tmp_path / "tank").period_s == 7.0
    assert [p.name for p in tmp_path.iterdir()] == ["tank"]


def test_a_folder_that_is_no_model_is_never_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "only-copy.txt").write_text("years of work")
    with pytest.raises(PlaygroundError, match="is not a model"):
        save_model(made_model(), tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "only-copy.txt").read_text() == "years of work"


def test_nothing_half_written_stays_when_writing_fails(tmp_path):
    broken = made_model(card={"errors": object()})
    with pytest.raises(TypeError):
        save_model(broken, tmp_path / "tank")
    assert list(tmp_path.iterdir()) == []
