"""The one way in which a verb writes a text into a file that was asked for."""

from __future__ import annotations

from pathlib import Path

from playground.errors import PlaygroundError


def write_text(path: Path, text: str) -> None:
    """Writes a text, with the folders above it.

    Raises:
        PlaygroundError: It cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PlaygroundError(
            f"{path} cannot be written: {error.strerror or error}.",
            "name a file in a place that you may write to",
        ) from error
