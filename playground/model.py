"""A learned plant on disk: ``models/NAME/model.json`` and ``parameters.npz``.

Rule 1: nothing is unpickled; numbers are plain arrays, the rest is JSON. Rule 2:
the same model written twice gives the same bytes, so no clock and no machine
name goes in. How a model was learned and how it is stepped are not known here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from playground import __version__
from playground.errors import FileFormatError, PlaygroundError
from playground.signals import Publication, Signal, Signals

FORMAT = "mqtt-playground model"
FORMAT_VERSION = 1
DOCUMENT = "model.json"
PARAMETERS = "parameters.npz"

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A learned plant: what it is made of and how good it was.

    Attributes:
        signals: Its inputs and outputs and how they travel on the bus.
        period_s: Seconds of one step.
        inputs: Names of commands and disturbances, in the order of columns.
        outputs: Names of measurements, in the order of columns.
        history: Rows of the past it needs to begin.
        members: The parts it consists of: family, settings, outputs; the
            arrays of member ``3`` are the parameters whose name begins with
            ``3.``.
        parameters: Every number, as float64 arrays by name.
        card: Where it comes from and how well it did: hash of the data,
            splits, errors beside persistence and train mean.
    """

    signals: Signals
    period_s: float
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    history: int
    members: tuple[Mapping[str, Any], ...]
    parameters: Mapping[str, Array]
    card: Mapping[str, Any]

    def part(self, name: int | str) -> dict[str, Array]:
        """Returns the arrays of a member or a named part, by their name in it."""
        prefix = f"{name}."
        return {
            key.removeprefix(prefix): array
            for key, array in self.parameters.items()
            if key.startswith(prefix)
        }

    def about_unusable(self, output: str) -> str:
        """Says why an output is marked unusable, with figures where there are any."""
        said = "no candidate predicts it better than its mean"
        for error in self.card.get("errors", ()):
            if error["output"] == output:
                said += (
                    f" (free-run RMSE {error['rmse']:.4g} {error['unit']}; train mean "
                    f"{error['train_mean']:.4g}, persistence {error['persistence']:.4g})"
                )
        return said

    def describe(self) -> str:
        """Says in a few lines what the model is and how good it was."""
        families = ", ".join(dict.fromkeys(str(m["family"]) for m in self.members))
        lines = [
            f"{families}; {self.period_s:g} s per step",
            f"inputs:  {', '.join(self.inputs)}",
            f"outputs: {', '.join(self.outputs)}",
        ]
        lines.extend(
            f"  {error['output']}: RMSE {error['rmse']:.4g} {error['unit']} in "
            f"free run (persistence {error['persistence']:.4g}, "
            f"train mean {error['train_mean']:.4g})"
            for error in self.card.get("errors", ())
        )
        return "\n".join(lines)


def contradictions(
    responses: Iterable[Mapping[str, Any]], signals: Signals
) -> list[str]:
    """Says which step responses of a card go against the declared directions.

    Args:
        responses: ``card["step_responses"]``: command, output, gain, settled_s. One
            that never settles visibly has no sign.
        signals: Their ``responds`` declares the directions.
    """
    found = []
    for response in responses:
        command, output, gain = (response[k] for k in ("command", "output", "gain"))
        declared = signals[output].responds if output in signals else None
        direction = (declared or {}).get(command)
        if direction is None or response["settled_s"] is None or not gain:
            continue
        if (gain > 0) != (direction == "up"):
            per = signals[command].unit if command in signals else "1"
            found.append(
                f"{output} goes {'up' if gain > 0 else 'down'} when {command} rises "
                f"({gain:+.3g} {signals[output].unit} per {per}), and is declared to "
                f"go {direction}"
            )
    return found


