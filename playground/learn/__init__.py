"""From recordings to a model of the plant that made them."""

from playground.learn.dataset import Segment, read_segments
from playground.learn.free_run import OutputError, judge
from playground.learn.learn import held_back, learn, learn_segments

__all__ = [
    "OutputError",
    "Segment",
    "held_back",
    "judge",
    "learn",
    "learn_segments",
    "read_segments",
]
