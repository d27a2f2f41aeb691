"""Training of the network that is taught: plain regression, on rows without noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from playground.learn.dataset import Segment
from playground.learn.network import filtered

Array = npt.NDArray[Any]

PRODUCTS = 18_500
"""Multiplications per step, about: what suffices for half a million steps per second
in batches, with a third to spare."""
TANGENT = 250
"""Multiplications that take as long as a hyperbolic tangent."""
WIDEST, SECOND = 128, 64
"""Most units of the first layer, and those of the second."""
PASSES = 17
"""Times that each row is seen, about."""
BATCH = 512
RATE = 3e-3
DECAY = (0.05, 1.0)
"""Weakest and strongest pull of the units towards zero."""
APART = 0.1
"""Weight of how far the members are apart, against what they say."""


def products_of(arrays: Mapping[str, Array]) -> int:
    """Returns how many multiplications a step of one copy of a network takes, about.

    Args:
        arrays: As of `playground.plants.learned.network.Network`.
    """
    _, width, states = arrays["skeleton"].shape
    hidden = arrays["inner"].shape[2]
    return int(width * (states + hidden) + hidden * (states + TANGENT))


def units_for(features: int, spent: int = 0) -> int:
    """Returns how many units the first layer has: the more, the less there is to see.

    Args:
        features: Of what is seen.
        spent: Multiplications that a network below takes.
    """
    return int(np.clip((PRODUCTS - spent) // (features + SECOND), 16, WIDEST))


def decay_for(rows: int) -> float:
    """Returns how strongly the units are to be pulled towards zero.

    Lessons made from few rows are alike; what is learned from them without a pull is
    known by heart and wrong elsewhere. From many rows the pull only does harm.

    Args:
        rows: Of recorded training data.
    """
    return float(np.clip(4000 / rows, *DECAY))


def seen(
    blocks: Sequence[Segment],
    settings: Mapping[str, Any],
    *,
    first: int,
    below: Sequence[Array] | None = None,
) -> npt.NDArray[np.float32]:
    """Returns what a `Distilled` sees in each step of free runs over blocks.

    Args:
        blocks: Scaled; of their outputs only the row before the first step counts.
        settings: As of `playground.plants.learned.distilled.Distilled`.
        first: Row of the first step, at least the rows that are given.
        below: What the network below says per block, from that row on, if there is one.

    Returns:
        Rows × features, the blocks end to end.
    """
    lags, given = settings["lags"], settings["given"]
    parts = []
    for number, block in enumerate(blocks):
        rows = len(block) - first
        told = [block.u[first - k : len(block) - k] for k in range(lags)]
        past = filtered(block.u[first - given :], settings["filters"])[given:]
        steps = np.arange(1, rows + 1)[:, None]
        decay = np.exp(-steps / np.asarray(settings["decays"], dtype=float))
        start = decay[:, :, None] * block.y[first - 1]
        said = [] if below is None else [below[number]]
        began = start.reshape(rows, -1)
        parts.append(np.hstack([*told, past, began, decay, *said, np.ones((rows, 1))]))
    return np.vstack(parts).astype(np.float32)


def taught(
    x: npt.NDArray[np.float32],
    wanted: npt.NDArray[np.float64],
    *,
    outputs: int,
    units: int,
    decay: float,
    seed: int,
) -> dict[str, npt.NDArray[np.float64]]:
    """Learns what is to be answered to what is seen.

    Adam (Kingma & Ba 2015) on mini-batches, from the ridge regression on, with decay
    beside it (Loshchilov & Hutter 2019); the answer is the mean of the weights of the
    last fifth of the rounds.

    Args:
        x: Rows × features; the last column is 1.
        wanted: Rows × (2 · outputs): the outputs, and how far the members are apart.
        outputs: How many.
        units: Of the first layer; see `units_for`.
        decay: Pull of the units towards zero; see `decay_for`.
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
    target = wanted.astype(np.float32)
    features, said = x.shape[1], target.shape[1]
    one, two = units, SECOND
    square = (x.T @ x).astype(float) + 1e-4 * len(x) * np.eye(features)
    linear = np.linalg.solve(square, (x.T @ target).astype(float))
    weights: list[Array] = [
        linear,
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
    kept, rounds = 0, PASSES * len(x) // BATCH
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
                w *= 1 - rate * decay
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
