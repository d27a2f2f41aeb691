"""The fifteen control packets of MQTT 3.1, 3.1.1 and 5.0, as plain values.

One class for all three versions: a field that a version does not have keeps
its default there. No bytes, no rule and no session state lives here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar, NamedTuple, Self, TypeAlias

from playground.errors import PlaygroundError

MQTT_3_1 = 3
MQTT_3_1_1 = 4
MQTT_5 = 5
VERSIONS = {MQTT_3_1: "3.1", MQTT_3_1_1: "3.1.1", MQTT_5: "5.0"}
"""Protocol levels as they stand in CONNECT, and what people call them."""


def check_version(version: int) -> int:
    """Returns the protocol level if it is 3, 4 or 5.

    Raises:
        PlaygroundError: It is another one.
    """
    if version not in VERSIONS:
        raise PlaygroundError(
            f"{version!r} is not a protocol level of MQTT.",
            "give 3 (MQTT 3.1), 4 (MQTT 3.1.1) or 5 (MQTT 5.0)",
        )
    return version


class PacketType(IntEnum):
    """The upper four bits of a packet's first byte."""

    WILL = 0
    """No packet: the will's properties inside CONNECT (0 itself is forbidden)."""
    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


class _PublishFields(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int | None
    properties: dict[str, Any]


class Publish(_PublishFields):
    """A message on its way. A tuple because it is the one hot packet.

    Args:
        topic: Empty only in MQTT 5 together with ``topic_alias``.
        payload: Exact bytes.
        qos: 0, 1 or 2.
        retain: The retain flag as it stands in the packet.
        dup: A delivery is being repeated; only with QoS 1 and 2.
        packet_id: 1 … 65535 with QoS 1 and 2, None with QoS 0.
        properties: MQTT 5 properties by snake_case name.
    """

    __slots__ = ()
    TYPE: ClassVar = PacketType.PUBLISH

    def __new__(  # noqa: D102
        cls,
        topic: str,
        payload: bytes = b"",
        qos: int = 0,
        retain: bool = False,  # noqa: FBT001, FBT002 - the tuple's own order: pickle
        dup: bool = False,  # noqa: FBT001, FBT002
        packet_id: int | None = None,
        properties: dict[str, Any] | None = None,
    ) -> Self:
        return super().__new__(
            cls,
            topic,
            payload,
            qos,
            retain,
            dup,
            packet_id,
            {} if properties is None else properties,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What the server publishes for a client that ends without DISCONNECT."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """The first packet of a client.

    Attributes:
        client_id: May be empty; the server then assigns one.
        version: Protocol level: 3, 4 or 5.
        clean_start: ``Clean Session`` before MQTT 5.
        keep_alive: Seconds; 0 turns it off.
        bridge: The top bit of the protocol level, by which mosquitto and
            others mark a broker that connects as a client; in no standard.
    """

    TYPE: ClassVar = PacketType.CONNECT
    client_id: str = ""
    version: int = MQTT_5
    clean_start: bool = True
    keep_alive: int = 60
    will: Will | None = None
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    bridge: bool = False
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connack:
    """The server's answer to CONNECT; ``reason_code`` is 3.1.1's return code."""

    TYPE: ClassVar = PacketType.CONNACK
    reason_code: int = 0
    session_present: bool = False
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Acknowledgement:
    packet_id: int
    reason_code: int = 0
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Puback(_Acknowledgement):
    """Ends a QoS 1 delivery."""

    TYPE: ClassVar = PacketType.PUBACK


@dataclass(frozen=True, slots=True, kw_only=True)
class Pubrec(_Acknowledgement):
    """QoS 2, second step: received."""

    TYPE: ClassVar = PacketType.PUBREC


@dataclass(frozen=True, slots=True, kw_only=True)
class Pubrel(_Acknowledgement):
    """QoS 2, third step: released."""

    TYPE: ClassVar = PacketType.PUBREL


@dataclass(frozen=True, slots=True, kw_only=True)
class Pubcomp(_Acknowledgement):
    """QoS 2, last step: complete."""

    TYPE: ClassVar = PacketType.PUBCOMP


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One topic filter of SUBSCRIBE; all but ``qos`` is MQTT 5.

    Attributes:
        retain_handling: 0 send retained messages, 1 only to a new
            subscription, 2 do not.
    """

    topic_filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    """Asks for one or more topic filters."""

    TYPE: ClassVar = PacketType.SUBSCRIBE
    packet_id: int
    subscriptions: tuple[Subscription, ...]
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suback:
    """One reason code per subscription: the granted QoS, or 0x80 and above."""

    TYPE: ClassVar = PacketType.SUBACK
    packet_id: int
    reason_codes: tuple[int, ...]
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscribe:
    """Takes one or more topic filters back."""

    TYPE: ClassVar = PacketType.UNSUBSCRIBE
    packet_id: int
    topic_filters: tuple[str, ...]
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsuback:
    """One reason code per topic filter; before MQTT 5 there are none."""

    TYPE: ClassVar = PacketType.UNSUBACK
    packet_id: int
    reason_codes: tuple[int, ...] = ()
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pingreq:
    """The client is still there."""

    TYPE: ClassVar = PacketType.PINGREQ


@dataclass(frozen=True, slots=True, kw_only=True)
class Pingresp:
    """So is the server."""

    TYPE: ClassVar = PacketType.PINGRESP


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect:
    """The last packet of a client, in MQTT 5 also of a server."""

    TYPE: ClassVar = PacketType.DISCONNECT
    reason_code: int = 0
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """A step of MQTT 5's extended authentication."""

    TYPE: ClassVar = PacketType.AUTH
    reason_code: int = 0
    properties: dict[str, Any] = field(default_factory=dict)


Packet: TypeAlias = (
    Connect
    | Connack
    | Publish
    | Puback
    | Pubrec
    | Pubrel
    | Pubcomp
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
    | Auth
)

_RECEIVED = frozenset({0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99})
_RELEASED = frozenset({0x00, 0x92})

REASON_CODES: dict[PacketType, frozenset[int]] = {
    PacketType.CONNACK: frozenset(
        {0x00, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, *range(0x99, 0x9E), 0x9F}
    ),
    PacketType.PUBACK: _RECEIVED,
    PacketType.PUBREC: _RECEIVED,
    PacketType.PUBREL: _RELEASED,
    PacketType.PUBCOMP: _RELEASED,
    PacketType.SUBACK: frozenset(
        {0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2}
    ),
    PacketType.UNSUBACK: frozenset({0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91}),
    PacketType.DISCONNECT: frozenset(
        {0x00, 0x04, *range(0x80, 0x84), 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90}
        | {*range(0x93, 0xA3)}
    ),
    PacketType.AUTH: frozenset({0x00, 0x18, 0x19}),
}
"""MQTT 5.0, table 2-6: which reason codes each packet may carry."""
