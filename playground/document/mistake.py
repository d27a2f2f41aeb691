"""What is wrong in a file, and where: all of it in one error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from playground.errors import FileFormatError

Place = tuple[str | int, ...]
"""Way to a value inside the document: ``("checks", 2, "never")``."""


class Mistake(NamedTuple):
    """One thing that is wrong in a file.

    Attributes:
        line: From 1; 0 where there is no file, only Python values.
        text: What was seen and the rule it breaks.
        fix: What to write instead.
        path: The file, where it is not the one that was asked for (``!include``).
    """

    line: int
    text: str
    fix: str = ""
    path: str = ""


class DocumentError(FileFormatError):
    """All that is wrong with a file, each with its line."""

    def __init__(self, path: str, mistakes: Sequence[Mistake]) -> None:
        ordered = sorted(set(mistakes), key=lambda m: (m.path, m.line, m.text))
        lines = []
        for mistake in ordered:
            where = f"{mistake.path or path}:{mistake.line}: "
            lines.append(f"{where if mistake.line else ''}{mistake.text}")
            if mistake.fix:
                lines.append(f"    fix: {mistake.fix}")
        count = f"{len(ordered)} mistakes in {path}:\n" if len(ordered) > 1 else ""
        super().__init__(count + "\n".join(lines), "")
        # SimPy and process pools rebuild an exception from args.
        self.args = (path, tuple(ordered))
        self.path = path
        self.mistakes = tuple(ordered)


def say_place(place: Place) -> str:
    """Returns a place as people read it, ``checks[2].never: ``."""
    text = ""
    for part in place:
        text += (
            f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
        )
    return f"{text}: " if text else ""
