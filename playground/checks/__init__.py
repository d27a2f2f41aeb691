"""Checks: what must be so in a run, judged on its recording.

Three verdicts: *pass*, *fail*, and *untested* for a check that never came to
bear, which is never green. Beside the verdict stands the margin, in the unit of
the signal: by how much it passed, or (negative) by how much it failed. It is the
robustness of signal temporal logic (Donzé and Maler, 2010) of a trajectory that
holds its values between messages.

A check is judged over the whole run after the warm-up. No file is read here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from playground.checks.finding import Array, Finding, Sightings, Verdict
from playground.checks.messages import answered, read_message_check, silence
from playground.document import DurationText
from playground.errors import PlaygroundError
from playground.expression import Expression, Truth, parse
from playground.message import TopicFilters
from playground.quantity import say_seconds, seconds
from playground.signals import Signals
from playground.trajectory import Trajectory

__all__ = [
    "HEADS",
    "Check",
    "CheckEntry",
    "CheckResult",
    "Sightings",
    "Verdict",
    "read_check",
]

HEADS = (
    "always",
    "never",
    "eventually",
    "when",
    "stays",
    "settles",
    "message",
    "no_message",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckEntry:
    """A check as it stands in a scenario; one of `HEADS` says which kind it is.

    Attributes:
        always: Holds at every instant (while …).
        never: Holds at no instant (while …).
        eventually: Holds at some instant (within … of the start).
        settles: Holds from some instant on to the end (within … of the start).
        stays: Once it holds, it holds for at least ``for``.
        when: Each time this has held for ``for`` …
        then: … this holds within ``within`` (at once, if that is left out) …
        then_message: … or a message is published on this topic filter.
        keeps: … and then for this long.
        until: … or until this holds. With ``always`` and ``never``: only the
            instants count before this first holds.
        message: A topic filter: messages come at least ``every``, or
            ``at_most`` so often (``"10 per 1min"``), or ``within`` a duration
            ``after`` each message of another filter, or fit a ``schema``.
        no_message: A topic filter on which nothing is published.
        while_: Only the instants count at which this holds (for ``for``).
        for_: A duration; see ``when``, ``while``, ``stays``.
        within: A duration; see ``then``, ``eventually``, ``settles``.
        after: A topic filter; see ``message``.
        schema: JSON Schema of the payloads, or the name of its file.
        every: Longest time between two messages.
        at_most: Largest number of messages in a sliding window.
        name: For the report; by default the check itself.
        may_be_untested: Do not complain if it never came to bear.
    """

    always: str | None = None
    never: str | None = None
    eventually: str | None = None
    settles: str | None = None
    stays: str | None = None
    when: str | None = None
    then: str | None = None
    then_message: str | None = None
    keeps: DurationText | None = None
    until: str | None = None
    message: str | None = None
    no_message: str | None = None
    while_: str | None = None
    for_: DurationText | None = None
    within: DurationText | None = None
    after: str | None = None
    schema: str | Mapping[str, Any] | None = None
    every: DurationText | None = None
    at_most: str | None = None
    name: str | None = None
    may_be_untested: bool = False


_MAY_HAVE = {
    "always": {"while", "for", "until"},
    "never": {"while", "for", "until"},
    "eventually": {"within"},
    "settles": {"within"},
    "stays": {"for"},
    "when": {"for", "then", "then_message", "within", "keeps", "until"},
    "message": {"every", "at_most", "within", "after", "schema"},
    "no_message": set[str](),
}
_MUST_HAVE = {"stays": ("for",)}
_BESIDE = (
    "while",
    "for",
    "then",
    "then_message",
    "within",
    "after",
    "keeps",
    "until",
    "every",
    "at_most",
    "schema",
)
"""Keys that stand beside a head, in the order of a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """How a check came out.

    Attributes:
        name: Of the check.
        verdict: ``pass``, ``fail`` or ``untested``.
        margin: Distance to the limit at the worst instant, negative on failure;
            None where there is no such distance (yes or no, untested).
        unit: Of the margin.
        worst_s: The worst instant, or where it failed first if there is no
            margin; seconds since the start of the run.
        detail: A sentence for people.
        signals: What the check speaks of.
        may_be_untested: ``untested`` is acceptable.
    """

    name: str
    verdict: Verdict
    margin: float | None = None
    unit: str | None = None
    worst_s: float | None = None
    detail: str = ""
    signals: tuple[str, ...] = ()
    may_be_untested: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check that is ready to judge.

    Attributes:
        name: For the report.
        signals: Names of the signals it needs.
        topics: Topic filter of the messages it needs; None for none.
        after: Topic filter of the messages that these must follow; None for none.
        payloads: It looks into the messages.
        sampled: Every sample counts, whether its value changed or not.
        may_be_untested: ``untested`` is acceptable.
    """

    name: str
    signals: tuple[str, ...]
    topics: str | None
    sampled: bool
    may_be_untested: bool
    _judge: Callable[[Trajectory, Sightings | None], CheckResult] = field(repr=False)
    after: str | None = None
    payloads: bool = False

    def judge(
        self, trajectory: Trajectory, sightings: Sightings | None = None
    ) -> CheckResult:
        """Judges a trajectory that holds at least the signals of this check.

        Args:
            trajectory: What the signals were.
            sightings: When messages came on ``topics``, where there are any.
        """
        return self._judge(trajectory, sightings)


def read_check(entry: CheckEntry, signals: Signals, *, folder: Path = Path()) -> Check:
    """Makes a check from what stands in a scenario.

    Args:
        entry: What stands there.
        signals: What it may speak of.
        folder: Where a schema that it names lies.

    Raises:
        PlaygroundError: It cannot be understood; see `playground.expression`.
    """
    head = _head(entry)
    text = str(getattr(entry, head))
    name = entry.name or _title(entry, head)
    within_s = seconds(entry.within) if entry.within is not None else None
    for_s = seconds(entry.for_) if entry.for_ is not None else 0.0
    guard = parse(entry.while_, signals) if entry.while_ is not None else None
    until = parse(entry.until, signals) if entry.until is not None else None
    needed: dict[str, None] = {}
    sampled = any(one is not None and one.sampled for one in (guard, until))
    topics = after = None
    judge: Callable[[Trajectory, Sightings | None], Finding]
    if head in ("message", "no_message"):
        topics = TopicFilters((text,)).include[0]
        if head == "no_message":
            judge = silence
        else:
            judge, after = read_message_check(entry, topics, folder)
    else:
        expression = parse(text, signals)
        needed.update(dict.fromkeys(expression.signals))
        sampled |= expression.sampled
        for one in (guard, until):
            needed.update(dict.fromkeys(one.signals if one is not None else ()))
        if head in ("always", "never"):
            if guard is None and entry.for_ is not None:
                raise PlaygroundError(
                    "'for' says how long 'while' must have held, but there is no "
                    "'while'.",
                    "add 'while: …', or write 'stays: …' with 'for: …'",
                )
            judge = _always(
                expression, guard, for_s, until=until, negate=head == "never"
            )
        elif head == "eventually":
            judge = _eventually(expression, within_s)
        elif head == "settles":
            judge = _settles(expression, within_s)
        elif head == "stays":
            judge = _stays(expression, for_s)
        elif entry.then_message is not None:
            topics = TopicFilters((entry.then_message,)).include[0]
            judge = answered(
                lambda seen: _triggers(expression, for_s, seen), within_s or 0.0
            )
        else:
            then = parse(str(entry.then), signals)
            needed.update(dict.fromkeys(then.signals))
            sampled |= then.sampled
            keeps_s = seconds(entry.keeps) if entry.keeps is not None else 0.0
            judge = _when_then(expression, for_s, then, within_s or 0.0, keeps_s, until)

    def finish(trajectory: Trajectory, sightings: Sightings | None) -> CheckResult:
        found = judge(trajectory, sightings)
        margin = found.margin
        if margin is not None:
            # Adding 0 makes 0 of -0, which reads like a failure.
            margin = margin + 0.0 if math.isfinite(margin) else None
        return CheckResult(
            name=name,
            verdict=found.verdict,
            margin=margin,
            unit=found.unit if margin is not None else None,
            worst_s=found.worst_s,
            detail=found.detail,
            signals=tuple(needed),
            may_be_untested=entry.may_be_untested,
        )

    return Check(
        name=name,
        signals=tuple(needed),
        topics=topics,
        after=after,
        payloads=entry.schema is not None,
        sampled=sampled,
        may_be_untested=entry.may_be_untested,
        _judge=finish,
    )


def _head(entry: CheckEntry) -> str:
    heads = [head for head in HEADS if getattr(entry, head) is not None]
    if len(heads) != 1:
        seen = " and ".join(f"'{head}'" for head in heads)
        raise PlaygroundError(
            f"A check has one kind; here stand {seen}."
            if heads
            else "A check needs to say what must be so.",
            f"write one of {', '.join(HEADS)}, each check in an entry of its own",
        )
    head = heads[0]
    for other in _BESIDE:
        field_name = f"{other}_" if other in ("while", "for") else other
        given = getattr(entry, field_name) is not None
        if given and other not in _MAY_HAVE[head]:
            allowed = ", ".join(sorted(_MAY_HAVE[head])) or "nothing"
            raise PlaygroundError(
                f"'{other}' does not go with '{head}'.",
                f"with '{head}' goes {allowed}",
            )
        if not given and other in _MUST_HAVE.get(head, ()):
            raise PlaygroundError(
                f"'{head}' needs '{other}'.", f"add '{other}: …' to this check"
            )
    if head == "when":
        if (entry.then is None) == (entry.then_message is None):
            raise PlaygroundError(
                "'when' needs 'then' or 'then_message'."
                if entry.then is None
                else "'when' has either 'then' or 'then_message', not both.",
                "add 'then: …' to this check, or 'then_message: FILTER'",
            )
        for other in ("keeps", "until"):
            if entry.then_message is not None and getattr(entry, other) is not None:
                raise PlaygroundError(
                    f"'{other}' does not go with 'then_message'.",
                    "a message is there at once; leave it out",
                )
        if entry.keeps is not None and entry.until is not None:
            raise PlaygroundError(
                "'keeps' and 'until' both say how long.", "leave one of the two out"
            )
    return head


def _title(entry: CheckEntry, head: str) -> str:
    parts = [f"{head} {getattr(entry, head)}"]
    for key in _BESIDE:
        value = getattr(entry, f"{key}_" if key in ("while", "for") else key)
        if value is not None:
            shown = value if isinstance(value, str) else "given here"
            if key == "schema":
                # A check keeps its name wherever the scenario is moved to.
                shown = Path(shown).name
            parts.append(f"{key.replace('_', ' ')} {shown}")
    return ", ".join(parts)


_NEVER_KNOWN = Finding("untested", detail="its signals were never known")


def _truth(expression: Expression, trajectory: Trajectory) -> Truth:
    return expression.evaluate(trajectory.times_s, trajectory.values)


def _runs(truth: Truth, trajectory: Trajectory) -> list[tuple[float, float]]:
    """Returns the spans ``[from, to)`` in which something is known to be true."""
    held = np.concatenate([[False], truth.known & truth.true, [False]])
    edges = np.flatnonzero(held[1:] != held[:-1])
    times = np.append(trajectory.times_s, trajectory.end_s)[edges]
    return list(zip(times[0::2].tolist(), times[1::2].tolist(), strict=True))


def _rows(trajectory: Trajectory, start_s: float, end_s: float) -> slice:
    """Returns the rows whose values hold somewhere in ``[start_s, end_s]``."""
    times = trajectory.times_s
    first = max(int(np.searchsorted(times, start_s, side="right")) - 1, 0)
    return slice(first, int(np.searchsorted(times, end_s, side="right")))


def _always(
    expression: Expression,
    guard: Expression | None,
    for_s: float,
    *,
    until: Expression | None,
    negate: bool,
) -> Callable[[Trajectory, Sightings | None], Finding]:
    def judge(trajectory: Trajectory, _: Sightings | None) -> Finding:
        truth = _truth(expression, trajectory)
        truth = ~truth if negate else truth
        counted = truth.known.copy()
        instants = trajectory.times_s
        if guard is not None:
            under_guard = np.zeros(len(counted), bool)
            for start, end in _runs(_truth(guard, trajectory), trajectory):
                if start + for_s < end:
                    rows = _rows(trajectory, start + for_s, end)
                    under_guard[rows] |= trajectory.times_s[rows] < end
                    # The row that holds when the guard has held long enough.
                    instants = instants.copy()
                    instants[rows.start] = max(instants[rows.start], start + for_s)
            counted &= under_guard
            if not under_guard.any():
                return Finding("untested", detail="its 'while' never held")
        if until is not None:
            over = _truth(until, trajectory)
            counted &= ~np.logical_or.accumulate(over.known & over.true)
            if not counted.any() and truth.known.any():
                return Finding("untested", detail="its 'until' held before it began")
        if not counted.any():
            return _NEVER_KNOWN
        return _worst(truth, counted, instants, expression.unit)

    return judge


def _worst(
    truth: Truth, counted: npt.NDArray[np.bool_], instants: Array, unit: str | None
) -> Finding:
    failed = counted & ~truth.true
    margins = np.where(counted, truth.margin, np.inf)
    worst = int(np.argmin(margins))
    if failed.any() and not failed[worst]:
        # Only where the margin is 0 on both sides of < and <=.
        worst = int(np.argmax(failed))
    margin = float(margins[worst])
    count = int(failed.sum())
    at_s = float(instants[worst])
    if not count:
        return Finding("pass", margin, unit, at_s if math.isfinite(margin) else None)
    first_s = float(instants[int(np.argmax(failed))])
    return Finding(
        "fail", margin, unit, at_s, f"first broken at {say_seconds(first_s)}"
    )


def _eventually(
    expression: Expression, within_s: float | None
) -> Callable[[Trajectory, Sightings | None], Finding]:
    def judge(trajectory: Trajectory, _: Sightings | None) -> Finding:
        truth = _truth(expression, trajectory)
        start_s = float(trajectory.times_s[0])
        until_s = trajectory.end_s if within_s is None else start_s + within_s
        rows = _rows(trajectory, start_s, min(until_s, trajectory.end_s))
        known, true = truth.known[rows], truth.true[rows] & truth.known[rows]
        if not known.any():
            return _NEVER_KNOWN
        margins = np.where(known, truth.margin[rows], -np.inf)
        best = int(np.argmax(true)) if true.any() else int(np.argmax(margins))
        at_s = float(trajectory.times_s[best])
        if true.any():
            margin = float(margins.max())
            return Finding(
                "pass", margin, expression.unit, at_s, f"at {say_seconds(at_s)}"
            )
        if until_s > trajectory.end_s:
            return Finding("untested", detail="the run ends before its time is up")
        return Finding(
            "fail",
            float(margins[best]),
            expression.unit,
            at_s,
            f"nearest at {say_seconds(at_s)}",
        )

    return judge


def _settles(
    expression: Expression, within_s: float | None
) -> Callable[[Trajectory, Sightings | None], Finding]:
    def judge(trajectory: Trajectory, _: Sightings | None) -> Finding:
        truth = _truth(expression, trajectory)
        if not truth.known.any():
            return _NEVER_KNOWN
        start_s = float(trajectory.times_s[0])
        until_s = trajectory.end_s if within_s is None else start_s + within_s
        if until_s > trajectory.end_s:
            return Finding("untested", detail="the run ends before its time is up")
        rows = _rows(trajectory, start_s, until_s)
        held = truth.known & truth.true
        margins = np.where(truth.known, truth.margin, -np.inf)
        # From each instant on to the end: the worst that is still to come.
        to_come = np.minimum.accumulate(margins[::-1])[::-1]
        stays = np.logical_and.accumulate(held[::-1])[::-1]
        best = int(np.argmax(to_come[rows]))
        margin = float(to_come[best])
        if stays[rows].any():
            settled_s = float(trajectory.times_s[int(np.argmax(stays))])
            detail = f"settled after {say_seconds(settled_s - start_s)}"
            return Finding("pass", margin, expression.unit, settled_s, detail)
        worst = best + int(np.argmin(margins[best:]))
        return Finding(
            "fail",
            margin,
            expression.unit,
            float(trajectory.times_s[worst]),
            "does not hold to the end",
        )

    return judge


def _stays(
    expression: Expression, for_s: float
) -> Callable[[Trajectory, Sightings | None], Finding]:
    def judge(trajectory: Trajectory, _: Sightings | None) -> Finding:
        truth = _truth(expression, trajectory)
        start_s = float(trajectory.times_s[0])
        lengths = []
        for start, end in _runs(truth, trajectory):
            # A span that is cut by the edge of the run says only "at least".
            cut = start <= start_s or end >= trajectory.end_s
            if not cut or end - start >= for_s:
                lengths.append((end - start, start))
        if not lengths:
            return Finding("untested", detail="it never began and ended in the run")
        shortest, at_s = min(lengths)
        margin = shortest - for_s
        return Finding(
            "pass" if margin >= 0 else "fail",
            margin,
            "s",
            at_s,
            f"shortest: {say_seconds(shortest)}",
        )

    return judge


def _triggers(
    condition: Expression, for_s: float, trajectory: Trajectory
) -> list[float]:
    """Returns the instants at which a condition has held for long enough."""
    return [
        start + for_s
        for start, end in _runs(_truth(condition, trajectory), trajectory)
        if end - start >= for_s and start + for_s < trajectory.end_s
    ]


def _when_then(
    condition: Expression,
    for_s: float,
    then: Expression,
    within_s: float,
    keeps_s: float,
    until: Expression | None,
) -> Callable[[Trajectory, Sightings | None], Finding]:
    def judge(trajectory: Trajectory, _: Sightings | None) -> Finding:
        truth = _truth(then, trajectory)
        margins = np.where(truth.known, truth.margin, -np.inf)
        held = truth.known & truth.true
        triggers = _triggers(condition, for_s, trajectory)
        released = None
        if until is not None:
            over = _truth(until, trajectory)
            released = np.flatnonzero(over.known & over.true)
        worst: tuple[bool, float, float] | None = None
        for at_s in triggers:
            answer = _answer(
                trajectory, held, margins, at_s, within_s, keeps_s, released
            )
            if answer is None:
                continue
            good, margin = answer
            if worst is None or (good, margin) < worst[:2]:
                worst = (good, margin, at_s)
        if worst is None:
            return Finding(
                "untested",
                detail="the run ends before an answer is due"
                if triggers
                else "its 'when' never came about",
            )
        good, margin, at_s = worst
        return Finding(
            "pass" if good else "fail",
            margin,
            then.unit,
            at_s,
            f"{len(triggers)} time{'s' * (len(triggers) != 1)}; "
            f"{'tightest' if good else 'broken'} for the one at {say_seconds(at_s)}",
        )

    return judge


def _answer(
    trajectory: Trajectory,
    held: npt.NDArray[np.bool_],
    margins: Array,
    at_s: float,
    within_s: float,
    keeps_s: float,
    released: npt.NDArray[np.intp] | None,
) -> tuple[bool, float] | None:
    """Returns whether a trigger was answered, and the margin; None: undecided.

    ``released`` are the rows at which ``until`` holds, where there is one.
    """
    rows = _rows(trajectory, at_s, min(at_s + within_s, trajectory.end_s))
    good, best = False, -math.inf
    undecided = at_s + within_s > trajectory.end_s
    for row in range(rows.start, rows.stop):
        from_s = max(at_s, float(trajectory.times_s[row]))
        to_s = from_s + keeps_s
        if released is None:
            stop = int(np.searchsorted(trajectory.times_s, to_s, side="left"))
            stop = max(stop, row + 1)
            complete = to_s <= trajectory.end_s
        else:
            at = int(np.searchsorted(released, row))
            complete = at < len(released)
            stop = int(released[at]) if complete else len(held)
            if stop == row:
                return True, math.inf
        if held[row:stop].all():
            if complete:
                good = True
            else:
                undecided = True
                continue
        best = max(best, float(margins[row:stop].min()))
    if not good and undecided:
        return None
    return good, best
