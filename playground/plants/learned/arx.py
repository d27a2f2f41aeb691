"""The linear ARX model in steps: increment = W · (outputs, inputs, 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from playground.plants.learned.simulator import Array

AHEAD_ALONE, AHEAD = 64, 4
"""Steps for which there is room before the past is moved: of one run, of many."""


class Lags:
    """Past outputs and inputs of any number of runs, newest first.

    The past is a window that moves through a longer table, so that a step writes
    its own numbers only. A lag is a slot of the window: 1, the inputs of a step,
    the outputs before it.

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
        self._slots, self._slot = max(na, nb), 1 + inputs + outputs
        self._take(np.ones((1, self._slots * self._slot)))

    def rows(self, weights: Array) -> Array:
        """Puts weights in the order of the window.

        Args:
            weights: A row per output of ``na`` rows, newest first, per input of
                ``nb`` rows, and one for the constant.
        """
        ny, nu, wide = self.outputs, self.inputs, self._slot
        made = np.zeros((self._slots * wide, weights.shape[1]))
        made[0] = weights[-1]
        for lag in range(self.nb):
            first = self.na * ny + lag * nu
            made[lag * wide + 1 : lag * wide + 1 + nu] = weights[first : first + nu]
        for lag in range(self.na):
            made[lag * wide + 1 + nu : (lag + 1) * wide] = weights[
                lag * ny : (lag + 1) * ny
            ]
        return made

    def _take(self, window: Array) -> None:
        """Makes a table of its own for a window."""
        ahead = AHEAD_ALONE if len(window) == 1 else AHEAD
        wide, width = self._slot, window.shape[1]
        table = np.ones((len(window), width + ahead * wide))
        table[:, ahead * wide :] = window
        self._places = []
        for first in range(0, ahead * wide + 1, wide):
            slot = table[:, first : first + wide]
            self._places.append(
                (
                    table[:, first : first + width],
                    slot[:, 1 : 1 + self.inputs],
                    slot[:, 1 + self.inputs :],
                )
            )
        self._place = ahead
        self._window, self._input, self._newest = self._places[ahead]

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Makes the views of a copy again: pickle makes arrays of them."""
        self.__dict__.update(state)
        self._take(self._window)

    def begin(self, u: Array, y: Array) -> None:
        """Takes the last of the given rows, runs × rows × columns."""
        rows = u.shape[1]
        window = np.zeros((len(u), self._slots, self._slot))
        window[:, :, 0] = 1.0
        for lag in range(self._slots):
            # The inputs of the first slot are those of the step to come.
            if 0 < lag < self.nb:
                window[:, lag, 1 : 1 + self.inputs] = u[:, rows - lag]
            if lag < self.na:
                window[:, lag, 1 + self.inputs :] = y[:, rows - 1 - lag]
        self._take(window.reshape(len(u), -1))

    def with_inputs(self, u: Array) -> Array:
        """Takes the inputs of a step; returns all lags, not a copy."""
        self._input[:] = u
        return self._window

    def newest(self) -> Array:
        """Returns the last outputs, not a copy."""
        return self._newest

    def take_outputs(self, y: Array) -> None:
        """Takes the outputs of a step, which so becomes the past."""
        if self._place == 0:
            self._take(self._window)
        self._place -= 1
        self._window, self._input, self._newest = self._places[self._place]
        self._newest[:] = y

    def state(self) -> Array:
        """Returns a copy of the window."""
        return self._window.copy()

    def set_state(self, window: Array) -> None:
        """Goes back to what `state` returned."""
        self._take(window)


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
        weights = arrays["weights"]
        self.low, self.high = arrays["low"][None], arrays["high"][None]
        na, nb, outputs = int(settings["na"]), int(settings["nb"]), self.low.shape[1]
        self.inputs = (len(weights) - na * outputs - 1) // nb
        self._lags = Lags(na, nb, outputs, self.inputs)
        self._weights = self._lags.rows(weights)
        self.history = self._lags.history

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs; see `Simulator`."""
        self._lags.begin(u, y)

    def advance(self, u: Array) -> Array:
        """Makes one step; see `Simulator`."""
        lags = self._lags
        y: Array = np.dot(lags.with_inputs(u), self._weights)
        y += lags.newest()
        np.maximum(y, self.low, out=y)
        np.minimum(y, self.high, out=y)
        lags.take_outputs(y)
        return y

    def state(self) -> tuple[Array, ...]:
        """Returns a copy of the lags."""
        return (self._lags.state(),)

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Goes back to what `state` returned."""
        self._lags.set_state(state[0])
