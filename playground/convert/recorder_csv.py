"""The CSV of the ``mqtt-recorder`` tool: read and written.

No header; ``topic,payload,qos,retain,unix_time,delta_s``, where ``retain`` is
``True`` or ``False`` and the payload is text, or base64 for the whole file.
"""

from __future__ import annotations

import base64
import binascii
import csv
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO

from playground.errors import FileFormatError, PlaygroundError
from playground.message import Message, check_topic

HEADER = ("topic", "payload", "qos", "retain", "unix_time", "delta_s")
_TRUTH = {"true": True, "false": False, "1": True, "0": False}
_LONG = 16
"""A text so long of the base64 alphabet alone is hardly anything else."""


def looks_like_recorder(first_row: list[str]) -> bool:
    """Says whether a row is one of this format."""
    if tuple(first_row) == HEADER:
        return True
    if len(first_row) != len(HEADER) or first_row[2] not in ("0", "1", "2"):
        return False
    try:
        Decimal(first_row[4])
    except InvalidOperation:
        return False
    return first_row[3].lower() in _TRUTH


def _rows(file: IO[str], path: Path) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(1 << 30)
    reader = csv.reader(file)
    try:
        for row in reader:
            if row and not (reader.line_num == 1 and tuple(row) == HEADER):
                yield reader.line_num, row
    except csv.Error as error:
        raise FileFormatError(
            f"{path}:{reader.line_num}: not CSV: {error}.",
            "look at that line in a text editor",
        ) from error


def _open(path: Path) -> IO[str]:
    # Bytes that are no UTF-8 must come through as they are.
    return path.open(encoding="utf-8", errors="surrogateescape", newline="")


def is_base64(path: Path) -> tuple[bool, bool]:
    """Judges whether the payloads of a file are base64.

    They are if all of them are canonical base64 and one of them is padded or
    long. Words and numbers of 4, 8 … letters are base64 by chance.

    Returns:
        Whether they are; and whether they might be all the same, though none
        is padded or long.
    """
    sure = possible = False
    with _open(path) as file:
        for _, row in _rows(file, path):
            if len(row) < 2 or not row[1]:
                continue
            text = row[1]
            try:
                if base64.b64encode(base64.b64decode(text, validate=True)) != (
                    text.encode("ascii")
                ):
                    return False, False
            except (binascii.Error, ValueError):
                return False, False
            possible = True
            sure = sure or text.endswith("=") or len(text) >= _LONG
    return sure, possible and not sure


def read_recorder_csv(
    path: Path, *, is_encoded: bool, notes: list[str]
) -> Iterator[Message]:
    """Returns the messages of a file in its order.

    The tool stamps with the wall clock; where that was set back, the time of
    the message before is kept, so that order and time agree.

    Args:
        path: The file.
        is_encoded: The payloads are base64.
        notes: Takes up what was mended.

    Raises:
        FileFormatError: A row is wrong; its line is named.
    """
    last_ns = 0
    set_back = 0
    count = 0
    with _open(path) as file:
        for line, row in _rows(file, path):
            message = _message(path, line, row, is_encoded=is_encoded)
            if message.time_ns < last_ns:
                set_back += 1
                message = message._replace(time_ns=last_ns)
            last_ns = message.time_ns
            count += 1
            yield message
    if set_back:
        notes.append(
            f"the clock was set back while it recorded: {set_back} messages keep the "
            "time of the one before"
        )
    if not count:
        notes.append("the file holds no messages")


def _message(path: Path, line: int, row: list[str], *, is_encoded: bool) -> Message:
    if len(row) != len(HEADER):
        raise FileFormatError(
            f"{path}:{line}: the row has {len(row)} cells, not {len(HEADER)} "
            f"({', '.join(HEADER)}).",
            "was the recorder killed in the middle of a row? then remove this one",
        )
    topic, text, qos, retain, time, _ = row
    try:
        topic.encode()
        check_topic(topic)
        time_ns = int((Decimal(time) * 10**9).to_integral_value())
        truth = _TRUTH[retain.strip().lower()]
        if qos not in ("0", "1", "2"):
            raise FileFormatError(f"{path}:{line}: QoS is {qos!r}.", "write 0, 1 or 2")
        payload = (
            base64.b64decode(text, validate=True)
            if is_encoded
            else text.encode("utf-8", "surrogateescape")
        )
    except UnicodeEncodeError as error:
        raise FileFormatError(
            f"{path}:{line}: the topic is not UTF-8.",
            "topics are UTF-8 in MQTT; save the file in that encoding",
        ) from error
    except binascii.Error as error:
        raise FileFormatError(
            f"{path}:{line}: the payload is not base64: {error}.",
            "give --plain if the payloads are plain text",
        ) from error
    except (InvalidOperation, OverflowError, ValueError) as error:
        raise FileFormatError(
            f"{path}:{line}: {time!r} is not a time in seconds since 1970.",
            "write for instance 1767225600.25",
        ) from error
    except KeyError as error:
        raise FileFormatError(
            f"{path}:{line}: retain is {retain!r}.", "write True or False"
        ) from error
    except FileFormatError:
        raise
    except PlaygroundError as error:
        raise FileFormatError(f"{path}:{line}: {error.problem}", error.fix) from error
    return Message(time_ns, topic, payload, int(qos), truth)


def write_recorder_csv(
    messages: Iterable[Message], file: IO[str], *, encode: bool
) -> tuple[int, int]:
    """Writes messages as the tool would have recorded them.

    Args:
        messages: Only publications.
        file: Opened with ``newline=""``.
        encode: Write payloads in base64; otherwise those that are no UTF-8
            cannot be written.

    Returns:
        How many were written, and how many could not be.
    """
    writer = csv.writer(file)
    last_ns: int | None = None
    written = refused = 0
    for message in messages:
        if encode:
            text = base64.b64encode(message.payload).decode()
        else:
            try:
                text = message.payload.decode()
            except UnicodeDecodeError:
                refused += 1
                continue
        elapsed_ns = 0 if last_ns is None else message.time_ns - last_ns
        last_ns = message.time_ns
        writer.writerow(
            (
                message.topic,
                text,
                message.qos,
                message.retain,
                _decimal(message.time_ns),
                _decimal(elapsed_ns),
            )
        )
        written += 1
    return written, refused


def _decimal(time_ns: int) -> str:
    """Renders nanoseconds as seconds, without a float in between."""
    sign = "-" if time_ns < 0 else ""
    whole, part = divmod(abs(time_ns), 10**9)
    return f"{sign}{whole}.{part:09d}".rstrip("0") + ("0" if part == 0 else "")
