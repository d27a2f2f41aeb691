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
        self._leak = arrays["leak"]
        self._ring = float(settings["ring"])
        self._readout = arrays["readout"]
        self.low, self.high = arrays["low"], arrays["high"]
        self.outputs = len(self.low)
        self.inputs, self.units = self._feed.shape
        fade = np.exp(-1.0 / np.asarray(settings["decays"], dtype=np.float64))
        self._decays = len(fade)
        self._fading = np.concatenate([np.repeat(fade, self.outputs), fade])
        self._x = np.ones((1, len(self._readout)))

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs; see `Simulator`."""
        runs = len(u)
        self._x = np.zeros((runs, len(self._readout)))
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
        x = self._x
        x[:, self.units : self.units + self.inputs] = u
        x[:, self.units + self.inputs : -1] *= self._fading
        return np.minimum(np.maximum(x @ self._readout, self.low), self.high)

    def features(self) -> Array:
        """Returns what the read-out looks at, runs × features; not a copy."""
        return self._x

    def _turn(self, u: Array) -> None:
        units = self._x[:, : self.units]
        drive = u @ self._feed
        drive += self._bias
        drive[:, 1:] += self._ring * units[:, :-1]
        drive[:, 0] += self._ring * units[:, -1]
        np.tanh(drive, out=drive)
        drive -= units
        drive *= self._leak
        units += drive

    def state(self) -> tuple[Array, ...]:
        """Returns a copy of units and decays."""
        return copied((self._x,))

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Goes back to what `state` returned."""
        (self._x,) = copied(state)


SETTLING = 300
"""Steps for which a reservoir is held at the first inputs before it begins."""
