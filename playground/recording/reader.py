"""`Recording`: an ordered file of messages, read without loading it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from playground.errors import FileFormatError, PlaygroundError, closest
from playground.message import KINDS, Message
from playground.recording.columns import COLUMNS, SCHEMA, to_messages
from playground.recording.content import ContentHash
from playground.recording.journal import SUFFIX, journal_of
from playground.recording.query import PUBLISHED, Query
from playground.recording.recovery import (
    RecoverReport,
    journals_in,
    recover_journal,
)
from playground.recording.sealed import Damage, SealedFile

if TYPE_CHECKING:
    from playground.recording.summary import Summary
    from playground.signals import Signal

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 4096
"""Of a row group that are in memory while messages are made of them."""


class Recording:
    """What was said in a session or a run: one sealed file, or its parts in order.

    Made by `Recording.open` or `RecordingWriter.close`. Only the footers of the
    files are held; every query streams.

    Attributes:
        paths: The sealed files, in order.
        recovered: What opening it had to recover, if anything.
    """

    def __init__(
        self, parts: Sequence[SealedFile], *, recovered: RecoverReport | None = None
    ) -> None:
        self._parts = tuple(parts)
        self.paths = tuple(part.path for part in parts)
        self.recovered = recovered

    @classmethod
    def open(cls, path: str | Path, *, recover: bool = True) -> Self:
        """Opens a recording.

        Args:
            path: A sealed file, a directory of parts, an abandoned journal, or
                the name under which a recorder was writing when it was killed;
                or a URI that pyarrow knows (``s3://bucket/key``), of a file or
                a directory.
            recover: Seal an abandoned journal that is found there, and say so
                in the log and in ``recovered``.

        Raises:
            FileFormatError: There is no readable recording; the text says why.
            PlaygroundError: A recorder is still writing to it.
        """
        if isinstance(path, str) and "://" in path:
            return cls._open_remote(path)
        local = Path(path)
        report = None
        journals = _journals(local)
        if journals and not recover:
            raise FileFormatError(
                f"{journals[0]} is an abandoned journal: its recorder was killed.",
                f"'playground recover {local}' seals it",
            )
        for journal in journals:
            report = recover_journal(journal)
            if not local.is_dir():
                local = Path(report.target)
        if local.is_dir():
            names = sorted(local.glob("part-*.parquet"))
            if not names:
                raise _no_parts(local)
        else:
            names = [local]
        if not local.exists():
            raise _missing(local)
        filesystem = pafs.LocalFileSystem()
        parts = [SealedFile(name.as_posix(), filesystem) for name in names]
        return cls(parts, recovered=report)

    @classmethod
    def _open_remote(cls, uri: str) -> Self:
        shown = _without_secrets(uri)
        try:
            filesystem, path = pafs.FileSystem.from_uri(uri)
            info = filesystem.get_file_info(path)
            if info.type == pafs.FileType.Directory:
                found = filesystem.get_file_info(pafs.FileSelector(path))
                names = sorted(
                    entry.path
                    for entry in found
                    if entry.base_name.startswith("part-")
                    and entry.base_name.endswith(".parquet")
                )
                if not names:
                    raise _no_parts(shown)
            elif info.type == pafs.FileType.NotFound:
                raise FileFormatError(
                    f"{shown} does not exist.", "look after the spelling of the path"
                )
            else:
                names = [path]
        except (OSError, pa.ArrowException) as error:
            raise FileFormatError(
                f"{shown} cannot be opened: {error}.",
                "name a path, or a URI such as s3://bucket/key",
            ) from error
        return cls([SealedFile(name, filesystem) for name in names])

    def __repr__(self) -> str:
        return f"<Recording {self.paths[0]}, {self.count} messages>"

    def __len__(self) -> int:
        return self.count

    # What stands in the footers

    @property
    def count(self) -> int:
        """Number of rows, events of the session included."""
        return sum(part.rows for part in self._parts)

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What is written about the session; of several parts the last says it."""
        merged: dict[str, Any] = {}
        for part in self._parts:
            merged.update(part.metadata)
        if len(self._parts) > 1:
            merged.pop("sha256", None)
            merged["count"] = self.count
        return merged

    @cached_property
    def time_range(self) -> tuple[int, int] | None:
        """First and last time of a row, nanoseconds; None without rows."""
        ranges = [
            part.time_range(group)
            for part in self._parts
            for group in range(part.groups)
        ]
        if not ranges:
            return None
        return min(first for first, _ in ranges), max(last for _, last in ranges)

    @property
    def start_ns(self) -> int:
        """Start of the session, else of the first row; 0 if neither is known."""
        for part in self._parts:
            start = part.metadata.get("start_ns")
            if isinstance(start, int):
                return start
        return self.time_range[0] if self.time_range else 0

    @property
    def end_ns(self) -> int:
        """End of the session, else time of the last row, else the start."""
        end = self._parts[-1].metadata.get("end_ns")
        if isinstance(end, int):
            return end
        return self.time_range[1] if self.time_range else self.start_ns

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the content; see `playground.recording.content_hash`.

        As stored in the file; of several parts computed over all of them, which
        reads them once.
        """
        if len(self._parts) == 1:
            return str(self._parts[0].metadata.get("sha256", ""))
        content = ContentHash()
        for table in self.tables(kinds=KINDS):
            content.update(table)
        return content.hexdigest()

    def verify(self) -> str:
        """Reads every byte and computes the content's SHA-256 anew.

        Returns:
            The SHA-256, which is the stored one.

        Raises:
            FileFormatError: A place is damaged (all are named), or the content
                is not the one that was sealed.
        """
        damages = self.damages()
        if damages:
            raise FileFormatError(
                "\n".join(f"{damage}." for damage in damages),
                f"'playground recover {damages[0].path}' writes what can be read "
                "into a new file",
            )
        whole = ContentHash()
        for part in self._parts:
            content = ContentHash()
            for table in Recording([part]).tables(kinds=KINDS):
                content.update(table)
                whole.update(table)
            stored = part.metadata.get("sha256")
            if content.hexdigest() != stored:
                raise FileFormatError(
                    f"{part.path}: the content has SHA-256 {content.hexdigest()}, "
                    f"but {stored} was sealed: the file was altered.",
                    "use an unaltered copy",
                )
        return whole.hexdigest()

    def damages(self) -> list[Damage]:
        """Reads every byte; returns the places that are not as written."""
        return [damage for part in self._parts for damage in part.scan()]

    # Rows

    def messages(
        self,
        topics: Sequence[str] = (),
        exclude: Sequence[str] = (),
        start_ns: int | None = None,
        end_ns: int | None = None,
        kinds: Sequence[str] = PUBLISHED,
        *,
        skip_damaged: bool = False,
    ) -> Iterator[Message]:
        """Returns messages in the order in which they arrived.

        Args:
            topics: Topic filters; a message must match one. None: all topics,
                ``$``-topics included. Events without a topic (``connect``,
                ``gap`` …) pass.
            exclude: Topic filters; what matches one is left out.
            start_ns: First instant that counts, nanoseconds since 1970 UTC.
            end_ns: First instant that no longer counts: ``[start_ns, end_ns)``.
            kinds: Kinds of rows; ``playground.message.KINDS`` for all.
            skip_damaged: Pass over damaged row groups with a warning in the log.

        Raises:
            FileFormatError: A row group that is needed is damaged.
        """
        query = Query.of(topics, exclude, start_ns, end_ns, kinds)
        pieces = self._pieces(
            query, COLUMNS, rows=ROWS_AT_ONCE, skip_damaged=skip_damaged
        )
        for piece in pieces:
            yield from to_messages(piece)

    __iter__ = messages

    def table(
        self,
        topics: Sequence[str] = (),
        exclude: Sequence[str] = (),
        start_ns: int | None = None,
        end_ns: int | None = None,
        kinds: Sequence[str] = PUBLISHED,
        *,
        columns: Sequence[str] | None = None,
        skip_damaged: bool = False,
    ) -> pa.Table:
        """Returns rows as one table in memory; arguments as of `messages`.

        Args:
            topics: As of `messages`.
            exclude: As of `messages`.
            start_ns: As of `messages`.
            end_ns: As of `messages`.
            kinds: As of `messages`.
            columns: Columns wanted, in this order; None for all.
            skip_damaged: As of `messages`.
        """
        names = _columns(columns)
        schema = pa.schema([SCHEMA.field(name) for name in names])
        tables = self.tables(
            topics=topics,
            exclude=exclude,
            start_ns=start_ns,
            end_ns=end_ns,
            kinds=kinds,
            columns=names,
            skip_damaged=skip_damaged,
        )
        found = [table.cast(schema) for table in tables]
        if not found:
            return schema.empty_table()
        return pa.concat_tables(found).unify_dictionaries()

    def tables(
        self,
        topics: Sequence[str] = (),
        exclude: Sequence[str] = (),
        start_ns: int | None = None,
        end_ns: int | None = None,
        kinds: Sequence[str] = PUBLISHED,
        *,
        columns: Sequence[str] | None = None,
        skip_damaged: bool = False,
        backwards: bool = False,
    ) -> Iterator[pa.Table]:
        """Returns rows as tables of one row group each; bounded memory.

        Row groups that cannot hold such rows are not read, by their statistics
        of time and topic; and of the others the payload only if a row is wanted.

        Args:
            topics: As of `messages`.
            exclude: As of `messages`.
            start_ns: As of `messages`.
            end_ns: As of `messages`.
            kinds: As of `messages`.
            columns: As of `table`.
            skip_damaged: As of `messages`.
            backwards: The last row group first (rows keep their order in it).
        """
        query = Query.of(topics, exclude, start_ns, end_ns, kinds)
        return self._pieces(
            query,
            _columns(columns),
            rows=None,
            skip_damaged=skip_damaged,
            backwards=backwards,
        )

    def _pieces(
        self,
        query: Query,
        columns: Sequence[str],
        *,
        rows: int | None,
        skip_damaged: bool,
        backwards: bool = False,
    ) -> Iterator[pa.Table]:
        """Returns the rows wanted, so many of the file at a time; None: a group."""
        for part in reversed(self._parts) if backwards else self._parts:
            order = range(part.groups)
            wanted = [group for group in order if query.may_hold(part, group)]
            if not wanted:
                continue
            with part.opened() as reader:
                for group in reversed(wanted) if backwards else wanted:
                    try:
                        yield from query.select(reader, part, group, columns, rows)
                    except FileFormatError as error:
                        if not skip_damaged:
                            raise
                        logger.warning("%s", error.problem)

    # What the messages mean

    def signals(
        self,
        signals: Mapping[str, Signal],
        *,
        period_s: float | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        how: Literal["last", "mean"] = "last",
    ) -> pa.Table:
        """Returns the values of signals over time; see `aligned.align`."""
        from playground.recording.aligned import align

        return align(
            self,
            signals,
            period_s=period_s,
            start_ns=start_ns,
            end_ns=end_ns,
            how=how,
        )

    def summary(self) -> Summary:
        """Returns what `playground info` prints; reads the file once."""
        from playground.recording.summary import summarize

        return summarize(self)

    @property
    def parts(self) -> tuple[SealedFile, ...]:
        """The sealed files."""
        return self._parts


def _columns(columns: Sequence[str] | None) -> tuple[str, ...]:
    for name in columns or ():
        if name not in COLUMNS:
            raise PlaygroundError(
                f"{name!r} is not a column of a recording ({', '.join(COLUMNS)})."
                f"{closest(name, COLUMNS)}",
                "write for instance columns=['time', 'topic', 'payload']",
            )
    return COLUMNS if columns is None else tuple(columns)


def _journals(path: Path) -> list[Path]:
    """Returns the abandoned journals that opening ``path`` concerns."""
    if path.name.endswith(SUFFIX):
        return [path] if path.exists() else []
    if path.is_dir():
        return journals_in(path)
    journal = journal_of(path)
    if not journal.exists():
        return []
    if path.exists():
        logger.warning(
            "%s lies beside %s and is not part of it; 'playground recover %s' seals it",
            journal,
            path,
            journal,
        )
        return []
    return [journal]


def _without_secrets(uri: str) -> str:
    """Returns a URI without its user part and its options."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _missing(path: Path) -> FileFormatError:
    names = []
    if path.parent.is_dir():
        names = [other.name for other in path.parent.iterdir()]
    return FileFormatError(
        f"{path} does not exist.{closest(path.name, names)}",
        "name a recording (*.parquet), a directory of parts, or a journal",
    )


def _no_parts(path: str | Path) -> FileFormatError:
    return FileFormatError(
        f"{path} is a directory without part-00000.parquet: it is no recording.",
        "name the recording's file or its directory of parts",
    )
