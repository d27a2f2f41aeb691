"""Scenarios: an experiment in one YAML file, and the parts it asks for.

`Scenario` holds what a person wrote; `load_scenario` reads it from a file and
says everything that is wrong with it at once; `Scenario.prepare` makes the
plant, the controllers, the checks and the KPIs. Nothing runs here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from playground.checks import Check, CheckEntry, read_check
from playground.clock import from_iso
from playground.controllers import BUILT_IN as CONTROLLERS
from playground.controllers import Controller
from playground.document import Document, DocumentError, Mistake, Place
from playground.errors import PlaygroundError, closest
from playground.kpis import Kpi, Limit, read_kpi, read_limit
from playground.parameters import build, load_class
from playground.plants import Plant, plant_class
from playground.quantity import quantity, seconds
from playground.signals import Signal, Signals, load_signals
from playground.table import TimeTable, read_table

VERSION = "1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class KpiEntry:
    """What stands below ``kpis:``.

    Attributes:
        use: Names of KPIs, or ``{name: parameters}``.
        roles: Which signal is ``electricity``, ``heat``, ``of`` … for all of them.
        limits: ``starts_per_hour <= 6``.
    """

    use: list[str | Mapping[str, Any]] = field(default_factory=list)
    roles: Mapping[str, Any] = field(default_factory=dict)
    limits: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """An experiment, as a person writes it.

    Quantities are texts with units, ``"50 degC"``, ``"8h"``; every key of the
    YAML file is a field of the same name.

    Attributes:
        name: Short, without spaces; names the folder of results.
        plant: Name of a built-in plant, ``module:Class``, ``{model: folder}``,
            or ``{name: parameters}``.
        duration: How long the run lasts, warm-up included.
        version: Of this format.
        description: For people.
        signals: A signals file that is laid over the plant's own signals.
        controllers: Names, or ``{name: parameters}``, in the order in which
            they decide.
        start: Calendar instant of second 0, ISO 8601.
        warm_up: First part of the run, which no check and no KPI judges.
        seed: Of all that is random.
        initial: Value of commands and disturbances at second 0.
        disturbances: Signal and value: constant, or a table over time.
        checks: What must be so.
        kpis: What is measured.
    """

    name: str
    plant: str | Mapping[str, Any]
    duration: str
    version: Literal["1.0"] = "1.0"
    description: str = ""
    signals: str | None = None
    controllers: list[str | Mapping[str, Any]] = field(default_factory=list)
    start: str = "2026-01-01T00:00:00Z"
    warm_up: str = "0s"
    seed: int = 0
    initial: Mapping[str, Any] = field(default_factory=dict)
    disturbances: Mapping[str, Any] = field(default_factory=dict)
    checks: list[CheckEntry] = field(default_factory=list)
    kpis: KpiEntry = field(default_factory=KpiEntry)

    origin: Origin = field(
        init=False, compare=False, repr=False, default_factory=lambda: Origin()
    )
    """Where it was read; files it names are looked for there."""

    def __post_init__(self) -> None:
        # From Python one may write checks and KPIs as one would in the file.
        if isinstance(self.kpis, Mapping) or any(
            isinstance(check, Mapping) for check in self.checks
        ):
            document = Document(f"scenario {self.name!r}", None)
            mistakes: list[Mistake] = []
            for name, kind in (("checks", list[CheckEntry]), ("kpis", KpiEntry)):
                entry = getattr(self, name)
                read = document.check(kind, entry, (name,), mistakes)
                object.__setattr__(self, name, read)
            if mistakes:
                raise DocumentError(document.path, mistakes)

    def prepare(self) -> Setup:
        """Makes the parts.

        Raises:
            DocumentError: With every mistake at once.
        """
        return _Preparation(self).setup()

    def plain(self) -> dict[str, Any]:
        """Returns it as it would stand in a file, defaults written out."""
        plain: dict[str, Any] = _plain(self)
        return plain

    def replace(self, **changes: Any) -> Scenario:
        """Returns a copy with some fields changed, from the same place."""
        changed: Scenario = dataclasses.replace(self, **changes)
        object.__setattr__(changed, "origin", Origin(folder=self.origin.folder))
        return changed


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a scenario came from."""

    folder: Path = field(default_factory=Path)
    document: Document | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """What is published for a signal that nobody controls."""

    signal: Signal
    table: TimeTable
    period_s: float
    """Between two points of a straight line; 0 where values are held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The parts of a scenario, ready to meet; see `playground.run`.

    Attributes:
        scenario: What they were made from.
        plant: The plant.
        signals: Meaning of all topics.
        controllers: Client id and controller, in order.
        start_ns: Instant of second 0, nanoseconds since 1970 UTC.
        duration_s: How long the run lasts.
        warm_up_s: What is not judged.
        initial: Signals and their value at second 0.
        disturbances: What is published over time.
        checks: What must be so.
        kpis: What is measured, by name.
        limits: What KPIs must obey.
        files: SHA-256 of each file that took part, by the name it was given.
    """

    scenario: Scenario
    plant: Plant
    signals: Signals
    controllers: tuple[tuple[str, Controller], ...]
    start_ns: int
    duration_s: float
    warm_up_s: float
    initial: tuple[tuple[Signal, float], ...]
    disturbances: tuple[Disturbance, ...]
    checks: tuple[Check, ...]
    kpis: Mapping[str, Kpi]
    limits: tuple[Limit, ...]
    files: Mapping[str, str]


