"""Instants as people write them: ISO 8601 in UTC, to the nanosecond."""

from __future__ import annotations

from datetime import UTC, datetime

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso(time_ns: int) -> str:
    """Renders an instant as ISO 8601 in UTC, with as many digits as needed."""
    whole, fraction = divmod(time_ns, 10**9)
    text = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f".{fraction:09d}".rstrip("0").rstrip(".") if fraction else ""
    return f"{text}{digits}Z"


def from_iso(text: str) -> int:
    """Reads an ISO 8601 instant, UTC where it names no zone, in nanoseconds.

    Raises:
        ValueError: The text is not an instant.
    """
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    elapsed = instant - EPOCH
    microseconds = (elapsed.days * 86_400 + elapsed.seconds) * 10**6
    return (microseconds + elapsed.microseconds) * 1000
