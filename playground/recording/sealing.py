"""Makes sealed files: streaming, synced, read back, named atomically."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from playground.errors import FileFormatError, PlaygroundError
from playground.recording.columns import (
    COLUMNS,
    FORMAT_VERSION,
    SCHEMA,
    WRITER,
    encode_metadata,
    offsets,
)
from playground.recording.content import ContentHash
from playground.recording.journal import RecordingStopped, sync_directory
from playground.recording.sealed import (
    BLOCK_END,
    BLOCK_MAGIC,
    PARQUET,
    TAIL,
    SealedFile,
    chunk_range,
    parse_footer,
)

ROWS = 65_536
"""Most rows of a row group: what one damaged byte can cost, at most."""
BYTES = 1 << 24
"""Most payload bytes of a row group; one larger message is a group of its own."""

_ENCODINGS = {"time": "DELTA_BINARY_PACKED", "seq": "DELTA_BINARY_PACKED"}
_STATISTICS = ["time", "seq", "kind", "topic"]
_SAMPLE = 1 << 20
"""Bytes of payload from which the level of compression is chosen."""


class SealWriter:
    """Writes a sealed file under a temporary name beside its target.

    Memory is bounded by two row groups. Nothing appears under the target's name
    before `publish`.

    Args:
        target: Name of the sealed file.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.temporary = target.with_name(f".{target.name}.sealing")
        self.content = ContentHash()
        self._writer: pq.ParquetWriter | None = None
        # Compression and hashing leave Python's lock free for the next group.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="seal")
        self._working: Future[None] | None = None
        self._pending: list[pa.RecordBatch] = []
        self._rows = 0
        self._bytes = 0

    def write(self, rows: pa.RecordBatch | pa.Table) -> None:
        """Takes in rows with the columns of a recording."""
        for batch in rows.to_batches() if isinstance(rows, pa.Table) else (rows,):
            size = max(batch.column("payload").nbytes, 1)
            step = max(1, min(ROWS, batch.num_rows * BYTES // size))
            for start in range(0, batch.num_rows, step):
                self._take(batch.slice(start, step))

    def _take(self, batch: pa.RecordBatch) -> None:
        size = batch.column("payload").nbytes
        if self._rows + batch.num_rows > ROWS and self._rows < ROWS:
            room = ROWS - self._rows
            self._take(batch.slice(0, room))
            self._take(batch.slice(room))
            return
        if self._rows and (
            self._rows + batch.num_rows > ROWS or self._bytes + size > BYTES
        ):
            self._flush()
        self._pending.append(batch)
        self._rows += batch.num_rows
        self._bytes += size

    def _flush(self) -> None:
        """Hands a row group to the worker; waits for the one before."""
        pending = self._pending
        self._pending, self._rows, self._bytes = [], 0, 0
        self._wait()
        self._working = self._worker.submit(self._write_group, pending)

    def _wait(self) -> None:
        if self._working is not None:
            working, self._working = self._working, None
            working.result()

    def _write_group(self, batches: list[pa.RecordBatch]) -> None:
        table = pa.Table.from_batches(batches, SCHEMA)
        table = table.unify_dictionaries().combine_chunks()
        self.content.update(table)
        with _disk(self.target):
            if self._writer is None:
                self._writer = self._open(table)
            if len(table):
                self._writer.write_table(table, row_group_size=len(table))

    def _open(self, first: pa.Table) -> pq.ParquetWriter:
        sample = first.column("payload").slice(0, 8192)
        named = ["kind", "topic", "client", "properties"]
        # 50 ms to import, and who only reads needs it not at all.
        import pyarrow.compute as pc

        if 4 * pc.count_distinct(sample).as_py() < len(sample):
            named.append("payload")
        return pq.ParquetWriter(
            str(self.temporary),
            SCHEMA,
            version="2.6",
            compression="zstd",
            compression_level=level_of_compression(_beginning(sample)),
            use_dictionary=named,
            column_encoding=_ENCODINGS,
            write_statistics=_STATISTICS,
            write_page_checksum=True,
        )

    def finish(self, metadata: Mapping[str, Any]) -> SealedFile:
        """Completes the temporary file, syncs it, reads it back.

        Args:
            metadata: What is to stand in the file; the keys of ``RESERVED`` are
                set here.

        Raises:
            RecordingStopped: The disk did not take it, or gave back something
                else than was written.
        """
        if self._pending or not self.content.count:
            self._flush()
        self._wait()
        self._worker.shutdown()
        writer = self._writer
        assert writer is not None
        complete = {
            **metadata,
            "format_version": FORMAT_VERSION,
            "writer": WRITER,
            "count": self.content.count,
            "sha256": self.content.hexdigest(),
        }
        with _disk(self.target):
            writer.add_key_value_metadata(encode_metadata(complete))
            writer.close()
            _add_integrity_block(self.temporary)
        back = SealedFile(self.temporary.as_posix(), pafs.LocalFileSystem())
        found = ContentHash()
        try:
            for table in back.read_all():
                found.update(table)
        except FileFormatError as error:
            raise RecordingStopped(
                f"What was written reads back damaged: {error.problem}",
                "look after the disk or the memory of this machine",
            ) from error
        if found.hexdigest() != complete["sha256"]:
            raise RecordingStopped(
                f"{self.target}: what was written does not read back the same.",
                "look after the disk or the memory of this machine",
            )
        return back

    def publish(self, *, overwrite: bool) -> None:
        """Gives the file its name, and makes that last.

        Raises:
            PlaygroundError: The target has come to exist meanwhile.
        """
        if not overwrite and self.target.exists():
            raise exists(self.target)
        with _disk(self.target):
            self.temporary.replace(self.target)
            sync_directory(self.target.parent)

    def discard(self) -> None:
        """Leaves nothing behind."""
        self._worker.shutdown(cancel_futures=True)
        with contextlib.suppress(Exception):
            if self._writer is not None:
                self._writer.close()
        with contextlib.suppress(OSError):
            self.temporary.unlink(missing_ok=True)


def _beginning(payloads: pa.ChunkedArray) -> pa.Buffer:
    """Returns the first payloads, end to end."""
    whole = payloads.combine_chunks()
    begin, end = offsets(whole)[[0, -1]].tolist()
    data = whole.buffers()[2] or pa.py_buffer(b"")
    return data[begin : min(end, begin + _SAMPLE)]


def level_of_compression(sample: pa.Buffer) -> int:
    """Chooses how hard zstd is to try: 3, or 1 where trying harder gains nothing.

    Numbers without repetition become no smaller at level 3, at twice the cost.
    """
    easy, hard = (
        len(pa.Codec("zstd", compression_level=level).compress(sample, asbytes=True))
        for level in (1, 3)
    )
    return 1 if easy <= 1.02 * hard else 3


def exists(target: Path) -> PlaygroundError:
    """Returns the error of a recording that would overwrite another."""
    return PlaygroundError(
        f"{target} exists; a recording is never overwritten unasked.",
        "choose another name, or give --overwrite",
    )


@contextlib.contextmanager
def _disk(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # pyarrow's text says it twice over.
        why = os.strerror(error.errno) if error.errno else str(error)
        raise RecordingStopped(
            f"{target} cannot be written: {why}.",
            "free space on that disk, or look after its permissions",
        ) from error


def _add_integrity_block(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-TAIL.size, os.SEEK_END)
        end = file.tell()
        length, _ = TAIL.unpack(file.read())
        file.seek(end - length)
        footer = file.read(length)
        metadata = parse_footer(footer)
        sums = bytearray()
        for group in range(metadata.num_row_groups):
            for column in range(len(COLUMNS)):
                start, size = chunk_range(metadata, group, column)
                file.seek(start)
                sums += zlib.crc32(file.read(size)).to_bytes(4, "little")
        block = footer + bytes(sums)
        file.seek(end - length)
        file.write(block)
        file.write(
            BLOCK_END.pack(
                hashlib.sha256(block).digest(),
                length,
                metadata.num_row_groups,
                BLOCK_MAGIC,
            )
        )
        file.write(footer + TAIL.pack(length, PARQUET))
        file.flush()
        os.fsync(file.fileno())
