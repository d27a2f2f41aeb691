"""Many runs of one scenario: its matrix, and chance, on all cores.

Every run is a job of its own that leaves one row; a sweep that was stopped goes on
where it was. Rows come out in one table, the same for any number of workers: no
wall clock, no order of arrival goes in. Runs of equal number draw equal random
numbers in every cell, so cells can be compared run by run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.optimize import Bounds, differential_evolution
from scipy.special import ndtri

from playground import __version__
from playground.cells import cells_of, changed, hashes, value_at
from playground.checks import CheckResult
from playground.document import DocumentError
from playground.errors import ExitCode, NotEnoughData, PlaygroundError, closest
from playground.quantity import convert, split_quantity
from playground.run import Result, check_folder, key_of, run
from playground.run.result import VERDICTS, RunVerdict
from playground.scenario import Scenario, load_scenario
from playground.scenario.entries import MonteCarloEntry
from playground.scenario.hashes import hash_of_file
from playground.sweep.cluster import cluster

TABLE = "sweep.parquet"
ROWS = "rows"
RUNS = "runs"
WORST = "worst.yaml"
Keep = Literal["all", "failed", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run of a sweep.

    Attributes:
        number: From 0, in the order of the table.
        cell: Name of the cell; empty where there is no matrix.
        run: Number of the run within the cell.
        values: What is changed in the scenario, by key.
    """

    number: int
    cell: str
    run: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What a sweep brought.

    Attributes:
        folder: Where it was written.
        table: A row per run; see `TABLE`.
        done: Runs made now.
        kept: Runs found done already.
    """

    folder: Path
    table: pa.Table
    done: int
    kept: int

    @property
    def verdicts(self) -> dict[RunVerdict, int]:
        """How many runs came out how."""
        said = self.table.column("verdict").to_pylist()
        return {v: said.count(v) for v in reversed(VERDICTS)}

    @property
    def exit_code(self) -> ExitCode:
        """What a command answers to the shell: that of the worst run."""
        verdicts = self.verdicts
        if verdicts["fail"]:
            return ExitCode.NOT_SO
        undecided = verdicts["untested"] or verdicts["inconclusive"]
        return ExitCode.UNDECIDED if undecided else ExitCode.GOOD


def jobs_of(scenario: Scenario) -> list[Job]:
    """Returns all runs that a scenario asks for: its cells, times its chances.

    Raises:
        DocumentError: Matrix or Monte Carlo name what is not there.
    """
    cells = cells_of(scenario)
    chance = _monte_carlo(scenario)
    jobs: list[Job] = []
    for cell in cells:
        for number in range(chance.runs):
            values = dict(cell.values)
            if scenario.monte_carlo is not None:
                values["seed"] = values.get("seed", scenario.seed) + number
                shares = {
                    # The same for equal numbers in every cell.
                    key: random.Random(f"{scenario.seed}/{number}/{key}").random()
                    for key in chance.vary
                }
                values.update(_drawn(scenario, values, chance.vary, shares))
            jobs.append(
                Job(number=len(jobs), cell=cell.name, run=number, values=values)
            )
    return jobs


def sweep(
    path: Path | str,
    *,
    out: Path | str,
    workers: int = -1,
    keep: Keep = "failed",
    progress: Callable[[int, int], object] | None = None,
    backend: str | None = None,
) -> Sweep:
    """Runs a scenario over its matrix and by chance.

    Args:
        path: The scenario file.
        out: Folder of the results; a sweep that was stopped goes on there.
        workers: Processes; -1 for one per core.
        keep: Whose recordings are kept.
        progress: Is told how many of how many runs are done.
        backend: Where they are made: ``dask://HOST:PORT`` or ``ray://HOST:PORT`` of
            a cluster whose machines see the same folders; by default here.

    Raises:
        PlaygroundError: The scenario is wrong, or the backend cannot be had.
        ConnectionFailed: The cluster does not answer.
    """
    scenario = load_scenario(path)
    folder = Path(out)
    jobs = jobs_of(scenario)
    # A wrong cell is told before any worker starts.
    changed(scenario, jobs[-1].values)
    if workers == 0:
        raise PlaygroundError(
            "No process makes no runs.", "write -j 2, or -j -1 for one per core"
        )
    try:
        (folder / ROWS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PlaygroundError(
            f"{folder} cannot be written: {error.strerror or error}.",
            "name a folder in a place that you may write to",
        ) from error
    rows: dict[int, dict[str, Any]] = {}
    waiting = []
    hash_of = functools.cache(hash_of_file)
    for job in jobs:
        # Another program or recording under the same name is another run.
        key = _job_key(scenario, job, hashes(scenario, job.values, hash_of=hash_of))
        row = _row_of(folder, job, key)
        if row is None:
            waiting.append((job, key))
        else:
            rows[job.number] = row
    kept = len(rows)
    if progress is not None:
        progress(kept, len(jobs))
    if waiting:
        count = 1 if len(waiting) == 1 else workers
        here = _Here(path=tuple(sys.path), folder=Path.cwd())
        with contextlib.ExitStack() as stack:
            options: dict[str, Any] = {
                "n_jobs": count,
                "return_as": "generator_unordered",
            }
            if backend is not None:
                options |= stack.enter_context(cluster(backend))
            calls = (
                joblib.delayed(_do)(scenario, folder, job, key, keep, here)
                for job, key in waiting
            )
            for row in joblib.Parallel(**options)(calls):
                rows[row["number"]] = row
                if progress is not None:
                    progress(len(rows), len(jobs))
    table = table_of([rows[job.number] for job in jobs])
    half = folder / f".{TABLE}.part"
    pq.write_table(table, half)
    half.replace(folder / TABLE)
    return Sweep(folder=folder, table=table, done=len(waiting), kept=kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Here:
    """Where modules and files are looked for; a worker may start elsewhere."""

    path: tuple[str, ...]
    folder: Path

    def take(self) -> None:
        sys.path[:] = self.path
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise PlaygroundError(
                f"A worker does not see the folder {self.folder}.",
                "use machines that share this folder, at the same place",
            ) from error


def table_of(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Returns the rows of a sweep as one table, one type per column."""
    names = list(dict.fromkeys(name for row in rows for name in row if name != "key"))
    return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})


