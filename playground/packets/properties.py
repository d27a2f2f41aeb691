"""The 27 properties of MQTT 5: their bytes, and their text in a recording.

A property is known by the standard's name in snake_case. Values are ``int``,
``str`` or ``bytes``; two of them repeat: ``user_property`` is a list of
``(name, value)`` pairs in the order sent, and ``subscription_identifier`` of
PUBLISH is a list of ``int`` (of SUBSCRIBE it is one ``int``).

As JSON (the column ``properties`` of a recording, see `properties_to_json`):
one object, keys sorted, no white space, binary values in base64::

    {"correlation_data":"3q2+7w==","user_property":[["site","lab"]]}
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from playground.errors import PlaygroundError, closest
from playground.packets.malformed import PROTOCOL_ERROR, Violation
from playground.packets.packet import PacketType
from playground.packets.wire import Fields, binary, text, variable_integer

Properties = dict[str, Any]


class Kind(Enum):
    """How a property's value is written."""

    BYTE = "one byte"
    TWO_BYTES = "two bytes"
    FOUR_BYTES = "four bytes"
    VARIABLE = "a variable byte integer"
    TEXT = "text"
    BINARY = "bytes"
    PAIR = "a list of (name, value) pairs of text"


@dataclass(frozen=True, slots=True)
class Property:
    """One line of table 2-4 of the standard."""

    identifier: int
    name: str
    kind: Kind
    packets: frozenset[PacketType]
    least: int = 0
    most: int = 0

    @property
    def paho_name(self) -> str:
        """The attribute of paho's ``Properties``: ``MaximumQoS``."""
        camel = "".join(word.capitalize() for word in self.name.split("_"))
        return camel.replace("Qos", "QoS")


_CONNECT, _CONNACK = PacketType.CONNECT, PacketType.CONNACK
_PUBLISH, _WILL = PacketType.PUBLISH, PacketType.WILL
_SUBSCRIBE, _AUTH = PacketType.SUBSCRIBE, PacketType.AUTH
_DISCONNECT = PacketType.DISCONNECT
_EVERYWHERE = frozenset(PacketType) - {PacketType.PINGREQ, PacketType.PINGRESP}
_ANSWERS = _EVERYWHERE - {
    *(_CONNECT, _PUBLISH, _WILL, _SUBSCRIBE, PacketType.UNSUBSCRIBE)
}
_MOST_VARIABLE = 268_435_455