def load_scenario(path: Path | str) -> Scenario:
    """Reads a scenario file.

    Raises:
        DocumentError: With every mistake in the file, each with its line.
        FileFormatError: The file is missing or not YAML.
    """
    return read_scenario(Document.read(path), folder=Path(path).parent)


def read_scenario(document: Document, *, folder: Path = Path()) -> Scenario:
    """Makes a scenario from a parsed file; see `load_scenario`."""
    data = document.data
    if isinstance(data, Mapping) and "name" not in data:
        data = {"name": Path(document.path).stem, **data}
    version = data.get("version", VERSION) if isinstance(data, Mapping) else VERSION
    if version != VERSION:
        fix = f'write version: "{VERSION}"'
        raise DocumentError(
            document.path,
            [document.mistake(("version",), f"{version!r} is not known here.", fix)],
        )
    mistakes: list[Mistake] = []
    scenario = document.check(Scenario, data, (), mistakes)
    if scenario is None:
        # What could be read is looked through as well, so that all is said at once.
        scenario = _readable(document, data)
        if scenario is not None:
            mistakes.extend(_mistakes_of(scenario, document, folder))
        raise DocumentError(document.path, mistakes)
    read: Scenario = scenario
    object.__setattr__(read, "origin", Origin(folder, document))
    read.prepare()
    return read


def _readable(document: Document, data: Any) -> Scenario | None:
    """Returns the scenario without the keys that are wrong in themselves."""
    if not isinstance(data, Mapping):
        return None
    hints = {f.name: f for f in dataclasses.fields(Scenario) if f.init}
    good: dict[str, Any] = {}
    for key, value in data.items():
        if key not in hints:
            continue
        attempt: list[Mistake] = []
        if key == "checks" and isinstance(value, list):
            value = [
                entry
                for number, entry in enumerate(value)
                if document.check(CheckEntry, entry, ("checks", number), [])
            ]
        one = {"name": "x", "plant": "x", "duration": "1s", key: value}
        document.check(Scenario, one, (), attempt)
        if not attempt:
            good[key] = value
    if "plant" not in good:
        return None
    good.setdefault("duration", "1000000h")
    scenario: Scenario | None = document.check(Scenario, {"name": "x", **good}, (), [])
    return scenario


def _mistakes_of(
    scenario: Scenario, document: Document, folder: Path
) -> tuple[Mistake, ...]:
    object.__setattr__(scenario, "origin", Origin(folder, document))
    try:
        scenario.prepare()
    except DocumentError as error:
        return error.mistakes
    return ()


def found(folder: Path, name: str) -> Path:
    """Returns where a file named in a scenario is.

    Beside the scenario, or else in the current folder.
    """
    beside = folder / name
    return Path(name) if not beside.exists() and Path(name).exists() else beside


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


