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
    wrong, runs = [], []
    for fold, arrays, (teacher, _, below) in zip(
        judging, judges, lessons_of, strict=False
    ):
        network = Distilled(settings, arrays | below)
        said, _ = answered(teacher, folds[fold])
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
    return final | below, settings, about


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


def _taught(
    teacher: Members,
    blocks: Sequence[Segment],
    settings: Mapping[str, Any],
    below: Mapping[str, Array],
    *,
    rows: int,
    seed: int,
) -> dict[str, Array]:
    """Teaches a network to answer as ``teacher`` does.

    Args:
        teacher: All members.
        blocks: From which lessons are made.
        settings: Of the `Distilled`.
        below: Limits, and the arrays of the network below if there is one.
        rows: Of the lessons.
        seed: Of lessons and weights.

    Returns:
        The arrays of a `Distilled` but for those of ``below``.
    """
    # One thread: a second changes the order of additions, and so the network.
    with threadpool_limits(1):
        rng = np.random.default_rng([seed, 7])
        lessons = lessons_from(blocks, rng, most=rows)
        said, apart = answered(teacher, lessons)
        x, wanted = _seen(lessons, settings, below), np.vstack(said)
        spent = products_of(under("base", below)) if "base" in settings else 0
        return taught(
            x,
            np.hstack([wanted, np.vstack(apart)]),
            outputs=wanted.shape[1],
            units=units_for(x.shape[1], spent),
            decay=decay_for(sum(len(b) for b in blocks)),
            seed=seed,
        )
