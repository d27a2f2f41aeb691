"""Signals of a recording on one time axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playground.errors import PlaygroundError
from playground.recording.columns import SCHEMA, byte_list, numbers, values
from playground.signals import Signal, Signals

if TYPE_CHECKING:
    from playground.recording.reader import Recording

Times = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
_READ = ("time", "topic", "payload")


def align(
    recording: Recording,
    signals: Mapping[str, Signal],
    *,
    period_s: float | None = None,
    start_ns: int | None = None,
    end_ns: int | None = None,
    how: Literal["last", "mean"] = "last",
) -> pa.Table:
    """Returns the values of signals over time, held between messages.

    A row holds for each signal the last value that was said at or before its
    time, also before ``start_ns``. NaN: nothing was said yet, or what was said
    last is not valid. A JSON payload that does not name a signal says nothing
    about it.

    Args:
        recording: Where to read.
        signals: Signals by name; the names become the columns.
        period_s: Seconds between two rows: row k is at ``start + k * period_s``.
            None: one row for each instant at which a signal was said.
        start_ns: First instant, nanoseconds since 1970 UTC; None: the
            recording's start.
        end_ns: First instant that no longer counts; None: the recording's last
            instant counts still.
        how: ``last``: as above. ``mean`` (needs a period): a measurement is the
            mean of what was validly said in ``[row, row + period_s)``; in a
            period in which nothing was said it is held. Commands and
            disturbances are held in any case.

    Returns:
        ``time`` (timestamp[ns, UTC]) and a float64 column per signal, without
        nulls.

    Raises:
        PlaygroundError: The period or ``how`` cannot be.
    """
    if period_s is not None and not period_s > 0:
        raise PlaygroundError(
            f"The period is {period_s} s; it must be above 0.", "write for instance 5.0"
        )
    if how not in ("last", "mean") or (how == "mean" and period_s is None):
        raise PlaygroundError(
            f"how={how!r} with period_s={period_s}: the mean needs a period.",
            "write how='last', or how='mean' with period_s=…",
        )
    known = Signals(signals.values())
    said = _said(recording, known, start_ns, end_ns)
    if start_ns is not None:
        _add_before(recording, known, start_ns, said)
    if period_s is None:
        heard = [times for times, _ in said.values()]
        axis = np.unique(np.concatenate(heard)) if heard else np.zeros(0, np.int64)
        if start_ns is not None:
            axis = axis[axis >= start_ns]
    else:
        axis = _grid(recording, period_s, start_ns, end_ns)
    columns: list[pa.Array] = [numbers(axis, SCHEMA.field("time").type)]
    for signal in signals.values():
        times, values = said[signal.name]
        held = _hold(axis, times, values)
        if how == "mean" and signal.role == "measurement" and period_s is not None:
            held = _mean(axis, _step_ns(period_s), times, values, held)
        columns.append(numbers(held))
    return pa.Table.from_arrays(columns, names=["time", *signals])


def said(
    recording: Recording,
    signals: Mapping[str, Signal],
    *,
    start_ns: int | None = None,
    end_ns: int | None = None,
) -> dict[str, tuple[Times, Values]]:
    """Returns when each signal was said, and what: its own samples, not aligned.

    Args:
        recording: Where to read.
        signals: Signals by name.
        start_ns: First instant, nanoseconds since 1970 UTC; None: the first.
        end_ns: First instant that no longer counts; None: none.

    Returns:
        Times (nanoseconds since 1970 UTC, ascending) and values in the unit of
        the signal, NaN where it was said but is not valid; shape (n,) each.
    """
    return _said(recording, Signals(signals.values()), start_ns, end_ns)


def _said(
    recording: Recording, known: Signals, start_ns: int | None, end_ns: int | None
) -> dict[str, tuple[Times, Values]]:
    """Returns when what was said, per signal, in order of time."""
    times: dict[str, list[Times]] = {name: [] for name in known}
    values: dict[str, list[Values]] = {name: [] for name in known}
    if known:
        for table in recording.tables(
            topics=tuple(known.by_topic),
            start_ns=start_ns,
            end_ns=end_ns,
            columns=_READ,
        ):
            for name, when, what in _decode(table, known):
                times[name].append(when)
                values[name].append(what)
    said = {}
    for name in known:
        when = np.concatenate([np.zeros(0, np.int64), *times[name]])
        what = np.concatenate([np.zeros(0), *values[name]])
        if (np.diff(when) < 0).any():
            order = np.argsort(when, kind="stable")
            when, what = when[order], what[order]
        said[name] = (when, what)
    return said


def _add_before(
    recording: Recording,
    known: Signals,
    start_ns: int,
    said: dict[str, tuple[Times, Values]],
) -> None:
    """Puts the last value before the start in front; reads no further back."""
    missing = set(known)
    for table in recording.tables(
        topics=tuple(known.by_topic), end_ns=start_ns, columns=_READ, backwards=True
    ):
        for name, when, what in _decode(table, known):
            if name in missing:
                missing.discard(name)
                times, values = said[name]
                said[name] = (
                    np.concatenate([when[-1:], times]),
                    np.concatenate([what[-1:], values]),
                )
        if not missing:
            return


def _decode(table: pa.Table, known: Signals) -> list[tuple[str, Times, Values]]:
    """Returns ``(signal, times, values)`` of what a table says."""
    found = []
    for batch in table.combine_chunks().to_batches():
        when = values(batch.column("time"))
        topic = batch.column("topic")
        codes = values(topic.indices)
        payloads = batch.column("payload")
        for code in np.unique(codes).tolist():
            rows = np.flatnonzero(codes == code)
            name = topic.dictionary[code].as_py()
            # Equal payloads mean equal values: each is decoded once.
            encoded = payloads.take(numbers(rows)).dictionary_encode()
            place = values(encoded.indices)
            here = [signal.name for signal in known.by_topic.get(name, ())]
            table_of = {one: np.zeros(len(encoded.dictionary)) for one in here}
            named = {one: np.zeros(len(encoded.dictionary), bool) for one in here}
            for number, payload in enumerate(byte_list(encoded.dictionary)):
                for one, value in known.decode(name, payload):
                    table_of[one][number] = value
                    named[one][number] = True
            for one in here:
                chosen = named[one][place]
                if chosen.any():
                    found.append(
                        (one, when[rows][chosen], table_of[one][place][chosen])
                    )
    return found


def _step_ns(period_s: float) -> float:
    step = period_s * 1e9
    # 0.1 s is a whole number of nanoseconds although 0.1 * 1e9 may not be.
    return float(round(step)) if abs(step - round(step)) < 1e-3 else step


def _grid(
    recording: Recording, period_s: float, start_ns: int | None, end_ns: int | None
) -> Times:
    start = recording.start_ns if start_ns is None else start_ns
    stop = recording.end_ns + 1 if end_ns is None else end_ns
    if not recording.count or stop <= start:
        return np.zeros(0, np.int64)
    step = _step_ns(period_s)
    count = int(np.ceil((stop - start) / step)) + 1
    ticks = np.arange(count)
    offsets = ticks * int(step) if step.is_integer() else np.rint(ticks * step)
    axis = start + offsets.astype(np.int64)
    return axis[axis < stop]


def _hold(axis: Times, times: Times, values: Values) -> Values:
    at = np.searchsorted(times, axis, side="right")
    return np.concatenate([[np.nan], values])[at]


def _mean(
    axis: Times, step: float, times: Times, values: Values, held: Values
) -> Values:
    """Returns the mean per period; ``held`` where nothing was said in it."""
    if not len(axis):
        return held
    place = np.searchsorted(axis, times, side="right") - 1
    inside = (place >= 0) & (times < axis[-1] + step)
    place, inner = place[inside], values[inside]
    valid = ~np.isnan(inner)
    heard = np.bincount(place, minlength=len(axis))
    counts = np.bincount(place[valid], minlength=len(axis))
    sums = np.bincount(place[valid], weights=inner[valid], minlength=len(axis))
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / counts
    return np.where(heard > 0, means, held)
