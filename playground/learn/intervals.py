"""Prediction intervals from what held-back free runs got wrong.

Split-conformal (Vovk et al. 2005; Lei et al. 2018): the half-width at a lead
time is the quantile of the errors that were made there on blocks the model had
not seen. With enough blocks it is scaled by how far the members are apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

COVERAGE = 0.9
LEADS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Steps since the beginning at which a new width begins."""
FEWEST_BLOCKS = 10
"""With fewer the width is one for all lead times, and counts as uncalibrated."""


def calibrated(
    truth: Sequence[Array], said: Sequence[Array], spread: Sequence[Array]
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Measures half-widths.

    Args:
        truth: Scaled outputs per held-back block, from the first step on.
        said: What the model said, likewise.
        spread: How far its members were apart, likewise.

    Returns:
        Arrays: ``floor`` per output and ``factor`` lead bins × outputs, such that
        the half-width is factor × (floor + spread); and what to say of it.
    """
    wrong = [np.abs(a - b) for a, b in zip(truth, said, strict=True)]
    every = np.vstack(wrong)
    floor = np.maximum(np.sqrt((every**2).mean(axis=0)), 1e-9)
    enough = len(truth) >= FEWEST_BLOCKS
    factor = np.zeros((len(LEADS), every.shape[1]))
    relative = [
        w / (floor + (s if enough else 0.0)) for w, s in zip(wrong, spread, strict=True)
    ]
    whole = np.quantile(np.vstack(relative), COVERAGE, axis=0)
    for number, first in enumerate(LEADS):
        last = LEADS[number + 1] if number + 1 < len(LEADS) else None
        parts = [r[first - 1 : None if last is None else last - 1] for r in relative]
        rows = np.vstack(parts)
        if len(rows) < 20:
            factor[number] = factor[number - 1] if number else whole
        else:
            factor[number] = np.quantile(rows, COVERAGE, axis=0)
    if not enough:
        # With few blocks a lead time has too few independent errors.
        factor[:] = whole
    # The longer ahead, the less is known.
    factor = np.maximum.accumulate(factor, axis=0)
    arrays = {
        "floor": floor,
        "factor": factor,
        "spread": np.array([1.0 if enough else 0.0]),
    }
    return arrays, {
        "coverage": COVERAGE,
        "blocks": len(truth),
        "calibrated": enough,
        "kind": "scaled by the spread of the members, by lead time"
        if enough
        else "constant; uncalibrated, because there are few blocks",
    }
