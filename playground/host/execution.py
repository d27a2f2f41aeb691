"""Executes a program as the interpreter does: as ``__main__``, with its arguments."""

# pathlib is not loaded for a program that does not use it.
# ruff: noqa: PTH100, PTH109, PTH120, PTH123

from __future__ import annotations

import importlib.util
import os
import sys
from types import CodeType, ModuleType
from typing import Any


def execute(settings: dict[str, Any]) -> None:
    """Executes a program to the end of its main thread.

    Args:
        settings: ``arguments`` (the program first), ``as_module``, ``root`` (what was
            put on the search path to find this package, or None) and ``pythonpath``
            (the variable as it was before).
    """
    arguments: list[str] = settings["arguments"]
    module = ModuleType("__main__")
    code: CodeType
    root = settings["root"]
    if root in sys.path[1:]:
        # It was put there to find us; the program's own modules come first.
        sys.path.append(sys.path.pop(sys.path.index(root, 1)))
    if settings["pythonpath"] is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = settings["pythonpath"]
    if settings["as_module"]:
        sys.path[0] = os.getcwd()
        name = arguments[0]
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            name += ".__main__"
            spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            sys.exit(f"No module named {name!r}")
        found = spec.loader.get_code(name)  # type: ignore[attr-defined]
        if found is None:
            sys.exit(f"Module {name!r} has no code")
        code = found
        path = spec.origin or name
        module.__spec__ = spec
        module.__package__ = spec.parent
    else:
        path = arguments[0]
        sys.path[0] = os.path.dirname(os.path.abspath(path))
        with open(path, "rb") as file:
            code = compile(file.read(), path, "exec")
    sys.argv = [path, *arguments[1:]]
    module.__file__ = path
    sys.modules["__main__"] = module
    exec(code, vars(module))
