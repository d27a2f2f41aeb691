"""What a recording says that a plant can be compared with.

Inputs stand on the plant's own grid of steps; measurements keep their own instants
and are counted once each, so a register of five seconds is not five readings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from playground.errors import NotEnoughData, PlaygroundError, closest
from playground.quantity import convert, say_seconds
from playground.recording import Recording
from playground.recording.aligned import said
from playground.signals import Signal, Signals

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A recording, ready to be compared with.

    Attributes:
        inputs: Row at which the inputs change, and all of them from there on; the
            first row is 1, the step that ends one period after the start.
        rows: Number of steps.
        samples: Rows and values of each measurement, in the plant's unit.
        first_row: Rows before it are not judged.
        offset_s: Seconds of the recording before its part begins.
    """

    inputs: tuple[tuple[int, Mapping[str, float]], ...]
    rows: int
    samples: Mapping[str, tuple[Rows, Array]]
    first_row: int
    offset_s: float


def observe(
    recording: Recording,
    plant_signals: Signals,
    signals: Signals,
    *,
    period_s: float,
    outputs: Sequence[str],
    inputs_from: Mapping[str, str],
    warm_up_s: float,
    start_ns: int | None = None,
    end_ns: int | None = None,
) -> tuple[Observed, list[str]]:
    """Reads a recording.

    Args:
        recording: Where to read.
        plant_signals: What the plant hears and says.
        signals: What the topics of the recording mean.
        period_s: Seconds of one step of the plant.
        outputs: Measurements to compare.
        inputs_from: Name of an input and of the signal that stands in for it.
        warm_up_s: What is not judged.
        start_ns: Beginning of the part to read; None: the recording's.
        end_ns: First instant that no longer counts; None: the recording's end.

    Returns:
        The recording's content, and what a person should know about it.

    Raises:
        PlaygroundError: An input is not said and has no value from before.
        NotEnoughData: It is shorter than the warm-up.
    """
    notes: list[str] = []
    start = recording.start_ns if start_ns is None else start_ns
    end = recording.end_ns + 1 if end_ns is None else end_ns
    rows = int((end - start) / 1e9 / period_s + 1e-6)
    first_row = int(np.ceil(warm_up_s / period_s - 1e-9))
    if rows <= first_row + 1:
        raise NotEnoughData(
            f"The recording lasts {say_seconds((end - start) / 1e9)}; the first "
            f"{say_seconds(warm_up_s)} are not judged.",
            "take a longer recording, or a shorter --warm-up",
        )
    axis = start + np.rint(np.arange(rows + 1) * period_s * 1e9).astype(np.int64)
    inputs = _inputs(recording, plant_signals, signals, inputs_from, axis, end, notes)
    wanted = {name: signals[name] for name in outputs}
    heard = said(recording, wanted, start_ns=start, end_ns=end)
    samples = {}
    for name, (times, values) in heard.items():
        # What was said between two steps is what the last step left.
        row = np.searchsorted(axis, times, side="right") - 1
        good = np.isfinite(values) & (row >= max(first_row, 0))
        values = _converted(values[good], signals[name], plant_signals[name])
        samples[name] = (row[good].astype(np.int64), values)
    return (
        Observed(
            inputs=inputs,
            rows=rows,
            samples=samples,
            first_row=first_row,
            offset_s=(start - recording.start_ns) / 1e9,
        ),
        notes,
    )


def _inputs(
    recording: Recording,
    plant_signals: Signals,
    signals: Signals,
    inputs_from: Mapping[str, str],
    axis: Rows,
    end_ns: int,
    notes: list[str],
) -> tuple[tuple[int, Mapping[str, float]], ...]:
    needed = plant_signals.with_role("command", "disturbance")
    for name in inputs_from:
        if name not in {signal.name for signal in needed}:
            raise PlaygroundError(
                f"{name!r} is no input of the plant."
                f"{closest(name, [s.name for s in needed])}",
                f"inputs: {', '.join(s.name for s in needed)}",
            )
    sources = {
        s.name: signals.need(inputs_from.get(s.name, s.name))
        for s in needed
        if s.name in inputs_from or s.name in signals
    }
    wanted = {source.name: source for source in sources.values()}
    heard = said(recording, wanted, end_ns=end_ns)
    columns: dict[str, Array] = {}
    for signal in needed:
        before = signal.initial
        source = sources.get(signal.name)
        times, values = np.zeros(0, np.int64), np.zeros(0)
        if source is not None:
            times, values = heard[source.name]
            # What is no number changes nothing, as at the plant.
            good = np.isfinite(values)
            times, values = times[good], _converted(values[good], source, signal)
        if not len(times):
            if before is None:
                raise PlaygroundError(
                    f"The recording never says {signal.name!r}, which the plant needs.",
                    f"record {signal.topic}, or name what stands in for it with "
                    f"--input {signal.name}=SIGNAL",
                )
            unit = "" if signal.unit == "1" else f" {signal.unit}"
            notes.append(f"{signal.name} is never said: held at {before:g}{unit}")
        elif before is None:
            before = float(values[0])
        if signal.range is not None:
            values = np.clip(values, *signal.range)
        # As at `playground.plants.device`: a step takes what was commanded before its
        # end, and the weather that is at its end.
        side: Literal["left", "right"] = "left" if signal.role == "command" else "right"
        place = np.searchsorted(times, axis[1:], side=side)
        columns[signal.name] = np.concatenate([[float(before or 0.0)], values])[place]
    changed = np.zeros(len(axis) - 1, bool)
    changed[0] = True
    for column in columns.values():
        changed[1:] |= column[1:] != column[:-1]
    return tuple(
        (int(row) + 1, {name: float(column[row]) for name, column in columns.items()})
        for row in np.flatnonzero(changed)
    )


