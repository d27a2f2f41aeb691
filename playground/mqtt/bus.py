"""The bus over a real broker: where it is, what it speaks, who connects to it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeVar

from playground.bus import OnMessage, Will
from playground.clock import Clock, WallClock
from playground.errors import ConnectionFailed, PlaygroundError
from playground.mqtt import failures
from playground.mqtt.backlog import OnBehind
from playground.mqtt.dialogue import Dialogue
from playground.mqtt.receiver import OnMessages, Receiver
from playground.mqtt.sender import Sender
from playground.mqtt.url import BrokerUrl, Tls, find_password

if TYPE_CHECKING:
    from playground.mqtt.connection import MqttConnection

ProtocolName = Literal["5", "3.1.1"]
Dispatch = Callable[[Callable[[], object]], object]

_Client = TypeVar("_Client", "MqttConnection", Receiver, Sender, Dialogue)
_logger = logging.getLogger(__name__)


class MqttBus:
    """A `Bus` whose clients meet at a broker on the network.

    Args:
        url: Where the broker is.
        password: For the URL's user; by default what the environment variable
            ``PLAYGROUND_MQTT_PASSWORD`` says.
        tls: Certificates for ``mqtts`` and ``wss``.
        protocol: ``"5"`` or ``"3.1.1"``; by default 5 where the broker knows it.
        clock: Stamps the messages that arrive.
        dispatch: Takes the calls of ``on_message`` instead of their being made
            on the network thread; a run hands them to its own thread.
        retain_as_published: Ask the broker (MQTT 5) to leave the retain flag of
            live messages as the publisher set it; otherwise it says whether
            the message was kept from before the subscription.
        keep_alive_s: How soon a dead connection is noticed, about.
    """

    def __init__(
        self,
        url: BrokerUrl | str,
        *,
        password: str | None = None,
        tls: Tls | None = None,
        protocol: ProtocolName | None = None,
        clock: Clock | None = None,
        dispatch: Dispatch | None = None,
        retain_as_published: bool = False,
        keep_alive_s: int = 30,
    ) -> None:
        self.url = BrokerUrl.parse(url) if isinstance(url, str) else url
        if password is None and self.url.user is not None:
            password = find_password()
        if tls is not None and not self.url.is_tls:
            secure = "wss" if self.url.is_websocket else "mqtts"
            raise PlaygroundError(
                f"Certificates are given, but {self.url} is not encrypted.",
                f"write {secure}:// instead of {self.url.scheme}://",
            )
        self.password = password
        self.tls = (tls or Tls()).context() if self.url.is_tls else None
        self.protocol = protocol
        """What the broker speaks; None until the first connection."""
        self.clock = clock or WallClock()
        self.dispatch = dispatch
        self.retain_as_published = retain_as_published
        self.keep_alive_s = keep_alive_s

    def connect(
        self,
        client_id: str,
        on_message: OnMessage | None = None,
        *,
        will: Will | None = None,
        clean: bool = True,
        manual_ack: bool = False,
        on_lost: Callable[[str], object] | None = None,
        on_back: Callable[[], object] | None = None,
    ) -> MqttConnection:
        """Opens a connection and waits until the broker has accepted it.

        Lost later, it comes back by itself and subscribes again.

        Args:
            client_id: Who we are; a client of the same id is taken over.
            on_message: Called with every message, on the network thread or
                through ``dispatch``.
            will: What the broker says if we vanish.
            clean: Forget the session at the end; otherwise the broker keeps the
                subscriptions and what is published to them at QoS 1 and 2.
            manual_ack: Messages at QoS 1 are acknowledged only by
                `MqttConnection.acknowledge`.
            on_lost: Called with the reason when the connection is lost.
            on_back: Called when it is back and subscriptions are renewed.

        Raises:
            ConnectionFailed: The broker cannot be reached or refuses us.
        """
        # paho takes a tenth of the time in which a replay has said its first word.
        from playground.mqtt.connection import MqttConnection

        return self._negotiated(
            lambda protocol: MqttConnection(
                self,
                client_id,
                on_message,
                will=will,
                clean=clean,
                manual_ack=manual_ack,
                on_lost=on_lost,
                on_back=on_back,
                protocol=protocol,
            )
        )

    def receive(
        self,
        client_id: str,
        on_messages: OnMessages,
        *,
        clean: bool = True,
        on_lost: Callable[[str], object] | None = None,
        on_back: Callable[[], object] | None = None,
        on_behind: OnBehind | None = None,
    ) -> Receiver:
        """Opens a connection that only listens, faster than `connect` can.

        Args:
            client_id: As of `connect`.
            on_messages: Called on the receiver's thread with all messages that
                came together; at QoS 1 and 2 they are acknowledged when it
                returns, and never if it raises.
            clean: As of `connect`.
            on_lost: As of `connect`.
            on_back: As of `connect`; all subscriptions have been answered.
            on_behind: Called with two instants, nanoseconds: from the first to the
                second more came than could be read. What the broker could not
                hold back meanwhile is lost.

        Raises:
            ConnectionFailed: The broker cannot be reached or refuses us.
        """
        if self.url.is_websocket:
            raise ValueError("a Receiver does not speak WebSocket; use connect()")
        return self._negotiated(
            lambda protocol: Receiver(
                self,
                client_id,
                on_messages,
                clean=clean,
                on_lost=on_lost,
                on_back=on_back,
                on_behind=on_behind,
                protocol=protocol,
            )
        )

    def send(self, client_id: str, on_message: OnMessage | None = None) -> Sender:
        """Opens a connection that mostly speaks, faster than `connect` can.

        Once lost it stays so; see `Sender`.

        Args:
            client_id: As of `connect`.
            on_message: As of `connect`, on the sender's thread.

        Raises:
            ConnectionFailed: The broker cannot be reached or refuses us.
        """
        if self.url.is_websocket:
            raise ValueError("a Sender does not speak WebSocket; use connect()")
        return self._negotiated(
            lambda protocol: Sender(self, client_id, on_message, protocol=protocol)
        )

    def converse(self, client_id: str, on_message: OnMessage | None = None) -> Dialogue:
        """Opens a connection that speaks and listens in the caller's thread.

        Once lost it stays so; see `Dialogue`.

        Args:
            client_id: As of `connect`.
            on_message: As of `connect`; called within `Dialogue.receive`.

        Raises:
            ConnectionFailed: The broker cannot be reached or refuses us.
        """
        if self.url.is_websocket:
            raise ValueError("a Dialogue does not speak WebSocket; use connect()")
        return self._negotiated(
            lambda protocol: Dialogue(self, client_id, on_message, protocol=protocol)
        )

    def _negotiated(self, make: Callable[[ProtocolName], _Client]) -> _Client:
        wanted: tuple[ProtocolName, ...]
        wanted = (self.protocol,) if self.protocol else ("5", "3.1.1")
        for protocol in wanted:
            client = make(protocol)
            try:
                client.open()
            except failures.VersionRefused:
                if protocol != wanted[-1]:
                    _logger.info("%s does not speak MQTT %s", self.url, protocol)
                    continue
                raise ConnectionFailed(
                    f"{self.url} does not speak MQTT {protocol}.",
                    "leave the choice of the protocol to us",
                ) from None
            self.protocol = protocol
            return client
        raise AssertionError("the loop returns or raises")
