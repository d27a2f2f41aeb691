"""A client that mostly speaks, for the rates at which paho is the bottleneck.

What is published is gathered and leaves in one write when it is `push`-ed, or
when there is enough of it; `flush` returns when the broker has it all. A lost
connection is not made again: what was published at QoS 0 before is lost, and
only who published it can know what to do. Plain TCP and TLS.
"""

from __future__ import annotations

import threading
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from playground.bus import OnMessage
from playground.errors import ConnectionFailed
from playground.message import Message
from playground.mqtt.receiver import Receiver
from playground.packets import (
    MQTT_5,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    encode,
    properties_from_json,
)

if TYPE_CHECKING:
    import socket

    from playground.mqtt.bus import MqttBus, ProtocolName

_ENOUGH = 1 << 14
"""Bytes that leave without being pushed."""
_MOST_UNSENT = 1 << 18
_MOST_QUEUED = 16
_MOST_IN_FLIGHT = 1000
_REFUSED = 0x80
_properties_from_json = lru_cache(maxsize=1024)(properties_from_json)


class Sender(Receiver):
    """Speaks to a broker; made by `MqttBus.send`.

    Attributes:
        refused: Publications that the broker refused (MQTT 5 says so at QoS 1
            and 2), by reason code.
    """

    def __init__(
        self,
        bus: MqttBus,
        client_id: str,
        on_message: OnMessage | None,
        *,
        protocol: ProtocolName,
    ) -> None:
        def hear(messages: list[Message]) -> None:
            if on_message is not None:
                for message in messages:
                    on_message(message)

        super().__init__(
            bus,
            client_id,
            hear,
            clean=True,
            on_lost=self._lose,
            on_back=None,
            on_behind=None,
            protocol=protocol,
        )
        self.refused: dict[int, int] = {}
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._unsent = 0
        self._in_flight: set[int] = set()
        self._publish_id = 0
        self._lost_because: str | None = None
        self._echoed = threading.Event()
        self._sending = threading.Lock()
        self._is_tls = bus.tls is not None
        self._may_have_properties = self._version == MQTT_5

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: str | None = None,
    ) -> None:
        """Gathers a message; waits while too much is under way.

        Raises:
            PlaygroundError: The topic is not one, or the message is too large.
            ConnectionFailed: The connection is lost.
        """
        if self._lost_because is not None:
            raise self._lost()
        packet_id = None
        if qos:
            packet_id = self._new_packet_id()
        packet = encode(
            Publish(
                topic,
                payload,
                qos,
                retain,
                False,  # noqa: FBT003 - the tuple's own order
                packet_id,
                _properties_from_json(properties)
                if properties and self._may_have_properties
                else None,
            ),
            self._version,
        )
        self._gathered.append(packet)
        self._gathered_bytes += len(packet)
        if self._gathered_bytes >= _ENOUGH:
            self.push()

    def push(self) -> None:
        """Sends what was gathered; waits while the broker does not take it.

        Raises:
            ConnectionFailed: The connection is lost.
        """
        if not self._gathered:
            return
        data = b"".join(self._gathered)
        self._gathered.clear()
        self._gathered_bytes = 0
        if not self._sent_at_once(data):
            self._queue.append(data)
            self._wake()
        if len(self._queue) >= _MOST_QUEUED or self._unsent >= _MOST_UNSENT:
            with self._changed:
                self._wait(
                    lambda: (
                        len(self._queue) < _MOST_QUEUED and self._unsent < _MOST_UNSENT
                    )
                )
        if self._lost_because is not None:
            raise self._lost()

    def _sent_at_once(self, data: bytes) -> bool:
        """Sends from this thread if nothing waits before it.

        Handing it to the sender's own thread costs up to a millisecond on a
        busy machine, which a replay would show as lateness.
        """
        # One side of a TLS connection must not be used by two threads.
        if self._is_tls or not self._sending.acquire(blocking=False):
            return False
        try:
            connection = self._socket
            if connection is None or self._queue or self._unsent:
                return False
            try:
                sent = connection.send(data)
            except OSError:
                # Its own thread will find out what is the matter.
                return False
            if sent < len(data):
                # Before whatever others have queued meanwhile.
                self._queue.appendleft(data[sent:])
                self._wake()
            return True
        finally:
            self._sending.release()

    def flush(self, timeout_s: float = 30.0) -> None:
        """Returns when the broker has read everything, and acknowledged it.

        Raises:
            ConnectionFailed: It takes longer, or the connection is lost.
        """
        deadline = time.monotonic() + timeout_s
        self.push()
        # It answers in order: after this answer it has read all before.
        self._echoed.clear()
        self._send(Pingreq())
        with self._changed:
            self._changed.wait_for(self._is_settled, deadline - time.monotonic())
            if self._lost_because is not None:
                raise self._lost()
            if self._is_settled():
                return
        raise self._not_taken(timeout_s)

    def _not_taken(self, timeout_s: float) -> ConnectionFailed:
        left = len(self._in_flight)
        return ConnectionFailed(
            f"{self._bus.url} did not take everything within {timeout_s:g} s"
            + (f"; {left} messages are not acknowledged." if left else "."),
            "is the broker overloaded, or the connection lost?",
        )

    def _is_settled(self) -> bool:
        if self._lost_because is not None:
            return True
        return self._echoed.is_set() and not self._in_flight

    def _new_packet_id(self) -> int:
        if len(self._in_flight) >= self._most_in_flight:
            self.push()
            with self._changed:
                self._wait(lambda: len(self._in_flight) < self._most_in_flight)
            if self._lost_because is not None:
                raise self._lost()
        while True:
            # The upper half; the lower one is for subscriptions.
            self._publish_id = self._publish_id % 0x7FFF + 1
            packet_id = self._publish_id + 0x8000
            if packet_id not in self._in_flight:
                self._in_flight.add(packet_id)
                return packet_id

    @property
    def _most_in_flight(self) -> int:
        return min(_MOST_IN_FLIGHT, self.receive_maximum)

    def _wait(self, is_so: Any) -> None:
        """Waits for something, or the end of the connection; holds the lock."""
        while not is_so() and self._lost_because is None:
            self._changed.wait(1.0)

    def _lost(self) -> ConnectionFailed:
        return ConnectionFailed(
            f"The connection to {self._bus.url} was lost: {self._lost_because}.",
            "look after the broker and the network",
        )

    # ------------------------------------------------- called on its own thread

    def _lose(self, reason: str) -> None:
        with self._changed:
            self._lost_because = reason
            self._changed.notify_all()

    def _reconnect(self) -> bool:
        return False

    def _write(self, connection: socket.socket, unsent: bytes) -> bytes:
        with self._sending:
            rest = super()._write(connection, unsent)
            was_stuck = self._unsent >= _MOST_UNSENT
            self._unsent = len(rest)
        if was_stuck or not rest:
            with self._changed:
                self._changed.notify_all()
        return rest

    def _take(self, packet: Packet) -> bool:
        match packet:
            case Puback() | Pubcomp():
                self._settle(packet.packet_id, packet.reason_code)
            case Pubrec():
                if packet.reason_code >= _REFUSED:
                    self._settle(packet.packet_id, packet.reason_code)
                else:
                    self._queue.append(
                        encode(Pubrel(packet_id=packet.packet_id), self._version)
                    )
            case Pingresp():
                with self._changed:
                    self._echoed.set()
                    self._changed.notify_all()
            case _:
                return super()._take(packet)
        return True

    def _settle(self, packet_id: int, reason_code: int) -> None:
        if reason_code >= _REFUSED:
            self.refused[reason_code] = self.refused.get(reason_code, 0) + 1
        with self._changed:
            self._in_flight.discard(packet_id)
            if not self._in_flight or len(self._in_flight) == self._most_in_flight - 1:
                self._changed.notify_all()
