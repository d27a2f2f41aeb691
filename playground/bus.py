"""The bus: who connects, what they say, who hears it.

`Bus` and `Connection` are what every transport offers; `LocalBus` is MQTT in
SimPy time, without sockets, threads or wall clock. The rules are those of
MQTT 3.1.1 (OASIS), cited where they force the code. A suite of the same rules
runs against this bus, the embedded broker and mosquitto.

Two promises the rest of the house stands on: a publication is delivered in the
instant in which it is made, and everybody sees the messages of one instant in
the order in which they were published.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from playground.clock import Clock
from playground.errors import PlaygroundError
from playground.message import (
    PUBLISH,
    Bundle,
    Message,
    check_filter,
    check_topic,
    matches,
)

OnMessage = Callable[[Message], object]
OnPayload = Callable[[str, bytes], object]
"""Hears a topic and a payload."""
TakeBundle = Callable[[int, str, Bundle, list[bytes]], object]
"""Takes an instant in nanoseconds, a client id, a bundle and its payloads."""
_new_tuple = tuple.__new__


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What the broker says for a client that vanishes without a goodbye."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: str | None = None


class Connection(Protocol):
    """One client's end of a bus."""

    client_id: str

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: str | None = None,
    ) -> None:
        """Sends a message to everybody who subscribed to its topic."""
        ...

    def subscribe(self, topic_filter: str, *, qos: int = 0) -> None:
        """Asks for messages; retained ones that match come at once."""
        ...

    def unsubscribe(self, topic_filter: str) -> None:
        """Takes a subscription back; unknown filters are no error."""
        ...

    def disconnect(self) -> None:
        """Says goodbye; the will is not published."""
        ...


class Bus(Protocol):
    """A place where clients meet."""

    def connect(
        self,
        client_id: str,
        on_message: OnMessage | None = None,
        *,
        will: Will | None = None,
        clean: bool = True,
    ) -> Connection:
        """Opens a connection; one of the same client id is taken over."""
        ...


def publish_all(connection: Connection, bundle: Bundle, payloads: list[bytes]) -> None:
    """Publishes several messages, exactly as one call of ``publish`` for each does.

    On a `LocalBus` in a third of the time: a run of a day makes a million.

    Args:
        connection: Of the publisher.
        bundle: Their topics, QoS and retain flags.
        payloads: As many; a list that nobody changes afterwards.
    """
    if isinstance(connection, LocalConnection):
        connection.bus.send_all(connection, bundle, payloads)
        return
    said = zip(bundle.topics, payloads, bundle.qos, bundle.retain, strict=True)
    for topic, payload, qos, retain in said:
        connection.publish(topic, payload, qos=qos, retain=retain)


_Heard = tuple[tuple[int, str, int, tuple["LocalConnection", ...]], ...]
"""Number, topic, QoS and listeners of those messages of a bundle that are heard."""
_ONE_BY_ONE: _Heard = ((-1, "", 0, ()),)
"""Stands for a bundle whose messages need more than to be handed over."""


