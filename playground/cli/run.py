"""``playground run``: run scenarios in virtual time."""

from __future__ import annotations

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
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write report.html.")
    ] = True,
) -> None:
    """Run a scenario in virtual time and judge it.

    Prints the verdict, every check with its margin, every KPI, and the SHA-256
    of the message log. Answers 0 if all is so, 1 if a check failed, 2 if the
    scenario is wrong, 3 if a check never came to bear.

    Example: playground run scenarios/thermostat.yaml -o runs/today
    """
    from playground.run import run
    from playground.scenario import load_scenario

    # A scenario may name the user's own module:Class, which lies here.
    sys.path.insert(0, str(Path.cwd()))
    loaded = load_scenario(scenario)
    if seed is not None:
        loaded = loaded.replace(seed=seed)
    result = run(loaded, out=out)
    for line in result.lines():
        print(line)
    print(f"written to {result.folder}")
    if report:
        from playground.report import write_report

        again = f"playground run {scenario}"
        again += "" if seed is None else f" --seed {seed}"
        print(f"report: {write_report(result.folder, again=again)}")
    raise typer.Exit(result.exit_code)
