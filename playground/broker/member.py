"""A client id as the embedded broker knows it: its session, and what is on the way."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from playground.message import Message
from playground.packets import MQTT_3_1_1, Publish, Pubrel, encode

if TYPE_CHECKING:
    from playground.broker.mended import Peer

MOST_IN_FLIGHT = 10_000


class Member:
    """What the broker knows of a client id, connected or not.

    Attributes:
        in_flight: Packet id to message at QoS 1 and 2, until acknowledged;
            the flag says that PUBREC has come.
        waiting: Messages for a client that is away, or has too many in flight.
        received: Packet ids of QoS 2 that were taken and not yet released.
    """

    def __init__(self, client_id: str, *, clean: bool) -> None:
        self.client_id = client_id
        self.clean = clean
        self.user: str | None = None
        self.peer: Peer | None = None
        self.subscriptions: dict[str, int] = {}
        self.in_flight: OrderedDict[int, tuple[Message, bool]] = OrderedDict()
        self.waiting: deque[Message] = deque()
        self.received: set[int] = set()
        self._packet_id = 0

    def next_packet_id(self) -> int:
        """Returns a packet id that is not in flight."""
        while True:
            self._packet_id = self._packet_id % 65_535 + 1
            if self._packet_id not in self.in_flight:
                return self._packet_id

    def hand_over(self, message: Message, qos: int) -> None:
        """Delivers a message, now or when the client is back."""
        peer = self.peer
        if qos == 0:
            if peer is not None:
                peer.send_lossy(
                    encode(
                        Publish(message.topic, message.payload, 0, message.retain),
                        MQTT_3_1_1,
                    )
                )
            return
        if message.qos != qos:
            message = message._replace(qos=qos)
        if peer is None:
            if not self.clean:
                self.waiting.append(message)
        elif self.waiting or len(self.in_flight) >= MOST_IN_FLIGHT:
            self.waiting.append(message)
        else:
            self._start(peer, message)

    def _start(self, peer: Peer, message: Message) -> None:
        packet_id = self.next_packet_id()
        self.in_flight[packet_id] = (message, False)
        peer.send(self._encoded(message, packet_id))

    def acknowledged(self, packet_id: int) -> None:
        """Takes note that a delivery is complete, and starts those that waited."""
        self.in_flight.pop(packet_id, None)
        if self.peer is not None:
            self.send_waiting(self.peer)

    def send_waiting(self, peer: Peer) -> None:
        """Delivers what waits, in order, as far as there is room."""
        while self.waiting and len(self.in_flight) < MOST_IN_FLIGHT:
            self._start(peer, self.waiting.popleft())

    def resume(self, peer: Peer) -> None:
        """Repeats what was not acknowledged [MQTT-4.4.0-1], then what waited."""
        for packet_id, (message, released) in self.in_flight.items():
            if released:
                peer.send(encode(Pubrel(packet_id=packet_id), MQTT_3_1_1))
            else:
                peer.send(self._encoded(message, packet_id, dup=True))
        self.send_waiting(peer)

    @staticmethod
    def _encoded(message: Message, packet_id: int, *, dup: bool = False) -> bytes:
        return encode(
            Publish(
                message.topic,
                message.payload,
                message.qos,
                message.retain,
                dup,
                packet_id,
            ),
            MQTT_3_1_1,
        )
