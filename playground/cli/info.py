"""``playground info``: what a recording holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from playground.clock import iso
from playground.quantity import say_seconds

if TYPE_CHECKING:
    from playground.recording import Summary


def command(
    file: Annotated[
        str, typer.Argument(help="Recording: a file, a directory of parts, or a URI.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what a recording holds: session, topics, rates, losses, gaps.

    Example: playground info lab.parquet
    """
    from playground.recording import Recording

    summary = Recording.open(file).summary()
    if as_json:
        print(json.dumps(summary.as_dict(), indent=2, default=str))
    else:
        print_summary(summary)


def print_summary(summary: Summary) -> None:
    """Prints a summary for people."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    rows = [
        ("recording", ", ".join(summary.paths)),
        ("session", f"{_instant(summary.start_ns)} .. {_instant(summary.end_ns)}"),
        ("duration", say_seconds(summary.duration_s)),
        ("messages", _messages(summary)),
        ("broker", str(summary.broker or "not stated")),
        ("filters", " ".join(summary.filters or []) or "not stated"),
        ("clients", " ".join(summary.clients) or "not known"),
        ("lost", _lost(summary)),
        ("gaps", f"{len(summary.gaps)}" if summary.gaps else "none"),
        ("written by", summary.writer),
        ("sha256", summary.sha256),
    ]
    for name, value in rows:
        print(f"{name:<11} {value}")
    for gap in summary.gaps:
        length = say_seconds((gap.end_ns - gap.start_ns) / 1e9)
        print(f"gap         {_instant(gap.start_ns)} for {length}: {gap.reason}")
    for warning in summary.warnings:
        print(f"note        {warning}")
    if not summary.topics:
        return
    print()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("topic", overflow="fold")
    for name in ("count", "per s", "period", "bytes"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("payload", "qos", "retained"):
        table.add_column(name, no_wrap=True)
    for topic in summary.topics:
        period_s = topic.median_period_s
        table.add_row(
            topic.topic,
            str(topic.count),
            f"{topic.rate_hz:.3g}" if topic.count > 1 else "",
            "" if period_s is None else say_seconds(period_s),
            str(topic.payload_bytes),
            " ".join(topic.payload_kinds),
            " ".join(str(qos) for qos in topic.qos),
            "yes" if topic.retained else "",
        )
    # In a file or a pipe nothing may be cut off for want of columns.
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        longest = max(len(topic.topic) for topic in summary.topics)
        console = Console(highlight=False, markup=False, width=longest + 120)
    console.print(table)


def _lost(summary: Summary) -> str:
    if summary.losses:
        return f"{summary.losses}"
    return "not counted; see the gaps" if summary.gaps else "nothing known"


def _messages(summary: Summary) -> str:
    others = {kind: n for kind, n in summary.kinds.items() if kind != "publish"}
    text = f"{summary.kinds.get('publish', 0)} on {len(summary.topics)} topics"
    if others:
        text += f", and {', '.join(f'{n} {kind}' for kind, n in others.items())}"
    return f"{text}; {summary.bytes} bytes on disk"


def _instant(time_ns: int) -> str:
    return iso(time_ns // 1_000_000 * 1_000_000)
