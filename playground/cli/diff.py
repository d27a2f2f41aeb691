"""`playground diff`."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer

from playground.diff import Compared, DiffReport, Divergence, Ignore, diff
from playground.message import Message
from playground.quantity import seconds
from playground.recording import Recording

_LONGEST = 300


def command(
    expected: Annotated[Path, typer.Argument(help="Recording of what is expected.")],
    got: Annotated[Path, typer.Argument(help="Recording of what came.")],
    topic: Annotated[
        list[str] | None, typer.Option("-t", "--topic", help="Compare only these.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("-x", "--exclude", help="Leave these out.")
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="Topic filter, $.json.path, or FILTER:$.json.path."),
    ] = None,
    times: Annotated[
        str | None,
        typer.Option(help="Times must agree too, to within so much: 10ms."),
    ] = None,
    payload_only: Annotated[
        bool,
        typer.Option("--payload-only", help="Do not compare QoS and retain flag."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two recordings.

    Equal, or the first divergence. Exit code 0: equal, 1: not, 3: undecided.

    Example: playground diff before.parquet after.parquet --ignore '$.timestamp'
    """
    report = diff(
        Recording.open(expected),
        Recording.open(got),
        compared=Compared(
            ignore=Ignore.parse(tuple(ignore or ())),
            qos=not payload_only,
            retain=not payload_only,
            times_s=None if times is None else seconds(times),
            topics=tuple(topic or ()),
            exclude=tuple(exclude or ()),
        ),
    )
    if json:
        typer.echo(jsonlib.dumps(report.as_dict(), indent=2))
    else:
        say(report)
    raise typer.Exit(report.exit_code)


def say(report: DiffReport) -> None:
    """Prints what a comparison found."""
    if report.equal:
        if not report.undecided:
            typer.echo(f"equal: {report.count_a} messages")
    else:
        counts = report.tally
        typer.echo(
            f"not equal: {counts.missing} missing, {counts.extra} extra, "
            f"{counts.changed} changed, {counts.reordered} reordered "
            f"(of {report.count_a} expected, {report.count_b} came)"
        )
        for name, here in sorted(
            report.topics.items(), key=lambda entry: -entry[1].total
        )[:20]:
            typer.echo(
                f"  {name}: {here.missing} missing, {here.extra} extra, "
                f"{here.changed} changed, {here.reordered} reordered"
            )
        if report.first is not None:
            _say_first(report.first)
    if report.undecided:
        typer.echo(f"undecided: {report.undecided}")


def _say_first(first: Divergence) -> None:
    typer.echo(f"\nfirst divergence: {first.topic} at {first.position_s:.6f} s")
    for message in first.before:
        typer.echo(f"    {_one_line(message)}")
    typer.echo(f"  {first.what}:")
    typer.echo(f"    expected {_one_line(first.expected)}")
    typer.echo(f"    got      {_one_line(first.got)}")


def _one_line(message: Message | None) -> str:
    if message is None:
        return "nothing more on this topic"
    text = message.payload.decode("utf-8", "backslashreplace")
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}… ({len(message.payload)} bytes)"
    flags = f" qos {message.qos}" + " retained" * message.retain
    return f"{message.topic} {text!r}{flags}"
