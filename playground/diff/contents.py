"""Two recordings as numbers: equal numbers for equal messages.

Streams both as long as they agree word for word; only what follows the first
difference is held in memory.
"""

from __future__ import annotations

import json
from collections import deque
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
from playground.recording.columns import to_messages
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
        before: The last messages that were passed over.
        count: Compared messages, in all.
    """

    COLUMNS = ("time", "seq", "kind", "topic", "payload", "qos", "retain", "dup")

    def __init__(self, recording: Recording, compared: Compared) -> None:
        self.recording = recording
        self.before: deque[Message] = deque(maxlen=BEFORE)
        self.start_ns: int | None = None
        self.count = 0
        self._tables: Iterator[pa.Table] = recording.tables(
            topics=compared.topics,
            exclude=(*compared.exclude, *compared.ignore.topics),
            kinds=SAID,
        )
        self._rest: pa.Table | None = None

    def peek(self) -> pa.Table | None:
        """Returns the rows that come next; None at the end."""
        while self._rest is None or not len(self._rest):
            table = next(self._tables, None)
            if table is None:
                return None
            self.count += len(table)
            self._rest = table
            if self.start_ns is None:
                self.start_ns = table.column("time")[0].value
        return self._rest

    def skip(self, rows: int) -> None:
        """Passes over rows."""
        assert self._rest is not None
        passed = self._rest.slice(max(0, rows - BEFORE), min(rows, BEFORE))
        self.before.extend(to_messages(passed))
        self._rest = self._rest.slice(rows)

    def take_rest(self) -> pa.Table | None:
        """Returns all that is left, in memory."""
        tables = [] if self._rest is None else [self._rest]
        for table in self._tables:
            self.count += len(table)
            tables.append(table)
            if self.start_ns is None:
                self.start_ns = table.column("time")[0].value
        self._rest = None
        return pa.concat_tables(tables) if tables else None


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
        unequal = pc.not_equal(one, other).to_numpy()
        differs = unequal if differs is None else differs | unequal
    if compared.times_s is not None:
        apart = since(left, a) - since(right, b)
        late = np.abs(apart) > round(compared.times_s * 1e9)
        if late.any():
            differs = late if differs is None else differs | late
    if differs is None or not differs.any():
        return len(left)
    return int(differs.argmax())


def since(table: pa.Table, side: Side) -> npt.NDArray[np.int64]:
    """Returns the times of rows since the first message, in nanoseconds."""
    times: npt.NDArray[np.int64] = table.column("time").cast(pa.int64()).to_numpy()
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


def by_topic(left: pa.Table, right: pa.Table, compared: Compared) -> Iterator[Topic]:
    """Returns the topics of which the messages are not the same."""
    names, topic_a, topic_b = _common_names(left, right)
    key_a, key_b = _keys(left, right, names, topic_a, topic_b, compared)
    order_a = np.argsort(topic_a, kind="stable")
    order_b = np.argsort(topic_b, kind="stable")
    numbers = np.arange(len(names) + 1)
    bounds_a = np.searchsorted(topic_a[order_a], numbers)
    bounds_b = np.searchsorted(topic_b[order_b], numbers)
    for number, name in enumerate(names):
        rows_a = order_a[bounds_a[number] : bounds_a[number + 1]]
        rows_b = order_b[bounds_b[number] : bounds_b[number + 1]]
        a, b = key_a[rows_a], key_b[rows_b]
        if compared.times_s is None and np.array_equal(a, b):
            continue
        yield Topic(name=name, a=a, b=b, rows_a=rows_a, rows_b=rows_b)


def _common_names(
    left: pa.Table, right: pa.Table
) -> tuple[list[str], Numbers, Numbers]:
    both = pa.chunked_array(
        [
            chunk
            for table in (left, right)
            for chunk in table.column("topic").cast(pa.string()).chunks
        ],
        pa.string(),
    )
    encoded = both.dictionary_encode().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0) if encoded.num_chunks else pa.array([], encoded.type)
    codes = encoded.indices.to_numpy().astype(np.int64)
    return encoded.dictionary.to_pylist(), codes[: len(left)], codes[len(left) :]


def _keys(
    left: pa.Table,
    right: pa.Table,
    names: list[str],
    topic_a: Numbers,
    topic_b: Numbers,
    compared: Compared,
) -> tuple[Numbers, Numbers]:
    payloads_a, payloads_b = left.column("payload"), right.column("payload")
    ignored = [compared.ignore.paths_of(name) for name in names]
    if any(ignored):
        payloads_a = _without_paths(payloads_a, topic_a, ignored)
        payloads_b = _without_paths(payloads_b, topic_b, ignored)
    both = pa.chunked_array([*payloads_a.chunks, *payloads_b.chunks], pa.binary())
    encoded = both.dictionary_encode().unify_dictionaries()
    codes = np.concatenate(
        [chunk.indices.to_numpy().astype(np.int64) for chunk in encoded.chunks]
        or [np.zeros(0, np.int64)]
    )
    keys = []
    for table, part in ((left, codes[: len(left)]), (right, codes[len(left) :])):
        key = part * 8
        if compared.qos:
            key += table.column("qos").to_numpy().astype(np.int64) * 2
        if compared.retain:
            key += table.column("retain").to_numpy().astype(np.int64)
        keys.append(key)
    return keys[0], keys[1]


def _without_paths(
    column: pa.ChunkedArray, topics: Numbers, ignored: list[tuple[str, ...]]
) -> pa.ChunkedArray:
    payloads = []
    for payload, topic in zip(column.to_pylist(), topics.tolist(), strict=True):
        paths = ignored[topic]
        payloads.append(without_paths(payload, paths) if paths else payload)
    return pa.chunked_array([pa.array(payloads, pa.binary())])


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


def message_at(table: pa.Table, row: int) -> Message:
    """Returns one row of a table as a message."""
    return next(iter(to_messages(table.slice(row, 1))))
