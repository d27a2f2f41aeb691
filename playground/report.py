"""The report of a run: one HTML file that needs nothing else, no network.

Verdict first, then checks, KPIs, what went wrong and where, and every signal on
one time axis.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bokeh.embed import components
from bokeh.resources import Resources

from playground.errors import FileFormatError, PlaygroundError
from playground.plots import Plots
from playground.quantity import say_seconds
from playground.recording import Recording
from playground.run import RECORDING, REPORT, RESOLVED, RESULT
from playground.scenario import Setup, load_scenario
from playground.trajectory import Traces

WORST = 6
"""So many failed checks get a plot of their own."""
CLOSEST = 3
"""So many passed checks do."""
EXCERPT = 12
"""Messages shown on each side of a worst instant."""


def write_report(
    folder: Path | str, *, again: str = "", compare: Path | str | None = None
) -> Path:
    """Writes ``report.html`` into the folder of a run.

    Args:
        folder: Where `playground.run.run` wrote.
        again: The command line that repeats the run; by default one that runs
            the resolved scenario.
        compare: Folder of another run, laid over this one with dashed lines.

    Raises:
        PlaygroundError: The folder holds no run.
    """
    folder = Path(folder)
    result, setup, recording = _read(folder)
    other = None if compare is None else _read(Path(compare))
    again = again or f"playground run {folder / RESOLVED}"
    page = render(result, setup, recording, again, other=other)
    target = folder / REPORT
    half = target.with_suffix(".html.part")
    half.write_text(page, encoding="utf-8")
    half.replace(target)
    return target


_Run = tuple[Mapping[str, Any], Setup, Recording]


def _read(folder: Path) -> _Run:
    try:
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PlaygroundError(
            f"{folder} holds no run: there is no {RESULT}.",
            "name a folder that 'playground run' wrote",
        ) from error
    except ValueError as error:
        raise FileFormatError(f"{folder / RESULT} is damaged: {error}") from error
    setup = load_scenario(folder / RESOLVED).prepare()
    return result, setup, Recording.open(folder / RECORDING)


def _traces(setup: Setup, recording: Recording) -> Traces:
    return Traces.of(
        recording,
        setup.signals,
        list(setup.signals),
        origin_ns=setup.start_ns,
        end_s=setup.duration_s,
    )


def render(
    result: Mapping[str, Any],
    setup: Setup,
    recording: Recording,
    again: str,
    *,
    other: _Run | None = None,
) -> str:
    """Returns the report of a run as HTML.

    Args:
        result: As in ``result.json``.
        setup: Of its scenario.
        recording: Of the run.
        again: The command line that repeats it.
        other: Another run to compare with.
    """
    plots = Plots(
        setup,
        _traces(setup, recording),
        result.get("events", []),
        None if other is None else _traces(other[1], other[2]),
    )
    overview = plots.overview(result["checks"])
    told = [check for check in result["checks"] if check["worst_s"] is not None]
    failed = [check for check in told if check["verdict"] == "fail"][:WORST]
    passed = [check for check in told if check["verdict"] == "pass"]
    near = [check for check in passed if check["margin"] is not None][:CLOSEST]
    zoomed = [(check, plots.around(check)) for check in failed + near]
    models = {"overview": overview}
    models |= {f"worst{n}": plot for n, (_, plot) in enumerate(zoomed) if plot}
    script, divs = components(models)
    places = [
        _place(check, divs.get(f"worst{n}", ""), recording, setup)
        for n, (check, _) in enumerate(zoomed)
    ]
    scenario = setup.scenario
    verdict = result["verdict"]
    sections = [
        f'<header class="{verdict}"><h1>{_SIGNS[verdict]} {_text(scenario.name)}</h1>'
        f"<p>{_text(scenario.description)}</p><p>{_summary(result)}</p>"
        f"{_doubts(result)}</header>",
        "<h2>Checks</h2>",
        _checks(result["checks"]),
    ]
    if result["kpis"]:
        sections += ["<h2>Key figures</h2>", _kpis(result["kpis"])]
    if other is not None:
        sections += [
            f"<h2>Compared with {_text(other[0]['scenario'])}</h2>",
            _comparison(result, other[0]),
        ]
    if result.get("events"):
        sections += ["<h2>Events</h2>", _events(result["events"])]
    if failed:
        sections += ["<h2>What went wrong</h2>", *places[: len(failed)]]
    if near:
        sections += ["<h2>Where it was closest</h2>", *places[len(failed) :]]
    sections += [
        "<h2>Signals</h2>",
        "<p class=hint>Drag to pan, wheel to zoom; all plots move together. A click "
        "on a name in a legend hides it. Grey: warm-up; dotted: events; dashed: worst "
        "instants.</p>",
        divs["overview"],
        "<h2>Again</h2>",
        f"<pre>{_text(again)}</pre>",
        f"<p>Message log, SHA-256: <code>{_text(result['sha256'])}</code></p>",
    ]
    return whole_page(f"{verdict}: {scenario.name}", sections, script)


def whole_page(
    title: str,
    sections: Iterable[str],
    script: str,
    *,
    parts: Sequence[Any] = ("bokeh",),
) -> str:
    """Returns an HTML page that needs nothing else.

    Args:
        title: For the tab of the browser.
        sections: What stands on it, HTML.
        script: What draws the plots, from `bokeh.embed.components`.
        parts: Of Bokeh that it needs.
    """
    resources = Resources(mode="inline", components=list(parts), minified=True)
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title>"
        f"<style>{_STYLE}</style>\n{resources.render_js()}\n</head><body>"
        f"{''.join(sections)}\n{script}\n</body></html>\n"
    )


_SIGNS = {
    "pass": "✓ pass:",
    "fail": "✗ fail:",
    "untested": "? untested:",
    "inconclusive": "? inconclusive:",
}
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 1200px;
  padding: 1rem; color: #222; background: #fff; }
header { padding: .6rem 1.2rem; border-radius: 6px; color: #fff; }
header.pass { background: #1a7f37; } header.fail { background: #b42318; }
header.untested, header.inconclusive { background: #9a6700; }
h1 { font-size: 1.5rem; margin: .3rem 0; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .7rem; border-bottom: 1px solid #ddd;
  vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.verdict-pass { color: #1a7f37; font-weight: 600; }
.verdict-fail { color: #b42318; font-weight: 600; }
.verdict-untested, .verdict-inconclusive { color: #9a6700; font-weight: 600; }
.hint { color: #666; } pre, code { background: #f3f4f6; padding: .15rem .35rem;
  border-radius: 4px; overflow-wrap: anywhere; } pre { padding: .7rem; }
.excerpt { max-height: 16rem; overflow: auto; font-size: .85rem; }
tr.worst td { background: #fde8e6; }
"""


