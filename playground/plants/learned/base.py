"""A physical plant as a part of a learned one: it runs free below it.

The model names it, with its parameters; nothing of it is stored. As a physical plant
cannot be put into a state that was measured, it begins as if the first inputs had stood
for long, and goes through the rows before the run.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from playground.errors import PlaygroundError
from playground.parameters import load_class
from playground.plants import BUILT_IN, Plant
from playground.plants.learned.grey_box import GIVEN
from playground.plants.learned.simulator import Array, Scaling
from playground.quantity import convert
from playground.signals import Signals

SETTLING, SETTLING_S = 300, 4 * 3600.0
"""Steps for which it is held at the first inputs before a run, and how long at most."""
DAY_S = 86_400.0


def physical_plant(name: str, parameters: Mapping[str, Any], period_s: float) -> Plant:
    """Makes a plant that comes with the package, without noise.

    A model names its plant, and whoever loads the model makes it. So no code but that
    of the package may be named: a model from elsewhere could name any.

    Args:
        name: As in a scenario: ``lab_rig``, ``house``, ``testcase1``.
        parameters: By keyword.
        period_s: Seconds of one step of the learned plant.

    Raises:
        PlaygroundError: It is no such plant, takes no such parameters, or its step is
            no part of that of the learned plant.
    """
    known = [n for n in BUILT_IN if n != "replayed"]
    if name not in known:
        raise PlaygroundError(
            f"{name!r} cannot stand below a learned plant: only plants that come with "
            f"the package can ({', '.join(known)}).",
            "name one of them, or a plant file of one",
        )
    target = load_class(BUILT_IN[name], "plant", BUILT_IN)
    wanted = inspect.signature(target).parameters
    given = dict(parameters)
    if "noise" in wanted:
        given.setdefault("noise", False)
    try:
        plant: Plant = target(**given)
        if not _divides(plant.period_s, period_s) and "period_s" in wanted:
            plant = target(**{**given, "period_s": period_s})
    except TypeError as error:
        raise PlaygroundError(
            f"{name} cannot be made with {', '.join(given)}: {error}.",
            f"its parameters: {', '.join(wanted)}",
        ) from error
    if not _divides(plant.period_s, period_s):
        raise PlaygroundError(
            f"{name} makes steps of {plant.period_s:g} s, which do not fit into the "
            f"{period_s:g} s of the plant to be learned.",
            f"learn with a period that is a multiple of {plant.period_s:g} s",
        )
    return plant


def settling(period_s: float) -> int:
    """Returns the steps for which a plant is held before a run."""
    return min(SETTLING, math.ceil(SETTLING_S / period_s))


def _divides(short: float, long: float) -> bool:
    ratio = long / short
    return round(ratio) >= 1 and math.isclose(ratio, round(ratio), rel_tol=1e-9)


def standing_below(
    name: str,
    parameters: Mapping[str, Any],
    *,
    period_s: float,
    signals: Signals,
    inputs: Sequence[str],
    outputs: Sequence[str],
    scaling: Scaling,
) -> dict[str, Any]:
    """Returns the settings of a `Base`.

    Signals of both that have the same name are the same thing; their units may
    differ. Inputs that only the physical plant has keep their initial values.

    Raises:
        PlaygroundError: It is no plant for this, or says nothing that is learned.
    """
    plant = physical_plant(name, parameters, period_s)
    own = plant.signals
    measured = {s.name for s in own.with_role("measurement")}
    shared = [n for n in outputs if n in measured]
    if not shared:
        raise PlaygroundError(
            f"{name} says nothing of what is to be learned ({', '.join(outputs)}).",
            f"name signals as it does: {', '.join(sorted(measured))}",
        )

    def line(mine: str, other: str) -> tuple[float, float]:
        zero = convert(0.0, mine, other)
        return convert(1.0, mine, other) - zero, zero

    told, u_line = [], []
    for k, n in enumerate(inputs):
        if n in own and own[n].role != "measurement":
            factor, zero = line(signals[n].unit, own[n].unit)
            told.append([n, k])
            mean, std = scaling.u_mean[k], scaling.u_std[k]
            u_line.append([float(factor * std), float(factor * mean + zero)])
    said, y_line = [], []
    for n in shared:
        k = list(outputs).index(n)
        factor, zero = line(own[n].unit, signals[n].unit)
        mean, std = scaling.y_mean[k], scaling.y_std[k]
        said.append([n, k])
        y_line.append([float(factor / std), float((zero - mean) / std)])
    return {
        "plant": name,
        "parameters": dict(parameters),
        "period_s": period_s,
        "steps": round(period_s / plant.period_s),
        "told": told,
        "told_line": u_line,
        "said": said,
        "said_line": y_line,
        "outputs": len(outputs),
    }


class Base:
    """A physical plant as a `Simulator`, runs one by one.

    What it does not say is 0, the mean.

    Args:
        settings: As `standing_below` returns them.

    Attributes:
        before: What it said in the given rows, runs × rows × outputs.
    """

    history = GIVEN

    def __init__(self, settings: Mapping[str, Any]) -> None:
        period = float(settings["period_s"])
        plant = physical_plant(settings["plant"], settings["parameters"], period)
        self._plant, self._period = plant, plant.period_s
        self._each = round(period / plant.period_s)
        self._settling = settling(period)
        self._told = [(str(n), int(k)) for n, k in settings["told"]]
        self._told_line = np.array(settings["told_line"], float).reshape(-1, 2).T
        self._said = [(str(n), int(k)) for n, k in settings["said"]]
        self._said_line = np.array(settings["said_line"], float).reshape(-1, 2).T
        self._outputs = int(settings["outputs"])
        listened = plant.signals.with_role("command", "disturbance")
        self._initial = {s.name: s.initial or 0.0 for s in listened}
        self._bounds = {s.name: s for s in listened}
        self._snapshots: list[Any] = []
        self.before = np.zeros((0, GIVEN, self._outputs))
        self._now = 0.0

    def begin(self, u: Array, y: Array) -> None:
        """Starts runs; see `Simulator`."""
        runs, rows = u.shape[:2]
        self.before = np.zeros((runs, rows, self._outputs))
        lead = (self._settling + rows) * self._each * self._period
        # Its clock is at a full day when the run begins.
        start = math.ceil(lead / DAY_S) * DAY_S - lead
        # Runs that begin alike are one run so far.
        settled: dict[bytes, Any] = {}
        begun: dict[bytes, tuple[Any, Array]] = {}
        snapshots = []
        for run in range(runs):
            first, rows_before = u[run, 0].tobytes(), u[run].tobytes()
            if rows_before not in begun:
                self._now = start
                if first in settled:
                    self._plant.restore(settled[first])
                    self._now += self._settling * self._each * self._period
                else:
                    self._plant.reset()
                    for _ in range(self._settling):
                        self._row(u[run, 0])
                    settled[first] = self._plant.snapshot()
                said = np.array([self._row(row) for row in u[run]])
                begun[rows_before] = self._plant.snapshot(), said
            snapshot, self.before[run] = begun[rows_before]
            snapshots.append(snapshot)
        if runs == 1:
            self._plant.restore(snapshots[0])
        self._snapshots = snapshots
        self._now = start + lead

    def advance(self, u: Array) -> Array:
        """Makes one step; see `Simulator`."""
        said = np.empty((len(u), self._outputs))
        now, alone = self._now, len(u) == 1
        for run, row in enumerate(u):
            if not alone:
                self._plant.restore(self._snapshots[run])
            self._now = now
            said[run] = self._row(row)
            if not alone:
                self._snapshots[run] = self._plant.snapshot()
        return said

    def _row(self, u: Array) -> Array:
        columns = [k for _, k in self._told]
        values = u[columns] * self._told_line[0] + self._told_line[1]
        given = dict(self._initial)
        for (name, _), value in zip(self._told, values.tolist(), strict=True):
            given[name] = self._bounds[name].clip(value)
        found: Mapping[str, float] = {}
        for _ in range(self._each):
            self._now += self._period
            found = self._plant.step(self._now, given)
        said = np.zeros(self._outputs)
        numbers = np.array([found[name] for name, _ in self._said])
        numbers = numbers * self._said_line[0] + self._said_line[1]
        said[[k for _, k in self._said]] = numbers
        return said

    def state(self) -> tuple[Array, ...]:
        """Returns a copy of all that changes; the snapshots in an array of objects."""
        if len(self._snapshots) == 1:
            self._snapshots = [self._plant.snapshot()]
        kept = np.empty(len(self._snapshots), dtype=object)
        kept[:] = self._snapshots
        return np.array([self._now]), self.before.copy(), kept

    def set_state(self, state: tuple[Array, ...]) -> None:
        """Goes back to what `state` returned."""
        now, earlier, kept = state
        self._now, self.before = float(now[0]), earlier.copy()
        self._snapshots = list(kept)
        if len(self._snapshots) == 1:
            self._plant.restore(self._snapshots[0])
