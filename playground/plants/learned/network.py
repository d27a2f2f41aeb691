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
        keep = np.exp(-1.0 / self.filters)
        # As wide as what it multiplies: numpy is slower where shapes differ.
        self._keep = np.repeat(keep[:, None], self.inputs, axis=1)[None, None]
        wide = np.full(self.memory, 50.0)
        self._least = np.concatenate([self.low, -wide])[None, None]
        self._most = np.concatenate([self.high, wide])[None, None]
        self._take(np.ones((self.copies, 1, width)))

    def _take(self, x: Array) -> None:
        """Makes ``x`` the state, with its parts as views: slicing takes time."""
        no, ny = self.outputs, self.na * self.outputs
        first, end = self.first_u, self.first_filter
        runs = x.shape[1]
        self._x, self._first_x = x, x[0]
        self._newest, self._outputs = x[:, :, :no], x[:, :, no:ny]
        self._older_outputs = x[:, :, : ny - no]
        self._memory = x[:, :, ny:first]
        self._input = x[:, :, first : first + self.inputs]
        self._inputs = x[:, :, first + self.inputs : end]
        self._older_inputs = x[:, :, first : end - self.inputs]
        self._past = x[:, :, end:-1].reshape(
            self.copies, runs, len(self.filters), self.inputs
        )
        raw = np.empty((self.copies, runs, self._both.shape[2]))
        self._raw = raw
        self._change, self._hidden = raw[:, :, : self.states], raw[:, :, self.states :]
        self._said = np.empty((self.copies, runs, self.states))
        self._said_y, self._said_memory = self._said[:, :, :no], self._said[:, :, no:]

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Makes the views of a copy again: pickle makes arrays of them."""
        self.__dict__.update(state)
        self._take(self._x)

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs; see `Simulator`."""
        runs, rows = u.shape[:2]
        x = np.zeros((self.copies, runs, self._both.shape[1]))
        x[:, :, -1] = 1.0
        ny, first, end = self.na * self.outputs, self.first_u, self.first_filter
        x[:, :, :ny] = y[:, rows - self.na :][:, ::-1].reshape(runs, -1)
        x[:, :, first:end] = u[:, rows - self.nb :][:, ::-1].reshape(runs, -1)
        self._take(x)
        if len(self.filters):
            self._past[:] = u[:, 0, None, :]
            for row in range(1, rows):
                self._filter(u[:, row])
        if self.memory:
            x[:, :, ny:first] = x @ self._opening

    def _filter(self, u: Array) -> None:
        now, past = u[:, None, :], self._past
        past -= now
        past *= self._keep
        past += now

    def advance(self, u: Array) -> Array:
        """Makes one step; see `Simulator`."""
        if self.nb > 1:
            self._inputs[:] = self._older_inputs
        self._input[:] = u
        if len(self.filters):
            self._filter(u)
        np.matmul(self._x, self._both, out=self._raw)
        hidden, said = self._hidden, self._said
        np.tanh(hidden, out=hidden)
        np.matmul(hidden, self._outer, out=said)
        said += self._change
        self._said_y += self._newest
        if self.memory:
            self._said_memory += self._memory
        np.maximum(said, self._least, out=said)
        np.minimum(said, self._most, out=said)
        if self.memory:
            self._memory[:] = self._said_memory
        if self.na > 1:
            self._outputs[:] = self._older_outputs
        self._newest[:] = self._said_y
        if self.copies == 1:
            y: Array = self._said_y[0].copy()
            return y
        return np.asarray(np.add.reduce(self._said_y, axis=0) / self.copies)

    def seen(self) -> Array:
        """Returns the state x of the first copy, runs × x; not a copy."""
        seen: Array = self._first_x
        return seen

    def state(self) -> tuple[Array, ...]:
        """Returns a copy of lags, memory and filters."""
        return copied((self._x,))

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Goes back to what `state` returned."""
        (x,) = copied(state)
        self._take(x)
