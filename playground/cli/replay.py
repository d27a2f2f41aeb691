"""`playground replay`."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from playground.cli.ending import stop_event
from playground.cli.keys import keys
from playground.errors import ConnectionFailed, PlaygroundError
from playground.quantity import say_seconds, seconds

if TYPE_CHECKING:
    from playground.mqtt import MqttBus
    from playground.recording import Recording
    from playground.replay import Replayer, ReplayReport
    from playground.replay.readiness import Audience

SKIP_S = 10.0
_HELP = "space pause  . step  ←→ 10 s  +- speed"


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
        list[str] | None,
        typer.Option("-t", "--topic", metavar="FILTER", help="Play only these."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("-x", "--exclude", metavar="FILTER", help="Leave these out."),
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="From here: an instant, or 10min from the start.")
    ] = None,
    end: Annotated[str | None, typer.Option(help="Up to here, likewise.")] = None,
    duration: Annotated[
        str | None, typer.Option(help="Play so much of the session.")
    ] = None,
    remap: Annotated[
        list[str] | None,
        typer.Option(metavar="A/#=B/#", help="Rename topics; the first that fits."),
    ] = None,
    qos: Annotated[
        int | None, typer.Option(min=0, max=2, help="Instead of the recorded one.")
    ] = None,
    retain: Annotated[
        str, typer.Option(help="'preserve' the retain flags, or 'never' set one.")
    ] = "preserve",
    transform: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FUNCTION", help="Changes each message."),
    ] = None,
    loop: Annotated[int, typer.Option(min=0, help="How often; 0 for ever.")] = 1,
    clients: Annotated[
        bool, typer.Option("--clients", help="One connection per recorded client.")
    ] = False,
    clear_retained: Annotated[
        bool, typer.Option("--clear-retained", help="Leave nothing retained behind.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the own broker; 0: any.")
    ] = 0,
    wait: Annotated[
        str | None, typer.Option(help="Wait at most so long for who is to hear it.")
    ] = None,
    wait_for_subscriber: Annotated[
        str | None,
        typer.Option(metavar="FILTER", help="Begin when somebody listens to this."),
    ] = None,
    wait_for_client: Annotated[
        str | None, typer.Option(metavar="ID", help="Begin when this one is there.")
    ] = None,
    lockstep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID",
            help="In virtual time, as fast as this client acknowledges (repeat it).",
        ),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(
            help="Its first line is the password; or PLAYGROUND_MQTT_PASSWORD."
        ),
    ] = None,
    ca: Annotated[
        Path | None, typer.Option(help="Whose certificates to trust (PEM).")
    ] = None,
    cert: Annotated[
        Path | None, typer.Option(help="Certificate to show to the broker (PEM).")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
) -> None:
    """Play a recording into a broker.

    Without --broker it starts one, prints its URL and waits for a subscriber.
    While it plays on a terminal: space pauses, '.' steps, arrows skip 10 s,
    + and - change the speed; programs say so on playground/replay/….

    Example: playground replay session.parquet --broker mqtt://localhost --speed 10
    """
    from playground.recording import Recording
    from playground.replay import Remap, Replayer, parse_speed

    try:
        rate = parse_speed(speed)
    except ValueError as error:
        raise PlaygroundError(
            f"{speed!r} is not a speed.", "write a number above 0, or 'max'"
        ) from error
    recording = Recording.open(file)
    options: dict[str, Any] = {
        "speed": rate,
        "topics": tuple(topic or ()),
        "exclude": tuple(exclude or ()),
        "start_ns": _place(start, recording),
        "end_ns": _place(end, recording),
        "remap": tuple(Remap.parse(rule) for rule in remap or ()),
        "qos": qos,
        "retain": _retain(retain),
        "transform": None if transform is None else _function(transform),
        "loop": loop,
        "clients": clients,
        "clear_retained": clear_retained,
    }
    if duration is not None:
        if end is not None:
            raise PlaygroundError(
                "--end and --duration both say where it ends.", "leave one out"
            )
        begin_ns = options["start_ns"]
        if begin_ns is None:
            begin_ns = _begin_of(recording)
        options["end_ns"] = begin_ns + round(seconds(duration) * 1e9)
    wait_s = None if wait is None else seconds(wait)
    if lockstep:
        typer.echo(
            str(_in_lockstep(recording, broker, port, tuple(lockstep), wait_s, options))
        )
        return
    with contextlib.ExitStack() as stack:
        if broker is None:
            bus, audience = stack.enter_context(_own_broker(port))
            # Made before anybody is waited for: a wrong filter is told at once.
            replayer = Replayer(recording, bus, **options)
            try:
                _wait(audience, wait_for_subscriber, wait_for_client, wait_s)
            except BaseException:
                replayer.target.close()
                raise
        else:
            bus = _bus(broker, password_file=password_file, ca=ca, cert=cert, key=key)
            replayer = Replayer(recording, bus, **options)
            if wait_for_subscriber or wait_for_client:
                _wait_elsewhere(
                    replayer, bus, wait_for_subscriber, wait_for_client, wait_s
                )
        report = _play(replayer)
    typer.echo(str(report))


def _place(text: str | None, recording: Recording) -> int | None:
    if text is None:
        return None
    # Imports what reads and writes other formats; the first message is not to
    # wait for that.
    from playground.convert import read_place

    return read_place(text, recording)


def _begin_of(recording: Recording) -> int:
    span = recording.time_range
    return recording.start_ns if span is None else span[0]


def _in_lockstep(
    recording: Recording,
    broker: str | None,
    port: int,
    clients: tuple[str, ...],
    wait_s: float | None,
    options: dict[str, Any],
) -> ReplayReport:
    from playground import transport
    from playground.broker import EmbeddedBroker
    from playground.replay import Replayer, ReplayReport

    # Virtual time has no pace but the clients'.
    options = {**options, "speed": 1.0, "control": False}
    start_ns = options["start_ns"]
    if start_ns is None:
        start_ns = _begin_of(recording)
    with contextlib.ExitStack() as stack:
        if broker is None:
            broker = stack.enter_context(EmbeddedBroker(port=port)).url
            typer.echo(f"broker: {broker}", err=True)
        opened = stack.enter_context(
            transport.lockstep(
                start_ns, url=broker, clients=clients, deadline_s=wait_s or 10.0
            )
        )
        end = Replayer(recording, opened.bus, **options).process(opened.clock)
        opened.clock.run(until=end)
        # The clients' last turn.
        opened.finish()
        assert isinstance(end.value, ReplayReport)
        return end.value


def _retain(text: str) -> Literal["preserve", "never"]:
    if text == "never":
        return "never"
    if text == "preserve":
        return "preserve"
    raise PlaygroundError(
        f"{text!r} says not what to do with retain flags.", "write preserve or never"
    )


def _function(spec: str) -> Any:
    from playground.parameters import load_class

    if ":" not in spec:
        raise PlaygroundError(
            f"Transformer {spec!r} names no function.",
            "write module:function, for instance --transform rewrite:to_now",
        )
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return load_class(spec, "transformer", ())


@contextlib.contextmanager
def _own_broker(port: int) -> Iterator[tuple[MqttBus, Audience]]:
    from playground.broker import EmbeddedBroker
    from playground.mqtt import MqttBus
    from playground.replay.readiness import Audience

    audience = Audience(ignore=("replay",))
    with EmbeddedBroker(port=port, observer=audience.observe) as own:
        typer.echo(f"broker: {own.url}", err=True)
        yield MqttBus(own.url), audience
        # The last message is to arrive before the broker goes.
        audience.wait_for_end_of("replay", timeout_s=10.0)
        own.drain()


def _wait(
    audience: Audience, subscriber: str | None, client: str | None, wait_s: float | None
) -> None:
    if client is not None:
        typer.echo(f"waiting for client {client!r} …", err=True)
        audience.wait_for_client(client, timeout_s=wait_s)
    if subscriber is not None:
        typer.echo(f"waiting for a subscriber to {subscriber!r} …", err=True)
        audience.wait_for_subscriber(subscriber, timeout_s=wait_s)
    if client is None and subscriber is None:
        typer.echo("waiting for a subscriber …", err=True)
        try:
            audience.wait_for_subscriber(timeout_s=wait_s)
        except ConnectionFailed:
            typer.echo("nobody subscribed; playing all the same", err=True)


def _wait_elsewhere(
    replayer: Replayer,
    bus: MqttBus,
    subscriber: str | None,
    client: str | None,
    wait_s: float | None,
) -> None:
    from playground.replay.readiness import overhear

    try:
        with overhear(bus) as audience:
            typer.echo("listening to playground/ready/# and mosquitto's log", err=True)
            _wait(audience, subscriber, client, wait_s)
    except ConnectionFailed as error:
        replayer.target.close()
        raise ConnectionFailed(
            error.problem,
            "a broker of others tells nobody who is there: have the consumer publish "
            "its filters, retained, on playground/ready/<client id>, or let mosquitto "
            "log to a topic (log_dest topic, log_type all)",
        ) from error
    except BaseException:
        replayer.target.close()
        raise


def _bus(
    url: str,
    *,
    password_file: Path | None,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
) -> MqttBus:
    from playground.mqtt import BrokerUrl, MqttBus, Tls, find_password

    options: dict[str, Any] = {}
    if ca or cert or key:
        options["tls"] = Tls(ca_file=ca, certificate_file=cert, key_file=key)
    if password_file is not None:
        options["password"] = find_password(password_file)
    return MqttBus(BrokerUrl.parse(url), **options)


def _play(replayer: Replayer) -> Any:
    def toggle() -> None:
        (replayer.resume if replayer.status().paused else replayer.pause)()

    actions = {
        " ": toggle,
        ".": replayer.step,
        "left": lambda: replayer.seek(-SKIP_S, relative=True),
        "right": lambda: replayer.seek(SKIP_S, relative=True),
        "+": lambda: replayer.set_speed(2.0, relative=True),
        "-": lambda: replayer.set_speed(0.5, relative=True),
    }
    with (
        stop_event() as stop,
        _ended_by(stop, replayer),
        keys(actions) as heard,
        _progress(replayer, shown_keys=heard),
    ):
        return replayer.run()


@contextlib.contextmanager
def _ended_by(stop: threading.Event, replayer: Replayer) -> Iterator[None]:
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            if stop.wait(0.2):
                replayer.stop()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def _progress(replayer: Replayer, *, shown_keys: bool) -> Iterator[None]:
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    def line() -> Text:
        status = replayer.status()
        speed = status.slowed_to or status.speed
        text = (
            f"{'paused ' * status.paused}"
            f"{say_seconds(status.position_s)} of {say_seconds(status.length_s)}  "
            f"x{speed:g}{' (slowed)' * (status.slowed_to is not None)}  "
            f"{status.messages} messages  late {status.lateness.p99_s * 1e3:.3g} ms  "
            f"next {status.topic}"
        )
        return Text(text + (f"  [{_HELP}]" * shown_keys), no_wrap=True)

    console = Console(stderr=True, highlight=False)
    with Live(console=console, get_renderable=line, transient=True):
        yield
