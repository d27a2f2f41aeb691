"""Fit of what is no temperature: it follows products of the inputs with a lag.

Once its pace is known such an output is linear in the products, so least squares do,
for a few paces. Which products explain it, and how far their weights are pulled
towards zero, is chosen by folds left out: what fits best where the inputs have been is
often far off where they have not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from playground.learn.dataset import Segment
from playground.learn.folds import simplest
from playground.plants.learned.grey_box import places, products

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

PACES = (1.0, 0.5, 0.2, 0.08, 0.03, 0.01)
PULLS = (1e-1, 1e-2, 1e-3, 1e-4)
"""In parts of the variance of a product."""


def trained(
    folds: Sequence[Sequence[Segment]], settings: Mapping[str, Any]
) -> list[dict[str, Array]]:
    """Fits what is no temperature: without each fold, and last from all.

    Args:
        folds: Scaled blocks.
        settings: As of `playground.plants.learned.grey_box.GreyBox`.

    Returns:
        ``lag`` and ``pace`` of that simulator.
    """
    outputs = places(settings["outputs"], "other")
    if not outputs:
        nothing = {"lag": np.zeros((1, 0)), "pace": np.zeros(0)}
        return [nothing] * (len(folds) + 1)
    # Products per pace and fold, so that a fold is left out by not adding it.
    sums: list[list[_Sums]] = [[] for _ in PACES]
    for fold in folds:
        made = [products(*driving(b, settings)) for b in fold]
        for number, pace in enumerate(PACES):
            sums[number].append(_Sums.of(*_lagged(fold, made, outputs, pace)))
    forms = [_forms(settings, output) for output in outputs]
    fits: list[dict[str, Array]] = []
    for out in [*range(len(folds)), -1]:
        kept = [k for k in range(len(folds)) if k != out]
        lag = np.zeros((len(sums[0][0].xx), len(outputs)))
        paces = np.empty(len(outputs))
        for column in range(len(outputs)):
            mine = [[s[k].only(column) for k in kept] for s in sums]
            form, number, pull = _chosen(mine, forms[column])
            lag[form, column] = _added(mine[number]).within(form).solved(pull)
            paces[column] = PACES[number]
        fits.append({"lag": lag, "pace": paces})
    return fits


def common(settings: Mapping[str, Any]) -> dict[str, Array]:
    """Returns what takes scaled numbers to common ones."""
    names = ("u_scale", "u_offset", "y_scale", "y_offset")
    return {name: np.array(settings[name], float) for name in names}


def driving(block: Segment, settings: Mapping[str, Any]) -> tuple[Array, Array]:
    """Returns acts and inlets of a block, in common numbers."""
    numbers = common(settings)
    at = block.u * numbers["u_scale"] + numbers["u_offset"]
    kinds = settings["inputs"]
    return np.maximum(at[:, places(kinds, "other")], 0.0), at[
        :, places(kinds, "temperature")
    ]


def _lagged(
    fold: Sequence[Segment], made: Sequence[Array], outputs: list[int], pace: float
) -> tuple[Array, Array]:
    """Returns filtered products, and what they have to explain."""
    rows, wanted = [], []
    for block, all_of in zip(fold, made, strict=True):
        rows.append(lfilter([pace], [1.0, pace - 1.0], all_of[1:], axis=0))
        y = block.y[:, outputs]
        fading = (1.0 - pace) ** np.arange(1, len(block))
        wanted.append(y[1:] - fading[:, None] * y[0])
    return np.vstack(rows), np.vstack(wanted)


def _forms(settings: Mapping[str, Any], output: int) -> list[Places]:
    """Returns which products may explain an output together, from few to many.

    All; or none of two. A flow may also be in proportion to the speed of a pump, by
    what the valves make of it (affinity laws; Karassik et al., *Pump Handbook*,
    section 2.3): then each product has that speed in it.
    """
    inputs = settings["inputs"]
    acts = places(inputs, "other")
    one, many = 1 + len(inputs), len(acts) * (len(acts) + 1) // 2
    count = one + many + len(acts) * (len(inputs) - len(acts))
    forms = [np.arange(one), np.arange(count)]
    if settings["outputs"][output] == "flow":
        first, second = np.triu_indices(len(acts))
        for act in (k for k, column in enumerate(acts) if inputs[column] == "speed"):
            pairs = np.flatnonzero((first == act) | (second == act))
            forms.insert(0, np.concatenate([[0, 1 + act], one + pairs]))
    return forms


def _chosen(
    paces: Sequence[Sequence[_Sums]], forms: Sequence[Places]
) -> tuple[Places, int, float]:
    """Chooses products, pace and pull by folds left out.

    Of the products the fewest that folds cannot tell from the best; of each, pace and
    pull that are best: a stronger pull is no simpler, and what is known without noise
    would be known worse.

    Args:
        paces: Sums of one output, per pace and fold.
        forms: See `_forms`.
    """
    found: list[tuple[Places, int, float]] = []
    errors = []
    for form in forms:
        within = [[fold.within(form) for fold in folds] for folds in paces]
        tried = [
            (_left_out(folds, pull), number, pull)
            for pull in PULLS
            for number, folds in enumerate(within)
        ]
        mean = [float(np.log(each).mean()) for each, _, _ in tried]
        each, number, pull = tried[int(np.argmin(mean))]
        found.append((form, number, pull))
        errors.append(each)
    return found[simplest(errors)]


def _left_out(folds: Sequence[_Sums], pull: float) -> list[float]:
    """Returns the error on each fold of what was fitted to the others."""
    return [
        fold.error(_added([*folds[:k], *folds[k + 1 :]]).solved(pull))
        for k, fold in enumerate(folds)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sums:
    """What least squares need to know of rows.

    Attributes:
        xx: Products × products.
        xy: Products × outputs; without outputs where there is one.
        yy: Squares of the outputs, likewise.
        rows: How many.
    """

    xx: Array
    xy: Array
    yy: Array
    rows: int

    @classmethod
    def of(cls, x: Array, y: Array) -> _Sums:
        """Sums up rows."""
        return cls(xx=x.T @ x, xy=x.T @ y, yy=(y**2).sum(axis=0), rows=len(x))

    def only(self, output: int) -> _Sums:
        """Returns those of one output."""
        return replace(self, xy=self.xy[:, output], yy=self.yy[output])

    def within(self, form: Places) -> _Sums:
        """Returns those of some products."""
        return replace(self, xx=self.xx[np.ix_(form, form)], xy=self.xy[form])

    def solved(self, pull: float) -> Array:
        """Returns the weights; all but that of the 1 are pulled towards zero."""
        mean = self.xx[0] ** 2 / max(self.xx[0, 0], 1e-12)
        size = pull * np.maximum(np.diag(self.xx) - mean, 0.0)
        size[0] = 0.0
        tiny = 1e-9 * self.rows
        return np.asarray(np.linalg.solve(self.xx + np.diag(size + tiny), self.xy))

    def error(self, weights: Array) -> float:
        """Returns the root of the mean squared error of weights."""
        wrong = float(weights @ (self.xx @ weights - 2 * self.xy) + self.yy)
        return float(np.sqrt(max(wrong, 1e-12) / max(self.rows, 1)))


def _added(sums: Sequence[_Sums]) -> _Sums:
    return _Sums(
        xx=np.sum([s.xx for s in sums], axis=0),
        xy=np.sum([s.xy for s in sums], axis=0),
        yy=np.sum([s.yy for s in sums], axis=0),
        rows=sum(s.rows for s in sums),
    )
