"""Runs an unmodified Python MQTT program in virtual time, on the local bus.

The program runs in a process of its own (`playground.host.child`), in which
time, threads, sockets and chance are replaced before its first line is read.
The run's side is `Hosted`. Between them go frames (`playground.host.frames`),
once per instant in which the program has something to do.

Nothing may be imported here: the child passes through this package and must
not pay for SimPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playground.host.finding import Finding as Finding
    from playground.host.finding import Line as Line
    from playground.host.hosted import Hosted as Hosted

_HOMES = {
    "Finding": "playground.host.finding",
    "Hosted": "playground.host.hosted",
    "Line": "playground.host.finding",
}


def __getattr__(name: str) -> Any:
    """Imports the run's side when it is asked for."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
