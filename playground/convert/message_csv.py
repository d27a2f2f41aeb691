"""A plain CSV of messages: one row each, under a header, for spreadsheets.

The columns are the keys of JSON Lines. ``payload_base64`` stands in for
``payload`` where that is no UTF-8; an empty client or property is none.
"""

from __future__ import annotations

import binascii
import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from playground.clock import iso
from playground.convert.jsonl import KEYS, message_of
from playground.convert.render import as_text_or_base64
from playground.errors import FileFormatError, PlaygroundError
from playground.message import Message

_TRUTH = {"true": True, "1": True, "false": False, "0": False, "": False}


def write_message_csv(messages: Iterable[Message], file: IO[str]) -> int:
    """Writes messages; returns how many.

    Args:
        messages: Rows of any kind.
        file: Opened with ``newline=""``.
    """
    writer = csv.writer(file)
    writer.writerow(KEYS)
    count = 0
    for message in messages:
        text, is_encoded = as_text_or_base64(message.payload)
        writer.writerow(
            (
                iso(message.time_ns),
                message.topic,
                *(("", text) if is_encoded else (text, "")),
                message.qos,
                str(message.retain).lower(),
                str(message.dup).lower(),
                message.client or "",
                message.properties or "",
                message.kind,
            )
        )
        count += 1
    return count


def read_message_csv(path: Path, *, notes: list[str]) -> Iterator[Message]:
    """Returns the messages of a file in its order.

    Raises:
        FileFormatError: A row is wrong; its line is named.
    """
    csv.field_size_limit(1 << 30)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file)
        line = 1
        try:
            for row in reader:
                line = reader.line_num
                yield message_of(_entry(row))
        except PlaygroundError as error:
            raise FileFormatError(
                f"{path}:{line}: {error.problem}", error.fix
            ) from error
        except (ValueError, TypeError, binascii.Error, csv.Error) as error:
            raise FileFormatError(
                f"{path}:{line}: {error}.", f"columns: {', '.join(KEYS)}"
            ) from error


def _entry(row: dict[str, Any]) -> dict[str, Any]:
    if None in row or None in row.values():
        raise PlaygroundError(
            "the row has more or fewer cells than the header.",
            "put cells with commas, quotes or line ends into double quotes",
        )
    entry = {
        key: cell for key, cell in row.items() if cell or key in ("topic", "payload")
    }
    if "payload_base64" in entry:
        entry.pop("payload", None)
    if "qos" in entry and entry["qos"] in ("0", "1", "2"):
        entry["qos"] = int(entry["qos"])
    for flag in ("retain", "dup"):
        cell = row.get(flag, "").strip().lower()
        if cell not in _TRUTH:
            raise PlaygroundError(f"{flag} is {cell!r}.", "write true or false")
        entry[flag] = _TRUTH[cell]
    if "properties" in entry:
        entry["properties"] = json.loads(entry["properties"])
    return entry
