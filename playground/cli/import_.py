"""`playground import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from playground.convert import FORMATS, TableOptions, import_file, read_instant


def command(
    source: Annotated[Path, typer.Argument(help="File to import.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="New recording.")],
    format: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(FORMATS)}; detected by default."),
    ] = None,
    topic_prefix: Annotated[
        str, typer.Option(help="Put before every topic of a table: lab/rig.")
    ] = "",
    start: Annotated[
        str | None,
        typer.Option(help="Start of the session, for times that count from it."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="Take this column of a wide table only."),
    ] = None,
    base64: Annotated[
        bool | None,
        typer.Option("--base64/--plain", help="Payloads of mqtt-recorder."),
    ] = None,
    qos: Annotated[int, typer.Option(min=0, max=2, help="QoS of a table's rows.")] = 0,
    retain: Annotated[
        bool, typer.Option("--retain", help="Set the retain flag of a table's rows.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing recording.")
    ] = False,
) -> None:
    """Make a recording out of a CSV, a table or another tool's file.

    Reads the CSV of mqtt-recorder; long tables (time, topic or signal, value);
    wide tables (time or t_s, one column per signal), as CSV or Parquet.

    Example: playground import lab.csv -o lab.parquet
    """
    report = import_file(
        source,
        output,
        format=format,
        table=TableOptions(
            topic_prefix=topic_prefix,
            start_ns=None if start is None else read_instant(start),
            qos=qos,
            retain=retain,
            columns=tuple(column or ()),
        ),
        is_encoded=base64,
        overwrite=overwrite,
    )
    for note in report.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(
        f"{output}: {report.count} messages on {report.topics} topics "
        f"(from {report.format})"
    )
