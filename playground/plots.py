"""The plots of a run: its signals over time, in a page that needs no network.

Long signals are thinned to the least and the greatest value of each of many short
spans, so nothing that stands out is lost. Who zooms in sees more: the page has most
samples, and draws those of the window anew.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import (
    ColumnDataSource,
    CrosshairTool,
    CustomJS,
    DatetimeTickFormatter,
    HoverTool,
    Range1d,
)
from bokeh.models.annotations import BoxAnnotation, Legend, Span
from bokeh.palettes import Category10
from bokeh.plotting import figure

from playground.scenario import Setup
from playground.signals import Signal
from playground.trajectory import Array, Traces

BUCKETS = 600
"""Spans of a plot, about two pixels each; each shows the least and the greatest value
in it. Twice as many look the same and take twice as long to move."""
MOST_SAMPLES = 600_000
"""So many samples a page has at most, for who zooms in; about 6 MB."""
PER_PANEL = 6
MOST_MARKS = 40
"""So many events are marked in the plots."""

_ZOOM = """
// While the window moves, few spans are drawn, and half a window on both sides; when
// it has come to rest, all.
const seen = axis.drawn ??= {from: axis.bounds[0], to: axis.bounds[1]};
if (seen.waits) return;
seen.waits = true;
requestAnimationFrame(() => {
  seen.waits = false;
  const width = axis.end - axis.start;
  const inside = seen.from <= axis.start && axis.end <= seen.to;
  if (seen.rests || !inside || seen.to - seen.from > 3 * width)
    draw(buckets / 3, width / 2);
  seen.rests = false;
  clearTimeout(seen.timer);
  seen.timer = setTimeout(() => {
    draw(buckets, (axis.end - axis.start) / 4);
    seen.rests = true;
  }, 200);
});

function draw(count, margin) {
  seen.from = axis.start - margin;
  seen.to = axis.end + margin;
  count *= (seen.to - seen.from) / (axis.end - axis.start);
  for (const [whole, drawn] of sources) {
    const {t, v} = whole.data;
    drawn.data = part(t, v, seen.from - origin, seen.to - origin, count);
  }
}

// As the function thin() of Python does: gaps, and of each span the least and greatest.
function part(t, v, from, to, count) {
  let lo = place(t, from) - 1, hi = place(t, to);
  lo = Math.max(lo, 0);
  hi = Math.min(hi, t.length - 1);
  const kept = [lo];
  const keep = (k) => { if (k > kept[kept.length - 1]) kept.push(k); };
  let bucket = 0, least = lo, greatest = lo;
  const close = () => {
    keep(Math.min(least, greatest));
    keep(Math.max(least, greatest));
  };
  const all = hi - lo <= 4 * count, scale = count / (t[hi] - t[lo] || 1);
  for (let i = lo + 1; i <= hi; i++) {
    const now = Math.floor((t[i] - t[lo]) * scale);
    const gap = isNaN(v[i]) !== isNaN(v[i - 1]);
    if (all || gap || now !== bucket) {
      close();
      if (gap) keep(i - 1);
      if (all || gap) keep(i);
      bucket = now;
      least = greatest = i;
    }
    if (v[i] < v[least]) least = i;
    if (v[i] > v[greatest]) greatest = i;
  }
  close();
  keep(hi);
  return {t: kept.map((k) => origin + t[k]), v: kept.map((k) => v[k])};
}

