"""Run a scenario: the one place where all parts meet.

Plant, controllers and disturbances meet on a bus; what they publish is a recording
like any other, and checks and KPIs are judged on that recording. On the transport
``local`` nothing but the scenario decides what is in it: no wall clock, no machine,
no order of a set, so equal scenarios give equal SHA-256.
"""

from __future__ import annotations

import functools
import hashlib
import json
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from playground import __version__
from playground.errors import PlaygroundError
from playground.plants.departures import Departures
from playground.recording import Recording, RecordingWriter
from playground.run.guest import told
from playground.run.judging import judge, judge_limit, verdict_of
from playground.run.result import (
    BASELINE,
    PROGRAMS,
    RECORDING,
    REPORT,
    RESOLVED,
    RESULT,
    KpiResult,
    Result,
)
from playground.run.simulation import Course, simulate
from playground.run.telling import junit, markdown
from playground.run.venue import Venue
from playground.scenario import Scenario, Setup, check_files, dump, moved

__all__ = [
    "BASELINE",
    "PROGRAMS",
    "RECORDING",
    "REPORT",
    "RESOLVED",
    "RESULT",
    "KpiResult",
    "Result",
    "Venue",
    "check_folder",
    "judge",
    "judge_limit",
    "junit",
    "key_of",
    "markdown",
    "run",
    "simulate",
    "verdict_of",
]


Progress = Callable[[str, float], object]
"""Is told the name of a scenario and the share of it that is over."""


def run(
    scenario: Scenario,
    *,
    out: Path | str | None = None,
    transport: str | None = None,
    speed: float = 1.0,
    broker: str | None = None,
    clients: Sequence[str] = (),
    deadline_s: float = 10.0,
    progress: Progress | None = None,
) -> Result:
    """Runs a scenario, in virtual time on the local bus by default.

    Args:
        scenario: What to run.
        out: Folder of the results, by default ``runs/NAME``. It is written as
            a whole or not at all; results of an earlier run are replaced.
        transport: ``local``, ``lockstep`` (a broker in virtual time) or
            ``realtime`` (a broker in wall time); by default what the scenario says.
        speed: Seconds of plant time in a second of wall time, of ``realtime``.
        broker: URL of the broker of ``lockstep`` and ``realtime``; by default one
            is started.
        clients: Client ids that answer the ticks of ``lockstep``, besides those
            that the scenario names.
        deadline_s: Wall seconds that these have to answer.
        progress: Is told now and then which scenario runs (it, or its baseline)
            and what share of it is over.

    Raises:
        DocumentError: The scenario is wrong, or a file whose hash it carries is
            another now.
        PlaygroundError: The folder holds something else, or these arguments
            contradict each other.
        ClientSilent: A client of ``lockstep`` did not answer.
        ConnectionFailed: The broker cannot be reached.
    """
    setup = scenario.prepare()
    check_files(scenario, setup.files)
    venue = Venue(
        transport=scenario.transport if transport is None else transport,
        speed=speed,
        broker=broker,
        clients=tuple(dict.fromkeys((*scenario.clients, *clients))),
        deadline_s=deadline_s,
    )
    folder = Path("runs") / scenario.name if out is None else Path(out)
    check_folder(folder)
    # Named before it is made: an interruption may come at any line.
    half = folder.parent / f".{folder.name}.{secrets.token_hex(4)}"
    try:
        _make(half, folder)
        result = _run_into(setup, half, folder, venue, progress)
        _put(half, folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return result


def _make(half: Path, folder: Path) -> None:
    try:
        half.mkdir(parents=True)
    except OSError as error:
        raise PlaygroundError(
            f"{folder} cannot be written: {error.strerror or error}.",
            "name a folder in a place that you may write to",
        ) from error


def check_folder(folder: Path) -> None:
    """Refuses a folder that holds something other than an earlier run.

    Raises:
        PlaygroundError: It does.
    """
    if folder.is_dir():
        if any(folder.iterdir()) and not (folder / RESULT).exists():
            raise PlaygroundError(
                f"The folder {folder} holds other things than a run.",
                "name a new folder with -o",
            )
    elif folder.exists():
        raise PlaygroundError(f"{folder} is a file.", "name a new folder with -o")


def _put(half: Path, folder: Path) -> None:
    """Gives the finished folder its name; an earlier one goes only then."""
    earlier = None
    if folder.exists():
        earlier = Path(
            tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent.resolve())
        )
        folder.replace(earlier)
    half.replace(folder)
    if earlier is not None:
        shutil.rmtree(earlier, ignore_errors=True)


