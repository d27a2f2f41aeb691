"""One client's connection to a real broker, by paho.

paho calls back on its network thread. No callback of ours may raise there: the
thread would die and the process live on deaf. What a subscriber's function
raises is logged and kept in `MqttConnection.failure`.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from playground.bus import OnMessage, Will
from playground.errors import ConnectionFailed, PlaygroundError
from playground.message import Message, check_filter, check_topic
from playground.mqtt import failures
from playground.mqtt.outbox import Outbox
from playground.packets import (
    properties_from_json,
    properties_from_paho,
    properties_into_paho,
    properties_to_json,
)

if TYPE_CHECKING:
    from playground.mqtt.bus import MqttBus, ProtocolName

ANSWER_WITHIN_S = 10.0
_FOREVER = 0xFFFF_FFFF
_UNSUPPORTED_VERSION = 0x84
_MOST_IN_FLIGHT = 1000
_logger = logging.getLogger(__name__)


class MqttConnection:
    """A client of an `MqttBus`; made by `MqttBus.connect`.

    Attributes:
        protocol: ``"5"`` or ``"3.1.1"``.
        session_present: The broker remembered us from before.
        dropped: Messages at QoS 0 that were published or under way while the
            connection was lost. Those at QoS 1 and 2 are sent again.
        failure: The first exception that a callback of the user raised.
    """

    def __init__(
        self,
        bus: MqttBus,
        client_id: str,
        on_message: OnMessage | None,
        *,
        will: Will | None,
        clean: bool,
        manual_ack: bool,
        on_lost: Callable[[str], object] | None,
        on_back: Callable[[], object] | None,
        protocol: ProtocolName,
    ) -> None:
        self.client_id = client_id
        self.protocol = protocol
        self.session_present = False
        self.dropped = 0
        self.failure: Exception | None = None
        self._bus = bus
        self._on_message = on_message
        self._on_lost = on_lost
        self._on_back = on_back
        self._clean = clean
        self._manual_ack = manual_ack
        self._is_5 = protocol == "5"
        self._time_ns = bus.clock.time_ns
        self._dispatch = bus.dispatch
        # Reentrant: paho may answer inside the call that asks.
        self._changed = threading.Condition(threading.RLock())
        self._subscriptions: dict[str, tuple[int, bool]] = {}
        self._answers: dict[int, list[ReasonCode] | None] = {}
        self._unacknowledged: dict[int, tuple[Message, int, int]] = {}
        self._outbox = Outbox()
        self._network_thread: threading.Thread | None = None
        self._connected = False
        self._was_connected = False
        self._closing = False
        self._refusal: ReasonCode | None = None
        self._lost_because: str | None = None
        self._client = self._new_client(will)

    def _new_client(self, will: Will | None) -> paho.Client:
        url = self._bus.url
        options: dict[str, Any] = {}
        if not self._is_5:
            options["clean_session"] = self._clean
        client = _Paho(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            protocol=paho.MQTTv5 if self._is_5 else paho.MQTTv311,
            transport="websockets" if url.is_websocket else "tcp",
            manual_ack=self._manual_ack,
            **options,
        )
        if url.is_websocket:
            client.ws_set_options(path=url.path)
        if self._bus.tls is not None:
            client.tls_set_context(self._bus.tls)
        if url.user is not None:
            client.username_pw_set(url.user, self._bus.password)
        if will is not None:
            client.will_set(
                check_topic(will.topic),
                will.payload,
                will.qos,
                will.retain,
                self._properties(PacketTypes.WILLMESSAGE, will.properties),
            )
        client.connect_timeout = failures.CONNECT_WITHIN_S
        client.reconnect_delay_set(failures.FIRST_RETRY_S, failures.LAST_RETRY_S)  # type: ignore[arg-type]
        if not self._is_5:
            # An MQTT 5 broker may allow no more than paho's 20; it says so only
            # in CONNACK, when paho can no longer be told.
            client.max_inflight_messages_set(_MOST_IN_FLIGHT)
        client.on_socket_open = _without_delay
        client.on_connect = self._connected_or_refused
        client.on_disconnect = self._disconnected
        client.on_subscribe = self._answered
        client.on_unsubscribe = self._answered
        client.on_message = self._received
        return client

    # ---------------------------------------------------------------- to begin

    def open(self) -> None:
        """Connects; `MqttBus.connect` calls it.

        Raises:
            ConnectionFailed: The broker cannot be reached or refuses us.
        """
        url = self._bus.url
        extra: dict[str, Any] = {}
        if self._is_5:
            extra["clean_start"] = self._clean
            if not self._clean:
                extra["properties"] = _new_properties(PacketTypes.CONNECT)
                extra["properties"].SessionExpiryInterval = _FOREVER
        try:
            self._client.connect(
                url.host, url.port, keepalive=self._bus.keep_alive_s, **extra
            )
        except (OSError, paho.WebsocketConnectionError) as error:
            raise failures.unreachable(url, error) from error
        self._client.loop_start()
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._was_connected
                    or self._refusal is not None
                    or self._lost_because is not None
                ),
                failures.CONNECT_WITHIN_S,
            )
            if self._was_connected:
                return
            refusal, lost = self._refusal, self._lost_because
        self._end()
        if refusal is not None:
            if refusal.value == _UNSUPPORTED_VERSION:
                raise failures.VersionRefused
            raise failures.refused(
                url, str(refusal), has_password=bool(self._bus.password)
            )
        if lost is not None and self._is_5 and self._bus.protocol is None:
            # Old brokers hang up on what they do not understand.
            raise failures.VersionRefused
        raise failures.no_answer(url) if lost is None else failures.hung_up(url, lost)

    # ------------------------------------------------------------------ to use

    @property
    def is_connected(self) -> bool:
        """Says whether the broker can be heard at this moment."""
        return self._connected

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: str | None = None,
    ) -> None:
        """Hands a message to the network thread; see `flush`.

        While the connection is lost, messages at QoS 1 and 2 wait and messages
        at QoS 0 are counted in `dropped`. MQTT 3.1.1 has no properties; they
        are left out there.

        Raises:
            PlaygroundError: The topic is not one, or the connection was closed.
        """
        if self._closing:
            raise PlaygroundError(
                f"Client {self.client_id!r} wants to publish but has disconnected.",
                "connect it again first",
            )
        if "+" in topic or "#" in topic or not topic:
            check_topic(topic)
        extra = (
            self._properties(PacketTypes.PUBLISH, properties) if properties else None
        )
        if not self._is_on_network_thread():
            self._outbox.wait_for_room(qos, ANSWER_WITHIN_S)
        try:
            info = self._client.publish(topic, payload, qos, retain, extra)
        except ValueError as error:
            raise PlaygroundError(
                f"{self._bus.url} cannot be sent a message on {topic[:80]!r}: {error}.",
                "a payload has at most 268435455 bytes, a topic 65535",
            ) from error
        if not self._outbox.add(info, qos):
            self.dropped += 1

    def subscribe(
        self, topic_filter: str, *, qos: int = 0, retained: bool = True
    ) -> None:
        """Subscribes and waits for the broker's answer.

        Called from a callback it does not wait; a refusal is then logged.

        Args:
            topic_filter: Of what to hear.
            qos: The highest QoS to be used.
            retained: Whether to be sent what the broker has kept; only MQTT 5
                lets one say no.

        Raises:
            PlaygroundError: The filter is not one.
            ConnectionFailed: The broker refuses, or does not answer.
        """
        check_filter(topic_filter)
        ask = partial(self._send_subscribe, topic_filter, qos, retained=retained)
        codes = self._ask(ask, "subscribe")
        if codes and codes[0].is_failure:
            raise failures.subscription_refused(
                self._bus.url, topic_filter, str(codes[0])
            )
        self._subscriptions[topic_filter] = (qos, retained)

    def unsubscribe(self, topic_filter: str) -> None:
        """Takes a subscription back and waits for the broker's answer."""
        check_filter(topic_filter)
        self._subscriptions.pop(topic_filter, None)
        self._ask(partial(self._client.unsubscribe, topic_filter), "unsubscribe")

    def acknowledge(self, message: Message) -> None:
        """Tells the broker that a message is safe (``manual_ack``).

        Only the very object that was given to ``on_message`` is known; of one
        that came before a reconnection the broker sends a duplicate.
        """
        with self._changed:
            held = self._unacknowledged.pop(id(message), None)
        if held is not None:
            self._client.ack(held[1], held[2])

    def flush(self, timeout_s: float = 30.0) -> None:
        """Waits until all is written and, at QoS 1 and 2, acknowledged.

        Raises:
            ConnectionFailed: It takes longer.
        """
        left = self._outbox.wait_for_all(timeout_s)
        if left:
            raise ConnectionFailed(
                f"{left} messages were not taken by {self._bus.url} within "
                f"{timeout_s:g} s.",
                "is the broker overloaded, or the connection lost?",
            )

    def disconnect(self) -> None:
        """Says goodbye after everything is written; the will is not published."""
        if self._closing:
            return
        self._end()

    def abort(self) -> None:
        """Cuts the connection as a crash would: the broker publishes the will."""
        if self._closing:
            return
        self._closing = True
        open_socket = self._client.socket()
        if open_socket is not None:
            # A copy, because what paho holds may be a wrapper of TLS or WebSocket.
            with _plain_socket(open_socket) as plain:
                plain.shutdown(socket.SHUT_RDWR)
        with self._changed:
            self._changed.wait_for(lambda: not self._connected, ANSWER_WITHIN_S)
        self._client.disconnect()
        self._client.loop_stop()

    def _end(self) -> None:
        self._closing = True
        self._client.disconnect()
        self._client.loop_stop()
        self._connected = False

    # ---------------------------------------------------- questions and answers

    def _send_subscribe(
        self, topic_filter: str, qos: int, *, retained: bool
    ) -> tuple[MQTTErrorCode, int | None]:
        if not self._is_5:
            return self._client.subscribe(topic_filter, qos)
        options = SubscribeOptions(
            qos=qos,
            retainAsPublished=self._bus.retain_as_published,
            retainHandling=SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
            if retained
            else SubscribeOptions.RETAIN_DO_NOT_SEND,
        )
        return self._client.subscribe(topic_filter, options=options)

    def _ask(
        self, send: Callable[[], tuple[MQTTErrorCode, int | None]], verb: str
    ) -> list[ReasonCode]:
        with self._changed:
            code, mid = send()
            if code != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
                raise ConnectionFailed(
                    f"Client {self.client_id!r} wants to {verb} but is not connected "
                    f"to {self._bus.url}.",
                    "wait until the connection is back, or connect it again",
                )
            if self._is_on_network_thread():
                return []
            self._answers[mid] = None
            self._changed.wait_for(
                lambda: self._answers[mid] is not None or not self._connected,
                ANSWER_WITHIN_S,
            )
            answer = self._answers.pop(mid)
        if answer is None:
            raise failures.no_reply(self._bus.url, self.client_id, verb)
        return answer

    def _is_on_network_thread(self) -> bool:
        return threading.current_thread() is self._network_thread

    # ------------------------------------------------- called on paho's thread

    def _connected_or_refused(
        self,
        client: paho.Client,
        _: object,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._network_thread = threading.current_thread()
        if reason.is_failure:
            with self._changed:
                self._refusal = reason
                self._changed.notify_all()
            if not self._was_connected:
                client.disconnect()  # or paho would try the same again
            else:
                _logger.warning("%s refuses us: %s", self._bus.url, reason)
            return
        is_back = self._was_connected
        self.session_present = flags.session_present
        if is_back and not flags.session_present:
            for topic_filter, (qos, retained) in list(self._subscriptions.items()):
                self._send_subscribe(topic_filter, qos, retained=retained)
        with self._changed:
            self._connected = self._was_connected = True
            self._lost_because = None
            self._changed.notify_all()
        if is_back and self._on_back is not None:
            self._call(self._on_back)

    def _disconnected(
        self,
        _client: paho.Client,
        _: object,
        _flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        with self._changed:
            was_connected, self._connected = self._connected, False
            self._lost_because = str(reason)
            # paho throws away what it had not written at QoS 0.
            self.dropped += self._outbox.connection_lost()
            # Packet ids mean nothing on the next connection.
            self._unacknowledged.clear()
            self._changed.notify_all()
        if was_connected and not self._closing and self._on_lost is not None:
            self._call(partial(self._on_lost, str(reason)))

    def _answered(
        self,
        _client: paho.Client,
        _: object,
        mid: int,
        codes: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        with self._changed:
            if mid in self._answers:
                self._answers[mid] = codes
                self._changed.notify_all()
                return
        for code in codes:
            if code.is_failure:
                _logger.warning(
                    "%s refuses a subscription of %r: %s",
                    self._bus.url,
                    self.client_id,
                    code,
                )

    def _received(
        self, _client: paho.Client, _: object, arrived: paho.MQTTMessage
    ) -> None:
        now_ns = self._time_ns()
        try:
            properties = None
            if self._is_5 and arrived.properties is not None:
                properties = properties_to_json(
                    properties_from_paho(arrived.properties)
                )
            message = Message(
                now_ns,
                arrived.topic,
                bytes(arrived.payload),
                arrived.qos,
                bool(arrived.retain),
                bool(arrived.dup),
                None,
                properties,
            )
            if self._manual_ack and arrived.qos:
                with self._changed:
                    self._unacknowledged[id(message)] = (
                        message,
                        arrived.mid,
                        arrived.qos,
                    )
            if self._on_message is None:
                return
            if self._dispatch is None:
                self._on_message(message)
            else:
                self._dispatch(partial(self._on_message, message))
        except Exception as error:  # noqa: BLE001 - whatever it is, see above
            self._failed(error)

    def _call(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except Exception as error:  # noqa: BLE001 - whatever it is, see above
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self.failure = self.failure or error
        if isinstance(error, PlaygroundError):
            _logger.warning("client %r: %s", self.client_id, error)
        else:
            _logger.error(
                "client %r: a callback failed", self.client_id, exc_info=error
            )

    # -------------------------------------------------------------- properties

    def _properties(self, packet: int, recorded: str | None) -> Properties | None:
        if recorded is None or not self._is_5:
            return None
        properties = _new_properties(packet)
        properties_into_paho(properties_from_json(recorded), properties)
        return properties


class _Paho(paho.Client):
    def _ssl_wrap_socket(self, tcp_sock: Any) -> ssl.SSLSocket:
        # paho leaves the socket open when the handshake fails.
        context = self._ssl_context
        assert context is not None
        tcp_sock.settimeout(failures.CONNECT_WITHIN_S)
        try:
            return context.wrap_socket(tcp_sock, server_hostname=self._host)
        except BaseException:
            tcp_sock.close()
            raise


def _new_properties(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]


def _plain_socket(wrapped: Any) -> socket.socket:
    return socket.fromfd(wrapped.fileno(), socket.AF_INET, socket.SOCK_STREAM)


def _without_delay(_client: paho.Client, _: object, opened: Any) -> None:
    # paho leaves Nagle's algorithm on: 40 ms between question and answer.
    with _plain_socket(opened) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
