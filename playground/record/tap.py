"""A transparent proxy in front of a broker that writes down what passes.

Clients connect to the tap instead of the broker; neither side can tell. Every
byte is passed on as it came, before it is looked at. So the publisher's client
id is known, and sessions, from any broker, with MQTT 3.1, 3.1.1 and 5.

What a client publishes is recorded when it passes towards the broker. What the
broker delivers is recorded only if no client of the tap has published it: then
its publisher is connected elsewhere and not known.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from playground.clock import Clock, WallClock
from playground.errors import ConnectionFailed, PlaygroundError
from playground.message import Message, TopicFilters
from playground.mqtt import BrokerUrl, Tls
from playground.mqtt.failures import unreachable
from playground.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketReader,
    Publish,
    Subscribe,
    TopicAliases,
    Unsubscribe,
    Will,
    properties_to_json,
)
from playground.record.sources import Sink

_logger = logging.getLogger(__name__)

START_WITHIN_S = 10.0
_CHUNK = 2**16
_FAREWELL_S = 5.0
_DISCONNECT_WITH_WILL = 0x04
_FORGET_AFTER_NS = 60 * 10**9
_MOST_REMEMBERED = 100_000


class TapSource:
    """Listens as if it were the broker; a `Source`.

    Args:
        listen: ``HOST:PORT`` for the clients; port 0 takes a free one.
        url: The broker behind it, ``mqtt://`` or ``mqtts://``.
        tls: Certificates for the way to the broker. Clients connect in plain.
        clock: Stamps what passes.
    """

    def __init__(
        self,
        listen: str,
        url: BrokerUrl | str,
        *,
        tls: Tls | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.host, self.port = parse_address(listen)
        self.upstream = BrokerUrl.parse(url) if isinstance(url, str) else url
        if self.upstream.is_websocket:
            raise PlaygroundError(
                f"The tap passes on TCP, but {self.upstream} speaks WebSocket.",
                "name the broker's TCP port: mqtt:// or mqtts://",
            )
        self._tls = (tls or Tls()).context() if self.upstream.is_tls else None
        self._clock = clock or WallClock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._started: Future[None] = Future()
        self._passing: set[asyncio.Task[None]] = set()
        self.sink: Sink | None = None
        self.filters = TopicFilters()
        self.origins = _Origins()

    @property
    def is_resumed(self) -> bool:
        """Never: what passed while nobody listened did not pass here."""
        return False

    @property
    def url(self) -> str:
        """What clients connect to."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtt://{host}:{self.port}"

    def connect(self) -> None:
        """Begins to listen.

        Raises:
            ConnectionFailed: The broker cannot be reached, or the address
                cannot be listened on.
        """
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="tap", daemon=True
        )
        self._thread.start()
        self._started.result(START_WITHIN_S)

    def begin(self, sink: Sink, filters: TopicFilters) -> None:
        """Writes down what passes from now on; see `Source.begin`."""
        self.filters = filters
        self.sink = sink

    def close(self) -> None:
        """Cuts off all clients and stops listening; may be called again."""
        thread, loop, stop = self._thread, self._loop, self._stop
        if thread is not None and loop is not None and stop is not None:
            self._thread = None
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(stop.set)
            thread.join(START_WITHIN_S)

    def describe(self) -> dict[str, Any]:
        """Returns broker and tap; see `Source.describe`."""
        return {
            "broker": str(self.upstream),
            "protocol": "MQTT",
            "source": "tap",
            "tap": self.url,
        }

    def now_ns(self) -> int:
        """Returns the present instant."""
        return self._clock.time_ns()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        try:
            # Better to know now than when the first client comes.
            _, writer = await self._open_upstream()
            writer.close()
        except (OSError, TimeoutError) as error:
            self._started.set_exception(unreachable(self.upstream, error))
            return
        try:
            server = await asyncio.start_server(self._accept, self.host, self.port)
        except OSError as error:
            self._started.set_exception(
                ConnectionFailed(
                    f"The tap cannot listen on {self.host}:{self.port}: "
                    f"{error.strerror or error}.",
                    "take another port (0 finds a free one), "
                    "or as host an address of this machine",
                )
            )
            return
        self.port = server.sockets[0].getsockname()[1]
        self._started.set_result(None)
        await self._stop.wait()
        server.close()
        for task in list(self._passing):
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    async def _open_upstream(
        self,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(START_WITHIN_S):
            return await asyncio.open_connection(
                self.upstream.host,
                self.upstream.port,
                ssl=self._tls,
                server_hostname=self.upstream.host if self._tls else None,
            )

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        try:
            upstream_reader, upstream_writer = await self._open_upstream()
        except (OSError, TimeoutError) as error:
            _logger.warning(
                "a client of the tap: %s", unreachable(self.upstream, error)
            )
            writer.transport.abort()
            self._passing.discard(task)
            return
        conversation = _Conversation(self)
        ways = [
            asyncio.create_task(_pass(reader, upstream_writer, conversation.said)),
            asyncio.create_task(_pass(upstream_reader, writer, conversation.answered)),
        ]
        try:
            # When one side has closed, the other is told, and has a moment to
            # take what is under way.
            _, pending = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if pending:
                await asyncio.wait(pending, timeout=_FAREWELL_S)
            for each in (writer, upstream_writer):
                each.close()
            conversation.end()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_FAREWELL_S):
                    await upstream_writer.wait_closed()
                    await writer.wait_closed()
        except asyncio.CancelledError:
            pass
        finally:
            for way in ways:
                way.cancel()
            conversation.end()
            for each in (writer, upstream_writer):
                each.transport.abort()
            self._passing.discard(task)


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, look: Any
) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            try:
                look(data)
            except Exception:
                # Whatever we do not understand must not stop what passes.
                _logger.exception("the tap stumbled over what passed")
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()


