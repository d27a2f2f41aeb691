"""Recording around an event: what came before it is kept in memory.

A `Trigger` says when something has happened; a `Window` decides what is written:
the last minutes before it, everything until a while after it, and the retained
messages as they stood at the beginning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from playground.errors import PlaygroundError
from playground.expression import parse
from playground.message import Message, TopicFilters, check_filter
from playground.signals import Signals

_HISTORY = 1000
_SAID = ("publish", "will")
TOPIC_PREFIX = "topic:"


class Trigger(Protocol):
    """Says whether a message is what one was waiting for."""

    def __call__(self, message: Message) -> bool:
        """Looks at one message, each in its turn."""
        ...


class TopicTrigger:
    """Fires at any message that a topic filter covers."""

    def __init__(self, topic_filter: str) -> None:
        self._filters = TopicFilters((check_filter(topic_filter),))

    def __call__(self, message: Message) -> bool:
        """Says whether the message is on such a topic."""
        return message.kind in _SAID and message.topic in self._filters


class SignalTrigger:
    """Fires while a condition on signals is true: ``outlet_temp > 60 degC``."""

    def __init__(self, text: str, signals: Signals) -> None:
        self._signals = signals
        self._expression = parse(text, signals)
        self._topics = {signals.need(name).topic for name in self._expression.signals}
        self._now = dict.fromkeys(self._expression.signals, np.nan)
        length = _HISTORY if self._expression.sampled else 1
        self._times: deque[float] = deque(maxlen=length)
        self._values = {name: deque[float](maxlen=length) for name in self._now}

    def __call__(self, message: Message) -> bool:
        """Takes in the message; says whether the condition is true now."""
        if message.kind not in _SAID or message.topic not in self._topics:
            return False
        for name, value in self._signals.decode(message.topic, message.payload):
            if name in self._now:
                self._now[name] = value
        self._times.append(message.time_ns / 1e9)
        for name, value in self._now.items():
            self._values[name].append(value)
        truth = self._expression.evaluate(
            np.array(self._times),
            {name: np.array(values) for name, values in self._values.items()},
        )
        return bool(truth.known[-1] and truth.true[-1])


def make_trigger(text: str, signals: Signals | None) -> Trigger:
    """Reads what a person wrote as a trigger.

    Args:
        text: ``topic:FILTER``; or, with signals, a condition on them; or,
            without, a topic filter.
        signals: What the topics mean.

    Raises:
        PlaygroundError: It is neither.
    """
    if text.startswith(TOPIC_PREFIX):
        return TopicTrigger(text.removeprefix(TOPIC_PREFIX))
    if signals is not None:
        return SignalTrigger(text, signals)
    if any(sign in text for sign in "<>=") or " in " in text:
        raise PlaygroundError(
            f"The trigger {text!r} is a condition on signals, but no signals are known.",
            "name them: --signals signals.yaml; or wait for a topic: --trigger 'alarm/#'",
        )
    return TopicTrigger(text)


class Window:
    """What is written around each event; the rest is forgotten.

    Args:
        trigger: When something has happened. While it goes on firing, the
            window stays open.
        before_s: How much of what came before is kept.
        after_s: How long to go on after the last firing.
    """

    def __init__(self, trigger: Trigger, *, before_s: float, after_s: float) -> None:
        if before_s < 0 or after_s < 0:
            raise PlaygroundError(
                f"--ring {before_s:g} s and --after {after_s:g} s must not be negative.",
                "write for instance --ring 10min --after 5min",
            )
        self._trigger = trigger
        self._before_ns = round(before_s * 1e9)
        self._after_ns = round(after_s * 1e9)
        self._ring: deque[tuple[Message, bool]] = deque()
        self._retained: dict[str, Message] = {}
        self._until_ns: int | None = None
        self._closed_ns: int | None = None
        self.opened = 0
        """How often something has happened."""

    def admit(
        self, message: Message, *, snapshot: bool
    ) -> Iterator[tuple[Message, bool] | tuple[int, int]]:
        """Gives what is to be written now.

        Yields:
            ``(message, is snapshot)``, or before the first of a window
            ``(start_ns, end_ns)``: in between nothing was recorded.
        """
        fired = self._trigger(message)
        now_ns = message.time_ns
        if self._until_ns is not None and now_ns > self._until_ns:
            self._closed_ns, self._until_ns = self._until_ns, None
        if fired and self._until_ns is None:
            yield from self._open(now_ns)
        if fired:
            self._until_ns = now_ns + self._after_ns
        if self._until_ns is not None:
            yield message, snapshot
            # It may be among what is retained when the next window opens.
            self._keep(message)
            return
        self._ring.append((message, snapshot))
        oldest_ns = now_ns - self._before_ns
        while self._ring and self._ring[0][0].time_ns < oldest_ns:
            self._keep(self._ring.popleft()[0])

    def _open(self, now_ns: int) -> Iterator[tuple[Message, bool] | tuple[int, int]]:
        self.opened += 1
        oldest_ns = now_ns - self._before_ns
        while self._ring and self._ring[0][0].time_ns < oldest_ns:
            self._keep(self._ring.popleft()[0])
        closed_ns = self._closed_ns
        if closed_ns is not None and closed_ns >= oldest_ns:
            # The ring reaches back to what was written last: nothing is missing.
            for held in self._ring:
                yield held
                self._keep(held[0])
            self._ring.clear()
            return
        start_ns = self._ring[0][0].time_ns if self._ring else now_ns
        if closed_ns is not None:
            start_ns = oldest_ns
            yield closed_ns, start_ns
        for kept in self._retained.values():
            yield kept._replace(time_ns=start_ns, dup=False), True
        for held in self._ring:
            yield held
            self._keep(held[0])
        self._ring.clear()

    def _keep(self, message: Message) -> None:
        if message.retain and message.kind in _SAID:
            self._retained.pop(message.topic, None)
            if message.payload:
                self._retained[message.topic] = message
