"""Where in a program something happened: its own line, not that of a library."""

# pathlib is not loaded for a program that does not use it.
# ruff: noqa: PTH120

from __future__ import annotations

import linecache
import os
import traceback
from types import FrameType, TracebackType

_HERE = os.path.dirname(__file__)
_LIBRARY = os.path.dirname(os.__file__)
_PACKAGES = f"{os.sep}site-packages{os.sep}"


def is_users(filename: str) -> bool:
    """Says whether a file is the user's: no library's, and none of ours."""
    return not filename.startswith((_LIBRARY, _HERE, "<")) and _PACKAGES not in filename


def is_ours(filename: str) -> bool:
    """Says whether a file belongs to the hosting."""
    return filename.startswith((_HERE, "<frozen"))


def describe(error: BaseException) -> str:
    """Says what an exception is and where in the program it arose."""
    text = traceback.format_exception_only(error)[-1].strip()
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if is_users(frame.f_code.co_filename) or not place:
            code = frame.f_code
            place = f"{code.co_filename}, line {line}, in {code.co_name}"
    return f"{text} ({place})" if place else text


def without_ours(trace: TracebackType | None) -> TracebackType | None:
    """Returns a traceback as it would be without the hosting's own frames."""
    if trace is None:
        return None
    rest = without_ours(trace.tb_next)
    if is_ours(trace.tb_frame.f_code.co_filename):
        return rest
    return TracebackType(rest, trace.tb_frame, trace.tb_lasti, trace.tb_lineno)


def whereabouts(frame: FrameType | None) -> str:
    """Says which line of the program is being executed, and inside which call."""
    inner = frame
    if inner is None:
        return "outside any code of Python"
    while frame is not None and not is_users(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None:
        code = inner.f_code
        return f"{code.co_filename}, line {inner.f_lineno}, in {code.co_name}"
    code = frame.f_code
    line = linecache.getline(code.co_filename, frame.f_lineno).strip()
    text = f"{code.co_filename}, line {frame.f_lineno}, in {code.co_name}: {line}"
    if inner is not frame:
        deep = inner.f_code
        text += f" (inside {deep.co_name}, {deep.co_filename}:{inner.f_lineno})"
    return text
