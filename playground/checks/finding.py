"""What a check finds, and the messages that a check on topics looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from playground.arrays import Array, np

Verdict = Literal["pass", "fail", "untested"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sightings:
    """When messages of some topics were published, seconds, ascending.

    Attributes:
        times_s: Of the messages a check is about; shape (n,).
        start_s: Start of what is judged.
        end_s: End of it.
        after_s: Of the messages that these must follow; shape (m,).
        payloads: Payload of each message where a check looks into them, else empty.
    """

    times_s: Array
    start_s: float
    end_s: float
    after_s: Array = field(default_factory=lambda: np.zeros(0))
    payloads: Sequence[bytes] = ()


class Finding(NamedTuple):
    """A verdict and what there is to say about it; see `CheckResult`."""

    verdict: Verdict
    margin: float | None = None
    unit: str | None = None
    worst_s: float | None = None
    detail: str = ""
