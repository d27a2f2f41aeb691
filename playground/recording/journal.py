r"""The journal: an append-only file of frames that survives a crash.

A recording that is being made lives here, because Parquet has its index at the
end and an unfinished Parquet file is unreadable. This module knows frames and
nothing of Parquet.

Layout, integers little endian::

    file  = "PLAYGROUND JOURNAL 1\n" salt:16 bytes frame*
    frame = length:u32 crc:u32 body        crc = CRC-32 of body, begun at seed
    body  = 1 flags:u8 qos:u8 kind:u8 time:i64 seq:i64 topic:u16 client:u16
            properties:u32 topic client properties payload       a message
          | 2 JSON                                               metadata so far
          | 3 seq:i64                                            next seq (loss)

``seed`` is the CRC-32 of the salt. The salt is random: what a payload carries,
be it another journal, can therefore never be taken for a frame of this one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playground.errors import ExitCode, FileFormatError, PlaygroundError
from playground.message import KINDS, Message
from playground.recording.columns import (
    SCHEMA,
    byte_strings,
    encode_names,
    flags,
    numbers,
)

MAGIC: Final = b"PLAYGROUND JOURNAL 1\n"
SALT_BYTES: Final = 16
SUFFIX: Final = ".journal"
MESSAGE, METADATA, SKIP = 1, 2, 3

_sync_data = getattr(os, "fdatasync", os.fsync)

_FRAME = struct.Struct("<II")
_HEADER = struct.Struct("<BBBBqqHHI")
_pack_frame, _pack_header = _FRAME.pack, _HEADER.pack
_crc32, _write = zlib.crc32, os.write
_RETAIN, _DUP, _CLIENT, _PROPERTIES = 1, 2, 4, 8
_KIND_NAMES = byte_strings([kind.encode() for kind in KINDS], pa.string())
_KIND_NUMBER = {kind: number for number, kind in enumerate(KINDS)}
_HEADER_DTYPE = np.dtype(
    [
        ("type", "u1"),
        ("flags", "u1"),
        ("qos", "u1"),
        ("kind", "u1"),
        ("time", "<i8"),
        ("seq", "<i8"),
        ("topic", "<u2"),
        ("client", "<u2"),
        ("properties", "<u4"),
    ]
)
_LARGEST_BODY = 1 << 29
"""Twice the largest MQTT packet; a length above it is damage."""
_BLOCK = 1 << 23
_KEEP = 1 << 26
"""How far behind a damage the next whole frame is looked for in memory."""


class RecordingStopped(PlaygroundError):  # noqa: N818 - reads as a sentence
    """The recording cannot go on (disk full, quota, I/O error)."""

    exit_code = ExitCode.NOT_SO


def journal_of(target: Path) -> Path:
    """Returns where the journal of a recording lies: beside it."""
    return target.with_name(target.name + SUFFIX)


def lock(descriptor: int) -> bool:
    """Takes the lock that says who works on a journal; False if another has it."""
    try:
        import fcntl
    except ImportError:  # pragma: no cover - Windows has no flock
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # Some network file systems have no locks; better to record without.
        if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            return True
        raise
    return True


def sync_directory(directory: Path) -> None:
    """Makes sure that names created or replaced in a directory survive."""
    with contextlib.suppress(PermissionError):  # Windows cannot open directories
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class JournalWriter:
    """Appends frames, one ``write`` each; whole or not at all.

    Args:
        path: The journal; must not exist.

    Raises:
        FileExistsError: It exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.synced = 0
        self._failure: str | None = None
        self._topics: dict[str, bytes] = {}
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._descriptor = os.open(path, flags, 0o644)
        if not lock(self._descriptor):  # pragma: no cover - nobody else has it
            raise RecordingStopped(
                f"{path} is locked by another program.", "choose another name"
            )
        salt = os.urandom(SALT_BYTES)
        while not zlib.crc32(salt):  # or zeros would be frames of length 0
            salt = os.urandom(SALT_BYTES)
        self.identity = salt.hex()
        self._seed = zlib.crc32(salt)
        self._write(MAGIC + salt)
        sync_directory(path.parent)

    def append(self, message: Message, seq: int) -> None:
        """Writes one message.

        Raises:
            PlaygroundError: The message cannot be told: unknown kind, topic or
                client id longer than 65,535 bytes.
            RecordingStopped: The disk did not take it; what was there before is
                whole.
        """
        time_ns, topic, payload, qos, retain, dup, client, properties, kind = message
        flags = (_RETAIN if retain else 0) | (_DUP if dup else 0)
        raw_client = raw_properties = b""
        try:
            raw_topic = self._topics.get(topic)
            if raw_topic is None:
                raw_topic = self._topic(topic)
            if client is not None:
                flags |= _CLIENT
                raw_client = client.encode()
            if properties is not None:
                flags |= _PROPERTIES
                raw_properties = properties.encode()
            header = _pack_header(
                MESSAGE,
                flags,
                qos,
                _KIND_NUMBER[kind],
                time_ns,
                seq,
                len(raw_topic),
                len(raw_client),
                len(raw_properties),
            )
        except (struct.error, KeyError, UnicodeEncodeError) as error:
            raise PlaygroundError(
                f"This message cannot be recorded ({error}): kind {kind!r}, "
                f"QoS {qos!r}, time {time_ns!r}, topic {topic[:80]!r}.",
                f"kinds are {', '.join(KINDS)}; topics and client ids have at most "
                "65,535 bytes; times are 64-bit nanoseconds",
            ) from error
        body = b"".join((header, raw_topic, raw_client, raw_properties, payload))
        data = _pack_frame(len(body), _crc32(body, self._seed)) + body
        # Written here and not by a call: this is the path that must keep up.
        if self._failure is None:
            try:
                written = _write(self._descriptor, data)
            except OSError as error:
                raise self._stop(error) from error
            if written == len(data):
                self.size += written
            else:
                self._write(data, written)
            return
        raise RecordingStopped(*self._stopped())

    def _topic(self, topic: str) -> bytes:
        raw = topic.encode()
        if len(self._topics) >= 100_000:
            self._topics.clear()
        self._topics[topic] = raw
        return raw

    def metadata(self, metadata: Mapping[str, Any]) -> None:
        """Writes the metadata known so far; the last one written counts."""
        self._frame(bytes([METADATA]) + json.dumps(metadata, default=str).encode())

    def skip(self, next_seq: int) -> None:
        """Notes that the numbers before ``next_seq`` stand for lost messages."""
        self._frame(bytes([SKIP]) + next_seq.to_bytes(8, "little", signed=True))

    def _frame(self, body: bytes) -> None:
        if self._failure is not None:
            raise RecordingStopped(*self._stopped())
        self._write(_pack_frame(len(body), _crc32(body, self._seed)) + body)

    def _write(self, data: bytes, written: int = 0) -> None:
        """Writes the rest of a frame of which so many bytes are written."""
        try:
            while written < len(data):
                # The disk took a part; the rest fits or says why not.
                written += _write(self._descriptor, data[written:])
        except OSError as error:
            raise self._stop(error) from error
        self.size += len(data)

    def _stop(self, error: OSError) -> RecordingStopped:
        """Takes back a frame that was written in part; nothing more is taken."""
        self._failure = str(error)
        # The reader would drop it; without it nobody needs to wonder.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, self.size)
        return RecordingStopped(*self._stopped())

    def _stopped(self) -> tuple[str, str]:
        return (
            f"The recording cannot go on: {self._failure} ({self.path}). "
            "All messages before are kept.",
            "free space on that disk or record elsewhere; 'playground recover "
            f"{self.path}' seals what there is",
        )

    def sync(self) -> None:
        """Returns when all that was written is on the disk.

        Raises:
            RecordingStopped: The disk reports an error.
        """
        size = self.size
        if size == self.synced:
            return
        try:
            _sync_data(self._descriptor)
        except OSError as error:
            if self._descriptor < 0:
                return  # closed meanwhile, by one who has synced and sealed it
            self._failure = str(error)
            raise RecordingStopped(*self._stopped()) from error
        self.synced = size

    def close(self) -> None:
        """Closes the file, and gives up the lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class JournalReader:
    """Reads the frames of a journal, in blocks, and passes over damage.

    Args:
        path: The journal.

    Attributes:
        metadata: Metadata written last, so far.
        count: Messages read so far.
        next_seq: The number after the last one known.
        discarded: Bytes that were no whole frame.
        reasons: Why, in words.

    Raises:
        FileFormatError: The file is not a journal of this version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata: dict[str, Any] = {}
        self.count = 0
        self.next_seq = 0
        self.discarded = 0
        self.reasons: list[str] = []
        self._file = path.open("rb", buffering=0)
        self._size = os.fstat(self._file.fileno()).st_size
        head = self._file.read(len(MAGIC) + SALT_BYTES)
        self.identity = head[len(MAGIC) :].hex()
        self._seed = zlib.crc32(head[len(MAGIC) :])
        if len(head) < len(MAGIC) + SALT_BYTES:
            # Killed before the first message: there was nothing to lose.
            if MAGIC.startswith(head[: len(MAGIC)]):
                self._size = 0
                return
        elif head.startswith(MAGIC):
            return
        self._file.close()
        raise FileFormatError(
            f"{path} is not a journal of this version: it begins with {head[:21]!r}.",
            "name a file that 'playground record' wrote",
        )

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Returns the messages in columns, a block of the file at a time.

        Memory: some times the block (8 MB) or the largest message.
        """
        buffer = np.empty(max(64, min(_BLOCK, self._size)), np.uint8)
        place = len(MAGIC) + SALT_BYTES
        filled = 0
        while place + filled < self._size:
            got = self._file.readinto(buffer.data[filled:])
            if not got:
                break
            filled += got
            last = place + filled >= self._size
            starts, used = self._walk(buffer, filled, place, last=last)
            if starts:
                yield from self._messages(buffer, starts)
            buffer, filled, place = self._advance(buffer, filled, place, used)

    def _advance(
        self, buffer: npt.NDArray[np.uint8], filled: int, place: int, used: int
    ) -> tuple[npt.NDArray[np.uint8], int, int]:
        """Moves the unread rest to the front; grows for a frame that is longer."""
        rest = filled - used
        target = buffer
        if rest == len(buffer):
            target = np.empty(2 * len(buffer), np.uint8)
        elif used and rest < _BLOCK <= len(buffer) // 2:
            target = np.empty(_BLOCK, np.uint8)
        if used or target is not buffer:
            target[:rest] = buffer[used:filled].copy()
        return target, rest, place + used

    def _walk(
        self, buffer: npt.NDArray[np.uint8], filled: int, place: int, *, last: bool
    ) -> tuple[list[int], int]:
        """Finds the whole frames; returns where bodies start, and bytes used."""
        view = buffer.data
        unpack, crc32, seed = _FRAME.unpack_from, zlib.crc32, self._seed
        starts: list[int] = []
        add = starts.append
        position = 0
        room = self._size - place
        while position + 8 <= filled:
            length, crc = unpack(view, position)
            start = position + 8
            stop = start + length
            if crc32(view[start:stop], seed) == crc and stop <= filled:
                add(start)
                position = stop
                continue
            if 0 < length <= _LARGEST_BODY and filled < stop <= room:
                break  # not all here yet
            found = self._resume(buffer, position + 1, filled)
            if found is None:
                # The next frame may begin here and end in what is not read yet.
                drop = 0 if last else filled - position - _KEEP
                if drop > 0:
                    self._lose(place + position, drop)
                    position += drop
                break
            self._lose(place + position, found - position)
            position = found
        if last:
            self._lose(place + position, filled - position)
            position = filled
        return starts, position

    def _resume(
        self, buffer: npt.NDArray[np.uint8], position: int, filled: int
    ) -> int | None:
        """Finds the next whole frame at or after ``position``."""
        view = buffer.data
        while position + 9 <= filled:
            window = buffer[position : min(position + (1 << 20), filled)]
            if len(window) < 9:
                return None
            lengths = np.lib.stride_tricks.sliding_window_view(window, 4)[:-5]
            lengths = np.ascontiguousarray(lengths).view("<u4")[:, 0]
            kinds = window[8 : 8 + len(lengths)]
            ends = np.arange(position + 8, position + 8 + len(lengths)) + lengths
            likely = (lengths > 0) & (ends <= filled) & (kinds > 0) & (kinds <= SKIP)
            for offset in np.flatnonzero(likely).tolist():
                at = position + offset
                length, crc = _FRAME.unpack_from(view, at)
                if zlib.crc32(view[at + 8 : at + 8 + length], self._seed) == crc:
                    return at
            position += len(lengths)
        return None

    def _lose(self, place: int, length: int) -> None:
        if length <= 0:
            return
        self.discarded += length
        where = "at the end" if place + length >= self._size else "inside"
        self.reasons.append(f"{length} bytes {where}, from byte {place}")

    def _messages(
        self, buffer: npt.NDArray[np.uint8], starts: list[int]
    ) -> Iterator[pa.RecordBatch]:
        begin = np.array(starts, np.int64)
        lengths = np.ndarray((len(buffer) - 3,), "<u4", buffer, strides=(1,))
        end = begin + lengths[begin - _FRAME.size]
        is_message = buffer[begin] == MESSAGE
        if not is_message.all():
            for start, stop in zip(
                begin[~is_message].tolist(), end[~is_message].tolist(), strict=True
            ):
                self._note(bytes(buffer[start:stop]))
            begin, end = begin[is_message], end[is_message]
            if not len(begin):
                return
        width = _HEADER.size
        # Headers begin at any byte: a view with a stride of one byte holds one
        # at each place, and the wanted ones are copied out.
        everywhere = np.ndarray(
            (len(buffer) - width + 1,), _HEADER_DTYPE, buffer, strides=(1,)
        )
        head = everywhere[begin]
        topic = begin + width
        client = topic + head["topic"]
        properties = client + head["client"]
        payload = properties + head["properties"]
        # Every second boundary of this one long array of byte strings is a
        # field's; Arrow then copies out each field at once.
        bounds = np.stack([topic, client, properties, payload, end], axis=1)
        bounds = bounds.astype(np.int32).reshape(-1)
        pieces = pa.Array.from_buffers(
            pa.binary(),
            len(bounds) - 1,
            [None, pa.py_buffer(bounds), pa.py_buffer(buffer)],
        )
        first = np.arange(0, len(bounds), 5, dtype=np.int64)
        bits = head["flags"]
        kinds = pa.DictionaryArray.from_arrays(
            numbers(head["kind"].astype(np.int32)), _KIND_NAMES
        )
        arrays = [
            numbers(np.ascontiguousarray(head["time"]), SCHEMA.field("time").type),
            numbers(np.ascontiguousarray(head["seq"])),
            kinds,
            encode_names(pieces.take(numbers(first))),
            pieces.take(numbers(first + 3)),
            numbers(np.ascontiguousarray(head["qos"])),
            flags((bits & _RETAIN) != 0),
            flags((bits & _DUP) != 0),
            encode_names(_where(bits & _CLIENT, pieces, first + 1)),
            _where(bits & _PROPERTIES, pieces, first + 2).cast(pa.string()),
        ]
        self.count += len(begin)
        self.next_seq = max(self.next_seq, int(head["seq"].max()) + 1)
        yield pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)

    def _note(self, body: bytes) -> None:
        if body[0] == METADATA:
            self.metadata = json.loads(body[1:])
        elif body[0] == SKIP:
            number = int.from_bytes(body[1:9], "little", signed=True)
            self.next_seq = max(self.next_seq, number)


def _where(
    present: npt.NDArray[Any], pieces: pa.Array, index: npt.NDArray[np.int64]
) -> pa.Array:
    """Takes pieces where they are present, null elsewhere."""
    if not present.any():
        return pa.nulls(len(present), pa.binary())
    valid = pa.py_buffer(np.packbits(present != 0, bitorder="little"))
    chosen = pa.Array.from_buffers(pa.int64(), len(index), [valid, pa.py_buffer(index)])
    return pieces.take(chosen)
