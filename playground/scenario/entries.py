"""What a person writes: the keys of a scenario file, as plain dataclasses.

Quantities are texts with units (``50 degC``, ``8h``); what they mean is found
out in `playground.scenario.setup`. No file is read here.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from playground.checks import CheckEntry
from playground.document import (
    Document,
    DocumentError,
    DurationText,
    Mistake,
    key_of,
)
from playground.errors import PlaygroundError
from playground.faults import FaultEntry
from playground.parameters import name_of

if TYPE_CHECKING:
    from playground.scenario.parts import Setup

VERSION = "1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishEntry:
    """A message of the scenario's own.

    Attributes:
        topic: Where.
        payload: What, as text.
        qos: QoS.
        retain: Retain flag.
    """

    topic: str
    payload: str
    qos: Literal[0, 1, 2] = 0
    retain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EventEntry:
    """Something that happens once, or each time a condition comes true.

    Attributes:
        at: When, since the start of the run.
        when: An expression; each time it becomes true, the event happens …
        for_: … once it has been true for this long.
        once: Only the first time.
        publish: A message.
        set: Commands or disturbances and the value they get.
        fault: Something that goes wrong from then on.
    """

    at: DurationText | None = None
    when: str | None = None
    for_: DurationText | None = None
    once: bool = False
    publish: PublishEntry | None = None
    set: Mapping[str, Any] | None = None
    fault: FaultEntry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramEntry:
    """An unmodified MQTT program that takes part.

    Attributes:
        run: Its command line, ``python strategies/weather_comp.py --fast``.
        name: For messages; by default the name of its file.
        start: When it starts, since the start of the run.
        timezone: Its local time, as the variable TZ names it.
        env: Environment variables.
        folder: Its working directory; by default that of the scenario, or the
            current one if the program lies there.
        hosts: The addresses, ``host`` or ``host:port`` with ``*`` for any part,
            that lead to the bus; others are refused. By default all lead there.
        allow_write: Folders, counted from the working directory, in which it may
            write files.
        watchdog: Real time that it may compute without waiting, in virtual time.
        on_crash: ``fail`` is a failed check; ``go_on`` is only told.
    """

    run: str
    name: str | None = None
    start: DurationText = "0s"
    timezone: str = "UTC"
    env: Mapping[str, str] = field(default_factory=dict)
    folder: str | None = None
    hosts: list[str] | None = None
    allow_write: list[str] = field(default_factory=list)
    watchdog: DurationText = "10s"
    on_crash: Literal["fail", "go_on"] = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEntry:
    """What the link between a client and the bus does to what passes.

    Attributes:
        latency: Shortest time on the way.
        jitter: Longest time added to it, by chance.
        loss: Share of the messages that get lost, ``1 %``.
        retry: How much later what QoS 1 or 2 has lost is sent again.
    """

    latency: DurationText = "0s"
    jitter: DurationText = "0s"
    loss: str | float = 0.0
    retry: DurationText = "1s"


@dataclass(frozen=True, slots=True, kw_only=True)
class KpiEntry:
    """What stands below ``kpis:``.

    Attributes:
        use: Names of KPIs, or ``{name: parameters}``.
        roles: Which signal is ``electricity``, ``heat``, ``of`` … for all of them.
        limits: ``starts_per_hour <= 6``, ``cost_tot <= 105 % of baseline``.
    """

    use: list[str | Mapping[str, Any]] = field(default_factory=list)
    roles: Mapping[str, Any] = field(default_factory=dict)
    limits: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class MonteCarloEntry:
    """Many runs that differ by chance; see `playground.sweep`.

    Attributes:
        runs: How many.
        vary: Key of the scenario, and ``{normal: [mean, std]}``, ``{uniform: [low,
            high]}`` or ``{choice: [a, b, c]}``. A key that ends in ``_offset`` is
            added to what stands there.
    """

    runs: int
    vary: Mapping[str, Mapping[str, list[Any]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a scenario came from."""

    folder: Path = field(default_factory=Path)
    document: Document | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """An experiment, as a person writes it.

    Quantities are texts with units, ``"50 degC"``, ``"8h"``; every key of the
    YAML file is a field of the same name. In Python a class or a plain function may
    stand where the file names it, ``controllers=[my_strategy]``.

    Attributes:
        name: Short, without spaces; names the folder of results.
        plant: Name of a built-in plant, ``module:Class``, ``{name: parameters}``, or
            ``{model: folder}``, beside which may stand ``fast: true``, ``force: true``
            and ``envelope: {share: 5 %}`` (docs/learned-plants.md).
        duration: How long the run lasts, warm-up included.
        version: Of this format.
        description: For people.
        tags: For choosing among scenarios.
        signals: A signals file that takes the place of the plant's own signals.
        controllers: Names, or ``{name: parameters}``, in the order in which
            they decide.
        programs: Unmodified MQTT programs that take part.
        links: Latency, jitter and loss between a client and the bus, by client
            id: ``plant``, a controller's or program's name, ``"*"`` for all others.
        transport: Where the parts meet: in memory, on a broker in virtual time, or
            on a broker in real time.
        clients: Client ids of programs outside that answer the ticks of lockstep.
        start: Calendar instant of second 0, ISO 8601.
        warm_up: First part of the run, which no check and no KPI judges.
        seed: Of all that is random.
        initial: Value of commands and disturbances at second 0; below
            ``retained`` messages that the broker has kept from before.
        disturbances: Signal and value: constant, a table over time, or the
            messages of a recording.
        events: What happens on the way, faults among it.
        checks: What must be so.
        kpis: What is measured.
        baseline: What is different in the run that KPIs are compared with.
        matrix: Keys and the values they take in a sweep.
        monte_carlo: Many runs that differ by chance, in a sweep.
        files: SHA-256 of files that take part, by the name they have here, and of
            modules (``module NAME``). A run is refused if one of them is another; a
            run writes them into the scenario that it leaves.
    """

    name: str
    plant: str | Mapping[str, Any]
    duration: DurationText
    version: Literal["1.0"] = "1.0"
    description: str = ""
    tags: list[str] = field(default_factory=list)
    signals: str | None = None
    controllers: list[str | Mapping[str, Any]] = field(default_factory=list)
    programs: list[ProgramEntry] = field(default_factory=list)
    links: Mapping[str, LinkEntry] = field(default_factory=dict)
    transport: Literal["local", "lockstep", "realtime"] = "local"
    clients: list[str] = field(default_factory=list)
    start: str = "2026-01-01T00:00:00Z"
    warm_up: DurationText = "0s"
    seed: int = 0
    initial: Mapping[str, Any] = field(default_factory=dict)
    disturbances: Mapping[str, Any] = field(default_factory=dict)
    events: list[EventEntry] = field(default_factory=list)
    checks: list[CheckEntry] = field(default_factory=list)
    kpis: KpiEntry = field(default_factory=KpiEntry)
    baseline: Mapping[str, Any] | None = None
    matrix: Mapping[str, Any] | None = None
    monte_carlo: MonteCarloEntry | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    origin: Origin = field(init=False, compare=False, repr=False, default=Origin())
    """Where it was read; files it names are looked for there."""

    def __post_init__(self) -> None:
        # From Python one may write parts as one would in the file, and give what
        # is named there as module:Name itself.
        object.__setattr__(self, "plant", _named(self.plant))
        if isinstance(self.controllers, list):
            controllers = [_named(entry) for entry in self.controllers]
            object.__setattr__(self, "controllers", controllers)
        document = Document(f"scenario {self.name!r}", None)
        mistakes: list[Mistake] = []
        for name, kind in _PARTS.items():
            entry = getattr(self, name)
            if _is_raw(entry):
                read = document.check(kind, entry, (name,), mistakes)
                object.__setattr__(self, name, read)
        if mistakes:
            raise DocumentError(document.path, mistakes)

    def prepare(self) -> Setup:
        """Makes the parts.

        Raises:
            DocumentError: With every mistake at once.
        """
        from playground.scenario.setup import Preparation

        return Preparation(self).setup()

    def plain(self) -> dict[str, Any]:
        """Returns it as it would stand in a file, defaults written out."""
        plain: dict[str, Any] = _plain(self)
        return plain

    def replace(self, **changes: Any) -> Scenario:
        """Returns a copy with some fields changed, from the same place."""
        changed: Scenario = dataclasses.replace(self, **changes)
        object.__setattr__(changed, "origin", Origin(folder=self.origin.folder))
        return changed


