"""Many runs of one plant side by side: for planning, for statistics, for training.

A plant that can advance many runs at once says so by being a `Batch`: its numbers are
then arrays, and a step of a thousand runs costs little more than one. Learned plants
are. For all others `batched` gives a default that goes through the runs one by one,
from snapshot to snapshot: as correct, and as slow as so many single steps.
"""

from __future__ import annotations

import math
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from playground.errors import PlaygroundError
from playground.plants import Plant

Array = npt.NDArray[np.float64]


@runtime_checkable
class Batch(Protocol):
    """Runs of a plant that are advanced together.

    Attributes:
        period_s: Seconds of one step.
        inputs: Names of commands and disturbances, the columns of what goes in.
        outputs: Names of measurements, the columns of what comes out.
    """

    period_s: float
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def reset_batch(self, runs: int, *, seed: int = 0) -> Array:
        """Starts runs.

        Args:
            runs: How many.
            seed: Run k is what ``Plant.reset(seed=seed + k)`` begins.

        Returns:
            Every measurement at time 0, runs × outputs, in their units.
        """
        ...

    def step_batch(self, now: float, inputs: Array) -> Array:
        """Advances all runs by one period; each is what `Plant.step` would make it.

        Args:
            now: End of the step, seconds since the start of the runs.
            inputs: Runs × inputs, in their units; NaN leaves an input as it was.

        Returns:
            Every measurement at ``now``, runs × outputs, in their units.
        """
        ...


class OneByOne:
    """The `Batch` of a plant that can only be stepped one by one.

    Args:
        plant: Is reset and stepped by this from now on, and by nobody else.
    """

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.period_s = plant.period_s
        signals = plant.signals
        listened = signals.with_role("command", "disturbance")
        self.inputs = tuple(s.name for s in listened)
        self.outputs = tuple(s.name for s in signals.with_role("measurement"))
        self._initial = [0.0 if s.initial is None else s.initial for s in listened]
        self._snapshots: list[Any] = []

    def reset_batch(self, runs: int, *, seed: int = 0) -> Array:
        """Starts runs; see `Batch`."""
        said = np.empty((runs, len(self.outputs)))
        self._snapshots = []
        for run in range(runs):
            found = self.plant.reset(seed=seed + run)
            said[run] = [found[name] for name in self.outputs]
            self._snapshots.append(self.plant.snapshot())
        self._told = np.tile(self._initial, (runs, 1))
        return said

    def step_batch(self, now: float, inputs: Array) -> Array:
        """Advances all runs by one period; see `Batch`.

        Raises:
            PlaygroundError: The inputs are not those of the runs that were started.
        """
        wanted = (len(self._snapshots), len(self.inputs))
        if np.shape(inputs) != wanted:
            raise PlaygroundError(
                f"The inputs have the shape {np.shape(inputs)}; {wanted[0]} runs were "
                f"started, of a plant with {wanted[1]} inputs.",
                f"give an array of {wanted[0]} × {wanted[1]}: {', '.join(self.inputs)}",
            )
        plant, told = self.plant, self._told
        said = np.empty((wanted[0], len(self.outputs)))
        for run, row in enumerate(np.asarray(inputs, dtype=np.float64).tolist()):
            plant.restore(self._snapshots[run])
            for column, value in enumerate(row):
                if not math.isnan(value):
                    told[run, column] = value
            given = dict(zip(self.inputs, told[run].tolist(), strict=True))
            found = plant.step(now, given)
            said[run] = [found[name] for name in self.outputs]
            self._snapshots[run] = plant.snapshot()
        return said


def batched(plant: Plant) -> Batch:
    """Returns the plant itself if it can advance many runs at once, else `OneByOne`."""
    return plant if isinstance(plant, Batch) else OneByOne(plant)
