"""One network that was taught to answer as all members of a plant do, in steps.

It looks at the inputs, at low-pass filtered inputs and at how the run began, as a
`Bank` has them, and says two things: the outputs, and how far the members are apart.
A linear part and two layers of rectified units do that; nothing of it feeds back.
Where there is a small recurrent network below it, it looks at what that one says as
well: what depends on the order of what happened, such as how long a slug of warm water
is under way at changing flows, no filter of the inputs tells.

Runs are the last axis here, so that each part of the state is one piece of memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from playground.plants.learned.hybrid import under
from playground.plants.learned.network import Network
from playground.plants.learned.simulator import Array

FADED = 1e-30
"""Decays stay above it: products with numbers that are hardly one take much longer."""


class Distilled:
    """Filtered inputs and the beginning of a run into rectified units.

    The order of features x is that of `playground.plants.learned.bank.Bank`; what the
    network below says stands before the last, which is 1.

    Args:
        settings: ``lags`` (rows of inputs, the present one included), ``filters`` and
            ``decays`` (time constants in steps), ``given`` (rows that are shown; the
            filters start steady at the first); ``base``, if there is one: the settings
            of the `Network` below.
        arrays: ``straight`` x × (2 · outputs), ``first`` x × units, ``second``
            units × units, ``third`` units × (2 · outputs), ``low`` and ``high``. Of
            what they answer the first half are the outputs, the second half is how
            far the members are apart. Those of the network below begin with ``base.``.

    Attributes:
        apart: After a step, how far the members are apart, runs × outputs; written
            over by the next step.
    """

    apart: Array

    def __init__(
        self, settings: Mapping[str, Any], arrays: Mapping[str, Array]
    ) -> None:
        filters = np.asarray(settings["filters"], dtype=np.float64)
        decays = np.asarray(settings["decays"], dtype=np.float64)
        self._given, self._lags = int(settings["given"]), int(settings["lags"])
        self.outputs = ny = len(arrays["low"])
        self._filters, self._decays = len(filters), len(decays)
        width = len(arrays["straight"])
        self._base = base_of(settings, arrays)
        self.history = max(self._given, self._base.history if self._base else 0)
        self._below = ny if self._base else 0
        rest = width - 1 - self._below - self._decays * (ny + 1)
        self.inputs, over = divmod(rest, self._lags + self._filters)
        if over or (self._base is None and any(n.startswith("base.") for n in arrays)):
            # What is over would stay 1 for ever, without a word.
            raise ValueError(f"its rows fit no number of inputs: {width}")
        self._added = np.ascontiguousarray(
            np.concatenate([arrays["straight"], arrays["first"]], axis=1).T
        )
        self._second = np.ascontiguousarray(arrays["second"].T)
        self._third = np.ascontiguousarray(arrays["third"].T)
        self._keep = np.exp(-1.0 / filters)[:, None, None]
        self._fading = np.exp(-1.0 / decays)[:, None]
        self._low, self._high = arrays["low"][:, None], arrays["high"][:, None]
        self._take(np.ones((width, 1)), np.zeros((ny, 1)))

    def _take(self, x: Array, start: Array, said: Array | None = None) -> None:
        """Makes ``x`` the state, with its parts as views: slicing takes time."""
        ny, nu, runs = self.outputs, self.inputs, x.shape[1]
        lags = self._lags * nu
        last = lags + self._filters * nu
        decay = last + self._decays * ny
        end = decay + self._decays
        self._x, self._start = x, start
        self._input = x[:nu]
        self._told, self._told_before = x[nu:lags], x[: lags - nu]
        self._past = x[lags:last].reshape(self._filters, nu, runs)
        self._starts = x[last:decay].reshape(self._decays, ny, runs)
        self._decay = x[decay:end]
        self._decay_of_all = self._decay[:, None]
        self._said_below = x[end : end + self._below]
        self._units = np.empty((len(self._added), runs))
        self._straight, self._one = self._units[: 2 * ny], self._units[2 * ny :]
        self._two = np.empty((len(self._second), runs))
        self._said = np.zeros((2 * ny, runs)) if said is None else said
        self._outputs, self._apart = self._said[:ny], self._said[ny:]
        self.apart = self._apart.T

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Makes the views of a copy again: pickle makes arrays of them."""
        self.__dict__.update(state)
        self._take(self._x, self._start, self._said)

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs; see `Simulator`."""
        if self._base:
            shown = self._base.history
            self._base.begin(u[:, -shown:], y[:, -shown:])
        u = u[:, -self._given :]
        runs, rows = u.shape[:2]
        x = np.ones((self._added.shape[1], runs))
        self._take(x, y[:, -1].T.copy())
        told = u[:, rows - self._lags :][:, ::-1].reshape(runs, -1).T
        x[: len(told)] = told
        self._past[:] = u[:, 0].T
        for row in range(1, rows):
            self._filter(u[:, row].T)
        self._starts[:] = self._start

    def _filter(self, u: Array) -> None:
        past = self._past
        past -= u
        past *= self._keep
        past += u

    def advance(self, u: Array) -> Array:
        """Makes one step; see `Simulator`."""
        self._told[:] = self._told_before
        self._input[:] = u.T
        self._filter(self._input)
        decay = self._decay
        decay *= self._fading
        np.maximum(decay, FADED, out=decay)
        np.multiply(self._decay_of_all, self._start, out=self._starts)
        if self._base:
            self._said_below[:] = self._base.advance(u).T
        np.dot(self._added, self._x, out=self._units)
        np.maximum(self._one, 0.0, out=self._one)
        np.dot(self._second, self._one, out=self._two)
        np.maximum(self._two, 0.0, out=self._two)
        np.dot(self._third, self._two, out=self._said)
        self._said += self._straight
        np.maximum(self._apart, 0.0, out=self._apart)
        y: Array = np.maximum(self._outputs, self._low)
        np.minimum(y, self._high, out=y)
        return y.T

    def state(self) -> tuple[Array, ...]:
        """Returns a copy of filters, decays and beginning, and of the last answer."""
        own = self._x.copy(), self._start.copy(), self._said.copy()
        return (*own, *(self._base.state() if self._base else ()))

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Goes back to what `state` returned."""
        x, start, said, *below = state
        self._take(x.copy(), start.copy(), said.copy())
        if self._base:
            self._base.set_state(tuple(below))


def base_of(settings: Mapping[str, Any], arrays: Mapping[str, Array]) -> Network | None:
    """Makes the network below, if there is one.

    Args:
        settings: As of `Distilled`.
        arrays: Likewise; the others are not looked at.
    """
    if "base" not in settings:
        return None
    limits = {"low": arrays["low"], "high": arrays["high"]}
    return Network(settings["base"], {**under("base", arrays), **limits})
