"""Make a failing scenario small: the fewest events, the roundest numbers.

Delta debugging (Zeller and Hildebrandt, 2002) over the events, then rounding of
what is left. A smaller scenario counts only if the same check still fails.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playground.errors import PlaygroundError
from playground.run import run
from playground.scenario import Scenario, dump, load_scenario, moved

SHRUNK = "shrunk.yaml"
_QUANTITY = re.compile(r"([-+]?\d+(?:\.\d*)?|[-+]?\.\d+)(\s*[a-zA-Z%].*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """A scenario that is as small as it gets.

    Attributes:
        scenario: Still fails.
        check: The check that fails.
        path: Where it was written.
        before: How many events there were.
        runs: How many runs it took.
    """

    scenario: Scenario
    check: str
    path: Path
    before: int
    runs: int


def shrink(
    path: Path | str, *, out: Path | str, check: str | None = None, runs: int = 200
) -> Shrunk:
    """Looks for the smallest part of a scenario that still fails.

    Args:
        path: A scenario that fails.
        out: Folder in which `SHRUNK` is written.
        check: The check that must fail; by default the first that does.
        runs: At most so many runs; what was found until then is given back.

    Raises:
        PlaygroundError: The scenario, or that check, does not fail; or the folder
            cannot be written.
    """
    scenario = load_scenario(path)
    folder = Path(out)
    if runs < 1:
        raise PlaygroundError(f"--runs {runs}: at least one is needed.", "write 200")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PlaygroundError(
            f"{folder} cannot be written: {error.strerror or error}.",
            "name a folder in a place that you may write to",
        ) from error
    made = 0
    with tempfile.TemporaryDirectory(prefix="playground-") as scratch:
        target = Path(scratch) / "run"
        result = run(scenario, out=target)
        failed = [one.name for one in result.checks if one.verdict == "fail"]
        if check is None and failed:
            check = failed[0]
        if check not in failed:
            raise PlaygroundError(
                f"{path} does not fail{f' {check!r}' if check else ''}.",
                f"checks that fail: {'; '.join(failed) or 'none'}",
            )
        known: dict[str, bool] = {}

        def fails(events: Sequence[Any]) -> bool:
            nonlocal made
            key = repr(events)
            if key not in known:
                if made >= runs:
                    return False
                made += 1
                try:
                    smaller = scenario.replace(events=list(events))
                    again = run(smaller, out=target)
                except PlaygroundError:
                    # A rounded number may be none that the scenario allows.
                    known[key] = False
                else:
                    known[key] = any(
                        one.name == check and one.verdict == "fail"
                        for one in again.checks
                    )
                shutil.rmtree(target, ignore_errors=True)
            return known[key]

        events = fewest(scenario.plain()["events"], fails)
        events = roundest(events, fails)
    smallest = scenario.replace(events=events, name=f"{scenario.name}-shrunk")
    comment = (
        f"Made from {Path(path).name}, which has {len(scenario.events)} events: the "
        f"fewest with which this check still fails:\n{check}"
    )
    half = folder / f".{SHRUNK}.part"
    plain = moved(smallest, folder.resolve())
    # It is run again once the strategy has been mended, so it holds on to no file.
    plain.pop("files", None)
    text = dump(plain, comment=comment)
    half.write_text(text, encoding="utf-8")
    half.replace(folder / SHRUNK)
    return Shrunk(
        scenario=smallest,
        check=str(check),
        path=folder / SHRUNK,
        before=len(scenario.events),
        runs=made + 1,
    )


def fewest(items: list[Any], fails: Callable[[Sequence[Any]], bool]) -> list[Any]:
    """Returns a part of the items none of which can be left out.

    Args:
        items: With all of them it fails.
        fails: Says whether it fails with some of them, in their order.
    """
    if not items or fails([]):
        return []
    chunks = 2
    while len(items) >= 2:
        size = -(-len(items) // chunks)
        parts = [items[i : i + size] for i in range(0, len(items), size)]
        for part in parts:
            if fails(part):
                items, chunks = part, 2
                break
        else:
            for number in range(len(parts)):
                rest = [x for n, part in enumerate(parts) if n != number for x in part]
                if len(parts) > 2 and fails(rest):
                    items, chunks = rest, max(chunks - 1, 2)
                    break
            else:
                if size == 1:
                    break
                chunks = min(chunks * 2, len(items))
    return items


def roundest(items: list[Any], fails: Callable[[Sequence[Any]], bool]) -> list[Any]:
    """Returns the items with each quantity as round as it may be."""
    for place, value in list(_leaves(items, ())):
        for rounder in _rounder(value):
            attempt = _with(items, place, rounder)
            if fails(attempt):
                items = attempt
                break
    return items


def _leaves(value: Any, place: tuple[Any, ...]) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _leaves(entry, (*place, key))
    elif isinstance(value, list):
        for number, entry in enumerate(value):
            yield from _leaves(entry, (*place, number))
    else:
        yield place, value


def _rounder(value: Any) -> Iterator[Any]:
    """Returns rounder spellings of a quantity, the roundest first."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return
    found = _QUANTITY.fullmatch(str(value))
    if found is None:
        return
    for digits in (1, 2):
        number = float(f"{float(found[1]):.{digits}g}")
        if number != float(found[1]):
            text = f"{number:.12g}{found[2] or ''}"
            yield text if isinstance(value, str) else type(value)(number)


def _with(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    key, *rest = place
    if isinstance(value, Mapping):
        return {
            k: _with(v, tuple(rest), new) if k == key else v for k, v in value.items()
        }
    return [
        _with(entry, tuple(rest), new) if number == key else entry
        for number, entry in enumerate(value)
    ]
