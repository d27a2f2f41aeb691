"""A plant that says what a recording says, whatever it is told.

For consumers that want the measurements of a real day: dashboards, estimators,
alarms, a controller in its dry run. It cannot answer a command; a learned plant
can. `replayed_table` gives a single signal of a recording as a disturbance.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from playground.errors import NotEnoughData, PlaygroundError
from playground.parameters import Duration
from playground.quantity import say_seconds
from playground.recording import Recording
from playground.recording.aligned import said
from playground.signals import Signals, load_signals
from playground.table import TimeTable


class ReplayedPlant:
    """The measurements of a recording as a `playground.plants.Plant`.

    A measurement holds the last valid value that was said; before the first it is
    the signal's initial value, or else the first.

    Args:
        recording: Path of the recording.
        signals: Path of the signals file: which topics are measurements, and
            how they stand on the wire. Commands and disturbances in it are
            listened to and change nothing.
        period_s: Seconds of one step.
        start_s: Where to begin, seconds since the first message.
        after: What to do when the recording is over: ``stop`` with an error,
            ``hold`` the last values, or ``loop``.

    Raises:
        NotEnoughData: The recording says nothing about a measurement.
    """

    def __init__(
        self,
        *,
        recording: str,
        signals: str,
        period_s: Duration = 1.0,
        start_s: Duration = 0.0,
        after: Literal["stop", "hold", "loop"] = "stop",
    ) -> None:
        if after not in ("stop", "hold", "loop"):
            raise PlaygroundError(
                f"after: {after!r} is none of stop, hold and loop.",
                "write after: hold to keep the last values",
            )
        self.signals: Signals = load_signals(Path(signals))
        self.period_s = period_s
        self._after = after
        self._path = recording
        source = Recording.open(recording)
        measured = {s.name: s for s in self.signals.with_role("measurement")}
        spoken = {
            name: (times[~np.isnan(values)], values[~np.isnan(values)])
            for name, (times, values) in said(source, measured).items()
        }
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
        self._names = tuple(measured)
        self._axis_ns = np.unique(
            np.concatenate([[begin_ns], *(times for times, _ in spoken.values())])
        )
        columns = []
        for name, (times, values) in spoken.items():
            initial = measured[name].initial
            before = values[0] if initial is None else initial
            row = np.searchsorted(times, self._axis_ns, side="right")
            columns.append(np.concatenate([[before], values])[row])
        self._values = np.stack(columns, axis=1)
        self._axis_ns = self._axis_ns - begin_ns

    def reset(self, *, seed: int = 0) -> Mapping[str, float]:
        """Goes back to the start; nothing is random here."""
        return self._at(0)

    def step(self, now: float, inputs: Mapping[str, float]) -> Mapping[str, float]:
        """Returns what the recording says at ``now``.

        Raises:
            NotEnoughData: The recording is over, and ``after`` is ``stop``.
        """
        now_ns = round(now * 1e9)
        if now_ns > self._length_ns:
            if self._after == "stop":
                raise NotEnoughData(
                    f"{self._path} ends after {say_seconds(self._length_ns / 1e9)}.",
                    "make the run shorter, or write after: hold or after: loop",
                )
            if self._after == "loop":
                now_ns %= max(self._length_ns, 1)
        return self._at(now_ns)

    def _at(self, now_ns: int) -> dict[str, float]:
        row = int(np.searchsorted(self._axis_ns, now_ns, side="right")) - 1
        return dict(zip(self._names, self._values[row].tolist(), strict=True))

    def snapshot(self) -> None:
        """Returns nothing: the time alone decides what it says."""

    def restore(self, snapshot: None) -> None:
        """Does nothing; see `snapshot`."""


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
    return TimeTable(times_s=since[keep], values=values[first:][keep])
