"""Keeps a Python process off the network that a test started which is kept off it.

`playground.loopback` puts this folder on the ``PYTHONPATH`` of such processes; the
interpreter imports this module before the program. Where another module of this
name is hidden by it, that one is executed too.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import PathFinder

_FOLDER = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
_ROOT = os.path.dirname(os.path.dirname(_FOLDER))  # noqa: PTH120
_HOSTS = os.environ.get("PLAYGROUND_ONLY_LOOPBACK")
# A hosted program has rules of its own, and reaches no network at all.
_IS_HOSTED = any(word.startswith("playground.host.") for word in sys.orig_argv)


def _keep_off(hosts: list[str]) -> None:
    # Whether the process would find the package by itself is its own business.
    sys.path.insert(0, _ROOT)
    try:
        from playground.loopback import keep_off
    finally:
        sys.path.remove(_ROOT)
    keep_off(hosts)


def _execute_hidden() -> None:
    others = [path for path in sys.path if os.path.abspath(path) != _FOLDER]  # noqa: PTH100
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if _HOSTS is not None and not _IS_HOSTED:
    _keep_off(_HOSTS.split())
_execute_hidden()
