"""The tasks on which learned plants are judged, and the table of how they did.

``python tests/benchmarks/plants_table.py [TASK …] [--budget 2min]`` prints, per
task and output, our free-run NRMSE beside persistence, train mean and the best
figure that was known before; coverage of the 90 % interval by lead time; and how
fast the plant steps. No row of the test part takes part in any choice.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from playground.learn import OutputError, judge, learn_segments
from playground.learn.candidates import Candidate
from playground.learn.dataset import Segment, Series, ordered, segments_of, unbroken
from playground.learn.learn import judged as completed
from playground.model import save_model
from playground.plants.learned import LearnedPlant
from playground.quantity import seconds
from playground.signals import Signal, Signals

Array = npt.NDArray[np.float64]

DATA = Path(
    os.environ.get(
        "PLAYGROUND_DATA",
        Path(__file__).resolve().parents[3] / "shared" / "data",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A plant to learn and what it is judged by.

    Attributes:
        name: Short name.
        signals: Inputs and outputs.
        train: What may be learned from.
        test: What is judged: one list per row of the table.
        must: NRMSE that has to be reached, per output of ``test``.
        aim: NRMSE aimed for.
        known: Best figure of a single simple method so far.
    """

    name: str
    signals: Signals
    train: list[Segment]
    test: dict[str, list[Segment]]
    must: tuple[float | None, ...]
    aim: tuple[float | None, ...]
    known: tuple[float | None, ...]


def signals_for(
    inputs: Mapping[str, str], outputs: Mapping[str, str], *, commands: Sequence[str]
) -> Signals:
    """Makes signals from names and units; topics are the names."""
    return Signals(
        [
            Signal(
                name=name,
                topic=name,
                unit=unit,
                role="command" if name in commands else "disturbance",
            )
            for name, unit in inputs.items()
        ]
        + [
            Signal(name=name, topic=name, unit=unit, role="measurement")
            for name, unit in outputs.items()
        ]
    )


def columns(path: Path) -> dict[str, Array]:
    """Reads the numeric columns of a table."""
    table = pq.read_table(path)
    return {
        name: np.asarray(table.column(name).to_numpy(zero_copy_only=False))
        for name in table.column_names
    }


def means(t: Array, values: Array, width: float) -> Array:
    """Averages columns over ``[k width, (k + 1) width)``; incomplete ends are left."""
    place = np.floor((t - t[0]) / width + 1e-9).astype(int)
    count = np.bincount(place)
    total = np.stack([np.bincount(place, weights=v) for v in values.T], axis=1)
    return np.asarray(total / count[:, None])


def tclab() -> Task:
    """Two heaters, two temperatures; extra: closed loop outside the range."""
    signals = signals_for(
        {"Q1": "percent", "Q2": "percent"},
        {"T1": "degC", "T2": "degC"},
        commands=("Q1", "Q2"),
    )

    def segment(name: str) -> Segment:
        c = columns(DATA / "tclab_mimo" / f"{name}.parquet")
        rows = np.stack([c[n] for n in ("Q1", "Q2", "T1", "T2")], axis=1)
        rows = means(c["t_s"], rows, 5.0)
        return Segment(
            t0=0.0,
            dt=5.0,
            u=rows[:, :2],
            y=rows[:, 2:],
            inputs=("Q1", "Q2"),
            outputs=("T1", "T2"),
        )

    prbs = segment("prbs")
    cut = int(len(prbs) * 0.65)
    return Task(
        name="tclab",
        signals=signals,
        train=[prbs.part(0, cut)],
        test={
            "prbs": [prbs.part(cut, len(prbs))],
            "closed loop 0": [segment("closed_loop_0")],
            "closed loop 4": [segment("closed_loop_4")],
        },
        must=(0.33, 0.35),
        aim=(0.23, 0.24),
        known=(0.331, 0.350),
    )


