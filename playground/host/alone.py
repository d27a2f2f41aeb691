"""One program without a scenario: alone on a bus, or with what one brings along."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playground.bus import LocalBus
from playground.clock import DEFAULT_START_NS, Phase, VirtualClock
from playground.host.hosted import Hosted
from playground.message import Message
from playground.recording import Recording, RecordingWriter

_FLUSH_S = 600.0
_RECORDED = ("publish", "will")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """How it went.

    Attributes:
        program: The program; what it printed and what was found about it.
        said: Messages it published, wills included.
        messages: Messages on the bus, its own included.
        recording: All of them, where a file was asked for.
    """

    program: Hosted
    said: int
    messages: int
    recording: Recording | None


def host_alone(
    program: str | os.PathLike[str] | Sequence[str],
    duration_s: float,
    *,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    start_ns: int = DEFAULT_START_NS,
    attend: Callable[[LocalBus, VirtualClock], object] | None = None,
    **settings: Any,
) -> Alone:
    """Runs one program for ``duration_s`` of virtual time and asks it to end.

    Args:
        program: See `Hosted`.
        duration_s: Seconds of virtual time.
        out: Recording of all that is said on the bus, ``NAME.parquet``.
        overwrite: An existing recording may be replaced.
        start_ns: Calendar instant of the start, nanoseconds since 1970 UTC.
        attend: Puts others on the bus before it starts: a replay, a plant.
        settings: Further arguments of `Hosted`.

    Raises:
        PlaygroundError: No such program, or the recording exists already.
    """
    clock = VirtualClock(start_ns)
    bus = LocalBus(clock)
    log = _Log()
    bus.observe(log.take)
    if attend is not None:
        attend(bus, clock)
    with contextlib.ExitStack() as stack:
        hosted = stack.enter_context(Hosted(program, bus, clock, **settings))
        if out is not None:
            log.writer = stack.enter_context(
                RecordingWriter(
                    Path(out),
                    metadata={"start_ns": start_ns, "program": hosted.command},
                    journal=False,
                    overwrite=overwrite,
                )
            )
            clock.every(_FLUSH_S, log.flush, phase=Phase.OBSERVER)
        clock.run(until=duration_s)
        hosted.close()
        log.flush()
        recording = None
        if log.writer is not None:
            log.writer.metadata["end_ns"] = clock.time_ns()
            recording = log.writer.close()
    return Alone(
        program=hosted,
        said=sum(log.by_client[each] for each in hosted.clients),
        messages=sum(log.by_client.values()),
        recording=recording,
    )


class _Log:
    """Counts what is published, and hands it to the writer if there is one."""

    def __init__(self) -> None:
        self.writer: RecordingWriter | None = None
        self.by_client: Counter[str | None] = Counter()
        self._waiting: list[Message] = []

    def take(self, message: Message) -> None:
        if message.kind in _RECORDED:
            self.by_client[message.client] += 1
            self._waiting.append(message)

    def flush(self) -> None:
        if self.writer is not None:
            self.writer.extend(self._waiting)
        self._waiting.clear()
