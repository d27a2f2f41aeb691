"""Compartments with physical signs: found again, bounded, and told what they are."""

import numpy as np
import pytest

from playground.learn import grey_box
from playground.learn.dataset import Segment
from playground.learn.folds import blocks_free_run, folds_of
from playground.plants.learned.grey_box import GIVEN, GreyBox
from playground.plants.learned.simulator import Scaling, free_run
from playground.signals import Signal, Signals

# A pipe (out) is fed from an inlet by a flow, and loses to a room (wall) that is heated.
SETTINGS = {
    "inputs": ["temperature", "other", "power"],
    "outputs": ["temperature", "temperature", "other"],
    "u_scale": [1.0, 0.3, 0.3],
    "u_offset": [0.0, 0.9, 0.9],
    "y_scale": [1.0, 1.0, 0.3],
    "y_offset": [0.0, 0.0, 0.9],
    "signs": [[0, 0, 1], [0, 0, 1], [0, 0, 1]],
    "hidden": False,
}
WIDE = {"low": np.full(3, -20.0), "high": np.full(3, 20.0)}


def known_plant():
    """Columns of g: 1, flow, power, lagging output; of X: out, wall, inlet."""
    coupling = np.zeros((4, 3, 2))
    coupling[1, 2, 0] = 0.3  # flow carries the inlet into the pipe
    coupling[0, 1, 0] = 0.05
    coupling[0, 0, 1] = 0.02
    surroundings, gain = np.zeros((4, 2)), np.zeros((4, 2))
    surroundings[0, 1] = 0.03
    gain[2, 1] = 0.04
    lag = np.zeros((1 + 2 + 1 + 3 + 2, 1))
    lag[[0, 1]] = [[-2.0], [2.5]]
    return {
        **{n: np.array(SETTINGS[n]) for n in SETTINGS if n[:2] in ("u_", "y_")},
        "coupling": coupling,
        "surroundings": surroundings,
        "gain": gain,
        "lag": lag,
        "pace": np.array([0.2]),
        "trust": np.zeros(3),
        **WIDE,
    }


