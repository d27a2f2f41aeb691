"""Random Fourier features of past outputs and inputs, in steps.

increment = W · (x, cos(Ω x + b)), x as in `Arx`. The cosines approximate a
Gaussian kernel (Rahimi & Recht 2007); Ω and b are drawn, only W is learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from playground.plants.learned.arx import Lags
from playground.plants.learned.simulator import Array


class Fourier:
    """Linear in the lags and in cosines of them.

    Args:
        settings: ``na`` and ``nb``, as of `Arx`.
        arrays: ``omega`` lags × cosines (the constant's row holds the phase),
            ``weights`` (lags + cosines) × outputs; ``low`` and ``high``.
    """

    def __init__(
        self, settings: Mapping[str, Any], arrays: Mapping[str, Array]
    ) -> None:
        omega, weights = arrays["omega"], arrays["weights"]
        width = len(omega)
        self.low, self.high = arrays["low"][None], arrays["high"][None]
        outputs = self.low.shape[1]
        na, nb = int(settings["na"]), int(settings["nb"])
        self.inputs = (width - na * outputs - 1) // nb
        self._lags = Lags(na, nb, outputs, self.inputs)
        self._omega = self._lags.rows(omega)
        self._linear = self._lags.rows(weights[:width])
        self._waves = weights[width:]
        self.history = self._lags.history

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs; see `Simulator`."""
        self._lags.begin(u, y)

    def advance(self, u: Array) -> Array:
        """Makes one step; see `Simulator`."""
        x = self._lags.with_inputs(u)
        waves: Array = np.dot(x, self._omega)
        np.cos(waves, out=waves)
        y: Array = np.dot(waves, self._waves)
        y += np.dot(x, self._linear)
        y += self._lags.newest()
        np.maximum(y, self.low, out=y)
        np.minimum(y, self.high, out=y)
        self._lags.take_outputs(y)
        return y

    def state(self) -> tuple[Array, ...]:
        """Returns a copy of the lags."""
        return (self._lags.state(),)

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Goes back to what `state` returned."""
        self._lags.set_state(state[0])
