"""Where a recorder's messages come from."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from itertools import groupby, zip_longest
from operator import itemgetter
from typing import Any, Protocol

from playground.broker import EmbeddedBroker
from playground.clock import Clock
from playground.errors import ConnectionFailed, PlaygroundError
from playground.message import Message, TopicFilters, matches
from playground.mqtt import BrokerUrl, MqttBus, MqttConnection, Receiver, Tls
from playground.mqtt.bus import ProtocolName

_logger = logging.getLogger(__name__)

DROPPED_TOPIC = "$SYS/broker/publish/messages/dropped"
"""Where mosquitto says how many messages it has thrown away, for any client."""
_DROPS_TOLD_WITHIN_NS = 30 * 10**9
"""mosquitto tells every 10 s, and less often where it is set so."""
_QUIET_AFTER_S = 1.0
_TRUE_OF_3_1_1 = (
    "MQTT 3.1.1: the retain flag of live publications and all properties are not "
    "known; retain = 1 only says that a message was kept from before"
)


class Sink(Protocol):
    """Who takes what a source hears. Safe to call from any thread."""

    def take(self, *messages: Message, snapshot: bool = False) -> None:
        """Takes events; ``snapshot``: the broker kept them from before.

        When it returns they are as safe as was asked for. It raises when they
        cannot be taken.
        """
        ...

    def lost(self, reason: str, *, since_ns: int) -> None:
        """From ``since_ns`` on nothing can be heard."""
        ...

    def back(self) -> None:
        """From now on everything can be heard again."""
        ...

    def warn(self, warning: str) -> None:
        """Says something that a reader of the recording should know."""
        ...


class Source(Protocol):
    """A place where messages can be heard."""

    @property
    def is_resumed(self) -> bool:
        """Says whether it kept messages for us while we were away."""
        ...

    def connect(self) -> None:
        """Gets ready; nothing is heard yet.

        Raises:
            ConnectionFailed: It cannot be reached.
        """
        ...

    def begin(self, sink: Sink, filters: TopicFilters) -> None:
        """Hands everything that matches to the sink from now on."""
        ...

    def close(self) -> None:
        """Hands over nothing more; may be called again."""
        ...

    def describe(self) -> dict[str, Any]:
        """Returns what the recording's metadata says about the source."""
        ...


