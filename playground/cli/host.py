"""`playground host`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from playground.errors import ExitCode
from playground.host.finding import Line
from playground.quantity import say_seconds, seconds


def command(
    program: Annotated[
        str,
        typer.Argument(help="A Python file, or 'python -m package' in quotes."),
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- ARGS]...", help="Arguments of the program."),
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option(
            "--for", help="Virtual time [1h; with --replay its length and 1s]."
        ),
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(metavar="RECORDING", help="What the plant says."),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(metavar="FILTER", help="Replay only these topics."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Record all messages: NAME.parquet."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace that recording.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of random, uuid4, os.urandom.")] = 0,
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST:PORT", help="Only these are the bus; refuse all others."
        ),
    ] = None,
    allow_write: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="The program may write files there."),
    ] = None,
    timezone: Annotated[
        str, typer.Option(help="Its local time, as TZ names it.")
    ] = "UTC",
    watchdog: Annotated[
        str, typer.Option(help="Real time it may compute without waiting.")
    ] = "10s",
) -> None:
    """Run an unmodified MQTT program in virtual time.

    It finds a broker at whatever host it connects to; an hour takes about a
    second. With --replay it hears what the plant said then. Prints what it
    prints, with virtual times, and what was found about it. Answers 0 if
    nothing was, 1 otherwise.

    Example: playground host my_control.py --for 24h -o out.parquet -- --fast
    """
    from playground.clock import DEFAULT_START_NS
    from playground.host.alone import host_alone
    from playground.recording import Recording
    from playground.replay import Replayer

    recording = None if replay is None else Recording.open(replay)
    start_ns = DEFAULT_START_NS
    duration_s = 3600.0
    if recording is not None:
        start_ns = recording.start_ns
        # The last message is at the end, and it may be answered.
        duration_s = (recording.end_ns - start_ns) / 1e9 + 1.0
    if duration is not None:
        duration_s = seconds(duration)

    def attend(bus: Any, clock: Any) -> None:
        if recording is not None:
            Replayer(
                recording,
                bus,
                topics=inputs or (),
                start_ns=start_ns,
                control=False,
            ).process(clock)

    done = host_alone(
        [program, *arguments] if arguments else program,
        duration_s,
        out=out,
        overwrite=overwrite,
        start_ns=start_ns,
        attend=attend,
        seed=seed,
        hosts=host,
        allow_write=allow_write or (),
        timezone=timezone,
        watchdog_s=seconds(watchdog),
        on_line=_show,
    )
    for finding in done.program.findings:
        print(finding)
    print(
        f"{done.program.name}: {say_seconds(duration_s)} of virtual time; "
        f"messages said: {done.said}, by others: {done.messages - done.said}"
    )
    if done.recording is not None:
        print(f"written to {out} (sha256 {done.recording.sha256})")
    if any(finding.is_mistake for finding in done.program.findings):
        raise typer.Exit(ExitCode.NOT_SO)


def _show(line: Line) -> None:
    stream = sys.stderr if line.stream == "stderr" else sys.stdout
    print(f"{line.time_s:12.3f}  {line.text}", file=stream)
