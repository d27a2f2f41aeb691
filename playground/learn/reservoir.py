"""Training of the reservoir: a ridge regression on what its units do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from playground.learn.dataset import Segment
from playground.plants.learned.reservoir import Reservoir

Array = npt.NDArray[np.float64]

BEGINNINGS = 3
"""From how many rows of a block a run begins, so that all ages are seen."""


def trained(
    folds: Sequence[Sequence[Segment]],
    settings: Mapping[str, Any],
    *,
    seed: int,
) -> tuple[list[dict[str, Array]], dict[str, Array]]:
    """Fits the read-out without each fold in turn, and to all data.

    Args:
        folds: Scaled blocks.
        settings: ``units``, ``slowest`` (steps of the slowest unit), ``gain``
            (of the inputs), ``ring``, ``decays``, ``ridge``.
        seed: Of the weights of the inputs.

    Returns:
        Arrays of `playground.plants.learned.reservoir.Reservoir`, without the
        limits: one without each fold, and those of all data.
    """
    rng = np.random.default_rng(seed)
    units, inputs = settings["units"], folds[0][0].u.shape[1]
    outputs = folds[0][0].y.shape[1]
    feed = settings["gain"] * rng.standard_normal((inputs + 1, units)) / np.sqrt(inputs)
    feed[-1] = 0.5 * rng.standard_normal(units)
    # Neighbours in the ring have different paces, from one step to the slowest.
    leak = 1.0 / rng.permutation(np.geomspace(1.0, settings["slowest"], units))
    fixed = {"feed": feed, "leak": leak}
    limits = {"low": np.zeros(outputs), "high": np.zeros(outputs)}
    width = units + inputs + len(settings["decays"]) * (outputs + 1) + 1
    reservoir = Reservoir(
        settings, {**fixed, **limits, "readout": np.zeros((width, outputs))}
    )
    grams = [_gram(reservoir, fold, width, outputs) for fold in folds]
    xx = np.array([g[0] for g in grams])
    xy = np.array([g[1] for g in grams])
    rows = np.array([g[2] for g in grams], float)

    def solved(xx: Array, xy: Array, rows: float) -> dict[str, Array]:
        pull = np.full(width, settings["ridge"] * rows)
        pull[-1] *= 1e-6
        return {**fixed, "readout": np.linalg.solve(xx + np.diag(pull), xy)}

    total = xx.sum(axis=0), xy.sum(axis=0), float(rows.sum())
    parts = [
        solved(total[0] - xx[k], total[1] - xy[k], total[2] - rows[k])
        for k in range(len(folds))
    ]
    return parts, solved(*total)


def _gram(
    reservoir: Reservoir, fold: Sequence[Segment], width: int, outputs: int
) -> tuple[Array, Array, int]:
    """Runs all beginnings of a fold side by side and sums up products."""
    given = reservoir.history
    runs = [
        block.part(int(start), len(block))
        for block in fold
        for start in np.linspace(0, len(block), BEGINNINGS, endpoint=False)
        if len(block) - int(start) > given + 5
    ]
    xx, xy, rows = np.zeros((width, width)), np.zeros((width, outputs)), 0
    if not runs:
        return xx, xy, rows
    runs.sort(key=len, reverse=True)
    longest = len(runs[0])
    lengths = np.array([len(r) for r in runs])
    u = np.zeros((len(runs), longest, runs[0].u.shape[1]))
    y = np.zeros((len(runs), longest, outputs))
    for k, run in enumerate(runs):
        u[k, : len(run)], y[k, : len(run)] = run.u, run.y
    reservoir.begin(u[:, :given], y[:, :given])
    kept: list[Array] = []
    wanted: list[Array] = []
    for row in range(given, longest):
        alive = int((lengths > row).sum())
        reservoir.advance(u[:, row])
        kept.append(reservoir.features()[:alive].copy())
        wanted.append(y[:alive, row])
        if len(kept) * width > 2_000_000 or row == longest - 1:
            x, target = np.concatenate(kept), np.concatenate(wanted)
            xx += x.T @ x
            xy += x.T @ target
            rows += len(x)
            kept, wanted = [], []
    return xx, xy, rows
