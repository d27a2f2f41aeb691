"""Held-back blocks from different times, and free runs over many of them at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from playground.learn.dataset import Segment
from playground.plants.learned.simulator import Simulator, free_run

Array = npt.NDArray[np.float64]

FOLDS = 4
EACH = 8
"""Up to so many segments each is a fold of its own."""
LARGEST = 1 / 3
"""Unless one of them has more of all rows: then too little would be left."""
RUNS = 40
"""Free runs by which intervals are measured."""
SHORT = 160
"""Rows of those that begin later, where there are many."""
BRIEF = 60
"""More free runs per fold, by which intervals at short lead times are measured."""
BRIEF_ROWS = 57
"""Rows of those, at most: twelve that are given, and the 45 of which lead times up to 32
are measured. A row more would speak for the beginning of the next longer one alone."""


def folds_of(
    segments: Sequence[Segment], *, count: int = FOLDS, shortest: int = 16
) -> list[list[Segment]]:
    """Cuts training data into folds, each from its own time.

    A few segments, more than ``count``, are experiments: each is a fold of its own.
    What was learned from the others then says how far the next experiment will be
    known, and no two that alone know a range of an input are left out together. Else
    the folds are of about equal size. Whole segments are kept whole where that leaves
    them so; a long one is cut, because a block must not be larger than a fold.

    Args:
        segments: In order of time.
        count: How many folds, or more if each segment is one.
        shortest: Shorter blocks are left out.

    Returns:
        Lists of blocks.
    """
    enough = [s for s in segments if len(s) >= shortest]
    rows_of_all = sum(len(s) for s in enough)
    if count < len(enough) <= EACH and all(
        len(s) <= LARGEST * rows_of_all for s in enough
    ):
        return [[s] for s in enough]
    largest = rows_of_all / count
    blocks: list[Segment] = []
    for segment in enough:
        parts = max(1, int(np.ceil(len(segment) / largest - 0.25)))
        edges = np.linspace(0, len(segment), parts + 1).astype(int)
        blocks.extend(segment.part(a, b) for a, b in itertools.pairwise(edges))
    blocks = [b for b in blocks if len(b) >= shortest]
    folds: list[list[Segment]] = [[] for _ in range(count)]
    rows = [0] * count
    # The longest first, each into the fold that has least: equal sizes. Equal
    # lengths go round, so that each fold sees all times.
    for block in sorted(blocks, key=len, reverse=True):
        least = int(np.argmin(rows))
        folds[least].append(block)
        rows[least] += len(block)
    return folds


def later_starts(
    folds: Sequence[Sequence[Segment]], *, runs: int = RUNS, shortest: int = 32
) -> list[list[Segment]]:
    """Begins more runs within the blocks of each fold.

    A block tells the error at each lead time once, and blocks that are days all begin
    at midnight. Runs that begin later within them tell it from other states; where
    there are blocks enough for long lead times, these runs are short.

    Args:
        folds: Blocks.
        runs: At least about how many there shall be in all, those from the
            beginning too.
        shortest: A run is never shorter.

    Returns:
        As many lists as folds.
    """
    blocks = max(1, sum(len(fold) for fold in folds))
    each = max(4, int(np.ceil(runs / blocks)))
    longest = None if blocks < runs else SHORT
    return [
        [
            block.part(int(start), len(block))
            if longest is None
            else block.part(int(start), int(start) + longest)
            for block in fold
            for start in np.linspace(0, len(block), each, endpoint=False)[1:]
            if len(block) - int(start) >= shortest
        ]
        for fold in folds
    ]


def brief_starts(
    folds: Sequence[Sequence[Segment]], *, shortest: int = 32
) -> list[list[Segment]]:
    """Begins many brief runs within the blocks of each fold.

    What some forty runs were wrong after a step says little about the next one: the
    90 % quantile of forty errors is anything from the 76 % to the 96 % one.

    Args:
        folds: Blocks.
        shortest: A run is never shorter.

    Returns:
        As many lists as folds.
    """
    brief = []
    for fold in folds:
        possible = [
            (block, start)
            for block in fold
            for start in range(1, len(block) - shortest + 1)
        ]
        chosen = np.linspace(0, len(possible) - 1, min(BRIEF, len(possible)))
        starts = [possible[place] for place in chosen.astype(int)]
        brief.append([b.part(a, min(a + BRIEF_ROWS, len(b))) for b, a in starts])
    return brief


def blocks_free_run(
    simulator: Simulator, blocks: Sequence[Segment], *, history: int
) -> list[Array]:
    """Simulates scaled blocks side by side.

    Args:
        simulator: Any.
        blocks: Of any lengths above ``history``.
        history: Rows that are given, at least those of the simulator.

    Returns:
        Outputs per block from row ``history`` on.
    """
    if not blocks:
        return []
    rows = max(len(b) for b in blocks)

    def padded(table: Array) -> Array:
        short = rows - len(table)
        return np.concatenate([table, np.repeat(table[-1:], short, axis=0)])

    u = np.stack([padded(b.u) for b in blocks])
    y = np.stack([padded(b.y) for b in blocks])
    given = simulator.history
    skip = history - given
    with np.errstate(all="ignore"):
        said = free_run(simulator, u[:, skip:], y[:, skip:])[:, given:]
    return [s[: len(b) - history] for s, b in zip(said, blocks, strict=True)]


def simplest(errors: Sequence[Sequence[float]]) -> int:
    """Chooses the first that is as good as the best, as far as folds can tell.

    The one-standard-error rule (Breiman et al. 1984, section 3.4.3), on logarithms
    and on differences from fold to fold, since some folds are hard for all.

    Args:
        errors: Per option, from simple to complex, the error on each fold.

    Returns:
        Which one.
    """
    logs = np.log(np.maximum(errors, 1e-9))
    behind = logs - logs[np.argmin(logs.mean(axis=1))]
    folds = behind.shape[1]
    scatter = behind.std(axis=1, ddof=1) / np.sqrt(folds) if folds > 1 else 0.0
    return int(np.argmax(behind.mean(axis=1) <= scatter))
