"""Assertions about plants, runs and recordings that say how far off they were.

Each judges what has been said so far and never lets time pass; what lets time pass
until something holds is ``wait_for`` of a plant. On failure the text has the margin
in the signal's own unit, the worst instant, and the messages around it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from playground.checks import CheckEntry, CheckResult, Sightings, read_check
from playground.client import Payload, payload_of, shown
from playground.clock import iso
from playground.diff import Compared, Ignore, diff
from playground.diff.contents import BEFORE
from playground.history import History, SignalHistory, history_of
from playground.message import Message, TopicFilters, matches
from playground.quantity import say_seconds, seconds
from playground.recording import Recording
from playground.signals import Signals

if TYPE_CHECKING:
    from playground.run import Result

Subject = Any
"""A signal, a virtual plant, a history, a result, or a recording."""
_OPERATORS = ("<", ">", "=", "!", "in ", "not in ")


def assert_eventually(
    subject: Subject,
    condition: str,
    *,
    within: str | None = None,
    since_s: float = 0.0,
    signals: Signals | None = None,
) -> None:
    """Asserts that something held at some instant.

    Args:
        subject: ``plant.signal("tank_temp")``; or a virtual plant, the result of
            a run, a recording with its ``signals``.
        condition: ``"> 50 degC"`` of a signal; a whole expression of the others:
            ``"tank_temp > 50 degC and flow > 0 l/s"``.
        within: How soon after ``since_s``: ``"20min"``; any time by default.
        since_s: Instant from which it counts, seconds since the start.
        signals: Meaning of the topics of a recording.

    Raises:
        AssertionError: It did not, or the history is too short to say.
        PlaygroundError: The condition cannot be read.
    """
    _judge(subject, condition, signals, since_s, "eventually", within=within)


def assert_never(
    subject: Subject,
    condition: str,
    *,
    since_s: float = 0.0,
    signals: Signals | None = None,
) -> None:
    """Asserts that something held at no instant; arguments as of `assert_eventually`.

    Args:
        subject: What is judged.
        condition: What must not be.
        since_s: Instant from which it counts, seconds since the start.
        signals: Meaning of the topics of a recording.

    Raises:
        AssertionError: It did hold, or nothing is known of it.
        PlaygroundError: The condition cannot be read.
    """
    _judge(subject, condition, signals, since_s, "never")


def assert_always(
    subject: Subject,
    condition: str,
    *,
    while_: str | None = None,
    since_s: float = 0.0,
    signals: Signals | None = None,
) -> None:
    """Asserts that something held at every instant.

    Args:
        subject: What is judged; see `assert_eventually`.
        condition: What must be.
        while_: Only the instants count at which this holds.
        since_s: Instant from which it counts, seconds since the start.
        signals: Meaning of the topics of a recording.

    Raises:
        AssertionError: It did not hold, or nothing is known of it.
        PlaygroundError: The condition cannot be read.
    """
    _judge(subject, condition, signals, since_s, "always", while_=while_)


def _judge(
    subject: Subject,
    condition: str,
    signals: Signals | None,
    since_s: float,
    kind: str,
    **more: str | None,
) -> None:
    __tracebackhide__ = True
    history = _history_of(subject, signals)
    if isinstance(subject, SignalHistory):
        own = condition.lstrip()
        if own.startswith(_OPERATORS):
            condition = f"{subject.name} {own}"
    given: dict[str, Any] = {kind: condition, **more}
    check = read_check(CheckEntry(**given), history.signals)
    end_s = history.end_s
    if end_s <= since_s:
        raise AssertionError(
            f"{check.name}: cannot be said\n"
            f"  no time has passed since {say_seconds(since_s)}\n"
            "  fix: let the plant run first, advance('10min')"
        )
    trajectory = history.traces(check.signals).trajectory(check.signals, since_s, end_s)
    sightings = None
    if check.topics is not None:
        times = history.sightings_s(TopicFilters((check.topics,)).__contains__)
        sightings = Sightings(times_s=times, start_s=since_s, end_s=end_s)
    found = check.judge(
        trajectory if check.sampled else trajectory.changes(), sightings
    )
    if found.verdict != "pass":
        raise AssertionError(explained(found, history))


def explained(found: CheckResult, history: History | None = None) -> str:
    """Renders how a check came out: margin, worst instant, messages around it.

    Args:
        found: The result of the check.
        history: Where the messages stand; without it they are left out.
    """
    if found.verdict == "untested":
        lines = [f"{found.name}: cannot be said", f"  {found.detail}"]
        if history is not None:
            lines.append(f"  known up to   {say_seconds(history.end_s)}")
        return "\n".join(lines)
    lines = [f"{found.name}: {'is not so' if found.verdict == 'fail' else 'is so'}"]
    if found.margin is not None:
        unit = "" if found.unit in (None, "1") else f" {found.unit}"
        lines.append(f"  margin        {found.margin:.4g}{unit}")
    if found.worst_s is not None:
        instant = ""
        if history is not None:
            at_ns = history.start_ns + round(found.worst_s * 1e9)
            instant = f" ({iso(at_ns)})"
        lines.append(f"  worst instant {say_seconds(found.worst_s)}{instant}")
    if found.detail:
        lines.append(f"  {found.detail}")
    if history is not None and found.worst_s is not None:
        topics = {history.signals[name].topic for name in found.signals}
        around = history.around(found.worst_s, topics=topics)
        if around:
            lines.append("  messages around it:")
            lines.extend(
                f"    {_clock(time_s)}  {shown(message)}" for time_s, message in around
            )
    return "\n".join(lines)


def _clock(time_s: float) -> str:
    whole = math.floor(time_s)
    text = f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
    part = f"{time_s - whole:.3f}"[1:].rstrip("0").rstrip(".")
    return text + part


def _is_result(subject: Any) -> TypeGuard[Result]:
    # By its shape: a test that runs no scenario need not import what runs them.
    return hasattr(subject, "verdict") and isinstance(
        getattr(subject, "folder", None), Path
    )


def _history_of(subject: Subject, signals: Signals | None) -> History:
    if _is_result(subject):
        return history_of_result(subject)
    return history_of(subject, signals)


def history_of_result(result: Result) -> History:
    """Returns the history of a run, with the signals of its plant."""
    from playground.run import RESOLVED
    from playground.scenario import load_scenario

    signals = load_scenario(result.folder / RESOLVED).prepare().signals
    return History.of(Recording.open(result.recording), signals)


# -- recordings ----------------------------------------------------------------


def _recording(subject: Any) -> Recording:
    if isinstance(subject, Recording):
        return subject
    if _is_result(subject):
        return Recording.open(subject.recording)
    own = getattr(subject, "recording", None)
    return own if isinstance(own, Recording) else Recording.open(subject)


def assert_same(
    expected: Any,
    got: Any,
    *,
    atol: float | None = None,
    signals: Signals | None = None,
    ignore: Sequence[str] = (),
    times_within: str | None = None,
) -> None:
    """Asserts that two recordings say the same.

    Args:
        expected: A recording, its path, a virtual plant, or a result.
        got: The same.
        atol: Largest difference of a number: payloads that are numbers, or JSON
            with numbers in it, are compared value by value. By default payloads
            must be equal byte by byte.
        signals: Compare the values of these signals instead of messages; then
            ``atol`` is in the unit of each, 0 by default.
        ignore: What does not count: topic filters, and JSON paths as
            ``"lab/#:$.timestamp"``.
        times_within: Times since the first message count too, to within this
            (``"100ms"``); by default they do not.

    Raises:
        AssertionError: They do not; the text shows the first difference and the
            messages before it.
    """
    __tracebackhide__ = True
    a, b = _recording(expected), _recording(got)
    if signals is not None:
        _same_signals(a, b, signals, atol or 0.0)
    elif atol is not None:
        _same_numbers(a, b, atol, Ignore.parse(ignore))
    else:
        compared = Compared(
            ignore=Ignore.parse(ignore),
            times_s=None if times_within is None else seconds(times_within),
        )
        report = diff(a, b, compared=compared)
        if report.undecided:
            raise AssertionError(f"It cannot be said: {report.undecided}.")
        if not report.equal:
            raise AssertionError(_divergence(report))


def _divergence(report: Any) -> str:
    first, tally = report.first, report.tally
    counts = (
        f"{tally.missing} missing, {tally.extra} extra, {tally.changed} changed, "
        f"{tally.reordered} reordered"
    )
    lines = [
        f"The recordings differ: {counts} "
        f"({report.count_a} messages against {report.count_b})"
    ]
    if first is not None:
        lines.append(
            f"  first on {first.topic!r} at {say_seconds(first.position_s)}: {first.what}"
        )
        for what, message in (("expected", first.expected), ("got", first.got)):
            told = "nothing more" if message is None else shown(message)
            lines.append(f"    {what:<9} {told}")
        if first.before:
            lines.append("  messages before it:")
            lines.extend(
                f"    {iso(message.time_ns)[11:23].rstrip('Z')}  {shown(message)}"
                for message in first.before[-5:]
            )
    return "\n".join(lines)


def _same_signals(a: Recording, b: Recording, signals: Signals, atol: float) -> None:
    __tracebackhide__ = True
    left, right = History.of(a, signals), History.of(b, signals)
    for name in signals:
        x, y = left.signal(name), right.signal(name)
        if len(x) != len(y):
            raise AssertionError(
                f"{name}: {len(x)} samples against {len(y)}.\n"
                f"  last values {x.value:g} and {y.value:g} {x.unit}"
            )
        if not len(x):
            continue
        apart = abs(x.values - y.values)
        apart[(x.values != x.values) & (y.values != y.values)] = 0.0
        apart[apart != apart] = math.inf
        worst = int(apart.argmax())
        if apart[worst] > atol:
            time_s = float(x.times_s[worst])
            lines = [
                f"{name} differs by {apart[worst]:.4g} {x.unit}; allowed is {atol:g}",
                f"  worst instant {say_seconds(time_s)}: expected "
                f"{x.values[worst]:.6g}, got {y.values[worst]:.6g} {x.unit}",
                f"  margin        {atol - apart[worst]:.4g} {x.unit}",
                "  messages around it, in the second:",
            ]
            lines.extend(
                f"    {_clock(at_s)}  {shown(message)}"
                for at_s, message in right.around(
                    float(y.times_s[worst]), topics=[y.signal.topic]
                )
            )
            raise AssertionError("\n".join(lines))


def _same_numbers(a: Recording, b: Recording, atol: float, ignore: Ignore) -> None:
    __tracebackhide__ = True
    left, right = _by_topic(a, ignore), _by_topic(b, ignore)
    for topic in sorted(set(left) | set(right)):
        ours, theirs = left.get(topic, []), right.get(topic, [])
        if len(ours) != len(theirs):
            raise AssertionError(
                f"On {topic!r} there are {len(ours)} messages against {len(theirs)}."
            )
        for number, (x, y) in enumerate(zip(ours, theirs, strict=True)):
            paths = ignore.paths_of(topic)
            apart = _apart(_tree(x.payload), _tree(y.payload), atol, paths)
            if apart:
                raise AssertionError(
                    f"On {topic!r}, message {number + 1} of the topic: {apart}\n"
                    f"    expected  {iso(x.time_ns)}  {shown(x)}\n"
                    f"    got       {iso(y.time_ns)}  {shown(y)}\n"
                    "  messages before it:\n"
                    + "\n".join(
                        f"    {iso(m.time_ns)}  {shown(m)}"
                        for m in ours[max(0, number - 3) : number]
                    )
                )


def _by_topic(recording: Recording, ignore: Ignore) -> dict[str, list[Message]]:
    found: dict[str, list[Message]] = {}
    for message in recording.messages(exclude=ignore.topics):
        found.setdefault(message.topic, []).append(message)
    return found


def _tree(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return payload


def _apart(x: Any, y: Any, atol: float, paths: Sequence[str], at: str = "") -> str:
    """Says what is too far apart; empty if nothing is."""
    if at and at in paths:
        return ""
    if _is_number(x) and _is_number(y):
        gap = abs(x - y)
        if gap > atol:
            place = f"{at}: " if at else ""
            return f"{place}{x:g} and {y:g} are {gap:.4g} apart; allowed is {atol:g}"
        return ""
    if isinstance(x, Mapping) and isinstance(y, Mapping):
        for key in [*x, *(k for k in y if k not in x)]:
            inner = f"{at}.{key}" if at else str(key)
            if inner in paths:
                continue
            if key not in x or key not in y:
                return f"{inner} is only in one of them"
            told = _apart(x[key], y[key], atol, paths, inner)
            if told:
                return told
        return ""
    if isinstance(x, list) and isinstance(y, list) and len(x) == len(y):
        for number, (one, other) in enumerate(zip(x, y, strict=True)):
            told = _apart(one, other, atol, paths, f"{at}[{number}]")
            if told:
                return told
        return ""
    return "" if x == y else f"{at + ': ' if at else ''}{x!r} is not {y!r}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def assert_messages(
    subject: Any,
    expected: Sequence[str | tuple[str, Payload]],
    *,
    exactly: bool = False,
) -> None:
    """Asserts that messages were published, in this order.

    Args:
        subject: A recording, a virtual plant, a client, a broker's log, or a list
            of messages.
        expected: Topic filters, or pairs of a topic filter and a payload.
        exactly: Nothing else may stand between them, before or after; by
            default it may.

    Raises:
        AssertionError: The text says how far it got and what was said there.
    """
    __tracebackhide__ = True
    messages = _messages(subject)
    wanted = [
        (e, None) if isinstance(e, str) else (e[0], payload_of(e[1])) for e in expected
    ]
    at = 0
    for number, (topic_filter, payload) in enumerate(wanted):
        while at < len(messages):
            message = messages[at]
            fits = matches(topic_filter, message.topic) and payload in (
                None,
                message.payload,
            )
            at += 1
            if fits:
                break
            if exactly:
                raise AssertionError(
                    _off(messages, wanted, number, at - 1, "but here is")
                )
        else:
            raise AssertionError(
                _off(messages, wanted, number, at, "but nothing more came")
            )
    if exactly and at < len(messages):
        raise AssertionError(
            _off(messages, wanted, len(wanted), at, "but there is more")
        )


def _messages(subject: Any) -> list[Message]:
    if isinstance(subject, Sequence) and not isinstance(subject, str):
        return list(subject)
    own = getattr(subject, "messages", None)
    if isinstance(own, list):
        return list(own)
    return list(_recording(subject).messages())


def _off(
    messages: list[Message],
    wanted: Sequence[tuple[str, bytes | None]],
    number: int,
    at: int,
    told: str,
) -> str:
    lines = [f"{number} of {len(wanted)} expected messages came"]
    if number < len(wanted):
        topic_filter, payload = wanted[number]
        what = topic_filter if payload is None else f"{topic_filter}  {payload!r}"
        lines[0] += f"; next should be  {what}"
        near = [
            m
            for m in messages
            if matches(topic_filter, m.topic) and m.payload != payload
        ]
        if payload is not None and near:
            lines.append(f"  on that topic came: {shown(near[0])}")
    lines.append(f"  {told}:")
    begin = max(0, min(at, len(messages)) - BEFORE // 2)
    lines.extend(
        f"  {'>' if place == at else ' '} {iso(message.time_ns)[11:23].rstrip('Z')}  "
        f"{shown(message)}"
        for place, message in enumerate(messages[begin : at + 3], begin)
    )
    return "\n".join(lines)
