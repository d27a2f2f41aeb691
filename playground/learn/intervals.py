"""Prediction intervals from what held-back free runs got wrong.

Split-conformal (Vovk et al. 2005; Lei et al. 2018): the half-width at a lead
time is the quantile of the errors that were made there on blocks the model had
not seen, scaled by how far the members are apart. Rows of a block are no
independent errors, so all widths are multiplied by what the widths of the other
folds had needed to cover each fold (a jackknife over folds), and at each lead time
by what a quantile from so few stretches of that length is uncertain (Student's t
against the normal): the fewer and the more different the blocks, the wider.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]

COVERAGE = 0.9
LEADS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
"""Steps since the beginning at which a new width begins."""
FEWEST_BLOCKS = 10
"""With fewer the intervals count as uncalibrated, though they are widened."""
FEWEST_ERRORS = 20
"""With fewer at a lead time, the width of the lead time before is kept."""
WIDEST = 3.0
"""Times by which the intervals are widened at most."""


def calibrated(
    truth: Sequence[Array],
    said: Sequence[Array],
    spread: Sequence[Array],
    fold: Sequence[int],
    *,
    blocks: int | None = None,
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Measures half-widths.

    Args:
        truth: Scaled outputs per held-back run, from the first step on.
        said: What the model said, likewise.
        spread: How far its members were apart, likewise.
        fold: To which fold a run belongs.
        blocks: How many different blocks the runs are from; each its own if None.

    Returns:
        Arrays: ``floor`` per output and ``factor`` lead bins × outputs, such that
        the half-width is factor × (floor + spread); and what to say of it.
    """
    wrong = [np.abs(a - b) for a, b in zip(truth, said, strict=True)]
    every = np.vstack(wrong)
    floor = np.maximum(np.sqrt((every**2).mean(axis=0)), 1e-9)
    relative = [w / (floor + s) for w, s in zip(wrong, spread, strict=True)]
    widening = np.ones(every.shape[1])
    needed, weight = [], []
    for out in sorted(set(fold)):
        others = [r for r, f in zip(relative, fold, strict=True) if f != out]
        mine = [r for r, f in zip(relative, fold, strict=True) if f == out]
        if not others:
            continue
        factor = _factors(others)
        for number, rows in enumerate(_by_lead(mine)):
            if len(rows):
                needed.append(rows / factor[number])
                # Each fold counts alike at each lead time, however long it is.
                weight.append(np.full(len(rows), 1.0 / len(rows)))
    if needed:
        ratios, weights = np.vstack(needed), np.concatenate(weight)
        widening = np.array([_quantile(column, weights) for column in ratios.T])
        widening = np.clip(widening, 1.0, WIDEST)
    blocks = len(truth) if blocks is None else blocks
    enough = blocks >= FEWEST_BLOCKS
    arrays = {
        "floor": floor,
        "factor": _factors(relative) * widening * _for_few(truth, blocks)[:, None],
        "spread": np.ones(1),
    }
    kind = "by lead time, scaled by the spread of the members"
    if not enough:
        kind += "; from few blocks: believe the coverage that was measured"
    return arrays, {
        "coverage": COVERAGE,
        "blocks": blocks,
        "runs": len(truth),
        "calibrated": enough,
        "widened": widening.tolist(),
        "kind": kind,
    }


def _for_few(truth: Sequence[Array], blocks: int) -> Array:
    """Returns per lead bin how much wider a quantile from few errors has to be.

    Rows that are nearer in time than the lead time are not independent, so the
    number of errors is that of stretches as long as it.
    """
    # Later runs are parts of the blocks: the longest runs are the blocks.
    rows = sum(sorted((len(t) for t in truth), reverse=True)[:blocks])
    longest = max(len(t) for t in truth)
    wider = []
    for lead in LEADS:
        count = int(np.clip(rows // min(lead, longest), 2, 1000))
        t = stats.t.ppf(0.5 + COVERAGE / 2, count - 1)
        normal = stats.norm.ppf(0.5 + COVERAGE / 2)
        wider.append(min(t / normal * np.sqrt(1 + 1 / count), WIDEST))
    return np.array(wider)


def _by_lead(runs: Sequence[Array]) -> list[Array]:
    """Puts rows of runs together by how far ahead they are."""
    ends = [*LEADS[1:], None]
    return [
        np.vstack([r[first - 1 : None if end is None else end - 1] for r in runs])
        for first, end in zip(LEADS, ends, strict=True)
    ]


def _factors(relative: Sequence[Array]) -> Array:
    """Returns the quantile of relative errors, lead bins × outputs."""
    factor: list[Array] = []
    for rows in _by_lead(relative):
        if len(rows) >= FEWEST_ERRORS:
            factor.append(np.quantile(rows, COVERAGE, axis=0))
        elif factor:
            factor.append(factor[-1])
        else:
            factor.append(np.quantile(np.vstack(relative), COVERAGE, axis=0))
    # The longer ahead, the less is known.
    return np.maximum(np.maximum.accumulate(np.array(factor), axis=0), 1e-9)


def _quantile(values: Array, weights: Array) -> float:
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(share, COVERAGE * share[-1])])
