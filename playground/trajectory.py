"""What signals were over time, held between messages.

`Traces` has each signal's own samples, as they were said; a `Trajectory` puts
some of them on one axis over a span. Checks, KPIs and reports work on these and
never ask whether the recording came from hardware or from a run. Nothing is
judged here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from playground.arrays import Array, np
from playground.signals import Signals

if TYPE_CHECKING:
    from playground.recording import Recording

__all__ = ["Array", "Traces", "Trajectory"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trajectory:
    """Signals on one axis of instants; value k holds on ``[t[k], t[k+1])``.

    Attributes:
        times_s: Instants, seconds since the start of the run, strictly
            ascending; the first is the start of the span; shape (n,).
        values: Value of each signal at these instants in its unit, NaN where it
            is unknown; shape (n,) each.
        end_s: End of the span; the last value holds until here.
    """

    times_s: Array
    values: Mapping[str, Array]
    end_s: float

    @property
    def durations_s(self) -> Array:
        """How long each value holds, shape (n,)."""
        return np.diff(self.times_s, append=self.end_s)

    def changes(self) -> Trajectory:
        """Returns it without the instants at which no signal changed."""
        kept = np.ones(len(self.times_s), bool)
        kept[1:] = False
        for column in self.values.values():
            before, now = column[:-1], column[1:]
            kept[1:] |= (now != before) & ~(np.isnan(now) & np.isnan(before))
        return Trajectory(
            times_s=self.times_s[kept],
            values={name: column[kept] for name, column in self.values.items()},
            end_s=self.end_s,
        )


class Traces:
    """The samples of signals, each on its own axis.

    Args:
        samples: Times (seconds since the start of the run, ascending) and
            values of each signal.
        before: Value of a signal before anything was said; NaN by default.
    """

    def __init__(
        self,
        samples: Mapping[str, tuple[Array, Array]],
        before: Mapping[str, float] | None = None,
    ) -> None:
        self.samples = dict(samples)
        self._before = dict(before or {})

    @classmethod
    def of(
        cls,
        recording: Recording,
        signals: Signals,
        names: Iterable[str],
        *,
        origin_ns: int | None = None,
        end_s: float | None = None,
    ) -> Traces:
        """Reads some signals of a recording; each topic is decoded once.

        Args:
            recording: Of hardware or of a run.
            signals: Meaning of its topics.
            names: The signals wanted.
            origin_ns: Instant of second 0; by default that of the recording.
            end_s: Last second wanted; by default all.
        """
        # Reading a scenario does not need the modules that read recordings.
        from playground.recording.aligned import said

        wanted = {name: signals.need(name) for name in dict.fromkeys(names)}
        if not wanted:
            return cls({})
        origin = recording.start_ns if origin_ns is None else origin_ns
        end_ns = None if end_s is None else origin + round(end_s * 1e9) + 1
        found = said(recording, wanted, end_ns=end_ns)
        return cls(
            {name: ((t - origin) / 1e9, v) for name, (t, v) in found.items()},
            {
                # Nobody says a command before it is given; the plant knows it.
                signal.name: signal.initial
                for signal in wanted.values()
                if signal.role != "measurement" and signal.initial is not None
            },
        )

    def trajectory(
        self, names: Iterable[str], start_s: float, end_s: float
    ) -> Trajectory:
        """Returns signals over ``[start_s, end_s]``, on the axis of their samples.

        What was said before the start is held into the span.
        """
        names = tuple(dict.fromkeys(names))
        inside = [
            t[(t > start_s) & (t <= end_s)] for t in (self.samples[n][0] for n in names)
        ]
        # Signals of one topic share their axis; the union of many is rarely needed.
        axis = np.concatenate([[start_s], inside[0] if inside else []])
        if any(not np.array_equal(inside[0], other) for other in inside[1:]):
            axis = np.unique(np.concatenate([[start_s], *inside]))
        elif len(axis) > 1 and not (np.diff(axis) > 0).all():
            axis = np.unique(axis)
        values = {}
        for name in names:
            times, column = self.samples[name]
            first = self._before.get(name, np.nan)
            padded = np.concatenate([[first], column])
            values[name] = padded[np.searchsorted(times, axis, side="right")]
        return Trajectory(times_s=axis, values=values, end_s=end_s)
