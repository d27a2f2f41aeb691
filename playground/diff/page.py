"""A comparison as one HTML file that needs nothing else: verdict and plots."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from bokeh.embed import file_html
from bokeh.layouts import column
from bokeh.models.annotations import Band, Span
from bokeh.models.ranges import DataRange1d, Range1d
from bokeh.models.sources import ColumnDataSource
from bokeh.models.widgets import Div
from bokeh.plotting import figure
from bokeh.resources import INLINE

from playground.diff import DiffReport
from playground.diff.tubes import SignalsReport, Tolerance, tube
from playground.errors import PlaygroundError
from playground.message import Message
from playground.recording import Recording

Values = npt.NDArray[np.float64]
MOST_POINTS = 20_000
"""Of one line; more around the divergence is shown by its neighbourhood only."""
AROUND = 200
"""Samples that are seen on each side of a divergence before anybody zooms."""
_COLOURS = ("#1f6f8b", "#d1495b")


def write_signals_page(report: SignalsReport, path: Path, *, title: str) -> None:
    """Writes the page of a comparison of signals; differing ones come first."""
    ordered = sorted(
        report.signals.values(), key=lambda s: (s.equal, s.first_s or 0.0, s.name)
    )
    parts: list[Div | figure] = [_verdict(title, report.equal, report.undecided)]
    for signal in ordered:
        told = (
            f"{signal.name}: within tolerance ({signal.samples[1]} samples)"
            if signal.equal
            else f"{signal.name}: {signal.outside} samples outside, {signal.missed} "
            f"missed, at most {signal.largest:.6g} too far, first at "
            f"{signal.first_s:.3f} s"
        )
        a, b = report.trajectories[signal.name]
        parts.append(_plot(told, a, b, signal.first_s, report.tolerances[signal.name]))
    _write(parts, path, title)


def write_messages_page(
    report: DiffReport, a: Recording, b: Recording, path: Path, *, title: str
) -> None:
    """Writes the page of a comparison of messages.

    The topic of the first divergence is plotted where its payloads are numbers.
    """
    parts: list[Div | figure] = [_verdict(title, report.equal, report.undecided)]
    first = report.first
    if first is not None:
        rows: list[tuple[str, Message | None]]
        rows = [("before", message) for message in first.before]
        rows += [("expected", first.expected), ("got", first.got)]
        parts.append(Div(text=_table(first.topic, first.what, rows), width=1000))
        lines = [_numbers(recording, first.topic) for recording in (a, b)]
        if all(len(times) for times, _ in lines):
            parts.append(
                _plot(first.topic, lines[0], lines[1], first.position_s, Tolerance())
            )
    _write(parts, path, title)


def _verdict(title: str, equal: bool, undecided: str) -> Div:  # noqa: FBT001
    word = f"undecided: {undecided}" if undecided else "equal" if equal else "not equal"
    return Div(text=f"<h1>{html.escape(title)}: {html.escape(word)}</h1>", width=1000)


def _table(topic: str, what: str, rows: Iterable[tuple[str, Message | None]]) -> str:
    cells = "".join(
        f"<tr valign='top'><td>{role}</td><td>{html.escape(m.topic if m else '–')}</td>"
        f"<td style='word-break:break-all'><code>{html.escape(_text(m))}</code></td></tr>"
        for role, m in rows
    )
    return f"<h2>{html.escape(topic)}: {html.escape(what)}</h2><table>{cells}</table>"


def _text(message: Message | None) -> str:
    if message is None:
        return "nothing more on this topic"
    return message.payload[:300].decode("utf-8", "backslashreplace")


def _numbers(recording: Recording, topic: str) -> tuple[Values, Values]:
    span = recording.time_range
    start = 0 if span is None else span[0]
    times, values = [], []
    # A topic may look like a filter to nobody: it has no wildcards.
    for message in recording.messages(topics=[topic]):
        with contextlib.suppress(ValueError):
            values.append(float(message.payload))
            times.append((message.time_ns - start) / 1e9)
    return np.array(times), np.array(values)


def _plot(
    title: str,
    a: tuple[Values, Values],
    b: tuple[Values, Values],
    at_s: float | None,
    tolerance: Tolerance,
) -> figure:
    plot = figure(
        title=title,
        width=1000,
        height=280,
        tools="xpan,xwheel_zoom,box_zoom,reset,save,hover",
        active_drag="box_zoom",
        x_axis_label="s since the start",
    )
    if len(a[0]) and (tolerance.atol or tolerance.rtol or tolerance.ttol_s):
        times_ns = np.rint(a[0] * 1e9).astype(np.int64)
        shown = _near(a[0], at_s)
        low, high = tube(times_ns, a[1], times_ns[shown], tolerance)
        finite = np.isfinite(low) & np.isfinite(high)
        source = ColumnDataSource(
            {"t": a[0][shown][finite], "low": low[finite], "high": high[finite]}
        )
        plot.add_layout(
            Band(
                base="t",
                lower="low",
                upper="high",
                source=source,
                fill_alpha=0.2,
                fill_color=_COLOURS[0],
            )
        )
    for (times, values), name, colour in zip(
        (a, b), ("expected", "got"), _COLOURS, strict=True
    ):
        shown = _near(times, at_s)
        plot.step(
            times[shown],
            values[shown],
            mode="after",
            legend_label=name,
            line_color=colour,
            line_width=1.5,
        )
    around = _around(a[0], at_s) or _around(b[0], at_s)
    if around is not None:
        plot.x_range = Range1d(start=around[0], end=around[1])
        plot.y_range = DataRange1d(only_visible=True)
    if at_s is not None:
        plot.add_layout(Span(location=at_s, dimension="height", line_dash="dashed"))
    return plot


def _around(times: Values, at_s: float | None) -> tuple[float, float] | None:
    """Returns what is shown first: all, where that is not much, or a neighbourhood."""
    if at_s is None or len(times) <= 4 * AROUND:
        return None
    middle = int(np.searchsorted(times, at_s))
    last = len(times) - 1
    return (
        float(times[min(max(0, middle - AROUND), last)]),
        float(times[min(middle + AROUND, last)]),
    )


def _near(times: Values, at_s: float | None) -> slice:
    if len(times) <= MOST_POINTS:
        return slice(None)
    middle = 0 if at_s is None else int(np.searchsorted(times, at_s))
    first = max(0, middle - MOST_POINTS // 2)
    return slice(first, first + MOST_POINTS)


def _write(parts: list[Div | figure], path: Path, title: str) -> None:
    text = file_html(column(*parts), resources=INLINE, title=title)
    temporary = path.with_name(f".{path.name}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise PlaygroundError(
            f"{path} cannot be written: {error}.", "choose another place"
        ) from error
