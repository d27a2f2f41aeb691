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
from playground.learn.candidates import Candidate
from playground.learn.dataset import Segment
from playground.learn.intervals import calibrated
from playground.learn.selection import Selection
from playground.plants.learned.families import quick

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
    *,
    runs: Sequence[Array],
    run_fold: Sequence[int],
    interval: Mapping[str, Array],
    low: Array,
    high: Array,
    seed: int,
    unusable: Sequence[str] = (),
) -> tuple[dict[str, Array], dict[str, Any], dict[str, Array]]:
    """Finds or teaches what steps fast.

    Args:
        candidates: All that were tried.
        chosen: The members.
        folds: Scaled training data.
        runs: Scaled outputs of all held-back runs, the blocks first.
        run_fold: To which fold each belongs.
        interval: As calibrated for the members.
        low: Limits of the scaled outputs.
        high: Limits of the scaled outputs.
        seed: Of all that is drawn.
        unusable: Outputs that do not count.

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
            said = [*best.said, *best.later][: len(runs)]
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
    # One thread: a second changes the order of additions, and so the network.
    with threadpool_limits(1):
        arrays, distance, own, members = student.taught(
            chosen, folds, low=low, high=high, seed=seed
        )
    about = {
        "settings": student.SETTINGS,
        **_figures(names, distance, own, members),
        "default": not too_much(own / members, counts),
    }
    # It is as wrong as those who taught it and as far from them as it is.
    wider = np.hypot(1.0, distance / interval["floor"])
    return arrays, about, {**interval, "factor": interval["factor"] * wider}


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
