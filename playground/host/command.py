"""The command line of a Python program, and how its process finds this package."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from playground.errors import PlaygroundError

_HOME = Path(__file__).resolve().parents[2]
ROOT = None if _HOME.name in ("site-packages", "dist-packages") else str(_HOME)
"""What the search path of a program's process needs; None where this package is
installed, because the interpreter finds it as it finds all others."""


READY = "ready"
"""What a process in real time reports when all stands but the program."""


def search_path() -> str:
    """Returns the ``PYTHONPATH`` with which a process finds this package."""
    return os.pathsep.join(
        each for each in (os.environ.get("PYTHONPATH", ""), ROOT) if each
    )


def must_have_pipes() -> None:
    """Refuses a system on which no program can be watched from outside.

    Raises:
        PlaygroundError: It is Windows.
    """
    if sys.platform == "win32":
        raise PlaygroundError(
            "Hosting needs pipes that are inherited by number, which Windows "
            "does not have.",
            "run it in WSL, or use the transport lockstep",
        )


def command_of(
    program: str | os.PathLike[str] | Sequence[str], folder: Path
) -> tuple[list[str], bool]:
    """Returns the arguments, the program first, and whether it is a module.

    Args:
        program: A file, or a command line as text or as a list.
        folder: In which the program will run.

    Raises:
        PlaygroundError: There is no such program.
    """
    words: list[str]
    if isinstance(program, str):
        words = [program] if (folder / program).is_file() else shlex.split(program)
    elif isinstance(program, os.PathLike):
        words = [os.fspath(program)]
    else:
        words = [os.fspath(each) for each in program]
    first = Path(words[0]).name if words else ""
    if first.startswith("python") and not first.endswith(".py"):
        words = words[1:]
    while words and words[0] in ("-u", "-B", "-O"):
        words = words[1:]
    if words[:1] == ["-m"] and len(words) > 1:
        return words[1:], True
    if not words or words[0].startswith("-"):
        raise PlaygroundError(
            f"{program!r} names no Python program.",
            "write a file ('control.py --fast') or a module ('-m control')",
        )
    path = folder / words[0]
    if not path.is_file():
        around = path.parent if path.parent.is_dir() else folder
        known = [each.name for each in around.glob("*.py")]
        near = get_close_matches(path.name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise PlaygroundError(
            f"The program {words[0]!r} is not in {folder}.{hint}",
            "name an existing Python file, relative to its working directory",
        )
    return words, False
