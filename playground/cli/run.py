"""``playground run``: run scenarios in virtual time."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def command(
    scenario: Annotated[Path, typer.Argument(help="The scenario file, YAML.")],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder of the results [runs/NAME]."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Use this seed instead of the file's.")
    ] = None,
    transport: Annotated[
        str | None,
        typer.Option(
            help="Where the parts meet: local, lockstep, realtime [what the file says]."
        ),
    ] = None,
    speed: Annotated[
        float, typer.Option(help="Plant seconds per second, of realtime.")
    ] = 1.0,
    broker: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Broker of lockstep and realtime [one is started for the run].",
        ),
    ] = None,
    client: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID", help="A program outside that answers lockstep's ticks."
        ),
    ] = None,
    force_model: Annotated[
        bool,
        typer.Option(
            "--force-model", help="Run a model that answers with the wrong sign."
        ),
    ] = False,
    deadline: Annotated[
        str, typer.Option(help="Real time that such a program has to answer.")
    ] = "10s",
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write report.html.")
    ] = True,
    junit: Annotated[
        Path | None, typer.Option(help="Write the checks as JUnit XML there.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Add a summary in Markdown to that file.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON, nothing else.")
    ] = False,
) -> None:
    """Run a scenario in virtual time and judge it.

    Prints the verdict, every check with its margin, every KPI, and the SHA-256
    of the message log. Answers 0 if all is so, 1 if a check failed, 2 if the
    scenario is wrong, 3 if a check never came to bear, the plant left its envelope
    for too long, or a lockstep client did not answer.

    Example: playground run scenarios/thermostat.yaml -o runs/today
    """
    from playground import run as running
    from playground.cli.progress import progress
    from playground.quantity import seconds
    from playground.scenario import load_scenario

    # A scenario may name the user's own module:Class, which lies here.
    sys.path.insert(0, str(Path.cwd()))
    loaded = load_scenario(scenario, force_model=force_model)
    if seed is not None:
        loaded = loaded.replace(seed=seed)
    for path in (junit, markdown):
        if path is not None:
            _must_be_writable(path)
    with progress(loaded.name) as show:
        result = running.run(
            loaded,
            out=out,
            transport=transport,
            speed=speed,
            broker=broker,
            clients=client or (),
            deadline_s=seconds(deadline),
            progress=lambda name, share: show(share, 1.0, name),
        )
    if as_json:
        print(json.dumps(result.plain(), indent=2))
    else:
        for line in result.lines():
            print(line)
        print(f"written to {result.folder}")
    if junit is not None:
        junit.write_text(running.junit(result), encoding="utf-8")
    if markdown is not None:
        # Appended: GITHUB_STEP_SUMMARY is one file for all steps.
        with markdown.open("a", encoding="utf-8") as file:
            file.write(running.markdown(result))
    if report:
        from playground.report import write_report

        again = f"playground run {scenario}"
        again += "" if seed is None else f" --seed {seed}"
        page = write_report(result.folder, again=again)
        if not as_json:
            print(f"report: {page}")
    raise typer.Exit(result.exit_code)


def _must_be_writable(path: Path) -> None:
    """Refuses a file that could not be written, before anything is run."""
    from playground.errors import PlaygroundError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a", encoding="utf-8").close()
    except OSError as error:
        raise PlaygroundError(
            f"{path} cannot be written: {error.strerror or error}.",
            "name a file in a place that you may write to",
        ) from error
