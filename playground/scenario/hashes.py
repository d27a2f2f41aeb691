"""The files that decide about a run beside the scenario itself, and their hashes.

Here alone is known where in a scenario files are named: tables, recordings, models,
schemas, signals, programs, and the modules of ``module:Class``. A resolved scenario
carries the hashes, so that it is refused once one of these files is another.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from playground.document import Document, DocumentError
from playground.errors import closest
from playground.scenario.entries import Scenario, found, script_of, workplace

MODULE = "module "
"""Before the name of a module, where others have the name of a file."""
_KEYS = ("table", "recording", "model")
_SECTIONS = {
    # The signals of a KPI are names; those of a plant are a file.
    "plant": (*_KEYS, "signals"),
    "controllers": _KEYS,
    "disturbances": _KEYS,
    "kpis": _KEYS,
}
"""Keys below which a text is the name of a file."""
_SPEC = re.compile(r"([A-Za-z_][\w.]*):[A-Za-z_]\w*")


def with_files(
    plain: Mapping[str, Any],
    name: Callable[[str], str],
    folder: Callable[[str, str | None], str | None] = lambda _run, folder: folder,
) -> dict[str, Any]:
    """Returns a plain scenario with each name of a file replaced.

    Args:
        plain: As it stands in a file, or what a baseline changes in it.
        name: Returns what is to stand there instead of a name.
        folder: Returns the folder of a program from its command line and the folder
            that is written beside it.
    """
    changed = dict(plain)
    for key, keys in _SECTIONS.items():
        if key in changed:
            changed[key] = _replaced(changed[key], name, keys)
    for key in ("checks", "programs"):
        if isinstance(changed.get(key), list):
            changed[key] = [
                dict(entry) if isinstance(entry, Mapping) else entry
                for entry in changed[key]
            ]
    for check in changed.get("checks") or ():
        if isinstance(check, dict) and isinstance(check.get("schema"), str):
            check["schema"] = name(check["schema"])
    for program in changed.get("programs") or ():
        if isinstance(program, dict) and isinstance(program.get("run"), str):
            program["folder"] = folder(program["run"], program.get("folder"))
            if program["folder"] is None:
                del program["folder"]
    if isinstance(changed.get("signals"), str):
        changed["signals"] = name(changed["signals"])
    if isinstance(changed.get("baseline"), Mapping):
        changed["baseline"] = with_files(changed["baseline"], name, folder)
    return changed


def _replaced(value: Any, name: Callable[[str], str], keys: Collection[str]) -> Any:
    if isinstance(value, Mapping):
        return {
            key: name(entry)
            if key in keys and isinstance(entry, str)
            else _replaced(entry, name, keys)
            for key, entry in value.items()
        }
    if isinstance(value, list | tuple):
        return [_replaced(entry, name, keys) for entry in value]
    return value


def hash_of_file(path: Path) -> str:
    """Returns the SHA-256 of a file's content, as hexadecimal digits."""
    # Most scenarios name no file: they are read without the library of hashes.
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hashes_of(
    plain: Mapping[str, Any],
    folder: Path,
    *,
    hash_of: Callable[[Path], str] = hash_of_file,
) -> dict[str, str]:
    """Returns the SHA-256 of each file that a scenario names, in order of its name.

    Args:
        plain: As it stands in a file; its modules have been imported.
        folder: Where its files are looked for.
        hash_of: Computes the hash of one file.
    """
    names: dict[str, None] = {}

    def note(name: str) -> str:
        names[name] = None
        return name

    def note_script(run: str, beside: str | None) -> str | None:
        at = workplace(folder, run, beside)
        where = beside or "" if at == folder / (beside or "") else ""
        for script in _sources(at, run):
            note(Path(os.path.normpath(Path(where, script))).as_posix())
        return beside

    with_files(plain, note, note_script)
    hashes = {}
    for name in names:
        path = found(folder, name)
        if path.is_dir():
            for inside in sorted(p for p in path.rglob("*") if p.is_file()):
                hashes[f"{name}/{inside.relative_to(path).as_posix()}"] = hash_of(
                    inside
                )
        elif path.is_file():
            hashes[name] = hash_of(path)
    for module in _modules(plain):
        source = getattr(sys.modules.get(module), "__file__", None)
        if source is not None and Path(source).is_file():
            hashes[MODULE + module] = hash_of(Path(source))
    return dict(sorted(hashes.items()))


def _sources(at: Path, run: str) -> Iterator[str]:
    """Yields the files that a command line starts, as seen from where it runs."""
    script = script_of(run)
    if script is not None:
        yield script
        return
    module = run.partition("-m ")[2].split(" ")[0].replace(".", "/")
    for name in (f"{module}.py", f"{module}/__main__.py"):
        if module and (at / name).is_file():
            yield name


def _modules(plain: Mapping[str, Any]) -> Iterator[str]:
    """Yields the modules of ``module:Class`` that are not of this package."""
    entries: list[Any] = [plain.get("plant"), *(plain.get("controllers") or ())]
    kpis = plain.get("kpis")
    if isinstance(kpis, Mapping):
        entries += kpis.get("use") or ()
    for entry in entries:
        for name in entry if isinstance(entry, Mapping) else (entry,):
            spec = _SPEC.fullmatch(name) if isinstance(name, str) else None
            if spec is not None and not spec[1].startswith("playground."):
                yield spec[1]
    if isinstance(plain.get("baseline"), Mapping):
        yield from _modules(plain["baseline"])


def check_files(scenario: Scenario, hashes: Mapping[str, str]) -> None:
    """Refuses files that are others than those whose hashes a scenario carries.

    Args:
        scenario: Its ``files`` are looked at.
        hashes: Of the files that take part now.

    Raises:
        DocumentError: With each of them.
    """
    document = scenario.origin.document
    if document is None:
        document = Document(f"scenario {scenario.name!r}", None)
    mistakes = []
    for name, written in scenario.files.items():
        if name not in hashes:
            text = f"this file takes no part, or is gone.{closest(name, hashes)}"
            fix = "files that take part: " + (", ".join(hashes) or "none")
        elif hashes[name] != written:
            text = (
                f"the file is another than the one that was run: its SHA-256 is "
                f"{hashes[name][:12]}…, here stands {written[:12]}…"
            )
            fix = "put that file back; or leave this line out to run with the new one"
        else:
            continue
        mistakes.append(document.mistake(("files", name), text, fix))
    if mistakes:
        raise DocumentError(document.path, mistakes)
