"""A free run as a picture: measured and simulated, one panel per output (SVG)."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

from playground.learn.dataset import Segment
from playground.quantity import say_seconds

Array = npt.NDArray[np.float64]

WIDTH, PANEL, LEFT, POINTS = 900, 190, 70, 800


def free_run_picture(
    segment: Segment, said: Array, half: Array, *, units: Sequence[str]
) -> str:
    """Draws a segment.

    Args:
        segment: What was measured.
        said: What the plant said, rows × outputs.
        half: Half-width of the interval at the end, per output.
        units: Per output.

    Returns:
        An SVG document.
    """
    rows = np.unique(np.linspace(0, len(said) - 1, POINTS).astype(int))
    height = PANEL * len(units) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    x = LEFT + (WIDTH - LEFT - 15) * rows / max(len(said) - 1, 1)
    for k, unit in enumerate(units):
        top = k * PANEL + 20
        low = float(min(segment.y[:, k].min(), said[:, k].min()))
        high = float(max(segment.y[:, k].max(), said[:, k].max()))
        span = max(high - low, 1e-9)
        tall = PANEL - 45

        def place(
            values: Array, *, top: int = top, low: float = low, span: float = span
        ) -> Array:
            down = (values - low) / span
            return np.asarray(top + (PANEL - 45) * (1 - np.clip(down, -0.05, 1.05)))

        above, below = place(said[rows, k] + half[k]), place(said[rows, k] - half[k])
        band = _points(x, above) + " " + _points(x[::-1], below[::-1])
        name = escape(f"{segment.outputs[k]} [{unit}]")
        parts += [
            f'<text x="{LEFT}" y="{top - 6}" font-weight="bold">{name}</text>',
            f'<text x="{LEFT - 6}" y="{top + 10}" text-anchor="end">{high:.4g}</text>',
            f'<text x="{LEFT - 6}" y="{top + tall}" text-anchor="end">{low:.4g}</text>',
            f'<polygon points="{band}" fill="#d95f02" opacity="0.15"/>',
            _line(x, place(segment.y[rows, k]), "#333333"),
            _line(x, place(said[rows, k]), "#d95f02"),
        ]
    end = say_seconds(len(said) * segment.dt)
    parts += [
        f'<text x="{LEFT}" y="{height - 8}">grey: measured, orange: simulated from the '
        f"first rows on, with its 90 % interval; {end}</text>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _points(x: Array, y: Array) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def _line(x: Array, y: Array, colour: str) -> str:
    return (
        f'<polyline points="{_points(x, y)}" fill="none" stroke="{colour}" '
        'stroke-width="1.2"/>'
    )
