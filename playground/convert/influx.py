"""InfluxDB line protocol: written for Grafana, and read.

Written: ``mqtt,topic=a/b payload="…",qos=0i,retain=false TIME`` with the payload
as it was (``payload_base64`` where it is no UTF-8), a field ``value`` where it
is a plain number, and a field per number of a JSON object. Read: the same; of
others' lines every field becomes a topic ``measurement/field``.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from playground.convert.render import as_text_or_base64
from playground.errors import FileFormatError, PlaygroundError
from playground.message import Message, check_topic

MEASUREMENT = "mqtt"
_NUMBER = re.compile(rb"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_OWN = frozenset({"payload", "payload_base64", "qos", "retain", "dup", "value"})


def _escaped(text: str) -> str:
    for character in ("\\", ",", "=", " "):
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", "\\n")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def write_influx(messages: Iterable[Message], file: IO[str]) -> tuple[int, int]:
    """Writes publications.

    Points of one topic at one instant would replace each other in the database;
    the later ones are moved on by a nanosecond each.

    Returns:
        How many were written, and how many of them were moved.
    """
    last: dict[str, int] = {}
    count = moved = 0
    for message in messages:
        time_ns = message.time_ns
        before = last.get(message.topic)
        if before is not None and time_ns <= before:
            time_ns = before + 1
            moved += 1
        last[message.topic] = time_ns
        tags = f"{MEASUREMENT},topic={_escaped(message.topic)}"
        if message.client:
            tags += f",client={_escaped(message.client)}"
        text, is_encoded = as_text_or_base64(message.payload)
        fields = [
            f"{'payload_base64' if is_encoded else 'payload'}={_quoted(text)}",
            f"qos={message.qos}i",
            f"retain={'true' if message.retain else 'false'}",
        ]
        if _NUMBER.fullmatch(message.payload):
            fields.append(f"value={float(message.payload)!r}")
        elif message.payload[:1] == b"{":
            fields += [
                f"{_escaped(name)}={number!r}"
                for name, number in _numbers(message.payload)
            ]
        file.write(f"{tags} {','.join(fields)} {time_ns}\n")
        count += 1
    return count, moved


def _numbers(payload: bytes) -> Iterator[tuple[str, float]]:
    try:
        tree = json.loads(payload)
    except (ValueError, RecursionError):
        return

    def walk(prefix: str, node: Any) -> Iterator[tuple[str, float]]:
        if isinstance(node, dict):
            for key, value in node.items():
                yield from walk(f"{prefix}.{key}" if prefix else str(key), value)
        elif isinstance(node, bool) or not isinstance(node, int | float):
            return
        elif prefix and prefix not in _OWN and abs(node) < 1e300:
            yield prefix, float(node)

    yield from walk("", tree)


def read_influx(path: Path, *, notes: list[str]) -> Iterator[Message]:
    """Returns the messages of a file, in its order.

    Raises:
        FileFormatError: A line is wrong; it is named.
    """
    foreign = 0
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    for number, line in _lines(text):
        try:
            measurement, tags, fields, time_ns = _parse(line)
            if "topic" in tags and ({"payload", "payload_base64"} & set(fields)):
                yield _own(tags, fields, time_ns)
                continue
            foreign += 1
            stem = "/".join(
                [measurement, *(value for _, value in sorted(tags.items()))]
            )
            for name, raw in fields.items():
                said, _ = _value(raw)
                topic = check_topic(f"{stem}/{name}")
                yield Message(time_ns, topic, said.encode("utf-8", "surrogateescape"))
        except (PlaygroundError, ValueError, binascii.Error) as error:
            problem = error.problem if isinstance(error, PlaygroundError) else error
            raise FileFormatError(
                f"{path}:{number}: {problem}",
                "write 'measurement,tag=value field=1 1767225600000000000'",
            ) from error
    if foreign:
        notes.append(
            f"{foreign} lines of another program: each field became a topic "
            "measurement/tags/field"
        )


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Splits at line ends that are not inside a quoted field."""
    start = at = 0
    number = begun_at = 1
    while at <= len(text):
        at = _end_of_line(text, at)
        line = text[start:at].strip("\r")
        if line.strip() and not line.startswith("#"):
            yield begun_at, line
        number += text.count("\n", start, at + 1)
        at += 1
        start, begun_at = at, number


def _end_of_line(text: str, at: int) -> int:
    if text.startswith("#", at):
        end = text.find("\n", at)
        return len(text) if end < 0 else end
    # Quotes mean something only after the tags, which end at the first space.
    in_tags, inside = True, False
    while at < len(text):
        c = text[at]
        if c == "\\":
            at += 2
            continue
        if c == "\n" and not inside:
            return at
        if c == " " and in_tags:
            in_tags = False
        elif c == '"' and not in_tags:
            inside = not inside
        at += 1
    return len(text)


def _split(text: str, separator: str, *, quotes: bool, most: int = -1) -> list[str]:
    """Splits where the separator is neither escaped nor (if told) inside quotes."""
    parts: list[str] = []
    start = at = 0
    inside = False
    while at < len(text) and len(parts) != most:
        c = text[at]
        if c == "\\":
            at += 2
            continue
        if c == '"' and quotes:
            inside = not inside
        elif c == separator and not inside:
            parts.append(text[start:at])
            start = at + 1
        at += 1
    return [*parts, text[start:]]


def _plain(text: str) -> str:
    return re.sub(r"\\([\\,= ])", r"\1", text)


def _parse(line: str) -> tuple[str, dict[str, str], dict[str, str], int]:
    head, *rest = _split(line, " ", quotes=False, most=1)
    parts = _split(rest[0], " ", quotes=True) if rest else []
    if len(parts) != 2:
        raise ValueError("a line is 'measurement,tags fields time'")
    name, *pairs = _split(head, ",", quotes=False)
    tags = {key: _plain(value) for key, value in map(_pair, pairs)}
    fields = dict(map(_pair, _split(parts[0], ",", quotes=True)))
    return _plain(name), tags, fields, int(parts[1])


def _pair(text: str) -> tuple[str, str]:
    key, *rest = _split(text, "=", quotes=False, most=1)
    if not rest:
        raise ValueError(f"{text!r} has no '='")
    return _plain(key), rest[0]


def _value(raw: str) -> tuple[str, str]:
    if raw.startswith('"') and raw.endswith('"') and len(raw) > 1:
        return re.sub(r'\\(["\\])', r"\1", raw[1:-1]), "text"
    if raw[-1:] in ("i", "u"):
        int(raw[:-1])
        return raw[:-1], "integer"
    if raw in ("t", "T", "true", "True", "TRUE"):
        return "true", "boolean"
    if raw in ("f", "F", "false", "False", "FALSE"):
        return "false", "boolean"
    float(raw)
    return raw, "float"


def _own(tags: dict[str, str], fields: dict[str, str], time_ns: int) -> Message:
    if "payload_base64" in fields:
        payload = base64.b64decode(_value(fields["payload_base64"])[0], validate=True)
    else:
        payload = _value(fields["payload"])[0].encode("utf-8", "surrogateescape")
    qos = int(_value(fields.get("qos", "0i"))[0])
    if qos not in (0, 1, 2):
        raise ValueError(f"QoS is {qos}; it must be 0, 1 or 2")
    return Message(
        time_ns,
        check_topic(tags["topic"]),
        payload,
        qos,
        _value(fields.get("retain", "false"))[0] == "true",
        client=tags.get("client"),
    )
