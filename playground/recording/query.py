"""Which rows of a recording are wanted, and how no more than these are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playground.errors import PlaygroundError, closest
from playground.message import KINDS, TopicFilters
from playground.recording.columns import SCHEMA, flags, values
from playground.recording.sealed import GroupReader, SealedFile

PUBLISHED: tuple[str, ...] = ("publish",)
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which rows are wanted."""

    topics: tuple[str, ...]
    exclude: tuple[str, ...]
    start_ns: int | None
    end_ns: int | None
    kinds: tuple[str, ...]
    _included: TopicFilters | None = field(init=False, default=None)
    _excluded: TopicFilters | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise PlaygroundError(
                    f"{kind!r} is not a kind of row ({', '.join(KINDS)})."
                    f"{closest(kind, KINDS)}",
                    "write kinds=('publish',)",
                )
        if self.topics:
            object.__setattr__(self, "_included", TopicFilters(self.topics))
        if self.exclude:
            object.__setattr__(self, "_excluded", TopicFilters(self.exclude))

    @classmethod
    def of(
        cls,
        topics: Sequence[str],
        exclude: Sequence[str],
        start_ns: int | None,
        end_ns: int | None,
        kinds: Sequence[str],
    ) -> Query:
        """Returns the query for the arguments of `Recording.messages`."""
        return cls(
            topics=_several("topics", topics),
            exclude=_several("exclude", exclude),
            start_ns=start_ns,
            end_ns=end_ns,
            kinds=_several("kinds", kinds),
        )

    def _wants(self, topic: str) -> bool:
        if not topic:
            return True
        if self._included is not None and topic not in self._included:
            return False
        return self._excluded is None or topic not in self._excluded

    def may_hold(self, part: SealedFile, group: int) -> bool:
        """Says whether a row group can hold wanted rows, by its statistics."""
        first, last = part.time_range(group)
        if self.start_ns is not None and last < self.start_ns:
            return False
        if self.end_ns is not None and first >= self.end_ns:
            return False
        if self.topics and not any(set("+#") & set(one) for one in self.topics):
            known = part.topic_range(group)
            if known is not None:
                least, greatest = known
                without_topic = not least and self.kinds != PUBLISHED
                return without_topic or any(
                    least <= topic <= greatest for topic in self.topics
                )
        return True

    def select(
        self,
        reader: GroupReader,
        part: SealedFile,
        group: int,
        columns: Sequence[str],
        rows: int | None = None,
    ) -> Iterator[pa.Table]:
        """Reads the wanted rows of a row group, in pieces of at most ``rows``.

        What decides is read of the whole group; the rest only if a row is wanted.
        """
        first, last = part.time_range(group)
        by_time = (self.start_ns is not None and first < self.start_ns) or (
            self.end_ns is not None and last >= self.end_ns
        )
        needed = ["time"] if by_time else []
        if set(self.kinds) != set(KINDS):
            needed.append("kind")
        if self.topics or self.exclude:
            needed.append("topic")
        if not needed:
            yield from reader.pieces(group, columns, rows)
            return
        keys = reader.read(group, needed)
        mask = self._mask(keys)
        if not mask.any():
            return
        rest = [name for name in columns if name not in needed]
        if not rest:
            yield _rows_of(keys.select(columns), mask)
            return
        schema = pa.schema([SCHEMA.field(name) for name in columns])
        at = 0
        for piece in reader.pieces(group, rest, rows):
            count = len(piece)
            here = mask[at : at + count]
            if here.any():
                found = {name: keys.column(name).slice(at, count) for name in needed}
                found |= {name: piece.column(name) for name in rest}
                whole = pa.Table.from_arrays(
                    [found[name] for name in columns], schema=schema
                )
                yield _rows_of(whole, here)
            at += count

    def _mask(self, keys: pa.Table) -> Mask:
        mask = np.ones(len(keys), bool)
        for name in keys.column_names:
            column = keys.column(name)
            if name == "time":
                times = values(column)
                if self.start_ns is not None:
                    mask &= times >= self.start_ns
                if self.end_ns is not None:
                    mask &= times < self.end_ns
            elif name == "kind":
                mask &= _pick(column, lambda kind: kind in self.kinds)
            else:
                mask &= _pick(column, self._wants)
        return mask


def _rows_of(table: pa.Table, mask: Mask) -> pa.Table:
    if mask.all():
        return table
    chosen = np.flatnonzero(mask)
    first, count = int(chosen[0]), len(chosen)
    if int(chosen[-1]) - first + 1 == count:
        return table.slice(first, count)
    return table.filter(flags(mask))


def _pick(column: pa.ChunkedArray, wanted: Any) -> Mask:
    masks = []
    for chunk in column.chunks:
        answers = [wanted(name) for name in chunk.dictionary.to_pylist()]
        masks.append(np.array(answers, bool)[values(chunk.indices)])
    return np.concatenate(masks) if masks else np.zeros(0, bool)


def _several(name: str, given: Sequence[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        raise PlaygroundError(
            f"{name} is a sequence of strings, not {given!r}.",
            f"write {name}=[{given!r}]",
        )
    return tuple(given)
