"""amqtt, mended: its listeners and lifecycle, with sessions that keep the rules.

amqtt 0.12 deviates from MQTT 3.1.1 where a recorder and a test fixture need it
most. Shown by probes that mosquitto passes (`tests/test_broker.py`): the QoS
of the subscription is delivered instead of the lower of the two; clients get
retained messages that others asked for; overlapping subscriptions deliver
twice; a publication to a ``$`` topic closes the connection; keep-alive is not
watched; the last burst of a publisher that leaves is lost; unacknowledged
messages are dropped after 5 s; a taken-over client stays connected; a CONNECT
of MQTT 5 with properties is waited for without end; shutdown hangs. So what
happens on a connection is done here: who is there (`Member`), what a
connection says (`Peer`), who hears it (`MendedBroker`).

Private methods of amqtt are overridden; the version is pinned in
``pyproject.toml``. As in amqtt: only MQTT 3.1.1, no shared subscriptions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Any

import websockets.asyncio.server
from amqtt.broker import Broker
from amqtt.contexts import ListenerType

from playground.broker.access import Access
from playground.broker.member import Member
from playground.broker.streams import HIGH_WATER, TcpStream, WebSocketStream
from playground.clock import Clock
from playground.errors import PlaygroundError
from playground.message import Message, check_topic, matches
from playground.packets import (
    MQTT_3_1_1,
    Connack,
    Connect,
    Disconnect,
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
    Unsuback,
    Unsubscribe,
    encode,
)

Observer = Callable[[Message], object]

CONNECT_WITHIN_S = 10.0
"""A peer that says nothing for so long is not going to be a client."""
STALLED_AFTER_S = 5.0
"""Publishers wait so long for a subscriber that does not read."""
_REFUSED_SUBSCRIPTION = 0x80
_WRONG_VERSION, _REJECTED_CLIENT_ID, _NOT_AUTHORISED = 1, 2, 5


class _Quiet(logging.LoggerAdapter[logging.Logger]):
    """amqtt warns about everything a client does; that is for debugging only."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        super().log(min(level, logging.DEBUG), msg, *args, **kwargs)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs


_logger = logging.getLogger(__name__)


