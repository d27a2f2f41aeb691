"""What steps fast: a single member that is as good, or a network taught by all."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from playground.learn import (
    distillation,
    fast_form,
    judge,
    learn_segments,
    lessons,
    members,
    network,
    student,
)
from playground.learn.candidates import HISTORY, NETWORK, RESERVOIR, tried
from playground.learn.card import written
from playground.learn.dataset import Segment, split_by_time
from playground.learn.folds import (
    blocks_free_run,
    brief_starts,
    folds_of,
    later_starts,
)
from playground.learn.intervals import LEADS, calibrated
from playground.learn.selection import selected
from playground.model import save_model
from playground.plants.learned import LearnedPlant
from playground.plants.learned.arx import Arx
from playground.plants.learned.distilled import Distilled
from playground.plants.learned.hybrid import under
from playground.signals import Signal, Signals

LIMITS = {"low": np.full(2, -3.0), "high": np.full(2, 3.0)}
SMALL = {
    "arx": {"na": 2, "nb": 2, "ridge": 1e-6},
    "network": {**NETWORK, "hidden": 6, "whole": 2},
    "reservoir": {**RESERVOIR, "units": 40, "ridge": 1e-3},
}


@pytest.fixture(autouse=True)
def _short_training(monkeypatch):
    stages = tuple(
        network.Stage(horizon=h, rounds=r, rate=3e-3) for h, r in ((5, 30), (30, 20))
    )
    monkeypatch.setattr(network, "STAGES", stages)
    monkeypatch.setattr(lessons, "LONGEST", 200)
    monkeypatch.setattr(distillation, "PASSES", 100)


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
    brief = brief_starts(folds)
    brief_owner = [k for k, more in enumerate(brief) for _ in more]
    known = {
        "brief": brief,
        "runs": [*runs, *(b.y[HISTORY:] for more in brief for b in more)],
        "run_fold": [*owner, *later_owner, *brief_owner],
        "interval": interval,
    }
    return candidates, chosen, folds, known


def test_a_network_is_taught_where_no_quick_member_is_as_good():
    candidates, chosen, folds, known = learned(["arx", "reservoir"])
    assert fast_form.too_much(candidates[0].errors / chosen.errors, [0, 1])
    arrays, about, width = fast_form.fast_form(
        candidates, chosen, folds, **known, **LIMITS, rows=4000, seed=0
    )
    assert "family" not in about
    (new,) = made_segments((150,), seed=9)
    said, _ = members.answered(Distilled(about["settings"], arrays), [new])
    wanted, _ = members.answered(members.Members(chosen), [new])
    scale = np.vstack([b.y for fold in folds for b in fold]).std(axis=0)
    off = np.sqrt(((said[0] - wanted[0]) ** 2).mean(axis=0))
    assert (off < 0.4 * scale).all()
    # What is lost is measured beside members that had not seen the folds either.
    squares = []
    for fold in student.judged_folds(len(folds)):
        fair, _ = members.answered(members.Members(chosen, without=fold), folds[fold])
        truth = np.vstack([b.y[HISTORY:] for b in folds[fold]])
        squares.append(((np.vstack(fair) - truth) ** 2).mean(axis=0))
    error = np.sqrt(np.mean(squares, axis=0))
    assert list(about["members"].values()) == pytest.approx(error.tolist())
    assert (width["factor"] > known["interval"]["factor"]).all()


def test_folds_that_judge_are_far_from_each_other():
    assert student.judged_folds(4) == [0, 1, 2]
    assert student.judged_folds(8) == [0, 2, 5]
    assert student.judged_folds(1) == [0]


def test_intervals_are_widened_where_a_network_is_far_from_its_members():
    rng = np.random.default_rng(0)
    far = np.concatenate([np.full(6, 0.8), np.full(300, 0.1)])[:, None]
    said = [rng.standard_normal((306, 1)) for _ in range(12)]
    judged = student.Judged(
        said=said,
        answers=[s + far * rng.choice([-1.0, 1.0], s.shape) for s in said],
        apart=[np.full(s.shape, 0.5) for s in said],
        own=np.ones(1),
        members=np.ones(1),
        distance=np.ones(1),
    )
    known = {"floor": np.array([0.5]), "factor": np.full((len(LEADS), 1), 0.6)}
    wider = fast_form.widened(known, judged)["factor"][:, 0]
    assert wider[0] == pytest.approx(np.hypot(0.6, 0.8), rel=0.2)
    assert (wider[6:9] < 0.75).all()


@pytest.mark.parametrize("base", [False, True])
def test_what_is_learned_from_is_what_is_seen_in_steps(base):
    settings = {**student.SETTINGS, "lags": 2, "given": 5}
    below = {"low": np.full(2, -50.0), "high": np.full(2, 50.0)}
    if base:
        candidates, _, _, _ = learned(["network"])
        settings["base"] = SMALL["network"]
        below |= student._copy(candidates[0], without=1)
    (block,) = made_segments((80,))
    x = student._seen([block], settings, below)
    # Each feature once: the first half of what is answered is x itself.
    arrays = {
        "straight": np.hstack([np.eye(x.shape[1], 2), np.zeros((x.shape[1], 2))]),
        "first": np.zeros((x.shape[1], 1)),
        "second": np.zeros((1, 1)),
        "third": np.zeros((1, 4)),
        **below,
    }
    for place in range(0, x.shape[1] - 1, 2):
        arrays["straight"][:, :2] = np.roll(np.eye(x.shape[1], 2), place, axis=0)
        (said,), _ = members.answered(Distilled(settings, arrays), [block])
        np.testing.assert_allclose(said, x[:, place : place + 2], rtol=1e-5, atol=1e-6)


def test_outputs_and_how_far_the_members_are_apart_are_learned_together():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3000, 4)).astype(np.float32)
    x[:, -1] = 1.0
    wanted = np.stack([x[:, 0] * x[:, 1] + 0.5, np.abs(x[:, 2])], axis=1)
    a = distillation.taught(
        x, wanted.astype(float), outputs=1, units=128, decay=0.01, seed=0
    )
    two = np.maximum(np.maximum(x @ a["first"], 0.0) @ a["second"], 0.0)
    off = x @ a["straight"] + two @ a["third"] - wanted
    assert (off.std(axis=0) < np.array([0.15, 0.2]) * wanted.std(axis=0)).all()
    linear = x @ np.linalg.lstsq(x, wanted, rcond=None)[0]
    assert ((linear - wanted).std(axis=0) > 0.9 * wanted.std(axis=0)).all()


def test_equal_lessons_teach_equal_networks():
    _, chosen, folds, _ = learned(["reservoir"])
    blocks = [block for fold in folds for block in fold]
    both = [
        student._taught(
            members.Members(chosen),
            blocks,
            student.SETTINGS,
            LIMITS,
            rows=4000,
            seed=3,
        )
        for _ in range(2)
    ]
    for name, array in both[0].items():
        np.testing.assert_array_equal(array, both[1][name])


def test_a_recurrent_candidate_runs_below_the_network_that_is_taught():
    candidates, chosen, folds, known = learned(["reservoir", "network"])
    arrays, about, _ = fast_form.fast_form(
        candidates, chosen, folds, **known, **LIMITS, rows=4000, seed=0
    )
    small = candidates[1]
    base = about["settings"]["base"]
    assert base == {key: small.settings[key] for key in base}
    # That of all data, not one that a fold was kept from.
    for name in student.COPIED:
        (last,) = arrays[f"base.{name}"]
        np.testing.assert_array_equal(last, small.parameters[name][-1])
        for fold, part in enumerate(small.parts):
            (only,) = student._copy(small, without=fold)[f"base.{name}"]
            np.testing.assert_array_equal(only, part[name][0])
    network = Distilled(about["settings"], arrays)
    (new,) = made_segments((150,), seed=9)
    ((said,), _), ((wanted,), _) = (
        members.answered(simulator, [new])
        for simulator in (network, members.Members(chosen))
    )
    scale = np.vstack([b.y for fold in folds for b in fold]).std(axis=0)
    off = np.sqrt(((said - wanted) ** 2).mean(axis=0))
    assert (off < 0.4 * scale).all()


def test_who_judges_stands_on_what_was_fitted_without_its_fold(monkeypatch):
    candidates, chosen, folds, known = learned(["reservoir", "network"])
    taught, asked = student._taught, []

    def watched(teacher, blocks, settings, below, **options):
        asked.append((blocks, below))
        return taught(teacher, blocks, settings, below, **options)

    monkeypatch.setattr(student, "_taught", watched)
    fast_form.fast_form(candidates, chosen, folds, **known, **LIMITS, rows=900, seed=0)
    judging = student.judged_folds(len(folds))
    assert len(asked) == len(judging) + 1
    network = candidates[1]
    for (blocks, below), fold in zip(asked, [*judging, None], strict=True):
        own = [] if fold is None else folds[fold]
        assert not any(block is other for block in blocks for other in own)
        arrays = network.parameters if fold is None else network.parts[fold]
        for name in student.COPIED:
            np.testing.assert_array_equal(below[f"base.{name}"][0], arrays[name][-1])


def test_a_network_leaves_room_for_the_one_below_it():
    candidates, chosen, folds, known = learned(["reservoir", "network"])
    arrays, _, _ = fast_form.fast_form(
        candidates, chosen, folds, **known, **LIMITS, rows=900, seed=0
    )
    width = len(arrays["first"])
    spent = distillation.products_of(under("base", arrays))
    # One unit is the constant.
    assert arrays["first"].shape[1] - 1 == distillation.units_for(width, spent)
    assert distillation.units_for(200, 9000) < distillation.units_for(200)


def test_brief_runs_are_answered_by_what_had_not_seen_their_fold():
    candidates, _, _, known = learned(["arx", "reservoir"])
    knows_all = replace(candidates[0], parameters={})
    place = 0
    said = fast_form._briefly(knows_all, known["brief"])
    for part, blocks in zip(knows_all.parts, known["brief"], strict=True):
        wanted = blocks_free_run(Arx(SMALL["arx"], part), blocks, history=HISTORY)
        for answer in wanted:
            np.testing.assert_array_equal(said[place], answer)
            place += 1
    assert place == len(said)


def test_what_runs_below_is_small_and_as_good_as_the_best():
    candidates, _, folds, _ = learned(["reservoir", "network"])
    small = candidates[1]
    wide = replace(
        small,
        parameters={
            **small.parameters,
            "inner": np.zeros((1, small.parameters["skeleton"].shape[1], 200)),
        },
    )
    assert student.base_among([candidates[0], wide], folds) is None
    assert student.base_among([wide, small], folds) is small
    # It says the same with one unit more.
    more = {name: small.parameters[name] for name in ("skeleton", "outer", "opening")}
    inner = small.parameters["inner"]
    larger = replace(
        small, parameters={**more, "inner": np.concatenate([inner, inner[..., :1]], 2)}
    )
    assert student.base_among([larger, small], folds) is small
    assert student.base_among([small, larger], folds) is small
    bad = replace(small, said=[np.full_like(s, np.nan) for s in small.said])
    assert student.base_among([bad, small], folds) is small


def test_a_single_quick_member_that_is_as_good_is_the_fast_form():
    candidates, chosen, folds, known = learned(["arx", "reservoir"])
    good = replace(candidates[0], errors=chosen.errors * np.array([1.1, 0.93]))
    arrays, about, _ = fast_form.fast_form(
        [good, candidates[1]], chosen, folds, **known, **LIMITS, rows=4000, seed=0
    )
    assert about["default"]
    assert (about["family"], about["settings"]) == ("arx", SMALL["arx"])
    np.testing.assert_array_equal(arrays["weights"], good.parameters["weights"])


def test_the_card_tells_of_both_forms_and_which_one_steps(monkeypatch, tmp_path):
    monkeypatch.setattr(sys.modules["playground.learn.learn"], "FAST_FROM_S", 0.0)
    monkeypatch.setattr(lessons, "ROWS_PER_S", 7000)
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
