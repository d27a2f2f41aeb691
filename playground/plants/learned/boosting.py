"""Low-pass filters of the inputs into boosted trees: no feedback, no drift.

All trees are walked down together, a level at a time, so a step is a handful of
numpy calls however many trees there are. A leaf leads to itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from playground.plants.learned.bank import GIVEN, Bank, inputs_in
from playground.plants.learned.simulator import Array, copied

TOGETHER = 32
"""Runs that go down the trees together: more no longer fit into the fast memory."""


class Boosting:
    """A sum of regression trees on a `Bank`, some for each output.

    Args:
        settings: ``lags`` (rows of inputs), ``filters`` and ``decays`` (time
            constants in steps).
        arrays: Of all nodes of all trees end to end: ``feature``, ``threshold``
            (up to it the answer is no), ``child`` (the node to go to on no; on
            yes the one after it), ``value`` (of a leaf); per tree ``root`` and
            ``output``; ``base`` per output; ``depth`` and ``width`` (features);
            ``low`` and ``high``.
    """

    history = GIVEN

    def __init__(
        self, settings: Mapping[str, Any], arrays: Mapping[str, Array]
    ) -> None:
        self.low, self.high = arrays["low"][None], arrays["high"][None]
        self._feature = arrays["feature"].astype(np.intp)
        self._threshold, self._value = arrays["threshold"], arrays["value"]
        self._child = arrays["child"].astype(np.intp)
        self._root = arrays["root"].astype(np.intp)
        self._depth = int(arrays["depth"][0])
        outputs = self.low.shape[1]
        self._base = arrays["base"][None]
        # Adds up the trees of each output as a product.
        self._sums = (arrays["output"][:, None] == np.arange(outputs)).astype(float)
        filters, decays = settings["filters"], settings["decays"]
        lags, width = int(settings["lags"]), int(arrays["width"][0])
        self.inputs = inputs_in(width, len(filters), len(decays), outputs, lags=lags)
        self._bank = Bank(
            filters, decays, inputs=self.inputs, outputs=outputs, lags=lags
        )

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs; see `Simulator`."""
        self._bank.begin(u, y)
        shape = (min(len(u), TOGETHER), len(self._root))
        self._begin_at = np.ascontiguousarray(np.broadcast_to(self._root, shape))
        # Where the features of a run begin, in all features end to end.
        self._places = np.arange(shape[0])[:, None] * self._bank.x.shape[1]

    def advance(self, u: Array) -> Array:
        """Makes one step; see `Simulator`."""
        x = self._bank.with_inputs(u)
        parts = [
            np.dot(self._leaves(x[first : first + TOGETHER]), self._sums)
            for first in range(0, len(x), TOGETHER)
        ]
        y: Array = parts[0] if len(parts) == 1 else np.concatenate(parts)
        y += self._base
        np.maximum(y, self.low, out=y)
        np.minimum(y, self.high, out=y)
        return y

    def _leaves(self, x: Array) -> Array:
        """Returns what each tree says, runs × trees."""
        flat, many = x.ravel(), len(x) > 1
        node = self._begin_at[: len(x)]
        for _ in range(self._depth):
            asked = self._feature.take(node)
            if many:
                asked += self._places[: len(x)]
            yes = flat.take(asked) > self._threshold.take(node)
            node = self._child.take(node)
            node += yes
        return self._value.take(node)

    def state(self) -> tuple[Array, ...]:
        """Returns a copy of filters and decays."""
        return copied((self._bank.x,))

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Goes back to what `state` returned."""
        (x,) = copied(state)
        self._bank.take(x)