_PARTS: dict[str, Any] = {
    "programs": list[ProgramEntry],
    "links": Mapping[str, LinkEntry],
    "events": list[EventEntry],
    "checks": list[CheckEntry],
    "kpis": KpiEntry,
    "monte_carlo": MonteCarloEntry,
}


def _named(entry: Any) -> Any:
    """Returns a class or function, or one with parameters, by its name."""
    if isinstance(entry, Mapping):
        return {_named(key): given for key, given in entry.items()}
    return name_of(entry) if callable(entry) else entry


def _is_raw(entry: Any) -> bool:
    if isinstance(entry, Mapping):
        return True
    return isinstance(entry, list) and any(isinstance(e, Mapping) for e in entry)


_SPARSE = (
    CheckEntry,
    EventEntry,
    FaultEntry,
    LinkEntry,
    PublishEntry,
    ProgramEntry,
)
"""Of these only what was written is written out again."""


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            key_of(one.name): _plain(getattr(value, one.name))
            for one in dataclasses.fields(value)
            if one.init and not (isinstance(value, _SPARSE) and _is_default(value, one))
        }
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


def _is_default(value: Any, one: dataclasses.Field[Any]) -> bool:
    given = getattr(value, one.name)
    if one.default_factory is not dataclasses.MISSING:
        return bool(given == one.default_factory())
    return bool(given == one.default)


