"""The parts of a scenario once they are understood: numbers, objects, no texts.

They are named tuples: a dataclass takes six times as long to come into being, and
whoever reads a scenario waits for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from playground.checks import Check
from playground.controllers import Controller
from playground.expression import Expression
from playground.faults import Fault
from playground.kpis import Kpi, Limit
from playground.plants import Plant
from playground.plants.departures import DEFAULT_SHARE
from playground.scenario.entries import PublishEntry, Scenario
from playground.signals import Signal, Signals
from playground.table import TimeTable

if TYPE_CHECKING:
    from playground.link import Link


class Disturbance(NamedTuple):
    """What is published for a signal that nobody controls."""

    signal: Signal
    table: TimeTable
    period_s: float
    """Between two points of a straight line; 0 where values are held."""


class Replayed(NamedTuple):
    """A disturbance that is the messages of a recording, from its start on."""

    path: Path
    topics: tuple[str, ...]


class Event(NamedTuple):
    """Something that happens on the way.

    Attributes:
        at_s: When; None where a condition says so.
        when: The condition.
        for_s: How long it must have held.
        once: Only the first time.
        action: A message, settings of signals, or a fault.
        text: What it is, for people.
    """

    at_s: float | None
    when: Expression | None
    for_s: float
    once: bool
    action: PublishEntry | tuple[tuple[Signal, float], ...] | Fault
    text: str


class Program(NamedTuple):
    """An unmodified MQTT program, ready to be started.

    Attributes:
        command: Its command line.
        name: For messages.
        folder: Its working directory.
        start_s: When it starts.
        timezone: Its local time.
        env: Environment variables.
        hosts: Addresses that lead to the bus; None for all.
        allow_write: Folders in which it may write files.
        watchdog_s: Wall seconds that it may compute without waiting.
        crash_fails: Whether its crash is a failed check.
    """

    command: tuple[str, ...]
    name: str
    folder: Path
    start_s: float
    timezone: str
    env: Mapping[str, str]
    hosts: tuple[str, ...] | None = None
    allow_write: tuple[str, ...] = ()
    watchdog_s: float = 10.0
    crash_fails: bool = True


class Setup(NamedTuple):
    """The parts of a scenario, ready to meet; see `playground.run`.

    Attributes:
        scenario: What they were made from.
        plant: The plant.
        signals: Meaning of all topics.
        controllers: Client id and controller, in order.
        programs: Unmodified MQTT programs.
        links: How clients are connected, by client id; ``*`` for all others.
        start_ns: Instant of second 0, nanoseconds since 1970 UTC.
        duration_s: How long the run lasts.
        warm_up_s: What is not judged.
        retained: Messages that the broker has kept from before.
        initial: Signals and their value at second 0.
        disturbances: What is published over time.
        replayed: What is played from recordings.
        events: What happens on the way.
        checks: What must be so.
        kpis: What is measured, by name.
        limits: What KPIs must obey.
        baseline: The scenario to compare with; None for none.
        files: SHA-256 of each file that took part, by the name it was given.
        allowed_share: Share of the judged steps that may lie outside the plant's
            envelope, 0 to 1.
        notes: What a reader of the results should know about the plant.
    """

    scenario: Scenario
    plant: Plant
    signals: Signals
    controllers: tuple[tuple[str, Controller], ...]
    programs: tuple[Program, ...]
    links: Mapping[str, Link]
    start_ns: int
    duration_s: float
    warm_up_s: float
    retained: tuple[PublishEntry, ...]
    initial: tuple[tuple[Signal, float], ...]
    disturbances: tuple[Disturbance, ...]
    replayed: tuple[Replayed, ...]
    events: tuple[Event, ...]
    checks: tuple[Check, ...]
    kpis: Mapping[str, Kpi]
    limits: tuple[Limit, ...]
    baseline: Scenario | None
    files: Mapping[str, str]
    allowed_share: float = DEFAULT_SHARE
    notes: tuple[str, ...] = ()
