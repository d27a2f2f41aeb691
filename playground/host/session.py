"""The broker's side of one MQTT connection, byte by byte, on a `LocalBus`.

A hosted program keeps its real MQTT library. What that library writes to its
socket arrives here as bytes and becomes calls on the bus; what the bus says to
the client goes back as bytes. Handshakes, packet identifiers, keep-alive and
sessions are therefore as real as over a network, in MQTT 3.1, 3.1.1 and 5.

No socket and no wall clock in here: bytes in, bytes out, virtual time.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from playground.bus import LocalBus, LocalConnection, Will
from playground.clock import VirtualClock
from playground.errors import PlaygroundError
from playground.message import Message, matches
from playground.packets import (
    MQTT_3_1,
    MQTT_5,
    Auth,
    Connack,
    Connect,
    Disconnect,
    MalformedPacket,
    Packet,
    PacketReader,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    TopicAliases,
    Unsuback,
    Unsubscribe,
    encode,
    properties_from_json,
    properties_to_json,
)

GRANTED_ALIASES = 32
"""Topic aliases that a client may use towards us."""
_MOST_IN_FLIGHT = 65_535
_NO_EXPIRY = 0xFFFF_FFFF
_TAKEN_OVER = 0x8E
_KEEP_ALIVE_TIMEOUT = 0x8D
_BAD_METHOD = 0x8C
_REFUSED_FILTER = 0x8F
_NO_SHARED = 0x9E
_UNKNOWN_ID = 0x92
_NO_SUBSCRIPTION = 0x11
_DISCONNECT_WITH_WILL = 0x04
_PROTOCOL_ERROR = 0x82
_REFUSED_ID = 0x02
"""3.1.1: identifier rejected."""


Through = Callable[[LocalConnection], Callable[..., None]]
"""Returns what a connection publishes with."""


class _Kept:
    """What a session keeps while its client is away [MQTT-3.1.2-5]."""

    def __init__(self) -> None:
        self.received: set[int] = set()
        """QoS 2 packets that were published and not yet released."""
        self.in_flight: dict[int, Publish | None] = {}
        """Sent and not yet acknowledged; None when PUBREC has come."""
        self.waiting: deque[Message] = deque()
        """Beyond what the client wants in flight."""
        self.last_id = 0
        self.subscriptions: dict[str, tuple[Subscription, int | None]] = {}
        self.expiry_s = 0
        self.ended_ns: int | None = None
        """When the client went; None while it is there."""
        self.connections = 0

    def has_expired(self, now_ns: int) -> bool:
        """Says whether the client has been away for too long [MQTT-3.1.2-23]."""
        if self.ended_ns is None or self.expiry_s == _NO_EXPIRY:
            return False
        return now_ns >= self.ended_ns + self.expiry_s * 10**9


class Sessions:
    """All byte-level sessions of one bus."""

    _of: ClassVar[WeakKeyDictionary[LocalBus, Sessions]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self.kept: dict[str, _Kept] = {}
        self.assigned = 0

    @classmethod
    def on(cls, bus: LocalBus) -> Sessions:
        """Returns the sessions of a bus."""
        return cls._of.setdefault(bus, cls())


class Session:
    """One client's connection, seen from the broker.

    Args:
        bus: Where the client's messages go.
        clock: For keep-alive and what else expires.
        send: Takes bytes for the client.
        hang_up: Closes the connection from our side.
        found: Takes a kind and a text, for findings.
        connected: Takes the client id once it is known.
        through: Returns what a connection publishes with, in place of its own
            `publish`; faults of a run stand there.
    """

    def __init__(
        self,
        bus: LocalBus,
        clock: VirtualClock,
        *,
        send: Callable[[bytes], object],
        hang_up: Callable[[], object],
        found: Callable[[str, str], object],
        connected: Callable[[str], object] = lambda client_id: None,
        through: Through | None = None,
    ) -> None:
        self.bus = bus
        self.clock = clock
        self.sessions = Sessions.on(bus)
        self._send_bytes = send
        self._hang_up = hang_up
        self._found = found
        self._connected = connected
        self._through = through
        self._reader = PacketReader()
        self._aliases = TopicAliases(maximum=GRANTED_ALIASES)
        self._connection: LocalConnection | None = None
        self._kept = _Kept()
        self._version = MQTT_5
        self._held: list[Message] | None = None
        """Deliveries that have to wait until an answer has been sent."""
        self._most_in_flight = _MOST_IN_FLIGHT
        self._largest = 0
        self._plain = True
        """No subscription has options or an identifier."""
        self._alive_s = 0.0
        self._heard_at = 0.0
        self._will_delay_s = 0
        self._open = True

    # ---------------------------------------------------------- bytes in

    def feed(self, data: bytes) -> None:
        """Takes what the client has written."""
        self._heard_at = self.clock.now
        reader = self._reader
        try:
            reader.feed(data)
            for packet in reader:
                self._take(packet)
        except MalformedPacket as error:
            self._refuse(data, error)

    def forgotten(self) -> None:
        """The broker is gone; nobody is left who would publish a will."""
        self._close(will=False)

    def lost(self) -> None:
        """The client is gone without a goodbye: its will is published."""
        self._close(will=True)

    def _refuse(self, data: bytes, error: MalformedPacket) -> None:
        if self._connection is None and data[:1] != b"\x10":
            begin = bytes(data[:40])
            if begin[:1] == b"\x16":
                text = "The program began a TLS handshake where MQTT was expected."
            else:
                text = f"The program sent {begin!r}, and not CONNECT of MQTT."
                if b"upgrade: websocket" in bytes(data).lower():
                    text += " MQTT over WebSocket is not hosted; use plain TCP."
            self._found("protocol", text)
        else:
            self._found("protocol", str(error))
            if self._version == MQTT_5 and self._connection is not None:
                self._send(Disconnect(reason_code=error.reason_code))
        self._end(will=True)

    def _take(self, packet: Packet) -> None:
        kind = type(packet)
        if not self._open:
            return
        if self._connection is None:
            # The reader has seen to it that nothing else comes first.
            assert isinstance(packet, Connect)
            self._connect(packet)
        else:
            handler = self._handlers.get(kind)
            if handler is None:
                self._found("protocol", f"A client does not send {kind.__name__}.")
                self._end(will=True)
            else:
                handler(self, packet)

    def _send(self, packet: Packet) -> None:
        self._send_bytes(encode(packet, self._version))

    def _end(self, *, will: bool) -> None:
        """Closes the connection from our side."""
        if self._open:
            self._close(will=will)
            self._hang_up()

    def _close(self, *, will: bool) -> None:
        if not self._open:
            return
        self._open = False
        connection = self._connection
        if connection is None:
            return
        self._kept.ended_ns = self.clock.time_ns()
        if 0 < self._kept.expiry_s < _NO_EXPIRY:
            due = self.clock.at(self.clock.now + self._kept.expiry_s)
            due.callbacks.append(functools.partial(self._expire, connection.client_id))
        if will:
            self._delay_will(connection)
            connection.abort()
        else:
            connection.disconnect()

    def _expire(self, client_id: str, _: object) -> None:
        """Ends the session of a client that has been away for too long."""
        kept = self._kept
        if kept.has_expired(self.clock.time_ns()) and (
            self.sessions.kept.get(client_id) is kept
        ):
            del self.sessions.kept[client_id]
            self.bus.forget(client_id)

    # --------------------------------------------------------- CONNECT

    def _connect(self, packet: Connect) -> None:
        self._version = packet.version
        newest = packet.version == MQTT_5
        properties = packet.properties
        answer: dict[str, Any] = {}
        client_id = packet.client_id
        if "authentication_method" in properties:
            self._send(Connack(reason_code=_BAD_METHOD))
            self._end(will=False)
            return
        if not client_id:
            if not newest and not packet.clean_start:
                self._send(Connack(reason_code=_REFUSED_ID))  # [MQTT-3.1.3-8]
                self._end(will=False)
                return
            self.sessions.assigned += 1
            client_id = f"assigned-{self.sessions.assigned}"
            if newest:
                answer["assigned_client_identifier"] = client_id
        if newest:
            answer["topic_alias_maximum"] = GRANTED_ALIASES
            answer["shared_subscription_available"] = 0
        present = self._open_session(packet, client_id)
        self._most_in_flight = properties.get("receive_maximum", _MOST_IN_FLIGHT)
        self._largest = properties.get("maximum_packet_size", 0)
        # MQTT 3.1 has no such flag.
        present = present and self._version > MQTT_3_1
        self._send(Connack(session_present=present, properties=answer))
        self._repeat_in_flight()
        self._held = [*self._kept.waiting, *(self._held or ())]
        self._kept.waiting.clear()
        self._let_go()
        if packet.keep_alive:
            # [MQTT-3.1.2-24]: one and a half times the keep alive.
            self._alive_s = 1.5 * packet.keep_alive
            self._watch_again()

    def _open_session(self, packet: Connect, client_id: str) -> bool:
        """Connects to the bus; says whether an earlier session goes on."""
        store = self.sessions.kept
        if packet.version == MQTT_5:
            interval = packet.properties.get("session_expiry_interval", 0)
        else:
            interval = 0 if packet.clean_start else _NO_EXPIRY
        earlier = store.get(client_id)
        resume = (
            earlier is not None
            and not packet.clean_start
            and not earlier.has_expired(self.clock.time_ns())
        )
        self._held = []
        self._connected(client_id)
        connection = self.bus.connect(
            client_id, self._deliver, will=_will(packet), clean=not resume
        )
        connection.on_takeover = self._taken_over
        through = self._through
        self._say = connection.publish if through is None else through(connection)
        self._connection = connection
        if resume:
            assert earlier is not None
            self._kept = earlier
            self._find_options()
        else:
            self._kept = _Kept()
        self._kept.connections += 1
        self._kept.ended_ns = None
        self._set_expiry(interval)
        self._will_delay_s = (
            packet.will.properties.get("will_delay_interval", 0) if packet.will else 0
        )
        return resume

    def _set_expiry(self, interval: int) -> None:
        assert self._connection is not None
        # The bus knows one flag for "begin anew" and "forget at the end".
        self._connection.clean = interval == 0
        self._kept.expiry_s = interval
        if interval:
            self.sessions.kept[self._connection.client_id] = self._kept
        else:
            self.sessions.kept.pop(self._connection.client_id, None)

    def _delay_will(self, connection: LocalConnection) -> None:
        """Holds an MQTT 5 will back for its delay, or until the client returns.

        But not beyond the end of the session [MQTT-3.1.3-9].
        """
        will, kept = connection.will, self._kept
        delay_s = min(self._will_delay_s, kept.expiry_s)
        if will is None or not delay_s:
            return
        connection.will = None
        number = kept.connections

        def publish(_: object) -> None:
            if kept.connections == number:
                self.bus.send(
                    Message(
                        self.clock.time_ns(),
                        will.topic,
                        will.payload,
                        will.qos,
                        will.retain,
                        client=connection.client_id,
                        properties=will.properties,
                        kind="will",
                    )
                )

        due = self.clock.now + delay_s
        self.clock.at(due).callbacks.append(publish)

    def _taken_over(self) -> None:
        if self._open:
            self._open = False  # The bus ends the connection itself.
            if self._version == MQTT_5:
                self._send(Disconnect(reason_code=_TAKEN_OVER))
            self._hang_up()

    def _watch_again(self) -> None:
        """Looks again when the client would be overdue."""
        due = self.clock.at(max(self.clock.now, self._heard_at + self._alive_s))
        due.callbacks.append(self._watch)

    def _watch(self, _: object) -> None:
        if not self._open:
            return
        if self.clock.now < self._heard_at + self._alive_s:
            self._watch_again()
            return
        if self._version == MQTT_5:
            self._send(Disconnect(reason_code=_KEEP_ALIVE_TIMEOUT))
        self._end(will=True)

    # -------------------------------------------- from the client to the bus

    def _publish(self, packet: Publish) -> None:
        if packet.properties:
            try:
                packet = self._aliases.resolve(packet)
            except MalformedPacket as error:
                self._refuse(b"\x10", error)
                return
        properties = packet.properties
        number = packet.packet_id
        new = True
        if packet.qos == 2:
            assert number is not None
            new = number not in self._kept.received
            self._kept.received.add(number)
        if new:
            self._say(
                packet.topic,
                packet.payload,
                qos=packet.qos,
                retain=packet.retain,
                properties=properties_to_json(properties) if properties else None,
            )
        if packet.qos == 1:
            assert number is not None
            self._send(Puback(packet_id=number))
        elif packet.qos == 2:
            assert number is not None
            self._send(Pubrec(packet_id=number))

    def _pubrel(self, packet: Pubrel) -> None:
        known = packet.packet_id in self._kept.received
        self._kept.received.discard(packet.packet_id)
        code = 0 if known or self._version != MQTT_5 else _UNKNOWN_ID
        self._send(Pubcomp(packet_id=packet.packet_id, reason_code=code))

    def _subscribe(self, packet: Subscribe) -> None:
        connection, kept = self._connection, self._kept
        assert connection is not None
        identifier = packet.properties.get("subscription_identifier")
        self._held = []
        codes = []
        for each in packet.subscriptions:
            if each.topic_filter.startswith("$share/"):
                self._found(
                    "note",
                    f"Shared subscription {each.topic_filter!r} was refused: the "
                    "local bus has none.",
                )
                codes.append(_NO_SHARED if self._version == MQTT_5 else 0x80)
                continue
            known = each.topic_filter in kept.subscriptions
            kept.subscriptions[each.topic_filter] = (each, identifier)
            before = len(self._held)
            try:
                connection.subscribe(
                    each.topic_filter,
                    qos=each.qos,
                    retain_as_published=each.retain_as_published,
                )
            except PlaygroundError as error:
                del kept.subscriptions[each.topic_filter]
                self._found("protocol", str(error))
                codes.append(_REFUSED_FILTER if self._version == MQTT_5 else 0x80)
                continue
            if each.retain_handling == 2 or (each.retain_handling == 1 and known):
                del self._held[before:]
            codes.append(each.qos)
        self._find_options()
        self._send(Suback(packet_id=packet.packet_id, reason_codes=tuple(codes)))
        self._let_go()

    def _unsubscribe(self, packet: Unsubscribe) -> None:
        assert self._connection is not None
        codes = []
        for topic_filter in packet.topic_filters:
            known = self._kept.subscriptions.pop(topic_filter, None)
            self._connection.unsubscribe(topic_filter)
            codes.append(0 if known else _NO_SUBSCRIPTION)
        self._find_options()
        newest = self._version == MQTT_5
        self._send(
            Unsuback(
                packet_id=packet.packet_id, reason_codes=tuple(codes) if newest else ()
            )
        )

    def _pingreq(self, packet: Pingreq) -> None:
        self._send(Pingresp())

    def _disconnect(self, packet: Disconnect) -> None:
        interval = packet.properties.get("session_expiry_interval")
        if interval is not None:
            self._set_expiry(interval)
        self._end(will=packet.reason_code == _DISCONNECT_WITH_WILL)

    def _auth(self, packet: Auth) -> None:
        self._send(Disconnect(reason_code=_PROTOCOL_ERROR))
        self._end(will=True)

    # -------------------------------------------- from the bus to the client

    def _deliver(self, message: Message) -> None:
        if self._held is not None:
            self._held.append(message)
            return
        identifiers: list[int] = []
        if not self._plain:
            matching = [
                (each, identifier)
                for each, identifier in self._kept.subscriptions.values()
                if matches(each.topic_filter, message.topic)
            ]
            if (
                matching
                and message.client == self._connection.client_id  # type: ignore[union-attr]
                and all(each.no_local for each, _ in matching)
            ):
                return
            identifiers = [number for _, number in matching if number is not None]
        qos = message.qos
        if qos:
            kept = self._kept
            if len(kept.in_flight) >= self._most_in_flight:
                kept.waiting.append(message)
                return
            number = kept.last_id
            while True:
                number = number % 65_535 + 1
                if number not in kept.in_flight:
                    break
            kept.last_id = number
            packet = self._packet(message, identifiers, number)
            kept.in_flight[number] = packet
        else:
            packet = self._packet(message, identifiers, None)
        data = encode(packet, self._version)
        if self._largest and len(data) > self._largest:
            # [MQTT-3.1.2-25]: as if it had been sent.
            self._kept.in_flight.pop(packet.packet_id or 0, None)
            return
        self._send_bytes(data)

    def _packet(
        self, message: Message, identifiers: list[int], number: int | None
    ) -> Publish:
        properties: dict[str, Any] = {}
        if self._version == MQTT_5:
            if message.properties:
                properties = properties_from_json(message.properties)
                # A will's own; it means nothing on the way to a subscriber.
                properties.pop("will_delay_interval", None)
                properties.pop("subscription_identifier", None)
            if identifiers:
                properties["subscription_identifier"] = identifiers
        return Publish(
            message.topic,
            message.payload,
            message.qos,
            message.retain,
            packet_id=number,
            properties=properties,
        )

    def _let_go(self) -> None:
        """Delivers what had to wait for an answer."""
        held, self._held = self._held, None
        for message in held or ():
            self._deliver(message)

    def _repeat_in_flight(self) -> None:
        """Sends again what the client had not acknowledged [MQTT-4.4.0-1]."""
        for number, packet in self._kept.in_flight.items():
            if packet is None:
                self._send(Pubrel(packet_id=number))
            else:
                self._send(packet._replace(dup=True))

    def _puback(self, packet: Puback | Pubcomp) -> None:
        self._kept.in_flight.pop(packet.packet_id, None)
        if self._kept.waiting:
            self._deliver(self._kept.waiting.popleft())

    def _pubrec(self, packet: Pubrec) -> None:
        number = packet.packet_id
        if number in self._kept.in_flight and packet.reason_code < 0x80:
            self._kept.in_flight[number] = None
        else:
            self._kept.in_flight.pop(number, None)
            if packet.reason_code >= 0x80:
                return
        self._send(Pubrel(packet_id=number))

    def _find_options(self) -> None:
        self._plain = not any(
            each.no_local or identifier is not None
            for each, identifier in self._kept.subscriptions.values()
        )

    _handlers: ClassVar[dict[type, Callable[[Session, Any], None]]] = {
        Publish: _publish,
        Puback: _puback,
        Pubrec: _pubrec,
        Pubrel: _pubrel,
        Pubcomp: _puback,
        Subscribe: _subscribe,
        Unsubscribe: _unsubscribe,
        Pingreq: _pingreq,
        Disconnect: _disconnect,
        Auth: _auth,
    }


def _will(packet: Connect) -> Will | None:
    will = packet.will
    if will is None:
        return None
    properties = {
        name: value
        for name, value in will.properties.items()
        if name != "will_delay_interval"
    }
    return Will(
        topic=will.topic,
        payload=will.payload,
        qos=will.qos,
        retain=will.retain,
        properties=properties_to_json(properties) if properties else None,
    )
