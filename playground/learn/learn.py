"""The one call from recordings to a `Model`, and what it refuses."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import delayed
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from playground.errors import NotEnoughData, PlaygroundError
from playground.instant import iso
from playground.learn.balance import balances_of
from playground.learn.candidates import (
    HISTORY,
    Candidate,
    bundles,
    cost,
    tried_together,
    worth_trying,
)
from playground.learn.card import measured
from playground.learn.dataset import (
    Aggregate,
    Segment,
    believed,
    read_segments,
    read_series,
    segments_of,
    signals_need_roles,
    split_by_time,
)
from playground.learn.envelope import measured as envelope_of
from playground.learn.examination import Finding, examined_rows, examined_series
from playground.learn.fast_form import fast_form
from playground.learn.folds import folds_of, later_starts
from playground.learn.free_run import judge
from playground.learn.grey_box import described
from playground.learn.intervals import calibrated
from playground.learn.lessons import rows_for
from playground.learn.members import Members, answered, brief_runs
from playground.learn.processes import side_by_side
from playground.learn.selection import Selection, selected
from playground.model import Model
from playground.plants.learned import LearnedPlant
from playground.plants.learned.base import standing_below
from playground.plants.learned.families import quick
from playground.plants.learned.simulator import Scaling
from playground.recording import Recording
from playground.signals import Signals

Array = npt.NDArray[np.float64]
Progress = Callable[[int, int, Candidate], None]

HOPELESS = 0.9
"""Times the error of the mean: an output that is hardly better is unusable."""
DOUBTFUL = 0.75
"""Below this share of the error of the mean on unseen data the folds are overruled."""
RESTING_NEAR, RESTING_SHARE = 0.02, 0.05
"""An output rests at an end of its span if this share of rows is this near to it."""

FAST_FROM_S = 20.0
"""Budget from which on a fast form of the plant is taught as well."""
FEWEST_ROWS = 120
"""Fewer rows of training data carry no conclusion about a plant."""
SHORTEST = HISTORY + 4
"""Shorter stretches are of no use: most of their rows only begin a run."""


def learn(
    recordings: Sequence[Recording],
    signals: Signals,
    *,
    period_s: float,
    holdout: float = 0.35,
    budget_s: float = 120.0,
    seed: int = 0,
    jobs: int | None = None,
    aggregate: Aggregate = "mean",
    max_age_s: Mapping[str, float] | None = None,
    base: str | Mapping[str, Mapping[str, Any]] | None = None,
    progress: Progress | None = None,
    report: Callable[[list[Finding]], None] | None = None,
) -> Model:
    """Learns a plant from recordings.

    Args:
        recordings: One or more, in order of time.
        signals: Commands and disturbances are its inputs, measurements its
            outputs.
        period_s: Seconds of one step.
        holdout: Last part of the rows, 0 to 0.9, that is kept for judging and
            never learned from.
        budget_s: About how long learning may take on two cores. It decides
            which candidates are tried, by an estimate and not by a stop watch.
        seed: Equal seeds and data learn equal models, bit by bit.
        jobs: Processes; as many as there are cores if None.
        aggregate: How several measurements within a step become one.
        max_age_s: See `playground.learn.read_segments`.
        base: A physical plant of the package that knows a part of it, by name
            (``"lab_rig"``) or with its parameters (``{"lab_rig": {"ua_hx_w_per_k":
            2500.0}}``): candidates that make up for what it does not know are
            tried as well. Its signals are those of the same name.
        progress: Called with candidates done, candidates in all, and the last
            one.
        report: Called with what is odd about the data, before learning begins.

    Returns:
        The model; ``card["errors"]`` says how well it did on what was held
        back, beside persistence and train mean; ``card["recordings"]`` names those
        that were learned from.

    Raises:
        NotEnoughData: The recordings cannot carry a model.
        PlaygroundError: The signals or settings do not fit.
    """
    if not recordings:
        raise PlaygroundError(
            "There is no recording to learn from.", "name at least one recording"
        )
    signals_need_roles(signals)
    balances_of(signals)
    segments: list[Segment] = []
    findings: list[Finding] = []
    sources: list[dict[str, Any]] = []
    for recording in recordings:
        series = read_series(recording, signals)
        findings += examined_series(series, signals, period_s=period_s)
        of_this = segments_of(
            believed(series, signals),
            signals,
            period_s=period_s,
            aggregate=aggregate,
            max_age_s=max_age_s,
        )
        segments += of_this
        sources.append(source(recording, rows=sum(len(s) for s in of_this)))
    model = learn_segments(
        segments,
        signals,
        holdout=holdout,
        budget_s=budget_s,
        seed=seed,
        jobs=jobs,
        findings=findings,
        base=base,
        progress=progress,
        report=report,
    )
    return replace(model, card={**model.card, "recordings": sources})


def source(recording: Recording, *, rows: int) -> dict[str, Any]:
    """Says on a card where rows came from.

    Args:
        recording: Of its path only the last name is told: the others speak of the
            machine on which was learned.
        rows: How many rows it gave.
    """
    path = PurePosixPath(recording.paths[0])
    parts = path.name.startswith("part-") and path.parent.name
    return {
        "name": path.parent.name if parts else path.name,
        "sha256": recording.sha256,
        "start": iso(recording.start_ns),
        "end": iso(recording.end_ns),
        "rows": rows,
    }


def held_back(
    recordings: Sequence[Recording],
    signals: Signals,
    *,
    period_s: float,
    holdout: float = 0.35,
    aggregate: Aggregate = "mean",
    max_age_s: Mapping[str, float] | None = None,
) -> list[Segment]:
    """Returns the rows that `learn`, called alike, keeps for judging."""
    segments: list[Segment] = []
    for recording in recordings:
        segments += read_segments(
            recording,
            signals,
            period_s=period_s,
            aggregate=aggregate,
            max_age_s=max_age_s,
        )
    _, test = split_by_time(segments, holdout)
    return [s for s in test if len(s) > HISTORY]


def learn_segments(
    segments: Sequence[Segment],
    signals: Signals,
    *,
    holdout: float = 0.35,
    budget_s: float = 120.0,
    seed: int = 0,
    jobs: int | None = None,
    findings: Sequence[Finding] = (),
    base: str | Mapping[str, Mapping[str, Any]] | None = None,
    progress: Progress | None = None,
    report: Callable[[list[Finding]], None] | None = None,
) -> Model:
    """Learns a plant from rows that are on a grid already; see `learn`."""
    if not 0 <= holdout <= 0.9:
        raise PlaygroundError(
            f"The part held back is {holdout:g}: it must be 0 to 0.9 of the data.",
            "write for instance --holdout 0.35",
        )
    signals_need_roles(signals)
    balances_of(signals)
    train, test = split_by_time(segments, holdout)
    check_enough(train)
    u = np.vstack([s.u for s in train])
    y = np.vstack([s.y for s in train])
    check_excitation(u, train[0])
    odd = [*findings, *examined_rows(segments, signals)]
    if report is not None:
        report(odd)
    scaling = Scaling.of(u, y)
    low, high = output_limits(y, signals, train[0].outputs)
    scaled = [
        replace(s, u=scaling.scaled_u(s.u), y=scaling.scaled_y(s.y)) for s in train
    ]
    folds = folds_of(scaled, shortest=SHORTEST)
    columns = described(train[0].inputs, train[0].outputs, signals, scaling)
    plant = None if base is None else _below(base, signals, train[0], scaling)
    candidates = all_tried(
        worth_trying(
            rows=len(u),
            budget_s=budget_s,
            folds=len(folds),
            inputs=u.shape[1],
            outputs=y.shape[1],
            columns=columns,
            plant=plant,
        ),
        folds,
        low=scaling.scaled_y(low),
        high=scaling.scaled_y(high),
        seed=seed,
        jobs=jobs,
        progress=progress,
    )
    truth = [b.y[HISTORY:] for fold in folds for b in fold]
    owner = [number for number, fold in enumerate(folds) for _ in fold]
    later = later_starts(folds)
    later_owner = [number for number, more in enumerate(later) for _ in more]
    cut = len(truth) > sum(len(s) >= SHORTEST for s in scaled)
    chosen = selected(candidates, truth, owner, later_owner, cut=cut)
    brief = brief_runs(chosen, folds)
    brief_owner = [number for number, more in enumerate(brief) for _ in more]
    runs = [*truth, *(b.y[HISTORY:] for more in (*later, *brief) for b in more)]
    run_owner = [*owner, *later_owner, *brief_owner]
    said, spread = list(chosen.said), list(chosen.spread)
    # One thread: a second changes the order of additions.
    with threadpool_limits(1):
        for number, more in enumerate(brief):
            answers, apart = answered(Members(chosen, without=number), more)
            said += answers
            spread += apart
    interval, about_interval = calibrated(
        runs, said, spread, run_owner, blocks=len(truth)
    )
    # What the next stretch will show; the geometric mean only chooses.
    expected = np.sqrt(np.mean(chosen.by_fold**2, axis=0))
    fast: dict[str, Any] = {}
    start = max(train, key=len)
    parameters = {
        **scaling.arrays(),
        "start.u": start.u[:HISTORY],
        "start.y": start.y[:HISTORY],
        "weights": chosen.weights,
        "median": chosen.median,
        **_named("envelope", envelope_of(folds, seed=seed)),
        **_named("interval", interval),
    }
    for number, member in enumerate(chosen.members):
        parameters |= _named(number, member.parameters)
    unusable = hopeless(train[0].outputs, chosen, folds)
    alone = len(chosen.members) == 1 and quick(
        chosen.members[0].family, chosen.members[0].settings
    )
    if budget_s >= FAST_FROM_S and not alone:
        arrays, about, width = fast_form(
            candidates,
            chosen,
            folds,
            brief,
            runs=runs,
            run_fold=run_owner,
            interval=interval,
            rows=rows_for(budget_s),
            low=scaling.scaled_y(low),
            high=scaling.scaled_y(high),
            seed=seed,
            unusable=unusable,
            jobs=jobs,
        )
        fast = {"fast": about}
        if about["default"]:
            own, members = about["validation"], about["members"]
            expected *= [own[name] / members[name] for name in train[0].outputs]
        parameters |= {**_named("fast", arrays), **_named("fast interval", width)}
    model = Model(
        signals=signals,
        period_s=train[0].dt,
        inputs=train[0].inputs,
        outputs=train[0].outputs,
        history=HISTORY,
        members=tuple({"family": m.family, **m.settings} for m in chosen.members),
        parameters=parameters,
        card={
            "data_sha256": data_hash(segments),
            "rows": {"train": len(u), "test": sum(len(s) for s in test)},
            "holdout": holdout,
            "budget_s": budget_s,
            "seed": seed,
            "validation": dict(zip(train[0].outputs, expected.tolist(), strict=True)),
            "validation_folds": dict(
                zip(train[0].outputs, chosen.by_fold.T.tolist(), strict=True)
            ),
            "candidates": [
                {
                    "family": c.family,
                    "settings": dict(c.settings),
                    "errors": dict(
                        zip(train[0].outputs, c.errors.tolist(), strict=True)
                    ),
                    "weights": _weights_of(c, chosen, train[0].outputs),
                }
                for c in candidates
            ],
            "findings": [f.as_dict() for f in odd],
            "interval": about_interval,
            "plain": [train[0].outputs[k] for k in chosen.plain],
            **({} if base is None else {"base": base}),
            **fast,
            "unusable": unusable,
            "errors": [],
        },
    )
    return judged(model, [s for s in test if len(s) > HISTORY])


def judged(model: Model, test: Sequence[Segment]) -> Model:
    """Returns the model with its card filled in from data it has not seen.

    Args:
        model: As learned.
        test: In units; may be empty, then only what needs no data is measured.
    """
    plant = LearnedPlant(model)
    errors = judge(plant, test) if test else []
    fast: dict[str, Any] = {}
    if "fast" in model.card and test:
        other = judge(LearnedPlant(model, fast=not plant.fast), test)
        each = {plant.fast: errors, not plant.fast: other}
        fast = {
            "fast": {
                **model.card["fast"],
                "errors": [e.as_dict() for e in each[True]],
                "errors_of_members": [e.as_dict() for e in each[False]],
            }
        }
    unusable = set(model.card["unusable"])
    for e in errors:
        # Folds of little data differ by chance: what they doubt and unseen data show
        # to be well known is believed.
        if e.rmse < DOUBTFUL * e.train_mean:
            unusable.discard(e.output)
        elif e.rmse >= HOPELESS * e.train_mean:
            unusable.add(e.output)
    return replace(
        model,
        card={
            **model.card,
            "errors": [e.as_dict() for e in errors],
            **fast,
            "unusable": [n for n in model.outputs if n in unusable],
            **measured(plant, test),
        },
    )


def _below(
    base: str | Mapping[str, Mapping[str, Any]],
    signals: Signals,
    rows: Segment,
    scaling: Scaling,
) -> dict[str, Any]:
    """Returns the settings of a physical plant on which is learned."""
    if isinstance(base, Mapping) and len(base) != 1:
        raise PlaygroundError(
            f"The base names {len(base)} plants: it must be one.",
            'write for instance base="lab_rig"',
        )
    name, given = (base, {}) if isinstance(base, str) else next(iter(base.items()))
    return standing_below(
        name,
        given,
        period_s=rows.dt,
        signals=signals,
        inputs=rows.inputs,
        outputs=rows.outputs,
        scaling=scaling,
    )


def _named(part: int | str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {f"{part}.{name}": array for name, array in arrays.items()}


def _weights_of(
    candidate: Candidate, chosen: Selection, outputs: Sequence[str]
) -> dict[str, float]:
    for member, weights in zip(chosen.members, chosen.weights, strict=True):
        if member is candidate:
            return dict(zip(outputs, weights.tolist(), strict=True))
    return {}


def all_tried(
    ladder: Sequence[tuple[str, Mapping[str, Any]]],
    folds: Sequence[Sequence[Segment]],
    *,
    low: Array,
    high: Array,
    seed: int,
    jobs: int | None,
    progress: Progress | None,
) -> list[Candidate]:
    """Tries every candidate, side by side where that is worth the processes."""
    rows = sum(len(b) for fold in folds for b in fold)
    inputs, outputs = folds[0][0].u.shape[1], folds[0][0].y.shape[1]
    together = bundles(ladder)
    seconds = [
        sum(cost(f, s, rows, inputs=inputs, outputs=outputs) for f, s in bundle)
        for bundle in together
    ]
    # Starting processes takes a few seconds as well.
    workers = 1 if sum(seconds) < 15 else jobs or os.cpu_count() or 1
    order = list(range(len(together)))
    if workers > 1:
        # The longest first, so that at the end no core waits for another.
        order.sort(key=lambda k: -seconds[k])
    calls = (
        delayed(tried_together)(together[k], folds, low=low, high=high, seed=seed)
        for k in order
    )
    found: dict[int, list[Candidate]] = {}
    done = 0
    answers = side_by_side(calls, workers)
    for k, candidates in zip(order, answers, strict=True):
        found[k] = candidates
        for candidate in candidates:
            done += 1
            if progress is not None:
                progress(done, len(ladder), candidate)
    return [candidate for k in sorted(found) for candidate in found[k]]


def hopeless(
    outputs: Sequence[str], chosen: Selection, folds: Sequence[Sequence[Segment]]
) -> list[str]:
    """Names outputs that are no better known than by the mean of the other folds."""
    wrong, mean_wrong = [], []
    blocks = iter(chosen.said)
    for out, fold in enumerate(folds):
        others = np.vstack([b.y for k, f in enumerate(folds) if k != out for b in f])
        mean = others.mean(axis=0)
        truth = np.vstack([b.y[HISTORY:] for b in fold])
        said = np.vstack([next(blocks) for _ in fold])
        wrong.append(np.mean((said - truth) ** 2, axis=0))
        mean_wrong.append(np.mean((mean - truth) ** 2, axis=0))
    own, by_mean = (np.sqrt(np.mean(each, axis=0)) for each in (wrong, mean_wrong))
    # Without a quotient: of an output that never changed both may be nothing.
    return [
        name
        for name, poor in zip(outputs, own >= HOPELESS * by_mean, strict=True)
        if poor
    ]


def check_enough(train: Sequence[Segment]) -> None:
    """Refuses too little training data.

    Raises:
        NotEnoughData: With the number of rows seen.
    """
    rows = sum(len(s) for s in train if len(s) >= SHORTEST)
    longest = max((len(s) for s in train), default=0)
    if rows < FEWEST_ROWS or longest < FEWEST_ROWS // 2:
        raise NotEnoughData(
            f"There are {rows} rows to learn from in unbroken stretches of {SHORTEST} or "
            f"more, the longest has {longest}; a model needs at least {FEWEST_ROWS} and "
            f"{FEWEST_ROWS // 2}.",
            "record longer, take a shorter --period, or hold back less (--holdout)",
        )


def check_excitation(u: Array, names: Segment) -> None:
    """Refuses training data in which no input ever changes.

    Raises:
        NotEnoughData: With the values at which they stood.
    """
    if np.ptp(u, axis=0).max() > 0:
        return
    stood = ", ".join(
        f"{name} = {value:g}" for name, value in zip(names.inputs, u[0], strict=True)
    )
    raise NotEnoughData(
        f"No input changes in the training data ({stood}): what the plant does in "
        "answer to it cannot be learned.",
        "move the commands while recording: steps up and down, each long enough for "
        "the plant to settle",
    )


def output_limits(
    y: Array, signals: Signals, outputs: Sequence[str]
) -> tuple[Array, Array]:
    """Returns the limits within which a simulated output is kept.

    Half of the span that was seen is added on both sides, but never beyond the
    range that the signals file gives, and not where the data say themselves that
    there is an end: a power that rests at zero has never been negative.
    """
    low, high = y.min(axis=0), y.max(axis=0)
    span = np.maximum(high - low, 1e-9)
    rests_low = (y <= low + RESTING_NEAR * span).mean(axis=0) >= RESTING_SHARE
    rests_high = (y >= high - RESTING_NEAR * span).mean(axis=0) >= RESTING_SHARE
    low = np.where(rests_low, low, low - 0.5 * span)
    high = np.where(rests_high, high, high + 0.5 * span)
    for k, name in enumerate(outputs):
        bounds = signals[name].range
        if bounds is not None:
            low[k], high[k] = max(low[k], bounds[0]), min(high[k], bounds[1])
    return low, high


def data_hash(segments: Sequence[Segment]) -> str:
    """Returns the SHA-256 of all rows."""
    total = hashlib.sha256()
    for segment in segments:
        for rows in (segment.u, segment.y):
            total.update(str(rows.shape).encode())
            total.update(np.ascontiguousarray(rows, "<f8").tobytes())
    return total.hexdigest()
