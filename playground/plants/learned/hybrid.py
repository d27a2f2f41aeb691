"""A plant that is known in part, and a learned part that makes up for the rest.

The base, compartments or a physical plant, runs free. The learned part either takes
what the base says as further inputs (``way: inputs``), or foretells by how much it is
wrong (``way: residual``). For an output where the learned part did not help on data it
had not seen, the base has the last word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from playground.plants.learned.base import Base
from playground.plants.learned.grey_box import GIVEN, GreyBox
from playground.plants.learned.simulator import Array, Simulator

Families = Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Array]], Simulator]]


def under(name: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Returns the arrays of a part by their names in it."""
    prefix = f"{name}."
    return {
        key.removeprefix(prefix): array
        for key, array in arrays.items()
        if key.startswith(prefix)
    }


def base_of(settings: Mapping[str, Any], arrays: Mapping[str, Array]) -> Simulator:
    """Makes what runs below: compartments, or the plant that ``plant`` names."""
    if "plant" in settings:
        return Base(settings)
    return GreyBox(settings, arrays)


def before(base: Simulator, y: Array) -> Array:
    """Returns what a base said in the rows before a run that it has just begun.

    Compartments begin from what was measured: that is what they said. A physical
    plant cannot be put into a state, so it went through the rows.
    """
    return base.before if isinstance(base, Base) else y


class Hybrid:
    """A base and a learned part.

    Args:
        settings: ``base``: those of a `GreyBox` or a `Base`; ``learned``: ``family``
            and the settings of the learned part; ``way``.
        arrays: Those of both, below ``base.`` and ``learned.``; ``helps`` per
            output: 0 where the base has the last word; ``low`` and ``high``.
        families: By which the learned part is made.
    """

    history = GIVEN

    def __init__(
        self,
        settings: Mapping[str, Any],
        arrays: Mapping[str, Array],
        families: Families,
    ) -> None:
        self.low, self.high = arrays["low"][None], arrays["high"][None]
        limits = {"low": arrays["low"], "high": arrays["high"]}
        self._base = base_of(settings["base"], {**under("base", arrays), **limits})
        self._residual = settings["way"] == "residual"
        if self._residual:
            span = arrays["high"] - arrays["low"]
            limits = {"low": -span, "high": span}
        learned = settings["learned"]
        self._learned = families[learned["family"]](
            learned, {**under("learned", arrays), **limits}
        )
        self._helps = arrays["helps"][None] > 0

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs; see `Simulator`."""
        self._base.begin(u, y)
        said = before(self._base, y)
        told = np.concatenate([u, said], axis=2)[:, -self._learned.history :]
        wanted = (y - said if self._residual else y)[:, -self._learned.history :]
        self._learned.begin(told, wanted)

    def advance(self, u: Array) -> Array:
        """Makes one step; see `Simulator`."""
        said = self._base.advance(u)
        y = self._learned.advance(np.concatenate([u, said], axis=1))
        if self._residual:
            y = y + said
        y = np.where(self._helps, y, said)
        np.maximum(y, self.low, out=y)
        np.minimum(y, self.high, out=y)
        return y

    def state(self) -> tuple[Array, ...]:
        """Returns a copy of the states of both."""
        return (*self._base.state(), *self._learned.state())

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Goes back to what `state` returned."""
        count = len(self._base.state())
        self._base.set_state(state[:count])
        self._learned.set_state(state[count:])
