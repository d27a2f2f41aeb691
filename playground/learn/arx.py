"""Linear ARX on increments: ridge regression, order chosen by free run.

y[k] - y[k-1] = W · (y[k-1] … y[k-na], u[k] … u[k-nb+1], 1), all outputs at once.
Ljung, *System Identification*, 2nd ed., section 4.2, with increments on the left
so that the ridge pulls towards "nothing changes".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from playground.learn.dataset import Segment

Array = npt.NDArray[np.float64]


def regression_rows(
    segment: Segment, na: int, nb: int, *, history: int
) -> tuple[Array, Array]:
    """Returns features and increments of one scaled segment.

    Args:
        segment: With scaled numbers.
        na: Past outputs.
        nb: Inputs, the present one included.
        history: First row that is predicted; at least ``na`` and ``nb - 1``.

    Returns:
        rows × (na·outputs + nb·inputs + 1), and rows × outputs.
    """
    n = len(segment)
    lags_y = [segment.y[history - k : n - k] for k in range(1, na + 1)]
    lags_u = [segment.u[history - k : n - k] for k in range(nb)]
    ones = np.ones((n - history, 1))
    target = segment.y[history:] - segment.y[history - 1 : n - 1]
    return np.hstack([*lags_y, *lags_u, ones]), target


def ridge_solution(xx: Array, xy: Array, rows: float, ridge: float) -> Array:
    """Solves (XᵀX + ridge·rows·I) W = XᵀY."""
    pull = np.full(len(xx), max(ridge, 1e-12) * rows)
    return np.asarray(np.linalg.lstsq(xx + np.diag(pull), xy, rcond=None)[0])


def trained(
    folds: Sequence[Sequence[Segment]], settings: Mapping[str, Any]
) -> tuple[list[dict[str, Array]], dict[str, Array]]:
    """Fits the weights without each fold in turn, and to all data.

    Args:
        folds: Scaled blocks.
        settings: ``na``, ``nb``, ``ridge``.

    Returns:
        Arrays of `playground.plants.learned.arx.Arx`, without the limits: one
        without each fold, and those of all data.
    """
    na, nb = settings["na"], settings["nb"]
    history = max(na, nb)
    grams = []
    for fold in folds:
        parts = [
            regression_rows(b, na, nb, history=history)
            for b in fold
            if len(b) > history
        ]
        width = na * fold[0].y.shape[1] + nb * fold[0].u.shape[1] + 1
        xx, xy, rows = (
            np.zeros((width, width)),
            np.zeros((width, fold[0].y.shape[1])),
            0,
        )
        for x, target in parts:
            xx += x.T @ x
            xy += x.T @ target
            rows += len(x)
        grams.append((xx, xy, rows))

    def solved(chosen: Sequence[tuple[Array, Array, int]]) -> dict[str, Array]:
        xx = np.sum([g[0] for g in chosen], axis=0)
        xy = np.sum([g[1] for g in chosen], axis=0)
        rows = sum(g[2] for g in chosen)
        return {"weights": ridge_solution(xx, xy, rows, settings["ridge"])}

    return [solved(grams[:k] + grams[k + 1 :]) for k in range(len(grams))], solved(
        grams
    )
