"""A sealed recording: one Parquet file that can tell when it is damaged.

Parquet checks its pages but neither their headers nor its footer. A sealed file
therefore carries, between the last column chunk and the footer, where Parquet
readers do not look, an integrity block, integers little endian::

    footer copy | CRC-32 per column chunk: u32 × row groups × columns
    | SHA-256 of these two | length of the copy: u32 | row groups: u32 | "PLAYSEAL"

With it every byte of the file is covered, and a damaged footer has a spare.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from playground.errors import FileFormatError
from playground.recording.columns import (
    COLUMNS,
    FORMAT_VERSION,
    SCHEMA,
    decode_metadata,
)

PARQUET: Final = b"PAR1"
TAIL = struct.Struct("<I4s")
BLOCK_END = struct.Struct("<32sII8s")
BLOCK_MAGIC: Final = b"PLAYSEAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """A place of a sealed file that is not as it was written."""

    path: str
    place: str
    """``footer``, ``integrity block``, ``row group 3, column payload`` …"""
    rows: int = 0
    """Rows that cannot be trusted any more."""

    def __str__(self) -> str:
        lost = f" ({self.rows} rows)" if self.rows else ""
        return f"{self.path}: {self.place} is damaged{lost}"


class _IntegrityBlock(NamedTuple):
    """What stands between the last column chunk and the footer."""

    copy: bytes
    raw_sums: bytes
    digest: bytes

    def fits(self, footer: bytes) -> bool:
        """Says whether the hash is of this footer and the sums that stand here."""
        return hashlib.sha256(footer + self.raw_sums).digest() == self.digest

    @property
    def sums(self) -> tuple[int, ...]:
        return struct.unpack(f"<{len(self.raw_sums) // 4}I", self.raw_sums)


def _unreadable(path: str, error: OSError) -> FileFormatError:
    """Returns the error of a file that is there but does not let itself be read."""
    # pyarrow's texts begin with advice of its own; the system's word is enough.
    why = os.strerror(error.errno) if error.errno else str(error)
    fix = {
        errno.EACCES: f"ask for the right to read it: chmod u+r {path}",
        errno.EISDIR: "name a file, or a directory of parts (part-00000.parquet …)",
    }
    return FileFormatError(
        f"{path} cannot be read: {why}.",
        fix.get(error.errno or 0, "look after the disk, or the connection to it"),
    )


def chunk_range(metadata: pq.FileMetaData, group: int, column: int) -> tuple[int, int]:
    """Returns where a column chunk begins in the file, and its length in bytes."""
    chunk = metadata.row_group(group).column(column)
    start = chunk.data_page_offset
    if chunk.dictionary_page_offset is not None:
        start = min(start, chunk.dictionary_page_offset)
    return start, chunk.total_compressed_size


def parse_footer(footer: bytes) -> pq.FileMetaData:
    """Returns what a footer says."""
    whole = PARQUET + footer + TAIL.pack(len(footer), PARQUET)
    return pq.read_metadata(pa.BufferReader(whole))


class SealedFile:
    """One sealed file, open for reading by row group.

    Only the footer is held; the file itself is open while it is read.

    Args:
        path: Path within the filesystem.
        filesystem: Where it lies.
        tolerant: Read what can be read of a file with a damaged footer.

    Attributes:
        metadata: The recording's metadata, decoded.
        damages: What is damaged at the end of the file (tolerant only).

    Raises:
        FileFormatError: It is missing, empty, truncated, another format, of a
            newer version, or altered.
    """

    def __init__(
        self, path: str, filesystem: pafs.FileSystem, *, tolerant: bool = False
    ) -> None:
        self.path = path
        self.filesystem = filesystem
        self.damages: list[Damage] = []
        self._sums: Sequence[int] | None = None
        try:
            with filesystem.open_input_file(path) as source:
                self.size = source.size()
                footer = self._footer(source)
        except FileNotFoundError as error:
            raise FileFormatError(
                f"{path} does not exist.", "look after the spelling of the path"
            ) from error
        except OSError as error:
            raise _unreadable(path, error) from error
        if self.damages and not tolerant:
            raise FileFormatError(
                f"{self.damages[0]}.",
                f"'playground recover {path}' writes what can be read into a new file",
            )
        self.parquet = footer
        self._check_columns()
        self.metadata = self._check_metadata()
        self.rows: int = footer.num_rows
        self.groups: int = footer.num_row_groups

    # What lies at the end of the file

    def _footer(self, source: pa.NativeFile) -> pq.FileMetaData:
        if not self.size:
            raise FileFormatError(
                f"{self.path} is empty (0 bytes).",
                "copy it again from where it was made, or delete it",
            )
        head = source.read_at(4, 0)
        tail = source.read_at(min(8, self.size), max(0, self.size - 8))
        if PARQUET not in (head, tail[-4:]):
            raise FileFormatError(
                f"{self.path} is not a recording: it is no Parquet file "
                f"(it begins with {bytes(head)!r}).",
                "'playground import' reads CSV and other formats",
            )
        if head != PARQUET:
            self._damaged("first four bytes")
        main = self._main_footer(source, tail)
        if main is not None:
            start = self.size - 8 - len(main)
            block = self._block_before(source, start)
            if block is not None:
                # Three witnesses: footer, copy and hash. Two that agree win.
                if block.fits(main):
                    if block.copy != main:
                        self._damaged("integrity block")
                    self._sums = block.sums
                    return parse_footer(main)
                if block.fits(block.copy):
                    self._damaged("footer")
                    self._sums = block.sums
                    return parse_footer(block.copy)
                if block.copy == main:
                    self._damaged("integrity block")
                    return parse_footer(main)
        found = self._search(source)
        if found is not None:
            self._sums = found.sums
            self._damaged("footer" if main else "end (truncated or overwritten)")
            return parse_footer(found.copy)
        if main is None:
            raise FileFormatError(
                f"{self.path} is truncated or was never finished: "
                "a Parquet file ends with its index, this one does not.",
                "copy it again from where it was made",
            )
        return self._foreign(source, main)

    def _damaged(self, place: str) -> None:
        self.damages.append(Damage(path=self.path, place=place))

    def _main_footer(self, source: pa.NativeFile, tail: bytes) -> bytes | None:
        if len(tail) < 8 or tail[4:] != PARQUET:
            return None
        length = TAIL.unpack(tail)[0]
        if not 0 < length <= self.size - 12:
            return None
        return bytes(source.read_at(length, self.size - 8 - length))

    def _block_before(self, source: pa.NativeFile, end: int) -> _IntegrityBlock | None:
        """Reads the integrity block that ends at ``end``; None if none does."""
        start = end - BLOCK_END.size
        if start < 4:
            return None
        digest, length, groups, magic = BLOCK_END.unpack(
            source.read_at(BLOCK_END.size, start)
        )
        sums = 4 * groups * len(COLUMNS)
        if magic != BLOCK_MAGIC or length + sums > start - 4:
            return None
        body = bytes(source.read_at(length + sums, start - length - sums))
        return _IntegrityBlock(body[:length], body[length:], digest)

    def _search(self, source: pa.NativeFile) -> _IntegrityBlock | None:
        """Looks for an integrity block where the footer does not lead to it."""
        reach = min(self.size, 1 << 26)
        base = self.size - reach
        data = bytes(source.read_at(reach, base))
        at = data.rfind(BLOCK_MAGIC)
        while at >= 0:
            block = self._block_before(source, base + at + len(BLOCK_MAGIC))
            if block is not None and block.fits(block.copy):
                return block
            at = data.rfind(BLOCK_MAGIC, 0, at)
        return None

    def _foreign(self, source: pa.NativeFile, main: bytes) -> pq.FileMetaData:
        """Says what is wrong with a Parquet file without an integrity block."""
        try:
            parquet = parse_footer(main)
        except (OSError, pa.ArrowException) as error:
            raise FileFormatError(
                f"{self.path} is damaged at its end: {error}.",
                "copy it again from where it was made",
            ) from error
        self.parquet = parquet
        self._check_columns()
        self._check_metadata()
        end = self.size - 8 - len(main) - BLOCK_END.size
        start = end - 4 * parquet.num_row_groups * len(COLUMNS) - len(main)
        if start >= 4 and source.read_at(len(main), start) == main:
            self._damaged("integrity block")
        else:
            self._damaged(
                "integrity block (missing: another program wrote the file anew)"
            )
        return parquet

    def _check_columns(self) -> None:
        names = self.parquet.schema.to_arrow_schema().names
        missing = [name for name in COLUMNS if name not in names]
        if missing:
            raise FileFormatError(
                f"{self.path} is a Parquet file but not a recording: it lacks the "
                f"column{'s' * (len(missing) > 1)} {', '.join(missing)}.",
                f"'playground import {self.path} -o NEW.parquet' makes it one",
            )
        found = self.parquet.schema.to_arrow_schema().remove_metadata()
        if tuple(names) != COLUMNS or not found.equals(SCHEMA):
            raise FileFormatError(
                f"{self.path} has columns of other types than a recording's.",
                f"'playground import {self.path} -o NEW.parquet' makes it one",
            )

    def _check_metadata(self) -> dict[str, Any]:
        try:
            metadata = decode_metadata(self.parquet.metadata)
        except ValueError as error:
            raise FileFormatError(
                f"{self.path}: its metadata is damaged: {error}.",
                "copy it again from where it was made",
            ) from error
        version = metadata.get("format_version")
        if not isinstance(version, int):
            raise FileFormatError(
                f"{self.path} is a Parquet file without the metadata of a recording.",
                f"'playground import {self.path} -o NEW.parquet' makes it one",
            )
        if version > FORMAT_VERSION:
            raise FileFormatError(
                f"{self.path} has format version {version}; this program reads up to "
                f"{FORMAT_VERSION}.",
                "pip install --upgrade mqtt-playground",
            )
        return metadata

    # Rows

    def time_range(self, group: int) -> tuple[int, int]:
        """Returns the first and the last time in a row group, nanoseconds."""
        statistics = self.parquet.row_group(group).column(0).statistics
        return statistics.min_raw, statistics.max_raw

    def topic_range(self, group: int) -> tuple[str, str] | None:
        """Returns the least and the greatest topic of a row group, if known."""
        statistics = self.parquet.row_group(group).column(3).statistics
        if statistics is None or not statistics.has_min_max:
            return None
        return statistics.min, statistics.max

    @contextlib.contextmanager
    def opened(self) -> Iterator[GroupReader]:
        """Opens the file for reading several row groups."""
        try:
            source = self.filesystem.open_input_file(self.path)
        except OSError as error:
            raise _unreadable(self.path, error) from error
        with source:
            yield GroupReader(self, source, self._sums)

    def read(self, group: int) -> pa.Table:
        """Reads all columns of one row group.

        Raises:
            FileFormatError: It is damaged.
        """
        with self.opened() as reader:
            return reader.read(group)

    def read_all(self) -> Iterator[pa.Table]:
        """Reads row group after row group, the next one while one is used.

        Raises:
            FileFormatError: One is damaged.
        """
        with self.opened() as reader, ThreadPoolExecutor(1) as ahead:
            coming = [ahead.submit(reader.read, n) for n in range(self.groups)[:1]]
            for group in range(1, self.groups + 1):
                table = coming.pop().result()
                if group < self.groups:
                    coming.append(ahead.submit(reader.read, group))
                yield table

    def scan(self) -> Iterator[Damage]:
        """Reads every byte and names the places that are not as written."""
        yield from self.damages
        with self.opened() as reader:
            for group in range(self.groups):
                rows = self.parquet.row_group(group).num_rows
                for name in COLUMNS:
                    if not reader.intact(group, name):
                        place = f"row group {group}, column {name}"
                        yield Damage(path=self.path, place=place, rows=rows)


class _Fetched(io.RawIOBase):
    """The column chunks that were fetched, at their places in the file.

    Parquet reads from here what was fetched and checked before; so each byte
    is asked of the disk, or of the object storage, once.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._place = 0
        self.chunks: dict[int, bytes] = {}

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}
        self._place = base[whence] + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int = -1) -> bytes:
        for start, chunk in self.chunks.items():
            if start <= self._place < start + len(chunk):
                first = self._place - start
                found = chunk if len(chunk) == size else chunk[first : first + size]
                self._place += len(found)
                return found
        raise OSError(f"byte {self._place} was not fetched")


