"""What stands below ``plant:`` in a scenario, and how far that plant is believed.

``{model: folder}`` names a learned plant; beside it may stand ``fast``, ``force`` and,
as beside any plant that knows its envelope, ``envelope``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playground.errors import PlaygroundError, closest
from playground.plants.departures import DEFAULT_SHARE, Enclosed
from playground.quantity import quantity
from playground.scenario.entries import found

ENVELOPE = "envelope"
_BESIDE_MODEL = ("fast", "force")
_FORM = "{model: models/NAME, fast: true, envelope: {share: 5 %}}"


def learned_plant(entry: Mapping[str, Any], folder: Path) -> Any:
    """Makes the learned plant that an entry names.

    Args:
        entry: ``{model: folder, fast: true, force: true}``; without ``fast`` the
            model says which of its forms steps.
        folder: Of the scenario.

    Raises:
        PlaygroundError: The entry has other keys or values, or there is no such
            model.
    """
    from playground.plants.learned import LearnedPlant

    known = ("model", *_BESIDE_MODEL, ENVELOPE)
    for key in entry:
        if key not in known:
            raise PlaygroundError(
                f"unknown key {key!r} beside 'model'.{closest(str(key), known)}",
                f"write {_FORM}",
            )
    for key in _BESIDE_MODEL:
        if not isinstance(entry.get(key, False), bool):
            raise PlaygroundError(
                f"{key}: {entry[key]!r} is neither true nor false.",
                f"write {key}: true, or leave it out",
            )
    name = entry["model"]
    if not isinstance(name, str):
        raise PlaygroundError(
            f"model: {name!r} is not the name of a folder.",
            "write {model: models/NAME}",
        )
    return LearnedPlant(found(folder, name), fast=entry.get("fast"))


def allowed_share(plant: Any, entry: Any) -> float:
    """Returns the share of steps that may lie outside the plant's envelope.

    Args:
        plant: The plant.
        entry: What stands after ``envelope:``; None for nothing.

    Raises:
        PlaygroundError: The entry is wrong, or the plant has no envelope.
    """
    if entry is None:
        return DEFAULT_SHARE
    if not isinstance(entry, Mapping) or set(entry) != {"share"}:
        wrong = [key for key in entry if key != "share"] if entry else []
        seen = repr(wrong[0]) if isinstance(entry, Mapping) and wrong else repr(entry)
        raise PlaygroundError(
            f"envelope: {seen} is not the share of steps that may be outside.",
            "write envelope: {share: 5 %}",
        )
    if not isinstance(plant, Enclosed):
        raise PlaygroundError(
            "This plant knows no envelope that it could leave; learned and replayed "
            "plants do.",
            "leave envelope out",
        )
    share = quantity(entry["share"], "1")
    if not 0 <= share <= 1:
        raise PlaygroundError(
            f"share: {share:g} is not a share of the steps, 0 to 1.",
            "write envelope: {share: 5 %}",
        )
    return share


def doubted_outputs(plant: Any) -> dict[str, str]:
    """Returns why each output that must not be judged is of no use, by name."""
    if not getattr(plant, "unusable", ()):
        return {}
    return {name: plant.model.about_unusable(name) for name in plant.unusable}


def wrong_directions(plant: Any) -> tuple[str, ...]:
    """Says which answers of a learned plant go against what its signals declare."""
    model = getattr(plant, "model", None)
    if model is None:
        return ()
    from playground.model import contradictions

    return tuple(contradictions(model.card.get("step_responses", ()), plant.signals))
