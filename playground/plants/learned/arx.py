"""The linear ARX model in steps: increment = W · (outputs, inputs, 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from playground.plants.learned.simulator import Array, copied


class Lags:
    """Past outputs and inputs of any number of runs, newest first, and a 1.

    Args:
        na: Rows of outputs.
        nb: Rows of inputs, the present one included.
        outputs: How many.
        inputs: How many.
    """

    def __init__(self, na: int, nb: int, outputs: int, inputs: int) -> None:
        self.na, self.nb = na, nb
        self.outputs, self.inputs = outputs, inputs
        # The newest input belongs to the step itself, so nb - 1 are past.
        self.history = max(na, nb - 1, 1)
        self._first_u = na * outputs
        self.x = np.ones((1, self._first_u + nb * inputs + 1))

    def begin(self, u: Array, y: Array) -> None:
        """Takes the last of the given rows, runs × rows × columns."""
        runs, rows = u.shape[:2]
        x = np.ones((runs, self.x.shape[1]))
        x[:, : self._first_u] = y[:, rows - self.na :][:, ::-1].reshape(runs, -1)
        if self.nb > 1:
            # Where they will be before the next input shifts them.
            recent = u[:, rows - self.nb + 1 :][:, ::-1].reshape(runs, -1)
            x[:, self._first_u : -1 - self.inputs] = recent
        self.x = x

    def with_inputs(self, u: Array) -> Array:
        """Shifts in the inputs of a step; returns all lags, not a copy."""
        x, first, nu = self.x, self._first_u, self.inputs
        if self.nb > 1:
            x[:, first + nu : -1] = x[:, first : -1 - nu]
        x[:, first : first + nu] = u
        return x

    def newest(self) -> Array:
        """Returns the last outputs, not a copy."""
        return self.x[:, : self.outputs]

    def take_outputs(self, y: Array) -> None:
        """Shifts in the outputs of a step."""
        x, first, ny = self.x, self._first_u, self.outputs
        if self.na > 1:
            x[:, ny:first] = x[:, : first - ny]
        x[:, :ny] = y


class Arx:
    """Linear in the last ``na`` outputs and the last ``nb`` inputs.

    Args:
        settings: ``na`` and ``nb``: how many rows it looks at.
        arrays: ``weights`` (na·outputs + nb·inputs + 1) × outputs, ``low`` and
            ``high``: limits of the scaled outputs.
    """

    def __init__(
        self, settings: Mapping[str, Any], arrays: Mapping[str, Array]
    ) -> None:
        self.weights = arrays["weights"]
        self.low, self.high = arrays["low"], arrays["high"]
        na, nb, outputs = int(settings["na"]), int(settings["nb"]), len(self.low)
        inputs = (len(self.weights) - na * outputs - 1) // nb
        self._lags = Lags(na, nb, outputs, inputs)
        self.history = self._lags.history

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs; see `Simulator`."""
        self._lags.begin(u, y)

    def advance(self, u: Array) -> Array:
        """Makes one step; see `Simulator`."""
        y = self._lags.with_inputs(u) @ self.weights
        y += self._lags.newest()
        y = np.minimum(np.maximum(y, self.low), self.high)
        self._lags.take_outputs(y)
        return y

    def state(self) -> tuple[Array, ...]:
        """Returns a copy of the lags."""
        return copied((self._lags.x,))

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Goes back to what `state` returned."""
        (self._lags.x,) = copied(state)
