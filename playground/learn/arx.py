"""Linear ARX on increments: ridge regression, order chosen by free run.

y[k] - y[k-1] = W · (y[k-1] … y[k-na], u[k] … u[k-nb+1], 1), all outputs at once.
Ljung, *System Identification*, 2nd ed., section 4.2, with increments on the left
so that the ridge pulls towards "nothing changes".
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from playground.learn.dataset import Segment
from playground.plants.learned.arx import Arx
from playground.plants.learned.simulator import free_run

Array = npt.NDArray[np.float64]

ORDERS = (
    (1, 1),
    (1, 2),
    (2, 2),
    (2, 4),
    (3, 3),
    (4, 4),
    (4, 8),
    (6, 6),
    (8, 8),
    (12, 12),
)
RIDGES = (1e-7, 1e-5, 1e-3)


def regression_rows(
    segment: Segment, na: int, nb: int, *, history: int
) -> tuple[Array, Array]:
    """Returns features and increments of one scaled segment.

    Args:
        segment: With scaled numbers.
        na: Past outputs.
        nb: Inputs, the present one included.
        history: First row that is predicted; the same for every order, so that
            orders are compared on the same rows.

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
    """Solves (XᵀX + ridge·rows·I) W = XᵀY; the constant is not pulled."""
    pull = np.full(len(xx), ridge * rows)
    pull[-1] = 1e-12 * rows
    return np.asarray(np.linalg.lstsq(xx + np.diag(pull), xy, rcond=None)[0])


def chosen_arx(
    blocks: Sequence[Segment], *, low: Array, high: Array
) -> tuple[dict[str, int | float], Array]:
    """Chooses order and ridge by free run on blocks left out in turn.

    Args:
        blocks: The training data in scaled numbers, cut into at least two
            stretches from different times; each is simulated from its first
            rows by a model that was fitted to the others.
        low: Limits of the scaled outputs.
        high: Limits of the scaled outputs.

    Returns:
        Settings (``na``, ``nb``, ``ridge`` and the mean free-run error) and the
        weights fitted to all blocks.
    """
    longest = min(len(b) for b in blocks)
    orders = [o for o in ORDERS if max(o) < longest // 3] or [(1, 1)]
    history = max(max(o) for o in orders)
    best: tuple[float, int, int, float, Array] | None = None
    for na, nb in orders:
        parts = [regression_rows(b, na, nb, history=history) for b in blocks]
        xx = np.array([x.T @ x for x, _ in parts])
        xy = np.array([x.T @ t for x, t in parts])
        rows = np.array([len(x) for x, _ in parts], float)
        all_xx, all_xy, all_rows = xx.sum(axis=0), xy.sum(axis=0), rows.sum()
        for ridge in RIDGES:
            errors = []
            for out in range(len(blocks)):
                weights = ridge_solution(
                    all_xx - xx[out], all_xy - xy[out], all_rows - rows[out], ridge
                )
                errors.append(
                    _error(
                        Arx(
                            {"na": na, "nb": nb},
                            {"weights": weights, "low": low, "high": high},
                        ),
                        blocks[out],
                        history,
                    )
                )
            error = float(np.sqrt(np.mean(np.square(errors))))
            if best is None or error < best[0]:
                weights = ridge_solution(all_xx, all_xy, all_rows, ridge)
                best = (error, na, nb, ridge, weights)
    assert best is not None
    error, na, nb, ridge, weights = best
    return {"na": na, "nb": nb, "ridge": ridge, "validation": error}, weights


def _error(simulator: Arx, block: Segment, history: int) -> float:
    u, y = block.u[None], block.y[None]
    start = history - simulator.history
    said = free_run(simulator, u[:, start:], y[:, start:])[:, simulator.history :]
    # Scaled outputs, so the outputs count alike whatever their units.
    return float(np.sqrt(np.mean((said - y[:, history:]) ** 2)))


def blocks_of(segments: Sequence[Segment], *, at_least: int = 4) -> list[Segment]:
    """Cuts segments into blocks of about equal length, ``at_least`` of them."""
    total = sum(len(s) for s in segments)
    length = max(2, total // at_least)
    blocks: list[Segment] = []
    for segment in segments:
        parts = max(1, round(len(segment) / length))
        edges = np.linspace(0, len(segment), parts + 1).astype(int)
        blocks.extend(segment.part(a, b) for a, b in itertools.pairwise(edges))
    return blocks