def _converted(values: Array, source: Signal, target: Signal) -> Array:
    if source.unit == target.unit:
        return values
    zero = convert(0.0, source.unit, target.unit)
    return zero + values * (convert(1.0, source.unit, target.unit) - zero)


def choose_outputs(
    recordings: Sequence[Recording],
    plant_signals: Signals,
    signals: Signals,
    asked: Sequence[str] | None,
) -> tuple[tuple[str, ...], list[str]]:
    """Returns the measurements to compare, and what was left out and why.

    A signal that never moves teaches nothing; one that repeats another's readings,
    as a preprocessing step does, would count them twice.

    Args:
        recordings: Where they must be said.
        plant_signals: What the plant says.
        signals: What the topics mean.
        asked: The user's choice; None: all that both know.

    Raises:
        PlaygroundError: One that was asked for is not there, or none is.
    """
    both = [s.name for s in plant_signals.with_role("measurement") if s.name in signals]
    if asked is not None:
        for name in asked:
            plant_signals.need(name)
            if name not in both:
                raise PlaygroundError(
                    f"{name!r} is not a measurement of plant and signals file."
                    f"{closest(name, both)}",
                    f"both know: {', '.join(both) or 'none'}",
                )
    candidates = list(both if asked is None else dict.fromkeys(asked))
    heard = [
        said(recording, {name: signals[name] for name in candidates})
        for recording in recordings
    ]
    silent = [n for n in candidates if not any(len(one[n][0]) for one in heard)]
    if asked is not None and silent:
        spoken = [n for n in candidates if n not in silent]
        raise PlaygroundError(
            f"No recording says {', '.join(silent)}.",
            f"record {signals[silent[0]].topic}, or leave it out; said: "
            f"{', '.join(spoken) or 'none of these'}",
        )
    if len(silent) == len(candidates):
        raise PlaygroundError(
            "The recording says no measurement that the plant knows.",
            "give --signals a file whose names are those of the plant: "
            + ", ".join(both[:8] or [s.name for s in plant_signals.values()][:8]),
        )
    chosen: list[str] = []
    notes: list[str] = []
    seen: dict[bytes, str] = {}
    still = []
    for name in candidates:
        if name in silent:
            continue
        values = np.concatenate([one[name][1] for one in heard])
        finite = values[np.isfinite(values)]
        key = finite.tobytes()
        if len(finite) < 3 or not np.ptp(finite) > 0.0:
            still.append(name)
        elif key in seen:
            notes.append(f"{name} repeats {seen[key]}: left out")
        else:
            seen[key] = name
            chosen.append(name)
    if still:
        notes.append(f"never moves, left out: {', '.join(still)}")
    if not chosen:
        raise NotEnoughData(
            "No measurement of the recording moves.",
            "record while the plant is being driven up and down",
        )
    return tuple(chosen), notes


def noise_of(signal: Signal, pieces: Sequence[tuple[Rows, Array]]) -> float:
    """Returns the scatter of a signal's readings: sensor and rounding.

    Second differences hardly see what moves slowly; for white noise of deviation s
    they scatter by s√6.

    Args:
        signal: Says how it is rounded on the wire.
        pieces: Its samples, recording by recording.
    """
    seconds = [np.diff(values, n=2) for _, values in pieces if len(values) > 2]
    values = np.concatenate([values for _, values in pieces])
    second = np.concatenate(seconds) if seconds else np.zeros(1)
    scatter = float(np.median(np.abs(second))) / 0.6745 / np.sqrt(6.0)
    quantum = abs(signal.scale) if signal.type != "float" else _rounding(values)
    # Nothing is read more finely than a float of a payload of ten digits.
    least = 1e-6 * float(np.max(np.abs(values), initial=0.0)) + 1e-9
    return float(max(scatter, quantum / np.sqrt(12.0), least))


def _rounding(values: Array) -> float:
    """Returns to what readings are rounded; 0 where they do not seem to be.

    All are then a whole number of steps apart, and people round to 1, 2 or 5 of
    something; the levels of a heater with three stages are no rounding.
    """
    steps = np.diff(np.unique(values))
    if not 0 < len(steps) < len(values) / 3:
        return 0.0
    step = float(steps.min())
    counts = steps / step
    if np.max(np.abs(counts - np.rint(counts))) > 1e-3:
        return 0.0
    lead = step / 10.0 ** math.floor(math.log10(step) + 1e-9)
    return step if min(abs(lead - round_) for round_ in (1, 2, 5, 10)) < 1e-3 else 0.0