def _text(value: Any) -> str:
    return html.escape(str(value))


def _figure(value: float | None, unit: str | None) -> str:
    if value is None:
        return "–"
    return _text(f"{value:.5g}" + ("" if unit in (None, "1") else f" {unit}"))


def _summary(result: Mapping[str, Any]) -> str:
    return _text(
        f"{say_seconds(result['duration_s'])} of plant time in "
        f"{result['wall_s']:.2f} s, {result['messages']:,} messages, "
        f"seed {result['seed']}"
    )


def _doubts(result: Mapping[str, Any]) -> str:
    """Says why the run decides nothing, and what to know about its plant."""
    return "".join(
        f"<p>{kind}{_text(text)}</p>"
        for key, kind in (("doubts", "<b>In doubt:</b> "), ("notes", "Note: "))
        for text in result.get(key, ())
    )


def _checks(checks: Sequence[Mapping[str, Any]]) -> str:
    if not checks:
        return "<p>This scenario checks nothing.</p>"
    rows = []
    for check in checks:
        worst = "" if check["worst_s"] is None else say_seconds(check["worst_s"])
        rows.append(
            f"<tr><td class=verdict-{check['verdict']}>{check['verdict']}</td>"
            f"<td>{_text(check['name'])}</td>"
            f"<td class=number>{_figure(check['margin'], check['unit'])}</td>"
            f"<td class=number>{worst}</td><td>{_text(check['detail'])}</td></tr>"
        )
    return _table(("verdict", "check", "margin", "at", ""), rows)


