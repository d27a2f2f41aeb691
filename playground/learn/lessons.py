"""Lessons for a network that is taught: stretches of recordings, most of them changed.

Members answer to anything, so what is asked of them need not have happened: columns
are shuffled among each other and moved to other levels. What a network has not met it
does not know: of two that answered alike to what they were taught, that of the more
varied lessons was two times nearer to its members on inputs of other days.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from playground.learn.candidates import HISTORY
from playground.learn.dataset import Segment

Array = npt.NDArray[np.float64]

ROWS = 300_000
"""Of all lessons: the more there are, the less of them is learned by heart. Networks
taught by 150,000, 400,000 and 1,000,000 rows were 0.15, 0.10 and 0.09 spreads from their
members on new experiments at the output where that is hardest (TT704 of `rse`)."""
ROWS_PER_S = 2_500
"""So many for each second of a budget, up to all of them at two minutes."""
RECORDED = 0.3
"""Share of lessons with inputs as they were recorded."""
SHORTEST, LONGEST = 60, 800
"""Rows of a lesson."""
FEW = 4
"""Levels: an input of so few is not moved to others."""
BEYOND = 0.25
"""Parts of its span by which an input is moved beyond what it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """Where the signals of the training data have been, scaled.

    Attributes:
        u_low: Per input.
        u_high: Per input.
        y_low: Per output.
        y_high: Per output.
        few: Per input, whether it has few levels.
    """

    u_low: Array
    u_high: Array
    y_low: Array
    y_high: Array
    few: tuple[bool, ...]

    @classmethod
    def of(cls, blocks: Sequence[Segment]) -> Levels:
        """Looks at all rows."""
        u, y = np.vstack([b.u for b in blocks]), np.vstack([b.y for b in blocks])
        return cls(
            u_low=u.min(axis=0),
            u_high=u.max(axis=0),
            y_low=y.min(axis=0),
            y_high=y.max(axis=0),
            few=tuple(len(np.unique(column)) <= FEW for column in u.T),
        )


def rows_for(budget_s: float) -> int:
    """Returns how many rows all lessons have.

    Args:
        budget_s: For learning as a whole.
    """
    return int(min(ROWS_PER_S * budget_s, ROWS))


def lessons_from(
    blocks: Sequence[Segment], rng: np.random.Generator, *, most: int
) -> list[Segment]:
    """Returns stretches of the blocks, most with other inputs than they had.

    Args:
        blocks: Scaled.
        rng: Draws all.
        most: Rows of all lessons, about.
    """
    levels = Levels.of(blocks)
    lessons: list[Segment] = []
    rows = 0
    while rows < most:
        for number in rng.permutation(len(blocks)):
            lesson = _stretch(blocks[number], rng)
            if rng.random() > RECORDED:
                if rng.random() < 0.6:
                    lesson = _shuffled(lesson, blocks, rng)
                lesson = _moved(lesson, levels, rng)
            lessons.append(lesson)
            rows += len(lesson)
            if rows >= most:
                break
    return lessons


def _stretch(block: Segment, rng: np.random.Generator) -> Segment:
    """Cuts a stretch; short ones are as many as long ones."""
    rows = int(np.exp(rng.uniform(np.log(SHORTEST), np.log(LONGEST))))
    if len(block) <= rows:
        return block
    first = int(rng.integers(len(block) - rows))
    return block.part(first, first + rows)


def _shuffled(
    block: Segment, blocks: Sequence[Segment], rng: np.random.Generator
) -> Segment:
    """Takes some or many of the inputs from other places in the data."""
    u = block.u.copy()
    share = 0.2 if rng.random() < 0.5 else 0.5
    for column in range(u.shape[1]):
        if rng.random() < share:
            other = blocks[int(rng.integers(len(blocks)))]
            shift = int(rng.integers(len(other)))
            u[HISTORY:, column] = np.resize(
                np.roll(other.u[:, column], shift), len(u) - HISTORY
            )
    return replace(block, u=u)


def _moved(block: Segment, levels: Levels, rng: np.random.Generator) -> Segment:
    """Moves some of the inputs to other levels, and some beginnings of outputs.

    One level for all of a lesson: lessons in which the levels changed from piece to
    piece taught less about inputs as they are.
    """
    u, y = block.u.copy(), block.y.copy()
    for column, few in enumerate(levels.few):
        if few or rng.random() > 0.5:
            continue
        low, high = levels.u_low[column], levels.u_high[column]
        span = high - low
        low, high = low - BEYOND * span, high + BEYOND * span
        middle = u[:, column].mean()
        level = (
            middle + 0.2 * span * rng.standard_normal()
            if rng.random() < 0.5
            else rng.uniform(low, high)
        )
        factor = np.exp(0.3 * rng.standard_normal())
        moved = level + factor * (u[:, column] - middle)
        u[:, column] = np.clip(moved, low, high)
    for column in range(y.shape[1]):
        if rng.random() < 0.4:
            low, high = levels.y_low[column], levels.y_high[column]
            moved = y[:, column] + 0.2 * (high - low) * rng.standard_normal()
            y[:, column] = np.clip(moved, low, high)
    return replace(block, u=u, y=y)
