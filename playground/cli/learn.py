"""``playground learn``: recordings to a plant."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from playground.learn.candidates import Candidate
    from playground.learn.examination import Finding


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
    budget: Annotated[
        str, typer.Option(help="About how long learning may take on two cores.")
    ] = "2min",
    on: Annotated[
        str,
        typer.Option(
            help="Physical plant, or a plant file of one, that knows a part of it."
        ),
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a model of that name.")
    ] = False,
    candidates: Annotated[
        bool, typer.Option("--candidates", help="Print the table of all candidates.")
    ] = False,
) -> None:
    """Learn a plant from recordings and say how well it does.

    The last part of the data is never learned from; the table says how far the
    plant is off there in free run, beside two who know nothing. What is odd
    about the data is said first. models/NAME/card.md says all of it.

    Example: playground learn lab.parquet --signals lab.yaml -o models/lab
    """
    from playground.learn import held_back, learn
    from playground.learn.card import written
    from playground.model import check_target, save_model
    from playground.quantity import seconds
    from playground.recording import Recording
    from playground.signals_file import load_signals

    check_target(output, overwrite=overwrite)
    known = load_signals(signals)
    base: dict[str, dict[str, Any]] | None = None
    if on.endswith((".yaml", ".yml")):
        from playground.estimate import read_plant_file

        name, parameters = read_plant_file(on)
        base = {name: parameters}
    elif on:
        base = {on: {}}
    opened = [Recording.open(path) for path in recordings]
    model = learn(
        opened,
        known,
        period_s=seconds(period),
        holdout=holdout,
        budget_s=seconds(budget),
        base=base,
        seed=seed,
        progress=_progress if sys.stderr.isatty() else None,
        report=print_findings,
    )
    if sys.stderr.isatty():
        print(" " * 78, end="\r", file=sys.stderr)
    test = held_back(opened, known, period_s=seconds(period), holdout=holdout)
    card = json.dumps(dict(model.card), indent=1, ensure_ascii=False) + "\n"
    beside = {**written(model, test), "card.json": card}
    save_model(model, output, overwrite=overwrite, beside=beside)
    rows = model.card["rows"]
    print(
        f"learned from {rows['train']} rows of {model.period_s:g} s; "
        f"judged in free run on {rows['test']} rows held back"
    )
    if candidates:
        print_candidates(model.card["candidates"])
    print_errors(model.card["errors"])
    for name in model.card["unusable"]:
        print(f"unusable: {name}: not predicted better than by its mean")
    for text in model.card["contradictions"]:
        print(f"wrong sign: {text}; playground run will refuse it")
    print(f"wrote {output}")


def _progress(done: int, total: int, last: Candidate) -> None:
    line = f"{done}/{total} candidates tried, the last: {last.family}"
    print(f"{line:<78}", end="\r", file=sys.stderr, flush=True)


def print_findings(findings: list[Finding]) -> None:
    """Prints what is odd about the data, beside the result."""
    for finding in findings:
        print(f"{finding.kind}: {finding.signal} {finding.text}", file=sys.stderr)


def print_errors(errors: list[dict[str, Any]]) -> None:
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


def print_candidates(candidates: list[dict[str, Any]]) -> None:
    """Prints the held-back error of every candidate, and its weight."""
    outputs = list(candidates[0]["errors"])
    print(f"{'candidate':<14} " + " ".join(f"{n[:12]:>12}" for n in outputs))
    for c in candidates:
        cells = []
        for name in outputs:
            weight = c["weights"].get(name, 0.0)
            mark = f" ×{weight:.2f}" if weight else ""
            cells.append(f"{c['errors'][name]:.3f}{mark:<6}")
        print(f"{c['family']:<14} " + " ".join(f"{cell:>12}" for cell in cells))
