"""A linear state-space model in steps: x' = x A + u B, y = x C + u D.

The state has no meaning of its own; the rows before a run are turned into one by a
matrix that was learned with the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from playground.plants.learned.simulator import Array


class StateSpace:
    """A stable linear system of low order.

    Args:
        settings: ``given``: rows it is shown.
        arrays: ``system`` (order + inputs + 1) × (order + outputs): what the state,
            the inputs and a 1 make of the next state and of the outputs; ``opening``
            (given · outputs + given · inputs + 1) × order: what the rows before a
            run, oldest first, make of its first state; ``low`` and ``high``.
    """

    def __init__(
        self, settings: Mapping[str, Any], arrays: Mapping[str, Array]
    ) -> None:
        self.history = int(settings["given"])
        self._system, self._opening = arrays["system"], arrays["opening"]
        self.order = self._opening.shape[1]
        self.low, self.high = arrays["low"][None], arrays["high"][None]
        self._take(np.ones((1, len(self._system))))

    def _take(self, x: Array) -> None:
        """Makes ``x`` the state, with its parts as views."""
        self._x = x
        self._state, self._input = x[:, : self.order], x[:, self.order : -1]

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Makes the views of a copy again: pickle makes arrays of them."""
        self.__dict__.update(state)
        self._take(self._x)

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs; see `Simulator`."""
        runs = len(u)
        seen = [y.reshape(runs, -1), u.reshape(runs, -1), np.ones((runs, 1))]
        x = np.ones((runs, len(self._system)))
        x[:, : self.order] = np.concatenate(seen, axis=1) @ self._opening
        self._take(x)

    def advance(self, u: Array) -> Array:
        """Makes one step; see `Simulator`."""
        self._input[:] = u
        both = np.dot(self._x, self._system)
        self._state[:] = both[:, : self.order]
        y: Array = both[:, self.order :]
        np.maximum(y, self.low, out=y)
        np.minimum(y, self.high, out=y)
        return y

    def state(self) -> tuple[Array, ...]:
        """Returns a copy of the state."""
        return (self._x.copy(),)

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Goes back to what `state` returned."""
        self._take(state[0].copy())
