"""A program in real time: an ordinary process beside the run, watched by it.

What `Hosted` is in virtual time. The program reads the wall clock and has real
threads and sockets; its connections lead to the broker of the run
(`playground.host.launcher`).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from playground.clock import RealtimeClock
from playground.errors import PlaygroundError
from playground.host.command import (
    READY,
    ROOT,
    command_of,
    must_have_pipes,
    search_path,
)
from playground.host.finding import Finding, Line

_STARTING_S = 60.0
"""Wall seconds that an interpreter may take to start on a busy machine."""
_READING_S = 5.0
"""Wall seconds for the last words of a process that has ended."""


class Ordinary:
    """An unmodified MQTT program that runs beside a run in real time.

    Args:
        program: See `Hosted`.
        broker: Host and port of the broker of the run.
        clock: Of the run; every line and finding gets its instant.
        encrypted: Whether that broker speaks TLS. Where it does not, the program's
            TLS settings are accepted and not in force, as in virtual time.
        name: In findings; by default the file's name.
        hosts: Which ``host`` or ``host:port`` (``*`` for any) lead to the broker;
            by default all do. Others are refused.
        allow_write: Folders below which it may write files.
        cwd: Its working directory; by default this process's.
        env: Environment variables on top of this process's.
        timezone: Its local time, as the environment variable ``TZ`` names it.
        start_s: When it starts, seconds since the start of the run; by default
            at once.
        prepared: Wait until its interpreter stands, so that it starts on time; not
            for one that starts while the run goes on.
        grace_s: Wall seconds it has to end when it is asked to.

    Attributes:
        name: In findings.
        output: What it printed, as `Line`.
        findings: What was found about it, as `Finding`.
        exit_code: As `subprocess.Popen.returncode`; None while it runs.

    Raises:
        PlaygroundError: The program does not exist, or its process does not start.
    """

    def __init__(
        self,
        program: str | os.PathLike[str] | Sequence[str],
        broker: tuple[str, int],
        clock: RealtimeClock,
        *,
        encrypted: bool = False,
        name: str | None = None,
        hosts: Sequence[str] | None = None,
        allow_write: Sequence[str | os.PathLike[str]] = (),
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        timezone: str = "UTC",
        start_s: float | None = None,
        prepared: bool = True,
        grace_s: float = 10.0,
    ) -> None:
        must_have_pipes()
        folder = Path(cwd) if cwd is not None else Path.cwd()
        arguments, as_module = command_of(program, folder)
        self.name = name or Path(arguments[0]).stem
        self.clock = clock
        self.grace_s = grace_s
        self.output: list[Line] = []
        self.findings: list[Finding] = []
        self.exit_code: int | None = None
        self._asked = self._closed = False
        self._known: set[tuple[str, str]] = set()
        scratch = tempfile.mkdtemp(prefix="program-")
        control_read, control = os.pipe()
        reports, report_write = os.pipe()
        try:
            self._popen = subprocess.Popen(
                [
                    *(sys.executable, "-u", "-m", "playground.host.launcher"),
                    *(str(control_read), str(report_write)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(control_read, report_write),
                cwd=folder,
                # A Ctrl-C at the terminal is ours to pass on.
                start_new_session=True,
                env={
                    **os.environ,
                    **(env or {}),
                    "TZ": timezone,
                    "TMPDIR": scratch,
                    "PYTHONPATH": search_path(),
                },
            )
        finally:
            os.close(control_read)
            os.close(report_write)
        self._control = control
        self._end = weakref.finalize(self, _end, self._popen, control, scratch)
        self._tell(
            json.dumps(
                {
                    "arguments": arguments,
                    "as_module": as_module,
                    "broker": list(broker),
                    "encrypted": encrypted,
                    "hosts": None if hosts is None else list(hosts),
                    "pythonpath": os.environ.get("PYTHONPATH"),
                    "root": ROOT,
                    "writable": [
                        scratch,
                        *(str((folder / each).resolve()) for each in allow_write),
                    ],
                }
            )
        )
        stdout, stderr = self._popen.stdout, self._popen.stderr
        assert stdout is not None
        assert stderr is not None
        listening = os.fdopen(reports, "rb")
        if prepared:
            self._await_ready(listening, stderr)
        self._listeners = [
            threading.Thread(target=target, args=arguments, daemon=True)
            for target, arguments in (
                (self._read_lines, ("stdout", stdout)),
                (self._read_lines, ("stderr", stderr)),
            )
        ]
        self._listeners.append(
            threading.Thread(
                target=self._read_reports,
                args=(listening, tuple(self._listeners)),
                daemon=True,
            )
        )
        for each in self._listeners:
            each.start()
        # Not before the run moves, however long others take to be prepared.
        callbacks = clock.at(clock.now if start_s is None else start_s).callbacks
        assert callbacks is not None
        callbacks.append(lambda _: self._go())

    def __enter__(self) -> Ordinary:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.kill()

    @property
    def running(self) -> bool:
        """Whether the program has not ended yet."""
        return self._popen.poll() is None

    def close(self) -> None:
        """Asks the program to end, as the end of a service does, and waits.

        It gets SIGTERM if it handles that, else a Ctrl-C, and `grace_s` to end;
        then it is killed. Does nothing to a program that ended.
        """
        if self.running:
            self._asked = True
            self._tell("stop")
            try:
                self._popen.wait(self.grace_s)
            except subprocess.TimeoutExpired:
                self._find(
                    "note",
                    f"It did not end within {self.grace_s:g} s of being asked to.",
                )
        self._finish()

    def kill(self) -> None:
        """Ends the program as a power cut does: at once, and its wills go out."""
        if self.running:
            self._asked = True
            self._popen.kill()
            self._popen.wait()
        self._finish()

    def _finish(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._end()
        for each in self._listeners:
            each.join(_READING_S)
        self.clock.catch_up()

    def _go(self) -> None:
        if not self._closed:
            self._tell("go")

    def _tell(self, line: str) -> None:
        # If it has died, its report will end.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._control, line.encode() + b"\n")

    # ------------------------------------------- what it says, on other threads

    def _await_ready(self, reports: IO[bytes], errors: IO[bytes]) -> None:
        poll = select.poll()
        poll.register(reports, select.POLLIN)
        if poll.poll(_STARTING_S * 1000) and reports.readline():
            return
        self._end()
        text = errors.read().decode(errors="backslashreplace").strip()
        raise PlaygroundError(
            f"The process of the program {self.name} did not start. {text[-2000:]}",
            "see whether this Python runs at all, and whether the broker has an "
            "address here",
        )

    def _read_lines(self, stream: str, pipe: IO[bytes]) -> None:
        with pipe:
            for raw in pipe:
                text = raw.rstrip(b"\n").decode(errors="backslashreplace")
                self.clock.inject(functools.partial(self._print, stream, text))

    def _read_reports(
        self, reports: IO[bytes], others: Sequence[threading.Thread]
    ) -> None:
        with reports:
            for raw in reports:
                said: dict[str, Any] = json.loads(raw)
                if said["kind"] != READY:
                    self.clock.inject(
                        functools.partial(self._find, said["kind"], said["text"])
                    )
        code = self._popen.wait()
        for each in others:
            each.join(_READING_S)
        self.clock.inject(functools.partial(self._ended, code))

    # --------------------------------------------------------- inside the run

    def _print(self, stream: str, text: str) -> None:
        self.output.append(Line(self.clock.now, stream, text))

    def _find(self, kind: str, text: str) -> None:
        if (kind, text) in self._known:
            return  # A program that tries again each second is one finding.
        self._known.add((kind, text))
        self.findings.append(
            Finding(time_s=self.clock.now, program=self.name, kind=kind, text=text)
        )

    def _ended(self, code: int) -> None:
        self.exit_code = code
        crashed = any(finding.kind == "crash" for finding in self.findings)
        if code < 0 and not self._asked:
            self._find("crash", f"Its process died with code {code}.")
        elif code and not crashed and not self._asked:
            self._find("exit", f"It ended with code {code}.")


def _end(popen: subprocess.Popen[bytes], control: int, scratch: str) -> None:
    if popen.poll() is None:
        popen.kill()
        popen.wait()
    os.close(control)
    shutil.rmtree(scratch, ignore_errors=True)
