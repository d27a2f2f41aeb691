"""All members of a plant as one simulator, and their answers to any blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from playground.learn.candidates import HISTORY, Candidate
from playground.learn.dataset import Segment
from playground.learn.folds import brief_starts
from playground.learn.selection import Selection
from playground.plants.learned.combination import Combination
from playground.plants.learned.distilled import Distilled
from playground.plants.learned.families import FAMILIES, on_a_plant
from playground.plants.learned.simulator import Simulator

Array = npt.NDArray[np.float64]

GROUPS = 8
"""Runs of like length are answered side by side: none waits for much longer ones."""


class Members:
    """All members of a selection as one simulator.

    Args:
        chosen: Members and weights.
        without: A fold: the members as they were fitted, and weighed, without it; None
            for those of all data.

    Attributes:
        apart: After a step, how far the members are apart, runs × outputs.
    """

    history = HISTORY

    def __init__(self, chosen: Selection, *, without: int | None = None) -> None:
        weights = chosen.weights if without is None else chosen.weights_without[without]
        self._combined = Combination(weights, chosen.median)
        # By how far they are apart the plant scales its intervals, with its own weights.
        self._middle = Combination(chosen.weights, chosen.median)
        self._weights = chosen.weights[:, None, :]
        self._simulators: list[Simulator] = [
            FAMILIES[m.family](m.settings, _arrays(m, without)) for m in chosen.members
        ]
        self.apart = np.zeros((1, weights.shape[1]))

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs; see `Simulator`."""
        for simulator in self._simulators:
            simulator.begin(u[:, -simulator.history :], y[:, -simulator.history :])
        self.apart = np.zeros_like(y[:, -1])

    def advance(self, u: Array) -> Array:
        """Makes one step; see `Simulator`."""
        answers = np.array([s.advance(u) for s in self._simulators])
        apart = (answers - self._middle(answers)) ** 2 * self._weights
        self.apart = np.sqrt(np.add.reduce(apart, axis=0))
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


def _arrays(member: Candidate, without: int | None) -> dict[str, Array]:
    return member.parameters if without is None else member.parts[without]


def brief_runs(
    chosen: Selection, folds: Sequence[Sequence[Segment]]
) -> list[list[Segment]]:
    """Returns runs by which intervals at short lead times are measured, per fold.

    None where a member stands on a physical plant, which takes hours to begin a run.

    Args:
        chosen: Members.
        folds: Scaled blocks.
    """
    if any(on_a_plant(m.settings) for m in chosen.members):
        return [[] for _ in folds]
    return brief_starts(folds)


def answered(
    simulator: Members | Distilled, blocks: Sequence[Segment]
) -> tuple[list[Array], list[Array]]:
    """Runs free over blocks; what is said and how far apart, from row `HISTORY` on."""
    if not blocks:
        return [], []
    order = np.argsort([-len(b) for b in blocks], kind="stable")
    said: dict[int, Array] = {}
    apart: dict[int, Array] = {}
    for places in np.array_split(order, min(GROUPS, len(order))):
        group = [blocks[k] for k in places]
        for k, s, a in zip(places.tolist(), *_together(simulator, group), strict=True):
            said[k], apart[k] = s, a
    return [said[k] for k in range(len(said))], [apart[k] for k in range(len(said))]


def _together(
    simulator: Members | Distilled, blocks: Sequence[Segment]
) -> tuple[list[Array], list[Array]]:
    u, y = _side_by_side(blocks)
    given = simulator.history
    simulator.begin(u[:, HISTORY - given : HISTORY], y[:, HISTORY - given : HISTORY])
    said, apart = np.empty_like(y), np.empty_like(y)
    for row in range(HISTORY, u.shape[1]):
        said[:, row] = simulator.advance(u[:, row])
        apart[:, row] = simulator.apart
    return (
        [s[HISTORY : len(b)] for s, b in zip(said, blocks, strict=True)],
        [a[HISTORY : len(b)] for a, b in zip(apart, blocks, strict=True)],
    )


def _side_by_side(blocks: Sequence[Segment]) -> tuple[Array, Array]:
    rows = max(len(b) for b in blocks)

    def padded(table: Array) -> Array:
        short = rows - len(table)
        return np.concatenate([table, np.repeat(table[-1:], short, axis=0)])

    return (
        np.stack([padded(b.u) for b in blocks]),
        np.stack([padded(b.y) for b in blocks]),
    )
