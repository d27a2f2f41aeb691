"""Replay: a recording, said again on any bus, at any speed.

`Replayer` plays; `Pace` says when, `Selection` what, `Target` where to. Nothing
here starts a broker or a program, or compares what came of it.
"""

from playground.replay.control import Command, parse_speed
from playground.replay.drivers import MonotonicTimer, Timer
from playground.replay.pace import MAX, Lateness, Pace
from playground.replay.player import Replayer
from playground.replay.selection import Remap, Selection, Transformer
from playground.replay.status import ReplayReport, Status

__all__ = [
    "MAX",
    "Command",
    "Lateness",
    "MonotonicTimer",
    "Pace",
    "Remap",
    "ReplayReport",
    "Replayer",
    "Selection",
    "Status",
    "Timer",
    "Transformer",
    "parse_speed",
]
