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
        self.low, self.high = arrays["low"][None], arrays["high"][None]
        # The mean of all copies is one network, as wide as all of them.
        self._copies, width, _ = arrays["first"].shape
        self._straight = arrays["straight"].mean(axis=0)
        self._first = np.concatenate(list(arrays["first"]), axis=1)
        self._second = arrays["second"]
        self._third = np.concatenate(list(arrays["third"]), axis=0) / self._copies
        filters, decays = settings["filters"], settings["decays"]
        outputs = self.low.shape[1]
        self.inputs = inputs_in(width, len(filters), len(decays), outputs)
        self._bank = Bank(filters, decays, inputs=self.inputs, outputs=outputs)

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs; see `Simulator`."""
        self._bank.begin(u, y)

    def advance(self, u: Array) -> Array:
        """Makes one step; see `Simulator`."""
        x = self._bank.with_inputs(u)
        hidden: Array = np.dot(x, self._first)
        np.tanh(hidden, out=hidden)
        if self._copies == 1:
            hidden = np.dot(hidden, self._second[0])
        else:
            apart = hidden.reshape(len(x), self._copies, -1).transpose(1, 0, 2)
            hidden = np.matmul(apart, self._second).transpose(1, 0, 2)
            hidden = hidden.reshape(len(x), -1)
        np.tanh(hidden, out=hidden)
        y: Array = np.dot(x, self._straight)
        y += np.dot(hidden, self._third)
        np.maximum(y, self.low, out=y)
        np.minimum(y, self.high, out=y)
        return y

    def state(self) -> tuple[Array, ...]:
        """Returns a copy of filters and decays."""
        return copied((self._bank.x,))

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Goes back to what `state` returned."""
        (x,) = copied(state)
        self._bank.take(x)
