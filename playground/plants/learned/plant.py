"""A plant that answers as its recordings did: a `Model`, stepped."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from playground.errors import FileFormatError, PlaygroundError, closest
from playground.model import Model, load_model
from playground.plants.learned.arx import Arx
from playground.plants.learned.simulator import Array, Scaling, Simulator
from playground.signals import Signals

FAMILIES: dict[str, Callable[[Mapping[str, Any], Mapping[str, Array]], Simulator]] = {
    "arx": Arx,
}
"""Name of a family in a model and the class that steps it."""


class LearnedPlant:
    """A plant made of what was learned from recordings.

    Each output is the median of the members that were chosen for it. A step
    never fails and never leaves the limits of the outputs, whatever the inputs.

    Args:
        model: A model, or the folder that holds one.

    Attributes:
        signals: As in the model; an input without an initial value has the one
            of the recording's beginning.
        period_s: Seconds of one step.
        inputs: Names of commands and disturbances, the columns of a batch.
        outputs: Names of measurements, the columns of a batch.
    """

    def __init__(self, model: Model | Path | str) -> None:
        self.model = model if isinstance(model, Model) else load_model(model)
        model = self.model
        self.period_s = model.period_s
        self.inputs = model.inputs
        self.outputs = model.outputs
        self._simulators = simulators_of(model)
        try:
            get = model.parameters.__getitem__
            self.scaling = Scaling(
                u_mean=get("scaling.u_mean"),
                u_std=get("scaling.u_std"),
                y_mean=get("scaling.y_mean"),
                y_std=get("scaling.y_std"),
            )
            self._start_u, self._start_y = get("start.u"), get("start.y")
        except KeyError as error:
            raise FileFormatError(
                f"The model has no parameter {error}.", "learn the model again"
            ) from error
        self.signals = Signals(
            (
                dataclasses.replace(
                    signal,
                    initial=float(self._start_u[-1, self.inputs.index(signal.name)]),
                )
                if signal.name in self.inputs and signal.initial is None
                else signal
                for signal in model.signals.values()
            ),
            model.signals.publications,
        )
        self._choice = self._chosen_members()
        self._runs = 1
        self.reset()

    def _chosen_members(self) -> list[list[int]]:
        choice: list[list[int]] = [[] for _ in self.outputs]
        for number, member in enumerate(self.model.members):
            for name in member["outputs"]:
                choice[self.outputs.index(name)].append(number)
        return choice

    def reset(self, *, seed: int = 0) -> Mapping[str, float]:
        """Goes back to the start; see `Plant`.

        The start is the ``initial`` values of the outputs, held, where the
        signals give one for each; else the beginning of the recording.

        Args:
            seed: Is there for the protocol; a learned plant draws nothing.
        """
        return self._named(self.reset_batch(1, seed=seed)[0])

    def step(self, now: float, inputs: Mapping[str, float]) -> Mapping[str, float]:
        """Advances by one period; see `Plant`.

        Raises:
            PlaygroundError: An input is missing.
        """
        try:
            u = np.array([[inputs[name] for name in self.inputs]], dtype=np.float64)
        except KeyError as error:
            raise PlaygroundError(
                f"The plant needs the input {error}, which was not given."
                f"{closest(error.args[0], inputs)}",
                f"give all of: {', '.join(self.inputs)}",
            ) from error
        return self._named(self.step_batch(now, u)[0])

    def reset_batch(self, runs: int, *, seed: int = 0) -> Array:
        """Starts any number of equal runs.

        Args:
            runs: How many.
            seed: As in `reset`.

        Returns:
            Outputs at time 0, runs × outputs, in their units.
        """
        u, y = self._start()
        return self.begin(np.repeat(u[None], runs, 0), np.repeat(y[None], runs, 0))

    def begin(self, u: Array, y: Array) -> Array:
        """Starts runs from known rows, such as the first of a recording.

        Args:
            u: Inputs in their units, runs × at least ``model.history`` × inputs.
            y: Outputs, likewise.

        Returns:
            The last row of ``y``, runs × outputs.
        """
        self._runs = len(u)
        scaled_u, scaled_y = self.scaling.scaled_u(u), self.scaling.scaled_y(y)
        for simulator in self._simulators:
            simulator.begin(
                scaled_u[:, -simulator.history :], scaled_y[:, -simulator.history :]
            )
        return np.array(y[:, -1])

    def step_batch(self, now: float, inputs: Array) -> Array:
        """Advances all runs by one period.

        Args:
            now: End of the step, seconds since the start of the runs.
            inputs: In their units, runs × inputs, columns as in ``inputs``.

        Returns:
            Outputs at ``now``, runs × outputs, columns as in ``outputs``.
        """
        u = self.scaling.scaled_u(inputs)
        answers = [simulator.advance(u) for simulator in self._simulators]
        if len(answers) == 1:
            scaled = answers[0]
        else:
            stacked = np.stack(answers)
            scaled = np.column_stack(
                [
                    np.median(stacked[c, :, k], axis=0)
                    for k, c in enumerate(self._choice)
                ]
            )
        return self.scaling.physical_y(scaled)

    def snapshot(self) -> Any:
        """Returns the state, to be given to `restore` of the same model."""
        return self._runs, [simulator.state() for simulator in self._simulators]

    def restore(self, snapshot: Any) -> None:
        """Goes back to what `snapshot` returned."""
        self._runs, states = snapshot
        for simulator, state in zip(self._simulators, states, strict=True):
            simulator.set_state(state)

    def _named(self, row: Array) -> dict[str, float]:
        return dict(zip(self.outputs, row.tolist(), strict=True))

    def _start(self) -> tuple[Array, Array]:
        signals = self.model.signals
        said = [signals[name].initial for name in self.outputs]
        if any(value is None for value in said):
            return self._start_u, self._start_y
        u = np.array([self.signals[name].initial for name in self.inputs], float)
        rows = len(self._start_u)
        return np.tile(u, (rows, 1)), np.tile(np.array(said, float), (rows, 1))


def simulators_of(model: Model) -> list[Simulator]:
    """Makes the simulator of each member.

    Raises:
        FileFormatError: A member is of an unknown family or incomplete.
    """
    made = []
    for number, member in enumerate(model.members):
        family = FAMILIES.get(str(member.get("family")))
        if family is None:
            raise FileFormatError(
                f"The model has a member of the family {member.get('family')!r}, which "
                f"is not known ({', '.join(FAMILIES)}).",
                "update mqtt-playground, or learn the model again",
            )
        try:
            made.append(family(member, model.part(number)))
        except KeyError as error:
            raise FileFormatError(
                f"Member {number} of the model has no {error}.", "learn the model again"
            ) from error
    return made
