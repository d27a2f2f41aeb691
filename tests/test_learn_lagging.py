"""What is no temperature: its products, its pace, and flows by the speed of a pump."""

import numpy as np
import pytest

from playground.learn import grey_box, lagging
from playground.learn.dataset import Segment
from playground.plants.learned.grey_box import places, products
from playground.plants.learned.simulator import Scaling
from playground.signals import Signal, Signals

UNITS = {"speed": "Hz", "valve": "1", "other_valve": "1", "water": "degC"}


def settings(unit="m^3/h"):
    """Numbers as they are: every scale is 1."""
    signals = Signals(
        [Signal(name=n, topic=n, unit=u, role="command") for n, u in UNITS.items()]
        + [Signal(name="q", topic="q", unit=unit, role="measurement")]
    )
    scaling = Scaling(
        u_mean=np.zeros(4), u_std=np.ones(4), y_mean=np.zeros(1), y_std=np.ones(1)
    )
    return grey_box.described(tuple(UNITS), ("q",), signals, scaling) | {
        "hidden": False
    }


def experiment(seed, speeds, *, pace=0.5, noise=0.02):
    """A flow in proportion to a speed, by what two valves make of it."""
    rng = np.random.default_rng(seed)
    u = np.repeat(
        np.stack(
            [
                rng.choice(speeds, 12),
                *rng.uniform(0.2, 1.0, (2, 12)),
                rng.uniform(0.5, 1.5, 12),
            ],
            axis=1,
        ),
        20,
        axis=0,
    )
    target = u[:, 0] * (0.2 + 0.9 * u[:, 1] - 0.3 * u[:, 2])
    q = np.empty(len(u))
    q[0] = target[0]
    for row in range(1, len(u)):
        q[row] = q[row - 1] + pace * (target[row] - q[row - 1])
    return Segment(
        t0=0.0,
        dt=1.0,
        u=u,
        y=(q + noise * rng.standard_normal(len(q)))[:, None],
        inputs=tuple(UNITS),
        outputs=("q",),
    )


def wrong(fit, segment, about):
    """Root mean square of what a fit says wrongly of a segment, run free."""
    target = products(*lagging.driving(segment, about)) @ fit["lag"][:, 0]
    said, now = [], segment.y[0, 0]
    for row in range(1, len(segment)):
        now += fit["pace"][0] * (target[row] - now)
        said.append(now)
    return float(np.sqrt(np.mean((np.array(said) - segment.y[1:, 0]) ** 2)))


def test_a_flow_at_speeds_that_were_never_seen_follows_the_speed():
    about = settings()
    folds = [[experiment(k, (0.5, 0.6))] for k in range(4)]
    *parts, whole = lagging.trained(folds, about)
    assert len(parts) == 4
    fast = experiment(9, (1.2,), noise=0.0)
    assert wrong(whole, fast, about) < 0.2 * fast.y.std()
    np.testing.assert_allclose(whole["pace"], [0.5])


def test_without_units_that_say_so_speed_is_like_any_other():
    about = settings(unit="1")
    assert about["outputs"] == ["other"]
    assert len(lagging._forms(about, 0)) == 2
    known = settings()
    assert (known["inputs"], known["outputs"]) == (
        ["speed", "other", "other", "temperature"],
        ["flow"],
    )
    driven, *rest = lagging._forms(known, 0)
    assert len(rest) == 2
    # Each of the driven products has the speed in it: twice it, twice they.
    acts = np.array([[0.5, 0.3, 0.7], [1.0, 0.3, 0.7]])
    made = products(acts, np.ones((2, 1)))[:, driven]
    share = made[1, 1:] / made[0, 1:]
    assert set(np.round(share, 9)) == {2.0, 4.0}


def test_products_of_two_are_left_out_where_they_say_nothing():
    about = settings(unit="1")
    rng = np.random.default_rng(3)
    folds = []
    for _ in range(4):
        one = experiment(int(rng.integers(100)), (0.5, 0.8))
        y = 0.4 * one.u[:, 1:2] + 0.05 * rng.standard_normal((len(one), 1))
        folds.append(
            [Segment(t0=0, dt=1, u=one.u, y=y, inputs=one.inputs, outputs=("q",))]
        )
    *_, whole = lagging.trained(folds, about)
    first = 1 + len(UNITS)
    assert (whole["lag"][first:] == 0).all()
    assert whole["lag"][2, 0] == pytest.approx(0.4, abs=0.03)


def test_nothing_lags_where_all_are_temperatures():
    about = settings() | {"outputs": ["temperature"]}
    fits = lagging.trained([[experiment(0, (0.5,))]] * 4, about)
    assert len(fits) == 5
    assert not places(about["outputs"], "other")
    assert fits[0]["lag"].shape[1] == 0
