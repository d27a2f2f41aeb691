"""Where a recording is played to: one connection, or one per recorded client.

Keeps account of what it left retained there, so that a seek can bring the bus
to the state of any instant, and no stale message stays behind.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, TypeGuard, cast

from playground.bus import Bus, Connection, OnMessage
from playground.errors import ConnectionFailed, PlaygroundError
from playground.message import Message
from playground.mqtt import MqttBus
from playground.mqtt.sender import Sender


def is_bus(where: Bus | Connection) -> TypeGuard[Bus]:
    """Says whether one can connect there, or already has."""
    return hasattr(where, "connect")


class Target:
    """Publishes messages as they were recorded.

    Args:
        where: A bus, on which connections are opened (and closed at the end),
            or a connection, which is used and left open.
        client_id: Name on the bus.
        clients: One connection per client id in the recording, under that id.
        on_message: Hears what is sent to the replayer itself.

    Attributes:
        retained: What was left retained here, by topic.
    """

    ABSENT_S = 10.0
    """A broker that is away for longer is gone."""

    def __init__(
        self,
        where: Bus | Connection,
        *,
        client_id: str = "replay",
        clients: bool = False,
        on_message: OnMessage | None = None,
    ) -> None:
        self.retained: dict[str, Message] = {}
        self._bus: Bus | None = None
        self._named: dict[str, Connection] = {}
        self._senders: list[Sender] = []
        self._main: Connection
        if is_bus(where):
            self._bus = where
            self._main = self._connect(where, client_id, on_message)
        elif clients:
            raise PlaygroundError(
                "One connection cannot speak for several clients.",
                "hand a bus to the replayer",
            )
        else:
            self._main = cast(Connection, where)
        self._clients = clients
        self._last = self._main
        # paho loses silently what it cannot send at QoS 0.
        self._network: Any = self._main if hasattr(self._main, "dropped") else None
        self._lost_at: float | None = None

    def _connect(
        self, bus: Bus, client_id: str, on_message: OnMessage | None
    ) -> Connection:
        if isinstance(bus, MqttBus) and not bus.url.is_websocket:
            sender = bus.send(client_id, on_message)
            self._senders.append(sender)
            return sender
        return bus.connect(client_id, on_message)

    @property
    def connection(self) -> Connection:
        """The replayer's own connection."""
        return self._main

    def publish(self, message: Message) -> None:
        """Says a message again, by the client that said it where these count."""
        network = self._network
        if network is not None and (network.dropped or not network.is_connected):
            self._look_after(network)
        connection = self._main
        _, topic, payload, qos, retain, _, client, properties, _ = message
        if self._clients:
            if client is not None:
                connection = self._connection_of(client)
            if connection is not self._last:
                # What one gathered leaves before the next one speaks.
                self.push()
                self._last = connection
        connection.publish(
            topic, payload, qos=qos, retain=retain, properties=properties
        )
        if retain:
            if payload:
                self.retained[topic] = message
            else:
                self.retained.pop(topic, None)

    def _look_after(self, network: Any) -> None:
        """Decides whether a broker that cannot be heard is gone for good."""
        now = time.monotonic()
        if network.is_connected:
            self._lost_at = None
        elif self._lost_at is None:
            self._lost_at = now
        if network.dropped:
            raise ConnectionFailed(
                f"The broker went away; {network.dropped} messages at QoS 0 are lost.",
                "look after the broker; --qos 1 survives a short absence",
            )
        if self._lost_at is not None and now - self._lost_at > self.ABSENT_S:
            raise ConnectionFailed(
                f"The broker went away and did not come back within {self.ABSENT_S:g} s.",
                "look after the broker and the network",
            )

    def _connection_of(self, client: str) -> Connection:
        connection = self._named.get(client)
        if connection is None:
            assert self._bus is not None
            connection = self._connect(self._bus, client, None)
            self._named[client] = connection
        return connection

    def become(self, state: Mapping[str, Message]) -> int:
        """Brings what is retained to a state; returns how many messages it took.

        Topics that were set from here and are not in the state are cleared;
        what others left retained is theirs.
        """
        sent = 0
        for topic in [topic for topic in self.retained if topic not in state]:
            self.publish(self.retained[topic]._replace(payload=b"", properties=None))
            sent += 1
        for topic, message in state.items():
            here = self.retained.get(topic)
            if here is None or (here.payload, here.qos, here.properties) != (
                message.payload,
                message.qos,
                message.properties,
            ):
                self.publish(message)
                sent += 1
        return sent

    def push(self) -> None:
        """Lets go what was gathered to leave in one write."""
        for sender in self._senders:
            sender.push()

    def flush(self, timeout_s: float) -> None:
        """Returns when everything published has left, acknowledged where it is.

        Raises:
            ConnectionFailed: It did not within the time.
        """
        for connection in (*self._named.values(), self._main):
            flush = getattr(connection, "flush", None)
            if flush is not None:
                flush(timeout_s)

    def close(self) -> None:
        """Ends the connections that were opened here."""
        if self._bus is not None:
            for connection in (*self._named.values(), self._main):
                connection.disconnect()
