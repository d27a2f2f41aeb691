"""`Ledger`: what a bus shows, on its way to the columns of a recording.

A run of a day shows a million messages, most of them in the same few bundles again
and again. What is alike in them (topic, QoS, flags, client) is looked at once per
batch of columns and referred to by number from then on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from playground.message import PUBLISH, Bundle, Message
from playground.recording.columns import (
    SCHEMA,
    byte_strings,
    flags,
    names,
    numbers,
)

RECORDED = frozenset({PUBLISH, "will"})
"""Kinds of what a run records; other events of a session are let pass."""

_Said = tuple[int, str, Bundle, list[bytes]]
"""Instant, client, bundle and payloads."""
_Alike = tuple[Any, ...]
"""Topic, QoS, retain, dup, client, properties and kind: a message without the rest."""


class Ledger:
    """Publications and wills in their order, until they become columns.

    Attributes:
        append: Takes a message.
    """

    def __init__(self) -> None:
        self._entries: list[Message | _Said] = []
        self.append = self._entries.append

    def extend(
        self, time_ns: int, client: str, bundle: Bundle, payloads: list[bytes]
    ) -> None:
        """Takes the messages of a bundle that a client published at one instant.

        Args:
            time_ns: The instant, nanoseconds since 1970 UTC.
            client: Client id of the publisher.
            bundle: What they have in common with others of this client.
            payloads: As many as the bundle has topics; must not change any more.
        """
        self._entries.append((time_ns, client, bundle, payloads))

    def to_batch(self, first_seq: int) -> pa.RecordBatch:
        """Returns as columns all that was taken since the last time.

        Args:
            first_seq: Sequence number of the first row; there is no gap.
        """
        alike: list[_Alike] = []
        known: dict[_Alike, int] = {}
        times: list[int] = []
        firsts: list[int] = []
        counts: list[int] = []
        payloads: list[bytes] = []
        for entry in self._entries:
            if isinstance(entry, Message):
                if entry[8] not in RECORDED:
                    continue
                payloads.append(entry[2])
                key: _Alike = entry[1:2] + entry[3:]
                count = 1
            else:
                payloads += entry[3]
                key = entry[1:3]
                count = len(entry[3])
            first = known.get(key)
            if first is None:
                first = known[key] = len(alike)
                if len(key) > 2:
                    alike.append(key)
                else:
                    client, bundle = key
                    messages = bundle.messages(0, client, entry[3])
                    alike += [message[1:2] + message[3:] for message in messages]
            times.append(entry[0])
            firsts.append(first)
            counts.append(count)
        self._entries.clear()
        if not payloads:
            return pa.RecordBatch.from_arrays(
                [pa.nulls(0, field.type) for field in SCHEMA], schema=SCHEMA
            )
        # Which of the messages in ``alike`` each row is.
        count_of = np.array(counts)
        begins = np.cumsum(count_of) - count_of
        which = np.repeat(np.array(firsts) - begins, count_of) + np.arange(
            len(payloads)
        )
        topics, qos, retain, dup, clients, properties, kinds = zip(*alike, strict=True)
        texts = [None if text is None else text.encode() for text in properties]
        told: list[bytes | None] = [None] * len(payloads)
        if any(text is not None for text in texts):
            told = [texts[number] for number in which.tolist()]
        arrays = [
            numbers(
                np.repeat(np.array(times, np.int64), count_of),
                SCHEMA.field("time").type,
            ),
            numbers(np.arange(first_seq, first_seq + len(payloads), dtype=np.int64)),
            names(kinds, which),
            names(topics, which),
            byte_strings(payloads),
            numbers(np.array(qos, np.uint8)[which]),
            flags(np.array(retain, np.bool_)[which]),
            flags(np.array(dup, np.bool_)[which]),
            names(clients, which),
            byte_strings(told, pa.string()),
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
