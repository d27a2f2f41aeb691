"""What a client listens to: to ask for it, also again, and to tell copies apart.

A broker that speaks MQTT 5 may send one message once for each subscription that
covers it. With an identifier on each, the first that covers a topic is taken at
its word and the other copies are left out. Nothing here touches a socket.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from playground.message import matches
from playground.packets import MQTT_5, Subscribe, Subscription

_MOST_REMEMBERED = 100_000


class Subscriptions:
    """The subscriptions of one client; safe only on one thread, or under a lock.

    Args:
        version: Of the protocol.
        retain_as_published: Ask for the publishers' own retain flags (MQTT 5).

    Attributes:
        can_identify: The broker takes subscription identifiers.
    """

    def __init__(self, version: int, *, retain_as_published: bool) -> None:
        self._is_5 = version == MQTT_5
        self._retain_as_published = retain_as_published
        self._granted: dict[str, tuple[int, bool]] = {}
        self._identifiers: dict[str, int] = {}
        self._last_identifier = 0
        self._first_to_cover: dict[str, int] = {}
        self.can_identify = False

    def identify(self, topic_filter: str) -> None:
        """Gives a subscription a number, by which the broker tells its copies."""
        if self.can_identify and topic_filter not in self._identifiers:
            self._last_identifier += 1
            self._identifiers[topic_filter] = self._last_identifier
            self._first_to_cover.clear()

    def request(
        self, packet_id: int, topic_filter: str, *, qos: int, retained: bool
    ) -> Subscribe:
        """Returns the packet that asks for one."""
        subscription = Subscription(
            topic_filter=topic_filter,
            qos=qos,
            retain_as_published=self._is_5 and self._retain_as_published,
            retain_handling=2 if self._is_5 and not retained else 0,
        )
        identifier = self._identifiers.get(topic_filter) if self._is_5 else None
        return Subscribe(
            packet_id=packet_id,
            subscriptions=(subscription,),
            properties={"subscription_identifier": identifier} if identifier else {},
        )

    def grant(self, topic_filter: str, *, qos: int, retained: bool) -> None:
        """Takes note that the broker agreed: it is asked for again after a loss."""
        self._granted[topic_filter] = (qos, retained)

    def forget(self, topic_filter: str) -> None:
        """Takes one back."""
        self._granted.pop(topic_filter, None)
        self._identifiers.pop(topic_filter, None)
        self._first_to_cover.clear()

    def granted(self) -> Iterator[tuple[str, int, bool]]:
        """Gives filter, QoS and whether retained messages are wanted, of each."""
        for topic_filter, (qos, retained) in list(self._granted.items()):
            yield topic_filter, qos, retained

    def is_another_copy(self, topic: str, properties: dict[str, Any]) -> bool:
        """Says whether another subscription brings this message, too.

        Takes the identifiers out of the properties: they are the subscriber's,
        not the message's.
        """
        named = properties.pop("subscription_identifier", None)
        if named is None:
            return False
        first = self._first_to_cover.get(topic)
        if first is None:
            covering = [
                number
                for topic_filter, number in self._identifiers.items()
                if matches(topic_filter, topic)
            ]
            first = min(covering, default=0)
            if len(self._first_to_cover) > _MOST_REMEMBERED:
                self._first_to_cover.clear()
            self._first_to_cover[topic] = first
        return first > 0 and first not in named
