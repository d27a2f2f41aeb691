"""Whether the power that flows in is the power that flows out, measured and simulated.

A signals file declares balances of powers, ``exchanger: flow * … == …``, where flows
are known. A plant that was learned knows no physics, and its own answers may make heat
out of nothing; by how much, beside what the instruments themselves are off, belongs on
its card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from playground.errors import PlaygroundError
from playground.expression import Expression, parse
from playground.learn.dataset import Segment
from playground.learn.free_run import free_runs
from playground.plants.learned import LearnedPlant
from playground.quantity import convert
from playground.signals import Signals

Array = npt.NDArray[np.float64]

MADE_OF_NOTHING = 0.1
"""Part of the power that flows which a plant may gain or lose more than was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """A balance of powers.

    Attributes:
        name: What the signals file calls it.
        text: As it was written.
    """

    name: str
    text: str
    _residual: Expression
    _flow: Expression

    def residual(self, segment: Segment) -> tuple[Array, Array]:
        """Returns the left side less the right one, and the left one, in W.

        NaN where it cannot be said, as a ``rate`` at the beginning.
        """
        times = segment.dt * np.arange(len(segment), dtype=np.float64)
        columns = dict(zip(segment.inputs, segment.u.T, strict=True))
        columns |= dict(zip(segment.outputs, segment.y.T, strict=True))
        residual, flow = (
            expression.evaluate(times, {n: columns[n] for n in expression.signals})
            for expression in (self._residual, self._flow)
        )
        return (
            residual.margin * convert(1.0, self._residual.unit or "W", "W"),
            flow.margin * convert(1.0, self._flow.unit or "W", "W"),
        )


def balances_of(signals: Signals) -> list[Balance]:
    """Reads the balances that a signals file declares.

    Raises:
        PlaygroundError: One of them is no balance of powers between its signals.
    """
    return [_read(name, text, signals) for name, text in signals.balances.items()]


def _read(name: str, text: str, signals: Signals) -> Balance:
    left, *right = text.split("==")
    if len(right) != 1:
        raise PlaygroundError(
            f"The balance {name!r} is {text!r}: that does not say what equals what.",
            "write for instance flow * 4186 J/kg/K * (supply - back) == heat",
        )
    try:
        residual = parse(f"({left.strip()}) >= ({right[0].strip()})", signals)
        flow = parse(f"({left.strip()}) >= 0 W", signals)
    except PlaygroundError as error:
        raise PlaygroundError(
            f"The balance {name!r}: {error.problem}", error.fix
        ) from error
    return Balance(name=name, text=text, _residual=residual, _flow=flow)


def closed(plant: LearnedPlant, test: Sequence[Segment]) -> list[dict[str, Any]]:
    """Holds the balances against data and against a free run of the plant over them.

    Args:
        plant: As learned.
        test: Data it has not seen, in units.

    Returns:
        Per balance: ``balance``, ``text``, ``rows`` in free run on which both sides
        are known, and ``off``: the plant gains or loses more than `MADE_OF_NOTHING` of
        the flow beyond what the instruments do. Where there are such rows, also
        ``flow_w``, the root mean square of the left side as measured, and for
        ``data`` and ``plant`` ``mean_w`` and ``rms_w`` of what is left over.
    """
    balances = balances_of(plant.model.signals)
    history = plant.model.history
    measured = [s for s in test if len(s) > history]
    if not balances or not measured:
        return []
    said = [
        Segment(t0=s.t0, dt=s.dt, u=s.u, y=y, inputs=s.inputs, outputs=s.outputs)
        for s, y in zip(measured, free_runs(plant, measured), strict=True)
    ]
    return [_held(balance, measured, said, history) for balance in balances]


def _held(
    balance: Balance,
    measured: Sequence[Segment],
    said: Sequence[Segment],
    history: int,
) -> dict[str, Any]:
    def known(of: Sequence[Segment]) -> tuple[Array, Array]:
        each = [balance.residual(segment) for segment in of]
        left_over, flow = (
            np.concatenate([s[k][history:] for s in each]) for k in (0, 1)
        )
        return left_over, flow

    (data, flow), (plant, _) = known(measured), known(said)
    rows = np.isfinite(data) & np.isfinite(plant) & np.isfinite(flow)
    found: dict[str, Any] = {
        "balance": balance.name,
        "text": balance.text,
        "rows": int(rows.sum()),
    }
    if not rows.any():
        return {**found, "off": False}
    flow_w = _rms(flow[rows])
    more = float(np.mean(plant[rows]) - np.mean(data[rows]))
    return {
        **found,
        "flow_w": flow_w,
        **{
            name: {"mean_w": float(np.mean(values[rows])), "rms_w": _rms(values[rows])}
            for name, values in (("data", data), ("plant", plant))
        },
        "off": abs(more) > MADE_OF_NOTHING * flow_w,
    }


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


def told(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the section of a card, as lines; none where no balance is declared."""
    if not found:
        return []
    lines = [
        "## Energy balance",
        "",
        "What is left over, left side less right side, on the rows held back: as "
        "measured, and in the free run of the plant.",
        "",
        "| balance | flow | measured: mean | RMS | plant: mean | RMS |",
        "|---|---|---|---|---|---|",
    ]
    for one in found:
        cells = ["-"] * 5
        if one["rows"]:
            sides = [one[of] for of in ("data", "plant")]
            numbers = [
                one["flow_w"],
                *(s[k] for s in sides for k in ("mean_w", "rms_w")),
            ]
            cells = [f"{number:.4g} W" for number in numbers]
        lines.append(f"| {one['balance']}: `{one['text']}` | {' | '.join(cells)} |")
    for one in found:
        if one["off"]:
            more = one["plant"]["mean_w"] - one["data"]["mean_w"]
            lines += [
                "",
                f"**{one['balance']}: {more:+.4g} W** in free run beyond what was "
                "measured: the plant makes power of nothing, or loses it.",
            ]
    return lines
