"""Plants: commands and disturbances in, measurements out, one step at a time.

A plant knows no bus, no file and no wall clock; `playground.plants.device` is
the one adapter that puts it on a bus. Built-in plants are named in `BUILT_IN`;
a user's own is named ``module:Class``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from playground.errors import PlaygroundError, closest
from playground.signals import Signals


@runtime_checkable
class Plant(Protocol):
    """What every plant offers: physical, learned or replayed.

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
}
"""Name in a scenario and the class behind it; imported when first asked for."""


def plant_class(name: str) -> Any:
    """Returns the class of a built-in plant or of ``module:Class``.

    Raises:
        PlaygroundError: There is no such plant.
    """
    return load_class(BUILT_IN.get(name, name), "plant", BUILT_IN)


def load_class(spec: str, what: str, built_in: Mapping[str, str]) -> Any:
    """Imports ``module:Class``.

    Args:
        spec: The text of the form ``module:Class``.
        what: What it should be, for the message: ``plant``, ``controller``.
        built_in: Names that need no module, for the message.

    Raises:
        PlaygroundError: The module or the class does not exist.
    """
    module_name, colon, class_name = spec.partition(":")
    if not colon:
        raise PlaygroundError(
            f"There is no {what} {spec!r}.{closest(spec, built_in)}",
            f"built in: {', '.join(built_in)}; your own: 'module:Class'",
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise PlaygroundError(
            f"The {what} {spec!r} names the module {module_name!r}, "
            "which cannot be imported.",
            "check the spelling, and that its folder is the current one or installed",
        ) from error
    try:
        return getattr(module, class_name)
    except AttributeError as error:
        raise PlaygroundError(
            f"Module {module_name!r} has no {class_name!r}."
            f"{closest(class_name, vars(module))}"
        ) from error
