"""The families of learned models, by the name that a model gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from playground.plants.learned.arx import Arx
from playground.plants.learned.boosting import Boosting
from playground.plants.learned.filter_bank import FilterBank
from playground.plants.learned.fourier import Fourier
from playground.plants.learned.grey_box import GreyBox
from playground.plants.learned.hybrid import Hybrid
from playground.plants.learned.network import Network
from playground.plants.learned.reservoir import Reservoir
from playground.plants.learned.simulator import Array, Simulator
from playground.plants.learned.state_space import StateSpace

FAMILIES: dict[str, Callable[[Mapping[str, Any], Mapping[str, Array]], Simulator]] = {
    "arx": Arx,
    "boosting": Boosting,
    "filter bank": FilterBank,
    "fourier": Fourier,
    "grey box": GreyBox,
    "hybrid": lambda settings, arrays: Hybrid(settings, arrays, FAMILIES),
    "network": Network,
    "reservoir": Reservoir,
    "state space": StateSpace,
}
"""Name of a family in a model and the class that steps it."""

QUICK = ("arx", "grey box", "state space")


def quick(family: str, settings: Mapping[str, Any]) -> bool:
    """Whether a member of a family steps as fast as a plant should, alone."""
    if family == "hybrid":
        learned = str(settings["learned"]["family"])
        return learned in QUICK and not on_a_plant(settings)
    return family in QUICK


def on_a_plant(settings: Mapping[str, Any]) -> bool:
    """Whether a member stands on a physical plant, which steps its runs one by one."""
    return "plant" in settings.get("base", ())