def _job_key(scenario: Scenario, job: Job, files: Mapping[str, str]) -> str:
    plain = scenario.plain()
    text = json.dumps(
        [plain, dict(job.values), job.cell, job.run, dict(files), __version__],
        sort_keys=True,
        default=str,
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _row_of(folder: Path, job: Job, key: str) -> dict[str, Any] | None:
    """Returns the row of a job that was done before, if it still is the same job."""
    try:
        row: dict[str, Any] = json.loads(_row_path(folder, job).read_text())
    except (OSError, ValueError):
        return None
    return row if row.get("key") == key else None


def _row_path(folder: Path, job: Job) -> Path:
    return folder / ROWS / f"{job.number:06d}.json"


def _do(
    scenario: Scenario,
    folder: Path,
    job: Job,
    key: str,
    keep: Keep,
    here: _Here,
) -> dict[str, Any]:
    """Does one job, in a process of its own."""
    here.take()
    target = folder / RUNS / f"{job.number:06d}"
    result = run(changed(scenario, job.values), out=target)
    gone = keep == "none" or (keep == "failed" and result.verdict == "pass")
    if gone:
        shutil.rmtree(target)
    row = {
        "number": job.number,
        "cell": job.cell,
        "run": job.run,
        "seed": result.seed,
        "verdict": result.verdict,
        "doubts": "; ".join(result.doubts),
        "sha256": result.sha256,
        "messages": result.messages,
        "path": None if gone else f"{RUNS}/{job.number:06d}",
        **{f"with.{key}": str(value) for key, value in job.values.items()},
        **{f"margin.{check.name}": check.margin for check in result.checks},
        **{f"kpi.{kpi.name}": kpi.value for kpi in result.kpis},
        "key": key,
    }
    half = _row_path(folder, job).with_suffix(".part")
    half.write_text(json.dumps(row))
    half.replace(_row_path(folder, job))
    return row


# -- chance


def _monte_carlo(scenario: Scenario) -> MonteCarloEntry:
    chance = scenario.monte_carlo
    if chance is None:
        return MonteCarloEntry(runs=1)
    mistakes = []
    document = scenario.origin.document
    for key, how in chance.vary.items():
        try:
            value_at(scenario, _base(key)[0])
            _quantile(how, 0.5)
        except PlaygroundError as error:
            if document is None:
                raise
            here = ("monte_carlo", "vary", key)
            mistakes.append(document.mistake(here, error.problem, error.fix))
    if mistakes and document is not None:
        raise DocumentError(document.path, mistakes)
    return chance


def _base(key: str) -> tuple[str, bool]:
    """Returns the key that is changed, and whether something is added to it."""
    return key.removesuffix("_offset"), key.endswith("_offset")


def _drawn(
    scenario: Scenario,
    values: Mapping[str, Any],
    vary: Mapping[str, Any],
    shares: Mapping[str, float],
) -> dict[str, Any]:
    """Returns the values that belong to shares of each distribution."""
    found: dict[str, Any] = {}
    for key, how in vary.items():
        value = _quantile(how, shares[key])
        base, added = _base(key)
        if added:
            before = found.get(base, values.get(base, value_at(scenario, base)))
            value = _sum(before, str(value))
        found[base] = value
    return found


def _quantile(how: Any, share: float) -> Any:
    """Returns the value below which a share of a distribution lies.

    Raises:
        PlaygroundError: It is no distribution.
    """
    if isinstance(how, Mapping) and len(how) == 1:
        kind, ends = next(iter(how.items()))
        if kind == "choice" and isinstance(ends, list) and ends:
            return ends[min(int(share * len(ends)), len(ends) - 1)]
        if kind in ("normal", "uniform") and isinstance(ends, list) and len(ends) == 2:
            first, unit = split_quantity(str(ends[0]))
            second, other = split_quantity(str(ends[1]))
            if kind == "uniform":
                second = convert(second, other or "1", unit or "1")
                number = first + share * (second - first)
            else:
                second = convert(second, other or "1", unit or "1", difference=True)
                number = first + second * float(ndtri(share))
            return f"{number:.9g} {unit}" if unit else number
        raise PlaygroundError(
            f"{kind}: {ends!r} is not a distribution."
            + closest(str(kind), ("normal", "uniform", "choice")),
            "write {normal: [mean, std]}, {uniform: [low, high]} or {choice: [a, b]}",
        )
    raise PlaygroundError(
        f"{how!r} is not a distribution.",
        "write {normal: [mean, std]}, {uniform: [low, high]} or {choice: [a, b]}",
    )


def _sum(before: Any, added: str) -> Any:
    """Adds a difference to what stands in a scenario."""
    if isinstance(before, Mapping):
        return {**before, "offset": added}
    value, unit = split_quantity(str(before))
    number, other = split_quantity(added)
    by = convert(number, other or "1", unit or "1", difference=True)
    return f"{value + by:.9g} {unit}" if unit else value + by


# -- looking for trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class Falsified:
    """The worst that was found.

    Attributes:
        result: The run with the smallest margin.
        check: The check that was looked at, in that run.
        values: What was changed in the scenario for it.
        runs: How many runs it took.
    """

    result: Result
    check: CheckResult
    values: Mapping[str, Any]
    runs: int


def falsify(
    path: Path | str, check: str, *, out: Path | str, runs: int = 100
) -> Falsified:
    """Searches what `monte_carlo` varies for the smallest margin of a check.

    Differential evolution (Storn and Price, 1997) over the distributions; stops
    at the first failure. The seed is that of the scenario, so the search repeats.

    Args:
        path: The scenario file.
        check: Name of the check.
        out: Folder for the worst run.
        runs: At most about so many runs.

    Raises:
        PlaygroundError: The scenario varies nothing, or has no such check; or the
            folder holds other things than a run.
        NotEnoughData: The check has no margin to go by.
    """
    scenario = load_scenario(path)
    vary = _monte_carlo(scenario).vary
    if not vary:
        raise PlaygroundError(
            f"{path} varies nothing.",
            "write monte_carlo: {runs: 1, vary: {KEY: {uniform: [LOW, HIGH]}}}",
        )
    setup = changed(scenario, {}).prepare()
    known = [one.name for one in setup.checks] + [one.text for one in setup.limits]
    if check not in known:
        raise PlaygroundError(
            f"There is no check {check!r}.{closest(check, known)}",
            f"checks: {'; '.join(known)}",
        )
    if runs < 1:
        raise PlaygroundError(f"--runs {runs}: at least one is needed.", "write 100")
    target, trial = Path(out), Path(out).with_name(Path(out).name + ".trial")
    # The worst so far takes the place of what is there: that may be a run only.
    check_folder(target)
    check_folder(trial)
    keys = list(vary)
    tried: dict[str, float] = {}
    worst: list[Falsified] = []

    def margin_at(shares: Any) -> float:
        inside = np.clip(shares, 1e-3, 1 - 1e-3)
        shown = dict(zip(keys, inside.tolist(), strict=True))
        values = _drawn(scenario, {}, vary, shown)
        one = changed(scenario, values)
        key = key_of(one.prepare())
        if key in tried:
            return tried[key]
        result = run(one, out=trial)
        found = next(each for each in result.checks if each.name == check)
        margin = found.margin
        if margin is None:
            # Yes or no: all one can say is whether it failed.
            margin = {"fail": -1.0, "pass": 1.0, "untested": 2.0}[found.verdict]
        tried[key] = margin
        if not worst or margin < min(tried[k] for k in tried if k != key):
            if target.exists():
                check_folder(target)
                shutil.rmtree(target)
            trial.rename(target)
            worst[:] = [
                Falsified(
                    result=dataclasses.replace(result, folder=target),
                    check=found,
                    values=values,
                    runs=0,
                )
            ]
        return margin

    def stop_at_a_failure(intermediate_result: Any) -> None:
        if worst and worst[0].check.verdict == "fail":
            raise StopIteration

    size = max(4, min(15, runs // (4 * len(keys))))
    generations = max(1, runs // (size * len(keys)) - 1)
    differential_evolution(
        margin_at,
        Bounds(np.zeros(len(keys)), np.ones(len(keys))),
        popsize=size,
        maxiter=generations,
        polish=False,
        rng=scenario.seed,
        tol=0.0,
        init="sobol",
        callback=stop_at_a_failure,
    )
    shutil.rmtree(trial, ignore_errors=True)
    if not worst:
        raise NotEnoughData("No run came to an end.")
    return dataclasses.replace(worst[0], runs=len(tried))
