"""A YAML file, read once, that remembers on which line everything stands.

YAML 1.2, and less of it: ``on`` and ``12:30`` are text, ``010`` is ten, two
equal keys are a mistake, and no tag but ``!include`` is known, so reading a file
runs no code. What a file should look like is said by plain dataclasses;
`Document.validate` compares the two and reports *all* mistakes at once.
"""

from __future__ import annotations

import functools
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from playground.document.mistake import DocumentError, Mistake, Place, say_place
from playground.document.reader import LARGEST_FILE, Reader, plain_scalar, text_of
from playground.errors import PlaygroundError, closest

__all__ = [
    "LARGEST_FILE",
    "Document",
    "DocumentError",
    "DurationText",
    "Mistake",
    "Place",
    "Written",
    "key_of",
    "plain_scalar",
]

T = TypeVar("T")


class Written(NamedTuple):
    """Says of a text, in ``Annotated``, how a bare number there is to be written.

    Attributes:
        number: What it lacks.
        fix: What to write instead; ``{}`` is the number.
    """

    number: str
    fix: str


DurationText = Annotated[
    str, Written("has no unit of time", "write '{}s', '{}min' or '{}h'")
]
"""``8h``, as it stands in a file; see `playground.quantity.seconds`."""


class Document:
    """A parsed YAML file.

    Args:
        path: Where it came from, for messages.
        data: Plain dicts, lists, strings, numbers, booleans, None.
        lines: File and line (from 1) of each place; empty for Python values.
    """

    def __init__(
        self, path: str, data: Any, lines: Mapping[Place, tuple[str, int]] | None = None
    ) -> None:
        self.path = path
        self.data = data
        self.lines = dict(lines or {})

    @classmethod
    def read(cls, path: Path | str) -> Document:
        """Reads and parses a file; ``!include`` reaches files of its folder.

        Raises:
            FileFormatError: It is missing, too large, or not YAML.
        """
        path = Path(path)
        return cls.parse(text_of(path), str(path), folder=path.parent)

    @classmethod
    def parse(
        cls, text: str, path: str = "<text>", *, folder: Path | None = None
    ) -> Document:
        """Parses YAML text.

        Args:
            text: The YAML.
            path: For messages.
            folder: Where ``!include`` may look; None forbids it.

        Raises:
            FileFormatError: It is not YAML, or repeats a key.
        """
        reader = Reader(path, folder)
        data = reader.read(text, path, ())
        if reader.mistakes:
            raise DocumentError(path, reader.mistakes)
        return cls(path, data, reader.lines)

    def over(self, base: Document) -> Document:
        """Returns this document laid over another; the key ``extends`` goes.

        Blocks are merged key by key; anything else replaces what is below it.
        """
        lines = dict(base.lines)
        data = _laid_over(self.data, base.data, (), self.lines, lines)
        data.pop("extends", None)
        return Document(self.path, data, lines)

    def line(self, place: Place) -> int:
        """Returns the line of a place, or of the nearest thing around it."""
        return self._find(place)[1]

    def _find(self, place: Place) -> tuple[str, int]:
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, (self.path, 1 if self.lines else 0))

    def mistake(self, place: Place, text: str, fix: str = "") -> Mistake:
        """Makes a `Mistake` that stands at a place."""
        path, line = self._find(place)
        return Mistake(
            line, f"{say_place(place)}{text}", fix, "" if path == self.path else path
        )

    def validate(self, type_: type[T], data: Any = MISSING, place: Place = ()) -> T:
        """Makes an object of ``type_`` from the document or a part of it.

        A field ``for_`` is written ``for``. Known types are ``str``, ``int``,
        ``float``, ``bool``, ``None``, ``Any``, ``Literal``, ``list``, ``tuple``,
        ``Mapping``, dataclasses, and unions of them that differ in shape.

        Args:
            type_: Usually a dataclass; its field types are the rule.
            data: The part; the whole document by default.
            place: Where the part stands.

        Raises:
            DocumentError: With every mistake at once.
        """
        found: list[Mistake] = []
        value = self.check(type_, self.data if data is MISSING else data, place, found)
        if found:
            raise DocumentError(self.path, found)
        return typing.cast("T", value)

    def check(
        self, type_: Any, data: Any, place: Place, mistakes: list[Mistake]
    ) -> Any:
        """Does the work of `validate`; mistakes are added to a list."""
        origin, arguments = typing.get_origin(type_), typing.get_args(type_)
        if type_ is Any:
            return data
        if origin is typing.Annotated:
            if type(data) in (int, float):
                for written in arguments[1:]:
                    if isinstance(written, Written):
                        fix = written.fix.replace("{}", str(data))
                        mistakes.append(
                            self.mistake(place, f"{data} {written.number}.", fix)
                        )
                        return None
            return self.check(arguments[0], data, place, mistakes)
        if origin in (typing.Union, types.UnionType):
            return self._check_union(arguments, data, place, mistakes)
        if origin is typing.Literal:
            if data in arguments and type(data) in {type(a) for a in arguments}:
                return data
            known = ", ".join(repr(a) for a in arguments)
            near = closest(str(data), [str(a) for a in arguments])
            mistakes.append(
                self.mistake(
                    place,
                    f"{data!r} is not one of {known}.{near}",
                    "write one of these",
                )
            )
            return None
        if is_dataclass(type_):
            return self._check_dataclass(type_, data, place, mistakes)
        if origin in (list, tuple, Sequence):
            return self._check_list(origin, arguments, data, place, mistakes)
        if origin in (dict, Mapping) or type_ in (dict, Mapping):
            return self._check_mapping(arguments, data, place, mistakes)
        return self._check_scalar(type_, data, place, mistakes)

    def _check_union(
        self,
        members: tuple[Any, ...],
        data: Any,
        place: Place,
        mistakes: list[Mistake],
    ) -> Any:
        if data is None and type(None) in members:
            return None
        members = tuple(m for m in members if m is not type(None))
        fitting = [m for m in members if _fits(m, data)]
        if len(fitting) == 1 or len(members) == 1:
            return self.check((fitting or members)[0], data, place, mistakes)
        for member in fitting:
            attempt: list[Mistake] = []
            value = self.check(member, data, place, attempt)
            if not attempt:
                return value
        shapes = " or ".join(dict.fromkeys(_shape(m) for m in members))
        mistakes.append(
            self.mistake(
                place, f"{_seen(data)} should be {shapes}.", "change its shape"
            )
        )
        return None

    def _check_dataclass(
        self, type_: Any, data: Any, place: Place, mistakes: list[Mistake]
    ) -> Any:
        if isinstance(data, type_):
            return data
        known = {key_of(f.name): f for f in fields(type_) if f.init}
        if not isinstance(data, Mapping):
            mistakes.append(
                self.mistake(
                    place,
                    f"{_seen(data)} is not a block of 'key: value' lines.",
                    f"keys allowed here: {', '.join(known)}",
                )
            )
            return None
        before = len(mistakes)
        mistakes.extend(
            self.mistake(
                (*place, key),
                f"unknown key {key!r}.{closest(str(key), known)}",
                f"allowed here: {', '.join(known)}",
            )
            for key in data
            if key not in known
        )
        hints = _hints(type_)
        values = {}
        for key, field in known.items():
            if key in data:
                values[field.name] = self.check(
                    hints[field.name], data[key], (*place, key), mistakes
                )
            elif field.default is MISSING and field.default_factory is MISSING:
                mistakes.append(
                    self.mistake(
                        place, f"the key {key!r} is missing.", f"add '{key}: …'"
                    )
                )
        if len(mistakes) > before:
            return None
        try:
            return type_(**values)
        except PlaygroundError as error:
            mistakes.append(self.mistake(place, error.problem, error.fix))
            return None

    def _check_list(
        self,
        origin: Any,
        arguments: tuple[Any, ...],
        data: Any,
        place: Place,
        mistakes: list[Mistake],
    ) -> Any:
        if not isinstance(data, list | tuple):
            mistakes.append(
                self.mistake(
                    place, f"{_seen(data)} should be a list.", f"write [{data}]"
                )
            )
            return None
        if origin is tuple and arguments[-1] is not Ellipsis:
            if len(data) != len(arguments):
                mistakes.append(
                    self.mistake(
                        place,
                        f"{list(data)!r} should have {len(arguments)} entries, "
                        f"not {len(data)}.",
                        f"write {len(arguments)} entries",
                    )
                )
                return None
            kinds: Iterable[Any] = arguments
        else:
            kinds = [arguments[0]] * len(data)
        values = [
            self.check(kind, entry, (*place, number), mistakes)
            for number, (kind, entry) in enumerate(zip(kinds, data, strict=True))
        ]
        return tuple(values) if origin is not list else values

    def _check_mapping(
        self,
        arguments: tuple[Any, ...],
        data: Any,
        place: Place,
        mistakes: list[Mistake],
    ) -> Any:
        if not isinstance(data, Mapping):
            mistakes.append(
                self.mistake(
                    place,
                    f"{_seen(data)} is not a block of 'key: value' lines.",
                    "write 'key: value' on each line, indented below",
                )
            )
            return None
        kind = arguments[1] if arguments else Any
        result = {}
        for key, value in data.items():
            if not isinstance(key, str):
                mistakes.append(
                    self.mistake(
                        (*place, key),
                        f"the key {key!r} is not text.",
                        f"put it in quotes: '{key}'",
                    )
                )
                continue
            result[key] = self.check(kind, value, (*place, key), mistakes)
        return result

    def _check_scalar(
        self, type_: Any, data: Any, place: Place, mistakes: list[Mistake]
    ) -> Any:
        if type_ is float and type(data) in (int, float):
            if math.isfinite(data):
                return float(data)
            mistakes.append(
                self.mistake(
                    place, f"{data} is not a finite number.", "write a plain number"
                )
            )
            return None
        if type_ is type(None) and data is None:
            return None
        if type(data) is type_:
            return data
        fix = f"write {_shape(type_)}"
        if type_ is str and isinstance(data, bool | int | float):
            fix = f'put it in quotes: "{data}"'
        elif type_ in (int, float) and isinstance(data, str):
            fix = "write a plain number without quotes or unit"
        elif type_ is bool:
            fix = "write true or false"
        elif type_ is int:
            fix = "write a whole number"
        mistakes.append(
            self.mistake(place, f"{_seen(data)} should be {_shape(type_)}.", fix)
        )
        return None


