"""Proposes a signals file from what a recording holds, for a person to edit.

Everything here is a guess from names and numbers; each line says what it rests on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from playground.errors import NotEnoughData
from playground.quantity import say_seconds
from playground.recording import Recording

SAMPLES = 5_000
"""Messages of a topic that are looked at; a period needs no more."""
COMMAND = re.compile(
    r"(^|[/_.])(set|write|cmd|cmnd|command|setpoint|target|control)([/_.]|$)", re.I
)
DISTURBANCE = re.compile(
    r"ambient|outdoor|outside|weather|solar|irradiance|price", re.I
)
UNITS: tuple[tuple[str, str], ...] = (
    (r"temp|(^|[/_.])t\d*$|(^|[/_.])tc_|degc", "degC"),
    (r"humid|(^|[/_.])rh($|[/_.])", "percent"),
    (r"energy|kwh", "kWh"),
    (r"power|(^|[/_.])p_ins|watt", "W"),
    (r"flow", "l/min"),
    (r"press", "bar"),
    (r"freq", "Hz"),
    (r"volt|(^|[/_.])u\d*_ins", "V"),
    (r"current|amp(s|ere)?($|[/_.])|(^|[/_.])i\d*_ins", "A"),
    (r"rpm|fan_speed", "rpm"),
)
TIMESTAMPS = re.compile(r"^(ts|time|timestamp|unix_time|epoch)$", re.I)


@dataclass(slots=True)
class _Seen:
    """What one place of one topic said."""

    topic: str
    path: str | None
    numbers: list[float] = field(default_factory=list)
    words: dict[str, int] = field(default_factory=dict)
    whole: bool = True

    def take(self, value: Any) -> None:
        if isinstance(value, bool):
            value = float(value)
        if isinstance(value, int | float):
            self.whole = self.whole and float(value).is_integer()
            self.numbers.append(float(value))
            return
        try:
            self.take(float(value))
        except (TypeError, ValueError):
            if isinstance(value, str) and len(self.words) < 10:
                self.words[value] = self.words.get(value, 0) + 1


def proposed(recording: Recording) -> str:
    """Returns the text of a signals file for a recording.

    Raises:
        NotEnoughData: No topic carries a number or a switch.
    """
    seen: dict[tuple[str, str | None], _Seen] = {}
    times: dict[str, list[int]] = {}
    retained: dict[str, int] = {}
    counts: dict[str, int] = {}
    for message in recording.messages():
        topic = message.topic
        counts[topic] = counts.get(topic, 0) + 1
        retained[topic] = retained.get(topic, 0) + message.retain
        if counts[topic] > SAMPLES or topic.startswith("$"):
            continue
        times.setdefault(topic, []).append(message.time_ns)
        for path, value in _leaves(message.payload):
            place = seen.setdefault((topic, path), _Seen(topic, path))
            place.take(value)
    lines = [
        "# Proposed from a recording: read every line, correct it, and delete what",
        "# is of no use. Roles and units are guesses from names.",
        'version: "1.0"',
        "signals:",
    ]
    for place in seen.values():
        if place.path is not None and _is_stamp(place) and place.numbers:
            lines.insert(
                2,
                f"# {place.topic} says its own time: "
                f"'stamp: {place.path}' at a signal takes it.",
            )
    names: set[str] = set()
    for place in seen.values():
        entry = _entry(place)
        if entry is None:
            continue
        name = _name(place, names)
        names.add(name)
        count = counts[place.topic]
        period = _period(times[place.topic])
        lines.append(f"  {name}:")
        lines += [f"    {key}: {value}" for key, value in entry.items()]
        lines.append(
            f"    # {_span(place)}; {count} messages{period}"
            + (", retained" if retained[place.topic] > count / 2 else "")
        )
    if not names:
        raise NotEnoughData(
            f"The recording's {recording.count} messages carry no number and no switch.",
            "record the topics that carry measurements and commands",
        )
    return "\n".join(lines) + "\n"


def _leaves(payload: bytes) -> Iterator[tuple[str | None, Any]]:
    """Yields ``(path, value)`` of a payload; path None for a bare one."""
    text = payload.decode("utf-8", "replace").strip()
    if text.startswith(("{", "[")):
        try:
            yield from _walk(json.loads(text), "")
        except ValueError:
            return
    elif text and len(text) < 64:
        yield None, text


def _walk(tree: Any, path: str) -> Iterator[tuple[str | None, Any]]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _walk(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, Sequence) and not isinstance(tree, str):
        for number, value in enumerate(tree[:16]):
            yield from _walk(value, f"{path}[{number}]")
    elif tree is not None:
        yield path or None, tree


def _entry(place: _Seen) -> dict[str, str] | None:
    """Returns the keys of a signal, or None if it is none."""
    if _is_stamp(place):
        return None
    entry = {"topic": json.dumps(place.topic)}
    if place.path is not None:
        entry["path"] = json.dumps(place.path)
    switch = bool(place.words) and not place.numbers and len(place.words) <= 6
    numbers = np.array([v for v in place.numbers if math.isfinite(v)])
    where = f"{place.topic}/{place.path or ''}"
    if not len(numbers) and not switch:
        return None
    if (
        switch
        and _role(place, where) == "measurement"
        and len(place.words) == 1
        and next(iter(place.words)).lower() not in _OFF | _ON
    ):
        # A word that never changes, and is no state, is a name.
        return None
    entry["unit"] = '"1"' if switch else json.dumps(_unit(where))
    entry["role"] = _role(place, where)
    if switch:
        words = sorted(place.words, key=lambda w: w.lower() not in _OFF)
        values = ", ".join(f"{json.dumps(w)}: {k}" for k, w in enumerate(words))
        entry["values"] = "{" + values + "}"
    elif place.whole and ((numbers >= 60_000) & (numbers < 65_536)).any():
        rest = numbers[numbers < 60_000]
        if not len(rest) or rest.max() < 33_000:
            entry["type"] = "int16"
    return entry


def _is_stamp(place: _Seen) -> bool:
    leaf = (place.path or place.topic).replace("[", ".").split(".")[-1]
    return TIMESTAMPS.match(leaf) is not None


_OFF = {"off", "false", "closed", "no", "0", "idle", "stop", "offline"}
_ON = {"on", "true", "open", "yes", "run", "running", "start", "online"}


def _role(place: _Seen, where: str) -> str:
    if COMMAND.search(place.topic):
        return "command"
    return "disturbance" if DISTURBANCE.search(where) else "measurement"


def _unit(where: str) -> str:
    for pattern, unit in UNITS:
        if re.search(pattern, where.rstrip("/").lower()):
            return unit
    return "1"


def _name(place: _Seen, taken: set[str]) -> str:
    if place.path is None:
        parts = [p for p in place.topic.split("/") if p]
        if len(parts) > 1 and COMMAND.fullmatch(parts[-1]):
            parts = parts[:-1]
        parts = parts[-1:]
    else:
        parts = place.path.split(".")[-2:]
    parts = [re.sub(r"[^0-9A-Za-z]+", "_", part).strip("_") for part in parts]
    name = "_".join(parts).lower() or "signal"
    if not name[0].isalpha():
        name = "s_" + name
    if name in taken:
        whole = re.sub(r"[^0-9A-Za-z]+", "_", f"{place.topic}_{place.path or ''}")
        name = whole.strip("_").lower()
        name = name if name[0].isalpha() else "s_" + name
    number, base = 2, name
    while name in taken:
        name, number = f"{base}_{number}", number + 1
    return name


def _span(place: _Seen) -> str:
    numbers = [v for v in place.numbers if math.isfinite(v)]
    if not numbers:
        return "said " + ", ".join(repr(w) for w in place.words)
    kind = "whole numbers" if place.whole else "numbers"
    return f"{kind} from {min(numbers):g} to {max(numbers):g}"


def _period(times: Sequence[int]) -> str:
    if len(times) < 3:
        return ""
    gaps = np.diff(np.asarray(times)) / 1e9
    return f", each {say_seconds(float(np.median(gaps)))}"
