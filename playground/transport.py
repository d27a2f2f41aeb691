"""Where the parts of a run meet: in memory, in lockstep, or in real time.

Each function opens one of the three ways to run and yields the clock and the bus
that belong together. Who takes part, and what they do there, is not known here.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from playground.broker import EmbeddedBroker
from playground.bus import Bus, Connection, LocalBus, OnMessage, Will
from playground.clock import DEFAULT_START_NS, RealtimeClock, VirtualClock
from playground.errors import ConnectionFailed
from playground.lockstep import LockstepBus, LockstepClock
from playground.message import Message
from playground.mqtt import MqttBus, MqttConnection

Name = Literal["local", "lockstep", "realtime"]
END_TOPIC = "playground/end"
DRAIN_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """A place to run in.

    Attributes:
        clock: Runs it: ``clock.run(until=…)``.
        bus: Where the parts connect.
        observe: Shows every publication to a function, as the broker took it.
        finish: To be called after the run: waits until all that was said has
            been shown to the observers.
        url: The broker, for programs outside this process; None without one.
    """

    clock: VirtualClock
    bus: Bus
    observe: Callable[[OnMessage], None]
    finish: Callable[[], None]
    url: str | None


@contextlib.contextmanager
def local(start_ns: int = DEFAULT_START_NS) -> Iterator[Transport]:
    """Opens a bus in memory, in virtual time; the same log on every machine.

    Args:
        start_ns: The instant at which the run begins, nanoseconds since 1970.
    """
    clock = VirtualClock(start_ns)
    bus = LocalBus(clock)
    yield Transport(
        clock=clock, bus=bus, observe=bus.observe, finish=lambda: None, url=None
    )


@contextlib.contextmanager
def lockstep(
    start_ns: int = DEFAULT_START_NS,
    *,
    url: str | None = None,
    clients: Sequence[str] = (),
    deadline_s: float = 10.0,
) -> Iterator[Transport]:
    """Opens a real broker in virtual time; see `playground.lockstep`.

    Args:
        start_ns: The instant at which the run begins, nanoseconds since 1970.
        url: The broker; an embedded one is started by default.
        clients: Client ids of the programs outside that take part.
        deadline_s: Wall seconds after which a silent client ends the run.

    Raises:
        ConnectionFailed: The broker cannot be reached.
    """
    with _broker(url) as at:
        clock = LockstepClock(start_ns)
        bus = LockstepBus(
            _SwiftBus(at),
            clock,
            clients=clients,
            deadline_s=deadline_s,
        )
        try:
            yield Transport(
                clock=clock, bus=bus, observe=bus.observe, finish=bus.settle, url=at
            )
        finally:
            bus.close()


@contextlib.contextmanager
def realtime(
    start_ns: int | None = None, *, url: str | None = None, speed: float = 1.0
) -> Iterator[Transport]:
    """Opens a real broker, paced by the wall clock.

    Args:
        start_ns: The instant at which the run begins; the present by default.
        url: The broker; an embedded one is started by default.
        speed: Seconds of the run in one second of the wall clock.

    Raises:
        ConnectionFailed: The broker cannot be reached.
    """
    clock = RealtimeClock(start_ns, speed=speed)
    buses: list[RealtimeBus] = []

    def observed(message: Message) -> None:
        for bus in buses:
            bus.observed(message)

    # A broker of our own tells who published and with which flags; of another
    # one we can only subscribe.
    with _broker(url, observed) as at:
        bus = RealtimeBus(at, clock, subscribe=url is not None)
        buses.append(bus)
        try:
            yield Transport(
                clock=clock, bus=bus, observe=bus.observe, finish=bus.finish, url=at
            )
        finally:
            bus.close()


@contextlib.contextmanager
def _broker(url: str | None, observer: OnMessage | None = None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    with EmbeddedBroker(observer=observer) as broker:
        yield broker.url


class _SwiftBus:
    """A broker whose clients speak and hear in one thread, where it speaks TCP."""

    def __init__(self, url: str) -> None:
        self._bus = MqttBus(url, retain_as_published=True)

    def connect(
        self,
        client_id: str,
        on_message: OnMessage | None = None,
        *,
        will: Will | None = None,
        clean: bool = True,
    ) -> Connection:
        if will is not None or not clean or self._bus.url.is_websocket:
            return self._bus.connect(client_id, on_message, will=will, clean=clean)
        return self._bus.converse(client_id, on_message)


class RealtimeBus:
    """A `Bus` over a real broker whose callbacks run inside the run.

    Args:
        url: The broker.
        clock: Takes the calls of the network threads, and stamps what arrives.
        subscribe: Observe by a subscription to everything. With MQTT 3.1.1 its
            retain flags are always 0, and it never knows who published; False
            where the broker itself calls `observed`.
    """

    def __init__(
        self, url: str, clock: RealtimeClock, *, subscribe: bool = True
    ) -> None:
        self.clock = clock
        self._bus = MqttBus(url, dispatch=clock.inject)
        self.url = self._bus.url
        self._connections: list[MqttConnection] = []
        self._observers: list[OnMessage] = []
        self._changed = threading.Condition()
        self._ends = 0
        # A recording wants the flags as published, a participant as delivered.
        self._log = MqttBus(url, retain_as_published=True).connect(
            "playground-log", self.observed
        )
        if subscribe:
            self._log.subscribe("#", qos=2)

    def connect(
        self,
        client_id: str,
        on_message: OnMessage | None = None,
        *,
        will: Will | None = None,
        clean: bool = True,
    ) -> MqttConnection:
        """Opens a connection of its own to the broker."""
        stamped = (
            None if on_message is None else functools.partial(self._hear, on_message)
        )
        connection = self._bus.connect(client_id, stamped, will=will, clean=clean)
        self._connections.append(connection)
        return connection

    def observe(self, observer: OnMessage) -> None:
        """Shows every publication to ``observer``, inside the run."""
        self._observers.append(observer)

    def finish(self) -> None:
        """Waits until all that was said has been shown to the observers.

        Raises:
            ConnectionFailed: The broker does not deliver any more.
        """
        # MQTT keeps the order of one publisher only, so everybody has to say a
        # last word; what comes after it was said after the end.
        speaking = [each for each in self._connections if each.is_connected]
        for connection in speaking:
            connection.flush()
            connection.publish(END_TOPIC, b"")
        with self._changed:
            if not self._changed.wait_for(
                lambda: self._ends >= len(speaking), DRAIN_WITHIN_S
            ):
                raise ConnectionFailed(
                    f"The broker did not deliver the end of the run within "
                    f"{DRAIN_WITHIN_S:g} s.",
                    "see whether it still runs; a lower --speed asks less of it",
                )
        self.clock.catch_up()

    def close(self) -> None:
        """Disconnects everybody."""
        for connection in self._connections:
            connection.disconnect()
        self._log.disconnect()

    def _hear(self, on_message: OnMessage, message: Message) -> None:
        on_message(message._replace(time_ns=self.clock.time_ns()))

    def observed(self, message: Message) -> None:
        """Takes what the broker says it has taken, on any thread."""
        if message.topic == END_TOPIC and message.kind == "publish":
            with self._changed:
                self._ends += 1
                self._changed.notify_all()
        else:
            self.clock.inject(functools.partial(self._tell, message))

    def _tell(self, message: Message) -> None:
        stamped = message._replace(time_ns=self.clock.time_ns())
        for observer in self._observers:
            observer(stamped)
