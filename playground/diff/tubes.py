"""Two recordings compared as signals: within tolerance, in value and in time.

Around what the first recording says lies a tube: a sample of the second is
right if it lies between the lowest and the highest value that the first holds
within ``ttol`` of that instant, widened by ``atol + rtol * |value|``. And the
other way round, so that what the second does not say at all is noticed too.
Values hold until the next sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from playground.errors import ExitCode, PlaygroundError, closest
from playground.quantity import seconds
from playground.recording import Recording
from playground.recording.aligned import said
from playground.signals import Signals

Times = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far two signals may be apart.

    Attributes:
        atol: In the unit of the signal.
        rtol: As a part of the value.
        ttol_s: In time.
    """

    atol: float = 0.0
    rtol: float = 0.0
    ttol_s: float = 0.0


def parse_tolerances(
    signals: Signals,
    *,
    atol: Sequence[str] = (),
    rtol: Sequence[str] = (),
    ttol: Sequence[str] = (),
) -> dict[str, Tolerance]:
    """Reads ``0.5`` (every signal) and ``tank_temp=0.5`` (this one).

    Args:
        signals: What may be named.
        atol: In the unit of the signal.
        rtol: As a part of the value.
        ttol: Durations.

    Raises:
        PlaygroundError: No number, a negative one, or an unknown signal.
    """
    limits: dict[str, dict[str, float]] = {name: {} for name in signals}
    for key, texts in (("atol", atol), ("rtol", rtol), ("ttol_s", ttol)):
        # What is said of one signal counts more than what is said of all.
        for text in sorted(texts, key=lambda text: "=" in text):
            name, equals, written = text.rpartition("=")
            if equals:
                signals.need(name)
            try:
                value = seconds(written) if key == "ttol_s" else float(written)
            except ValueError as error:
                raise PlaygroundError(
                    f"{written!r} is not a number.", "write 0.5 or tank_temp=0.5"
                ) from error
            if not 0 <= value < np.inf:
                raise PlaygroundError(f"A tolerance of {written} makes no sense.")
            for one in (name,) if equals else tuple(signals):
                limits[one][key] = value
    return {name: Tolerance(**given) for name, given in limits.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalDiff:
    """One signal of both recordings.

    Attributes:
        name: The signal.
        samples: Compared samples of the first and the second recording.
        outside: Samples of the second that lie outside the tube.
        missed: Samples of the first that the second does not follow.
        largest: Largest distance to the tube, in the unit of the signal.
        first_s: Where it first leaves it, seconds since the start; None: never.
        expected: Lowest and highest value that would have been right there.
        got: What was said instead; None where nothing was.
    """

    name: str
    samples: tuple[int, int]
    outside: int = 0
    missed: int = 0
    largest: float = 0.0
    first_s: float | None = None
    expected: tuple[float, float] | None = None
    got: float | None = None

    @property
    def equal(self) -> bool:
        """Says whether it stays in the tube."""
        return self.first_s is None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalsReport:
    """What a comparison of signals found.

    Attributes:
        signals: By name.
        trajectories: Times (seconds since the start) and values of both, for a
            plot: ``{name: ((t, v), (t, v))}``.
        tolerances: As they were used.
    """

    signals: dict[str, SignalDiff]
    trajectories: dict[str, tuple[tuple[Values, Values], tuple[Values, Values]]]
    tolerances: Mapping[str, Tolerance]

    @property
    def equal(self) -> bool:
        """Says whether all signals stay in their tubes."""
        return all(signal.equal for signal in self.signals.values())

    @property
    def first(self) -> SignalDiff | None:
        """The signal that is first to leave its tube."""
        gone = [s for s in self.signals.values() if s.first_s is not None]
        return min(gone, key=lambda signal: signal.first_s or 0.0, default=None)

    @property
    def undecided(self) -> str:
        """Why it cannot be said, where that is so; else empty."""
        if not any(any(signal.samples) for signal in self.signals.values()):
            return "neither recording says anything on these signals"
        return ""

    @property
    def exit_code(self) -> ExitCode:
        """Returns what a command that asked for this answers."""
        if self.undecided:
            return ExitCode.UNDECIDED
        return ExitCode.GOOD if self.equal else ExitCode.NOT_SO

    def as_dict(self) -> dict[str, Any]:
        """Returns it as plain values that JSON can carry."""
        first = self.first
        return {
            "equal": self.equal,
            "undecided": self.undecided or None,
            "signals": {
                name: {
                    "samples": list(signal.samples),
                    "outside": signal.outside,
                    "missed": signal.missed,
                    "largest": signal.largest,
                    "first_s": signal.first_s,
                    "expected": None
                    if signal.expected is None
                    else list(signal.expected),
                    "got": signal.got,
                }
                for name, signal in self.signals.items()
            },
            "first": None if first is None else first.name,
        }


def diff_signals(
    a: Recording,
    b: Recording,
    signals: Signals,
    *,
    tolerances: Mapping[str, Tolerance] | None = None,
) -> SignalsReport:
    """Compares what two recordings say about signals.

    Times count from the first sample of any of the signals in each recording.

    Args:
        a: What is expected.
        b: What came.
        signals: Which signals; their units are those of the tolerances.
        tolerances: By name; exact where there is none.

    Raises:
        PlaygroundError: A tolerance for a signal that is not there.
    """
    given = {} if tolerances is None else dict(tolerances)
    for name in given:
        if name not in signals:
            raise PlaygroundError(
                f"There is no signal {name!r}.{closest(name, signals)}"
            )
    both = [_since_start(said(recording, signals)) for recording in (a, b)]
    found = {
        name: _compare(name, both[0][name], both[1][name], given.get(name, Tolerance()))
        for name in signals
    }
    first, second = (
        {name: (times / 1e9, values) for name, (times, values) in side.items()}
        for side in both
    )
    return SignalsReport(
        signals=found,
        trajectories={name: (first[name], second[name]) for name in signals},
        tolerances={name: given.get(name, Tolerance()) for name in signals},
    )


def _since_start(
    spoken: Mapping[str, tuple[Times, Values]],
) -> dict[str, tuple[Times, Values]]:
    firsts = [int(times[0]) for times, _ in spoken.values() if len(times)]
    start = min(firsts, default=0)
    return {name: (times - start, values) for name, (times, values) in spoken.items()}


def tube(
    times: Times, values: Values, at: Times, tolerance: Tolerance
) -> tuple[Values, Values]:
    """Returns the lowest and highest right value at each instant.

    Args:
        times: Of the samples of the tube, nanoseconds, ascending.
        values: Of the same; NaN where nothing valid was said.
        at: Instants that are asked about.
        tolerance: Width of the tube.

    Returns:
        Two arrays as long as ``at``; inf and -inf where no value would be right.
    """
    first, last = _window(times, at, tolerance)
    width = tolerance.atol + tolerance.rtol * np.abs(values)
    valid = ~np.isnan(values)
    low = np.append(np.where(valid, values - width, np.inf), np.inf)
    high = np.append(np.where(valid, values + width, -np.inf), -np.inf)
    pairs = np.stack([first, last], axis=1).ravel()
    return np.minimum.reduceat(low, pairs)[::2], np.maximum.reduceat(high, pairs)[::2]


def _window(
    times: Times, at: Times, tolerance: Tolerance
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Returns which samples count at each instant: ``[first, last)``, never none."""
    reach = round(tolerance.ttol_s * 1e9)
    first = np.maximum(np.searchsorted(times, at - reach, side="right") - 1, 0)
    last = np.searchsorted(times, at + reach, side="right")
    return first, np.maximum(last, first + 1)


def _outside(
    tube_of: tuple[Times, Values], samples: tuple[Times, Values], tolerance: Tolerance
) -> tuple[Values, Values, Values]:
    """Returns the distance of samples to a tube (0: inside), and the tube there."""
    times, values = samples
    if not len(tube_of[0]):
        nothing = np.full(len(times), np.inf)
        return nothing, nothing, -nothing
    low, high = tube(*tube_of, times, tolerance)
    # A hair of width, because 20.1 + 0.1 is above 20.2.
    hair = 1e-9 * np.maximum(np.abs(np.nan_to_num(values)), 1e-6)
    with np.errstate(invalid="ignore"):
        distance = np.maximum(low - values, values - high) - hair
    distance = np.where(distance > 0, distance, 0.0)
    invalid = np.isnan(values)
    if invalid.any():
        gaps = np.concatenate([[0], np.cumsum(np.isnan(tube_of[1]))])
        first, last = _window(tube_of[0], times, tolerance)
        agreed = gaps[last] > gaps[first]
        distance = np.where(invalid, np.where(agreed, 0.0, np.inf), distance)
    return distance, low, high


def _compare(
    name: str,
    a: tuple[Times, Values],
    b: tuple[Times, Values],
    tolerance: Tolerance,
) -> SignalDiff:
    distance, low, high = _outside(a, b, tolerance)
    behind, _, _ = _outside(b, a, tolerance)
    wrong, missed = np.flatnonzero(distance), np.flatnonzero(behind)
    samples = (len(a[0]), len(b[0]))
    if not len(wrong) and not len(missed):
        return SignalDiff(name=name, samples=samples)
    apart = np.concatenate([distance[wrong], behind[missed]])
    finite = apart[np.isfinite(apart)]
    when_wrong = b[0][wrong[0]] if len(wrong) else np.iinfo(np.int64).max
    when_missed = a[0][missed[0]] if len(missed) else np.iinfo(np.int64).max
    if when_wrong <= when_missed:
        first_s = float(when_wrong) / 1e9
        expected = (float(low[wrong[0]]), float(high[wrong[0]]))
        got: float | None = float(b[1][wrong[0]])
    else:
        first_s = float(when_missed) / 1e9
        value = float(a[1][missed[0]])
        width = tolerance.atol + tolerance.rtol * abs(value)
        expected = (value - width, value + width)
        row = int(np.searchsorted(b[0], when_missed, side="right")) - 1
        got = float(b[1][row]) if row >= 0 else None
    return SignalDiff(
        name=name,
        samples=samples,
        outside=len(wrong),
        missed=len(missed),
        largest=float(finite.max()) if len(finite) else float("nan"),
        first_s=first_s,
        expected=expected,
        got=got,
    )
