"""``playground recover``: what a crash has left, into a readable recording."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from playground.errors import ExitCode


def command(
    file: Annotated[
        Path,
        typer.Argument(help="The recording, its journal, or a directory of parts."),
    ],
) -> None:
    """Mend a recording whose recorder was killed, or whose file is damaged.

    Exit code 0: nothing is lost; 3: recovered, but something is lost.

    Example: playground recover lab.parquet
    """
    from playground.recording import recover

    with _silent_log():
        report = recover(file)
    print(f"{report.messages} messages are in {report.target}")
    if report.messages_lost:
        print(f"lost: {report.messages_lost} messages")
    if report.bytes_discarded:
        print(f"discarded: {report.bytes_discarded} bytes that are no whole message")
    if report.reason:
        print(f"because: {report.reason}")
    if not report.lossless:
        raise typer.Exit(int(ExitCode.UNDECIDED))


@contextlib.contextmanager
def _silent_log() -> Iterator[None]:
    """Keeps the log from saying what is printed here."""
    logger = logging.getLogger("playground.recording")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
