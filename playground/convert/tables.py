"""Tables as recordings: one row per message ("long") or per instant ("wide")."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from playground.convert.instants import to_instants
from playground.convert.output import to_rows
from playground.convert.render import render, valid_rows
from playground.errors import FileFormatError, PlaygroundError, closest
from playground.message import KINDS, check_topic

TIMES = ("time", "timestamp", "datetime", "date_time", "t_s", "t", "unix_time", "_time")
NAMES = ("topic", "signal")
VALUES = ("payload", "value", "value_text", "value_num")
FLAGS = ("qos", "retain", "dup", "client", "properties", "kind")
_CELLS = 1 << 18
"""Cells of a wide table that are messages at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOptions:
    """How a table is to be understood.

    Attributes:
        topic_prefix: Before every topic; a '/' is put between.
        start_ns: Start of the session, for times that count from it.
        qos: Of every message, where no column says it.
        retain: Of every message, where no column says it.
        columns: Columns of a wide table that are taken; all by default.
    """

    topic_prefix: str = ""
    start_ns: int | None = None
    qos: int = 0
    retain: bool = False
    columns: tuple[str, ...] = ()

    def topic_of(self, name: str) -> str:
        """Returns the topic of a signal."""
        if not self.topic_prefix or self.topic_prefix.endswith("/"):
            return self.topic_prefix + name
        return f"{self.topic_prefix}/{name}"


