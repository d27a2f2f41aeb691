"""`playground merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    files: Annotated[list[Path], typer.Argument(help="Recordings of one session.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="New recording.")],
    within: Annotated[
        str, typer.Option(help="How far two recorders' stamps may be apart.")
    ] = "1s",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
) -> None:
    """Join what several recorders heard of one session, each message once.

    Example: playground merge left.parquet right.parquet -o both.parquet
    """
    from playground.convert import merge
    from playground.quantity import seconds
    from playground.recording import Recording

    recordings = [Recording.open(file) for file in files]
    whole = merge(recordings, output, within_s=seconds(within), overwrite=overwrite)
    heard = sum(recording.count for recording in recordings)
    typer.echo(
        f"{output}: {whole.count} rows; {heard - whole.count} were heard more than once"
    )