def recorded(count=4, rows=300, *, seed=0, noise=0.01, drift=0.0):
    """Runs of the known plant under steps; each with a disturbance of its own."""
    rng = np.random.default_rng(seed)
    segments = []
    for _ in range(count):
        u = np.repeat(rng.uniform(-1.5, 1.5, (rows // 25 + 1, 3)), 25, axis=0)[:rows]
        y = np.tile(rng.uniform(-1, 1, 3), (rows, 1))
        plant = GreyBox(SETTINGS, known_plant())
        plant.begin(u[None, :GIVEN], y[None, :GIVEN])
        plant._believe(drift * rng.standard_normal((1, 3)))
        for row in range(GIVEN, rows):
            y[row] = plant.advance(u[None, row])[0]
        y = (y + noise * rng.standard_normal(y.shape))[GIVEN:]
        segments.append(
            Segment(
                t0=0,
                dt=1,
                u=u[GIVEN:],
                y=y,
                inputs=("t", "f", "p"),
                outputs=("o", "w", "z"),
            )
        )
    return segments


@pytest.fixture(autouse=True)
def _short_fits(monkeypatch):
    monkeypatch.setattr(grey_box, "STAGES", ((30, 6), (150, 8)))
    monkeypatch.setattr(grey_box, "WINDOWS", 30)


def test_the_compartments_of_a_known_plant_are_found_again():
    folds = folds_of(recorded())
    parts, whole = grey_box.trained(folds, SETTINGS)
    assert len(parts) == len(folds)
    # Every run had the same surroundings: what the first rows show is noise.
    assert (whole["trust"] == 0).all()
    truth = known_plant()
    for name in ("coupling", "surroundings", "gain"):
        np.testing.assert_allclose(whole[name], truth[name], atol=0.012)
    np.testing.assert_allclose(whole["pace"], [0.2])
    (new,) = recorded(1, seed=9, noise=0.0)
    (said,) = blocks_free_run(
        GreyBox(SETTINGS, {**whole, **WIDE}), [new], history=GIVEN
    )
    wrong = np.sqrt(((said - new.y[GIVEN:]) ** 2).mean(axis=0))
    assert (wrong < 0.08 * new.y.std(axis=0)).all()


def test_no_coupling_is_negative_and_declared_directions_hold():
    settings = {**SETTINGS, "signs": [[0, 0, -1], [0, 0, -1], [0, 0, -1]]}
    _, whole = grey_box.trained(folds_of(recorded(2)), settings)
    assert (whole["coupling"] >= 0).all()
    assert (whole["surroundings"] >= 0).all()
    # Power warms; it was declared to cool: then it does nothing.
    assert (whole["gain"][2] <= 0).all()


def test_temperatures_stay_within_those_they_touch_whatever_the_inputs():
    arrays = known_plant()
    arrays["gain"] = np.zeros((4, 2))
    arrays["coupling"] *= 1000.0
    plant = GreyBox(SETTINGS, arrays)
    rng = np.random.default_rng(1)
    plant.begin(np.zeros((50, GIVEN, 3)), np.zeros((50, GIVEN, 3)))
    for _ in range(500):
        u = 10.0 * rng.standard_normal((50, 3))
        u[:, 0] = rng.uniform(-2, 3, 50)
        y = plant.advance(u)
        assert np.isfinite(y).all()
        assert ((y[:, :2] > -2.0 - 1e-9) & (y[:, :2] < 3.0 + 1e-9)).all()


def test_the_bias_of_the_first_rows_is_believed_where_that_helps():
    drifting = folds_of(recorded(12, 120, drift=0.01))
    _, whole = grey_box.trained(drifting, SETTINGS)
    assert (whole["trust"] > 0).all()
    new = recorded(6, 120, seed=7, drift=0.01)

    def wrong(trust):
        plant = GreyBox(SETTINGS, {**whole, **WIDE, "trust": trust})
        said = blocks_free_run(plant, new, history=GIVEN)
        truth = [b.y[GIVEN:] for b in new]
        return np.sqrt(((np.vstack(said) - np.vstack(truth)) ** 2).mean(axis=0))

    assert (wrong(whole["trust"]) < 0.85 * wrong(np.zeros(3))).all()


def test_units_say_what_a_column_is_and_degrees_are_common():
    units = {"water": "degC", "air": "degF", "flow": "l/min", "heat": "kW", "fan": "1"}
    signals = Signals(
        [
            Signal(
                name=name,
                topic=name,
                unit=unit,
                role="measurement" if name in ("water", "air") else "command",
                responds={"fan": "down"} if name == "air" else None,
            )
            for name, unit in units.items()
        ]
    )
    scaling = Scaling(
        u_mean=np.array([10.0, 2.0, 0.5]),
        u_std=np.array([5.0, 1.0, 0.5]),
        y_mean=np.array([20.0, 50.0]),
        y_std=np.array([5.0, 9.0]),
    )
    about = grey_box.described(
        ("flow", "heat", "fan"), ("water", "air"), signals, scaling
    )
    assert about["inputs"] == ["flow", "power", "other"]
    assert about["outputs"] == ["temperature", "temperature"]
    assert about["signs"] == [[0, 1, 0], [0, 1, -1]]
    # 9 degF are 5 K, and 50 degF are 10 degC: half as far from the middle of 15.
    assert about["y_scale"] == pytest.approx([1.0, 1.0])
    assert about["y_offset"] == pytest.approx([1.0, -1.0])
    # No flow is 0: -10/5 spreads below the mean.
    assert -2 * about["u_scale"][0] + about["u_offset"][0] == pytest.approx(0.0)


def test_a_run_alone_is_the_run_among_others():
    plant = GreyBox(SETTINGS, {**known_plant(), "trust": np.ones(3)})
    rng = np.random.default_rng(2)
    u, y = rng.normal(size=(3, 60, 3)), rng.normal(size=(3, 60, 3))
    together = free_run(plant, u, y)
    alone = free_run(plant, u[1:2], y[1:2])
    np.testing.assert_allclose(together[1], alone[0], rtol=1e-12, atol=1e-12)


def test_a_plant_without_temperatures_is_a_lag():
    rng = np.random.default_rng(4)
    u = np.repeat(rng.uniform(-1.5, 1.5, (40, 1)), 15, axis=0)
    y = np.zeros((600, 1))
    for row in range(1, 600):
        y[row] = y[row - 1] + 0.2 * (0.5 * u[row] + 0.3 - y[row - 1])
    segment = Segment(t0=0, dt=1, u=u, y=y, inputs=("q",), outputs=("h",))
    settings = {
        "inputs": ["other"],
        "outputs": ["other"],
        "u_scale": [0.5],
        "u_offset": [1.0],
        "y_scale": [0.5],
        "y_offset": [1.0],
        "signs": [[0]],
        "hidden": True,
    }
    _, whole = grey_box.trained(folds_of([segment]), settings)
    wide = {"low": np.full(1, -9.0), "high": np.full(1, 9.0)}
    (said,) = blocks_free_run(
        GreyBox(settings, {**whole, **wide}), [segment], history=GIVEN
    )
    np.testing.assert_allclose(whole["pace"], [0.2])
    np.testing.assert_allclose(said, y[GIVEN:], atol=0.01)
