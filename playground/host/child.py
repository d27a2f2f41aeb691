"""The process in which a hosted program runs: ``python -m playground.host.child``.

Everything that could tell the program that this is not the plant is replaced
here before the program's first line is read: clocks, threads, sockets, chance,
signals, output. Then the program is executed as ``__main__``, and its end is
the end of the process.
"""

# Mending threading from outside means touching what it keeps to itself.
# ruff: noqa: SLF001

from __future__ import annotations

import _thread
import atexit
import faulthandler
import json
import os
import signal
import sys
from typing import Any, NoReturn

from playground.host.allowance import Allowance
from playground.host.baton import BATON, _exit_process, _start_new_thread
from playground.host.chance import install as install_chance
from playground.host.clocks import install as install_clocks
from playground.host.execution import execute
from playground.host.frames import Channel
from playground.host.interrupts import Interrupts
from playground.host.locks import Lock, RLock, ThreadHandle, allocate_lock
from playground.host.network import HOST_NAME, NETWORK
from playground.host.output import Output
from playground.host.place import describe, whereabouts, without_ours
from playground.host.replacement import Replacements
from playground.host.selecting import install as install_selecting
from playground.host.sockets import install as install_sockets
from playground.host.threads import (
    count,
    get_ident,
    main_ident,
    make_thread_handle,
    set_sentinel,
    shutdown,
    start_joinable_thread,
    start_new_thread,
)
from playground.host.tls import install as install_tls

_FOREIGN_LOOPS = ("uvloop", "gevent", "eventlet")
"""Event loops in C that no replacement reaches."""


_MOST_SAID = 10_000
"""Lines that a program which is stuck may leave; it may be stuck in printing."""


def main() -> None:
    """Runs the program that the run asks for; does not return."""
    read_fd, write_fd, ask_fd, answer_fd = map(int, sys.argv[1:5])
    faulthandler.enable()
    for number in (signal.SIGINT, signal.SIGTERM):
        # A Ctrl-C at the terminal is the run's business.
        signal.signal(number, signal.SIG_IGN)
    [(_, _, raw)] = BATON.attach(Channel(read_fd, write_fd))
    _start_new_thread(_answer_questions, (ask_fd, answer_fd))
    _Program(json.loads(raw)).run()


