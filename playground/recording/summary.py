"""What a recording holds, at a glance."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playground.message import KINDS
from playground.recording.columns import (
    byte_list,
    name_list,
    numbers,
    offsets,
    valid,
    values,
)

if TYPE_CHECKING:
    from playground.recording.reader import Recording

_NUMBER = re.compile(rb"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
_MOST_STEPS = 65_536
_SAMPLE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSummary:
    """What was published on one topic.

    Attributes:
        topic: The topic.
        count: Publications.
        rate_hz: Publications per second between the first and the last; 0 for
            a single one.
        first_ns: Time of the first.
        last_ns: Time of the last.
        median_period_s: Median time between two; None for a single one.
        payload_kinds: Which of ``number``, ``json``, ``text``, ``binary``,
            ``empty`` occur, judged by at most 64 payloads per row group.
        payload_bytes: Total bytes of payload.
        qos: QoS values that occur.
        retained: Whether any had the retain flag.
    """

    topic: str
    count: int
    rate_hz: float
    first_ns: int
    last_ns: int
    median_period_s: float | None
    payload_kinds: tuple[str, ...]
    payload_bytes: int
    qos: tuple[int, ...]
    retained: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A time in which the recorder was blind."""

    start_ns: int
    end_ns: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What `playground info` says about a recording.

    Attributes:
        paths: The sealed files.
        bytes: Their size.
        start_ns: Start of the session.
        end_ns: End of the session.
        duration_s: Between the two.
        count: Rows.
        kinds: Rows per kind, only kinds that occur.
        topics: One per topic, by name.
        losses: Messages known to be lost: missing sequence numbers.
        gaps: Times in which the recorder was blind.
        clients: Client ids that were seen, by name.
        broker: Broker of the session, if stated.
        filters: Topic filters of the session, if stated.
        writer: Program that sealed it.
        sha256: Hash of the content.
        warnings: What one should know before trusting it.
    """

    paths: tuple[str, ...]
    bytes: int
    start_ns: int
    end_ns: int
    duration_s: float
    count: int
    kinds: dict[str, int]
    topics: tuple[TopicSummary, ...]
    losses: int
    gaps: tuple[Gap, ...]
    clients: tuple[str, ...]
    broker: Any
    filters: Any
    writer: str
    sha256: str
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Returns it as plain values that JSON can carry."""
        return asdict(self)


@dataclass(slots=True)
class _Topic:
    """A topic while the rows pass."""

    count: int = 0
    first_ns: int = 0
    last_ns: int = 0
    kinds: set[str] = field(default_factory=set)
    payload_bytes: int = 0
    qos: set[int] = field(default_factory=set)
    retained: bool = False
    steps: list[npt.NDArray[np.int64]] = field(default_factory=list)
    held: int = 0
    stride: int = 1

    def take(self, times: npt.NDArray[np.int64]) -> None:
        before = [self.last_ns] if self.count else []
        moments = np.concatenate([np.array(before, np.int64), times])
        steps = moments[1:] - moments[:-1]
        if not self.count:
            self.first_ns = int(times[0])
        self.last_ns = int(times[-1])
        self.count += len(times)
        self.steps.append(steps[:: self.stride])
        self.held += len(self.steps[-1])
        if self.held > _MOST_STEPS:
            # A median does not need them all, and memory must not grow.
            self.steps = [np.concatenate(self.steps)[::2]]
            self.held = len(self.steps[0])
            self.stride *= 2

    def done(self, topic: str) -> TopicSummary:
        span = (self.last_ns - self.first_ns) / 1e9
        steps = np.concatenate(self.steps) if self.steps else np.zeros(0)
        return TopicSummary(
            topic=topic,
            count=self.count,
            rate_hz=(self.count - 1) / span if span > 0 else 0.0,
            first_ns=self.first_ns,
            last_ns=self.last_ns,
            median_period_s=float(np.median(steps)) / 1e9 if len(steps) else None,
            payload_kinds=tuple(sorted(self.kinds)),
            payload_bytes=self.payload_bytes,
            qos=tuple(sorted(self.qos)),
            retained=self.retained,
        )


def payload_kind(payload: bytes) -> str:
    """Returns ``number``, ``json``, ``text``, ``binary`` or ``empty``."""
    if not payload:
        return "empty"
    if _NUMBER.fullmatch(payload):
        return "number"
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return "binary"
    if text.lstrip()[:1] in ("{", "["):
        try:
            json.loads(text)
        except ValueError:
            return "text"
        return "json"
    printable = all(c.isprintable() or c in "\r\n\t" for c in text)
    return "text" if printable else "binary"


