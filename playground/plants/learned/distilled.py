"""One network that was taught to answer as all members of a plant do, in steps.

A recurrent network as in `Network` runs free on its own answers. Beside it a network
with two layers of rectified units looks at the state of the first and says what is
still missing, and how far the members are apart. What it adds feeds back into nothing,
so the whole is as stable as the first alone; rectified units, since in batches it is
the hyperbolic tangents that take the time.

Runs are the last axis here, so that each part of the state is one piece of memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from playground.plants.learned.simulator import Array

FURTHEST = 50.0
"""Limit of the hidden memory, as in `Network`."""


class Distilled:
    """A recurrent network and its correction.

    Args:
        settings: ``na``, ``nb``, ``memory`` and ``filters``, as of `Network`.
        arrays: As of a `Network` with one copy; ``straight`` x × (2 · outputs),
            ``first`` x × units, ``second`` units × units, ``third`` units ×
            (2 · outputs), where x is the state of the network after a step. Of what
            they answer the first half is added to what the network says, the
            second half is how far the members are apart.

    Attributes:
        apart: After a step, how far the members are apart, runs × outputs; written
            over by the next step.
    """

    apart: Array

    def __init__(
        self, settings: Mapping[str, Any], arrays: Mapping[str, Array]
    ) -> None:
        na, nb = int(settings["na"]), int(settings["nb"])
        self.history = max(na, nb)
        self._na, self._nb, memory = na, nb, int(settings["memory"])
        low, high = arrays["low"], arrays["high"]
        self.outputs = ny = len(low)
        skeleton, inner = arrays["skeleton"][0], arrays["inner"][0]
        width, self._states = skeleton.shape
        filters = np.asarray(settings["filters"], dtype=np.float64)
        self._filters = len(filters)
        self.inputs = (width - na * ny - memory - 1) // (nb + self._filters)
        # Memory beside the newest outputs: the two change together.
        place = np.arange(width)
        order = np.concatenate(
            [
                place[:ny],
                place[na * ny : na * ny + memory],
                place[ny : na * ny],
                place[na * ny + memory :],
            ]
        )

        def turned(*parts: Array) -> Array:
            return np.ascontiguousarray(np.concatenate(parts, axis=1)[order].T)

        # One product gives the linear part and what goes into the units.
        self._both = turned(skeleton, inner)
        self._outer = np.ascontiguousarray(arrays["outer"][0].T)
        self._opening = turned(arrays["opening"][0])
        self._added = turned(arrays["straight"], arrays["first"])
        self._second = np.ascontiguousarray(arrays["second"].T)
        self._third = np.ascontiguousarray(arrays["third"].T)
        self._keep = np.exp(-1.0 / filters)[:, None, None]
        wide = np.full(memory, FURTHEST)
        self._least = np.concatenate([low, -wide])[:, None]
        self._most = np.concatenate([high, wide])[:, None]
        self._low, self._high = low[:, None], high[:, None]
        self._take(np.ones((width, 1)))

    def _take(self, x: Array, said: Array | None = None) -> None:
        """Makes ``x`` the state, with its parts as views: slicing takes time."""
        ny, nu, runs = self.outputs, self.inputs, x.shape[1]
        first = self._states + (self._na - 1) * ny
        end = first + self._nb * nu
        self._x, self._newest = x, x[: self._states]
        # From the oldest on, each takes what was in the one before.
        lags = [x[:ny]] + [
            x[k : k + ny] for k in range(self._states, first, ny) if k < first
        ]
        self._moves = [(lags[k], lags[k - 1]) for k in range(len(lags) - 1, 0, -1)]
        told = [x[k : k + nu] for k in range(first, end, nu)]
        self._told_moves = [(told[k], told[k - 1]) for k in range(len(told) - 1, 0, -1)]
        self._input = told[0]
        self._past = x[end:-1].reshape(self._filters, nu, runs)
        self._raw = np.empty((len(self._both), runs))
        self._change, self._hidden = (
            self._raw[: self._states],
            self._raw[self._states :],
        )
        self._next = np.empty((self._states, runs))
        self._units = np.empty((len(self._added), runs))
        self._straight, self._one = self._units[: 2 * ny], self._units[2 * ny :]
        self._two = np.empty((len(self._second), runs))
        self._more = np.zeros((2 * ny, runs)) if said is None else said
        self._missing, self._apart = self._more[:ny], self._more[ny:]
        self.apart = self._apart.T

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Makes the views of a copy again: pickle makes arrays of them."""
        self.__dict__.update(state)
        self._take(self._x, self._more)

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs; see `Simulator`."""
        runs, rows = u.shape[:2]
        ny, nu, states = self.outputs, self.inputs, self._states
        x = np.zeros((self._both.shape[1], runs))
        x[-1] = 1.0
        lags = y[:, rows - self._na :][:, ::-1].reshape(runs, -1).T
        x[:ny], x[states : states + (self._na - 1) * ny] = lags[:ny], lags[ny:]
        first = states + (self._na - 1) * ny
        x[first : first + self._nb * nu] = (
            u[:, rows - self._nb :][:, ::-1].reshape(runs, -1).T
        )
        self._take(x)
        self._past[:] = u[:, 0].T
        for row in range(1, rows):
            self._filter(u[:, row].T)
        x[ny:states] = np.dot(self._opening, x)

    def _filter(self, u: Array) -> None:
        past = self._past
        past -= u
        past *= self._keep
        past += u

    def advance(self, u: Array) -> Array:
        """Makes one step; see `Simulator`."""
        for later, earlier in self._told_moves:
            later[:] = earlier
        self._input[:] = u.T
        self._filter(self._input)
        x, said, newest = self._x, self._next, self._newest
        np.dot(self._both, x, out=self._raw)
        np.tanh(self._hidden, out=self._hidden)
        np.dot(self._outer, self._hidden, out=said)
        said += self._change
        said += newest
        np.maximum(said, self._least, out=said)
        np.minimum(said, self._most, out=said)
        for later, earlier in self._moves:
            later[:] = earlier
        newest[:] = said
        np.dot(self._added, x, out=self._units)
        np.maximum(self._one, 0.0, out=self._one)
        np.dot(self._second, self._one, out=self._two)
        np.maximum(self._two, 0.0, out=self._two)
        np.dot(self._third, self._two, out=self._more)
        self._more += self._straight
        np.maximum(self._apart, 0.0, out=self._apart)
        y: Array = self._missing + said[: self.outputs]
        np.maximum(y, self._low, out=y)
        np.minimum(y, self._high, out=y)
        return y.T

    def state(self) -> tuple[Array, ...]:
        """Returns a copy of lags, memory, filters, and of the last answer."""
        return self._x.copy(), self._more.copy()

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Goes back to what `state` returned."""
        x, more = state
        self._take(x.copy(), more.copy())
