"""The report of a sweep: verdicts, a heat map over the matrix, parallel coordinates.

One HTML file that needs no network, made of nothing but the table of the sweep.
"""

from __future__ import annotations

import contextlib
import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from bokeh.embed import components
from bokeh.layouts import column
from bokeh.models import (
    ColumnDataSource,
    CustomJS,
    FactorRange,
    HoverTool,
    LinearColorMapper,
    Range1d,
)
from bokeh.models.annotations import ColorBar, Label
from bokeh.models.widgets import Select
from bokeh.palettes import Cividis256
from bokeh.plotting import figure

from playground.errors import PlaygroundError
from playground.quantity import split_quantity
from playground.report import whole_page
from playground.run.result import VERDICTS

REPORT = "sweep.html"
MOST_LINES = 3000
"""So many runs are drawn as lines; the failed ones first."""
MOST_ROWS = 200
"""So many runs are listed; the failed ones first."""
_COLOURS = {
    "pass": "#1a7f37",
    "fail": "#b42318",
    "untested": "#9a6700",
    "inconclusive": "#6e7781",
}
_FAILED = "share of runs that failed"
Row = Mapping[str, Any]


def write_sweep_report(folder: Path | str, *, again: str = "") -> Path:
    """Writes ``sweep.html`` into the folder of a sweep.

    Args:
        folder: Where `playground.sweep.sweep` wrote.
        again: The command line that repeats it.

    Raises:
        PlaygroundError: The folder holds no sweep.
    """
    folder = Path(folder)
    table = folder / "sweep.parquet"
    if not table.is_file():
        raise PlaygroundError(
            f"{folder} holds no sweep: there is no {table.name}.",
            "name a folder that 'playground sweep' wrote",
        )
    rows = pq.read_table(table).to_pylist()
    target = folder / REPORT
    half = target.with_suffix(".html.part")
    half.write_text(render(rows, folder.name, again), encoding="utf-8")
    half.replace(target)
    return target


def render(rows: Sequence[Row], name: str, again: str) -> str:
    """Returns the report of a sweep as HTML.

    Args:
        rows: Of its table.
        name: Of the sweep.
        again: The command line that repeats it.
    """
    counts = {v: sum(row["verdict"] == v for row in rows) for v in _COLOURS}
    verdict = next((v for v in VERDICTS if counts[v]), "pass")
    models: dict[str, Any] = {"lines": _parallel(rows)}
    heat = _heat_map(rows)
    if heat is not None:
        models["heat"] = heat
    script, divs = components(models)
    said = ", ".join(f"{count} {v}" for v, count in counts.items())
    sections = [
        f'<header class="{verdict}"><h1>{_text(name)}: {verdict}</h1>'
        f"<p>{len(rows)} runs: {said}</p></header>"
    ]
    if heat is not None:
        sections += [
            "<h2>Over the matrix</h2>",
            "<p class=hint>A margin is the smallest, a figure the mean of the runs of "
            "a field.</p>",
            divs["heat"],
        ]
    sections += [
        "<h2>Every run</h2>",
        "<p class=hint>A line is a run; each axis runs from its smallest to its "
        "largest value. A click on a verdict hides its runs.</p>",
        divs["lines"],
        "<h2>Runs</h2>",
        _listed(rows),
    ]
    if again:
        sections += ["<h2>Again</h2>", f"<pre>{_text(again)}</pre>"]
    parts = ("bokeh", "bokeh-widgets")
    return whole_page(f"{verdict}: {name}", sections, script, parts=parts)


def _text(value: Any) -> str:
    return html.escape(str(value))


def _number(written: Any) -> float | None:
    """Returns the number in ``45 degC``; None for what is no number."""
    if isinstance(written, int | float):
        return float(written)
    try:
        return split_quantity(str(written))[0]
    except PlaygroundError:
        return None


def _short(written: Any) -> str:
    text = str(written)
    number, _, unit = text.partition(" ")
    with contextlib.suppress(ValueError):
        # A share of chance has many digits; four are enough to tell it.
        text = f"{float(number):.4g} {unit}".rstrip() if "." in number else text
    return text if len(text) <= 24 else f"{text[:23]}…"


def _said(rows: Sequence[Row], name: str) -> list[Any]:
    """Returns the different values of a column, in order."""
    seen = dict.fromkeys(row[name] for row in rows if row[name] is not None)
    numbers = {value: _number(value) for value in seen}
    if all(number is not None for number in numbers.values()):
        return sorted(seen, key=lambda value: numbers[value] or 0.0)
    return list(seen)


