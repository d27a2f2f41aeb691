"""A hosted program, seen from the run."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from playground.bus import LocalBus
from playground.clock import VirtualClock
from playground.errors import PlaygroundError
from playground.host.command import ROOT, command_of, must_have_pipes, search_path
from playground.host.ensemble import Ensemble
from playground.host.finding import Finding, Line
from playground.host.frames import (
    ACCEPTED,
    ARRIVED,
    CLOSED,
    CONFIGURE,
    CONNECT,
    EXITED,
    FOUND,
    HUNG_UP,
    INSTANT,
    NEVER,
    PRINTED,
    REFUSED,
    SENT,
    SIGNAL,
    Action,
    Channel,
)
from playground.host.session import Session, Through
from playground.link import Link, ways

_STARTING_S = 60.0
"""Wall seconds that an interpreter may take to start on a busy machine."""
_FIRST_UNKNOWN = (3, 14)
"""The first Python whose ``threading`` the child does not know."""
_ANSWERING_MS = 5000
"""Wall milliseconds that its watchdog thread may take on a busy machine."""
_STREAMS = {1: "stdout", 2: "stderr"}
_STOP = 0


class Hosted:
    """An unmodified MQTT program, running in virtual time on a local bus.

    The program is an ordinary Python file or module that uses paho, aiomqtt or
    plain sockets, starts threads, sleeps, and knows nothing of this project.
    It takes part in the run as soon as the clock runs::

        with Hosted("my_control.py", bus, clock) as program:
            clock.run(until=3600)
        assert not program.findings

    Args:
        program: A file; or a command line, as text or as a list:
            ``python my_control.py --fast``, ``-m my_package``.
        bus: Where all its MQTT connections lead.
        clock: Of the run.
        name: In findings and for its seed; by default the file's name.
        hosts: Which ``host`` or ``host:port`` (``*`` for any) lead to the bus;
            by default all do. Others are refused.
        seed: Seeds ``random``, ``uuid4``, ``os.urandom`` together with the name.
        watchdog_s: Wall seconds that it may compute without waiting.
        allow_write: Folders below which it may write files, besides a folder
            for temporary files that goes when the program does.
        cwd: Its working directory; by default this process's.
        env: Environment variables on top of this process's.
        timezone: Its local time, as the environment variable ``TZ`` names it.
        start_s: When it starts, seconds since the start of the run; by default
            at once.
        grace_s: Virtual seconds it has to end when it is asked to.
        link: What its connections go through; it carries bytes as TCP does, so
            what is lost on it arrives after `Link.retry_s`.
        through: Returns what each of its connections publishes with, in place of
            their own `publish`; faults of a run stand there.
        on_line: Is called with each line that it prints.
        on_finding: Is called with each finding as it is made.

    Attributes:
        command: The program and its arguments.
        output: What it printed, as `Line`.
        findings: What was found about it, as `Finding`.
        clients: The client ids it has used, in order; for ``in`` and loops.
        exit_code: As `subprocess.Popen.returncode`; None while it runs.

    Raises:
        PlaygroundError: The program does not exist.
    """

    def __init__(
        self,
        program: str | os.PathLike[str] | Sequence[str],
        bus: LocalBus,
        clock: VirtualClock,
        *,
        name: str | None = None,
        hosts: Sequence[str] | None = None,
        seed: int | str = 0,
        watchdog_s: float = 10.0,
        allow_write: Sequence[str | os.PathLike[str]] = (),
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        timezone: str = "UTC",
        start_s: float | None = None,
        grace_s: float = 10.0,
        link: Link | None = None,
        through: Through | None = None,
        on_line: Callable[[Line], object] | None = None,
        on_finding: Callable[[Finding], object] | None = None,
    ) -> None:
        must_have_pipes()
        if sys.version_info[:2] >= _FIRST_UNKNOWN:
            raise PlaygroundError(
                f"Hosting knows the threads of Python 3.11 to 3.13, and this is "
                f"{sys.version_info[0]}.{sys.version_info[1]}.",
                "run it with one of these, or use the transport lockstep",
            )
        folder = Path(cwd) if cwd is not None else Path.cwd()
        arguments, as_module = command_of(program, folder)
        self.name = name or Path(arguments[0]).stem
        self.command = arguments
        self.bus = bus
        self.clock = clock
        self.watchdog_s = watchdog_s
        self.grace_s = grace_s
        self.link = link
        self.through = through
        self.on_line = on_line
        self.on_finding = on_finding
        self.output: list[Line] = []
        self.findings: list[Finding] = []
        self.clients: dict[str, None] = {}
        self.exit_code: int | None = None
        self.reachable = True
        self._known: set[tuple[str, str]] = set()
        self._lines: dict[int, _Line] = {}
        self._inbox: list[Action] = []
        self._held: list[Action] | None = None
        """What it did at an instant that the run has not reached yet."""
        self._its_now_ns = 0
        self._next_ns = round((clock.now if start_s is None else start_s) * 1e9)
        self._started = self._going = self._asked = False
        self._settings: dict[str, Any] = {
            "arguments": arguments,
            "as_module": as_module,
            "hosts": None if hosts is None else list(hosts),
            "seed": f"{seed}/{self.name}",
            "start_ns": clock.start_ns,
            "root": ROOT,
            "pythonpath": os.environ.get("PYTHONPATH"),
        }
        self._process = _Process(folder, {**(env or {}), "TZ": timezone})
        self._settings["writable"] = [
            self._process.scratch,
            *(str((folder / each).resolve()) for each in allow_write),
        ]
        self._ensemble = Ensemble.on(clock)
        self._ensemble.members.append(self)
        self._ensemble.rearm()

    def __enter__(self) -> Hosted:
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
        return self.exit_code is None

    # ------------------------------------------------- what may befall it

    def close(self) -> None:
        """Asks the program to end, as the end of a service does, and waits.

        It gets SIGTERM if it handles that, else a Ctrl-C, and `grace_s`
        of virtual time, which passes for this program only: what it still says
        is said at the present instant. Does nothing to a program that ended.
        """
        if self.running and not self._started:
            self._end(0)
        if self._held is not None:
            self._take_held()
        if self.running:
            self._stop()

    def _stop(self) -> None:
        self._asked = True
        self._inbox.append((SIGNAL, _STOP, b""))
        now_ns = max(self._ensemble.now_ns(), self._its_now_ns)
        end_ns = now_ns + round(self.grace_s * 1e9)
        while now_ns <= end_ns:
            self.go(now_ns, now_ns)
            self.finish(now_ns)
            now_ns = max(now_ns, self.due_ns())
        if self.running:
            self._find(
                "note",
                f"It did not end within {self.grace_s:g} s of being asked to.",
                end_ns,
            )
            self.kill()

    def kill(self) -> None:
        """Ends the program as a power cut does: at once, and its wills go out."""
        if self.running:
            self._end(-signal.SIGKILL)

    def interrupt(self, name: str = "SIGINT") -> None:
        """Sends the program a signal at the present instant."""
        self._asked = True
        self._post(SIGNAL, int(signal.Signals[name]))

    def link_down(self, *, wills: bool = True) -> None:
        """Cuts all its connections; new ones are refused until `link_up`.

        Args:
            wills: The broker, which is still there, publishes its wills.
        """
        self.reachable = False
        lines, self._lines = self._lines, {}
        for number, line in lines.items():
            self._post(HUNG_UP, number)
            if wills:
                line.session.lost()
            else:
                line.session.forgotten()

    def link_up(self) -> None:
        """Lets it connect again."""
        self.reachable = True

    # --------------------------------------------- asked for by the ensemble

    def due_ns(self) -> int:
        """Returns the instant at which it has something to do."""
        if self._held is not None or self._inbox:
            return self._its_now_ns
        return self._next_ns

    def go(self, now_ns: int, until_ns: int) -> None:
        """Lets it compute; does not wait for it."""
        if self._held is not None:
            return
        actions, self._inbox = self._inbox, []
        self._going = True
        # If it has died, finish() will hear of it.
        with contextlib.suppress(BrokenPipeError, EOFError, TimeoutError):
            if not self._started:
                self._started = True
                self._process.channel.receive(_STARTING_S)
                settings = json.dumps(self._settings).encode()
                actions = [(CONFIGURE, 0, settings)]
            self._process.channel.send(now_ns, until_ns, actions)

    def finish(self, now_ns: int) -> None:
        """Waits until it has computed, and takes what it did."""
        if self._held is not None:
            self._take_held()
            return
        if not self._going:
            return
        self._going = False
        try:
            told = self._process.channel.receive(self.watchdog_s)
        except TimeoutError:
            where, said = self._process.whereabouts()
            self._take(said)
            self._find(
                "hang",
                f"It has computed for {self.watchdog_s:g} s of wall time without "
                f"waiting: {where}",
                now_ns,
            )
            self._end(-signal.SIGKILL)
            return
        except EOFError:
            code = self._process.wait()
            self._find(
                "crash",
                f"Its process died with code {code}. {self._process.last_words()}",
                now_ns,
            )
            self._end(code)
            return
        self._its_now_ns, self._next_ns, actions = told
        if self._its_now_ns > now_ns:
            self._held = actions
            if not any(kind in _TELLING for kind, _, _ in actions):
                self._take_held()
        else:
            self._take(actions)

    # ------------------------------------------------------- what it did

    def _take_held(self) -> None:
        actions, self._held = self._held, None
        self._take(actions or [])

    def _take(self, actions: list[Action]) -> None:
        for kind, number, data in actions:
            if kind == SENT:
                line = self._lines.get(number)
                if line is not None:
                    line.up(functools.partial(line.session.feed, data))
            elif kind == PRINTED:
                self._print(number, data)
            elif kind == CONNECT:
                self._connect(number)
            elif kind == CLOSED:
                line = self._lines.pop(number, None)
                if line is not None:
                    line.up(line.session.lost)
            elif kind == FOUND:
                finding = json.loads(data)
                self._find(finding["kind"], finding["text"], finding["time_ns"])
            elif kind == EXITED:
                self._exit(json.loads(data))

    def _print(self, stream: int, data: bytes) -> None:
        (time_ns,) = INSTANT.unpack_from(data)
        text = data[INSTANT.size :].decode(errors="backslashreplace")
        line = Line(time_ns / 1e9, _STREAMS[stream], text)
        self.output.append(line)
        if self.on_line is not None:
            self.on_line(line)

    def _exit(self, code: int) -> None:
        crashed = any(finding.kind == "crash" for finding in self.findings)
        if code and not crashed and not self._asked:
            self._find("exit", f"It ended with code {code}.", self._its_now_ns)
        self._end(code)

    def _connect(self, number: int) -> None:
        if not self.reachable:
            self._post(REFUSED, number)
            return

        up = down = _at_once
        if self.link is not None:
            seed = f"{self._settings['seed']}/{number}"
            below, above = ways(self.clock, self.link, seed)
            up, down = above.carry, below.carry

        def send(data: bytes) -> None:
            down(functools.partial(self._post_to, number, ARRIVED, data))

        def hang_up() -> None:
            down(functools.partial(self._hang_up, number))

        def found(kind: str, text: str) -> None:
            self._find(kind, text, self._ensemble.now_ns())

        session = Session(
            self.bus,
            self.clock,
            send=send,
            hang_up=hang_up,
            found=found,
            connected=lambda client_id: self.clients.setdefault(client_id),
            through=self.through,
        )
        self._lines[number] = _Line(session, up)
        # There and back, before it counts as connected.
        up(lambda: down(functools.partial(self._post_to, number, ACCEPTED)))

    def _post_to(self, number: int, kind: int, data: bytes = b"") -> None:
        if number in self._lines:
            self._post(kind, number, data)

    def _hang_up(self, number: int) -> None:
        if self._lines.pop(number, None) is not None:
            self._post(HUNG_UP, number)

    def _post(self, kind: int, number: int, data: bytes = b"") -> None:
        """Puts something into what it is told next."""
        if not self.running or not self._started:
            return
        inbox = self._inbox
        if kind == ARRIVED and inbox and inbox[-1][:2] == (ARRIVED, number):
            inbox[-1] = (ARRIVED, number, inbox[-1][2] + data)
        else:
            inbox.append((kind, number, data))
            self._ensemble.rearm()

    def _find(self, kind: str, text: str, time_ns: int) -> None:
        if (kind, text) in self._known:
            return  # A program that tries again each second is one finding.
        self._known.add((kind, text))
        finding = Finding(time_s=time_ns / 1e9, program=self.name, kind=kind, text=text)
        self.findings.append(finding)
        if self.on_finding is not None:
            self.on_finding(finding)

    def _end(self, code: int) -> None:
        self.exit_code = code
        self._next_ns = NEVER
        self._inbox.clear()
        self._held = None
        self._process.end()
        if self in self._ensemble.members:
            self._ensemble.members.remove(self)
        lines, self._lines = self._lines, {}
        for line in lines.values():
            line.up(line.session.lost)
        self._ensemble.rearm()


@dataclass(frozen=True, slots=True)
class _Line:
    """A connection of the program: the broker's end, and the way there."""

    session: Session
    up: Callable[[Callable[[], object]], object]


