"""How the time column of a table becomes nanoseconds since 1970."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from playground.clock import DEFAULT_START_NS, from_iso, iso
from playground.errors import FileFormatError, PlaygroundError
from playground.quantity import seconds
from playground.recording import Recording

SECONDS_OF_1973 = 1e8
"""A number of seconds below this is counted from the start of the session."""
_UNITS = ((1e17, 1, "ns"), (1e14, 10**3, "us"), (1e11, 10**6, "ms"))


def read_instant(text: str) -> int:
    """Reads an instant that a person wrote, in nanoseconds since 1970 UTC.

    Raises:
        PlaygroundError: It is not ISO 8601.
    """
    try:
        return from_iso(text)
    except ValueError as error:
        raise PlaygroundError(
            f"{text!r} is not an instant.",
            "write for instance 2026-01-31T12:00:00Z",
        ) from error


def read_place(text: str, recording: Recording) -> int:
    """Reads a place in a recording: an instant, or a duration since its start.

    Raises:
        PlaygroundError: It is neither ISO 8601 nor a duration.
    """
    if text[:4].isdigit() and "-" in text:
        return read_instant(text)
    span = recording.time_range
    start_ns = recording.start_ns if span is None else span[0]
    try:
        return start_ns + round(seconds(text) * 1e9)
    except PlaygroundError as error:
        raise PlaygroundError(
            f"{text!r} is neither an instant nor a duration from the start "
            f"({iso(start_ns)}).",
            "write for instance 2026-01-31T08:00 (UTC), or 10min",
        ) from error


def to_instants(
    column: pa.ChunkedArray, name: str, *, start_ns: int | None, notes: list[str]
) -> npt.NDArray[np.int64]:
    """Returns a time column in nanoseconds since 1970 UTC.

    Timestamps without a zone are UTC. Numbers are seconds: since 1970 where they
    are above 1973, and milli-, micro- or nanoseconds where they are far above;
    else since the start of the session. Text is ISO 8601 or a number.

    Args:
        column: Timestamps, numbers or text.
        name: Its name, for messages.
        start_ns: Start of the session, if the user gave it; then the smallest
            numbers count from there whatever their size.
        notes: Takes up what was assumed.

    Raises:
        FileFormatError: A row has no time or no readable one; it is named.
    """
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise FileFormatError(
            f"Row {row + 1} has no time (column {name!r}).",
            "remove such rows or fill the column",
        )
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_timestamp(kind):
        return _timestamps(column)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _numbers(column.to_numpy(), name, start_ns, notes)
    if (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
    ):
        return _texts(column.cast(pa.string()), name, start_ns, notes)
    raise FileFormatError(
        f"Column {name!r} is of type {kind}; a time is a timestamp, a number of "
        "seconds, or ISO 8601 text.",
        "write the times in one of these ways, in a column named 'time'",
    )


def _timestamps(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    times: npt.NDArray[np.int64] = (
        column.cast(pa.timestamp("ns", tz=column.type.tz)).cast(pa.int64()).to_numpy()
    )
    return times


def _numbers(
    numbers: npt.NDArray[Any], name: str, start_ns: int | None, notes: list[str]
) -> npt.NDArray[np.int64]:
    if not len(numbers):
        return np.zeros(0, np.int64)
    finite = np.isfinite(numbers)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise FileFormatError(
            f"Row {row + 1}: {numbers[row]!r} is not a time (column {name!r}).",
            "remove such rows or fill the column",
        )
    least = float(numbers.min())
    if start_ns is None and least >= SECONDS_OF_1973:
        for above, factor, unit in _UNITS:
            if least >= above:
                notes.append(f"column {name!r} was read as {unit} since 1970")
                return _scaled(numbers, factor)
        return _scaled(numbers, 10**9)
    if start_ns is None:
        start_ns = DEFAULT_START_NS
        notes.append(
            f"column {name!r} counts from the start of the session; 0 was set to "
            f"{iso(start_ns)} (--start sets another)"
        )
    return start_ns + _scaled(numbers, 10**9)


def _scaled(numbers: npt.NDArray[Any], factor: int) -> npt.NDArray[np.int64]:
    if np.issubdtype(numbers.dtype, np.integer):
        return numbers.astype(np.int64) * factor
    # Whole seconds apart, or a float would lose the last digits of 1.7e9 s.
    whole = np.floor(numbers.astype(np.float64))
    part = np.rint((numbers.astype(np.float64) - whole) * factor).astype(np.int64)
    return whole.astype(np.int64) * factor + part


def _texts(
    column: pa.ChunkedArray, name: str, start_ns: int | None, notes: list[str]
) -> npt.NDArray[np.int64]:
    try:
        return _numbers(pc.cast(column, pa.float64()).to_numpy(), name, start_ns, notes)
    except pa.ArrowInvalid:
        pass
    for zone in ("UTC", None):
        try:
            return _timestamps(column.cast(pa.timestamp("ns", tz=zone)))
        except pa.ArrowInvalid:
            continue
    times = np.empty(len(column), np.int64)
    for row, text in enumerate(column.to_pylist()):
        try:
            times[row] = from_iso(text)
        except ValueError as error:
            raise FileFormatError(
                f"Row {row + 1}: {text!r} is not a time (column {name!r}).",
                "write ISO 8601 (2026-01-31T12:00:00Z) or seconds",
            ) from error
    return times
