"""From what members say to what the plant says: a weighed mean, or the median."""

from __future__ import annotations

import numpy as np

from playground.plants.learned.simulator import Array


class Combination:
    """Puts the answers of members together.

    Args:
        weights: Members × outputs; the columns sum up to 1.
        median: Per output not zero where the plant says the median of the
            members that have a weight there; else it says their weighed mean.
    """

    def __init__(self, weights: Array, median: Array) -> None:
        self._weights = weights[:, None, :]
        self._medians = [
            (int(k), np.flatnonzero(weights[:, k] > 0)) for k in np.flatnonzero(median)
        ]

    def __call__(self, answers: Array) -> Array:
        """Returns runs × outputs of members × runs × outputs."""
        said: Array = np.add.reduce(answers * self._weights, axis=0)
        for k, members in self._medians:
            ordered = np.sort(answers[members, :, k], axis=0)
            middle = len(members) // 2
            said[:, k] = ordered[middle]
            if len(members) % 2 == 0:
                said[:, k] += ordered[middle - 1]
                said[:, k] *= 0.5
        return said
