"""A client that only listens, for the rates at which paho is the bottleneck.

Same handshakes, re-subscription and errors as `MqttConnection`; messages come
in batches, all that one read from the socket brought. At QoS 1 and 2 they are
acknowledged after the batch was taken: what must not get lost is written down
first. Plain TCP and TLS; for WebSockets use `MqttConnection`.

Everything on the socket happens on the receiver's own thread. Other threads
leave packets in a queue and wake it.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from playground.errors import ConnectionFailed, PlaygroundError
from playground.message import PUBLISH, Message, check_filter
from playground.mqtt import failures
from playground.mqtt.backlog import LOOK_EVERY_S, Backlog, OnBehind, waiting_bytes
from playground.mqtt.subscriptions import Subscriptions
from playground.packets import (
    MQTT_3_1_1,
    MQTT_5,
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketReader,
    Pingreq,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Unsuback,
    Unsubscribe,
    encode,
    properties_to_json,
)

if TYPE_CHECKING:
    from playground.mqtt.bus import MqttBus, ProtocolName

OnMessages = Callable[[list[Message]], object]

ANSWER_WITHIN_S = 10.0
_CHUNK = 2**16
_FOREVER = 0xFFFF_FFFF
_VERSIONS = {"5": MQTT_5, "3.1.1": MQTT_3_1_1}
_logger = logging.getLogger(__name__)
_new_message = tuple.__new__


class Receiver:
    """Listens at a broker; made by `MqttBus.receive`.

    Attributes:
        protocol: ``"5"`` or ``"3.1.1"``.
        session_present: The broker remembered us from before.
        receive_maximum: Publications at QoS 1 and 2 that the broker takes
            before it has acknowledged one.
        failure: What ``on_messages`` raised. Nothing is acknowledged or taken
            from then on.
    """

    def __init__(
        self,
        bus: MqttBus,
        client_id: str,
        on_messages: OnMessages,
        *,
        clean: bool,
        on_lost: Callable[[str], object] | None,
        on_back: Callable[[], object] | None,
        on_behind: OnBehind | None,
        protocol: ProtocolName,
    ) -> None:
        self.client_id = client_id
        self.protocol = protocol
        self.session_present = False
        self.receive_maximum = 0xFFFF
        self.failure: Exception | None = None
        self._bus = bus
        self._version = _VERSIONS[protocol]
        self._keep_alive_s = bus.keep_alive_s
        self._on_messages = on_messages
        self._on_lost = on_lost
        self._on_back = on_back
        self._clean = clean
        self._time_ns = bus.clock.time_ns
        self._socket: socket.socket | None = None
        self._wake_reading, self._wake_writing = socket.socketpair()
        for end in (self._wake_reading, self._wake_writing):
            end.settimeout(0)
        self._queue: deque[bytes] = deque()
        self._reader = PacketReader(self._version)
        self._changed = threading.Condition()
        self._subscriptions = Subscriptions(
            self._version, retain_as_published=bus.retain_as_published
        )
        self._on_behind = on_behind
        self._backlog = Backlog(
            self._was_behind, speed=getattr(bus.clock, "speed", 1.0)
        )
        self._answers: dict[int, Suback | Unsuback | None] = {}
        self._renewing: set[int] = set()
        self._packet_id = 0
        self._received: set[int] = set()
        self._connected = False
        self._closing = threading.Event()
        self._leaving = False
        self._server_said = ""
        self._thread = threading.Thread(
            target=self._run, name=f"mqtt-{client_id}", daemon=True
        )

    # ---------------------------------------------------------------- to use

    def open(self) -> None:
        """Connects; `MqttBus.receive` calls it.

        Raises:
            ConnectionFailed: The broker cannot be reached or refuses us.
            VersionRefused: It may accept us with an older protocol.
        """
        try:
            self._connect(clean=self._clean)
        except BaseException:
            self._close_socket()
            self._wake_reading.close()
            self._wake_writing.close()
            raise
        self._connected = True
        self._thread.start()

    @property
    def is_connected(self) -> bool:
        """Says whether the broker can be heard at this moment."""
        return self._connected

    @property
    def backlog(self) -> Backlog:
        """Whether it keeps up with what comes."""
        return self._backlog

    def subscribe(
        self,
        topic_filter: str,
        *,
        qos: int = 0,
        retained: bool = True,
        identify: bool = False,
    ) -> None:
        """Subscribes and waits for the answer; see `MqttConnection.subscribe`.

        Args:
            topic_filter: As there.
            qos: As there.
            retained: As there.
            identify: A message that several subscriptions made so cover comes
                once, also from brokers that send a copy for each, as MQTT 5
                allows.

        Raises:
            PlaygroundError: The filter is not one.
            ConnectionFailed: The broker refuses, or does not answer.
        """
        check_filter(topic_filter)
        with self._changed:
            packet_id = self._next_packet_id()
            self._answers[packet_id] = None
            if identify:
                self._subscriptions.identify(topic_filter)
            request = self._subscriptions.request(
                packet_id, topic_filter, qos=qos, retained=retained
            )
        self._send(request)
        answer = self._wait_for_answer(packet_id, "subscribe")
        code = answer.reason_codes[0]
        if code >= 0x80:
            raise failures.subscription_refused(
                self._bus.url, topic_filter, failures.REASONS.get(code, f"0x{code:02X}")
            )
        with self._changed:
            self._subscriptions.grant(topic_filter, qos=qos, retained=retained)

    def unsubscribe(self, topic_filter: str) -> None:
        """Takes a subscription back and waits for the answer."""
        check_filter(topic_filter)
        with self._changed:
            packet_id = self._next_packet_id()
            self._answers[packet_id] = None
            self._subscriptions.forget(topic_filter)
        self._send(Unsubscribe(packet_id=packet_id, topic_filters=(topic_filter,)))
        self._wait_for_answer(packet_id, "unsubscribe")

    def disconnect(self, *, forget: bool = False) -> None:
        """Says goodbye; may be called again.

        Args:
            forget: End the session too, if it is one that the broker keeps.
        """
        if self._closing.is_set():
            return
        if forget and not self._clean and self._version == MQTT_5:
            goodbye = Disconnect(properties={"session_expiry_interval": 0})
        else:
            goodbye = Disconnect()
        # In this order: the broker's answer, which is to hang up, is no loss; and
        # the thread ends when told so and nothing is unsent.
        self._leaving = True
        self._queue.append(encode(goodbye, self._version))
        self._closing.set()
        self._wake()
        self._thread.join(ANSWER_WITHIN_S)
        self._close_socket()
        if forget and not self._clean and self._version != MQTT_5:
            with contextlib.suppress(ConnectionFailed, OSError):
                # MQTT 3.1.1 ends a session by beginning a clean one.
                self._connect(clean=True)
            self._close_socket()
        self._wake_reading.close()
        self._wake_writing.close()

    # ------------------------------------------------------------- connecting

    def _connect(self, *, clean: bool) -> None:
        bus = self._bus
        try:
            self._socket = self._open_socket()
        except (OSError, ValueError) as error:
            raise failures.unreachable(bus.url, error) from error
        properties: dict[str, Any] = {}
        if self._version == MQTT_5 and not clean:
            properties["session_expiry_interval"] = _FOREVER
        user, password = bus.url.user, bus.password
        hello = Connect(
            client_id=self.client_id,
            version=self._version,
            clean_start=clean,
            keep_alive=self._keep_alive_s,
            username=user,
            password=None if None in (user, password) else str(password).encode(),
            properties=properties,
        )
        self._reader = PacketReader(self._version)
        try:
            self._socket.sendall(encode(hello, self._version))
        except OSError as error:
            raise self._hung_up(error.strerror or str(error)) from None
        answer = self._first_packet(self._socket)
        if answer.reason_code:
            if answer.reason_code in (0x01, 0x84):
                raise failures.VersionRefused
            names = (
                failures.REASONS if self._version == MQTT_5 else failures.RETURN_CODES
            )
            reason = names.get(answer.reason_code, f"0x{answer.reason_code:02X}")
            raise failures.refused(bus.url, reason, has_password=bool(bus.password))
        self.session_present = answer.session_present
        self._subscriptions.can_identify = self._version == MQTT_5 and bool(
            answer.properties.get("subscription_identifier_available", 1)
        )
        if not answer.session_present:
            self._received.clear()
        self._socket.settimeout(0)

    def _open_socket(self) -> socket.socket:
        url = self._bus.url
        plain = socket.create_connection(
            (url.host, url.port), failures.CONNECT_WITHIN_S
        )
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._bus.tls is None:
                return plain
            return self._bus.tls.wrap_socket(plain, server_hostname=url.host)
        except BaseException:
            plain.close()
            raise

    def _first_packet(self, connection: socket.socket) -> Connack:
        deadline = time.monotonic() + failures.CONNECT_WITHIN_S
        while True:
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                data = connection.recv(_CHUNK)
            except TimeoutError:
                raise failures.no_answer(self._bus.url) from None
            except OSError as error:
                raise self._hung_up(error.strerror or str(error)) from None
            if not data:
                raise self._hung_up("it hung up")
            if data[:4] == b"\x20\x02\x00\x01":
                # A broker that knows only MQTT 3.1.1 says so in its own way.
                raise failures.VersionRefused
            try:
                self._reader.feed(data)
                packet = self._reader.next_packet()
            except PlaygroundError:
                raise failures.no_answer(self._bus.url) from None
            if packet is not None:
                if not isinstance(packet, Connack):
                    raise failures.no_answer(self._bus.url)
                return packet

    def _hung_up(self, reason: str) -> Exception:
        if self._version == MQTT_5 and self._bus.protocol is None:
            # Old brokers hang up on what they do not understand.
            return failures.VersionRefused()
        return failures.hung_up(self._bus.url, reason)

    def _close_socket(self) -> None:
        connection, self._socket = self._socket, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()

    # ------------------------------------------------- what its thread does

    def _run(self) -> None:
        while not self._closing.is_set():
            reason = self._listen()
            self._close_socket()
            self._backlog.end(self._time_ns())
            with self._changed:
                self._connected = False
                self._queue.clear()
                self._changed.notify_all()
            if self._leaving or self.failure is not None:
                return
            if self._on_lost is not None:
                self._call(partial(self._on_lost, reason))
            if not self._reconnect():
                return

    def _reconnect(self) -> bool:
        """Tries until it works; returns False when told to end."""
        delay_s = failures.FIRST_RETRY_S
        while not self._closing.is_set():
            if self._closing.wait(delay_s):
                return False
            delay_s = min(2 * delay_s, failures.LAST_RETRY_S)
            try:
                self._connect(clean=self._clean)
            except (ConnectionFailed, failures.VersionRefused) as error:
                self._close_socket()
                _logger.debug("%s is not back: %s", self._bus.url, error)
                continue
            self._renew()
            return True
        return False

    def _renew(self) -> None:
        """Subscribes again; `on_back` is called when all is answered."""
        with self._changed:
            self._connected = True
            self._renewing.clear()
            if not self.session_present:
                for topic_filter, qos, retained in self._subscriptions.granted():
                    packet_id = self._next_packet_id()
                    self._renewing.add(packet_id)
                    packet = self._subscriptions.request(
                        packet_id, topic_filter, qos=qos, retained=retained
                    )
                    self._queue.append(encode(packet, self._version))
            is_done = not self._renewing
        if is_done:
            self._is_back()

    def _was_behind(self, since_ns: int, until_ns: int) -> None:
        if self._on_behind is not None:
            self._call(partial(self._on_behind, since_ns, until_ns))

    def _is_back(self) -> None:
        if self._on_back is not None:
            self._call(self._on_back)

    def _listen(self) -> str:
        """Reads until the connection ends; returns why it did."""
        connection = self._socket
        assert connection is not None
        tls = connection if isinstance(connection, ssl.SSLSocket) else None
        keep_alive_s = self._keep_alive_s or _FOREVER
        unsent = b""
        said_at = heard_at = time.monotonic()
        backlog, time_ns = self._backlog, self._time_ns
        self._server_said = ""
        selector = selectors.DefaultSelector()
        selector.register(self._wake_reading, selectors.EVENT_READ)
        selector.register(connection, selectors.EVENT_READ)
        try:
            # What came together with CONNACK.
            self._take_all()
            while True:
                if self._queue or unsent:
                    was_stuck, unsent = bool(unsent), self._write(connection, unsent)
                    said_at = time.monotonic()
                    if was_stuck != bool(unsent):
                        events = selectors.EVENT_READ
                        if unsent:
                            events |= selectors.EVENT_WRITE
                        selector.modify(connection, events)
                elif self._closing.is_set():
                    return ""
                if tls is None or not tls.pending():
                    wait_s = said_at + keep_alive_s - time.monotonic()
                    ready = selector.select(max(0.0, min(wait_s, LOOK_EVERY_S)))
                    readable = {key.fileobj for key, mask in ready if mask & 1}
                    backlog.look(time_ns(), is_idle=connection not in readable)
                    if self._wake_reading in readable:
                        self._drain_wake()
                    if connection not in readable:
                        now = time.monotonic()
                        if now - heard_at >= 1.5 * keep_alive_s:
                            return "keep alive timeout"
                        if now - said_at >= keep_alive_s:
                            self._queue.append(encode(Pingreq(), self._version))
                        continue
                try:
                    data = connection.recv(_CHUNK)
                except (BlockingIOError, ssl.SSLWantReadError):
                    continue
                if not data:
                    return self._server_said or "the broker closed the connection"
                heard_at = time.monotonic()
                # Before it is handed over, which may take its time.
                is_all = _is_all(connection, data)
                if not is_all or backlog.is_watched:
                    backlog.read(time_ns(), len(data), is_all=is_all)
                self._reader.feed(data)
                if not self._take_all():
                    return self._server_said
        except OSError as error:
            return self._server_said or error.strerror or str(error)
        except PlaygroundError as error:
            return f"the broker sent what is no MQTT: {error.problem}"
        finally:
            selector.close()

    def _write(self, connection: socket.socket, unsent: bytes) -> bytes:
        parts = [unsent]
        while self._queue:
            parts.append(self._queue.popleft())
        data = b"".join(parts)
        try:
            sent = connection.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            sent = 0
        return data[sent:]

    def _take_all(self) -> bool:
        """Takes the packets that are there; returns False at the end of it."""
        batch: list[Message] = []
        answers: list[bytes] = []
        others: list[Packet] = []
        now_ns = self._time_ns()
        add = batch.append
        is_another_copy = self._subscriptions.is_another_copy
        for packet in self._reader:
            if type(packet) is not Publish:
                if isinstance(packet, Pubrel):
                    # Now, because its packet id may come again in this batch.
                    self._received.discard(packet.packet_id)
                    answer = Pubcomp(packet_id=packet.packet_id)
                    answers.append(encode(answer, self._version))
                else:
                    # A SUBACK must not be seen before what came before it is
                    # taken.
                    others.append(packet)
                continue
            topic, payload, qos, retain, dup, packet_id, properties = packet
            if packet_id is not None:
                if qos == 1:
                    answers.append(encode(Puback(packet_id=packet_id), self._version))
                else:
                    answers.append(encode(Pubrec(packet_id=packet_id), self._version))
                    if packet_id in self._received:
                        continue
                    self._received.add(packet_id)
            if properties and is_another_copy(topic, properties):
                continue
            add(
                _new_message(
                    Message,
                    (
                        now_ns,
                        topic,
                        payload,
                        qos,
                        retain,
                        dup,
                        None,
                        properties_to_json(properties) if properties else None,
                        PUBLISH,
                    ),
                )
            )
        if batch and not self._hand_over(batch):
            return False
        self._queue.extend(answers)
        return all(self._take(packet) for packet in others)

    def _hand_over(self, batch: list[Message]) -> bool:
        if self.failure is None:
            try:
                self._on_messages(batch)
            except Exception as error:
                self.failure = error
                # A user's mistake is told by who asked for the messages.
                level = _level_of(error)
                _logger.log(
                    level,
                    "client %r: messages are no longer taken",
                    self.client_id,
                    exc_info=error,
                )
        return self.failure is None

    def _take(self, packet: Packet) -> bool:
        match packet:
            case Suback() | Unsuback():
                self._answered(packet)
            case Disconnect():
                code = packet.reason_code
                self._server_said = failures.REASONS.get(code, f"reason 0x{code:02X}")
                return False
            case _:
                pass
        return True

    def _answered(self, packet: Suback | Unsuback) -> None:
        with self._changed:
            if packet.packet_id in self._answers:
                self._answers[packet.packet_id] = packet
                self._changed.notify_all()
                return
            if packet.packet_id not in self._renewing:
                return
            self._renewing.discard(packet.packet_id)
            is_done = not self._renewing
        for code in packet.reason_codes:
            if code >= 0x80:
                _logger.warning(
                    "%s no longer allows a subscription of %r: %s",
                    self._bus.url,
                    self.client_id,
                    failures.REASONS.get(code, f"0x{code:02X}"),
                )
        if is_done:
            self._is_back()

    # ------------------------------------------------------------- small things

    def _call(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except Exception:
            _logger.exception("client %r: a callback failed", self.client_id)

    def _next_packet_id(self) -> int:
        self._packet_id = self._packet_id % 65_535 + 1
        return self._packet_id

    def _send(self, packet: Packet) -> None:
        self._queue.append(encode(packet, self._version))
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_writing.send(b"\0")

    def _drain_wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_reading.recv(4096)

    def _wait_for_answer(self, packet_id: int, verb: str) -> Suback | Unsuback:
        with self._changed:
            self._changed.wait_for(
                lambda: self._answers[packet_id] is not None or not self._connected,
                ANSWER_WITHIN_S,
            )
            answer = self._answers.pop(packet_id)
        if answer is None:
            raise failures.no_reply(self._bus.url, self.client_id, verb)
        return answer


def _is_all(connection: socket.socket, data: bytes) -> bool:
    """Says whether nothing is waiting behind what was read."""
    if not isinstance(connection, ssl.SSLSocket):
        # What waits is bounded by a window, which may be smaller than a chunk.
        return len(data) < _CHUNK // 2
    # One record at a time, however much has come.
    return not connection.pending() and not waiting_bytes(connection.fileno())


def _level_of(error: Exception) -> int:
    return logging.DEBUG if isinstance(error, PlaygroundError) else logging.ERROR
