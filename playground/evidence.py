"""What is kept of a test that failed: recording, resolved scenario, report.

One folder per test, ``.playground/failures/<test id>/``; the oldest go when there
are too many. Nothing here knows pytest.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from playground.recording import Recording

if TYPE_CHECKING:
    from playground.run import Result
    from playground.scenario import Scenario

FOLDER = Path(".playground") / "failures"
KEPT = 50
"""How many failed tests are kept."""
Keeper = Callable[[Path], object]
"""Puts something of a test into the folder it is given."""
_LONGEST = 120


def folder_of(root: Path, test_id: str) -> Path:
    """Returns the folder of a test: its id, as far as it can name a folder."""
    name = re.sub(r"[^\w.=+,\[\]-]+", "-", test_id.replace("::", "--")).strip("-.")
    if len(name) > _LONGEST:
        digest = hashlib.sha256(test_id.encode()).hexdigest()[:8]
        name = f"{name[:_LONGEST]}-{digest}"
    return root / (name or "test")


def keep(
    root: Path, test_id: str, keepers: Iterable[Keeper], *, most: int = KEPT
) -> Path | None:
    """Keeps what a failed test left; replaces what it left before.

    Args:
        root: Folder of all failures.
        test_id: Of the test.
        keepers: Each puts one thing into the folder.
        most: How many tests are kept.

    Returns:
        The folder; None if there was nothing to keep.
    """
    folder = folder_of(root, test_id)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Evidence must not fall into the next commit.
    ignore = root / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")
    for keeper in keepers:
        keeper(folder)
    if not any(folder.iterdir()):
        folder.rmdir()
        return None
    rotate(root, most, spare=folder)
    return folder


def rotate(root: Path, most: int, *, spare: Path | None = None) -> None:
    """Removes the oldest folders, so that at most so many are left."""
    aged: list[tuple[float, Path]] = []
    for folder in root.iterdir():
        # Another worker may be removing it at this moment.
        with contextlib.suppress(OSError):
            if folder.is_dir() and folder != spare:
                aged.append((folder.stat().st_mtime, folder))
    aged.sort()
    surplus = len(aged) + (spare is not None) - most
    for _, folder in aged[: max(0, surplus)]:
        shutil.rmtree(folder, ignore_errors=True)


def keeper_of_run(result: Result, scenario: Scenario, name: str, again: str) -> Keeper:
    """Returns what keeps a run: its folder, with a report.

    Args:
        result: Of the run.
        scenario: What was run.
        name: Of the folder inside the test's folder; empty for that itself.
        again: The command line that repeats it.
    """

    def keep_run(folder: Path) -> None:
        from playground.report import write_report
        from playground.run import RESOLVED
        from playground.scenario import dump, moved

        target = folder / name if name else folder
        shutil.copytree(result.folder, target, dirs_exist_ok=True)
        # Files it names are elsewhere as seen from here.
        comment = f"What was run; message log {result.sha256}."
        (target / RESOLVED).write_text(
            dump(moved(scenario, target.resolve()), comment=comment), encoding="utf-8"
        )
        write_report(target, again=again)

    return keep_run


def keeper_of_recording(make: Callable[[], Recording], name: str) -> Keeper:
    """Returns what keeps a recording that is only made if it is needed."""

    def keep_recording(folder: Path) -> None:
        recording = make()
        for path in recording.paths:
            shutil.copyfile(path, folder / f"{name}.parquet")

    return keep_recording


def shortest(path: Path) -> Path:
    """Returns a path as one would type it from the current folder."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path
