"""Plant files: a plant and its parameters, as they stand below ``plant:``.

A scenario in the same folder, or above it, takes one with
``plant: !include NAME.yaml``; ``--plant NAME.yaml`` begins an estimate there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from playground.document import Document, DocumentError
from playground.errors import PlaygroundError
from playground.estimate.estimate import Estimate, Estimated
from playground.estimate.unknowns import read_settings
from playground.plants import plant_class


def read_plant_file(path: Path | str) -> tuple[str, dict[str, Any]]:
    """Returns a plant's name and its parameters by keyword.

    Raises:
        DocumentError: With every mistake, each with its line.
        FileFormatError: The file is missing or not YAML.
    """
    document = Document.read(path)
    data = document.data
    if isinstance(data, str):
        plant_class(data)
        return data, {}
    if not isinstance(data, Mapping) or len(data) != 1:
        raise DocumentError(
            document.path,
            [
                document.mistake(
                    (),
                    "a plant file has one key, the plant.",
                    "write 'lab_rig:' and below it '  ua_hx: 2.4 kW/K'",
                )
            ],
        )
    name, given = next(iter(data.items()))
    try:
        target = plant_class(str(name))
    except PlaygroundError as error:
        raise DocumentError(
            document.path, [document.mistake((name,), error.problem, error.fix)]
        ) from error
    given = {} if given is None else given
    return str(name), read_settings(target, given, document=document, place=(name,))


def write_plant_file(
    path: Path,
    result: Estimate,
    *,
    sources: Sequence[str] = (),
    overwrite: bool = False,
) -> None:
    """Writes an estimate as a plant file.

    Args:
        path: Where to.
        result: What was found.
        sources: Names of the recordings, for the comment.
        overwrite: Replace a file of that name.

    Raises:
        PlaygroundError: There is one, or it cannot be written.
    """
    check_target(path, overwrite=overwrite)
    lines = [f"# Estimated from {', '.join(sources) or 'recordings'}."]
    lines.append(f"# In a scenario of this folder: plant: !include {path.name}")
    lines.extend(f"# {direction.text}" for direction in result.directions)
    lines.append(f"{result.plant}:")
    for name, value in result.settings.items():
        lines.append(f"  {name}: {_yaml(value)}")
    width = max(len(one.name) for one in result.parameters)
    lines.extend(
        f"  {one.name}: {one.value:.6g}".ljust(width + 16) + _remark(one)
        for one in result.parameters
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise PlaygroundError(
            f"{path} cannot be written: {error.strerror or error}.",
            "name a file in a place that you may write to",
        ) from error


def check_target(path: Path, *, overwrite: bool = False) -> None:
    """Refuses a name that cannot be written to, before hours of work.

    Raises:
        PlaygroundError: The file exists, or is a folder.
    """
    if path.is_dir():
        raise PlaygroundError(f"{path} is a folder.", f"write -o {path}/NAME.yaml")
    if path.exists() and not overwrite:
        raise PlaygroundError(
            f"{path} is there already.", "name another file, or give --overwrite"
        )


def _remark(one: Estimated) -> str:
    if one.status == "not identified":
        return "  # the data cannot tell; not a result"
    unit = "" if one.unit == "1" else f" {one.unit}"
    doubt = "" if one.status == "identified" else f" ({one.status})"
    return f"  # {one.low:.5g} to {one.high:.5g}{unit}{doubt}"


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.10g}" if isinstance(value, float) else str(value)
