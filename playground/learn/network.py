"""Training of the network: a loss over a growing horizon, through the simulation.

One-step errors do not choose a plant that runs free. So the network is rolled
out over windows of the data, first short, then longer, and the squared error of
the whole window is differentiated backwards through all steps (back-propagation
through time, Werbos 1990), by hand: at this size numpy is enough. All copies
(one per fold left out, and those of all data) are trained side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from playground.learn.arx import ridge_solution
from playground.learn.dataset import Segment

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A part of the training.

    Attributes:
        horizon: Steps of a window.
        rounds: Updates of the weights.
        rate: Step size of Adam at the beginning; falls to a tenth.
    """

    horizon: int
    rounds: int
    rate: float


STAGES = (
    Stage(horizon=10, rounds=300, rate=3e-3),
    Stage(horizon=40, rounds=250, rate=2e-3),
    Stage(horizon=120, rounds=200, rate=1e-3),
)


@dataclass(slots=True)
class Rows:
    """Training data end to end.

    Attributes:
        y: Outputs, rows × outputs.
        e: Inputs with lags and filters and a 1, rows × features, float32.
        left: Rows that follow in the same block, this one included.
        age: Rows since the beginning of the block.
        fold: To which fold a row belongs.
    """

    y: Array
    e: Array
    left: Array
    age: Array
    fold: Array


def filtered(u: Array, filters: Sequence[float]) -> Array:
    """Low-pass filters inputs from a steady start; rows × (filters · inputs)."""
    from scipy.signal import lfilter

    parts = []
    for tau in filters:
        keep = float(np.exp(-1.0 / tau))
        said, _ = lfilter([1 - keep], [1, -keep], u, axis=0, zi=keep * u[:1])
        parts.append(said)
    return np.hstack(parts) if parts else np.zeros((len(u), 0))


def stacked(
    folds: Sequence[Sequence[Segment]], nb: int, filters: Sequence[float]
) -> Rows:
    """Puts the blocks of all folds end to end."""
    ys, es, lefts, ages, owners = [], [], [], [], []
    for number, fold in enumerate(folds):
        for block in fold:
            n = len(block)
            lags = [
                np.concatenate([np.repeat(block.u[:1], k, axis=0), block.u[: n - k]])
                for k in range(nb)
            ]
            es.append(np.hstack([*lags, filtered(block.u, filters), np.ones((n, 1))]))
            ys.append(block.y)
            lefts.append(np.arange(n, 0, -1))
            ages.append(np.arange(n))
            owners.append(np.full(n, number))
    return Rows(
        y=np.vstack(ys).astype(np.float32),
        e=np.vstack(es).astype(np.float32),
        left=np.concatenate(lefts),
        age=np.concatenate(ages),
        fold=np.concatenate(owners),
    )


def trained(
    folds: Sequence[Sequence[Segment]],
    settings: Mapping[str, Any],
    *,
    seed: int,
    effort: float = 1.0,
    leave_out: bool = True,
) -> dict[str, npt.NDArray[np.float64]]:
    """Trains a copy without each fold in turn, and ``settings["whole"]`` on all.

    Args:
        folds: Scaled blocks.
        settings: ``na``, ``nb``, ``memory``, ``filters``, ``hidden``, ``decay``
            (pull of the network towards zero), ``noise`` (on what is given at
            the start of a window), ``whole`` (copies of all data).
        seed: Of weights and windows.
        effort: Factor on the number of updates.
        leave_out: False: only the copies of all data.

    Returns:
        The arrays of `playground.plants.learned.network.Network`, without the
        limits; the first ``len(folds)`` copies are those without a fold.
    """
    na, nb, memory = settings["na"], settings["nb"], settings["memory"]
    filters, hidden = settings["filters"], settings["hidden"]
    rng = np.random.default_rng(seed)
    data = stacked(folds, nb, filters)
    outputs = data.y.shape[1]
    states = outputs + memory
    first_u = na * outputs + memory
    width = first_u + data.e.shape[1]
    left_out = [*(range(len(folds)) if leave_out else ()), *[-1] * settings["whole"]]
    copies = len(left_out)
    skeleton = np.zeros((copies, width, states), np.float32)
    for copy, out in enumerate(left_out):
        skeleton[copy] = _linear_start(
            data, out, na, memory, outputs, settings["ridge"]
        )
    inner = rng.standard_normal((copies, width, hidden)) / np.sqrt(width)
    outer = rng.standard_normal((copies, hidden, states)) * 0.01
    opening = rng.standard_normal((copies, width, memory)) * 0.01
    weights = [
        skeleton,
        inner.astype(np.float32),
        outer.astype(np.float32),
        opening.astype(np.float32),
    ]
    if memory:
        # Memory fades: without this it would drift from the first step on.
        place = na * outputs + np.arange(memory)
        decays = -1.0 / np.geomspace(3.0, 100.0, memory)
        weights[0][:, place, outputs + np.arange(memory)] = decays
    moments = [(np.zeros_like(w), np.zeros_like(w)) for w in weights]
    best = _Average(weights)
    count = 0
    for stage in STAGES:
        rounds = max(20, round(stage.rounds * effort))
        starts = _starts(data, left_out, na, nb, stage.horizon)
        for turn in range(rounds):
            chosen = np.stack([rng.choice(s, settings["batch"]) for s in starts])
            noise = settings["noise"] * rng.standard_normal(
                (copies, settings["batch"], na, outputs)
            ).astype(np.float32)
            gradients = _gradients(
                data, weights, chosen, noise, _horizon(data, chosen, stage), settings
            )
            count += 1
            rate = stage.rate * (0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * turn / rounds)))
            adam(weights, moments, gradients, rate, count, settings["decay"])
            if turn >= 0.7 * rounds:
                best.add(weights, fresh=turn - 1 < 0.7 * rounds)
    return {
        name: w.astype(np.float64)
        for name, w in zip(
            ("skeleton", "inner", "outer", "opening"), best.mean(), strict=True
        )
    }


