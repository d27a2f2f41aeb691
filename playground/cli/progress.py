"""A bar with the time that is left, for commands that take long.

Only on a terminal: what a script or a log sees stays as it is.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[..., object]]:
    """Shows a bar while it is open; nothing where stderr is no terminal.

    Args:
        what: What is counted, shown before the bar.

    Yields:
        ``show(done, total, what)``; the last is optional and takes the place of
        the one before.
    """
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:-1], TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def show(done: float, total: float, text: str = what) -> None:
            bar.update(task, completed=done, total=total, description=text)

        yield show
