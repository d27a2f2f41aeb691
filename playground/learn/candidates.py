"""Candidates: one family with one setting, tried on held-back blocks.

Each family is a module of its own that trains; its simulator lives in
`playground.plants.learned`. Here stands which settings are worth a try, what
they cost, and the one way in which all of them are tried.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from playground.learn import (
    arx,
    boosting,
    filter_bank,
    fourier,
    grey_box,
    hybrid,
    network,
    reservoir,
    state_space,
)
from playground.learn.dataset import Segment
from playground.learn.folds import FOLDS, RUNS, blocks_free_run, later_starts
from playground.plants.learned.base import settling
from playground.plants.learned.families import FAMILIES
from playground.plants.learned.grey_box import places

Array = npt.NDArray[np.float64]
Settings = Mapping[str, Any]
Fits = tuple[list[dict[str, Array]], dict[str, Array]]

HISTORY = 12
"""Rows that every candidate is given at the beginning of a free run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A family with a setting, and how it did.

    Attributes:
        family: Name in `playground.plants.learned.plant.FAMILIES`.
        settings: What its trainer was told.
        parameters: Its arrays, fitted to all training data.
        said: Free run over each held-back block by a fit that never saw the
            block, from row `HISTORY` on; scaled outputs.
        later: The same for runs that begin later within the blocks, so that
            errors are known at each lead time from many states.
        errors: Free-run error per output in spreads of the training data; the
            geometric mean over folds, so that no single one decides.
        seconds: What the training took, on one core.
        parts: Its arrays as fitted without each fold.
    """

    family: str
    settings: Settings
    parameters: dict[str, Array]
    said: list[Array]
    later: list[Array]
    errors: Array
    seconds: float
    parts: tuple[dict[str, Array], ...] = ()


def geometric_mean(errors: Sequence[Array]) -> Array:
    """Returns the geometric mean over folds, per output."""
    return np.asarray(np.exp(np.mean(np.log(np.maximum(errors, 1e-6)), axis=0)))


def _copies(train: Callable[..., dict[str, Array]]) -> Callable[..., Fits]:
    """Makes fits out of a trainer of copies: the plant has all of them."""

    def fits(folds: Sequence[Sequence[Segment]], settings: Settings, seed: int) -> Fits:
        arrays = train(folds, settings, seed=seed)
        parts = [
            {name: array[k : k + 1] for name, array in arrays.items()}
            for k in range(len(folds))
        ]
        return parts, arrays

    return fits


TRAINERS: dict[str, Callable[..., Fits]] = {
    "arx": lambda folds, settings, seed: arx.trained(folds, settings),
    "boosting": lambda folds, settings, seed: boosting.trained(
        folds, settings, seed=seed
    ),
    "fourier": lambda folds, settings, seed: fourier.trained(
        folds, settings, seed=seed
    ),
    "reservoir": lambda folds, settings, seed: reservoir.trained(
        folds, settings, seed=seed
    ),
    "filter bank": _copies(filter_bank.trained),
    "grey box": lambda folds, settings, seed: grey_box.trained(folds, settings),
    "hybrid": lambda folds, settings, seed: hybrid.trained(
        folds, settings, seed=seed, trainers=TRAINERS, families=FAMILIES
    ),
    "network": _copies(network.trained),
    "state space": lambda folds, settings, seed: state_space.trained(folds, settings),
}


def tried(
    family: str,
    settings: Settings,
    folds: Sequence[Sequence[Segment]],
    *,
    low: Array,
    high: Array,
    seed: int = 0,
) -> Candidate:
    """Trains a candidate and runs it free over every block it has not seen.

    Args:
        family: Name of the family.
        settings: For its trainer.
        folds: Scaled blocks.
        low: Limits of the scaled outputs.
        high: Limits of the scaled outputs.
        seed: Of all that is drawn.
    """
    # One thread: a second changes the order of additions, and so the model.
    with threadpool_limits(1):
        start = time.process_time()
        parts, whole = TRAINERS[family](folds, settings, seed)
        limits = {"low": low, "high": high}
        said: list[Array] = []
        later: list[Array] = []
        errors = []
        for part, fold, more in zip(parts, folds, later_starts(folds), strict=True):
            simulator = FAMILIES[family](settings, {**part, **limits})
            answers = blocks_free_run(simulator, fold, history=HISTORY)
            said += answers
            later += blocks_free_run(simulator, more, history=HISTORY)
            truth = np.vstack([b.y[HISTORY:] for b in fold])
            wrong = np.nan_to_num(np.vstack(answers) - truth, nan=1e3)
            errors.append(np.sqrt((wrong**2).mean(axis=0)))
        return Candidate(
            family=family,
            settings=settings,
            parameters={**whole, **limits},
            said=said,
            later=later,
            errors=geometric_mean(errors),
            seconds=time.process_time() - start,
            parts=tuple({**part, **limits} for part in parts),
        )


NETWORK = {
    "na": 3,
    "nb": 3,
    "memory": 0,
    "filters": [],
    "hidden": 24,
    "decay": 1.0,
    "noise": 0.05,
    "whole": 3,
    "batch": 64,
    "ridge": 1e-4,
}
FILTER_BANK: dict[str, Any] = {
    "filters": [1.5, 3, 6, 12, 30, 80, 200],
    "decays": [3, 12, 50, 200],
    "hidden": 48,
    "decay": 0.3,
    "rounds": 1500,
    "batch": 256,
    "rate": 3e-3,
    "whole": 1,
}
BOOSTING: dict[str, Any] = {
    "lags": 3,
    "filters": [2, 5, 12, 30, 80, 200],
    "decays": [3, 12, 50, 200],
    "trees": 150,
    "leaves": 31,
    "depth": 8,
    "rate": 0.08,
    "fewest": 20,
    "share": 1.0,
    "examples": 20_000,
}
RESERVOIR = {
    "units": 200,
    "slowest": 100,
    "gain": 0.3,
    "ring": 0.7,
    "decays": [3, 12, 50, 200],
    "ridge": 1e-2,
}
FOURIER = {
    "na": 4,
    "nb": 4,
    "cosines": 300,
    "width": 10.0,
    "noise": 0.03,
    "ridge": 1e-4,
}
STATE_SPACE = {"order": 4, "horizon": 10, "given": HISTORY, "ridge": 1e-4}
ON_A_BASE: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    # What is learned on a base: its way, and the learned part.
    "on a plant": (
        ("inputs", {"family": "arx", "na": 2, "nb": 2, "ridge": 1e-4}),
        ("residual", {"family": "arx", "na": 2, "nb": 2, "ridge": 1e-3}),
        ("inputs", {"family": "reservoir", **RESERVOIR, "gain": 1.0, "ridge": 1e-1}),
    ),
    "on compartments": (
        ("inputs", {"family": "arx", "na": 4, "nb": 4, "ridge": 1e-4}),
        ("inputs", {"family": "reservoir", **RESERVOIR, "gain": 1.0, "ridge": 1e-1}),
    ),
    "on hidden masses": (
        ("inputs", {"family": "reservoir", **RESERVOIR, "gain": 1.0, "ridge": 1e-1}),
    ),
}
PLANT_STEP = 3e-5
"""Seconds that a physical plant takes for one of its steps."""

ARX_ORDERS = (
    (2, 2, 1e-5),
    (4, 4, 1e-5),
    (1, 2, 1e-5),
    (8, 8, 1e-5),
    (4, 8, 1e-5),
    (8, 8, 1e-3),
    (12, 12, 1e-3),
    (2, 4, 1e-5),
    (6, 6, 1e-5),
    (3, 3, 1e-3),
)
CHANGES: dict[str, tuple[dict[str, Any], ...]] = {
    "reservoir": (
        {},
        {"slowest": 300},
        {"gain": 0.1},
        {"gain": 1.0, "ridge": 1e-1},
        {"ring": 0.95},
        {"gain": 0.1, "slowest": 30},
        {"gain": 1.0, "ridge": 1e-1, "slowest": 30},
        {"gain": 0.1, "ridge": 1e-1, "slowest": 300},
    ),
    "fourier": (
        {"na": 8, "nb": 8, "ridge": 1e-3, "noise": 0.1},
        {},
        {"noise": 0.1},
        {"width": 20.0, "ridge": 1e-3},
        {"na": 8, "nb": 8},
        {"ridge": 1e-2, "noise": 0.1},
    ),
    "network": (
        {},
        {"memory": 4, "na": 2, "nb": 4, "hidden": 40},
        {"decay": 10.0, "noise": 0.1, "na": 4, "nb": 8, "hidden": 12},
        {"memory": 8, "na": 1, "nb": 2, "hidden": 32},
        {"memory": 4, "na": 2, "nb": 2},
    ),
    "filter bank": ({}, {"decay": 3.0, "hidden": 16}, {"decay": 10.0}),
    "boosting": ({},),
    "state space": (
        {},
        {"order": 2},
        {"order": 6},
        {"order": 8, "horizon": 15},
    ),
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "reservoir": RESERVOIR,
    "fourier": FOURIER,
    "network": NETWORK,
    "filter bank": FILTER_BANK,
    "boosting": BOOSTING,
    "state space": STATE_SPACE,
}
ROUNDS = (
    # Which settings of a family are tried in which round; the first round is
    # short enough for a demonstration, the last is for a long coffee.
    {"arx": 4, "reservoir": 1, "fourier": 1, "state space": 2, "on a plant": 3},
    {"arx": 6, "reservoir": 3, "fourier": 2, "on compartments": 3, "network": 1},
    {"reservoir": 5, "fourier": 4, "network": 2, "filter bank": 1, "boosting": 1},
    {"arx": 10, "state space": 4, "on hidden masses": 2, "reservoir": 8, "fourier": 6}
    | {"network": 3, "filter bank": 2},
    {"network": 5, "filter bank": 3, "boosting": 2},
)


PASSES = 16
"""Times that the filter bank sees each row; more rows need more rounds."""


def rounds_for(rows: int) -> int:
    """Returns how many updates the filter bank needs."""
    return int(np.clip(PASSES * rows / FILTER_BANK["batch"], 600, 4000))


def grey_box_cost(settings: Mapping[str, Any], rows: int) -> float:
    """Estimates the seconds that a fit of compartments takes; see `cost`."""
    acts = len(places(settings["inputs"], "other"))
    warm = len(places(settings["outputs"], "temperature"))
    lagging = len(settings["outputs"]) - warm
    g, inlets = 1 + acts + lagging, len(settings["inputs"]) - acts
    masses = warm if settings["hidden"] else 0
    each = g * (warm + masses + inlets + 1)
    unknowns = warm * each + masses * (warm + masses + inlets + g)
    products = 1 + acts + inlets + acts * (acts + 1) / 2 + acts * inlets
    return 0.5 + 0.08 * unknowns + (4e-6 * products * rows if lagging else 0.0)


def boosting_cost(settings: Settings, rows: int, inputs: int, outputs: int) -> float:
    """Estimates the seconds that trees take; see `cost`."""
    seen = inputs * (settings["lags"] + len(settings["filters"]))
    seen += len(settings["decays"]) * (outputs + 1) + 1
    left = 0.75 * max(rows, 1)
    examples = left * np.ceil(settings["examples"] / left)
    return float(5 * outputs * (0.6 + 1e-6 * examples * seen))


def cost(
    family: str, settings: Settings, rows: int, *, inputs: int = 6, outputs: int = 3
) -> float:
    """Estimates the seconds of a candidate with four folds on a core of a small machine.

    An estimate and not a stop watch, so that a budget means the same candidates
    on every machine, and equal calls learn equal models.
    """
    if family == "arx":
        return 0.05 + rows * 2e-6 * float(settings["na"] + settings["nb"])
    if family == "reservoir":
        return 0.4 + rows * 3e-5
    if family == "fourier":
        return 0.3 + rows * 4e-5
    if family == "state space":
        return 0.2 + rows * 3e-5
    if family == "grey box":
        return grey_box_cost(settings, rows)
    if family == "hybrid":
        learned = settings["learned"]
        more = cost(learned["family"], learned, rows) + 0.5
        if "plant" in settings["base"]:
            # Over each block twice, and as many beginnings as there are runs.
            settled = RUNS * settling(settings["base"]["period_s"])
            each = PLANT_STEP * float(settings["base"]["steps"])
            return more + each * 2 * (rows + settled)
        # The compartments below were fitted as a candidate of their own just before.
        return more
    if family == "network":
        return 20.0 if settings["memory"] else 15.0
    if family == "filter bank":
        return 2.0 + 0.006 * float(settings["rounds"])
    return boosting_cost(settings, rows, inputs, outputs)


def worth_trying(
    *,
    rows: int,
    budget_s: float,
    folds: int = FOLDS,
    inputs: int = 6,
    outputs: int = 3,
    columns: Mapping[str, Any] | None = None,
    plant: Mapping[str, Any] | None = None,
) -> list[tuple[str, dict[str, Any]]]:
    """Returns the families and settings that a budget allows.

    Args:
        rows: Of training data.
        budget_s: Seconds on two cores. The first of ARX is tried in any case.
        folds: How many fits without one of them there are.
        inputs: How many.
        outputs: How many.
        columns: What the columns are, for compartments (`grey_box.described`);
            without it none are tried.
        plant: A physical plant to be made better (`base.standing_below`).
    """
    ladder: list[tuple[str, dict[str, Any]]] = []
    for turn in ROUNDS:
        for family, count in turn.items():
            if family.startswith("on "):
                mine = _hybrids(family, columns, plant)[:count]
            else:
                mine = [(family, s) for s in _settings(family, count, rows)]
            ladder += [one for one in mine if one not in ladder]
    allowed: list[tuple[str, dict[str, Any]]] = []
    left = 2 * budget_s * (FOLDS + 1) / (folds + 1)
    for family, settings in ladder:
        left -= cost(family, settings, rows, inputs=inputs, outputs=outputs)
        if left < 0 and allowed:
            break
        allowed.append((family, settings))
    return allowed


def _settings(family: str, count: int, rows: int) -> list[dict[str, Any]]:
    """Returns the first settings of a family."""
    if family == "arx":
        names = ("na", "nb", "ridge")
        return [dict(zip(names, o, strict=True)) for o in ARX_ORDERS[:count]]
    mine = [{**DEFAULTS[family], **change} for change in CHANGES[family][:count]]
    if family == "filter bank":
        mine = [{**s, "rounds": rounds_for(rows)} for s in mine]
    return mine


def _hybrids(
    kind: str, columns: Mapping[str, Any] | None, plant: Mapping[str, Any] | None
) -> list[tuple[str, dict[str, Any]]]:
    """Returns compartments and what is learned on them, or on a plant."""
    below = plant
    found: list[tuple[str, dict[str, Any]]] = []
    if kind != "on a plant":
        if columns is None:
            return []
        below = {**columns, "hidden": kind == "on hidden masses"}
        found.append(("grey box", dict(below)))
    if below is None:
        return []
    return found + [
        ("hybrid", {"base": dict(below), "learned": learned, "way": way})
        for way, learned in ON_A_BASE[kind]
    ]


def bundles(
    ladder: Sequence[tuple[str, Mapping[str, Any]]],
) -> list[list[tuple[str, Mapping[str, Any]]]]:
    """Puts candidates together that one process should try, one after another.

    Hybrids on compartments follow these: `grey_box.trained` keeps its last fit.
    """
    found: list[list[tuple[str, Mapping[str, Any]]]] = []
    for family, settings in ladder:
        if family == "hybrid" and "plant" not in settings["base"] and found:
            found[-1].append((family, settings))
        else:
            found.append([(family, settings)])
    return found


def tried_together(
    bundle: Sequence[tuple[str, Mapping[str, Any]]],
    folds: Sequence[Sequence[Segment]],
    *,
    low: Array,
    high: Array,
    seed: int = 0,
) -> list[Candidate]:
    """Tries the candidates of a bundle; see `tried`."""
    return [
        tried(family, settings, folds, low=low, high=high, seed=seed)
        for family, settings in bundle
    ]
