"""From a journal to a sealed file; from a damaged file to what is left of it."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from playground.errors import ExitCode, FileFormatError, PlaygroundError
from playground.recording.columns import RESERVED
from playground.recording.journal import (
    SUFFIX,
    JournalReader,
    journal_of,
    lock,
    sync_directory,
)
from playground.recording.sealed import Damage, SealedFile
from playground.recording.sealing import SealWriter

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoverReport:
    """What a recovery saved, and what it could not.

    Attributes:
        source: What was recovered: a journal or a damaged recording.
        target: The sealed file that holds it now.
        messages: Rows that are in the target.
        messages_lost: Rows known to be lost (of a damaged file); those of a
            journal that was cut cannot be counted.
        bytes_discarded: Bytes of the source that were no whole message.
        lossless: Nothing was discarded.
        reason: What was discarded and why; empty if nothing was.
    """

    source: str
    target: str
    messages: int
    messages_lost: int = 0
    bytes_discarded: int = 0
    lossless: bool = True
    reason: str = ""

    @property
    def exit_code(self) -> ExitCode:
        """What `playground recover` answers: good, or undecided after a loss."""
        return ExitCode.GOOD if self.lossless else ExitCode.UNDECIDED

    def __str__(self) -> str:
        text = f"{self.source}: {self.messages} messages recovered into {self.target}"
        return text if self.lossless else f"{text}; lost: {self.reason}"


def seal_journal(
    journal: Path,
    target: Path,
    *,
    metadata: dict[str, Any],
    overwrite: bool,
    more: pa.RecordBatch | None = None,
) -> tuple[SealedFile, JournalReader]:
    """Seals a journal into a target, then deletes the journal.

    Streams: memory is some row groups, whatever the size. The journal is deleted
    only after the sealed file was synced, read back and given its name.

    Args:
        journal: Nobody may write to it any more.
        target: Name of the sealed file.
        metadata: Goes over the metadata in the journal.
        overwrite: The target may exist.
        more: Rows that the journal had no room for.
    """
    reader = JournalReader(journal)
    writer = SealWriter(target)
    try:
        for batch in reader.batches():
            writer.write(batch)
        if more is not None and more.num_rows:
            writer.write(more)
        complete = {**reader.metadata, **metadata, "journal": reader.identity}
        complete.setdefault("next_seq", reader.next_seq)
        sealed = writer.finish(complete)
        writer.publish(overwrite=overwrite)
    except BaseException:
        writer.discard()
        raise
    finally:
        reader.close()
    journal.unlink()
    sync_directory(journal.parent)
    sealed.path = target.as_posix()
    return sealed, reader


def free_name(target: Path) -> Path:
    """Returns the first of ``NAME.recovered-1.parquet``, ``-2`` … that is free."""
    number = 1
    while True:
        name = f"{target.stem}.recovered-{number}{target.suffix or '.parquet'}"
        candidate = target.with_name(name)
        if not candidate.exists() and not journal_of(candidate).exists():
            return candidate
        number += 1


def recover_journal(journal: Path, *, aside: bool = False) -> RecoverReport:
    """Seals an abandoned journal.

    Args:
        journal: The journal.
        aside: Seal it under a free ``NAME.recovered-1.parquet`` although its own
            name is free.

    Raises:
        PlaygroundError: A recorder is still writing to it.
    """
    target = journal.with_name(journal.name.removesuffix(SUFFIX))
    try:
        descriptor = os.open(journal, os.O_RDWR)
    except OSError as error:
        raise FileFormatError(
            f"{journal} cannot be opened: {error.strerror}.",
            "sealing a journal needs the right to read and write it",
        ) from error
    try:
        if not lock(descriptor):
            raise PlaygroundError(
                f"{journal} is being written to by a recorder at this moment.",
                "stop the recorder first (Ctrl-C seals the recording)",
            )
        done = _already_sealed(journal, target)
        if done is not None:
            return done
        if aside or target.exists():
            target = free_name(target)
        sealed, reader = seal_journal(
            journal, target, metadata={"cut_off": True}, overwrite=False
        )
    finally:
        os.close(descriptor)
    reason = "; ".join(reader.reasons)
    report = RecoverReport(
        source=str(journal),
        target=str(target),
        messages=sealed.rows,
        bytes_discarded=reader.discarded,
        lossless=not reader.discarded,
        reason=reason,
    )
    logger.warning("%s", report)
    return report


def _already_sealed(journal: Path, target: Path) -> RecoverReport | None:
    """Deletes a journal whose sealing was killed after its last step but one."""
    if not target.exists():
        return None
    try:
        sealed = SealedFile(target.as_posix(), pafs.LocalFileSystem())
        reader = JournalReader(journal)
    except FileFormatError:
        return None
    reader.close()
    if sealed.metadata.get("journal") != reader.identity:
        return None
    journal.unlink()
    sync_directory(journal.parent)
    return RecoverReport(source=str(journal), target=str(target), messages=sealed.rows)


def journals_in(directory: Path) -> list[Path]:
    """Returns the journals of the parts in a directory, in order."""
    return sorted(directory.glob(f"part-*.parquet{SUFFIX}"))


def recover(path: str | Path) -> RecoverReport:
    """Makes a readable recording of what a crash or a bad disk has left.

    Args:
        path: A recording whose journal was abandoned (the name of the recording
            or of the journal), a directory of parts, or a damaged sealed file:
            its readable row groups go into a new file
            ``NAME.recovered-1.parquet``, the damaged one stays as it is.

    Raises:
        FileFormatError: There is nothing that could be recovered.
        PlaygroundError: A recorder is still writing to it.
    """
    path = Path(path)
    if path.name.endswith(SUFFIX) and path.exists():
        return recover_journal(path)
    if journal_of(path).exists():
        return recover_journal(journal_of(path))
    if path.is_dir():
        return _recover_directory(path)
    return _salvage(path)


def _recover_directory(directory: Path) -> RecoverReport:
    reports = [recover_journal(journal) for journal in journals_in(directory)]
    parts = sorted(directory.glob("part-*.parquet"))
    if not parts:
        raise FileFormatError(
            f"{directory} holds no part of a recording (part-00000.parquet …).",
            "name a recording",
        )
    recovered = {report.target for report in reports}
    reports += [_salvage(part) for part in parts if str(part) not in recovered]
    return RecoverReport(
        source=str(directory),
        target=str(directory),
        messages=sum(report.messages for report in reports),
        messages_lost=sum(report.messages_lost for report in reports),
        bytes_discarded=sum(report.bytes_discarded for report in reports),
        lossless=all(report.lossless for report in reports),
        reason="; ".join(report.reason for report in reports if report.reason),
    )


def _salvage(path: Path) -> RecoverReport:
    sealed = SealedFile(path.as_posix(), pafs.LocalFileSystem(), tolerant=True)
    damages = list(sealed.scan())
    if not damages:
        return RecoverReport(source=str(path), target=str(path), messages=sealed.rows)
    target = free_name(path)
    writer = SealWriter(target)
    lost: list[Damage] = []
    try:
        with sealed.opened() as reader:
            for group in range(sealed.groups):
                try:
                    table = reader.read(group)
                except FileFormatError as error:
                    rows = sealed.parquet.row_group(group).num_rows
                    lost.append(Damage(path=str(path), place=str(error), rows=rows))
                else:
                    writer.write(table)
        metadata = {k: v for k, v in sealed.metadata.items() if k not in RESERVED}
        metadata["recovered_from"] = path.name
        metadata["damages"] = [str(damage) for damage in damages]
        result = writer.finish(metadata)
        writer.publish(overwrite=False)
    except BaseException:
        writer.discard()
        raise
    rows = sum(damage.rows for damage in lost)
    reasons = [str(damage) for damage in damages]
    altered = not rows and result.metadata["sha256"] != sealed.metadata.get("sha256")
    if altered:
        reasons.append("the content is not the one that was sealed")
    report = RecoverReport(
        source=str(path),
        target=str(target),
        messages=result.rows,
        messages_lost=rows,
        lossless=not rows and not altered,
        reason="; ".join(reasons),
    )
    logger.warning("%s", report)
    return report
