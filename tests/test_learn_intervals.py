"""Prediction intervals: how wide, how that grows, and what decides about it."""

import numpy as np
import pytest

from playground.learn.candidates import HISTORY
from playground.learn.folds import BRIEF_ROWS
from playground.learn.intervals import LEADS, calibrated


def widths(factor, leads):
    """Returns the factors at lead times, as a plant finds them."""
    return np.interp(np.log2(leads), np.log2(LEADS), factor[:, 0])


def still(runs):
    return [np.zeros_like(run) for run in runs]


def test_intervals_cover_what_they_promise_and_say_when_they_cannot():
    rng = np.random.default_rng(0)

    def blocks(count):
        truth, said, spread = [], [], []
        for _ in range(count):
            scale = 0.1 + 0.9 * np.linspace(0, 1, 200)[:, None]
            truth.append(scale * rng.standard_normal((200, 1)))
            said.append(np.zeros((200, 1)))
            spread.append(scale)
        return truth, said, spread, [k % 4 for k in range(count)]

    arrays, about = calibrated(*blocks(40))
    assert about["calibrated"]
    assert (np.diff(arrays["factor"][:, 0]) >= 0).all()
    truth, _, spread, _ = blocks(40)
    covered = []
    for lead in range(128, 200):
        half = arrays["factor"][7] * (arrays["floor"] + spread[0][lead])
        covered += [abs(t[lead]) <= half for t in truth]
    assert 0.86 <= np.mean(covered) <= 0.97
    _, about = calibrated(*blocks(4))
    assert not about["calibrated"]
    assert "few blocks" in about["kind"]
    one, _ = calibrated(*blocks(1))
    # At 128 steps a single block of 200 rows holds next to no independent errors.
    assert one["factor"][7, 0] > 1.5 * one["factor"][0, 0]


def drifting(rng, blocks, runs=1, rows=150):
    """Makes errors of free runs, blocks × runs × rows.

    They grow and hang together for long, and some blocks are harder than others.
    """
    scale = rng.lognormal(0.0, 0.3, (blocks, 1, 1))
    walk = np.zeros((blocks, runs, rows))
    for row in range(1, rows):
        walk[..., row] = 0.98 * walk[..., row - 1] + rng.standard_normal((blocks, runs))
    return (scale * walk)[..., 1:]


@pytest.mark.parametrize(("blocks", "widest"), [(4, 1.6), (16, 1.2)])
def test_nine_in_ten_new_runs_are_covered_at_each_lead_time(blocks, widest):
    rng = np.random.default_rng(1)
    leads = np.array([1, 3, 12, 45, 96])
    new = drifting(rng, 4000)[:, 0, leads - 1]
    wanted = np.quantile(np.abs(new), 0.9, axis=0)
    each = 40 // blocks
    fold = np.repeat(np.arange(blocks) % 4, each)
    covered, width = [], []
    for _ in range(60):
        runs = list(drifting(rng, blocks, each).reshape(blocks * each, -1, 1))
        arrays, _ = calibrated(runs, still(runs), still(runs), fold, blocks=blocks)
        half = arrays["floor"] * widths(arrays["factor"], leads)
        covered.append(np.mean(np.abs(new) <= half, axis=0))
        width.append(half / wanted)
    mean = np.mean(covered, axis=0)
    assert (mean >= 0.85).all(), mean
    # Of four blocks it knows less than these runs tell: rather too wide.
    assert (mean <= (0.97 if blocks == 4 else 0.95)).all(), mean
    assert (np.median(width, axis=0) <= widest).all(), np.median(width, axis=0)


def test_each_fold_counts_alike_however_long_it_is():
    rng = np.random.default_rng(0)
    runs = [0.1 * rng.standard_normal((450, 1)) for _ in range(60)]
    runs += [rng.standard_normal((450, 1)) for _ in range(4)]
    fold = [*np.repeat(range(3), 20), 3, 3, 3, 3]
    arrays, _ = calibrated(runs, still(runs), still(runs), fold)
    # One fold of four is loud: a tenth of all is four tenths of it, beyond 0.84. Row
    # by row it would be a sixteenth, and of its errors next to none were covered.
    half = arrays["floor"][0] * arrays["factor"][5, 0]
    assert 0.7 < half < 1.0


def test_a_chance_peak_does_not_widen_all_that_comes_after_it():
    rng = np.random.default_rng(0)
    runs = [rng.standard_normal((300, 1)) for _ in range(40)]
    for run in runs:
        run[6:10] *= 3.0
    arrays, _ = calibrated(runs, still(runs), still(runs), np.arange(40) % 4)
    factor = arrays["factor"][:, 0]
    assert (np.diff(factor) >= -1e-12).all()
    # The running maximum would keep the peak for ever: 3 times as wide as needed.
    assert factor[-1] < 2.0 * factor[0]


def test_members_that_are_apart_where_the_plant_is_wrong_make_it_narrow_elsewhere():
    rng = np.random.default_rng(0)
    apart = [np.where(np.arange(200) < 100, 0.1, 2.0)[:, None] for _ in range(20)]
    runs = [s * rng.standard_normal((200, 1)) for s in apart]
    folds = np.arange(20) % 4
    scaled, _ = calibrated(runs, still(runs), apart, folds)
    even, _ = calibrated(runs, still(runs), still(runs), folds)
    near = scaled["factor"][3, 0] * (scaled["floor"][0] + 0.1)
    assert near < even["factor"][-1, 0] * even["floor"][0]


def test_where_errors_are_few_the_lead_times_beside_decide():
    rng = np.random.default_rng(0)
    runs = [rng.standard_normal((40, 1)) for _ in range(4)]
    arrays, about = calibrated(runs, still(runs), still(runs), range(4))
    assert arrays["factor"].shape == (len(LEADS), 1)
    assert np.isfinite(arrays["factor"]).all()
    # Four errors at 1 step say little; at 64 steps there is none at all.
    plain = arrays["factor"][:, 0] / np.array(about["widened"])
    assert plain[0] == plain[1] == plain[2]
    assert plain[-1] == plain[6]


def test_runs_within_blocks_are_no_more_blocks():
    rng = np.random.default_rng(0)
    blocks = [rng.standard_normal((rows, 1)) for rows in (400, *[24] * 20)]
    within = [rng.standard_normal((45, 1)) for _ in range(60)]

    def widened(runs):
        _, about = calibrated(
            runs, still(runs), still(runs), np.arange(len(runs)) % 4, blocks=21
        )
        return about["widened"]

    assert widened([*blocks, *within]) == widened(blocks)
    assert widened(blocks)[8] > 1.5


def test_brief_runs_say_nothing_of_a_lead_time_that_they_only_touch():
    judged = BRIEF_ROWS - HISTORY
    for lead in LEADS:
        first, end = np.ceil(lead * np.array([2**-0.5, 2**0.5])).astype(int)
        assert judged < first or judged >= end - 1
