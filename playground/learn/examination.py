"""The data report: what is wrong with the data, said before anything is learned.

Each finding names a signal and what was seen. None of them stops learning; what
must stop it is an error elsewhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from playground.learn.dataset import Segment, Series, believed, usual_age
from playground.quantity import say_seconds, seconds
from playground.signals import Signal, Signals

Array = npt.NDArray[np.float64]
Kind = Literal[
    "coverage",
    "range",
    "unsigned",
    "unit",
    "constant",
    "frozen",
    "excitation",
    "sign",
    "swapped",
]

ENOUGH_KNOWN = 0.95
"""Part of the time that a signal has to be known."""
FEW_MOVES = 10
FROZEN_SHARE = 0.2
SIGN_BIT = 0.9
STRETCHES, SHORTEST_STRETCH = 8, 30
"""Into how many parts the data are cut to be compared, and the least rows of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about the data that a person should look at.

    Attributes:
        signal: Name of the signal it is about.
        kind: Which rule found it.
        text: What was seen, and what it may mean.
    """

    signal: str
    kind: Kind
    text: str

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields for a card."""
        return asdict(self)


def examined_series(
    series: Mapping[str, Series], signals: Signals, *, period_s: float
) -> list[Finding]:
    """Looks at what each signal said, one by one.

    Args:
        series: Raw values in units, before values out of range were dropped.
        signals: Their meaning.
        period_s: Seconds of a step; a silence is judged by it.
    """
    found: list[Finding] = []
    inside = believed(series, signals)
    stamps = [said.time[[0, -1]] for said in series.values() if len(said.time)]
    for signal in signals.values():
        said = series[signal.name]
        valid = said.value[np.isfinite(said.value)]
        if not len(valid):
            continue
        if signal.role != "command":
            begin, end = np.min(stamps), np.max(stamps)
            found += _coverage(signal, inside[signal.name], begin, end, period_s)
        found += _range(signal, valid)
        found += _unsigned(signal, valid)
        if signal.role == "measurement":
            found += _frozen(signal, said, period_s)
        elif np.ptp(valid) == 0:
            text = f"never changes (always {valid[0]:g} {signal.unit})"
            found.append(
                Finding(
                    signal=signal.name,
                    kind="constant",
                    text=text + ": what it does to the plant cannot be learned",
                )
            )
        elif signal.role == "command":
            moves = int(np.count_nonzero(np.diff(valid)))
            if moves < FEW_MOVES:
                text = f"moves only {moves} times: its effect is hardly known"
                found.append(Finding(signal=signal.name, kind="excitation", text=text))
    return found


def _coverage(
    signal: Signal, said: Series, begin: float, end: float, period_s: float
) -> Iterator[Finding]:
    """Finds a signal that is silent, or says nothing valid, for much of the time."""
    if end <= begin:
        return
    age = seconds(signal.max_age) if signal.max_age else usual_age(said, period_s)
    until = np.minimum(np.append(said.time[1:], end), said.time + age)
    valid = np.isfinite(said.value)
    known_from, known_to = said.time[valid], until[valid]
    share = float((known_to - known_from).sum() / (end - begin))
    if share >= ENOUGH_KNOWN:
        return
    gap_from = np.append(begin, known_to)
    gaps = np.append(known_from, end) - gap_from
    longest = int(np.argmax(gaps))
    yield Finding(
        signal=signal.name,
        kind="coverage",
        text=f"is known {share:.0%} of the time, and for {say_seconds(gaps[longest])} "
        f"from {say_seconds(gap_from[longest] - begin)} on not at all: rows without it "
        "are left out",
    )


def _range(signal: Signal, valid: Array) -> Iterator[Finding]:
    if signal.range is None:
        return
    low, high = signal.range
    beyond = valid[(valid < low) | (valid > high)]
    if len(beyond):
        extreme = beyond[np.argmax(np.abs(beyond))]
        yield Finding(
            signal=signal.name,
            kind="range",
            text=f"{len(beyond)} of {len(valid)} values lie outside [{low:g}, {high:g}] "
            f"{signal.unit}, the farthest at {extreme:g}; they are not used",
        )