def _varied(rows: Sequence[Row]) -> list[str]:
    """Returns the columns of what was changed that take more than one value."""
    names = [name for name in rows[0] if name.startswith("with.")] if rows else []
    return [name for name in names if len(_said(rows, name)) > 1]


def _measured(rows: Sequence[Row]) -> list[str]:
    names = [n for n in rows[0] if n.startswith(("margin.", "kpi."))] if rows else []
    return [n for n in names if any(row[n] is not None for row in rows)]


def _of_cells(rows: Sequence[Row]) -> list[str]:
    """Returns the axes of the matrix: what is the same in all runs of a cell."""
    axes = []
    for name in _varied(rows):
        by_cell: dict[str, set[Any]] = {}
        for row in rows:
            by_cell.setdefault(row["cell"], set()).add(row[name])
        if len(by_cell) > 1 and all(len(values) == 1 for values in by_cell.values()):
            axes.append(name)
    return axes


def _heat_map(rows: Sequence[Row]) -> Any:
    """Returns the heat map over the first two axes; None where there is no axis."""
    axes = _of_cells(rows)
    if not axes:
        return None
    across = axes[0]
    up = axes[1] if len(axes) > 1 else "run"
    fields: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        fields.setdefault((_short(row[across]), _short(row[up])), []).append(row)
    quantities = [_FAILED, *_measured(rows)]
    data: dict[str, Any] = {
        "x": [x for x, _ in fields],
        "y": [y for _, y in fields],
        "runs": [len(here) for here in fields.values()],
    }
    for number, name in enumerate(quantities):
        data[f"q{number}"] = [_summary(here, name) for here in fields.values()]
    # Where all went well, how nearly it did not says more.
    shown = "q0" if any(data["q0"]) or len(quantities) == 1 else "q1"
    data["value"] = list(data[shown])
    known = [value for value in data[shown] if not math.isnan(value)]
    low, high = (0.0, 1.0) if shown == "q0" else (min(known), max(known))
    source = ColumnDataSource(data)
    mapper = LinearColorMapper(
        palette=list(reversed(Cividis256)),
        low=low,
        high=high if high > low else low + 1,
        nan_color="#dddddd",
    )
    ups = _said(rows, up)
    plot = figure(
        x_range=FactorRange(factors=[_short(v) for v in _said(rows, across)]),
        y_range=FactorRange(factors=[_short(value) for value in ups]),
        height=min(700, 140 + 36 * len(ups)),
        sizing_mode="stretch_width",
        x_axis_label=across.removeprefix("with."),
        y_axis_label=up.removeprefix("with."),
        tools="save",
        toolbar_location="right",
        name="heat map",
    )
    plot.toolbar.logo = None
    plot.grid.grid_line_color = None
    plot.rect(
        "x",
        "y",
        width=1,
        height=1,
        source=source,
        line_color="white",
        fill_color={"field": "value", "transform": mapper},
    )
    plot.add_tools(
        HoverTool(tooltips=[("", "@x, @y"), ("value", "@value"), ("runs", "@runs")])
    )
    plot.add_layout(ColorBar(color_mapper=mapper), "right")
    options: list[Any] = [(f"q{n}", name) for n, name in enumerate(quantities)]
    choice = Select(
        title="Colour",
        value=shown,
        options=options,
    )
    choice.js_on_change(
        "value",
        CustomJS(
            args={"source": source, "mapper": mapper},
            code="""
            const column = Array.from(source.data[this.value]);
            const known = column.filter((v) => Number.isFinite(v));
            source.data = {...source.data, value: column};
            const low = this.value == "q0" ? 0 : Math.min(...known);
            const high = this.value == "q0" ? 1 : Math.max(...known);
            mapper.low = low;
            mapper.high = high > low ? high : low + 1;
            """,
        ),
    )
    return column([choice, plot], sizing_mode="stretch_width")


def _summary(rows: Sequence[Row], name: str) -> float:
    if name == _FAILED:
        return float(np.mean([row["verdict"] == "fail" for row in rows]))
    values = [row[name] for row in rows if row[name] is not None]
    if not values:
        return math.nan
    return float(min(values) if name.startswith("margin.") else np.mean(values))