def summarize(recording: Recording) -> Summary:
    """Reads a recording once and says what it holds; memory is bounded."""
    topics: dict[str, _Topic] = {}
    kinds: dict[str, int] = {}
    clients: set[str] = set()
    gaps: list[Gap] = []
    rows = 0
    # A later part of a recording, opened alone, begins where the others end.
    first_seq = int(recording.parts[0].metadata.get("first_seq", 0))
    next_seq = first_seq
    disorder = False
    last_ns: int | None = None
    columns = ("time", "seq", "kind", "topic", "payload", "qos", "retain", "client")
    for table in recording.tables(kinds=KINDS, columns=columns):
        for batch in table.to_batches():
            times = values(batch.column("time"))
            seqs = values(batch.column("seq"))
            rows += batch.num_rows
            next_seq = max(next_seq, int(seqs.max()) + 1)
            disorder |= bool((np.diff(times) < 0).any())
            disorder |= last_ns is not None and int(times[0]) < last_ns
            last_ns = int(times[-1])
            clients.update(_used(batch.column("client")))
            for kind, number in _used(batch.column("kind")).items():
                kinds[kind] = kinds.get(kind, 0) + number
            gaps.extend(_gaps(batch))
            _take_topics(batch, times, topics)
    stated = recording.metadata.get("next_seq")
    if isinstance(stated, int):
        next_seq = max(next_seq, stated)
    losses = max(0, next_seq - first_seq - rows)
    warnings = list(_warnings(recording, losses=losses, gaps=gaps, disorder=disorder))
    return Summary(
        paths=recording.paths,
        bytes=sum(part.size for part in recording.parts),
        start_ns=recording.start_ns,
        end_ns=recording.end_ns,
        duration_s=(recording.end_ns - recording.start_ns) / 1e9,
        count=recording.count,
        kinds=kinds,
        topics=tuple(topics[name].done(name) for name in sorted(topics)),
        losses=losses,
        gaps=tuple(gaps),
        clients=tuple(sorted(clients)),
        broker=recording.metadata.get("broker"),
        filters=recording.metadata.get("filters"),
        writer=str(recording.metadata.get("writer", "")),
        sha256=recording.sha256,
        warnings=tuple(warnings),
    )


def _used(column: pa.DictionaryArray) -> dict[str, int]:
    """Returns how often each name occurs; names that do not are left out."""
    indices = values(column.indices)[valid(column.indices)]
    counts = np.bincount(indices, minlength=len(column.dictionary)).tolist()
    known = column.dictionary.to_pylist()
    return {name: count for name, count in zip(known, counts, strict=True) if count}


def _gaps(batch: pa.RecordBatch) -> Iterable[Gap]:
    if "gap" not in _used(batch.column("kind")):
        return
    kinds = np.array(name_list(batch.column("kind")))
    rows = np.flatnonzero(kinds == "gap")
    for payload in byte_list(batch.column("payload").take(numbers(rows))):
        told = json.loads(payload)
        yield Gap(
            start_ns=told["start_ns"], end_ns=told["end_ns"], reason=told["reason"]
        )


def _take_topics(
    batch: pa.RecordBatch, times: npt.NDArray[np.int64], topics: dict[str, _Topic]
) -> None:
    kind = batch.column("kind")
    rows = np.flatnonzero(np.array(name_list(kind)) == "publish")
    if not len(rows):
        return
    column = batch.column("topic")
    codes = values(column.indices)[rows]
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    payloads = batch.column("payload")
    lengths = np.diff(offsets(payloads))
    qos = values(batch.column("qos"))
    retain = values(batch.column("retain"))
    for group in np.split(order, starts[1:]):
        at = rows[group]
        topic = topics.setdefault(
            column.dictionary[int(codes[group[0]])].as_py(), _Topic()
        )
        topic.take(times[at])
        topic.payload_bytes += int(lengths[at].sum())
        topic.qos.update(np.unique(qos[at]).tolist())
        topic.retained |= bool(retain[at].any())
        some = at[np.unique(np.linspace(0, len(at) - 1, _SAMPLE).astype(int))]
        for payload in set(byte_list(payloads.take(numbers(some)))):
            topic.kinds.add(payload_kind(payload))


def _warnings(
    recording: Recording, *, losses: int, gaps: Iterable[Gap], disorder: bool
) -> Iterable[str]:
    if losses:
        yield f"{losses} messages were lost (missing sequence numbers)"
    blind = math.fsum((gap.end_ns - gap.start_ns) / 1e9 for gap in gaps)
    if blind:
        yield f"the recorder was blind for {blind:.3g} s in all"
    if disorder:
        yield "times run backwards in places"
    if recording.recovered is not None:
        yield f"recovered from a journal: {recording.recovered}"
    elif recording.metadata.get("cut_off"):
        yield "the recorder was cut off; this was recovered from its journal"
    if recording.metadata.get("recovered_from"):
        yield (
            f"saved from the damaged {recording.metadata['recovered_from']}: "
            f"{'; '.join(recording.metadata.get('damages', ()))}"
        )
    for warning in recording.metadata.get("warnings", ()):
        yield str(warning)
