"""The SHA-256 of what a recording says, whatever its file looks like."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playground.message import Message
from playground.recording.columns import SCHEMA, offsets, to_batches, valid, values

_NULL = 0xFFFF_FFFF


class ContentHash:
    """A running SHA-256 over the rows of a recording; see `content_hash`."""

    def __init__(self) -> None:
        self.count = 0
        self._columns: dict[str, _Fixed | _Named | _Sized] = {}
        for field in SCHEMA:
            if pa.types.is_dictionary(field.type):
                self._columns[field.name] = _Named()
            elif field.name in ("payload", "properties"):
                self._columns[field.name] = _Sized()
            else:
                self._columns[field.name] = _Fixed()

    def update(self, rows: pa.RecordBatch | pa.Table) -> None:
        """Takes in rows with all columns of a recording, in their order."""
        for batch in rows.to_batches() if isinstance(rows, pa.Table) else (rows,):
            self.count += batch.num_rows
            for name, column in self._columns.items():
                column.update(batch.column(name))

    def hexdigest(self) -> str:
        """Returns the hash of all rows so far, 64 hexadecimal digits."""
        total = hashlib.sha256(b"playground content 1\n")
        total.update(self.count.to_bytes(8, "little"))
        for name, column in self._columns.items():
            total.update(name.encode() + b"\n")
            for digest in column.digests():
                total.update(digest)
        return total.hexdigest()


class _Fixed:
    """A column of numbers: their bytes, little endian."""

    def __init__(self) -> None:
        self._values = hashlib.sha256()

    def update(self, column: pa.Array) -> None:
        self._values.update(_bytes(values(column)))

    def digests(self) -> list[bytes]:
        return [self._values.digest()]


class _Sized:
    """A column of byte strings: their lengths, and their bytes end to end."""

    def __init__(self) -> None:
        self._lengths = hashlib.sha256()
        self._data = hashlib.sha256()

    def update(self, column: pa.Array) -> None:
        lengths = np.full(len(column), _NULL, "<u4")
        if column.null_count < len(column):
            present = column.drop_null() if column.null_count else column
            bounds = offsets(present)
            lengths[valid(column)] = np.diff(bounds)
            data = present.buffers()[2]
            if data is not None:
                self._data.update(memoryview(data)[bounds[0] : bounds[-1]])
        self._lengths.update(_bytes(lengths))

    def digests(self) -> list[bytes]:
        return [self._lengths.digest(), self._data.digest()]


class _Named:
    """A column of names: numbers in order of first appearance, and the names."""

    def __init__(self) -> None:
        self._numbers: dict[str | None, int] = {None: _NULL}
        self._codes = hashlib.sha256()
        self._names = hashlib.sha256()

    def update(self, column: pa.DictionaryArray) -> None:
        if not len(column):
            return
        names = column.dictionary.to_pylist()
        indices = values(column.indices)
        if column.null_count:
            indices = np.where(valid(column.indices), indices, len(names))
        numbers = [self._numbers.get(name, -1) for name in names]
        if -1 in numbers:
            used, first = np.unique(indices, return_index=True)
            for index in used[np.argsort(first)].tolist():
                if index < len(names):
                    numbers[index] = self._number(names[index])
            # What the dictionary lists and no row uses has no number.
            numbers = [max(number, 0) for number in numbers]
        lookup = np.array([*numbers, _NULL], "<u4")
        self._codes.update(_bytes(lookup[indices]))

    def _number(self, name: str) -> int:
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self._numbers) - 1
            text = name.encode()
            self._names.update(len(text).to_bytes(4, "little") + text)
        return number

    def digests(self) -> list[bytes]:
        return [self._codes.digest(), self._names.digest()]


def _bytes(values: npt.NDArray[Any]) -> memoryview:
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(little).view(np.uint8).data


def content_hash(
    source: pa.Table | Iterable[pa.RecordBatch] | Iterable[Message],
    *,
    first_seq: int = 0,
) -> str:
    r"""Returns the SHA-256 of the content of a recording.

    It depends on the rows and their order alone: not on row groups, compression,
    dictionaries, parts, metadata or the program that wrote the file. Every column
    counts, ``seq`` as well.

    The definition, with all integers little endian, and ``H`` for SHA-256::

        H("playground content 1\n" + count:u64 + for each column in file order:
            name + "\n" + digests of the column, 32 bytes each)

    where the digests of a column are

    * ``time`` (nanoseconds since 1970 UTC, i64), ``seq`` (i64), ``qos`` (u8),
      ``retain`` and ``dup`` (u8, 0 or 1): H of the values end to end;
    * ``payload``, ``properties``: H of the lengths in bytes (u32; null is
      0xFFFFFFFF), then H of the bytes end to end;
    * ``kind``, ``topic``, ``client``: H of a number per row (u32; null is
      0xFFFFFFFF), where names are numbered 0, 1, 2 … in the order in which they
      first appear, then H of the names in that order, each as its length in
      bytes of UTF-8 (u32) and these bytes. (``pandas.factorize`` numbers so.)

    Args:
        source: A table or batches with the columns of a recording, or messages.
        first_seq: Where messages begin to be numbered; they are numbered
            without a gap.
    """
    digest = ContentHash()
    if isinstance(source, pa.Table):
        digest.update(source)
        return digest.hexdigest()
    rows = iter(source)
    first = next(rows, None)
    if first is None:
        return digest.hexdigest()
    if isinstance(first, pa.RecordBatch | pa.Table):
        digest.update(first)
        for batch in rows:
            digest.update(batch)
        return digest.hexdigest()

    def messages() -> Iterable[Message]:
        yield first
        yield from rows

    for batch in to_batches(messages(), first_seq=first_seq):
        digest.update(batch)
    return digest.hexdigest()