def _kpis(kpis: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        f"<tr><td>{_text(kpi['name'])}</td>"
        f"<td class=number>{_figure(kpi['value'], kpi['unit'])}</td>"
        f"<td class=number>{_beside(kpi)}</td>"
        f"<td>{_text(kpi['about'])}</td></tr>"
        for kpi in kpis
    ]
    compared = any(kpi.get("baseline") is not None for kpi in kpis)
    return _table(("figure", "value", "baseline" if compared else "", ""), rows)


def _beside(kpi: Mapping[str, Any]) -> str:
    baseline = kpi.get("baseline")
    if baseline is None:
        return ""
    share = f" ({kpi['value'] / baseline:.1%})" if baseline and kpi["value"] else ""
    return _figure(baseline, kpi["unit"]) + share


def _comparison(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """Returns a table of what both runs have, and the difference."""
    rows = [
        _compared("verdict", ours["verdict"], theirs["verdict"], ""),
        _compared("message log", ours["sha256"][:16], theirs["sha256"][:16], ""),
    ]
    for kind, value, prefix in (
        ("checks", "margin", "margin of "),
        ("kpis", "value", ""),
    ):
        others = {entry["name"]: entry for entry in theirs[kind]}
        for entry in ours[kind]:
            other = others.get(entry["name"])
            if other is None:
                continue
            a, b, unit = entry[value], other[value], entry["unit"] or other["unit"]
            gap = "" if a is None or b is None else _figure(a - b, unit)
            row = (prefix + entry["name"], _figure(a, unit), _figure(b, unit), gap)
            rows.append(_compared(*row))
    return _table(("", "this run", "the other", "difference"), rows)


def _compared(name: str, ours: str, theirs: str, gap: str) -> str:
    cells = "".join(f"<td class=number>{cell}</td>" for cell in (ours, theirs, gap))
    return f"<tr><td>{_text(name)}</td>{cells}</tr>"


def _events(events: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        f"<tr><td class=number>{say_seconds(event['at_s'])}</td>"
        f"<td>{_text(event['text'])}</td></tr>"
        for event in events
    ]
    return _table(("at", "what happened"), rows)


def _table(head: Iterable[str], rows: Iterable[str]) -> str:
    names = "".join(f"<th>{_text(name)}</th>" for name in head)
    return (
        f"<table><thead><tr>{names}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _place(
    check: Mapping[str, Any], plot: str, recording: Recording, setup: Setup
) -> str:
    """Returns the worst instant of a check: a plot and the messages around it."""
    at_s, margin = check["worst_s"], check["margin"]
    if check["verdict"] == "fail":
        told = f"Worst at {say_seconds(at_s)}"
        if margin is not None:
            told += f", by {_figure(-margin, check['unit'])}"
    else:
        told = f"Closest at {say_seconds(at_s)}, {_figure(margin, check['unit'])} off"
    return (
        f"<h3>{_text(check['name'])}</h3><p>{told}. {_text(check['detail'])}</p>{plot}"
        f"<details><summary>Messages around it</summary><div class=excerpt>"
        f"{_excerpt(recording, setup, at_s)}</div></details>"
    )


def _excerpt(recording: Recording, setup: Setup, at_s: float) -> str:
    at_ns = setup.start_ns + round(at_s * 1e9)
    window_ns = 10**9
    # A quiet plant needs a wider window than one that speaks each second.
    while True:
        found = list(
            recording.messages(start_ns=at_ns - window_ns, end_ns=at_ns + window_ns)
        )
        if len(found) >= 2 * EXCERPT or window_ns > setup.duration_s * 1e9:
            break
        window_ns *= 4
    before = [m for m in found if m.time_ns < at_ns][-EXCERPT:]
    after = [m for m in found if m.time_ns >= at_ns][:EXCERPT]
    rows = []
    for message in before + after:
        payload = message.payload[:160].decode("utf-8", "backslashreplace")
        mark = " class=worst" if message.time_ns == at_ns else ""
        rows.append(
            f"<tr{mark}><td class=number>"
            f"{(message.time_ns - setup.start_ns) / 1e9:.3f}</td>"
            f"<td>{_text(message.client or '')}</td><td>{_text(message.topic)}</td>"
            f"<td><code>{_text(payload)}</code></td></tr>"
        )
    return _table(("s", "client", "topic", "payload"), rows)
