"""`History`: what was said so far, and what it means signal by signal.

Of a virtual plant while it runs, or of a recording. It is asked by tests and by
`playground.assertions`; nothing is judged here.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from playground.message import Message
from playground.quantity import seconds
from playground.recording import Recording
from playground.signals import Signal, Signals
from playground.trajectory import Traces

Array = npt.NDArray[np.float64]
_SAID = ("publish", "will")


@dataclass(frozen=True, slots=True)
class SignalHistory:
    """One signal over time.

    Attributes:
        signal: What it is: name, unit, topic, range.
        times_s: When it was said, seconds since the start; shape (n,).
        values: What it was, in ``unit``, NaN where what was said is not valid;
            shape (n,).
        history: Where it comes from.
    """

    signal: Signal
    times_s: Array
    values: Array
    history: History

    @property
    def name(self) -> str:
        """Name of the signal."""
        return self.signal.name

    @property
    def unit(self) -> str:
        """Unit of the values."""
        return self.signal.unit

    @property
    def value(self) -> float:
        """The latest value; before anything was said the initial one, else NaN."""
        if len(self.values):
            return float(self.values[-1])
        return np.nan if self.signal.initial is None else self.signal.initial

    def at(self, time: str) -> float:
        """Returns the value that held at an instant.

        Args:
            time: Since the start, ``"10min"``.
        """
        row = int(np.searchsorted(self.times_s, seconds(time), side="right")) - 1
        if row >= 0:
            return float(self.values[row])
        return np.nan if self.signal.initial is None else self.signal.initial

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"<{self.name}: {self.value:g} {self.unit}, {len(self.values)} samples>"


class History:
    """Messages in order, and the signals they carry.

    Args:
        messages: In order of time; may grow while it is looked at.
        signals: Meaning of the topics.
        start_ns: Instant of second 0, nanoseconds since 1970 UTC.
        end_ns: Instant up to which it is known, or a function that says so.
    """

    def __init__(
        self,
        messages: Sequence[Message],
        signals: Signals,
        *,
        start_ns: int,
        end_ns: int | Callable[[], int],
    ) -> None:
        self.messages = messages
        self.signals = signals
        self.start_ns = start_ns
        self._end_ns = end_ns

    @classmethod
    def of(cls, recording: Recording, signals: Signals) -> History:
        """Returns the history that a recording holds."""
        return cls(
            list(recording.messages(kinds=_SAID)),
            signals,
            start_ns=recording.start_ns,
            end_ns=recording.end_ns,
        )

    @property
    def end_s(self) -> float:
        """Seconds from the start up to which it is known."""
        end = self._end_ns() if callable(self._end_ns) else self._end_ns
        return (end - self.start_ns) / 1e9

    def signal(self, name: str) -> SignalHistory:
        """Returns one signal over time.

        Raises:
            PlaygroundError: There is no such signal.
        """
        signal = self.signals.need(name)
        times_s, values = self._samples([signal])[name]
        return SignalHistory(signal, times_s, values, self)

    def traces(self, names: Iterable[str]) -> Traces:
        """Returns signals in the form in which checks and KPIs take them."""
        signals = [self.signals.need(name) for name in dict.fromkeys(names)]
        return Traces(
            self._samples(signals),
            {
                signal.name: signal.initial
                for signal in signals
                if signal.role != "measurement" and signal.initial is not None
            },
        )

    def sightings_s(self, wanted: Callable[[str], object]) -> Array:
        """Returns when messages were published on topics that are wanted."""
        return np.array(
            [
                (message.time_ns - self.start_ns) / 1e9
                for message in self._said()
                if wanted(message.topic)
            ],
            np.float64,
        )

    def around(
        self,
        time_s: float,
        *,
        topics: Iterable[str] = (),
        before: int = 4,
        after: int = 2,
    ) -> list[tuple[float, Message]]:
        """Returns the messages around an instant with their times.

        Args:
            time_s: The instant, seconds since the start.
            topics: Only messages on these; none means all.
            before: How many up to and including the instant.
            after: How many after it.
        """
        only = frozenset(topics)
        said = [m for m in self._said() if not only or m.topic in only]
        instant = self.start_ns + round(time_s * 1e9)
        at = bisect.bisect_right(said, instant, key=lambda m: m.time_ns)
        return [
            ((message.time_ns - self.start_ns) / 1e9, message)
            for message in said[max(0, at - before) : at + after]
        ]

    def _said(self) -> list[Message]:
        # A copy, because a plant in real time goes on speaking meanwhile.
        return [m for m in list(self.messages) if m.kind in _SAID]

    def _samples(self, signals: Sequence[Signal]) -> dict[str, tuple[Array, Array]]:
        known = Signals(signals)
        topics = known.by_topic
        found: dict[str, tuple[list[float], list[float]]] = {
            signal.name: ([], []) for signal in signals
        }
        for message in list(self.messages):
            if message.topic not in topics or message.kind not in _SAID:
                continue
            time_s = (message.time_ns - self.start_ns) / 1e9
            for name, value in known.decode(message.topic, message.payload):
                times, values = found[name]
                times.append(time_s)
                values.append(value)
        return {
            name: (np.array(times, np.float64), np.array(values, np.float64))
            for name, (times, values) in found.items()
        }


def history_of(subject: Any, signals: Signals | None = None) -> History:
    """Returns the history of whatever has one.

    Args:
        subject: A `History`, a signal of one, a virtual plant, the result of a
            run, or a `Recording` (which needs ``signals``).
        signals: Meaning of the topics of a recording.

    Raises:
        PlaygroundError: It has none.
    """
    from playground.errors import PlaygroundError

    if isinstance(subject, History):
        return subject
    own = getattr(subject, "history", None)
    if isinstance(own, History):
        return own
    if isinstance(subject, Recording):
        if signals is None:
            raise PlaygroundError(
                f"{subject!r} does not say what its topics mean.",
                "add signals=load_signals('signals.yaml')",
            )
        return History.of(subject, signals)
    raise PlaygroundError(
        f"{subject!r} has no signals.",
        "give plant.signal('name'), a virtual plant, the result of run_scenario, or "
        "a recording with signals=…",
    )
