"""The clocks of a hosted program: ``time`` and ``datetime`` in virtual time."""

from __future__ import annotations

import ctypes
import datetime as datetime_module
import gc
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from playground.host.baton import BATON, INTERRUPTED
from playground.host.replacement import Replacements

UPTIME_NS = 2**18 * 10**9
"""What ``time.monotonic`` shows at the start of the run: a machine that has
been up for three days. Programs that initialise "last time" with 0 rely on a
large value. A power of two keeps differences of readings exact: for the next
three days all of them are multiples of one and the same 2**-34 s."""

_SECOND = 10**9
_UTCNOW_IS_DEPRECATED = sys.version_info >= (3, 12)


def install(replacements: Replacements, start_ns: int) -> None:
    """Replaces the clocks.

    Args:
        replacements: Collects what is replaced.
        start_ns: The calendar instant at which the run starts.
    """
    look = BATON.look

    def time_ns() -> int:
        return start_ns + look()

    def wall() -> float:
        # Two integers: the quotient is rounded once, so it never runs back.
        return (start_ns + look()) / _SECOND

    def monotonic_ns() -> int:
        return UPTIME_NS + look()

    def monotonic() -> float:
        return (UPTIME_NS + look()) / _SECOND

    def sleep(seconds: float, /) -> None:
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        if seconds != seconds:
            raise ValueError("Invalid value NaN (not a number)")
        deadline = BATON.after(float(seconds))
        while BATON.park(deadline) == INTERRUPTED:
            pass

    # Computing takes no virtual time.
    def processor_time() -> float:
        return 0.0

    def processor_time_ns() -> int:
        return 0

    put = replacements.put
    real_gettime_ns = time.clock_gettime_ns
    virtual = {
        name: reading
        for names, reading in (
            (("CLOCK_REALTIME", "CLOCK_TAI"), time_ns),
            (
                (
                    "CLOCK_MONOTONIC",
                    "CLOCK_MONOTONIC_RAW",
                    "CLOCK_BOOTTIME",
                    "CLOCK_UPTIME",
                    "CLOCK_UPTIME_RAW",
                ),
                monotonic_ns,
            ),
            (
                ("CLOCK_PROCESS_CPUTIME_ID", "CLOCK_THREAD_CPUTIME_ID"),
                processor_time_ns,
            ),
        )
        for name in names
    }
    readings: dict[int, Callable[[], int]] = {
        getattr(time, name): reading
        for name, reading in virtual.items()
        if hasattr(time, name)
    }

    def clock_gettime_ns(which: int, /) -> int:
        reading = readings.get(which)
        return reading() if reading else real_gettime_ns(which)

    def clock_gettime(which: int, /) -> float:
        return clock_gettime_ns(which) / _SECOND

    for name, function in {
        "time": wall,
        "time_ns": time_ns,
        "monotonic": monotonic,
        "monotonic_ns": monotonic_ns,
        "perf_counter": monotonic,
        "perf_counter_ns": monotonic_ns,
        "process_time": processor_time,
        "process_time_ns": processor_time_ns,
        "thread_time": processor_time,
        "thread_time_ns": processor_time_ns,
        "clock_gettime": clock_gettime,
        "clock_gettime_ns": clock_gettime_ns,
        "sleep": sleep,
    }.items():
        put(time, name, function)
    _install_calendar(put, wall)
    _install_datetime(time_ns)


def _install_calendar(
    put: Callable[[Any, str, Any], None], wall: Callable[[], float]
) -> None:
    """Replaces the functions that read the clock when they are given no time."""
    real: dict[str, Callable[..., Any]] = {
        name: getattr(time, name)
        for name in ("localtime", "gmtime", "ctime", "asctime", "strftime")
    }

    def localtime(seconds: float | None = None, /) -> Any:
        return real["localtime"](wall() if seconds is None else seconds)

    def gmtime(seconds: float | None = None, /) -> Any:
        return real["gmtime"](wall() if seconds is None else seconds)

    def ctime(seconds: float | None = None, /) -> Any:
        return real["ctime"](wall() if seconds is None else seconds)

    def asctime(when: Any = None, /) -> Any:
        return real["asctime"](localtime() if when is None else when)

    def strftime(pattern: str, when: Any = None, /) -> Any:
        return real["strftime"](pattern, localtime() if when is None else when)

    for function in (localtime, gmtime, ctime, asctime, strftime):
        put(time, function.__name__, function)


def _install_datetime(time_ns: Callable[[], int]) -> None:
    """Gives ``datetime.datetime`` itself virtual ``now`` and ``utcnow``.

    A subclass in its place would break ``isinstance`` for every instant that C
    code makes, and miss every ``from datetime import datetime`` of before. The
    type is written in C and closed; its dictionary can be reached all the
    same. ``today`` asks ``time.time`` and follows by itself.
    """
    real = datetime_module.datetime
    utc = datetime_module.UTC

    def now(cls: Any, tz: datetime_module.tzinfo | None = None) -> Any:
        """Returns the present virtual instant, local or in the zone ``tz``."""
        seconds, rest = divmod(time_ns(), _SECOND)
        return cls.fromtimestamp(seconds, tz).replace(microsecond=rest // 1000)

    def utcnow(cls: Any) -> Any:
        """Returns the present virtual instant in UTC, without a zone."""
        if _UTCNOW_IS_DEPRECATED:
            warnings.warn(
                "datetime.datetime.utcnow() is deprecated: use an instant with a "
                "zone, datetime.datetime.now(datetime.UTC)",
                DeprecationWarning,
                stacklevel=2,
            )
        seconds, rest = divmod(time_ns(), _SECOND)
        when = cls.fromtimestamp(seconds, utc)
        return when.replace(microsecond=rest // 1000, tzinfo=None)

    names = gc.get_referents(real.__dict__)[0]
    names["now"] = classmethod(now)
    names["utcnow"] = classmethod(utcnow)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(real))
