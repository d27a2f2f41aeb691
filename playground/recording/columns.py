"""The columns of a recording, and the way between them and `Message`.

Rule 1: names and types are a public contract, other tools read them. Rule 2: no
file is opened here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playground import __version__
from playground.message import KINDS, Message

FORMAT_VERSION = 1
WRITER = f"mqtt-playground {__version__}"
PREFIX = "playground."
"""Before every key of the file's key-value metadata; the values are JSON."""

_new_message = partial(tuple.__new__, Message)
_BINARY = pa.binary()
_DTYPES = {(64, False): "<i8", (32, False): "<i4", (8, True): "u1"}
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


# pyarrow imports pandas, which takes most of a second, as soon as `pa.array` is
# called; arrays are therefore made from buffers here.


def numbers(array: npt.NDArray[Any], kind: pa.DataType | None = None) -> pa.Array:
    """Returns an array of numbers over the memory of a NumPy array.

    Args:
        array: Contiguous.
        kind: Arrow type of the same width; None: the one of ``array``.
    """
    if kind is None:
        kind = pa.from_numpy_dtype(array.dtype)
    return pa.Array.from_buffers(kind, len(array), [None, pa.py_buffer(array)])


def flags(array: npt.NDArray[np.bool_]) -> pa.Array:
    """Returns an array of booleans."""
    bits = np.packbits(array, bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(array), [None, pa.py_buffer(bits)])


