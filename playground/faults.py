"""What can go wrong on the bus: sensors that lie, messages that get lost.

A `FaultyBus` stands between the parts of a run and their bus. It alters what a
part publishes and cuts connections, so the same faults happen on every
transport, and the broker's log shows what a broker would have seen. Everything
random comes from a seed. Without a fault in the scenario it is not there at all.

When a fault begins is decided elsewhere: by the events of a scenario.
"""

from __future__ import annotations

import functools
import json
import math
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

from playground.bus import Bus, Connection, LocalBus, LocalConnection, OnMessage, Will
from playground.clock import Phase, VirtualClock
from playground.document import DurationText
from playground.errors import PlaygroundError, closest
from playground.message import Message, check_filter, matches
from playground.quantity import check_unit, convert, quantity, seconds
from playground.signals import Signal, Signals

SIGNAL_FAULTS = {
    "stuck": ("value",),
    "bias": ("by",),
    "scale": ("factor",),
    "noise": ("std",),
    "drift": ("rate",),
    "lag": ("tau",),
    "delay": ("delay",),
    "dropout": (),
    "intermittent": (),
    "out_of_range": ("value",),
    "nan": (),
    "wrong_unit": ("unit",),
    "unsigned": ("factor",),
    "garbage": (),
}
"""Kind and parameters of faults of one signal."""
MESSAGE_FAULTS = {
    "drop": (),
    "duplicate": (),
    "reorder": ("within",),
    "late": ("delay",),
    "clock_skew": ("by", "field"),
}
"""Kind and parameters of faults of all messages of a topic filter."""
CONNECTION_FAULTS = {"partition": (), "client_crash": ()}
"""Kind and parameters of faults of one client."""
BROKER_FAULTS = {"broker_restart": (), "retained_loss": ()}
"""Kind and parameters of faults of everybody."""
KINDS = {**SIGNAL_FAULTS, **MESSAGE_FAULTS, **CONNECTION_FAULTS, **BROKER_FAULTS}
_NEEDED = {"bias": "by", "scale": "factor", "noise": "std", "drift": "rate"} | {
    "lag": "tau",
    "delay": "delay",
    "wrong_unit": "unit",
    "reorder": "within",
    "late": "delay",
    "clock_skew": "by",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultEntry:
    """A fault as it stands in a scenario.

    Attributes:
        kind: What goes wrong; see the table of faults.
        signal: Which signal, for a fault of a signal.
        topic: Which topics (a filter), for a fault of messages.
        client: Which client id, for a fault of a connection.
        for_: How long it lasts; to the end of the run by default.
        probability: Share of the messages that it touches; of a connection or
            broker, how likely it happens at all.
        value: ``stuck``, ``out_of_range``: the value that is said.
        by: ``bias``: what is added; ``clock_skew``: a duration.
        factor: ``scale``: what is multiplied; ``unsigned``: value of one step of
            the 16-bit register behind it, by default the scale of the signal.
        std: ``noise``: its standard deviation.
        rate: ``drift``: how fast, ``1 K/h``.
        tau: ``lag``: time constant.
        delay: ``delay``, ``late``: how much later.
        unit: ``wrong_unit``: the unit of the number that is said.
        within: ``reorder``: by how much messages are delayed at most.
        field: ``clock_skew``: the JSON field that holds the time.
    """

    kind: str
    signal: str | None = None
    topic: str | None = None
    client: str | None = None
    for_: DurationText | None = None
    probability: float | None = None
    value: str | float | None = None
    by: str | float | None = None
    factor: float | None = None
    std: str | float | None = None
    rate: str | None = None
    tau: DurationText | None = None
    delay: DurationText | None = None
    unit: str | None = None
    within: DurationText | None = None
    field: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault that is understood.

    Attributes:
        kind: One of `KINDS`.
        signal: The signal it concerns, if it concerns one.
        topic: The topic filter it concerns; that of the signal, if there is one.
        client: The client id it concerns, if it concerns one.
        duration_s: How long it lasts; None to the end.
        probability: See `FaultEntry`.
        number: The one number the kind needs, in the unit of the signal or in
            seconds; None where it needs none.
        text: The one text the kind needs (unit, field).
    """

    kind: str
    signal: Signal | None = None
    topic: str | None = None
    client: str | None = None
    duration_s: float | None = None
    probability: float = 1.0
    number: float | None = None
    text: str = ""


def read_fault(entry: FaultEntry, signals: Signals) -> Fault:
    """Makes a fault from what stands in a scenario.

    Raises:
        PlaygroundError: There is no such kind, or something it needs is missing,
            unknown, or in a unit that does not convert.
    """
    kind = entry.kind
    if kind not in KINDS:
        raise PlaygroundError(
            f"There is no fault {kind!r}.{closest(kind, KINDS)}",
            f"known faults: {', '.join(KINDS)}",
        )
    target = _target_of(kind)
    allowed = {"kind", "for_", "probability", target, *KINDS[kind]}
    for one in fields(FaultEntry):
        if getattr(entry, one.name) is not None and one.name not in allowed:
            key = one.name.removesuffix("_")
            names = [name.removesuffix("_") for name in sorted(allowed) if name]
            raise PlaygroundError(
                f"{key!r} does not go with {kind!r}.", f"with it go {', '.join(names)}"
            )
    if target and getattr(entry, target) is None:
        raise PlaygroundError(
            f"The fault {kind!r} needs to know its {target}.", f"add '{target}: …'"
        )
    needed = _NEEDED.get(kind)
    if needed is not None and getattr(entry, needed) is None:
        raise PlaygroundError(
            f"The fault {kind!r} needs '{needed}'.", f"add '{needed}: …'"
        )
    share = entry.probability
    if share is not None and not 0 < share <= 1:
        raise PlaygroundError(
            f"probability: {share:g} is not above 0 and at most 1.",
            "write 0.1 for 10 %",
        )
    signal = signals.need(entry.signal) if entry.signal is not None else None
    topic = check_filter(entry.topic) if entry.topic is not None else None
    return Fault(
        kind=kind,
        signal=signal,
        topic=signal.topic if signal is not None else topic,
        client=entry.client,
        duration_s=None if entry.for_ is None else seconds(entry.for_),
        probability=share
        if share is not None
        else 0.5
        if kind == "intermittent"
        else 1.0,
        number=_number(entry, signal),
        text=check_unit(entry.unit) if entry.unit else entry.field or "timestamp",
    )


def _target_of(kind: str) -> str:
    if kind in SIGNAL_FAULTS:
        return "signal"
    if kind in MESSAGE_FAULTS:
        return "topic"
    return "client" if kind in CONNECTION_FAULTS else ""


def _number(entry: FaultEntry, signal: Signal | None) -> float | None:
    kind = entry.kind
    if signal is None:
        written = {"reorder": entry.within, "late": entry.delay, "clock_skew": entry.by}
        text = written.get(kind)
        if text is None:
            return None
        if isinstance(text, str) and text.startswith("-"):
            return -seconds(text[1:])
        return seconds(text)
    if kind in ("scale", "unsigned"):
        return entry.factor
    if kind in ("lag", "delay"):
        return seconds(entry.tau or entry.delay or "")
    if kind in ("bias", "noise"):
        written_by = entry.by if kind == "bias" else entry.std
        return quantity(written_by or 0.0, signal.unit, difference=True)
    if kind == "drift":
        unit = {"degC": "K", "degF": "degR"}.get(signal.unit, signal.unit)
        return quantity(entry.rate or "", f"{unit}/s" if unit != "1" else "1/s")
    if kind == "wrong_unit":
        convert(0.0, signal.unit, entry.unit or "")
    if entry.value is not None:
        return quantity(entry.value, signal.unit)
    if kind != "out_of_range":
        return None
    if signal.type in ("int16", "uint16"):
        return (
            32_767 if signal.type == "int16" else 65_535
        ) * signal.scale + signal.offset
    if signal.range is None:
        raise PlaygroundError(
            f"{signal.name!r} declares no range to be out of.",
            f"say what it reads: 'value: 999 {signal.unit}'",
        )
    return 2 * signal.range[1] - signal.range[0]


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
        self.active: list[_Active] = []
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
        active = _Active(fault, chance, self.clock.now)
        for speech in self.speeches.values():
            active.remember(speech.last)
        self.active.append(active)
        self._after(fault.duration_s, functools.partial(self._end, active))

    def _end(self, active: _Active) -> None:
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
            self.bus.retained.clear()
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


@dataclass(slots=True)
class _Active:
    """A fault of a signal or of messages while it lasts."""

    fault: Fault
    chance: random.Random
    began_s: float
    state: float | None = None
    """Value held, filtered or said last."""
    at_s: float = 0.0
    past: deque[tuple[float, float]] = field(default_factory=deque)

    def remember(self, last: Mapping[str, bytes]) -> None:
        """Takes over what the signal said last before the fault."""
        signal = self.fault.signal
        if signal is None or signal.topic not in last:
            return
        value = signal.decode(last[signal.topic])
        if value is not None and not math.isnan(value):
            self.state = value
            self.at_s = self.began_s
            self.past.append((-math.inf, value))

    def carry(
        self, payload: bytes | None, delays_s: list[float]
    ) -> tuple[bytes | None, list[float]]:
        """Returns what becomes of a message, and when its copies arrive."""
        fault = self.fault
        if payload is None or self.chance.random() >= fault.probability:
            return payload, delays_s
        number = fault.number or 0.0
        if fault.kind == "drop":
            return None, delays_s
        if fault.kind == "duplicate":
            return payload, delays_s + delays_s[:1]
        if fault.kind == "late":
            return payload, [delay + number for delay in delays_s]
        if fault.kind == "reorder":
            return payload, [d + self.chance.uniform(0.0, number) for d in delays_s]
        return _skewed(payload, fault.text, number), delays_s

    def alter(self, payload: bytes | None, now_s: float) -> bytes | None:
        """Returns the payload that a faulty sensor sends; None for none."""
        signal = self.fault.signal
        if payload is None or signal is None:
            return payload
        value = signal.decode(payload)
        if value is None:
            return payload
        # The fault keeps its own course even where it does not touch a message.
        changed = self._value(value, now_s)
        if self.chance.random() >= self.fault.probability:
            return payload
        kind = self.fault.kind
        if kind == "garbage":
            return self.chance.randbytes(self.chance.randint(1, 24))
        if kind in ("dropout", "intermittent"):
            return None if signal.path is None else _without(payload, signal)
        return _with(payload, signal, changed)

    def _value(self, value: float, now_s: float) -> float:
        kind, number, signal = self.fault.kind, self.fault.number, self.fault.signal
        assert signal is not None
        if kind == "stuck":
            if number is not None:
                return number
            if self.state is None:
                self.state = value
            return self.state
        if kind == "nan":
            return math.nan
        if kind == "out_of_range":
            return math.nan if number is None else number
        if kind == "wrong_unit":
            return convert(value, signal.unit, self.fault.text)
        if kind == "unsigned":
            step = abs(signal.scale) if number is None else number
            return value + 65_536 * step if value < 0 else value
        if number is None:
            return value
        if kind == "bias":
            return value + number
        if kind == "scale":
            return value * number
        if kind == "noise":
            return value + self.chance.gauss(0.0, number)
        if kind == "drift":
            return value + number * (now_s - self.began_s)
        if kind == "lag":
            if self.state is None or not number:
                self.state = value
            else:
                share = -math.expm1(-(now_s - self.at_s) / number)
                self.state += share * (value - self.state)
            self.at_s = now_s
            return self.state
        # delay: what it was that long ago.
        self.past.append((now_s, value))
        while len(self.past) > 1 and self.past[1][0] <= now_s - number + 1e-9:
            self.past.popleft()
        return self.past[0][1]


def _tree_of(payload: bytes) -> dict[str, Any] | None:
    try:
        tree = json.loads(payload)
    except ValueError:
        return None
    return tree if isinstance(tree, dict) else None


def _with(payload: bytes, signal: Signal, value: float) -> bytes:
    if signal.path is None:
        return signal.encode(value)
    tree = _tree_of(payload)
    if tree is None:
        return payload
    said = json.loads(signal.encode(value))
    return _dumps(_merged(tree, said))


def _without(payload: bytes, signal: Signal) -> bytes:
    tree = _tree_of(payload)
    if tree is None or signal.path is None:
        return payload
    here: Any = tree
    *way, last = json_way(json.loads(signal.encode(0.0)))
    for step in way:
        here = here[step]
    here.pop(last, None)
    return _dumps(tree)


def json_way(tree: Any) -> list[str]:
    """Returns the keys that lead to the only leaf of nested objects."""
    way = []
    while isinstance(tree, dict):
        key, tree = next(iter(tree.items()))
        way.append(key)
    return way


def _merged(tree: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    for key, value in said.items():
        if isinstance(value, dict) and isinstance(tree.get(key), dict):
            _merged(tree[key], value)
        else:
            tree[key] = value
    return tree


def _skewed(payload: bytes, name: str, by_s: float) -> bytes:
    tree = _tree_of(payload)
    if tree is None or not isinstance(tree.get(name), int | float):
        return payload
    tree[name] += by_s
    return _dumps(tree)


def _dumps(tree: Any) -> bytes:
    return json.dumps(tree, separators=(",", ":")).encode()
