"""Reaches for everything that a test must not touch."""

import os
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path


def attempt(name, action):
    try:
        action()
        print(name, "worked")
    except OSError as error:
        print(name, type(error).__name__)


folder = Path(sys.argv[1])
attempt("read", lambda: Path(__file__).read_text())
attempt("write inside", lambda: (folder / "inside.txt").write_text("x"))
attempt("temporary", lambda: tempfile.TemporaryFile().close())
attempt("write outside", lambda: (folder.parent / "outside.txt").write_text("x"))
attempt("mkdir outside", lambda: (folder.parent / "new").mkdir())
attempt("remove outside", lambda: os.remove(__file__))  # noqa: PTH107
attempt("other host", lambda: socket.create_connection(("plant.example", 1883)))
attempt("web", lambda: urllib.request.urlopen("http://example.org/"))
attempt("datagram", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
attempt("process", lambda: subprocess.run(["true"]))
attempt("fork", lambda: os.fork())