class _Preparation:
    """Makes the parts of a scenario and collects what is wrong."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.folder = scenario.origin.folder
        self.document = scenario.origin.document or Document(
            f"scenario {scenario.name!r}", scenario.plain()
        )
        self.mistakes: list[Mistake] = []
        self.files: dict[str, str] = {}

    def attempt(self, place: Place, action: Callable[..., Any], *arguments: Any) -> Any:
        """Returns what the action returns; a mistake is noted at the place."""
        try:
            return action(*arguments)
        except DocumentError as error:
            if error.path == self.document.path:
                self.mistakes.extend(error.mistakes)
            else:
                self.mistakes.extend(
                    dataclasses.replace(m, path=m.path or error.path)
                    for m in error.mistakes
                )
        except PlaygroundError as error:
            self.mistakes.append(self.document.mistake(place, error.problem, error.fix))
        return None

    def setup(self) -> Setup:
        scenario = self.scenario
        if not scenario.name or set(scenario.name) & set('/\\:*?"<>| \t\n'):
            self.wrong(
                ("name",),
                f"{scenario.name!r} cannot name a folder.",
                "use letters, digits, - and _",
            )
        duration_s = self.duration(("duration",), scenario.duration) or 0.0
        warm_up_s = self.duration(("warm_up",), scenario.warm_up) or 0.0
        if duration_s and warm_up_s >= duration_s:
            self.wrong(
                ("warm_up",),
                f"{scenario.warm_up} leaves nothing of a run of {scenario.duration} to "
                "judge.",
                "make the duration longer; it includes the warm-up",
            )
        elif not duration_s and not self.mistakes:
            self.wrong(("duration",), "a run of no length shows nothing.")
        try:
            start_ns = from_iso(scenario.start)
        except ValueError:
            start_ns = 0
            self.wrong(
                ("start",),
                f"{scenario.start!r} is not an instant.",
                "write it as 2026-01-23T06:00:00Z",
            )
        plant = self.plant()
        signals = plant.signals if plant is not None else None
        if signals is None or self.mistakes_of_plant:
            raise DocumentError(self.document.path, self.mistakes)
        controllers = self.controllers(signals)
        initial = self.initial(signals)
        disturbances = self.disturbances(signals)
        checks = self.checks(signals)
        kpis, limits = self.kpis(signals)
        if self.mistakes:
            raise DocumentError(self.document.path, self.mistakes)
        return Setup(
            scenario=scenario,
            plant=plant,
            signals=signals,
            controllers=controllers,
            start_ns=start_ns,
            duration_s=duration_s,
            warm_up_s=warm_up_s,
            initial=initial,
            disturbances=disturbances,
            checks=checks,
            kpis=kpis,
            limits=limits,
            files=dict(sorted(self.files.items())),
        )

    def wrong(self, place: Place, problem: str, fix: str = "") -> None:
        self.mistakes.append(self.document.mistake(place, problem, fix))

    def duration(self, place: Place, text: str) -> float | None:
        value: float | None = self.attempt(place, seconds, text)
        return value

    def file(self, name: str) -> Path:
        """Returns where a file is, and notes its hash."""
        path = found(self.folder, name)
        if path.is_file():
            self.files[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return path

    # -- parts ---------------------------------------------------------------

    def plant(self) -> Any:
        before = len(self.mistakes)
        plant = self._plant()
        if plant is not None and self.scenario.signals is not None:
            name = self.scenario.signals
            extra = self.attempt(("signals",), load_signals, self.file(name))
            if extra is not None:
                self.attempt(("signals",), _same_signals, plant, extra, name)
        self.mistakes_of_plant = len(self.mistakes) > before
        return plant

    def _plant(self) -> Any:
        place: Place = ("plant",)
        entry = self.scenario.plant
        if isinstance(entry, Mapping) and "model" in entry:
            return self.attempt(place, self._learned, entry)
        found = self.attempt(place, one_key, entry)
        if found is None:
            return None
        name, given = found
        if not isinstance(entry, str):
            place = (*place, name)
        target = self.attempt(place, plant_class, name)
        if target is None:
            return None
        return build(
            target,
            given,
            signals=None,
            document=self.document,
            place=place,
            mistakes=self.mistakes,
        )

    def _learned(self, entry: Mapping[str, Any]) -> Any:
        from playground.plants.learned import LearnedPlant

        for key in entry:
            if key != "model":
                raise PlaygroundError(
                    f"unknown key {key!r} beside 'model'.", "write {model: folder}"
                )
        name = entry["model"]
        if not isinstance(name, str):
            raise PlaygroundError(
                f"model: {name!r} is not the name of a folder.",
                "write {model: models/NAME}",
            )
        folder = found(self.folder, name)
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            self.files[f"{name}/{path.relative_to(folder).as_posix()}"] = (
                hashlib.sha256(path.read_bytes()).hexdigest()
            )
        return LearnedPlant(folder)

    def controllers(self, signals: Signals) -> tuple[tuple[str, Controller], ...]:
        made: list[tuple[str, Controller]] = []
        commanded: dict[str, str] = {}
        for number, entry in enumerate(self.scenario.controllers):
            place: Place = ("controllers", number)
            found = self.attempt(place, one_key, entry)
            if found is None:
                continue
            name, given = found
            if not isinstance(entry, str):
                place = (*place, name)
            target = self.attempt(
                place,
                load_class,
                CONTROLLERS.get(name, name),
                "controller",
                CONTROLLERS,
            )
            if target is None:
                continue
            controller = build(
                target,
                given,
                signals=signals,
                document=self.document,
                place=place,
                mistakes=self.mistakes,
            )
            if controller is None:
                continue
            for command in controller.commands:
                signal = self.attempt(place, signals.need, command)
                if signal is not None and signal.role == "measurement":
                    self.wrong(
                        place,
                        f"{command!r} is a measurement; nobody can set it.",
                        "commands of this plant: "
                        + ", ".join(s.name for s in signals.with_role("command")),
                    )
                if command in commanded:
                    self.wrong(
                        place,
                        f"{command!r} is already set by {commanded[command]!r}.",
                        "give each command to one controller",
                    )
                commanded[command] = name
            short = name.rpartition(":")[2]
            twin = sum(c.rpartition("-")[0] == short or c == short for c, _ in made)
            made.append((f"{short}-{twin + 1}" if twin else short, controller))
        return tuple(made)

    def initial(self, signals: Signals) -> tuple[tuple[Signal, float], ...]:
        found = []
        for name, written in self.scenario.initial.items():
            value = self.attempt(("initial", name), _settable, signals, name, written)
            if value is not None:
                found.append((signals[name], value))
        return tuple(found)

    def disturbances(self, signals: Signals) -> tuple[Disturbance, ...]:
        found = []
        for name, written in self.scenario.disturbances.items():
            one = self.attempt(
                ("disturbances", name), self._disturbance, signals, name, written
            )
            if one is not None:
                found.append(one)
        return tuple(found)

    def _disturbance(self, signals: Signals, name: str, written: Any) -> Disturbance:
        signal = signals.need(name)
        if signal.role == "measurement":
            raise PlaygroundError(
                f"{name!r} is a measurement; the plant says it, not the scenario.",
                "disturbances of this plant: "
                + (
                    ", ".join(s.name for s in signals.with_role("disturbance"))
                    or "none"
                ),
            )
        period_s = 0.0
        if isinstance(written, Mapping):
            entry = dict(written)
            period_s = seconds(entry.pop("period", "60s"))
            if isinstance(entry.get("table"), str):
                self.file(entry["table"])
            table = read_table(entry, signal.unit, folder=self.folder)
            if table.hold:
                period_s = 0.0
        else:
            value = quantity(written, signal.unit)
            table = read_table(
                {"table": [["0s", f"{value!r} {signal.unit}"]]}, signal.unit
            )
        for value in table.values.tolist():
            _within_range(signal, value)
        return Disturbance(signal=signal, table=table, period_s=period_s)

    def checks(self, signals: Signals) -> tuple[Check, ...]:
        found = []
        names: set[str] = set()
        for number, entry in enumerate(self.scenario.checks):
            place: Place = ("checks", number)
            check = self.attempt(place, read_check, entry, signals)
            if check is None:
                continue
            if check.name in names:
                self.wrong(place, f"two checks are called {check.name!r}.")
            names.add(check.name)
            found.append(check)
        return tuple(found)

    def kpis(self, signals: Signals) -> tuple[dict[str, Kpi], tuple[Limit, ...]]:
        entries = self.scenario.kpis
        kpis: dict[str, Kpi] = {}
        for number, entry in enumerate(entries.use):
            place: Place = ("kpis", "use", number)
            kpi = self.attempt(place, self._kpi, entry, signals)
            if kpi is None:
                continue
            if kpi.name in kpis:
                self.wrong(
                    place,
                    f"two KPIs are called {kpi.name!r}.",
                    "rename one: {travel: {of: valve, as: valve_travel}}",
                )
            kpis[kpi.name] = kpi
        limits = []
        for number, text in enumerate(entries.limits):
            place = ("kpis", "limits", number)
            one = self.attempt(place, self._limit, text, kpis)
            if one is not None:
                limits.append(one)
        return kpis, tuple(limits)

    def _kpi(self, entry: str | Mapping[str, Any], signals: Signals) -> Kpi:
        name, given = one_key(entry)
        if not isinstance(given, Mapping):
            raise PlaygroundError(
                f"{given!r} is not a block of 'key: value' lines.",
                f"write {name}: {{of: SIGNAL}}",
            )
        return read_kpi(
            name, given, self.scenario.kpis.roles, signals, folder=self.folder
        )

    def _limit(self, text: str, kpis: Mapping[str, Kpi]) -> Limit:
        found = read_limit(text, kpis)
        if found.relative:
            raise PlaygroundError(
                f"{text!r} compares with a baseline, but this scenario has none.",
                "write the limit as a number",
            )
        return found


def _same_signals(plant: Any, extra: Signals, name: str) -> None:
    """Gives the plant the signals of a file, which must be able to serve it."""
    for own in plant.signals.values():
        if own.name not in extra:
            raise PlaygroundError(
                f"{name} does not have the signal {own.name!r} of the plant."
                f"{closest(own.name, extra)}",
                "start from the signals file that came with the plant",
            )
        other = extra[own.name]
        if (other.unit, other.role) != (own.unit, own.role):
            raise PlaygroundError(
                f"{name} has {own.name!r} as {other.role} in {other.unit}; the plant "
                f"has it as {own.role} in {own.unit}.",
                "topics may differ, meanings may not",
            )
    plant.signals = extra


def _settable(signals: Signals, name: str, written: Any) -> float:
    signal = signals.need(name)
    if signal.role == "measurement":
        raise PlaygroundError(
            f"{name!r} is a measurement; where the plant starts is said by the plant's "
            "parameters.",
            "write it below 'plant:'",
        )
    return _within_range(signal, quantity(written, signal.unit))


def _within_range(signal: Signal, value: float) -> float:
    if signal.range is not None and signal.clip(value) != value:
        raise PlaygroundError(
            f"{value:g} {signal.unit} is outside the range of {signal.name!r}, "
            f"{signal.range[0]:g}..{signal.range[1]:g} {signal.unit}."
        )
    return value


# -- writing -----------------------------------------------------------------


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name.removesuffix("_"): _plain(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if f.init and not (isinstance(value, CheckEntry) and _is_default(value, f))
        }
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


def _is_default(value: Any, one: dataclasses.Field[Any]) -> bool:
    return bool(getattr(value, one.name) == one.default)


def moved(scenario: Scenario, to: Path) -> dict[str, Any]:
    """Returns the scenario as it would stand in a file of another folder."""
    plain = scenario.plain()
    here = scenario.origin.folder

    def path(name: str) -> str:
        if Path(name).is_absolute():
            return name
        return Path(os.path.relpath(found(here, name), to)).as_posix()

    if isinstance(plain["plant"], dict) and "model" in plain["plant"]:
        plain["plant"]["model"] = path(plain["plant"]["model"])
    if plain["signals"] is not None:
        plain["signals"] = path(plain["signals"])

    def tables(value: Any) -> Any:
        if isinstance(value, dict):
            if isinstance(value.get("table"), str):
                return {**value, "table": path(value["table"])}
            return {key: tables(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [tables(entry) for entry in value]
        return value

    for key in ("disturbances", "kpis"):
        plain[key] = tables(plain[key])
    return plain


def dump(plain: Mapping[str, Any], *, comment: str = "") -> str:
    """Writes a plain scenario as YAML that reads back as the same."""
    import io

    from ruamel.yaml import YAML

    yaml = YAML(typ="rt", pure=True)
    yaml.default_flow_style = False
    yaml.width = 88
    stream = io.StringIO()
    yaml.dump(_quoted(dict(plain)), stream)
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    return head + stream.getvalue()


def _quoted(value: Any) -> Any:
    """Marks texts that would read back as something else."""
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    from playground.document import plain_scalar

    if isinstance(value, dict):
        return {_quoted(key): _quoted(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_quoted(entry) for entry in value]
    if isinstance(value, str) and not isinstance(plain_scalar(value), str):
        return DoubleQuotedScalarString(value)
    return value
