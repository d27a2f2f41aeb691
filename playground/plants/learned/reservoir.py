"""An echo state network driven by the inputs alone, in steps.

A ring of leaky units, each at its own pace, answers to the inputs; what was
learned is a linear read-out (Jaeger 2001; the ring: Rodan & Tino 2011). No
output feeds back, so it cannot drift.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from playground.plants.learned.simulator import Array, copied


class Reservoir:
    """A ring of units and a linear read-out.

    The read-out looks at: units, inputs, outputs at the beginning times a decay
    (a block per time constant), the decays, 1.

    Args:
        settings: ``decays`` (time constants in steps) and ``ring`` (strength of
            the link from unit to unit).
        arrays: ``feed`` (inputs + 1) × units, ``leak`` per unit, ``readout``
            features × outputs; ``low`` and ``high``.
    """

    history = 4

    def __init__(
        self, settings: Mapping[str, Any], arrays: Mapping[str, Array]
    ) -> None:
        self._feed, self._bias = arrays["feed"][:-1], arrays["feed"][-1]
        self._bias = self._bias[None, :]
        self._leak = arrays["leak"][None]
        self._ring = float(settings["ring"])
        self._readout = arrays["readout"]
        self.low, self.high = arrays["low"][None], arrays["high"][None]
        self.outputs = self.low.shape[1]
        self.inputs, self.units = self._feed.shape
        fade = np.exp(-1.0 / np.asarray(settings["decays"], dtype=np.float64))
        self._decays = len(fade)
        self._fading = np.concatenate([np.repeat(fade, self.outputs), fade])[None]
        self._take(np.ones((1, len(self._readout))))

    def _take(self, x: Array) -> None:
        """Makes ``x`` the state, with its parts as views."""
        units = self.units
        self._x = x
        self._units, self._last = x[:, :units], x[:, units - 1]
        self._input = x[:, units : units + self.inputs]
        self._fades = x[:, units + self.inputs : -1]
        # Each unit's neighbour, so that turning the ring is one product.
        self._before = np.empty((len(x), units))
        self._before_first, self._before_rest = self._before[:, 0], self._before[:, 1:]
        self._units_but_last = x[:, : units - 1]
        self._drive = np.empty((len(x), units))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Makes the views of a copy again: pickle makes arrays of them."""
        self.__dict__.update(state)
        self._take(self._x)

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs; see `Simulator`."""
        runs = len(u)
        self._take(np.zeros((runs, len(self._readout))))
        # As if the first inputs had stood for long.
        for _ in range(SETTLING):
            self._turn(u[:, 0])
        for row in range(1, u.shape[1]):
            self._turn(u[:, row])
        first = self.units + self.inputs
        last = first + self._decays * self.outputs
        self._x[:, first:last] = np.tile(y[:, -1], (1, self._decays))
        self._x[:, last:] = 1.0

    def advance(self, u: Array) -> Array:
        """Makes one step; see `Simulator`."""
        self._turn(u)
        self._input[:] = u
        self._fades *= self._fading
        y: Array = np.dot(self._x, self._readout)
        np.maximum(y, self.low, out=y)
        np.minimum(y, self.high, out=y)
        return y

    def features(self) -> Array:
        """Returns what the read-out looks at, runs × features; not a copy."""
        return self._x

    def _turn(self, u: Array) -> None:
        drive, before = self._drive, self._before
        self._before_rest[:] = self._units_but_last
        self._before_first[:] = self._last
        before *= self._ring
        np.dot(u, self._feed, out=drive)
        drive += self._bias
        drive += before
        np.tanh(drive, out=drive)
        drive -= self._units
        drive *= self._leak
        self._units += drive

    def state(self) -> tuple[Array, ...]:
        """Returns a copy of units and decays."""
        return copied((self._x,))

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Goes back to what `state` returned."""
        (x,) = copied(state)
        self._take(x)


SETTLING = 300
"""Steps for which a reservoir is held at the first inputs before it begins."""
