"""Training of what is added to a network: plain regression, on rows without noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

UNITS = (64, 48)
"""Rectified units of the two layers."""
ROUNDS = (4000, 8000)
"""Fewest and most updates."""
BATCH = 512
RATE = 3e-3
DECAY = 0.01
APART = 0.1
"""Weight of how far the members are apart, against what they say."""


def rounds_for(rows: int) -> int:
    """Returns how many updates there should be.

    Lessons made from few rows are alike; what is learned longer from them is known by
    heart and wrong elsewhere.

    Args:
        rows: Of recorded training data.
    """
    return int(np.clip(rows / 8, *ROUNDS))


def corrected(
    x: npt.NDArray[np.float32],
    missing: npt.NDArray[np.float64],
    *,
    outputs: int,
    rounds: int,
    seed: int,
) -> dict[str, npt.NDArray[np.float64]]:
    """Learns what is missing from what is seen.

    Adam (Kingma & Ba 2015) on mini-batches, from the ridge regression on; the answer
    is the mean of the weights of the last fifth of the rounds.

    Args:
        x: State of the network, rows × features; the last column is 1.
        missing: What is to be added to each output, and how far the members are
            apart there, rows × (2 · outputs).
        outputs: How many.
        rounds: Updates of the weights.
        seed: Of weights and rows.

    Returns:
        ``straight``, ``first``, ``second`` and ``third`` of
        `playground.plants.learned.distilled.Distilled`.
    """
    rng = np.random.default_rng([seed, 11])
    # Of like spread, so that one rate suits all.
    spread = np.maximum(x.std(axis=0), 0.05).astype(np.float32)
    spread[-1] = 1.0
    x = x / spread
    target = missing.astype(np.float32)
    features, said = x.shape[1], target.shape[1]
    one, two = UNITS
    square = (x.T @ x).astype(float) + 1e-4 * len(x) * np.eye(features)
    straight = np.linalg.solve(square, (x.T @ target).astype(float))
    weights: list[Array] = [
        straight,
        rng.standard_normal((features, one)) * np.sqrt(2.0 / features),
        rng.standard_normal((one, two)) * np.sqrt(2.0 / one),
        rng.standard_normal((two, said)) * 0.01,
        np.zeros((1, two)),
    ]
    weights = [w.astype(np.float32) for w in weights]
    moments = [(np.zeros_like(w), np.zeros_like(w)) for w in weights]
    sums = [np.zeros_like(w) for w in weights]
    importance = np.ones(said, np.float32)
    importance[outputs:] = APART
    kept = 0
    for turn in range(rounds):
        rows = rng.integers(len(x), size=BATCH)
        gradients = _gradients(weights, x[rows], target[rows], importance)
        rate = RATE * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * turn / rounds)))
        for number, (w, (m, v), g) in enumerate(
            zip(weights, moments, gradients, strict=True)
        ):
            m += 0.1 * (g - m)
            v += 0.01 * (g * g - v)
            step = (m / (1 - 0.9 ** (turn + 1))) / (
                np.sqrt(v / (1 - 0.99 ** (turn + 1))) + 1e-8
            )
            # The straight part is good already.
            w -= (rate * (0.2 if number == 0 else 1.0)) * step
            if number in (1, 2, 3):
                w *= 1 - rate * DECAY
        if turn >= 0.8 * rounds:
            kept += 1
            for total, w in zip(sums, weights, strict=True):
                total += w
    straight, first, second, third, offset = (
        (total / kept).astype(np.float64) for total in sums
    )
    scale = spread.astype(np.float64)[:, None]
    # A unit that is always 1 carries the offset: a product less in each step.
    constant = np.zeros((features, 1))
    constant[-1] = 1.0
    return {
        "straight": straight / scale,
        "first": np.hstack([first / scale, constant]),
        "second": np.vstack([second, offset]),
        "third": third,
    }


def _gradients(
    weights: list[Array], x: Array, target: Array, importance: Array
) -> list[Array]:
    straight, first, second, third, offset = weights
    one = np.maximum(x @ first, 0.0)
    two = np.maximum(one @ second + offset, 0.0)
    wrong = (x @ straight + two @ third - target) * (importance * (2.0 / len(x)))
    g_two = (wrong @ third.T) * (two > 0)
    g_one = (g_two @ second.T) * (one > 0)
    return [
        x.T @ wrong,
        x.T @ g_one,
        one.T @ g_two,
        two.T @ wrong,
        g_two.sum(axis=0, keepdims=True),
    ]
