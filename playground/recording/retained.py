"""What a broker would have kept: the retained messages at an instant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from playground.message import Message
from playground.recording.columns import to_messages, values

if TYPE_CHECKING:
    from playground.recording.reader import Recording

SAID: tuple[str, ...] = ("publish", "will")
"""Kinds of rows that a broker took as publications."""
_KEYS = ("time", "seq", "topic", "retain")


def last_retained(
    recording: Recording,
    at_ns: int | None = None,
    *,
    topics: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> list[Message]:
    """Returns the last retained message of each topic, in order of publication.

    Messages with an empty payload are among them: these are the topics whose
    retained message was deleted. What a broker holds are the others.

    Reads the keys of all rows before the instant and the payload only of the
    row groups that are needed; memory is one row group.

    Args:
        recording: Where to look.
        at_ns: Only what was said before this instant counts; all by default.
        topics: Topic filters, as of `Recording.messages`.
        exclude: Topic filters, as of `Recording.messages`.
    """
    last: dict[str, tuple[int, int]] = {}
    for table in recording.tables(
        topics=topics, exclude=exclude, end_ns=at_ns, kinds=SAID, columns=_KEYS
    ):
        for batch in table.to_batches():
            rows = np.flatnonzero(values(batch.column("retain")))
            if not len(rows):
                continue
            times = values(batch.column("time"))
            seqs = values(batch.column("seq"))
            names = batch.column("topic").dictionary.to_pylist()
            codes = values(batch.column("topic").indices)[rows]
            # The last of each is the first of each from behind.
            found, behind = np.unique(codes[::-1], return_index=True)
            for code, back in zip(found.tolist(), behind.tolist(), strict=True):
                row = rows[len(rows) - 1 - back]
                last[names[code]] = (int(seqs[row]), int(times[row]))
    return _fetch(recording, sorted(last.values()))


def _fetch(recording: Recording, wanted: list[tuple[int, int]]) -> list[Message]:
    """Reads rows by (sequence number, time), in order of sequence number."""
    messages: list[Message] = []
    table: pa.Table | None = None
    seqs = np.zeros(0, np.int64)
    for seq, time_ns in wanted:
        row = np.flatnonzero(seqs == seq)
        if not len(row):
            for table in recording.tables(start_ns=time_ns, kinds=SAID):
                seqs = values(table.column("seq"))
                row = np.flatnonzero(seqs == seq)
                if len(row):
                    break
        assert table is not None
        messages.extend(to_messages(table.slice(int(row[0]), 1)))
    return messages
