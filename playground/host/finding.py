"""What a hosted program said and what was found about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Line(NamedTuple):
    """One line that a hosted program wrote."""

    time_s: float
    """Seconds of virtual time since the start of the run."""
    stream: str
    """``stdout`` or ``stderr``."""
    text: str
    """Without its end of line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about a hosted program that its author would want to know.

    Attributes:
        time_s: Seconds of virtual time since the start of the run.
        program: The name under which it is hosted.
        kind: ``crash`` (it ended by an exception, or its process died),
            ``exit`` (it ended by itself with a code that says so), ``exception``
            (a thread of it ended by one), ``hang`` (it neither waited nor
            ended), ``refused`` (it reached for something outside its
            allowance), ``protocol`` (what it sent is not MQTT), ``note``.
        text: What happened, with file and line where there is one.
    """

    time_s: float
    program: str
    kind: str
    text: str

    @property
    def is_mistake(self) -> bool:
        """Whether something is wrong; a ``note`` is only worth knowing."""
        return self.kind != "note"

    def __str__(self) -> str:
        return f"{self.program} at {self.time_s:g} s: {self.kind}: {self.text}"
