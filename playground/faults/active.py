"""A fault of a signal or of messages while it lasts: what becomes of a payload."""

from __future__ import annotations

import json
import math
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from playground.faults import Fault
from playground.quantity import convert
from playground.signals import Signal


@dataclass(slots=True)
class Active:
    """A fault of a signal or of messages while it lasts."""

    fault: Fault
    chance: random.Random
    began_s: float
    state: float | None = None
    """Value held, filtered or said last."""
    at_s: float = 0.0
    past: deque[tuple[float, float]] = field(default_factory=deque)

    def remember(self, last: Mapping[str, bytes]) -> None:
        """Takes over what the signal said last before the fault."""
        signal = self.fault.signal
        if signal is None or signal.topic not in last:
            return
        value = signal.decode(last[signal.topic])
        if value is not None and not math.isnan(value):
            self.state = value
            self.at_s = self.began_s
            self.past.append((-math.inf, value))

    def carry(
        self, payload: bytes | None, delays_s: list[float]
    ) -> tuple[bytes | None, list[float]]:
        """Returns what becomes of a message, and when its copies arrive."""
        fault = self.fault
        if payload is None or self.chance.random() >= fault.probability:
            return payload, delays_s
        number = fault.number or 0.0
        if fault.kind == "drop":
            return None, delays_s
        if fault.kind == "duplicate":
            return payload, delays_s + delays_s[:1]
        if fault.kind == "late":
            return payload, [delay + number for delay in delays_s]
        if fault.kind == "reorder":
            return payload, [d + self.chance.uniform(0.0, number) for d in delays_s]
        return _skewed(payload, fault.text, number), delays_s

    def alter(self, payload: bytes | None, now_s: float) -> bytes | None:
        """Returns the payload that a faulty sensor sends; None for none."""
        signal = self.fault.signal
        if payload is None or signal is None:
            return payload
        value = signal.decode(payload)
        if value is None:
            return payload
        # The fault keeps its own course even where it does not touch a message.
        changed = self._value(value, now_s)
        if self.chance.random() >= self.fault.probability:
            return payload
        kind = self.fault.kind
        if kind == "garbage":
            return self.chance.randbytes(self.chance.randint(1, 24))
        if kind in ("dropout", "intermittent"):
            return None if signal.path is None else _without(payload, signal)
        return _with(payload, signal, changed)

    def _value(self, value: float, now_s: float) -> float:
        kind, number, signal = self.fault.kind, self.fault.number, self.fault.signal
        assert signal is not None
        if kind == "stuck":
            if number is not None:
                return number
            if self.state is None:
                self.state = value
            return self.state
        if kind == "nan":
            return math.nan
        if kind == "out_of_range":
            return math.nan if number is None else number
        if kind == "wrong_unit":
            return convert(value, signal.unit, self.fault.text)
        if kind == "unsigned":
            step = abs(signal.scale) if number is None else number
            return value + 65_536 * step if value < 0 else value
        if number is None:
            return value
        if kind == "bias":
            return value + number
        if kind == "scale":
            return value * number
        if kind == "noise":
            return value + self.chance.gauss(0.0, number)
        if kind == "drift":
            return value + number * (now_s - self.began_s)
        if kind == "lag":
            if self.state is None or not number:
                self.state = value
            else:
                share = -math.expm1(-(now_s - self.at_s) / number)
                self.state += share * (value - self.state)
            self.at_s = now_s
            return self.state
        # delay: what it was that long ago.
        self.past.append((now_s, value))
        while len(self.past) > 1 and self.past[1][0] <= now_s - number + 1e-9:
            self.past.popleft()
        return self.past[0][1]


def _tree_of(payload: bytes) -> dict[str, Any] | None:
    try:
        tree = json.loads(payload)
    except ValueError:
        return None
    return tree if isinstance(tree, dict) else None


def _with(payload: bytes, signal: Signal, value: float) -> bytes:
    if signal.path is None:
        return signal.encode(value)
    tree = _tree_of(payload)
    if tree is None:
        return payload
    said = json.loads(signal.encode(value))
    return _dumps(_merged(tree, said))


def _without(payload: bytes, signal: Signal) -> bytes:
    tree = _tree_of(payload)
    if tree is None or signal.path is None:
        return payload
    here: Any = tree
    *way, last = json_way(json.loads(signal.encode(0.0)))
    for step in way:
        here = here[step]
    here.pop(last, None)
    return _dumps(tree)


def json_way(tree: Any) -> list[str]:
    """Returns the keys that lead to the only leaf of nested objects."""
    way = []
    while isinstance(tree, dict):
        key, tree = next(iter(tree.items()))
        way.append(key)
    return way


def _merged(tree: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    for key, value in said.items():
        if isinstance(value, dict) and isinstance(tree.get(key), dict):
            _merged(tree[key], value)
        else:
            tree[key] = value
    return tree


def _skewed(payload: bytes, name: str, by_s: float) -> bytes:
    tree = _tree_of(payload)
    if tree is None or not isinstance(tree.get(name), int | float):
        return payload
    tree[name] += by_s
    return _dumps(tree)


def _dumps(tree: Any) -> bytes:
    return json.dumps(tree, separators=(",", ":")).encode()
