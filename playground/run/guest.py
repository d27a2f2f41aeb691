"""A program in a run: started, struck by faults as any client, judged."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from playground.bus import Bus, LocalBus
from playground.checks import CheckResult
from playground.clock import RealtimeClock, VirtualClock
from playground.errors import PlaygroundError
from playground.faults import (
    BROKER_FAULTS,
    CONNECTION_FAULTS,
    MESSAGE_FAULTS,
    SIGNAL_FAULTS,
    Fault,
)
from playground.faults.bus import FaultyBus
from playground.host.finding import Finding, Line
from playground.scenario import Setup
from playground.scenario.parts import Program

if TYPE_CHECKING:
    from playground.host.hosted import Hosted
    from playground.host.ordinary import Ordinary

_BROKER = ("127.0.0.1", 1883)
"""Where a program in virtual time finds the bus, whatever else leads there."""
_ENDINGS = frozenset({"crash", "exit", "exception"})
"""What ``on_crash`` speaks of; a program that hangs or is refused is always wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a program left behind.

    Attributes:
        name: Of the program.
        exit_code: Negative: the signal that ended it; None: it never started.
        output: What it printed.
        findings: What was found about it.
        crash_fails: Whether a crash of it is a failed check.
    """

    name: str
    exit_code: int | None
    output: tuple[Line, ...]
    findings: tuple[Finding, ...]
    crash_fails: bool = True

    def checks(self, duration_s: float) -> Iterator[CheckResult]:
        """Yields each mistake as a failed check.

        Args:
            duration_s: Of the run; what happened after it counts for its end.
        """
        for finding in self.findings:
            if self._fails(finding):
                yield CheckResult(
                    name=f"program {self.name}",
                    verdict="fail",
                    worst_s=min(finding.time_s, duration_s),
                    detail=f"{finding.kind}: {finding.text}",
                )

    def notes(self) -> Iterator[str]:
        """Yields what a reader should know all the same."""
        for finding in self.findings:
            if not self._fails(finding):
                yield f"program {finding}"

    def _fails(self, finding: Finding) -> bool:
        if finding.kind in _ENDINGS:
            return self.crash_fails
        return finding.is_mistake

    def plain(self) -> dict[str, Any]:
        """Returns it as it stands in ``result.json``."""
        return {
            "name": self.name,
            "exit_code": self.exit_code,
            "lines": len(self.output),
            "findings": [
                {"time_s": each.time_s, "kind": each.kind, "text": each.text}
                for each in self.findings
            ],
        }


def told(accounts: Sequence[Account]) -> str:
    """Returns what programs printed and what was found, in order, as JSON lines."""
    entries = [entry for account in accounts for entry in _told_by(account)]
    # Of one instant: the programs as the scenario has them, each in its order.
    entries.sort(key=lambda entry: float(entry["time_s"]))
    return "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)


def _told_by(account: Account) -> Iterator[dict[str, Any]]:
    name = account.name
    for time_s, stream, text in account.output:
        yield {"time_s": time_s, "program": name, "stream": stream, "text": text}
    for found in account.findings:
        about = {"finding": found.kind, "text": found.text}
        yield {"time_s": found.time_s, "program": name, **about}


class Guest:
    """A program of a scenario while the run goes on.

    In virtual time it is hosted; in real time it is a process as at home.

    Args:
        program: What to start.
        setup: Of the run.
        bus: Where its connections lead.
        clock: Of the run.
        stack: Ends it with the run.
        faulty: Where faults begin; None where the scenario has none.

    Attributes:
        client_id: Its name, by which faults know it.

    Raises:
        PlaygroundError: It is to do what it cannot in real time.
    """

    def __init__(
        self,
        program: Program,
        setup: Setup,
        bus: Bus,
        clock: VirtualClock,
        stack: contextlib.ExitStack,
        faulty: FaultyBus | None,
    ) -> None:
        self.client_id = program.name
        self._program = program
        self._setup = setup
        self._clock = clock
        self._stack = stack
        self._faulty = faulty
        self._started: list[Hosted | Ordinary] = []
        self._cut = ""
        self._make: Callable[[float], Hosted | Ordinary]
        if isinstance(bus, LocalBus):
            self._bus = bus
            self._make = self._hosted
        else:
            _must_be_possible(program, setup)
            self._url = bus.url  # type: ignore[attr-defined]
            self._make = self._ordinary
        self._start(program.start_s)
        if faulty is not None:
            faulty.connections.append(self)

    def _start(self, start_s: float) -> None:
        started = self._make(start_s)
        self._stack.push(started.__exit__)
        self._started.append(started)

    def _hosted(self, start_s: float) -> Hosted:
        from playground.host import Hosted

        program, links = self._program, self._setup.links
        hosts = program.hosts
        return Hosted(
            list(program.command),
            self._bus,
            self._clock,
            name=program.name,
            seed=self._setup.scenario.seed,
            hosts=None if hosts is None else (*hosts, ":".join(map(str, _BROKER))),
            allow_write=program.allow_write,
            watchdog_s=program.watchdog_s,
            cwd=program.folder,
            env={**_addresses("mqtt", *_BROKER), **program.env},
            timezone=program.timezone,
            start_s=start_s,
            link=links.get(program.name, links.get("*")),
            through=None if self._faulty is None else self._faulty.through,
        )

    def _ordinary(self, start_s: float) -> Ordinary:
        from playground.host.ordinary import Ordinary

        program, url, clock = self._program, self._url, self._clock
        assert isinstance(clock, RealtimeClock), "virtual time has a local bus"
        return Ordinary(
            list(program.command),
            (url.host, url.port),
            clock,
            encrypted=url.is_tls,
            name=program.name,
            hosts=program.hosts,
            allow_write=program.allow_write,
            cwd=program.folder,
            env={**_addresses(url.scheme, url.host, url.port), **program.env},
            timezone=program.timezone,
            start_s=start_s,
            prepared=not self._started,
        )

    def cut(self, kind: str) -> None:
        """Cuts it off: by a crash it is gone, else its connections are."""
        if self._cut:
            return
        now = self._started[-1]
        if kind == "client_crash":
            self._cut = kind
            now.kill()
        elif hasattr(now, "link_down"):
            self._cut = kind
            # A broker that goes publishes no wills.
            now.link_down(wills=kind != "broker_restart")

    def mend(self) -> None:
        """Lets it connect again; after a crash it is started anew."""
        kind, self._cut = self._cut, ""
        now = self._started[-1]
        if kind == "client_crash":
            self._start(self._clock.now)
        elif kind and hasattr(now, "link_up"):
            now.link_up()

    def account(self) -> Account:
        """Returns what it left behind; after the end of the run."""
        return Account(
            name=self.client_id,
            exit_code=self._started[-1].exit_code,
            output=tuple(line for each in self._started for line in each.output),
            findings=tuple(f for each in self._started for f in each.findings),
            crash_fails=self._program.crash_fails,
        )


def _addresses(scheme: str, host: str, port: int) -> dict[str, str]:
    shown = f"[{host}]" if ":" in host else host
    return {
        "PLAYGROUND_MQTT_URL": f"{scheme}://{shown}:{port}",
        "PLAYGROUND_MQTT_HOST": host,
        "PLAYGROUND_MQTT_PORT": str(port),
    }


def limits(programs: Sequence[Program], setup: Setup) -> tuple[str, ...]:
    """Returns what does not act on programs in real time, though the scenario has it."""
    if not programs:
        return ()
    faults = [e.action for e in setup.events if isinstance(e.action, Fault)]
    missed = sorted(
        {
            fault.kind
            for fault in faults
            if fault.kind in (*SIGNAL_FAULTS, *MESSAGE_FAULTS, *BROKER_FAULTS)
            or (fault.kind != "client_crash" and fault.client is None)
        }
    )
    if "*" in setup.links:
        missed.append("links")
    if not missed:
        return ()
    names = ", ".join(program.name for program in programs)
    return (
        f"in real time these do not act on what {names} says and hears: "
        f"{', '.join(missed)}",
    )


def _must_be_possible(program: Program, setup: Setup) -> None:
    """Refuses what is written for a program and cannot be done in real time."""
    fix = "leave it out, or use the transport local or lockstep"
    if program.name in setup.links:
        raise PlaygroundError(
            f"The program {program.name} has a link, but in real time it speaks to the "
            "broker itself.",
            fix,
        )
    for event in setup.events:
        fault = event.action
        if (
            isinstance(fault, Fault)
            and fault.kind in CONNECTION_FAULTS
            and fault.kind != "client_crash"
            and fault.client == program.name
        ):
            raise PlaygroundError(
                f"The program {program.name} is to suffer a {fault.kind}, but in real "
                "time it speaks to the broker itself.",
                fix,
            )