def nist() -> Task:
    """An air-source heat pump in a climate chamber, whole days at 1 min."""
    inputs = {
        "stg1": "1",
        "stg2": "1",
        "oa_temp": "degF",
        "zn_temp": "degF",
        "zn_temp_dp": "degF",
        "oa_temp_dp": "degF",
    }
    outputs = {"sa_temp": "degF", "od_power": "W", "id_power": "W", "ref_flow": "1"}
    c = columns(DATA / "nist_ashp_hil" / "runs.parquet")
    runs = np.asarray(c.pop("run")).astype(str)
    train: list[Segment] = []
    test: list[Segment] = []
    for run in np.unique(runs):
        rows = {
            name: c[name][runs == run].astype(float)
            for name in ("stg", *list(inputs)[2:], *outputs)
        }
        if run == "Buffalo/Shift/TES":
            rows["id_power"], rows["od_power"] = rows["od_power"], rows["id_power"]
        rows["stg1"] = (rows["stg"] >= 1).astype(float)
        rows["stg2"] = (rows["stg"] >= 2).astype(float)
        u = np.stack([rows[n] for n in inputs], axis=1)
        y = np.stack([rows[n] for n in outputs], axis=1)
        if not np.isfinite(u).all() or not np.isfinite(y).all():
            continue
        if u.min() < -9000 or y.min() < -9000:
            continue
        segment = Segment(
            t0=0.0, dt=60.0, u=u, y=y, inputs=tuple(inputs), outputs=tuple(outputs)
        )
        (test if run.startswith("NewYork") else train).append(segment)
    return Task(
        name="nist",
        signals=signals_for(inputs, outputs, commands=("stg1", "stg2")),
        train=train,
        test={"New York": test},
        must=(0.17, 0.36, 0.18, 0.51),
        aim=(0.15, 0.33, 0.165, 0.48),
        known=(0.162, 0.354, 0.178, 0.503),
    )


RSE_INPUTS = {
    "f_P901": "Hz",
    "theta_FCV701": "1",
    "theta_FCV711": "1",
    "theta_FCV721": "1",
    "theta_FCV731": "1",
    "theta_FCV101": "1",
    "theta_FCV401": "1",
    "theta_TCV701": "1",
    "TT702": "degC",
    "TT703": "degC",
    "FT703": "m^3/h",
}
RSE_OUTPUTS = {"FT701": "m^3/h", "TT701": "degC", "TT704": "degC"}


def rse() -> Task:
    """A substation of a district heating test facility."""
    train: list[Segment] = []
    test: list[Segment] = []
    for path in sorted((DATA / "rse_dhtf").glob("*.parquet")):
        c = columns(path)
        absent = np.zeros(len(c["t_s"]))
        rows = np.stack(
            [c.get(n, absent) for n in (*RSE_INPUTS, *RSE_OUTPUTS)], axis=1
        ).astype(float)
        rows = means(c["t_s"], rows, 5.0)
        n = len(RSE_INPUTS)
        found = unbroken(
            5.0 * np.arange(len(rows)),
            rows[:, :n],
            rows[:, n:],
            inputs=tuple(RSE_INPUTS),
            outputs=tuple(RSE_OUTPUTS),
        )
        public = path.stem in ("1701_Test2", "1704_Test1", "2401_Test2")
        (test if public else train).extend(found)
    commands = tuple(n for n in RSE_INPUTS if n.startswith(("f_", "theta")))
    return Task(
        name="rse",
        signals=signals_for(RSE_INPUTS, RSE_OUTPUTS, commands=commands),
        train=train,
        test={"three experiments": test},
        must=(0.42, 0.26, 0.17),
        aim=(0.35, 0.19, 0.15),
        known=(0.417, 0.271, 0.162),
    )


