"""Recordings from and to the files of other tools; recordings cut and joined.

One module per format, each with its reader and its writer. Every result
appears under its name complete or not at all. No bus, no clock, no network.
"""

from playground.convert.editing import Redaction, cut, filtered, merge
from playground.convert.instants import read_instant, read_place
from playground.convert.reading import FORMATS, ImportReport, import_file
from playground.convert.tables import TableOptions
from playground.convert.writing import EXPORTS, ExportReport, export

__all__ = [
    "EXPORTS",
    "FORMATS",
    "ExportReport",
    "ImportReport",
    "Redaction",
    "TableOptions",
    "cut",
    "export",
    "filtered",
    "import_file",
    "merge",
    "read_instant",
    "read_place",
]
