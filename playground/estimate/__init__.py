"""Fits unknown parameters of a physical plant to recordings of the real one."""

from playground.estimate.estimate import Direction, Estimate, Estimated, estimate
from playground.estimate.fit import Misfit
from playground.estimate.online import Drift, Window, follow
from playground.estimate.plant_file import read_plant_file, write_plant_file
from playground.estimate.unknowns import Prior

__all__ = [
    "Direction",
    "Drift",
    "Estimate",
    "Estimated",
    "Misfit",
    "Prior",
    "Window",
    "estimate",
    "follow",
    "read_plant_file",
    "write_plant_file",
]
