"""The body of one packet, from bytes to value; all packets but PUBLISH.

Each function gets `Fields` that begin after the fixed header. A packet that is
cut off, or has bytes left over, is malformed; whether it makes sense at this
point of a session is not asked here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playground.errors import PlaygroundError
from playground.message import check_filter
from playground.packets.malformed import (
    PROTOCOL_ERROR,
    UNSUPPORTED_PROTOCOL_VERSION,
    Violation,
)
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
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
)
from playground.packets.properties import read_properties
from playground.packets.wire import Fields, decoded

PROTOCOL_NAMES = {3: b"MQIsdp", 4: b"MQTT", 5: b"MQTT"}
FLAGS = {PacketType.PUBREL: 2, PacketType.SUBSCRIBE: 2, PacketType.UNSUBSCRIBE: 2}
"""Lower four bits of the first byte where they are not 0; PUBLISH has its own."""
_FLAG_CLAUSES = {
    PacketType.PUBREL: "MQTT-3.6.1-1",
    PacketType.SUBSCRIBE: "MQTT-3.8.1-1",
    PacketType.UNSUBSCRIBE: "MQTT-3.10.1-1",
    PacketType.DISCONNECT: "MQTT-3.14.1-1",
    PacketType.AUTH: "MQTT-3.15.1-1",
}


def check_first_byte(first: int, version: int | None, at: int) -> None:
    """Says what is wrong with the first byte of a packet, PUBLISH excepted.

    Args:
        first: The byte.
        version: Protocol level; None before CONNECT.
        at: Its index, for the message.

    Raises:
        Violation: A forbidden packet type or wrong flags.
    """
    number, flags = first >> 4, first & 0x0F
    newest = version == MQTT_5
    if number == 0 or (number == PacketType.AUTH and version not in (None, MQTT_5)):
        raise Violation(
            f"packet type {number} is forbidden" + (" before MQTT 5" if number else ""),
            "section 2.1.2" if newest else "section 2.2.1",
            at,
        )
    # MQTT 3.1 calls the flags of other packets "not used" and sends DUP with
    # some; what it does not define it cannot forbid.
    if version != MQTT_3_1 and flags != FLAGS.get(PacketType(number), 0):
        raise Violation(
            f"the flags of the fixed header are {flags:04b}, they must be "
            f"{FLAGS.get(PacketType(number), 0):04b}",
            _FLAG_CLAUSES.get(
                PacketType(number), "MQTT-2.1.3-1" if newest else "MQTT-2.2.2-2"
            ),
            at,
        )


def decode_body(number: int, fields: Fields) -> Packet:
    """Decodes a packet that is neither PUBLISH nor CONNECT.

    Raises:
        Violation: The body is malformed.
    """
    packet = _BODIES[number](fields)
    finish(fields)
    return packet


def finish(fields: Fields) -> None:
    """Checks that nothing is left over."""
    if fields.at != fields.end:
        raise Violation(
            f"{fields.end - fields.at} bytes are left over after the last field",
            fields.clause("section 2.2.3", "section 2.1.4"),
            fields.at,
        )


# ----------------------------------------------------------------- CONNECT


def decode_connect(fields: Fields, flags: int) -> Connect:
    """Decodes CONNECT, from which ``fields`` learn their version.

    Args:
        fields: Begin after the fixed header.
        flags: Lower four bits of the first byte.

    Raises:
        Violation: It is malformed, or of an unknown version.
    """
    begin = fields.at
    version, bridge = _protocol(fields)
    fields.version = version
    if flags and version != MQTT_3_1:
        raise Violation(
            f"the flags of the fixed header are {flags:04b}, they must be 0000",
            fields.clause("MQTT-2.2.2-2", "MQTT-2.1.3-1"),
            begin,
        )
    at = fields.at
    connect_flags = fields.integer(1, "Connect Flags")
    _check_connect_flags(fields, connect_flags, at)
    keep_alive = fields.integer(2, "Keep Alive")
    newest = version == MQTT_5
    properties = read_properties(fields, PacketType.CONNECT) if newest else {}
    # The order of the fields is fixed [MQTT-3.1.3-1].
    client_id = fields.text("Client Identifier")
    will = None
    if connect_flags & 0x04:
        will_properties = read_properties(fields, PacketType.WILL) if newest else {}
        will = Will(
            topic=_topic(fields, "Will Topic"),
            payload=fields.binary("Will Payload"),
            qos=connect_flags >> 3 & 3,
            retain=bool(connect_flags & 0x20),
            properties=will_properties,
        )

    def present(bit: int) -> bool:
        # MQTT 3.1: "the Remaining Length field takes precedence" over these
        # two flags, a flagged field may be missing at the end.
        cut = version == MQTT_3_1 and fields.at == fields.end
        return bool(connect_flags & bit) and not cut

    username = fields.text("User Name") if present(0x80) else None
    password = fields.binary("Password") if present(0x40) else None
    finish(fields)
    return Connect(
        client_id=client_id,
        version=version,
        clean_start=bool(connect_flags & 0x02),
        keep_alive=keep_alive,
        will=will,
        username=username,
        password=password,
        bridge=bridge,
        properties=properties,
    )


def _protocol(fields: Fields) -> tuple[int, bool]:
    at = fields.at
    name = fields.binary("Protocol Name")
    if name not in PROTOCOL_NAMES.values():
        raise Violation(
            f"Protocol Name is {name[:40]!r}, it must be b'MQTT' (b'MQIsdp' in 3.1)",
            "MQTT-3.1.2-1",
            at,
            reason_code=UNSUPPORTED_PROTOCOL_VERSION,
        )
    level = fields.integer(1, "Protocol Level")
    version = level & 0x7F
    if PROTOCOL_NAMES.get(version) != name:
        known = ", ".join(f"{level} (MQTT {name})" for level, name in VERSIONS.items())
        raise Violation(
            f"Protocol Level {level} does not exist with Protocol Name {name!r}",
            "MQTT-3.1.2-2",
            fields.at - 1,
            fix=f"connect with {known}",
            reason_code=UNSUPPORTED_PROTOCOL_VERSION,
        )
    return version, bool(level & 0x80)


def _check_connect_flags(fields: Fields, flags: int, at: int) -> None:
    version = fields.version
    will, will_qos = flags & 0x04, flags >> 3 & 3
    if flags & 0x01 and version != MQTT_3_1:
        raise Violation("the reserved flag of CONNECT is 1", "MQTT-3.1.2-3", at)
    if will_qos == 3:
        clause = fields.clause("MQTT-3.1.2-14", "MQTT-3.1.2-12")
        raise Violation("Will QoS is 3", clause, at, fix="give 0, 1 or 2")
    if version == MQTT_3_1:
        return
    if not will and will_qos:
        clause = fields.clause("MQTT-3.1.2-13", "MQTT-3.1.2-11")
        raise Violation(f"Will QoS is {will_qos} without a will", clause, at)
    if not will and flags & 0x20:
        clause = fields.clause("MQTT-3.1.2-15", "MQTT-3.1.2-13")
        raise Violation("Will Retain is 1 without a will", clause, at)
    if version != MQTT_5 and flags & 0x40 and not flags & 0x80:
        # MQTT 5 allows a password, such as a token, without a user name.
        raise Violation("Password without User Name", "MQTT-3.1.2-22", at)


def _topic(fields: Fields, what: str) -> str:
    at = fields.at + 2
    return topic_name(fields.binary(what), what, at, fields.version)


def topic_name(raw: bytes, what: str, at: int, version: int) -> str:
    """Decodes a topic that one may publish to.

    Raises:
        Violation: It is not well-formed, is empty, or has a wildcard.
    """
    topic = decoded(raw, what, at, version)
    if not topic:
        raise Violation(f"{what} is empty", "MQTT-4.7.3-1", at)
    if "+" in topic or "#" in topic:
        if what == "Topic Name":
            clause = "MQTT-3.3.2-2"
        else:
            clause = "MQTT-4.7.0-1" if version == MQTT_5 else "MQTT-4.7.1-1"
        raise Violation(f"{what} {topic!r} contains a wildcard", clause, at)
    return topic


# ------------------------------------------------------ one after the other


def _connack(fields: Fields) -> Connack:
    at = fields.at
    flags = fields.integer(1, "Connect Acknowledge Flags")
    code_at = fields.at
    code = fields.integer(1, "Reason Code")
    session_present = bool(flags & 1) and fields.version != MQTT_3_1
    if flags > 1 and fields.version != MQTT_3_1:
        raise Violation(
            f"Connect Acknowledge Flags are {flags:08b}, only the last bit is used",
            fields.clause("section 3.2.2.1", "MQTT-3.2.2-1"),
            at,
        )
    if code and session_present:
        raise Violation(
            f"Session Present is 1 in a refusal (reason code 0x{code:02X})",
            fields.clause("MQTT-3.2.2-4", "MQTT-3.2.2-6"),
            at,
        )
    if fields.version != MQTT_5:
        if code > 5:
            raise Violation(
                f"return code {code} is reserved", "section 3.2.2.3", code_at
            )
        return Connack(reason_code=code, session_present=session_present)
    if fields.at == fields.end and 1 <= code <= 5:
        # A server that does not know MQTT 5 refuses in the words of 3.1.1.
        return Connack(reason_code=code)
    _check_reason(PacketType.CONNACK, code, code_at, "MQTT-3.2.2-8")
    return Connack(
        reason_code=code,
        session_present=session_present,
        properties=read_properties(fields, PacketType.CONNACK),
    )


def _check_reason(packet: PacketType, code: int, at: int, clause: str) -> None:
    if code not in REASON_CODES[packet]:
        raise Violation(
            f"{packet.name} has no reason code 0x{code:02X}",
            clause,
            at,
            reason_code=PROTOCOL_ERROR,
        )


def _reason_and_properties(
    fields: Fields, packet: PacketType, clause: str
) -> tuple[int, dict[str, Any]]:
    """Reads the end of a short MQTT 5 packet, of which both may be left out."""
    if fields.version != MQTT_5 or fields.at == fields.end:
        return 0, {}
    at = fields.at
    code = fields.integer(1, "Reason Code")
    _check_reason(packet, code, at, clause)
    if fields.at == fields.end:
        return code, {}
    return code, read_properties(fields, packet)


def _acknowledgement(
    kind: type[Puback] | type[Pubrec] | type[Pubrel] | type[Pubcomp], clause: str
) -> Callable[[Fields], Packet]:
    def decode(fields: Fields) -> Packet:
        packet_id = fields.packet_id()
        code, properties = _reason_and_properties(fields, kind.TYPE, clause)
        return kind(packet_id=packet_id, reason_code=code, properties=properties)

    return decode


def _properties(fields: Fields, packet: PacketType) -> dict[str, Any]:
    return read_properties(fields, packet) if fields.version == MQTT_5 else {}


def _filter(fields: Fields) -> str:
    at = fields.at + 2
    topic_filter = fields.text("Topic Filter")
    try:
        return check_filter(topic_filter)
    except PlaygroundError as error:
        if not topic_filter:
            clause = "MQTT-4.7.3-1"
        elif _ends_in_hash(topic_filter):
            clause = fields.clause("MQTT-4.7.1-3", "MQTT-4.7.1-2")
        else:
            clause = fields.clause("MQTT-4.7.1-2", "MQTT-4.7.1-1")
        problem = error.problem.removesuffix(".")
        raise Violation(problem, clause, at, fix=error.fix) from error


def _ends_in_hash(topic_filter: str) -> bool:
    """Says whether the multi-level wildcard, if any, stands where it may."""
    before = topic_filter.removesuffix("/#") if topic_filter != "#" else ""
    return "#" not in before


def _subscribe(fields: Fields) -> Subscribe:
    packet_id = fields.packet_id()
    properties = _properties(fields, PacketType.SUBSCRIBE)
    if fields.at == fields.end:
        clause = fields.clause("MQTT-3.8.3-3", "MQTT-3.8.3-2")
        raise Violation("there is no topic filter", clause, fields.at)
    subscriptions = []
    while fields.at < fields.end:
        topic_filter = _filter(fields)
        at = fields.at
        options = fields.integer(1, "Subscription Options")
        _check_options(fields, topic_filter, options, at)
        subscriptions.append(
            Subscription(
                topic_filter=topic_filter,
                qos=options & 3,
                no_local=bool(options & 0x04),
                retain_as_published=bool(options & 0x08),
                retain_handling=options >> 4,
            )
        )
    return Subscribe(
        packet_id=packet_id, subscriptions=tuple(subscriptions), properties=properties
    )


def _check_options(fields: Fields, topic_filter: str, options: int, at: int) -> None:
    newest = fields.version == MQTT_5
    if options & (0xC0 if newest else 0xFC):
        raise Violation(
            f"reserved bits of the Subscription Options are set ({options:08b})",
            fields.clause("MQTT-3-8.3-4", "MQTT-3.8.3-5"),
            at,
        )
    problem = ""
    clause = "section 3.8.3.1"
    if options & 3 == 3:
        problem = "the subscription asks for QoS 3"
        clause = fields.clause("MQTT-3-8.3-4", clause)
    elif options >> 4 == 3:
        problem = "Retain Handling is 3"
    elif options & 0x04 and topic_filter.startswith("$share/"):
        problem, clause = "No Local on a shared subscription", "MQTT-3.8.3-4"
    if problem:
        raise Violation(problem, clause, at, reason_code=PROTOCOL_ERROR)


_SUBACK_CODES = frozenset({0, 1, 2, 0x80})


def _suback(fields: Fields) -> Suback:
    packet_id = fields.packet_id()
    properties = _properties(fields, PacketType.SUBACK)
    begin = fields.at
    codes = tuple(fields.rest())
    known = (
        REASON_CODES[PacketType.SUBACK] if fields.version == MQTT_5 else _SUBACK_CODES
    )
    _check_codes("SUBACK", codes, known, begin, "MQTT-3.9.3-2")
    return Suback(packet_id=packet_id, reason_codes=codes, properties=properties)


def _check_codes(
    packet: str, codes: tuple[int, ...], known: frozenset[int], begin: int, clause: str
) -> None:
    if not codes:
        # One code for each filter [MQTT-3.8.4-5], [MQTT-3.11.3-1], and a request
        # has at least one filter.
        raise Violation(f"{packet} has no reason code", clause, begin)
    for number, code in enumerate(codes):
        if code not in known:
            raise Violation(
                f"{packet} has no reason code 0x{code:02X}", clause, begin + number
            )


def _unsubscribe(fields: Fields) -> Unsubscribe:
    packet_id = fields.packet_id()
    properties = _properties(fields, PacketType.UNSUBSCRIBE)
    if fields.at == fields.end:
        raise Violation("there is no topic filter", "MQTT-3.10.3-2", fields.at)
    filters = []
    while fields.at < fields.end:
        filters.append(_filter(fields))
    return Unsubscribe(
        packet_id=packet_id, topic_filters=tuple(filters), properties=properties
    )


def _unsuback(fields: Fields) -> Unsuback:
    packet_id = fields.packet_id()
    if fields.version != MQTT_5:
        return Unsuback(packet_id=packet_id)
    properties = read_properties(fields, PacketType.UNSUBACK)
    begin = fields.at
    codes = tuple(fields.rest())
    known = REASON_CODES[PacketType.UNSUBACK]
    _check_codes("UNSUBACK", codes, known, begin, "MQTT-3.11.3-2")
    return Unsuback(packet_id=packet_id, reason_codes=codes, properties=properties)


def _disconnect(fields: Fields) -> Disconnect:
    code, properties = _reason_and_properties(
        fields, PacketType.DISCONNECT, "MQTT-3.14.2-1"
    )
    return Disconnect(reason_code=code, properties=properties)


def _auth(fields: Fields) -> Auth:
    code, properties = _reason_and_properties(fields, PacketType.AUTH, "MQTT-3.15.2-1")
    return Auth(reason_code=code, properties=properties)


_BODIES: dict[int, Callable[[Fields], Packet]] = {
    PacketType.CONNACK: _connack,
    PacketType.PUBACK: _acknowledgement(Puback, "MQTT-3.4.2-1"),
    PacketType.PUBREC: _acknowledgement(Pubrec, "MQTT-3.5.2-1"),
    PacketType.PUBREL: _acknowledgement(Pubrel, "MQTT-3.6.2-1"),
    PacketType.PUBCOMP: _acknowledgement(Pubcomp, "MQTT-3.7.2-1"),
    PacketType.SUBSCRIBE: _subscribe,
    PacketType.SUBACK: _suback,
    PacketType.UNSUBSCRIBE: _unsubscribe,
    PacketType.UNSUBACK: _unsuback,
    PacketType.PINGREQ: lambda fields: Pingreq(),
    PacketType.PINGRESP: lambda fields: Pingresp(),
    PacketType.DISCONNECT: _disconnect,
    PacketType.AUTH: _auth,
}