class _Average:
    """Mean of the weights over the end of the training: calmer than the last."""

    def __init__(self, weights: Sequence[Array]) -> None:
        self._sums = [np.zeros_like(w) for w in weights]
        self._count = 0

    def add(self, weights: Sequence[Array], *, fresh: bool) -> None:
        if fresh:
            self._sums = [np.zeros_like(w) for w in weights]
            self._count = 0
        for total, w in zip(self._sums, weights, strict=True):
            total += w
        self._count += 1

    def mean(self) -> list[Array]:
        return [s / self._count for s in self._sums]


def _horizon(data: Rows, chosen: Array, stage: Stage) -> int:
    return int(min(stage.horizon, data.left[chosen].min()))


def _starts(
    data: Rows, left_out: Sequence[int], na: int, nb: int, horizon: int
) -> list[Array]:
    """Rows at which a window may begin, per copy."""
    given = max(na, nb)
    reach = horizon
    while True:
        good = (data.age >= given) & (data.left >= reach)
        starts = [np.flatnonzero(good & (data.fold != out)) for out in left_out]
        if reach <= 2 or min(len(s) for s in starts) >= 20:
            return starts
        # Blocks shorter than the horizon: take what there is.
        reach = max(2, reach // 2)


def _linear_start(
    data: Rows, out: int, na: int, memory: int, outputs: int, ridge: float
) -> Array:
    good = np.flatnonzero((data.age >= na) & (data.fold != out))
    lags = [data.y[good - k] for k in range(1, na + 1)]
    x = np.hstack([*lags, data.e[good]]).astype(np.float64)
    target = (data.y[good] - data.y[good - 1]).astype(np.float64)
    solution = ridge_solution(x.T @ x, x.T @ target, len(x), ridge)
    full = np.zeros((len(solution) + memory, outputs + memory))
    full[: na * outputs, :outputs] = solution[: na * outputs]
    full[na * outputs + memory :, :outputs] = solution[na * outputs :]
    return full


def _gradients(
    data: Rows,
    weights: Sequence[Array],
    chosen: Array,
    noise: Array,
    horizon: int,
    settings: Mapping[str, Any],
) -> list[Array]:
    """Returns the gradient of the mean squared error over windows.

    Args:
        data: All rows.
        weights: Skeleton, inner, outer, opening; copies first.
        chosen: First row of each window, copies × windows.
        noise: On the outputs given, copies × windows × na × outputs.
        horizon: Steps.
        settings: As of `trained`.
    """
    skeleton, inner, outer, opening = weights
    na, memory = settings["na"], settings["memory"]
    outputs = data.y.shape[1]
    copies, windows = chosen.shape
    states = outputs + memory
    ny, first_u = na * outputs, na * outputs + memory
    both = np.concatenate([skeleton, inner], axis=2)
    back = first_u  # features that depend on earlier answers
    steps = chosen[:, None, :] + np.arange(horizon)[None, :, None]
    e = data.e[steps]  # copies × horizon × windows × features
    truth = data.y[steps]
    given = data.y[chosen[:, :, None] - 1 - np.arange(na)] + noise
    # What does not depend on answers goes through the weights at once.
    fixed = (e.reshape(copies, -1, e.shape[3]) @ both[:, first_u:]).reshape(
        copies, horizon, windows, -1
    )
    x = np.empty((copies, horizon, windows, back), np.float32)
    hidden = np.empty((copies, horizon, windows, inner.shape[2]), np.float32)
    s = np.empty((copies, horizon, windows, states), np.float32)
    now = np.empty((copies, windows, back), np.float32)
    now[:, :, :ny] = given.reshape(copies, windows, ny)
    opening_x = None
    if memory:
        before = data.e[chosen - 1]
        opening_x = np.concatenate(
            [now[:, :, :ny], np.zeros((copies, windows, memory), np.float32), before], 2
        )
        now[:, :, ny:] = opening_x @ opening
    feed = np.ascontiguousarray(both[:, :back])
    for t in range(horizon):
        x[:, t] = now
        raw = now @ feed + fixed[:, t]
        hidden[:, t] = np.tanh(raw[:, :, states:])
        change = raw[:, :, :states] + hidden[:, t] @ outer
        s[:, t, :, :outputs] = now[:, :, :outputs] + change[:, :, :outputs]
        s[:, t, :, outputs:] = now[:, :, ny:] + change[:, :, outputs:]
        # A window that runs away must not shake all the others.
        np.clip(s[:, t], -30.0, 30.0, out=s[:, t])
        now = np.concatenate(
            [s[:, t, :, :outputs], now[:, :, : ny - outputs], s[:, t, :, outputs:]], 2
        )
    wrong = (s[..., :outputs] - truth) * (2.0 / (horizon * windows))
    g_s = np.empty_like(s)
    g_raw = np.empty((copies, horizon, windows, both.shape[2]), np.float32)
    feed_back = np.ascontiguousarray(feed.transpose(0, 2, 1))
    outer_back = np.ascontiguousarray(outer.transpose(0, 2, 1))
    g_now = np.zeros((copies, windows, back), np.float32)
    for t in range(horizon - 1, -1, -1):
        g = g_s[:, t]
        g[:, :, :outputs] = wrong[:, t] + g_now[:, :, :outputs]
        g[:, :, outputs:] = g_now[:, :, ny:]
        g_raw[:, t, :, :states] = g
        g_raw[:, t, :, states:] = (g @ outer_back) * (1 - hidden[:, t] ** 2)
        g_before = g_raw[:, t] @ feed_back
        g_before[:, :, :outputs] += g[:, :, :outputs]
        g_before[:, :, ny:] += g[:, :, outputs:]
        # The lags move by one place from step to step.
        g_before[:, :, : ny - outputs] += g_now[:, :, outputs:ny]
        g_now = g_before
    flat = (copies, horizon * windows, -1)
    every = np.concatenate([x, e], axis=3).reshape(*flat).transpose(0, 2, 1)
    g_both = every @ g_raw.reshape(*flat)
    g_outer = hidden.reshape(*flat).transpose(0, 2, 1) @ g_s.reshape(*flat)
    if opening_x is None:
        g_opening = np.zeros_like(opening)
    else:
        g_opening = opening_x.transpose(0, 2, 1) @ g_now[:, :, ny:]
    return [g_both[:, :, :states], g_both[:, :, states:], g_outer, g_opening]


def adam(
    weights: Sequence[Array],
    moments: Sequence[tuple[Array, Array]],
    gradients: Sequence[Array],
    rate: float,
    count: int,
    decay: float,
    *,
    slow: float = 0.1,
) -> None:
    """Moves the weights (Kingma & Ba 2015), each copy on its own.

    Args:
        weights: Copies first; the first of them is linear and good already.
        moments: Running mean and square of the gradients.
        gradients: As many as weights.
        rate: Step size.
        count: Number of this update, from 1.
        decay: Pull of the second and third weights towards zero.
        slow: Factor on the step of the first weights.
    """
    norm = np.sqrt(sum((g**2).sum(axis=(1, 2), keepdims=True) for g in gradients))
    shrink = np.minimum(1.0, 1.0 / np.maximum(norm, 1e-12))
    first, second = 0.9, 0.99
    for number, (w, (m, v), raw) in enumerate(
        zip(weights, moments, gradients, strict=True)
    ):
        g = raw * shrink
        m += (1 - first) * (g - m)
        v += (1 - second) * (g * g - v)
        step = (m / (1 - first**count)) / (np.sqrt(v / (1 - second**count)) + 1e-8)
        w -= (rate * (slow if number == 0 else 1.0)) * step
        if number in (1, 2):
            w *= 1 - rate * decay
