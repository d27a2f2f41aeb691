"""`playground filter`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    file: Annotated[Path, typer.Argument(help="Recording.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="New recording.")],
    topic: Annotated[
        list[str] | None,
        typer.Option("-t", "--topic", metavar="FILTER", help="Keep only these."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("-x", "--exclude", metavar="FILTER", help="Leave these out."),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(metavar="FILTER:$.PATH", help="Take this out of JSON payloads."),
    ] = None,
    hash: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILTER:$.PATH", help="Replace this by a keyed hash of it."
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="Of the hash; by default a new one that nobody knows."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
) -> None:
    """Drop topics and parts of payloads from a recording.

    Example: playground filter s.parquet -o public.parquet --drop '$.owner'
    """
    from playground.convert import Redaction, filtered
    from playground.recording import Recording

    recording = Recording.open(file)
    redaction = None
    if drop or hash:
        redaction = Redaction.parse(tuple(drop or ()), tuple(hash or ()), key=key)
    rest = filtered(
        recording,
        output,
        topics=tuple(topic or ()),
        exclude=tuple(exclude or ()),
        redaction=redaction,
        overwrite=overwrite,
    )
    typer.echo(f"{output}: {rest.count} of {recording.count} rows")
    for place in redaction.not_found() if redaction else ():
        hint = "" if ":$." in place else f"; a field of payloads is written '$.{place}'"
        typer.echo(f"note: nothing was found at {place!r}{hint}", err=True)
