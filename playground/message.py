"""The vocabulary: a message, a topic, a topic filter.

No I/O, no clock, no broker lives here. The rules are those of the MQTT 3.1.1
and 5.0 standards (OASIS), section 4.7 "Topic Names and Topic Filters".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import NamedTuple

from playground.errors import PlaygroundError

PUBLISH = "publish"
KINDS = (
    PUBLISH,
    "connect",
    "disconnect",
    "subscribe",
    "unsubscribe",
    "will",
    "gap",
)
"""What a row of a recording can be; all but ``publish`` are session events."""

LONGEST_TOPIC = 65_535
"""Bytes of UTF-8; the length field of the protocol has 16 bits."""


class Message(NamedTuple):
    """One MQTT event.

    A ``NamedTuple`` and not a dataclass because a day of plant time makes a
    million of them.
    """

    time_ns: int
    """Nanoseconds since 1970 UTC: when received, or when published in a run."""
    topic: str
    """Topic; for (un)subscribe events the filter; empty for connect, gap ..."""
    payload: bytes
    """Exact bytes, never decoded on the way."""
    qos: int = 0
    retain: bool = False
    dup: bool = False
    client: str | None = None
    """Client id of the publisher, where known."""
    properties: str | None = None
    """MQTT 5 properties as JSON, binary values in base64."""
    kind: str = PUBLISH


class Bundle:
    """What messages have in common that one client says together again and again.

    Their payloads are given when they are said. Two bundles are never equal: what is
    found out about one is remembered by the object.

    Attributes:
        topics: A topic for each message.
        qos: QoS of each.
        retain: Retain flag of each.
    """

    __slots__ = ("qos", "retain", "topics")

    def __init__(
        self, topics: Sequence[str], qos: Sequence[int], retain: Sequence[bool]
    ) -> None:
        self.topics = tuple(topics)
        self.qos = tuple(qos)
        self.retain = tuple(retain)

    def messages(
        self, time_ns: int, client: str, payloads: Sequence[bytes]
    ) -> Iterator[Message]:
        """Returns them with their payloads, published by a client at an instant.

        Raises:
            ValueError: There are not as many payloads as topics.
        """
        if len(payloads) != len(self.topics):
            raise ValueError(f"{len(payloads)} payloads for {len(self.topics)} topics")
        # Message(…) for each takes four times as long.
        columns = zip(
            repeat(time_ns),
            self.topics,
            payloads,
            self.qos,
            self.retain,
            repeat(False),  # noqa: FBT003 - dup
            repeat(client),
            repeat(None),
            repeat(PUBLISH),
            strict=False,
        )
        return map(_new_message, columns)


_new_message = partial(tuple.__new__, Message)


def check_topic(topic: str) -> str:
    """Returns the topic if one may publish to it.

    Raises:
        PlaygroundError: The topic is empty, too long, or has a wildcard or NUL.
    """
    if "+" in topic or "#" in topic:
        raise PlaygroundError(
            f"Topic {topic!r} contains a wildcard; one publishes to exactly one topic.",
            "write the topic out; '+' and '#' belong into topic filters",
        )
    return _check_length(topic, "Topic")


def check_filter(topic_filter: str) -> str:
    """Returns the topic filter if one may subscribe to it.

    Raises:
        PlaygroundError: The filter is empty, too long, has a NUL, or a
            wildcard that does not fill a whole level.
    """
    levels = topic_filter.split("/")
    for number, level in enumerate(levels):
        if level in ("+", "#"):
            if level == "#" and number != len(levels) - 1:
                raise PlaygroundError(
                    f"Topic filter {topic_filter!r}: '#' stands for all that follows "
                    "and must be the last level.",
                    f"write {'/'.join([*levels[:number], '#'])!r}, "
                    "or '+' for a single level",
                )
        elif "+" in level or "#" in level:
            raise PlaygroundError(
                f"Topic filter {topic_filter!r}: a wildcard fills a whole level, "
                f"here it shares one ({level!r}).",
                f"write {'/'.join([*levels[:number], '+', *levels[number + 1 :]])!r}",
            )
    return _check_length(topic_filter, "Topic filter")


def _check_length(name: str, what: str) -> str:
    if not name:
        raise PlaygroundError(f"{what} is empty.", "name at least one character")
    if "\0" in name:
        raise PlaygroundError(
            f"{what} {name!r} contains NUL, which MQTT forbids.", "leave it out"
        )
    if len(name) * 3 > LONGEST_TOPIC and len(name.encode()) > LONGEST_TOPIC:
        raise PlaygroundError(
            f"{what} is {len(name.encode())} bytes long; MQTT allows {LONGEST_TOPIC}.",
            "shorten it",
        )
    return name


def matches(topic_filter: str, topic: str) -> bool:
    """Says whether a topic filter covers a topic.

    A filter that begins with a wildcard does not cover topics that begin with
    ``$`` [MQTT-4.7.2-1]; ``a/#`` covers ``a`` itself.
    """
    if topic_filter == topic:
        return True
    if topic.startswith("$") and topic_filter[:1] in ("+", "#"):
        return False
    topic_levels = topic.split("/")
    filter_levels = topic_filter.split("/")
    for number, level in enumerate(filter_levels):
        if level == "#":
            return True
        if number >= len(topic_levels) or level not in ("+", topic_levels[number]):
            return False
    return len(filter_levels) == len(topic_levels)


class TopicFilters:
    """Several topic filters asked about many topics; remembers its answers.

    Args:
        include: A topic must match one of these; none means every topic
            (``$``-topics only where a filter names them).
        exclude: A topic that matches one of these is out.
    """

    LARGEST_MEMORY = 100_000

    def __init__(
        self, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()
    ) -> None:
        self.include = tuple(check_filter(f) for f in include) or ("#",)
        self.exclude = tuple(check_filter(f) for f in exclude)
        self._known: dict[str, bool] = {}

    def __contains__(self, topic: str) -> bool:
        answer = self._known.get(topic)
        if answer is None:
            if len(self._known) >= self.LARGEST_MEMORY:
                self._known.clear()
            answer = any(matches(f, topic) for f in self.include) and not any(
                matches(f, topic) for f in self.exclude
            )
            self._known[topic] = answer
        return answer

    def __iter__(self) -> Iterator[str]:
        return iter(self.include)
