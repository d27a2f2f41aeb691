"""Runs the benchmarks of recording and prints what must be reached in one table.

``make bench-recorder``; with ``PLAYGROUND_BENCH=full`` 10 M messages as well. Every
figure beside a baseline was measured in the same run as its baseline. The exit code
is 1 if one of the bars is missed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
FILES = ("test_bench_record.py", "test_bench_recording.py")


class Bars:
    """Collects what the benchmarks state with ``record_property("bar", …)``."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str, bool]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Takes in what one benchmark has measured."""
        if report.when == "call":
            self.rows += [
                value for name, value in report.user_properties if name == "bar"
            ]

    def table(self) -> Table:
        """Returns the table."""
        table = Table("what", "measured", "must be", "", box=None)
        for what, measured, must, is_met in self.rows:
            mark = "[green]reached[/]" if is_met else "[red]falls short[/]"
            table.add_row(what, measured, must, mark)
        return table


def main() -> int:
    """Runs them; returns what the shell is told."""
    os.environ.setdefault("PLAYGROUND_BENCH", "short")
    bars = Bars()
    files = [str(HERE / name) for name in FILES]
    options = ["-q", "--benchmark-enable", "--benchmark-columns=mean", "-p", "no:xdist"]
    code = pytest.main([*files, *options], plugins=[bars])
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(bars.table())
    missed = not bars.rows or any(not is_met for *_, is_met in bars.rows)
    return int(code) or int(missed)


if __name__ == "__main__":
    sys.exit(main())