class GroupReader:
    """Reads row groups of a sealed file, and checks what it reads."""

    def __init__(
        self, sealed: SealedFile, source: pa.NativeFile, sums: Sequence[int] | None
    ) -> None:
        self._sealed = sealed
        self._source = source
        self._sums = sums
        self._fetched = _Fetched(sealed.size)
        self._file = pq.ParquetFile(
            pa.PythonFile(self._fetched, mode="r"),
            metadata=sealed.parquet,
            page_checksum_verification=True,
            pre_buffer=False,
        )

    def read(self, group: int, columns: Sequence[str] = COLUMNS) -> pa.Table:
        """Reads columns of one row group.

        Raises:
            FileFormatError: A column is damaged; the message names it.
        """
        for name in columns:
            if not self._take(group, name):
                raise self._damaged(group, name)
        try:
            # A thread of Arrow that still holds our file when the interpreter ends
            # takes the process down with it.
            return self._file.read_row_group(
                group, columns=list(columns), use_threads=False
            )
        except (OSError, pa.ArrowException, ValueError) as error:
            for name in columns:
                if not self.intact(group, name):
                    raise self._damaged(group, name) from error
            raise FileFormatError(
                f"{self._sealed.path}: row group {group} cannot be read: {error}.",
                f"'playground recover {self._sealed.path}' writes what can be read "
                "into a new file",
            ) from error
        finally:
            self._fetched.chunks.clear()

    def pieces(
        self, group: int, columns: Sequence[str], rows: int | None
    ) -> Iterator[pa.Table]:
        """Reads columns of one row group, so many rows at a time.

        Args:
            group: Number of the row group.
            columns: Which of its columns.
            rows: At most so many in a piece; None for all.

        Raises:
            FileFormatError: A column is damaged; before the first piece.
        """
        # Without checksums of whole columns damage would show only on the way.
        if rows is None or self._sums is None:
            yield self.read(group, columns)
            return
        for name in columns:
            if not self._take(group, name):
                raise self._damaged(group, name)
        try:
            # In this thread: a second one would hold a piece of its own.
            for batch in self._file.iter_batches(
                rows, row_groups=[group], columns=list(columns), use_threads=False
            ):
                yield pa.Table.from_batches([batch])
        finally:
            self._fetched.chunks.clear()

    def intact(self, group: int, column: str) -> bool:
        """Says whether a column of a row group is as it was written."""
        try:
            if not self._take(group, column):
                return False
            if self._sums is None:
                self._file.read_row_group(group, columns=[column], use_threads=False)
        except (OSError, pa.ArrowException, ValueError):
            return False
        finally:
            self._fetched.chunks.clear()
        return True

    def _take(self, group: int, column: str) -> bool:
        """Fetches a column chunk; says whether it is as it was written."""
        number = COLUMNS.index(column)
        start, size = chunk_range(self._sealed.parquet, group, number)
        data = self._fetch(start, size)
        self._fetched.chunks[start] = data
        if self._sums is None:
            return True
        return zlib.crc32(data) == self._sums[group * len(COLUMNS) + number]

    def _fetch(self, start: int, size: int) -> bytes:
        return bytes(self._source.read_at(size, start))

    def _damaged(self, group: int, column: str) -> FileFormatError:
        damage = Damage(
            path=self._sealed.path,
            place=f"row group {group}, column {column}",
            rows=self._sealed.parquet.row_group(group).num_rows,
        )
        return FileFormatError(
            f"{damage}.",
            f"'playground recover {self._sealed.path}' writes what can be read into "
            "a new file",
        )
