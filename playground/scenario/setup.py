"""From what was written to parts that can meet: plant, controllers, checks, KPIs.

`Preparation` goes through a scenario once and notes everything that is wrong
with it, each at its line, so that a person mends a file in one go.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.checks import Check, read_check
from playground.controllers import BUILT_IN as CONTROLLERS
from playground.controllers import Controller
from playground.controllers.function import is_strategy, maker_of
from playground.document import Document, DocumentError, Mistake, Place
from playground.errors import PlaygroundError, closest
from playground.instant import from_iso
from playground.kpis import Kpi, Limit, read_kpi, read_limit
from playground.message import check_topic
from playground.parameters import build, load_class
from playground.plants import plant_class
from playground.quantity import quantity, seconds
from playground.scenario.entries import (
    LinkEntry,
    ProgramEntry,
    PublishEntry,
    Scenario,
    found,
    one_key,
    words_of,
    workplace,
)
from playground.scenario.happenings import (
    read_disturbance,
    read_event,
    read_replayed,
    settable,
)
from playground.scenario.hashes import hashes_of
from playground.scenario.parts import Disturbance, Event, Program, Replayed, Setup
from playground.scenario.plant import (
    ENVELOPE,
    allowed_share,
    doubted_outputs,
    learned_plant,
    wrong_directions,
)
from playground.signals import Signal, Signals
from playground.signals_file import load_signals

if TYPE_CHECKING:
    from playground.link import Link


class Preparation:
    """Makes the parts of a scenario and collects what is wrong."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.folder = scenario.origin.folder
        self.document = scenario.origin.document or Document(
            f"scenario {scenario.name!r}", scenario.plain()
        )
        self.mistakes: list[Mistake] = []

    def _attempt(
        self, place: Place, action: Callable[..., Any], *arguments: Any
    ) -> Any:
        """Returns what the action returns; a mistake is noted at the place."""
        try:
            return action(*arguments)
        except DocumentError as error:
            if error.path == self.document.path:
                self.mistakes.extend(error.mistakes)
            else:
                self.mistakes.extend(
                    m._replace(path=m.path or error.path) for m in error.mistakes
                )
        except PlaygroundError as error:
            self.mistakes.append(self.document.mistake(place, error.problem, error.fix))
        return None

    def setup(self) -> Setup:
        """Makes all parts; see `Scenario.prepare`."""
        scenario = self.scenario
        if not scenario.name or set(scenario.name) & set('/\\:*?"<>| \t\n'):
            self._wrong(
                ("name",),
                f"{scenario.name!r} cannot name a folder.",
                "use letters, digits, - and _",
            )
        duration_s = self._duration(("duration",), scenario.duration) or 0.0
        if scenario.seed < 0:
            self._wrong(
                ("seed",),
                f"{scenario.seed} is below 0.",
                "write a whole number from 0 on",
            )
        warm_up_s = self._duration(("warm_up",), scenario.warm_up) or 0.0
        if duration_s and warm_up_s >= duration_s:
            self._wrong(
                ("warm_up",),
                f"{scenario.warm_up} leaves nothing of a run of {scenario.duration} to "
                "judge.",
                "make the duration longer; it includes the warm-up",
            )
        elif not duration_s and not self.mistakes:
            self._wrong(
                ("duration",),
                "a run of no length shows nothing.",
                "write for instance 8h",
            )
        try:
            start_ns = from_iso(scenario.start)
        except ValueError:
            start_ns = 0
            self._wrong(
                ("start",),
                f"{scenario.start!r} is not an instant.",
                "write it as 2026-01-23T06:00:00Z",
            )
        plant = self._checked_plant()
        signals = plant.signals if plant is not None else None
        if signals is None or self.mistakes_of_plant:
            raise DocumentError(self.document.path, self.mistakes)
        controllers = self._controllers(signals)
        programs = self._programs()
        retained, initial = self._initial(signals)
        disturbances, replayed = self._disturbances(signals)
        self.clients = {"plant", *(name for name, _ in controllers)}
        self.clients.update(program.name for program in programs)
        links = self._links()
        events = self._events(signals)
        checks = self._checks(signals)
        baseline = self._baseline()
        kpis, limits = self._kpis(signals)
        files = hashes_of(scenario.plain(), self.folder)
        if self.mistakes:
            raise DocumentError(self.document.path, self.mistakes)
        return Setup(
            scenario=scenario,
            plant=plant,
            signals=signals,
            controllers=controllers,
            programs=programs,
            links=links,
            start_ns=start_ns,
            duration_s=duration_s,
            warm_up_s=warm_up_s,
            retained=retained,
            initial=initial,
            disturbances=disturbances,
            replayed=replayed,
            events=events,
            checks=checks,
            kpis=kpis,
            limits=limits,
            baseline=baseline,
            files=files,
            allowed_share=self.allowed_share,
            notes=self.notes,
        )

    def _wrong(self, place: Place, problem: str, fix: str = "") -> None:
        self.mistakes.append(self.document.mistake(place, problem, fix))

    def _duration(self, place: Place, text: str) -> float | None:
        value: float | None = self._attempt(place, seconds, text)
        return value

    def _file(self, name: str) -> Path:
        """Returns where a file is."""
        return found(self.folder, name)

    # -- parts ---------------------------------------------------------------

    def _checked_plant(self) -> Any:
        before = len(self.mistakes)
        plant = self._plant()
        if plant is not None and self.scenario.signals is not None:
            name = self.scenario.signals
            extra = self._attempt(("signals",), load_signals, self._file(name))
            if extra is not None:
                self._attempt(("signals",), _same_signals, plant, extra, name)
        if plant is not None:
            self._believe(plant)
        self.mistakes_of_plant = len(self.mistakes) > before
        return plant

    def _believe(self, plant: Any) -> None:
        """Finds out how far the plant may be believed."""
        written = self.scenario.plant
        entry = written if isinstance(written, Mapping) else {}
        share = self._attempt(
            ("plant", ENVELOPE), allowed_share, plant, entry.get(ENVELOPE)
        )
        self.allowed_share = 0.0 if share is None else share
        self.doubted = doubted_outputs(plant)
        wrong = wrong_directions(plant)
        self.notes = tuple(f"the model is forced: {text}" for text in wrong)
        if wrong and not entry.get("force", False):
            self._wrong(
                ("plant",),
                f"the model answers against what its signals declare: "
                f"{'; '.join(wrong)}.",
                "look at the sign of that sensor and at the data, and learn it again; "
                "or write force: true beside model (run --force-model)",
            )

    def _usable(self, place: Place, names: Iterable[str]) -> None:
        """Refuses what depends on outputs that the plant cannot predict."""
        for name in dict.fromkeys(names):
            if name in self.doubted:
                self._wrong(
                    place,
                    f"{name!r} is unusable: {self.doubted[name]}.",
                    "leave it out, or learn the model from more or other data",
                )

    def _plant(self) -> Any:
        place: Place = ("plant",)
        entry = self.scenario.plant
        if isinstance(entry, Mapping) and "model" in entry:
            return self._attempt(place, learned_plant, entry, self.folder)
        if isinstance(entry, Mapping):
            entry = {key: given for key, given in entry.items() if key != ENVELOPE}
        found = self._attempt(place, one_key, entry)
        if found is None:
            return None
        name, given = found
        if not isinstance(entry, str):
            place = (*place, name)
        target = self._attempt(place, plant_class, name)
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

    def _controllers(self, signals: Signals) -> tuple[tuple[str, Controller], ...]:
        made: list[tuple[str, Controller]] = []
        commanded: dict[str, str] = {}
        for number, entry in enumerate(self.scenario.controllers):
            place: Place = ("controllers", number)
            found = self._attempt(place, one_key, entry)
            if found is None:
                continue
            name, given = found
            if not isinstance(entry, str):
                place = (*place, name)
            target = self._attempt(
                place,
                load_class,
                CONTROLLERS.get(name, name),
                "controller",
                CONTROLLERS,
            )
            if is_strategy(target):
                target = self._attempt(place, maker_of, target)
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
            self._usable(place, controller.measures)
            for command in controller.commands:
                signal = self._attempt(place, signals.need, command)
                if signal is not None and signal.role == "measurement":
                    self._wrong(
                        place,
                        f"{command!r} is a measurement; nobody can set it.",
                        "commands of this plant: "
                        + ", ".join(s.name for s in signals.with_role("command")),
                    )
                if command in commanded:
                    self._wrong(
                        place,
                        f"{command!r} is already set by {commanded[command]!r}.",
                        "give each command to one controller",
                    )
                commanded[command] = name
            short = name.rpartition(":")[2]
            twin = sum(c.rpartition("-")[0] == short or c == short for c, _ in made)
            made.append((f"{short}-{twin + 1}" if twin else short, controller))
        return tuple(made)

    def _programs(self) -> tuple[Program, ...]:
        made = []
        for number, entry in enumerate(self.scenario.programs):
            program = self._attempt(("programs", number), self._program, entry)
            if program is not None:
                made.append(program)
        return tuple(made)

    def _program(self, entry: ProgramEntry) -> Program:
        words = words_of(entry.run)
        if entry.folder is not None and not (self.folder / entry.folder).is_dir():
            raise PlaygroundError(
                f"There is no folder {entry.folder}.",
                "name one, counted from the scenario's folder",
            )
        folder = workplace(self.folder, entry.run, entry.folder).resolve()
        if words[0] != "-m" and not (script := folder / words[0]).is_file():
            known = [p.name for p in script.parent.glob("*.py")]
            raise PlaygroundError(
                f"There is no program {words[0]}.{closest(script.name, known)}",
                "name it from the scenario's folder or from the current one",
            )
        return Program(
            command=tuple(words),
            name=entry.name or Path(words[1 if words[0] == "-m" else 0]).stem,
            folder=folder,
            start_s=seconds(entry.start),
            timezone=entry.timezone,
            env=dict(entry.env),
            hosts=None if entry.hosts is None else tuple(entry.hosts),
            allow_write=tuple(entry.allow_write),
            watchdog_s=seconds(entry.watchdog),
            crash_fails=entry.on_crash == "fail",
        )

    def _links(self) -> dict[str, Link]:
        made = {}
        for client_id, entry in self.scenario.links.items():
            place: Place = ("links", client_id)
            if client_id != "*" and client_id not in self.clients:
                self._wrong(
                    place,
                    f"There is no client {client_id!r}."
                    f"{closest(client_id, self.clients)}",
                    f"clients of this run: {', '.join(sorted(self.clients))}; "
                    '"*" is for all that are not named',
                )
                continue
            link = self._attempt(place, _link, entry)
            if link is not None:
                made[client_id] = link
        return made

    def _initial(
        self, signals: Signals
    ) -> tuple[tuple[PublishEntry, ...], tuple[tuple[Signal, float], ...]]:
        kept, values = [], []
        for name, written in self.scenario.initial.items():
            place: Place = ("initial", name)
            if name == "retained":
                for topic, payload in (
                    written.items() if isinstance(written, Mapping) else ()
                ):
                    if self._attempt((*place, topic), check_topic, topic) is not None:
                        kept.append(
                            PublishEntry(topic=topic, payload=str(payload), retain=True)
                        )
                if not isinstance(written, Mapping):
                    self._wrong(
                        place,
                        f"{written!r} is not a block of 'topic: payload' lines.",
                        "write retained: {lab/mode: heat}",
                    )
                continue
            value = self._attempt(place, settable, signals, name, written)
            if value is not None:
                values.append((signals[name], value))
        return tuple(kept), tuple(values)

    def _disturbances(
        self, signals: Signals
    ) -> tuple[tuple[Disturbance, ...], tuple[Replayed, ...]]:
        made, replayed = [], []
        for name, written in self.scenario.disturbances.items():
            place: Place = ("disturbances", name)
            if isinstance(written, Mapping) and "recording" in written:
                one = self._attempt(
                    place, read_replayed, signals, name, written, self.folder
                )
                if one is not None:
                    replayed.append(one)
                continue
            one = self._attempt(
                place, read_disturbance, signals, name, written, self.folder
            )
            if one is not None:
                made.append(one)
        return tuple(made), tuple(replayed)

    def _events(self, signals: Signals) -> tuple[Event, ...]:
        made = []
        for number, entry in enumerate(self.scenario.events):
            place: Place = ("events", number)
            event: Event | None = self._attempt(
                place,
                read_event,
                entry,
                signals,
                self.clients,
                self.scenario.duration,
            )
            if event is not None:
                self._usable(place, () if event.when is None else event.when.signals)
                made.append(event)
        return tuple(made)

    def _baseline(self) -> Scenario | None:
        changes = self.scenario.baseline
        if changes is None:
            return None
        place: Place = ("baseline",)
        data = self.document.data
        merged = {
            **{k: v for k, v in data.items() if k not in _NOT_OF_BASELINE},
            **changes,
            "name": f"{self.scenario.name}-baseline",
        }
        if isinstance(merged.get("kpis"), Mapping):
            # It is measured alike, but judged by nobody.
            kpis = {k: v for k, v in merged["kpis"].items() if k != "limits"}
            merged["kpis"] = kpis
        for key in changes:
            if key in ("name", *_NOT_OF_BASELINE):
                self._wrong(
                    (*place, key),
                    f"a baseline cannot have {key!r}.",
                    "leave it out; there go controllers, plant, disturbances and so on",
                )
                return None
        document = Document(
            self.document.path,
            merged,
            self.document.lines
            | {p[1:]: at for p, at in self.document.lines.items() if p[:1] == place},
        )
        before: list[Mistake] = []
        scenario: Scenario | None = document.check(Scenario, merged, (), before)
        if scenario is not None and not before:
            origin = dataclasses.replace(self.scenario.origin, document=document)
            object.__setattr__(scenario, "origin", origin)
            try:
                scenario.prepare()
            except DocumentError as error:
                # What is wrong in both is said once.
                before.extend(error.mistakes)
        self.mistakes.extend(m for m in before if m not in self.mistakes)
        return scenario

    def _checks(self, signals: Signals) -> tuple[Check, ...]:
        found = []
        names: set[str] = set()
        for number, entry in enumerate(self.scenario.checks):
            place: Place = ("checks", number)
            read = partial(read_check, entry, signals, folder=self.folder)
            check = self._attempt(place, read)
            if check is None:
                continue
            self._usable(place, check.signals)
            if check.name in names:
                self._wrong(
                    place,
                    f"two checks are called {check.name!r}.",
                    "leave one out, or give it a 'name: …' of its own",
                )
            names.add(check.name)
            found.append(check)
        return tuple(found)

    def _kpis(self, signals: Signals) -> tuple[dict[str, Kpi], tuple[Limit, ...]]:
        entries = self.scenario.kpis
        kpis: dict[str, Kpi] = {}
        wrong: list[str] = []
        for number, entry in enumerate(entries.use):
            place: Place = ("kpis", "use", number)
            kpi = self._attempt(place, self._kpi, entry, signals)
            if kpi is None:
                wrong.extend([entry] if isinstance(entry, str) else entry)
                continue
            if kpi.name in kpis:
                self._wrong(
                    place,
                    f"two KPIs are called {kpi.name!r}.",
                    "rename one: {travel: {of: valve, as: valve_travel}}",
                )
            self._usable(place, kpi.signals)
            kpis[kpi.name] = kpi
        limits = []
        for number, text in enumerate(entries.limits):
            place = ("kpis", "limits", number)
            name = text.split()[0] if text.strip() else ""
            if name not in kpis and closest(name, wrong):
                # It is the misspelt one, about which enough is said above.
                continue
            one = self._attempt(place, self._limit, text, kpis)
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
        one = read_limit(text, kpis)
        if one.relative and self.scenario.baseline is None:
            raise PlaygroundError(
                f"{text!r} compares with a baseline, but this scenario has none.",
                "add 'baseline: {controllers: […]}', or write the limit as a number",
            )
        return one


def _link(entry: LinkEntry) -> Link:
    # Most scenarios have perfect links, and need nothing that draws by chance.
    from playground.link import Link

    return Link(
        latency_s=seconds(entry.latency),
        jitter_s=seconds(entry.jitter),
        loss=quantity(entry.loss, "1"),
        retry_s=seconds(entry.retry),
    )


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


_NOT_OF_BASELINE = ("baseline", "matrix", "monte_carlo", "checks", "files")
