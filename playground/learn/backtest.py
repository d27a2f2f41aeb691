"""Whether a model still says what its plant does: a model against a new recording."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from playground.learn.card import horizons
from playground.learn.dataset import Segment
from playground.learn.free_run import OutputError, judge
from playground.plants.learned import LearnedPlant

Verdict = Literal["still valid", "degraded", "wrong", "undecided"]

VALID = 1.15
"""Times the error on the card: up to here nothing has changed."""
DEGRADED = 2.0
OUTSIDE = 0.2
"""Share of steps outside the envelope above which nothing is decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """A model against new data.

    Attributes:
        verdict: Of the worst output that is usable; ``undecided`` where the new
            data are from where the model has never been.
        errors: Free-run error per output on the new data.
        ratio: Error / error on the model's card, per output; NaN where the card
            has none.
        outputs: Verdict per output.
        outside: Share of steps outside the envelope.
        horizons: Errors and coverage by lead time, as on a card.
    """

    verdict: Verdict
    errors: Sequence[OutputError]
    ratio: Mapping[str, float]
    outputs: Mapping[str, Verdict]
    outside: float
    horizons: Sequence[Mapping[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """Returns it as plain values, for a file; what is not known is None."""
        return {
            "verdict": self.verdict,
            "outputs": dict(self.outputs),
            "errors": [error.as_dict() for error in self.errors],
            "ratio": {
                name: None if math.isnan(ratio) else ratio
                for name, ratio in self.ratio.items()
            },
            "outside": self.outside,
            "horizons": [dict(lead) for lead in self.horizons],
        }


def backtest(plant: LearnedPlant, segments: Sequence[Segment]) -> Backtest:
    """Compares errors on new data with those on the card.

    Args:
        plant: Any learned plant.
        segments: New rows with its signals and period.

    Raises:
        NotEnoughData: No segment is longer than what the model needs to begin.
    """
    errors = judge(plant, segments)
    steps, outside = 0, 0
    history = plant.model.history
    for segment in segments:
        if len(segment) <= history:
            continue
        plant.begin(segment.u[None, :history], segment.y[None, :history])
        for row in range(history, len(segment)):
            plant.step_batch(row * segment.dt, segment.u[None, row])
        steps += plant.departures.steps
        outside += plant.departures.outside
    share = outside / steps
    known = {e["output"]: e["rmse"] for e in plant.model.card.get("errors", ())}
    if not known:
        # Without held-back data the card has the error on left-out blocks.
        spread = dict(zip(plant.outputs, plant.scaling.y_std, strict=True))
        validation = plant.model.card.get("validation", {})
        known = {name: v * float(spread[name]) for name, v in validation.items()}
    ratio = {e.output: e.rmse / known.get(e.output, float("nan")) for e in errors}
    outputs: dict[str, Verdict] = {}
    for e in errors:
        if e.output in plant.unusable:
            continue
        outputs[e.output] = _verdict(e, ratio[e.output], share)
    worst: Verdict = "still valid"
    for verdict in ("undecided", "degraded", "wrong"):
        if verdict in outputs.values():
            worst = verdict
    if not outputs:
        worst = "undecided"
    return Backtest(
        verdict=worst,
        errors=errors,
        ratio=ratio,
        outputs=outputs,
        outside=share,
        horizons=horizons(plant, segments),
    )


def _verdict(error: OutputError, ratio: float, outside: float) -> Verdict:
    if ratio <= VALID:
        return "still valid"
    if outside > OUTSIDE or ratio != ratio:
        return "undecided"
    if ratio <= DEGRADED and error.rmse < error.train_mean:
        return "degraded"
    return "wrong"
