"""Low-pass filters of the inputs into a small network: no feedback, no drift."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from playground.plants.learned.bank import GIVEN, Bank, inputs_in
from playground.plants.learned.simulator import Array, copied


class FilterBank:
    """Copies of a network with two hidden layers on a `Bank`.

    Args:
        settings: ``filters`` and ``decays`` (time constants in steps).
        arrays: ``straight`` copies × features × outputs, ``first`` copies ×
            features × hidden, ``second`` copies × hidden × hidden, ``third``
            copies × hidden × outputs; ``low`` and ``high``.
    """

    history = GIVEN

    def __init__(
        self, settings: Mapping[str, Any], arrays: Mapping[str, Array]
    ) -> None:
        self.low, self.high = arrays["low"], arrays["high"]
        self._straight, self._first = arrays["straight"], arrays["first"]
        self._second, self._third = arrays["second"], arrays["third"]
        filters, decays = settings["filters"], settings["decays"]
        outputs, width = len(self.low), self._first.shape[1]
        inputs = inputs_in(width, len(filters), len(decays), outputs)
        self._bank = Bank(filters, decays, inputs=inputs, outputs=outputs)

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs; see `Simulator`."""
        self._bank.begin(u, y)

    def advance(self, u: Array) -> Array:
        """Makes one step; see `Simulator`."""
        x = self._bank.with_inputs(u)
        hidden = np.tanh(np.tanh(x @ self._first) @ self._second)
        y = (x @ self._straight + hidden @ self._third).mean(axis=0)
        return np.asarray(np.minimum(np.maximum(y, self.low), self.high))

    def state(self) -> tuple[Array, ...]:
        """Returns a copy of filters and decays."""
        return copied((self._bank.x,))

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Goes back to what `state` returned."""
        (self._bank.x,) = copied(state)
