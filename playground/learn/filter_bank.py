"""Training of the filter bank: plain regression, from random beginnings.

A training example is a pair of rows of one block: a beginning, from which the
filters start steady and the outputs are known, and a later row, whose outputs
are wanted. So the network learns how much of the beginning to believe after how
long, as it will need in free run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from playground.learn.dataset import Segment
from playground.learn.network import adam, filtered
from playground.plants.learned.bank import GIVEN

Array = npt.NDArray[Any]


class Pairs:
    """Draws training examples from blocks.

    Args:
        folds: Scaled blocks.
        filters: Time constants in steps.
        decays: Time constants in steps.
        lags: Rows of inputs, the present one included; at most ``GIVEN``.
    """

    def __init__(
        self,
        folds: Sequence[Sequence[Segment]],
        filters: Sequence[float],
        decays: Sequence[float],
        lags: int = 1,
    ) -> None:
        self._lags = lags
        blocks = [(b, k) for k, fold in enumerate(folds) for b in fold]
        self.u = np.vstack([b.u for b, _ in blocks])
        self.y = np.vstack([b.y for b, _ in blocks])
        self.bank = np.vstack([filtered(b.u, filters) for b, _ in blocks])
        self.age = np.concatenate([np.arange(len(b)) for b, _ in blocks])
        self.fold = np.concatenate([np.full(len(b), k) for b, k in blocks])
        self._keep = np.repeat(
            np.exp(-1.0 / np.asarray(filters, float)), self.u.shape[1]
        )
        self._filters = len(filters)
        self._fade = 1.0 / np.asarray(decays, float)

    def rows(self, out: int) -> Array:
        """Returns the rows that may be wanted when a fold is left out."""
        return np.flatnonzero((self.fold != out) & (self.age >= GIVEN))

    def draw(self, rows: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Chooses beginnings for rows and returns features and outputs."""
        given = GIVEN
        longest = self.age[rows] - given + 1
        even = rng.integers(1, longest + 1)
        early = np.exp(rng.uniform(0, np.log(longest + 1))).astype(int)
        lag = np.where(rng.random(len(rows)) < 0.5, even, np.maximum(early, 1))
        known = rows - lag
        first = known - given + 1
        steady = np.tile(self.u[first], (1, self._filters))
        # A filter forgets its start exponentially, so a cold one differs from
        # one that ran since the block began by a fading offset.
        bank = self.bank[rows] + (steady - self.bank[first]) * self._keep ** (
            lag + given - 1
        ).reshape(-1, 1)
        fading = np.exp(-lag[:, None] * self._fade)
        start = (fading[:, :, None] * self.y[known][:, None, :]).reshape(len(rows), -1)
        recent = [self.u[rows - k] for k in range(self._lags)]
        features = np.hstack([*recent, bank, start, fading, np.ones((len(rows), 1))])
        return features.astype(np.float32), self.y[rows].astype(np.float32)


def trained(
    folds: Sequence[Sequence[Segment]],
    settings: Mapping[str, Any],
    *,
    seed: int,
    effort: float = 1.0,
) -> dict[str, npt.NDArray[np.float64]]:
    """Trains a copy without each fold in turn, and ``settings["whole"]`` on all.

    Args:
        folds: Scaled blocks.
        settings: ``filters``, ``decays``, ``hidden``, ``decay``, ``rounds``,
            ``batch``, ``whole``.
        seed: Of weights and examples.
        effort: Factor on the number of updates.

    Returns:
        The arrays of `playground.plants.learned.filter_bank.FilterBank`, without
        the limits.
    """
    rng = np.random.default_rng(seed)
    pairs = Pairs(folds, settings["filters"], settings["decays"])
    left_out = [*range(len(folds)), *[-1] * settings["whole"]]
    rows = [pairs.rows(out) for out in left_out]
    copies, hidden, outputs = len(left_out), settings["hidden"], pairs.y.shape[1]
    straight = []
    for mine in rows:
        x, target = pairs.draw(rng.choice(mine, min(len(mine) * 2, 20_000)), rng)
        xx = x.T.astype(float) @ x + 1e-3 * len(x) * np.eye(x.shape[1])
        straight.append(np.linalg.solve(xx, x.T.astype(float) @ target))
    width = len(straight[0])
    weights: list[Array] = [
        np.stack(straight),
        rng.standard_normal((copies, width, hidden)) / np.sqrt(width),
        rng.standard_normal((copies, hidden, hidden)) / np.sqrt(hidden),
        rng.standard_normal((copies, hidden, outputs)) * 0.01,
    ]
    weights = [w.astype(np.float32) for w in weights]
    moments = [(np.zeros_like(w), np.zeros_like(w)) for w in weights]
    rounds = max(50, round(settings["rounds"] * effort))
    sums = [np.zeros_like(w) for w in weights]
    kept = 0
    for turn in range(rounds):
        drawn = [pairs.draw(rng.choice(mine, settings["batch"]), rng) for mine in rows]
        x = np.stack([d[0] for d in drawn])
        target = np.stack([d[1] for d in drawn])
        gradients = _gradients(weights, x, target)
        rate = settings["rate"] * (
            0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * turn / rounds))
        )
        adam(weights, moments, gradients, rate, turn + 1, settings["decay"], slow=0.2)
        if turn >= 0.8 * rounds:
            kept += 1
            for total, w in zip(sums, weights, strict=True):
                total += w
    return {
        name: (total / kept).astype(np.float64)
        for name, total in zip(
            ("straight", "first", "second", "third"), sums, strict=True
        )
    }


def _gradients(weights: Sequence[Array], x: Array, target: Array) -> list[Array]:
    straight, first, second, third = weights
    one = np.tanh(x @ first)
    two = np.tanh(one @ second)
    wrong = (x @ straight + two @ third - target) * (2.0 / x.shape[1])
    g_two = (wrong @ third.transpose(0, 2, 1)) * (1 - two**2)
    g_one = (g_two @ second.transpose(0, 2, 1)) * (1 - one**2)
    back = x.transpose(0, 2, 1)
    return [
        back @ wrong,
        back @ g_one,
        one.transpose(0, 2, 1) @ g_two,
        two.transpose(0, 2, 1) @ wrong,
    ]
