"""Training of a learned part on what runs free below it.

What the base says about a block comes from a fit that has not seen it (compartments are
fitted without each fold in turn; a physical plant has seen nothing): so the learned
part meets in training the errors that it will meet in a run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from playground.learn import grey_box
from playground.learn.dataset import Segment
from playground.learn.folds import blocks_free_run
from playground.plants.learned.base import Base
from playground.plants.learned.grey_box import GIVEN, GreyBox
from playground.plants.learned.hybrid import before
from playground.plants.learned.simulator import Simulator

Array = npt.NDArray[np.float64]
Fits = tuple[list[dict[str, Array]], dict[str, Array]]
Trainers = Mapping[str, Callable[..., Fits]]
Families = Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Array]], Simulator]]

HELPS = 0.97
"""Times the error of the base: a learned part that is hardly better stays out."""


def trained(
    folds: Sequence[Sequence[Segment]],
    settings: Mapping[str, Any],
    *,
    seed: int,
    trainers: Trainers,
    families: Families,
) -> Fits:
    """Fits base and learned part without each fold in turn, and to all data.

    Args:
        folds: Scaled blocks.
        settings: As of `playground.plants.learned.hybrid.Hybrid`.
        seed: Of all that is drawn.
        trainers: By family, for the learned part.
        families: By family, its simulator.

    Returns:
        Arrays of the simulator, without the limits: one without each fold, and
        those of all data.
    """
    below, learned = settings["base"], settings["learned"]
    outputs = folds[0][0].y.shape[1]
    rows = np.vstack([b.y for fold in folds for b in fold])
    # Wide: what the base says is not cut where the plant's answer will be.
    span = np.ptp(rows, axis=0) + 1.0
    wide = {"low": rows.min(axis=0) - span, "high": rows.max(axis=0) + span}
    if "plant" in below:
        base_parts: list[dict[str, Array]] = [{} for _ in folds]
        base_whole: dict[str, Array] = {}
    else:
        base_parts, base_whole = grey_box.trained(folds, below)
    told: list[list[Segment]] = []
    base_said: list[list[Array]] = []
    for part, fold in zip(base_parts, folds, strict=True):
        base = Base(below) if "plant" in below else GreyBox(below, {**part, **wide})
        said = blocks_free_run(base, fold, history=GIVEN)
        first = [_first(base, b) for b in fold]
        whole = [np.vstack([f, s]) for f, s in zip(first, said, strict=True)]
        base_said.append(said)
        told.append(
            [
                replace(
                    b,
                    u=np.hstack([b.u, w]),
                    y=b.y - w if settings["way"] == "residual" else b.y,
                    inputs=(*b.inputs, *(f"{n} below" for n in b.outputs)),
                )
                for b, w in zip(fold, whole, strict=True)
            ]
        )
    parts, whole_part = trainers[learned["family"]](told, learned, seed)
    ratios = []
    for part, fold, more, said in zip(parts, folds, told, base_said, strict=True):
        limits = wide
        if settings["way"] == "residual":
            limits = {"low": -2 * span, "high": 2 * span}
        simulator = families[learned["family"]](learned, {**part, **limits})
        answers = blocks_free_run(simulator, more, history=GIVEN)
        if settings["way"] == "residual":
            answers = [a + s for a, s in zip(answers, said, strict=True)]
        truth = np.vstack([b.y[GIVEN:] for b in fold])
        own, alone = (
            np.sqrt(
                np.mean((np.nan_to_num(np.vstack(x), nan=1e3) - truth) ** 2, axis=0)
            )
            for x in (answers, said)
        )
        ratios.append(np.log(np.maximum(own, 1e-9) / np.maximum(alone, 1e-9)))

    def put(
        base: Mapping[str, Array], part: Mapping[str, Array], kept: list[int]
    ) -> dict[str, Array]:
        # For a fit without a fold the other folds say whether it helps.
        mean = np.mean([ratios[k] for k in kept], axis=0)
        return {
            **{f"base.{name}": array for name, array in base.items()},
            **{f"learned.{name}": array for name, array in part.items()},
            "helps": (mean < np.log(HELPS)).astype(float).reshape(outputs),
        }

    every = list(range(len(folds)))
    return [
        put(base, part, [k for k in every if k != out])
        for out, (base, part) in enumerate(zip(base_parts, parts, strict=True))
    ], put(base_whole, whole_part, every)


def _first(base: Simulator, block: Segment) -> Array:
    """Returns what a base said in the first rows of a block."""
    if not isinstance(base, Base):
        return block.y[:GIVEN]
    base.begin(block.u[None, :GIVEN], block.y[None, :GIVEN])
    return np.asarray(before(base, block.y[None, :GIVEN])[0])
