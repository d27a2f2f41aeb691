"""Two recordings as numbers: equal numbers for equal messages.

Streams both as long as they agree word for word. Of what follows the first
difference three numbers per message are held in memory, never the payloads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from playground.diff.alignment import Numbers
from playground.errors import PlaygroundError
from playground.message import Message, check_filter, matches
from playground.recording import Recording
from playground.recording.columns import byte_list, to_messages, values
from playground.recording.retained import SAID

BEFORE = 10
"""Messages shown before a difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignore:
    """What does not count when payloads are compared.

    Attributes:
        topics: Filters of topics that are left out altogether.
        paths: Pairs of a topic filter and a JSON path that is left out of the
            payloads of its topics.
    """

    topics: tuple[str, ...] = ()
    paths: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Ignore:
        """Reads ``FILTER``, ``$.path`` (every topic) or ``FILTER:$.path``.

        Raises:
            PlaygroundError: A filter is none, or a path is empty.
        """
        topics: list[str] = []
        paths: list[tuple[str, str]] = []
        for text in texts:
            if text.startswith("$."):
                topic_filter, path = "#", text[2:]
            else:
                topic_filter, colon, path = text.partition(":$.")
                if not colon:
                    topics.append(check_filter(text))
                    continue
            if not path:
                raise PlaygroundError(
                    f"{text!r} names no place in the payload.",
                    "write for instance '$.timestamp' or 'modbus/#:$.timestamp'",
                )
            paths.append((check_filter(topic_filter), path))
        return cls(topics=tuple(topics), paths=tuple(paths))

    def paths_of(self, topic: str) -> tuple[str, ...]:
        """Returns the JSON paths that do not count on a topic."""
        return tuple(path for one, path in self.paths if matches(one, topic))


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What makes two messages of a topic equal.

    Attributes:
        ignore: What does not count.
        qos: The QoS counts.
        retain: The retain flag counts.
        times_s: The time since the first message counts, to within so much;
            None: it does not.
        topics: Filters of the topics that are compared.
        exclude: Filters of those that are not.
    """

    ignore: Ignore = field(default_factory=Ignore)
    qos: bool = True
    retain: bool = True
    times_s: float | None = None
    topics: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class Side:
    """One of the two recordings, read table by table.

    Attributes:
        start_ns: Time of its first compared message.
        count: Compared messages, in all.
        topics: After `take_rest`: a number per message that is left, equal for
            equal topics of both sides.
        keys: The same for what else makes messages equal.
        times_ns: The same: time since the first message.
    """

    def __init__(self, recording: Recording, compared: Compared) -> None:
        self.recording = recording
        self.start_ns: int | None = None
        self.count = 0
        self.topics = self.keys = self.times_ns = np.zeros(0, np.int64)
        self._compared = compared
        self._passed = 0
        self._tables = self._read()
        self._rest: pa.Table | None = None

    def _read(self) -> Iterator[pa.Table]:
        compared = self._compared
        return self.recording.tables(
            topics=compared.topics,
            exclude=(*compared.exclude, *compared.ignore.topics),
            kinds=SAID,
        )

    def peek(self) -> pa.Table | None:
        """Returns the rows that come next; None at the end."""
        while self._rest is None or not len(self._rest):
            table = next(self._tables, None)
            if table is None:
                return None
            self.count += len(table)
            self._rest = table
            if self.start_ns is None:
                self.start_ns = int(table.column("time")[0].value)
        return self._rest

    def skip(self, rows: int) -> None:
        """Passes over rows."""
        assert self._rest is not None
        self._passed += rows
        self._rest = self._rest.slice(rows)

    def take_rest(self, numbers: dict[str, int]) -> None:
        """Reads all that is left and keeps three numbers per message.

        Args:
            numbers: A number per topic, for both sides.
        """
        parts: list[tuple[Numbers, Numbers, Numbers]] = []
        while (table := self.peek()) is not None:
            parts.extend(self._numbered(batch, numbers) for batch in table.to_batches())
            self._rest = None
        if parts:
            self.topics, self.keys, self.times_ns = (
                np.concatenate(column) for column in zip(*parts, strict=True)
            )

    def _numbered(
        self, batch: pa.RecordBatch, numbers: dict[str, int]
    ) -> tuple[Numbers, Numbers, Numbers]:
        compared = self._compared
        names = batch.column("topic").dictionary.to_pylist()
        codes = [numbers.setdefault(name, len(numbers)) for name in names]
        indices = values(batch.column("topic").indices)
        payloads = byte_list(batch.column("payload"))
        ignored = [compared.ignore.paths_of(name) for name in names]
        if any(ignored):
            payloads = [
                without_paths(payload, ignored[index]) if ignored[index] else payload
                for payload, index in zip(payloads, indices.tolist(), strict=True)
            ]
        # Keyed 64-bit hashes: that two different payloads of a topic share one
        # is less likely than that the memory flips a bit.
        keys = np.fromiter(map(hash, payloads), np.int64, len(payloads)) * 8
        if compared.qos:
            keys += values(batch.column("qos")).astype(np.int64) * 2
        if compared.retain:
            keys += values(batch.column("retain"))
        return np.array(codes, np.int64)[indices], keys, since(batch, self)

    def messages(self, row: int, before: int = 0) -> list[Message]:
        """Reads a message that is left, and some before it, once more.

        Args:
            row: Which one, counted from where the rest begins.
            before: How many before it, of all compared ones.
        """
        last = self._passed + row
        first = max(0, last - before)
        found: list[Message] = []
        at = 0
        for table in self._read():
            if at + len(table) > first:
                here = table.slice(max(0, first - at), last + 1 - max(at, first))
                found.extend(to_messages(here))
            at += len(table)
            if at > last:
                break
        return found


def skip_common(a: Side, b: Side, compared: Compared) -> None:
    """Passes over the beginning that both have in common, in bounded memory."""
    if compared.ignore.paths:
        return
    while True:
        left, right = a.peek(), b.peek()
        if left is None or right is None:
            return
        rows = min(len(left), len(right))
        same = _same_rows(left.slice(0, rows), right.slice(0, rows), a, b, compared)
        a.skip(same)
        b.skip(same)
        if same < rows:
            return


def _same_rows(
    left: pa.Table, right: pa.Table, a: Side, b: Side, compared: Compared
) -> int:
    """Returns how many rows agree before the first that does not."""
    differs: npt.NDArray[np.bool_] | None = None
    for name in ("topic", "payload", "qos", "retain"):
        if name in ("qos", "retain") and not getattr(compared, name):
            continue
        one, other = left.column(name), right.column(name)
        if name == "topic":
            one, other = one.cast(pa.string()), other.cast(pa.string())
        if one.equals(other):
            continue
        unequal = values(pc.not_equal(one, other))
        differs = unequal if differs is None else differs | unequal
    if compared.times_s is not None:
        apart = since(left, a) - since(right, b)
        late = np.abs(apart) > round(compared.times_s * 1e9)
        if late.any():
            differs = late if differs is None else differs | late
    if differs is None or not differs.any():
        return len(left)
    return int(differs.argmax())


def since(rows: pa.Table | pa.RecordBatch, side: Side) -> Numbers:
    """Returns the times of rows since the first message, in nanoseconds."""
    times: Numbers = values(rows.column("time"))
    return times - (side.start_ns or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic of both recordings.

    Attributes:
        name: The topic.
        a: A number per message of the first recording.
        b: The same of the second.
        rows_a: Where they stand in what is left of the first recording.
        rows_b: The same of the second.
    """

    name: str
    a: Numbers
    b: Numbers
    rows_a: npt.NDArray[np.intp]
    rows_b: npt.NDArray[np.intp]