def altherma() -> Task:
    """A domestic heat pump as Home Assistant saw it: messages on change."""
    inputs = {
        "Power In": ("power_in", "W"),
        "Flow Rate": ("flow_rate", "l/min"),
        "Three Way Valve": ("three_way_valve", "1"),
        "Defrost Operation": ("defrost", "1"),
        "Outdoor Temp": ("outdoor", "degC"),
        "Indoor Temp": ("indoor", "degC"),
    }
    outputs = {
        "Flow Temp": ("flow", "degC"),
        "Return Temp": ("return_", "degC"),
        "DHW Temp": ("dhw", "degC"),
    }
    table = pq.read_table(DATA / "altherma_ha" / "messages.parquet").to_pydict()
    named = {**inputs, **outputs}
    said: dict[str, tuple[list[float], list[float]]] = {n: ([], []) for n in named}
    for when, signal, number, text in zip(
        table["time"],
        table["signal"],
        table["value_num"],
        table["value_text"],
        strict=True,
    ):
        if signal in said:
            value = {"ON": 1.0, "OFF": 0.0}.get(text) if number is None else number
            if value is not None:
                said[signal][0].append(when.timestamp())
                said[signal][1].append(value)
    series: dict[str, Series] = {
        named[n][0]: ordered(times, values) for n, (times, values) in said.items()
    }
    signals = signals_for(
        dict(inputs.values()),
        dict(outputs.values()),
        commands=("power_in", "flow_rate", "three_way_valve", "defrost"),
    )
    forever = {name: float("inf") for name in signals}
    segments = segments_of(
        series,
        signals,
        period_s=30.0,
        aggregate="last",
        max_age_s={**forever, "flow": 1800.0},
    )
    midnight = 1728691200.0  # 2024-10-12 00:00 UTC
    return Task(
        name="altherma",
        signals=signals,
        train=[s for s in segments if s.t0 < midnight],
        test={"12-13 Oct": [s for s in segments if s.t0 >= midnight]},
        must=(0.36, 0.42, None),
        aim=(0.33, 0.38, None),
        known=(0.358, 0.417, 1.85),
    )


TASKS = {"tclab": tclab, "nist": nist, "rse": rse, "altherma": altherma}


Table = dict[str, tuple[list[OutputError], float, list[float]]]


def judged(plant: LearnedPlant, task: Task) -> Table:
    """Runs a plant free over each test set of a task.

    Returns:
        Per test set the errors, the share of steps outside the envelope, and
        the share of rows inside the 90 % interval, per output.
    """
    answers = {}
    for name, segments in task.test.items():
        errors = judge(plant, segments)
        outside: list[float] = []
        inside: list[Array] = []
        history = plant.model.history
        for segment in segments:
            plant.begin(segment.u[None, :history], segment.y[None, :history])
            for row in range(history, len(segment)):
                now = (row - history + 1) * segment.dt
                said = plant.step_batch(now, segment.u[None, row])
                inside.append(
                    np.abs(said - segment.y[row])[0] <= plant.half_widths()[0]
                )
            seen = plant.departures
            outside.append(seen.outside / seen.steps)
        covered = np.mean(inside, axis=0).tolist()
        answers[name] = (errors, float(np.mean(outside)), covered)
    return answers


