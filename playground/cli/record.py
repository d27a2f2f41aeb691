"""``playground record``: a live session into a file."""

from __future__ import annotations

import hashlib
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from playground.cli.ending import stop_event
from playground.errors import PlaygroundError
from playground.quantity import say_seconds, seconds

if TYPE_CHECKING:
    from playground.mqtt import Tls
    from playground.record import Progress, Source, Window


_OTHER_FILES = frozenset(
    (".csv", ".db", ".json", ".jsonl", ".log", ".lp", ".mcap", ".tsv", ".txt", ".xlsx")
)


def command(
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUT.parquet",
            help="The recording to write; without .parquet, a folder of parts.",
        ),
    ],
    broker: Annotated[
        str | None,
        typer.Option(help="mqtt://, mqtts://, ws:// or wss://USER@HOST:PORT."),
    ] = None,
    embedded: Annotated[
        bool,
        typer.Option(
            "--embedded", help="Start a broker of our own and record what it sees."
        ),
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the own broker; 0: any.")
    ] = 1883,
    topic: Annotated[
        list[str] | None,
        typer.Option("-t", "--topic", metavar="FILTER", help="Record only these."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("-x", "--exclude", metavar="FILTER", help="Leave these out."),
    ] = None,
    duration: Annotated[
        str | None, typer.Option("--for", help="How long, such as 10min.")
    ] = None,
    qos: Annotated[
        int, typer.Option(min=0, max=2, help="At which QoS to subscribe.")
    ] = 0,
    sync: Annotated[
        str,
        typer.Option(
            help="How often to force it onto the disk, such as 1s, or 'always'."
        ),
    ] = "1s",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a recording of that name.")
    ] = False,
    client_id: Annotated[
        str | None, typer.Option(help="As whom to connect; chosen by default.")
    ] = None,
    rotate: Annotated[
        str | None, typer.Option(help="Begin a new part after 1h or 256MB, say.")
    ] = None,
    tap: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Let clients connect here instead of to the broker, and record "
            "what passes, with client ids.",
        ),
    ] = None,
    trigger: Annotated[
        str | None,
        typer.Option(
            help="Record only around an event: a topic filter, or with --signals a "
            "condition such as 'outlet > 60 degC'."
        ),
    ] = None,
    ring: Annotated[
        str | None,
        typer.Option(help="With --trigger: how much of what came before; 10min."),
    ] = None,
    after: Annotated[
        str | None,
        typer.Option(help="With --trigger: how long to go on after it; 5min."),
    ] = None,
    signals: Annotated[
        Path | None, typer.Option(help="With --trigger: what the topics mean (YAML).")
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
    """Record an MQTT session until Ctrl-C, or for a time.

    With --qos 1 --sync always the broker keeps what it has accepted until it is on
    the disk, also while the recorder does not run: start it again with the same
    command.

    Example: playground record lab.parquet --broker mqtt://192.168.1.10 -t 'rig/#'
    """
    from playground.record import Rotation, record

    if (broker is None) is not embedded:
        raise PlaygroundError(
            "Nothing to record from."
            if broker is None
            else "--broker and --embedded are two sources.",
            "name one: --broker mqtt://HOST:1883, or --embedded",
        )
    if tap is not None and broker is None:
        raise PlaygroundError(
            "--tap stands before a broker, but none is named.",
            "name it: --broker mqtt://HOST:1883",
        )
    if output.suffix.lower() in _OTHER_FILES:
        raise PlaygroundError(
            f"{output} has the name of another kind of file; a recording is Parquet.",
            f"record to {output.with_suffix('.parquet')}, and then: playground export",
        )
    sync_s = 0.0 if sync == "always" else seconds(sync)
    tls = _tls(ca, cert, key)
    if broker is None:
        source = _embedded(port)
    elif tap is not None:
        source = _tap(tap, broker, tls)
    else:
        is_durable = sync_s == 0 and qos > 0
        source = _broker(
            broker,
            qos=qos,
            password_file=password_file,
            tls=tls,
            client_id=client_id
            or (_lasting_id(output, broker) if is_durable else None),
            durable=is_durable,
        )
    window = _window(trigger, ring=ring, after=after, signals=signals)
    show = _Display(output)
    try:
        with stop_event() as stop:
            recording = record(
                source,
                output,
                filters=tuple(topic or ()),
                exclude=tuple(exclude or ()),
                duration_s=None if duration is None else seconds(duration),
                sync_s=sync_s,
                overwrite=overwrite,
                rotate=None if rotate is None else Rotation.parse(rotate),
                window=window,
                stop=stop,
                on_progress=show,
                on_start=show.started,
            )
    finally:
        show.clear()
    print(
        f"{recording.count} messages in "
        f"{say_seconds((recording.end_ns - recording.start_ns) / 1e9)} -> "
        f"{', '.join(recording.paths)}"
    )
    if window is not None and not window.opened:
        print(f"nothing happened that {trigger!r} waits for")
    elif not recording.count:
        print(
            f"nothing was heard on {' '.join(topic or ['#'])}: look after the filters, "
            "and whether the broker lets this client hear them"
        )


def _embedded(port: int) -> Source:
    from playground.broker import EmbeddedBroker
    from playground.record import EmbeddedSource

    return EmbeddedSource(EmbeddedBroker(port=port))


def _tap(listen: str, url: str, tls: Tls | None) -> Source:
    from playground.record import TapSource

    return TapSource(listen, url, tls=tls)


def _broker(url: str, *, password_file: Path | None, **options: Any) -> Source:
    from playground.mqtt import BrokerUrl, find_password
    from playground.record import BrokerSource

    if password_file is not None:
        options["password"] = find_password(password_file)
    return BrokerSource(BrokerUrl.parse(url), **options)


def _tls(ca: Path | None, cert: Path | None, key: Path | None) -> Tls | None:
    from playground.mqtt import Tls

    if not (ca or cert or key):
        return None
    return Tls(ca_file=ca, certificate_file=cert, key_file=key)


def _lasting_id(output: Path, url: str) -> str:
    """The same for the same command, so that a session is found again."""
    what = f"{platform.node()} {output.absolute()} {url}"
    return f"playground-record-{hashlib.sha256(what.encode()).hexdigest()[:12]}"


def _window(
    trigger: str | None, *, ring: str | None, after: str | None, signals: Path | None
) -> Window | None:
    if trigger is None:
        given = {"--ring": ring, "--after": after, "--signals": signals}
        for option, value in given.items():
            if value is not None:
                raise PlaygroundError(
                    f"{option} belongs to --trigger, which is not given.",
                    "say what to wait for: --trigger 'alarm/#'; or leave it out, "
                    "and everything is recorded",
                )
        return None
    from playground.record import Window, make_trigger

    known = None
    if signals is not None:
        from playground.signals_file import load_signals

        known = load_signals(signals)
    return Window(
        make_trigger(trigger, known),
        before_s=seconds(ring or "10min"),
        after_s=seconds(after or "5min"),
    )


class _Display:
    """One line that is redrawn on a terminal; elsewhere a line now and then."""

    EVERY_S = 30.0

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_terminal = sys.stderr.isatty()
        self._live: Any = None
        self._said_at = time.monotonic()

    def started(self, described: dict[str, Any]) -> None:
        where = described["broker"]
        if "tap" in described:
            where += f" through {described['tap']}"
        print(
            f"recording {where} ({described['protocol']}) to {self._path}; "
            "Ctrl-C ends it",
            file=sys.stderr,
            flush=True,
        )

    def __call__(self, progress: Progress) -> None:
        text = (
            f"{progress.count} messages  {progress.rate_hz:.0f}/s  "
            f"{_size(progress.bytes)}  {say_seconds(progress.elapsed_s)}"
        )
        if progress.gaps:
            text += f"  {progress.gaps} gaps"
        if progress.deaf_because:
            text += f"  {progress.deaf_because}"
        if self._is_terminal:
            self._draw(text)
        elif time.monotonic() - self._said_at >= self.EVERY_S:
            self._said_at = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    def _draw(self, text: str) -> None:
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True, highlight=False)
            self._live = Live(console=console, refresh_per_second=4, transient=True)
            self._live.start()
        self._live.update(text)

    def clear(self) -> None:
        if self._live is not None:
            self._live.stop()


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"
