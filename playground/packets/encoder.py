"""Packets to bytes.

What cannot be said in a version is refused and never silently left out: who
passes a message from an MQTT 5 client to a 3.1.1 client decides himself what
becomes of its properties.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from playground.errors import PlaygroundError
from playground.message import check_filter, check_topic
from playground.packets.decoder import FLAGS, PROTOCOL_NAMES
from playground.packets.packet import (
    MQTT_3_1,
    MQTT_5,
    REASON_CODES,
    VERSIONS,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    check_version,
)
from playground.packets.properties import write_properties
from playground.packets.wire import binary, text, variable_integer


def encode(packet: Packet, version: int) -> bytes:
    """Returns the bytes of a packet.

    Args:
        packet: Any packet; a CONNECT must be of the same version.
        version: Protocol level 3, 4 or 5.

    Raises:
        PlaygroundError: The packet cannot be said in this version, or a value
            is out of its range.
    """
    if type(packet) is Publish:
        return _publish(packet, version)
    check_version(version)
    body = _BODIES[type(packet)](packet, version)
    kind = packet.TYPE
    first = bytes((kind << 4 | FLAGS.get(kind, 0),))
    return first + variable_integer(len(body)) + body


def _publish(packet: Publish, version: int) -> bytes:
    topic, payload, qos, retain, dup, packet_id, properties = packet
    first = 0x30
    if retain:
        first = 0x31
    head = _topic(topic) if topic else _no_topic(properties)
    length = len(head) + len(payload)
    if qos:
        if qos not in (1, 2):
            raise PlaygroundError(f"QoS {qos!r} does not exist.", "give 0, 1 or 2")
        first |= qos << 1 | (8 if dup else 0)
        head += _packet_id(packet_id)
        length += 2
    elif dup or packet_id is not None:
        raise PlaygroundError(
            "A QoS 0 message has no packet_id and is never repeated (dup); "
            f"here packet_id is {packet_id!r} and dup {dup!r}.",
            "leave both out, or give qos=1",
        )
    if version == MQTT_5:
        written = (
            write_properties(properties, PacketType.PUBLISH) if properties else b"\0"
        )
        length += len(written)
        if length < 0x80:
            return b"".join((bytes((first, length)), head, written, payload))
        return b"".join(
            (bytes((first,)), variable_integer(length), head, written, payload)
        )
    check_version(version)
    if properties:
        _refuse("properties", properties, packet, version)
    if length < 0x80:
        return b"".join((bytes((first, length)), head, payload))
    return b"".join((bytes((first,)), variable_integer(length), head, payload))


@lru_cache(maxsize=4096)
def _topic(topic: str) -> bytes:
    return text(check_topic(topic), "Topic")


def _no_topic(properties: Mapping[str, Any]) -> bytes:
    if "topic_alias" not in properties:
        raise PlaygroundError(
            "The topic is empty, and there is no topic alias.", "name the topic"
        )
    return b"\0\0"


def _packet_id(packet_id: int | None) -> bytes:
    if not isinstance(packet_id, int) or not 1 <= packet_id <= 0xFFFF:
        raise PlaygroundError(
            f"packet_id is {packet_id!r}; here it is a number from 1 to 65535.",
            "give one that is not in use",
        )
    return packet_id.to_bytes(2)


def _refuse(what: str, value: object, packet: Packet, version: int) -> None:
    raise PlaygroundError(
        f"{packet.TYPE.name} has no {what} in MQTT {VERSIONS[version]}; "
        f"here it is {value!r}.",
        "leave it out, or speak MQTT 5",
    )


def _properties(packet: Any, version: int) -> bytes:
    if version == MQTT_5:
        return write_properties(packet.properties, packet.TYPE)
    if packet.properties:
        _refuse("properties", packet.properties, packet, version)
    return b""


def _reason(packet: Any, code: int) -> bytes:
    if code not in REASON_CODES[packet.TYPE]:
        raise PlaygroundError(
            f"{packet.TYPE.name} has no reason code {code!r}.",
            "give one of "
            + ", ".join(
                f"0x{known:02X}" for known in sorted(REASON_CODES[packet.TYPE])
            ),
        )
    return bytes((code,))


def _connect(packet: Connect, version: int) -> bytes:
    if packet.version != version:
        raise PlaygroundError(
            f"A CONNECT of version {packet.version!r} cannot be encoded as {version}.",
            "give the packet's own version",
        )
    will, username, password = packet.will, packet.username, packet.password
    flags = 0x02 if packet.clean_start else 0
    payload = [text(packet.client_id, "client_id")]
    if will is not None:
        if will.qos not in (0, 1, 2):
            raise PlaygroundError(
                f"Will QoS {will.qos!r} does not exist.", "give 0, 1 or 2"
            )
        flags |= 0x04 | will.qos << 3 | (0x20 if will.retain else 0)
        if version == MQTT_5:
            payload.append(write_properties(will.properties, PacketType.WILL))
        elif will.properties:
            _refuse("will properties", will.properties, packet, version)
        payload += (
            text(check_topic(will.topic), "Will topic"),
            binary(will.payload, "Will payload"),
        )
    if username is not None:
        flags |= 0x80
        payload.append(text(username, "username"))
    if password is not None:
        if username is None and version != MQTT_5:
            raise PlaygroundError(
                "A password without a username exists only in MQTT 5 [MQTT-3.1.2-22].",
                "give a username too",
            )
        flags |= 0x40
        payload.append(binary(password, "password"))
    name = PROTOCOL_NAMES[version]
    level = version | (0x80 if packet.bridge else 0)
    return b"".join(
        (
            binary(name, "Protocol Name"),
            bytes((level, flags)),
            _sixteen_bits(packet.keep_alive, "keep_alive"),
            _properties(packet, version),
            *payload,
        )
    )


def _sixteen_bits(value: object, what: str) -> bytes:
    if not isinstance(value, int) or not 0 <= value <= 0xFFFF:
        raise PlaygroundError(
            f"{what} is {value!r}; it is a number from 0 to 65535.", "give one of these"
        )
    return value.to_bytes(2)


def _connack(packet: Connack, version: int) -> bytes:
    code = packet.reason_code
    if packet.session_present and version == MQTT_3_1:
        _refuse("session_present", packet.session_present, packet, version)
    if packet.session_present and code:
        raise PlaygroundError(
            f"session_present in a refusal (reason code {code!r}) [MQTT-3.2.2-4].",
            "set one of the two",
        )
    if version == MQTT_5:
        written = _reason(packet, code)
    elif code in range(6):
        written = bytes((code,))
    else:
        raise PlaygroundError(
            f"Return code {code!r} does not exist in MQTT {VERSIONS[version]}.",
            "give 0 to 5",
        )
    return bytes((packet.session_present,)) + written + _properties(packet, version)


def _ending(packet: Any, version: int) -> bytes:
    """Reason code and properties, both left out where they may be."""
    code, properties = packet.reason_code, packet.properties
    if version == MQTT_5:
        written = _reason(packet, code)
        if properties:
            return written + write_properties(properties, packet.TYPE)
        return written if code else b""
    if code:
        _refuse("reason code", code, packet, version)
    return _properties(packet, version)


def _acknowledgement(packet: Any, version: int) -> bytes:
    return _packet_id(packet.packet_id) + _ending(packet, version)


def _subscribe(packet: Subscribe, version: int) -> bytes:
    if not packet.subscriptions:
        raise PlaygroundError("SUBSCRIBE without a subscription.", "give at least one")
    parts = [_packet_id(packet.packet_id), _properties(packet, version)]
    for each in packet.subscriptions:
        handling = each.retain_handling
        if each.qos not in (0, 1, 2) or handling not in (0, 1, 2):
            raise PlaygroundError(
                f"qos is {each.qos!r} and retain_handling {handling!r}; "
                "both are 0, 1 or 2.",
                "give one of these",
            )
        if each.no_local and each.topic_filter.startswith("$share/"):
            raise PlaygroundError(
                f"no_local on the shared subscription {each.topic_filter!r} "
                "[MQTT-3.8.3-4].",
                "leave it out",
            )
        options = (
            each.qos
            | (0x04 if each.no_local else 0)
            | (0x08 if each.retain_as_published else 0)
            | handling << 4
        )
        if version != MQTT_5 and options != each.qos:
            _refuse("subscription options but qos", each, packet, version)
        parts += (
            text(check_filter(each.topic_filter), "topic_filter"),
            bytes((options,)),
        )
    return b"".join(parts)


def _suback(packet: Suback, version: int) -> bytes:
    return (
        _packet_id(packet.packet_id)
        + _properties(packet, version)
        + _codes(packet, version)
    )


def _codes(packet: Suback | Unsuback, version: int) -> bytes:
    if not packet.reason_codes:
        raise PlaygroundError(
            f"{packet.TYPE.name} without a reason code.", "give one for each filter"
        )
    if version != MQTT_5:
        for code in packet.reason_codes:
            if code not in (0, 1, 2, 0x80):
                raise PlaygroundError(
                    f"SUBACK has no return code {code!r} in MQTT {VERSIONS[version]}.",
                    "give 0, 1, 2 or 0x80",
                )
        return bytes(packet.reason_codes)
    return b"".join(_reason(packet, code) for code in packet.reason_codes)


def _unsubscribe(packet: Unsubscribe, version: int) -> bytes:
    if not packet.topic_filters:
        raise PlaygroundError(
            "UNSUBSCRIBE without a topic filter.", "give at least one"
        )
    parts = [_packet_id(packet.packet_id), _properties(packet, version)]
    parts += (text(check_filter(each), "topic_filter") for each in packet.topic_filters)
    return b"".join(parts)


def _unsuback(packet: Unsuback, version: int) -> bytes:
    begin = _packet_id(packet.packet_id) + _properties(packet, version)
    if version == MQTT_5:
        return begin + _codes(packet, version)
    if packet.reason_codes:
        _refuse("reason codes", packet.reason_codes, packet, version)
    return begin


def _auth(packet: Auth, version: int) -> bytes:
    if version != MQTT_5:
        raise PlaygroundError(
            f"AUTH does not exist in MQTT {VERSIONS[version]}.", "speak MQTT 5"
        )
    return _ending(packet, version)


_BODIES: dict[type[Packet], Callable[[Any, int], bytes]] = {
    Connect: _connect,
    Connack: _connack,
    Puback: _acknowledgement,
    Pubrec: _acknowledgement,
    Pubrel: _acknowledgement,
    Pubcomp: _acknowledgement,
    Subscribe: _subscribe,
    Suback: _suback,
    Unsubscribe: _unsubscribe,
    Unsuback: _unsuback,
    Pingreq: lambda packet, version: b"",
    Pingresp: lambda packet, version: b"",
    Disconnect: _ending,
    Auth: _auth,
}
