"""A bus on which faults can begin.

A `FaultyBus` stands between the parts of a run and their bus. It alters what a part
publishes and cuts connections, and the broker's log shows what a broker would have
seen. Everything random comes from a seed. Without a fault in the scenario it is not
there at all.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any, Protocol

from playground.bus import Bus, Connection, LocalBus, LocalConnection, OnMessage, Will
from playground.clock import Phase, VirtualClock
from playground.faults import (
    BROKER_FAULTS,
    CONNECTION_FAULTS,
    MESSAGE_FAULTS,
    Fault,
)
from playground.faults.active import Active
from playground.message import Message, matches


class Struck(Protocol):
    """A client that can be cut off.

    Attributes:
        client_id: By which faults know it.
    """

    client_id: str

    def cut(self, kind: str) -> None:
        """Cuts it off, as a fault of this kind does."""
        ...

    def mend(self) -> None:
        """Lets it come back."""
        ...


class FaultyBus:
    """A bus on which faults can begin.

    Args:
        bus: Where everybody really meets.
        clock: Ends faults and delays messages.
        seed: Of all that is random.
    """

    def __init__(self, bus: Bus, clock: VirtualClock, *, seed: int = 0) -> None:
        self.bus = bus
        self.clock = clock
        self.seed = seed
        self.connections: list[Struck] = []
        """All that can be cut off."""
        self.speeches: dict[str, Speech] = {}
        """What each client says, by client id."""
        self.active: list[Active] = []
        self._begun = 0

    def connect(
        self,
        client_id: str,
        on_message: OnMessage | None = None,
        *,
        will: Will | None = None,
        clean: bool = True,
    ) -> FaultyConnection:
        """Opens a connection that faults can strike."""
        connection = FaultyConnection(self, client_id, on_message, will, clean=clean)
        self.connections = [c for c in self.connections if c.client_id != client_id]
        self.connections.append(connection)
        return connection

    def speech(self, client_id: str, send: Callable[..., object]) -> Speech:
        """Returns the way of what a client says; one of the same client id ends."""
        speech = self.speeches[client_id] = Speech(self, send)
        return speech

    def through(self, connection: LocalConnection) -> Callable[..., None]:
        """Returns what a connection that was not made here is to publish with."""

        def send(topic: str, payload: bytes, **flags: Any) -> None:
            # What was late may find its sender gone.
            if connection.connected:
                connection.publish(topic, payload, **flags)

        return self.speech(connection.client_id, send).say

    def speaker(self, connection: Connection) -> Connection:
        """Returns a connection whose words faults alter but which none cuts off."""
        return _Speaker(connection, self)

    def begin(self, fault: Fault) -> None:
        """Lets a fault begin now; it ends by itself."""
        self._begun += 1
        # Text seeds do not depend on the hash seed of the interpreter.
        chance = random.Random(f"{self.seed}/{self._begun}/{fault.kind}")
        if fault.kind in CONNECTION_FAULTS or fault.kind in BROKER_FAULTS:
            if chance.random() < fault.probability:
                self._strike(fault)
            return
        active = Active(fault, chance, self.clock.now)
        for speech in self.speeches.values():
            active.remember(speech.last)
        self.active.append(active)
        self._after(fault.duration_s, functools.partial(self._end, active))

    def _end(self, active: Active) -> None:
        self.active.remove(active)

    def _strike(self, fault: Fault) -> None:
        if fault.kind == "retained_loss":
            self._lose_retained()
            return
        struck = [
            c
            for c in self.connections
            if fault.client is None or c.client_id == fault.client
        ]
        for connection in struck:
            connection.cut(fault.kind)
        duration_s = fault.duration_s
        if fault.kind == "broker_restart":
            self._lose_retained()
            # A broker that is back at once has thrown everybody out all the same.
            duration_s = duration_s or 0.0

        def mend() -> None:
            for connection in struck:
                connection.mend()

        self._after(duration_s, mend)

    def _lose_retained(self) -> None:
        if isinstance(self.bus, LocalBus):
            self.bus.forget_retained()
            return
        # To clear them is nobody's word, so no fault may touch it.
        topics = {t: each for each in self.speeches.values() for t in each.retained}
        for topic, speech in topics.items():
            speech.send(topic, b"", qos=0, retain=True, properties=None)

    def _after(self, duration_s: float | None, action: Callable[[], object]) -> None:
        if duration_s is None:
            return
        at_s = self.clock.now + duration_s
        call_at(self.clock, at_s, action, phase=Phase.DISTURBANCE)

    def later(self, delay_s: float, action: Callable[[], object]) -> None:
        """Calls an action after a delay, among the publications of that instant."""
        at_s = self.clock.now + delay_s
        call_at(self.clock, at_s, action, phase=Phase.PUBLICATION)


def call_at(
    clock: VirtualClock, time_s: float, action: Callable[[], object], *, phase: Phase
) -> None:
    """Calls an action at an instant of a run."""

    def call(_: object) -> None:
        action()

    callbacks = clock.at(time_s, phase=phase).callbacks
    assert callbacks is not None
    callbacks.append(call)


class Speech:
    """What one client says, on its way through the faults.

    Args:
        bus: Where faults are active.
        send: Takes what they leave of it.
    """

    def __init__(self, bus: FaultyBus, send: Callable[..., object]) -> None:
        self.last: dict[str, bytes] = {}
        """Last payload it published on each topic."""
        self.retained: set[str] = set()
        self._bus = bus
        self.send = send

    def say(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: str | None = None,
    ) -> None:
        """Publishes what the faults leave of it."""
        self.last[topic] = payload
        if retain:
            self.retained.add(topic)
        altered: bytes | None = payload
        delays_s = [0.0]
        for active in self._bus.active:
            if active.fault.topic is None or not matches(active.fault.topic, topic):
                continue
            if active.fault.kind in MESSAGE_FAULTS:
                altered, delays_s = active.carry(altered, delays_s)
            else:
                altered = active.alter(altered, self._bus.clock.now)
            if altered is None:
                return
        for delay_s in delays_s:
            send = functools.partial(
                self.send,
                topic,
                altered or b"",
                qos=qos,
                retain=retain,
                properties=properties,
            )
            if delay_s:
                self._bus.later(delay_s, send)
            else:
                send()


class _Speaker:
    """A connection made elsewhere; what is said here goes through the faults."""

    def __init__(self, connection: Connection, bus: FaultyBus) -> None:
        self.client_id = connection.client_id
        self.subscribe = connection.subscribe
        self.unsubscribe = connection.unsubscribe
        self.disconnect = connection.disconnect
        self.publish = bus.speech(connection.client_id, connection.publish).say


class FaultyConnection:
    """One client's end of a `FaultyBus`."""

    def __init__(
        self,
        bus: FaultyBus,
        client_id: str,
        on_message: OnMessage | None,
        will: Will | None,
        *,
        clean: bool,
    ) -> None:
        self.client_id = client_id
        self.speech = bus.speech(client_id, self._send)
        self._bus = bus
        self._will = will
        self._clean = clean
        self._hears = on_message
        self._filters: dict[str, int] = {}
        self._cut = ""
        self._waiting: list[Callable[[], object]] = []
        self.inner = self._open()

    def _open(self) -> Connection:
        return self._bus.bus.connect(
            self.client_id,
            None if self._hears is None else self._on_message,
            will=self._will,
            clean=self._clean,
        )

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: str | None = None,
    ) -> None:
        """Publishes what the faults leave of it."""
        self.speech.say(topic, payload, qos=qos, retain=retain, properties=properties)

    def _send(self, topic: str, payload: bytes, **flags: Any) -> None:
        if not self._cut:
            self.inner.publish(topic, payload, **flags)
        elif self._cut == "partition" and flags["qos"]:
            # A client keeps QoS 1 and 2 until the broker answers again.
            self._waiting.append(
                functools.partial(self.inner.publish, topic, payload, **flags)
            )

    def subscribe(self, topic_filter: str, *, qos: int = 0) -> None:
        """Subscribes; after a cut it subscribes again by itself."""
        self._filters[topic_filter] = qos
        if not self._cut:
            self.inner.subscribe(topic_filter, qos=qos)

    def unsubscribe(self, topic_filter: str) -> None:
        """Takes a subscription back."""
        self._filters.pop(topic_filter, None)
        if not self._cut:
            self.inner.unsubscribe(topic_filter)

    def disconnect(self) -> None:
        """Says goodbye."""
        if not self._cut:
            self.inner.disconnect()

    def cut(self, kind: str) -> None:
        """Cuts the connection as a fault does."""
        if self._cut:
            return
        self._cut = kind
        if kind == "client_crash":
            # The broker notices, and the will goes out.
            abort = getattr(self.inner, "abort", self.inner.disconnect)
            abort()
        elif kind == "broker_restart":
            self.inner.disconnect()

    def mend(self) -> None:
        """Comes back, subscribes again, and sends what has waited."""
        kind, self._cut = self._cut, ""
        if kind in ("client_crash", "broker_restart"):
            self.inner = self._open()
            for topic_filter, qos in self._filters.items():
                self.inner.subscribe(topic_filter, qos=qos)
        waiting, self._waiting = self._waiting, []
        for action in waiting:
            action()

    def _on_message(self, message: Message) -> None:
        assert self._hears is not None
        if self._cut != "partition":
            self._hears(message)
        elif message.qos:
            self._waiting.append(functools.partial(self._hears, message))
