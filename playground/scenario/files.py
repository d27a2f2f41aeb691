"""Scenario files: YAML in, YAML out."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playground.checks import CheckEntry
from playground.document import Document, DocumentError, Mistake, plain_scalar
from playground.errors import PlaygroundError
from playground.scenario.entries import (
    VERSION,
    EventEntry,
    Origin,
    ProgramEntry,
    Scenario,
    forced,
    found,
    workplace,
)
from playground.scenario.hashes import MODULE, hashes_of, with_files


def load_scenario(path: Path | str, *, force_model: bool = False) -> Scenario:
    """Reads a scenario file.

    Args:
        path: Of the file.
        force_model: As if ``force: true`` stood beside its model.

    Raises:
        DocumentError: With every mistake in the file, each with its line.
        FileFormatError: The file is missing or not YAML.
    """
    return read_scenario(
        Document.read(path), folder=Path(path).parent, force_model=force_model
    )


def read_scenario(
    document: Document, *, folder: Path = Path(), force_model: bool = False
) -> Scenario:
    """Makes a scenario from a parsed file; see `load_scenario`."""
    document = _extended(document, folder, ())
    data = document.data
    if isinstance(data, Mapping) and "name" not in data:
        name = Path(document.path).stem.removesuffix(".scenario")
        data = {"name": name, **data}
    version = data.get("version", VERSION) if isinstance(data, Mapping) else VERSION
    if version != VERSION:
        fix = f'write version: "{VERSION}"'
        raise DocumentError(
            document.path,
            [document.mistake(("version",), f"{version!r} is not known here.", fix)],
        )
    mistakes: list[Mistake] = []
    scenario: Scenario | None = document.check(Scenario, data, (), mistakes)
    if scenario is None or mistakes:
        # What could be read is looked through as well, so that all is said at once.
        readable = _readable(document, data)
        if readable is not None:
            mistakes.extend(_mistakes_of(readable, document, folder))
        raise DocumentError(document.path, mistakes)
    object.__setattr__(scenario, "origin", Origin(folder, document))
    if force_model:
        object.__setattr__(scenario, "plant", forced(scenario.plant))
    scenario.prepare()
    return scenario


def _extended(document: Document, folder: Path, seen: tuple[Path, ...]) -> Document:
    """Lays a file over the one it names with ``extends:``."""
    if not isinstance(document.data, Mapping) or "extends" not in document.data:
        return document
    name = document.data["extends"]
    path = folder / name if isinstance(name, str) else folder
    here = path.resolve()
    problem = ""
    if not isinstance(name, str):
        problem = f"{name!r} is not the name of a file."
    elif not here.is_relative_to(folder.resolve()):
        problem = f"{name} leaves the folder of {document.path}."
    elif here in seen or here == Path(document.path).resolve():
        problem = f"{name} extends itself."
    if problem:
        raise DocumentError(
            document.path,
            [document.mistake(("extends",), problem, "name a file beside this one")],
        )
    try:
        base = _extended(Document.read(path), folder, (*seen, here))
    except DocumentError:
        raise
    except PlaygroundError as error:
        raise DocumentError(
            document.path,
            [document.mistake(("extends",), error.problem, error.fix)],
        ) from error
    return document.over(base)


_NEUTRAL: dict[str, tuple[Any, dict[str, Any]]] = {
    "checks": (CheckEntry, {"no_message": "x"}),
    "events": (EventEntry, {"at": "0s", "publish": {"topic": "x", "payload": ""}}),
    "programs": (ProgramEntry, {"run": "python x.py"}),
}
"""What stands in for an entry that is wrong, while the others are looked through."""


def _readable(document: Document, data: Any) -> Scenario | None:
    """Returns the scenario without the keys that are wrong in themselves."""
    if not isinstance(data, Mapping):
        return None
    known = {f.name for f in dataclasses.fields(Scenario) if f.init}
    good: dict[str, Any] = {}
    for key, value in data.items():
        if key not in known:
            continue
        if key in _NEUTRAL and isinstance(value, list):
            value = [
                entry if _is_good(document, _NEUTRAL[key][0], entry) else neutral
                for number, entry in enumerate(value)
                for neutral in [_neutral(key, number)]
            ]
        one = {"name": "x", "plant": "x", "duration": "1s", key: value}
        if _is_good(document, Scenario, one):
            good[key] = value
    if "plant" not in good:
        return None
    good.setdefault("duration", "1000000h")
    scenario: Scenario | None = document.check(Scenario, {"name": "x", **good}, (), [])
    return scenario


def _neutral(key: str, number: int) -> dict[str, Any]:
    entry = dict(_NEUTRAL[key][1])
    return entry | {"name": f"x{number}"} if key == "checks" else entry


def _is_good(document: Document, kind: Any, value: Any) -> bool:
    attempt: list[Mistake] = []
    document.check(kind, value, (), attempt)
    return not attempt


def _mistakes_of(
    scenario: Scenario, document: Document, folder: Path
) -> tuple[Mistake, ...]:
    object.__setattr__(scenario, "origin", Origin(folder, document))
    try:
        scenario.prepare()
    except DocumentError as error:
        return error.mistakes
    return ()


def moved(scenario: Scenario, to: Path) -> dict[str, Any]:
    """Returns the scenario of a single run as it would stand in another folder.

    With it go the hashes of the files that it names, so that nobody takes what
    they give later for what they gave now.
    """
    plain = scenario.plain()
    here = scenario.origin.folder
    for key in ("matrix", "monte_carlo"):
        del plain[key]
    hashes = hashes_of(plain, here)

    def path(name: str) -> str:
        if Path(name).is_absolute():
            return name
        return Path(os.path.relpath(found(here, name), to)).as_posix()

    def folder(run: str, beside: str | None) -> str:
        return Path(os.path.relpath(workplace(here, run, beside), to)).as_posix()

    plain = with_files(plain, path, folder)
    for key in ("plant", "controllers", "kpis", "baseline"):
        plain[key] = _importable(plain[key])
    plain["files"] = {
        _importable(name) if name.startswith(MODULE) else path(name): sha256
        for name, sha256 in hashes.items()
    }
    return {key: value for key, value in plain.items() if value not in (None, [], {})}


def _importable(value: Any) -> Any:
    """Returns a part with ``__main__`` replaced by the name of the script behind it."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if script is None:
        return value
    if isinstance(value, Mapping):
        return {_importable(key): _importable(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_importable(entry) for entry in value]
    if isinstance(value, str):
        return _MAIN.sub(rf"\1{Path(script).stem}", value)
    return value


_MAIN = re.compile(rf"^({MODULE})?__main__(?=:[A-Za-z_]\w*$|$)")


def dump(plain: Mapping[str, Any], *, comment: str = "") -> str:
    """Writes a plain scenario as YAML that reads back as the same."""
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

    if isinstance(value, dict):
        return {_quoted(key): _quoted(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_quoted(entry) for entry in value]
    if isinstance(value, str) and not isinstance(plain_scalar(value), str):
        return DoubleQuotedScalarString(value)
    return value
