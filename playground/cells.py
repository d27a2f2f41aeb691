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
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playground.document import Document, DocumentError
from playground.errors import PlaygroundError, closest
from playground.scenario import Scenario, read_scenario

MOST_CELLS = 100_000
_NUMBER = re.compile(r"([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s+(\S.*)")
_OWNERS = ("controllers", "plant", "disturbances", "initial")
_OWN = tuple(f.name for f in dataclasses.fields(Scenario) if f.init)
_NOT_RUN = ("matrix", "tags")
"""Keys of a file that speak of its cells, not of a single run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One scenario out of a matrix.

    Attributes:
        name: ``setpoint=50-seed=3``; empty where there is no matrix.
        values: What is changed, by key.
    """

    name: str
    values: Mapping[str, Any]


def read_document(source: Path | str | Mapping[str, Any]) -> Document:
    """Returns a scenario file, or a scenario given as a mapping, unchecked.

    Raises:
        FileFormatError: The file is missing or not YAML.
    """
    if isinstance(source, Mapping):
        return Document("scenario", {"name": "scenario", **source})
    return Document.read(source)


def tags_of(document: Document) -> tuple[str, ...]:
    """Returns the tags of a scenario: ``tags: [slow, valve]``.

    Raises:
        DocumentError: They are not a list of names.
    """
    tags = document.data.get("tags", []) if isinstance(document.data, Mapping) else []
    wrong = not isinstance(tags, list) or not all(
        isinstance(tag, str) and tag.isidentifier() for tag in tags
    )
    if wrong:
        raise DocumentError(
            document.path,
            [
                document.mistake(
                    ("tags",),
                    f"{tags!r} is not a list of names.",
                    "write tags: [slow, valve]; letters, digits and _",
                )
            ],
        )
    return tuple(tags)


def cells_of(document: Document) -> list[Cell]:
    """Returns the cells of a scenario's matrix; one without a name if it has none.

    Raises:
        DocumentError: The matrix names something that is not there, or a key has
            no values.
    """
    data = document.data
    matrix = data.get("matrix") if isinstance(data, Mapping) else None
    if matrix is None:
        return [Cell(name="", values={})]
    if not isinstance(matrix, Mapping) or not matrix:
        raise DocumentError(
            document.path,
            [
                document.mistake(
                    ("matrix",),
                    f"{matrix!r} names no values.",
                    "write matrix: {setpoint: [45 degC, 50 degC]}",
                )
            ],
        )
    mistakes = []
    axes: dict[str, list[Any]] = {}
    for key, written in matrix.items():
        try:
            _place(data, str(key))
            axes[str(key)] = _values(written)
        except PlaygroundError as error:
            mistakes.append(document.mistake(("matrix", key), error.problem, error.fix))
    count = 1
    for values in axes.values():
        count *= len(values)
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


def scenario_with(
    document: Document, values: Mapping[str, Any], *, folder: Path = Path()
) -> Scenario:
    """Returns the scenario of a file with some values changed.

    Args:
        document: Of the file.
        values: What is changed, by key; see the top of this module.
        folder: Where files that it names are looked for.

    Raises:
        DocumentError: With every mistake in the file, each with its line.
        PlaygroundError: A key is not there, or there several times.
    """
    data = document.data
    if not isinstance(data, Mapping):
        return read_scenario(document, folder=folder)
    changed = {key: copy.deepcopy(v) for key, v in data.items() if key not in _NOT_RUN}
    for key, value in values.items():
        # A quantity is text in a file; of the keys of a scenario only a few are
        # numbers.
        *way, last = _place(changed, key)
        here: Any = changed
        for step in way:
            here = here[step]
        here[last] = value
    return read_scenario(
        Document(document.path, changed, document.lines), folder=folder
    )


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
