"""From a source into a recording, with what was missed written down too."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from playground.broker import EmbeddedBroker
from playground.clock import Clock, WallClock
from playground.errors import PlaygroundError
from playground.message import Message, TopicFilters
from playground.mqtt import BrokerUrl
from playground.quantity import seconds
from playground.record.sources import BrokerSource, EmbeddedSource, Source
from playground.record.window import Window
from playground.recording import Recording, RecordingStopped, RecordingWriter
from playground.recording.journal import journal_of

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How a recording is getting on.

    Attributes:
        count: Rows so far.
        bytes: Bytes on the disk so far.
        elapsed_s: Since the beginning.
        rate_hz: Rows per second since the last report.
        gaps: Times in which nothing could be heard.
        deaf_because: Why nothing can be heard at this moment; empty if it can.
    """

    count: int
    bytes: int
    elapsed_s: float
    rate_hz: float
    gaps: int
    deaf_because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """When a recording goes on in a new part.

    Attributes:
        every_s: After so long; 0 is never.
        bytes: After so many bytes of the journal; 0 is never.
    """

    every_s: float = 0.0
    bytes: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads ``1h`` or ``256MB``.

        Raises:
            PlaygroundError: It is neither a duration nor a size.
        """
        size = _SIZE.fullmatch(text)
        if size is not None:
            count = round(float(size[1]) * _UNITS[size[2].lower()])
            if count > 0:
                return cls(bytes=count)
        else:
            every_s = seconds(text)
            if every_s > 0:
                return cls(every_s=every_s)
        raise PlaygroundError(
            f"--rotate {text!r} would begin a new part all the time.",
            "write for instance 1h or 256MB",
        )

    def is_due(self, elapsed_s: float, size: int) -> bool:
        """Says whether a part of this age and size is to be closed."""
        return bool(
            (self.every_s and elapsed_s >= self.every_s)
            or (self.bytes and size >= self.bytes)
        )


_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kKMG]i?B)\s*")
_UNITS = {
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}


class Recorder:
    """Records from `start` to `stop`; a context manager.

    Args:
        source: A broker's URL, an embedded broker, or any `Source`.
        path: The recording: ``NAME.parquet``.
        filters: Topic filters; none means all topics but those of ``$SYS``.
        exclude: Topic filters of what to leave out.
        sync_s: The journal is on the disk after so many seconds; 0 at once.
        rotate: Begin a new part after so long or so much.
        window: Write only what happens around an event.
        overwrite: An existing recording may be replaced.
        metadata: Said about the session in the file, beside what is known.
        clock: Stamps gaps.

    Attributes:
        stopped: Set when nothing more can be recorded: after `stop`, or when
            the disk is full.
        failure: Why it stopped by itself, if so.
    """

    def __init__(
        self,
        source: Source | BrokerUrl | EmbeddedBroker | str,
        path: Path | str,
        *,
        filters: tuple[str, ...] = (),
        exclude: tuple[str, ...] = (),
        sync_s: float | None = 1.0,
        overwrite: bool = False,
        rotate: Rotation | None = None,
        window: Window | None = None,
        metadata: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.source: Source
        if isinstance(source, str | BrokerUrl):
            self.source = BrokerSource(source)
        elif isinstance(source, EmbeddedBroker):
            self.source = EmbeddedSource(source)
        else:
            self.source = source
        self.path = Path(path)
        self.filters = TopicFilters(filters, exclude)
        # At once is once per batch: what came together is synced together.
        self._sync_always = sync_s == 0
        self._sync_s = None if self._sync_always else sync_s
        self._overwrite = overwrite
        self._rotate = rotate
        self._window = window
        self._metadata = dict(metadata or {})
        self._clock = clock or WallClock()
        self._writer: RecordingWriter | None = None
        self._recording: Recording | None = None
        self._lock = threading.Lock()
        self._last_ns = 0
        self._deaf_since_ns = 0
        self._deaf_because = ""
        self._gaps = 0
        self._snapshot: list[list[int]] = []
        self._warnings: list[str] = []
        self._began = 0.0
        self._start_ns = 0
        self._reported = (0.0, 0)
        self._part_began = 0.0
        self._part_bytes = 0
        self._rotating: threading.Thread | None = None
        self.stopped = threading.Event()
        self.failure: PlaygroundError | None = None

    # ------------------------------------------------------------------- to use

    def start(self) -> Self:
        """Connects and begins to record.

        Raises:
            PlaygroundError: The target exists, the broker cannot be reached or
                refuses us. Nothing is left under the target's name.
        """
        self._refuse_to_overwrite()
        self.source.connect()
        self._start_ns = self._clock.time_ns()
        try:
            self._writer = RecordingWriter(
                self.path,
                metadata=self._described(),
                sync_s=self._sync_s,
                overwrite=self._overwrite,
            )
            self._began = self._part_began = time.monotonic()
            self._reported = (self._began, 0)
            self._note_absence()
            self.source.begin(self, self.filters)
            if self._rotate is not None:
                self._rotating = threading.Thread(
                    target=self._rotate_often, name="rotate", daemon=True
                )
                self._rotating.start()
        except BaseException:
            self.source.close()
            self._leave_nothing()
            raise
        return self

    def _refuse_to_overwrite(self) -> None:
        # The writer does so too, but only after we have bothered the broker.
        if self.path.exists() and not self._overwrite:
            raise PlaygroundError(
                f"{self.path} exists already.",
                "choose another name, or say --overwrite",
            )

    def _note_absence(self) -> None:
        """Of a session that outlived its recorder: when nobody was listening."""
        writer = self._writer
        assert writer is not None
        if writer.recovered is None or not self.source.is_resumed:
            return
        before = Recording.open(writer.recovered.target)
        times = before.time_range
        if times is not None:
            reason = (
                "the recorder was not running; what was sent at QoS 0 is missing, "
                "and what the broker had no room to keep"
            )
            writer.gap(times[1], max(self._clock.time_ns(), times[1]), reason)
            self._gaps += 1

    def _rotate_often(self) -> None:
        assert self._rotate is not None
        assert self._writer is not None
        while not self.stopped.wait(0.2):
            elapsed_s = time.monotonic() - self._part_began
            size = self._writer.bytes - self._part_bytes
            if self._rotate.is_due(elapsed_s, size) and size:
                self._part_began = time.monotonic()
                self._part_bytes = self._writer.bytes
                try:
                    self._writer.metadata.update(self._described())
                    self._writer.rotate()
                except PlaygroundError as error:
                    self._fail(error)
                    return

    def _leave_nothing(self) -> None:
        writer = self._writer
        if writer is not None and writer.count == 0:
            writer.abandon()
            with contextlib.suppress(OSError):
                journal_of(self.path).unlink()

    def stop(self) -> Recording:
        """Stops listening and seals the recording; may be called again.

        Raises:
            PlaygroundError: The recording could not be sealed; the journal with
                everything that was recorded is kept.
        """
        if self._recording is not None:
            return self._recording
        writer = self._writer
        if writer is None:
            raise PlaygroundError("The recorder was not started.", "call start() first")
        self.source.close()
        with self._lock:
            self._end_gap()
        self.stopped.set()
        if self._rotating is not None:
            self._rotating.join()
        if self.failure is not None:
            self.warn(f"the recording ended early: {self.failure.problem}")
            if isinstance(self.failure, RecordingStopped):
                now_ns = max(self._clock.time_ns(), self._last_ns)
                writer.gap(self._last_ns, now_ns, self.failure.problem)
        writer.metadata.update(self._described(), end_ns=self._clock.time_ns())
        self._recording = writer.close()
        return self._recording

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.stop()
            return
        try:
            self.stop()
        except PlaygroundError as failure:
            # The first error is the one to be told.
            _logger.warning("%s", failure)

    @property
    def recording(self) -> Recording:
        """The sealed recording; after `stop`."""
        if self._recording is None:
            raise PlaygroundError("The recording is not sealed yet.", "call stop()")
        return self._recording

    def progress(self) -> Progress:
        """Says how it is getting on."""
        writer, now = self._writer, time.monotonic()
        count = writer.count if writer else 0
        then, earlier = self._reported
        self._reported = (now, count)
        return Progress(
            count=count,
            bytes=writer.bytes if writer else 0,
            elapsed_s=now - self._began,
            rate_hz=(count - earlier) / (now - then) if now > then else 0.0,
            gaps=self._gaps + bool(self._deaf_because),
            deaf_because=self._deaf_because,
        )

    # ------------------------------------------------------- what sources call

    def take(self, *messages: Message, snapshot: bool = False) -> None:
        """Writes events down; see `Sink.take`.

        Raises:
            PlaygroundError: The recording cannot go on.
        """
        writer = self._writer
        if writer is None:
            return
        if self.failure is not None:
            raise self.failure
        if self.stopped.is_set():
            return
        with self._lock:
            try:
                if self._window is None:
                    self._write(writer, messages, snapshot=snapshot)
                else:
                    for message in messages:
                        self._write_window(writer, self._window, message, snapshot)
                if self._sync_always and messages:
                    writer.sync()
            except PlaygroundError as error:
                self._fail(error)
                raise

    def _write_window(
        self,
        writer: RecordingWriter,
        window: Window,
        message: Message,
        snapshot: bool,  # noqa: FBT001
    ) -> None:
        for first, second in window.admit(message, snapshot=snapshot):
            if isinstance(first, Message):
                self._write(writer, (first,), snapshot=bool(second))
            else:
                writer.gap(first, second, "not recorded: nothing had happened")
                self._gaps += 1

    def _write(
        self, writer: RecordingWriter, messages: Iterable[Message], *, snapshot: bool
    ) -> None:
        append, last_ns = writer.append, self._last_ns
        try:
            for message in messages:
                if message.time_ns < last_ns:
                    # Two connections are heard on two threads.
                    message = message._replace(time_ns=last_ns)
                else:
                    last_ns = message.time_ns
                try:
                    seq = append(message)
                except RecordingStopped:
                    raise
                except PlaygroundError as error:
                    # One that no recording can tell must not end this one.
                    writer.skip(1)
                    self._warn(f"a message was left out: {error.problem}")
                    continue
                if snapshot:
                    self._note_snapshot(seq)
        finally:
            self._last_ns = last_ns

    def lost(self, reason: str, *, since_ns: int) -> None:
        """Takes note of the beginning of a gap; see `Sink.lost`."""
        with self._lock:
            if not self._deaf_because:
                self._deaf_since_ns, self._deaf_because = since_ns, reason

    def back(self) -> None:
        """Writes a gap down; see `Sink.back`."""
        with self._lock:
            self._end_gap()

    def warn(self, warning: str) -> None:
        """Keeps a warning for the metadata; see `Sink.warn`."""
        with self._lock:
            self._warn(warning)

    def _warn(self, warning: str) -> None:
        if warning not in self._warnings:
            _logger.info("%s", warning)
            self._warnings.append(warning)

    def _end_gap(self) -> None:
        if self._deaf_because and self._writer is not None:
            self._last_ns = end_ns = max(self._clock.time_ns(), self._last_ns)
            try:
                self._writer.gap(self._deaf_since_ns, end_ns, self._deaf_because)
            except PlaygroundError as error:
                self._fail(error)
            self._gaps += 1
        self._deaf_because = ""

    def _note_snapshot(self, seq: int) -> None:
        if self._snapshot and self._snapshot[-1][1] == seq - 1:
            self._snapshot[-1][1] = seq
        else:
            self._snapshot.append([seq, seq])

    def _fail(self, error: PlaygroundError) -> None:
        if self.failure is None:
            self.failure = error
        self.stopped.set()

    def _described(self) -> dict[str, Any]:
        with self._lock:
            anchor = {}
            if isinstance(self._clock, WallClock):
                anchor["clock"] = {
                    "wall_ns": self._clock.anchor_wall_ns,
                    "monotonic_ns": self._clock.anchor_monotonic_ns,
                }
            return {
                "start_ns": self._start_ns,
                **anchor,
                **self.source.describe(),
                "filters": list(self.filters.include),
                "exclude": list(self.filters.exclude),
                "retained_snapshot": [list(span) for span in self._snapshot],
                "warnings": list(self._warnings),
                **self._metadata,
            }


def record(
    source: Source | BrokerUrl | EmbeddedBroker | str,
    path: Path | str,
    *,
    duration_s: float | None = None,
    stop: threading.Event | None = None,
    on_progress: Callable[[Progress], object] | None = None,
    progress_every_s: float = 1.0,
    on_start: Callable[[dict[str, Any]], object] | None = None,
    **options: Any,
) -> Recording:
    """Records until the time is over, ``stop`` is set, or the disk is full.

    Args:
        source: As of `Recorder`.
        path: As of `Recorder`.
        duration_s: How long; None until ``stop``.
        stop: Set it to end; the recording is sealed then.
        on_progress: Called now and then.
        progress_every_s: How often.
        on_start: Called once, when everything is being heard, with what is
            known about the source.
        **options: As of `Recorder`.

    Returns:
        The sealed recording.

    Raises:
        PlaygroundError: It cannot begin, or it had to end early (disk full);
            what was recorded until then is sealed, or kept in the journal.
    """
    recorder = Recorder(source, path, **options)
    with recorder:
        if on_start is not None:
            on_start(recorder.source.describe())
        deadline = None if duration_s is None else time.monotonic() + duration_s
        while not recorder.stopped.is_set() and not (stop and stop.is_set()):
            wait_s = progress_every_s
            if deadline is not None:
                wait_s = min(wait_s, deadline - time.monotonic())
                if wait_s <= 0:
                    break
            _wait_for_either(stop, recorder.stopped, wait_s)
            if on_progress is not None:
                on_progress(recorder.progress())
    failure = recorder.failure
    if failure is not None:
        raise type(failure)(
            f"{failure.problem} The {recorder.progress().count} rows before are in "
            f"{', '.join(recorder.recording.paths)}.",
            "make room on that disk, or record to another one",
        )
    return recorder.recording


def _wait_for_either(
    first: threading.Event | None, second: threading.Event, timeout_s: float
) -> None:
    """Waits for one of two events; the second, rare one with a little delay."""
    if first is None:
        second.wait(timeout_s)
        return
    deadline = time.monotonic() + timeout_s
    while not second.is_set():
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0 or first.wait(min(remaining_s, 0.2)):
            return