class BrokerSource:
    """A broker on the network.

    Args:
        url: Where it is.
        qos: At which QoS to subscribe; messages come with the lower of this and
            the publisher's.
        password: For the URL's user.
        tls: Certificates.
        protocol: MQTT 5 where the broker knows it, unless told otherwise.
        client_id: Who we are; by default a name of its own for each recorder.
        durable: The broker keeps what it has accepted at QoS 1 and 2 until we
            have written it down, also while we do not run; needs a
            ``client_id`` that is the same the next time. The session is ended
            when the recording is ended in good order.
        clock: Stamps what arrives; the wall clock by default.
    """

    def __init__(
        self,
        url: BrokerUrl | str,
        *,
        qos: int = 0,
        password: str | None = None,
        tls: Tls | None = None,
        protocol: ProtocolName | None = None,
        client_id: str | None = None,
        durable: bool = False,
        clock: Clock | None = None,
    ) -> None:
        if qos not in (0, 1, 2):
            raise PlaygroundError(
                f"QoS is {qos}; MQTT knows 0, 1 and 2.", "write --qos 0, 1 or 2"
            )
        self.qos = qos
        self.client_id = client_id or f"playground-record-{uuid.uuid4().hex[:8]}"
        if durable and (client_id is None or qos == 0):
            raise PlaygroundError(
                "A durable recording needs a client id that stays, and QoS 1 or 2.",
                "name them: --client-id lab-recorder --qos 1",
            )
        self._durable = durable
        options: dict[str, Any] = {"password": password, "tls": tls}
        self._bus = MqttBus(
            url, protocol=protocol, retain_as_published=True, clock=clock, **options
        )
        self._options = options
        self._connection: MqttConnection | Receiver | None = None
        self._snapshot: _Snapshot | None = None
        self._sink: Sink | None = None
        self._begun = threading.Event()
        self._filters = TopicFilters()
        self._excludes = False
        self._counts_dropped = False
        self._has_system_topics = False
        self._behind: tuple[int, int] | None = None
        self._drop_told_ns = 0
        self._dropped = -1
        self._drops_known_ns = 0
        self._heard_ns = 0

    def connect(self) -> None:
        """Opens the connection; see `Source.connect`."""
        options: dict[str, Any] = {"on_lost": self._on_lost, "on_back": self._on_back}
        options["clean"] = not self._durable
        if self._bus.url.is_websocket:
            if self._durable:
                raise PlaygroundError(
                    "A durable recording does not work over WebSockets.",
                    "use the broker's TCP port: mqtt:// or mqtts://",
                )
            self._connection = self._bus.connect(
                self.client_id, lambda message: self._on_messages([message]), **options
            )
        else:
            self._connection = self._bus.receive(
                self.client_id,
                self._on_messages,
                on_behind=self._on_behind,
                **options,
            )

    @property
    def is_resumed(self) -> bool:
        """Says whether the broker has kept our session."""
        return self._connection is not None and self._connection.session_present

    def begin(self, sink: Sink, filters: TopicFilters) -> None:
        """Subscribes; see `Source.begin`.

        Raises:
            ConnectionFailed: The broker refuses a subscription.
        """
        connection = self._connection
        assert connection is not None
        self._filters = filters
        self._excludes = bool(filters.exclude)
        self._sink = sink
        self._begun.set()
        if connection.protocol == "5":
            self._snapshot = _Snapshot(self._bus, self._options, sink, filters)
        else:
            sink.warn(_TRUE_OF_3_1_1)
        wanted = smallest(tuple(filters))
        for topic_filter in wanted:
            options: dict[str, Any] = {"qos": self.qos}
            options["retained"] = self._snapshot is None
            if isinstance(connection, Receiver):
                others = [other for other in wanted if other != topic_filter]
                options["identify"] = any(_overlap(topic_filter, o) for o in others)
            connection.subscribe(topic_filter, **options)
        if self._snapshot is not None:
            self._snapshot.begin(wanted, self.qos)
        self._listen_to_drops(connection)

    def _listen_to_drops(self, connection: MqttConnection | Receiver) -> None:
        self._counts_dropped = DROPPED_TOPIC not in self._filters
        self._has_system_topics = True
        if not self._counts_dropped:
            return  # it is heard already
        try:
            connection.subscribe(DROPPED_TOPIC)
        except ConnectionFailed as error:
            # Many brokers keep $SYS to themselves.
            _logger.info("drops of the broker cannot be seen: %s", error.problem)

    def close(self) -> None:
        """Says goodbye; see `Source.close`."""
        if self._snapshot is not None:
            self._snapshot.close()
        self._begun.set()
        if self._connection is not None and self._sink is not None:
            self._ask_for_drops(self._connection)
            self._tell_behind(self._connection, self._sink)
        if isinstance(self._connection, Receiver):
            # If we could not write, the broker is to keep what it has.
            self._connection.disconnect(forget=self._connection.failure is None)
        elif self._connection is not None:
            self._connection.disconnect()

    def describe(self) -> dict[str, Any]:
        """Returns broker, protocol and client id; see `Source.describe`."""
        return {
            "broker": str(self._bus.url),
            "protocol": f"MQTT {self._bus.protocol}",
            "source": "broker",
            "qos": self.qos,
            "recorder_client": self.client_id,
        }

    def _on_messages(self, messages: list[Message]) -> None:
        # A session that the broker has kept speaks before it is asked.
        if not self._begun.is_set():
            self._begun.wait()
        sink = self._sink
        if sink is None:
            raise PlaygroundError("The recording did not begin.", "start it again")
        self._heard_ns = messages[-1].time_ns
        if self._has_system_topics and any(m.topic == DROPPED_TOPIC for m in messages):
            messages = [m for m in messages if not self._is_of_the_system(m, sink)]
        if self._excludes:
            filters = self._filters
            messages = [m for m in messages if m.topic in filters]
        if self._bus.protocol == "5":
            sink.take(*messages)
            return
        # Here the flag says just this. Runs of equal flags keep the order.
        for kept, run in groupby(messages, key=_is_retained):
            sink.take(*run, snapshot=kept)

    def _is_of_the_system(self, message: Message, sink: Sink) -> bool:
        if message.topic != DROPPED_TOPIC:
            return False
        self._count_drops(message, sink)
        return self._counts_dropped

    def _count_drops(self, message: Message, sink: Sink) -> None:
        try:
            total = int(message.payload)
        except ValueError:
            return
        known, self._dropped = self._dropped, total
        if 0 <= total < known:
            known = 0  # it was restarted
        if 0 <= known < total:
            since_ns = self._drops_known_ns or message.time_ns
            why = ""
            behind_ns = self._behind_since_ns()
            if behind_ns is not None:
                # Reports may have come as late as everything else.
                since_ns = min(since_ns, behind_ns)
                why = "overrun: the recorder could not keep up, and "
            self._behind, self._drop_told_ns = None, message.time_ns
            sink.lost(
                f"{why}the broker dropped messages (its counter, which is of all its "
                f"clients, rose by {total - known})",
                since_ns=since_ns,
            )
            sink.back()
        self._drops_known_ns = message.time_ns

    def _behind_since_ns(self) -> int | None:
        if self._behind is not None:
            return self._behind[0]
        if isinstance(self._connection, Receiver):
            return self._connection.backlog.since_ns
        return None

    def _on_behind(self, since_ns: int, until_ns: int) -> None:
        """More had come than could be read; see `Backlog`."""
        sink = self._sink
        if sink is None:
            return
        if self._dropped < 0:
            self._overrun(since_ns, sink)
            return
        if self._drop_told_ns >= since_ns:
            return
        # This broker counts what it throws away, and will tell.
        before = self._behind
        if before is not None and since_ns - before[1] < _DROPS_TOLD_WITHIN_NS:
            since_ns = before[0]
        self._behind = (since_ns, until_ns)

    def _overrun(self, since_ns: int, sink: Sink) -> None:
        sink.lost(
            "overrun: the recorder could not keep up; what the broker may have "
            "dropped meanwhile it did not tell",
            since_ns=since_ns,
        )
        sink.back()

    def _ask_for_drops(self, connection: MqttConnection | Receiver) -> None:
        """At the end: the last report may itself have been dropped."""
        if not self._counts_dropped or self._dropped < 0:
            return
        if isinstance(connection, Receiver):
            backlog = connection.backlog
            if backlog.since_ns is not None or backlog.last_ns < self._drops_known_ns:
                return  # no answer would come soon; nothing can be missing
        if not connection.is_connected:
            return
        with contextlib.suppress(ConnectionFailed):
            # It was retained; the answer to the second comes after it.
            connection.subscribe(DROPPED_TOPIC)
            connection.unsubscribe(DROPPED_TOPIC)

    def _tell_behind(self, connection: MqttConnection | Receiver, sink: Sink) -> None:
        """At the end: of what was no word yet, there will be none."""
        behind, self._behind = self._behind, None
        if behind is not None:
            ago_ns = self._bus.clock.time_ns() - behind[1]
            if ago_ns < _DROPS_TOLD_WITHIN_NS:
                self._overrun(behind[0], sink)

    def _on_lost(self, reason: str) -> None:
        if self._sink is not None:
            now_ns = self._bus.clock.time_ns()
            since_ns = now_ns
            if "alive" in reason.lower() or "timeout" in reason.lower():
                # Silence was noticed late: nothing was heard since the last
                # answer, which is at most so long ago.
                since_ns -= 2 * self._bus.keep_alive_s * 10**9
            since_ns = max(since_ns, self._heard_ns)
            if isinstance(self._connection, Receiver):
                # It may have ended while we were stopped, or the machine slept.
                away_ns = self._connection.backlog.away_since_ns
                since_ns = since_ns if away_ns is None else away_ns
            self._sink.lost(f"connection lost ({reason})", since_ns=since_ns)

    def _on_back(self) -> None:
        if self._sink is not None:
            self._sink.back()


