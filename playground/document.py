"""A YAML file, read once, that remembers on which line everything stands.

YAML 1.2 through ruamel: ``on`` is text, ``010`` is ten, ``12:30`` is text, two
equal keys are an error. Validation runs through pydantic over plain
dataclasses and reports *all* mistakes at once. This module and its two readers,
signals and scenario, are the only ones that know either library.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from playground.errors import FileFormatError, closest

LARGEST_FILE = 1_000_000
LARGEST_TREE = 100_000
"""Nodes after alias expansion; stops a file of nested aliases."""

T = TypeVar("T")
Place = tuple[str | int, ...]
"""Way to a value inside the document: ``("checks", 2, "never")``."""


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One thing that is wrong in a file."""

    line: int
    text: str
    fix: str = ""


class DocumentError(FileFormatError):
    """All that is wrong with a file, each with its line."""

    def __init__(self, path: str, mistakes: Sequence[Mistake]) -> None:
        ordered = sorted(set(mistakes))
        lines = []
        for mistake in ordered:
            lines.append(f"{path}:{mistake.line}: {mistake.text}")
            if mistake.fix:
                lines.append(f"    fix: {mistake.fix}")
        count = f"{len(ordered)} mistakes in {path}:\n" if len(ordered) > 1 else ""
        super().__init__(count + "\n".join(lines), "")
        # SimPy and process pools rebuild an exception from args.
        self.args = (path, tuple(ordered))
        self.path = path
        self.mistakes = tuple(ordered)


class Document:
    """A parsed YAML file.

    Args:
        path: Where it came from, for messages.
        data: Plain dicts, lists, strings, numbers, booleans, None.
        lines: Line (from 1) of each place.
    """

    def __init__(self, path: str, data: Any, lines: Mapping[Place, int]) -> None:
        self.path = path
        self.data = data
        self._lines = lines

    @classmethod
    def read(cls, path: Path | str) -> Document:
        """Reads and parses a file.

        Raises:
            FileFormatError: It is missing, too large, or not YAML.
        """
        path = Path(path)
        try:
            if path.stat().st_size > LARGEST_FILE:
                raise FileFormatError(
                    f"{path} has {path.stat().st_size:,} bytes; "
                    f"{LARGEST_FILE:,} are allowed.",
                    "move data into a recording or a table and name it here",
                )
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            near = closest(
                path.name,
                [p.name for p in path.parent.glob("*.y*ml")]
                if path.parent.is_dir()
                else [],
            )
            raise FileFormatError(f"There is no file {path}.{near}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise FileFormatError(f"{path} cannot be read: {error}") from error
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, path: str = "<text>") -> Document:
        """Parses YAML text.

        Raises:
            FileFormatError: It is not YAML, or repeats a key.
        """
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError

        try:
            tree = YAML(typ="rt", pure=True).load(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            problem = (error.problem or str(error)).splitlines()[0]
            fix = ""
            if "duplicate key" in problem:
                problem = problem.split(" with value")[0]
                fix = "keep one of the two; YAML would silently take the last"
            raise DocumentError(
                path, [Mistake(line, f"not valid YAML: {problem}", fix)]
            ) from error
        except (YAMLError, ValueError) as error:
            raise FileFormatError(f"{path} is not valid YAML: {error}") from error
        lines: dict[Place, int] = {}
        data = _plain(tree, (), 1, lines, path)
        return cls(path, data, lines)

    def line(self, place: Place) -> int:
        """Returns the line of a place, or of the nearest thing around it."""
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place, 1)

    def mistake(self, place: Place, text: str, fix: str = "") -> Mistake:
        """Makes a `Mistake` that stands at a place."""
        return Mistake(self.line(place), f"{_say(place)}{text}", fix)

    def validate(self, type_: type[T], data: Any = None, place: Place = ()) -> T:
        """Makes an object of ``type_`` from the document or a part of it.

        Args:
            type_: A dataclass; its field types are the rule.
            data: The part; the whole document by default.
            place: Where the part stands.

        Raises:
            DocumentError: With every mistake at once.
        """
        from pydantic import TypeAdapter, ValidationError

        if data is None:
            data = self.data
        try:
            return TypeAdapter(type_).validate_python(data)
        except ValidationError as error:
            raise DocumentError(
                self.path,
                [self._say(type_, place, found) for found in error.errors()],
            ) from error

    def _say(self, type_: type, place: Place, found: Any) -> Mistake:
        where: Place = place + tuple(
            part for part in found["loc"] if self._exists(place, found, part)
        )
        key, seen = found["loc"][-1] if found["loc"] else "", found["input"]
        kind = found["type"]
        if kind == "unexpected_keyword_argument":
            known = _known_keys(type_, found["loc"])
            return self.mistake(
                (*place, *found["loc"]),
                f"unknown key {key!r}.{closest(str(key), known)}",
                f"allowed here: {', '.join(known)}" if known else "",
            )
        if kind in ("missing", "missing_argument"):
            return self.mistake(
                where, f"the key {key!r} is missing.", f"add '{key}: …'"
            )
        text = found["msg"]
        if kind == "literal_error":
            expected = found["ctx"]["expected"]
            near = closest(str(seen), re.findall(r"'([^']*)'", expected))
            return self.mistake(where, f"{seen!r} is not one of {expected}.{near}")
        if kind in ("dataclass_type", "dict_type"):
            text = "should be a block of 'key: value' lines"
        return self.mistake(where, f"{seen!r}: {text}.")

    def _exists(self, place: Place, found: Any, part: str | int) -> bool:
        # pydantic puts names of types into the way to a member of a union.
        way: Place = place
        for step in found["loc"]:
            if step == part:
                return (*way, step) in self._lines
            if (*way, step) in self._lines:
                way = (*way, step)
        return False


