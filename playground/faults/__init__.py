"""What can go wrong on the bus: sensors that lie, messages that get lost.

Here is what a person may write about a fault and what it means; `playground.faults.bus`
lets it happen between the parts of a run and their bus, so that the same faults happen
on every transport. When a fault begins is decided elsewhere: by the events of a
scenario. Nothing here knows a bus, so that a scenario is read without one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from playground.document import DurationText
from playground.errors import PlaygroundError, closest
from playground.message import check_filter
from playground.quantity import check_unit, convert, quantity, seconds
from playground.signals import Signal, Signals

SIGNAL_FAULTS = {
    "stuck": ("value",),
    "bias": ("by",),
    "scale": ("factor",),
    "noise": ("std",),
    "drift": ("rate",),
    "lag": ("tau",),
    "delay": ("delay",),
    "dropout": (),
    "intermittent": (),
    "out_of_range": ("value",),
    "nan": (),
    "wrong_unit": ("unit",),
    "unsigned": ("factor",),
    "garbage": (),
}
"""Kind and parameters of faults of one signal."""
MESSAGE_FAULTS = {
    "drop": (),
    "duplicate": (),
    "reorder": ("within",),
    "late": ("delay",),
    "clock_skew": ("by", "field"),
}
"""Kind and parameters of faults of all messages of a topic filter."""
CONNECTION_FAULTS = {"partition": (), "client_crash": ()}
"""Kind and parameters of faults of one client."""
BROKER_FAULTS = {"broker_restart": (), "retained_loss": ()}
"""Kind and parameters of faults of everybody."""
KINDS = {**SIGNAL_FAULTS, **MESSAGE_FAULTS, **CONNECTION_FAULTS, **BROKER_FAULTS}
_NEEDED = {"bias": "by", "scale": "factor", "noise": "std", "drift": "rate"} | {
    "lag": "tau",
    "delay": "delay",
    "wrong_unit": "unit",
    "reorder": "within",
    "late": "delay",
    "clock_skew": "by",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultEntry:
    """A fault as it stands in a scenario.

    Attributes:
        kind: What goes wrong; see the table of faults.
        signal: Which signal, for a fault of a signal.
        topic: Which topics (a filter), for a fault of messages.
        client: Which client id, for a fault of a connection.
        for_: How long it lasts; to the end of the run by default.
        probability: Share of the messages that it touches; of a connection or
            broker, how likely it happens at all.
        value: ``stuck``, ``out_of_range``: the value that is said.
        by: ``bias``: what is added; ``clock_skew``: a duration.
        factor: ``scale``: what is multiplied; ``unsigned``: value of one step of
            the 16-bit register behind it, by default the scale of the signal.
        std: ``noise``: its standard deviation.
        rate: ``drift``: how fast, ``1 K/h``.
        tau: ``lag``: time constant.
        delay: ``delay``, ``late``: how much later.
        unit: ``wrong_unit``: the unit of the number that is said.
        within: ``reorder``: by how much messages are delayed at most.
        field: ``clock_skew``: the JSON field that holds the time.
    """

    kind: str
    signal: str | None = None
    topic: str | None = None
    client: str | None = None
    for_: DurationText | None = None
    probability: float | None = None
    value: str | float | None = None
    by: str | float | None = None
    factor: float | None = None
    std: str | float | None = None
    rate: str | None = None
    tau: DurationText | None = None
    delay: DurationText | None = None
    unit: str | None = None
    within: DurationText | None = None
    field: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault that is understood.

    Attributes:
        kind: One of `KINDS`.
        signal: The signal it concerns, if it concerns one.
        topic: The topic filter it concerns; that of the signal, if there is one.
        client: The client id it concerns, if it concerns one.
        duration_s: How long it lasts; None to the end.
        probability: See `FaultEntry`.
        number: The one number the kind needs, in the unit of the signal or in
            seconds; None where it needs none.
        text: The one text the kind needs (unit, field).
    """

    kind: str
    signal: Signal | None = None
    topic: str | None = None
    client: str | None = None
    duration_s: float | None = None
    probability: float = 1.0
    number: float | None = None
    text: str = ""


