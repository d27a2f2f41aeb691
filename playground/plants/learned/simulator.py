"""What every family of learned models offers to be stepped, and the free run.

All numbers here are scaled (`Scaling`), and every simulator advances any number
of runs at once: the first axis of an array counts runs. No training and no
scikit-learn may live below this package; a step is plain numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class Simulator(Protocol):
    """A model in the middle of any number of runs.

    Attributes:
        history: Rows it must be shown before the first step.
    """

    history: int

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs from what is known.

        Args:
            u: Inputs, runs × history × inputs.
            y: Outputs, runs × history × outputs.
        """
        ...

    def advance(self, u: Array) -> Array:
        """Makes one step.

        Args:
            u: Inputs during the step, runs × inputs.

        Returns:
            Outputs at its end, runs × outputs; a new array each time.
        """
        ...

    def state(self) -> tuple[Array, ...]:
        """Returns a copy of all that changes from step to step."""
        ...

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Goes back to what `state` returned."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Mean and spread of each input and output in the training data.

    Attributes:
        u_mean: Per input.
        u_std: Per input; 1 where it never changed.
        y_mean: Per output.
        y_std: Per output; 1 where it never changed.
    """

    u_mean: Array
    u_std: Array
    y_mean: Array
    y_std: Array

    @classmethod
    def of(cls, u: Array, y: Array) -> Scaling:
        """Measures rows × inputs and rows × outputs."""

        def spread(rows: Array) -> Array:
            std = rows.std(axis=0)
            # Rounding leaves a constant column with a spread of 1e-15.
            return np.where(std > 1e-9 * (1 + np.abs(rows).max(axis=0)), std, 1.0)

        return cls(
            u_mean=u.mean(axis=0),
            u_std=spread(u),
            y_mean=y.mean(axis=0),
            y_std=spread(y),
        )

    def scaled_u(self, u: Array) -> Array:
        """Returns inputs with mean 0 and spread 1."""
        return (u - self.u_mean) / self.u_std

    def scaled_y(self, y: Array) -> Array:
        """Returns outputs with mean 0 and spread 1."""
        return (y - self.y_mean) / self.y_std

    def physical_y(self, y: Array) -> Array:
        """Returns scaled outputs in their units."""
        return y * self.y_std + self.y_mean

    def arrays(self) -> dict[str, Array]:
        """Returns the four arrays as parameters of a model."""
        return {
            "scaling.u_mean": self.u_mean,
            "scaling.u_std": self.u_std,
            "scaling.y_mean": self.y_mean,
            "scaling.y_std": self.y_std,
        }


def free_run(simulator: Simulator, u: Array, y: Array) -> Array:
    """Simulates open loop: only the first rows of ``y`` are looked at.

    Args:
        simulator: Any.
        u: Recorded inputs, runs × rows × inputs.
        y: Recorded outputs, runs × rows × outputs; rows from ``history`` on
            are not read.

    Returns:
        Outputs, runs × rows × outputs; the first ``history`` rows as given.
    """
    history = simulator.history
    out = np.empty((*u.shape[:2], y.shape[2]))
    out[:, :history] = y[:, :history]
    simulator.begin(u[:, :history], y[:, :history])
    for row in range(history, u.shape[1]):
        out[:, row] = simulator.advance(u[:, row])
    return out


def copied(arrays: Any) -> tuple[Array, ...]:
    """Copies each array."""
    return tuple(np.array(a) for a in arrays)
