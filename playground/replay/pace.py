"""How fast a recording is played, and how well the pace is kept.

`Pace` ties the time of a session to the time of a clock by one pair of
instants and a rate. Every deadline is computed from that pair and never from
the message before, so nothing adds up. No clock is read here.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from playground.errors import PlaygroundError

MAX = math.inf
"""As fast as the other side takes it."""


def check_speed(speed: float) -> float:
    """Returns the speed if one can play at it.

    Raises:
        PlaygroundError: It is not above 0.
    """
    if not speed > 0:
        raise PlaygroundError(
            f"Speed {speed:g} would never arrive.",
            "write a number above 0 (1 is real time, 60 an hour per minute) or 'max'",
        )
    return float(speed)


class Pace:
    """One pair of (session time, clock time) and a rate.

    Args:
        speed: Session seconds per clock second; infinite for `MAX`.
        session_ns: An instant of the session.
        clock_ns: The instant of the clock at which that one is due.
    """

    __slots__ = ("_clock_ns", "_session_ns", "speed")

    def __init__(self, speed: float, *, session_ns: int, clock_ns: int) -> None:
        self.speed = check_speed(speed)
        self._session_ns = session_ns
        self._clock_ns = clock_ns

    def due_ns(self, session_ns: int) -> int:
        """Returns when an instant of the session is due on the clock."""
        elapsed = session_ns - self._session_ns
        if self.speed == 1.0:
            return self._clock_ns + elapsed
        return self._clock_ns + round(elapsed / self.speed)

    def session_ns(self, clock_ns: int) -> int:
        """Returns which instant of the session is due at an instant of the clock."""
        if self.speed == MAX:
            return self._session_ns
        return self._session_ns + round((clock_ns - self._clock_ns) * self.speed)

    def reached(self, session_ns: int, clock_ns: int) -> float:
        """Returns the speed kept since the pair was taken, if one is here now."""
        elapsed_ns = max(clock_ns - self._clock_ns, 1)
        return max((session_ns - self._session_ns) / elapsed_ns, 1e-6)

    def tie(
        self, *, session_ns: int, clock_ns: int, speed: float | None = None
    ) -> None:
        """Takes the pair anew: after a pause, a seek, a change of rate."""
        if speed is not None:
            self.speed = check_speed(speed)
        self._session_ns = session_ns
        self._clock_ns = clock_ns

    def slip(self, delay_ns: int) -> None:
        """Moves everything that is still to come by a delay."""
        self._clock_ns += delay_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Lateness:
    """How late messages were, in seconds of the wall clock.

    Attributes:
        count: Messages that had a deadline; none at speed `MAX`.
        p50_s: Half of them were at most this late.
        p99_s: 99 of 100 were at most this late.
        max_s: The latest.
    """

    count: int = 0
    p50_s: float = 0.0
    p99_s: float = 0.0
    max_s: float = 0.0

    def __str__(self) -> str:
        if not self.count:
            return "no deadlines"
        return (
            f"p50 {self.p50_s * 1e3:.3g} ms, p99 {self.p99_s * 1e3:.3g} ms, "
            f"max {self.max_s * 1e3:.3g} ms"
        )


class LatenessMeter:
    """Gathers the lateness of messages in bounded memory, to within 1 %."""

    _CHUNK = 16_384
    _STEPS = 100
    """Buckets per factor e."""

    def __init__(self) -> None:
        self._recent = array("q")
        # Bucket k holds what is below exp(k / STEPS) ns; 2^63 ns is 43.7 e-folds.
        self._buckets: npt.NDArray[np.int64] = np.zeros(44 * self._STEPS + 1, np.int64)
        self._count = 0
        self._max_ns = 0

    def add(self, late_ns: int) -> None:
        """Takes in the lateness of one message, nanoseconds."""
        recent = self._recent
        recent.append(late_ns)
        if len(recent) >= self._CHUNK:
            self._fold()

    def _fold(self) -> None:
        late, self._recent = self._recent, array("q")
        self._buckets, self._count, self._max_ns = self._with(late)

    def _with(self, recent: array[int]) -> tuple[npt.NDArray[np.int64], int, int]:
        late = np.maximum(np.frombuffer(recent, np.int64), 0)
        if not len(late):
            return self._buckets, self._count, self._max_ns
        bucket = np.ceil(np.log(np.maximum(late, 1)) * self._STEPS).astype(np.int64)
        return (
            self._buckets + np.bincount(bucket, minlength=len(self._buckets)),
            self._count + len(late),
            max(self._max_ns, int(late.max())),
        )

    def summary(self) -> Lateness:
        """Returns the figures so far; may be asked from another thread."""
        # A copy: an array cannot grow while its memory is looked at.
        buckets, count, max_ns = self._with(self._recent[:])
        if not count:
            return Lateness()

        below = np.cumsum(buckets)

        def quantile(share: float) -> float:
            bucket = int(np.searchsorted(below, share * count))
            return float(min(math.exp(bucket / self._STEPS), max_ns)) / 1e9

        return Lateness(
            count=count, p50_s=quantile(0.50), p99_s=quantile(0.99), max_s=max_ns / 1e9
        )
