"""Lessons: stretches as recorded, shuffled among each other, and moved elsewhere."""

import numpy as np
import pytest

from playground.learn import lessons
from playground.learn.candidates import HISTORY
from playground.learn.dataset import Segment


def made_blocks():
    """Numbers that tell where they are from; the last input has two levels."""
    rng = np.random.default_rng(0)
    blocks = []
    for number, rows in enumerate((900, 700)):
        u = rng.uniform(number, number + 1, (rows, 4))
        u[:, 3] = rng.integers(2, size=rows)
        y = rng.uniform(number, number + 1, (rows, 2))
        signals = {"inputs": tuple("abcd"), "outputs": tuple("xy")}
        blocks.append(Segment(t0=0.0, dt=1.0, u=u, y=y, **signals))
    return blocks


def lessons_of(most=20_000):
    blocks = made_blocks()
    return blocks, lessons.lessons_from(blocks, np.random.default_rng(1), most=most)


def cut_from(blocks, table, column):
    """Whether a column is a piece of a block as it was recorded."""
    return any(
        np.array_equal(source[k : k + len(table)], table)
        for source in (block.u[:, column] for block in blocks)
        for k in np.flatnonzero(source == table[0])
    )


def test_a_larger_budget_has_more_lessons_up_to_all_of_them():
    assert lessons.rows_for(20.0) < lessons.rows_for(60.0) < lessons.rows_for(120.0)
    assert lessons.rows_for(120.0) == lessons.rows_for(float("inf")) == lessons.ROWS
    _, made = lessons_of(most=5000)
    assert 5000 <= sum(len(b) for b in made) < 5000 + lessons.LONGEST


def test_some_are_as_recorded_and_most_are_not():
    blocks, made = lessons_of()
    recorded = [all(cut_from(blocks, m.u[:, k], k) for k in range(3)) for m in made]
    share = np.mean(recorded)
    assert 0.5 * lessons.RECORDED < share < 2 * lessons.RECORDED
    assert len({len(m) for m in made}) > 0.5 * len(made)


def test_levels_go_beyond_what_was_and_not_much_further():
    blocks, made = lessons_of()
    levels = lessons.Levels.of(blocks)
    u = np.vstack([m.u for m in made])[:, :3]
    span = (levels.u_high - levels.u_low)[:3]
    beyond = lessons.BEYOND * span
    assert (u.max(axis=0) > levels.u_high[:3]).all()
    assert (u.min(axis=0) < levels.u_low[:3]).all()
    assert (u <= levels.u_high[:3] + beyond + 1e-9).all()
    assert (u >= levels.u_low[:3] - beyond - 1e-9).all()
    y = np.vstack([m.y for m in made])
    assert (y <= levels.y_high + 1e-9).all()
    assert (y >= levels.y_low - 1e-9).all()


def test_an_input_of_few_levels_keeps_them():
    _, made = lessons_of()
    assert set(np.vstack([m.u for m in made])[:, 3].tolist()) == {0.0, 1.0}


def test_they_know_only_the_blocks_they_are_made_from():
    first, _ = made_blocks()
    made = lessons.lessons_from([first], np.random.default_rng(1), most=20_000)
    most = first.u[:, :3].max(axis=0) + lessons.BEYOND * np.ptp(first.u[:, :3], axis=0)
    assert (np.vstack([m.u for m in made])[:, :3] <= most + 1e-9).all()


def test_equal_seeds_make_equal_lessons():
    _, one = lessons_of(most=3000)
    _, other = lessons_of(most=3000)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.u, b.u)
        np.testing.assert_array_equal(a.y, b.y)


@pytest.mark.parametrize("most", [0, 1])
def test_no_rows_are_no_lessons_or_one(most):
    _, made = lessons_of(most=most)
    assert len(made) == most
    assert all(len(m) > HISTORY for m in made)
