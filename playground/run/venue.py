"""Where the parts of a run meet, and at what pace."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from playground.bus import Bus, LocalBus
from playground.clock import RealtimeClock, VirtualClock
from playground.errors import PlaygroundError, closest
from playground.recording.ledger import Ledger

TRANSPORTS = ("local", "lockstep", "realtime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Venue:
    """Where the parts of a run meet.

    Attributes:
        transport: ``local``, ``lockstep`` or ``realtime``.
        speed: Seconds of the run in one second of the wall clock; of realtime.
        broker: URL of the broker of lockstep and realtime; None starts one.
        clients: Client ids of the programs outside that answer the ticks of
            lockstep.
        deadline_s: Wall seconds that these have to answer.

    Raises:
        PlaygroundError: The parts of it contradict each other.
    """

    transport: str = "local"
    speed: float = 1.0
    broker: str | None = None
    clients: tuple[str, ...] = ()
    deadline_s: float = 10.0

    def __post_init__(self) -> None:
        if self.transport not in TRANSPORTS:
            raise PlaygroundError(
                f"There is no transport {self.transport!r}."
                f"{closest(self.transport, TRANSPORTS)}",
                "write local, lockstep or realtime",
            )
        if self.broker is not None and self.transport == "local":
            raise PlaygroundError(
                "The transport local has no broker; the run would not reach "
                f"{self.broker}.",
                "add --transport lockstep or --transport realtime",
            )
        if self.clients and self.transport != "lockstep":
            raise PlaygroundError(
                f"Nobody waits for {', '.join(self.clients)} on the transport "
                f"{self.transport}; only lockstep has clients that answer.",
                "add --transport lockstep, or leave the clients out",
            )
        if self.speed != 1.0 and self.transport != "realtime":
            raise PlaygroundError(
                f"A run on the transport {self.transport} has no speed; it is as fast "
                "as the machine.",
                "add --transport realtime, or leave --speed out",
            )
        if not 0 < self.speed < float("inf"):
            raise PlaygroundError(
                f"A speed of {self.speed:g} would never end.",
                "write a number above 0, 10 for ten times as fast as the plant",
            )


@contextlib.contextmanager
def meeting(
    venue: Venue, start_ns: int
) -> Iterator[tuple[VirtualClock, Bus, Callable[[Ledger], None], Callable[[], None]]]:
    """Opens clock and bus, and says how to write down what is said and how to end.

    Args:
        venue: Where.
        start_ns: Instant of second 0, nanoseconds since 1970 UTC.
    """
    if venue.transport == "local":
        # Without the modules of the brokers, which take a quarter of a second.
        clock = VirtualClock(start_ns)
        bus = LocalBus(clock)
        yield clock, bus, lambda log: bus.observe(log.append, log.extend), lambda: None
        return
    from playground import transport

    if venue.transport == "lockstep":
        place = transport.lockstep(
            start_ns,
            url=venue.broker,
            clients=venue.clients,
            deadline_s=venue.deadline_s,
        )
    else:
        place = transport.realtime(start_ns, url=venue.broker, speed=venue.speed)
    with place as opened:
        watch = opened.observe
        yield opened.clock, opened.bus, lambda log: watch(log.append), opened.finish


def lateness_of(clock: VirtualClock) -> Mapping[str, float] | None:
    """Returns how late the events of a realtime run were.

    Returns:
        Wall seconds: ``p50``, ``p99`` and ``max``; None for virtual time.
    """
    if not isinstance(clock, RealtimeClock) or not clock.lateness_s:
        return None
    late = np.array(clock.lateness_s)
    p50, p99 = np.percentile(late, [50, 99]).tolist()
    return {"p50": p50, "p99": p99, "max": float(late.max())}
