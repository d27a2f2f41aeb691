"""Plants: commands and disturbances in, measurements out, one step at a time.

A plant knows no bus, no file and no wall clock; `playground.plants.device` is
the one adapter that puts it on a bus. Built-in plants are named in `BUILT_IN`;
a user's own is named ``module:Class``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from playground.parameters import load_class
from playground.signals import Signals


@runtime_checkable
class Plant(Protocol):
    """What every plant offers: physical, learned or replayed.

    `playground.plants.batch.batched` gives each of them ``reset_batch`` and
    ``step_batch`` for many runs at once: its own, or a loop over snapshots. A plant
    made from data may also say where it must not be believed
    (`playground.plants.departures.Enclosed`).

    Attributes:
        signals: Commands and disturbances are its inputs, measurements its
            outputs; also how they travel on the bus.
        period_s: Seconds of one step.
    """

    signals: Signals
    period_s: float

    def reset(self, *, seed: int = 0) -> Mapping[str, float]:
        """Goes back to the start.

        Args:
            seed: Of whatever is random in the plant (sensor noise); equal
                seeds give equal trajectories.

        Returns:
            Every measurement at time 0, by name, in the unit of its signal.
        """
        ...

    def step(self, now: float, inputs: Mapping[str, float]) -> Mapping[str, float]:
        """Advances by one period, up to ``now``.

        Args:
            now: End of the step, seconds since the start of the run.
            inputs: Every command and disturbance, held over the step, by name,
                in the unit of its signal.

        Returns:
            Every measurement at ``now``, by name, in the unit of its signal.
        """
        ...

    def snapshot(self) -> Any:
        """Returns all that decides what the plant will say, to come back to."""
        ...

    def restore(self, snapshot: Any) -> None:
        """Goes back to a snapshot of this plant."""
        ...


BUILT_IN: dict[str, str] = {
    "lab_rig": "playground.plants.lab_rig:LabRig",
    "house": "playground.plants.house:House",
    "replayed": "playground.plants.replayed:ReplayedPlant",
    "testcase1": "playground.plants.boptest_testcase1:SimpleRC",
}
"""Name in a scenario and the class behind it; imported when first asked for."""


def plant_class(name: str) -> Any:
    """Returns the class of a built-in plant or of ``module:Class``.

    Raises:
        PlaygroundError: There is no such plant.
    """
    return load_class(BUILT_IN.get(name, name), "plant", BUILT_IN)
