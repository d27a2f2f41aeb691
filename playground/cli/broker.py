"""``playground broker``: a broker that runs until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from playground.cli.ending import stop_event


def command(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 is everywhere.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="TCP port; 0 takes a free one.")
    ] = 1883,
    ws_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port for MQTT over WebSockets."),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            help="amqtt: in this process, MQTT 3.1.1; mosquitto: the program of that "
            "name, MQTT 3.1.1 and 5."
        ),
    ] = "amqtt",
    password_file: Annotated[
        Path | None,
        typer.Option(help="Users: lines user:password, or by mosquitto_passwd."),
    ] = None,
    acl_file: Annotated[
        Path | None, typer.Option(help="Who may do what: a mosquitto ACL file.")
    ] = None,
    allow_anonymous: Annotated[
        bool, typer.Option("--allow-anonymous", help="Let everybody in.")
    ] = False,
) -> None:
    """Start a broker, print its URL, and run until Ctrl-C.

    Example: playground broker --port 0 --ws-port 9001
    """
    from playground.broker import EmbeddedBroker

    with stop_event() as stop:
        broker = EmbeddedBroker(
            host=host,
            port=port,
            websocket_port=ws_port,
            password_file=password_file,
            acl_file=acl_file,
            allow_anonymous=True if allow_anonymous else None,
            backend=cast(Literal["amqtt", "mosquitto"], backend),
        )
        with broker:
            print(broker.url, flush=True)
            if broker.websocket_url is not None:
                print(broker.websocket_url, flush=True)
            stop.wait()