def _parallel(rows: Sequence[Row]) -> Any:
    """Returns parallel coordinates (Inselberg, 1985) of what was varied and found."""
    names = [*_varied(rows), *_measured(rows)]
    drawn = sorted(rows, key=lambda row: row["verdict"] != "fail")[:MOST_LINES]
    plot = figure(
        height=460,
        sizing_mode="stretch_width",
        x_range=Range1d(start=-0.4, end=max(len(names) - 1, 1) + 0.4),
        y_range=Range1d(start=-0.28, end=1.12),
        tools="xpan,xwheel_zoom,reset,save",
        active_scroll=None,
        name="parallel coordinates",
    )
    plot.toolbar.logo = None
    plot.grid.grid_line_color = None
    plot.yaxis.visible = False
    plot.xaxis.visible = False
    scaled: list[list[float]] = []
    for at, name in enumerate(names):
        said = _said(rows, name)
        numbers = {value: _number(value) for value in said}
        if any(number is None for number in numbers.values()):
            numbers = {value: float(place) for place, value in enumerate(said)}
        span = [number for number in numbers.values() if number is not None]
        low, high = min(span), max(span)
        width = (high - low) or 1.0
        scaled.append(
            [
                math.nan
                if row[name] is None
                else ((numbers[row[name]] or 0.0) - low) / width
                for row in drawn
            ]
        )
        plot.line([at, at], [0, 1], color="#444444")
        for y, value, base in ((1.0, said[-1], "bottom"), (0.0, said[0], "top")):
            text = _short(value)
            plot.add_layout(_label(at, y, text, base, 3 if y else -3))
        # Neighbours stand at two heights, so that long names do not meet.
        title = name.partition(".")[2]
        title = title if len(title) <= 40 else f"{title[:39]}…"
        plot.add_layout(_label(at, -0.1 - 0.07 * (at % 2), title, "top", 0))
    for verdict, colour in _COLOURS.items():
        chosen = [n for n, row in enumerate(drawn) if row["verdict"] == verdict]
        if not chosen:
            continue
        source = ColumnDataSource(
            {
                "xs": [list(range(len(names))) for _ in chosen],
                "ys": [[axis[n] for axis in scaled] for n in chosen],
                "number": [drawn[n]["number"] for n in chosen],
                "cell": [drawn[n]["cell"] for n in chosen],
                "seed": [drawn[n]["seed"] for n in chosen],
            }
        )
        plot.multi_line(
            "xs",
            "ys",
            source=source,
            color=colour,
            line_alpha=max(0.15, min(0.8, 30 / len(drawn))),
            line_width=1.5,
            legend_label=f"{verdict} ({len(chosen)})",
        )
    plot.add_tools(
        HoverTool(
            tooltips=[("run", "@number"), ("cell", "@cell"), ("seed", "@seed")],
            line_policy="interp",
        )
    )
    if plot.legend:
        plot.legend.click_policy = "hide"
        plot.add_layout(plot.legend[0], "above")
        plot.legend.orientation = "horizontal"
    return plot


def _label(x: float, y: float, text: str, baseline: Any, shift: int) -> Label:
    return Label(
        x=x,
        y=y,
        text=text,
        text_font_size="11px",
        text_align="center",
        text_baseline=baseline,
        y_offset=shift,
    )


def _listed(rows: Sequence[Row]) -> str:
    varied = [name for name in _varied(rows) if name != "with.seed"]
    margins = [name for name in _measured(rows) if name.startswith("margin.")]
    head = ["run", "cell", "seed", "verdict", "worst margin", "recording"]
    head[3:3] = [name.removeprefix("with.") for name in varied]
    order = {verdict: place for place, verdict in enumerate(VERDICTS)}
    lines = []
    for row in sorted(rows, key=lambda row: order[row["verdict"]])[:MOST_ROWS]:
        known = [(row[n], n) for n in margins if row[n] is not None]
        worst = ""
        if known:
            value, name = min(known)
            worst = f"{value:.4g} ({name.removeprefix('margin.')})"
        cells = [row["number"], row["cell"], row["seed"]]
        cells += [_short(row[name]) for name in varied]
        told = "".join(f"<td>{_text(cell)}</td>" for cell in cells)
        lines.append(
            f"<tr>{told}<td class=verdict-{row['verdict']}>{row['verdict']}</td>"
            f"<td>{_text(worst)}</td><td>{_text(row['path'] or '')}</td></tr>"
        )
    more = len(rows) - len(lines)
    names = "".join(f"<th>{_text(name)}</th>" for name in head)
    return (
        f"<table><thead><tr>{names}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
        + (f"<p>{more} more are in sweep.parquet.</p>" if more > 0 else "")
    )
