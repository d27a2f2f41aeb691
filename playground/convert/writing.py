"""Recordings, made into files of other tools: ``playground export``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from playground.convert.influx import write_influx
from playground.convert.jsonl import write_jsonl
from playground.convert.mcap_file import write_mcap
from playground.convert.message_csv import write_message_csv
from playground.convert.recorder_csv import write_recorder_csv
from playground.errors import PlaygroundError, closest
from playground.message import KINDS, Message
from playground.recording import Recording
from playground.recording.retained import SAID
from playground.signals import Signals

EXPORTS = {
    "mqtt-recorder": "the CSV of the mqtt-recorder tool",
    "csv": "a row per message with all it has, under a header",
    "jsonl": "JSON Lines, a message per line",
    "wide": "a table of signals over time (needs signals), CSV or Parquet",
    "mcap": "MCAP, for Foxglove",
    "influx": "InfluxDB line protocol",
}
_SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".mcap": "mcap",
    ".lp": "influx",
    ".influx": "influx",
    ".line": "influx",
    ".parquet": "wide",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        format: One of `EXPORTS`.
        count: Rows written.
        notes: What was left out or changed, for a person to read.
    """

    format: str
    count: int
    notes: tuple[str, ...] = ()


def export(
    recording: Recording,
    target: Path | str,
    *,
    format: str | None = None,
    signals: Signals | None = None,
    period_s: float | None = None,
    encode: bool | None = None,
    topics: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
    start_ns: int | None = None,
    end_ns: int | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Writes a recording as a file of another tool.

    Args:
        recording: What to write.
        target: The file; appears only when it is complete.
        format: One of `EXPORTS`; by default told by the suffix, and of ``.csv``
            by whether signals are given.
        signals: Columns of a wide table.
        period_s: Seconds between two of its rows; a row for each instant at
            which a signal was said by default.
        encode: mqtt-recorder: write payloads in base64; by default where one is
            no UTF-8.
        topics: Topic filters of what is written.
        exclude: Topic filters of what is not.
        start_ns: First instant.
        end_ns: First instant that no longer counts.
        overwrite: The target may exist.

    Raises:
        PlaygroundError: The target exists, or the format cannot be told.
    """
    path = Path(target)
    kind = _format(path, format, signals)
    if path.exists() and not overwrite:
        raise PlaygroundError(
            f"{path} exists already.", "choose another name, or give --overwrite"
        )

    def messages(kinds: Sequence[str]) -> Iterator[Message]:
        return recording.messages(topics, exclude, start_ns, end_ns, kinds)

    with _whole(path) as temporary:
        if kind == "wide":
            if signals is None:
                raise PlaygroundError(
                    "A wide table needs to know its columns.",
                    "give --signals FILE.yaml",
                )
            table = recording.signals(
                signals, period_s=period_s, start_ns=start_ns, end_ns=end_ns
            )
            _write_table(table, temporary, is_csv=path.suffix.lower() != ".parquet")
            return ExportReport(format=kind, count=len(table))
        if kind == "mcap":
            everything = messages(KINDS)
            return ExportReport(format=kind, count=write_mcap(everything, temporary))
        if kind in ("csv", "jsonl"):
            write = write_jsonl if kind == "jsonl" else write_message_csv
            with _text(temporary) as file:
                return ExportReport(format=kind, count=write(messages(KINDS), file))
        said = messages(SAID)
        if kind == "influx":
            with _text(temporary) as file:
                count, moved = write_influx(said, file)
            notes = (f"{moved} points were moved by nanoseconds to stay apart",)
            return ExportReport(format=kind, count=count, notes=notes * bool(moved))
        if encode is None:
            encode = any(_is_binary(message.payload) for message in messages(SAID))
        with _text(temporary) as file:
            count, refused = write_recorder_csv(said, file, encode=encode)
        notes = (f"{refused} messages are no text and were left out (--base64)",)
        hint = ("payloads are base64: replay with --encode_b64",)
        return ExportReport(
            format=kind, count=count, notes=notes * bool(refused) + hint * bool(encode)
        )


def _format(path: Path, format: str | None, signals: Signals | None) -> str:
    if format is not None:
        if format not in EXPORTS:
            raise PlaygroundError(
                f"{format!r} is not a format.{closest(format, EXPORTS)}",
                f"write one of {', '.join(EXPORTS)}",
            )
        return format
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return "mqtt-recorder" if signals is None else "wide"
    if suffix not in _SUFFIXES:
        raise PlaygroundError(
            f"The suffix of {path.name!r} does not tell the format.",
            f"give --format, one of {', '.join(EXPORTS)}",
        )
    return _SUFFIXES[suffix]


def _is_binary(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return True
    return False


def _write_table(table: pa.Table, path: Path, *, is_csv: bool) -> None:
    if is_csv:
        # CSV readers know no nanoseconds with a zone; ISO text is read by all.
        times = table.column("time").cast(pa.timestamp("ns")).cast(pa.string())
        pacsv.write_csv(table.set_column(0, "time", times), path)
    else:
        pq.write_table(table, path, compression="zstd")


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Gives a name to write to, which becomes the target's when all is well."""
    temporary = path.with_name(f".{path.name}.exporting")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise PlaygroundError(
            f"{path} cannot be written: {error.strerror or error}.",
            "choose another place, or look after its room and permissions",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _text(path: Path) -> Iterator[IO[str]]:
    with path.open("w", encoding="utf-8", newline="") as file:
        yield file
