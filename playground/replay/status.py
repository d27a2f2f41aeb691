"""Where a replay is, and what it did."""

from __future__ import annotations

from dataclasses import dataclass

from playground.replay.pace import Lateness


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Where a replay is.

    Attributes:
        position_s: Seconds of the session since its start.
        length_s: Seconds of the session in one pass.
        speed: Session seconds per second asked for; infinite for ``max``.
        slowed_to: What is reached instead, where the broker cannot keep up.
        paused: It waits for a command.
        messages: Published so far.
        passes: Passes begun.
        topic: Of the message that comes next.
        lateness: So far.
    """

    position_s: float
    length_s: float
    speed: float
    slowed_to: float | None
    paused: bool
    messages: int
    passes: int
    topic: str
    lateness: Lateness


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What a replay did.

    Attributes:
        messages: Published as recorded.
        state_messages: Published besides, to rebuild or clear retained state.
        passes: Passes through the selection, the last one perhaps not whole.
        duration_s: Seconds it took, on the clock it was played by.
        session_s: Seconds of the session that were played.
        lateness: Against the deadlines.
        slowest: Lowest speed it was slowed down to; None if it kept the pace.
        slipped_s: Seconds by which all deadlines were moved because the broker
            did not keep up.
        stopped: It was told to stop before the end.
    """

    messages: int
    state_messages: int
    passes: int
    duration_s: float
    session_s: float
    lateness: Lateness
    slowest: float | None
    slipped_s: float
    stopped: bool

    def __str__(self) -> str:
        rate = self.messages / self.duration_s if self.duration_s else 0.0
        text = (
            f"{self.messages} messages in {self.duration_s:.3g} s ({rate:.0f}/s)"
            + (
                f", {self.state_messages} for the retained state"
                * bool(self.state_messages)
            )
            + f"; lateness: {self.lateness}"
        )
        if self.slowest is not None or self.slipped_s:
            text += f"; the broker could not keep up: {self.slipped_s:.3g} s behind"
            if self.slowest is not None:
                text += f", slowed to x{self.slowest:.3g} in places"
        return text + ("; stopped before the end" * self.stopped)
