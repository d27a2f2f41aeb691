"""Waiting for who is to hear a replay, without sleeping.

`Audience` watches the events of a broker that shows them to an observer
(`EmbeddedBroker`, `LocalBus`) and knows at every moment who is there. MQTT does
not tell one client what the others do; on a broker of others `overhear` goes by
what can be known all the same:

* a consumer says itself that it is ready, by a retained message on
  ``playground/ready/<client id>``: the filters it has subscribed to, one a line;
  an empty one (its will, for instance) says that it is gone;
* mosquitto with ``log_dest topic`` and ``log_type all`` tells who connects and
  subscribes from now on.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from playground.bus import Bus
from playground.errors import ConnectionFailed, PlaygroundError
from playground.message import Message, check_filter

READY_PREFIX = "playground/ready/"
"""Where a consumer says that it is ready."""
LOG_PREFIX = "$SYS/broker/log/"
"""Where mosquitto says what it does, if it is told to."""
_LOG = (
    (r"\d+: New client connected from \S+ as (.+) \(p\d.*", "connect"),
    (r"\d+: Client (.+) (disconnected|closed its|has exceeded).*", "disconnect"),
)


def overlap(one: str, other: str) -> bool:
    """Says whether some topic matches both topic filters."""
    if one[:1] == "$" and other[:1] in ("+", "#"):
        return False
    if other[:1] == "$" and one[:1] in ("+", "#"):
        return False
    first, second = one.split("/"), other.split("/")
    for number in range(max(len(first), len(second))):
        # Beyond its end a filter matches only the '#' of the other: a/# covers a.
        a = first[number] if number < len(first) else None
        b = second[number] if number < len(second) else None
        if a == "#" or b == "#":
            return True
        if a is None or b is None:
            return False
        if "+" not in (a, b) and a != b:
            return False
    return True


class Audience:
    """Who is connected to a broker and listens to what.

    Args:
        ignore: Client ids that do not count; the replayer's own.
    """

    def __init__(self, *, ignore: tuple[str, ...] = ("replay",)) -> None:
        self._ignore = ignore
        self._changed = threading.Condition()
        self._clients: dict[str, set[str]] = {}
        self._left: set[str] = set()

    def observe(self, event: Message) -> None:
        """Takes in an event of the broker; may be called from any thread."""
        client = event.client
        if event.kind == "publish" or client is None:
            return
        with self._changed:
            if client in self._ignore:
                if event.kind == "disconnect":
                    self._left.add(client)
                    self._changed.notify_all()
                return
            match event.kind:
                case "connect":
                    self._clients.setdefault(client, set())
                case "subscribe":
                    self._clients.setdefault(client, set()).add(event.topic)
                case "unsubscribe":
                    self._clients.get(client, set()).discard(event.topic)
                case "disconnect":
                    self._clients.pop(client, None)
            self._changed.notify_all()

    def overhear(self, message: Message) -> None:
        """Takes in what a consumer, or mosquitto's log, says on a broker of others."""
        text = message.payload.decode("utf-8", "replace").strip()
        if message.topic.startswith(READY_PREFIX):
            client = message.topic.removeprefix(READY_PREFIX)
            # What was said before is no longer so.
            self._tell("disconnect", client)
            if text:
                self._tell("connect", client)
                for line in text.splitlines():
                    with contextlib.suppress(PlaygroundError):
                        self._tell("subscribe", client, check_filter(line.strip()))
            return
        if message.topic == LOG_PREFIX + "M/subscribe":
            found = re.fullmatch(r"\d+: (.+?) [012] (.+)", text)
            if found:
                self._tell("subscribe", found[1], found[2])
            return
        for pattern, kind in _LOG:
            known = re.fullmatch(pattern, text)
            if known:
                self._tell(kind, known[1])

    def _tell(self, kind: str, client: str, topic: str = "") -> None:
        self.observe(Message(0, topic, b"", client=client, kind=kind))

    def has_subscriber(self, topic_filter: str = "#") -> bool:
        """Says whether somebody listens to some topic of a filter."""
        return any(
            overlap(topic_filter, subscribed)
            for subscriptions in self._clients.values()
            for subscribed in subscriptions
        )

    def wait_for_subscriber(
        self, topic_filter: str = "#", *, timeout_s: float | None = None
    ) -> None:
        """Returns when somebody listens to some topic of a filter.

        Raises:
            ConnectionFailed: Nobody did within the time.
        """
        check_filter(topic_filter)
        self._wait(
            lambda: self.has_subscriber(topic_filter),
            f"Nobody subscribed to {topic_filter!r}",
            timeout_s,
        )

    def wait_for_client(
        self, client_id: str, *, timeout_s: float | None = None
    ) -> None:
        """Returns when a client is connected.

        Raises:
            ConnectionFailed: It did not come within the time.
        """
        self._wait(
            lambda: client_id in self._clients,
            f"Client {client_id!r} did not connect",
            timeout_s,
        )

    def wait_for_end_of(self, client_id: str, *, timeout_s: float) -> None:
        """Returns when the broker has read all that an ignored client said.

        Raises:
            ConnectionFailed: It has not within the time.
        """
        self._wait(
            lambda: client_id in self._left,
            f"The broker did not take all that {client_id!r} said",
            timeout_s,
        )

    def _wait(
        self, is_so: Callable[[], bool], otherwise: str, timeout_s: float | None
    ) -> None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while not is_so():
                # In slices, so that Ctrl-C is heard while nothing happens.
                rest_s = 1.0
                if deadline is not None:
                    rest_s = min(rest_s, deadline - time.monotonic())
                if rest_s <= 0:
                    there = ", ".join(sorted(self._clients)) or "nobody"
                    raise ConnectionFailed(
                        f"{otherwise} within {timeout_s:g} s; connected: {there}.",
                        "start the consumer, or wait longer (--wait)",
                    )
                self._changed.wait(rest_s)


@contextlib.contextmanager
def overhear(bus: Bus, *, client_id: str = "replay-audience") -> Iterator[Audience]:
    """Gives the audience of a broker that shows nobody its events.

    Knows of consumers what they say on ``playground/ready/…`` and what mosquitto
    logs; see the head of this module.

    Raises:
        ConnectionFailed: The broker cannot be reached, or lets nobody subscribe.
    """
    audience = Audience(ignore=("replay", client_id))
    connection: Any = bus.connect(client_id, audience.overhear)
    try:
        # First the log: who says that he is ready after a change in it is heard.
        with contextlib.suppress(ConnectionFailed):
            connection.subscribe(LOG_PREFIX + "#", qos=0)
        connection.subscribe(READY_PREFIX + "#", qos=1)
        yield audience
    finally:
        connection.disconnect()