def read_csv(path: Path) -> pa.Table:
    """Reads a CSV file with a header; every cell stays the text it is.

    Raises:
        FileFormatError: It has no header or a row of another length.
    """
    try:
        with path.open("rb") as file:
            first = file.readline().decode("utf-8-sig", "replace")
        delimiter = max(",;\t", key=first.count)
        names = [name.strip().strip('"') for name in first.strip().split(delimiter)]
        return pacsv.read_csv(
            path,
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True
            ),
            convert_options=pacsv.ConvertOptions(
                column_types={name: pa.string() for name in names},
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise FileFormatError(
            f"{path} is not a CSV table: {error}.",
            "every row needs as many cells as the header",
        ) from error


def read_parquet(path: Path) -> pa.Table:
    """Reads a Parquet file.

    Raises:
        FileFormatError: It is none, or damaged.
    """
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise FileFormatError(
            f"{path} is not a Parquet file: {error}.",
            "say what it is, such as --format csv, or export it again",
        ) from error


def is_table(names: list[str]) -> bool:
    """Says whether a header is that of a table (it has a column of time)."""
    return any(name in TIMES for name in names)


def table_rows(
    table: pa.Table, options: TableOptions, notes: list[str]
) -> Iterator[pa.RecordBatch]:
    """Returns a table as rows of a recording, ordered by time.

    Args:
        table: Long (``time``, ``topic`` or ``signal``, and a value) or wide
            (``time`` or ``t_s``, and one column per signal).
        options: How to understand it.
        notes: Takes up what was assumed or left out.

    Raises:
        FileFormatError: A column is missing, or a cell is wrong; the row is named.
    """
    names = table.column_names
    time_name = next((name for name in TIMES if name in names), None)
    if time_name is None:
        raise FileFormatError(
            f"The table has no column of time; its columns are {_some(names)}."
            f"{closest(names[0] if names else '', TIMES)}",
            f"call one of them {' or '.join(TIMES[:4])}",
        )
    times = to_instants(
        table.column(time_name), time_name, start_ns=options.start_ns, notes=notes
    )
    name_column = next((name for name in NAMES if name in names), None)
    values = [name for name in VALUES if name in names]
    if name_column is not None and values:
        yield _long(table, times, name_column, values, options, notes)
    elif name_column is not None and not options.columns:
        raise FileFormatError(
            f"The table has a column {name_column!r} but none of values; its columns "
            f"are {_some(names)}.",
            "call it value, or value_num and value_text",
        )
    else:
        wanted = [name for name in names if name != time_name]
        for name in options.columns:
            if name not in wanted:
                raise PlaygroundError(
                    f"There is no column {name!r}.{closest(name, wanted)}",
                    f"columns: {_some(wanted)}",
                )
        yield from _wide(table, times, list(options.columns) or wanted, options, notes)


def _long(
    table: pa.Table,
    times: npt.NDArray[np.int64],
    name_column: str,
    values: list[str],
    options: TableOptions,
    notes: list[str],
) -> pa.RecordBatch:
    names = table.column(name_column)
    if names.null_count:
        row = int(np.flatnonzero(names.is_null().to_numpy())[0])
        raise FileFormatError(
            f"Row {row + 1} has no {name_column}.", "remove such rows"
        )
    payloads = _payloads(table, values)
    keep = np.flatnonzero(valid_rows(payloads))
    if len(keep) < len(times):
        notes.append(f"{len(times) - len(keep)} rows without a value were left out")
    keep = keep[_by_time(times[keep], notes)]
    index = pa.array(keep)
    more: dict[str, pa.Array] = {}
    flags = {name: table.column(name) for name in FLAGS if name in table.column_names}
    for name in ("dup", "client", "properties", "kind"):
        if name in flags:
            more[name] = flags[name].combine_chunks().take(index)
    if "dup" in more:
        more["dup"] = pa.array(_truth(more["dup"], "dup"))
    if "kind" in more:
        _check_kinds(more["kind"])
    qos: int | npt.NDArray[np.uint8] = options.qos
    if "qos" in flags:
        qos = _qos(flags["qos"].combine_chunks().take(index))
    retain: bool | npt.NDArray[np.bool_] = options.retain
    if "retain" in flags:
        retain = _truth(flags["retain"].combine_chunks().take(index), "retain")
    return to_rows(
        times[keep],
        _topics(names, options).take(index),
        payloads.take(index),
        qos=qos,
        retain=retain,
        more=more,
    )


def _payloads(table: pa.Table, values: list[str]) -> pa.Array:
    rendered = [render(table.column(name), name) for name in values]
    payloads = rendered[0]
    for name, column in zip(values[1:], rendered[1:], strict=True):
        if name == "value_num":
            # An empty text beside a number is how some tools write "no text".
            empty = pc.equal(payloads, b"")
            payloads = pc.if_else(pc.fill_null(empty, False), None, payloads)  # noqa: FBT003
        payloads = pc.coalesce(payloads, column)
    return payloads


def _topics(names: pa.ChunkedArray, options: TableOptions) -> pa.DictionaryArray:
    column = names.combine_chunks()
    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    topics = []
    for code, name in enumerate(column.dictionary.to_pylist()):
        try:
            topics.append(check_topic(options.topic_of(str(name))))
        except PlaygroundError as error:
            rows = np.flatnonzero(column.indices.to_numpy() == code)
            if not len(rows):
                topics.append("unused")
                continue
            raise FileFormatError(
                f"Row {int(rows[0]) + 1}: {error.problem}", error.fix
            ) from error
    return pa.DictionaryArray.from_arrays(column.indices, pa.array(topics, pa.string()))


def _by_time(times: npt.NDArray[np.int64], notes: list[str]) -> npt.NDArray[np.intp]:
    """Returns the order of rows by time; rows of one time keep theirs."""
    backwards = int((np.diff(times) < 0).sum())
    if not backwards:
        return np.arange(len(times))
    notes.append(f"the rows were sorted by time ({backwards} were out of order)")
    return np.argsort(times, kind="stable")


def _qos(column: pa.Array) -> npt.NDArray[np.uint8]:
    try:
        numbers = pc.cast(column, pa.int64())
    except pa.ArrowInvalid as error:
        raise FileFormatError(
            f"Column 'qos' holds something else than 0, 1 and 2: {error}.",
            "write 0, 1 or 2, or give the column another name",
        ) from error
    numbers = pc.fill_null(numbers, 0).to_numpy()
    wrong = np.flatnonzero((numbers < 0) | (numbers > 2))
    if len(wrong):
        raise FileFormatError(
            f"Column 'qos' holds {numbers[wrong[0]]}; QoS is 0, 1 or 2.",
            "write 0, 1 or 2, or give the column another name",
        )
    small: npt.NDArray[np.uint8] = numbers.astype(np.uint8)
    return small


def _truth(column: pa.Array, name: str) -> npt.NDArray[np.bool_]:
    try:
        # Arrow reads true, false, 1 and 0 in any case.
        truth = pc.cast(column, pa.bool_())
    except pa.ArrowInvalid as error:
        raise FileFormatError(
            f"Column {name!r} holds something else than true and false: {error}.",
            "write true or false, or give the column another name",
        ) from error
    found: npt.NDArray[np.bool_] = pc.fill_null(truth, False).to_numpy(  # noqa: FBT003
        zero_copy_only=False
    )
    return found


def _check_kinds(column: pa.Array) -> None:
    for kind in column.unique().to_pylist():
        if kind not in KINDS:
            raise FileFormatError(
                f"Column 'kind' holds {kind!r}.{closest(str(kind), KINDS)}",
                f"kinds are {', '.join(KINDS)}",
            )


def _wide(
    table: pa.Table,
    times: npt.NDArray[np.int64],
    names: list[str],
    options: TableOptions,
    notes: list[str],
) -> Iterator[pa.RecordBatch]:
    if not names:
        raise FileFormatError(
            "The table has a column of time and no other.",
            "add a column for each topic",
        )
    topics = pa.array(
        [check_topic(options.topic_of(name)) for name in names], pa.string()
    )
    order = _by_time(times, notes)
    step = max(1, _CELLS // len(names))
    empty = 0
    for first in range(0, len(order), step):
        rows = order[first : first + step]
        index = pa.array(rows)
        cells = pa.concat_arrays(
            [render(table.column(name).take(index), name) for name in names]
        )
        # From column after column to row after row.
        place = np.arange(len(names) * len(rows)).reshape(len(names), -1).T.ravel()
        which = np.tile(np.arange(len(names), dtype=np.int32), len(rows))
        when = np.repeat(times[rows], len(names))
        keep = valid_rows(cells)[place]
        empty += int((~keep).sum())
        yield to_rows(
            when[keep],
            pa.DictionaryArray.from_arrays(pa.array(which[keep]), topics),
            cells.take(pa.array(place[keep])),
            qos=options.qos,
            retain=options.retain,
        )
    if empty:
        notes.append(f"{empty} empty cells were left out")


def _some(names: list[str], limit: int = 10) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
