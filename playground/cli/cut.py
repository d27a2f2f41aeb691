"""`playground cut`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    file: Annotated[Path, typer.Argument(help="Recording.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="New recording.")],
    start: Annotated[
        str | None, typer.Option(help="From here: an instant, or 10min from the start.")
    ] = None,
    end: Annotated[str | None, typer.Option(help="Up to here, likewise.")] = None,
    topic: Annotated[
        list[str] | None,
        typer.Option("-t", "--topic", metavar="FILTER", help="Keep only these."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("-x", "--exclude", metavar="FILTER", help="Leave these out."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
) -> None:
    """Write a part of a recording: a time range, some topics, or both.

    What was retained at the start of the range comes first.

    Example: playground cut day.parquet -o hour.parquet --start 8h --end 9h
    """
    from playground.convert import cut, read_place
    from playground.recording import Recording

    recording = Recording.open(file)
    part = cut(
        recording,
        output,
        start_ns=None if start is None else read_place(start, recording),
        end_ns=None if end is None else read_place(end, recording),
        topics=tuple(topic or ()),
        exclude=tuple(exclude or ()),
        overwrite=overwrite,
    )
    typer.echo(f"{output}: {part.count} of {recording.count} rows")
