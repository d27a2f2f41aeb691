"""Files of other tools, made into recordings: ``playground import``."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from playground.convert.influx import read_influx
from playground.convert.jsonl import KEYS, looks_like_jsonl, read_jsonl
from playground.convert.mcap_file import read_mcap
from playground.convert.message_csv import read_message_csv
from playground.convert.output import Output
from playground.convert.recorder_csv import (
    is_base64,
    looks_like_recorder,
    read_recorder_csv,
)
from playground.convert.tables import (
    TableOptions,
    is_table,
    read_csv,
    read_parquet,
    table_rows,
)
from playground.errors import FileFormatError, PlaygroundError, closest
from playground.message import Message
from playground.recording import Recording

FORMATS = ("mqtt-recorder", "csv", "table", "jsonl", "influx", "mcap")
"""What can be imported; see `detect_format`."""


_SUFFIXES = {
    ".parquet": "table",
    ".pq": "table",
    ".mcap": "mcap",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".lp": "influx",
    ".influx": "influx",
    ".line": "influx",
}
_READERS = {
    "csv": read_message_csv,
    "jsonl": read_jsonl,
    "influx": read_influx,
    "mcap": read_mcap,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import made.

    Attributes:
        recording: The new recording.
        format: Format of the source.
        count: Messages in it.
        topics: Topics in it.
        notes: What was assumed, mended or left out, for a person to read.
    """

    recording: Recording
    format: str
    count: int
    topics: int
    notes: tuple[str, ...]


def detect_format(path: Path) -> str:
    """Returns the format of a file, by its suffix and its first line.

    Raises:
        FileFormatError: It cannot be told.
    """
    suffix = path.suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        if looks_like_jsonl(file.readline()):
            return "jsonl"
        file.seek(0)
        try:
            first = next(csv.reader(file), [])
        except csv.Error:
            first = []
    if looks_like_recorder(first):
        return "mqtt-recorder"
    if tuple(first) == KEYS:
        return "csv"
    if len(first) == 1:
        first = first[0].replace(";", "\t").split("\t")
    if is_table([name.strip() for name in first]):
        return "table"
    raise FileFormatError(
        f"{path} cannot be told by its first line ({','.join(first)[:80]!r}): neither "
        "a row of mqtt-recorder (topic,payload,qos,retain,unix_time,delta_s) nor a "
        "header with a column of time.",
        f"name the format: --format {'|'.join(FORMATS)}",
    )


def import_file(
    source: Path | str,
    target: Path | str,
    *,
    format: str | None = None,
    table: TableOptions | None = None,
    is_encoded: bool | None = None,
    overwrite: bool = False,
) -> ImportReport:
    """Makes a recording out of another tool's file.

    Args:
        source: The file.
        target: The recording; appears only when it is complete.
        format: One of `FORMATS`; detected by default.
        table: How a table is to be understood.
        is_encoded: The payloads of mqtt-recorder are base64; judged by default.
        overwrite: The target may exist.

    Raises:
        FileFormatError: The source is missing or wrong; the row is named.
        PlaygroundError: The target exists.
    """
    path = Path(source)
    if not path.is_file():
        near = closest(
            path.name,
            [entry.name for entry in path.parent.iterdir()]
            if path.parent.is_dir()
            else [],
        )
        raise FileFormatError(
            f"There is no file {path}.{near}", "look after the spelling of the path"
        )
    if format is not None and format not in FORMATS:
        raise PlaygroundError(
            f"{format!r} is not a format.{closest(format, FORMATS)}",
            f"write one of {', '.join(FORMATS)}",
        )
    if path.stat().st_size == 0:
        raise FileFormatError(
            f"{path} is empty (0 bytes).", "export or download it again"
        )
    kind = format or detect_format(path)
    notes: list[str] = []
    with Output(target, overwrite=overwrite) as output:
        for rows in _rows(
            path, kind, table or TableOptions(), notes, is_encoded=is_encoded
        ):
            if isinstance(rows, Message):
                output.append(rows)
            else:
                output.write(rows)
        recording = output.finish(
            {"imported": {"from": path.name, "format": kind, "notes": notes}}
        )
    topics: set[str] = set()
    for part in recording.tables(columns=("topic",)):
        topics.update(part.column("topic").unique().to_pylist())
    return ImportReport(
        recording=recording,
        format=kind,
        count=recording.count,
        topics=len(topics),
        notes=tuple(notes),
    )


def _rows(
    path: Path,
    kind: str,
    options: TableOptions,
    notes: list[str],
    *,
    is_encoded: bool | None,
) -> Iterable[Message] | Iterable[pa.RecordBatch]:
    if kind == "mqtt-recorder":
        if is_encoded is None:
            is_encoded, in_doubt = is_base64(path)
            if is_encoded:
                notes.append("the payloads were read as base64 (--plain if not)")
            elif in_doubt:
                notes.append(
                    "the payloads were read as plain text, though all of them could "
                    "be base64 (then give --base64)"
                )
        return read_recorder_csv(path, is_encoded=is_encoded, notes=notes)
    if kind in _READERS:
        return _in_order(_READERS[kind](path, notes=notes), notes)
    is_parquet = path.suffix.lower() in (".parquet", ".pq")
    found = read_parquet(path) if is_parquet else read_csv(path)
    return table_rows(found, options, notes)


def _in_order(messages: Iterable[Message], notes: list[str]) -> Iterable[Message]:
    """Returns messages by time; of one time in their own order."""
    found = list(messages)
    backwards = sum(a.time_ns > b.time_ns for a, b in itertools.pairwise(found))
    if backwards:
        notes.append(f"messages were sorted by time ({backwards} were out of order)")
        found.sort(key=lambda message: message.time_ns)
    return found