def _laid_over(
    upper: Mapping[Any, Any],
    lower: Any,
    place: Place,
    lines: Mapping[Place, tuple[str, int]],
    merged: dict[Place, tuple[str, int]],
) -> dict[Any, Any]:
    result = dict(lower) if isinstance(lower, Mapping) else {}
    for key, value in upper.items():
        here = (*place, key)
        below = result.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            result[key] = _laid_over(value, below, here, lines, merged)
            continue
        result[key] = value
        for gone in [p for p in merged if p[: len(here)] == here]:
            del merged[gone]
        merged.update((p, at) for p, at in lines.items() if p[: len(here)] == here)
    return result


def key_of(name: str) -> str:
    """Returns the key in the file of a field: ``for`` for ``for_``."""
    return name.removesuffix("_")


def _seen(data: Any) -> str:
    if isinstance(data, Mapping):
        return f"a block with {', '.join(map(repr, data)) or 'no keys'}"
    if data is None:
        return "nothing"
    text = repr(data)
    return text if len(text) <= 80 else f"{text[:77]}…"


_SCALARS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def _shape(type_: Any) -> str:
    origin = typing.get_origin(type_)
    if origin is typing.Annotated:
        return _shape(typing.get_args(type_)[0])
    if type_ in _SCALARS:
        return _SCALARS[type_]
    if origin in (list, tuple, Sequence):
        return "a list"
    if origin is typing.Literal:
        return " or ".join(repr(a) for a in typing.get_args(type_))
    return "a block of 'key: value' lines"


def _fits(type_: Any, data: Any) -> bool:
    """Says whether data has the outer shape of a member of a union."""
    origin = typing.get_origin(type_)
    if origin is typing.Annotated:
        return _fits(typing.get_args(type_)[0], data)
    if type_ is Any:
        return True
    if is_dataclass(type_) or origin in (dict, Mapping):
        return isinstance(data, Mapping)
    if origin in (list, tuple, Sequence):
        return isinstance(data, list | tuple)
    if origin is typing.Literal:
        return data in typing.get_args(type_)
    if type_ is float:
        return type(data) in (int, float)
    return type(data) is type_


@functools.cache
def _hints(type_: Any) -> dict[str, Any]:
    return typing.get_type_hints(type_, include_extras=True)
