"""``playground learn``: recordings to a plant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    recordings: Annotated[
        list[Path], typer.Argument(metavar="REC…", help="One or more recordings.")
    ],
    signals: Annotated[
        Path, typer.Option("--signals", "-s", help="What the topics mean (YAML).")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write: models/NAME.")
    ],
    period: Annotated[str, typer.Option(help="Time of one step, such as 5s.")] = "5s",
    holdout: Annotated[
        float, typer.Option(help="Last part of the data, kept for judging.")
    ] = 0.35,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a model of that name.")
    ] = False,
) -> None:
    """Learn a plant from recordings and say how well it does.

    The last part of the data is never learned from; the table says how far the
    plant is off there in free run, beside two who know nothing.

    Example: playground learn lab.parquet --signals lab.yaml -o models/lab
    """
    from playground.learn import learn
    from playground.model import check_target, save_model
    from playground.quantity import seconds
    from playground.recording import Recording
    from playground.signals import load_signals

    check_target(output, overwrite=overwrite)
    model = learn(
        [Recording.open(path) for path in recordings],
        load_signals(signals),
        period_s=seconds(period),
        holdout=holdout,
    )
    save_model(model, output, overwrite=overwrite)
    rows = model.card["rows"]
    print(
        f"learned from {rows['train']} rows of {model.period_s:g} s; "
        f"judged in free run on {rows['test']} rows held back"
    )
    print_errors(model.card["errors"])
    print(f"wrote {output}")


def print_errors(errors: list[dict[str, object]]) -> None:
    """Prints the error of each output beside persistence and train mean."""
    if not errors:
        return
    print(
        f"{'output':<20} {'unit':<8} {'RMSE':>10} {'NRMSE':>7} "
        f"{'persistence':>12} {'train mean':>11}"
    )
    for e in errors:
        print(
            f"{e['output']:<20} {e['unit']:<8} {e['rmse']:>10.4g} {e['nrmse']:>7.3f} "
            f"{e['persistence']:>12.4g} {e['train_mean']:>11.4g}"
        )
