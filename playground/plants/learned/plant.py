"""A plant that answers as its recordings did: a `Model`, stepped."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from playground.errors import FileFormatError, PlaygroundError, closest
from playground.model import Model, load_model
from playground.plants.departures import Departures
from playground.plants.learned.combination import Combination
from playground.plants.learned.distilled import Distilled
from playground.plants.learned.envelope import Envelope, Flags
from playground.plants.learned.families import FAMILIES, quick
from playground.plants.learned.network import Network
from playground.plants.learned.shapes import AGAIN, UNFIT, check_model, fitting
from playground.plants.learned.simulator import Array, Scaling, Simulator
from playground.signals import Signals

ACCOUNT_EVERY = 64
"""Steps that are looked at together; one by one costs as much as a member."""


class LearnedPlant:
    """A plant made of what was learned from recordings.

    It has one of two forms. Members each run on their own answers; an output is their
    weighed mean, or where that did better the median. Or one small network steps that
    was taught to answer as all members do. A step never fails and never leaves the
    limits of the outputs, whatever the inputs; whether it is to be believed is another
    question, and `in_envelope`, `departures` and `intervals` answer it.

    Args:
        model: A model, or the folder that holds one.
        fast: True for the network, False for the members, None for what the model
            says: the network where it was hardly worse on held-back data. Where the
            only member is as quick as that, it is the fast form as well.

    Raises:
        FileFormatError: The model is not whole, or its parts do not fit together.
        PlaygroundError: It has no fast form.

    Attributes:
        fast: Whether it is the network that steps.
        signals: As in the model; an input without an initial value has the one
            of the recording's beginning.
        period_s: Seconds of one step.
        inputs: Names of commands and disturbances, the columns of a batch.
        outputs: Names of measurements, the columns of a batch.
        unusable: Outputs that no candidate predicted better than their mean.
    """

    def __init__(self, model: Model | Path | str, *, fast: bool | None = None) -> None:
        self.model = model if isinstance(model, Model) else load_model(model)
        model = self.model
        self.period_s = model.period_s
        self.inputs, self.outputs = model.inputs, model.outputs
        self.unusable: tuple[str, ...] = tuple(model.card.get("unusable", ()))
        if fast is None:
            fast = bool(model.card.get("fast", {}).get("default", False))
        alone = fast and "fast" not in model.card
        check_model(model, fast=fast and not alone)
        if alone:
            if not _quick_alone(model):
                raise PlaygroundError(
                    "The model has no fast form; it was learned with too small a "
                    "budget.",
                    "learn it with --budget 30s or more, or leave out fast",
                )
            fast = False
        self.fast = fast
        self._simulators = [quick_one(model)] if fast else simulators_of(model)
        get = model.parameters.__getitem__
        self.scaling = Scaling(
            u_mean=get("scaling.u_mean"),
            u_std=get("scaling.u_std"),
            y_mean=get("scaling.y_mean"),
            y_std=get("scaling.y_std"),
        )
        self._start_u, self._start_y = get("start.u"), get("start.y")
        weights = np.ones((1, len(self.outputs))) if fast else get("weights")
        self._weights = weights[:, None, :]
        nowhere = np.zeros(len(self.outputs))
        self._combined = Combination(
            weights, nowhere if fast else model.parameters.get("median", nowhere)
        )
        self._envelope = Envelope(model.part("envelope"), self.inputs + self.outputs)
        low, high = get("envelope.low"), get("envelope.high")
        self._interval = model.part("fast interval" if fast else "interval")
        # Far outside nothing is known; a limit keeps the arithmetic sound.
        span = (high - low)[: len(self.inputs)]
        # All as rows of a table: numpy is slower where shapes differ.
        self._least_u = (low[: len(self.inputs)] - span)[None]
        self._most_u = (high[: len(self.inputs)] + span)[None]
        self._u_mean, self._u_std = self.scaling.u_mean[None], self.scaling.u_std[None]
        self._y_mean, self._y_std = self.scaling.y_mean[None], self.scaling.y_std[None]
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
            balances=model.signals.balances,
        )
        self.reset()

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
            told = [inputs[name] for name in self.inputs]
        except KeyError as error:
            raise PlaygroundError(
                f"The plant needs the input {error}, which was not given."
                f"{closest(error.args[0], inputs)}",
                f"give all of: {', '.join(self.inputs)}",
            ) from error
        u = self._scaled_inputs(np.array([told], dtype=np.float64))
        if math.isnan(sum(u[0].tolist())):
            u = np.where(np.isnan(u), self._last_u, u)
        y: Array = self._advance(now, u) * self._y_std
        y += self._y_mean
        return self._named(y[0])

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
        scaled_u, scaled_y = self.scaling.scaled_u(u), self.scaling.scaled_y(y)
        for simulator in self._simulators:
            simulator.begin(
                scaled_u[:, -simulator.history :], scaled_y[:, -simulator.history :]
            )
        self._steps = 0
        self._counted_from, self._outside = 0, 0
        self._first_s: float | None = None
        self._signals: dict[str, int] = {}
        self._pending: list[tuple[float, Array, Array]] = []
        self._last_u, self._scaled = scaled_u[:, -1], scaled_y[:, -1]
        self._before = self._last_u, self._scaled
        self._accounted = self._state()[:1]
        self._spread: Array | None = np.zeros_like(self._scaled)
        self._answers = self._scaled[None]
        return np.array(y[:, -1])

    def step_batch(self, now: float, inputs: Array) -> Array:
        """Advances all runs by one period.

        Args:
            now: End of the step, seconds since the start of the runs.
            inputs: In their units, runs × inputs, columns as in ``inputs``; NaN
                leaves an input as it was.

        Returns:
            Outputs at ``now``, runs × outputs, columns as in ``outputs``.
        """
        u = self._scaled_inputs(inputs)
        if math.isnan(np.add.reduce(u, axis=None)):
            u = np.where(np.isnan(u), self._last_u, u)
        y: Array = self._advance(now, u) * self._y_std
        y += self._y_mean
        return y

    def _scaled_inputs(self, inputs: Array) -> Array:
        u: Array = inputs - self._u_mean
        u /= self._u_std
        np.maximum(u, self._least_u, out=u)
        np.minimum(u, self._most_u, out=u)
        return u

    def _advance(self, now: float, u: Array) -> Array:
        """Makes one step; scaled inputs and outputs."""
        if len(self._simulators) == 1:
            scaled = self._simulators[0].advance(u)
            self._answers = scaled[None]
        else:
            self._answers = np.array([s.advance(u) for s in self._simulators])
            scaled = self._combined(self._answers)
        self._before = self._last_u, self._scaled
        self._last_u, self._scaled, self._spread = u, scaled, None
        self._steps += 1
        if len(u) > 1:
            # Only the first run is looked at: the rest is not kept for it.
            self._pending.append((now, u[:1].copy(), scaled[:1].copy()))
        else:
            self._pending.append((now, u, scaled))
        if len(self._pending) >= ACCOUNT_EVERY:
            self._account()
        return scaled

    def _account(self) -> None:
        """Looks at the steps since it was last asked, all at once."""
        if not self._pending:
            return
        inputs = np.concatenate([u for _, u, _ in self._pending])
        outputs = np.concatenate([y for _, _, y in self._pending])
        states = np.concatenate([inputs, outputs], axis=1)
        before = np.concatenate([self._accounted, states[:-1]])
        for k in np.flatnonzero(~self._known(before, states)):
            self._outside += 1
            if self._first_s is None:
                self._first_s = self._pending[k][0]
            name = self._envelope.outside(before[k], states[k])
            self._signals[name] = self._signals.get(name, 0) + 1
        self._accounted = states[-1:]
        self._pending.clear()

    @property
    def inside(self) -> Flags:
        """Per run, whether the last step was within the envelope."""
        if not self._steps:
            return np.ones(len(self._scaled), dtype=bool)
        return self._known(np.concatenate(self._before, axis=1), self._state())

    def _state(self) -> Array:
        return np.concatenate([self._last_u, self._scaled], axis=1)

    def _known(self, before: Array, states: Array) -> Flags:
        envelope = self._envelope
        steady = envelope.steady(before, states)
        return np.asarray(envelope.box(states) & steady & envelope.near(states))

    @property
    def in_envelope(self) -> bool:
        """Whether the last step was where the model knows the plant."""
        return bool(self.inside[0])

    @property
    def departures(self) -> Departures:
        """How often the run left the envelope so far."""
        self._account()
        return Departures(
            steps=self._steps - self._counted_from,
            outside=self._outside,
            first_s=self._first_s,
            signals=dict(self._signals),
        )

    def count_anew(self) -> None:
        """Forgets the departures so far: the warm-up of a run is over."""
        self._account()
        self._counted_from, self._outside = self._steps, 0
        self._first_s = None
        self._signals = {}

    def half_widths(self) -> Array:
        """Returns half-widths of the 90 % intervals, runs × outputs, in units."""
        if self._spread is None:
            only = self._simulators[0]
            if isinstance(only, Distilled):
                self._spread = only.apart.copy()
            else:
                apart = (self._answers - self._scaled) ** 2
                self._spread = np.sqrt((apart * self._weights).sum(axis=0))
        if not self._steps:
            return np.zeros_like(self._scaled)
        # Row 0 is of step 1, row 1 of step 2, row 2 of step 4 ...
        factors = self._interval["factor"]
        row = min(self._steps.bit_length(), len(factors)) - 1
        factor = factors[row]
        if row + 1 < len(factors):
            share = math.log2(self._steps) - row
            factor = factor + share * (factors[row + 1] - factor)
        width = self._interval["floor"] + self._interval["spread"] * self._spread
        return np.asarray(factor * width * self.scaling.y_std)

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Returns the 90 % interval of each output at the last step."""
        middle = self.scaling.physical_y(self._scaled)[0]
        half = self.half_widths()[0]
        return {
            name: (float(middle[k] - half[k]), float(middle[k] + half[k]))
            for k, name in enumerate(self.outputs)
        }

    def snapshot(self) -> Any:
        """Returns the state, to be given to `restore` of the same model."""
        self._account()
        own = (
            self._steps,
            self._counted_from,
            self._outside,
            self._first_s,
            dict(self._signals),
            self._last_u.copy(),
            self._scaled.copy(),
            self._answers.copy(),
            *(array.copy() for array in self._before),
        )
        return own, [simulator.state() for simulator in self._simulators]

    def restore(self, snapshot: Any) -> None:
        """Goes back to what `snapshot` returned."""
        own, states = snapshot
        self._steps, self._counted_from, self._outside, self._first_s = own[:4]
        self._signals = dict(own[4])
        arrays = [array.copy() for array in own[5:]]
        self._last_u, self._scaled, self._answers = arrays[:3]
        self._before = arrays[3], arrays[4]
        self._accounted = self._state()[:1]
        self._pending = []
        self._spread = None
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


