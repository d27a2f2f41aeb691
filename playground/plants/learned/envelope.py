"""Where a learned plant has been, and whether a step is still there.

A step is outside when an input or output leaves its range in the training data, when
one changes faster than it ever did there, or when the state as a whole is far from
every state seen: the box finds an unseen level, the rates an unseen jump, the distance
an unseen combination.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from playground.plants.learned.simulator import Array

NEIGHBOURS = 5
Flags = npt.NDArray[np.bool_]


class Envelope:
    """The validity envelope of a model.

    Args:
        arrays: ``low`` and ``high`` of inputs then outputs, scaled; ``rate``, how far
            each may go in one step, scaled (any distance where that is missing, as it is
            in older models); ``states`` seen, states × (inputs + outputs),
            scaled; ``reach``, the largest mean distance to the nearest five that is
            still inside.
        names: Of inputs then outputs.
    """

    def __init__(self, arrays: Mapping[str, Array], names: Sequence[str]) -> None:
        self._low, self._high = arrays["low"], arrays["high"]
        self._states = arrays["states"]
        self._squares = (self._states**2).sum(axis=1)
        self._reach = float(arrays["reach"][0])
        self._names = tuple(names)
        self._rate = arrays.get("rate", np.full(len(self._low), np.inf))

    def box(self, state: Array) -> Flags:
        """Says for each run whether all numbers are in range; runs × numbers."""
        inside: Flags = (state >= self._low) & (state <= self._high)
        return np.asarray(inside.all(axis=1))

    def steady(self, before: Array, state: Array) -> Flags:
        """Says for each run whether nothing went further in a step than it was seen to.

        Args:
            before: Numbers one step earlier, runs × numbers.
            state: Numbers now, likewise.
        """
        steady: Flags = np.abs(state - before) <= self._rate
        return np.asarray(steady.all(axis=1))

    def near(self, state: Array) -> Flags:
        """Says for each run whether its state is near to those seen."""
        square = (state**2).sum(axis=1)[:, None] + self._squares
        distance = square - 2 * state @ self._states.T
        # Where as many as that are within reach, so is their mean: counting them is
        # ten times as fast as finding out which they are.
        near: Flags = np.count_nonzero(distance <= self._reach**2, axis=1) >= NEIGHBOURS
        doubtful = np.flatnonzero(~near)
        if len(doubtful):
            rest = np.partition(distance[doubtful], NEIGHBOURS - 1, axis=1)
            nearest = np.maximum(rest[:, :NEIGHBOURS], 0.0)
            near[doubtful] = np.sqrt(nearest).mean(axis=1) <= self._reach
        return near

    def outside(self, before: Array, state: Array) -> str:
        """Names what is outside in one state: the signal furthest out.

        Args:
            before: The state one step earlier.
            state: The state.
        """
        beyond = np.maximum(self._low - state, state - self._high)
        furthest = int(np.argmax(beyond))
        if beyond[furthest] > 0:
            return self._names[furthest]
        faster = np.abs(state - before) - self._rate
        fastest = int(np.argmax(faster))
        if faster[fastest] > 0:
            return f"the rate of {self._names[fastest]}"
        return "the combination of all signals"