def _table() -> list[Property]:
    flag = (Kind.BYTE, 0, 1)
    two, four = (Kind.TWO_BYTES, 0, 0xFFFF), (Kind.FOUR_BYTES, 0, 0xFFFF_FFFF)
    # It is a Protocol Error to send 0 for these: sections 3.1.2.11.3, 3.1.2.11.4,
    # 3.3.2.3.4 and 3.3.2.3.8.
    two_not_0, four_not_0 = (Kind.TWO_BYTES, 1, 0xFFFF), (Kind.FOUR_BYTES, 1, 2**32 - 1)
    string, blob = (Kind.TEXT, 0, 0), (Kind.BINARY, 0, 0)
    message = (_PUBLISH, _WILL)
    rows: list[tuple[int, str, tuple[Kind, int, int], tuple[PacketType, ...]]] = [
        (0x01, "payload_format_indicator", flag, message),
        (0x02, "message_expiry_interval", four, message),
        (0x03, "content_type", string, message),
        (0x08, "response_topic", string, message),
        (0x09, "correlation_data", blob, message),
        (
            0x0B,
            "subscription_identifier",
            (Kind.VARIABLE, 1, _MOST_VARIABLE),
            (_PUBLISH, _SUBSCRIBE),
        ),
        (0x11, "session_expiry_interval", four, (_CONNECT, _CONNACK, _DISCONNECT)),
        (0x12, "assigned_client_identifier", string, (_CONNACK,)),
        (0x13, "server_keep_alive", two, (_CONNACK,)),
        (0x15, "authentication_method", string, (_CONNECT, _CONNACK, _AUTH)),
        (0x16, "authentication_data", blob, (_CONNECT, _CONNACK, _AUTH)),
        (0x17, "request_problem_information", flag, (_CONNECT,)),
        (0x18, "will_delay_interval", four, (_WILL,)),
        (0x19, "request_response_information", flag, (_CONNECT,)),
        (0x1A, "response_information", string, (_CONNACK,)),
        (0x1C, "server_reference", string, (_CONNACK, _DISCONNECT)),
        (0x1F, "reason_string", string, tuple(_ANSWERS)),
        (0x21, "receive_maximum", two_not_0, (_CONNECT, _CONNACK)),
        (0x22, "topic_alias_maximum", two, (_CONNECT, _CONNACK)),
        (0x23, "topic_alias", two_not_0, (_PUBLISH,)),
        (0x24, "maximum_qos", flag, (_CONNACK,)),
        (0x25, "retain_available", flag, (_CONNACK,)),
        (0x26, "user_property", (Kind.PAIR, 0, 0), tuple(_EVERYWHERE)),
        (0x27, "maximum_packet_size", four_not_0, (_CONNECT, _CONNACK)),
        (0x28, "wildcard_subscription_available", flag, (_CONNACK,)),
        (0x29, "subscription_identifier_available", flag, (_CONNACK,)),
        (0x2A, "shared_subscription_available", flag, (_CONNACK,)),
    ]
    return [
        Property(identifier, name, kind, frozenset(packets), least, most)
        for identifier, name, (kind, least, most), packets in rows
    ]


PROPERTIES = {each.name: each for each in _table()}
"""Every property of MQTT 5.0 by name."""
_BY_IDENTIFIER = {each.identifier: each for each in PROPERTIES.values()}
_SIZES = {Kind.BYTE: 1, Kind.TWO_BYTES: 2, Kind.FOUR_BYTES: 4}


# ------------------------------------------------------------------- bytes


def read_properties(fields: Fields, packet: PacketType) -> Properties:
    """Reads the property length and all properties of a packet.

    Args:
        fields: Stands before the property length; stands after the last
            property on return.
        packet: Whose properties they are, ``WILL`` for those of a will.

    Raises:
        Violation: They are not well-formed, or not allowed in this packet.
    """
    whole = fields.end
    length = fields.variable_integer("Property Length")
    end = fields.at + length
    if end > whole:
        raise Violation(
            f"Property Length is {length}, but only {whole - fields.at} bytes "
            "of the packet are left",
            "section 2.2.2.1",
            fields.at,
        )
    found: Properties = {}
    fields.end = end
    while fields.at < end:
        _read_one(fields, packet, found)
    fields.end = whole
    return found


def _read_one(fields: Fields, packet: PacketType, found: Properties) -> None:
    begin = fields.at
    identifier = fields.variable_integer("property identifier")
    known = _BY_IDENTIFIER.get(identifier)
    if known is None:
        raise Violation(
            f"property 0x{identifier:02X} does not exist", "section 2.2.2.2", begin
        )
    name, kind = known.name, known.kind
    if packet not in known.packets:
        raise Violation(
            f"{name} is not a property of {packet.name}",
            "section 2.2.2.2",
            begin,
            reason_code=PROTOCOL_ERROR,
        )
    value: Any
    if kind is Kind.TEXT:
        value = fields.text(name)
        if name == "response_topic" and ("+" in value or "#" in value):
            raise Violation(
                f"response_topic {value!r} contains a wildcard",
                "MQTT-3.3.2-14",
                begin,
                reason_code=PROTOCOL_ERROR,
            )
    elif kind is Kind.BINARY:
        value = fields.binary(name)
    elif kind is Kind.PAIR:
        found.setdefault(name, []).append((fields.text(name), fields.text(name)))
        return
    else:
        if kind is Kind.VARIABLE:
            value = fields.variable_integer(name)
        else:
            value = fields.integer(_SIZES[kind], name)
        if not known.least <= value <= known.most:
            raise Violation(
                f"{name} is {value}, it must be {known.least} to {known.most}",
                _CLAUSES.get(name, "section 2.2.2.2"),
                begin,
                reason_code=PROTOCOL_ERROR,
            )
        if kind is Kind.VARIABLE and packet is _PUBLISH:
            # A message that met several subscriptions names each of them.
            found.setdefault(name, []).append(value)
            return
    if name in found:
        raise Violation(
            f"{name} appears twice",
            "section 2.2.2.2",
            begin,
            reason_code=PROTOCOL_ERROR,
        )
    found[name] = value


