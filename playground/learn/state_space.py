"""Subspace identification of a linear state-space model, for the free run.

What the past foretells of the future, beyond what the future inputs do, has the rank
of the system: a singular value decomposition gives the observability matrix and so A
and C (MOESP weighting; Van Overschee & De Moor, *Subspace Identification for Linear
Systems*, 1996, chapter 4; Verhaegen 1994). Poles that would not fade are pulled
inside. B and D then follow by least squares on whole free runs, in which they are
linear, with the first state of each block as unknowns (Ljung, 2nd ed., section 10.6).
How a run begins is learned last: which state, made from the rows before, foretells
the rows after best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from playground.learn.dataset import Segment

Array = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]

FADES = 0.9995
"""Largest modulus of a pole: what is slower would drift."""
ROWS = 3000
"""Rows of free runs that are compared; more would not move the answer."""
STARTS, AHEAD = 1500, 60
"""Runs by which the beginning is learned, and their rows."""


def trained(
    folds: Sequence[Sequence[Segment]], settings: Mapping[str, Any]
) -> tuple[list[dict[str, Array]], dict[str, Array]]:
    """Identifies a system without each fold in turn, and from all data.

    Args:
        folds: Scaled blocks.
        settings: ``order``, ``horizon`` (rows of past and of future that are
            compared), ``given`` (rows known when a run begins), ``ridge``.

    Returns:
        Arrays of `playground.plants.learned.state_space.StateSpace`, without the
        limits: one without each fold, and those of all data.
    """
    grams = [_gram(fold, settings["horizon"]) for fold in folds]

    def identified(out: int) -> dict[str, Array]:
        kept = [k for k in range(len(folds)) if k != out]
        gram = np.sum([grams[k] for k in kept], axis=0)
        blocks = [b for k in kept for b in folds[k]]
        return _identified(gram, blocks, settings)

    return [identified(out) for out in range(len(folds))], identified(-1)


def _gram(fold: Sequence[Segment], horizon: int) -> Array:
    """Sums up products of past inputs, past outputs, 1, future inputs and outputs."""
    width = 2 * horizon * (fold[0].u.shape[1] + fold[0].y.shape[1]) + 1
    total = np.zeros((width, width))
    for block in fold:
        count = len(block) - 2 * horizon + 1
        if count < 1:
            continue
        window = np.lib.stride_tricks.sliding_window_view
        u = window(block.u, 2 * horizon, axis=0).transpose(0, 2, 1)
        y = window(block.y, 2 * horizon, axis=0).transpose(0, 2, 1)
        rows = np.concatenate(
            [
                u[:, :horizon].reshape(count, -1),
                y[:, :horizon].reshape(count, -1),
                np.ones((count, 1)),
                u[:, horizon:].reshape(count, -1),
                y[:, horizon:].reshape(count, -1),
            ],
            axis=1,
        )
        total += rows.T @ rows
    return total


def _identified(
    gram: Array, blocks: Sequence[Segment], settings: Mapping[str, Any]
) -> dict[str, Array]:
    a, c = _poles(gram, blocks[0], settings)
    b, d = _inputs(a, c, blocks, settings["ridge"])
    opening = _opening(a, b, c, d, blocks, settings["given"])
    # In rows: a state is a row here and in the simulator.
    system = np.concatenate(
        [
            np.concatenate([a.T, c.T], axis=1),
            np.concatenate([b.T, d.T], axis=1),
        ]
    )
    return {"system": system, "opening": opening}


def _poles(
    gram: Array, block: Segment, settings: Mapping[str, Any]
) -> tuple[Array, Array]:
    """Returns A and C, from products of past and future."""
    horizon, order = settings["horizon"], settings["order"]
    inputs, outputs = block.u.shape[1], block.y.shape[1]
    order = min(order, (horizon - 1) * outputs)
    past = horizon * (inputs + outputs)
    known = past + 1 + horizon * inputs
    rows = max(gram[past, past], 1.0)
    pull = settings["ridge"] * rows
    zz = gram[:known, :known] + pull * np.eye(known)
    found = np.linalg.solve(zz, gram[:known, known:])[:past]
    # What the future inputs tell of the past is theirs, not the state's.
    told = gram[:past, past:known]
    own = zz[:past, :past] - told @ np.linalg.solve(zz[past:, past:], told.T)
    values, vectors = np.linalg.eigh(found.T @ own @ found)
    largest = np.argsort(values)[::-1][:order]
    gamma = vectors[:, largest] * np.maximum(values[largest] / rows, 1e-12) ** 0.25
    a = np.linalg.lstsq(gamma[:-outputs], gamma[outputs:], rcond=None)[0]
    return _faded(a), gamma[:outputs]


def _faded(a: Array) -> Array:
    """Pulls the eigenvalues of a matrix inside, and leaves all else as it is."""
    values, vectors = np.linalg.eig(a)
    size = np.abs(values)
    if size.max() <= FADES:
        return a
    if np.linalg.cond(vectors) > 1e8:
        return np.asarray(a * (FADES / size.max()))
    values = values * np.minimum(1.0, FADES / np.maximum(size, 1e-12))
    return np.asarray((vectors * values) @ np.linalg.inv(vectors)).real


def _inputs(
    a: Array, c: Array, blocks: Sequence[Segment], ridge: float
) -> tuple[Array, Array]:
    """Returns B and D (the last column of each: of a constant 1)."""
    order, outputs = len(a), len(c)
    # Poles that are equal have no vectors of their own: a hair between them.
    values, vectors = np.linalg.eig(a + 1e-9 * np.diag(np.arange(order)))
    back = np.linalg.inv(vectors)
    seen = c @ vectors
    told = blocks[0].u.shape[1] + 1
    free, rows = (order + outputs) * told, sum(len(b) for b in blocks)
    thin = max(1, rows // ROWS)
    gram, right = np.zeros((free, free)), np.zeros(free)
    for block in blocks:
        at = np.arange(0, len(block), thin)
        u = np.concatenate([block.u, np.ones((len(block), 1))], axis=1)
        waves: Complex = np.stack(
            [lfilter([0.0, 1.0], [1.0, -v], u.astype(complex), axis=0) for v in values],
            axis=1,
        )[at]
        fading = values[None] ** at[:, None]
        every = np.zeros((len(at), outputs, free))
        first = np.empty((len(at), outputs, order))
        for k in range(outputs):
            by_state = np.einsum("tqj,q,qi->tij", waves, seen[k], back, optimize=True)
            every[:, k, : order * told] = by_state.real.reshape(len(at), -1)
            place = (order + k) * told
            every[:, k, place : place + told] = u[at]
            first[:, k] = ((fading * seen[k]) @ back).real
        x, begun = every.reshape(-1, free), first.reshape(-1, order)
        y = block.y[at].reshape(-1)
        # The first state of each block is unknown too: it is taken out at once.
        inner = begun.T @ begun + 1e-3 * len(at) * np.eye(order)
        cross = begun.T @ x
        half = np.linalg.solve(inner, cross)
        gram += x.T @ x - cross.T @ half
        right += x.T @ y - half.T @ (begun.T @ y)
    gram += ridge * (rows / thin) * np.eye(free)
    found = np.linalg.solve(gram, right)
    cut = order * told
    return found[:cut].reshape(order, told), found[cut:].reshape(outputs, told)


def _opening(
    a: Array, b: Array, c: Array, d: Array, blocks: Sequence[Segment], given: int
) -> Array:
    """Returns what the rows before a run make of its first state."""
    longest = max(len(block) for block in blocks) - given
    ahead = max(1, min(AHEAD, longest // 2))
    possible = [
        (block, start)
        for block in blocks
        for start in range(given, len(block) - ahead + 1)
    ]
    chosen = np.linspace(0, len(possible) - 1, min(STARTS, len(possible))).astype(int)
    runs = [possible[k] for k in chosen]
    ones = np.ones((len(runs), 1))
    before = np.concatenate(
        [
            np.stack([s.y[t - given : t].reshape(-1) for s, t in runs]),
            np.stack([s.u[t - given : t].reshape(-1) for s, t in runs]),
            ones,
        ],
        axis=1,
    )
    u = np.stack([s.u[t : t + ahead] for s, t in runs])
    y = np.stack([s.y[t : t + ahead] for s, t in runs])
    x = np.zeros((len(runs), len(a)))
    reach = c
    target = np.zeros_like(x)
    seen = np.zeros_like(a)
    for row in range(ahead):
        now = np.concatenate([u[:, row], ones], axis=1)
        # What the inputs since the beginning do not explain, the first state has to.
        left = y[:, row] - x @ c.T - now @ d.T
        target += left @ reach
        seen += reach.T @ reach
        x = x @ a.T + now @ b.T
        reach = reach @ a
    seen += 1e-6 * np.trace(seen) * np.eye(len(a))
    states = np.linalg.solve(seen, target.T).T
    pull = 1e-2 * len(runs) * np.eye(before.shape[1])
    pull[-1, -1] *= 1e-4
    return np.asarray(np.linalg.solve(before.T @ before + pull, before.T @ states))
