"""``playground recover``: what a crash has left, into a readable recording."""

from __future__ import annotations

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
    import logging

    from playground.recording import recover

    # It says in the log what is printed here.
    logging.getLogger("playground.recording").setLevel(logging.ERROR)
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