def _quick_alone(model: Model) -> bool:
    """Whether the model has one member only, which is as quick as a fast form."""
    member, *others = model.members
    try:
        return not others and quick(str(member.get("family")), member)
    except UNFIT:
        return False


def simulators_of(model: Model) -> list[Simulator]:
    """Makes the simulator of each member.

    Raises:
        FileFormatError: A member is of an unknown family, incomplete, or does not fit.
    """
    return [
        _made(
            str(member.get("family")),
            member,
            model.part(number),
            model,
            f"Member {number}",
        )
        for number, member in enumerate(model.members)
    ]


def quick_one(model: Model) -> Simulator:
    """Makes what steps fast: a single member, or a network taught by all.

    Raises:
        FileFormatError: It is of an unknown family, incomplete, or does not fit.
    """
    about, arrays = model.card["fast"], model.part("fast")
    settings = about.get("settings")
    if not isinstance(settings, Mapping):
        raise FileFormatError("The fast form of the model has no settings.", AGAIN)
    if "family" in about:
        return _made(str(about["family"]), settings, arrays, model, "The fast form")
    if "third" in arrays and "decays" not in settings:
        raise FileFormatError(
            "The fast form of the model is of an earlier version.",
            "learn the model again, or write fast: false",
        )
    kind = Distilled if "third" in arrays else Network
    return fitting(lambda: kind(settings, arrays), model, "The fast form")


def _made(
    name: str,
    settings: Mapping[str, Any],
    arrays: Mapping[str, Array],
    model: Model,
    which: str,
) -> Simulator:
    family = FAMILIES.get(name)
    if family is None:
        raise FileFormatError(
            f"The model has a member of the family {name!r}, which is not known "
            f"({', '.join(FAMILIES)}).",
            "update mqtt-playground, or learn the model again",
        )
    return fitting(lambda: family(settings, arrays), model, which)
