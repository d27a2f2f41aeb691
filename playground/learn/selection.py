"""From candidates to the few that become the plant, and how they are weighed.

No family wins everywhere and the winner on few held-back blocks is often lucky.
So the best settings of each family stay in the race, those far behind the
best leave it, and the rest are weighed per output: by what they said about
blocks they had not seen, and pulled towards equal weights, the more the less the folds
can tell who is right. The plant says their weighed mean, or their median where that
was nearer to the folds left out: the median is not led astray by one. Where there is
but one run to choose by, and all of that is not clearly better on its parts than plain
ARX, plain ARX it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.optimize import nnls

from playground.learn.candidates import Candidate, geometric_mean
from playground.plants.learned.combination import Combination

Array = npt.NDArray[np.float64]

PER_FAMILY = {"network": 4, "hybrid": 2}
"""Settings of a family that stay; one of the others. Networks differ most among
each other, and over many plants the mean of several was the best of all; hybrids are
of several kinds."""
FAR_BEHIND = 1.6
"""Times the error of the best candidate: worse ones have no say."""
PULLS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
"""Strengths of the pull towards equal weights, in squared errors of the best."""
CHANCE = 0.1
"""Up to so often chance alone may make all members together look better than ARX."""
MEMBERS = 8
"""More members would cost more time per step than they are worth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Members of a plant and their weights.

    Attributes:
        members: The candidates chosen.
        weights: Members × outputs; the columns sum up to 1.
        weights_without: The same by fold, as they were found without it.
        median: Per output 1 where the plant says the median, else 0.
        said: What the plant says about each held-back block and in each later
            run, scaled outputs; weighed by the other folds, so that these errors
            are honest.
        spread: How far its members are apart there, weighed standard deviation.
        plain: Outputs (columns) that are left to plain ARX.
        errors: Free-run error per output in spreads of the training data.
        by_fold: The same of each fold, folds × outputs.
    """

    members: tuple[Candidate, ...]
    weights: Array
    weights_without: Mapping[int, Array]
    median: Array
    said: list[Array]
    spread: list[Array]
    errors: Array
    by_fold: Array
    plain: tuple[int, ...] = ()


def selected(
    candidates: Sequence[Candidate],
    truth: Sequence[Array],
    fold: Sequence[int],
    later_fold: Sequence[int] = (),
    *,
    cut: bool = True,
) -> Selection:
    """Chooses and weighs members.

    Args:
        candidates: All that were tried.
        truth: Scaled outputs of the held-back blocks, as many rows as each
            candidate said something about.
        fold: To which fold each block belongs.
        later_fold: The same of the later runs of the candidates; these take no
            part in choosing.
        cut: Folds are parts of the same stretches. They are alike then, and a large
            model that is chosen by them may know that one run by heart: what is not
            clearly better than plain ARX gives way to it.
    """
    true = np.vstack(truth)
    owner = np.repeat(fold, [len(t) for t in truth])
    race: list[Candidate] = []
    for family in dict.fromkeys(c.family for c in candidates):
        mine = [c for c in candidates if c.family == family]
        mine.sort(key=lambda c: float(np.log(c.errors + 1e-9).mean()))
        race += mine[: PER_FAMILY.get(family, 1)]
    answers = [_vetted(c.said) for c in race]
    everyone = list(range(len(race)))
    weights = _weights(race, answers, true, owner, everyone)
    heaviest = np.argsort(-weights.sum(axis=1), kind="stable")[:MEMBERS]
    kept = sorted(k for k in heaviest.tolist() if weights[k].max() > 0.02)
    # An output whose candidates all went has to have one again.
    kept = sorted({*kept, *np.argmax(weights, axis=0).tolist()})
    weights = _weights(race, answers, true, owner, kept)[kept]
    members = [race[k] for k in kept]
    folds = np.unique(owner)
    honest = {
        number: _weights(
            race,
            [a[owner != number] for a in answers],
            true[owner != number],
            owner[owner != number],
            kept,
        )[kept]
        for number in folds
    }
    plain = []
    if cut:
        plain = _no_better_than_arx(candidates, members, honest, true, owner)
    if plain:
        # The ARX that is best at all of these outputs takes their place.
        simple = [c for c in candidates if c.family == "arx"]
        best = min(simple, key=lambda c: float(np.log(c.errors[plain]).mean()))
        if not any(m is best for m in members):
            members.append(best)
            nothing = np.zeros((1, weights.shape[1]))
            weights = np.vstack([weights, nothing])
            honest = {k: np.vstack([table, nothing]) for k, table in honest.items()}
        place = next(k for k, m in enumerate(members) if m is best)
        for table in (weights, *honest.values()):
            table[:, plain] = 0.0
            table[place, plain] = 1.0
        used = np.flatnonzero(weights.max(axis=1) > 0)
        members = [members[k] for k in used]
        weights = weights[used]
        honest = {k: _summing_up(table[used], weights) for k, table in honest.items()}
    runs = [*truth, *(race[0].later if len(later_fold) else ())]
    all_owners = np.repeat([*fold, *later_fold], [len(r) for r in runs])
    chosen = np.stack(
        [_vetted([*m.said, *m.later])[: len(all_owners)] for m in members]
    )
    outputs = true.shape[1]
    ways = []
    for flags in (np.zeros(outputs), np.ones(outputs)):
        said = np.empty(chosen.shape[1:])
        for number in folds:
            here = all_owners == number
            said[here] = Combination(honest[number], flags)(chosen[:, here])
        wrong = said[: len(true)] - true
        by_fold = np.array([_errors(wrong[owner == k]) for k in folds])
        ways.append((said, by_fold, geometric_mean(list(by_fold))))
    (mean_said, mean_folds, mean_error), (mid_said, mid_folds, mid_error) = ways
    better = mid_error < mean_error
    said = np.where(better, mid_said, mean_said)
    by_fold = np.where(better, mid_folds, mean_folds)
    median = better.astype(float)
    final = Combination(weights, median)(chosen)
    spread = np.sqrt(np.einsum("mro,mo->ro", (chosen - final) ** 2, weights))
    edges = np.cumsum([len(r) for r in runs])[:-1]
    return Selection(
        members=tuple(members),
        weights=weights,
        weights_without={int(number): table for number, table in honest.items()},
        median=median,
        said=np.split(said, edges),
        spread=np.split(spread, edges),
        errors=geometric_mean(list(by_fold)),
        by_fold=by_fold,
        plain=tuple(plain),
    )


def _summing_up(table: Array, otherwise: Array) -> Array:
    """Returns weights that sum up to 1 again after members went.

    Args:
        table: Members × outputs.
        otherwise: Of outputs that were left to those who went; likewise.
    """
    sums = table.sum(axis=0)
    left = sums > 1e-9
    return np.where(left, table / np.where(left, sums, 1.0), otherwise)


def _vetted(said: Sequence[Array]) -> Array:
    """Puts answers end to end; one that ran away is just very wrong."""
    return np.asarray(np.clip(np.nan_to_num(np.vstack(said)), -1e3, 1e3))


def _no_better_than_arx(
    candidates: Sequence[Candidate],
    members: Sequence[Candidate],
    honest: Mapping[int, Array],
    true: Array,
    owner: npt.NDArray[np.intp],
) -> list[int]:
    """Names the outputs that gain no more from all members than by chance.

    Both sides are judged on folds that took no part in choosing them: ARX by the
    order that was best on the other folds. A gain counts that is above zero with
    nine chances in ten by its sign and rank (Wilcoxon 1945): one fold on which ARX
    runs away must not hide that it is worse on the others too.
    """
    simple = [_vetted(c.said) for c in candidates if c.family == "arx"]
    folds = np.unique(owner)
    if not simple or len(folds) < 2:
        return []
    arx = np.array([[_errors((s - true)[owner == k]) for k in folds] for s in simple])
    logs = np.log(np.maximum(arx, 1e-9))
    answers = np.stack([_vetted(m.said) for m in members])
    gains = []
    for number, k in enumerate(folds):
        here = owner == k
        said = np.einsum("mro,mo->ro", answers[:, here], honest[k])
        own = np.log(np.maximum(_errors(said - true[here]), 1e-9))
        others = np.delete(logs, number, axis=1).mean(axis=1)
        best = np.argmin(others, axis=0)
        gains.append(logs[best, number, np.arange(true.shape[1])] - own)
    return [
        k
        for k, each in enumerate(np.array(gains).T)
        if not each.any() or stats.wilcoxon(each, alternative="greater").pvalue > CHANCE
    ]


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
        heard: list[int] = []
        for m in allowed:
            # A hybrid whose learned part does not help says what its base says: a
            # voice must not count twice.
            if not any(
                np.array_equal(answers[m][:, k], answers[h][:, k]) for h in heard
            ):
                heard.append(m)
        wrong = np.stack([answers[m][thin, k] - true[thin, k] for m in heard], axis=1)
        by_fold = [wrong[owner[thin] == number] for number in np.unique(owner)]
        weights[heard, k] = _weighed(by_fold, _chosen_pull(by_fold))
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


def _errors(wrong: Array) -> Array:
    return np.asarray(np.sqrt(np.mean(wrong**2, axis=0)))


def _rms(wrong: Array) -> float:
    return float(np.sqrt(np.mean(wrong**2)))
