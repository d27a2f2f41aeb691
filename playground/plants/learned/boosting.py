"""Low-pass filters of the inputs into boosted trees: no feedback, no drift.

All nodes of one depth of a tree ask the same question, so a tree is a table:
its answers, read as binary digits, are the number of the leaf (oblivious trees,
Prokhorenkova et al. 2018). A step is then a handful of numpy calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from playground.plants.learned.bank import GIVEN, Bank, inputs_in
from playground.plants.learned.simulator import Array, copied


class Boosting:
    """A sum of oblivious trees on a `Bank`, beside a linear part.

    Args:
        settings: ``filters`` and ``decays`` (time constants in steps).
        arrays: ``straight`` features × outputs; ``feature`` and ``threshold``
            trees × depth; ``leaves`` trees × 2^depth × outputs; ``low`` and
            ``high``.
    """

    history = GIVEN

    def __init__(
        self, settings: Mapping[str, Any], arrays: Mapping[str, Array]
    ) -> None:
        self.low, self.high = arrays["low"], arrays["high"]
        self._straight = arrays["straight"]
        trees, depth = arrays["feature"].shape
        self._feature = arrays["feature"].astype(np.intp).ravel()
        self._threshold = arrays["threshold"].ravel()
        self._digits = (1 << np.arange(depth)).astype(np.intp)
        self._leaves = arrays["leaves"].reshape(trees << depth, -1)
        self._first_leaf = (np.arange(trees) << depth).astype(np.intp)
        filters, decays = settings["filters"], settings["decays"]
        outputs, width = len(self.low), len(self._straight)
        inputs = inputs_in(width, len(filters), len(decays), outputs)
        self._bank = Bank(filters, decays, inputs=inputs, outputs=outputs)

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs; see `Simulator`."""
        self._bank.begin(u, y)

    def advance(self, u: Array) -> Array:
        """Makes one step; see `Simulator`."""
        x = self._bank.with_inputs(u)
        yes = x[:, self._feature] > self._threshold
        depth = len(self._digits)
        leaf = yes.reshape(len(x), -1, depth) @ self._digits
        leaf += self._first_leaf
        y = x @ self._straight + self._leaves[leaf].sum(axis=1)
        return np.asarray(np.minimum(np.maximum(y, self.low), self.high))

    def state(self) -> tuple[Array, ...]:
        """Returns a copy of filters and decays."""
        return copied((self._bank.x,))

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Goes back to what `state` returned."""
        (self._bank.x,) = copied(state)
