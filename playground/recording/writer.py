"""`RecordingWriter`: messages in, a sealed recording out, nothing lost between."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.fs as pafs

from playground.errors import PlaygroundError
from playground.message import Message
from playground.recording.columns import RESERVED, size_of, to_batch
from playground.recording.journal import (
    JournalWriter,
    RecordingStopped,
    journal_of,
    sync_directory,
)
from playground.recording.ledger import Ledger
from playground.recording.reader import Recording
from playground.recording.recovery import (
    RecoverReport,
    journals_in,
    recover_journal,
    seal_journal,
)
from playground.recording.sealed import SealedFile
from playground.recording.sealing import SealWriter, exists

logger = logging.getLogger(__name__)

_PENDING = 8192
_MOST = 65_536
"""Most messages that are made columns at once."""


class RecordingWriter:
    """Writes a recording; a context manager.

    With a journal (the default) every message is in the hands of the operating
    system when `append` returns: a killed process loses nothing, a power cut
    what was appended since the last sync. The journal lies beside the target
    as ``NAME.parquet.journal`` until it has been sealed. If the ``with`` block
    ends by an exception, what was recorded is sealed all the same.

    Without a journal (runs in virtual time, imports) row groups are written to
    a hidden temporary file, which gets the target's name on `close`; after an
    exception nothing is left.

    A journal that already lies beside the target belongs to a recorder that was
    killed. It is sealed first, never overwritten: as
    ``NAME.recovered-1.parquet`` (``-2`` …), or, in a directory of parts, as the
    part that it is; the new messages then go on in the next part.

    Args:
        path: ``NAME.parquet`` for one file; a name without that suffix for a
            directory of parts ``part-00000.parquet`` ….
        metadata: About the session. Keys that others read: ``start_ns``,
            ``end_ns`` (nanoseconds since 1970 UTC), ``clock`` (the anchor),
            ``broker``, ``filters``, ``losses``, ``scenario``. May be changed
            until `close` in ``.metadata``.
        journal: See above.
        sync_s: The journal is synced to the disk at least this often; 0 after
            every message, None never.
        overwrite: An existing recording of that name may be replaced.

    Attributes:
        metadata: What will stand in the file about the session.
        recovered: What was found beside the target and sealed first, if so.
        count: Rows written, over all parts.
        bytes: Bytes written to the journal (without one: of topics and
            payloads), over all parts.

    Raises:
        PlaygroundError: The target exists, or another recorder writes to it.
        RecordingStopped: The disk does not take it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        metadata: Mapping[str, Any] | None = None,
        journal: bool = True,
        sync_s: float | None = 1.0,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        self.metadata: dict[str, Any] = {
            key: value for key, value in (metadata or {}).items() if key not in RESERVED
        }
        self.recovered: RecoverReport | None = None
        self.count = 0
        self._closed_bytes = 0
        self._overwrite = overwrite
        self._sync_s = sync_s
        self._seq = 0
        self._first_seq = 0
        self._part: int | None = None
        self._lock = threading.RLock()
        self._journal: JournalWriter | None = None
        self._seal: SealWriter | None = None
        self._pending: list[Message] = []
        self._pending_seqs: list[int] = []
        self._unwritten: list[Message] = []
        self._recording: Recording | None = None
        self._ended = False
        self._failure: RecordingStopped | None = None
        self._noted = ""
        self._sealing: threading.Thread | None = None
        self._stop = threading.Event()
        self._syncer: threading.Thread | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._prepare()
            if journal:
                self._journal = self._new_journal(self._target)
            else:
                self._seal = SealWriter(self._target)
        except OSError as error:
            raise RecordingStopped(
                f"{self.path} cannot be written: {error.strerror or error}.",
                "choose another place, or look after its permissions",
            ) from error
        if journal and sync_s:
            self._syncer = threading.Thread(
                target=self._sync_often, name="journal-sync", daemon=True
            )
            self._syncer.start()

    def _prepare(self) -> None:
        """Looks at what lies at the target already."""
        if self.path.suffix == ".parquet":
            if self.path.exists() and (self.path.is_dir() or not self._overwrite):
                raise exists(self.path)
            if journal_of(self.path).exists():
                # The same name will be used again, so it goes aside.
                self.recovered = recover_journal(journal_of(self.path), aside=True)
            return
        if self.path.exists() and not self.path.is_dir():
            raise exists(self.path)
        self.path.mkdir(exist_ok=True)
        abandoned = journals_in(self.path)
        for journal in abandoned:
            self.recovered = recover_journal(journal)
        parts = sorted(self.path.glob("part-*.parquet"))
        self._part = 0
        if parts and abandoned:
            last = SealedFile(parts[-1].as_posix(), pafs.LocalFileSystem())
            self._part = int(parts[-1].stem.split("-")[1]) + 1
            self._seq = int(last.metadata.get("next_seq", last.rows))
        elif parts and not self._overwrite:
            raise exists(self.path)
        else:
            for part in parts:
                part.unlink()

    @property
    def _target(self) -> Path:
        if self._part is None:
            return self.path
        return self.path / f"part-{self._part:05d}.parquet"

    def _new_journal(self, target: Path) -> JournalWriter:
        journal = JournalWriter(journal_of(target))
        self._first_seq = self._seq
        self._noted = self._metadata_text()
        journal.metadata(json.loads(self._noted))
        if self._seq:
            journal.skip(self._seq)
        return journal

    def _metadata_text(self) -> str:
        complete = dict(self.metadata)
        if self._part is not None:
            complete["part"] = self._part
            complete["first_seq"] = self._first_seq
        return json.dumps(complete, default=str)

    # Recording

    @property
    def bytes(self) -> int:
        """Bytes written so far."""
        if self._journal is not None:
            return self._closed_bytes + self._journal.size
        with self._lock:
            waiting = sum(len(m.topic) + len(m.payload) for m in self._pending)
            return self._closed_bytes + waiting

    def append(self, message: Message) -> int:
        """Records a message; returns its sequence number.

        Raises:
            RecordingStopped: The disk is full or fails; everything before is
                kept, nothing later will be taken.
            PlaygroundError: The recording is closed, or the message cannot be
                told in a recording.
        """
        with self._lock:
            if self._ended:
                raise PlaygroundError(
                    f"{self.path} is closed; nothing more can be recorded.",
                    "open a new RecordingWriter",
                )
            journal = self._journal
            if journal is None:
                return self._buffer(message)
            if self._failure is not None:
                raise self._failure
            seq = self._seq
            # Before it is written: an interrupt in between may cost a number
            # and never gives one twice.
            self._seq = seq + 1
            try:
                journal.append(message, seq)
            except PlaygroundError:
                self._seq = seq
                raise
            self.count += 1
            if self._sync_s == 0:
                journal.sync()
            return seq

    def extend(self, messages: Sequence[Message]) -> None:
        """Records messages that belong together, in order; see `append`."""
        with self._lock:
            if self._journal is not None or self._ended:
                for message in messages:
                    self.append(message)
                return
            first = self._seq
            self._seq += len(messages)
            self.count += len(messages)
            if len(messages) < _PENDING:
                self._pending.extend(messages)
                self._pending_seqs.extend(range(first, self._seq))
                if len(self._pending) >= _PENDING:
                    self._hand_over()
                return
            # A run hands in its log like this: from here on as columns, at once.
            self._hand_over()
            for start in range(0, len(messages), _MOST):
                part = messages[start : start + _MOST]
                begin = first + start
                self._write(part, range(begin, begin + len(part)))

    def take(self, ledger: Ledger) -> None:
        """Records what a ledger has gathered; without a journal only.

        Raises:
            PlaygroundError: The recording is closed, or something in it cannot be
                told in a recording.
        """
        with self._lock:
            if self._journal is not None or self._ended:
                raise PlaygroundError(
                    f"{self.path} takes messages one by one, or is closed.",
                    "open a RecordingWriter(…, journal=False)",
                )
            self._hand_over()
            batch = self._columns(lambda: ledger.to_batch(self._seq))
            self._seq += batch.num_rows
            self.count += batch.num_rows
            self._put(batch)

    def _buffer(self, message: Message) -> int:
        seq = self._seq
        self._pending.append(message)
        self._pending_seqs.append(seq)
        self._seq = seq + 1
        self.count += 1
        if len(self._pending) >= _PENDING or len(message.payload) > 1 << 20:
            self._hand_over()
        return seq

    def _hand_over(self) -> None:
        if self._pending:
            self._write(self._pending, self._pending_seqs)
            self._pending, self._pending_seqs = [], []

    def _write(self, messages: Sequence[Message], seqs: Sequence[int]) -> None:
        self._put(self._columns(lambda: to_batch(messages, seqs)))

    def _columns(self, make: Callable[[], pa.RecordBatch]) -> pa.RecordBatch:
        try:
            return make()
        except (ValueError, OverflowError) as error:
            raise PlaygroundError(
                f"A message cannot be recorded: {error}.",
                "look at the kinds, topics, times and QoS that were recorded last",
            ) from error

    def _put(self, batch: pa.RecordBatch) -> None:
        assert self._seal is not None
        self._closed_bytes += size_of(batch)
        self._seal.write(batch)

    def skip(self, count: int) -> None:
        """Leaves out sequence numbers: so many messages are known to be lost."""
        if count < 0:
            raise ValueError(f"count must not be negative, but is {count}")
        with self._lock:
            self._seq += count
            if self._journal is not None and count:
                self._journal.skip(self._seq)

    def gap(self, start_ns: int, end_ns: int, reason: str) -> int:
        """Records that the recorder was blind from ``start_ns`` to ``end_ns``.

        The row has the time ``end_ns``, so that rows stay in order of time, and
        the payload ``{"start_ns": …, "end_ns": …, "reason": …}``. Where the disk
        takes no more, it is written when the recording is sealed.
        """
        told = {"start_ns": start_ns, "end_ns": end_ns, "reason": reason}
        row = Message(end_ns, "", json.dumps(told).encode(), kind="gap")
        try:
            return self.append(row)
        except RecordingStopped:
            with self._lock:
                self._unwritten.append(row)
                self._seq += 1
                return self._seq - 1

    def sync(self) -> None:
        """Returns when all that was appended is on the disk (with a journal)."""
        with self._lock:
            journal = self._journal
            if journal is None:
                return
            self._note_metadata(journal)
        journal.sync()

    def _note_metadata(self, journal: JournalWriter) -> None:
        try:
            text = self._metadata_text()
        except RuntimeError:
            return  # being changed by another thread; next time
        if text != self._noted:
            journal.metadata(json.loads(text))
            self._noted = text

    def _sync_often(self) -> None:
        while not self._stop.wait(self._sync_s):
            try:
                self.sync()
            except RecordingStopped as error:
                self._failure = error
                return

    # Ending

    def rotate(self) -> None:
        """Goes on in the next part; seals the present one in the background.

        A recording ``NAME.parquet`` becomes the directory ``NAME`` of parts.

        Raises:
            PlaygroundError: There is no journal, or ``NAME`` is taken.
            RecordingStopped: The part before could not be sealed; its journal
                is kept.
        """
        self._join()
        with self._lock:
            if self._ended or (self._journal is None and self._seal is None):
                raise PlaygroundError(
                    f"{self.path} is closed; it cannot be rotated.",
                    "begin a new recording",
                )
            if self._journal is None:
                raise PlaygroundError(
                    f"{self.path} is written without a journal; it has one part.",
                    "RecordingWriter(..., journal=True)",
                )
            self._note_metadata(self._journal)
            done = self._journal
            if self._part is None:
                self._become_directory(done)
            target = self._target
            assert self._part is not None
            self._part += 1
            self._journal = self._new_journal(self._target)
            self._closed_bytes += done.size
        self._sealing = threading.Thread(
            target=self._seal_part, args=(done, target), name="seal-part"
        )
        self._sealing.start()

    def _become_directory(self, journal: JournalWriter) -> None:
        directory = self.path.with_suffix("")
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise exists(directory)
        directory.mkdir(exist_ok=True)
        first = directory / "part-00000.parquet"
        journal.path = journal.path.rename(journal_of(first))
        sync_directory(directory)
        sync_directory(directory.parent)
        self.path, self._part = directory, 0

    def _seal_part(self, journal: JournalWriter, target: Path) -> None:
        try:
            journal.sync()
            seal_journal(journal.path, target, metadata={}, overwrite=False)
        except (PlaygroundError, OSError) as error:
            logger.warning("%s; the journal %s is kept", error, journal.path)
        finally:
            journal.close()

    def _join(self) -> None:
        if self._sealing is not None:
            self._sealing.join()
            self._sealing = None

    def _end(self) -> None:
        self._stop.set()
        if self._syncer is not None and self._syncer is not threading.current_thread():
            self._syncer.join()
        self._ended = True

    def close(self) -> Recording:
        """Seals what was recorded; returns it. May be called again.

        Raises:
            RecordingStopped: The disk does not take it. The journal is kept.
            PlaygroundError: The target has come to exist meanwhile. The journal
                is kept.
        """
        if self._recording is not None:
            return self._recording
        if self._ended:
            raise PlaygroundError(
                f"{self.path} was abandoned; there is nothing to seal.",
                f"'playground recover {self.path}' seals its journal",
            )
        self._join()
        self._end()
        with self._lock:
            if self._journal is None:
                sealed = self._publish()
            else:
                sealed = self._seal_journal(self._journal)
        if self._part is None:
            self._recording = Recording([sealed], recovered=self.recovered)
        else:
            self._recording = Recording.open(self.path)
        return self._recording

    def _publish(self) -> SealedFile:
        seal = self._seal
        assert seal is not None
        try:
            self._hand_over()
            complete = json.loads(self._metadata_text())
            complete.setdefault("next_seq", self._seq)
            sealed = seal.finish(complete)
            seal.publish(overwrite=self._overwrite)
        except BaseException:
            seal.discard()
            raise
        sealed.path = seal.target.as_posix()
        return sealed

    def _seal_journal(self, journal: JournalWriter) -> SealedFile:
        try:
            metadata = json.loads(self._metadata_text())
            metadata["next_seq"] = self._seq
            unwritten = self._unwritten
            first = self._seq - len(unwritten)
            sealed, _ = seal_journal(
                journal.path,
                self._target,
                metadata=metadata,
                overwrite=self._overwrite,
                more=to_batch(unwritten, range(first, self._seq)),
            )
        except PlaygroundError as error:
            self._closed_bytes += journal.size
            raise type(error)(
                f"{error.problem} What was recorded is kept in {journal.path}.",
                f"{error.fix}; then 'playground recover {journal.path}'",
            ) from error
        finally:
            journal.close()
        return sealed

    def abandon(self) -> None:
        """Ends without sealing: keeps the journal; without one leaves nothing."""
        if self._ended:
            return
        self._join()
        self._end()
        with self._lock:
            if self._journal is not None:
                try:
                    self._note_metadata(self._journal)
                    self._journal.sync()
                finally:
                    self._journal.close()
            if self._seal is not None:
                self._seal.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._ended:
            return
        if error is None:
            self.close()
        elif self._journal is None:
            self.abandon()
        else:
            try:
                self.close()
            except PlaygroundError as failure:
                # The first error is the one to be told.
                logger.warning("%s", failure)
