"""From recordings to parameters: what they are, how sure that is, what stays open."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.linalg import qr
from scipy.stats import t as student

from playground.errors import ExitCode, NotEnoughData, PlaygroundError, closest
from playground.estimate.fit import Found, Misfit, search
from playground.estimate.observed import Observed, choose_outputs, observe
from playground.estimate.simulation import Simulation
from playground.estimate.unknowns import (
    Prior,
    Unknown,
    defaults_of,
    full_name,
    make_unknown,
    read_settings,
)
from playground.plants import plant_class
from playground.recording import Recording
from playground.signals import Signals

Array = npt.NDArray[np.float64]
Status = Literal["identified", "prior", "at bound", "not identified"]
CONFIDENCE = 0.95
OPEN = 0.25
"""A parameter whose deviation is above a quarter (2.5 K for a temperature), so that
its interval spans more than half of it to both sides, counts as not identified."""
_STRONG = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimated:
    """What is known of a parameter now.

    Attributes:
        name: Keyword of the plant's class.
        unit: Its unit.
        value: The estimate.
        low, high: Ends of the interval of 95 % confidence; from the prior too,
            where there is one.
        deviation: One standard deviation, relative to the value; in ``unit`` where
            the value is a temperature or may be negative.
        start: Where the search began.
        status: ``prior``: only what was known before says anything. ``at bound``:
            the data would go on. ``not identified``: the data cannot tell.
    """

    name: str
    unit: str
    value: float
    low: float
    high: float
    deviation: float
    start: float
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """A way in which parameters can move together and no signal would notice.

    Attributes:
        powers: How far each goes along; the largest first.
        text: The same for people.
    """

    powers: Mapping[str, float]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Parameters fitted to recordings.

    Attributes:
        plant: Name of the plant, as a scenario writes it.
        parameters: In the order asked for.
        correlation: Between them, shape (p, p).
        covariance: In coordinates of the search (logarithms; tens of kelvin).
        directions: What the data cannot tell, singular direction by direction.
        misfits: How well each signal is explained.
        settings: Parameters that were given, not fitted.
        starts: Start values found per recording, which are no result.
        notes: What a person should know.
        duration_s: Seconds of plant time compared.
        recordings: How many.
        simulations: How many it took.
        blocks: Stretches of time that count as independent.
        converged: The search came to an end by itself.
    """

    plant: str
    parameters: tuple[Estimated, ...]
    correlation: Array
    covariance: Array
    directions: tuple[Direction, ...]
    misfits: tuple[Misfit, ...]
    settings: Mapping[str, Any]
    starts: tuple[Mapping[str, float], ...]
    notes: tuple[str, ...]
    duration_s: float
    recordings: int
    simulations: int
    blocks: int
    converged: bool

    def __getitem__(self, name: str) -> Estimated:
        """Returns a parameter by its keyword."""
        for one in self.parameters:
            if one.name == name:
                return one
        known = [one.name for one in self.parameters]
        raise PlaygroundError(
            f"{name!r} was not estimated.{closest(name, known)}",
            f"estimated: {', '.join(known)}",
        )

    @property
    def exit_code(self) -> ExitCode:
        """3 where the data cannot tell a parameter, else 0."""
        undecided = not self.converged or any(
            one.status in ("not identified", "at bound") for one in self.parameters
        )
        return ExitCode.UNDECIDED if undecided else ExitCode.GOOD

    @property
    def values(self) -> dict[str, float]:
        """Every parameter's estimate, by keyword."""
        return {one.name: one.value for one in self.parameters}

    def plain(self) -> dict[str, Any]:
        """Returns it as plain values, for JSON."""
        return {
            "plant": self.plant,
            "parameters": [dataclasses.asdict(one) for one in self.parameters],
            "correlation": self.correlation.round(4).tolist(),
            "not_identified": [
                {"powers": dict(d.powers), "text": d.text} for d in self.directions
            ],
            "signals": [dataclasses.asdict(one) for one in self.misfits],
            "settings": dict(self.settings),
            "starts": [dict(one) for one in self.starts],
            "notes": list(self.notes),
            "duration_s": self.duration_s,
            "simulations": self.simulations,
            "independent_blocks": self.blocks,
            "converged": self.converged,
        }

    def strong_correlations(self) -> list[tuple[str, str, float]]:
        """Returns pairs of parameters whose estimates hang together by 0.9 or more."""
        found = []
        for i, one in enumerate(self.parameters):
            for k in range(i + 1, len(self.parameters)):
                if abs(self.correlation[i, k]) >= _STRONG:
                    other = self.parameters[k].name
                    found.append((one.name, other, float(self.correlation[i, k])))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A part of a recording: nanoseconds since 1970 UTC, the end not included."""

    recording: Recording
    start_ns: int | None = None
    end_ns: int | None = None


def estimate(
    recordings: Sequence[Recording | Span],
    *,
    plant: str,
    parameters: Sequence[str],
    signals: Signals | None = None,
    settings: Mapping[str, Any] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    priors: Mapping[str, Prior] | None = None,
    reliability: Mapping[str, float] | None = None,
    outputs: Sequence[str] | None = None,
    inputs_from: Mapping[str, str] | None = None,
    warm_up_s: float = 600.0,
    progress: Callable[[str], None] | None = None,
) -> Estimate:
    """Fits parameters of a physical plant to recordings.

    The plant is simulated without noise under the recorded commands, from the start
    of each recording to its end, and compared with each reading. Parameters called
    ``start_degc`` or ``…_start_degc`` are found for each recording by itself,
    unless ``settings`` or ``parameters`` name them, and the warm-up is not judged:
    no recording says the temperature of everything at its start.

    Args:
        recordings: What was recorded of one plant.
        plant: Built-in plant, or ``module:Class``.
        parameters: Its keywords to find, with or without their unit.
        signals: What the topics mean; by default what the plant itself says. Names
            are those of the plant.
        settings: Parameters that differ from the defaults. One of ``parameters``
            begins there.
        bounds: Lowest and highest value, by parameter.
        priors: What was known before, by parameter.
        reliability: Factor on the weight of a signal; 0 leaves it out.
        outputs: Signals to compare; None: all that plant and recording share.
        inputs_from: Signals that stand in for inputs that were not recorded.
        warm_up_s: Beginning of each recording that is not judged.
        progress: Is told what is being done.

    Raises:
        PlaygroundError: A parameter or signal that is not there, bounds that
            exclude the start, a recording that lacks what is needed.
        NotEnoughData: Too short, or nothing moves.
    """
    target = plant_class(plant)
    if not recordings:
        raise NotEnoughData("No recording was given.", "name at least one")
    settings = read_settings(target, settings or {})
    spans = [r if isinstance(r, Span) else Span(recording=r) for r in recordings]
    _check_settings(target, settings)
    unknowns = _unknowns(target, parameters, settings, bounds or {}, priors or {})
    names = {unknown.name for unknown in unknowns}
    fixed = {name: value for name, value in settings.items() if name not in names}
    example = target(**fixed)
    signals = example.signals if signals is None else signals
    reliability = dict(reliability or {})
    for name, factor in reliability.items():
        signals.need(name)
        if not factor >= 0.0 or not math.isfinite(factor):
            raise PlaygroundError(
                f"The weight of {name} is {factor:g}: it cannot be below 0.",
                f"write {name}=0.5 to trust it half as much, 0 to leave it out",
            )
    chosen, notes = choose_outputs(
        [span.recording for span in spans], example.signals, signals, outputs
    )
    chosen = tuple(name for name in chosen if reliability.get(name, 1.0) > 0.0)
    if not chosen:
        raise NotEnoughData("Every signal has the weight 0.", "trust at least one")
    observed = []
    for span in spans:
        one, said = observe(
            span.recording,
            example.signals,
            signals,
            period_s=example.period_s,
            outputs=chosen,
            inputs_from=inputs_from or {},
            warm_up_s=warm_up_s,
            start_ns=span.start_ns,
            end_ns=span.end_ns,
        )
        observed.append(one)
        notes.extend(note for note in said if note not in notes)
    unknowns += _starts(target, {*names, *settings}, observed, example.signals)
    _check_amount(observed, chosen, len(unknowns))
    simulation = Simulation(target, fixed, unknowns, observed, chosen)
    found = search(simulation, signals, reliability=reliability, progress=progress)
    duration_s = sum(one.rows - one.first_row for one in observed) * example.period_s
    return _result(plant, simulation, found, fixed, notes, duration_s)


def _check_settings(target: Any, settings: Mapping[str, Any]) -> None:
    """Has the plant judge its settings before a search begins at one of them.

    Raises:
        PlaygroundError: It refuses one.
    """
    try:
        target(**settings)
    except PlaygroundError as error:
        raise PlaygroundError(
            error.problem,
            "give another value (--set NAME=VALUE, or in the plant file), or leave it "
            "out: then the plant's own value is its start, or holds",
        ) from error


def _unknowns(
    target: Any,
    parameters: Sequence[str],
    settings: Mapping[str, Any],
    bounds: Mapping[str, tuple[float, float]],
    priors: Mapping[str, Prior],
) -> list[Unknown]:
    names = list(dict.fromkeys(full_name(target, name) for name in parameters))
    if not names:
        raise PlaygroundError(
            "No parameter is to be estimated.", "name some with --parameters"
        )
    bounds = {full_name(target, name): pair for name, pair in bounds.items()}
    priors = {full_name(target, name): prior for name, prior in priors.items()}
    for what, given in (("bounds", bounds), ("a prior", priors)):
        for name in given:
            if name not in names:
                raise PlaygroundError(
                    f"There are {what} for {name}, which is not estimated."
                    f"{closest(name, names)}",
                    f"add it to --parameters, or leave out {what}",
                )
    return [
        make_unknown(
            target,
            name,
            settings=settings,
            bounds=bounds.get(name),
            prior=priors.get(name),
        )
        for name in names
    ]


def _starts(
    target: Any,
    known: Collection[str],
    observed: Sequence[Observed],
    plant_signals: Signals,
) -> list[Unknown]:
    """Returns the temperatures at the start of each recording that nobody gave."""
    found = []
    for k, one in enumerate(observed):
        # The middle of what was read first is a fair guess.
        first = [
            float(values[0])
            for name, (_, values) in one.samples.items()
            if len(values) and plant_signals[name].unit == "degC"
        ]
        for name in defaults_of(target):
            if name in known or not (
                name == "start_degc" or name.endswith("_start_degc")
            ):
                continue
            guess = {name: float(np.median(first))} if first else {}
            found.append(make_unknown(target, name, settings=guess, recording=k))
    return found


def _check_amount(
    observed: Sequence[Observed], outputs: Sequence[str], unknowns: int
) -> None:
    count = sum(len(one.samples[name][0]) for one in observed for name in outputs)
    needed = 10 * unknowns
    if count < needed:
        raise NotEnoughData(
            f"{count} readings after the warm-up cannot settle {unknowns} unknowns "
            f"(start values included); at least {needed} are needed.",
            "take longer recordings, more signals or a shorter --warm-up",
        )


def _result(
    plant: str,
    simulation: Simulation,
    found: Found,
    fixed: Mapping[str, Any],
    notes: list[str],
    duration_s: float,
) -> Estimate:
    ours = [i for i, u in enumerate(simulation.unknowns) if u.recording is None]
    unknowns = [simulation.unknowns[i] for i in ours]
    z = found.z[ours]
    covariance = found.spread.covariance[np.ix_(ours, ours)]
    from_data = found.spread.from_data[np.ix_(ours, ours)]
    quantile = float(
        student.ppf(0.5 + CONFIDENCE / 2.0, max(found.spread.blocks - 1, 2))
    )
    parameters = []
    for i, unknown in enumerate(unknowns):
        deviation = math.sqrt(covariance[i, i])
        low, high = unknown.bounds
        status: Status = "identified"
        if math.sqrt(from_data[i, i]) > OPEN:
            status = "not identified" if unknown.prior is None else "prior"
        elif min(z[i] - low, high - z[i]) < 1e-3:
            status = "at bound"
        value = unknown.value(float(z[i]))
        parameters.append(
            Estimated(
                name=unknown.name,
                unit=unknown.unit,
                value=value,
                low=unknown.value(float(z[i] - quantile * deviation)),
                high=unknown.value(float(z[i] + quantile * deviation)),
                deviation=deviation if unknown.positive else 10.0 * deviation,
                start=unknown.start,
                status=status,
            )
        )
    deviations = np.sqrt(np.diag(covariance))
    notes = notes + _doubts(found, duration_s)
    return Estimate(
        plant=plant,
        parameters=tuple(parameters),
        correlation=covariance / np.outer(deviations, deviations),
        covariance=covariance,
        directions=_directions(from_data, unknowns),
        misfits=found.misfits,
        settings={k: v for k, v in fixed.items() if k != "noise"},
        starts=tuple(
            {
                u.name: u.value(float(found.z[i]))
                for i, u in enumerate(simulation.unknowns)
                if u.recording == k
            }
            for k in range(len(simulation.observed))
        ),
        notes=tuple(notes),
        duration_s=duration_s,
        recordings=len(simulation.observed),
        simulations=simulation.runs,
        blocks=found.spread.blocks,
        converged=found.converged,
    )


def _doubts(found: Found, duration_s: float) -> list[str]:
    notes = [
        f"{one.output}: the plant is off by {one.rmse / one.noise:.1f} times the "
        f"readings' scatter (RMSE {one.rmse:.3g} {one.unit})"
        for one in found.misfits
        if one.share > 0.01 and one.rmse > 3.0 * one.noise
    ]
    if found.spread.blocks < 20:
        notes.append(
            f"residuals last so long that {duration_s / 3600:.2g} h hold only "
            f"{found.spread.blocks} independent stretches: take the intervals as a guess"
        )
    if not found.converged:
        notes.append("the search did not come to an end: begin nearer, or add priors")
    return notes


def _directions(from_data: Array, unknowns: Sequence[Unknown]) -> tuple[Direction, ...]:
    values, vectors = np.linalg.eigh(from_data)
    open_ = vectors[:, np.sqrt(np.maximum(values, 0.0)) > OPEN]
    count = open_.shape[1]
    if not count:
        return ()
    # Any mixture of open directions is open. One parameter leads each, and leads
    # no other, so that what stands alone is named alone.
    _, _, order = qr(open_.T, pivoting=True)
    leaders = order[:count]
    basis = open_ @ np.linalg.inv(open_[leaders])
    found = []
    for k in range(count):
        powers = {
            unknowns[i].name: float(basis[i, k])
            for i in np.argsort(-np.abs(basis[:, k]), kind="stable")
            if abs(basis[i, k]) > 0.1
        }
        found.append(Direction(powers=powers, text=_describe(powers)))
    return tuple(found)


def _describe(powers: Mapping[str, float]) -> str:
    names = list(powers)
    if len(names) == 1:
        return f"{names[0]}: the data say nothing of it"
    if len(names) == 2:
        a, b = names
        ratio = powers[b] / powers[a]
        if abs(ratio + 1.0) < 0.05:
            return f"{a} and {b}: the data tell only their product"
        if abs(ratio - 1.0) < 0.05:
            return f"{a} and {b}: the data tell only their ratio"
    terms = " · ".join(f"{name}^{power:.2g}" for name, power in powers.items())
    return f"{', '.join(names)}: they can move together along {terms} unnoticed"
