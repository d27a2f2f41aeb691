"""Tell a result to other programs: JUnit for CI, Markdown for pull requests."""

from __future__ import annotations

from xml.etree import ElementTree as ET  # written, never parsed

from playground.quantity import say_seconds
from playground.run.result import Result, figure


def junit(result: Result) -> str:
    """Returns the result as JUnit XML: a test case per check."""
    counts = [check.verdict for check in result.checks]
    suite = ET.Element(
        "testsuite",
        name=result.scenario,
        tests=str(len(counts) + bool(result.doubts)),
        failures=str(counts.count("fail")),
        skipped=str(counts.count("untested")),
        errors="1" if result.doubts else "0",
        time=f"{result.wall_s:.3f}",
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in (
        ("sha256", result.sha256),
        ("seed", result.seed),
        *((kpi.name, figure(kpi.value, kpi.unit)) for kpi in result.kpis),
    ):
        ET.SubElement(properties, "property", name=name, value=str(value))
    if result.doubts:
        # An error and not a skipped test: what says "skipped" is read as green.
        case = ET.SubElement(
            suite, "testcase", name="envelope", classname=result.scenario, time="0"
        )
        text = "; ".join(result.doubts)
        ET.SubElement(case, "error", message=f"inconclusive: {text}").text = text
    for check in result.checks:
        case = ET.SubElement(
            suite, "testcase", name=check.name, classname=result.scenario, time="0"
        )
        text = _told(check.margin, check.unit, check.worst_s, check.detail)
        if check.verdict == "fail":
            ET.SubElement(case, "failure", message=text).text = text
        elif check.verdict == "untested":
            ET.SubElement(case, "skipped", message=f"untested: {text}")
    ET.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(
        suite, encoding="unicode"
    )


def markdown(result: Result) -> str:
    """Returns the result as GitHub-style Markdown."""
    signs = {"pass": "✅", "fail": "❌", "untested": "❔", "inconclusive": "❔"}
    lines = [
        f"### {signs[result.verdict]} {_cell(result.scenario)}: {result.verdict}",
        "",
        f"{say_seconds(result.duration_s)} of plant time, {result.messages:,} messages, "
        f"seed {result.seed}, log `{result.sha256[:16]}…`",
    ]
    lines += [f"\n**{doubt}**" for doubt in result.doubts]
    lines += [f"\nnote: {note}" for note in result.notes]
    if result.checks:
        lines += ["", "| | check | margin | |", "|---|---|--:|---|"]
        lines += [
            f"| {signs[check.verdict]} | {_cell(check.name)} "
            f"| {figure(check.margin, check.unit)} "
            f"| {_cell(_told(None, None, check.worst_s, check.detail))} |"
            for check in result.checks
        ]
    if result.kpis:
        compared = any(kpi.baseline is not None for kpi in result.kpis)
        lines += [
            "",
            "| figure | value | baseline |" if compared else "| figure | value |",
        ]
        lines.append("|---|--:|--:|" if compared else "|---|--:|")
        lines += [
            f"| {_cell(kpi.name)} | {figure(kpi.value, kpi.unit)} |"
            + (f" {figure(kpi.baseline, kpi.unit)} |" if compared else "")
            for kpi in result.kpis
        ]
    return "\n".join(lines) + "\n"


def _told(
    margin: float | None, unit: str | None, at_s: float | None, detail: str
) -> str:
    parts = [] if margin is None else [f"margin {figure(margin, unit)}"]
    if at_s is not None:
        parts.append(f"at {say_seconds(at_s)}")
    return "; ".join([*parts, detail] if detail else parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
