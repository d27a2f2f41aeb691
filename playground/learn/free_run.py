"""How learned plants are judged: by free run, beside two who know nothing.

From the true values of the first rows of a segment, never later ones, a plant
runs open loop on the recorded inputs to the segment's end. *Persistence* says
the last known value for ever; the *train mean* says one number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from playground.errors import NotEnoughData
from playground.learn.dataset import Segment
from playground.plants.learned import LearnedPlant

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputError:
    """How far one output was off in free run.

    Attributes:
        output: Its name.
        unit: Of the three errors.
        rmse: Root of the mean squared error of the plant.
        persistence: The same of the last known value.
        train_mean: The same of the mean of the training data.
        nrmse: ``rmse`` / standard deviation of the output in the judged data.
        spread: That standard deviation.
        rows: How many rows were judged.
    """

    output: str
    unit: str
    rmse: float
    persistence: float
    train_mean: float
    nrmse: float
    spread: float
    rows: int

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields for a card."""
        return asdict(self)


def free_runs(
    plant: LearnedPlant, segments: Sequence[Segment], *, history: int | None = None
) -> list[Array]:
    """Runs a plant over each segment.

    Args:
        plant: Its columns must be those of the segments.
        segments: In the units of the signals.
        history: Rows that are given; what the model needs if None.

    Returns:
        For each segment rows × outputs; the given rows as they were.
    """
    given = plant.model.history if history is None else history
    answers = []
    for segment in segments:
        out = np.empty_like(segment.y)
        out[:given] = segment.y[:given]
        plant.begin(segment.u[None, :given], segment.y[None, :given])
        for row in range(given, len(segment)):
            now = (row - given + 1) * segment.dt
            out[row] = plant.step_batch(now, segment.u[None, row])[0]
        answers.append(out)
    return answers


def judge(
    plant: LearnedPlant, segments: Sequence[Segment], *, history: int | None = None
) -> list[OutputError]:
    """Measures a plant by free run over segments it has not seen.

    Args:
        plant: Any learned plant.
        segments: Test data; those too short to begin on are left out.
        history: Rows given at the beginning of each, not judged.

    Returns:
        One entry per output.

    Raises:
        NotEnoughData: No segment is longer than what is given.
    """
    given = plant.model.history if history is None else history
    long_enough = [s for s in segments if len(s) > given]
    if not long_enough:
        raise NotEnoughData(
            f"No stretch of test data is longer than the {given} rows from which the "
            "free run begins.",
            "record longer, hold back more (--holdout), or take a shorter --period",
        )
    answers = free_runs(plant, long_enough, history=given)
    truth = np.vstack([s.y[given:] for s in long_enough])
    said = np.vstack([a[given:] for a in answers])
    kept = np.vstack(
        [np.repeat(s.y[given - 1 : given], len(s) - given, axis=0) for s in long_enough]
    )
    mean = plant.scaling.y_mean
    spread = truth.std(axis=0)

    def rmse(answer: Array) -> Array:
        return np.asarray(np.sqrt(np.mean((answer - truth) ** 2, axis=0)))

    own, persistence, train_mean = rmse(said), rmse(kept), rmse(mean)
    return [
        OutputError(
            output=name,
            unit=plant.signals[name].unit,
            rmse=float(own[k]),
            persistence=float(persistence[k]),
            train_mean=float(train_mean[k]),
            nrmse=float(own[k] / spread[k]) if spread[k] > 0 else float("inf"),
            spread=float(spread[k]),
            rows=len(truth),
        )
        for k, name in enumerate(plant.outputs)
    ]
