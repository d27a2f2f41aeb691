"""Runs the benchmarks of replay and diff and prints what must be reached in one table.

``make bench-replayer``. Every figure beside a baseline was measured in the same run
as its baseline. The exit code is 1 if one of the bars is missed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from recorder_table import Bars
from rich.console import Console

FILE = Path(__file__).resolve().parent / "test_bench_replay.py"


def main() -> int:
    """Runs them; returns what the shell is told."""
    os.environ.setdefault("PLAYGROUND_BENCH", "full")
    bars = Bars()
    options = [
        "-q",
        "--benchmark-enable",
        "-p",
        "no:xdist",
        "-o",
        "faulthandler_timeout=600",
    ]
    code = pytest.main([str(FILE), *options], plugins=[bars])
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 130)
    console.print(bars.table())
    missed = not bars.rows or any(not is_met for *_, is_met in bars.rows)
    return int(code) or int(missed)


if __name__ == "__main__":
    sys.exit(main())
