"""One small network that is taught to answer as all members of a plant do.

A plant of many members is slow to step. Its answers are free, though, and without
noise, so a single network can learn from as many of them as it needs (Hinton et al.
2015; the lessons: `playground.learn.lessons`).

What depends on the order of what happened, no filter of the inputs tells. So a copy of
a small recurrent candidate, if there was one, runs below the network, which looks at
what that one says and makes up for the rest: beside all members it costs next to nothing.

How much is lost by it is measured where nobody has learned: other networks are taught
by members that were fitted without one fold, on lessons without its inputs, and run
free over that fold, beside those members.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import delayed
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from playground.learn.candidates import HISTORY, Candidate
from playground.learn.dataset import Segment
from playground.learn.distillation import (
    PRODUCTS,
    decay_for,
    products_of,
    seen,
    taught,
    units_for,
)
from playground.learn.folds import blocks_free_run, simplest
from playground.learn.lessons import lessons_from
from playground.learn.members import Members, answered
from playground.learn.processes import side_by_side
from playground.learn.selection import Selection
from playground.plants.learned.distilled import Distilled, base_of
from playground.plants.learned.hybrid import under

Array = npt.NDArray[np.float64]

SETTINGS: dict[str, Any] = {
    "lags": 3,
    "given": 4,
    "filters": [1.5, 3, 6, 12, 30, 80, 200],
    "decays": [3, 12, 50, 200],
}
JUDGED = 3
"""Folds on which is measured what is lost."""
THIN = 10
"""Of so many rows of the lessons one says how well they were learned."""
COPIED = ("skeleton", "inner", "outer", "opening")
"""Arrays of a recurrent network that are there once per copy."""


def base_among(
    candidates: Sequence[Candidate], folds: Sequence[Sequence[Segment]]
) -> Candidate | None:
    """Chooses the recurrent candidate that shall run below a student.

    Of those that leave it half of the multiplications, the one with the fewest that is
    as good as the best, as far as folds can tell.

    Args:
        candidates: All that were tried.
        folds: Scaled blocks.
    """
    small = [
        c
        for c in candidates
        if c.family == "network" and products_of(c.parameters) <= PRODUCTS / 2
    ]
    if not small:
        return None
    small.sort(key=lambda c: products_of(c.parameters))
    owner = np.repeat(
        range(len(folds)), [sum(len(b) - HISTORY for b in fold) for fold in folds]
    )
    true = np.vstack([b.y[HISTORY:] for fold in folds for b in fold])
    errors = []
    for candidate in small:
        wrong = np.nan_to_num(np.vstack(candidate.said) - true, nan=1e3)
        by_fold = [
            np.log(np.maximum(_rms(wrong[owner == k]), 1e-6)).mean()
            for k in np.unique(owner)
        ]
        errors.append(np.exp(by_fold).tolist())
    return small[simplest(errors)]


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
    base: Candidate | None = None,
    rows: int,
    low: Array,
    high: Array,
    seed: int,
    jobs: int | None = 1,
) -> tuple[dict[str, Array], dict[str, Any], Judged]:
    """Teaches a network, and measures what is lost by it.

    Args:
        chosen: The members that teach.
        folds: Scaled training data, as the members were fitted to them.
        later: More runs within the blocks of each fold, by which intervals are
            measured.
        base: Runs below the network; see `base_among`.
        rows: Of the lessons.
        low: Limits of the scaled outputs.
        high: Limits of the scaled outputs.
        seed: Of all that is drawn.
        jobs: Processes; as many as there are cores if None.

    Returns:
        The arrays of a `Distilled`; its settings; what is known of it, in spreads of
        the training data.
    """
    everything = [block for fold in folds for block in fold]
    limits = {"low": low, "high": high}
    judging = judged_folds(len(folds))
    settings = dict(SETTINGS)
    if base is not None:
        shape = {key: base.settings[key] for key in ("na", "nb", "memory", "filters")}
        settings["base"] = shape
    lessons_of: list[tuple[Members, list[Segment], dict[str, Array]]] = [
        (
            Members(chosen, without=fold),
            [b for number, f in enumerate(folds) if number != fold for b in f],
            _copy(base, without=fold) | limits,
        )
        for fold in judging
    ]
    lessons_of.append((Members(chosen), everything, _copy(base) | limits))
    workers = min(jobs or os.cpu_count() or 1, len(lessons_of))
    calls = (
        delayed(_taught)(teacher, blocks, settings, below, rows=rows, seed=seed)
        for teacher, blocks, below in lessons_of
    )
    *judges, final = side_by_side(calls, workers)
    agreed, said_of = [], []
    for fold, student, (teacher, _, below) in zip(
        judging, judges, lessons_of, strict=False
    ):
        said, _ = answered(teacher, folds[fold])
        x = _seen(folds[fold], settings, below)
        # A network that was taught with all folds has met more of what will come than
        # one that has to answer for a fold it never saw: the lessons count as well.
        agreed.append(student.agreement(x, np.vstack(said)) + student.known)
        said_of.append(said)
    wrong, runs = [], []
    for place, (fold, student, said, (teacher, _, below)) in enumerate(
        zip(judging, judges, said_of, lessons_of, strict=False)
    ):
        # How far units are trusted on a fold, the others say.
        others = agreed[:place] + agreed[place + 1 :] or [student.known]
        trust = _trust(*np.sum(others, axis=0))
        network = Distilled(settings, student.arrays(trust) | below)
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
    *_, (_, _, below) = lessons_of
    trust = _trust(*np.sum(agreed, axis=0))
    return final.arrays(trust) | below, settings, about


def _copy(base: Candidate | None, *, without: int | None = None) -> dict[str, Array]:
    """Returns the arrays of one copy, as those of a `Distilled` are called.

    Args:
        base: Of many copies.
        without: The copy that was fitted without this fold; None for one of all data.
    """
    if base is None:
        return {}
    # Those of the folds come first, those of all data last.
    arrays = base.parameters if without is None else base.parts[without]
    return {f"base.{name}": arrays[name][-1:] for name in COPIED}


def _seen(
    blocks: Sequence[Segment], settings: Mapping[str, Any], below: Mapping[str, Array]
) -> npt.NDArray[np.float32]:
    """Returns what a `Distilled` sees, from row `HISTORY` on."""
    base = base_of(settings, below)
    said = None if base is None else blocks_free_run(base, blocks, history=HISTORY)
    return seen(blocks, settings, first=HISTORY, below=said)


def _rms(wrong: Array) -> Array:
    return np.asarray(np.sqrt((wrong**2).mean(axis=0)))


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
    teacher: Members,
    blocks: Sequence[Segment],
    settings: Mapping[str, Any],
    below: Mapping[str, Array],
    *,
    rows: int,
    seed: int,
) -> _Student:
    """Teaches a network to answer as ``teacher`` does.

    Args:
        teacher: All members.
        blocks: From which lessons are made.
        settings: Of the `Distilled`.
        below: Limits, and the arrays of the network below if there is one.
        rows: Of the lessons.
        seed: Of lessons and weights.
    """
    # One thread: a second changes the order of additions, and so the network.
    with threadpool_limits(1):
        rng = np.random.default_rng([seed, 7])
        lessons = lessons_from(blocks, rng, most=rows)
        said, apart = answered(teacher, lessons)
        x, wanted = _seen(lessons, settings, below), np.vstack(said)
        spent = products_of(under("base", below)) if "base" in settings else 0
        learned, linear = taught(
            x,
            np.hstack([wanted, np.vstack(apart)]),
            outputs=wanted.shape[1],
            units=units_for(x.shape[1], spent),
            decay=decay_for(sum(len(b) for b in blocks)),
            seed=seed,
        )
        known = _Student(learned=learned, linear=linear).agreement(
            x[::THIN], wanted[::THIN]
        )
    return _Student(learned=learned, linear=linear, known=known)