def _at_once(action: Callable[[], object]) -> object:
    return action()


_TELLING = {SENT, CONNECT, CLOSED, EXITED, FOUND}
"""Actions that others can notice: they happen when the run gets there."""


class _Process:
    """The operating system's side: an interpreter, four pipes, its last words."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        to_read, to_write = os.pipe()
        from_read, from_write = os.pipe()
        ask_read, self._ask = os.pipe()
        self._answer, answer_write = os.pipe()
        theirs = (to_read, from_write, ask_read, answer_write)
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self.scratch = tempfile.mkdtemp(prefix="hosted-")
        """For the program's own temporary files."""
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "playground.host.child", *map(str, theirs)],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                pass_fds=theirs,
                cwd=folder,
                # A Ctrl-C at the terminal is ours to pass on.
                start_new_session=True,
                env={
                    **os.environ,
                    **env,
                    "TMPDIR": self.scratch,
                    # The order of sets of text must not differ between runs.
                    "PYTHONHASHSEED": "0",
                    "PYTHONPATH": search_path(),
                },
            )
        finally:
            for each in theirs:
                os.close(each)
        self.channel = Channel(from_read, to_write)
        ours = (from_read, to_write, self._ask, self._answer)
        self._finalizer = weakref.finalize(
            self, _clean_up, self._popen, ours, self._errors, self.scratch
        )

    def wait(self) -> int:
        """Returns the exit code of a process that is ending."""
        return self._popen.wait()

    def end(self) -> None:
        """Ends the process, if it has not, and gives everything back."""
        self._finalizer()

    def whereabouts(self) -> tuple[str, list[Action]]:
        """Returns what the program is doing, and what it said; its watchdog knows."""
        os.write(self._ask, b"?")
        poll = select.poll()
        poll.register(self._answer, select.POLLIN)
        if poll.poll(_ANSWERING_MS):
            answer = b""
            while not answer.endswith(b"\n"):
                piece = os.read(self._answer, 65_536)
                if not piece:
                    break
                answer += piece
            if answer:
                told = json.loads(answer)
                return told["where"], [
                    (kind, number, bytes.fromhex(data))
                    for kind, number, data in told["said"]
                ]
        # Code in C holds the interpreter's lock; the interpreter's own fault
        # handler needs none.
        self._popen.send_signal(signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(2)
        return self.last_words(), []

    def last_words(self) -> str:
        """Returns what the process itself wrote to its standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="backslashreplace").strip()[-4000:]


def _clean_up(
    popen: subprocess.Popen[bytes],
    ours: Sequence[int],
    errors: IO[bytes],
    scratch: str,
) -> None:
    if popen.poll() is None:
        popen.kill()
        popen.wait()
    for each in ours:
        os.close(each)
    errors.close()
    shutil.rmtree(scratch, ignore_errors=True)
