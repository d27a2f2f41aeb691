"""``playground backtest``: is a learned plant still right?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    plant: Annotated[
        Path, typer.Argument(metavar="PLANT", help="Folder of a learned plant.")
    ],
    recordings: Annotated[
        list[Path], typer.Argument(metavar="REC…", help="New recordings.")
    ],
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Also write everything as JSON.")
    ] = None,
) -> None:
    """Run a learned plant against new recordings and say if it is still valid.

    Exit code 0: still valid. 1: degraded (error up to twice that on the card) or
    wrong. 3: undecided, the plant was where the model has never been.

    Example: playground backtest models/lab tonight.parquet
    """
    import json

    from playground.cli.output import write_text
    from playground.errors import ExitCode
    from playground.learn import read_segments
    from playground.learn.backtest import backtest
    from playground.plants.learned import LearnedPlant
    from playground.quantity import say_seconds
    from playground.recording import Recording

    learned = LearnedPlant(plant)
    segments = []
    for path in recordings:
        segments += read_segments(
            Recording.open(path), learned.model.signals, period_s=learned.period_s
        )
    found = backtest(learned, segments)
    print(
        f"{'output':<20} {'unit':<8} {'RMSE':>10} {'× card':>7} "
        f"{'persistence':>12} {'train mean':>11}  verdict"
    )
    for e in found.errors:
        verdict = found.outputs.get(e.output, "unusable")
        print(
            f"{e.output:<20} {e.unit:<8} {e.rmse:>10.4g} {found.ratio[e.output]:>7.2f} "
            f"{e.persistence:>12.4g} {e.train_mean:>11.4g}  {verdict}"
        )
    for lead in found.horizons:
        cells = ", ".join(
            f"{name} {lead['rmse'][name]:.4g} ({lead['covered'][name]:.0%} covered)"
            for name in learned.outputs
        )
        print(f"after {say_seconds(lead['seconds'])}: {cells}")
    print(f"outside the envelope: {found.outside:.0%} of the steps")
    print(f"verdict: {found.verdict}")
    if as_json is not None:
        write_text(as_json, json.dumps(found.as_dict(), indent=2) + "\n")
    if found.verdict == "undecided":
        raise typer.Exit(int(ExitCode.UNDECIDED))
    if found.verdict != "still valid":
        raise typer.Exit(int(ExitCode.NOT_SO))