def byte_strings(
    strings: Sequence[bytes | None], kind: pa.DataType = _BINARY
) -> pa.Array:
    """Returns an array of byte strings, or of strings given as UTF-8."""
    count = len(strings)
    bounds = np.zeros(count + 1, np.int32)
    absent = strings.count(None)
    if absent == count:
        nothing = np.zeros((count + 7) // 8, np.uint8)
        buffers = [pa.py_buffer(nothing), pa.py_buffer(bounds), pa.py_buffer(b"")]
        return pa.Array.from_buffers(kind, count, buffers)
    mask = None
    if absent:
        known = np.fromiter((string is not None for string in strings), bool, count)
        mask = pa.py_buffer(np.packbits(known, bitorder="little"))
        strings = [string or b"" for string in strings]
    present = cast(Sequence[bytes], strings)
    np.cumsum(np.fromiter(map(len, present), np.int64, count), out=bounds[1:])
    data = pa.py_buffer(b"".join(present))
    return pa.Array.from_buffers(kind, count, [mask, pa.py_buffer(bounds), data])


def names(
    strings: Sequence[str | None], which: npt.NDArray[np.intp] | None = None
) -> pa.DictionaryArray:
    """Returns a dictionary-encoded array of strings.

    Args:
        strings: The rows; or the names that they are chosen from.
        which: Place of each row in ``strings``.
    """
    numbered = {name: code for code, name in enumerate(dict.fromkeys(strings))}
    if len(numbered) == 1:
        indices = np.zeros(len(strings), np.int32)
    else:
        codes = map(numbered.__getitem__, strings)
        indices = np.fromiter(codes, np.int32, len(strings))
    if which is not None:
        indices = indices[which]
    spelled = [(name or "").encode() for name in numbered]
    mask = None
    if None in numbered:
        known = indices != numbered[None]
        mask = pa.py_buffer(np.packbits(known, bitorder="little"))
    return pa.DictionaryArray.from_arrays(
        pa.Array.from_buffers(pa.int32(), len(indices), [mask, pa.py_buffer(indices)]),
        byte_strings(spelled, pa.string()),
    )


def values(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[Any]:
    """Returns numbers, booleans, or times in nanoseconds as a NumPy array.

    What stands at a null is undefined; see `valid`.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_boolean(column.type):
        return _bits(column, 1).view(np.bool_)
    dtype = np.dtype(_DTYPES[column.type.bit_width, str(column.type)[0] == "u"])
    buffer = column.buffers()[1]
    if buffer is None:
        return np.zeros(len(column), dtype)
    stop = column.offset + len(column)
    found: npt.NDArray[Any] = np.frombuffer(buffer, dtype, stop)
    return found[column.offset :]


def valid(column: pa.Array) -> npt.NDArray[np.bool_]:
    """Returns where an array is not null."""
    if column.buffers()[0] is None:
        return np.ones(len(column), np.bool_)
    return _bits(column, 0).view(np.bool_)


def _bits(column: pa.Array, number: int) -> npt.NDArray[np.uint8]:
    buffer = column.buffers()[number]
    if buffer is None:
        return np.zeros(len(column), np.uint8)
    raw = np.frombuffer(buffer, np.uint8)
    stop = column.offset + len(column)
    return np.unpackbits(raw, count=stop, bitorder="little")[column.offset :]


def offsets(column: pa.Array) -> npt.NDArray[np.int32]:
    """Returns where byte strings begin in their buffer, and where the last ends."""
    buffer = column.buffers()[1]
    if buffer is None:
        return np.zeros(len(column) + 1, np.int32)
    stop = column.offset + len(column) + 1
    return np.frombuffer(buffer, np.int32, stop)[column.offset :]


def byte_list(column: pa.Array) -> list[bytes]:
    """Returns byte strings without nulls as a list."""
    bounds = offsets(column)
    data = column.buffers()[2]
    if data is None:
        return [b""] * len(column)
    first = int(bounds[0])
    raw = data[first : int(bounds[-1])].to_pybytes()
    places = (bounds - first).tolist()
    return [raw[start:stop] for start, stop in pairwise(places)]


def name_list(column: pa.DictionaryArray) -> list[Any]:
    """Returns dictionary-encoded strings as a list; one object per name."""
    known = column.dictionary.to_pylist()
    if column.null_count == len(column):
        return [None] * len(column)
    indices = values(column.indices)
    if column.null_count:
        indices = np.where(valid(column.indices), indices, len(known))
        known.append(None)
    return [known[index] for index in indices.tolist()]


def text_list(column: pa.Array) -> list[str | None]:
    """Returns strings, of which there are few or none, as a list."""
    if column.null_count == len(column):
        return [None] * len(column)
    texts: list[str | None] = column.to_pylist()
    return texts


def encode_names(column: pa.Array) -> pa.DictionaryArray:
    """Dictionary-encodes binary that is known to be UTF-8."""
    encoded = column.dictionary_encode()
    return pa.DictionaryArray.from_arrays(
        encoded.indices, encoded.dictionary.cast(pa.string())
    )


def to_batch(messages: Sequence[Message], seqs: Sequence[int]) -> pa.RecordBatch:
    """Returns messages as columns.

    Args:
        messages: Any number of messages.
        seqs: Their sequence numbers, as many.

    Raises:
        ValueError: A kind is unknown, or a topic is not Unicode.
        OverflowError: A number does not fit its column.
    """
    if not messages:
        return pa.RecordBatch.from_arrays(
            [pa.nulls(0, field.type) for field in SCHEMA], schema=SCHEMA
        )
    times, topics, payloads, qos, retain, dup, clients, properties, kinds = zip(
        *messages, strict=True
    )
    unknown = set(kinds).difference(KINDS)
    if unknown:
        raise ValueError(f"{unknown} is no kind of row ({', '.join(KINDS)})")
    spelled: Sequence[bytes | None] = properties
    if properties.count(None) < len(properties):
        spelled = [text if text is None else text.encode() for text in properties]
    arrays = [
        numbers(np.array(times, np.int64), SCHEMA.field("time").type),
        numbers(_numbered(seqs)),
        names(kinds),
        names(topics),
        byte_strings(payloads),
        numbers(_mostly_zero(qos, np.uint8)),
        flags(_mostly_zero(retain, np.bool_)),
        flags(_mostly_zero(dup, np.bool_)),
        names(clients),
        byte_strings(spelled, pa.string()),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def _mostly_zero(column: tuple[int, ...], kind: type[Any]) -> npt.NDArray[Any]:
    if column.count(0) == len(column):
        return np.zeros(len(column), kind)
    return np.array(column, kind)


def size_of(batch: pa.RecordBatch) -> int:
    """Returns how many bytes of topics and payloads the rows have."""
    bounds = offsets(batch.column("payload"))
    topics = batch.column("topic")
    lengths = np.diff(offsets(topics.dictionary))
    return int(bounds[-1] - bounds[0]) + int(lengths[values(topics.indices)].sum())


def _numbered(seqs: Sequence[int]) -> npt.NDArray[np.int64]:
    if isinstance(seqs, range):
        return np.arange(seqs.start, seqs.stop, seqs.step, dtype=np.int64)
    return np.array(seqs, np.int64)


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
            values(batch.column("time")).tolist(),
            name_list(batch.column("topic")),
            byte_list(batch.column("payload")),
            values(batch.column("qos")).tolist(),
            values(batch.column("retain")).tolist(),
            values(batch.column("dup")).tolist(),
            name_list(batch.column("client")),
            text_list(batch.column("properties")),
            name_list(batch.column("kind")),
        )
        # Message._make would count the columns of each row once more.
        yield from map(_new_message, zip(*columns, strict=True))
