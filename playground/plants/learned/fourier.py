"""Random Fourier features of past outputs and inputs, in steps.

increment = W · (x, cos(Ω x + b)), x as in `Arx`. The cosines approximate a
Gaussian kernel (Rahimi & Recht 2007); Ω and b are drawn, only W is learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from playground.plants.learned.arx import Lags
from playground.plants.learned.simulator import Array, copied


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
        self._omega = arrays["omega"]
        width = len(self._omega)
        self._linear, self._waves = arrays["weights"][:width], arrays["weights"][width:]
        self.low, self.high = arrays["low"], arrays["high"]
        outputs = len(self.low)
        na, nb = int(settings["na"]), int(settings["nb"])
        self._lags = Lags(na, nb, outputs, (width - na * outputs - 1) // nb)
        self.history = self._lags.history

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs; see `Simulator`."""
        self._lags.begin(u, y)

    def advance(self, u: Array) -> Array:
        """Makes one step; see `Simulator`."""
        x = self._lags.with_inputs(u)
        y = self._lags.newest() + x @ self._linear
        y += np.cos(x @ self._omega) @ self._waves
        y = np.minimum(np.maximum(y, self.low), self.high)
        self._lags.take_outputs(y)
        return y

    def state(self) -> tuple[Array, ...]:
        """Returns a copy of the lags."""
        return copied((self._lags.x,))

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Goes back to what `state` returned."""
        (self._lags.x,) = copied(state)
