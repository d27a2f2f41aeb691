"""Judge a recording of a scenario, from hardware or from a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playground.checks import Check, CheckResult, Sightings
from playground.kpis import Limit
from playground.recording import Recording
from playground.run.result import KpiResult, RunVerdict
from playground.scenario import Setup
from playground.trajectory import Traces


def judge(
    setup: Setup,
    recording: Recording,
    *,
    baseline: Mapping[str, float | None] | None = None,
) -> tuple[tuple[CheckResult, ...], tuple[KpiResult, ...]]:
    """Judges a recording of the scenario, from hardware or from a run.

    Args:
        setup: Of the scenario.
        recording: Its start is second 0 if it is of hardware.
        baseline: KPIs of the run to compare with, by name.
    """
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
            baseline=(baseline or {}).get(kpi.name),
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

        def messages(topics: str) -> pa.Table:
            return recording.table(topics=(topics,), start_ns=start_ns, end_ns=end_ns)

        def times_s(table: pa.Table) -> npt.NDArray[np.float64]:
            ticks = table.column("time").cast(pa.int64()).to_numpy()
            return np.asarray((ticks - setup.start_ns) / 1e9)

        table = messages(check.topics)
        sightings = Sightings(
            times_s=times_s(table),
            start_s=setup.warm_up_s,
            end_s=setup.duration_s,
            after_s=times_s(messages(check.after)) if check.after else np.zeros(0),
            payloads=table.column("payload").to_pylist() if check.payloads else (),
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
    if limit.relative:
        if kpi.baseline is None:
            return CheckResult(
                name=limit.text, verdict="untested", detail="the baseline has no figure"
            )
        allowed *= kpi.baseline
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


def verdict_of(
    checks: tuple[CheckResult, ...], doubts: Sequence[str] = ()
) -> RunVerdict:
    """Returns the verdict of a run: the worst of its checks, unless it is in doubt.

    Args:
        checks: What was found.
        doubts: Why the run cannot be believed, whatever was found.
    """
    if doubts:
        return "inconclusive"
    if any(check.verdict == "fail" for check in checks):
        return "fail"
    if any(c.verdict == "untested" and not c.may_be_untested for c in checks):
        return "untested"
    return "pass"
