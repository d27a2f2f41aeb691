"""Subspace identification: a known system comes out, and what comes out is stable."""

import numpy as np

from playground.learn import state_space
from playground.learn.dataset import Segment
from playground.learn.folds import blocks_free_run, folds_of
from playground.plants.learned.state_space import StateSpace

SETTINGS = {"order": 3, "horizon": 8, "given": 12, "ridge": 1e-8}
A = np.array([[0.95, 0.1, 0.0], [-0.1, 0.95, 0.0], [0.0, 0.05, 0.8]])
B = np.array([[0.1, 0.0], [0.0, 0.1], [0.2, 0.1]])
C = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]])
D = np.array([[0.0, 0.3], [0.0, 0.0]])


def recorded(count=4, rows=300, *, seed=0, noise=0.0):
    rng = np.random.default_rng(seed)
    segments = []
    for _ in range(count):
        u = np.repeat(rng.normal(size=(rows // 7 + 1, 2)), 7, axis=0)[:rows]
        x, y = rng.normal(size=3), np.empty((rows, 2))
        for row in range(rows):
            y[row] = C @ x + D @ u[row] + 0.1
            x = A @ x + B @ u[row]
        y += noise * rng.standard_normal(y.shape)
        segments.append(
            Segment(t0=0.0, dt=1.0, u=u, y=y, inputs=("a", "b"), outputs=("c", "d"))
        )
    return segments


def wide(outputs=2):
    return {"low": np.full(outputs, -100.0), "high": np.full(outputs, 100.0)}


def poles(arrays, order=3):
    return np.sort_complex(np.linalg.eigvals(arrays["system"][:order, :order]))


def test_a_known_system_is_found_again():
    parts, whole = state_space.trained(folds_of(recorded(noise=0.002)), SETTINGS)
    for arrays in (*parts, whole):
        np.testing.assert_allclose(
            poles(arrays), np.sort_complex(np.linalg.eigvals(A)), atol=0.01
        )
    new = recorded(1, seed=5)
    (said,) = blocks_free_run(
        StateSpace(SETTINGS, {**whole, **wide()}), new, history=12
    )
    wrong = np.sqrt(((said - new[0].y[12:]) ** 2).mean(axis=0))
    assert (wrong < 0.03 * new[0].y.std(axis=0)).all()


def test_what_drifts_away_becomes_a_system_that_does_not():
    rng = np.random.default_rng(0)
    # A sum of its input that grows by itself as well.
    u = rng.normal(size=(400, 1))
    y = np.zeros((400, 1))
    for row in range(1, 400):
        y[row] = 1.004 * y[row - 1] + 0.1 * u[row - 1]
    segment = Segment(t0=0.0, dt=1.0, u=u, y=y, inputs=("a",), outputs=("c",))
    settings = {**SETTINGS, "order": 2}
    _, whole = state_space.trained(folds_of([segment]), settings)
    assert (np.abs(poles(whole, 2)) <= state_space.FADES + 1e-9).all()
    plant = StateSpace(
        settings, {**whole, "low": np.full(1, -1e9), "high": np.full(1, 1e9)}
    )
    plant.begin(np.zeros((5, 12, 1)), np.zeros((5, 12, 1)))
    said = np.array([plant.advance(rng.normal(size=(5, 1))) for _ in range(5000)])
    assert np.isfinite(said).all()
    assert np.abs(said).max() < 50 * np.abs(y).max()


def test_a_system_of_fewer_numbers_than_asked_for_is_no_mistake():
    segment = recorded(1, 200)[0]
    one = Segment(
        t0=0.0,
        dt=1.0,
        u=segment.u,
        y=segment.y[:, :1],
        inputs=("a", "b"),
        outputs=("c",),
    )
    settings = {**SETTINGS, "order": 20, "horizon": 6}
    _, whole = state_space.trained(folds_of([one]), settings)
    (said,) = blocks_free_run(
        StateSpace(settings, {**whole, **wide(1)}), [one], history=12
    )
    assert np.sqrt(np.mean((said - one.y[12:]) ** 2)) < 0.2 * one.y.std()
