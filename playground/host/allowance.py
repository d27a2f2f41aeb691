"""What a hosted program may reach: the bus, files to read, a few folders.

A test must not reach the plant by accident. So real sockets, subprocesses and
files written outside the folders the scenario names are refused, with the rule
that forbids them, and each refusal is a finding even where the program
swallows the error. The interpreter's audit events see what any Python code
does, whichever library it comes from; they are a guard rail, not a prison.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from types import FrameType
from typing import Any, NoReturn

from playground.host.baton import BATON
from playground.host.frames import FOUND
from playground.host.place import is_users

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_realpath = os.path.realpath
_fsdecode = os.fsdecode


class NotAllowed(PermissionError):  # noqa: N818 - reads as a sentence
    """A hosted program reached for something outside its allowance."""


class Allowance:
    """The rules for one program.

    Args:
        hosts: ``host``, ``host:port``, with ``*`` for any part, that lead to
            the bus; None: all do.
        writable: Folders below which files may be written.
    """

    def __init__(
        self, *, hosts: Sequence[str] | None, writable: Sequence[str] = ()
    ) -> None:
        self.hosts = hosts
        self.in_force = True
        self.writable = [_realpath(folder) for folder in writable]

    def find(self, kind: str, text: str) -> None:
        """Reports a finding to the run."""
        finding = {"time_ns": BATON.now, "kind": kind, "text": text}
        BATON.tell(FOUND, 0, json.dumps(finding).encode())

    def note(self, text: str) -> None:
        """Reports something that is no mistake, but worth knowing."""
        self.find("note", text)

    def refuse(self, attempt: str, fix: str = "") -> NoReturn:
        """Reports the attempt and raises.

        Raises:
            NotAllowed: Always.
        """
        text = f"A hosted program may not {attempt}."
        if fix:
            text += f" fix: {fix}"
        self.find("refused", f"{text} ({_where()})")
        raise NotAllowed(text)

    def check_connection(self, host: str, port: int) -> None:
        """Refuses a host that does not lead to the bus."""
        if self.hosts is None:
            return
        for pattern in self.hosts:
            name, colon, number = pattern.rpartition(":")
            if not colon:
                name, number = pattern, "*"
            if fnmatchcase(host, name) and fnmatchcase(str(port), number):
                return
        known = ", ".join(self.hosts) or "none"
        self.refuse(
            f"connect to {host}:{port}: only these lead to the bus: {known}",
            f'add "{host}:{port}" to the hosts of this program, if it is its broker',
        )

    def check_write(self, path: Any) -> None:
        """Refuses to write outside the allowed folders."""
        if isinstance(path, int):
            return  # It was opened before.
        real = _realpath(_fsdecode(path))
        if real == os.devnull:
            return
        for folder in self.writable:
            if real == folder or real.startswith(folder.rstrip(os.sep) + os.sep):
                return
        known = ", ".join(self.writable) or "none"
        self.refuse(
            f"write to {real}: folders it may write to: {known}",
            f'add "{os.path.dirname(real)}" to allow_write, if it is meant to',  # noqa: PTH120
        )

    # ---------------------------------------------------------- audit events

    def enforce(self) -> None:
        """Watches from now on; there is no way back."""
        rules = self._rules()

        def watch(event: str, args: tuple[Any, ...]) -> None:
            rule = rules.get(event)
            if rule is not None and self.in_force:
                rule(args)

        sys.addaudithook(watch)

    def _rules(self) -> dict[str, Callable[[tuple[Any, ...]], None]]:
        def opened(args: tuple[Any, ...]) -> None:
            path, _, flags = args
            if flags & _WRITING:
                self.check_write(path)

        def changed(args: tuple[Any, ...]) -> None:
            self.check_write(args[0])

        def moved(args: tuple[Any, ...]) -> None:
            self.check_write(args[0])
            self.check_write(args[1])

        def made(args: tuple[Any, ...]) -> None:
            self.check_write(args[1])

        def database(args: tuple[Any, ...]) -> None:
            if args[0] not in (":memory:", b":memory:", ""):
                self.check_write(args[0])

        def forbid(attempt: str) -> Callable[[tuple[Any, ...]], None]:
            return lambda args: self.refuse(f"{attempt}{_shown(args)}")

        process = forbid("start another process: ")
        network = forbid("use a real socket: ")
        return {
            "open": opened,
            **dict.fromkeys(
                (
                    "os.chmod",
                    "os.chown",
                    "os.mkdir",
                    "os.remove",
                    "os.rmdir",
                    "os.truncate",
                    "os.utime",
                ),
                changed,
            ),
            "os.rename": moved,
            "os.link": made,
            "os.symlink": made,
            "sqlite3.connect": database,
            **dict.fromkeys(
                (
                    "os.exec",
                    "os.fork",
                    "os.forkpty",
                    "os.posix_spawn",
                    "os.spawn",
                    "os.system",
                    "pty.spawn",
                    "subprocess.Popen",
                ),
                process,
            ),
            "os.kill": forbid("send a signal to another process: "),
            "os.killpg": forbid("send a signal to other processes: "),
            **dict.fromkeys(
                (
                    "socket.__new__",
                    "socket.bind",
                    "socket.connect",
                    "socket.getaddrinfo",
                    "socket.gethostbyaddr",
                    "socket.gethostbyname",
                    "socket.sendto",
                ),
                network,
            ),
        }


def _shown(args: tuple[Any, ...]) -> str:
    shown = ", ".join(repr(each) for each in args if each is not None)
    return shown if len(shown) <= 120 else shown[:117] + "..."


def _where() -> str:
    """Returns the line of the program that is being executed."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way
    while frame is not None:
        if is_users(frame.f_code.co_filename):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "not in the program's own code"
