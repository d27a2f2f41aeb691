"""How a run came out, and the files it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from playground import __version__
from playground.checks import CheckResult, Verdict
from playground.errors import ExitCode
from playground.plants.departures import DEFAULT_SHARE, Departures
from playground.quantity import say_seconds
from playground.run.guest import Account

RECORDING = "run.parquet"
RESOLVED = "scenario.resolved.yaml"
RESULT = "result.json"
PROGRAMS = "programs.jsonl"
"""What the programs of a scenario printed, and what was found about them."""
REPORT = "report.html"
BASELINE = "baseline"
"""Folder, in that of the run, of the run it is compared with."""

RunVerdict = Literal["inconclusive"] | Verdict
VERDICTS: tuple[RunVerdict, ...] = ("fail", "inconclusive", "untested", "pass")
"""Of a run, the worst first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KpiResult:
    """How a KPI came out.

    Attributes:
        name: Of the KPI.
        value: None where there was nothing to compute it from.
        unit: Of the value.
        about: A few words for people.
        baseline: The same figure of the baseline, where there is one.
    """

    name: str
    value: float | None
    unit: str
    about: str = ""
    baseline: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a run came out.

    Attributes:
        scenario: Its name.
        verdict: ``inconclusive`` if the plant left what it knows for too long; else
            ``fail`` if a check failed, ``untested`` if one never came to bear, and
            ``pass`` otherwise.
        checks: Every check, limits of KPIs included.
        kpis: Every KPI.
        events: When each event of the scenario happened, seconds, and what it was.
        sha256: Of the message log; equal runs have equal hashes.
        messages: How many were published.
        duration_s: Seconds of plant time.
        wall_s: Seconds it took; never part of a comparison.
        seed: Of the run.
        folder: Where it was written.
        transport: Where the parts met.
        lateness_s: Wall seconds by which the events of a realtime run were late:
            ``p50``, ``p99`` and ``max``; None in virtual time.
        departures: How often the plant left its envelope after the warm-up; None
            if it has none.
        allowed_share: Share of the steps that may be outside.
        doubts: Why the run decides nothing; empty if it does.
        notes: What a reader should know about the plant, and about programs.
        programs: What each program left behind; what it printed is in the file
            ``programs.jsonl``.
    """

    scenario: str
    verdict: RunVerdict
    checks: tuple[CheckResult, ...]
    kpis: tuple[KpiResult, ...]
    sha256: str
    messages: int
    duration_s: float
    wall_s: float
    seed: int
    folder: Path
    events: tuple[tuple[float, str], ...] = ()
    transport: str = "local"
    lateness_s: Mapping[str, float] | None = None
    departures: Departures | None = None
    allowed_share: float = DEFAULT_SHARE
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    programs: tuple[Account, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """What a command answers to the shell."""
        return {
            "pass": ExitCode.GOOD,
            "fail": ExitCode.NOT_SO,
            "untested": ExitCode.UNDECIDED,
            "inconclusive": ExitCode.UNDECIDED,
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
        if self.lateness_s is not None:
            late = {name: f"{1e3 * s:.1f} ms" for name, s in self.lateness_s.items()}
            lines.append(
                f"events late by {late['p50']} (half of them), at most {late['p99']} "
                f"(99 %), {late['max']} (all)"
            )
        lines.extend(f"  ????  {doubt}" for doubt in self.doubts)
        lines.extend(f"  note: {note}" for note in self.notes)
        for check in self.checks:
            margin = f"margin {figure(check.margin, check.unit)}"
            parts = [check.name] if check.margin is None else [check.name, margin]
            if check.worst_s is not None and check.verdict == "fail":
                parts.append(f"worst at {say_seconds(check.worst_s)}")
            if check.detail:
                parts.append(check.detail)
            lines.append(f"  {sign[check.verdict]}  {'; '.join(parts)}")
        seen = self.departures
        if seen is not None and seen.outside and not self.doubts:
            lines.append(f"  {seen.describe()}")
        width = max((len(kpi.name) for kpi in self.kpis), default=0)
        lines.extend(
            f"  {kpi.name:<{width}}  {figure(kpi.value, kpi.unit)}"
            + (
                f"  (baseline {figure(kpi.baseline, kpi.unit)})"
                if kpi.baseline is not None
                else ""
            )
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
            "events": [{"at_s": at_s, "text": text} for at_s, text in self.events],
            "transport": self.transport,
            "lateness_s": self.lateness_s,
            "envelope": self._envelope(),
            "doubts": list(self.doubts),
            "notes": list(self.notes),
            "programs": [program.plain() for program in self.programs],
            "wall_s": self.wall_s,
            "version": __version__,
        }

    def _envelope(self) -> dict[str, Any] | None:
        seen = self.departures
        if seen is None:
            return None
        return {
            "steps": seen.steps,
            "outside": seen.outside,
            "allowed_share": self.allowed_share,
            "first_s": seen.first_s,
            "signals": dict(seen.signals),
        }


def figure(value: float | None, unit: str | None) -> str:
    """Renders a number and its unit for people."""
    if value is None:
        return "–"
    return f"{value:.4g}" + ("" if unit in (None, "1") else f" {unit}")
