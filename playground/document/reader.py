"""YAML text into plain Python: less than YAML 1.2, and the line of each value.

No tag but ``!include`` is known, which reaches files of one folder; aliases, nesting
and size are bounded.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from playground.document.mistake import DocumentError, Mistake, Place, say_place
from playground.errors import FileFormatError, closest

LARGEST_FILE = 1_000_000
LARGEST_TREE = 100_000
"""Values after alias expansion; stops a file of nested aliases."""


def text_of(path: Path) -> str:
    """Returns the text of a file.

    Raises:
        FileFormatError: It is missing, too large, or not UTF-8.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise FileFormatError(
                f"{path} has {size:,} bytes; {LARGEST_FILE:,} are allowed.",
                "move data into a recording or a table and name it here",
            )
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        folder = path.parent
        known = [p.name for p in folder.glob("*.y*ml")] if folder.is_dir() else []
        raise FileFormatError(
            f"There is no file {path}.{closest(path.name, known)}",
            f"YAML files in {folder}: {', '.join(sorted(known)[:12])}"
            if known
            else "name a file that is there; this folder holds no YAML file",
        ) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise FileFormatError(
            f"{path}:{line}: byte 0x{error.object[error.start]:02x} is not UTF-8.",
            f"save the file as UTF-8, for instance: iconv -f latin1 -t utf-8 {path}",
        ) from error
    except OSError as error:
        raise FileFormatError(
            f"{path} cannot be read: {error.strerror or error}.",
            "name a YAML file that you may read",
        ) from error


_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}


def plain_scalar(text: str) -> Any:
    """Returns what YAML 1.2 (core schema) means by an unquoted scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if re.fullmatch(r"0o[0-7]+|0x[0-9a-fA-F]+", text):
        return int(text, 0)
    return text


def _yaml_fix(problem: str) -> str:
    """Returns what to look for where the reader of YAML stumbled."""
    for seen, fix in (
        ("\\t", "indent with spaces; YAML forbids tabs there"),
        ("mapping values", "put a text that holds ': ' in quotes"),
        ("quoted scalar", "close the quotes"),
        ("end of stream", "close the quotes and brackets that are open"),
        ("alias", "write the value out; *name needs an &name before it"),
        ("','", "close every [ and { that is opened, with commas in between"),
        ("block", "indent entries that belong together by the same number of spaces"),
    ):
        if seen in problem:
            return fix
    return (
        "look at this line and the one before: indentation, quotes, ': ' and brackets"
    )


class Reader:
    """Turns ruamel's nodes into plain Python and notes where each stands.

    Args:
        path: For messages.
        folder: Where ``!include`` may look; None forbids it.

    Attributes:
        lines: File and line (from 1) of each place.
        mistakes: What was found wrong on the way.
    """

    def __init__(self, path: str, folder: Path | None) -> None:
        self.path = path
        self.folder = folder
        self.lines: dict[Place, tuple[str, int]] = {}
        self.mistakes: list[Mistake] = []
        self._open: list[Path] = []

    def read(self, text: str, path: str, place: Place) -> Any:
        """Returns what a text says that stands at a place of the document."""
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError

        try:
            node = YAML(typ="safe", pure=True).compose(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = (error.problem or str(error)).splitlines()[0]
            fix = _yaml_fix(problem)
            raise DocumentError(
                path,
                [
                    Mistake(
                        mark.line + 1 if mark else 1,
                        f"not valid YAML: {problem}.",
                        fix,
                    )
                ],
            ) from error
        except (YAMLError, ValueError) as error:
            raise FileFormatError(
                f"{path} is not valid YAML: {error}",
                "write plain text, 'key: value' on each line",
            ) from error
        except RecursionError as error:
            raise FileFormatError(
                f"{path} is nested too deeply.", "write it with fewer levels"
            ) from error
        if node is None:
            self.lines.setdefault(place, (path, 1))
            return None
        return self._value(node, place, path)

    def _value(
        self, node: Any, place: Place, path: str, line: int | None = None
    ) -> Any:
        if len(self.lines) > LARGEST_TREE:
            raise FileFormatError(
                f"{self.path} has more than {LARGEST_TREE:,} values once its aliases "
                "(*name) are expanded.",
                "write out what you need; aliases of aliases grow beyond all bounds",
            )
        if len(place) > 50:
            raise FileFormatError(
                f"{self.path} is nested more than 50 levels deep.",
                "write it with fewer levels",
            )
        line = node.start_mark.line + 1 if line is None else line
        self.lines[place] = (path, line)
        tag = str(node.tag or "")
        if tag == "!include":
            return self._include(node, place, path, line)
        if tag and not tag.startswith("tag:yaml.org,2002:"):
            self._wrong(
                path, line, place, f"the tag {tag} is not known.", "leave it out"
            )
            return None
        if node.id == "mapping":
            result: dict[Any, Any] = {}
            for key_node, value_node in node.value:
                if key_node.id != "scalar":
                    self._wrong(
                        path,
                        line,
                        place,
                        "a key must be a plain word.",
                        "write it without brackets",
                    )
                    continue
                key = _scalar(key_node)
                key_line = key_node.start_mark.line + 1
                if key in result:
                    self._wrong(
                        path,
                        key_line,
                        (*place, key),
                        f"the key {key!r} stands here twice.",
                        "keep one of the two; YAML would silently take the last",
                    )
                result[key] = self._value(value_node, (*place, key), path, key_line)
            return result
        if node.id == "sequence":
            return [
                self._value(entry, (*place, number), path)
                for number, entry in enumerate(node.value)
            ]
        return _scalar(node)

    def _wrong(
        self, path: str, line: int, place: Place, text: str, fix: str = ""
    ) -> None:
        other = "" if path == self.path else path
        self.mistakes.append(Mistake(line, f"{say_place(place)}{text}", fix, other))

    def _include(self, node: Any, place: Place, path: str, line: int) -> Any:
        if self.folder is None or node.id != "scalar":
            self._wrong(
                path,
                line,
                place,
                "!include needs the name of a file here.",
                "write !include FILE.yaml, in a file",
            )
            return None
        wanted = (self.folder / node.value).resolve()
        if not wanted.is_relative_to(self.folder.resolve()):
            self._wrong(
                path,
                line,
                place,
                f"!include {node.value} leaves the folder of {self.path}.",
                "copy the file beside it",
            )
            return None
        if wanted in self._open:
            self._wrong(
                path, line, place, f"{node.value} includes itself.", "leave it out"
            )
            return None
        self._open.append(wanted)
        try:
            name = str(self.folder / node.value)
            return self.read(text_of(Path(name)), name, place)
        except DocumentError as error:
            self.mistakes.extend(
                Mistake(m.line, m.text, m.fix, m.path or error.path)
                for m in error.mistakes
            )
        except FileFormatError as error:
            self._wrong(path, line, place, error.problem, error.fix)
        finally:
            self._open.pop()
        return None


def _scalar(node: Any) -> Any:
    if node.style is None and not str(node.tag).endswith(":str"):
        return plain_scalar(node.value)
    return node.value
