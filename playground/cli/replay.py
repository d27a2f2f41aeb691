"""`playground replay`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from playground.broker import EmbeddedBroker
from playground.errors import ConnectionFailed, PlaygroundError
from playground.mqtt import MqttBus
from playground.quantity import seconds
from playground.recording import Recording
from playground.replay import Replayer, parse_speed
from playground.replay.readiness import Audience


def command(
    file: Annotated[Path, typer.Argument(help="Recording to play.")],
    broker: Annotated[
        str | None,
        typer.Option(help="mqtt://host:port; by default a broker of its own."),
    ] = None,
    speed: Annotated[
        str, typer.Option(help="1 is real time, 60 an hour per minute, or 'max'.")
    ] = "1",
    topic: Annotated[
        list[str] | None, typer.Option("-t", "--topic", help="Play only these.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("-x", "--exclude", help="Leave these out.")
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the own broker; 0: any.")
    ] = 0,
    wait: Annotated[
        str | None,
        typer.Option(help="Wait at most so long for a subscriber of the own broker."),
    ] = None,
) -> None:
    """Play a recording into a broker.

    Without --broker it starts one, prints its URL and waits for a subscriber.

    Example: playground replay session.parquet --broker mqtt://localhost --speed 10
    """
    try:
        rate = parse_speed(speed)
    except ValueError as error:
        raise PlaygroundError(
            f"{speed!r} is not a speed.", "write a number above 0, or 'max'"
        ) from error
    recording = Recording.open(file)
    with ExitStack() as stack:
        if broker is None:
            audience = Audience()
            own = stack.enter_context(
                EmbeddedBroker(port=port, observer=audience.observe)
            )
            broker = own.url
            typer.echo(f"broker: {broker}", err=True)
            typer.echo("waiting for a subscriber …", err=True)
            try:
                audience.wait_for_subscriber(
                    timeout_s=None if wait is None else seconds(wait)
                )
            except ConnectionFailed:
                typer.echo("nobody subscribed; playing all the same", err=True)
        replayer = Replayer(
            recording,
            MqttBus(broker),
            speed=rate,
            topics=tuple(topic or ()),
            exclude=tuple(exclude or ()),
        )
        report = replayer.run()
    typer.echo(str(report))
