"""A plant's answer to recorded inputs, for one choice of its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from playground.errors import PlaygroundError
from playground.estimate.observed import Observed
from playground.estimate.unknowns import Unknown, defaults_of

Array = npt.NDArray[np.float64]


class Simulation:
    """Simulates recordings and compares; remembers the last answers.

    Args:
        target: The plant's class.
        settings: Parameters that stay as they are.
        unknowns: Parameters that are tried.
        observed: The recordings.
        outputs: Measurements to compare.

    Attributes:
        runs: How many recordings were simulated so far.
    """

    def __init__(
        self,
        target: Any,
        settings: Mapping[str, Any],
        unknowns: Sequence[Unknown],
        observed: Sequence[Observed],
        outputs: Sequence[str],
    ) -> None:
        self.target = target
        self.settings = dict(settings)
        if "noise" in defaults_of(target):
            self.settings["noise"] = False
        self.unknowns = tuple(unknowns)
        self.observed = tuple(observed)
        self.outputs = tuple(outputs)
        self.runs = 0
        self._known: dict[tuple[int, bytes], Array] = {}
        self.measured = np.concatenate(
            [one.samples[name][1] for one in self.observed for name in self.outputs]
        )
        # Of each residual: its recording, its signal and its row.
        self.recording_of, self.signal_of, self.row_of = (
            np.concatenate(part)
            for part in zip(
                *(
                    (
                        np.full(len(one.samples[name][0]), k),
                        np.full(len(one.samples[name][0]), i),
                        one.samples[name][0],
                    )
                    for k, one in enumerate(self.observed)
                    for i, name in enumerate(self.outputs)
                ),
                strict=True,
            )
        )

    def residuals(self, z: Array) -> Array:
        """Returns simulated minus measured, in each signal's unit, shape (n,)."""
        parts = [self._answer(k, z) for k in range(len(self.observed))]
        result: Array = np.concatenate(parts) - self.measured
        return result

    def slope(
        self, z: Array, direction: Array, step: float, *, central: bool = True
    ) -> Array:
        """Returns the derivative of the residuals along a direction, shape (n,).

        Recordings on which the direction has no bearing are not simulated.

        Args:
            z: Where.
            direction: Along which way, shape (p,).
            step: How far to go, in lengths of the direction.
            central: To both sides, at twice the cost.
        """
        parts = []
        for k in range(len(self.observed)):
            concerned = any(
                direction[i] and unknown.recording in (None, k)
                for i, unknown in enumerate(self.unknowns)
            )
            if not concerned:
                parts.append(np.zeros(int(np.sum(self.recording_of == k))))
                continue
            ahead, behind = self._ends(z, direction, step)
            if not central and ahead and behind:
                behind = 0.0
            width = ahead + behind
            parts.append(
                (
                    self._answer(k, z + ahead * direction)
                    - self._answer(k, z - behind * direction)
                )
                / width
            )
        return np.concatenate(parts)

    def _ends(self, z: Array, direction: Array, step: float) -> tuple[float, float]:
        """Returns how far to go both ways without leaving the bounds."""
        ahead = behind = step
        for value, slope, unknown in zip(z, direction, self.unknowns, strict=True):
            if slope:
                low, high = unknown.bounds
                up, down = (high - value) / slope, (low - value) / slope
                ahead = min(ahead, max(up, down))
                behind = min(behind, -min(up, down))
        ahead, behind = max(ahead, 0.0), max(behind, 0.0)
        # Half of the way at least must be left on one side.
        return (ahead, behind) if ahead + behind > 0.5 * step else (step, 0.0)

    def _answer(self, k: int, z: Array) -> Array:
        mine = np.array(
            [
                value if unknown.recording in (None, k) else 0.0
                for value, unknown in zip(z, self.unknowns, strict=True)
            ]
        )
        key = (k, mine.tobytes())
        if key not in self._known:
            if len(self._known) > 4 * (len(self.unknowns) + len(self.observed)):
                self._known.clear()
            self._known[key] = self._simulate(k, mine)
        return self._known[key]

    def _simulate(self, k: int, z: Array) -> Array:
        self.runs += 1
        one = self.observed[k]
        values = {
            unknown.name: unknown.value(float(coordinate))
            for unknown, coordinate in zip(self.unknowns, z, strict=True)
            if unknown.recording in (None, k)
        }
        count = sum(len(one.samples[name][0]) for name in self.outputs)
        try:
            plant = self.target(**self.settings, **values)
            table = self._table(plant, one)
        except (ArithmeticError, ValueError):
            # A plant driven beyond what its formulas bear: as wrong as can be.
            return np.full(count, 1e6)
        except PlaygroundError as error:
            raise PlaygroundError(
                f"The plant refuses {_say(values)}: {error.problem}",
                "narrow the bounds so that the search stays where the plant is valid",
            ) from error
        answer = np.concatenate(
            [table[one.samples[n][0], i] for i, n in enumerate(self.outputs)]
        )
        return np.where(np.isfinite(answer), answer, 1e6)

    def _table(self, plant: Any, one: Observed) -> Array:
        outputs = self.outputs
        first = plant.reset(seed=0)
        rows = [[first[name] for name in outputs]]
        keep = rows.append
        step, period_s, offset_s = plant.step, plant.period_s, one.offset_s
        ends = [row for row, _ in one.inputs[1:]] + [one.rows + 1]
        for (begin, inputs), end in zip(one.inputs, ends, strict=True):
            held = dict(inputs)
            for row in range(begin, end):
                found = step(offset_s + row * period_s, held)
                keep([found[name] for name in outputs])
        return np.array(rows, dtype=np.float64)


def _say(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} = {value:g}" for name, value in values.items())
