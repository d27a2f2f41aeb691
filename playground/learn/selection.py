"""From candidates to the few that become the plant, and how they are weighed.

No family wins everywhere and the winner on few held-back blocks is often lucky.
So the best two settings of each family stay in the race, those far behind the
best leave it, and the rest are weighed per output: by what they said about
blocks they had not seen, and pulled towards equal weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from playground.learn.candidates import Candidate, geometric_mean

Array = npt.NDArray[np.float64]

PER_FAMILY = 2
FAR_BEHIND = 3.0
"""Times the error of the best candidate: worse ones have no say."""
PULLS = (0.3, 1.0, 3.0, 10.0, 100.0)
"""Strengths of the pull towards equal weights, in squared errors of the best."""
MEMBERS = 8
"""More members would cost more time per step than they are worth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Members of a plant and their weights.

    Attributes:
        members: The candidates chosen.
        weights: Members × outputs; the columns sum up to 1.
        said: What the plant says about each held-back block, scaled outputs;
            weighed by the other folds, so that these errors are honest.
        spread: How far its members are apart there, weighed standard deviation.
        errors: Free-run error per output in spreads of the training data.
    """

    members: tuple[Candidate, ...]
    weights: Array
    said: list[Array]
    spread: list[Array]
    errors: Array


def selected(
    candidates: Sequence[Candidate], truth: Sequence[Array], fold: Sequence[int]
) -> Selection:
    """Chooses and weighs members.

    Args:
        candidates: All that were tried.
        truth: Scaled outputs of the held-back blocks, as many rows as each
            candidate said something about.
        fold: To which fold each block belongs.
    """
    true = np.vstack(truth)
    owner = np.repeat(fold, [len(t) for t in truth])
    race: list[Candidate] = []
    for family in dict.fromkeys(c.family for c in candidates):
        mine = [c for c in candidates if c.family == family]
        race += sorted(mine, key=lambda c: float(np.log(c.errors + 1e-9).mean()))[
            :PER_FAMILY
        ]
    answers = [np.clip(np.nan_to_num(np.vstack(c.said)), -1e3, 1e3) for c in race]
    everyone = list(range(len(race)))
    weights = _weights(race, answers, true, owner, everyone)
    heaviest = np.argsort(-weights.sum(axis=1), kind="stable")[:MEMBERS]
    kept = sorted(k for k in heaviest.tolist() if weights[k].max() > 0.02)
    # An output whose candidates all went has to have one again.
    kept = sorted({*kept, *np.argmax(weights, axis=0).tolist()})
    weights = _weights(race, answers, true, owner, kept)[kept]
    chosen = np.stack([answers[k] for k in kept])
    said = np.empty_like(true)
    for number in np.unique(owner):
        here, rest = owner == number, owner != number
        others = [a[rest] for a in answers]
        honest = _weights(race, others, true[rest], owner[rest], kept)[kept]
        said[here] = np.einsum("mro,mo->ro", chosen[:, here], honest)
    final = np.einsum("mro,mo->ro", chosen, weights)
    spread = np.sqrt(np.einsum("mro,mo->ro", (chosen - final) ** 2, weights))
    edges = np.cumsum([len(t) for t in truth])[:-1]
    return Selection(
        members=tuple(race[k] for k in kept),
        weights=weights,
        said=np.split(said, edges),
        spread=np.split(spread, edges),
        errors=geometric_mean(
            [
                np.sqrt(np.mean((said - true)[owner == k] ** 2, axis=0))
                for k in np.unique(owner)
            ]
        ),
    )


def _weights(
    race: Sequence[Candidate],
    answers: Sequence[Array],
    true: Array,
    owner: npt.NDArray[np.intp],
    allowed: Sequence[int],
) -> Array:
    """Returns candidates × outputs; zero where a candidate has no say."""
    weights = np.zeros((len(race), true.shape[1]))
    # A few thousand rows say as much about a handful of weights as all do.
    thin = slice(None, None, max(1, len(true) // 4000))
    for k in range(true.shape[1]):
        wrong = np.stack([answers[m][thin, k] - true[thin, k] for m in allowed], axis=1)
        by_fold = [wrong[owner[thin] == number] for number in np.unique(owner)]
        weights[list(allowed), k] = _weighed(by_fold, _chosen_pull(by_fold))
    return weights


def _chosen_pull(by_fold: Sequence[Array]) -> float:
    """Chooses how equal weights are, by folds that took no part in weighing."""
    errors = []
    for pull in PULLS:
        each = []
        for out, fold in enumerate(by_fold):
            rest = [f for number, f in enumerate(by_fold) if number != out]
            each.append(_rms(fold @ _weighed(rest, pull)))
        errors.append(float(np.exp(np.mean(np.log(np.maximum(each, 1e-9))))))
    return PULLS[int(np.argmin(errors))]


def _weighed(by_fold: Sequence[Array], pull: float) -> Array:
    """Finds weights that sum up to 1.

    Args:
        by_fold: Errors of the candidates, rows × candidates, per fold.
        pull: Strength of the pull towards equal weights.
    """
    least = [np.maximum(np.sqrt((f**2).mean(axis=0)), 1e-6) for f in by_fold]
    own = np.exp(np.mean(np.log(least), axis=0))
    able = np.flatnonzero(own <= FAR_BEHIND * own.min())
    # Each fold counts alike, however hard it is for everyone.
    wrong = np.vstack(
        [
            f[:, able] / (low[able].min() * np.sqrt(len(f)))
            for f, low in zip(by_fold, least, strict=True)
        ]
    )
    # With weights that sum up to 1 the error of the mean is the mean error.
    count = len(able)
    tie = np.sqrt(pull * len(by_fold))
    system = np.vstack([wrong, tie * np.eye(count), 1e4 * np.ones((1, count))])
    target = np.concatenate([np.zeros(len(wrong)), np.full(count, tie / count), [1e4]])
    found, _ = nnls(system, target)
    found[found < 0.04] = 0.0
    weights = np.zeros(len(own))
    weights[able] = found / found.sum()
    return weights


def _rms(wrong: Array) -> float:
    return float(np.sqrt(np.mean(wrong**2)))
