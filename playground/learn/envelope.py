"""Measures where the training data have been."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from playground.learn.dataset import Segment
from playground.model import Model
from playground.plants.learned.envelope import NEIGHBOURS

Array = npt.NDArray[np.float64]

STATES = 300
MARGIN = 0.1
"""Part of the range seen that is still believed beyond its ends."""


def measured(folds: Sequence[Sequence[Segment]], *, seed: int) -> dict[str, Array]:
    """Returns the arrays of `playground.plants.learned.envelope.Envelope`.

    The reach is such that nearly all states of a fold are inside when only the
    other folds were seen; so it is calibrated on blocks, not on neighbours in
    time. How far a signal may go in one step is the furthest it went, and a tenth of
    that: a command that jumps in the data may jump.
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
    rates = [
        np.abs(np.diff(np.hstack([b.u, b.y]), axis=0)).max(axis=0, initial=0.0)
        for fold in folds
        for b in fold
    ]
    usual = np.max([np.quantile(d, 0.99) for d in distances])
    return {
        "low": low - margin,
        "high": high + margin,
        "rate": (1 + MARGIN) * np.maximum(np.max(rates, axis=0), 1e-6),
        "states": spread_out(rows, STATES, rng),
        "reach": np.array([float(usual)]),
    }


def told(model: Model) -> list[str]:
    """Returns the section of a card that says where a model has been, as lines."""
    scaling = model.part("scaling")
    mean = np.concatenate([scaling["u_mean"], scaling["y_mean"]])
    std = np.concatenate([scaling["u_std"], scaling["y_std"]])
    known = model.part("envelope")
    low, high = (known[end] * std + mean for end in ("low", "high"))
    rate = known["rate"] * std
    lines = [
        "## Validity envelope",
        "",
        "A step is outside it where a signal leaves its range or goes further in one step, "
        "and where all signals together are far from every state seen.",
        "",
        "| signal | unit | from | to | furthest in a step |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {model.signals[name].unit} | {low[k]:.4g} | {high[k]:.4g} | "
        f"{rate[k]:.4g} |"
        for k, name in enumerate((*model.inputs, *model.outputs))
    ]
    return lines


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
