"""Training of boosted oblivious trees on filtered inputs.

Stochastic gradient boosting (Friedman 2002) of the squared error of all outputs
at once: each tree is fitted to what the ones before left over, on a random part
of rows and features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from playground.learn.dataset import Segment
from playground.learn.filter_bank import Pairs

Array = npt.NDArray[Any]

BINS = 64
"""One more than the thresholds that are tried per feature."""


def trained(
    folds: Sequence[Sequence[Segment]], settings: Mapping[str, Any], *, seed: int
) -> tuple[list[dict[str, Array]], dict[str, Array]]:
    """Fits trees without each fold in turn, and to all data.

    Args:
        folds: Scaled blocks.
        settings: ``filters``, ``decays``, ``trees``, ``depth``, ``rate``,
            ``examples`` (drawn once), ``rows`` and ``features`` (drawn per
            tree), ``pull`` (rows' worth of zero in every leaf), ``straight``
            (a linear part comes first).
        seed: Of all that is drawn.

    Returns:
        Arrays of `playground.plants.learned.boosting.Boosting`, without the
        limits: one without each fold, and those of all data.
    """
    pairs = Pairs(folds, settings["filters"], settings["decays"])

    def fit(out: int) -> dict[str, Array]:
        rng = np.random.default_rng([seed, out + 1])
        rows = pairs.rows(out)
        x, y = pairs.draw(rng.choice(rows, settings["examples"]), rng)
        return _boosted(x, y.astype(np.float64), settings, rng)

    return [fit(out) for out in range(len(folds))], fit(-1)


def _boosted(
    x: Array, y: Array, settings: Mapping[str, Any], rng: np.random.Generator
) -> dict[str, Array]:
    width, outputs = x.shape[1], y.shape[1]
    straight = np.zeros((width, outputs))
    if settings["straight"]:
        xx = x.T.astype(float) @ x + 1e-2 * len(x) * np.eye(width)
        straight = np.linalg.solve(xx, x.T.astype(float) @ y)
    left = y - x.astype(np.float64) @ straight
    edges = np.stack([_edges(column) for column in x.T], axis=1)
    bins = np.stack(
        [np.searchsorted(edges[:, f], x[:, f], side="left") for f in range(width)]
    ).astype(np.int64)
    trees, depth = settings["trees"], settings["depth"]
    feature = np.zeros((trees, depth))
    threshold = np.zeros((trees, depth))
    leaves = np.zeros((trees, 1 << depth, outputs))
    for tree in range(trees):
        chosen = rng.choice(len(x), min(settings["rows"], len(x)), replace=False)
        tried = rng.choice(
            width - 1, min(settings["features"], width - 1), replace=False
        )
        mine, wrong = bins[:, chosen], left[chosen]
        leaf = np.zeros(len(chosen), np.int64)
        everywhere = np.zeros(len(x), np.int64)
        for level in range(depth):
            f, b = _best_question(mine, wrong, leaf, tried, level, settings["pull"])
            feature[tree, level], threshold[tree, level] = f, edges[b, f]
            leaf |= (mine[f] > b).astype(np.int64) << level
            everywhere |= (bins[f] > b).astype(np.int64) << level
        count = np.bincount(leaf, minlength=1 << depth)
        for k in range(outputs):
            total = np.bincount(leaf, weights=wrong[:, k], minlength=1 << depth)
            leaves[tree, :, k] = settings["rate"] * total / (count + settings["pull"])
        left -= leaves[tree][everywhere]
    return {
        "straight": straight,
        "feature": feature,
        # What equals an edge lies below it.
        "threshold": threshold.astype(np.float32).astype(np.float64),
        "leaves": leaves,
    }


def _edges(values: Array) -> Array:
    """Returns ``BINS - 1`` thresholds, ascending.

    Half of them are quantiles of all values and half of the different ones: a
    command that rests at zero most of the time would else have none elsewhere.
    """
    half = BINS // 2
    often = np.quantile(values, np.linspace(0, 1, half + 1)[1:-1])
    different = np.unique(values)
    seldom = np.quantile(different, np.linspace(0, 1, BINS - half + 2)[1:-1])
    return np.sort(np.concatenate([often, seldom[: BINS - half]]))


def _best_question(
    bins: Array, wrong: Array, leaf: Array, tried: Array, level: int, pull: float
) -> tuple[int, int]:
    """Returns feature and edge that explain most, asked in all leaves at once."""
    best, answer = -np.inf, (int(tried[0]), 0)
    size = BINS << level
    for f in tried:
        place = leaf * BINS + bins[f]
        count = np.bincount(place, minlength=size).reshape(-1, BINS).cumsum(axis=1)
        total = count[:, -1:]
        gain: Array = np.zeros(BINS - 1)
        below, above = count[:, :-1] + pull, (total - count)[:, :-1] + pull
        for k in range(wrong.shape[1]):
            summed = np.bincount(place, weights=wrong[:, k], minlength=size)
            summed = summed.reshape(-1, BINS).cumsum(axis=1)
            low, high = summed[:, :-1], summed[:, -1:] - summed[:, :-1]
            gain += (low**2 / below + high**2 / above).sum(axis=0)
        at = int(np.argmax(gain))
        if gain[at] > best:
            best, answer = float(gain[at]), (int(f), at)
    return answer