class _Snapshot:
    """The retained messages that a broker has kept, told from live ones.

    With Retain-As-Published both have the flag. So a second, short connection
    asks for the retained messages without that option: there the flag says it.
    """

    def __init__(
        self, bus: MqttBus, options: dict[str, Any], sink: Sink, filters: TopicFilters
    ) -> None:
        self._bus = MqttBus(bus.url, protocol="5", clock=bus.clock, **options)
        self._sink = sink
        self._filters = filters
        self._wanted: tuple[str, ...] = ()
        self._heard_at = time.monotonic()
        self._closing = threading.Lock()
        self._watch: threading.Timer | None = None
        self._connection: MqttConnection | None = self._bus.connect(
            f"playground-retained-{uuid.uuid4().hex[:8]}", self._on_message
        )

    def begin(self, wanted: tuple[str, ...], qos: int) -> None:
        assert self._connection is not None
        self._wanted = wanted
        for topic_filter in wanted:
            self._connection.subscribe(topic_filter, qos=qos)
        self._heard_at = time.monotonic()
        self._watch_for_quiet()

    def _watch_for_quiet(self) -> None:
        remaining_s = self._heard_at + _QUIET_AFTER_S - time.monotonic()
        if remaining_s <= 0:
            self.close()
            return
        self._watch = threading.Timer(remaining_s, self._watch_for_quiet)
        self._watch.daemon = True
        self._watch.start()

    def _on_message(self, message: Message) -> None:
        if message.retain and message.topic in self._filters:
            self._heard_at = time.monotonic()
            self._sink.take(message, snapshot=True)

    def close(self) -> None:
        with self._closing:
            connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._watch is not None:
            self._watch.cancel()
        try:
            # The answer comes after everything that was sent before it.
            for topic_filter in self._wanted:
                connection.unsubscribe(topic_filter)
        except ConnectionFailed as error:
            self._sink.warn(f"the retained messages may be incomplete: {error.problem}")
        connection.disconnect()


