"""From recordings to numbers on a grid: `Segment`s that a model can learn from.

Rule 1: a row stands for the step that ends at its time: inputs as they were held
*during* the step, measurements as seen *by its end*. That is what a plant is
asked in a run, so what is learned here holds there. Rule 2: where something is
missing a segment ends; nothing is bridged or invented.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from playground.errors import NotEnoughData, PlaygroundError
from playground.quantity import say_seconds, seconds
from playground.recording import Recording
from playground.signals import Signals

Array = npt.NDArray[np.float64]
Aggregate = Literal["mean", "last"]

MOST_ASTRAY_S = 86_400.0
"""A stamp in a payload that is farther than this from when it came is no stamp."""
SYNCHRONOUS = 0.98
"""Share of measurements that come at the same part of each period, if they do."""
INSTANT_S = 1e-6
"""Stamps so near to the end of a row are of its end: seconds since 1970 are no more
exact than a quarter of this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What one signal said, in order of time.

    Attributes:
        time: Seconds since 1970 UTC, ascending.
        value: As many, in the unit of the signal; NaN where it said nothing
            valid.
    """

    time: Array
    value: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """An unbroken stretch of rows at a fixed distance.

    Attributes:
        t0: End of the step of the first row, seconds since 1970 UTC (or since
            the start, where the source knows no calendar).
        dt: Seconds from row to row.
        u: Inputs, rows × inputs, held during the step that ends at the row.
        y: Outputs, rows × outputs, at the row.
        inputs: Names of the columns of ``u``.
        outputs: Names of the columns of ``y``.
    """

    t0: float
    dt: float
    u: Array
    y: Array
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.y)

    def part(self, start: int, end: int) -> Segment:
        """Returns the rows ``[start, end)``."""
        start, end, _ = slice(start, end).indices(len(self))
        return Segment(
            t0=self.t0 + start * self.dt,
            dt=self.dt,
            u=self.u[start:end],
            y=self.y[start:end],
            inputs=self.inputs,
            outputs=self.outputs,
        )


def read_series(recording: Recording, signals: Signals) -> dict[str, Series]:
    """Decodes every signal of a recording.

    The time of a value is that of its message, or the one in its payload where the
    signal has a ``stamp``. Times that run backwards are put in order; of equal ones the
    later message wins. Where the recorder was blind (a ``gap``) every measurement has a
    NaN.

    Returns:
        A series for every signal, empty where it never spoke.

    Raises:
        PlaygroundError: A stamp is more than a day away from when its message came.
    """
    times: dict[str, list[float]] = {name: [] for name in signals}
    values: dict[str, list[float]] = {name: [] for name in signals}
    stamped = {signal.topic for signal in signals.values() if signal.stamp is not None}
    astray: dict[str, float] = {}
    for message in recording.messages(topics=tuple(signals.by_topic)):
        came, own = message.time_ns / 1e9, {}
        if message.topic in stamped:
            own = signals.stamps(message.topic, message.payload)
        for name, value in signals.decode(message.topic, message.payload):
            at = own.get(name, came)
            if abs(at - came) > MOST_ASTRAY_S:
                astray.setdefault(name, at)
                at = came
            times[name].append(at)
            values[name].append(value)
    for name, at in astray.items():
        raise PlaygroundError(
            f"Signal {name!r}: its stamp {signals[name].stamp!r} says {at:.10g} in a "
            "message that came more than a day before or after that.",
            "a stamp is seconds since 1970; correct the place that 'stamp' names, or "
            "remove it from the signals file: then the time of arrival counts",
        )
    for message in recording.messages(kinds=("gap",)):
        # What is known before the blind time says nothing about its end.
        since = json.loads(message.payload)["start_ns"]
        for signal in signals.with_role("measurement"):
            times[signal.name].append(since / 1e9)
            values[signal.name].append(math.nan)
    return {name: ordered(times[name], values[name]) for name in signals}


def believed(series: Mapping[str, Series], signals: Signals) -> dict[str, Series]:
    """Puts NaN for values outside the range that a signal can have."""
    answer = dict(series)
    for name, said in series.items():
        bounds = signals[name].range
        if bounds is not None:
            with np.errstate(invalid="ignore"):
                inside = (said.value >= bounds[0]) & (said.value <= bounds[1])
            value = np.where(inside, said.value, math.nan)
            answer[name] = Series(time=said.time, value=value)
    return answer


def ordered(time: Iterable[float], value: Iterable[float]) -> Series:
    """Makes a series: sorted by time, the last of equal stamps kept."""
    stamps = np.asarray(list(time), dtype=np.float64)
    numbers = np.asarray(list(value), dtype=np.float64)
    order = np.argsort(stamps, kind="stable")
    stamps, numbers = stamps[order], numbers[order]
    if len(stamps):
        keep = np.append(np.diff(stamps) > 0, True)
        stamps, numbers = stamps[keep], numbers[keep]
    return Series(time=stamps, value=numbers)


def usual_age(series: Series, period_s: float) -> float:
    """Guesses after how many seconds of silence a value is out of date.

    A sensor that speaks each second is late after three steps; one that speaks
    only when its value changes may be silent for as long as it usually is. An
    outage is rarer than one silence in two hundred, so it does not count as
    usual; with fewer messages than that nothing can be said, and the value
    holds.
    """
    if len(series.time) < 200:
        return math.inf
    gaps = np.diff(series.time)
    return float(max(3 * period_s, 2 * np.quantile(gaps, 0.995)))


def held(
    series: Series,
    grid: Array,
    *,
    before: float | None = None,
    max_age_s: float = math.inf,
) -> Array:
    """Averages a held value over the step that ends at each instant of a grid.

    Args:
        series: What was said; a NaN changes nothing.
        grid: Instants at a fixed distance, seconds.
        before: Value before the first word; NaN if None.
        max_age_s: Older values are NaN.

    Returns:
        The time-weighted mean over ``(grid[k-1], grid[k]]``, as many as the
        grid has instants.
    """
    said = np.isfinite(series.value)
    time, value = series.time[said], series.value[said]
    step = float(grid[1] - grid[0]) if len(grid) > 1 else 1.0
    edges = np.concatenate([[grid[0] - step], grid])
    first = math.nan if before is None else before
    # Index of the last word strictly before an edge: a command sent at the very
    # instant at which a row ends acts on the next row, not on this one.
    last = np.searchsorted(time, edges - INSTANT_S, side="left") - 1
    padded = np.concatenate([[first], value])
    changes = np.concatenate([[edges[0]], time])
    filled = np.nan_to_num(padded)
    area = np.concatenate([[0.0], np.cumsum(filled[:-1] * np.diff(changes))])
    integral = area[last + 1] + filled[last + 1] * (edges - changes[last + 1])
    mean: Array = np.diff(integral) / step
    # A word at the very beginning of the step holds for all of it.
    begin = np.searchsorted(time, edges[:-1] + INSTANT_S, side="right") - 1
    steady = last[1:] == begin
    mean[steady] = padded[last[1:] + 1][steady]
    # Nothing was known at the beginning of the step.
    mean[np.isnan(padded[begin + 1])] = math.nan
    if math.isfinite(max_age_s):
        age = grid - changes[last[1:] + 1]
        mean[(last[1:] >= 0) & (age > max_age_s)] = math.nan
    return mean


def sampled(
    series: Series,
    grid: Array,
    *,
    aggregate: Aggregate = "mean",
    max_age_s: float = math.inf,
) -> Array:
    """Resamples a measurement to the instants of a grid.

    Args:
        series: What was said; a NaN ends the validity of the value before it
            until a number follows.
        grid: Instants at a fixed distance, seconds.
        aggregate: Of several values within ``(grid[k-1], grid[k]]``: their
            mean, or the last.
        max_age_s: Where a step brought no value the one before holds if it is
            at most so old.

    Returns:
        As many values as the grid has instants; NaN where there is none.
    """
    step = float(grid[1] - grid[0]) if len(grid) > 1 else 1.0
    edges = np.concatenate([[grid[0] - step], grid])
    upto = np.searchsorted(series.time, edges + INSTANT_S, side="right")
    padded = np.concatenate([[math.nan], series.value])
    stamps = np.concatenate([[-math.inf], series.time])
    newest = padded[upto[1:]]
    newest[grid - stamps[upto[1:]] > max_age_s] = math.nan
    if aggregate == "mean":
        sums = np.concatenate([[0.0], np.cumsum(np.nan_to_num(series.value))])
        counts = np.concatenate([[0], np.cumsum(np.isfinite(series.value))])
        total, count = np.diff(sums[upto]), np.diff(counts[upto])
        several = (count > 1) & np.isfinite(newest)
        newest[several] = total[several] / count[several]
    return newest


def end_of_rows(times: Sequence[Array], period_s: float) -> float:
    """Returns when within a period rows should end: when measurements have come.

    A plant that is asked each period answers with what its inputs did until then.
    If a row ended just before the answer came, it would hold the answer before, beside
    inputs which that one knew nothing of.

    Args:
        times: When each measurement spoke, seconds from any origin.
        period_s: Seconds from row to row.

    Returns:
        Seconds after the origin, from 0 to below ``period_s``; 0 where measurements
        come all through the period, as those of faster or of other periods do.
    """
    phases = np.sort(np.round(np.concatenate(times), 6) % period_s)
    if not len(phases):
        return 0.0
    # The shortest arc that holds nearly all; a few words between are no rule.
    most = int(np.ceil(SYNCHRONOUS * len(phases)))
    round_twice = np.concatenate([phases, phases + period_s])
    arcs = round_twice[most - 1 :][: len(phases)] - phases
    begin = int(np.argmin(arcs))
    arc = float(arcs[begin])
    if arc > period_s / 2:
        return 0.0
    # Those that are late now and then belong to it too.
    late = round_twice[begin:] - phases[begin]
    end = phases[begin] + late[late <= 2 * arc].max()
    return round(float(end) % period_s, 6) % period_s


def read_segments(
    recording: Recording,
    signals: Signals,
    *,
    period_s: float,
    aggregate: Aggregate = "mean",
    max_age_s: Mapping[str, float] | None = None,
) -> list[Segment]:
    """Returns the unbroken stretches in which every signal is known.

    Args:
        recording: Where the messages are.
        signals: Commands and disturbances become inputs, measurements outputs.
        period_s: Seconds from row to row.
        aggregate: How several measurements within a step become one, where the
            signal does not say it (``resample``).
        max_age_s: Per signal, after how many seconds a value is out of date; else
            as the signal says. Where neither does, a command holds for ever, and
            `usual_age` answers for the rest.

    Raises:
        NotEnoughData: A signal is never in the recording, or there is no row in
            which all are known.
    """
    signals_need_roles(signals)
    series = believed(read_series(recording, signals), signals)
    return segments_of(
        series, signals, period_s=period_s, aggregate=aggregate, max_age_s=max_age_s
    )


def signals_need_roles(signals: Signals) -> None:
    """Refuses signals of which nothing can be learned."""
    if not signals.with_role("measurement"):
        raise NotEnoughData(
            "The signals file names no measurement: there is nothing to learn.",
            "give the signals that the plant publishes 'role: measurement'",
        )
    if not signals.with_role("command", "disturbance"):
        raise NotEnoughData(
            "The signals file names no command and no disturbance: a plant without "
            "inputs cannot answer to anything.",
            "give the signals that act on the plant 'role: command' or "
            "'role: disturbance'",
        )


def segments_of(
    series: Mapping[str, Series],
    signals: Signals,
    *,
    period_s: float,
    aggregate: Aggregate = "mean",
    max_age_s: Mapping[str, float] | None = None,
) -> list[Segment]:
    """Puts series on a grid; see `read_segments`.

    Raises:
        PlaygroundError: The period is not above 0.
        NotEnoughData: As there.
    """
    if not period_s > 0:
        raise PlaygroundError(
            f"The period is {period_s:g} s: a step has to take some time.",
            "write how long one step is, for instance --period 5s",
        )
    for name in max_age_s or {}:
        signals.need(name)
    declared = {s.name: seconds(s.max_age) for s in signals.values() if s.max_age}
    ages = {**declared, **(max_age_s or {})}
    inputs = signals.with_role("command", "disturbance")
    outputs = signals.with_role("measurement")
    silent = [
        signal
        for signal in (*inputs, *outputs)
        if not np.isfinite(series[signal.name].value).any()
        and not (signal.role == "command" and signal.initial is not None)
    ]
    if silent:
        never = [s for s in silent if not len(series[s.name].time)]
        names = ", ".join(
            f"{s.name!r} (topic {s.topic!r}{f', path {s.path!r}' if s.path else ''})"
            for s in silent
        )
        raise NotEnoughData(
            f"The recording holds no {'message' if never else 'valid value'} of "
            f"{names}.",
            "correct topic and path in the signals file, remove the signal from it, "
            "or give a command that was never sent its 'initial' value",
        )
    spoken = [series[s.name].time for s in (*inputs, *outputs)]
    first = min(time[0] for time in spoken if len(time))
    last = max(time[-1] for time in spoken if len(time))
    begin = first
    first += end_of_rows([series[s.name].time - first for s in outputs], period_s)
    rows = max(0, int((last - first) / period_s + 1e-6)) + 1
    if rows < 2:
        raise NotEnoughData(
            f"All that is known lasts {say_seconds(last - begin)}: that is less than "
            f"two steps of {say_seconds(period_s)}.",
            "record longer, or take a shorter --period",
        )
    grid = first + period_s * np.arange(rows)
    columns: dict[str, Array] = {}
    for signal in inputs:
        said = series[signal.name]
        command = signal.role == "command"
        usual = math.inf if command else usual_age(said, period_s)
        columns[signal.name] = held(
            said,
            grid,
            before=signal.initial if command else None,
            max_age_s=ages.get(signal.name, usual),
        )
    for signal in outputs:
        said = series[signal.name]
        columns[signal.name] = sampled(
            said,
            grid,
            aggregate=signal.resample or aggregate,
            max_age_s=ages.get(signal.name, usual_age(said, period_s)),
        )
    found = unbroken(
        grid,
        np.column_stack([columns[s.name] for s in inputs]),
        np.column_stack([columns[s.name] for s in outputs]),
        inputs=tuple(s.name for s in inputs),
        outputs=tuple(s.name for s in outputs),
        dt=period_s,
    )
    if not found:
        coverage = ", ".join(
            f"{name} {np.isfinite(column).mean():.0%}"
            for name, column in columns.items()
        )
        raise NotEnoughData(
            f"In {rows} steps of {period_s:g} s there is none in which every signal "
            f"is known (known: {coverage}).",
            "remove the signal that is missing from the signals file, or record again",
        )
    return found


def unbroken(
    grid: Array,
    u: Array,
    y: Array,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    dt: float | None = None,
    shortest: int = 2,
) -> list[Segment]:
    """Cuts rows into the stretches in which every number is finite.

    Args:
        grid: Time of each row at a fixed distance, seconds.
        u: Rows × inputs.
        y: Rows × outputs.
        inputs: Names of the columns of ``u``.
        outputs: Names of the columns of ``y``.
        dt: Seconds from row to row; None: as the grid says, which after half a
            century since 1970 is a ten-millionth of a second off.
        shortest: Stretches with fewer rows are left out.
    """
    whole = np.isfinite(u).all(axis=1) & np.isfinite(y).all(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], whole.astype(np.int8), [0]])))
    if dt is None:
        dt = float(grid[1] - grid[0]) if len(grid) > 1 else 1.0
    return [
        Segment(
            t0=float(grid[start]),
            dt=dt,
            u=u[start:end],
            y=y[start:end],
            inputs=tuple(inputs),
            outputs=tuple(outputs),
        )
        for start, end in zip(edges[::2], edges[1::2], strict=True)
        if end - start >= shortest
    ]


def split_by_time(
    segments: Sequence[Segment], share: float
) -> tuple[list[Segment], list[Segment]]:
    """Splits segments into the first rows and the last ``share`` of them.

    Args:
        segments: In the order in which they were recorded.
        share: Part of all rows that goes to the end, 0 to 1.
    """
    total = sum(len(s) for s in segments)
    left = total - round(total * share)
    before: list[Segment] = []
    after: list[Segment] = []
    for segment in segments:
        cut = min(left, len(segment))
        if cut:
            before.append(segment.part(0, cut))
        if cut < len(segment):
            after.append(segment.part(cut, len(segment)))
        left -= cut
    return before, after
