"""Fit of the compartments: least squares on free runs, with physical signs.

What is no temperature is fitted first (`playground.learn.lagging`). The couplings of
compartments are found by Gauss-Newton steps (Levenberg's
damping) on whole free runs from many beginnings, first short, then long ones; the
sensitivities go along with the runs. No coupling may be negative, and no gain of a
power; `responds` in the signals file gives other gains a sign. Each step is a
least-squares problem with bounds. What a coupling does not earn it pays for: most
end at zero.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from scipy.signal import lfilter

from playground.errors import PlaygroundError
from playground.learn import lagging
from playground.learn.dataset import Segment
from playground.learn.folds import blocks_free_run, later_starts, simplest
from playground.plants.learned.grey_box import GIVEN, GreyBox, places, products
from playground.plants.learned.simulator import Scaling
from playground.quantity import convert
from playground.signals import Signals

Array = npt.NDArray[np.float64]

TEMPERATURES = ("degC", "degF", "K")
POWERS = ("W", "kW", "MW", "mW")
KINDS = (("flow", "m^3/h"), ("flow", "kg/s"), ("speed", "Hz"))
"""What is of a kind with these units."""
STAGES = ((40, 8), (250, 10))
"""Rows of the runs, and steps of Gauss-Newton."""
THIN = 4
"""Every so many rows of a run are compared."""
WINDOWS = 80
"""Runs that are compared."""
PRUNED_AFTER = 3
"""Steps of a stage after which couplings that are zero are left out."""
PRICE = 3e-4
"""What a coupling of 1 costs, in parts of the squared spread of an output."""
TRUSTS = (0.0, 0.3, 0.6, 1.0)

_last: list[tuple[Any, Any, tuple[list[dict[str, Array]], dict[str, Array]]]] = []
"""Data, settings and fits of the last call: what is learned on compartments is
tried right after them, and asks for the same fits."""


def described(
    inputs: Sequence[str], outputs: Sequence[str], signals: Signals, scaling: Scaling
) -> dict[str, Any]:
    """Returns the settings that say what the columns are.

    Args:
        inputs: Names of the columns.
        outputs: Names of the columns.
        signals: Their units and declared directions.
        scaling: Of the training data.

    Returns:
        ``inputs`` and ``outputs``: kinds; ``u_scale``, ``u_offset``, ``y_scale``,
        ``y_offset``: from scaled numbers to common ones: temperatures by one spread,
        all else such that 0 is none and 1 is much; ``signs``: outputs × inputs, 1
        or -1 where the sign of a gain is known, else 0.
    """
    kinds_u = [_kind(signals[name].unit) for name in inputs]
    kinds_y = [_kind(signals[name].unit) for name in outputs]
    spreads = [
        _in_kelvin(signals[n].unit) * scaling.y_std[k]
        for k, n in enumerate(outputs)
        if kinds_y[k] == "temperature"
    ]
    middles = [
        convert(scaling.y_mean[k], signals[n].unit, "degC")
        for k, n in enumerate(outputs)
        if kinds_y[k] == "temperature"
    ]
    common = float(np.mean(spreads)) if spreads else 1.0
    middle = float(np.mean(middles)) if middles else 0.0

    def numbers(name: str, kind: str, mean: float, std: float) -> tuple[float, float]:
        if kind == "temperature":
            unit = signals[name].unit
            level = convert(mean, unit, "degC")
            return _in_kelvin(unit) * std / common, (level - middle) / common
        # Twice the mean square is much; zero is none.
        much = float(np.hypot(mean, std)) or 1.0
        return std / much, mean / much

    u = [
        numbers(n, k, m, s)
        for n, k, m, s in zip(
            inputs, kinds_u, scaling.u_mean, scaling.u_std, strict=True
        )
    ]
    y = [
        numbers(n, k, m, s)
        for n, k, m, s in zip(
            outputs, kinds_y, scaling.y_mean, scaling.y_std, strict=True
        )
    ]
    signs = [
        [
            _sign(signals, out, name, kind)
            for name, kind in zip(inputs, kinds_u, strict=True)
        ]
        for out in outputs
    ]
    return {
        "inputs": kinds_u,
        "outputs": kinds_y,
        "u_scale": [float(scale) for scale, _ in u],
        "u_offset": [float(offset) for _, offset in u],
        "y_scale": [float(scale) for scale, _ in y],
        "y_offset": [float(offset) for _, offset in y],
        "signs": signs,
    }


def _kind(unit: str) -> str:
    if unit in TEMPERATURES:
        return "temperature"
    if unit in POWERS:
        return "power"
    for kind, other in KINDS:
        with contextlib.suppress(PlaygroundError):
            convert(1.0, unit, other)
            return kind
    return "other"


def _in_kelvin(unit: str) -> float:
    return convert(1.0, unit, "K") - convert(0.0, unit, "K")


def _sign(signals: Signals, out: str, name: str, kind: str) -> int:
    said = (signals[out].responds or {}).get(name)
    if said is not None:
        return 1 if said == "up" else -1
    return 1 if kind == "power" else 0


def trained(
    folds: Sequence[Sequence[Segment]], settings: Mapping[str, Any]
) -> tuple[list[dict[str, Array]], dict[str, Array]]:
    """Fits compartments without each fold in turn, and to all data.

    How far the bias of the given rows is to be believed is chosen per output: for a
    fit without a fold by the other folds, for that of all data by all.

    Args:
        folds: Scaled blocks.
        settings: What `described` returns, and ``hidden`` (whether each temperature
            has a hidden mass behind it).

    Returns:
        Arrays of `playground.plants.learned.grey_box.GreyBox`, without the limits:
        one without each fold, and those of all data.
    """
    if _last and _last[0][0] is folds and _last[0][1] == settings:
        return _last[0][2]
    lags = lagging.trained(folds, settings)
    fits = []
    for out in range(-1, len(folds)):
        blocks = [b for k, fold in enumerate(folds) if k != out for b in fold]
        fits.append(_fitted(blocks, settings, lags[out]))
    whole, parts = fits[0], fits[1:]
    errors = [
        _bias_errors(part, fold, settings)
        for part, fold in zip(parts, folds, strict=True)
    ]
    for out, part in enumerate(parts):
        part["trust"] = _trust([e for k, e in enumerate(errors) if k != out])
    whole["trust"] = _trust(errors)
    _last[:] = [(folds, settings, (parts, whole))]
    return parts, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class _Runs:
    """Stretches of training data that are compared with free runs.

    Attributes:
        g: 1, acts and lagging outputs, runs × rows × g.
        inlets: Temperatures among the inputs, runs × rows × inlets.
        warm: Measured temperatures, runs × rows × outputs.
    """

    g: Array
    inlets: Array
    warm: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unknowns:
    """What is looked for, one entry per number.

    Attributes:
        of: Compartment.
        by: Column of g.
        to: Column of: compartments, inlets, surroundings (0), gains (1).
        sign: 1 or -1 where known, else 0.
    """

    of: npt.NDArray[np.intp]
    by: npt.NDArray[np.intp]
    to: npt.NDArray[np.intp]
    sign: npt.NDArray[np.intp]

    def only(self, left: npt.NDArray[np.intp]) -> _Unknowns:
        """Returns some of them."""
        return _Unknowns(
            of=self.of[left], by=self.by[left], to=self.to[left], sign=self.sign[left]
        )


def _unknowns(settings: Mapping[str, Any]) -> _Unknowns:
    warm = places(settings["outputs"], "temperature")
    acts = places(settings["inputs"], "other")
    inlets = len(places(settings["inputs"], "temperature"))
    count = len(warm) * (2 if settings["hidden"] else 1)
    g = 1 + len(acts) + len(settings["outputs"]) - len(warm)
    surroundings = count + inlets
    found = []
    for one in range(count):
        for by in range(g):
            # Flows run through what is measured; a mass behind it is only touched.
            reached = range(surroundings + 1) if one < len(warm) or by == 0 else ()
            found += [(one, by, to, 1) for to in reached if to != one]
            output = warm[one % len(warm)]
            known = 0 < by <= len(acts)
            sign = settings["signs"][output][acts[by - 1]] if known else 0
            found.append((one, by, surroundings + 1, sign))
    of, by_, to_, sign_ = np.array(found).T
    return _Unknowns(of=of, by=by_, to=to_, sign=sign_)


def _tables(
    x: Array, unknowns: _Unknowns, g: int, count: int, inlets: int
) -> dict[str, Array]:
    every = np.zeros((g, count + inlets + 2, count))
    every[unknowns.by, unknowns.to, unknowns.of] = x
    return {
        "coupling": every[:, : count + inlets],
        "surroundings": every[:, count + inlets],
        "gain": every[:, count + inlets + 1],
    }


def _fitted(
    blocks: Sequence[Segment], settings: Mapping[str, Any], lags: Mapping[str, Array]
) -> dict[str, Array]:
    numbers = lagging.common(settings)
    warm = places(settings["outputs"], "temperature")
    outputs = len(settings["outputs"])
    arrays = {**numbers, **lags, "trust": np.zeros(outputs)}
    if not warm:
        nothing = {"coupling": np.zeros((1, 0, 0))}
        return (
            arrays | nothing | {n: np.zeros((1, 0)) for n in ("surroundings", "gain")}
        )
    unknowns = _unknowns(settings)
    count = int(unknowns.of.max()) + 1
    x = np.zeros(len(unknowns.of))
    still = unknowns.by == 0
    coupled = still & (unknowns.to <= unknowns.to.max() - 1)
    x[coupled] = 0.01
    own = (
        coupled & (abs(unknowns.to - unknowns.of) == len(warm)) & (unknowns.to < count)
    )
    x[own] = 0.1
    driven = [(b, *_driven(b, settings, lags)) for b in blocks]
    for rows, steps in STAGES:
        runs = _runs(driven, settings, rows)
        x = _descended(x, unknowns, runs, count, numbers["y_scale"][warm], steps)
    g, inlets = runs.g.shape[2], runs.inlets.shape[2]
    return arrays | _tables(x, unknowns, g, count, inlets)


def _driven(
    block: Segment, settings: Mapping[str, Any], lags: Mapping[str, Array]
) -> tuple[Array, Array]:
    """Returns g and inlets of a block; lagging outputs as they run free."""
    acts, inlets = lagging.driving(block, settings)
    numbers = lagging.common(settings)
    others = places(settings["outputs"], "other")
    said = np.zeros((len(block), len(others)))
    if others:
        drive = products(acts, inlets) @ lags["lag"]
        for k, column in enumerate(others):
            pace, first = lags["pace"][k], block.y[:1, column]
            rest, _ = lfilter(
                [pace], [1.0, pace - 1.0], drive[1:, k], zi=(1.0 - pace) * first
            )
            said[:, k] = np.concatenate([first, rest])
        said = said * numbers["y_scale"][others] + numbers["y_offset"][others]
    ones = np.ones((len(block), 1))
    return np.concatenate([ones, acts, np.maximum(said, 0.0)], axis=1), inlets


def _runs(
    driven: Sequence[tuple[Segment, Array, Array]],
    settings: Mapping[str, Any],
    rows: int,
) -> _Runs:
    """Chooses beginnings, spread over all blocks."""
    numbers = lagging.common(settings)
    warm = places(settings["outputs"], "temperature")
    rows = min(rows + GIVEN, max(len(block) for block, _, _ in driven))
    possible = [
        (number, start)
        for number, (block, _, _) in enumerate(driven)
        for start in range(len(block) - rows + 1)
    ]
    chosen = np.linspace(0, len(possible) - 1, min(WINDOWS, len(possible)))
    g, inlets, truth = [], [], []
    for number, start in (possible[k] for k in chosen.astype(int)):
        block, mine, entering = driven[number]
        here = slice(start, start + rows)
        g.append(mine[here])
        inlets.append(entering[here])
        measured = block.y[here][:, warm]
        truth.append(measured * numbers["y_scale"][warm] + numbers["y_offset"][warm])
    return _Runs(g=np.stack(g), inlets=np.stack(inlets), warm=np.stack(truth))


def _descended(
    x: Array,
    unknowns: _Unknowns,
    runs: _Runs,
    count: int,
    scale: Array,
    steps: int,
) -> Array:
    """Goes down in steps of Gauss-Newton; each is kept only if it leads down."""
    damping = 1e-2
    kept = np.arange(len(x))
    price = PRICE * (unknowns.to < unknowns.to.max())

    def paid(x: Array) -> float:
        return float(price @ x + 1e-5 * (x @ x))

    looked_for = unknowns
    error, hessian, slope = _compared(x, unknowns, runs, count, scale, slopes=True)
    for step in range(steps):
        curved = hessian + 2e-5 * np.eye(len(x))
        downhill = slope + price + 2e-5 * x
        for _ in range(6):
            damped = curved + damping * np.diag(np.diag(curved) + 1e-6)
            tried = _bounded(damped, damped @ x - downhill, looked_for.sign)
            damping *= 6.0
            if tried is None:
                continue
            new, _, _ = _compared(tried, looked_for, runs, count, scale, slopes=False)
            if new + paid(tried) < error + paid(x):
                break
        else:
            break
        gained = error + paid(x) - new - paid(tried)
        x, damping = tried, max(damping / 24.0, 1e-6)
        if gained < 1e-4 * (error + paid(x)):
            break
        if step == PRUNED_AFTER:
            # Most are zero and stay there: without them a step costs a fraction.
            left = np.flatnonzero((x > 0) | (looked_for.sign == 0))
            looked_for, x, price = looked_for.only(left), x[left], price[left]
            kept = kept[left]
        error, hessian, slope = _compared(
            x, looked_for, runs, count, scale, slopes=True
        )
    whole = np.zeros(len(unknowns.of))
    whole[kept] = x
    return whole


def _bounded(curved: Array, pull: Array, sign: npt.NDArray[np.intp]) -> Array | None:
    """Minimises ½ xᵀ H x - hᵀ x with the signs that are known."""
    lower = np.linalg.cholesky(curved)
    right = np.linalg.solve(lower, pull)
    free = np.flatnonzero(sign == 0)
    known = np.where(sign == 0, 1, sign)
    system = np.concatenate([lower.T * known, -lower.T[:, free]], axis=1)
    try:
        found, _ = nnls(system, right, maxiter=10 * system.shape[1])
    except RuntimeError:
        # It did not settle; with more damping it will.
        return None
    x: Array = found[: len(sign)] * known
    x[free] -= found[len(sign) :]
    return x


def _compared(
    x: Array,
    unknowns: _Unknowns,
    runs: _Runs,
    count: int,
    scale: Array,
    *,
    slopes: bool,
) -> tuple[float, Array, Array]:
    """Returns half the mean squared error of free runs, its curvature and slope."""
    g, inlets, warm = runs.g, runs.inlets, runs.warm
    number, rows, width = g.shape
    outputs, entering = warm.shape[2], inlets.shape[2]
    tables = _tables(x, unknowns, width, count, entering)
    coupling = tables["coupling"].reshape(-1, count)
    touch = tables["coupling"].sum(axis=1) + tables["surroundings"]
    links = tables["coupling"][:, :count].reshape(width, -1)
    of, by, to = unknowns.of, unknowns.by, unknowns.to
    moves = (to <= count + entering).astype(float)
    every = np.arange(len(x))
    s = np.concatenate([warm[:, 0], warm[:, 0, : count - outputs]], axis=1)
    sens = np.zeros((number, count, len(x)))
    hessian, slope = np.zeros((len(x), len(x))), np.zeros(len(x))
    total, seen = 0.0, 0
    zero, one = np.zeros((number, 1)), np.ones((number, 1))
    for row in range(1, rows):
        now = g[:, row]
        touched = np.concatenate([s, inlets[:, row]], axis=1)
        pairs = (now[:, :, None] * touched[:, None, :]).reshape(number, -1)
        weight = 1.0 + now @ touch
        after = (s + pairs @ coupling + now @ tables["gain"]) / weight
        if slopes:
            # Links: how much of each compartment is in the next of another.
            link = (now @ links).reshape(number, count, count).transpose(0, 2, 1)
            link = (link + np.eye(count)) / weight[:, :, None]
            sens = link @ sens
            reach = np.concatenate([touched, zero, one], axis=1)
            direct = now[:, by] * (reach[:, to] - moves * after[:, of])
            sens[:, of, every] += direct / weight[:, of]
        s = after
        if row < GIVEN:
            s[:, :outputs] = warm[:, row]
            sens[:, :outputs] = 0.0
            continue
        if row % THIN and row != rows - 1:
            continue
        wrong = np.clip((s[:, :outputs] - warm[:, row]) / scale, -30.0, 30.0)
        total += 0.5 * float((wrong**2).sum())
        seen += wrong.size
        if slopes:
            flat = (sens[:, :outputs] / scale[:, None]).reshape(-1, len(x))
            hessian += flat.T @ flat
            slope += wrong.reshape(-1) @ flat
    seen = max(seen, 1)
    return total / seen, hessian / seen, slope / seen


def _bias_errors(
    arrays: Mapping[str, Array], fold: Sequence[Segment], settings: Mapping[str, Any]
) -> Array:
    """Returns errors over a fold, trusts × outputs."""
    outputs = len(settings["outputs"])
    wide = {"low": np.full(outputs, -10.0), "high": np.full(outputs, 10.0)}
    runs = [*fold, *later_starts([fold])[0]]
    truth = np.vstack([b.y[GIVEN:] for b in runs])
    errors = []
    for trust in TRUSTS:
        believed = {**arrays, **wide, "trust": np.full(outputs, trust)}
        said = np.vstack(
            blocks_free_run(GreyBox(settings, believed), runs, history=GIVEN)
        )
        errors.append(np.sqrt(((said - truth) ** 2).mean(axis=0)))
    return np.array(errors)


def _trust(errors: Sequence[Array]) -> Array:
    """Chooses per output how far the bias is believed, by errors of folds."""
    each = np.moveaxis(np.array(errors), 0, 2)
    chosen = [simplest(each[:, k].tolist()) for k in range(each.shape[1])]
    return np.array(TRUSTS)[chosen]
