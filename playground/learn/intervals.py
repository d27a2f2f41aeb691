"""Prediction intervals from what held-back free runs got wrong.

Split-conformal (Vovk et al. 2005; Lei et al. 2018): the half-width at a lead
time is the quantile of the errors that were made about there on blocks the model
had not seen, scaled by how far the members are apart. Folds are different times
or experiments, and the next one will be of their kind rather than of their rows:
each counts alike, however long it is (Dunn, Wasserman and Ramdas 2022). Rows of a
block are no independent errors, so at each lead time the width grows by what a
quantile from so few stretches of that length is uncertain: Student's t against
the normal.

Widening by what folds need of each other as well would do the same thing twice: on
folds held back from all of this it was a third wider for next to no more coverage.
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
"""Steps since the beginning at which a width is measured; between them it goes with
the logarithm of the lead time (`LearnedPlant.half_widths`)."""
FEWEST_BLOCKS = 10
"""With fewer the intervals count as uncalibrated, though they are widened."""
FEWEST_ERRORS = 20
"""With fewer about a lead time, its width follows from those beside it."""
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
        truth: Scaled outputs per held-back run, from the first step on; whole blocks
            before runs within them.
        said: What the model said, likewise.
        spread: How far its members were apart, likewise.
        fold: To which fold a run belongs.
        blocks: How many different blocks the runs are from; each its own if None.

    Returns:
        Arrays: ``floor`` per output and ``factor`` lead times × outputs, such that
        the half-width is factor × (floor + spread); and what to say of it.
    """
    wrong = [np.abs(a - b) for a, b in zip(truth, said, strict=True)]
    floor = np.maximum(np.sqrt((np.vstack(wrong) ** 2).mean(axis=0)), 1e-9)
    relative = [w / (floor + s) for w, s in zip(wrong, spread, strict=True)]
    blocks = len(truth) if blocks is None else blocks
    enough = blocks >= FEWEST_BLOCKS
    widening = _for_few(truth, blocks)
    arrays = {
        "floor": floor,
        "factor": _factors(relative, fold) * widening[:, None],
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
    """Returns per lead time how much wider a quantile from few errors has to be.

    Rows that are nearer in time than the lead time are not independent, so the
    number of errors is that of stretches as long as it.
    """
    # All other runs are parts of the blocks.
    rows = sum(len(t) for t in truth[:blocks])
    longest = max(len(t) for t in truth)
    wider = []
    for lead in LEADS:
        count = int(np.clip(rows // min(lead, longest), 2, 1000))
        t = stats.t.ppf(0.5 + COVERAGE / 2, count - 1)
        normal = stats.norm.ppf(0.5 + COVERAGE / 2)
        wider.append(min(t / normal * np.sqrt(1 + 1 / count), WIDEST))
    return np.array(wider)


def _factors(relative: Sequence[Array], fold: Sequence[int]) -> Array:
    """Returns the quantile of relative errors, lead times × outputs.

    Where most folds are too short for a lead time, or errors are few, the widths of
    the lead times beside it decide.
    """
    folds = sorted(set(fold))
    measured, found, known = [], [], []
    for place, lead in enumerate(LEADS):
        # Half an octave to both sides: enough errors, and none from far away.
        first, end = np.ceil(lead * np.array([2**-0.5, 2**0.5])).astype(int)
        near = [
            np.vstack(
                [
                    rows[max(first, 1) - 1 : max(end, 2) - 1]
                    for rows, owner in zip(relative, fold, strict=True)
                    if owner == number
                ]
            )
            for number in folds
        ]
        near = [rows for rows in near if len(rows)]
        few = sum(len(rows) for rows in near) < FEWEST_ERRORS
        if not few and len(near) >= len(folds) / 2:
            measured.append(place)
            found.append(_alike(near))
            known.append(float(len(near)))
    if not measured:
        everything = np.quantile(np.vstack(relative), COVERAGE, axis=0)
        return np.maximum(np.tile(everything, (len(LEADS), 1)), 1e-9)
    rising = [_rising(column, known) for column in np.array(found).T]
    places = np.arange(len(LEADS))
    factors = [np.interp(places, measured, column) for column in rising]
    return np.maximum(np.array(factors).T, 1e-9)


def _alike(folds: Sequence[Array]) -> Array:
    """Returns the quantile per column of rows × columns; each fold counts alike."""
    rows = np.vstack(folds)
    weights = np.concatenate([np.full(len(f), 1.0 / len(f)) for f in folds])
    return np.array([_quantile(column, weights) for column in rows.T])


def _quantile(values: Array, weights: Array) -> float:
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order])
    # A hair less: a sum of weights that rounding has lifted is the sum all the same.
    place = np.searchsorted(share, COVERAGE * share[-1] - 1e-12)
    return float(values[order][place])


def _rising(values: Array, weights: Sequence[float]) -> Array:
    """Makes widths that never fall, nearest to those measured.

    The longer ahead, the less is known. Pooling what goes down (Barlow et al. 1972)
    keeps the mean; the running maximum would carry each chance to all longer times.
    """
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights, strict=True):
        pools.append((value, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (b, weight_b, many), (a, weight_a, few) = pools.pop(), pools.pop()
            both = weight_a + weight_b
            pools.append(((a * weight_a + b * weight_b) / both, both, few + many))
    return np.concatenate([np.full(count, value) for value, _, count in pools])
