"""Keys while something plays, where standard input is a terminal."""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
import threading
from collections.abc import Callable, Iterator, Mapping

_KEY = re.compile(r"\x1b[\[O][A-Z]|.", re.DOTALL)
_ESCAPES = {"\x1b[C": "right", "\x1b[D": "left", "\x1bOC": "right", "\x1bOD": "left"}


@contextlib.contextmanager
def keys(actions: Mapping[str, Callable[[], object]]) -> Iterator[bool]:
    """Calls an action for each key that is pressed.

    Args:
        actions: By character, or ``left`` and ``right`` for the arrows.

    Yields:
        Whether keys are heard at all: only on a terminal.
    """
    try:
        import termios
        import tty
    except ImportError:  # pragma: no cover - Windows
        yield False
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        yield False
        return
    source = sys.stdin.fileno()
    before = termios.tcgetattr(source)
    ended_here, end_there = os.pipe()

    def listen() -> None:
        while True:
            ready, _, _ = select.select([source, ended_here], [], [])
            if ended_here in ready:
                return
            # Somebody who holds a key down sends several at once.
            for pressed in _KEY.findall(os.read(source, 64).decode("ascii", "ignore")):
                action = actions.get(_ESCAPES.get(pressed, pressed))
                if action is not None:
                    action()

    # Keys come one by one and are not shown; Ctrl-C stays what it is.
    tty.setcbreak(source)
    thread = threading.Thread(target=listen, name="keys", daemon=True)
    thread.start()
    try:
        yield True
    finally:
        os.write(end_there, b".")
        thread.join()
        termios.tcsetattr(source, termios.TCSADRAIN, before)
        os.close(ended_here)
        os.close(end_there)