def save_model(
    model: Model,
    folder: Path | str,
    *,
    overwrite: bool = False,
    beside: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Writes a model into a folder of its own, whole or not at all.

    Args:
        model: The model.
        folder: ``models/NAME``; made, with its parents.
        overwrite: Replace a model that is there already.
        beside: Texts for people to put beside it, by file name: the card, its
            pictures. They are not read again.

    Returns:
        SHA-256 of the document and of the parameters, by file name.

    Raises:
        PlaygroundError: The folder exists and may not be replaced, or is no
            model.
    """
    target = Path(folder)
    check_target(target, overwrite=overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise PlaygroundError(
            f"{target}: cannot be written: {error.strerror or error}.",
            "name a folder in a place that you may write to",
        ) from error
    try:
        half.chmod(0o755)
        hashes = _write(model, half)
        for name, text in (beside or {}).items():
            (half / name).write_text(text, encoding="utf-8")
        if target.exists():
            aside = half.with_name(half.name + ".old")
            target.rename(aside)
            half.rename(target)
            shutil.rmtree(aside)
        else:
            half.rename(target)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise
    return hashes


def check_target(folder: Path | str, *, overwrite: bool = False) -> None:
    """Refuses a place where a model may not be written; see `save_model`.

    Asked before learning begins, so that minutes of work are not lost.
    """
    target = Path(folder)
    if not target.exists():
        return
    if not target.is_dir() or (
        any(target.iterdir()) and not (target / DOCUMENT).is_file()
    ):
        raise PlaygroundError(
            f"{target} exists and is not a model; it is left as it is.",
            "name a folder that does not exist yet",
        )
    if any(target.iterdir()) and not overwrite:
        raise PlaygroundError(
            f"{target} holds a model already.", "add --overwrite, or choose a new name"
        )


def load_model(folder: Path | str) -> Model:
    """Reads a model and checks that it is what was written.

    Raises:
        FileFormatError: It is missing, no model, newer than this program, or
            one of its files was changed.
    """
    place = Path(folder)
    if place.name == DOCUMENT:
        place = place.parent
    document = _read_document(place)
    data = _read_bytes(place / PARAMETERS)
    if hashlib.sha256(data).hexdigest() != document["sha256"].get(PARAMETERS):
        raise FileFormatError(
            f"{place / PARAMETERS}: its content is not what {DOCUMENT} says: "
            "it was changed or cut after it was written.",
            "take the model from its source again, or learn it again",
        )
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            parameters = {
                name: np.asarray(archive[name], dtype=np.float64)
                for name in archive.files
            }
        return Model(
            signals=_signals_from(document["signals"]),
            period_s=float(document["period_s"]),
            inputs=tuple(document["inputs"]),
            outputs=tuple(document["outputs"]),
            history=int(document["history"]),
            members=tuple(dict(member) for member in document["members"]),
            parameters=parameters,
            card=_card_from(document["card"]),
        )
    except (
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
    ) as error:
        raise FileFormatError(
            f"{place}: it is marked as a model, but its content is not one ({error}).",
            "learn the model again",
        ) from error


_ENTRIES = {
    "errors": ("rmse", "persistence", "train_mean"),
    "step_responses": ("gain",),
}
"""Numbers in each entry of a list on the card that is read again."""


def _card_from(card: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the card, whose text is for people but of which some is read again.

    Raises:
        LookupError, TypeError, ValueError: It is not as it is written here.
    """
    for name in ("fast", "validation"):
        if not isinstance(card.get(name, {}), Mapping):
            raise TypeError(f"{name!r} on its card is not a block of names")
    for name, numbers in _ENTRIES.items():
        for entry in card.get(name, ()):
            str(entry["output"])
            for number in numbers:
                float(entry[number])
    tuple(card.get("unusable", ()))
    return card


def _write(model: Model, folder: Path) -> dict[str, str]:
    buffer = io.BytesIO()
    # Sorted, so that the bytes do not depend on the order of insertion. The
    # archive's entries carry the date 1980-01-01, always.
    np.savez_compressed(
        buffer,
        allow_pickle=False,
        **{name: model.parameters[name] for name in sorted(model.parameters)},
    )
    parameters = buffer.getvalue()
    document: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "writer": f"mqtt-playground {__version__}",
        "period_s": model.period_s,
        "inputs": list(model.inputs),
        "outputs": list(model.outputs),
        "history": model.history,
        "signals": _signals_to(model.signals),
        "members": [dict(member) for member in model.members],
        "card": dict(model.card),
        "sha256": {PARAMETERS: hashlib.sha256(parameters).hexdigest()},
    }
    # Through JSON once, so that tuples and lists hash alike.
    document = json.loads(json.dumps(document))
    document["sha256"]["content"] = _content_hash(document)
    text = (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
    for name, data in ((PARAMETERS, parameters), (DOCUMENT, text)):
        with (folder / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    return {
        DOCUMENT: hashlib.sha256(text).hexdigest(),
        PARAMETERS: hashlib.sha256(parameters).hexdigest(),
    }


def _content_hash(document: Mapping[str, Any]) -> str:
    """Hashes everything in the document but the hash itself."""
    covered = {**document, "sha256": {**document["sha256"]}}
    covered["sha256"].pop("content", None)
    text = json.dumps(covered, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileFormatError(
            f"{path}: cannot be read: {error.strerror or error}.",
            f"a model is a folder with {DOCUMENT} and {PARAMETERS} in it",
        ) from error


def _read_document(place: Path) -> dict[str, Any]:
    path = place / DOCUMENT
    if not place.is_dir():
        raise FileFormatError(
            f"{place}: there is no model folder here.",
            "name a folder that `playground learn … -o models/NAME` wrote",
        )
    try:
        document = json.loads(_read_bytes(path))
    except ValueError as error:
        raise FileFormatError(
            f"{path}: is not JSON ({error}).",
            "take the model from its source again, or learn it again",
        ) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise FileFormatError(
            f"{path}: is not a model of this program (no 'format': {FORMAT!r}).",
            "name a folder that `playground learn … -o models/NAME` wrote",
        )
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        raise FileFormatError(
            f"{path}: has format version {version!r}; this program reads version "
            f"{FORMAT_VERSION}.",
            "update mqtt-playground, or learn the model again",
        )
    if not isinstance(document.get("sha256"), dict) or document["sha256"].get(
        "content"
    ) != _content_hash(document):
        raise FileFormatError(
            f"{path}: its content does not match its hash: it was changed after it "
            "was written.",
            "models are learned, not edited; learn it again",
        )
    return document


def _signal_to(signal: Signal) -> dict[str, Any]:
    # A mapping that is no dict would be lost in asdict.
    bare = dataclasses.replace(signal, values=None, responds=None)
    plain = dataclasses.asdict(bare)
    plain["values"] = None if signal.values is None else dict(signal.values)
    # Only what is declared, so that models of before read and hash as they did.
    if signal.responds is not None:
        plain["responds"] = dict(signal.responds)
    for name in ("responds", "max_age", "resample", "stamp"):
        if plain[name] is None:
            del plain[name]
    return plain


def _signals_to(signals: Signals) -> dict[str, Any]:
    return {
        "signals": [_signal_to(signal) for signal in signals.values()],
        "publications": [
            {**dataclasses.asdict(publication), "fields": dict(publication.fields)}
            for publication in signals.publications
        ],
        **({"balances": dict(signals.balances)} if signals.balances else {}),
    }


def _signals_from(data: Mapping[str, Any]) -> Signals:
    signals = []
    for entry in data["signals"]:
        bounds = entry["range"]
        signals.append(
            Signal(
                **{
                    **entry,
                    "range": None if bounds is None else (bounds[0], bounds[1]),
                    "invalid": tuple(entry["invalid"]),
                }
            )
        )
    publications = [
        Publication(**{**entry, "signals": tuple(entry["signals"])})
        for entry in data["publications"]
    ]
    return Signals(signals, publications, balances=data.get("balances"))