def _say(place: Place) -> str:
    if not place:
        return ""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return f"{text}: "


def _known_keys(type_: Any, loc: Iterable[str | int]) -> list[str]:
    """Returns the keys a dataclass allows at the parent of ``loc``, if it is one."""
    import types
    import typing

    for part in tuple(loc)[:-1]:
        if is_dataclass(type_) and isinstance(part, str):
            hints = typing.get_type_hints(type_)
            if part not in hints:
                continue
            type_ = hints[part]
        elif isinstance(part, int) or typing.get_origin(type_) in (dict, Mapping):
            arguments = typing.get_args(type_)
            type_ = arguments[-1] if arguments else type_
        origin = typing.get_origin(type_)
        if origin in (typing.Union, types.UnionType):
            members = [m for m in typing.get_args(type_) if m is not type(None)]
            type_ = members[0] if len(members) == 1 else type_
    return [f.name for f in fields(type_) if f.init] if is_dataclass(type_) else []


def _plain(
    node: Any, place: Place, line: int, lines: dict[Place, int], path: str
) -> Any:
    """Turns ruamel's nodes into plain Python and notes the line of each."""
    if len(lines) > LARGEST_TREE:
        raise FileFormatError(
            f"{path} has more than {LARGEST_TREE:,} values once its aliases (*name) "
            "are expanded.",
            "write out what you need; aliases of aliases grow beyond all bounds",
        )
    lines[place] = line
    if isinstance(node, Mapping):
        result = {}
        for key, value in node.items():
            key_line = node.lc.key(key)[0] + 1 if hasattr(node, "lc") else line
            result[_scalar(key)] = _plain(
                value, (*place, _scalar(key)), key_line, lines, path
            )
        return result
    if isinstance(node, list):
        return [
            _plain(
                value,
                (*place, number),
                node.lc.item(number)[0] + 1 if hasattr(node, "lc") else line,
                lines,
                path,
            )
            for number, value in enumerate(node)
        ]
    return _scalar(node)


def _scalar(node: Any) -> Any:
    """Strips ruamel's formatting subclasses off a scalar."""
    for type_ in (bool, int, float, str):
        if isinstance(node, type_):
            return type_(node)
    return node
