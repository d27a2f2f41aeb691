"""Signals: the physical meaning of what a topic carries.

A `Signal` ties a topic (and a place inside its JSON payload) to a number with a
unit; `Signals` reads and writes whole payloads. The file in which people declare
them is read by `playground.signals_file`. No transport, file format of recordings
or event loop may be known here.
"""

from __future__ import annotations

import functools
import json
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from playground.errors import PlaygroundError, closest
from playground.message import check_topic
from playground.quantity import check_unit, seconds

Role = Literal["measurement", "command", "disturbance"]
Wire = Literal["float", "int", "int16", "uint16", "int32", "uint32"]
_BITS = {"int16": 16, "uint16": 16, "int32": 32, "uint32": 32}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One physical quantity on the bus: value = scale × raw + offset.

    Attributes:
        name: What scenarios, checks and tables call it.
        topic: Where it is published.
        path: Place in a JSON payload (``"2023"``, ``"ENERGY.Power"``,
            ``"rows[0].t"``); None where the payload is the bare value.
        unit: Unit of the value; ``"1"`` for none.
        role: ``measurement`` (the plant says it), ``command`` (the plant is
            told), ``disturbance`` (nobody controls it).
        type: How the number stands on the wire. ``int16`` is a 16-bit register
            that carries negative values as two's complement, as Modbus bridges
            send them: 65507 on the wire reads as -29.
        scale: Factor from raw to value.
        offset: Added after scaling.
        range: Smallest and largest believable value, in ``unit``.
        initial: Value before anything was said, in ``unit``.
        values: Words on the wire and the number each stands for
            (``{"ON": 1, "OFF": 0}``).
        invalid: Raw texts that mean "not measured" (``"0.000E+99"``).
        responds: Of a measurement: which way it goes in the end when a command or
            disturbance rises, ``{vsd1: up, valve: down}``, where a person knows.
        description: For people.
    """

    name: str
    topic: str
    unit: str
    role: Role
    path: str | None = None
    type: Wire = "float"
    scale: float = 1.0
    offset: float = 0.0
    range: tuple[float, float] | None = None
    initial: float | None = None
    values: Mapping[str, float] | None = None
    invalid: tuple[str, ...] = ()
    responds: Mapping[str, Literal["up", "down"]] | None = None
    max_age: str | None = None
    resample: Literal["mean", "last"] | None = None
    stamp: str | None = None
    description: str = ""

    def __post_init__(self) -> None:
        check_topic(self.topic)
        check_unit(self.unit)
        if not self.scale or not math.isfinite(self.scale):
            raise PlaygroundError(
                f"Signal {self.name!r} has scale {self.scale}: every value would be "
                "lost.",
                "write the factor from the raw number to the value, for instance 0.1",
            )
        if self.range is not None and not self.range[0] < self.range[1]:
            raise PlaygroundError(
                f"Signal {self.name!r} has the range {list(self.range)}: "
                "the first number must be below the second.",
                f"write [{self.range[1]:g}, {self.range[0]:g}]",
            )
        if self.max_age is not None and not seconds(self.max_age) > 0:
            raise PlaygroundError(
                f"Signal {self.name!r} has max_age {self.max_age}: no value would ever "
                "be known.",
                "write how long a value holds, for instance 30min",
            )

    def decode(self, payload: bytes) -> float | None:
        """Reads the value out of a payload.

        Returns:
            The value in ``unit``; NaN where the payload names the signal but
            says nothing valid; None where it does not name it at all.
        """
        if self.path is not None:
            return self.decode_json(_loads(payload))
        if self.values is None and not self.invalid and self.type == "float":
            try:
                return float(payload) * self.scale + self.offset
            except ValueError:
                return math.nan
        return self.value_of(payload.decode("utf-8", "replace").strip())

    @property
    def is_plain(self) -> bool:
        """Whether the payload is the number alone, in the signal's unit."""
        return (
            self.path is None
            and self.type == "float"
            and self.values is None
            and not self.invalid
            and (self.scale, self.offset) == (1, 0)
        )

    def decode_json(self, tree: Any) -> float | None:
        """Reads the value out of a parsed JSON payload; see `decode`."""
        raw = _find(tree, self.path or "")
        return None if raw is _ABSENT else self.value_of(raw)

    def value_of(self, raw: Any) -> float:
        """Returns the value in ``unit`` of what stands on the wire, or NaN."""
        if isinstance(raw, str):
            if self.values is not None and raw in self.values:
                return self.values[raw]
            if raw in self.invalid:
                return math.nan
        elif isinstance(raw, bool):
            raw = int(raw)
        try:
            number = float(raw)
        except (TypeError, ValueError):
            return math.nan
        if self.type == "float":
            return number * self.scale + self.offset
        bits = _BITS.get(self.type)
        if bits and self.type[0] == "i" and 1 << (bits - 1) <= number < 1 << bits:
            number -= 1 << bits
        return number * self.scale + self.offset

    def raw_of(self, value: float) -> float | int | str | None:
        """Returns what stands on the wire for a value; None for what cannot stand."""
        if value != value:  # NaN, without a call
            return None
        if self.values is not None:
            for word, number in self.values.items():
                if number == value:
                    return word
        number = (value - self.offset) / self.scale
        if self.type == "float":
            return float("%.10g" % number)  # noqa: UP031 - the faster spelling
        if not math.isfinite(number):
            return None  # no register can say it
        whole = round(number)
        bits = _BITS.get(self.type)
        return whole if bits is None else whole % (1 << bits)

    def encode(self, value: float) -> bytes:
        """Writes a payload that carries this value alone."""
        if self.path is None:
            if self.type == "float" and self.values is None:
                # The same bytes as below, in a third of the time: a run of a day
                # writes a million numbers.
                payload = b"%.10g" % ((value - self.offset) / self.scale)
                if b"." in payload and b"e" not in payload:
                    return payload
            raw = self.raw_of(value)
            return b"nan" if raw is None else str(raw).encode()
        tree: dict[str, Any] = {}
        _place(tree, self.path, self.raw_of(value))
        return _ENCODER.encode(tree).encode()

    def encoder(self) -> Callable[[float], bytes]:
        """Returns `encode`, made for this signal: for who writes many values."""
        if not self.is_plain:
            return self.encode

        def encode(value: float) -> bytes:
            payload = b"%.10g" % value
            if b"." in payload and b"e" not in payload:
                return payload
            return self.encode(value)

        return encode

    def json_writer(self) -> Callable[[float], str]:
        """Returns what writes a value as it stands within JSON."""
        if self.values is not None:
            return lambda value: _ENCODER.encode(self.raw_of(value))
        scale, offset = self.scale, self.offset
        bits = _BITS.get(self.type)
        modulus = None if bits is None else 1 << bits

        def write_float(value: float) -> str:
            text = "%.10g" % ((value - offset) / scale)
            if "." in text and "e" not in text:
                return text
            return _ENCODER.encode(self.raw_of(value))

        def write_whole(value: float) -> str:
            number = (value - offset) / scale
            if not math.isfinite(number):
                return "null"
            whole = round(number)
            return str(whole if modulus is None else whole % modulus)

        return write_float if self.type == "float" else write_whole

    def clip(self, value: float) -> float:
        """Returns the value, moved to the nearest end of the range if outside."""
        if self.range is None:
            return value
        low, high = self.range
        return low if value < low else high if value > high else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A message a plant sends again and again.

    Attributes:
        topic: Where.
        signals: Names of the signals its payload carries, in order.
        period_s: Seconds between two of them.
        offset_s: Seconds from the start to the first.
        retain: Retain flag.
        qos: QoS.
        fields: JSON fields that never change, placed before the signals; a
            signal whose path is among them takes that field's place.
        timestamp: Name of the JSON field that carries seconds since 1970. It
            comes first, or in the place that ``fields`` keeps for it.
    """

    topic: str
    signals: tuple[str, ...]
    period_s: float
    offset_s: float = 0.0
    retain: bool = False
    qos: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict)
    timestamp: str | None = None


class Signals(Mapping[str, Signal]):
    """Signals by name, with the messages that carry them.

    Args:
        signals: The signals; names must be unique.
        publications: How measurements are published; topics that none of them
            names get one message per plant step (see `publications_every`).
        balances: By name, texts of balances of powers between signals
            (`playground.learn.balance`).
    """

    def __init__(
        self,
        signals: Iterable[Signal],
        publications: Iterable[Publication] = (),
        *,
        balances: Mapping[str, str] | None = None,
    ) -> None:
        self._signals: dict[str, Signal] = {}
        self.by_topic: dict[str, tuple[Signal, ...]] = {}
        for signal in signals:
            if signal.name in self._signals:
                raise PlaygroundError(
                    f"Two signals are called {signal.name!r}.", "rename one of them"
                )
            self._signals[signal.name] = signal
            here = self.by_topic.get(signal.topic, ())
            self.by_topic[signal.topic] = (*here, signal)
        self.publications = tuple(publications)
        self.balances = {str(n): text for n, text in (balances or {}).items()}
        self.plain: dict[str, Signal] = {
            topic: here[0]
            for topic, here in self.by_topic.items()
            if len(here) == 1 and here[0].is_plain
        }
        """By topic, the signals whose payload is their number and no more."""

    def __getitem__(self, name: str) -> Signal:
        return self._signals[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._signals)

    def __len__(self) -> int:
        return len(self._signals)

    def with_role(self, *roles: Role) -> tuple[Signal, ...]:
        """Returns the signals that have one of the roles, in order."""
        return tuple(s for s in self._signals.values() if s.role in roles)

    def need(self, name: str) -> Signal:
        """Returns the signal of that name.

        Raises:
            PlaygroundError: There is none; the nearest name is proposed.
        """
        if name not in self._signals:
            raise PlaygroundError(
                f"There is no signal {name!r}.{closest(name, self._signals)}",
                f"known signals: {', '.join(self._signals) or 'none'}",
            )
        return self._signals[name]

    def decode(self, topic: str, payload: bytes) -> list[tuple[str, float]]:
        """Reads all signals a payload carries; parses JSON once.

        Returns:
            ``(name, value)`` pairs; signals that the payload does not name are
            left out, invalid ones are NaN.
        """
        plain = self.plain.get(topic)
        if plain is not None:
            # A million times a day: no text is made of what is a number anyway.
            try:
                return [(plain.name, float(payload))]
            except ValueError:
                return [(plain.name, math.nan)]
        here = self.by_topic.get(topic, ())
        if len(here) == 1:
            only = here[0].decode(payload)
            return [] if only is None else [(here[0].name, only)]
        found = []
        tree: Any = _UNREAD
        for signal in here:
            if signal.path is None:
                value: float | None = signal.decode(payload)
            else:
                if tree is _UNREAD:
                    tree = _loads(payload)
                value = signal.decode_json(tree)
            if value is not None:
                found.append((signal.name, value))
        return found

    def stamps(self, topic: str, payload: bytes) -> dict[str, float]:
        """Reads the instants that a payload gives for its signals, by name.

        Returns:
            Seconds since 1970 UTC; a signal without a ``stamp``, or without a number
            in that place, is left out.
        """
        stamped = [s for s in self.by_topic.get(topic, ()) if s.stamp is not None]
        tree = _loads(payload) if stamped else None
        found = {}
        for signal in stamped:
            try:
                found[signal.name] = float(_find(tree, signal.stamp or ""))
            except (TypeError, ValueError):
                continue
        return {name: at for name, at in found.items() if math.isfinite(at)}

    def encode(
        self, publication: Publication, values: Mapping[str, float], time_ns: int
    ) -> bytes:
        """Writes the payload of a publication.

        Args:
            publication: Which message.
            values: Value of each signal, in its unit; NaN becomes ``null``.
            time_ns: Goes into the timestamp field, where there is one.
        """
        first = self._signals[publication.signals[0]] if publication.signals else None
        if first is not None and first.path is None:
            return first.encode(values[first.name])
        tree: dict[str, Any] = dict(publication.fields)
        stamp = publication.timestamp
        if stamp in tree:
            tree[stamp] = time_ns / 1e9
        elif stamp is not None:
            tree = {stamp: time_ns / 1e9, **tree}
        for name in publication.signals:
            signal = self._signals[name]
            _place(tree, signal.path or name, signal.raw_of(values[name]))
        return _ENCODER.encode(tree).encode()

    def encoder(
        self, publication: Publication
    ) -> Callable[[Mapping[str, float], int], bytes]:
        """Returns `encode`, made for this publication: for who sends many."""
        names = publication.signals
        first = self._signals[names[0]] if names else None
        if first is not None and first.path is None:
            name, write = first.name, first.encoder()
            return lambda values, time_ns: write(values[name])
        signals = [self._signals[name] for name in names]
        pattern = self._pattern(publication, signals)
        if pattern is None:
            return functools.partial(self.encode, publication)
        told = [(signal.name, signal.json_writer()) for signal in signals]
        # The stamp takes part if it has a field, and it stands first there.
        stamped = publication.timestamp is not None

        def encode(values: Mapping[str, float], time_ns: int) -> bytes:
            texts = [write(values[name]) for name, write in told]
            if stamped:
                texts.insert(0, repr(time_ns / 1e9))
            return (pattern % tuple(texts)).encode()

        return encode

    def _pattern(
        self, publication: Publication, signals: Sequence[Signal]
    ) -> str | None:
        """Returns the JSON of a publication with ``%s`` for what changes.

        None if the stamp and the signals do not stand in it once each, in this
        order.
        """
        marks = [f"\0{number}\0" for number in range(len(signals) + 1)]
        tree: dict[str, Any] = dict(publication.fields)
        stamp = publication.timestamp
        if stamp in tree:
            tree[stamp] = marks[0]
        elif stamp is not None:
            tree = {stamp: marks[0], **tree}
        for signal, mark in zip(signals, marks[1:], strict=True):
            _place(tree, signal.path or signal.name, mark)
        text = _ENCODER.encode(tree).replace("%", "%%")
        places = []
        for mark in marks if stamp is not None else marks[1:]:
            spelled = _ENCODER.encode(mark)
            if text.count(spelled) != 1:
                return None
            places.append(text.index(spelled))
            text = text.replace(spelled, "%s".ljust(len(spelled), "\0"))
        if places != sorted(places):
            return None
        return text.replace("\0", "")

    def encoder_of_all(
        self, publications: Sequence[Publication]
    ) -> Callable[[Mapping[str, float], int], list[bytes]]:
        """Returns `encode` for publications of one instant, in their order."""
        encoders = [self.encoder(publication) for publication in publications]

        def encode(values: Mapping[str, float], time_ns: int) -> list[bytes]:
            return [encoder(values, time_ns) for encoder in encoders]

        firsts = [self._signals[p.signals[0]] for p in publications if p.signals]
        if len(firsts) < max(2, len(publications)) or not all(
            first.is_plain for first in firsts
        ):
            return encode
        write = self.writer_of([first.name for first in firsts])
        take = operator.itemgetter(*[first.name for first in firsts])
        return lambda values, time_ns: write(take(values))

    def writer_of(
        self, names: Sequence[str]
    ) -> Callable[[tuple[float, ...]], list[bytes]]:
        """Returns `Signal.encode` for several values at once, one of each signal."""
        encoders = [self._signals[name].encoder() for name in names]

        def each(values: tuple[float, ...]) -> list[bytes]:
            return [
                encode(value) for encode, value in zip(encoders, values, strict=True)
            ]

        if not all(self._signals[name].is_plain for name in names):
            return each
        count, pattern = len(names), b" ".join([b"%.10g"] * len(names))

        def together(values: tuple[float, ...]) -> list[bytes]:
            # One formatting for all of them takes half the time.
            text: bytes = pattern % values
            if text.count(b".") == count and b"e" not in text:
                return text.split(b" ")
            return each(values)

        return together

    def publications_every(self, period_s: float) -> tuple[Publication, ...]:
        """Returns the declared publications and one for each topic left over.

        Args:
            period_s: Period of those that were not declared.
        """
        covered = {name for p in self.publications for name in p.signals}
        rest: dict[str, list[str]] = {}
        for signal in self.with_role("measurement"):
            if signal.name not in covered:
                # A bare payload carries one value; a JSON one carries several.
                rest.setdefault(signal.topic, []).append(signal.name)
        return self.publications + tuple(
            Publication(topic=topic, signals=tuple(names), period_s=period_s)
            for topic, names in rest.items()
        )


# Made once: json.loads and json.dumps with options make a new one per call.
# Floats stay text until a signal has seen whether they are marked invalid:
# 0.000E+99 is a legal zero.
_DECODER = json.JSONDecoder(parse_float=str)
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_ABSENT = object()
_UNREAD = object()


def _loads(payload: bytes) -> Any:
    try:
        return _DECODER.decode(payload.decode())
    except (ValueError, RecursionError):
        return None


@functools.cache
def _steps(path: str) -> tuple[str | int, ...]:
    steps: list[str | int] = []
    for part in path.removeprefix("$.").split("."):
        name, *indices = part.split("[")
        if name:
            steps.append(name)
        steps.extend(int(index.rstrip("]")) for index in indices)
    return tuple(steps)


def _find(tree: Any, path: str) -> Any:
    if isinstance(tree, dict) and path in tree:
        return tree[path]
    for step in _steps(path):
        try:
            tree = tree[step]
        except (KeyError, IndexError, TypeError):
            return _ABSENT
    return tree


def _place(tree: dict[str, Any], path: str, value: Any) -> None:
    steps = _steps(path)
    here: Any = tree
    for step in steps[:-1]:
        here = here.setdefault(step, {})
    here[steps[-1]] = value
