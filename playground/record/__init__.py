"""A live session, written down: any broker, or the embedded one itself.

`record` does it all and returns the sealed recording; `Recorder` is the same as
a context manager, for programs that have something else to do meanwhile.
Sources know where messages come from, the recorder knows no transport, and the
file is `playground.recording`'s.
"""

from playground.record.recorder import Progress, Recorder, Rotation, record
from playground.record.sources import BrokerSource, EmbeddedSource, Sink, Source
from playground.record.tap import TapSource
from playground.record.window import Window, make_trigger

__all__ = [
    "BrokerSource",
    "EmbeddedSource",
    "Progress",
    "Recorder",
    "Rotation",
    "Sink",
    "Source",
    "TapSource",
    "Window",
    "make_trigger",
    "record",
]