class _Conversation:
    """One client and the broker, listened to."""

    def __init__(self, tap: TapSource) -> None:
        self._tap = tap
        self._from_client: PacketReader | None = PacketReader()
        self._from_broker: PacketReader | None = PacketReader()
        self._client_aliases = TopicAliases()
        self._broker_aliases = TopicAliases()
        self._client: str | None = None
        self._will: Will | None = None
        self._is_in = False
        self._said_goodbye = False
        self._early: list[Packet] = []

    def said(self, data: bytes) -> None:
        """Looks at what the client has sent."""
        for packet in self._packets(self._from_client, data):
            if self._is_in or isinstance(packet, Connect):
                self._understand(self._take_said, packet)
            else:
                # A client may speak before it knows that it is welcome.
                self._early.append(packet)

    def answered(self, data: bytes) -> None:
        """Looks at what the broker has sent."""
        for packet in self._packets(self._from_broker, data):
            if isinstance(packet, Connack):
                self._welcomed(packet)
            elif isinstance(packet, Publish):
                self._understand(self._delivered, packet)

    def _understand(self, take: Callable[[Any], None], packet: Packet) -> None:
        try:
            take(packet)
        except PlaygroundError as error:
            self._warn(f"{self._client or 'a client'}: {error.problem}")

    def _packets(self, reader: PacketReader | None, data: bytes) -> list[Packet]:
        found: list[Packet] = []
        if reader is None:
            return found
        try:
            reader.feed(data)
            for packet in reader:
                found.append(packet)
                if isinstance(packet, Connect) and self._from_broker is not None:
                    self._from_broker.version = packet.version
        except PlaygroundError as error:
            # It is passed on all the same; the broker will judge it.
            if reader is self._from_client:
                self._from_client = None
            else:
                self._from_broker = None
            name = self._client or "a client"
            self._warn(f"{name} can no longer be understood: {error.problem}")
        return found

    def _take_said(self, packet: Packet) -> None:
        match packet:
            case Connect():
                self._client = packet.client_id or None
                self._will = packet.will
            case Publish():
                self._published(packet)
            case Subscribe():
                for wanted in packet.subscriptions:
                    self._event("subscribe", wanted.topic_filter, wanted.qos)
            case Unsubscribe():
                for topic_filter in packet.topic_filters:
                    self._event("unsubscribe", topic_filter)
            case Disconnect():
                self._said_goodbye = packet.reason_code != _DISCONNECT_WITH_WILL
            case _:
                pass

    def _welcomed(self, packet: Connack) -> None:
        if packet.reason_code:
            return
        assigned = packet.properties.get("assigned_client_identifier")
        self._client = assigned or self._client
        self._is_in = True
        self._event("connect")
        early, self._early = self._early, []
        for each in early:
            self._understand(self._take_said, each)

    def _published(self, packet: Publish) -> None:
        packet = self._client_aliases.resolve(packet)
        now_ns = self._tap.now_ns()
        self._tap.origins.published(packet.topic, packet.payload, now_ns)
        self._record(packet, self._client, now_ns)

    def _delivered(self, packet: Publish) -> None:
        packet = self._broker_aliases.resolve(packet)
        now_ns = self._tap.now_ns()
        packet.properties.pop("subscription_identifier", None)
        if self._tap.origins.is_from_elsewhere(
            self, packet.topic, packet.payload, now_ns
        ):
            self._record(packet, None, now_ns, snapshot=packet.retain)

    def _record(
        self,
        packet: Publish,
        client: str | None,
        now_ns: int,
        *,
        kind: str = "publish",
        snapshot: bool = False,
    ) -> None:
        sink = self._tap.sink
        if sink is None or packet.topic not in self._tap.filters:
            return
        message = Message(
            now_ns,
            packet.topic,
            packet.payload,
            packet.qos,
            packet.retain,
            packet.dup,
            client,
            properties_to_json(packet.properties) if packet.properties else None,
            kind,
        )
        with contextlib.suppress(PlaygroundError):
            # The recorder keeps it and tells it; clients need not suffer.
            sink.take(message, snapshot=snapshot)

    def _event(self, kind: str, topic: str = "", qos: int = 0) -> None:
        if self._tap.sink is not None:
            now_ns = self._tap.now_ns()
            event = Message(now_ns, topic, b"", qos, client=self._client, kind=kind)
            with contextlib.suppress(PlaygroundError):
                self._tap.sink.take(event)

    def _warn(self, warning: str) -> None:
        if self._tap.sink is not None:
            self._tap.sink.warn(warning)

    def end(self) -> None:
        """The connection is over, one way or the other."""
        if not self._is_in:
            return
        self._is_in = False
        self._event("disconnect")
        will = self._will
        if will is not None and not self._said_goodbye:
            packet = Publish(
                will.topic,
                will.payload,
                will.qos,
                will.retain,
                properties={
                    k: v
                    for k, v in will.properties.items()
                    if k != "will_delay_interval"
                },
            )
            now_ns = self._tap.now_ns()
            self._tap.origins.published(packet.topic, packet.payload, now_ns)
            self._record(packet, self._client, now_ns, kind="will")


