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

from playground.checks.finding import Finding, Sightings, Verdict
from playground.checks.judging import (
    always,
    eventually,
    settles,
    stays,
    triggers,
    when_then,
)
from playground.checks.messages import answered, read_message_check, silence
from playground.document import DurationText
from playground.errors import PlaygroundError
from playground.expression import parse
from playground.message import TopicFilters
from playground.quantity import seconds
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
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
            judge = always(
                expression, guard, for_s, until=until, negate=head == "never"
            )
        elif head == "eventually":
            judge = eventually(expression, within_s)
        elif head == "settles":
            judge = settles(expression, within_s)
        elif head == "stays":
            judge = stays(expression, for_s)
        elif entry.then_message is not None:
            topics = TopicFilters((entry.then_message,)).include[0]
            judge = answered(
                lambda seen: triggers(expression, for_s, seen), within_s or 0.0
            )
        else:
            then = parse(str(entry.then), signals)
            needed.update(dict.fromkeys(then.signals))
            sampled |= then.sampled
            keeps_s = seconds(entry.keeps) if entry.keeps is not None else 0.0
            judge = when_then(expression, for_s, then, within_s or 0.0, keeps_s, until)

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
