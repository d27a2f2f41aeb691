"""``playground report``: the report of a run, or of two side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or of a sweep.")],
    compare: Annotated[
        Path | None, typer.Option(help="Folder of another run to lay over it.")
    ] = None,
) -> None:
    """Write the report of a run, one HTML file that needs no network.

    With --compare the signals of the other run are drawn dashed beneath, and
    verdicts, margins and key figures stand side by side. The report of a sweep shows
    a heat map over its matrix and all runs in parallel coordinates.

    Example: playground report runs/today --compare runs/yesterday
    """
    from playground.report import write_report

    # The scenario may name the user's own module:Class, which lies here.
    sys.path.insert(0, str(Path.cwd()))
    if (run / "sweep.parquet").is_file():
        from playground.sweep.report import write_sweep_report

        print(write_sweep_report(run))
        return
    print(write_report(run, compare=compare))
