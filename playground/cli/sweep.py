"""``playground sweep``: a scenario over its matrix and by chance."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def command(
    scenario: Annotated[Path, typer.Argument(help="The scenario file, YAML.")],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder of the results [sweeps/NAME]."),
    ] = None,
    jobs: Annotated[
        int, typer.Option("-j", "--jobs", help="Processes; -1 for one per core.")
    ] = -1,
    keep: Annotated[
        str, typer.Option(help="Whose recordings to keep: all, failed, none.")
    ] = "failed",
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Run on a cluster: dask://HOST:PORT or ray://HOST:PORT [here].",
        ),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write sweep.html.")
    ] = True,
    falsify: Annotated[
        str | None,
        typer.Option(help="Search what is varied for the worst of this check."),
    ] = None,
    shrink: Annotated[
        bool,
        typer.Option("--shrink", help="Look for the fewest events that still fail."),
    ] = False,
    runs: Annotated[
        int, typer.Option(help="At most so many runs to falsify or shrink.")
    ] = 100,
) -> None:
    """Run a scenario over its matrix and by chance, on all cores.

    Every cell of 'matrix' is run as often as 'monte_carlo' says. A sweep that was
    stopped goes on where it was. Writes sweep.parquet, a row per run, and sweep.html
    with a heat map and parallel coordinates, and answers
    as the worst run would: 0 all good, 1 a check failed, 3 untested or inconclusive.

    Example: playground sweep scenarios/setpoints.yaml -o sweeps/today -j 2
    """
    from playground.cli.progress import progress
    from playground.errors import PlaygroundError
    from playground.sweep import TABLE, Keep, sweep
    from playground.sweep import falsify as search

    sys.path.insert(0, str(Path.cwd()))
    folder = out or Path("sweeps") / scenario.stem
    if shrink and falsify is not None:
        raise PlaygroundError(
            "--shrink and --falsify are two different searches.",
            "falsify first, then shrink what it found",
        )
    if shrink:
        from playground.shrink import shrink as make_small

        small = make_small(scenario, out=folder, runs=runs)
        print(f"{small.before} events, {len(small.scenario.events)} needed to fail")
        print(f"  {small.check}")
        print(f"found in {small.runs} runs; written to {small.path}")
        raise typer.Exit(0)
    if falsify is not None:
        worst = search(scenario, falsify, out=folder, runs=runs)
        for line in worst.result.lines():
            print(line)
        print(f"worst of {worst.runs} runs, with")
        for key, value in worst.values.items():
            print(f"  {key}: {value}")
        print(f"written to {worst.result.folder}")
        raise typer.Exit(1 if worst.check.verdict == "fail" else 0)
    kinds: dict[str, Keep] = {"all": "all", "failed": "failed", "none": "none"}
    if keep not in kinds:
        raise PlaygroundError(f"--keep {keep}: write all, failed or none.")
    with progress("runs") as show:
        done = sweep(
            scenario,
            out=folder,
            workers=jobs,
            keep=kinds[keep],
            progress=show,
            backend=backend,
        )
    verdicts = done.verdicts
    print(
        f"{done.table.num_rows} runs: {verdicts['pass']} pass, {verdicts['fail']} fail, "
        f"{verdicts['untested']} untested, {verdicts['inconclusive']} inconclusive"
    )
    if done.kept:
        print(f"{done.kept} were done before")
    print(f"table: {done.folder / TABLE}")
    if report:
        from playground.sweep.report import write_sweep_report

        again = f"playground sweep {scenario}"
        print(f"report: {write_sweep_report(done.folder, again=again)}")
    raise typer.Exit(done.exit_code)
