"""``playground demo``: the whole idea at work."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from playground.quantity import say_seconds

if TYPE_CHECKING:
    from playground.demo import Demo


def command(
    folder: Annotated[Path, typer.Argument(help="Where its files go.")] = Path(
        "playground-demo"
    ),
) -> None:
    """Show the whole idea at work: record, learn, run, report.

    Takes about a minute and needs no broker and no network. Every file it
    leaves is one that you would have at home.

    Example: playground demo
    """
    begin = time.monotonic()
    print("MQTT playground: record a plant, learn its double, test a strategy on it.\n")
    with _waiting("getting ready"):
        # scikit-learn and its like take their time.
        from playground.demo import Demo

    demo = Demo(folder)
    demo.prepare()
    _record(demo)
    _info(demo)
    _learn(demo)
    code = _run(demo)
    elapsed = say_seconds(time.monotonic() - begin)
    print(f"Done in {elapsed}. The files are in {folder}/; each is plain to read.")
    print("Next: change a number in thermostat.yaml and run it again.")
    raise typer.Exit(code)


def _record(demo: Demo) -> None:
    from playground.demo import SESSION_S, SPEED

    _step(
        1,
        "A virtual heat-pump rig speaks on a real MQTT broker, "
        f"{SPEED:g} times as fast as a real one. It is moved about and recorded.",
        f"playground record {demo.session} --broker mqtt://localhost",
    )
    with _bar("recording") as progress:
        recording = demo.record(progress)
    print(f"   {recording.count:,} messages, {say_seconds(SESSION_S)} of plant time\n")


def _info(demo: Demo) -> None:
    from playground.cli.info import print_summary
    from playground.recording import Recording

    _step(2, "What is in the recording?", f"playground info {demo.session}")
    print_summary(Recording.open(demo.session).summary())
    print()


def _learn(demo: Demo) -> None:
    from playground.cli.learn import print_errors
    from playground.demo import STEP_S

    _step(
        3,
        "A plant is learned from the recording. The last third is kept from it, and "
        "it must foretell that in free run.",
        f"playground learn {demo.session} --signals {demo.signals} "
        f"--period {STEP_S:g}s -o {demo.model}",
    )
    with _waiting("learning"):
        model = demo.learn()
    print_errors(model.card["errors"])
    print(
        "   (persistence and train mean know nothing: that is what there is to beat)\n"
    )


def _run(demo: Demo) -> int:
    _step(
        4,
        "A thermostat runs against the learned plant for 24 h of plant time.",
        f"playground run {demo.scenario} -o {demo.run_folder}",
    )
    with _waiting("running"):
        result = demo.run()
    for line in result.lines():
        print(line)
    print()
    _step(5, "What happened is drawn in one page; open it in a browser.")
    with _waiting("drawing"):
        report = demo.report(result)
    print(f"   {report.resolve().as_uri()}\n")
    return int(result.exit_code)


def _step(number: int, title: str, typed: str = "") -> None:
    from rich.console import Console

    Console(highlight=False, soft_wrap=True).print(f"[bold]{number}. {title}[/bold]")
    if typed:
        print(f"   you would type: {typed}")


@contextlib.contextmanager
def _waiting(what: str) -> Iterator[None]:
    if not sys.stdout.isatty():
        yield
        return
    from rich.console import Console

    with Console().status(f"{what} ..."):
        yield


@contextlib.contextmanager
def _bar(what: str) -> Iterator[Callable[[float], None]]:
    """Gives a function that is told the share that is done."""
    if not sys.stdout.isatty():
        yield _Tenths(what)
        return
    from rich.progress import Progress

    with Progress(transient=True) as progress:
        task: Any = progress.add_task(f"   {what}", total=1.0)
        yield lambda share: progress.update(task, completed=share)


class _Tenths:
    """Progress where nobody can redraw a line: a CI log."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._next = 0.0

    def __call__(self, share: float) -> None:
        if share >= self._next:
            print(f"   {self._what}: {share:.0%}", flush=True)
            self._next += 0.25
