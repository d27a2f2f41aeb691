"""The columns of a recording, and the way between them and `Message`.

Rule 1: names and types are a public contract, other tools read them. Rule 2: no
file is opened here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from playground import __version__
from playground.message import Message

FORMAT_VERSION = 1
WRITER = f"mqtt-playground {__version__}"
PREFIX = "playground."
"""Before every key of the file's key-value metadata; the values are JSON."""

_NAME = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        pa.field("time", pa.timestamp("ns", tz="UTC"), nullable=False),
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("kind", _NAME, nullable=False),
        pa.field("topic", _NAME, nullable=False),
        pa.field("payload", pa.binary(), nullable=False),
        pa.field("qos", pa.uint8(), nullable=False),
        pa.field("retain", pa.bool_(), nullable=False),
        pa.field("dup", pa.bool_(), nullable=False),
        pa.field("client", _NAME, nullable=True),
        pa.field("properties", pa.string(), nullable=True),
    ]
)
COLUMNS: tuple[str, ...] = tuple(SCHEMA.names)
RESERVED = frozenset({"format_version", "writer", "count", "sha256", "journal"})
"""Metadata that sealing writes itself, whatever a caller puts there."""


def encode_metadata(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Returns key-value metadata for the file: prefixed keys, JSON values."""
    return {
        PREFIX + key: json.dumps(value, default=str) for key, value in metadata.items()
    }


def decode_metadata(pairs: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """Returns the metadata that `encode_metadata` wrote, decoded.

    Raises:
        ValueError: A value under the project's prefix is not JSON.
    """
    start = len(PREFIX)
    return {
        key.decode()[start:]: json.loads(value)
        for key, value in (pairs or {}).items()
        if key.startswith(PREFIX.encode())
    }


def encode_names(names: pa.Array) -> pa.DictionaryArray:
    """Dictionary-encodes strings, or binary that is known to be UTF-8."""
    encoded = names.dictionary_encode()
    if names.type == pa.string():
        return encoded
    return pa.DictionaryArray.from_arrays(
        encoded.indices, encoded.dictionary.cast(pa.string())
    )


def to_batch(messages: Sequence[Message], seqs: Sequence[int]) -> pa.RecordBatch:
    """Returns messages as columns.

    Args:
        messages: Any number of messages.
        seqs: Their sequence numbers, as many.
    """
    if not messages:
        return pa.RecordBatch.from_pylist([], schema=SCHEMA)
    times, topics, payloads, qos, retain, dup, clients, properties, kinds = zip(
        *messages, strict=True
    )
    arrays = [
        pa.array(np.array(times, np.int64)).cast(SCHEMA.field("time").type),
        pa.array(np.array(seqs, np.int64)),
        encode_names(pa.array(kinds, pa.string())),
        encode_names(pa.array(topics, pa.string())),
        pa.array(payloads, pa.binary()),
        pa.array(qos, pa.uint8()),
        pa.array(retain, pa.bool_()),
        pa.array(dup, pa.bool_()),
        encode_names(pa.array(clients, pa.string())),
        pa.array(properties, pa.string()),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def to_batches(
    messages: Iterable[Message], *, first_seq: int = 0, rows: int = 16_384
) -> Iterator[pa.RecordBatch]:
    """Returns messages as batches of columns, numbered without a gap."""
    pending: list[Message] = []
    for message in messages:
        pending.append(message)
        if len(pending) == rows:
            yield to_batch(pending, range(first_seq, first_seq + rows))
            first_seq += rows
            pending = []
    if pending:
        yield to_batch(pending, range(first_seq, first_seq + len(pending)))


def to_messages(table: pa.Table, *, rows: int = 16_384) -> Iterator[Message]:
    """Returns the rows of a table with the columns of a recording as messages.

    Args:
        table: Any number of rows; all columns of `SCHEMA` but ``seq``.
        rows: How many are Python objects at the same time.
    """
    for batch in table.to_batches(max_chunksize=rows):
        columns = (
            batch.column("time").cast(pa.int64()).to_numpy().tolist(),
            _names(batch.column("topic")),
            batch.column("payload").to_pylist(),
            batch.column("qos").to_numpy().tolist(),
            batch.column("retain").to_pylist(),
            batch.column("dup").to_pylist(),
            _names(batch.column("client")),
            batch.column("properties").to_pylist(),
            _names(batch.column("kind")),
        )
        yield from map(Message._make, zip(*columns, strict=True))


def _names(column: pa.DictionaryArray) -> list[Any]:
    """Returns dictionary-encoded strings as a list; one object per name."""
    names = column.dictionary.to_pylist()
    if column.null_count == len(column):
        return [None] * len(column)
    if column.null_count:
        return [None if i is None else names[i] for i in column.indices.to_pylist()]
    return [names[i] for i in column.indices.to_numpy().tolist()]