def one_key(entry: str | Mapping[str, Any]) -> tuple[str, Any]:
    """Splits ``thermostat`` or ``{thermostat: {…}}`` into name and parameters.

    Raises:
        PlaygroundError: The block has not exactly one key.
    """
    if isinstance(entry, str):
        return entry, {}
    if len(entry) != 1:
        raise PlaygroundError(
            f"here stand {', '.join(map(repr, entry)) or 'no keys'}, but one entry has "
            "one name.",
            "write '- name: {parameter: value}', indented below its name",
        )
    name, parameters = next(iter(entry.items()))
    return name, {} if parameters is None else parameters


def words_of(run: str) -> list[str]:
    """Returns the command line of a program without its interpreter.

    Raises:
        PlaygroundError: It is no command line, or names no program.
    """
    try:
        words = shlex.split(run)
    except ValueError as error:
        raise PlaygroundError(
            f"{run!r} is not a command line: {error}.", "close what is quoted"
        ) from error
    if words and Path(words[0]).name.startswith("python"):
        words = words[1:]
    while words and words[0] in ("-u", "-B", "-O"):
        words = words[1:]
    if not words:
        raise PlaygroundError(
            f"{run!r} names no program.", "write run: python strategy.py"
        )
    return words


def script_of(run: str) -> str | None:
    """Returns the file that a command line starts; None for a module."""
    try:
        first = words_of(run)[0]
    except PlaygroundError:
        return None
    return None if first == "-m" else first


def workplace(here: Path, run: str, folder: str | None) -> Path:
    """Returns the folder in which a program runs.

    Args:
        here: The folder of the scenario.
        run: The command line.
        folder: The folder that is written beside it; None for none.
    """
    base = here if folder is None else here / folder
    script = script_of(run)
    if script is None:
        return base if folder is not None else Path()
    return Path() if found(base, script) != base / script else base


def forced(entry: str | Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the entry of a learned plant with ``force: true``.

    Raises:
        PlaygroundError: It is no learned plant.
    """
    if not isinstance(entry, Mapping) or "model" not in entry:
        raise PlaygroundError(
            "The plant of this scenario is no model; there is nothing to force.",
            "leave --force-model out",
        )
    return {**entry, "force": True}


def found(folder: Path, name: str) -> Path:
    """Returns where a file named in a scenario is.

    Beside the scenario, or else in the current folder.
    """
    beside = folder / name
    return Path(name) if not beside.exists() and Path(name).exists() else beside
