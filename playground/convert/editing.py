"""Recordings out of recordings: cut, merged, filtered, redacted."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playground.clock import iso
from playground.convert.output import Output
from playground.errors import PlaygroundError
from playground.message import KINDS, Message, check_filter, matches
from playground.recording import Recording
from playground.recording.columns import to_batch, to_messages
from playground.recording.retained import SAID, last_retained

ABOUT_ITSELF = frozenset(
    {"start_ns", "end_ns", "next_seq", "retained_snapshot", "part"}
)
"""Metadata that describes the rows of one file and not the session."""


def _session(recording: Recording) -> dict[str, Any]:
    """Returns what a recording's metadata says that stays true of a part of it."""
    return {
        key: value
        for key, value in recording.metadata.items()
        if key not in ABOUT_ITSELF
    }


def _origin(recording: Recording) -> dict[str, Any]:
    return {
        "files": [Path(p).name for p in recording.paths],
        "sha256": recording.sha256,
    }


def cut(
    recording: Recording,
    target: Path | str,
    *,
    start_ns: int | None = None,
    end_ns: int | None = None,
    topics: Sequence[str] = (),
    exclude: Sequence[str] = (),
    overwrite: bool = False,
) -> Recording:
    """Writes a part of a recording: a time range, some topics, or both.

    The retained state at the start of the range comes first, as a broker would
    send it to who subscribes at that instant; ``retained_snapshot`` in the
    metadata says which rows these are.

    Args:
        recording: The whole.
        target: The part.
        start_ns: First instant, nanoseconds since 1970 UTC.
        end_ns: First instant that no longer counts.
        topics: Topic filters of what is kept.
        exclude: Topic filters of what is not.
        overwrite: The target may exist.

    Raises:
        PlaygroundError: The range is empty, or the target exists.
    """
    if start_ns is not None and end_ns is not None and not start_ns < end_ns:
        raise PlaygroundError(
            "The end is not after the start: nothing lies between them.",
            "exchange --start and --end",
        )
    with Output(target, overwrite=overwrite) as output:
        kept: list[Message] = []
        if start_ns is not None:
            kept = [
                message._replace(time_ns=start_ns, dup=False, kind="publish")
                for message in last_retained(
                    recording, start_ns, topics=topics, exclude=exclude
                )
                if message.payload
            ]
            if kept:
                output.write(to_batch(kept, range(len(kept))))
        for table in recording.tables(
            topics=topics,
            exclude=exclude,
            start_ns=start_ns,
            end_ns=end_ns,
            kinds=KINDS,
        ):
            output.write(table)
        if output.count == len(kept):
            span = recording.time_range
            raise PlaygroundError(
                "Nothing is left: no message of the recording lies there.",
                "it is empty"
                if span is None
                else f"it reaches from {iso(span[0])} to {iso(span[1])}",
            )
        metadata = {**_session(recording), "cut_from": _origin(recording)}
        if kept:
            metadata["retained_snapshot"] = [[0, len(kept) - 1]]
        if start_ns is not None:
            metadata["start_ns"] = start_ns
        if end_ns is not None:
            metadata["end_ns"] = end_ns
        return output.finish(metadata)


# Redaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """What must not be known: dropped, or hashed so that equals stay equal.

    Attributes:
        drop: Pairs of topic filter and JSON path (empty: the whole payload).
        hash: The same.
        key: Of the hash; who has it can test guesses. A random one, kept
            nowhere, by default.
    """

    drop: tuple[tuple[str, str], ...] = ()
    hash: tuple[tuple[str, str], ...] = ()
    key: bytes = b""
    _found: set[tuple[str, str]] = field(
        default_factory=set, init=False, repr=False, compare=False
    )

    @classmethod
    def parse(
        cls, drop: Sequence[str], hash: Sequence[str], *, key: str | None = None
    ) -> Redaction:
        """Reads ``FILTER:$.path``, ``$.path`` (every topic) or ``FILTER``.

        Raises:
            PlaygroundError: A filter is none.
        """
        return cls(
            drop=tuple(_place(text) for text in drop),
            hash=tuple(_place(text) for text in hash),
            key=secrets.token_bytes(32) if key is None else key.encode(),
        )

    def __call__(self, message: Message) -> Message:
        """Returns the message without what must not be known."""
        payload = message.payload
        for places, act in ((self.drop, None), (self.hash, self._hashed)):
            here = [place for place in places if matches(place[0], message.topic)]
            if not here:
                continue
            whole = [place for place in here if not place[1]]
            if whole:
                payload = b"" if act is None else act(payload).encode()
                self._found.update(whole)
            else:
                payload, touched = _edited(payload, [path for _, path in here], act)
                self._found.update(
                    place for place, was in zip(here, touched, strict=True) if was
                )
        return (
            message if payload == message.payload else message._replace(payload=payload)
        )

    def not_found(self) -> list[str]:
        """Returns the places, as they were written, that no message had so far."""
        places = [*self.drop, *self.hash]
        return [
            f"{topic_filter}:$.{path}" if path else topic_filter
            for topic_filter, path in places
            if (topic_filter, path) not in self._found
        ]

    def _hashed(self, value: bytes) -> str:
        return hashlib.blake2b(value, key=self.key[:64], digest_size=8).hexdigest()


def _place(text: str) -> tuple[str, str]:
    if text.startswith("$."):
        return "#", text[2:]
    topic_filter, _, path = text.partition(":$.")
    return check_filter(topic_filter), path


def _edited(
    payload: bytes, paths: Sequence[str], act: Any
) -> tuple[bytes, Sequence[bool]]:
    """Returns the payload and, of each path, whether it was there."""
    try:
        tree = json.loads(payload)
    except (ValueError, RecursionError):
        # What cannot be read cannot be cleaned; it might hold anything.
        return b"" if act is None else act(payload).encode(), [True] * len(paths)
    touched = [_edit(tree, path.split("."), act) for path in paths]
    if not any(touched):
        return payload, touched
    compact = b": " not in payload and b", " not in payload
    separators = (",", ":") if compact else (", ", ": ")
    text = json.dumps(tree, separators=separators, ensure_ascii=False)
    return text.encode(), touched


def _edit(tree: Any, steps: Sequence[str], act: Any) -> bool:
    step, rest = steps[0], steps[1:]
    if isinstance(tree, list):
        if step == "*":
            # From behind, because what is deleted moves what follows; all of them.
            touched = [
                _edit_at(tree, place, rest, act)
                for place in range(len(tree) - 1, -1, -1)
            ]
            return any(touched)
        if not step.isdigit() or int(step) >= len(tree):
            return False
        return _edit_at(tree, int(step), rest, act)
    if isinstance(tree, dict) and step in tree:
        return _edit_at(tree, step, rest, act)
    return False


def _edit_at(tree: Any, at: Any, rest: Sequence[str], act: Any) -> bool:
    if rest:
        return _edit(tree[at], rest, act)
    if act is None:
        del tree[at]
    else:
        tree[at] = act(json.dumps(tree[at]).encode())
    return True


def filtered(
    recording: Recording,
    target: Path | str,
    *,
    topics: Sequence[str] = (),
    exclude: Sequence[str] = (),
    redaction: Redaction | None = None,
    overwrite: bool = False,
) -> Recording:
    """Writes a recording without some topics and parts of payloads.

    Args:
        recording: The whole.
        target: What is left.
        topics: Topic filters of what is kept.
        exclude: Topic filters of what is not.
        redaction: What is taken out of the payloads.
        overwrite: The target may exist.

    Raises:
        PlaygroundError: Nothing is left, or the target exists.
    """
    said = sum(
        len(table)
        for table in recording.tables(
            topics=topics, exclude=exclude, kinds=SAID, columns=("seq",)
        )
    )
    if not said:
        raise PlaygroundError(
            "Nothing is left of the recording.", "look after the filters"
        )
    with Output(target, overwrite=overwrite) as output:
        for table in recording.tables(topics=topics, exclude=exclude, kinds=KINDS):
            if redaction is None:
                output.write(table)
                continue
            for message in to_messages(table):
                is_said = message.kind in SAID
                output.append(redaction(message) if is_said else message)
        session = _session(recording)
        for origin in ("cut_from", "merged_from"):
            session.pop(origin, None)
        session["start_ns"], session["end_ns"] = recording.start_ns, recording.end_ns
        # Its hash would let one test guesses about what was taken out.
        return output.finish({**session, "filtered": True})


# Several recorders of one session

WITHIN_S = 1.0


def merge(
    recordings: Sequence[Recording],
    target: Path | str,
    *,
    within_s: float = WITHIN_S,
    overwrite: bool = False,
) -> Recording:
    """Joins what several recorders heard of one session, each message once.

    Two rows of two recordings are the same message if kind, topic, payload and
    (where both know it) client agree and their times are at most ``within_s``
    apart. The row of the earlier recording in the list is kept. A gap that
    another recorder of the same filters heard through is no gap any more.

    Args:
        recordings: Two or more.
        target: The whole.
        within_s: How far the stamps of two recorders may be apart.
        overwrite: The target may exist.

    Raises:
        PlaygroundError: Fewer than two recordings, or the target exists.
    """
    if len(recordings) < 2:
        raise PlaygroundError(
            "There is nothing to merge: one recording was given.",
            "name two or more recordings of the same session",
        )
    with Output(target, overwrite=overwrite) as output:
        tables = [_ordered(recording) for recording in recordings]
        keys = _keys(tables)
        within_ns = round(within_s * 1e9)
        keep = _first_of_each(tables, keys, within_ns)
        for number, (table, recording) in enumerate(
            zip(tables, recordings, strict=True)
        ):
            keep[number] &= ~_heard_elsewhere(table, recording, recordings)
        chosen = pa.concat_tables(
            [
                table.filter(pa.array(mask))
                for table, mask in zip(tables, keep, strict=True)
            ]
        )
        times = _times(chosen)
        order = np.argsort(times, kind="stable")
        step = 65_536
        for first in range(0, len(order), step):
            rows = chosen.take(pa.array(order[first : first + step]))
            output.write(rows.unify_dictionaries().combine_chunks())
        return output.finish(
            {
                **_session(recordings[0]),
                "merged_from": [_origin(recording) for recording in recordings],
                "start_ns": min(recording.start_ns for recording in recordings),
                "end_ns": max(recording.end_ns for recording in recordings),
            }
        )


def _times(table: pa.Table) -> npt.NDArray[np.int64]:
    times: npt.NDArray[np.int64] = table.column("time").cast(pa.int64()).to_numpy()
    return times


def _ordered(recording: Recording) -> pa.Table:
    table = recording.table(kinds=KINDS)
    times = _times(table)
    if (np.diff(times) < 0).any():
        return table.take(pa.array(np.argsort(times, kind="stable")))
    return table


def _keys(tables: Sequence[pa.Table]) -> list[npt.NDArray[np.int64]]:
    """Returns a number per row: equal where kind, topic and payload are."""
    codes = np.zeros(sum(len(table) for table in tables), np.int64)
    for name in ("kind", "topic", "payload"):
        kind = pa.binary() if name == "payload" else pa.string()
        chunks = [
            chunk for table in tables for chunk in table.column(name).cast(kind).chunks
        ]
        encoded = (
            pa.chunked_array(chunks, kind).dictionary_encode().unify_dictionaries()
        )
        column = np.concatenate(
            [chunk.indices.to_numpy().astype(np.int64) for chunk in encoded.chunks]
            or [np.zeros(0, np.int64)]
        )
        _, codes = np.unique(
            codes * (int(column.max(initial=0)) + 1) + column, return_inverse=True
        )
    return np.split(codes, np.cumsum([len(table) for table in tables])[:-1])


def _first_of_each(
    tables: Sequence[pa.Table],
    keys: Sequence[npt.NDArray[np.int64]],
    within_ns: int,
) -> list[npt.NDArray[np.bool_]]:
    """Says of each row whether no earlier recording has it.

    Pairs are made in order of time, so of several equal messages in a row each
    finds its own counterpart.
    """
    keep = [np.ones(len(table), bool) for table in tables]
    known: dict[int, list[tuple[int, str | None]]] = {}
    for number, (table, key) in enumerate(zip(tables, keys, strict=True)):
        times = _times(table).tolist()
        clients = table.column("client").cast(pa.string()).to_pylist()
        free = (
            {code: deque(entries) for code, entries in known.items()} if number else {}
        )
        fresh: list[tuple[int, int, str | None]] = []
        for row, (code, time_ns, client) in enumerate(
            zip(key.tolist(), times, clients, strict=True)
        ):
            waiting = free.get(code)
            while waiting and waiting[0][0] < time_ns - within_ns:
                waiting.popleft()
            if (
                waiting
                and waiting[0][0] <= time_ns + within_ns
                and (client is None or waiting[0][1] in (None, client))
            ):
                waiting.popleft()
                keep[number][row] = False
            else:
                fresh.append((code, time_ns, client))
        touched = set()
        for code, time_ns, client in fresh:
            known.setdefault(code, []).append((time_ns, client))
            touched.add(code)
        if number:
            for code in touched:
                known[code].sort(key=lambda entry: entry[0])
    return keep


def _heard_elsewhere(
    table: pa.Table, recording: Recording, all_of_them: Iterable[Recording]
) -> npt.NDArray[np.bool_]:
    """Says which rows are gaps that another recorder of the same heard through."""
    mask = np.zeros(len(table), bool)
    kinds = table.column("kind").cast(pa.string()).to_pylist()
    for row, kind in enumerate(kinds):
        if kind == "gap":
            told = json.loads(table.column("payload")[row].as_py())
            mask[row] = any(
                other is not recording and _heard(other, recording, told)
                for other in all_of_them
            )
    return mask


def _heard(other: Recording, recording: Recording, gap: Mapping[str, Any]) -> bool:
    if other.metadata.get("filters") != recording.metadata.get("filters"):
        return False
    if not other.start_ns <= gap["start_ns"] <= gap["end_ns"] <= other.end_ns:
        return False
    return not any(
        told["start_ns"] < gap["end_ns"] and told["end_ns"] > gap["start_ns"]
        for told in _gaps(other)
    )


def _gaps(recording: Recording) -> Iterator[dict[str, Any]]:
    for message in recording.messages(kinds=("gap",)):
        yield json.loads(message.payload)