class LocalConnection:
    """A client of a `LocalBus`, and the session the bus keeps for it."""

    def __init__(
        self,
        bus: LocalBus,
        client_id: str,
        on_message: OnMessage | None,
        will: Will | None,
        *,
        clean: bool,
    ) -> None:
        self.client_id = client_id
        self.bus = bus
        self.will = will
        self.clean = clean
        self.connected = True
        self.subscriptions: dict[str, int] = {}
        self.as_published: set[str] = set()
        """Filters whose messages keep the retain flag of the publisher."""
        self.on_message = on_message
        self.on_payload: OnPayload | None = None
        """Is called instead, where all that counts is what was said on which topic."""
        self.on_takeover: Callable[[], object] | None = None
        """Called when another client connects under this client id."""
        self.queued: list[Message] = []

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: str | None = None,
    ) -> None:
        """Publishes now; see `Connection.publish`."""
        if not self.connected:
            self.must_be_connected("publish")
        bus = self.bus
        facts = (
            bus.clock.time_ns(),
            topic,
            payload,
            qos,
            retain,
            False,
            self.client_id,
            properties,
            PUBLISH,
        )
        # Half the time of Message(…); a run of a day makes a million.
        bus.send(_new_tuple(Message, facts))

    def subscribe(
        self, topic_filter: str, *, qos: int = 0, retain_as_published: bool = False
    ) -> None:
        """Subscribes; a second subscription to the same filter replaces the first.

        Matching retained messages are sent again even then [MQTT-3.8.4-3].

        Args:
            topic_filter: Which topics.
            qos: At most this QoS.
            retain_as_published: Live messages keep the retain flag with which they
                were published, an option of MQTT 5 that bridges and loggers use.
        """
        self.must_be_connected("subscribe")
        check_filter(topic_filter)
        if retain_as_published:
            self.as_published.add(topic_filter)
        else:
            self.as_published.discard(topic_filter)
        self.bus.add_subscription(self, topic_filter, qos)

    def unsubscribe(self, topic_filter: str) -> None:
        """Takes a subscription back."""
        self.must_be_connected("unsubscribe")
        self.bus.remove_subscription(self, topic_filter)

    def disconnect(self) -> None:
        """Ends the connection in good order; the will is discarded."""
        if self.connected:
            self.will = None
            self.bus.end(self)

    def abort(self) -> None:
        """Ends the connection as a crash or a cut cable would: the will goes out."""
        if self.connected:
            self.bus.end(self)

    def must_be_connected(self, verb: str) -> None:
        """Raises a `PlaygroundError` if it is not connected."""
        if not self.connected:
            raise PlaygroundError(
                f"Client {self.client_id!r} wants to {verb} but is not connected.",
                "connect it again first",
            )


