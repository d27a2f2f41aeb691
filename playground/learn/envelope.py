"""Measures where the training data have been."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from playground.learn.dataset import Segment
from playground.plants.learned.envelope import NEIGHBOURS

Array = npt.NDArray[np.float64]

STATES = 300
MARGIN = 0.1
"""Part of the range seen that is still believed beyond its ends."""


def measured(folds: Sequence[Sequence[Segment]], *, seed: int) -> dict[str, Array]:
    """Returns the arrays of `playground.plants.learned.envelope.Envelope`.

    The reach is such that nearly all states of a fold are inside when only the
    other folds were seen; so it is calibrated on blocks, not on neighbours in
    time.
    """
    rng = np.random.default_rng(seed)
    tables = [np.vstack([np.hstack([b.u, b.y]) for b in fold]) for fold in folds]
    rows = np.vstack(tables)
    low, high = rows.min(axis=0), rows.max(axis=0)
    margin = MARGIN * np.maximum(high - low, 1e-6)
    distances = []
    for out, table in enumerate(tables):
        others = np.vstack([t for k, t in enumerate(tables) if k != out])
        seen = spread_out(others, STATES, rng)
        asked = table[rng.choice(len(table), min(len(table), 400), replace=False)]
        square = ((asked[:, None, :] - seen[None]) ** 2).sum(axis=2)
        nearest = np.sort(square, axis=1)[:, :NEIGHBOURS]
        distances.append(np.sqrt(nearest).mean(axis=1))
    usual = np.max([np.quantile(d, 0.99) for d in distances])
    return {
        "low": low - margin,
        "high": high + margin,
        "states": spread_out(rows, STATES, rng),
        "reach": np.array([float(usual)]),
    }


def spread_out(rows: Array, count: int, rng: np.random.Generator) -> Array:
    """Chooses rows that cover all: each the farthest from those before it."""
    rows = rows[rng.choice(len(rows), min(len(rows), 5000), replace=False)]
    if len(rows) <= count:
        return rows
    chosen = [0]
    distance = ((rows - rows[0]) ** 2).sum(axis=1)
    for _ in range(count - 1):
        farthest = int(np.argmax(distance))
        chosen.append(farthest)
        distance = np.minimum(distance, ((rows - rows[farthest]) ** 2).sum(axis=1))
    return rows[chosen]
