"""All members of a plant as one simulator, with and without a fold."""

import pickle
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from test_learn_fast_form import _short_training, learned, made_segments  # noqa: F401

from playground.learn import members


def test_equal_lengths_are_answered_side_by_side_and_in_order():
    _, chosen, _, _ = learned(["reservoir"])
    blocks = made_segments((90, 40, 60, 30))
    teachers = members.Members(chosen)
    together, apart = members.answered(teachers, blocks)
    for block, said, off in zip(blocks, together, apart, strict=True):
        (alone,), (off_alone,) = members.answered(teachers, [block])
        np.testing.assert_allclose(said, alone, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(off, off_alone, rtol=1e-9, atol=1e-12)


def test_members_teach_in_another_process_as_they_do_in_this_one():
    _, chosen, folds, _ = learned(["arx", "reservoir"])
    teachers = members.Members(chosen, without=1)
    other = pickle.loads(pickle.dumps(teachers))
    for here, there in zip(
        members.answered(teachers, folds[1]),
        members.answered(other, folds[1]),
        strict=True,
    ):
        np.testing.assert_array_equal(np.vstack(here), np.vstack(there))


def test_members_without_a_fold_are_weighed_without_it():
    _, chosen, folds, _ = learned(["arx", "reservoir"])
    other = {**chosen.weights_without, 1: np.flip(chosen.weights, axis=0)}
    moved = replace(chosen, weights_without=other)
    for fold in (0, 1):
        (before,), (after,) = (
            members.answered(members.Members(c, without=fold), folds[2][:1])[0]
            for c in (chosen, moved)
        )
        assert np.array_equal(before, after) is (fold == 0)
    # What was said of a fold in choosing, and how far apart they were, is what members
    # say that had not seen it.
    place = 0
    for number, fold in enumerate(folds):
        said, apart = members.answered(members.Members(chosen, without=number), fold)
        for answer, spread in zip(said, apart, strict=True):
            np.testing.assert_allclose(answer, chosen.said[place], atol=1e-9)
            np.testing.assert_allclose(spread, chosen.spread[place], atol=1e-9)
            place += 1


def test_no_brief_runs_on_a_physical_plant():
    _, chosen, folds, _ = learned(["arx"])
    assert sum(len(more) for more in members.brief_runs(chosen, folds)) > 100
    slow = replace(chosen.members[0], settings={"base": {"plant": "lab_rig"}})
    on_a_plant = replace(chosen, members=(slow,))
    brief = members.brief_runs(on_a_plant, folds)
    assert brief == [[] for _ in folds]
    assert members.answered(members.Members(chosen), brief[0]) == ([], [])
