"""Recordings: ordered files of messages that survive the crash of their writer.

`Recording` reads, `RecordingWriter` writes, `recover` mends, `content_hash` says
whether two are the same. The columns are those of any recorded session and of any
simulated run; who made it is never asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from playground.recording.columns import COLUMNS, FORMAT_VERSION, SCHEMA
from playground.recording.content import ContentHash, content_hash
from playground.recording.journal import RecordingStopped
from playground.recording.reader import Recording
from playground.recording.recovery import RecoverReport, recover
from playground.recording.sealed import Damage

if TYPE_CHECKING:
    from playground.recording.summary import Gap, Summary, TopicSummary
    from playground.recording.writer import RecordingWriter

__all__ = [
    "COLUMNS",
    "FORMAT_VERSION",
    "SCHEMA",
    "ContentHash",
    "Damage",
    "Gap",
    "Recording",
    "RecordingStopped",
    "RecordingWriter",
    "RecoverReport",
    "Summary",
    "TopicSummary",
    "content_hash",
    "recover",
]


def __getattr__(name: str) -> Any:
    # Who only reads is not to wait for what writes and sums up.
    if name == "RecordingWriter":
        from playground.recording.writer import RecordingWriter

        return RecordingWriter
    if name in ("Gap", "Summary", "TopicSummary"):
        from playground.recording import summary

        return getattr(summary, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
