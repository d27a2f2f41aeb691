"""Recordings from and to the files of other tools; recordings cut and joined.

One module per format, each with its reader and its writer. Every result
appears under its name complete or not at all. No bus, no clock, no network.
"""

from playground.convert.instants import read_instant, read_place
from playground.convert.reading import FORMATS, ImportReport, import_file
from playground.convert.tables import TableOptions

__all__ = [
    "FORMATS",
    "ImportReport",
    "TableOptions",
    "import_file",
    "read_instant",
    "read_place",
]