function place(t, value) {
  let lo = 0, hi = t.length;
  while (lo < hi) {
    const middle = (lo + hi) >> 1;
    if (t[middle] < value) lo = middle + 1; else hi = middle;
  }
  return lo;
}
"""


class Plots:
    """The plots of a run; those of the overview share their time axis."""

    def __init__(
        self,
        setup: Setup,
        traces: Traces,
        events: Sequence[Mapping[str, Any]],
        other: Traces | None,
    ) -> None:
        self.setup = setup
        self.other = other
        self.events = events[:MOST_MARKS]
        self.traces = traces
        self._crosshair = CrosshairTool(dimensions="height", visible=False)
        self._fine: list[list[ColumnDataSource]] = []
        self.origin_ms = setup.start_ns / 1e6
        self.end_ms = self.origin_ms + setup.duration_s * 1000

    def overview(self, checks: Sequence[Mapping[str, Any]]) -> Any:
        """Returns all signals, panel above panel; zoomed in, with all their samples."""
        shared = Range1d(
            start=self.origin_ms,
            end=self.end_ms,
            bounds=(self.origin_ms, self.end_ms),
        )
        groups = self._groups()
        drawn = sum(map(len, groups)) * (1 if self.other is None else 2)
        panels = [
            self._panel(
                group,
                shared,
                (0.0, self.setup.duration_s),
                checks,
                most=MOST_SAMPLES // max(drawn, 1),
            )
            for group in groups
        ]
        if self._fine:
            zoom = CustomJS(
                args={
                    "axis": shared,
                    "sources": self._fine,
                    "origin": self.origin_ms,
                    "buckets": BUCKETS,
                },
                code=_ZOOM,
            )
            shared.js_on_change("start", zoom)
            shared.js_on_change("end", zoom)
        return column(panels, sizing_mode="stretch_width")

    def around(self, check: Mapping[str, Any]) -> Any:
        """Returns plots of the time around the worst instant of a check, by unit."""
        signals = [self.setup.signals[name] for name in check["signals"]]
        if not signals:
            return None
        half_s = max(60.0, self.setup.duration_s * 0.02)
        start_s = max(0.0, check["worst_s"] - half_s)
        end_s = min(self.setup.duration_s, check["worst_s"] + half_s)
        axis = Range1d(start=self._ms(start_s), end=self._ms(end_s))
        by_unit: dict[str, list[Signal]] = {}
        for signal in signals:
            by_unit.setdefault(signal.unit, []).append(signal)
        panels = [
            self._panel(group, axis, (start_s, end_s), [check])
            for group in by_unit.values()
        ]
        if len(panels) == 1:
            return panels[0]
        return column(panels, sizing_mode="stretch_width")

    def _ms(self, time_s: float) -> float:
        return self.origin_ms + time_s * 1000

    def _groups(self) -> list[list[Signal]]:
        """Returns the signals panel by panel: first what is judged or set."""
        setup = self.setup
        first = dict.fromkeys(
            [n for check in setup.checks for n in check.signals]
            + [n for kpi in setup.kpis.values() for n in kpi.signals]
            + [n for _, c in setup.controllers for n in (*c.measures, *c.commands)]
            + [one.signal.name for one in setup.disturbances]
        )
        groups: list[list[Signal]] = []
        for names in (list(first), [n for n in setup.signals if n not in first]):
            by_unit: dict[str, list[Signal]] = {}
            for name in names:
                if len(self.traces.samples[name][0]):
                    signal = setup.signals[name]
                    by_unit.setdefault(signal.unit, []).append(signal)
            groups += [
                here[i : i + PER_PANEL]
                for here in by_unit.values()
                for i in range(0, len(here), PER_PANEL)
            ]
        return groups

    def _panel(
        self,
        signals: Sequence[Signal],
        axis: Range1d,
        span: tuple[float, float],
        checks: Sequence[Mapping[str, Any]],
        *,
        most: int = 0,
    ) -> Any:
        """Draws signals of one unit.

        Args:
            signals: At most as many as there are colours.
            axis: Of time.
            span: From when to when, seconds.
            checks: Of which the failed ones are marked.
            most: Samples of each signal for who zooms in.
        """
        unit = signals[0].unit
        plot = figure(
            height=230,
            sizing_mode="stretch_width",
            x_axis_type="datetime",
            x_range=axis,
            y_axis_label="" if unit == "1" else unit,
            tools="xpan,xwheel_zoom,xbox_zoom,reset,save",
            active_drag="xpan",
            active_scroll="xwheel_zoom",
        )
        if most:
            plot.y_range = self._span_of(signals)
        plot.toolbar.logo = None
        plot.xaxis.formatter = DatetimeTickFormatter(
            days="%d %b", hours="%H:%M", minutes="%H:%M", seconds="%H:%M:%S"
        )
        # Each frame of a pan draws them again, and nobody reads values from them.
        plot.axis.minor_tick_line_color = None
        items: list[tuple[str, list[Any]]] = []
        for signal, colour in zip(signals, Category10[10], strict=False):
            source = self._source(self.traces, signal.name, span, most)
            line = plot.step(
                "t", "v", source=source, mode="after", color=colour, name=signal.name
            )
            lines = [line]
            if self.other is not None and signal.name in self.other.samples:
                lines.append(self._beneath(plot, signal.name, span, colour, most))
            items.append((signal.name, lines))
        plot.add_tools(
            HoverTool(
                tooltips=f"$name: @v{{0.[000]}} {html.escape(unit)}, @t{{%T}}",
                formatters={"@t": "datetime"},
                visible=False,
            ),
            self._crosshair,
        )
        plot.add_layout(
            Legend(items=items, click_policy="hide", label_text_font_size="11px"),
            "right",
        )
        if self.setup.warm_up_s:
            plot.add_layout(
                BoxAnnotation(
                    left=self.origin_ms,
                    right=self._ms(self.setup.warm_up_s),
                    fill_color="#888888",
                    fill_alpha=0.12,
                    level="underlay",
                )
            )
        for event in self.events:
            plot.add_layout(
                Span(
                    location=self._ms(event["at_s"]),
                    dimension="height",
                    line_color="#9a6700",
                    line_dash="dotted",
                )
            )
        names = {signal.name for signal in signals}
        for check in checks:
            if check["verdict"] == "fail" and names & set(check["signals"]):
                plot.add_layout(
                    Span(
                        location=self._ms(check["worst_s"]),
                        dimension="height",
                        line_color="#b42318",
                        line_dash="dashed",
                    )
                )
        return plot

    def _span_of(self, signals: Sequence[Signal]) -> Range1d:
        """Returns a range of values that stays as it is while one looks at parts."""
        told = [
            traces.samples[signal.name][1]
            for traces in (self.traces, self.other)
            if traces is not None
            for signal in signals
            if signal.name in traces.samples
        ]
        told.append(np.array([s.initial for s in signals if s.initial is not None]))
        values = np.concatenate(told)
        values = values[np.isfinite(values)]
        if not len(values):
            return Range1d(start=0, end=1)
        low, high = float(values.min()), float(values.max())
        margin = 0.05 * (high - low) or 1.0
        return Range1d(start=low - margin, end=high + margin)

    def _beneath(
        self,
        plot: Any,
        name: str,
        span: tuple[float, float],
        colour: str,
        most: int,
    ) -> Any:
        """Draws the same signal of the other run."""
        assert self.other is not None
        return plot.step(
            "t",
            "v",
            source=self._source(self.other, name, span, most),
            mode="after",
            color=colour,
            line_dash="dashed",
            line_alpha=0.6,
            name=f"{name}, the other",
        )

    def _source(
        self, traces: Traces, name: str, span: tuple[float, float], most: int
    ) -> ColumnDataSource:
        part = traces.trajectory([name], *span)
        column = part.values[name]
        times, values = without_repeats(
            np.append(part.times_s, part.end_s), np.append(column, column[-1])
        )
        drawn_t, drawn_v = thin(times, values)
        drawn = ColumnDataSource(
            {"t": self.origin_ms + drawn_t * 1000, "v": drawn_v.astype(np.float32)}
        )
        if len(drawn_t) < min(len(times), most):
            # Two of a span, more where there are gaps.
            fine_t, fine_v = thin(times, values, buckets=most // 2)
            milliseconds = np.round(fine_t * 1000)
            if milliseconds[-1] < 2**31:
                milliseconds = milliseconds.astype(np.int32)
            fine = ColumnDataSource({"t": milliseconds, "v": fine_v.astype(np.float32)})
            self._fine.append([fine, drawn])
        return drawn


def without_repeats(times_s: Array, values: Array) -> tuple[Array, Array]:
    """Leaves out the samples that change nothing in a plot of steps.

    Args:
        times_s: Instants, ascending; shape (n,).
        values: Values; shape (n,). NaN repeats NaN.

    Returns:
        The first, the last and all that differ from the one before.
    """
    before, now = values[:-1], values[1:]
    kept = np.ones(len(values), bool)
    kept[1:] = (now != before) & ~(np.isnan(now) & np.isnan(before))
    kept[-1] = True
    return times_s[kept], values[kept]


def thin(
    times_s: Array, values: Array, *, buckets: int = BUCKETS
) -> tuple[Array, Array]:
    """Keeps the least and the greatest value of each of many equal spans.

    First and last sample stay, and so does every gap (NaN).

    Args:
        times_s: Instants, ascending; shape (n,).
        values: Values; shape (n,).
        buckets: How many spans.

    Returns:
        At most about four samples a span, in order.
    """
    count = len(times_s)
    if count <= 4 * buckets:
        return times_s, values
    place = np.floor(
        (times_s - times_s[0]) / (times_s[-1] - times_s[0]) * buckets
    ).astype(np.int64)
    gaps = np.isnan(values)
    order = np.lexsort((np.where(gaps, np.inf, values), place))
    first = np.flatnonzero(np.diff(place[order], prepend=-1))
    least = order[first]
    order = np.lexsort((np.where(gaps, -np.inf, values), place))
    last = np.flatnonzero(np.diff(place[order], append=buckets + 1))
    greatest = order[last]
    edges = np.flatnonzero(np.diff(gaps.astype(np.int8)))
    kept = np.unique(
        np.concatenate([[0, count - 1], least, greatest, edges, edges + 1])
    )
    return times_s[kept], values[kept]
