"""Let the parts of a scenario meet in virtual time."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import math
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from playground.bus import Bus, Connection, LocalBus
from playground.clock import Phase, VirtualClock
from playground.controllers.loop import ControlLoop
from playground.controllers.process import Process, ProcessLoop
from playground.errors import PlaygroundError
from playground.faults import Fault
from playground.faults.bus import FaultyBus
from playground.link import LinkedBus
from playground.plants.departures import Departures, Enclosed
from playground.plants.device import Device
from playground.recording import Recording, RecordingWriter
from playground.recording.ledger import Ledger
from playground.run.events import Events
from playground.run.guest import Account, Guest, limits
from playground.run.venue import Venue, lateness_of, meeting
from playground.scenario import Disturbance, Replayed, Setup

LOCAL = Venue()


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What happened in a run besides its messages.

    Attributes:
        accounts: What each program left behind.
        notes: What a reader should know about how it was run.
        events: When each event happened, seconds, and what it was.
        lateness_s: Wall seconds by which events of a realtime run were late:
            ``p50``, ``p99``, ``max``; None in virtual time.
        departures: How often the plant left its envelope after the warm-up; None
            if it has none.
    """

    accounts: tuple[Account, ...]
    notes: tuple[str, ...]
    events: tuple[tuple[float, str], ...]
    lateness_s: Mapping[str, float] | None = None
    departures: Departures | None = None


def simulate(
    setup: Setup,
    writer: RecordingWriter,
    *,
    venue: Venue = LOCAL,
    progress: Callable[[float], object] | None = None,
) -> Course:
    """Lets the parts meet until the run is over; all they publish is written.

    Args:
        setup: The parts.
        writer: Takes the log.
        venue: Where they meet; by default in memory.
        progress: Is told now and then which share of it has passed, 0 to 1.

    Returns:
        What happened on the way.

    Raises:
        PlaygroundError: A program is to take part where it cannot.
    """
    scenario = setup.scenario
    if setup.programs and venue.speed != 1.0:
        raise PlaygroundError(
            f"The scenario has programs, and a speed of {venue.speed:g}; in real time "
            "they are ordinary processes, and read the wall clock.",
            "leave --speed out, or use the transport local or lockstep",
        )
    log = Ledger()

    def put_away() -> None:
        writer.take(log)
        if progress is not None:
            progress(clock.now / setup.duration_s)

    with (
        meeting(venue, setup.start_ns) as (clock, bus, write_down, finish),
        contextlib.ExitStack() as hosted,
    ):
        write_down(log)
        faulty = None
        within: Bus = bus
        if any(isinstance(event.action, Fault) for event in setup.events):
            within = faulty = FaultyBus(bus, clock, seed=_seed(scenario.seed, -1))
        if setup.links:
            within = LinkedBus(within, clock, setup.links, seed=scenario.seed)
        outside = bus.connect("scenario")
        for kept in setup.retained:
            outside.publish(kept.topic, kept.payload.encode(), retain=True)
        Device(setup.plant, within, clock, seed=scenario.seed)
        for number, (client_id, controller) in enumerate(setup.controllers):
            loop: Any = ControlLoop
            if isinstance(controller, Process):
                loop = ProcessLoop
            loop(
                controller,
                setup.signals,
                within,
                clock,
                seed=_seed(scenario.seed, number),
                client_id=client_id,
            )
        for signal, value in setup.initial:
            outside.publish(signal.topic, signal.encode(value))
        guests = _host(setup, bus, clock, hosted, faulty)
        # What the experimenter does happens as written; a weather station is a part
        # like any other.
        station: Any = outside if faulty is None else faulty.speaker(outside)
        for disturbance in setup.disturbances:
            clock.process(_disturb(disturbance, station, clock, setup.duration_s))
        for replayed in setup.replayed:
            clock.process(_replay(replayed, station, clock, setup.duration_s))
        events = Events(setup, outside, bus, clock, faulty)
        enclosed = setup.plant if isinstance(setup.plant, Enclosed) else None
        if enclosed is not None and setup.warm_up_s:
            clock.process(_judge_from(enclosed, clock, setup.warm_up_s))
        # A million messages are not kept in memory until the end.
        clock.every(600.0, put_away, phase=Phase.OBSERVER)
        with _rare_collections():
            clock.run(until=setup.duration_s)
        hosted.close()
        finish()
        put_away()
        accounts = tuple(guest.account() for guest in guests)
        told = () if isinstance(bus, LocalBus) else limits(setup.programs, setup)
        return Course(
            accounts=accounts,
            notes=(*told, *(note for each in accounts for note in each.notes())),
            events=tuple(events.happened),
            lateness_s=lateness_of(clock),
            departures=None if enclosed is None else enclosed.departures,
        )


def _judge_from(
    plant: Enclosed, clock: VirtualClock, warm_up_s: float
) -> Generator[Any, Any, None]:
    """Forgets what happened in the warm-up, as checks and KPIs do."""
    yield clock.at(warm_up_s, phase=Phase.OBSERVER)
    plant.count_anew()


def _host(
    setup: Setup,
    bus: Bus,
    clock: VirtualClock,
    stack: contextlib.ExitStack,
    faulty: FaultyBus | None,
) -> list[Guest]:
    """Starts the programs of a scenario."""
    return [
        Guest(program, setup, bus, clock, stack, faulty) for program in setup.programs
    ]


@contextlib.contextmanager
def _rare_collections() -> Iterator[None]:
    """Has the garbage collector look less often.

    A run makes millions of tuples and no cycles; looking through them again and
    again takes a tenth of the time.
    """
    before = gc.get_threshold()
    gc.set_threshold(200_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _seed(seed: int, number: int) -> int:
    """Returns a seed of its own for each part, the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "little")


def _disturb(
    disturbance: Disturbance,
    outside: Connection,
    clock: VirtualClock,
    duration_s: float,
) -> Generator[Any, Any, None]:
    table, signal = disturbance.table, disturbance.signal
    if disturbance.period_s:
        count = math.ceil(duration_s / disturbance.period_s)
        instants = np.arange(count, dtype=np.float64) * disturbance.period_s
    else:
        instants = np.array([0.0, *(at_s for at_s in table.times_s if at_s > 0)])
    said: bytes | None = None
    values = table.at(instants)
    for at_s, value in zip(instants.tolist(), values.tolist(), strict=True):
        if at_s >= duration_s:
            return
        yield clock.at(at_s, phase=Phase.DISTURBANCE)
        payload = signal.encode(value)
        if payload != said:
            said = payload
            outside.publish(signal.topic, payload)


def _replay(
    replayed: Replayed, outside: Connection, clock: VirtualClock, duration_s: float
) -> Generator[Any, Any, None]:
    """Publishes the messages of a recording, counted from its start."""
    recording = Recording.open(replayed.path)
    origin_ns = recording.start_ns
    for message in recording.messages(topics=replayed.topics):
        at_s = (message.time_ns - origin_ns) / 1e9
        if at_s >= duration_s:
            return
        if message.kind != "publish":
            continue
        if at_s > clock.now or not at_s:
            yield clock.at(at_s, phase=Phase.DISTURBANCE)
        outside.publish(
            message.topic,
            message.payload,
            qos=message.qos,
            retain=message.retain,
            properties=message.properties,
        )
