"""Following a plant through a recording, window by window, and saying when it drifts.

Each window is fitted by itself. What all earlier ones said together, forgotten a
little from window to window, is compared with it before it joins them; a window
that disagrees by more than chance allows is a drift.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from playground.errors import ExitCode, NotEnoughData, PlaygroundError
from playground.estimate.estimate import Estimate, Span, estimate
from playground.quantity import say_seconds
from playground.recording import Recording

FALSE_ALARM = 0.001
"""Chance that a run over a plant that stays as it is raises one alarm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """A window that disagrees with what was known before it.

    Attributes:
        parameter: Which.
        before: What was known, and ...
        now: ... what the window says.
        deviations: Distance in standard deviations of the difference.
    """

    parameter: str
    before: float
    now: float
    deviations: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One window of a recording.

    Attributes:
        recording: Number of the recording, from 0.
        start_s, end_s: Where in it, seconds from its start; what is judged.
        estimate: From the window alone.
        running: Values after it, from all windows so far, by parameter.
        deviation: One standard deviation of each, relative or as in `Estimated`.
        drifts: Parameters that disagree with what was known before.
    """

    recording: int
    start_s: float
    end_s: float
    estimate: Estimate
    running: Mapping[str, float]
    deviation: Mapping[str, float]
    drifts: tuple[Drift, ...]


def exit_code_of(windows: Sequence[Window]) -> ExitCode:
    """Returns 1 where a plant drifted, 3 where no window could tell, else 0."""
    if any(window.drifts for window in windows):
        return ExitCode.NOT_SO
    told = any(
        one.status == "identified" for w in windows for one in w.estimate.parameters
    )
    return ExitCode.GOOD if told else ExitCode.UNDECIDED


def follow(
    recordings: Sequence[Recording],
    *,
    window_s: float,
    forgetting: float = 0.01,
    tolerance: float = 0.02,
    warm_up_s: float = 600.0,
    run_in_s: float = 10_800.0,
    on_window: Callable[[Window], None] | None = None,
    **settings: Any,
) -> list[Window]:
    """Estimates window by window.

    Args:
        recordings: In order of time.
        window_s: Seconds of a window.
        forgetting: Relative deviation added to what is known, per window: how fast
            a sound plant may change.
        tolerance: A relative change below this is no drift, however sure.
        warm_up_s: Beginning of each recording that is in no window.
        run_in_s: How long before a window its simulation begins, at most: no one
            knows the temperature of all parts in the middle of things, and after
            three hours it matters no more.
        on_window: Is told each window as it is done.
        settings: Further arguments of `estimate`, among them ``plant`` and
            ``parameters``.

    Raises:
        PlaygroundError: The window is not above 0, or the tolerance below it.
        NotEnoughData: No recording is as long as a window.
    """
    if not window_s > 0:
        raise PlaygroundError(
            f"A window lasts {say_seconds(window_s)}: it has to be above 0.",
            "write how long one is, for instance --online 30min",
        )
    if not tolerance >= 0:
        raise PlaygroundError(
            f"The tolerance is {tolerance:g}: it cannot be below 0.",
            "write the relative change that is no drift, for instance --tolerance 0.02",
        )
    plan = _plan(recordings, window_s, warm_up_s, run_in_s)
    if not plan:
        raise NotEnoughData(
            f"No recording is as long as a window of {say_seconds(window_s)} and its "
            f"warm-up of {say_seconds(warm_up_s)}.",
            "take a shorter --online, or a longer recording",
        )
    windows: list[Window] = []
    mean: dict[str, float] = {}
    variance: dict[str, float] = {}
    limit = None
    start = dict(settings.pop("settings", None) or {})
    for number, from_ns, begin_ns, end_ns in plan:
        recording = recordings[number]
        found = estimate(
            [Span(recording=recording, start_ns=from_ns, end_ns=end_ns)],
            settings={**start, **mean},
            warm_up_s=(begin_ns - from_ns) / 1e9,
            **settings,
        )
        if limit is None:
            count = len(plan) * len(found.parameters)
            limit = float(norm.isf(FALSE_ALARM / 2.0 / count))
        drifts = []
        for one in found.parameters:
            if one.status != "identified":
                continue
            scale = _scale(one.unit, one.value)
            here = one.deviation**2
            if one.name not in mean:
                mean[one.name], variance[one.name] = one.value, here
                continue
            old = variance[one.name] + forgetting**2
            gap = (one.value - mean[one.name]) / scale
            apart = abs(gap) / np.sqrt(old + here)
            if apart > limit and abs(gap) > tolerance:
                drifts.append(
                    Drift(
                        parameter=one.name,
                        before=mean[one.name],
                        now=one.value,
                        deviations=float(apart),
                    )
                )
                # What was known is of another plant.
                mean[one.name], variance[one.name] = one.value, here
                continue
            gain = old / (old + here)
            mean[one.name] += float(gain * gap * scale)
            variance[one.name] = float((1.0 - gain) * old)
        origin = recording.start_ns
        done = Window(
            recording=number,
            start_s=(begin_ns - origin) / 1e9,
            end_s=(end_ns - origin) / 1e9,
            estimate=found,
            running=dict(mean),
            deviation={name: float(np.sqrt(v)) for name, v in variance.items()},
            drifts=tuple(drifts),
        )
        windows.append(done)
        if on_window is not None:
            on_window(done)
    return windows


def _scale(unit: str, value: float) -> float:
    """Returns in what a deviation is counted: kelvin, or the value itself."""
    return 1.0 if unit == "degC" or value == 0.0 else abs(value)


def _plan(
    recordings: Sequence[Recording], window_s: float, warm_up_s: float, run_in_s: float
) -> list[tuple[int, int, int, int]]:
    """Returns recording, start of simulation, and begin and end of each window."""
    plan = []
    window, warm_up, run_in = (
        round(one * 1e9) for one in (window_s, warm_up_s, max(run_in_s, warm_up_s))
    )
    for number, recording in enumerate(recordings):
        first = recording.start_ns
        begin = first + warm_up
        while begin + window <= recording.end_ns + 1:
            plan.append((number, max(first, begin - run_in), begin, begin + window))
            begin += window
    return plan
