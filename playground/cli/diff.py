"""`playground diff`."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer

from playground.diff import Compared, DiffReport, Divergence, Ignore, diff
from playground.diff.tubes import SignalsReport, diff_signals, parse_tolerances
from playground.errors import PlaygroundError
from playground.message import Message, TopicFilters
from playground.quantity import seconds
from playground.recording import Recording
from playground.signals import Signals
from playground.signals_file import load_signals

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
    signals: Annotated[
        Path | None,
        typer.Option(help="Signals file: compare signals, within tolerances."),
    ] = None,
    atol: Annotated[
        list[str] | None,
        typer.Option(metavar="[SIGNAL=]NUMBER", help="In the unit of the signal."),
    ] = None,
    rtol: Annotated[
        list[str] | None,
        typer.Option(metavar="[SIGNAL=]NUMBER", help="As a part of the value."),
    ] = None,
    ttol: Annotated[
        list[str] | None,
        typer.Option(metavar="[SIGNAL=]DURATION", help="In time: 500ms."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with plots of what differs.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two recordings, as messages or (with --signals) as signals.

    Equal, or the first divergence. Exit code 0: equal, 1: not, 3: undecided.

    Example: playground diff before.parquet after.parquet --ignore '$.timestamp'
    """
    title = f"{expected.name} and {got.name}"
    if signals is not None:
        known = load_signals(signals)
        if topic or exclude:
            known = _chosen(known, tuple(topic or ()), tuple(exclude or ()))
        limits = parse_tolerances(
            known, atol=atol or (), rtol=rtol or (), ttol=ttol or ()
        )
        found = diff_signals(
            Recording.open(expected), Recording.open(got), known, tolerances=limits
        )
        if html is not None:
            from playground.diff.page import write_signals_page

            write_signals_page(found, html, title=title)
        if json:
            typer.echo(jsonlib.dumps(found.as_dict(), indent=2))
        else:
            _say_signals(found)
        raise typer.Exit(found.exit_code)
    if atol or rtol or ttol:
        raise PlaygroundError(
            "Tolerances are for signals, but messages are compared.",
            "name a signals file: --signals FILE.yaml",
        )
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
    if html is not None:
        from playground.diff.page import write_messages_page

        write_messages_page(
            report, Recording.open(expected), Recording.open(got), html, title=title
        )
    if json:
        typer.echo(jsonlib.dumps(report.as_dict(), indent=2))
    else:
        say(report)
    raise typer.Exit(report.exit_code)


def _chosen(
    signals: Signals, topics: tuple[str, ...], exclude: tuple[str, ...]
) -> Signals:
    filters = TopicFilters(topics, exclude)
    return Signals(s for s in signals.values() if s.topic in filters)


def _say_signals(report: SignalsReport) -> None:
    for signal in report.signals.values():
        a, b = signal.samples
        if signal.equal:
            typer.echo(f"  {signal.name}: within tolerance ({a} and {b} samples)")
            continue
        typer.echo(
            f"  {signal.name}: {signal.outside} of {b} samples outside, {signal.missed} "
            f"of {a} missed, at most {signal.largest:.6g} too far"
        )
    first = report.first
    if report.undecided:
        typer.echo(f"undecided: {report.undecided}")
    elif first is None:
        typer.echo(f"equal: {len(report.signals)} signals")
    else:
        low, high = first.expected or (float("nan"), float("nan"))
        typer.echo(
            f"not equal\n\nfirst divergence: {first.name} at {first.first_s:.6f} s\n"
            f"    expected {low:.9g} to {high:.9g}\n"
            f"    got      {'nothing' if first.got is None else format(first.got, '.9g')}"
        )


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
