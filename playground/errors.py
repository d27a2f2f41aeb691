"""What can be wrong, said so that a person can mend it.

Rule 1: every error says what was seen, which rule it breaks and what to write
instead. Rule 2: arguments go unchanged to ``super().__init__``; SimPy rebuilds
an exception as ``type(e)(*e.args)`` and process pools pickle it the same way.
Nothing else of the project may be imported here.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """What every command of the project answers to the shell."""

    GOOD = 0
    NOT_SO = 1
    """The thing that was checked is not so."""
    USAGE = 2
    """Wrong usage or a bad file."""
    UNDECIDED = 3
    """It could not be decided: untested check, out of envelope, lossy recording."""


class PlaygroundError(Exception):
    """A mistake that its user can mend.

    Args:
        problem: What was seen and which rule it breaks, one or more sentences.
        fix: What to write or do instead; empty where nothing can be advised.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(problem, fix)
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.problem}\n  fix: {self.fix}" if self.fix else self.problem


class FileFormatError(PlaygroundError):
    """A file is not what its name or the command promised."""


class ConnectionFailed(PlaygroundError):  # noqa: N818 - reads as a sentence
    """A broker cannot be reached, refuses us, or went away for good."""

    exit_code = ExitCode.NOT_SO


class NotEnoughData(PlaygroundError):  # noqa: N818
    """The data cannot carry the conclusion that was asked of it."""

    exit_code = ExitCode.UNDECIDED


def closest(word: str, known: Iterable[str]) -> str:
    """Returns ``" Did you mean 'x'?"`` for the nearest known word, or ``""``."""
    # Who makes no mistake need not wait for what looks for the nearest word.
    import difflib

    # The wrong case is the likeliest slip: degc is degC, not degF.
    spelled = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), list(spelled), n=1, cutoff=0.6)
    return f" Did you mean {spelled[near[0]]!r}?" if near else ""
