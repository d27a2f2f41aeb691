"""What the models without feedback look at: filtered inputs and the beginning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from playground.plants.learned.simulator import Array

GIVEN = 4
"""Rows that such a model is shown; its filters start steady at the first."""


class Bank:
    """Inputs, low-pass filtered inputs, fading outputs of the beginning.

    The order of features: inputs; filtered inputs, a block per time constant;
    outputs at the beginning times a decay, a block per time constant; the
    decays; 1.

    Args:
        filters: Time constants in steps.
        decays: Time constants in steps.
        inputs: How many.
        outputs: How many.
    """

    def __init__(
        self,
        filters: Sequence[float],
        decays: Sequence[float],
        *,
        inputs: int,
        outputs: int,
    ) -> None:
        self.inputs, self._filters, self._decays = inputs, len(filters), len(decays)
        self._keep = np.exp(-1.0 / np.asarray(filters, float))[:, None]
        fade = np.exp(-1.0 / np.asarray(decays, float))
        self._fading = np.concatenate([np.repeat(fade, outputs), fade])
        self._last = inputs * (1 + len(filters))
        self.x = np.ones((1, self._last + len(self._fading) + 1))

    def begin(self, u: Array, y: Array) -> None:
        """Takes the given rows, runs × rows × columns."""
        bank = np.repeat(u[:, 0, None, :], self._filters, axis=1)
        for row in range(1, u.shape[1]):
            now = u[:, row, None, :]
            bank = now + self._keep * (bank - now)
        start = np.tile(y[:, -1], (1, self._decays))
        ones = np.ones((len(u), self._decays + 1))
        self.x = np.concatenate(
            [u[:, -1], bank.reshape(len(u), -1), start, ones], axis=1
        )

    def with_inputs(self, u: Array) -> Array:
        """Takes the inputs of a step; returns all features, not a copy."""
        x = self.x
        x[:, : self.inputs] = u
        now = u[:, None, :]
        bank = x[:, self.inputs : self._last].reshape(len(x), self._filters, -1)
        bank -= now
        bank *= self._keep
        bank += now
        x[:, self._last : -1] *= self._fading
        return x


def inputs_in(width: int, filters: int, decays: int, outputs: int) -> int:
    """Returns how many inputs a bank of so many features has."""
    return (width - 1 - decays * (outputs + 1)) // (1 + filters)
