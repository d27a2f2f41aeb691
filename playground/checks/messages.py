"""Checks on messages: how often, how soon after others, and what is in them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.arrays import np
from playground.checks.finding import Finding, Sightings
from playground.errors import PlaygroundError
from playground.message import TopicFilters
from playground.quantity import say_seconds, seconds
from playground.trajectory import Trajectory

if TYPE_CHECKING:
    from playground.checks import CheckEntry

Judge = Callable[[Trajectory, Sightings | None], Finding]
_LARGEST_SCHEMA = 1_000_000


def read_message_check(
    entry: CheckEntry, topics: str, folder: Path
) -> tuple[Judge, str | None]:
    """Returns the judge of a check on messages, and what these must follow.

    Raises:
        PlaygroundError: It says not exactly one thing about them.
    """
    said = [
        name
        for name in ("every", "at_most", "after", "schema")
        if getattr(entry, name) is not None
    ]
    if len(said) != 1:
        raise PlaygroundError(
            f"'message' says one thing; here stand {' and '.join(said)}."
            if said
            else "'message' needs to say how often, after what, or with what in it.",
            "add one of 'every: 5s', 'at_most: 10 per 1min', 'after: FILTER' with "
            "'within: 5s', 'schema: FILE.json'",
        )
    if (entry.after is None) != (entry.within is None):
        raise PlaygroundError(
            "'after' and 'within' go together.",
            "write 'after: FILTER' and 'within: 5s'",
        )
    if entry.every is not None:
        return _every(seconds(entry.every)), None
    if entry.schema is not None:
        return _fits(read_schema(entry.schema, folder)), None
    if entry.after is not None:
        after = TopicFilters((entry.after,)).include[0]
        if after == topics:
            raise PlaygroundError(
                f"{after} cannot be the answer to itself.",
                "name two different topics, or write 'every: …'",
            )
        within_s = seconds(str(entry.within))
        return answered(None, within_s), after
    found = re.fullmatch(r"\s*(\d+)\s+per\s+(.+?)\s*", str(entry.at_most))
    if found is None:
        raise PlaygroundError(
            f"at_most: {entry.at_most!r} is not a number of messages per time.",
            "write for instance '10 per 1min'",
        )
    return _at_most(int(found[1]), seconds(found[2])), None


def silence(_: Trajectory, sightings: Sightings | None) -> Finding:
    """Judges that nothing is published."""
    times = sightings.times_s if sightings is not None else np.zeros(0)
    if not len(times):
        return Finding("pass")
    return Finding(
        "fail", worst_s=float(times[0]), detail=f"{len(times)} were published"
    )


def _every(every_s: float) -> Judge:
    def judge(_: Trajectory, sightings: Sightings | None) -> Finding:
        assert sightings is not None
        edges = np.concatenate(
            [[sightings.start_s], sightings.times_s, [sightings.end_s]]
        )
        gaps = np.diff(edges)
        longest = int(np.argmax(gaps))
        margin = every_s - float(gaps[longest])
        return Finding(
            # A period is a rounded number of nanoseconds.
            "pass" if margin >= -1e-9 else "fail",
            margin,
            "s",
            float(edges[longest]),
            f"longest silence: {say_seconds(float(gaps[longest]))}",
        )

    return judge


def _at_most(count: int, window_s: float) -> Judge:
    def judge(_: Trajectory, sightings: Sightings | None) -> Finding:
        assert sightings is not None
        times = sightings.times_s
        if not len(times):
            return Finding("untested", detail="no message came")
        ends = np.searchsorted(times, times + window_s, side="left")
        most = ends - np.arange(len(times))
        worst = int(np.argmax(most))
        margin = float(count - most[worst])
        return Finding(
            "pass" if margin >= 0 else "fail",
            margin,
            "1",
            float(times[worst]),
            f"at most {int(most[worst])} in {say_seconds(window_s)}",
        )

    return judge


def answered(
    triggers: Callable[[Trajectory], list[float]] | None, within_s: float
) -> Judge:
    """Returns the judge that each trigger is followed by a message in time.

    Args:
        triggers: Finds the instants; None for the messages that are ``after_s``.
        within_s: A message of the same instant counts, and one just so long after.
    """

    def judge(trajectory: Trajectory, sightings: Sightings | None) -> Finding:
        assert sightings is not None
        asked = (
            sightings.after_s if triggers is None else np.array(triggers(trajectory))
        )
        if not len(asked):
            what = "its 'when' never came about" if triggers else "no message came"
            return Finding("untested", detail=what)
        times = np.append(sightings.times_s, np.inf)
        # Instants are rounded numbers of nanoseconds.
        waits = times[np.searchsorted(times, asked - 1e-9, side="left")] - asked
        decided = (waits <= within_s) | (asked + within_s <= sightings.end_s)
        if not decided.any():
            return Finding("untested", detail="the run ends before an answer is due")
        missing = int((decided & (waits > within_s + 1e-9)).sum())
        # One that never came failed by all the time that was left for it.
        waits = np.minimum(waits, sightings.end_s - asked)
        worst = int(np.argmax(np.where(decided, waits, -np.inf)))
        at_s = float(asked[worst])
        return Finding(
            "fail" if missing else "pass",
            within_s - float(waits[worst]),
            "s",
            at_s,
            f"{missing} of {len(asked)} without an answer in time"
            if missing
            else f"{len(asked)} answered; slowest: {say_seconds(float(waits[worst]))}",
        )

    return judge


def read_schema(written: str | Mapping[str, Any], folder: Path) -> Any:
    """Returns the validator of a JSON Schema, or of the one in a file.

    Raises:
        PlaygroundError: It is no JSON Schema, or reaches out of itself.
    """
    import jsonschema
    from referencing import Registry

    schema: Any = written
    if isinstance(written, str):
        path = folder / written
        path = path if path.exists() else Path(written)
        try:
            if path.stat().st_size > _LARGEST_SCHEMA:
                raise PlaygroundError(
                    f"{path} has more than {_LARGEST_SCHEMA:,} bytes.",
                    "write a smaller schema",
                )
            schema = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise PlaygroundError(
                f"{written} cannot be read as JSON: {error}.",
                "name a JSON Schema beside the scenario or in the current folder",
            ) from error
    for ref in _references(schema):
        if not ref.startswith("#"):
            raise PlaygroundError(
                f"The schema refers to {ref!r}.",
                "refer to its own parts only, '#/$defs/…'",
            )
    kind = jsonschema.validators.validator_for(
        schema, default=jsonschema.Draft202012Validator
    )
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise PlaygroundError(
            f"This is no JSON Schema: {error.json_path}: {error.message}.",
            "see json-schema.org; the smallest is {type: object}",
        ) from error
    validator = kind(schema, registry=Registry())
    for ref in _references(schema):
        _lead_somewhere(validator, ref)
    return validator


def _lead_somewhere(validator: Any, ref: str) -> None:
    import jsonschema

    try:
        # Any instance will do: the reference is looked up first.
        list(validator.evolve(schema={**validator.schema, "$ref": ref}).iter_errors(0))
    except RecursionError as error:
        raise PlaygroundError(
            f"The schema's reference {ref!r} leads back to itself.", "break the circle"
        ) from error
    except jsonschema.exceptions._WrappedReferencingError as error:  # noqa: SLF001
        raise PlaygroundError(
            f"The schema's reference {ref!r} leads nowhere.",
            "define what it names below '$defs'",
        ) from error


def _references(schema: Any) -> list[str]:
    if isinstance(schema, Mapping):
        own = [str(v) for k, v in schema.items() if k in ("$ref", "$dynamicRef")]
        return own + [ref for value in schema.values() for ref in _references(value)]
    if isinstance(schema, list):
        return [ref for value in schema for ref in _references(value)]
    return []


def _fits(validator: Any) -> Judge:
    def wrong(payload: bytes) -> str:
        try:
            data = json.loads(payload)
        except (ValueError, RecursionError):
            return "not JSON"
        for error in validator.iter_errors(data):
            message = error.message
            message = message if len(message) <= 120 else f"{message[:119]}…"
            return f"{error.json_path}: {message}"
        return ""

    def judge(_: Trajectory, sightings: Sightings | None) -> Finding:
        assert sightings is not None
        if not len(sightings.times_s):
            return Finding("untested", detail="no message came")
        # A plant says the same again and again.
        found: dict[bytes, str] = {}
        first = -1
        count = 0
        for number, payload in enumerate(sightings.payloads):
            if payload not in found:
                found[payload] = wrong(payload)
            if found[payload]:
                first = number if first < 0 else first
                count += 1
        if not count:
            return Finding("pass", detail=f"{len(sightings.payloads)} fit")
        return Finding(
            "fail",
            worst_s=float(sightings.times_s[first]),
            detail=f"{count} of {len(sightings.payloads)} do not fit; the first: "
            f"{found[sightings.payloads[first]]}",
        )

    return judge