def _unsigned(signal: Signal, valid: Array) -> Iterator[Finding]:
    """Finds negative numbers that were read as large ones, such as 65,507."""
    if signal.type not in ("float", "int", "uint16"):
        return
    raw = (valid - signal.offset) / signal.scale
    top = (raw >= 60_000) & (raw < 65_536) & (np.abs(raw - np.round(raw)) < 1e-6)
    rest = raw[~top]
    if not top.any() or (len(rest) and rest.max() > 33_000):
        return
    meant = (raw[top][0] - 65_536) * signal.scale + signal.offset
    yield Finding(
        signal=signal.name,
        kind="unsigned",
        text=f"{int(top.sum())} values such as {raw[top][0]:.0f} on the wire look like "
        f"negative numbers of a 16-bit register ({meant:g} {signal.unit}): "
        "write type: int16",
    )


def _frozen(signal: Signal, said: Series, period_s: float) -> Iterator[Finding]:
    valid = np.isfinite(said.value)
    time, value = said.time[valid], said.value[valid]
    if np.ptp(value) == 0:
        yield Finding(
            signal=signal.name,
            kind="frozen",
            text=f"always says {value[0]:g} {signal.unit}: dead, or never plugged in",
        )
        return
    whole = time[-1] - time[0]
    edges = np.flatnonzero(np.concatenate([[True], np.diff(value) != 0, [True]]))
    counts = np.diff(edges)
    lasts = time[np.minimum(edges[1:], len(time) - 1)] - time[edges[:-1]]
    longest = int(np.argmax(np.where(counts >= 20, lasts, 0.0)))
    # A whole number stands still often; one that usually moves does not.
    usual = float(np.median(counts))
    if counts[longest] < 20 or lasts[longest] < FROZEN_SHARE * whole or usual > 3:
        return
    begin = time[edges[longest]] - time[0]
    yield Finding(
        signal=signal.name,
        kind="frozen",
        text=f"stands at exactly {value[edges[longest]]:g} {signal.unit} for "
        f"{say_seconds(lasts[longest])} from {say_seconds(begin)} on, "
        f"{counts[longest]} messages, although it usually moves",
    )


def examined_rows(segments: Sequence[Segment], signals: Signals) -> list[Finding]:
    """Looks at signals beside each other.

    Args:
        segments: In units.
        signals: Their meaning.
    """
    names = (*segments[0].inputs, *segments[0].outputs)
    tables = [np.hstack([s.u, s.y]) for s in segments]
    rows = np.vstack(tables)
    found = [f for k, n in enumerate(names) for f in _unit(signals[n], rows[:, k])]
    found += _signs(names, rows, signals)
    swapped = list(_swapped(names, tables, signals))
    for segment, rows in zip(segments, tables, strict=True):
        swapped += _exchanged(names, rows, signals, segment.dt)
    found += swapped
    # What was swapped has the other's level there; that is said already.
    known = {name for f in swapped for name in names if f"{name!r}" in f.text}
    known |= {f.signal for f in swapped}
    stretches = list(_stretches(segments, tables))
    found += [f for f in _levels(names, stretches, signals) if f.signal not in known]
    return found


def _stretches(
    segments: Sequence[Segment], tables: Sequence[Array]
) -> Iterator[tuple[str, Array]]:
    """Yields stretches of data to be held beside each other, and what to call them.

    A recording without gaps is one segment; what happens half-way through it shows
    only where it is cut up.
    """
    rows = sum(len(table) for table in tables)
    for number, (segment, table) in enumerate(zip(segments, tables, strict=True), 1):
        parts = max(1, round(STRETCHES * len(table) / rows)) if len(tables) < 4 else 1
        if parts == 1 or len(table) < parts * SHORTEST_STRETCH:
            yield f"in stretch {number}", table
            continue
        for part in np.array_split(np.arange(len(table)), parts):
            begin, end = part[0] * segment.dt, (part[-1] + 1) * segment.dt
            yield f"from {say_seconds(begin)} to {say_seconds(end)}", table[part]


def _unit(signal: Signal, values: Array) -> Iterator[Finding]:
    low, middle, high = np.quantile(values, [0.01, 0.5, 0.99])
    text = None
    if signal.unit == "degC" and middle > 200 and high < 420 and high - low < 120:
        text = f"its median is {middle:.4g} degC: that looks like kelvin"
    elif signal.unit == "degC" and middle > 150:
        text = f"its median is {middle:.4g} degC: that looks like tenths of a degree"
    elif signal.unit in ("percent", "%") and 0 < high <= 1.0:
        text = f"never above {values.max():.3g} percent: that looks like 0 to 1"
    if text is not None:
        yield Finding(signal=signal.name, kind="unit", text=text)