def print_task(task: Task, plant: LearnedPlant, seconds: float) -> Table:
    """Prints the rows of a task, and returns them; see `judged`."""
    families = ", ".join(str(m["family"]) for m in plant.model.members)
    print(f"\n{task.name}: learned in {seconds:.0f} s of wall time: {families}")
    if plant.unusable:
        print(f"  marked unusable: {', '.join(plant.unusable)}")
    print(
        f"  {'test set':<18} {'output':<10} {'NRMSE':>6} {'must':>6} {'aim':>6} "
        f"{'known':>6} {'persist':>8} {'mean':>6} {'× card':>6} {'covered':>8} {'outside':>8}"
    )

    def figure(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    main = next(iter(task.test))
    about = plant.model.card.get("fast", {})
    if about:
        what = about.get("family", "a taught network")
        print(f"  fast form: {what}; it steps by default: {about['default']}")
        for which, key, held in (
            ("fast form", "errors", "validation"),
            ("members", "errors_of_members", "members"),
        ):
            said = ", ".join(
                f"{e['output']} {e['nrmse']:.3f} (held-back folds "
                f"{about[held][e['output']]:.3f})"
                for e in about[key]
            )
            print(f"  {which} on the first test set: {said}")
    table = judged(plant, task)
    # What the card says without any test data: errors on blocks left out.
    said_on_card = list(plant.model.card["validation"].values())
    promised = np.array(said_on_card) * plant.scaling.y_std
    for name, (errors, outside, covered) in table.items():
        for k, e in enumerate(errors):
            limits = [
                row[k] if name == main and k < len(row) else None
                for row in (task.must, task.aim, task.known)
            ]
            print(
                f"  {name:<18} {e.output:<10} {e.nrmse:>6.3f} "
                + " ".join(f"{figure(v):>6}" for v in limits)
                + f" {e.persistence / e.spread:>8.3f} {e.train_mean / e.spread:>6.3f} "
                f"{e.rmse / promised[k]:>6.2f} "
                f"{covered[k]:>8.0%} {outside:>8.0%}"
            )
    for lead in plant.model.card["horizons"]:
        shares = ", ".join(f"{n} {v:.0%}" for n, v in lead["covered"].items())
        after = "the end" if lead.get("end") else f"{lead['seconds']:g} s"
        print(f"  90 % interval at {after}: {shares}")
    print(f"  steps/s: {speed(plant)}")
    if about:
        other = "the members" if plant.fast else "the fast form"
        plant = LearnedPlant(plant.model, fast=not plant.fast)
        print(f"  steps/s of {other}: {speed(plant)}")
    return table


def speed(plant: LearnedPlant) -> str:
    """Measures steps per second of processor time, one run and a thousand at once."""
    inputs = {name: plant.signals[name].initial or 0.0 for name in plant.inputs}
    u = np.repeat([list(inputs.values())], 1000, axis=0)

    def rate(steps: int, step: Callable[[], object]) -> float:
        best = float("inf")
        for _ in range(5):
            start = time.process_time()
            for _ in range(steps):
                step()
            best = min(best, time.process_time() - start)
        return steps / best

    plant.reset()
    single = rate(1000, lambda: plant.step(0.0, inputs))
    plant.reset_batch(1000)
    batch = 1000 * rate(5, lambda: plant.step_batch(0.0, u))
    plant.reset()
    return f"{single:,.0f} single, {batch:,.0f} in batches of 1,000"


def main() -> None:
    """Learns the tasks that were named, or all, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--budget", default="2min")
    parser.add_argument("--jobs", type=int, default=None)
    parser.add_argument("--save", type=Path, default=None, help="write models here")
    parser.add_argument("--verbose", action="store_true", help="show candidates")
    options = parser.parse_args()
    for name in options.tasks:
        if name not in TASKS:
            parser.error(
                f"there is no task {name!r}; write some of: {', '.join(TASKS)}"
            )
    if not DATA.is_dir():
        parser.error(
            f"there are no data in {DATA}; PLAYGROUND_DATA names the folder that holds "
            "tclab_mimo, nist_ashp_hil, rse_dhtf and altherma_ha"
        )
    for name in options.tasks or TASKS:
        task = TASKS[name]()
        start = time.perf_counter()

        def progress(done: int, total: int, last: Candidate) -> None:
            if options.verbose:
                print(
                    f"  {done}/{total} {last.family:<12} {last.seconds:6.1f} s "
                    f"{np.round(last.errors, 3)}",
                    file=sys.stderr,
                )

        model = learn_segments(
            task.train,
            task.signals,
            holdout=0.0,
            budget_s=seconds(options.budget),
            jobs=options.jobs,
            progress=progress,
        )
        # As `learn` does with what it holds back: what is worse there than its
        # mean is marked unusable, and nothing else is decided by it.
        model = completed(model, next(iter(task.test.values())))
        took = time.perf_counter() - start
        if options.save is not None:
            save_model(model, options.save / name, overwrite=True)
        print_task(task, LearnedPlant(model), took)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
