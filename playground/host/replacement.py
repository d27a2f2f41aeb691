"""Puts virtual parts in the place of real ones, wherever these are in use.

``from time import monotonic as _time`` copies a name; replacing it in its home
module alone would leave the copy real. So all loaded modules are searched for
what was replaced. Modules that are loaded later find the virtual part at once.
"""

from __future__ import annotations

import sys
from types import FunctionType, ModuleType
from typing import Any

_OURS = "playground.host"


class Replacements:
    """Collects what is replaced by what, then searches the loaded modules."""

    def __init__(self) -> None:
        self._new: dict[int, Any] = {}
        self._old: list[Any] = []
        """Keeps the originals alive: their ``id`` must stay theirs."""
        self._places: list[tuple[ModuleType, str, Any]] = []

    def put(self, module: ModuleType, name: str, new: Any) -> None:
        """Replaces one attribute of a module, where the module has it."""
        old = vars(module).get(name)
        if old is None or old is new:
            return
        if isinstance(new, FunctionType):
            # As an attribute of a class (logging.Formatter.converter is
            # time.localtime) it would become a method; the real ones do not.
            new = staticmethod(new)
        setattr(module, name, new)
        self._places.append((module, name, old))
        if id(old) not in self._new:
            self._old.append(old)
            self._new[id(old)] = new

    def spread(self) -> None:
        """Replaces the copies in all modules but our own."""
        new = self._new
        for module in list(sys.modules.values()):
            names = getattr(module, "__dict__", None)
            if names is None or names.get("__name__", "").startswith(_OURS):
                continue
            for name, value in list(names.items()):
                if id(value) in new and name != "__builtins__":
                    names[name] = new[id(value)]

    def undo(self) -> None:
        """Puts the originals back into their home modules."""
        for module, name, old in reversed(self._places):
            setattr(module, name, old)
