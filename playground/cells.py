"""A scenario with some of its values changed: by a test, or by its own matrix.

``matrix: {setpoint: [45 degC, 50 degC], seed: {range: [0, 10]}}`` stands for twenty
scenarios, its cells. A key is one of the scenario's own (``seed``, ``duration``),
the name of a parameter of a controller or the plant (``setpoint``), a disturbance
or an initial value; where several have it, it is written with the name of its
owner, ``thermostat.setpoint``. Nothing is run here.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playground.document import Document, DocumentError
from playground.errors import PlaygroundError, closest
from playground.scenario import Scenario, load_scenario, read_scenario
from playground.scenario.hashes import hash_of_file, hashes_of

MOST_CELLS = 100_000
_NUMBER = re.compile(r"([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s+(\S.*)")
_OWNERS = ("controllers", "plant", "disturbances", "initial")
_OWN = tuple(f.name for f in dataclasses.fields(Scenario) if f.init)
_NOT_OF_A_RUN = ("extends", "matrix", "monte_carlo")
"""Keys of a file that speak of other files or of many runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One scenario out of a matrix.

    Attributes:
        name: ``setpoint=50-seed=3``; empty where there is no matrix.
        values: What is changed, by key.
    """

    name: str
    values: Mapping[str, Any]


def read(source: Path | str | Mapping[str, Any], *, folder: Path = Path()) -> Scenario:
    """Returns a scenario from a file, or as it would stand in one.

    Args:
        source: The file, or what would stand in it.
        folder: Where files that a mapping names are looked for.

    Raises:
        DocumentError: With every mistake at once.
        FileFormatError: The file is missing or not YAML.
    """
    if isinstance(source, Mapping):
        document = Document("scenario", {"name": "scenario", **source})
        return read_scenario(document, folder=folder)
    return load_scenario(source)


def cells_of(scenario: Scenario) -> list[Cell]:
    """Returns the cells of a scenario's matrix; one without a name if it has none.

    Raises:
        DocumentError: The matrix names something that is not there, or a key has
            no values.
    """
    matrix = scenario.matrix
    if not matrix:
        return [Cell(name="", values={})]
    document, data = _written(scenario)
    mistakes = []
    axes: dict[str, list[Any]] = {}
    for key, written in matrix.items():
        try:
            _place(data, str(key))
            axes[str(key)] = _values(written)
        except PlaygroundError as error:
            mistakes.append(document.mistake(("matrix", key), error.problem, error.fix))
    count = math.prod(len(values) for values in axes.values())
    if count > MOST_CELLS:
        mistakes.append(
            document.mistake(
                ("matrix",), f"{count} cells are too many (at most {MOST_CELLS})."
            )
        )
    if mistakes:
        raise DocumentError(document.path, mistakes)
    names = {key: _short(values) for key, values in axes.items()}
    return [
        Cell(
            name="-".join(
                f"{key}={names[key][number]}"
                for key, number in zip(axes, chosen, strict=True)
            ),
            values={
                key: axes[key][number] for key, number in zip(axes, chosen, strict=True)
            },
        )
        for chosen in itertools.product(*(range(len(v)) for v in axes.values()))
    ]


def changed(scenario: Scenario, values: Mapping[str, Any]) -> Scenario:
    """Returns the scenario of a single run, with some values changed.

    Args:
        scenario: As it was written.
        values: What is changed, by key; see the top of this module.

    Raises:
        DocumentError: With every mistake in the file, each with its line.
        PlaygroundError: A key is not there, or there several times.
    """
    document, data = _with(scenario, values)
    return read_scenario(
        Document(document.path, data, document.lines), folder=scenario.origin.folder
    )


def hashes(
    scenario: Scenario,
    values: Mapping[str, Any],
    *,
    hash_of: Callable[[Path], str] = hash_of_file,
) -> dict[str, str]:
    """Returns the hashes of the files that a run with some values changed depends on.

    Args:
        scenario: As it was written.
        values: What is changed, by key.
        hash_of: Computes the hash of one file.
    """
    _, data = _with(scenario, values)
    return hashes_of(data, scenario.origin.folder, hash_of=hash_of)


def _with(
    scenario: Scenario, values: Mapping[str, Any]
) -> tuple[Document, dict[str, Any]]:
    document, written = _written(scenario)
    data = {
        key: copy.deepcopy(value)
        for key, value in written.items()
        if key not in _NOT_OF_A_RUN
    }
    for key, value in values.items():
        *way, last = _place(data, key)
        here: Any = data
        for step in way:
            here = here[step]
        here[last] = value
    return document, data


def _written(scenario: Scenario) -> tuple[Document, Mapping[str, Any]]:
    document = scenario.origin.document
    if document is None:
        plain = scenario.plain()
        return Document(f"scenario {scenario.name!r}", plain), plain
    data: Mapping[str, Any] = document.data
    return document, {"name": scenario.name, **data}


def value_at(scenario: Scenario, key: str) -> Any:
    """Returns what stands in a scenario under a key; see `changed`.

    Raises:
        PlaygroundError: The key is not there, or there several times.
    """
    _, here = _written(scenario)
    value: Any = here
    for step in _place(here, key):
        value = value.get(step) if isinstance(value, Mapping) else value[step]
    return value


def _values(written: Any) -> list[Any]:
    if isinstance(written, Mapping) and list(written) == ["range"]:
        ends = written["range"]
        if (
            isinstance(ends, Sequence)
            and 1 <= len(ends) <= 3
            and all(type(end) is int for end in ends)
        ):
            return list(range(*ends))
        raise PlaygroundError(
            f"range: {ends!r} are not whole numbers.",
            "write {range: [0, 10]} for 0, 1, … 9",
        )
    if isinstance(written, list) and written:
        return list(written)
    raise PlaygroundError(
        f"{written!r} is not a list of values.",
        "write [45 degC, 50 degC], or {range: [0, 10]}",
    )


def _short(values: Sequence[Any]) -> list[str]:
    """Returns how values are called: without the unit where all have the same."""
    found = [_NUMBER.fullmatch(v) if isinstance(v, str) else None for v in values]
    units = {match[2] if match else None for match in found}
    if len(units) == 1 and None not in units:
        names = [match[1] for match in found if match]
    else:
        names = [re.sub(r"[\s:/\[\]]+", "_", str(v)) for v in values]
    if len(set(names)) < len(names):
        names = [f"{name}#{number}" for number, name in enumerate(names)]
    return names


def _place(data: Mapping[str, Any], key: str) -> tuple[str | int, ...]:
    """Returns where in a scenario a key stands, or may be put."""
    if key in _OWN:
        return (key,)
    places = dict(_parameters(data))
    owner, dot, name = key.rpartition(".")
    fitting = [
        place
        for place, (its_owner, its_name) in places.items()
        if its_name == name and (not dot or its_owner == owner)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        owners = [f"{places[place][0]}.{name}" for place in fitting]
        raise PlaygroundError(
            f"{key!r} stands at {len(fitting)} places in this scenario.",
            f"write {' or '.join(dict.fromkeys(owners))}",
        )
    known = [*_OWN, *(name for _, name in places.values())]
    raise PlaygroundError(
        f"Nothing in this scenario is called {key!r}.{closest(key, known)}",
        "write a key of the scenario, or a parameter that it gives a value: "
        + (", ".join(dict.fromkeys(n for _, n in places.values())) or "it has none"),
    )


def _parameters(
    data: Mapping[str, Any],
) -> Iterator[tuple[tuple[str | int, ...], tuple[str, str]]]:
    """Yields every parameter that a scenario gives: place, owner and name."""
    for section in _OWNERS:
        written = data.get(section)
        if isinstance(written, list):
            entries: list[tuple[tuple[str | int, ...], Any]] = [
                ((section, number), e) for number, e in enumerate(written)
            ]
        elif section == "plant":
            entries = [((section,), written)]
        else:
            if isinstance(written, Mapping):
                for name in written:
                    yield (section, name), (section, str(name))
            continue
        for place, entry in entries:
            if not isinstance(entry, Mapping):
                continue
            for owner, given in entry.items():
                if isinstance(given, Mapping):
                    for name in given:
                        yield (*place, owner, name), (str(owner), str(name))
                elif section == "plant":
                    yield (*place, owner), (section, str(owner))