_CLAUSES = {
    "topic_alias": "MQTT-3.3.2-8",
    "receive_maximum": "section 3.1.2.11.3",
    "maximum_packet_size": "section 3.1.2.11.4",
    "subscription_identifier": "section 3.8.2.1.2",
    "payload_format_indicator": "section 3.3.2.3.2",
    "maximum_qos": "section 3.2.2.3.4",
    "retain_available": "section 3.2.2.3.5",
}


def write_properties(properties: Mapping[str, Any], packet: PacketType) -> bytes:
    """Returns the property length and the properties, in the order given.

    Raises:
        PlaygroundError: An unknown name, one this packet does not have, or a
            value that does not fit.
    """
    if not properties:
        return b"\0"
    parts: list[bytes] = []
    for name, value in properties.items():
        known = _known(name)
        if packet not in known.packets:
            raise PlaygroundError(
                f"{name} is not a property of {packet.name}.",
                f"leave it out; {packet.name} knows "
                + ", ".join(p.name for p in PROPERTIES.values() if packet in p.packets),
            )
        tag = bytes((known.identifier,))
        if known.kind is Kind.PAIR:
            for first, second in _pairs(value):
                parts += (tag, text(first, name), text(second, name))
        elif known.kind is Kind.VARIABLE and packet is _PUBLISH:
            for each in value if isinstance(value, list | tuple) else (value,):
                parts += (tag, variable_integer(_number(known, each)))
        else:
            parts += (tag, _written(known, value))
    body = b"".join(parts)
    return variable_integer(len(body)) + body


def _written(known: Property, value: Any) -> bytes:
    if known.kind is Kind.TEXT:
        if known.name == "response_topic" and ("+" in value or "#" in value):
            raise PlaygroundError(
                f"response_topic {value!r} contains a wildcard; one answers to "
                "exactly one topic.",
                "write the topic out",
            )
        return text(value, known.name)
    if known.kind is Kind.BINARY:
        return binary(value, known.name)
    number = _number(known, value)
    if known.kind is Kind.VARIABLE:
        return variable_integer(number)
    return number.to_bytes(_SIZES[known.kind])


def _known(name: str) -> Property:
    known = PROPERTIES.get(name)
    if known is None:
        raise PlaygroundError(
            f"{name!r} is not a property of MQTT 5.{closest(str(name), PROPERTIES)}",
            "use the standard's names in snake_case, for instance content_type",
        )
    return known


def _number(known: Property, value: Any) -> int:
    if not isinstance(value, int) or not known.least <= value <= known.most:
        raise PlaygroundError(
            f"{known.name} is {value!r}; it is a number from {known.least} to "
            f"{known.most}.",
            "give one in this range",
        )
    return int(value)


def _pairs(value: Any) -> list[tuple[str, str]]:
    try:
        pairs = [(name, text_) for name, text_ in value]
    except (TypeError, ValueError):
        pairs = [("", None)]
    if not all(isinstance(part, str) for pair in pairs for part in pair):
        raise PlaygroundError(
            f"user_property is {value!r}; it is a list of (name, value) pairs of text.",
            'write for instance [("site", "lab")]',
        )
    return pairs


