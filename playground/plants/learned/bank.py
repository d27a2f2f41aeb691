"""What the models without feedback look at: filtered inputs and the beginning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from playground.plants.learned.simulator import Array

GIVEN = 4
"""Rows that such a model is shown; its filters start steady at the first."""


class Bank:
    """Inputs, low-pass filtered inputs, fading outputs of the beginning.

    The order of features: inputs, newest first, a block per lag; filtered inputs,
    a block per time constant; outputs at the beginning times a decay, a block per
    time constant; the decays; 1.

    Args:
        filters: Time constants in steps.
        decays: Time constants in steps.
        inputs: How many.
        outputs: How many.
        lags: Rows of inputs, the present one included; at most `GIVEN`.
    """

    def __init__(
        self,
        filters: Sequence[float],
        decays: Sequence[float],
        *,
        inputs: int,
        outputs: int,
        lags: int = 1,
    ) -> None:
        self.inputs, self._filters, self._decays = inputs, len(filters), len(decays)
        self._lags = lags
        # As wide as what they multiply: numpy is slower where shapes differ.
        keep = np.exp(-1.0 / np.asarray(filters, float))
        self._keep = np.repeat(keep[:, None], inputs, axis=1)[None]
        fade = np.exp(-1.0 / np.asarray(decays, float))
        self._fading = np.concatenate([np.repeat(fade, outputs), fade])[None]
        self._first_filter = inputs * lags
        self._last = self._first_filter + inputs * len(filters)
        self.take(np.ones((1, self._last + self._fading.shape[1] + 1)))

    def take(self, x: Array) -> None:
        """Makes ``x`` the state, with its parts as views."""
        first = self._first_filter
        self.x = x
        self._input = x[:, : self.inputs]
        self._older = x[:, : first - self.inputs]
        self._old = x[:, self.inputs : first]
        self._bank = x[:, first : self._last].reshape(
            len(x), self._filters, self.inputs
        )
        self._fades = x[:, self._last : -1]

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Makes the views of a copy again: pickle makes arrays of them."""
        self.__dict__.update(state)
        self.take(self.x)

    def begin(self, u: Array, y: Array) -> None:
        """Takes the given rows, runs × rows × columns."""
        bank = np.repeat(u[:, 0, None, :], self._filters, axis=1)
        for row in range(1, u.shape[1]):
            now = u[:, row, None, :]
            bank = now + self._keep * (bank - now)
        start = np.tile(y[:, -1], (1, self._decays))
        ones = np.ones((len(u), self._decays + 1))
        lags = u[:, ::-1][:, : self._lags].reshape(len(u), -1)
        self.take(np.concatenate([lags, bank.reshape(len(u), -1), start, ones], axis=1))

    def with_inputs(self, u: Array) -> Array:
        """Takes the inputs of a step; returns all features, not a copy."""
        if self._lags > 1:
            self._old[:] = self._older
        self._input[:] = u
        now, bank = u[:, None, :], self._bank
        bank -= now
        bank *= self._keep
        bank += now
        self._fades *= self._fading
        return self.x


def inputs_in(
    width: int, filters: int, decays: int, outputs: int, *, lags: int = 1
) -> int:
    """Returns how many inputs a bank of so many features has."""
    return (width - 1 - decays * (outputs + 1)) // (lags + filters)
