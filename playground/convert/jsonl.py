"""JSON Lines: one message per line.

``{"time": "2026-01-01T00:00:00.123456789Z", "topic": "a", "payload": "21.5"}``;
``payload_base64`` where the payload is no UTF-8; ``qos``, ``retain``, ``dup``,
``client``, ``properties`` and ``kind`` where they are not the usual ones.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from playground.clock import iso
from playground.convert.render import as_text_or_base64
from playground.errors import FileFormatError, PlaygroundError, closest
from playground.message import KINDS, Message, check_topic

KEYS = (
    "time",
    "topic",
    "payload",
    "payload_base64",
    "qos",
    "retain",
    "dup",
    "client",
    "properties",
    "kind",
)


_EXAMPLE = '{"time": "2026-01-01T00:00:00Z", "topic": "a", "payload": "21.5"}'


def write_jsonl(messages: Iterable[Message], file: IO[str]) -> int:
    """Writes messages; returns how many."""
    count = 0
    for message in messages:
        text, is_encoded = as_text_or_base64(message.payload)
        line: dict[str, Any] = {
            "time": iso(message.time_ns),
            "topic": message.topic,
            "payload_base64" if is_encoded else "payload": text,
        }
        if message.qos:
            line["qos"] = message.qos
        if message.retain:
            line["retain"] = True
        if message.dup:
            line["dup"] = True
        if message.client is not None:
            line["client"] = message.client
        if message.properties is not None:
            line["properties"] = json.loads(message.properties)
        if message.kind != "publish":
            line["kind"] = message.kind
        file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
        count += 1
    return count


def looks_like_jsonl(first_line: str) -> bool:
    """Says whether a line is one of this format."""
    try:
        entry = json.loads(first_line)
    except ValueError:
        return False
    return isinstance(entry, dict) and "time" in entry and "topic" in entry


def read_jsonl(path: Path, *, notes: list[str]) -> Iterator[Message]:
    """Returns the messages of a file in its order.

    Raises:
        FileFormatError: A line is wrong; it is named.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield message_of(json.loads(line))
                except PlaygroundError as error:
                    raise FileFormatError(
                        f"{path}:{number}: {error.problem}", error.fix
                    ) from error
                except (ValueError, TypeError, binascii.Error) as error:
                    raise FileFormatError(
                        f"{path}:{number}: {error}.", f"write {_EXAMPLE}"
                    ) from error


def message_of(entry: Any) -> Message:
    """Returns the message that a line, read as JSON, says.

    Raises:
        PlaygroundError: A key is unknown or missing, or a value cannot be.
        ValueError: The time is none, or the payload is no base64.
    """
    if not isinstance(entry, dict):
        raise PlaygroundError("the line is not a JSON object.", f"write {_EXAMPLE}")
    for key in entry:
        if key not in KEYS:
            raise PlaygroundError(
                f"unknown key {key!r}.{closest(key, KEYS)}",
                f"keys: {', '.join(KEYS)}",
            )
    for key in ("time", "topic"):
        if key not in entry:
            raise PlaygroundError(f"the key {key!r} is missing.", f"write {_EXAMPLE}")
    kind = entry.get("kind", "publish")
    if kind not in KINDS:
        raise PlaygroundError(
            f"kind is {kind!r}.{closest(str(kind), KINDS)}",
            f"kinds are {', '.join(KINDS)}",
        )
    qos = entry.get("qos", 0)
    if qos not in (0, 1, 2):
        raise PlaygroundError(f"QoS is {qos!r}.", "write 0, 1 or 2")
    if "payload_base64" in entry:
        payload = base64.b64decode(entry["payload_base64"], validate=True)
    else:
        said = entry.get("payload", "")
        payload = (said if isinstance(said, str) else json.dumps(said)).encode()
    properties = entry.get("properties")
    return Message(
        exact_ns(entry["time"]),
        check_topic(entry["topic"]) if kind in ("publish", "will") else entry["topic"],
        payload,
        qos,
        bool(entry.get("retain", False)),
        bool(entry.get("dup", False)),
        entry.get("client"),
        None
        if properties is None
        else json.dumps(properties, ensure_ascii=False, separators=(",", ":")),
        kind,
    )


def exact_ns(text: str | float) -> int:
    """Reads ISO 8601 to the nanosecond, or seconds since 1970.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(text, bool) or not isinstance(text, str):
        return round(float(text) * 1e9)
    if text.endswith("Z") and len(text) >= 20:
        instant = np.datetime64(text[:-1], "ns")
        return int(instant.astype(np.int64))
    from playground.clock import from_iso

    return from_iso(text)
