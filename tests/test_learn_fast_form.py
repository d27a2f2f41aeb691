"""What steps fast: a single member that is as good, or a network taught by all."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from playground.learn import (
    correction,
    fast_form,
    judge,
    learn_segments,
    network,
    student,
)
from playground.learn.candidates import HISTORY, RESERVOIR, tried
from playground.learn.card import written
from playground.learn.dataset import Segment, split_by_time
from playground.learn.folds import folds_of, later_starts
from playground.learn.intervals import calibrated
from playground.learn.selection import selected
from playground.model import save_model
from playground.plants.learned import LearnedPlant
from playground.plants.learned.distilled import Distilled
from playground.signals import Signal, Signals

LIMITS = {"low": np.full(2, -3.0), "high": np.full(2, 3.0)}
SMALL = {
    "arx": {"na": 2, "nb": 2, "ridge": 1e-6},
    "reservoir": {**RESERVOIR, "units": 40, "ridge": 1e-3},
}


@pytest.fixture(autouse=True)
def _short_training(monkeypatch):
    stages = tuple(
        network.Stage(horizon=h, rounds=r, rate=3e-3) for h, r in ((5, 30), (30, 20))
    )
    monkeypatch.setattr(network, "STAGES", stages)
    monkeypatch.setattr(student, "ROWS", 1500)
    monkeypatch.setattr(student, "LONGEST", 200)
    monkeypatch.setattr(correction, "ROUNDS", (300, 300))


def made_segments(rows, seed=0):
    """A first-order plant with a saturating input, two outputs, scaled."""
    rng = np.random.default_rng(seed)
    segments = []
    for count in rows:
        u = np.repeat(rng.normal(size=(count // 15 + 1, 2)), 15, axis=0)[:count]
        y = np.zeros((count, 2))
        y[0] = rng.normal(size=2)
        for k in range(1, count):
            push = np.tanh(2 * u[k, 0]) + 0.3 * u[k, 1] ** 2
            y[k, 0] = 0.9 * y[k - 1, 0] + 0.1 * push
            y[k, 1] = 0.95 * y[k - 1, 1] + 0.05 * y[k, 0]
        segments.append(
            Segment(t0=0.0, dt=1.0, u=u, y=y, inputs=("a", "b"), outputs=("c", "d"))
        )
    return segments


def learned(families):
    folds = folds_of(made_segments((400, 300, 300, 350)))
    candidates = [tried(f, SMALL[f], folds, **LIMITS) for f in families]
    later = later_starts(folds)
    truth = [b.y[HISTORY:] for fold in folds for b in fold]
    owner = [k for k, fold in enumerate(folds) for _ in fold]
    later_owner = [k for k, more in enumerate(later) for _ in more]
    chosen = selected(candidates, truth, owner, later_owner)
    runs = [*truth, *(b.y[HISTORY:] for more in later for b in more)]
    interval, _ = calibrated(runs, chosen.said, chosen.spread, [*owner, *later_owner])
    about_runs = {"runs": runs, "run_fold": [*owner, *later_owner]}
    return candidates, chosen, folds, {**about_runs, "interval": interval}


def test_a_network_is_taught_where_no_quick_member_is_as_good():
    candidates, chosen, folds, known = learned(["arx", "reservoir"])
    assert fast_form.too_much(candidates[0].errors / chosen.errors, [0, 1])
    arrays, about, width = fast_form.fast_form(
        candidates, chosen, folds, **known, **LIMITS, seed=0
    )
    assert "family" not in about
    (new,) = made_segments((150,), seed=9)
    said, _ = student.answered(Distilled(about["settings"], arrays), [new])
    wanted, _ = student.answered(student.Members(chosen), [new])
    scale = np.vstack([b.y for fold in folds for b in fold]).std(axis=0)
    off = np.sqrt(((said[0] - wanted[0]) ** 2).mean(axis=0))
    assert (off < 0.3 * scale).all()
    # What is lost is measured beside members that had not seen the fold either.
    block = folds[student.JUDGED]
    fair, _ = student.answered(student.Members(chosen, without=student.JUDGED), block)
    truth = np.vstack([b.y[HISTORY:] for b in block])
    error = np.sqrt(((np.vstack(fair) - truth) ** 2).mean(axis=0))
    assert list(about["members"].values()) == pytest.approx(error.tolist())
    assert (width["factor"] > known["interval"]["factor"]).all()


def test_what_is_missing_is_learned_with_how_far_the_members_are_apart():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3000, 4)).astype(np.float32)
    x[:, -1] = 1.0
    missing = np.stack([x[:, 0] * x[:, 1] + 0.5, np.abs(x[:, 2])], axis=1)
    a = correction.corrected(x, missing.astype(float), outputs=1, rounds=1000, seed=0)
    two = np.maximum(np.maximum(x @ a["first"], 0.0) @ a["second"], 0.0)
    off = x @ a["straight"] + two @ a["third"] - missing
    assert (off.std(axis=0) < np.array([0.15, 0.2]) * missing.std(axis=0)).all()


def test_equal_lessons_teach_equal_networks():
    _, chosen, folds, _ = learned(["reservoir"])
    blocks = [block for fold in folds for block in fold]
    both = [
        student._student(
            student.Members(chosen),
            blocks,
            student.Levels.of(blocks),
            **LIMITS,
            seed=3,
        )
        for _ in range(2)
    ]
    for name, array in both[0].items():
        np.testing.assert_array_equal(array, both[1][name])


def test_a_single_quick_member_that_is_as_good_is_the_fast_form():
    candidates, chosen, folds, known = learned(["arx", "reservoir"])
    good = replace(candidates[0], errors=chosen.errors * np.array([1.1, 0.93]))
    arrays, about, _ = fast_form.fast_form(
        [good, candidates[1]], chosen, folds, **known, **LIMITS, seed=0
    )
    assert about["default"]
    assert (about["family"], about["settings"]) == ("arx", SMALL["arx"])
    np.testing.assert_array_equal(arrays["weights"], good.parameters["weights"])


def test_the_card_tells_of_both_forms_and_which_one_steps(monkeypatch, tmp_path):
    monkeypatch.setattr(sys.modules["playground.learn.learn"], "FAST_FROM_S", 0.0)
    signals = Signals(
        Signal(
            name=n, topic=n, unit="1", role="measurement" if n in "cd" else "command"
        )
        for n in "abcd"
    )
    rows = made_segments((400, 300, 300, 350))
    model = learn_segments(rows, signals, holdout=0.25, budget_s=0.6)
    about = model.card["fast"]
    save_model(model, tmp_path / "model")
    for fast in (None, False, True):
        plant = LearnedPlant(tmp_path / "model", fast=fast)
        assert plant.fast is (about["default"] if fast is None else fast)
        told = {True: "errors", False: "errors_of_members"}[plant.fast]
        _, test = split_by_time(rows, 0.25)
        again = judge(plant, [s for s in test if len(s) > HISTORY])
        assert [e.rmse for e in again] == [e["rmse"] for e in about[told]]
        if fast is None:
            assert model.card["errors"] == about[told]
    text = written(model, [])["card.md"]
    assert "## Fast form" in text
    assert f"{about['members']['c']:.3f}" in text
    assert f"fast: {'false' if about['default'] else 'true'}" in text


@pytest.mark.parametrize(
    ("ratio", "counts", "lost"),
    [
        ([1.02, 1.02], [0, 1], False),
        ([1.15, 0.9], [0, 1], False),
        ([1.06, 1.06], [0, 1], True),
        ([1.3, 0.7], [0, 1], True),
        ([3.0, 1.0], [1], False),
    ],
)
def test_how_much_may_be_lost(ratio, counts, lost):
    assert fast_form.too_much(np.array(ratio), counts) is lost


def test_a_correction_is_trusted_as_far_as_it_is_right_where_it_was_not_learned():
    rng = np.random.default_rng(0)
    missing = rng.standard_normal((500, 3))
    wild = rng.standard_normal(500)
    added = np.stack([missing[:, 0], 2 * missing[:, 1], wild], axis=1)
    trust = student._trust(added, missing)
    assert trust[:2] == pytest.approx([1.0, 0.5])
    assert trust[2] < 0.1