class Peer:
    """One connection, from its CONNECT to its end."""

    def __init__(
        self,
        broker: MendedBroker,
        stream: TcpStream | WebSocketStream,
        connect: Connect,
        member: Member,
    ) -> None:
        self.broker = broker
        self.stream = stream
        self.connect = connect
        self.member = member
        self.loop = asyncio.get_running_loop()
        self.said_goodbye = False
        self.closed = False
        self.stalled = False
        self._outgoing: list[bytes] = []
        self._heard_at = self.loop.time()
        self._watch: asyncio.TimerHandle | None = None

    def send(self, data: bytes) -> None:
        """Sends; all that is sent in one turn of the loop goes out in one write."""
        if not self._outgoing:
            self.loop.call_soon(self.flush)
        self._outgoing.append(data)

    def send_lossy(self, data: bytes) -> None:
        """Sends unless the client has stopped reading."""
        if self.stalled and self.stream.backlog > HIGH_WATER:
            self.broker.dropped += 1
            return
        self.stalled = False
        self.send(data)

    @property
    def has_backlog(self) -> bool:
        """Says whether something is still to be sent or acknowledged."""
        member = self.member
        unsent = self._outgoing or self.stream.backlog
        return bool(unsent or member.waiting or member.in_flight)

    def flush(self) -> None:
        """Hands what is to be sent to the operating system."""
        if self._outgoing:
            data = b"".join(self._outgoing)
            self._outgoing.clear()
            self.stream.write(data)
            if self.stream.backlog > HIGH_WATER and not self.stalled:
                self.broker.congested.add(self)

    async def serve(self, reader: PacketReader) -> None:
        """Reads until the client leaves, falls silent or breaks the rules."""
        self._watch_keep_alive()
        try:
            while not self.closed:
                for packet in reader:
                    self._take(packet)
                    if self.said_goodbye or self.closed:
                        return
                while self.broker.congested:
                    await self._give_way(next(iter(self.broker.congested)))
                data = await self.stream.chunk()
                if not data:
                    return
                self._heard_at = self.loop.time()
                reader.feed(data)
        except PlaygroundError as error:
            # MalformedPacket, a topic that cannot be: the connection is closed
            # [MQTT-4.8.0-1].
            _logger.debug("client %r: %s", self.member.client_id, error.problem)
        finally:
            if self._watch is not None:
                self._watch.cancel()

    def _watch_keep_alive(self) -> None:
        if not self.connect.keep_alive:
            return
        allowed_s = 1.5 * self.connect.keep_alive  # [MQTT-3.1.2-24]
        remaining_s = self._heard_at + allowed_s - self.loop.time()
        if remaining_s <= 0:
            self.close()
        else:
            self._watch = self.loop.call_later(remaining_s, self._watch_keep_alive)

    async def _give_way(self, slow: Peer) -> None:
        """Waits for a subscriber to read; gives it up for stalled after a while."""
        try:
            await asyncio.wait_for(slow.stream.drain(), STALLED_AFTER_S)
        except TimeoutError:
            slow.stalled = True
        self.broker.congested.discard(slow)

    def close(self) -> None:
        """Cuts the connection; `serve` then ends."""
        self.closed = True
        self.flush()
        self.stream.abort()

    def _take(self, packet: Packet) -> None:
        broker, member = self.broker, self.member
        match packet:
            case Publish():
                self._publish(packet)
            case Puback() | Pubcomp():
                member.acknowledged(packet.packet_id)
            case Pubrec():
                held = member.in_flight.get(packet.packet_id)
                if held is not None:
                    member.in_flight[packet.packet_id] = (held[0], True)
                self.send(encode(Pubrel(packet_id=packet.packet_id), MQTT_3_1_1))
            case Pubrel():
                member.received.discard(packet.packet_id)
                self.send(encode(Pubcomp(packet_id=packet.packet_id), MQTT_3_1_1))
            case Subscribe():
                broker.subscribe(self, packet)
            case Unsubscribe():
                for topic_filter in packet.topic_filters:
                    broker.unsubscribe(member, topic_filter)
                self.send(encode(Unsuback(packet_id=packet.packet_id), MQTT_3_1_1))
            case Pingreq():
                self.send(encode(Pingresp(), MQTT_3_1_1))
            case Disconnect():
                self.said_goodbye = True
            case _:
                raise PlaygroundError(f"A client sent {packet.TYPE.name}.")

    def _publish(self, packet: Publish) -> None:
        packet_id = packet.packet_id
        if packet.qos < 2:
            self.broker.publish(self.member, packet)
            if packet_id is not None:
                self.send(encode(Puback(packet_id=packet_id), MQTT_3_1_1))
        elif packet_id is not None:
            if packet_id not in self.member.received:
                self.member.received.add(packet_id)
                self.broker.publish(self.member, packet)
            self.send(encode(Pubrec(packet_id=packet_id), MQTT_3_1_1))


