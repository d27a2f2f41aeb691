"""The YAML file in which people declare signals, read with every mistake at its line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from playground.document import Document, DocumentError, Mistake
from playground.errors import PlaygroundError, closest
from playground.message import check_topic
from playground.quantity import seconds
from playground.signals import Publication, Signal, Signals


@dataclass(frozen=True, slots=True, kw_only=True)
class _PublicationEntry:
    """One entry below ``publications:`` of a signals file."""

    topic: str
    signals: list[str]
    period: str
    offset: str = "0s"
    retain: bool = False
    qos: Literal[0, 1, 2] = 0
    fields: dict[str, Any] = field(default_factory=dict)
    timestamp: str | None = None


_KEYS = ("version", "description", "signals", "publications", "balances")
VERSION = "1.0"


def load_signals(path: Path | str) -> Signals:
    """Reads a signals file.

    Raises:
        DocumentError: With every mistake in the file, each with its line.
        FileFormatError: The file is missing or not YAML.
    """
    return read_signals(Document.read(path))


def read_signals(document: Document) -> Signals:
    """Makes signals from a parsed signals file; see `load_signals`."""
    data = document.data
    if not isinstance(data, dict) or not isinstance(data.get("signals"), dict):
        raise DocumentError(
            document.path,
            [
                Mistake(
                    1,
                    "a signals file begins with 'signals:' and one block per signal.",
                    "write 'signals:' and below it "
                    "'  tank_temp: {topic: lab/tank, unit: degC, role: measurement}'",
                )
            ],
        )
    mistakes = [
        document.mistake(
            (key,), f"unknown key.{closest(str(key), _KEYS)}", f"allowed: {_KEYS}"
        )
        for key in data
        if key not in _KEYS
    ]
    if str(data.get("version", VERSION)) != VERSION:
        mistakes.append(
            document.mistake(
                ("version",),
                f"version {data['version']!r} is not known; this is {VERSION!r}.",
            )
        )
    signals = []
    for name, entry in data["signals"].items():
        place = ("signals", name)
        if not isinstance(entry, dict):
            mistakes.append(
                document.mistake(
                    place,
                    f"{entry!r} is not a block of 'key: value' lines.",
                    "write for instance {topic: lab/tank, unit: degC, "
                    "role: measurement}",
                )
            )
            continue
        if not str(name).isidentifier():
            mistakes.append(
                document.mistake(
                    place,
                    f"{name!r} cannot be used as a name in expressions.",
                    "use letters, digits and _, beginning with a letter",
                )
            )
        try:
            signal = document.validate(Signal, {**entry, "name": str(name)}, place)
            _check_directions(signal, data["signals"])
            signals.append(signal)
        except DocumentError as error:
            mistakes.extend(error.mistakes)
        except PlaygroundError as error:
            mistakes.append(document.mistake(place, error.problem, error.fix))
    names = [str(n) for n in data["signals"]]
    publications = _read_publications(document, names, mistakes)
    balances = data.get("balances") or {}
    if not isinstance(balances, dict) or not all(
        isinstance(text, str) for text in balances.values()
    ):
        mistakes.append(
            document.mistake(
                ("balances",),
                f"{balances!r} is not a block of 'name: left == right' lines.",
                "write for instance 'loop: flow * 4186 J/kg/K * (supply - back) == heat'",
            )
        )
    if mistakes:
        raise DocumentError(document.path, mistakes)
    return Signals(signals, publications, balances=balances)


def _check_directions(signal: Signal, entries: Mapping[str, Any]) -> None:
    """Refuses directions that nothing can have.

    Raises:
        PlaygroundError: The signal is not measured, or answers to no input.
    """
    if signal.responds is None:
        return
    if signal.role != "measurement":
        raise PlaygroundError(
            f"'responds' says how a measurement answers; {signal.name!r} is a "
            f"{signal.role}.",
            "write it at the measurement that answers",
        )
    inputs = [
        str(name)
        for name, entry in entries.items()
        if isinstance(entry, Mapping)
        and entry.get("role") in ("command", "disturbance")
    ]
    for name in signal.responds:
        if name not in inputs:
            raise PlaygroundError(
                f"responds: {name!r} is no command and no disturbance."
                f"{closest(name, inputs)}",
                f"write one of: {', '.join(inputs) or 'none is declared'}",
            )


def _read_publications(
    document: Document, names: list[str], mistakes: list[Mistake]
) -> list[Publication]:
    publications = []
    for number, entry in enumerate(document.data.get("publications") or ()):
        place = ("publications", number)
        try:
            read = document.validate(_PublicationEntry, entry, place)
            for name in read.signals:
                if name not in names:
                    raise PlaygroundError(
                        f"there is no signal {name!r}.{closest(name, names)}"
                    )
            publications.append(
                Publication(
                    topic=check_topic(read.topic),
                    signals=tuple(read.signals),
                    period_s=seconds(read.period),
                    offset_s=seconds(read.offset),
                    retain=read.retain,
                    qos=read.qos,
                    fields=read.fields,
                    timestamp=read.timestamp,
                )
            )
        except DocumentError as error:
            mistakes.extend(error.mistakes)
        except PlaygroundError as error:
            mistakes.append(document.mistake(place, error.problem, error.fix))
    return publications
