"""The model card: what a learned plant was made of and how far to believe it.

Everything here is measured on data that took no part in learning; where there
are none, the card says so. `measured` makes the figures, `written` the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from playground.learn import balance, envelope
from playground.learn.dataset import Segment
from playground.learn.free_run import free_runs
from playground.learn.picture import free_run_picture
from playground.model import Model, contradictions
from playground.plants.learned import LearnedPlant
from playground.plants.learned.families import on_a_plant
from playground.quantity import say_seconds

Array = npt.NDArray[np.float64]

HORIZONS_S = (60.0, 600.0, 3600.0)
"""Beside one step and the end: lead times at which errors are given."""
STARTS, FEW_STARTS = 240, 60
"""From so many places errors are measured; from few where a physical plant below takes
hours to begin a run."""
SETTLED_STEPS = 600


def measured(plant: LearnedPlant, test: Sequence[Segment]) -> dict[str, Any]:
    """Returns errors and coverage by lead time, step responses, and stability.

    Step responses that go against the direction that the signals file declares are
    named below ``contradictions``; where it declares balances, what is left over of
    them stands below ``balances``.

    Args:
        plant: As learned.
        test: Data it has not seen, in units; may be empty.
    """
    responses = step_responses(plant)
    balances = balance.closed(plant, test)
    return {
        "horizons": horizons(plant, test),
        "step_responses": responses,
        "contradictions": contradictions(responses, plant.signals),
        "stability": stability(plant),
        **({"balances": balances} if balances else {}),
    }


def horizons(plant: LearnedPlant, test: Sequence[Segment]) -> list[dict[str, Any]]:
    """Measures errors at lead times, from many starts within the test data.

    Returns:
        Per lead time: seconds, starts, and per output RMSE, those of
        persistence and of the mean of the training data, and the share of values
        within the 90 % interval. The last entry has ``end``: the last quarter of
        each segment, from its beginning.
    """
    history, dt = plant.model.history, plant.period_s
    leads = sorted({1, *(max(1, round(s / dt)) for s in HORIZONS_S)})
    slow = any(on_a_plant(member) for member in plant.model.members)
    most = FEW_STARTS if slow and not plant.fast else STARTS
    answers = []
    for lead in leads:
        possible = [
            (segment, start)
            for segment in test
            for start in range(len(segment) - history - lead + 1)
        ]
        if len(possible) < 5:
            continue
        chosen = np.linspace(0, len(possible) - 1, min(most, len(possible)))
        runs = [possible[k] for k in chosen.astype(int)]
        u = np.stack([s.u[a : a + history + lead] for s, a in runs])
        y = np.stack([s.y[a : a + history + lead] for s, a in runs])
        said = plant.begin(u[:, :history], y[:, :history])
        kept = said
        for row in range(lead):
            said = plant.step_batch((row + 1) * dt, u[:, history + row])
        wrong = said - y[:, -1]
        answers.append(
            {
                "seconds": lead * dt,
                "starts": len(runs),
                "rmse": _by_name(plant, _rms(wrong)),
                "persistence": _by_name(plant, _rms(kept - y[:, -1])),
                "train_mean": _by_name(plant, _rms(plant.scaling.y_mean - y[:, -1])),
                "covered": _by_name(
                    plant, np.mean(np.abs(wrong) <= plant.half_widths(), axis=0)
                ),
            }
        )
    if (end := _end(plant, test)) is not None:
        answers.append(end)
    plant.reset()
    return answers


def _end(plant: LearnedPlant, test: Sequence[Segment]) -> dict[str, Any] | None:
    history = plant.model.history
    wrong, kept, mean, inside = [], [], [], []
    long_enough = [s for s in test if len(s) >= 2 * history]
    for segment in long_enough:
        first = len(segment) - (len(segment) - history + 3) // 4
        plant.begin(segment.u[None, :history], segment.y[None, :history])
        for row in range(history, len(segment)):
            now = (row - history + 1) * segment.dt
            said = plant.step_batch(now, segment.u[None, row])
            if row >= first:
                wrong.append(said[0] - segment.y[row])
                kept.append(segment.y[history - 1] - segment.y[row])
                mean.append(plant.scaling.y_mean - segment.y[row])
                inside.append(np.abs(wrong[-1]) <= plant.half_widths()[0])
    if not wrong:
        return None
    longest = max(len(s) for s in long_enough) - history
    return {
        "seconds": longest * plant.period_s,
        "end": True,
        "starts": len(long_enough),
        "rmse": _by_name(plant, _rms(np.array(wrong))),
        "persistence": _by_name(plant, _rms(np.array(kept))),
        "train_mean": _by_name(plant, _rms(np.array(mean))),
        "covered": _by_name(plant, np.mean(inside, axis=0)),
    }


def step_responses(plant: LearnedPlant) -> list[dict[str, Any]]:
    """Moves each input by half of its range in the envelope, from a settled state.

    Inputs here are the commands, and the disturbances for which a direction is declared.

    Returns:
        Per input (``command``) and output: gain (output per unit of the input) and
        seconds until nine tenths of the change are there; None where there is
        next to no change.
    """
    model = plant.model
    mean = plant.scaling.u_mean
    declared = {n for s in model.signals.values() for n in s.responds or ()}
    inputs = [
        s.name
        for s in model.signals.with_role("command", "disturbance")
        if s.role == "command" or s.name in declared
    ]
    low = model.parameters["envelope.low"][: len(mean)]
    high = model.parameters["envelope.high"][: len(mean)]
    first = np.tile(mean, (len(inputs) + 1, 1))
    then = first.copy()
    size = {}
    for run, name in enumerate(inputs):
        column = plant.inputs.index(name)
        half = 0.25 * (high - low)[column] * plant.scaling.u_std[column]
        first[run, column] -= half
        then[run, column] += half
        size[name] = 2 * half
    u = np.repeat(first[:, None], model.history, axis=1)
    y = np.tile(plant.scaling.y_mean, (len(first), model.history, 1))
    plant.begin(u, y)
    for row in range(SETTLED_STEPS):
        before = plant.step_batch(row * plant.period_s, first)
    path = np.stack(
        [plant.step_batch(row * plant.period_s, then) for row in range(SETTLED_STEPS)]
    )
    plant.reset()
    answers: list[dict[str, Any]] = []
    for run, name in enumerate(inputs):
        # What the run without a step did is drift, not an answer.
        moved = (path[:, run] - before[run]) - (path[:, -1] - before[-1])
        for k, output in enumerate(plant.outputs):
            change = float(moved[-1, k])
            there = np.abs(moved[:, k]) >= 0.9 * abs(change)
            visible = abs(change) > 0.02 * plant.scaling.y_std[k]
            answers.append(
                {
                    "command": name,
                    "output": output,
                    "gain": change / float(size[name]) if size[name] else 0.0,
                    "settled_s": float((np.argmax(there) + 1) * plant.period_s)
                    if visible
                    else None,
                }
            )
    return answers


def stability(
    plant: LearnedPlant, *, steps: int = 500, runs: int = 40
) -> dict[str, Any]:
    """Drives the plant with random steps of its inputs within their range.

    Returns:
        Steps made, and per output the share of them at a limit: a plant that
        runs away sits there.
    """
    model, rng = plant.model, np.random.default_rng(0)
    count = len(plant.inputs)
    low = model.parameters["envelope.low"][:count] * plant.scaling.u_std
    high = model.parameters["envelope.high"][:count] * plant.scaling.u_std
    low, high = low + plant.scaling.u_mean, high + plant.scaling.u_mean
    floor, ceiling = limits_of(plant)
    plant.reset_batch(runs)
    u = rng.uniform(low, high, (runs, count))
    at_limit = np.zeros(len(plant.outputs))
    for row in range(steps):
        change = rng.random((runs, count)) < 0.02
        u = np.where(change, rng.uniform(low, high, (runs, count)), u)
        y = plant.step_batch(row * plant.period_s, u)
        margin = 1e-6 * (ceiling - floor)
        at_limit += ((y <= floor + margin) | (y >= ceiling - margin)).sum(axis=0)
    plant.reset()
    return {
        "steps": steps * runs,
        "at_limit": _by_name(plant, at_limit / (steps * runs)),
    }


def limits_of(plant: LearnedPlant) -> tuple[Array, Array]:
    """Returns the limits that outputs are kept within, in their units."""
    parameters = plant.model.parameters
    return (
        plant.scaling.physical_y(parameters["0.low"]),
        plant.scaling.physical_y(parameters["0.high"]),
    )


def written(model: Model, test: Sequence[Segment]) -> dict[str, str]:
    """Writes the card for people.

    Args:
        model: With the figures of `measured` in its card.
        test: Data it has not seen, for the picture; may be empty.

    Returns:
        Texts by file name: ``card.md`` and, with test data, ``free-run.svg``.
    """
    card = model.card
    unit = {name: model.signals[name].unit for name in model.outputs}
    lines = [
        "# Model card",
        "",
        model.describe().splitlines()[0],
        "",
        f"* inputs: {', '.join(model.inputs)}",
        f"* outputs: {', '.join(model.outputs)}",
        f"* rows: {card['rows']['train']} to learn from, {card['rows']['test']} held "
        "back for judging",
        f"* SHA-256 of the rows: `{card['data_sha256']}`",
        f"* seed {card['seed']}, budget {card['budget_s']:g} s",
        "",
    ]
    if card.get("recordings"):
        lines += ["## Data", ""]
        lines += _table(
            ["recording", "from", "to", "rows", "SHA-256 of its content"],
            [
                [r["name"], r["start"], r["end"], str(r["rows"]), f"`{r['sha256']}`"]
                for r in card["recordings"]
            ],
        )
        lines.append("")
    if card["unusable"]:
        lines += [
            f"**Unusable: {', '.join(card['unusable'])}.** No candidate predicts them "
            "better than their mean; do not check anything about them.",
            "",
        ]
    if card["findings"]:
        lines += ["## Odd about the data", ""]
        lines += [f"* `{f['signal']}`: {f['text']}" for f in card["findings"]]
        lines.append("")
    lines += ["## Error in free run", ""]
    if card["errors"]:
        lines += _table(
            ["output", "unit", "RMSE", "NRMSE", "persistence", "train mean"],
            [
                [
                    e["output"],
                    e["unit"],
                    f"{e['rmse']:.4g}",
                    f"{e['nrmse']:.3f}",
                    f"{e['persistence']:.4g}",
                    f"{e['train_mean']:.4g}",
                ]
                for e in card["errors"]
            ],
        )
        lines += ["", "![measured and simulated](free-run.svg)", ""]
    else:
        lines += ["Nothing was held back; there is no figure from unseen data.", ""]
    lines += ["On folds left out in turn while learning, in spreads of the data: "]
    lines[-1] += ", ".join(
        f"{name} {value:.3f} ({min(folds):.2g} to {max(folds):.2g})"
        for (name, value), folds in zip(
            card["validation"].items(), card["validation_folds"].values(), strict=True
        )
    )
    lines[-1] += "; in brackets those of the folds, of all members."
    if card["plain"]:
        lines.append(
            f"Plain ARX is kept for {', '.join(card['plain'])}: all candidates together "
            "are better there by no more than chance."
        )
    lines.append("")
    if card.get("horizons"):
        lines += ["## Error and coverage of the 90 % interval by lead time", ""]
        rows = [
            [
                "the end" if h.get("end") else say_seconds(h["seconds"]),
                name,
                f"{h['rmse'][name]:.4g} {unit[name]}",
                f"{h['persistence'][name]:.4g}",
                f"{h['train_mean'][name]:.4g}",
                f"{h['covered'][name]:.0%}",
            ]
            for h in card["horizons"]
            for name in model.outputs
        ]
        lines += _table(
            ["lead", "output", "RMSE", "persistence", "train mean", "covered"], rows
        )
        lines.append("")
    interval = card["interval"]
    lines += [
        f"Intervals: {interval['kind']} ({interval['blocks']} blocks).",
        "",
        "## Answer to a step of each input",
        "",
    ]
    for text in card.get("contradictions", ()):
        lines += [f"**Wrong sign: {text}.** `playground run` refuses it.", ""]
    lines += _table(
        ["input", "output", "gain", "nine tenths after"],
        [
            [
                r["command"],
                r["output"],
                f"{r['gain']:+.3g} {unit[r['output']]} per "
                f"{model.signals[r['command']].unit}",
                "-" if r["settled_s"] is None else say_seconds(r["settled_s"]),
            ]
            for r in card["step_responses"]
        ],
    )
    lines += ["", *envelope.told(model)]
    if card.get("balances"):
        lines += ["", *balance.told(card["balances"])]
    if "fast" in card:
        lines += ["", *_about_fast(model)]
    stable = card["stability"]
    shares = ", ".join(f"{n} {v:.1%}" for n, v in stable["at_limit"].items())
    lines += [
        "",
        "## Stability",
        "",
        f"In {stable['steps']} steps of random inputs within their range the outputs "
        f"stayed bounded; time at a limit: {shares}.",
        "",
        "## Candidates",
        "",
    ]
    lines += _table(
        ["family", *model.outputs, "weight"],
        [
            [
                c["family"],
                *(f"{c['errors'][n]:.3f}" for n in model.outputs),
                ", ".join(f"{w:.2f}" for w in c["weights"].values()) or "-",
            ]
            for c in card["candidates"]
        ],
    )
    texts = {"card.md": "\n".join(lines) + "\n"}
    if test and card["errors"]:
        texts["free-run.svg"] = _picture(model, test)
    return texts


def _about_fast(model: Model) -> list[str]:
    """Says what the fast form is, what is lost by it, and which form steps."""
    fast = model.card["fast"]
    what = (
        f"the member of the family {fast['family']} alone"
        if "family" in fast
        else "a single network that was taught to answer as all members do"
    )
    runs, other = ("it", "the members") if fast["default"] else ("the members", "it")
    wanted = "false" if fast["default"] else "true"
    lines = [
        "## Fast form",
        "",
        f"The fast form is {what}. What steps, and what the other figures of this card "
        f"are of, is {runs}; `fast: {wanted}` beside the model steps {other}. On "
        "held-back rows, in spreads of the training data:",
        "",
        *_table(
            ["output", "fast form", "members", "apart"],
            [
                [
                    n,
                    *(
                        f"{fast[k][n]:.3f}"
                        for k in ("validation", "members", "distance")
                    ),
                ]
                for n in model.outputs
            ],
        ),
    ]
    if fast.get("errors"):
        lines += ["", "On the data held back at the end, RMSE in free run:", ""]
        lines += _table(
            ["output", "unit", "fast form", "members"],
            [
                [e["output"], e["unit"], f"{e['rmse']:.4g}", f"{m['rmse']:.4g}"]
                for e, m in zip(fast["errors"], fast["errors_of_members"], strict=True)
            ],
        )
    numbers = [sum(a.size for a in model.part(k).values()) for k in _parts(model)]
    lines += [
        "",
        f"It has {numbers[-1]:,} numbers; the {len(model.members)} members have "
        f"{sum(numbers[:-1]):,}.",
    ]
    return lines


def _parts(model: Model) -> list[int | str]:
    return [*range(len(model.members)), "fast"]


def _picture(model: Model, test: Sequence[Segment]) -> str:
    plant = LearnedPlant(model)
    longest = max(test, key=len)
    (said,) = free_runs(plant, [longest])
    half = plant.half_widths()[0]
    return free_run_picture(
        longest, said, half, units=[model.signals[n].unit for n in model.outputs]
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def _rms(wrong: Array) -> Array:
    return np.asarray(np.sqrt(np.mean(wrong**2, axis=0)))


def _by_name(plant: LearnedPlant, values: Array) -> Mapping[str, float]:
    return dict(zip(plant.outputs, values.tolist(), strict=True))
