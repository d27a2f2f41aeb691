"""Scenarios: an experiment in one YAML file, and the parts it asks for.

`Scenario` holds what a person wrote; `load_scenario` reads it from a file and
says everything that is wrong with it at once; `Scenario.prepare` makes a
`Setup`: the plant, the controllers, the checks and the KPIs. Nothing runs here.
"""

from playground.scenario.entries import VERSION, Scenario
from playground.scenario.files import dump, load_scenario, moved, read_scenario
from playground.scenario.hashes import check_files
from playground.scenario.parts import Disturbance, Event, Program, Replayed, Setup

__all__ = [
    "VERSION",
    "Disturbance",
    "Event",
    "Program",
    "Replayed",
    "Scenario",
    "Setup",
    "check_files",
    "dump",
    "load_scenario",
    "moved",
    "read_scenario",
]
