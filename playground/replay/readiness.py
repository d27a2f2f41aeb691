"""Waiting for who is to hear a replay, without sleeping.

`Audience` watches the events of a broker that shows them to an observer
(`EmbeddedBroker`, `LocalBus`) and knows at every moment who is there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from playground.errors import ConnectionFailed
from playground.message import Message, check_filter


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