class _Origins:
    """Which deliveries are of messages that passed the tap before.

    The broker does not say who published. So a delivery is taken for one that
    a client of the tap has published if topic and payload are equal and this
    client has had fewer such deliveries than there were publications. Of a
    message from elsewhere that several clients get, the first is recorded.
    """

    def __init__(self) -> None:
        # (topic, payload) -> [last seen, publications, deliveries by client]
        self._known: OrderedDict[
            tuple[str, bytes], tuple[list[int], dict[_Conversation, int]]
        ] = OrderedDict()

    def published(self, topic: str, payload: bytes, now_ns: int) -> None:
        seen, _ = self._look_up((topic, payload), now_ns)
        seen[1] += 1

    def is_from_elsewhere(
        self, to: _Conversation, topic: str, payload: bytes, now_ns: int
    ) -> bool:
        seen, delivered = self._look_up((topic, payload), now_ns)
        delivered[to] = delivered.get(to, 0) + 1
        if delivered[to] <= seen[1]:
            return False
        # One more than was known of: for all others it is known from now on.
        seen[1] += 1
        return True

    def _look_up(
        self, key: tuple[str, bytes], now_ns: int
    ) -> tuple[list[int], dict[_Conversation, int]]:
        entry = self._known.get(key)
        if entry is None or now_ns - entry[0][0] > _FORGET_AFTER_NS:
            entry = self._known[key] = ([now_ns, 0], {})
        entry[0][0] = now_ns
        self._known.move_to_end(key)
        while len(self._known) > _MOST_REMEMBERED or (
            now_ns - next(iter(self._known.values()))[0][0] > _FORGET_AFTER_NS
        ):
            self._known.popitem(last=False)
        return entry


def parse_address(text: str) -> tuple[str, int]:
    """Reads ``HOST:PORT``, ``:PORT`` or ``PORT``; the host is 127.0.0.1 by default.

    Raises:
        PlaygroundError: It is none.
    """
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise PlaygroundError(
            f"{text!r} is not an address to listen on.",
            "write HOST:PORT, for instance 127.0.0.1:1884; port 0 takes a free one",
        )
    return host, int(port)
