"""Run a scenario: the one place where all parts meet.

Plant, controllers and disturbances meet on a `LocalBus` in SimPy time; what
they publish is a recording like any other, and checks and KPIs are judged on
that recording. Nothing but the scenario decides what is in it: no wall clock, no
machine, no order of a set, so equal scenarios give equal SHA-256.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import math
import shutil
import tempfile
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from playground import __version__
from playground.bus import Connection, LocalBus
from playground.checks import Check, CheckResult, Sightings, Verdict
from playground.clock import Phase, VirtualClock
from playground.controllers.loop import ControlLoop
from playground.errors import ExitCode, PlaygroundError
from playground.kpis import Limit
from playground.message import Message
from playground.plants.device import Device
from playground.quantity import say_seconds
from playground.recording import Recording, RecordingWriter
from playground.scenario import Disturbance, Scenario, Setup, dump, moved
from playground.trajectory import Traces

RECORDING = "run.parquet"
RESOLVED = "scenario.resolved.yaml"
RESULT = "result.json"
REPORT = "report.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class KpiResult:
    """How a KPI came out.

    Attributes:
        name: Of the KPI.
        value: None where there was nothing to compute it from.
        unit: Of the value.
        about: A few words for people.
    """

    name: str
    value: float | None
    unit: str
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a run came out.

    Attributes:
        scenario: Its name.
        verdict: ``fail`` if a check failed, else ``untested`` if one never came
            to bear, else ``pass``.
        checks: Every check, limits of KPIs included.
        kpis: Every KPI.
        sha256: Of the message log; equal runs have equal hashes.
        messages: How many were published.
        duration_s: Seconds of plant time.
        wall_s: Seconds it took; never part of a comparison.
        seed: Of the run.
        folder: Where it was written.
    """

    scenario: str
    verdict: Verdict
    checks: tuple[CheckResult, ...]
    kpis: tuple[KpiResult, ...]
    sha256: str
    messages: int
    duration_s: float
    wall_s: float
    seed: int
    folder: Path

    @property
    def exit_code(self) -> ExitCode:
        """What a command answers to the shell."""
        return {
            "pass": ExitCode.GOOD,
            "fail": ExitCode.NOT_SO,
            "untested": ExitCode.UNDECIDED,
        }[self.verdict]

    @property
    def recording(self) -> Path:
        """The recording of the run."""
        return self.folder / RECORDING

    def lines(self) -> list[str]:
        """Returns it as lines for a terminal."""
        sign = {"pass": "pass", "fail": "FAIL", "untested": "????"}
        lines = [
            f"{self.scenario}: {self.verdict.upper()}",
            f"{say_seconds(self.duration_s)} of plant time in {self.wall_s:.2f} s, "
            f"{self.messages:,} messages, seed {self.seed}",
        ]
        for check in self.checks:
            margin = f"margin {_figure(check.margin, check.unit)}"
            parts = [check.name] if check.margin is None else [check.name, margin]
            if check.worst_s is not None and check.verdict == "fail":
                parts.append(f"worst at {say_seconds(check.worst_s)}")
            if check.detail:
                parts.append(check.detail)
            lines.append(f"  {sign[check.verdict]}  {'; '.join(parts)}")
        width = max((len(kpi.name) for kpi in self.kpis), default=0)
        lines.extend(
            f"  {kpi.name:<{width}}  {_figure(kpi.value, kpi.unit)}"
            for kpi in self.kpis
        )
        lines.append(f"sha256 {self.sha256}")
        return lines

    def plain(self) -> dict[str, Any]:
        """Returns it as it stands in ``result.json``."""
        return {
            "scenario": self.scenario,
            "verdict": self.verdict,
            "sha256": self.sha256,
            "messages": self.messages,
            "duration_s": self.duration_s,
            "seed": self.seed,
            "checks": [asdict(check) for check in self.checks],
            "kpis": [asdict(kpi) for kpi in self.kpis],
            "wall_s": self.wall_s,
            "version": __version__,
        }


