"""Training of random Fourier features: ridge regression of increments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from playground.learn.arx import regression_rows, ridge_solution
from playground.learn.dataset import Segment

Array = npt.NDArray[np.float64]


def trained(
    folds: Sequence[Sequence[Segment]], settings: Mapping[str, Any], *, seed: int
) -> tuple[list[dict[str, Array]], dict[str, Array]]:
    """Fits the weights without each fold in turn, and to all data.

    Args:
        folds: Scaled blocks.
        settings: ``na``, ``nb``, ``cosines``, ``width`` (of the kernel, in
            spreads), ``noise`` (on past outputs, so that small errors of the
            free run are known from training), ``ridge``.
        seed: Of the cosines and the noise.

    Returns:
        Arrays of `playground.plants.learned.fourier.Fourier`, without the
        limits: one without each fold, and those of all data.
    """
    rng = np.random.default_rng(seed)
    na, nb = settings["na"], settings["nb"]
    outputs = folds[0][0].y.shape[1]
    lags = na * outputs + nb * folds[0][0].u.shape[1] + 1
    cosines = settings["cosines"]
    # Lags of one signal are nearly equal; by their number the distance grows.
    omega = rng.standard_normal((lags, cosines)) / (settings["width"] * np.sqrt(lags))
    omega[-1] = rng.uniform(0, 2 * np.pi, cosines)
    history = max(na, nb)
    grams = []
    for fold in folds:
        xx = np.zeros((lags + cosines, lags + cosines))
        xy = np.zeros((lags + cosines, outputs))
        rows = 0
        for block in fold:
            if len(block) <= history:
                continue
            x, change = regression_rows(block, na, nb, history=history)
            level = change + x[:, :outputs]
            x[:, : na * outputs] += settings["noise"] * rng.standard_normal(
                (len(x), na * outputs)
            )
            # From a wrong place the right increment leads back to the truth.
            change = level - x[:, :outputs]
            features = np.hstack([x, np.cos(x @ omega)])
            xx += features.T @ features
            xy += features.T @ change
            rows += len(x)
        grams.append((xx, xy, rows))

    def solved(chosen: Sequence[tuple[Array, Array, int]]) -> dict[str, Array]:
        xx = np.sum([g[0] for g in chosen], axis=0)
        xy = np.sum([g[1] for g in chosen], axis=0)
        rows = sum(g[2] for g in chosen)
        return {
            "omega": omega,
            "weights": ridge_solution(xx, xy, rows, settings["ridge"]),
        }

    return [solved(grams[:k] + grams[k + 1 :]) for k in range(len(grams))], solved(
        grams
    )
