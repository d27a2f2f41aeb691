"""`playground export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    file: Annotated[Path, typer.Argument(help="Recording.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="New file.")],
    format: Annotated[
        str | None,
        typer.Option(
            help="mqtt-recorder, csv, jsonl, wide, mcap, influx; told by the suffix."
        ),
    ] = None,
    signals: Annotated[
        Path | None, typer.Option(help="Signals file: the columns of a wide table.")
    ] = None,
    period: Annotated[
        str | None, typer.Option(help="Time between two rows of a wide table: 5s.")
    ] = None,
    base64: Annotated[
        bool | None,
        typer.Option("--base64/--plain", help="Payloads of mqtt-recorder."),
    ] = None,
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
    """Write a recording as a file of another tool.

    CSV of mqtt-recorder, plain CSV, JSON Lines, a wide table of signals (CSV or Parquet),
    MCAP for Foxglove, InfluxDB line protocol.

    Example: playground export s.parquet -o s.csv --signals rig.yaml --period 5s
    """
    from playground.convert import export, read_place
    from playground.quantity import seconds
    from playground.recording import Recording
    from playground.signals_file import load_signals

    recording = Recording.open(file)
    report = export(
        recording,
        output,
        format=format,
        signals=None if signals is None else load_signals(signals),
        period_s=None if period is None else seconds(period),
        encode=base64,
        topics=tuple(topic or ()),
        exclude=tuple(exclude or ()),
        start_ns=None if start is None else read_place(start, recording),
        end_ns=None if end is None else read_place(end, recording),
        overwrite=overwrite,
    )
    for note in report.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"{output}: {report.count} rows ({report.format})")
