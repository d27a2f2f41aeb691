"""A linear skeleton and a small network beside it, with memory, in steps.

increment = W · x + V · tanh(U · x), where x holds past outputs, hidden memory,
present and past inputs, and low-pass filtered inputs. Several trained copies run
side by side, each on its own answers; the plant says their mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from playground.plants.learned.simulator import Array, copied


class Network:
    """Copies of a recurrent network with a linear skeleton.

    The order within x is: outputs newest first (``na`` rows), memory, inputs
    newest first (``nb`` rows), filtered inputs (one block per time constant), 1.

    Args:
        settings: ``na``, ``nb``, ``memory`` (number of hidden states) and
            ``filters`` (time constants in steps).
        arrays: ``skeleton`` copies × x × states, ``inner`` copies × x × hidden,
            ``outer`` copies × hidden × states, ``opening`` copies × x × memory
            (the memory at the start), ``low`` and ``high``.
    """

    def __init__(
        self, settings: Mapping[str, Any], arrays: Mapping[str, Array]
    ) -> None:
        self.na, self.nb = int(settings["na"]), int(settings["nb"])
        self.memory = int(settings["memory"])
        self.filters = np.asarray(settings["filters"], dtype=np.float64)
        self.history = max(self.na, self.nb)
        self.low, self.high = arrays["low"], arrays["high"]
        self.outputs = len(self.low)
        skeleton, inner, outer = arrays["skeleton"], arrays["inner"], arrays["outer"]
        self.copies, width, self.states = skeleton.shape
        self.first_u = self.na * self.outputs + self.memory
        blocks = self.nb + len(self.filters)
        self.inputs = (width - self.first_u - 1) // blocks
        self.first_filter = self.first_u + self.nb * self.inputs
        # One product gives the linear part and what goes into tanh.
        self._both = np.concatenate([skeleton, inner], axis=2)
        self._outer = outer
        self._opening = arrays["opening"]
        self._keep = np.exp(-1.0 / self.filters)[:, None]
        wide = np.full(self.memory, 50.0)
        self._least = np.concatenate([self.low, -wide])
        self._most = np.concatenate([self.high, wide])
        self._x = np.ones((self.copies, 1, width))

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs; see `Simulator`."""
        runs, rows = u.shape[:2]
        x = np.zeros((self.copies, runs, self._both.shape[1]))
        x[:, :, -1] = 1.0
        ny, first, end = self.na * self.outputs, self.first_u, self.first_filter
        x[:, :, :ny] = y[:, rows - self.na :][:, ::-1].reshape(runs, -1)
        x[:, :, first:end] = u[:, rows - self.nb :][:, ::-1].reshape(runs, -1)
        self._x = x
        if len(self.filters):
            self._filtered()[:] = u[:, 0, None, :]
            for row in range(1, rows):
                self._filter(u[:, row])
        if self.memory:
            x[:, :, ny:first] = x @ self._opening

    def _filtered(self) -> Array:
        """Returns the filters, copies × runs × constants × inputs; a view."""
        part = self._x[:, :, self.first_filter : -1]
        return part.reshape(*part.shape[:2], len(self.filters), self.inputs)

    def _filter(self, u: Array) -> None:
        now = u[:, None, :]
        past = self._filtered()
        past -= now
        past *= self._keep
        past += now

    def advance(self, u: Array) -> Array:
        """Makes one step; see `Simulator`."""
        x, no = self._x, self.outputs
        ny, first, end = self.na * no, self.first_u, self.first_filter
        if self.nb > 1:
            x[:, :, first + self.inputs : end] = x[:, :, first : end - self.inputs]
        x[:, :, first : first + self.inputs] = u
        if len(self.filters):
            self._filter(u)
        both = x @ self._both
        states = np.tanh(both[:, :, self.states :]) @ self._outer
        states += both[:, :, : self.states]
        states[:, :, :no] += x[:, :, :no]
        if self.memory:
            states[:, :, no:] += x[:, :, ny:first]
        np.maximum(states, self._least, out=states)
        np.minimum(states, self._most, out=states)
        if self.memory:
            x[:, :, ny:first] = states[:, :, no:]
        if self.na > 1:
            x[:, :, no:ny] = x[:, :, : ny - no]
        y: Array = states[:, :, :no]
        x[:, :, :no] = y
        return y[0] if self.copies == 1 else np.asarray(y.mean(axis=0))

    def state(self) -> tuple[Array, ...]:
        """Returns a copy of lags, memory and filters."""
        return copied((self._x,))

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Goes back to what `state` returned."""
        (self._x,) = copied(state)
