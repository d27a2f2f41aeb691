"""One small network that is taught to answer as all members of a plant do.

A plant of many members is slow to step. Its answers are free, though, and without
noise, so a single network can learn from as many of them as it needs (Hinton et al.
2015): to the recorded inputs, to such whose columns were shuffled among each other,
and to such that were moved to other levels, so that it meets combinations and levels
that the recording never had. What it has not met it does not know: of two networks
that answered alike to what they were taught, that of the more varied lessons was two
times nearer to its members on inputs of other days.

How much is lost by it is measured where nobody has learned: another network is taught
by members that were fitted without one fold, on lessons without its inputs, and runs
free over that fold, beside those members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from playground.learn import network
from playground.learn.candidates import HISTORY, Candidate
from playground.learn.correction import corrected, rounds_for
from playground.learn.dataset import Segment
from playground.learn.selection import Selection
from playground.plants.learned.combination import Combination
from playground.plants.learned.distilled import Distilled
from playground.plants.learned.families import FAMILIES
from playground.plants.learned.network import Network
from playground.plants.learned.simulator import Simulator

Array = npt.NDArray[np.float64]

SETTINGS: dict[str, Any] = {
    "na": 2,
    "nb": 3,
    "memory": 6,
    "filters": [3, 10, 40, 200],
    "hidden": 32,
    "decay": 0.01,
    "noise": 0.02,
    "whole": 1,
    "batch": 96,
    "ridge": 1e-5,
}
ROWS = 60_000
EFFORT = 2.0
JUDGED = 0
"""The fold on which is measured what is lost."""

RECORDED = 0.3
"""Share of lessons with inputs as they were recorded."""
SHORTEST, LONGEST = 60, 800
"""Rows of a lesson."""
FEW = 4
"""Levels: an input of so few is not moved to others."""
BEYOND = 0.25
"""Parts of its span by which an input is moved beyond what it was."""


class Members:
    """All members of a selection as one simulator.

    Args:
        chosen: Members and weights.
        without: A fold: the members as they were fitted without it; None for those
            of all data.

    Attributes:
        apart: After a step, how far the members are apart, runs × outputs.
    """

    history = HISTORY

    def __init__(self, chosen: Selection, *, without: int | None = None) -> None:
        self._combined = Combination(chosen.weights, chosen.median)
        self._weights = chosen.weights[:, None, :]
        self._simulators: list[Simulator] = [
            FAMILIES[m.family](m.settings, _arrays(m, without)) for m in chosen.members
        ]
        self.apart = np.zeros((1, chosen.weights.shape[1]))

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs; see `Simulator`."""
        for simulator in self._simulators:
            simulator.begin(u[:, -simulator.history :], y[:, -simulator.history :])
        self.apart = np.zeros_like(y[:, -1])

    def advance(self, u: Array) -> Array:
        """Makes one step; see `Simulator`."""
        answers = np.array([s.advance(u) for s in self._simulators])
        said = self._combined(answers)
        apart = (answers - said) ** 2 * self._weights
        self.apart = np.sqrt(np.add.reduce(apart, axis=0))
        return said

    def state(self) -> tuple[Array, ...]:
        """Returns a copy of the states of all."""
        return tuple(array for s in self._simulators for array in s.state())

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Goes back to what `state` returned."""
        rest = list(state)
        for simulator in self._simulators:
            count = len(simulator.state())
            simulator.set_state(tuple(rest[:count]))
            rest = rest[count:]


def _arrays(member: Candidate, without: int | None) -> dict[str, Array]:
    return member.parameters if without is None else member.parts[without]


def taught(
    chosen: Selection,
    folds: Sequence[Sequence[Segment]],
    *,
    low: Array,
    high: Array,
    seed: int,
) -> tuple[dict[str, Array], Array, Array, Array]:
    """Teaches a network, and measures what is lost by it.

    Args:
        chosen: The members that teach.
        folds: Scaled training data, as the members were fitted to them.
        low: Limits of the scaled outputs.
        high: Limits of the scaled outputs.
        seed: Of all that is drawn.

    Returns:
        The arrays of a `Distilled`; per output how far it is from its members, its
        error and theirs, all on a fold that none of them had seen, in spreads of the
        training data.
    """
    everything = [block for fold in folds for block in fold]
    levels = Levels.of(everything)
    rest = [b for number, fold in enumerate(folds) if number != JUDGED for b in fold]
    teachers, exam = Members(chosen, without=JUDGED), folds[JUDGED]
    judged = _student(teachers, rest, levels, low=low, high=high, seed=seed)
    said = np.vstack(answered(teachers, exam)[0])
    plain, _ = _followed(Network(SETTINGS, judged), exam)
    added = np.vstack(answered(Distilled(SETTINGS, judged), exam)[0]) - plain
    trust = _trust(added, said - plain)
    own = np.clip(plain + trust * added, low, high)
    truth = np.vstack([b.y[HISTORY:] for b in exam])
    distance, validation, members = (
        np.sqrt((wrong**2).mean(axis=0))
        for wrong in (own - said, own - truth, said - truth)
    )
    arrays = _student(
        Members(chosen), everything, levels, low=low, high=high, seed=seed
    )
    for name in ("straight", "third"):
        arrays[name][:, : len(trust)] *= trust
    return arrays, distance, validation, members


def _trust(added: Array, missing: Array) -> Array:
    """Returns how much of a correction is right where it was not learned, 0 to 1.

    Least squares per output: a correction that only knows its lessons by heart adds
    more error than it takes away.
    """
    both = np.maximum((added**2).sum(axis=0), 1e-12)
    return np.asarray(np.clip((added * missing).sum(axis=0) / both, 0.0, 1.0))


def _student(
    teacher: Members,
    blocks: Sequence[Segment],
    levels: Levels,
    *,
    low: Array,
    high: Array,
    seed: int,
) -> dict[str, Array]:
    """Returns the arrays of a `Distilled` that was taught by ``teacher``."""
    rng = np.random.default_rng([seed, 7])
    plain = _lessons(blocks, levels, rng)
    said, apart = answered(teacher, plain)
    lessons = [
        replace(b, y=np.vstack([b.y[:HISTORY], s]))
        for b, s in zip(plain, said, strict=True)
    ]
    arrays = network.trained(
        [lessons], SETTINGS, seed=seed, effort=EFFORT, leave_out=False
    )
    arrays |= {"low": low, "high": high}
    own, seen = _followed(Network(SETTINGS, arrays), lessons)
    missing = np.hstack([np.vstack(said) - own, np.vstack(apart)])
    rounds = rounds_for(sum(len(b) for b in blocks))
    return arrays | corrected(
        seen, missing, outputs=own.shape[1], rounds=rounds, seed=seed
    )


def answered(
    simulator: Members | Distilled, blocks: Sequence[Segment]
) -> tuple[list[Array], list[Array]]:
    """Runs free over blocks; what is said and how far apart, from row `HISTORY` on."""
    u, y = _side_by_side(blocks)
    given = simulator.history
    simulator.begin(u[:, HISTORY - given : HISTORY], y[:, HISTORY - given : HISTORY])
    said, apart = np.empty_like(y), np.empty_like(y)
    for row in range(HISTORY, u.shape[1]):
        said[:, row] = simulator.advance(u[:, row])
        apart[:, row] = simulator.apart
    return (
        [s[HISTORY : len(b)] for s, b in zip(said, blocks, strict=True)],
        [a[HISTORY : len(b)] for a, b in zip(apart, blocks, strict=True)],
    )


def _followed(
    simulator: Network, blocks: Sequence[Segment]
) -> tuple[Array, npt.NDArray[np.float32]]:
    """Runs free over blocks; what is said, and the state, end to end."""
    u, y = _side_by_side(blocks)
    given = simulator.history
    simulator.begin(u[:, HISTORY - given : HISTORY], y[:, HISTORY - given : HISTORY])
    said = np.empty_like(y)
    seen = np.empty((*y.shape[:2], simulator.seen().shape[1]), np.float32)
    for row in range(HISTORY, u.shape[1]):
        said[:, row] = simulator.advance(u[:, row])
        seen[:, row] = simulator.seen()
    return (
        np.vstack([s[HISTORY : len(b)] for s, b in zip(said, blocks, strict=True)]),
        np.vstack([s[HISTORY : len(b)] for s, b in zip(seen, blocks, strict=True)]),
    )


def _side_by_side(blocks: Sequence[Segment]) -> tuple[Array, Array]:
    rows = max(len(b) for b in blocks)

    def padded(table: Array) -> Array:
        short = rows - len(table)
        return np.concatenate([table, np.repeat(table[-1:], short, axis=0)])

    return (
        np.stack([padded(b.u) for b in blocks]),
        np.stack([padded(b.y) for b in blocks]),
    )


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


def _lessons(
    blocks: Sequence[Segment], levels: Levels, rng: np.random.Generator
) -> list[Segment]:
    """Returns stretches of the blocks, most with other inputs than they had."""
    lessons: list[Segment] = []
    rows = 0
    while rows < ROWS:
        for number in rng.permutation(len(blocks)):
            lesson = _stretch(blocks[number], rng)
            if rng.random() > RECORDED:
                if rng.random() < 0.6:
                    lesson = _shuffled(lesson, blocks, rng)
                lesson = _moved(lesson, levels, rng)
            lessons.append(lesson)
            rows += len(lesson)
            if rows >= ROWS:
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
