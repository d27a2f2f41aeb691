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
        inputs, outputs = settings["inputs"], settings["outputs"]
        inlets, acts = places(inputs, "temperature"), places(inputs, "other")
        self._warm = places(outputs, "temperature")
        self._lagging = places(outputs, "other")
        self._outputs = len(outputs)
        scale, offset = arrays["y_scale"], arrays["y_offset"]
        self._scale, self._offset = scale[self._warm], offset[self._warm]
        self._trust = arrays["trust"]
        self.low, self.high = arrays["low"][None], arrays["high"][None]
        self._least_z = self.low[:, self._lagging]
        self._most_z = self.high[:, self._lagging]
        # Products with these put the columns in order and scale them at once.
        self._to_acts, self._no_acts = _chosen(arrays, acts)
        self._to_inlets, self._no_inlets = _chosen(arrays, inlets)
        self._to_more = scale[self._lagging][None]
        self._no_more = offset[self._lagging][None]
        self._acts, self._inlets = len(acts), len(inlets)
        coupling = arrays["coupling"]
        width, _, self._count = coupling.shape
        count, touched = self._count, coupling.shape[1] + 1
        # One product of g with what is touched and a 1 gives what is above the line
        # (columns before) and below it (columns behind); see the module's formula.
        both = np.zeros((width, touched, 2 * count))
        both[:, :-1, :count] = coupling
        both[:, -1, :count] = arrays["gain"]
        both[:, -1, count:] = coupling.sum(axis=1) + arrays["surroundings"]
        both[0, np.arange(count), np.arange(count)] += 1.0
        both[0, -1, count:] += 1.0
        self._both = both.reshape(width * touched, 2 * count)
        self._lag = _squared(arrays["lag"], self._acts, self._inlets)
        self._pace = arrays["pace"][None]
        self._least = np.full((1, count), -50.0)
        self._most = np.full((1, count), 50.0)
        warm = len(self._warm)
        self._least[0, :warm] = (self.low * scale + offset)[0, self._warm]
        self._most[0, :warm] = (self.high * scale + offset)[0, self._warm]
        self._take(np.zeros((1, count)), np.zeros((1, len(self._lagging))))
        self._believe(np.zeros((1, self._outputs)))

    def _take(self, compartments: Array, lagging: Array) -> None:
        """Makes room for so many runs, and puts them into a state."""
        runs, acts = len(compartments), self._acts
        self._touched = np.ones((runs, self._count + self._inlets + 1))
        self._s = self._touched[:, : self._count]
        self._entering = self._touched[:, self._count : -1]
        self._g = np.ones((runs, 1 + acts + len(self._lagging)))
        self._acting = self._g[:, 1 : 1 + acts]
        self._more = self._g[:, 1 + acts :]
        self._pairs = np.empty((runs, self._g.shape[1], self._touched.shape[1]))
        self._driving = np.ones((runs, 1 + acts + self._inlets))
        self._s[:] = compartments
        self._z = lagging

    def _believe(self, bias: Array) -> None:
        """Takes a bias, runs × outputs."""
        self._bias = bias
        self._bias_z = bias[:, self._lagging]
        self._bias_s = bias[:, self._warm] * self._scale

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Makes the views of a copy again: pickle makes arrays of them."""
        self.__dict__.update(state)
        self._take(np.array(self._s), self._z)

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs; see `Simulator`."""
        runs, rows = y.shape[:2]
        warm = y[:, :, self._warm] * self._scale + self._offset
        lagging = y[:, :, self._lagging]
        masses = self._count - warm.shape[2]
        # A hidden mass begins as warm as the compartment before it.
        s = np.concatenate([warm[:, 0], warm[:, 0, :masses]], axis=1)
        self._take(s, lagging[:, 0])
        self._believe(np.zeros((runs, self._outputs)))
        wrong = np.zeros_like(self._bias)
        for row in range(1, rows):
            wrong += y[:, row] - self.advance(u[:, row])
            self._s[:, : warm.shape[2]] = warm[:, row]
            self._z = lagging[:, row].copy()
        self._believe(self._trust * wrong / (rows - 1))

    def advance(self, u: Array) -> Array:
        """Makes one step; see `Simulator`."""
        acting = np.dot(u, self._to_acts)
        acting += self._no_acts
        np.maximum(acting, 0.0, out=self._acting)
        if self._inlets:
            np.add(np.dot(u, self._to_inlets), self._no_inlets, out=self._entering)
        if self._lagging:
            self._lag_on()
        if not self._warm:
            return self._z.copy()
        np.multiply(self._g[:, :, None], self._touched[:, None, :], out=self._pairs)
        both = np.dot(self._pairs.reshape(len(u), -1), self._both)
        s = np.divide(both[:, : self._count], both[:, self._count :], out=self._s)
        s[:, : len(self._warm)] += self._bias_s
        np.maximum(s, self._least, out=s)
        np.minimum(s, self._most, out=s)
        measured: Array = s[:, : len(self._warm)] - self._offset
        measured /= self._scale
        if not self._lagging:
            return measured
        y = np.empty((len(u), self._outputs))
        y[:, self._warm] = measured
        y[:, self._lagging] = self._z
        return y

    def _lag_on(self) -> None:
        """Moves what is no temperature towards what the inputs make of it."""
        driving = self._driving
        driving[:, 1 : 1 + self._acts] = self._acting
        driving[:, 1 + self._acts :] = self._entering
        pairs = driving[:, :, None] * driving[:, None, :]
        z: Array = np.dot(pairs.reshape(len(driving), -1), self._lag)
        z -= self._z
        z *= self._pace
        z += self._z
        z += self._bias_z
        np.maximum(z, self._least_z, out=z)
        np.minimum(z, self._most_z, out=z)
        self._z = z
        more = z * self._to_more
        more += self._no_more
        np.maximum(more, 0.0, out=self._more)

    def state(self) -> tuple[Array, ...]:
        """Returns a copy of compartments, lagging outputs and bias."""
        return self._s.copy(), self._z.copy(), self._bias.copy()

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Goes back to what `state` returned."""
        s, z, bias = state
        self._take(s, z.copy())
        self._believe(bias.copy())


def _chosen(arrays: Mapping[str, Array], columns: list[int]) -> tuple[Array, Array]:
    """Returns what takes scaled inputs to common numbers of some of them."""
    scale, offset = arrays["u_scale"], arrays["u_offset"]
    table = np.zeros((len(scale), len(columns)))
    table[columns, np.arange(len(columns))] = scale[columns]
    return table, offset[columns][None]


def _squared(lag: Array, acts: int, inlets: int) -> Array:
    """Puts the weights of `products` into a table of all products of two."""
    width = 1 + acts + inlets
    table = np.zeros((width, width, lag.shape[1]))
    if lag.shape[1]:
        table[0] = lag[:width]
        first, second = np.triu_indices(acts)
        table[1 + first, 1 + second] = lag[width : width + len(first)]
        mixed = lag[width + len(first) :].reshape(acts, inlets, lag.shape[1])
        table[1 : 1 + acts, 1 + acts :] = mixed
    return table.reshape(width * width, lag.shape[1])
