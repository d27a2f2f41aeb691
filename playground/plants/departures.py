"""How often a plant was asked for what it cannot know, and what that means.

A plant that was made from data knows the region the data came from, its envelope.
Whoever runs it asks afterwards whether it stayed there: `Departures` is the answer,
`Enclosed` the plants that can give it, `DEFAULT_SHARE` how much a run forgives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from playground.quantity import say_seconds

DEFAULT_SHARE = 0.05
"""Share of the judged steps that may lie outside before a run decides nothing.

The envelopes are calibrated so that of data of the same kind, never seen, about one
step in a hundred lies outside; five times as many is another kind of data.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Departures:
    """How often a run left what its plant knows; of a batch, its first run.

    Attributes:
        steps: Steps looked at.
        outside: Steps of them that were outside the envelope.
        first_s: End of the first such step, seconds since the start of the run;
            None without one.
        signals: How many of these steps each signal was the furthest out.
    """

    steps: int
    outside: int
    first_s: float | None
    signals: Mapping[str, int]

    @property
    def share(self) -> float:
        """Share of the steps that were outside, 0 to 1."""
        return self.outside / self.steps if self.steps else 0.0

    def describe(self) -> str:
        """Says in a line how often, when first, and by which signals."""
        if not self.outside:
            return f"in the envelope at each of {self.steps} steps"
        worst = sorted(self.signals.items(), key=lambda one: (-one[1], one[0]))[:3]
        named = ", ".join(
            # What is no signal's name is a description, and needs no quotes.
            (repr(name) if name.isidentifier() else name)
            + f" ({count / self.outside:.0%} of them)" * (len(worst) > 1)
            for name, count in worst
        )
        first = (
            "" if self.first_s is None else f", first at {say_seconds(self.first_s)}"
        )
        return (
            f"outside the envelope at {_percent(self.share)} of the steps{first}, by "
            f"{named}"
        )

    def doubt(self, allowed_share: float) -> str | None:
        """Says why the run cannot be believed; None if it can.

        Args:
            allowed_share: Share of the steps that may be outside, 0 to 1.
        """
        if self.share <= allowed_share:
            return None
        return f"{self.describe()}; the scenario allows {_percent(allowed_share)}"


@runtime_checkable
class Enclosed(Protocol):
    """A `playground.plants.Plant` that knows where it must not be believed."""

    @property
    def departures(self) -> Departures:
        """How often it left its envelope since it was last told to count anew."""
        ...

    def count_anew(self) -> None:
        """Forgets the departures so far: the warm-up of a run is over."""
        ...


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else "100 %"
