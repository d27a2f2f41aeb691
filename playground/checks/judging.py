"""How checks on signals are judged: verdict, margin and worst instant.

Each function returns what judges a trajectory that holds its values between messages.
The margin is the robustness of signal temporal logic (Donzé and Maler, 2010).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from playground.arrays import Array, np, npt
from playground.checks.finding import Finding, Sightings
from playground.expression import Expression, Truth
from playground.quantity import say_seconds
from playground.trajectory import Trajectory

_NEVER_KNOWN = Finding("untested", detail="its signals were never known")


def _truth(expression: Expression, trajectory: Trajectory) -> Truth:
    return expression.evaluate(trajectory.times_s, trajectory.values)


def _runs(truth: Truth, trajectory: Trajectory) -> list[tuple[float, float]]:
    """Returns the spans ``[from, to)`` in which something is known to be true."""
    held = np.concatenate([[False], truth.known & truth.true, [False]])
    edges = np.flatnonzero(held[1:] != held[:-1])
    times = np.append(trajectory.times_s, trajectory.end_s)[edges]
    return list(zip(times[0::2].tolist(), times[1::2].tolist(), strict=True))


def _rows(trajectory: Trajectory, start_s: float, end_s: float) -> slice:
    """Returns the rows whose values hold somewhere in ``[start_s, end_s]``."""
    times = trajectory.times_s
    first = max(int(np.searchsorted(times, start_s, side="right")) - 1, 0)
    return slice(first, int(np.searchsorted(times, end_s, side="right")))


def always(
    expression: Expression,
    guard: Expression | None,
    for_s: float,
    *,
    until: Expression | None,
    negate: bool,
) -> Callable[[Trajectory, Sightings | None], Finding]:
    """Returns what judges ``always``; ``never`` where ``negate`` is set."""

    def judge(trajectory: Trajectory, _: Sightings | None) -> Finding:
        truth = _truth(expression, trajectory)
        truth = ~truth if negate else truth
        counted = truth.known.copy()
        instants = trajectory.times_s
        if guard is not None:
            under_guard = np.zeros(len(counted), bool)
            for start, end in _runs(_truth(guard, trajectory), trajectory):
                if start + for_s < end:
                    rows = _rows(trajectory, start + for_s, end)
                    under_guard[rows] |= trajectory.times_s[rows] < end
                    # The row that holds when the guard has held long enough.
                    instants = instants.copy()
                    instants[rows.start] = max(instants[rows.start], start + for_s)
            counted &= under_guard
            if not under_guard.any():
                return Finding("untested", detail="its 'while' never held")
        if until is not None:
            over = _truth(until, trajectory)
            counted &= ~np.logical_or.accumulate(over.known & over.true)
            if not counted.any() and truth.known.any():
                return Finding("untested", detail="its 'until' held before it began")
        if not counted.any():
            return _NEVER_KNOWN
        return _worst(truth, counted, instants, expression.unit)

    return judge


def _worst(
    truth: Truth, counted: npt.NDArray[np.bool_], instants: Array, unit: str | None
) -> Finding:
    failed = counted & ~truth.true
    margins = np.where(counted, truth.margin, np.inf)
    worst = int(np.argmin(margins))
    if failed.any() and not failed[worst]:
        # Only where the margin is 0 on both sides of < and <=.
        worst = int(np.argmax(failed))
    margin = float(margins[worst])
    count = int(failed.sum())
    at_s = float(instants[worst])
    if not count:
        return Finding("pass", margin, unit, at_s if math.isfinite(margin) else None)
    first_s = float(instants[int(np.argmax(failed))])
    return Finding(
        "fail", margin, unit, at_s, f"first broken at {say_seconds(first_s)}"
    )


def eventually(
    expression: Expression, within_s: float | None
) -> Callable[[Trajectory, Sightings | None], Finding]:
    """Returns what judges ``eventually``."""

    def judge(trajectory: Trajectory, _: Sightings | None) -> Finding:
        truth = _truth(expression, trajectory)
        start_s = float(trajectory.times_s[0])
        until_s = trajectory.end_s if within_s is None else start_s + within_s
        rows = _rows(trajectory, start_s, min(until_s, trajectory.end_s))
        known, true = truth.known[rows], truth.true[rows] & truth.known[rows]
        if not known.any():
            return _NEVER_KNOWN
        margins = np.where(known, truth.margin[rows], -np.inf)
        best = int(np.argmax(true)) if true.any() else int(np.argmax(margins))
        at_s = float(trajectory.times_s[best])
        if true.any():
            margin = float(margins.max())
            return Finding(
                "pass", margin, expression.unit, at_s, f"at {say_seconds(at_s)}"
            )
        if until_s > trajectory.end_s:
            return Finding("untested", detail="the run ends before its time is up")
        return Finding(
            "fail",
            float(margins[best]),
            expression.unit,
            at_s,
            f"nearest at {say_seconds(at_s)}",
        )

    return judge


def settles(
    expression: Expression, within_s: float | None
) -> Callable[[Trajectory, Sightings | None], Finding]:
    """Returns what judges ``settles``."""

    def judge(trajectory: Trajectory, _: Sightings | None) -> Finding:
        truth = _truth(expression, trajectory)
        if not truth.known.any():
            return _NEVER_KNOWN
        start_s = float(trajectory.times_s[0])
        until_s = trajectory.end_s if within_s is None else start_s + within_s
        if until_s > trajectory.end_s:
            return Finding("untested", detail="the run ends before its time is up")
        rows = _rows(trajectory, start_s, until_s)
        held = truth.known & truth.true
        margins = np.where(truth.known, truth.margin, -np.inf)
        # From each instant on to the end: the worst that is still to come.
        to_come = np.minimum.accumulate(margins[::-1])[::-1]
        stays = np.logical_and.accumulate(held[::-1])[::-1]
        best = int(np.argmax(to_come[rows]))
        margin = float(to_come[best])
        if stays[rows].any():
            settled_s = float(trajectory.times_s[int(np.argmax(stays))])
            detail = f"settled after {say_seconds(settled_s - start_s)}"
            return Finding("pass", margin, expression.unit, settled_s, detail)
        worst = best + int(np.argmin(margins[best:]))
        return Finding(
            "fail",
            margin,
            expression.unit,
            float(trajectory.times_s[worst]),
            "does not hold to the end",
        )

    return judge


def stays(
    expression: Expression, for_s: float
) -> Callable[[Trajectory, Sightings | None], Finding]:
    """Returns what judges ``stays``."""

    def judge(trajectory: Trajectory, _: Sightings | None) -> Finding:
        truth = _truth(expression, trajectory)
        start_s = float(trajectory.times_s[0])
        lengths = []
        for start, end in _runs(truth, trajectory):
            # A span that is cut by the edge of the run says only "at least".
            cut = start <= start_s or end >= trajectory.end_s
            if not cut or end - start >= for_s:
                lengths.append((end - start, start))
        if not lengths:
            return Finding("untested", detail="it never began and ended in the run")
        shortest, at_s = min(lengths)
        margin = shortest - for_s
        return Finding(
            "pass" if margin >= 0 else "fail",
            margin,
            "s",
            at_s,
            f"shortest: {say_seconds(shortest)}",
        )

    return judge


def triggers(
    condition: Expression, for_s: float, trajectory: Trajectory
) -> list[float]:
    """Returns the instants at which a condition has held for long enough."""
    return [
        start + for_s
        for start, end in _runs(_truth(condition, trajectory), trajectory)
        if end - start >= for_s and start + for_s < trajectory.end_s
    ]


def when_then(
    condition: Expression,
    for_s: float,
    then: Expression,
    within_s: float,
    keeps_s: float,
    until: Expression | None,
) -> Callable[[Trajectory, Sightings | None], Finding]:
    """Returns what judges ``when … then``."""

    def judge(trajectory: Trajectory, _: Sightings | None) -> Finding:
        truth = _truth(then, trajectory)
        margins = np.where(truth.known, truth.margin, -np.inf)
        held = truth.known & truth.true
        came = triggers(condition, for_s, trajectory)
        released = None
        if until is not None:
            over = _truth(until, trajectory)
            released = np.flatnonzero(over.known & over.true)
        worst: tuple[bool, float, float] | None = None
        for at_s in came:
            answer = _answer(
                trajectory, held, margins, at_s, within_s, keeps_s, released
            )
            if answer is None:
                continue
            good, margin = answer
            if worst is None or (good, margin) < worst[:2]:
                worst = (good, margin, at_s)
        if worst is None:
            return Finding(
                "untested",
                detail="the run ends before an answer is due"
                if came
                else "its 'when' never came about",
            )
        good, margin, at_s = worst
        return Finding(
            "pass" if good else "fail",
            margin,
            then.unit,
            at_s,
            f"{len(came)} time{'s' * (len(came) != 1)}; "
            f"{'tightest' if good else 'broken'} for the one at {say_seconds(at_s)}",
        )

    return judge


def _answer(
    trajectory: Trajectory,
    held: npt.NDArray[np.bool_],
    margins: Array,
    at_s: float,
    within_s: float,
    keeps_s: float,
    released: npt.NDArray[np.intp] | None,
) -> tuple[bool, float] | None:
    """Returns whether a trigger was answered, and the margin; None: undecided.

    ``released`` are the rows at which ``until`` holds, where there is one.
    """
    rows = _rows(trajectory, at_s, min(at_s + within_s, trajectory.end_s))
    good, best = False, -math.inf
    undecided = at_s + within_s > trajectory.end_s
    for row in range(rows.start, rows.stop):
        from_s = max(at_s, float(trajectory.times_s[row]))
        to_s = from_s + keeps_s
        if released is None:
            stop = int(np.searchsorted(trajectory.times_s, to_s, side="left"))
            stop = max(stop, row + 1)
            complete = to_s <= trajectory.end_s
        else:
            at = int(np.searchsorted(released, row))
            complete = at < len(released)
            stop = int(released[at]) if complete else len(held)
            if stop == row:
                return True, math.inf
        if held[row:stop].all():
            if complete:
                good = True
            else:
                undecided = True
                continue
        best = max(best, float(margins[row:stop].min()))
    if not good and undecided:
        return None
    return good, best