def _run_into(
    setup: Setup, half: Path, folder: Path, venue: Venue, progress: Progress | None
) -> Result:
    scenario = setup.scenario
    met = scenario.replace(transport=venue.transport, clients=list(venue.clients))
    resolved = moved(met, folder.resolve())
    began = time.perf_counter()
    recording, course = _record(setup, half / RECORDING, venue, progress)
    wall_s = time.perf_counter() - began
    baseline = {}
    doubts = _doubts("", course, setup)
    if setup.baseline is not None:
        other = setup.baseline.prepare()
        (half / BASELINE).mkdir()
        before, its = _record(other, half / BASELINE / RECORDING, venue, progress)
        doubts += _doubts("the baseline was ", its, other)
        baseline = {kpi.name: kpi.value for kpi in judge(other, before)[1]}
    checks, kpis = judge(setup, recording, baseline=baseline)
    found = (c for each in course.accounts for c in each.checks(setup.duration_s))
    checks = (*found, *checks)
    result = Result(
        scenario=scenario.name,
        verdict=verdict_of(checks, doubts),
        checks=checks,
        kpis=kpis,
        events=course.events,
        sha256=recording.sha256,
        messages=recording.count,
        duration_s=setup.duration_s,
        wall_s=wall_s,
        seed=scenario.seed,
        folder=folder,
        transport=venue.transport,
        lateness_s=course.lateness_s,
        departures=course.departures,
        allowed_share=setup.allowed_share,
        doubts=doubts,
        notes=(*setup.notes, *course.notes),
        programs=course.accounts,
    )
    comment = (
        f"What was run, defaults written out; playground {__version__}.\n"
        f"'playground run' on this file gives the message log {result.sha256}."
    )
    (half / RESOLVED).write_text(dump(resolved, comment=comment), encoding="utf-8")
    (half / RESULT).write_text(
        json.dumps(result.plain(), indent=2, allow_nan=False) + "\n", encoding="utf-8"
    )
    return result


def _doubts(which: str, course: Course, setup: Setup) -> tuple[str, ...]:
    """Says why a run cannot be believed: its plant was asked what it cannot know."""
    seen: Departures | None = course.departures
    doubt = None if seen is None else seen.doubt(setup.allowed_share)
    return () if doubt is None else (which + doubt,)


def _record(
    setup: Setup, path: Path, venue: Venue, progress: Progress | None
) -> tuple[Recording, Course]:
    metadata = {
        "start_ns": setup.start_ns,
        "end_ns": setup.start_ns + round(setup.duration_s * 1e9),
        "scenario": setup.scenario.plain(),
        "files": dict(setup.files),
        "key": key_of(setup),
        "session": "simulated",
        "transport": venue.transport,
    }
    name = setup.scenario.name
    with RecordingWriter(path, metadata=metadata, journal=False) as writer:
        course = simulate(
            setup,
            writer,
            venue=venue,
            progress=progress and functools.partial(progress, name),
        )
    if course.accounts:
        (path.parent / PROGRAMS).write_text(told(course.accounts), encoding="utf-8")
    return Recording.open(path), course


def key_of(setup: Setup) -> str:
    """Returns a hash of all that decides about the run, machine excepted."""
    plain = setup.scenario.plain()
    text = json.dumps(
        [plain, dict(setup.files), __version__], sort_keys=True, default=str
    )
    return hashlib.sha256(text.encode()).hexdigest()
