"""What happens to a plant on the way: disturbances over time, and events."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from playground.errors import PlaygroundError, closest
from playground.expression import parse
from playground.faults import read_fault
from playground.message import check_filter, check_topic
from playground.quantity import quantity, seconds
from playground.scenario.entries import EventEntry, found
from playground.scenario.parts import Disturbance, Event, Replayed
from playground.signals import Signal, Signals
from playground.table import read_table


def read_replayed(
    signals: Signals, name: str, written: Mapping[str, Any], folder: Path
) -> Replayed:
    """Makes a disturbance that is the messages of a recording.

    Raises:
        PlaygroundError: There is no such recording, or no topics.
    """
    known = ("recording", "topics")
    for key in written:
        if key not in known:
            raise PlaygroundError(
                f"unknown key {key!r} beside 'recording'.{closest(str(key), known)}",
                "write {recording: FILE.parquet, topics: [weather/#]}",
            )
    file = written["recording"]
    if not isinstance(file, str) or not found(folder, file).exists():
        raise PlaygroundError(
            f"There is no recording {file}.",
            "name a recording beside the scenario or in the current folder",
        )
    topics = written.get("topics")
    if topics is None:
        topics = [signals.need(name).topic]
    if not isinstance(topics, list) or not topics:
        raise PlaygroundError(
            f"topics: {topics!r} is not a list of topic filters.",
            "write topics: [weather/#]",
        )
    return Replayed(
        path=found(folder, file),
        topics=tuple(check_filter(str(topic)) for topic in topics),
    )


def read_disturbance(
    signals: Signals, name: str, written: Any, folder: Path
) -> Disturbance:
    """Makes a disturbance that is a value, or a table of values over time.

    Raises:
        PlaygroundError: It is a measurement, no table, or out of range.
    """
    signal = signals.need(name)
    if signal.role == "measurement":
        raise PlaygroundError(
            f"{name!r} is a measurement; the plant says it, not the scenario.",
            "disturbances of this plant: "
            + (", ".join(s.name for s in signals.with_role("disturbance")) or "none"),
        )
    period_s = 0.0
    if isinstance(written, Mapping):
        entry = dict(written)
        period_s = seconds(entry.pop("period", "60s"))
        offset = entry.pop("offset", None)
        if "constant" in entry:
            entry["table"] = [["0s", entry.pop("constant")]]
        table = read_table(entry, signal.unit, folder=folder)
        if offset is not None:
            by = quantity(offset, signal.unit, difference=True)
            shifted = tuple(value + by for value in table.values)
            table = table._replace(values=shifted)
        if table.hold:
            period_s = 0.0
    else:
        value = quantity(written, signal.unit)
        table = read_table({"table": [["0s", f"{value!r} {signal.unit}"]]}, signal.unit)
    for value in table.values:
        _within_range(signal, value)
    return Disturbance(signal=signal, table=table, period_s=period_s)


def read_event(
    entry: EventEntry, signals: Signals, clients: Collection[str], duration: str
) -> Event:
    """Makes an event from what stands in a scenario.

    Args:
        entry: What stands there.
        signals: Of the plant.
        clients: Client ids of this run.
        duration: Of the run, as it is written.

    Raises:
        PlaygroundError: It contradicts itself, or names what is not there.
    """
    if (entry.at is None) == (entry.when is None):
        raise PlaygroundError(
            "an event needs either 'at' or 'when'.",
            "write 'at: 30min', or 'when: outlet_temp > 52 degC'",
        )
    actions = [
        name for name in ("publish", "set", "fault") if getattr(entry, name) is not None
    ]
    if len(actions) != 1:
        raise PlaygroundError(
            f"an event does one thing; here {'stand' if actions else 'is'} "
            f"{' and '.join(actions) or 'nothing to do'}.",
            "write one of publish, set, fault",
        )
    if entry.when is None and entry.for_ is not None:
        raise PlaygroundError(
            "'for' says how long 'when' must have held, but there is no 'when'.",
            "the length of a fault stands inside it: fault: {…, for: 15min}",
        )
    at_s = None
    if entry.at is not None:
        at_s = seconds(entry.at)
        if at_s >= _end(duration):
            raise PlaygroundError(
                f"at: {entry.at} is after the end of the run ({duration}).",
                "make the duration longer, or the event earlier",
            )
    action: Any
    if entry.publish is not None:
        check_topic(entry.publish.topic)
        action = entry.publish
        text = f"publish {action.topic} {action.payload}"
    elif entry.set is not None:
        action = tuple(
            (signals.need(name), settable(signals, name, written))
            for name, written in entry.set.items()
        )
        text = ", ".join(f"{name} = {value}" for name, value in entry.set.items())
    else:
        assert entry.fault is not None
        action = read_fault(entry.fault, signals)
        if action.client is not None and action.client not in clients:
            raise PlaygroundError(
                f"There is no client {action.client!r}."
                f"{closest(action.client, clients)}",
                f"clients of this run: {', '.join(sorted(clients))}",
            )
        target = entry.fault.signal or entry.fault.topic or entry.fault.client or ""
        text = f"{action.kind} {target}".strip()
    when = parse(entry.when, signals) if entry.when is not None else None
    if when is not None and when.sampled:
        raise PlaygroundError(
            f"{entry.when!r}: 'rate' looks back in time, which an event cannot.",
            "use it in a check",
        )
    return Event(
        at_s=at_s,
        when=when,
        for_s=seconds(entry.for_) if entry.for_ is not None else 0.0,
        once=entry.once,
        action=action,
        text=text,
    )


def _end(duration: str) -> float:
    """Returns the end of a run, seconds; infinite where that is not known yet."""
    try:
        return seconds(duration) or float("inf")
    except PlaygroundError:
        # That is complained about where it stands.
        return float("inf")


def settable(signals: Signals, name: str, written: Any) -> float:
    """Returns a value to set, in the unit of its signal.

    Raises:
        PlaygroundError: It is a measurement, or the value is out of range.
    """
    signal = signals.need(name)
    if signal.role == "measurement":
        raise PlaygroundError(
            f"{name!r} is a measurement; where the plant starts is said by the plant's "
            "parameters.",
            "write it below 'plant:'",
        )
    return _within_range(signal, quantity(written, signal.unit))


def _within_range(signal: Signal, value: float) -> float:
    if signal.range is not None and signal.clip(value) != value:
        raise PlaygroundError(
            f"{value:g} {signal.unit} is outside the range of {signal.name!r}, "
            f"{signal.range[0]:g}..{signal.range[1]:g} {signal.unit}.",
            "write a value inside it",
        )
    return value
