"""The linear ARX model in steps: increment = W · (outputs, inputs, 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from playground.plants.learned.simulator import Array, copied


class Arx:
    """Linear in the last ``na`` outputs and the last ``nb`` inputs.

    Args:
        settings: ``na`` and ``nb``: how many past rows it looks at.
        arrays: ``weights`` (na·outputs + nb·inputs + 1) × outputs, ``low`` and
            ``high``: limits of the scaled outputs.
    """

    def __init__(
        self, settings: Mapping[str, Any], arrays: Mapping[str, Array]
    ) -> None:
        self.na = int(settings["na"])
        self.nb = int(settings["nb"])
        # The newest input belongs to the step itself, so nb - 1 are past.
        self.history = max(self.na, self.nb - 1, 1)
        self.weights = arrays["weights"]
        self.low, self.high = arrays["low"], arrays["high"]
        self.outputs = self.weights.shape[1]
        self.first_u = self.na * self.outputs
        self.inputs = (len(self.weights) - self.first_u - 1) // self.nb
        self._x = np.ones((1, len(self.weights)))

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs; see `Simulator`."""
        runs = len(u)
        self._x = np.ones((runs, len(self.weights)))
        recent_y = y[:, y.shape[1] - self.na :][:, ::-1]
        self._x[:, : self.first_u] = recent_y.reshape(runs, -1)
        if self.nb > 1:
            recent_u = u[:, u.shape[1] - self.nb + 1 :][:, ::-1]
            # Where they will be after the next input was shifted in.
            self._x[:, self.first_u : -1 - self.inputs] = recent_u.reshape(runs, -1)

    def advance(self, u: Array) -> Array:
        """Makes one step; see `Simulator`."""
        x, first, ny, nu = self._x, self.first_u, self.outputs, self.inputs
        if self.nb > 1:
            x[:, first + nu : -1] = x[:, first : -1 - nu]
        x[:, first : first + nu] = u
        y = x[:, :ny] + x @ self.weights
        np.clip(y, self.low, self.high, out=y)
        if self.na > 1:
            x[:, ny:first] = x[:, : first - ny]
        x[:, :ny] = y
        return y

    def state(self) -> tuple[Array, ...]:
        """Returns a copy of the lags."""
        return copied((self._x,))

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Goes back to what `state` returned."""
        (self._x,) = copied(state)
