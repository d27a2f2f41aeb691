"""Clients for tests: they keep what they hear, and wait for it with a deadline.

No pytest and no clock of a run is known here; what waits, waits on the wall clock,
because a real broker stands between.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from playground.broker import EmbeddedBroker
from playground.bus import Will
from playground.clock import iso
from playground.errors import closest
from playground.message import Message, check_filter, matches
from playground.mqtt import MqttBus, MqttConnection
from playground.quantity import seconds

Payload = bytes | str | float | Mapping[str, Any] | Sequence[Any]
WITHIN = "5s"
"""How long one waits by default; far longer than anything on loopback takes."""
_SHOWN = 10


def payload_of(value: Payload) -> bytes:
    """Returns the bytes of a payload: text as UTF-8, anything else as JSON."""
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value)).encode()


def shown(message: Message, *, width: int = 60) -> str:
    """Renders a message on one line: topic, payload, and the flags that are set."""
    text = message.payload.decode("utf-8", "backslashreplace")
    if len(text) > width:
        text = text[: width - 1] + "…"
    flags = f"  qos={message.qos}" if message.qos else ""
    flags += "  retain" if message.retain else ""
    return f"{message.topic}  {text}{flags}"


class Inbox:
    """Keeps messages in the order in which they came; any thread may add.

    Attributes:
        messages: All that came so far, in order.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._came = threading.Condition()

    def add(self, message: Message) -> None:
        """Takes a message in."""
        with self._came:
            self.messages.append(message)
            self._came.notify_all()

    def on(self, topic_filter: str) -> list[Message]:
        """Returns what came so far on the topics that a filter covers."""
        check_filter(topic_filter)
        return [m for m in list(self.messages) if matches(topic_filter, m.topic)]

    def wait_for(
        self,
        topic_filter: str,
        payload: Payload | Callable[[bytes], object] | None = None,
        *,
        count: int = 1,
        within: str = WITHIN,
    ) -> Message:
        """Waits for a message, which may also have come before.

        Args:
            topic_filter: Its topic.
            payload: What it says, or a function that is true of its payload;
                by default anything.
            count: Wait for that many; the last of them is returned.
            within: How long, on the wall clock: ``"5s"``.

        Returns:
            The message.

        Raises:
            AssertionError: It did not come; the text says what came instead.
        """
        __tracebackhide__ = True
        check_filter(topic_filter)
        wanted = _wanted(payload)
        found: list[Message] = []
        looked_at = 0

        def has_come() -> bool:
            nonlocal looked_at
            fresh = self.messages[looked_at:]
            looked_at += len(fresh)
            found.extend(
                m for m in fresh if matches(topic_filter, m.topic) and wanted(m.payload)
            )
            return len(found) >= count

        deadline = time.monotonic() + seconds(within)
        with self._came:
            while not has_come():
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not self._came.wait(left_s):
                    break
            if has_come():
                return found[count - 1]
        raise AssertionError(
            self._missing(topic_filter, payload, count, len(found), within)
        )

    def clear(self) -> None:
        """Forgets what came so far."""
        with self._came:
            self.messages.clear()

    def _missing(
        self, topic_filter: str, payload: Any, count: int, came: int, within: str
    ) -> str:
        what = f"on {topic_filter!r}"
        if callable(payload):
            name = getattr(payload, "__name__", "")
            what += " that fits the function" + (f" {name}" if name else "")
        elif payload is not None:
            what += f" with payload {payload_of(payload)!r}"
        lines = [
            f"No message {what} came within {within}."
            if count == 1
            else f"{came} of {count} messages {what} came within {within}."
        ]
        if not self.messages:
            return f"{lines[0]}\n  nothing came at all; is somebody subscribed?"
        came_there = self.on(topic_filter)
        if came_there:
            told = f"the last of {len(came_there)} that came there"
        else:
            lines[0] += closest(topic_filter, {m.topic for m in self.messages})
            told = f"the last of {len(self.messages)} that came on other topics"
        lines.append(f"  {told}:")
        lines.extend(
            f"    {iso(message.time_ns)[11:23]}  {shown(message)}"
            for message in (came_there or self.messages)[-_SHOWN:]
        )
        return "\n".join(lines)


def _wanted(
    payload: Payload | Callable[[bytes], object] | None,
) -> Callable[[bytes], object]:
    if payload is None:
        return lambda _: True
    if callable(payload):
        return payload
    expected = payload_of(payload)
    return lambda came: came == expected


class Client(Inbox):
    """A connected MQTT client that keeps what it hears.

    Args:
        url: The broker.
        client_id: Its name there.
        subscribe: Topic filters it listens to from the beginning.
        qos: Of these subscriptions.
        will: What the broker says if it vanishes.

    Raises:
        ConnectionFailed: The broker cannot be reached or refuses us.
    """

    def __init__(
        self,
        url: str,
        client_id: str = "test",
        *,
        subscribe: Iterable[str] | str = (),
        qos: int = 1,
        will: Will | None = None,
    ) -> None:
        super().__init__()
        self.url = url
        self.client_id = client_id
        self.connection: MqttConnection = MqttBus(url).connect(
            client_id, self.add, will=will
        )
        filters = [subscribe] if isinstance(subscribe, str) else subscribe
        for topic_filter in filters:
            self.connection.subscribe(topic_filter, qos=qos)

    def subscribe(self, topic_filter: str, *, qos: int = 1) -> None:
        """Listens to more topics; returns when the broker has agreed."""
        self.connection.subscribe(topic_filter, qos=qos)

    def publish(
        self, topic: str, payload: Payload, *, qos: int = 1, retain: bool = False
    ) -> None:
        """Publishes; at QoS 1 and 2 returns when the broker has it.

        Args:
            topic: Where.
            payload: Bytes; text; anything else is sent as JSON.
            qos: QoS.
            retain: Retain flag.
        """
        self.connection.publish(topic, payload_of(payload), qos=qos, retain=retain)
        self.connection.flush()

    def vanish(self) -> None:
        """Cuts the connection as a crash would: the broker publishes the will."""
        self.connection.abort()

    def close(self) -> None:
        """Says goodbye to the broker; may be called again."""
        self.connection.disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class BrokerWithClients(EmbeddedBroker):
    """A broker that hands out clients, and closes them when it stops.

    ::

        with BrokerWithClients() as broker:
            lab = broker.client(subscribe="lab/#")
            broker.client().publish("lab/valve", "0.5")
            lab.wait_for("lab/valve", "0.5")

    Takes what `EmbeddedBroker` takes.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._clients: list[Client] = []
        self._numbers = itertools.count(1)

    def client(
        self,
        client_id: str | None = None,
        *,
        subscribe: Iterable[str] | str = (),
        qos: int = 1,
        will: Will | None = None,
    ) -> Client:
        """Returns a connected client; arguments as of `Client`.

        Args:
            client_id: By default ``test-1``, ``test-2`` and so on.
            subscribe: Topic filters it listens to from the beginning.
            qos: Of these subscriptions.
            will: What the broker says if it vanishes.
        """
        client = Client(
            self.url,
            client_id or f"test-{next(self._numbers)}",
            subscribe=subscribe,
            qos=qos,
            will=will,
        )
        self._clients.append(client)
        return client

    def stop(self) -> None:
        """Closes the clients, then the broker."""
        clients, self._clients = self._clients, []
        for client in clients:
            client.close()
        super().stop()
