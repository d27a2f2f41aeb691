"""MCAP, the container that Foxglove opens: written and read.

One channel per topic and way of sending (QoS, retain flag, client …), which
stand in the channel's metadata. Foxglove shows JSON, so a payload that is a
JSON object is written as it is (its schema is the shape of the topic's first
one, so that Foxglove can offer its fields), and any other as ``{"value": …}`` or, where it
is no text, ``{"base64": …}``; read back, it is the same byte for byte.
Needs the package ``mcap``.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from playground.errors import FileFormatError, PlaygroundError
from playground.message import Message, check_topic

_NUMBER = re.compile(rb"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_SCHEMAS = {
    "number": b'{"type":"object","properties":{"value":{"type":"number"}}}',
    "text": b'{"type":"object","properties":{"value":{"type":"string"}}}',
    "binary": b'{"type":"object","properties":{"base64":{"type":"string"}}}',
}


def _mcap() -> Any:
    try:
        import mcap.exceptions
        import mcap.reader
        import mcap.writer
    except ImportError as error:
        raise PlaygroundError(
            "MCAP files need the package 'mcap', which is not installed.",
            "pip install mcap",
        ) from error
    return mcap


def _wrapped(payload: bytes) -> tuple[str, bytes]:
    if payload[:1] == b"{":
        try:
            if isinstance(json.loads(payload), dict):
                return "json", payload
        except (ValueError, RecursionError):
            pass
    if _NUMBER.fullmatch(payload):
        return "number", b'{"value":' + payload + b"}"
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return "binary", b'{"base64":"' + base64.b64encode(payload) + b'"}'
    return "text", json.dumps({"value": text}, separators=(",", ":")).encode()


def _schema(form: str, topic: str, data: bytes) -> tuple[str, bytes]:
    """Returns name and JSON Schema; of an object those of its topic."""
    if form in _SCHEMAS:
        return f"mqtt.{form}", _SCHEMAS[form]
    return topic, json.dumps(_shape(json.loads(data))).encode()


def _shape(value: Any) -> dict[str, Any] | None:
    """The JSON Schema of a value, as far as Foxglove understands it.

    It takes neither null, nor lists of lists, nor lists of nobody knows what.
    """
    match value:
        case dict():
            shapes = {name: _shape(part) for name, part in value.items()}
            known = {name: shape for name, shape in shapes.items() if shape}
            return {"type": "object", "properties": known}
        case [dict() | bool() | int() | float() | str() as first, *_]:
            return {"type": "array", "items": _shape(first)}
        case bool():
            return {"type": "boolean"}
        case int() | float():
            return {"type": "number"}
        case str():
            return {"type": "string"}
        case _:
            return None


def _unwrapped(form: str, data: bytes) -> bytes:
    if form == "number":
        return data[len(b'{"value":') : -1]
    if form == "text":
        return str(json.loads(data)["value"]).encode()
    if form == "binary":
        return base64.b64decode(json.loads(data)["base64"])
    return data


def write_mcap(messages: Iterable[Message], path: Path) -> int:
    """Writes messages, session events included; returns how many."""
    mcap = _mcap()
    schemas: dict[str, int] = {}
    channels: dict[tuple[Any, ...], int] = {}
    count = 0
    with path.open("wb") as file:
        writer = mcap.writer.Writer(file)
        writer.start(profile="", library="mqtt-playground")
        for message in messages:
            form, data = _wrapped(message.payload)
            key = (form, *message[1:2], *message[3:])
            channel = channels.get(key)
            if channel is None:
                name, schema = _schema(form, message.topic, data)
                if name not in schemas:
                    schemas[name] = writer.register_schema(name, "jsonschema", schema)
                metadata = {
                    "form": form,
                    "qos": str(message.qos),
                    "retain": str(message.retain).lower(),
                    "dup": str(message.dup).lower(),
                    "kind": message.kind,
                }
                if message.client is not None:
                    metadata["client"] = message.client
                if message.properties is not None:
                    metadata["properties"] = message.properties
                channel = channels[key] = writer.register_channel(
                    message.topic or message.kind, "json", schemas[name], metadata
                )
            writer.add_message(
                channel, message.time_ns, data, message.time_ns, count & 0xFFFF_FFFF
            )
            count += 1
        writer.finish()
    return count


def read_mcap(path: Path, *, notes: list[str]) -> Iterator[Message]:
    """Returns the messages of a file in order of time.

    Of files that others wrote, channels with JSON or text are taken as they
    are; others (ROS, Protobuf) are left out.

    Raises:
        FileFormatError: It is no MCAP file, or damaged.
    """
    mcap = _mcap()
    left_out: dict[str, int] = {}
    try:
        with path.open("rb") as file:
            reader = mcap.reader.make_reader(file, validate_crcs=True)
            for _, channel, found in reader.iter_messages():
                known = channel.metadata
                if "form" not in known and channel.message_encoding not in ("json", ""):
                    encoding = channel.message_encoding
                    left_out[encoding] = left_out.get(encoding, 0) + 1
                    continue
                kind = known.get("kind", "publish")
                said = kind in ("publish", "will")
                topic = channel.topic.removeprefix("/") if not known else channel.topic
                yield Message(
                    found.log_time,
                    check_topic(topic) if said else ("" if topic == kind else topic),
                    _unwrapped(known.get("form", "json"), found.data),
                    int(known.get("qos", "0")),
                    known.get("retain") == "true",
                    known.get("dup") == "true",
                    known.get("client"),
                    known.get("properties"),
                    kind,
                )
    except (mcap.exceptions.McapError, ValueError, KeyError) as error:
        raise FileFormatError(
            f"{path} is not a readable MCAP file: {error or type(error).__name__}.",
            "'mcap recover' of the MCAP tools saves what can be read of a damaged one",
        ) from error
    for encoding, count in left_out.items():
        notes.append(f"{count} messages in {encoding!r} were left out")