class LocalBus:
    """MQTT without a network: sessions, retained messages, wills, QoS, order.

    Args:
        clock: Stamps the messages; a `VirtualClock` in a run.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.retained: dict[str, Message] = {}
        self._clients: dict[str, LocalConnection] = {}
        self._observers: list[OnMessage] = []
        # Of the observers that take bundles; None if one of them does not.
        self._takers: list[TakeBundle] | None = []
        self._queue: deque[tuple[Message, LocalConnection | None]] = deque()
        self._delivering = False
        # topic -> who hears it at which QoS; emptied when a subscription changes.
        self._routes: dict[str, tuple[tuple[LocalConnection, int], ...]] = {}
        # bundle -> which of its messages are heard by whom; emptied likewise.
        self._heard: dict[Bundle, _Heard] = {}

    def connect(
        self,
        client_id: str,
        on_message: OnMessage | None = None,
        *,
        will: Will | None = None,
        clean: bool = True,
    ) -> LocalConnection:
        """Opens a connection.

        An older connection of the same client id is closed and its will
        published [MQTT-3.1.4-2]. With ``clean=False`` the subscriptions of an
        earlier session live on, and what was published to them at QoS 1 and 2
        in the meantime is delivered now.
        """
        earlier = self._clients.get(client_id)
        if earlier is not None and earlier.connected:
            if earlier.on_takeover is not None:
                earlier.on_takeover()
            earlier.abort()
            earlier = self._clients.get(client_id)
        connection = LocalConnection(self, client_id, on_message, will, clean=clean)
        if earlier is not None and not clean:
            connection.subscriptions = earlier.subscriptions
            connection.as_published = earlier.as_published
            connection.queued = earlier.queued
        self._clients[client_id] = connection
        self._forget_routes()
        self._event("connect", client_id)
        if connection.queued:
            waiting, connection.queued = connection.queued, []
            self._queue.extend((message, connection) for message in waiting)
            self._deliver()
        return connection

    def forget(self, client_id: str) -> None:
        """Ends the session of a client that is away, as when it has expired.

        Does nothing to a client that is connected or not known.
        """
        kept = self._clients.get(client_id)
        if kept is not None and not kept.connected:
            del self._clients[client_id]
            self._forget_routes()

    def observe(
        self, observer: OnMessage, take_bundle: TakeBundle | None = None
    ) -> None:
        """Shows every event to ``observer`` as a broker's plugin would see it.

        Publications come with the publisher's client id, QoS and retain flag,
        once each and in the order in which the bus took them; so do
        ``connect``, ``disconnect``, ``subscribe``, ``unsubscribe`` and ``will``.

        Args:
            observer: Called with each event.
            take_bundle: Called with a bundle of publications instead, where they
                come in one: for who writes down a million of them. What happened
                within a bundle besides publications may be shown before it.
        """
        self._observers.append(observer)
        if take_bundle is None:
            self._takers = None
        elif self._takers is not None:
            self._takers.append(take_bundle)

    def send(self, message: Message) -> None:
        """Takes one publication and delivers it."""
        # A subscriber may publish while it is being served. Its message waits
        # for its turn, so that all subscribers see one and the same order.
        if self._delivering:
            self._queue.append((message, None))
            return
        self._delivering = True
        try:
            routes = self._routes.get(message.topic)
            if routes is None or message.retain or message.kind is not PUBLISH:
                self._distribute(message)
            else:
                # The same in short: so are nearly all messages of a long replay.
                for observer in self._observers:
                    observer(message)
                for connection, granted in routes:
                    self._hand_over_at(granted, message, connection)
            if self._queue:
                self._deliver_queue()
        finally:
            self._delivering = False

    def send_all(
        self, sender: LocalConnection, bundle: Bundle, payloads: list[bytes]
    ) -> None:
        """Takes publications of one client, as if it made them one by one.

        Nearly all messages of a long run come by here. What nobody hears is not
        even made into a message, if the observers agree to that.
        """
        heard = self._heard.get(bundle)
        if heard is None:
            heard = self._heard[bundle] = self._find_heard(bundle)
        if heard is _ONE_BY_ONE or self._takers is None or self._delivering:
            self._send_each(sender, bundle, payloads)
            return
        if not sender.connected:
            sender.must_be_connected("publish")
        now_ns, client, queue = self.clock.time_ns(), sender.client_id, self._queue
        said = 0
        self._delivering = True
        try:
            for number, topic, qos, listeners in heard:
                said = number + 1
                payload = payloads[number]
                message = None
                for connection in listeners:
                    if connection.on_payload is not None:
                        connection.on_payload(topic, payload)
                    elif connection.on_message is not None:
                        message = message or Message(
                            now_ns, topic, payload, qos, client=client
                        )
                        connection.on_message(message)
                if queue or self._heard.get(bundle) is not heard:
                    break
            else:
                said = len(payloads)
        finally:
            self._delivering = False
            if said == len(payloads):
                for take in self._takers:
                    take(now_ns, client, bundle, payloads)
            else:
                messages = bundle.messages(now_ns, client, payloads)
                for message in islice(messages, said):
                    for observer in self._observers:
                        observer(message)
        if queue:
            # What was answered to a message comes before the next.
            self._deliver()
        if said < len(payloads):
            self._send_each(sender, bundle, payloads, said)

    def _send_each(
        self,
        sender: LocalConnection,
        bundle: Bundle,
        payloads: list[bytes],
        start: int = 0,
    ) -> None:
        now_ns, client = self.clock.time_ns(), sender.client_id
        for message in islice(bundle.messages(now_ns, client, payloads), start, None):
            # An answer may have ended it; but what it says within an answer it says.
            if not sender.connected and not self._delivering:
                sender.must_be_connected("publish")
            self.send(message)

    def _find_heard(self, bundle: Bundle) -> _Heard:
        if any(bundle.retain):
            return _ONE_BY_ONE
        heard = []
        for number, (topic, qos) in enumerate(
            zip(bundle.topics, bundle.qos, strict=True)
        ):
            routes = self._routes.get(topic)
            if routes is None:
                routes = self._find_routes(topic)
            if any(granted < qos or not c.connected for c, granted in routes):
                return _ONE_BY_ONE
            if routes:
                heard.append((number, topic, qos, tuple(c for c, _ in routes)))
        return tuple(heard)

    def _forget_routes(self) -> None:
        self._routes.clear()
        self._heard.clear()

    def listeners(self, topic: str) -> int:
        """Returns how many clients would hear a message on a topic."""
        routes = self._routes.get(topic)
        return len(self._find_routes(topic) if routes is None else routes)

    def forget_retained(self) -> None:
        """Loses all retained messages, as a broker does that kept them in memory."""
        self.retained.clear()

    def add_subscription(
        self, connection: LocalConnection, topic_filter: str, qos: int
    ) -> None:
        """Registers a subscription and sends the retained messages it covers."""
        connection.subscriptions[topic_filter] = qos
        self._forget_routes()
        self._event("subscribe", connection.client_id, topic_filter, qos)
        now_ns = self.clock.time_ns()
        for topic, kept in self.retained.items():
            if matches(topic_filter, topic):
                self._queue.append(
                    (
                        kept._replace(time_ns=now_ns, qos=min(kept.qos, qos)),
                        connection,
                    )
                )
        self._deliver()

    def remove_subscription(
        self, connection: LocalConnection, topic_filter: str
    ) -> None:
        """Forgets a subscription."""
        connection.as_published.discard(topic_filter)
        if connection.subscriptions.pop(topic_filter, None) is not None:
            self._forget_routes()
        self._event("unsubscribe", connection.client_id, topic_filter)

    def end(self, connection: LocalConnection) -> None:
        """Closes a connection; a will that is still there is published."""
        connection.connected = False
        if connection.clean:
            connection.subscriptions = {}
            if self._clients.get(connection.client_id) is connection:
                del self._clients[connection.client_id]
        self._forget_routes()
        self._event("disconnect", connection.client_id)
        will, connection.will = connection.will, None
        if will is not None:
            self.send(
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

    def _deliver(self) -> None:
        if self._delivering:
            return
        self._delivering = True
        try:
            self._deliver_queue()
        finally:
            self._delivering = False

    def _deliver_queue(self) -> None:
        while self._queue:
            message, addressee = self._queue.popleft()
            if addressee is None:
                self._distribute(message)
            else:
                self._hand_over(message, addressee)

    def _distribute(self, message: Message) -> None:
        topic = message.topic
        routes = self._routes.get(topic)
        if routes is None:
            routes = self._find_routes(topic)
        for observer in self._observers:
            observer(message)
        if message.kind == "will":
            message = message._replace(kind=PUBLISH)
        live = message
        if message.retain:
            self._keep(message)
            if routes:
                # To those who are subscribed already it is a live message.
                live = message._replace(retain=False)  # [MQTT-3.3.1-9]
        for connection, qos in routes:
            heard = live
            if message.retain and connection.as_published:
                filters = connection.as_published
                if any(matches(each, topic) for each in filters):
                    heard = message
            if qos < heard.qos:
                heard = heard._replace(qos=qos)
            if connection.connected and connection.on_message is not None:
                connection.on_message(heard)
            else:
                self._hand_over(heard, connection)

    def _hand_over_at(
        self, granted: int, message: Message, connection: LocalConnection
    ) -> None:
        if granted < message.qos:
            message = message._replace(qos=granted)
        self._hand_over(message, connection)

    def _hand_over(self, message: Message, connection: LocalConnection) -> None:
        if not connection.connected:
            if message.qos and not connection.clean:
                connection.queued.append(message)
        elif connection.on_message is not None:
            connection.on_message(message)

    def _keep(self, message: Message) -> None:
        if message.payload:
            # A replaced message moves to the end: the order of delivery on
            # subscribe is the order of publication.
            self.retained.pop(message.topic, None)
            self.retained[message.topic] = message
        else:
            self.retained.pop(message.topic, None)  # [MQTT-3.3.1-10]

    def _find_routes(self, topic: str) -> tuple[tuple[LocalConnection, int], ...]:
        check_topic(topic)
        routes = []
        for connection in self._clients.values():
            granted = [
                qos
                for topic_filter, qos in connection.subscriptions.items()
                if matches(topic_filter, topic)
            ]
            # Overlapping subscriptions: one delivery, at the highest QoS.
            if granted:
                routes.append((connection, max(granted)))
        self._routes[topic] = tuple(routes)
        return self._routes[topic]

    def _event(self, kind: str, client: str, topic: str = "", qos: int = 0) -> None:
        if self._observers:
            event = Message(
                self.clock.time_ns(), topic, b"", qos, client=client, kind=kind
            )
            for observer in self._observers:
                observer(event)
