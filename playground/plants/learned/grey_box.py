"""Lumped compartments that exchange heat, and what follows inputs with a lag.

Each temperature that is measured is a compartment; some have a hidden mass behind
them. A step makes each the weighed mean of what it was and of what it touches,

    T_i' = (T_i + Σ_j w_ij X_j + q_i) / (1 + Σ_j w_ij),    w_ij = Σ_m θ_mji g_m,

where X are the other compartments, the temperatures among the inputs, and surroundings
that nobody measures; g is 1 and the flows, valve positions, speeds and powers; q is
linear in g. As no θ is negative the compartments are passive: without q no temperature
leaves the range of those it touches, whatever the flows, so no run can blow up. What is
no temperature follows products of inputs with a lag of its own, and may in turn be one
of g.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from playground.plants.learned.simulator import Array

GIVEN = 12
"""Rows that are given: hidden masses follow them, and the bias is seen in them."""


def places(kinds: Sequence[str], kind: str) -> list[int]:
    """Returns the columns that are, or are not, temperatures."""
    return [
        k
        for k, name in enumerate(kinds)
        if (name == "temperature") == (kind == "temperature")
    ]


def products(acts: Array, inlets: Array) -> Array:
    """Returns what lagging outputs are made of: 1, all factors, and their products.

    Args:
        acts: Flows, positions and powers, … × acts.
        inlets: Temperatures among the inputs, … × inlets.

    Returns:
        A new array, … × products.
    """
    one = np.ones((*acts.shape[:-1], 1))
    count = acts.shape[-1]
    first, second = np.triu_indices(count)
    mixed = acts[..., :, None] * inlets[..., None, :]
    return np.concatenate(
        [
            one,
            acts,
            inlets,
            acts[..., first] * acts[..., second],
            mixed.reshape(*acts.shape[:-1], -1),
        ],
        axis=-1,
    )


class GreyBox:
    """A few compartments.

    Args:
        settings: ``inputs`` and ``outputs``: the kind of each column,
            ``temperature`` or another.
        arrays: ``u_scale``, ``u_offset``, ``y_scale``, ``y_offset``: from scaled
            numbers to those of the compartments; ``coupling`` g × X × compartments,
            not negative; ``surroundings`` g × compartments, likewise, to what has
            the number 0; ``gain`` g × compartments; ``lag`` products × lagging
            outputs; ``pace`` per lagging output, 0 to 1; ``trust`` per output: how
            much of the bias that is seen in the given rows is believed; ``low``
            and ``high``.
    """

    history = GIVEN

    def __init__(
        self, settings: Mapping[str, Any], arrays: Mapping[str, Array]
    ) -> None:
        self._inlets = places(settings["inputs"], "temperature")
        self._acts = places(settings["inputs"], "other")
        self._warm = places(settings["outputs"], "temperature")
        self._lagging = places(settings["outputs"], "other")
        self._u_scale, self._u_offset = arrays["u_scale"], arrays["u_offset"]
        scale, offset = arrays["y_scale"], arrays["y_offset"]
        self._scale, self._offset = scale[self._warm], offset[self._warm]
        self._lag_scale = scale[self._lagging]
        self._lag_offset = offset[self._lagging]
        self.low, self.high = arrays["low"][None], arrays["high"][None]
        self._lag_low = self.low[:, self._lagging]
        self._lag_high = self.high[:, self._lagging]
        coupling = arrays["coupling"]
        self._g, _, self._count = coupling.shape
        self._coupling = coupling.reshape(-1, self._count)
        self._touch = coupling.sum(axis=1) + arrays["surroundings"]
        self._gain = arrays["gain"]
        self._lag, self._pace = arrays["lag"], arrays["pace"]
        self._trust = arrays["trust"]
        self._least = np.full(self._count, -50.0)
        self._most = np.full(self._count, 50.0)
        warm = len(self._warm)
        self._least[:warm] = (self.low * scale + offset)[0, self._warm]
        self._most[:warm] = (self.high * scale + offset)[0, self._warm]
        self._set(np.zeros((1, self._count)), np.zeros((1, len(self._lagging))))
        self._bias = np.zeros((1, len(scale)))

    def _set(self, compartments: Array, lagging: Array) -> None:
        self._s, self._z = compartments, lagging

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs; see `Simulator`."""
        runs, rows = y.shape[:2]
        warm = y[:, :, self._warm] * self._scale + self._offset
        lagging = y[:, :, self._lagging]
        hidden = self._count - warm.shape[2]
        # A hidden mass begins as warm as the compartment before it.
        s = np.concatenate([warm[:, 0], warm[:, 0, :hidden]], axis=1)
        self._bias = np.zeros((runs, y.shape[2]))
        wrong = np.zeros_like(self._bias)
        for row in range(1, rows):
            self._set(s, lagging[:, row - 1])
            said = self._step(u[:, row])
            wrong += y[:, row] - said
            s = self._s
            s[:, : warm.shape[2]] = warm[:, row]
        self._set(s, lagging[:, -1].copy())
        self._bias = self._trust * wrong / (rows - 1)

    def advance(self, u: Array) -> Array:
        """Makes one step; see `Simulator`."""
        return self._step(u)

    def _step(self, u: Array) -> Array:
        at = u * self._u_scale + self._u_offset
        inlets = at[:, self._inlets]
        acts = np.maximum(at[:, self._acts], 0.0)
        y = np.empty((len(u), self._bias.shape[1]))
        z = self._z
        if self._lagging:
            z = z + self._pace * (products(acts, inlets) @ self._lag - z)
            z += self._bias[:, self._lagging]
            z = np.minimum(np.maximum(z, self._lag_low), self._lag_high)
            y[:, self._lagging] = z
        s = self._s
        if self._warm:
            more = np.maximum(z * self._lag_scale + self._lag_offset, 0.0)
            g = np.concatenate([np.ones((len(u), 1)), acts, more], axis=1)
            touched = np.concatenate([s, inlets], axis=1)
            pairs = (g[:, :, None] * touched[:, None, :]).reshape(len(u), -1)
            s = (s + pairs @ self._coupling + g @ self._gain) / (1 + g @ self._touch)
            s[:, : len(self._warm)] += self._bias[:, self._warm] * self._scale
            s = np.minimum(np.maximum(s, self._least), self._most)
            y[:, self._warm] = (s[:, : len(self._warm)] - self._offset) / self._scale
        self._set(s, z)
        return y

    def state(self) -> tuple[Array, ...]:
        """Returns a copy of compartments, lagging outputs and bias."""
        return self._s.copy(), self._z.copy(), self._bias.copy()

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Goes back to what `state` returned."""
        s, z, bias = state
        self._set(s.copy(), z.copy())
        self._bias = bias.copy()
