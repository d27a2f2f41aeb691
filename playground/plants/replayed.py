"""A plant that says what a recording says.

By time it replays a day for consumers that want its measurements: dashboards,
estimators, alarms, a controller in its dry run. By commands it looks for the moment
of the recording that is most like the present one, in what was told and what was
measured, and goes on from there. How far the present is from that moment decides
whether it may be believed (`playground.plants.departures`). It makes nothing up; a
learned plant can. `replayed_table` gives a single signal as a disturbance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from playground.errors import NotEnoughData, PlaygroundError
from playground.parameters import Duration, InputFile
from playground.plants.departures import Departures
from playground.quantity import say_seconds
from playground.recording import Recording
from playground.recording.aligned import said
from playground.signals import Signal, Signals
from playground.signals_file import load_signals
from playground.table import TimeTable

Array = npt.NDArray[np.float64]
Instants = npt.NDArray[np.int64]
_Spoken = Mapping[str, tuple[Instants, Array]]

MEMORY_S = (60.0, 600.0)
"""A plant answers to its past; these are the time constants of the means of it that
are compared beside what it is told now."""
LOOK_EVERY = 10
"""Steps after which a better moment is looked for while none fits well."""
STAY = 0.8
"""Another moment must be nearer than this times the present one to be worth a jump."""
THE_END = "the end of the recording"


class ReplayedPlant:
    """The measurements of a recording as a `playground.plants.Plant`.

    A measurement holds the last valid value that was said; before the first it is
    the signal's initial value, or else the first.

    Distances are root mean squares over signals, each in parts of what it spans in
    the recording. What nobody has touched since the reset does not count: who only
    listens may believe everything.

    Args:
        recording: Path of the recording.
        signals: Path of the signals file: which topics are measurements, commands
            and disturbances, and how they stand on the wire.
        period_s: Seconds of one step.
        start_s: Where to begin, seconds since the first message.
        after: What to do when the recording is over, by time: ``stop`` with an
            error, ``hold`` the last values, or ``loop``.
        by: ``time``: whatever it is told, it says what was said at that time.
            ``commands``: it goes on from the moment in the recording that is
            nearest to the present.
        reach: Distance from which on it is out of its envelope.

    Raises:
        NotEnoughData: The recording says nothing about a measurement.
    """

    def __init__(
        self,
        *,
        recording: InputFile,
        signals: InputFile,
        period_s: Duration = 1.0,
        start_s: Duration = 0.0,
        after: Literal["stop", "hold", "loop"] = "stop",
        by: Literal["time", "commands"] = "time",
        reach: float = 0.1,
    ) -> None:
        if after not in ("stop", "hold", "loop"):
            raise PlaygroundError(
                f"after: {after!r} is none of stop, hold and loop.",
                "write after: hold to keep the last values",
            )
        if by not in ("time", "commands"):
            raise PlaygroundError(
                f"by: {by!r} is neither time nor commands.",
                "write by: commands to have it answer what it is told",
            )
        if not reach > 0:
            raise PlaygroundError(
                f"reach: {reach:g} is not above 0: nothing would be near enough.",
                "write for instance 0.1, a tenth of what the signals span",
            )
        if not period_s > 0:
            raise PlaygroundError(
                f"period: {period_s:g} s is not above 0: a step has to take some time.",
                "write how often it is asked, for instance 10s",
            )
        self.signals: Signals = load_signals(Path(signals))
        self.period_s = period_s
        self._after, self._by, self._reach = after, by, reach
        self._path = recording
        source = Recording.open(recording)
        measured = {s.name: s for s in self.signals.with_role("measurement")}
        told = {s.name: s for s in self.signals.with_role("command", "disturbance")}
        spoken = _valid(said(source, measured))
        for name, (times, _) in spoken.items():
            if not len(times):
                raise NotEnoughData(
                    f"{recording} says nothing valid on {measured[name].topic!r}, where "
                    f"{name!r} should be.",
                    f"'playground info {recording}' lists its topics",
                )
        span = source.time_range
        if span is None or not measured:
            raise NotEnoughData(f"{recording} holds no measurement of {signals}.")
        begin_ns = span[0] + round(start_s * 1e9)
        self._length_ns = span[1] - begin_ns
        if self._length_ns < 0:
            raise PlaygroundError(
                f"start {say_seconds(start_s)} lies behind the end of {recording}.",
                f"it is {say_seconds((span[1] - span[0]) / 1e9)} long",
            )
        self._names, self._told = tuple(measured), tuple(told)
        self._initial = {
            name: 0.0 if s.initial is None else s.initial for name, s in told.items()
        }
        commanded = _valid(said(source, told)) if told else {}
        self._axis_ns = np.unique(
            np.concatenate([[begin_ns], *(times for times, _ in spoken.values())])
        )
        self._values = _held(spoken, measured, self._axis_ns, "right")
        moments = [times for times, _ in commanded.values()]
        self._moves_ns = np.unique(np.concatenate([[begin_ns], *moments]))
        self._moves = _held(commanded, told, self._moves_ns, "right")
        self._spans = _spans(self._moves, tuple(told.values()))
        if by == "commands":
            self._lay_out(begin_ns)
        self._axis_ns = self._axis_ns - begin_ns
        self._moves_ns = self._moves_ns - begin_ns
        self.reset()

    def _lay_out(self, begin_ns: int) -> None:
        """Puts the recording on a grid of steps, with means of what it was told."""
        step_ns = round(self.period_s * 1e9)
        if self._length_ns < step_ns:
            raise NotEnoughData(
                f"{self._path} goes on for {say_seconds(self._length_ns / 1e9)} from "
                f"where it begins: not even one step of {say_seconds(self.period_s)}.",
                "take a longer recording, or a shorter period",
            )
        grid = begin_ns + step_ns * np.arange(self._length_ns // step_ns + 1)
        rows = np.searchsorted(self._axis_ns, grid, side="right") - 1
        self._rows = self._values[np.maximum(rows, 0)]
        # What decides a step was said before its end.
        before = np.searchsorted(self._moves_ns, grid, side="left") - 1
        inputs = self._moves[np.maximum(before, 0)]
        memories = [inputs]
        for constant_s in MEMORY_S:
            share = -math.expm1(-self.period_s / constant_s)
            mean, means = inputs[0].copy(), np.empty_like(inputs)
            for row, now in enumerate(inputs):
                mean += share * (now - mean)
                means[row] = mean
            memories.append(means)
        # Rows x memories x inputs, in spans.
        self._asked = np.stack(memories, axis=1) / self._spans
        measured = self.signals.with_role("measurement")
        self._found = self._rows / _spans(self._rows, measured)

    def reset(self, *, seed: int = 0) -> Mapping[str, float]:
        """Goes back to the start; nothing is random here."""
        self._steps = self._outside = 0
        self._first_s: float | None = None
        self._far: dict[str, int] = {}
        self._last_far: str | None = None
        self._touched = np.zeros(len(self._told), dtype=bool)
        self._row, self._looked, self._begun = 0, 0, False
        self._means = np.array([list(self._initial.values())] * (1 + len(MEMORY_S)))
        return self._at(0)

    def step(self, now: float, inputs: Mapping[str, float]) -> Mapping[str, float]:
        """Returns what the recording says at ``now``, or at the moment most like it.

        Raises:
            NotEnoughData: The recording is over, and ``after`` is ``stop``.
        """
        told = np.array([inputs.get(name, self._initial[name]) for name in self._told])
        self._touched |= told != np.array([self._initial[name] for name in self._told])
        if self._by == "commands":
            self._account(now, self._go_on(told))
            row = self._rows[self._row]
            return dict(zip(self._names, row.tolist(), strict=True))
        now_ns = round(now * 1e9)
        far: str | None = None
        if now_ns > self._length_ns:
            if self._after == "stop":
                raise NotEnoughData(
                    f"{self._path} ends after {say_seconds(self._length_ns / 1e9)}.",
                    "make the run shorter, or write after: hold or after: loop",
                )
            if self._after == "loop":
                now_ns %= max(self._length_ns, 1)
            else:
                far = THE_END
        if far is None and self._touched.any():
            row = max(int(np.searchsorted(self._moves_ns, now_ns, side="left")) - 1, 0)
            apart = np.abs(told - self._moves[row]) / self._spans * self._touched
            if apart.max() > self._reach:
                far = self._told[int(np.argmax(apart))]
        self._account(now, far)
        return self._at(now_ns)

    def _go_on(self, told: Array) -> str | None:
        """Moves on to the next row, or to a better one; names what is too far off."""
        if not self._begun:
            # Before the start everything was long as it was told at first.
            self._means[:] = told
            self._begun = True
        changed = bool((told != self._means[0]).any())
        self._means[0] = told
        for number, constant_s in enumerate(MEMORY_S, start=1):
            share = -math.expm1(-self.period_s / constant_s)
            self._means[number] += share * (told - self._means[number])
        asked = self._means / self._spans
        row = self._row + 1
        last = len(self._rows) - 1
        stay = math.inf if row > last else self._apart(asked, row)
        self._looked += 1
        due = changed or self._looked >= LOOK_EVERY or row > last
        if stay > 0.5 * self._reach and due:
            self._looked = 0
            best, distance = self._nearest(asked)
            if distance < STAY * stay:
                row, stay = best, distance
        self._row = min(row, last)
        if stay <= self._reach:
            return None
        apart = np.abs(asked - self._asked[self._row]).max(axis=0) * self._touched
        return self._told[int(np.argmax(apart))] if apart.any() else THE_END

    def _apart(self, asked: Array, row: int) -> float:
        count = int(self._touched.sum()) * len(asked)
        if not count:
            return 0.0
        off = (asked - self._asked[row])[:, self._touched]
        return math.sqrt(float((off**2).sum()) / count)

    def _nearest(self, asked: Array) -> tuple[int, float]:
        """Returns the row to go on with, and its distance.

        It was asked what is asked now, and the row before it said what is said now.
        """
        square = np.zeros(len(self._rows) - 1)
        if self._touched.any():
            off = (self._asked[1:] - asked)[:, :, self._touched]
            square += (off**2).mean(axis=(1, 2))
        square += ((self._found[:-1] - self._found[self._row]) ** 2).mean(axis=1)
        best = int(np.argmin(square))
        return best + 1, math.sqrt(float(square[best]))

    def _account(self, now: float, far: str | None) -> None:
        self._steps += 1
        self._last_far = far
        if far is not None:
            self._outside += 1
            self._far[far] = self._far.get(far, 0) + 1
            if self._first_s is None:
                self._first_s = now

    @property
    def in_envelope(self) -> bool:
        """Whether the recording has a moment like the last step."""
        return self._last_far is None

    @property
    def departures(self) -> Departures:
        """How often it was told what the recording does not show."""
        return Departures(
            steps=self._steps,
            outside=self._outside,
            first_s=self._first_s,
            signals=dict(self._far),
        )

    def count_anew(self) -> None:
        """Forgets the departures so far: the warm-up of a run is over."""
        self._steps = self._outside = 0
        self._first_s = None
        self._far = {}

    def _at(self, now_ns: int) -> dict[str, float]:
        row = int(np.searchsorted(self._axis_ns, now_ns, side="right")) - 1
        return dict(zip(self._names, self._values[row].tolist(), strict=True))

    def snapshot(self) -> Any:
        """Returns where it is in the recording and what it has been told."""
        numbers = (self._steps, self._outside, self._first_s, self._row, self._looked)
        return (
            (*numbers, self._begun),
            dict(self._far),
            self._last_far,
            self._touched.copy(),
            self._means.copy(),
        )

    def restore(self, snapshot: Any) -> None:
        """Goes back to what `snapshot` returned."""
        numbers, far, self._last_far, touched, means = snapshot
        self._steps, self._outside, self._first_s, *where = numbers
        self._row, self._looked, self._begun = where
        self._far = dict(far)
        self._touched, self._means = touched.copy(), means.copy()


def _valid(spoken: _Spoken) -> dict[str, tuple[Instants, Array]]:
    return {
        name: (times[~np.isnan(values)], values[~np.isnan(values)])
        for name, (times, values) in spoken.items()
    }


def _held(
    spoken: _Spoken,
    signals: Mapping[str, Signal],
    axis_ns: Instants,
    side: Literal["left", "right"],
) -> Array:
    """Returns what each signal was last said to be, instants x signals."""
    columns = []
    for name, (times, values) in spoken.items():
        before = signals[name].initial
        if before is None:
            before = float(values[0]) if len(values) else 0.0
        row = np.searchsorted(times, axis_ns, side=side)
        columns.append(np.concatenate([[before], values])[row])
    if not columns:
        return np.zeros((len(axis_ns), 0))
    return np.stack(columns, axis=1)


def _spans(rows: Array, signals: tuple[Signal, ...]) -> Array:
    """Returns what each signal spans: where it never changes, its declared range."""
    spans = np.ptp(rows, axis=0) if len(rows) else np.zeros(len(signals))
    for column, signal in enumerate(signals):
        if spans[column] == 0:
            low, high = signal.range or (0.0, 1.0)
            spans[column] = high - low
    return np.asarray(spans, dtype=np.float64)


def replayed_table(
    recording: Recording, signals: Signals, name: str, *, start_ns: int | None = None
) -> TimeTable:
    """Returns a signal of a recording as a table over time.

    Args:
        recording: Where it was said.
        signals: What it is called there.
        name: Of the signal.
        start_ns: What is second 0; the first message by default. The last value
            before it is the first row.

    Raises:
        NotEnoughData: The recording never says it.
    """
    times, values = said(recording, {name: signals.need(name)})[name]
    times, values = times[~np.isnan(values)], values[~np.isnan(values)]
    if not len(times):
        raise NotEnoughData(f"The recording never says {name!r}.")
    if start_ns is None:
        span = recording.time_range
        start_ns = times[0] if span is None else span[0]
    first = max(int(np.searchsorted(times, start_ns, side="right")) - 1, 0)
    since: npt.NDArray[np.float64] = np.maximum(times[first:] - start_ns, 0) / 1e9
    # Of several at one instant the last one counts.
    keep = np.append(np.diff(since) > 0, True)
    return TimeTable(
        times_s=tuple(since[keep].tolist()),
        values=tuple(values[first:][keep].tolist()),
    )
