"""Two recordings compared: equal, or where they first part.

Messages are aligned topic by topic, because order between topics is nobody's
promise; within a topic it is MQTT's. By default time does not count: a replay
says the same at another time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from playground.clock import iso
from playground.diff.alignment import Gap, Tally, align, moved_between, tally
from playground.diff.contents import (
    BEFORE,
    Compared,
    Ignore,
    Side,
    Topic,
    by_topic,
    skip_common,
)
from playground.errors import ExitCode
from playground.message import Message
from playground.recording import Recording

Sides = tuple[Side, Side]

__all__ = ["Compared", "DiffReport", "Divergence", "Ignore", "Tally", "diff"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """The first place at which two recordings are not the same.

    Attributes:
        topic: Where.
        what: ``changed``, ``missing``, ``extra``, ``reordered`` or ``late``.
        position_s: Seconds since the first message.
        expected: What the first recording says; None: nothing more.
        got: What the second says in its place; None: nothing more.
        before: The messages before it, of all topics.
    """

    topic: str
    what: str
    position_s: float
    expected: Message | None
    got: Message | None
    before: tuple[Message, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffReport:
    """What a comparison found.

    Attributes:
        equal: Nothing differs.
        count_a: Messages compared of the first recording.
        count_b: The same of the second.
        tally: What differs, over all topics.
        topics: What differs, by topic; only topics that differ.
        first: The first divergence; None if equal.
        undecided: Why it cannot be said, where that is so; else empty.
    """

    equal: bool
    count_a: int
    count_b: int
    tally: Tally
    topics: dict[str, Tally]
    first: Divergence | None
    undecided: str = ""

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
            "messages": [self.count_a, self.count_b],
            **_as_dict(self.tally),
            "topics": {topic: _as_dict(t) for topic, t in self.topics.items()},
            "first": None
            if first is None
            else {
                "topic": first.topic,
                "what": first.what,
                "position_s": first.position_s,
                "expected": _message_dict(first.expected),
                "got": _message_dict(first.got),
                "before": [_message_dict(message) for message in first.before],
            },
        }


def _as_dict(counts: Tally) -> dict[str, int]:
    return {
        "missing": counts.missing,
        "extra": counts.extra,
        "changed": counts.changed,
        "reordered": counts.reordered,
    }


def _message_dict(message: Message | None) -> dict[str, Any] | None:
    if message is None:
        return None
    return {
        "time": iso(message.time_ns),
        "topic": message.topic,
        "payload": message.payload.decode("utf-8", "backslashreplace"),
        "qos": message.qos,
        "retain": message.retain,
    }


def diff(a: Recording, b: Recording, *, compared: Compared | None = None) -> DiffReport:
    """Compares the publications of two recordings.

    Args:
        a: What is expected.
        b: What came.
        compared: What makes two messages equal; by default topic, payload, QoS
            and retain flag, in the order of each topic.

    Raises:
        FileFormatError: A recording is damaged.
    """
    compared = Compared() if compared is None else compared
    left, right = Side(a, compared), Side(b, compared)
    skip_common(left, right, compared)
    numbers: dict[str, int] = {}
    left.take_rest(numbers)
    right.take_rest(numbers)
    sides = (left, right)
    topics: dict[str, Tally] = {}
    firsts: list[tuple[float, Topic, Gap, str]] = []
    for topic in by_topic(left, right, list(numbers), compared):
        gaps = align(topic.a, topic.b)
        if gaps:
            gap = gaps[0]
            moved = moved_between(topic.a, topic.b, gaps)
            topics[topic.name] = tally(topic.a, topic.b, gaps, moved)
            what = _what(topic, gap, moved)
        else:
            late = _late(topic, sides, compared)
            if not len(late):
                continue
            gap = Gap(int(late[0]), int(late[0]) + 1, int(late[0]), int(late[0]) + 1)
            topics[topic.name] = Tally(changed=len(late))
            what = "late"
        firsts.append((_position_s(topic, gap, sides), topic, gap, what))
    total = sum(topics.values(), Tally())
    first = None
    if firsts:
        position_s, topic, gap, what = min(firsts, key=lambda entry: entry[0])
        first = _divergence(position_s, topic, gap, what, sides)
    undecided = ""
    if not left.count and not right.count:
        undecided = "neither recording has a message to compare"
    elif topics:
        undecided = _explained_by_loss(a, b, total)
    return DiffReport(
        equal=not topics,
        count_a=left.count,
        count_b=right.count,
        tally=total,
        topics=topics,
        first=first,
        undecided=undecided,
    )


def _what(topic: Topic, gap: Gap, moved: Counter[int]) -> str:
    gone, new = gap.a2 > gap.a1, gap.b2 > gap.b1
    if (gone and moved[int(topic.a[gap.a1])]) or (new and moved[int(topic.b[gap.b1])]):
        return "reordered"
    if gone and new:
        return "changed"
    return "missing" if gone else "extra"


def _late(topic: Topic, sides: Sides, compared: Compared) -> npt.NDArray[np.intp]:
    """Returns which messages of a topic have another time than expected."""
    if compared.times_s is None:
        return np.zeros(0, np.intp)
    left, right = sides
    apart = left.times_ns[topic.rows_a] - right.times_ns[topic.rows_b]
    return np.flatnonzero(np.abs(apart) > round(compared.times_s * 1e9))


def _position_s(topic: Topic, gap: Gap, sides: Sides) -> float:
    if gap.a1 < len(topic.rows_a):
        return float(sides[0].times_ns[topic.rows_a[gap.a1]]) / 1e9
    return float(sides[1].times_ns[topic.rows_b[gap.b1]]) / 1e9


def _divergence(
    position_s: float, topic: Topic, gap: Gap, what: str, sides: Sides
) -> Divergence:
    expected = got = None
    before: list[Message] = []
    if gap.b1 < len(topic.rows_b):
        *before, got = sides[1].messages(int(topic.rows_b[gap.b1]), BEFORE)
    if gap.a1 < len(topic.rows_a):
        *before, expected = sides[0].messages(int(topic.rows_a[gap.a1]), BEFORE)
    return Divergence(
        topic=topic.name,
        what=what,
        position_s=position_s,
        expected=expected,
        got=got,
        before=tuple(before),
    )


def _explained_by_loss(a: Recording, b: Recording, total: Tally) -> str:
    """Says that only what a recorder lost is missing, if that is so."""
    if total.changed or total.reordered:
        return ""
    sides = (("first", a, total.extra), ("second", b, total.missing))
    said = []
    for name, recording, absent in sides:
        if not absent:
            continue
        lost = losses(recording)
        if not lost:
            return ""
        said.append(f"the {name} recording says itself that it {lost}")
    return "; ".join(said)


def losses(recording: Recording) -> str:
    """Returns what a recording says it lost, for people; empty for nothing."""
    blind = sum(
        len(table) for table in recording.tables(kinds=("gap",), columns=("seq",))
    )
    if blind:
        return f"was blind {blind} times"
    stated = recording.metadata.get("next_seq")
    missing = stated - recording.count if isinstance(stated, int) else 0
    return f"lost {missing} messages" if missing > 0 else ""