def by_topic(
    a: Side, b: Side, names: Sequence[str], compared: Compared
) -> Iterator[Topic]:
    """Returns the topics of which the messages are not the same."""
    numbers = np.arange(len(names) + 1)
    orders = [np.argsort(side.topics, kind="stable") for side in (a, b)]
    bounds = [
        np.searchsorted(side.topics[order], numbers)
        for side, order in zip((a, b), orders, strict=True)
    ]
    for number, name in enumerate(names):
        rows_a, rows_b = (
            order[bound[number] : bound[number + 1]]
            for order, bound in zip(orders, bounds, strict=True)
        )
        keys_a, keys_b = a.keys[rows_a], b.keys[rows_b]
        if compared.times_s is None and np.array_equal(keys_a, keys_b):
            continue
        yield Topic(name=name, a=keys_a, b=keys_b, rows_a=rows_a, rows_b=rows_b)


def without_paths(payload: bytes, paths: Sequence[str]) -> bytes:
    """Returns a JSON payload without some of its places, keys in one order.

    What is no JSON object or array stays as it is.
    """
    try:
        tree = json.loads(payload)
    except (ValueError, RecursionError):
        return payload
    if not isinstance(tree, dict | list):
        return payload
    for path in paths:
        _remove(tree, path)
    return json.dumps(tree, sort_keys=True).encode()


def _remove(tree: Any, path: str) -> None:
    if isinstance(tree, dict) and path in tree:
        del tree[path]
        return
    steps: list[str] = []
    for part in path.split("."):
        name, *indices = part.split("[")
        steps += [name] * bool(name) + [index.rstrip("]") for index in indices]
    *way, last = steps
    for step in way:
        if step == "*" and isinstance(tree, list):
            rest = ".".join(steps[steps.index("*") + 1 :])
            for entry in tree:
                _remove(entry, rest)
            return
        try:
            tree = tree[int(step)] if isinstance(tree, list) else tree[step]
        except (KeyError, IndexError, ValueError, TypeError):
            return
    try:
        del tree[int(last) if isinstance(tree, list) else last]
    except (KeyError, IndexError, ValueError, TypeError):
        return
