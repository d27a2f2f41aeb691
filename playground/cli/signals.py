"""``playground signals``: a first signals file out of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    recording: Annotated[Path, typer.Argument(metavar="REC", help="A recording.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write; printed if left out."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file.")
    ] = False,
) -> None:
    """Propose a signals file for a recording, to be edited by a person.

    Topics, places in JSON payloads, ranges and periods are as recorded; roles
    and units are guesses from names.

    Example: playground signals lab.parquet -o signals.yaml
    """
    from playground.cli.output import write_text
    from playground.errors import PlaygroundError
    from playground.learn.proposal import proposed
    from playground.recording import Recording

    if output is not None and output.exists() and not overwrite:
        raise PlaygroundError(
            f"{output} exists already.", "add --overwrite, or choose a new name"
        )
    text = proposed(Recording.open(recording))
    if output is None:
        print(text, end="")
    else:
        write_text(output, text)
        print(f"wrote {output}: read every line, roles and units are guesses")
