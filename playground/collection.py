"""Scenario files as tests: pytest's collector and item for ``*.scenario.yaml``.

Every cell of a scenario's matrix is an item, its tags are marks, and a failure
prints checks, margins and instants, not a traceback. What is run and judged is
`playground.run`; nothing is judged here.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from playground.assertions import explained, history_of_result
from playground.cells import Cell, cells_of, changed
from playground.errors import PlaygroundError
from playground.evidence import Keeper, keeper_of_run, shortest
from playground.history import History
from playground.quantity import say_seconds
from playground.run import REPORT, Result, run
from playground.scenario import Scenario, load_scenario


class ScenarioFile(pytest.File):
    """A scenario file; its items are the cells of its matrix."""

    def collect(self) -> Iterator[pytest.Item]:
        """Reads the file and yields its cells.

        Raises:
            CollectError: The file is wrong; with every mistake and its line.
        """
        _let_import_from(self.config.rootpath)
        try:
            scenario = load_scenario(self.path)
            cells = cells_of(scenario)
        except PlaygroundError as error:
            raise self.CollectError(str(error)) from None
        for tag in scenario.tags:
            self.config.addinivalue_line("markers", f"{tag}: tag of a scenario")
        for cell in cells:
            item = ScenarioItem.from_parent(
                self, name=cell.name or scenario.name, scenario=scenario, cell=cell
            )
            item.add_marker(pytest.mark.scenario(str(self.path)))
            for tag in scenario.tags:
                item.add_marker(tag)
            # As -k allows no '=' in a word.
            item.extra_keyword_matches.update(cell.name.replace("=", ":").split("-"))
            yield item


class ScenarioItem(pytest.Item):
    """One cell of a scenario.

    Attributes:
        keepers: What keeps the evidence of a failure.
        kept_at: Where it was kept.
    """

    def __init__(self, *, scenario: Scenario, cell: Cell, **more: Any) -> None:
        super().__init__(**more)
        self.scenario = scenario
        self.cell = cell
        self.keepers: list[Keeper] = []
        self.kept_at: Path | None = None
        self._folder: Path | None = None

    def runtest(self) -> None:
        """Runs the cell; passes if every check does.

        Raises:
            ScenarioFailed: A check failed or never came to bear, or the plant left
                what it knows, so that the run decides nothing.
        """
        _let_import_from(self.config.rootpath)
        scenario = changed(self.scenario, self.cell.values)
        self._folder = Path(tempfile.mkdtemp(prefix="playground-"))
        result = run(scenario, out=self._folder / "run")
        again = f"pytest {shlex.quote(self.nodeid)}"
        self.keepers = [keeper_of_run(result, scenario, "", again)]
        self.user_properties.append(("sha256", result.sha256))
        self.user_properties.extend(
            (f"margin of {check.name}", check.margin)
            for check in result.checks
            if check.margin is not None
        )
        if result.verdict != "pass":
            raise ScenarioFailed(result, history_of_result(result))

    def teardown(self) -> None:
        """Removes what the run wrote; of a failure it has been kept elsewhere."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def repr_failure(
        self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None
    ) -> Any:
        """Returns what is printed: no traceback for what a person can mend."""
        error = excinfo.value
        if isinstance(error, ScenarioFailed):
            return told(error.result, error.history, self.kept_at)
        if isinstance(error, PlaygroundError):
            return str(error)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Returns where the item stands and how it is called."""
        return self.path, None, self.name


def _let_import_from(folder: Path) -> None:
    """Lets scenarios name ``module:Class`` of the user's own project."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


class ScenarioFailed(Exception):  # noqa: N818 - reads as a sentence
    """A check of a scenario failed or never came to bear, or the run is in doubt.

    Args:
        result: Of the run.
        history: What was said in it.
    """

    def __init__(self, result: Result, history: History) -> None:
        super().__init__(result, history)
        self.result = result
        self.history = history


def told(result: Result, history: History, kept: Path | None = None) -> str:
    """Renders a failed run for a terminal.

    Args:
        result: Of the run.
        history: What was said in it.
        kept: Where its evidence is.
    """
    passed = [check for check in result.checks if check.verdict == "pass"]
    lines = [
        f"{result.scenario}: {result.verdict.upper()}, {len(passed)} of "
        f"{len(result.checks)} checks passed in {say_seconds(result.duration_s)} of "
        f"plant time, seed {result.seed}"
    ]
    if result.doubts:
        # Whatever the checks say: nothing has been decided.
        lines += ["", *(f"in doubt: {doubt}" for doubt in result.doubts)]
    if result.notes:
        lines += ["", *(f"note: {note}" for note in result.notes)]
    for check in result.checks:
        if check.verdict == "pass" or (
            check.verdict == "untested" and check.may_be_untested
        ):
            continue
        lines.append("")
        lines.append(explained(check, history))
    lines.append("")
    lines.append(f"sha256 {result.sha256}")
    if kept is not None:
        lines.append(f"report {shortest(kept / REPORT)}")
    return "\n".join(lines)
