"""Links that are not perfect: latency, jitter and loss between a client and the bus.

`LinkedBus` is a bus around another one. A link keeps order, as TCP does: a late
message holds up those behind it. What is lost on it is lost at QoS 0 alone; at
QoS 1 and 2 it arrives after a retransmission.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from playground.errors import PlaygroundError

if TYPE_CHECKING:
    from simpy.events import Event

    from playground.bus import Bus, Connection, OnMessage, Will
    from playground.clock import VirtualClock
    from playground.message import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What a link does to what passes, in either direction.

    Attributes:
        latency_s: Shortest time on the way.
        jitter_s: Longest time added to it, evenly distributed.
        loss: Share of messages that get lost, 0 to 1.
        retry_s: How much later a lost message at QoS 1 or 2 is sent again.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    retry_s: float = 1.0

    def __post_init__(self) -> None:
        for name in ("latency_s", "jitter_s", "retry_s"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise PlaygroundError(
                    f"A link has {name} = {getattr(self, name)}; it must not be "
                    "negative.",
                    "write a time such as 50ms",
                )
        if not 0 <= self.loss < 1:
            raise PlaygroundError(
                f"A link loses the share {self.loss} of its messages; it must be at "
                "least 0 and below 1.",
                "write for instance 0.01 for one in a hundred",
            )


class LinkedBus:
    """A `Bus` whose clients are connected by imperfect links.

    Args:
        bus: Where the links end.
        clock: Says when something arrives.
        links: By client id; ``"*"`` is for all that are not named. Clients
            without a link are connected as if they sat in the bus.
        seed: Of jitter and loss; equal seeds give equal runs.
    """

    def __init__(
        self, bus: Bus, clock: VirtualClock, links: Mapping[str, Link], *, seed: int = 0
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._links = dict(links)
        self._seed = seed

    def connect(
        self,
        client_id: str,
        on_message: OnMessage | None = None,
        *,
        will: Will | None = None,
        clean: bool = True,
    ) -> Connection:
        """Opens a connection over the link of this client; see `Bus.connect`."""
        link = self._links.get(client_id, self._links.get("*"))
        if link is None:
            return self._bus.connect(client_id, on_message, will=will, clean=clean)
        down, up = ways(self._clock, link, f"{self._seed}/{client_id}")

        def arrive(message: Message) -> None:
            if on_message is not None:
                # Delivered later, the message says when.
                on_message(message._replace(time_ns=self._clock.time_ns()))

        def deliver(message: Message) -> None:
            down.carry(functools.partial(arrive, message), message.qos)

        inner = self._bus.connect(client_id, deliver, will=will, clean=clean)
        return _LinkedConnection(inner, up)


def ways(clock: VirtualClock, link: Link, seed: str) -> tuple[Way, Way]:
    """Returns both directions of a link: to the client, and from it."""
    return Way(clock, link, f"{seed}/down"), Way(clock, link, f"{seed}/up")


class Way:
    """One direction of a link."""

    def __init__(self, clock: VirtualClock, link: Link, seed: str) -> None:
        self._clock = clock
        self._link = link
        self._random = random.Random(seed)
        self._last_s = 0.0
        self._under_way = 0

    def carry(self, action: Callable[[], object], qos: int = 1) -> None:
        """Does ``action`` when it has come through, if it does."""
        link = self._link
        delay_s = link.latency_s
        if link.jitter_s:
            delay_s += self._random.uniform(0.0, link.jitter_s)
        while link.loss and self._random.random() < link.loss:
            if not qos:
                return
            delay_s += link.retry_s
        now = self._clock.now
        arrival_s = max(now + delay_s, self._last_s)
        self._last_s = arrival_s
        # What is due at this very instant may still stand in the clock's queue.
        if arrival_s > now or self._under_way:
            self._under_way += 1
            event = self._clock.at(arrival_s)
            assert event.callbacks is not None
            event.callbacks.append(functools.partial(self._arrive, action))
        else:
            action()

    def _arrive(self, action: Callable[[], object], _: Event) -> None:
        self._under_way -= 1
        action()


class _LinkedConnection:
    """A client's end of a link."""

    def __init__(self, inner: Connection, up: Way) -> None:
        self.client_id = inner.client_id
        self._inner = inner
        self._up = up

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: str | None = None,
    ) -> None:
        """Sends a message up the link."""
        publish = functools.partial(
            self._inner.publish,
            topic,
            payload,
            qos=qos,
            retain=retain,
            properties=properties,
        )
        self._up.carry(publish, qos)

    # What follows is never lost: MQTT repeats it until it is acknowledged.

    def subscribe(self, topic_filter: str, *, qos: int = 0) -> None:
        """Asks up the link for messages."""
        ask = functools.partial(self._inner.subscribe, topic_filter, qos=qos)
        self._up.carry(ask, 1)

    def unsubscribe(self, topic_filter: str) -> None:
        """Takes a subscription back, up the link."""
        self._up.carry(functools.partial(self._inner.unsubscribe, topic_filter), 1)

    def disconnect(self) -> None:
        """Says goodbye after all that is still on its way up."""
        self._up.carry(self._inner.disconnect, 1)
