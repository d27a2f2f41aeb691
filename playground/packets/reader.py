"""Bytes in, packets out: one direction of one MQTT connection.

Nothing here opens a socket, reads a clock or knows a session. The data that
was fed is never copied as a whole again and again: a packet that lies in one
piece is decoded in place, one that came in many is joined once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from playground.packets.decoder import (
    check_first_byte,
    decode_body,
    decode_connect,
    topic_name,
)
from playground.packets.malformed import (
    PACKET_TOO_LARGE,
    PROTOCOL_ERROR,
    MalformedPacket,
    Violation,
)
from playground.packets.packet import (
    MQTT_5,
    Connect,
    Packet,
    PacketType,
    Publish,
    check_version,
)
from playground.packets.properties import read_properties
from playground.packets.wire import MOST_VARIABLE, Fields

LARGEST_PACKET = MOST_VARIABLE + 5
"""Bytes of the largest packet that MQTT can express, fixed header included."""

_MOST_TOPICS = 4096
_LONGEST_KEPT_TOPIC = 512
_new_publish = tuple.__new__


class PacketReader:
    """Decodes a stream of MQTT packets, whatever pieces it comes in.

    ::

        reader = PacketReader()
        reader.feed(data)
        for packet in reader:
            ...

    The loop ends when no whole packet is left; feed more and loop again. After
    a `MalformedPacket` there is no telling where the next packet begins, so
    the reader gives the same error for good.

    Args:
        version: Protocol level 3, 4 or 5. A reader of what a client sends
            learns it from CONNECT; a reader of what a server sends must be
            told, here or by setting ``version``, before it is fed.
        maximum_packet_size: Bytes, fixed header included; a larger packet is
            refused when its length is known, before it has been received.
    """

    def __init__(
        self, version: int | None = None, *, maximum_packet_size: int = LARGEST_PACKET
    ) -> None:
        self._version = None if version is None else check_version(version)
        self.maximum_packet_size = maximum_packet_size
        self._data = b""  # being decoded ...
        self._at = 0  # ... from here
        self._later = bytearray()  # fed, not yet joined to it
        self._consumed = 0  # bytes before data[0], in the whole stream
        self._connected = False
        self._error: MalformedPacket | None = None
        self._topics: dict[bytes, str] = {}

    @property
    def version(self) -> int | None:
        """Protocol level of the connection; None before it is known."""
        return self._version

    @version.setter
    def version(self, version: int) -> None:
        self._version = check_version(version)

    @property
    def pending(self) -> int:
        """Bytes fed and not yet given out; above 0 at the end: cut off."""
        return len(self._data) - self._at + len(self._later)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Takes the next bytes of the stream.

        Raises:
            MalformedPacket: The stream is broken already.
        """
        if self._error is not None:
            raise self._error
        if self._at == len(self._data) and not self._later:
            self._consumed += self._at
            self._data = bytes(data)  # no copy if it is bytes
            self._at = 0
        else:
            self._later += data

    def __iter__(self) -> Iterator[Packet]:
        """Gives the packets that are complete, in order.

        Raises:
            MalformedPacket: The next bytes are no packet of this version.
        """
        while (packet := self.next_packet()) is not None:
            yield packet

    def next_packet(self) -> Packet | None:
        """Returns the next packet, or None until more is fed.

        Raises:
            MalformedPacket: The next bytes are no packet of this version.
        """
        if self._error is not None:
            raise self._error
        data = self._data
        start = self._at
        body = start + 2
        try:
            # The common case: a PUBLISH of less than 16 KiB, here in one piece.
            if body < len(data) and self._version is not None:
                length = data[start + 1]
                if length > 0x7F:
                    high = data[body]
                    body += 1
                    # A last byte of 0 is not the shortest form: `_next` judges it.
                    length = (length & 0x7F) + (high << 7) if 0 < high < 0x80 else -1
                end = body + length
                if (
                    data[start] & 0xF0 == 0x30
                    and length >= 0
                    and body <= end <= len(data)
                    and end - start <= self.maximum_packet_size
                ):
                    packet = self._publish(data, data[start], body, end)
                    self._at = end
                    return packet
            return self._next()
        except Violation as violation:
            self._error = self._malformed(violation)
            self._data, self._later, self._topics = b"", bytearray(), {}
            self._at = 0
            raise self._error from None

    def _next(self) -> Packet | None:
        while True:
            data, start = self._data, self._at
            end = None
            if start < len(data):
                self._check_first_byte(data[start], start)
                header = self._header(data, start)
                if header is not None:
                    body, end = header
                    if end <= len(data):
                        packet = self._decode(data, start, body, end)
                        self._at = end
                        return packet
            if not self._later:
                if start == len(data):
                    # A large packet that was given out is not kept here.
                    self._consumed += start
                    self._data, self._at = b"", 0
                return None
            if end is not None and end > len(data) + len(self._later):
                return None
            # Joined only when the packet is whole (or its header is not yet
            # known, which is 4 bytes at most): this keeps the cost linear.
            self._consumed += start
            self._data = data[start:] + self._later
            self._later = bytearray()
            self._at = 0

    def _check_first_byte(self, first: int, at: int) -> None:
        kind = first >> 4
        if kind == PacketType.CONNECT:
            if self._connected:
                raise Violation(
                    "a second CONNECT on one connection",
                    "MQTT-3.1.0-2",
                    at,
                    reason_code=PROTOCOL_ERROR,
                )
            return
        if self._version is None and kind:
            raise Violation(
                "CONNECT must be the first packet",
                "MQTT-3.1.0-1",
                at,
                fix="to read what a server sends, tell the reader the version first",
                reason_code=PROTOCOL_ERROR,
            )
        if kind != PacketType.PUBLISH:
            check_first_byte(first, self._version, at)

    def _header(self, data: bytes, start: int) -> tuple[int, int] | None:
        """Returns where the body begins and ends, None if not yet known."""
        length, shift, at = 0, 0, start + 1
        while True:
            if at >= len(data):
                return None
            byte = data[at]
            at += 1
            length |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 21:
                raise Violation(
                    "Remaining Length is longer than 4 bytes",
                    "section 2.1.4" if self._version == MQTT_5 else "section 2.2.3",
                    start + 1,
                )
        # Only MQTT 5 demands the shortest form.
        if self._version == MQTT_5 and byte == 0 and shift:
            raise Violation(
                f"Remaining Length {length} is not written in the fewest bytes",
                "MQTT-1.5.5-1",
                start + 1,
            )
        end = at + length
        if end - start > self.maximum_packet_size:
            raise Violation(
                f"the packet has {end - start} bytes, "
                f"{self.maximum_packet_size} are accepted",
                "MQTT-3.1.2-24" if self._version == MQTT_5 else "section 2.2.3",
                start,
                fix="send smaller packets or accept larger ones",
                reason_code=PACKET_TOO_LARGE,
            )
        return at, end

    def _decode(self, data: bytes, start: int, body: int, end: int) -> Packet:
        first = data[start]
        kind = first >> 4
        if kind == PacketType.PUBLISH:
            return self._publish(data, first, body, end)
        if kind == PacketType.CONNECT:
            return self._connect(data, start, body, end)
        return decode_body(kind, Fields(data, body, end, self._version or 0))

    def _connect(self, data: bytes, start: int, body: int, end: int) -> Connect:
        fields = Fields(data, body, end, self._version or 0)
        packet = decode_connect(fields, data[start] & 0x0F)
        if packet.version == MQTT_5 and body - start > 2 and not data[body - 1]:
            raise Violation(
                f"Remaining Length {end - body} is not written in the fewest bytes",
                "MQTT-1.5.5-1",
                start + 1,
            )
        self._version = packet.version
        self._connected = True
        return packet

    def _publish(self, data: bytes, first: int, at: int, end: int) -> Publish:
        version = self._version
        topic_at = at + 2
        if topic_at > end:
            raise Violation("Topic Name is missing", "MQTT-3.3.2-1", at)
        after = topic_at + (data[at] << 8 | data[at + 1])
        if after > end:
            raise Violation(
                f"Topic Name is {after - topic_at} bytes long, but only "
                f"{end - topic_at} are left",
                "section 2.1.4" if version == MQTT_5 else "section 2.2.3",
                at,
            )
        name = data[topic_at:after]
        topic = self._topics.get(name)
        if topic is None:
            topic = self._new_topic(name, topic_at)
        packet_id = None
        qos = first >> 1 & 3
        if qos:
            if qos == 3:
                raise Violation(
                    "QoS is 3", "MQTT-3.3.1-4", self._at, fix="send QoS 0, 1 or 2"
                )
            fields = Fields(data, after, end, version or 0)
            packet_id = fields.packet_id()
            after += 2
        elif first & 0x08:
            raise Violation("DUP is 1 with QoS 0", "MQTT-3.3.1-2", self._at)
        if version != MQTT_5:
            properties: dict[str, Any] = {}
        elif after < end and not data[after]:
            properties = {}
            after += 1
        else:
            fields = Fields(data, after, end, MQTT_5)
            properties = read_properties(fields, PacketType.PUBLISH)
            after = fields.at
        if not topic and "topic_alias" not in properties:
            raise Violation(
                "Topic Name is empty and there is no topic alias",
                "section 3.3.2.1",
                topic_at,
                reason_code=PROTOCOL_ERROR,
            )
        return _new_publish(
            Publish,
            (
                topic,
                data[after:end],
                qos,
                first & 0x01 == 1,
                first & 0x08 == 8,
                packet_id,
                properties,
            ),
        )

    def _new_topic(self, name: bytes, at: int) -> str:
        version = self._version or 0
        if not name and version == MQTT_5:
            return ""
        topic = topic_name(name, "Topic Name", at, version)
        # A plant says the same few topics all day: decoded and checked once.
        if len(name) <= _LONGEST_KEPT_TOPIC:
            if len(self._topics) >= _MOST_TOPICS:
                self._topics.clear()
            self._topics[name] = topic
        return topic

    def _malformed(self, violation: Violation) -> MalformedPacket:
        kind = self._data[self._at] >> 4
        name = PacketType(kind).name if kind else "Packet"
        position = self._consumed + violation.at
        return MalformedPacket(
            f"{name} at byte {self._consumed + self._at}: {violation.problem} "
            f"(byte {position}) [{violation.clause}].",
            violation.fix,
            position,
            violation.clause,
            violation.reason_code,
        )
