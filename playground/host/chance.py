"""Chance that is the same on every run: seeded from the scenario.

Everything a Python program draws from the operating system passes through
``os.urandom`` or the seeding of ``random.Random``. Both are replaced, so
``uuid4``, ``secrets``, ``tempfile`` and numpy's generators follow.
"""

# ruff: noqa: SLF001 - the generators keep their seeds to themselves

from __future__ import annotations

import hashlib
import os
import random
import uuid
from typing import Any

from playground.host.replacement import Replacements


def install(replacements: Replacements, seed: str) -> None:
    """Replaces the sources of chance.

    Args:
        replacements: Collects what is replaced.
        seed: Any text; different programs of a run have different ones.
    """
    key = hashlib.sha256(seed.encode()).digest()
    drawn = 0

    def urandom(size: int, /) -> bytes:
        nonlocal drawn
        drawn += 1
        return hashlib.shake_256(key + drawn.to_bytes(8)).digest(size)

    def getrandom(size: int, flags: int = 0) -> bytes:
        return urandom(size)

    replacements.put(os, "urandom", urandom)
    replacements.put(os, "getrandom", getrandom)
    real_seed = random.Random.seed

    def seed_it(self: random.Random, a: Any = None, version: int = 2) -> None:
        if a is None:
            a = int.from_bytes(urandom(32))
        real_seed(self, a, version)

    random.Random.seed = seed_it  # type: ignore[method-assign]
    # random.seed and its kin are methods of one hidden generator.
    random.seed = random._inst.seed
    random.seed()
    # uuid1: no network card of this machine, and a fixed start of its count.
    node = int.from_bytes(urandom(6)) | 1 << 40
    uuid._node = node  # type: ignore[attr-defined]
    uuid._generate_time_safe = None  # type: ignore[attr-defined]
    replacements.put(uuid, "getnode", lambda: node)
