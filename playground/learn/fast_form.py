"""The form of a plant that steps fast: a single member, or a network taught by all.

On data of which little is known a single small model is often as good as all members
together; then it is the fast form, and what is known of its errors on folds it had not
seen is known of the plant. Else a network is taught to answer as all members do
(`playground.learn.student`). Where the fast form is hardly worse than the members on
data that neither had seen, it is what steps by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from playground.learn import student
from playground.learn.candidates import HISTORY, Candidate
from playground.learn.dataset import Segment
from playground.learn.folds import blocks_free_run, later_starts
from playground.learn.intervals import COVERAGE, FEWEST_ERRORS, LEADS, calibrated
from playground.learn.selection import Selection
from playground.plants.learned.families import FAMILIES, quick

Array = npt.NDArray[np.float64]

ON_AVERAGE = 1.05
"""Times the error of the members, geometric mean over outputs, up to which the fast
form steps by default. A taught network is judged without the inputs of a fold; with
all of them it loses less than that figure says."""
AT_WORST = 1.2
"""The same of the worst output: the errors of folds differ by more than that."""


def fast_form(
    candidates: Sequence[Candidate],
    chosen: Selection,
    folds: Sequence[Sequence[Segment]],
    brief: Sequence[Sequence[Segment]],
    *,
    runs: Sequence[Array],
    run_fold: Sequence[int],
    interval: Mapping[str, Array],
    rows: int,
    low: Array,
    high: Array,
    seed: int,
    unusable: Sequence[str] = (),
    jobs: int | None = 1,
) -> tuple[dict[str, Array], dict[str, Any], dict[str, Array]]:
    """Finds or teaches what steps fast.

    Args:
        candidates: All that were tried.
        chosen: The members.
        folds: Scaled training data.
        brief: Brief runs within the blocks of each fold.
        runs: Scaled outputs of all held-back runs: the blocks, those that begin later,
            the brief ones.
        run_fold: To which fold each belongs.
        interval: As calibrated for the members.
        rows: Of the lessons if a network is taught.
        low: Limits of the scaled outputs.
        high: Limits of the scaled outputs.
        seed: Of all that is drawn.
        unusable: Outputs that do not count.
        jobs: Processes; as many as there are cores if None.

    Returns:
        Its arrays; what the card says of it; the arrays of its intervals. The card
        has per output its error (``validation``), that of the members on the same
        rows (``members``) and how far they are apart there (``distance``), in
        spreads of the training data; ``settings``; ``family``, if it is a single
        member; ``default``.
    """
    names = next(block for fold in folds for block in fold).outputs
    counts = [k for k, name in enumerate(names) if name not in unusable]
    blocks = sum(len(fold) for fold in folds)
    quicker = [c for c in candidates if quick(c.family, c.settings)]
    if quicker:
        best = min(quicker, key=lambda c: _lost(c.errors / chosen.errors, counts)[0])
        if not too_much(best.errors / chosen.errors, counts):
            said = [*best.said, *best.later, *_briefly(best, brief)]
            apart = np.vstack(said[:blocks]) - np.vstack(chosen.said[:blocks])
            width, _ = calibrated(
                runs, said, [np.zeros_like(s) for s in said], run_fold, blocks=blocks
            )
            about = {
                "family": best.family,
                "settings": dict(best.settings),
                **_figures(names, _rms(apart), best.errors, chosen.errors),
                "default": True,
            }
            return dict(best.parameters), about, width
    later = later_starts(folds)
    # One thread: a second changes the order of additions.
    with threadpool_limits(1):
        arrays, settings, judged = student.students(
            chosen,
            folds,
            [[*a, *b] for a, b in zip(later, brief, strict=True)],
            base=student.base_among(candidates, folds),
            rows=rows,
            low=low,
            high=high,
            seed=seed,
            jobs=jobs,
        )
    about = {
        "settings": settings,
        **_figures(names, judged.distance, judged.own, judged.members),
        "default": not too_much(judged.own / judged.members, counts),
    }
    return arrays, about, widened(interval, judged)


def _briefly(best: Candidate, brief: Sequence[Sequence[Segment]]) -> list[Array]:
    """Returns what a candidate says in the brief runs of folds it had not seen."""
    said: list[Array] = []
    # One thread: a second changes the order of additions.
    with threadpool_limits(1):
        for part, blocks in zip(best.parts, brief, strict=True):
            simulator = FAMILIES[best.family](best.settings, part)
            said += blocks_free_run(simulator, blocks, history=HISTORY)
    return said


def widened(interval: Mapping[str, Array], judged: student.Judged) -> dict[str, Array]:
    """Returns the intervals of a network that was taught.

    It is as wrong as those who taught it and as far from them as it is: at each lead
    time the one widens the other, as errors that have nothing to do with each other.

    Args:
        interval: As calibrated for the members.
        judged: Where both ran, and what they said.
    """
    relative = [
        np.abs(s - o) / (interval["floor"] + a)
        for s, o, a in zip(judged.said, judged.answers, judged.apart, strict=True)
    ]
    places, distances = [], []
    for place, lead in enumerate(LEADS):
        # As wide as where the intervals of the members are measured.
        first, end = np.ceil(lead * np.array([2**-0.5, 2**0.5])).astype(int)
        near = np.vstack([r[max(first, 1) - 1 : max(end, 2) - 1] for r in relative])
        if len(near) >= FEWEST_ERRORS:
            places.append(place)
            distances.append(np.quantile(near, COVERAGE, axis=0))
    if not places:
        places, distances = [0], [np.quantile(np.vstack(relative), COVERAGE, axis=0)]
    # No rule says that a network is further from its members later: it is taught
    # all steps at once, and what fades early is hard to learn.
    own = [
        np.interp(range(len(LEADS)), places, column) for column in np.array(distances).T
    ]
    return {**interval, "factor": np.hypot(interval["factor"], np.array(own).T)}


def too_much(ratio: Array, counts: Sequence[int]) -> bool:
    """Whether so much accuracy is lost that the members step by default.

    Args:
        ratio: Errors of the fast form to those of the members, per output.
        counts: The outputs that count.
    """
    average, worst = _lost(ratio, counts)
    return average > ON_AVERAGE or worst > AT_WORST


def _lost(ratio: Array, counts: Sequence[int]) -> tuple[float, float]:
    mine = ratio[list(counts)] if counts else ratio
    return float(np.exp(np.log(mine).mean())), float(mine.max())


def _figures(
    names: Sequence[str], distance: Array, own: Array, members: Array
) -> dict[str, dict[str, float]]:
    return {
        what: dict(zip(names, values.tolist(), strict=True))
        for what, values in (
            ("distance", distance),
            ("validation", own),
            ("members", members),
        )
    }


def _rms(wrong: Array) -> Array:
    return np.asarray(np.sqrt(np.mean(wrong**2, axis=0)))