def _levels(
    names: Sequence[str], stretches: Sequence[tuple[str, Array]], signals: Signals
) -> Iterator[Finding]:
    """Finds a signal that changes its scale from one stretch to another."""
    tables = [table for _, table in stretches]
    factors = {10.0: "tenfold", 100.0: "hundredfold", 1000.0: "a thousandfold"}
    if len(tables) < 3:
        return
    for column, name in enumerate(names):
        if signals[name].role == "command":
            continue
        medians = np.array([np.median(np.abs(t[:, column])) for t in tables])
        # One that occurs: the middle between two scales is neither.
        usual = float(np.quantile(medians, 0.5, method="lower"))
        if usual <= 0:
            continue
        for number, median in enumerate(medians):
            for factor, word in factors.items():
                for ratio, side in (
                    (median / usual, "higher"),
                    (usual / median if median else 0.0, "lower"),
                ):
                    if abs(ratio / factor - 1) < 0.25:
                        yield Finding(
                            signal=name,
                            kind="unit",
                            text=f"about {word} {side} {stretches[number][0]} than "
                            "usual: another unit or scale?",
                        )


def _signs(names: Sequence[str], rows: Array, signals: Signals) -> Iterator[Finding]:
    """Finds a signal that mirrors its siblings of the same unit."""
    spread = rows.std(axis=0)
    for unit in dict.fromkeys(s.unit for s in signals.values()):
        mine = [
            k
            for k, name in enumerate(names)
            if signals[name].unit == unit
            and signals[name].role == "measurement"
            and spread[k] > 0
        ]
        if unit == "1" or len(mine) < 2:
            continue
        below = [k for k in mine if np.median(rows[:, k]) < 0]
        few = len(below) <= len(mine) / 2
        related = np.atleast_2d(np.corrcoef(rows[:, mine].T))
        for place, k in enumerate(mine):
            against = np.delete(related[place], place)
            if k in below and few and against.min() < -SIGN_BIT:
                yield Finding(
                    signal=names[k],
                    kind="sign",
                    text=f"is mostly below zero and moves against its siblings "
                    f"(correlation {against.min():.2f}): its sign may be wrong",
                )


def _swapped(
    names: Sequence[str], tables: Sequence[Array], signals: Signals
) -> Iterator[Finding]:
    """Finds a stretch in which two signals of one unit stand in for each other."""
    if len(tables) < 4:
        return
    levels = np.linspace(0.02, 0.98, 13)
    profile = np.stack([np.quantile(t, levels, axis=0) for t in tables])
    usual = np.median(profile, axis=0)
    for a, b in itertools.combinations(range(len(names)), 2):
        if signals[names[a]].unit != signals[names[b]].unit:
            continue
        if signals[names[a]].role == "command":
            continue
        scale = np.abs(usual[:, a] - usual[:, b]).mean() + 1e-12
        for number, own in enumerate(profile):
            straight = _off(own[:, a], usual[:, a]) + _off(own[:, b], usual[:, b])
            crossed = _off(own[:, a], usual[:, b]) + _off(own[:, b], usual[:, a])
            if crossed < 0.35 * straight and straight > 1.2 * scale:
                yield Finding(
                    signal=names[a],
                    kind="swapped",
                    text=f"looks like {names[b]!r} in stretch {number + 1}, and that "
                    "like this: the two may be swapped there",
                )


def _exchanged(
    names: Sequence[str], rows: Array, signals: Signals, dt: float
) -> Iterator[Finding]:
    """Finds the instants at which two signals of one unit change places.

    At such an instant each goes on where the other was, while both are much farther
    apart than either moves in a step.
    """
    if len(rows) < 3:
        return
    usual = np.quantile(np.abs(np.diff(rows, axis=0)), 0.95, axis=0)
    for a, b in itertools.combinations(range(len(names)), 2):
        if signals[names[a]].unit != signals[names[b]].unit:
            continue
        if signals[names[a]].role == "command":
            continue
        apart = np.abs(rows[:-1, a] - rows[:-1, b])
        here = np.abs(rows[1:, [a, b]] - rows[:-1, [b, a]]).max(axis=1)
        moved = np.abs(rows[1:, [a, b]] - rows[:-1, [a, b]]).min(axis=1)
        jumps = (here < 0.2 * apart) & (moved > 8 * max(usual[a], usual[b], 1e-9))
        at = np.flatnonzero(jumps)
        if not len(at):
            continue
        times = " and ".join(say_seconds((k + 1) * dt) for k in at[:3])
        yield Finding(
            signal=names[a],
            kind="swapped",
            text=f"changes places with {names[b]!r} at {times}: the two were swapped",
        )


def _off(profile: Array, usual: Array) -> float:
    return float(np.abs(profile - usual).mean())
