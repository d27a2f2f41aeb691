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
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from playground.clock import Clock
from playground.errors import PlaygroundError
from playground.message import PUBLISH, Message, check_filter, check_topic, matches

OnMessage = Callable[[Message], object]
Said = tuple[str, bytes, int, bool]
"""Topic, payload, QoS and retain flag of a publication."""
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


def publish_all(connection: Connection, said: Iterable[Said]) -> None:
    """Publishes several messages, exactly as one call of ``publish`` for each does.

    On a `LocalBus` in half the time: a run of a day makes a million.
    """
    if isinstance(connection, LocalConnection):
        connection.publish_all(said)
        return
    for topic, payload, qos, retain in said:
        connection.publish(topic, payload, qos=qos, retain=retain)


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

    def publish_all(self, said: Iterable[Said]) -> None:
        """Publishes several messages of one instant; see `publish_all`."""
        self.bus.send_all(self, said)

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
        self._queue: deque[tuple[Message, LocalConnection | None]] = deque()
        self._delivering = False
        # topic -> who hears it at which QoS; emptied when a subscription changes.
        self._routes: dict[str, tuple[tuple[LocalConnection, int], ...]] = {}

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
        self._routes.clear()
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
            self._routes.clear()

    def observe(self, observer: OnMessage) -> None:
        """Shows every event to ``observer`` as a broker's plugin would see it.

        Publications come with the publisher's client id, QoS and retain flag,
        once each and in the order in which the bus took them; so do
        ``connect``, ``disconnect``, ``subscribe``, ``unsubscribe`` and ``will``.
        """
        self._observers.append(observer)

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

    def send_all(self, sender: LocalConnection, said: Iterable[Said]) -> None:
        """Takes publications of one client, as if it made them one by one."""
        now_ns, client = self.clock.time_ns(), sender.client_id
        queue = self._queue
        if self._delivering:
            queue.extend(
                (Message(now_ns, topic, payload, qos, retain, client=client), None)
                for topic, payload, qos, retain in said
            )
            return
        # Nearly all messages of a long run come by here, a million in a day. So
        # this is `_distribute` in short, and a tuple made in half the time.
        routes_of, observers = self._routes, self._observers
        self._delivering = True
        try:
            for topic, payload, qos, retain in said:
                if not sender.connected:  # an answer may have ended it
                    sender.must_be_connected("publish")
                facts = (
                    now_ns,
                    topic,
                    payload,
                    qos,
                    retain,
                    False,
                    client,
                    None,
                    PUBLISH,
                )
                message = _new_tuple(Message, facts)
                routes = routes_of.get(topic)
                if routes is None or retain:
                    self._distribute(message)
                else:
                    for observer in observers:
                        observer(message)
                    for connection, granted in routes:
                        if (
                            granted >= qos
                            and connection.connected
                            and connection.on_message is not None
                        ):
                            connection.on_message(message)
                        else:
                            self._hand_over_at(granted, message, connection)
                # What was answered to this message comes before the next.
                if queue:
                    self._deliver_queue()
        finally:
            self._delivering = False

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
        self._routes.clear()
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
            self._routes.clear()
        self._event("unsubscribe", connection.client_id, topic_filter)

    def end(self, connection: LocalConnection) -> None:
        """Closes a connection; a will that is still there is published."""
        connection.connected = False
        if connection.clean:
            connection.subscriptions = {}
            if self._clients.get(connection.client_id) is connection:
                del self._clients[connection.client_id]
        self._routes.clear()
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
