"""One small network that is taught to answer as all members of a plant do.

A plant of many members is slow to step. Its answers are free, though, and
without noise, so a single network can learn from as many of them as it needs:
to the recorded inputs, and to inputs that were shuffled among each other so
that it meets combinations which the recording never had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from playground.learn import network
from playground.learn.candidates import HISTORY
from playground.learn.dataset import Segment
from playground.learn.folds import blocks_free_run
from playground.learn.selection import Selection
from playground.plants.learned.combination import Combination
from playground.plants.learned.families import FAMILIES
from playground.plants.learned.network import Network
from playground.plants.learned.simulator import Simulator

Array = npt.NDArray[np.float64]

SETTINGS: dict[str, Any] = {
    "na": 2,
    "nb": 3,
    "memory": 6,
    "filters": [3, 10, 40, 200],
    "hidden": 32,
    "decay": 0.01,
    "noise": 0.02,
    "whole": 1,
    "batch": 96,
    "ridge": 1e-5,
}
ROWS = 30_000
EFFORT = 2.0


class Members:
    """All members of a selection as one simulator.

    Args:
        chosen: Members and weights.
    """

    history = HISTORY

    def __init__(self, chosen: Selection) -> None:
        self._combined = Combination(chosen.weights, chosen.median)
        self._simulators: list[Simulator] = [
            FAMILIES[m.family](m.settings, m.parameters) for m in chosen.members
        ]

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs; see `Simulator`."""
        for simulator in self._simulators:
            simulator.begin(u[:, -simulator.history :], y[:, -simulator.history :])

    def advance(self, u: Array) -> Array:
        """Makes one step; see `Simulator`."""
        answers = np.array([s.advance(u) for s in self._simulators])
        return self._combined(answers)

    def state(self) -> tuple[Array, ...]:
        """Returns a copy of the states of all."""
        return tuple(array for s in self._simulators for array in s.state())

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Goes back to what `state` returned."""
        rest = list(state)
        for simulator in self._simulators:
            count = len(simulator.state())
            simulator.set_state(tuple(rest[:count]))
            rest = rest[count:]


def taught(
    chosen: Selection,
    blocks: Sequence[Segment],
    *,
    low: Array,
    high: Array,
    seed: int,
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Teaches a network.

    Args:
        chosen: The members that teach.
        blocks: Scaled training data.
        low: Limits of the scaled outputs.
        high: Limits of the scaled outputs.
        seed: Of all that is drawn.

    Returns:
        Its arrays; and its settings with how far it is from the teachers on
        inputs that took no part in teaching, in spreads of the outputs.
    """
    rng = np.random.default_rng([seed, 7])
    lessons = _answered(chosen, _lessons(blocks, rng))
    exams = _answered(chosen, [_shuffled(b, blocks, rng) for b in blocks[:8]])
    arrays = network.trained(
        [lessons], SETTINGS, seed=seed, effort=EFFORT, leave_out=False
    )
    arrays |= {"low": low, "high": high}
    said = blocks_free_run(Network(SETTINGS, arrays), exams, history=HISTORY)
    wrong = np.vstack([s - e.y[HISTORY:] for s, e in zip(said, exams, strict=True)])
    distance = np.sqrt((wrong**2).mean(axis=0))
    return arrays, {
        "settings": SETTINGS,
        "distance": dict(zip(blocks[0].outputs, distance.tolist(), strict=True)),
    }


def _lessons(blocks: Sequence[Segment], rng: np.random.Generator) -> list[Segment]:
    """Returns recorded and shuffled inputs, about as many of each."""
    order = rng.permutation(len(blocks))
    lessons: list[Segment] = []
    rows = 0
    while rows < ROWS:
        for number in order:
            if rows >= ROWS:
                break
            block = blocks[number]
            again = len(lessons) >= len(blocks)
            # The recorded inputs come once; from then on they are shuffled.
            lesson = (
                _shuffled(block, blocks, rng) if again or rows > ROWS / 2 else block
            )
            lessons.append(lesson)
            rows += len(lesson)
    return lessons


def _shuffled(
    block: Segment, blocks: Sequence[Segment], rng: np.random.Generator
) -> Segment:
    """Takes about half of the inputs from other places in the data."""
    u = block.u.copy()
    for column in range(u.shape[1]):
        if rng.random() < 0.5:
            other = blocks[int(rng.integers(len(blocks)))]
            shift = int(rng.integers(len(other)))
            u[HISTORY:, column] = np.resize(
                np.roll(other.u[:, column], shift), len(u) - HISTORY
            )
    return replace(block, u=u)


def _answered(chosen: Selection, lessons: Sequence[Segment]) -> list[Segment]:
    said = blocks_free_run(Members(chosen), lessons, history=HISTORY)
    return [
        replace(b, y=np.vstack([b.y[:HISTORY], s]))
        for b, s in zip(lessons, said, strict=True)
    ]
