"""One small network that is taught to answer as all members of a plant do.

A plant of many members is slow to step. Its answers are free, though, and without
noise, so a single network can learn from as many of them as it needs (Hinton et al.
2015): to the recorded inputs, to such whose columns were shuffled among each other,
and to such that were moved to other levels, so that it meets combinations and levels
that the recording never had. What it has not met it does not know: of two networks
that answered alike to what they were taught, that of the more varied lessons was two
times nearer to its members on inputs of other days.

How much is lost by it is measured where nobody has learned: other networks are taught
by members that were fitted without one fold, on lessons without its inputs, and run
free over that fold, beside those members.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from playground.learn.candidates import HISTORY, Candidate
from playground.learn.dataset import Segment
from playground.learn.distillation import decay_for, seen, taught
from playground.learn.selection import Selection
from playground.plants.learned.combination import Combination
from playground.plants.learned.distilled import Distilled
from playground.plants.learned.families import FAMILIES
from playground.plants.learned.simulator import Simulator

Array = npt.NDArray[np.float64]

SETTINGS: dict[str, Any] = {
    "lags": 3,
    "given": 4,
    "filters": [1.5, 3, 6, 12, 30, 80, 200],
    "decays": [3, 12, 50, 200],
}
ROWS = 150_000
"""Of all lessons: with two and a half times as many as before, networks were a tenth to
a half nearer to their members on folds that neither had seen."""
JUDGED = 2
"""Folds on which is measured what is lost."""
THIN = 10
"""Of so many rows of the lessons one says how well they were learned."""
GROUPS = 8
"""Runs of like length are answered side by side: none waits for much longer ones."""

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


@dataclass(slots=True, kw_only=True)
class Judged:
    """How networks did on folds that neither they nor their members had seen.

    Attributes:
        own: Error of the networks per output, the mean of the folds.
        members: That of the members who taught them.
        distance: How far the networks were from their members.
        said: What the members said in each run, scaled outputs.
        answers: What the networks said.
        apart: How far the members were apart by what the networks said.
    """

    own: Array
    members: Array
    distance: Array
    said: list[Array]
    answers: list[Array]
    apart: list[Array]


def judged_folds(count: int) -> list[int]:
    """Returns the folds on which is measured what is lost, far from each other."""
    return sorted({number * count // JUDGED for number in range(min(JUDGED, count))})


def students(
    chosen: Selection,
    folds: Sequence[Sequence[Segment]],
    later: Sequence[Sequence[Segment]],
    *,
    low: Array,
    high: Array,
    seed: int,
    jobs: int | None = 1,
) -> tuple[dict[str, Array], Judged]:
    """Teaches a network, and measures what is lost by it.

    Args:
        chosen: The members that teach.
        folds: Scaled training data, as the members were fitted to them.
        later: More runs within the blocks of each fold, by which intervals are
            measured.
        low: Limits of the scaled outputs.
        high: Limits of the scaled outputs.
        seed: Of all that is drawn.
        jobs: Processes; as many as there are cores if None.

    Returns:
        The arrays of a `Distilled`; what is known of it, in spreads of the training
        data.
    """
    everything = [block for fold in folds for block in fold]
    levels = Levels.of(everything)
    limits = {"low": low, "high": high}
    judging = judged_folds(len(folds))
    lessons_of: list[tuple[Members, list[Segment]]] = [
        (
            Members(chosen, without=fold),
            [b for number, f in enumerate(folds) if number != fold for b in f],
        )
        for fold in judging
    ]
    lessons_of.append((Members(chosen), everything))
    workers = min(jobs or os.cpu_count() or 1, len(lessons_of))
    *judges, final = Parallel(n_jobs=workers)(
        delayed(_taught)(teacher, blocks, levels, seed=seed)
        for teacher, blocks in lessons_of
    )
    sums, said_of = [], []
    for fold, student, (teacher, _) in zip(judging, judges, lessons_of, strict=False):
        said, _ = answered(teacher, folds[fold])
        x = seen(folds[fold], SETTINGS, first=HISTORY)
        # A network that was taught with all folds has met more of what will come than
        # one that has to answer for a fold it never saw: the lessons count as well.
        sums += [student.agreement(x, np.vstack(said)), student.known]
        said_of.append(said)
    trust = _trust(*np.sum(sums, axis=0))
    wrong, runs = [], []
    for fold, student, said, (teacher, _) in zip(
        judging, judges, said_of, lessons_of, strict=False
    ):
        network = Distilled(SETTINGS, student.arrays(trust) | limits)
        answers, apart = answered(network, folds[fold])
        truth = [b.y[HISTORY:] for b in folds[fold]]
        wrong.append(
            [
                _mean_square(answers, truth),
                _mean_square(said, truth),
                _mean_square(answers, said),
            ]
        )
        runs += list(zip(said, answers, apart, strict=True))
        if later[fold]:
            said, _ = answered(teacher, later[fold])
            runs += list(zip(said, *answered(network, later[fold]), strict=True))
    own, members, distance = np.sqrt(np.mean(wrong, axis=0))
    about = Judged(
        own=own,
        members=members,
        distance=distance,
        said=[said for said, _, _ in runs],
        answers=[answers for _, answers, _ in runs],
        apart=[apart for _, _, apart in runs],
    )
    return final.arrays(trust) | limits, about


def _mean_square(a: Sequence[Array], b: Sequence[Array]) -> Array:
    return np.asarray(((np.vstack(a) - np.vstack(b)) ** 2).mean(axis=0))


def _trust(both: Array, own: Array) -> Array:
    """Returns how much of what units add is right where it was not learned, 0 to 1.

    Least squares per output: units that only know their lessons by heart add more
    error than they take away.
    """
    return np.asarray(np.clip(both / np.maximum(own, 1e-12), 0.0, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Student:
    """What was learned from lessons: all of it, and its linear beginning.

    ``known`` is the `agreement` on the lessons.
    """

    learned: dict[str, Array]
    linear: Array
    known: Array | None = None

    def arrays(self, trust: Array) -> dict[str, Array]:
        """Returns the arrays of a `Distilled`, without the limits.

        Args:
            trust: Per output how much of what goes beyond the linear part counts.
        """
        share = np.concatenate([trust, np.ones_like(trust)])
        beyond = self.learned["straight"] - self.linear
        return {
            **self.learned,
            "straight": self.linear + share * beyond,
            "third": share * self.learned["third"],
        }

    def agreement(self, x: npt.NDArray[np.float32], said: Array) -> Array:
        """Returns the sums from which `_trust` follows, 2 × outputs; each row alike.

        Args:
            x: What is seen, rows × features.
            said: What the members said, rows × outputs.
        """
        outputs = said.shape[1]
        wide = x.astype(np.float64)
        one = np.maximum(wide @ self.learned["first"], 0.0)
        two = np.maximum(one @ self.learned["second"], 0.0)
        plain = (wide @ self.linear)[:, :outputs]
        full = wide @ self.learned["straight"] + two @ self.learned["third"]
        added = full[:, :outputs] - plain
        missing = said - plain
        return np.array([(added * missing).mean(axis=0), (added**2).mean(axis=0)])


def _taught(
    teacher: Members, blocks: Sequence[Segment], levels: Levels, *, seed: int
) -> _Student:
    """Teaches a network to answer as ``teacher`` does."""
    # One thread: a second changes the order of additions, and so the network.
    with threadpool_limits(1):
        lessons = _lessons(blocks, levels, np.random.default_rng([seed, 7]))
        said, apart = answered(teacher, lessons)
        x, wanted = seen(lessons, SETTINGS, first=HISTORY), np.vstack(said)
        learned, linear = taught(
            x,
            np.hstack([wanted, np.vstack(apart)]),
            outputs=wanted.shape[1],
            decay=decay_for(sum(len(b) for b in blocks)),
            seed=seed,
        )
        known = _Student(learned=learned, linear=linear).agreement(
            x[::THIN], wanted[::THIN]
        )
    return _Student(learned=learned, linear=linear, known=known)


def answered(
    simulator: Members | Distilled, blocks: Sequence[Segment]
) -> tuple[list[Array], list[Array]]:
    """Runs free over blocks; what is said and how far apart, from row `HISTORY` on."""
    order = np.argsort([-len(b) for b in blocks], kind="stable")
    said: dict[int, Array] = {}
    apart: dict[int, Array] = {}
    for places in np.array_split(order, min(GROUPS, len(order))):
        group = [blocks[k] for k in places]
        for k, s, a in zip(places.tolist(), *_together(simulator, group), strict=True):
            said[k], apart[k] = s, a
    return [said[k] for k in range(len(said))], [apart[k] for k in range(len(said))]


def _together(
    simulator: Members | Distilled, blocks: Sequence[Segment]
) -> tuple[list[Array], list[Array]]:
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