def _figure(value: float | None, unit: str | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" + ("" if unit in (None, "1") else f" {unit}")


def run(scenario: Scenario, *, out: Path | str | None = None) -> Result:
    """Runs a scenario in virtual time on the local bus.

    Args:
        scenario: What to run.
        out: Folder of the results, by default ``runs/NAME``. It is written as
            a whole or not at all; results of an earlier run are replaced.

    Raises:
        DocumentError: The scenario is wrong.
        PlaygroundError: The folder holds something else.
    """
    setup = scenario.prepare()
    folder = Path("runs") / scenario.name if out is None else Path(out)
    check_folder(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        half = Path(
            tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent.resolve())
        )
    except OSError as error:
        raise PlaygroundError(
            f"{folder} cannot be written: {error.strerror or error}.",
            "name a folder in a place that you may write to",
        ) from error
    try:
        half.chmod(0o755)
        result = _run_into(setup, half, folder)
        _put(half, folder)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise
    return result


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


def _run_into(setup: Setup, half: Path, folder: Path) -> Result:
    scenario = setup.scenario
    resolved = moved(scenario, folder.resolve())
    began = time.perf_counter()
    metadata = {
        "start_ns": setup.start_ns,
        "end_ns": setup.start_ns + round(setup.duration_s * 1e9),
        "scenario": scenario.plain(),
        "files": dict(setup.files),
        "key": key_of(setup),
        "session": "simulated",
    }
    with RecordingWriter(half / RECORDING, metadata=metadata, journal=False) as writer:
        simulate(setup, writer)
    recording = Recording.open(half / RECORDING)
    wall_s = time.perf_counter() - began
    checks, kpis = judge(setup, recording)
    result = Result(
        scenario=scenario.name,
        verdict=verdict_of(checks),
        checks=checks,
        kpis=kpis,
        sha256=recording.sha256,
        messages=recording.count,
        duration_s=setup.duration_s,
        wall_s=wall_s,
        seed=scenario.seed,
        folder=folder,
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


def key_of(setup: Setup) -> str:
    """Returns a hash of all that decides about the run, machine excepted."""
    plain = setup.scenario.plain()
    text = json.dumps(
        [plain, dict(setup.files), __version__], sort_keys=True, default=str
    )
    return hashlib.sha256(text.encode()).hexdigest()


# -- simulating --------------------------------------------------------------


_RECORDED = ("publish", "will")


class _Log:
    """Takes what the bus shows and hands publications and wills to the writer."""

    def __init__(self, writer: RecordingWriter) -> None:
        self._writer = writer
        self.taken: list[Message] = []
        self.observe = self.taken.append

    def flush(self) -> None:
        self._writer.extend(
            [message for message in self.taken if message.kind in _RECORDED]
        )
        self.taken.clear()


def simulate(setup: Setup, writer: RecordingWriter) -> None:
    """Lets the parts meet until the run is over; all they publish is written."""
    scenario = setup.scenario
    clock = VirtualClock(setup.start_ns)
    bus = LocalBus(clock)
    log = _Log(writer)
    bus.observe(log.observe)
    Device(setup.plant, bus, clock, seed=scenario.seed)
    for number, (client_id, controller) in enumerate(setup.controllers):
        ControlLoop(
            controller,
            setup.signals,
            bus,
            clock,
            seed=_seed(scenario.seed, number),
            client_id=client_id,
        )
    outside = bus.connect("scenario")
    _set_initial(setup, outside)
    for disturbance in setup.disturbances:
        clock.process(_disturb(disturbance, outside, clock, setup.duration_s))
    # A million messages are not kept in memory until the end.
    clock.every(600.0, log.flush, phase=Phase.OBSERVER)
    with _rare_collections():
        clock.run(until=setup.duration_s)
    log.flush()


@contextlib.contextmanager
def _rare_collections() -> Iterator[None]:
    """Has the garbage collector look less often.

    A run makes millions of tuples and no cycles; looking through them again and
    again takes a tenth of the time.
    """
    before = gc.get_threshold()
    gc.set_threshold(200_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _seed(seed: int, number: int) -> int:
    """Returns a seed of its own for each part, the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "little")


def _set_initial(setup: Setup, outside: Connection) -> None:
    for signal, value in setup.initial:
        outside.publish(signal.topic, signal.encode(value))


def _disturb(
    disturbance: Disturbance,
    outside: Connection,
    clock: VirtualClock,
    duration_s: float,
) -> Generator[Any, Any, None]:
    table, signal = disturbance.table, disturbance.signal
    if disturbance.period_s:
        count = math.ceil(duration_s / disturbance.period_s)
        instants = np.arange(count, dtype=np.float64) * disturbance.period_s
    else:
        instants = np.concatenate([[0.0], table.times_s[table.times_s > 0]])
    said: bytes | None = None
    values = table.at(instants)
    for at_s, value in zip(instants.tolist(), values.tolist(), strict=True):
        if at_s >= duration_s:
            return
        yield clock.at(at_s, phase=Phase.DISTURBANCE)
        payload = signal.encode(value)
        if payload != said:
            said = payload
            outside.publish(signal.topic, payload)


# -- judging -----------------------------------------------------------------


def judge(
    setup: Setup, recording: Recording
) -> tuple[tuple[CheckResult, ...], tuple[KpiResult, ...]]:
    """Judges a recording of the scenario, from hardware or from a run."""
    kpis = tuple(setup.kpis.values())
    traces = Traces.of(
        recording,
        setup.signals,
        [n for check in setup.checks for n in check.signals]
        + [n for kpi in kpis for n in kpi.signals],
        origin_ns=setup.start_ns,
        end_s=setup.duration_s,
    )
    span = (setup.warm_up_s, setup.duration_s)
    checks = [_judged(check, traces, recording, setup) for check in setup.checks]
    measured = [
        KpiResult(
            name=kpi.name,
            value=kpi.of(traces.trajectory(kpi.signals, *span)),
            unit=kpi.unit,
            about=kpi.about,
        )
        for kpi in kpis
    ]
    values = {kpi.name: kpi for kpi in measured}
    checks.extend(judge_limit(one, values[one.kpi]) for one in setup.limits)
    return tuple(checks), tuple(measured)


def _judged(
    check: Check, traces: Traces, recording: Recording, setup: Setup
) -> CheckResult:
    sightings = None
    if check.topics is not None:
        start_ns = setup.start_ns + round(setup.warm_up_s * 1e9)
        end_ns = setup.start_ns + round(setup.duration_s * 1e9)
        table = recording.table(
            topics=(check.topics,), start_ns=start_ns, end_ns=end_ns
        )
        ticks = table.column("time").cast(pa.int64()).to_numpy() - setup.start_ns
        sightings = Sightings(
            times_s=ticks / 1e9, start_s=setup.warm_up_s, end_s=setup.duration_s
        )
    trajectory = traces.trajectory(check.signals, setup.warm_up_s, setup.duration_s)
    if not check.sampled:
        trajectory = trajectory.changes()
    return check.judge(trajectory, sightings)


def judge_limit(limit: Limit, kpi: KpiResult) -> CheckResult:
    """Judges a KPI against its limit."""
    if kpi.value is None:
        return CheckResult(
            name=limit.text, verdict="untested", detail="nothing to compute it from"
        )
    value, allowed = kpi.value, limit.value
    good = {
        "<=": value <= allowed,
        "<": value < allowed,
        ">=": value >= allowed,
        ">": value > allowed,
        "==": value == allowed,
        "!=": value != allowed,
    }[limit.operator]
    margin = None
    if limit.operator[0] in "<>":
        margin = allowed - value if limit.operator[0] == "<" else value - allowed
    return CheckResult(
        name=limit.text,
        verdict="pass" if good else "fail",
        margin=margin,
        unit=kpi.unit if margin is not None else None,
        detail=f"{kpi.name} is {value:.6g}{'' if kpi.unit == '1' else ' ' + kpi.unit}",
    )


def verdict_of(checks: tuple[CheckResult, ...]) -> Verdict:
    """Returns the verdict of a run: the worst of its checks."""
    if any(check.verdict == "fail" for check in checks):
        return "fail"
    if any(c.verdict == "untested" and not c.may_be_untested for c in checks):
        return "untested"
    return "pass"