class _Program:
    """One program and its life.

    Args:
        settings: What `Hosted` wants: see its ``_settings``.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.allowance = Allowance(
            hosts=settings["hosts"], writable=settings["writable"]
        )
        self.output = Output()
        self.parts = Replacements()
        self.coverage: Any = None
        if "coverage" in sys.modules:
            self.coverage = sys.modules["coverage"].Coverage.current()
        if self.coverage is not None:
            # It would save in the program's time, and be refused.
            atexit.unregister(self.coverage._atexit)
        self.interrupts = Interrupts(self._die)
        BATON.on_broken_promise = lambda: self.allowance.note(
            "A network loop spoke while it was thought to be idle; what it said is "
            "late by up to a keep-alive."
        )

    def run(self) -> NoReturn:
        """Executes the program to its end and reports its exit code."""
        self._replace()
        code = self._guarded(lambda: execute(self.settings))
        import threading as threading_module

        threading: Any = threading_module
        # As the interpreter ends: other threads first, then atexit.
        code = self._guarded(threading._shutdown) or code
        code = self._guarded(atexit._run_exitfuncs) or code
        self._exit(code)

    def _exit(self, code: int) -> NoReturn:
        self.output.finish()
        self._save_coverage()
        BATON.exit(json.dumps(code).encode())
        raise AssertionError("the process has ended")

    def _guarded(self, part: Any) -> int:
        try:
            part()
        except SystemExit as end:
            if end.code is None:
                return 0
            if isinstance(end.code, int):
                return end.code
            print(end.code, file=sys.stderr)  # noqa: T201 - as the interpreter does
            return 1
        except KeyboardInterrupt as error:
            if not self.interrupts.stopping:
                self._show(error)
            return -int(signal.SIGINT)
        except BaseException as error:  # noqa: BLE001 - whatever it raises
            self._show(error)
            self.allowance.find("crash", describe(error))
            return 1
        return 0

    def _show(self, error: BaseException) -> None:
        trace = without_ours(error.__traceback__)
        sys.excepthook(type(error), error.with_traceback(trace), trace)

    def _save_coverage(self) -> None:
        """Lets coverage.py, where it measures this process, write in real time."""
        if self.coverage is not None:
            self.allowance.in_force = False
            self.parts.undo()
            self.coverage.stop()
            self.coverage.save()

    # ------------------------------------------------------------- the stage

    def _replace(self) -> None:
        settings = self.settings
        parts = self.parts
        install_clocks(parts, settings["start_ns"])
        self._replace_threads(parts)
        NETWORK.install(parts, self.allowance)
        install_sockets(parts)
        install_selecting(parts)
        install_tls(self.allowance)
        install_chance(parts, settings["seed"])
        self.interrupts.install(parts)
        parts.put(os, "_exit", self._exit_at_once)
        parts.put(os, "getppid", lambda: 1)
        system = list(os.uname())
        system[1] = HOST_NAME
        virtual_system = os.uname_result(system)
        parts.put(os, "uname", lambda: virtual_system)
        parts.spread()
        for name in _FOREIGN_LOOPS:
            sys.modules[name] = None  # type: ignore[assignment]
        sys.dont_write_bytecode = True
        self.allowance.enforce()

    def _replace_threads(self, parts: Replacements) -> None:
        import queue
        import threading

        for name, virtual in {
            "allocate_lock": allocate_lock,
            "allocate": allocate_lock,
            "lock": Lock,
            "LockType": Lock,
            "RLock": RLock,
            "start_new_thread": start_new_thread,
            "start_new": start_new_thread,
            "start_joinable_thread": start_joinable_thread,
            "_set_sentinel": set_sentinel,
            "_ThreadHandle": ThreadHandle,
            "_make_thread_handle": make_thread_handle,
            "_get_main_thread_ident": main_ident,
            "_shutdown": shutdown,
            "get_ident": get_ident,
            "get_native_id": get_ident,
            "_count": count,
        }.items():
            parts.put(_thread, name, virtual)
        parts.put(queue, "SimpleQueue", queue._PySimpleQueue)  # type: ignore[attr-defined]
        parts.spread()
        # The main thread was there before its number was.
        main_thread: Any = threading.main_thread()
        threading._active.clear()  # type: ignore[attr-defined]
        threading._active[BATON.main.number] = main_thread  # type: ignore[attr-defined]
        main_thread._ident = main_thread._native_id = BATON.main.number
        if hasattr(main_thread, "_handle"):
            main_thread._handle = make_thread_handle(BATON.main.number)
        else:
            lock = main_thread._tstate_lock = Lock()
            lock.acquire()
            threading._shutdown_locks.clear()  # type: ignore[attr-defined]
            threading._shutdown_locks.add(lock)  # type: ignore[attr-defined]
        real_hook = threading.excepthook

        def hook(args: Any) -> None:
            trace = without_ours(args.exc_traceback)
            real_hook(threading.ExceptHookArgs((*args[:2], trace, args.thread)))
            if args.exc_value is not None and args.exc_type is not SystemExit:
                name = args.thread.name if args.thread else "a thread"
                self.allowance.find(
                    "exception", f"{name} ended by {describe(args.exc_value)}"
                )

        threading.excepthook = hook

    def _die(self, number: int) -> None:
        """Ends the process as an unhandled signal does: at once."""
        self._save_coverage()
        BATON.exit(json.dumps(-int(number)).encode())

    def _exit_at_once(self, status: int) -> None:
        self._save_coverage()
        BATON.exit(json.dumps(int(status)).encode())


# ------------------------------------------------------------- the watchdog


def _answer_questions(ask_fd: int, answer_fd: int) -> None:
    """Says where the program is, whenever the run asks; ends with the run.

    A real thread beside the baton. It waits in a system call, so it costs
    nothing, and it answers even while the program is stuck in a loop.
    """
    while os.read(ask_fd, 1):
        frame = sys._current_frames().get(BATON.current.real_ident)
        # What it said before it got stuck is not lost.
        said = [(*each[:2], each[2].hex()) for each in BATON.said_so_far()[:_MOST_SAID]]
        answer = json.dumps({"where": whereabouts(frame), "said": said})
        os.write(answer_fd, answer.encode() + b"\n")
    _exit_process(1)


if __name__ == "__main__":
    main()
