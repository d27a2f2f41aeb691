"""A hosted program in a run: started, struck by faults as any client, judged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from playground.bus import LocalBus
from playground.clock import VirtualClock
from playground.faults.bus import FaultyBus
from playground.scenario import Setup
from playground.scenario.parts import Program


class Guest:
    """A program of a scenario while the run goes on.

    Args:
        program: What to start.
        setup: Of the run.
        bus: Where its connections lead.
        clock: Of the run.
        stack: Ends it with the run.
        faulty: Where faults begin; None where the scenario has none.

    Attributes:
        client_id: Its name, by which faults know it.
    """

    def __init__(
        self,
        program: Program,
        setup: Setup,
        bus: LocalBus,
        clock: VirtualClock,
        stack: contextlib.ExitStack,
        faulty: FaultyBus | None,
    ) -> None:
        self.client_id = program.name
        self._program = program
        self._setup = setup
        self._bus = bus
        self._clock = clock
        self._stack = stack
        self._faulty = faulty
        self._hosted: list[Any] = []
        self._cut = ""
        self._start(program.start_s)
        if faulty is not None:
            faulty.connections.append(self)

    def _start(self, start_s: float) -> None:
        from playground.host import Hosted

        program, links = self._program, self._setup.links
        hosted = Hosted(
            list(program.command),
            self._bus,
            self._clock,
            name=program.name,
            seed=self._setup.scenario.seed,
            cwd=program.folder,
            env=program.env,
            timezone=program.timezone,
            start_s=start_s,
            link=links.get(program.name, links.get("*")),
            through=None if self._faulty is None else self._faulty.through,
        )
        self._hosted.append(self._stack.enter_context(hosted))

    def cut(self, kind: str) -> None:
        """Cuts it off: by a crash it is gone, else its connections are."""
        if self._cut:
            return
        self._cut = kind
        now = self._hosted[-1]
        if kind == "client_crash":
            now.kill()
        else:
            # A broker that goes publishes no wills.
            now.link_down(wills=kind != "broker_restart")

    def mend(self) -> None:
        """Lets it connect again; after a crash it is started anew."""
        kind, self._cut = self._cut, ""
        if kind == "client_crash":
            self._start(self._clock.now)
        elif kind:
            self._hosted[-1].link_up()

    def findings(self) -> Iterator[Any]:
        """Yields what was found about it."""
        for hosted in self._hosted:
            yield from hosted.findings
