"""`playground verify`."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer

from playground.errors import PlaygroundError


def command(
    recording: Annotated[Path, typer.Argument(help="Recording of the session.")],
    app: Annotated[
        str, typer.Option(help="The program: 'python my_program.py --port {port}'.")
    ],
    inputs: Annotated[
        list[str], typer.Option(metavar="FILTER", help="What the program is told.")
    ],
    expect: Annotated[
        list[str], typer.Option(metavar="FILTER", help="What it answers.")
    ],
    speed: Annotated[
        str, typer.Option(help="Session seconds per second, or 'max'.")
    ] = "1",
    virtual: Annotated[
        bool,
        typer.Option(
            "--virtual", help="Host the Python program in virtual time; no broker."
        ),
    ] = False,
    lockstep: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="The program speaks the clock protocol under this id."
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the broker; 0: any.")
    ] = 0,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="Topic filter, $.json.path, or FILTER:$.json.path."),
    ] = None,
    flags: Annotated[
        bool, typer.Option("--flags", help="Compare QoS and retain flag too.")
    ] = False,
    times: Annotated[
        str | None,
        typer.Option(help="Times must agree too, to within so much: 10ms."),
    ] = None,
    expectation: Annotated[
        Path | None,
        typer.Option(help="File of the expected answers; by default beside it."),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Write the answers as expected ones.")
    ] = False,
    wait: Annotated[
        str, typer.Option(help="How long the program may take to subscribe.")
    ] = "30s",
    settle: Annotated[
        str, typer.Option(help="How long after the end an answer may come.")
    ] = "1s",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Replay inputs to a program and compare its answers with the recorded ones.

    The program is told the broker by {host}, {port} and {url} in its command
    line and by MQTT_HOST, MQTT_PORT and MQTT_URL. Exit code 0: as expected, 1:
    not, 3: undecided.

    Example: playground verify s.parquet --app 'python pre.py' --inputs 'modbus/#'
    --expect 'processed/#'
    """
    from playground.cli.diff import say
    from playground.diff import Compared, Ignore
    from playground.quantity import seconds
    from playground.replay import parse_speed
    from playground.verify import Lockstep, RealTime, Stage, VirtualTime, verify

    try:
        rate = parse_speed(speed)
    except ValueError as error:
        raise PlaygroundError(
            f"{speed!r} is not a speed.", "write a number above 0, or 'max'"
        ) from error
    if virtual and lockstep is not None:
        raise PlaygroundError(
            "--virtual and --lockstep are two ways to run.", "leave one out"
        )
    stage: Stage = RealTime(speed=rate, port=port)
    if virtual:
        stage = VirtualTime()
    elif lockstep is not None:
        stage = Lockstep(client=lockstep, port=port)
    report = verify(
        recording,
        app,
        inputs=inputs,
        expect=expect,
        stage=stage,
        compared=Compared(
            ignore=Ignore.parse(tuple(ignore or ())),
            qos=flags,
            retain=flags,
            times_s=None if times is None else seconds(times),
        ),
        expectation=expectation,
        update=update,
        ready_within_s=seconds(wait),
        settle_s=seconds(settle),
    )
    if json:
        told = report.diff.as_dict()
        told["failure"] = report.performance.failure or None
        told["updated"] = None if report.updated is None else str(report.updated)
        typer.echo(jsonlib.dumps(told, indent=2))
    else:
        say(report.diff)
        if report.performance.played is not None and isinstance(stage, RealTime):
            typer.echo(f"replay: {report.performance.played}", err=True)
        for note in report.performance.notes:
            typer.echo(f"program: {note}")
        if report.updated is not None:
            typer.echo(f"written as expected from now on: {report.updated}")
    if report.performance.failure:
        typer.echo(f"{report.performance.failure} before it was asked to.", err=True)
        typer.echo(report.performance.output, err=True)
    raise typer.Exit(report.exit_code)