def read_fault(entry: FaultEntry, signals: Signals) -> Fault:
    """Makes a fault from what stands in a scenario.

    Raises:
        PlaygroundError: There is no such kind, or something it needs is missing,
            unknown, or in a unit that does not convert.
    """
    kind = entry.kind
    if kind not in KINDS:
        raise PlaygroundError(
            f"There is no fault {kind!r}.{closest(kind, KINDS)}",
            f"known faults: {', '.join(KINDS)}",
        )
    target = _target_of(kind)
    allowed = {"kind", "for_", "probability", target, *KINDS[kind]}
    for one in fields(FaultEntry):
        if getattr(entry, one.name) is not None and one.name not in allowed:
            key = one.name.removesuffix("_")
            names = [name.removesuffix("_") for name in sorted(allowed) if name]
            raise PlaygroundError(
                f"{key!r} does not go with {kind!r}.", f"with it go {', '.join(names)}"
            )
    if target and getattr(entry, target) is None:
        raise PlaygroundError(
            f"The fault {kind!r} needs to know its {target}.", f"add '{target}: …'"
        )
    needed = _NEEDED.get(kind)
    if needed is not None and getattr(entry, needed) is None:
        raise PlaygroundError(
            f"The fault {kind!r} needs '{needed}'.", f"add '{needed}: …'"
        )
    share = entry.probability
    if share is not None and not 0 < share <= 1:
        raise PlaygroundError(
            f"probability: {share:g} is not above 0 and at most 1.",
            "write 0.1 for 10 %",
        )
    signal = signals.need(entry.signal) if entry.signal is not None else None
    topic = check_filter(entry.topic) if entry.topic is not None else None
    return Fault(
        kind=kind,
        signal=signal,
        topic=signal.topic if signal is not None else topic,
        client=entry.client,
        duration_s=None if entry.for_ is None else seconds(entry.for_),
        probability=share
        if share is not None
        else 0.5
        if kind == "intermittent"
        else 1.0,
        number=_number(entry, signal),
        text=check_unit(entry.unit) if entry.unit else entry.field or "timestamp",
    )


def _target_of(kind: str) -> str:
    if kind in SIGNAL_FAULTS:
        return "signal"
    if kind in MESSAGE_FAULTS:
        return "topic"
    return "client" if kind in CONNECTION_FAULTS else ""


def _number(entry: FaultEntry, signal: Signal | None) -> float | None:
    kind = entry.kind
    if signal is None:
        written = {"reorder": entry.within, "late": entry.delay, "clock_skew": entry.by}
        text = written.get(kind)
        if text is None:
            return None
        if isinstance(text, str) and text.startswith("-"):
            return -seconds(text[1:])
        return seconds(text)
    if kind in ("scale", "unsigned"):
        return entry.factor
    if kind in ("lag", "delay"):
        return seconds(entry.tau or entry.delay or "")
    if kind in ("bias", "noise"):
        written_by = entry.by if kind == "bias" else entry.std
        return quantity(written_by or 0.0, signal.unit, difference=True)
    if kind == "drift":
        unit = {"degC": "K", "degF": "degR"}.get(signal.unit, signal.unit)
        return quantity(entry.rate or "", f"{unit}/s" if unit != "1" else "1/s")
    if kind == "wrong_unit":
        convert(0.0, signal.unit, entry.unit or "")
    if entry.value is not None:
        return quantity(entry.value, signal.unit)
    if kind != "out_of_range":
        return None
    if signal.type in ("int16", "uint16"):
        return (
            32_767 if signal.type == "int16" else 65_535
        ) * signal.scale + signal.offset
    if signal.range is None:
        raise PlaygroundError(
            f"{signal.name!r} declares no range to be out of.",
            f"say what it reads: 'value: 999 {signal.unit}'",
        )
    return 2 * signal.range[1] - signal.range[0]