class EmbeddedSource:
    """The embedded broker: publishers' client ids, true flags, session events.

    Args:
        broker: Backend ``amqtt``; started by us, and then stopped by us, if it
            is not running.
    """

    def __init__(self, broker: EmbeddedBroker) -> None:
        self.broker = broker
        self._starts = not broker.is_running
        self._url = ""
        self._sink: Sink | None = None
        self._filters = TopicFilters()

    def connect(self) -> None:
        """Starts the broker; see `Source.connect`."""
        self.broker.start()
        self._url = self.broker.url

    @property
    def is_resumed(self) -> bool:
        """Never: what it said while nobody listened is gone."""
        return False

    def begin(self, sink: Sink, filters: TopicFilters) -> None:
        """Observes the broker; see `Source.begin`."""
        self._sink, self._filters = sink, filters
        for kept in self.broker.observe(self._on_event):
            if kept.topic in filters:
                sink.take(kept, snapshot=True)

    def close(self) -> None:
        """Stops observing, and the broker if it was started here."""
        self.broker.forget(self._on_event)
        if self._starts:
            self.broker.stop()

    def describe(self) -> dict[str, Any]:
        """Returns broker and protocol; see `Source.describe`."""
        return {
            "broker": self._url,
            "protocol": "MQTT 3.1.1",
            "source": "embedded",
        }

    def _on_event(self, event: Message) -> None:
        if event.kind in ("publish", "will") and event.topic not in self._filters:
            return
        assert self._sink is not None
        with contextlib.suppress(PlaygroundError):
            # The recorder keeps it and tells it; the broker need not hear.
            self._sink.take(event)


_is_retained = itemgetter(Message._fields.index("retain"))


def smallest(filters: tuple[str, ...]) -> tuple[str, ...]:
    """Leaves out topic filters that another one covers.

    A broker may deliver a message once per subscription it matches.
    """
    unique = tuple(dict.fromkeys(filters))
    return tuple(
        one
        for one in unique
        if not any(other != one and _covers(other, one) for other in unique)
    )


def _covers(wide: str, narrow: str) -> bool:
    if narrow.startswith("$") and not wide.startswith("$"):
        return False
    if not any(mark in narrow for mark in "+#"):
        return matches(wide, narrow)
    wide_levels, narrow_levels = wide.split("/"), narrow.split("/")
    for number, level in enumerate(wide_levels):
        if level == "#":
            return True
        if number >= len(narrow_levels):
            return False
        other = narrow_levels[number]
        if other == "#" or (level not in ("+", other)):
            return False
    return len(wide_levels) == len(narrow_levels)


def _overlap(one: str, other: str) -> bool:
    """Says whether a topic may match both filters."""
    if one.startswith("$") != other.startswith("$"):
        return False
    for left, right in zip_longest(one.split("/"), other.split("/")):
        if "#" in (left, right):
            return True
        # 'a/#' covers 'a' too.
        if left is None or right is None:
            return False
        if left != right and "+" not in (left, right):
            return False
    return True
