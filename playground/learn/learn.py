"""The one call from recordings to a `Model`, and what it refuses."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from playground.errors import NotEnoughData, PlaygroundError
from playground.learn.arx import blocks_of, chosen_arx
from playground.learn.dataset import (
    Aggregate,
    Segment,
    read_segments,
    signals_need_roles,
    split_by_time,
)
from playground.learn.free_run import OutputError, judge
from playground.model import Model
from playground.plants.learned import LearnedPlant
from playground.plants.learned.simulator import Scaling
from playground.recording import Recording
from playground.signals import Signals

Array = npt.NDArray[np.float64]

FEWEST_ROWS = 60
"""Fewer rows of training data carry no conclusion about a plant."""


def learn(
    recordings: Sequence[Recording],
    signals: Signals,
    *,
    period_s: float,
    holdout: float = 0.35,
    aggregate: Aggregate = "mean",
    max_age_s: Mapping[str, float] | None = None,
) -> Model:
    """Learns a plant from recordings.

    Args:
        recordings: One or more, in order of time.
        signals: Commands and disturbances are its inputs, measurements its
            outputs.
        period_s: Seconds of one step.
        holdout: Last part of the rows, 0 to 0.9, that is kept for judging and
            never learned from.
        aggregate: How several measurements within a step become one.
        max_age_s: See `read_segments`.

    Returns:
        The model; ``card["errors"]`` says how well it did on what was held
        back, beside persistence and train mean.

    Raises:
        NotEnoughData: The recordings cannot carry a model.
        PlaygroundError: The signals or settings do not fit.
    """
    if not recordings:
        raise PlaygroundError(
            "There is no recording to learn from.", "name at least one recording"
        )
    segments: list[Segment] = []
    for recording in recordings:
        segments += read_segments(
            recording,
            signals,
            period_s=period_s,
            aggregate=aggregate,
            max_age_s=max_age_s,
        )
    return learn_segments(segments, signals, holdout=holdout)


def learn_segments(
    segments: Sequence[Segment], signals: Signals, *, holdout: float = 0.35
) -> Model:
    """Learns a plant from rows that are on a grid already; see `learn`."""
    if not 0 <= holdout <= 0.9:
        raise PlaygroundError(
            f"The part held back is {holdout:g}: it must be 0 to 0.9 of the data.",
            "write for instance --holdout 0.35",
        )
    signals_need_roles(signals)
    train, test = split_by_time(segments, holdout)
    check_enough(train)
    u = np.vstack([s.u for s in train])
    y = np.vstack([s.y for s in train])
    check_excitation(u, train[0])
    scaling = Scaling.of(u, y)
    low, high = output_limits(y, signals, train[0].outputs)
    scaled_low, scaled_high = scaling.scaled_y(low), scaling.scaled_y(high)
    scaled = [
        replace(s, u=scaling.scaled_u(s.u), y=scaling.scaled_y(s.y)) for s in train
    ]
    settings, weights = chosen_arx(
        [b for b in blocks_of(scaled) if len(b) >= 15], low=scaled_low, high=scaled_high
    )
    history = max(int(settings["na"]), int(settings["nb"]) - 1, 1)
    start = max(train, key=len)
    parameters = {
        **scaling.arrays(),
        "start.u": start.u[:history],
        "start.y": start.y[:history],
        "0.weights": weights,
        "0.low": scaled_low,
        "0.high": scaled_high,
    }
    model = Model(
        signals=signals,
        period_s=train[0].dt,
        inputs=train[0].inputs,
        outputs=train[0].outputs,
        history=history,
        members=({"family": "arx", "outputs": list(train[0].outputs), **settings},),
        parameters=parameters,
        card={},
    )
    errors: list[OutputError] = []
    if test:
        errors = judge(LearnedPlant(model), test)
    return replace(
        model,
        card={
            "data_sha256": data_hash(segments),
            "rows": {"train": len(u), "test": sum(len(s) for s in test)},
            "holdout": holdout,
            "errors": [e.as_dict() for e in errors],
        },
    )


def check_enough(train: Sequence[Segment]) -> None:
    """Refuses too little training data.

    Raises:
        NotEnoughData: With the number of rows seen.
    """
    rows = sum(len(s) for s in train)
    longest = max((len(s) for s in train), default=0)
    if rows < FEWEST_ROWS or longest < FEWEST_ROWS // 2:
        raise NotEnoughData(
            f"There are {rows} rows to learn from, the longest unbroken stretch has "
            f"{longest}; a model needs at least {FEWEST_ROWS} and "
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
    range that the signals file gives.
    """
    low, high = y.min(axis=0), y.max(axis=0)
    span = np.maximum(high - low, 1e-9)
    low, high = low - 0.5 * span, high + 0.5 * span
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
