"""A table of a value over time: prices, weather, limits.

Written into the scenario as pairs, or kept beside it as a CSV file with the
columns ``time`` and ``value``. No signal and no clock is known here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from playground.arrays import Array, np
from playground.errors import FileFormatError, PlaygroundError, closest
from playground.quantity import convert, quantity, seconds


class TimeTable(NamedTuple):
    """Values at instants.

    Attributes:
        times_s: Seconds since the start of the run, strictly ascending.
        values: Value from that instant on.
        hold: Hold each value until the next; False: go there in a straight line.
    """

    times_s: tuple[float, ...]
    values: tuple[float, ...]
    hold: bool = True

    def at(self, times_s: Array) -> Array:
        """Returns the value at each instant; before the first row, the first."""
        if not self.hold:
            return np.interp(times_s, self.times_s, self.values)
        row = np.searchsorted(self.times_s, times_s, side="right") - 1
        return np.asarray(self.values)[np.maximum(row, 0)]


def read_table(
    written: Mapping[str, Any], unit: str, *, folder: Path = Path()
) -> TimeTable:
    """Reads ``{table: [[0s, 5 degC], [6h, 9 degC]], hold: true}``.

    Args:
        written: What stands in the scenario. ``table`` may also name a CSV file
            with the columns ``time`` (seconds, or durations such as ``1h``) and
            ``value``; ``column`` names another column, ``unit`` the unit of its
            numbers.
        unit: Wanted unit of the values.
        folder: Where files are looked for.

    Raises:
        PlaygroundError: It is no table, or a value does not convert.
    """
    known = ("table", "hold", "column", "unit")
    for key in written:
        if key not in known:
            raise PlaygroundError(
                f"unknown key {key!r} in a table.{closest(str(key), known)}",
                f"allowed here: {', '.join(known)}",
            )
    hold = written.get("hold", True)
    if not isinstance(hold, bool):
        raise PlaygroundError(
            f"hold: {hold!r} should be true or false.",
            "true keeps a value until the next one, false draws a line between them",
        )
    rows = written.get("table")
    if isinstance(rows, str):
        pairs = _read_csv(folder / rows, written, unit)
    else:
        if isinstance(rows, Mapping):
            rows = list(rows.items())
        if not isinstance(rows, list) or not rows:
            raise PlaygroundError(
                f"{rows!r} is not a table.",
                f"write a list of pairs, [[0s, 1 {unit}], [1h, 2 {unit}]], "
                "or the name of a CSV file",
            )
        pairs = []
        for row in rows:
            if not isinstance(row, list | tuple) or len(row) != 2:
                raise PlaygroundError(
                    f"{row!r} is not a time and a value.", f"write [1h, '2 {unit}']"
                )
            pairs.append((seconds(row[0]), quantity(row[1], unit)))
    pairs.sort()
    times_s, values = zip(*pairs, strict=True)
    if any(after <= before for before, after in pairwise(times_s)):
        raise PlaygroundError("A time stands in the table twice.", "keep one of them")
    return TimeTable(times_s=times_s, values=values, hold=hold)


def _read_csv(
    path: Path, written: Mapping[str, Any], unit: str
) -> list[tuple[float, float]]:
    column = str(written.get("column", "value"))
    source = str(written.get("unit", unit))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        near = closest(path.name, [p.name for p in path.parent.glob("*.csv")])
        raise FileFormatError(
            f"There is no file {path}.{near}",
            "name a CSV file beside the scenario or in the current folder",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(
            f"{path} cannot be read: {error}", "write a CSV file in UTF-8"
        ) from error
    # Few scenarios have such a file.
    import csv

    reader = csv.DictReader(text.splitlines())
    header = reader.fieldnames or []
    for name in ("time", column):
        if name not in header:
            raise FileFormatError(
                f"{path}:1: there is no column {name!r}.{closest(name, header)}",
                f"its columns: {', '.join(header) or 'none'}",
            )
    pairs = []
    for number, row in enumerate(reader, start=2):
        try:
            time = row["time"]
            value = float(row[column])
            if not math.isfinite(value):
                raise ValueError(row[column])
            time_s = float(time) if _is_number(time) else seconds(time)
        except (TypeError, ValueError, PlaygroundError) as error:
            raise FileFormatError(
                f"{path}:{number}: {row['time']!r}, {row[column]!r} is not a time and "
                "a number."
            ) from error
        pairs.append((time_s, convert(value, source, unit)))
    if not pairs:
        raise FileFormatError(f"{path} has no rows.")
    return pairs


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