class MendedBroker(Broker):  # type: ignore[misc]
    """The broker itself; lives in one event loop.

    Args:
        config: amqtt's configuration.
        access: Who may do what.
        clock: Stamps what the observer sees.
        observers: See every publication with its publisher, QoS, retain and
            dup flag, and ``connect``, ``disconnect``, ``subscribe``,
            ``unsubscribe`` and ``will``, in the order of their happening.
    """

    def __init__(
        self,
        config: dict[str, Any],
        *,
        access: Access,
        clock: Clock,
        observers: list[Observer],
    ) -> None:
        super().__init__(config)
        self.logger = _Quiet(_logger)
        self.access = access
        self.clock = clock
        self.observers = observers
        self.members: dict[str, Member] = {}
        self.retained: dict[str, Message] = {}
        self.congested: set[Peer] = set()
        self.dropped = 0
        """QoS 0 deliveries given up because a subscriber did not read."""
        self._streams: set[TcpStream | WebSocketStream] = set()
        self._routes: dict[str, tuple[tuple[Member, int], ...]] = {}
        self._stopping = False

    # ------------------------------------------------------- amqtt's own hooks

    async def _create_server_instance(
        self,
        listener_name: str,
        listener_type: ListenerType,
        address: str | None,
        port: int,
        ssl_context: Any,
    ) -> Any:
        host = address.strip("[]") if address else None
        if listener_type == ListenerType.TCP:
            # asyncio sets TCP_NODELAY on every connection it accepts.
            return await asyncio.start_server(
                partial(self.stream_connected, listener_name=listener_name),
                host,
                port,
                ssl=ssl_context,
            )
        return await websockets.asyncio.server.serve(
            partial(self.ws_connected, listener_name=listener_name),
            host,
            port,
            ssl=ssl_context,
            subprotocols=[websockets.Subprotocol("mqtt")],
            # A frame may hold any part of a packet, and MQTT has its own pings.
            max_size=None,
            compression=None,
            ping_interval=None,
            logger=_Quiet(_logger),
        )

    async def ws_connected(
        self, websocket: websockets.asyncio.server.ServerConnection, listener_name: str
    ) -> None:
        """Serves a client that came over a WebSocket."""
        await self._serve(WebSocketStream(websocket))

    async def stream_connected(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        listener_name: str,
    ) -> None:
        """Serves a client that came over TCP."""
        await self._serve(TcpStream(reader, writer))

    async def shutdown(self) -> None:
        """Stops; whoever is connected is cut off first, so nothing can hang."""
        self._stopping = True
        for stream in list(self._streams):
            stream.abort()
        await asyncio.sleep(0)
        await super().shutdown()

    @property
    def has_backlog(self) -> bool:
        """Says whether a connected client still has something to come."""
        peers = (member.peer for member in self.members.values())
        return any(peer is not None and peer.has_backlog for peer in peers)

    def port(self, listener_name: str) -> int:
        """Returns the port that a listener is really bound to."""
        port: int = self._servers[listener_name].instance.sockets[0].getsockname()[1]
        return port

    # ------------------------------------------------------------- connections

    async def _serve(self, stream: TcpStream | WebSocketStream) -> None:
        self._streams.add(stream)
        try:
            reader = PacketReader()
            connect = await self._connect_packet(stream, reader)
            if connect is None or self._stopping:
                return
            refusal = self._refusal(connect)
            if refusal:
                stream.write(encode(Connack(reason_code=refusal), MQTT_3_1_1))
                return
            peer = self._welcome(stream, connect)
            try:
                await peer.serve(reader)
            finally:
                self._farewell(peer)
        finally:
            self._streams.discard(stream)
            with contextlib.suppress(OSError):
                await stream.close()

    async def _connect_packet(
        self, stream: TcpStream | WebSocketStream, reader: PacketReader
    ) -> Connect | None:
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                while data := await stream.chunk():
                    reader.feed(data)
                    packet = reader.next_packet()
                    if packet is not None:
                        assert isinstance(packet, Connect)  # or it is malformed
                        return packet
        except TimeoutError:
            _logger.debug("a peer sent no CONNECT")
        except PlaygroundError as error:
            _logger.debug("not an MQTT client: %s", error.problem)
        return None

    def _refusal(self, connect: Connect) -> int:
        """Returns CONNACK's return code, 0 to let the client in."""
        if connect.version > MQTT_3_1_1:
            return _WRONG_VERSION
        if not connect.client_id and not connect.clean_start:
            return _REJECTED_CLIENT_ID  # [MQTT-3.1.3-8]
        password = connect.password
        if self.access.admits(
            connect.username,
            None if password is None else password.decode("utf-8", "replace"),
        ):
            return 0
        return _NOT_AUTHORISED

    def _welcome(self, stream: TcpStream | WebSocketStream, connect: Connect) -> Peer:
        client_id = connect.client_id or f"auto-{uuid.uuid4().hex}"  # [MQTT-3.1.3-6]
        earlier = self.members.get(client_id)
        if earlier is not None and earlier.peer is not None:
            older = earlier.peer  # [MQTT-3.1.4-2]
            older.close()
            self._farewell(older)
            earlier = self.members.get(client_id)
        clean = connect.clean_start
        if earlier is None or clean:
            member = self.members[client_id] = Member(client_id, clean=clean)
            self._routes.clear()
        else:
            member = earlier
        member.clean = clean
        member.user = connect.username
        peer = member.peer = Peer(self, stream, connect, member)
        self._event("connect", client_id)
        present = earlier is not None and not clean
        peer.send(encode(Connack(session_present=present), MQTT_3_1_1))
        member.resume(peer)
        return peer

    def _farewell(self, peer: Peer) -> None:
        member = peer.member
        if member.peer is not peer:
            return  # taken over: it has been said already
        member.peer = None
        self.congested.discard(peer)
        if member.clean:
            self.members.pop(member.client_id, None)
            self._routes.clear()
        if self._stopping:
            return
        self._event("disconnect", member.client_id)
        will = peer.connect.will
        if will is not None and not peer.said_goodbye:
            packet = Publish(will.topic, will.payload, will.qos, will.retain)
            with contextlib.suppress(PlaygroundError):
                self.publish(member, packet, kind="will")

    # ---------------------------------------------------------------- messages

    def publish(
        self, member: Member, packet: Publish, *, kind: str = "publish"
    ) -> None:
        """Takes a publication and delivers it to everybody who asked for it.

        Raises:
            PlaygroundError: Nobody may publish to such a topic.
        """
        topic = packet.topic
        routes = self._routes.get(topic)
        if routes is None:
            routes = self._find_routes(topic)
        if not self.access.may_write(topic, member.user, member.client_id):
            return
        message = Message(
            self.clock.time_ns(),
            topic,
            packet.payload,
            packet.qos,
            packet.retain,
            packet.dup,
            member.client_id,
            None,
            kind,
        )
        if self.observers:
            self._show(message)
        if packet.retain:
            self._keep(message)
            message = message._replace(retain=False)  # [MQTT-3.3.1-9]
        lossy = b""
        for subscriber, granted in routes:
            qos = min(granted, packet.qos)  # [MQTT-3.8.4-6]
            if qos:
                subscriber.hand_over(message, qos)
            elif subscriber.peer is not None:
                if not lossy:
                    lossy = encode(Publish(topic, packet.payload), MQTT_3_1_1)
                subscriber.peer.send_lossy(lossy)

    def _keep(self, message: Message) -> None:
        self.retained.pop(message.topic, None)
        if message.payload:  # [MQTT-3.3.1-10]
            self.retained[message.topic] = message

    def _find_routes(self, topic: str) -> tuple[tuple[Member, int], ...]:
        check_topic(topic)
        routes = []
        for member in self.members.values():
            granted = [
                qos
                for topic_filter, qos in member.subscriptions.items()
                if matches(topic_filter, topic)
            ]
            # Overlapping subscriptions: one delivery at the highest QoS.
            if granted and self.access.may_read(topic, member.user, member.client_id):
                routes.append((member, max(granted)))
        if len(self._routes) > 100_000:
            self._routes.clear()
        self._routes[topic] = tuple(routes)
        return self._routes[topic]

    def subscribe(self, peer: Peer, packet: Subscribe) -> None:
        """Registers subscriptions, answers, and sends the retained messages."""
        member = peer.member
        codes = []
        granted = []
        for wanted in packet.subscriptions:
            topic_filter = wanted.topic_filter
            if topic_filter.startswith("$share/"):
                # Not offered. amqtt accepts them and never delivers; a refusal
                # can be seen.
                codes.append(_REFUSED_SUBSCRIPTION)
                continue
            member.subscriptions[topic_filter] = wanted.qos
            granted.append(wanted)
            codes.append(wanted.qos)
            self._event("subscribe", member.client_id, topic_filter, wanted.qos)
        self._routes.clear()
        suback = Suback(packet_id=packet.packet_id, reason_codes=tuple(codes))
        peer.send(encode(suback, MQTT_3_1_1))
        for wanted in granted:
            for topic, kept in self.retained.items():
                if matches(wanted.topic_filter, topic) and self.access.may_read(
                    topic, member.user, member.client_id
                ):
                    member.hand_over(kept, min(kept.qos, wanted.qos))

    def unsubscribe(self, member: Member, topic_filter: str) -> None:
        """Forgets a subscription."""
        member.subscriptions.pop(topic_filter, None)
        self._routes.clear()
        self._event("unsubscribe", member.client_id, topic_filter)

    def _event(self, kind: str, client: str, topic: str = "", qos: int = 0) -> None:
        if self.observers:
            now_ns = self.clock.time_ns()
            self._show(Message(now_ns, topic, b"", qos, client=client, kind=kind))

    def _show(self, message: Message) -> None:
        for observer in tuple(self.observers):
            try:
                observer(message)
            except Exception:
                # An observer must not stop the broker.
                _logger.exception("the broker's observer failed")