# -------------------------------------------------------------------- JSON

_NOT_RECORDED = "topic_alias"
"""It means something on one network connection only [MQTT-3.3.2-7]."""
_JSON = json.JSONEncoder(
    ensure_ascii=False,
    check_circular=False,
    allow_nan=False,
    sort_keys=True,
    separators=(",", ":"),
)


def properties_to_json(properties: Mapping[str, Any]) -> str | None:
    """Renders properties as the text of a recording's column ``properties``.

    One JSON object with sorted keys and no white space, so that equal
    properties give equal text. Numbers and text stand as they are, binary
    values (``correlation_data``, ``authentication_data``) as base64,
    ``user_property`` as a list of ``[name, value]`` in the order sent,
    ``subscription_identifier`` as a list of numbers. ``topic_alias`` is left
    out: it means nothing outside its network connection.

    Returns:
        The text, or None where nothing is left to record.

    Raises:
        PlaygroundError: A name that MQTT 5 does not have.
    """
    recorded: dict[str, Any] = {}
    for name, value in properties.items():
        if _known(name).kind is Kind.BINARY:
            recorded[name] = base64.b64encode(value).decode("ascii")
        elif name != _NOT_RECORDED:
            recorded[name] = value
    return _JSON.encode(recorded) if recorded else None


def properties_from_json(recorded: str | None) -> Properties:
    """Reads what `properties_to_json` wrote; None and ``""`` are no properties.

    Raises:
        PlaygroundError: The text is not such an object, a name is unknown, or
            a value is not of the property's kind.
    """
    if not recorded:
        return {}
    try:
        read = json.loads(recorded)
    except ValueError as error:
        raise PlaygroundError(
            f"The properties {_shortened(recorded)} are not JSON: {error}.", _EXAMPLE
        ) from error
    if not isinstance(read, dict):
        raise PlaygroundError(
            f"The properties {_shortened(recorded)} are not a JSON object.", _EXAMPLE
        )
    return {name: _value_from_json(_known(name), value) for name, value in read.items()}


_EXAMPLE = 'write for instance {"content_type":"text/plain"}'


def _shortened(shown: str) -> str:
    return repr(shown if len(shown) <= 60 else shown[:57] + "...")


def _value_from_json(known: Property, value: Any) -> Any:
    kind = known.kind
    if kind is Kind.PAIR:
        return _pairs(value)
    if kind is Kind.VARIABLE and isinstance(value, list):
        return [_number(known, each) for each in value]
    if kind in (Kind.TEXT, Kind.BINARY):
        if not isinstance(value, str):
            raise PlaygroundError(
                f"{known.name} is {value!r}; it is {known.kind.value}.",
                "write it in quotes, binary values in base64",
            )
        return _from_base64(known.name, value) if kind is Kind.BINARY else value
    return _number(known, value)


def _from_base64(name: str, value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise PlaygroundError(
            f"{name} is {_shortened(value)}, which is not base64: {error}.",
            "encode the bytes with the standard alphabet and padding",
        ) from error


# -------------------------------------------------------------------- paho


def properties_from_paho(paho: object | None) -> Properties:
    """Returns the properties that a ``paho.mqtt.properties.Properties`` holds.

    Only its attributes are asked, so paho is not imported; None is none.
    """
    given = vars(paho) if paho is not None else {}
    found: Properties = {}
    for name, known in PROPERTIES.items():
        value = given.get(known.paho_name)
        if value is not None:
            found[name] = list(value) if isinstance(value, list) else value
    return found


def properties_into_paho(properties: Mapping[str, Any], paho: Any) -> None:
    """Sets properties on a fresh ``paho.mqtt.properties.Properties``.

    Raises:
        PlaygroundError: A name that MQTT 5 does not have.
    """
    for name, value in properties.items():
        setattr(paho, _known(name).paho_name, value)
