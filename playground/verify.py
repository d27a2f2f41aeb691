"""Does an MQTT program still answer as it did? Replay, listen, compare.

The recorded inputs are played to the program, its answers are recorded and
compared with the recorded ones. Where this happens is a `Stage`: `RealTime`
has the program as a process beside a broker, `Lockstep` the same in virtual
time, `VirtualTime` hosts a Python program on the local bus. Nothing else here
knows the difference.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from playground import transport
from playground.broker import EmbeddedBroker
from playground.bus import LocalBus
from playground.clock import VirtualClock
from playground.convert import cut
from playground.diff import Compared, DiffReport, diff
from playground.errors import ConnectionFailed, ExitCode, PlaygroundError
from playground.host import Hosted
from playground.message import Message, TopicFilters, check_filter
from playground.mqtt import MqttBus
from playground.recording import Recording, RecordingWriter
from playground.recording.retained import SAID
from playground.replay import Replayer, ReplayReport
from playground.replay.readiness import Audience

REPLAYER = "replay"
READY_WITHIN_S = 30.0
SETTLE_S = 1.0
LONGEST_SETTLE_S = 10.0
STOP_WITHIN_S = 5.0
_LAST_WORDS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What is played, and what is listened to.

    Attributes:
        recording: Of the session.
        inputs: Topic filters of what the program is told.
        expect: Topic filters of what it is to answer.
        ready_within_s: How long the program may take to subscribe.
        settle_s: How long after the end an answer may still come.
    """

    recording: Recording
    inputs: tuple[str, ...]
    expect: tuple[str, ...]
    ready_within_s: float = READY_WITHIN_S
    settle_s: float = SETTLE_S


@dataclass(slots=True, kw_only=True)
class Performance:
    """What came of a script.

    Attributes:
        answers: What the program said on the expected topics, in order.
        played: How the inputs were played.
        output: The end of what it printed.
        failure: Why it ended before it was asked to; empty if it did not.
        notes: What was found about it besides.
    """

    answers: list[Message] = field(default_factory=list)
    played: ReplayReport | None = None
    output: str = ""
    failure: str = ""
    notes: tuple[str, ...] = ()


class Stage(Protocol):
    """Where a program plays its part."""

    def perform(self, script: Script, app: str) -> Performance:
        """Plays the inputs to the program and returns what it answered.

        Raises:
            PlaygroundError: It cannot be started, or never listens.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RealTime:
    """The program as a process, beside a broker of ours, by the wall clock.

    It is told where the broker is by ``{host}``, ``{port}`` and ``{url}`` in its
    command line, and by the environment variables ``MQTT_HOST``, ``MQTT_PORT``
    and ``MQTT_URL``.

    Attributes:
        speed: Session seconds per second, or `playground.replay.MAX`.
        port: Of the broker; a free one by default. For programs that cannot be
            told.
    """

    speed: float = 1.0
    port: int = 0

    def perform(self, script: Script, app: str) -> Performance:
        """Starts broker and program, plays, listens, ends both."""
        performance = Performance()
        audience = Audience(ignore=(REPLAYER,))
        wanted = TopicFilters(script.expect)
        heard_at = [time.monotonic()]

        def observe(event: Message) -> None:
            audience.observe(event)
            is_answer = event.kind in SAID and event.client != REPLAYER
            if is_answer and event.topic in wanted:
                performance.answers.append(event)
                heard_at[0] = time.monotonic()

        with EmbeddedBroker(port=self.port, observer=observe) as broker:
            with _Program(app, broker) as program:
                _wait_until_ready(script, audience, program)
                replayer = Replayer(
                    script.recording,
                    MqttBus(broker.url),
                    topics=script.inputs,
                    speed=self.speed,
                    control=False,
                    client_id=REPLAYER,
                )
                performance.played = replayer.run()
                broker.drain()
                self._settle(script, program, heard_at)
                performance.failure = program.failure
            performance.output = program.output
        return performance

    def _settle(self, script: Script, program: _Program, heard_at: list[float]) -> None:
        """Waits for the rest of the session, and until nothing comes any more."""
        ended = time.monotonic()
        rest_s = _rest_s(script) / self.speed
        last = ended + rest_s + max(LONGEST_SETTLE_S, script.settle_s)
        while True:
            now = time.monotonic()
            quiet_from = max(heard_at[0], ended + rest_s)
            wait_s = min(quiet_from + script.settle_s, last) - now
            if wait_s <= 0 or program.wait(wait_s):
                return


def _rest_s(script: Script) -> float:
    """Returns how long the session goes on after the last input, in seconds."""
    span = script.recording.time_range
    last_ns: int | None = None
    for table in script.recording.tables(
        topics=script.inputs, kinds=SAID, columns=("time",), backwards=True
    ):
        last_ns = int(table.column("time")[len(table) - 1].value)
        break
    if span is None or last_ns is None:
        return 0.0
    return max(0.0, (span[1] - last_ns) / 1e9)


def _wait_until_ready(script: Script, audience: Audience, program: _Program) -> None:
    deadline = time.monotonic() + script.ready_within_s
    for topic_filter in script.inputs:
        while True:
            try:
                # In slices, to notice a program that ends before it listens.
                audience.wait_for_subscriber(topic_filter, timeout_s=0.2)
                break
            except ConnectionFailed as error:
                if program.failure:
                    raise ConnectionFailed(
                        f"{program.failure} before it subscribed to {topic_filter!r}."
                        f"{program.last_words()}",
                        "does it connect to {host}:{port} of its command line, or to "
                        "MQTT_HOST and MQTT_PORT? else say --port",
                    ) from error
                if time.monotonic() > deadline:
                    raise ConnectionFailed(
                        f"The program did not subscribe to {topic_filter!r} within "
                        f"{script.ready_within_s:g} s.{program.last_words()}",
                        "does it connect to {host}:{port} of its command line, or to "
                        "MQTT_HOST and MQTT_PORT? else say --port",
                    ) from error


class _Program:
    """The program as a child process; a context manager."""

    def __init__(self, app: str, broker: EmbeddedBroker) -> None:
        told = {"host": broker.host, "port": str(broker.port), "url": broker.url}
        self._words = [_filled_in(word, told) for word in _words(app)]
        self._environment = {
            **os.environ,
            **_variables(told),
            "PYTHONUNBUFFERED": "1",
        }
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as it runs
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> _Program:
        try:
            self._process = subprocess.Popen(
                self._words,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=self._file,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            self._file.close()
            raise PlaygroundError(
                f"{self._words[0]!r} cannot be started: {error.strerror or error}.",
                "write the program as in a shell: --app 'python my_program.py'",
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        assert process is not None
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_WITHIN_S)
        if process.poll() is None:
            process.kill()
            process.wait()
        self.output = self._read()
        self._file.close()

    output = ""

    def _read(self) -> str:
        self._file.seek(0, os.SEEK_END)
        self._file.seek(max(0, self._file.tell() - _LAST_WORDS))
        return self._file.read().decode("utf-8", "replace").strip()

    def last_words(self) -> str:
        """Returns the end of what it printed, for an error text."""
        said = self._read()
        return f" It said:\n{said}" if said else " It said nothing."

    @property
    def failure(self) -> str:
        """Says how it ended; empty while it runs."""
        code = None if self._process is None else self._process.poll()
        return "" if code is None else f"The program ended with exit code {code}"

    def wait(self, timeout_s: float) -> bool:
        """Returns whether it ended within a time."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
            return True
        return False


def _filled_in(text: str, told: dict[str, str]) -> str:
    """Returns a text with ``{host}``, ``{port}`` and ``{url}`` filled in."""
    for name, value in told.items():
        text = text.replace("{" + name + "}", value)
    return text


def _variables(told: dict[str, str]) -> dict[str, str]:
    return {f"MQTT_{name.upper()}": value for name, value in told.items()}


def _words(app: str) -> list[str]:
    words = shlex.split(app)
    if not words:
        raise PlaygroundError(
            "No program was named.", "write --app 'python my_program.py'"
        )
    if words[0] in ("python", "python3"):
        words[0] = sys.executable
    return words


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualTime:
    """A Python program, hosted on the local bus: no broker, no wall clock.

    The same answers on every machine, as fast as the program computes.

    Attributes:
        seed: Of the chance in the program.
    """

    seed: int = 0

    def perform(self, script: Script, app: str) -> Performance:
        """Hosts the program, plays as soon as it listens."""
        performance = Performance()
        span = script.recording.time_range
        clock = VirtualClock(0 if span is None else span[0])
        bus = LocalBus(clock)
        wanted = TopicFilters(script.expect)
        audience = Audience(ignore=(REPLAYER,))
        ready = clock.event()

        def observe(event: Message) -> None:
            audience.observe(event)
            if not ready.triggered and all(map(audience.has_subscriber, script.inputs)):
                ready.succeed()
            is_answer = event.kind in SAID and event.client != REPLAYER
            if is_answer and event.topic in wanted:
                performance.answers.append(event)

        bus.observe(observe)
        # Any address leads to the local bus; these are what programs expect.
        told = {"host": "localhost", "port": "1883", "url": "mqtt://localhost:1883"}
        with Hosted(
            _filled_in(app, told), bus, clock, seed=self.seed, env=_variables(told)
        ) as program:
            clock.run(until=ready | clock.timeout(script.ready_within_s))
            if not ready.triggered:
                said = "\n".join(line.text for line in program.output[-20:])
                raise ConnectionFailed(
                    f"The program did not subscribe to {', '.join(script.inputs)} "
                    f"within {script.ready_within_s:g} s of virtual time. It said:\n{said}",
                    "does it wait for something else?",
                )
            replayer = Replayer(
                script.recording,
                bus,
                topics=script.inputs,
                control=False,
                client_id=REPLAYER,
            )
            performance.played = clock.run(until=replayer.process(clock))
            clock.run(until=clock.now + _rest_s(script) + script.settle_s)
            code = program.exit_code
            if code is not None:
                performance.failure = f"The program ended with exit code {code}"
        performance.output = "\n".join(line.text for line in program.output)[
            -_LAST_WORDS:
        ]
        performance.notes = tuple(finding.text for finding in program.findings)
        return performance


@dataclass(frozen=True, slots=True, kw_only=True)
class Lockstep:
    """A program that speaks the clock protocol: virtual time over a real broker.

    As fast as it acknowledges, in any language; see ``docs/clock-protocol.md``.

    Attributes:
        client: Client id of the program.
        port: As of `RealTime`.
    """

    client: str
    port: int = 0

    def perform(self, script: Script, app: str) -> Performance:
        """Starts broker and program, plays in lockstep, ends both."""
        performance = Performance()
        audience = Audience(ignore=(REPLAYER, "playground-run"))
        wanted = TopicFilters(script.expect)

        def observe(event: Message) -> None:
            if event.client == self.client and event.topic in wanted:
                performance.answers.append(event)

        span = script.recording.time_range
        start_ns = 0 if span is None else span[0]
        with EmbeddedBroker(port=self.port, observer=audience.observe) as broker:
            with _Program(app, broker) as program:
                _wait_until_ready(script, audience, program)
                with transport.lockstep(
                    start_ns, url=broker.url, clients=(self.client,)
                ) as opened:
                    opened.observe(observe)
                    clock = opened.clock
                    end = Replayer(
                        script.recording,
                        opened.bus,
                        topics=script.inputs,
                        control=False,
                        client_id=REPLAYER,
                    ).process(clock)
                    performance.played = clock.run(until=end)
                    opened.finish()
                    clock.run(until=clock.now + _rest_s(script) + script.settle_s)
                    performance.failure = program.failure
            performance.output = program.output
        return performance


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """Whether a program answers as expected.

    Attributes:
        diff: Expected answers against those that came.
        performance: What happened.
        expectation: The file of the expected answers; None where they are those
            in the recording itself.
        updated: The file to which the answers were written as the new
            expectation, if that was asked for.
    """

    diff: DiffReport
    performance: Performance
    expectation: Path | None
    updated: Path | None

    @property
    def exit_code(self) -> ExitCode:
        """Returns what a command that asked for this answers."""
        if self.performance.failure:
            return ExitCode.NOT_SO
        if self.updated is not None:
            return ExitCode.GOOD
        return self.diff.exit_code


def expectation_of(recording: Path | str) -> Path:
    """Returns where the updated expectation of a recording lies: beside it."""
    path = Path(recording)
    return path.with_name(f"{path.name.removesuffix('.parquet')}.expected.parquet")


def verify(
    recording: Path | str,
    app: str,
    *,
    inputs: Sequence[str],
    expect: Sequence[str],
    stage: Stage | None = None,
    compared: Compared | None = None,
    expectation: Path | str | None = None,
    update: bool = False,
    ready_within_s: float = READY_WITHIN_S,
    settle_s: float = SETTLE_S,
) -> VerifyReport:
    """Replays inputs to a program and compares its answers with the expected.

    Args:
        recording: Inputs, and (as long as there is no expectation beside it)
            the answers of the program as they were.
        app: Command line of the program.
        inputs: Topic filters of what it is told.
        expect: Topic filters of what it answers.
        stage: Where it plays; `RealTime` by default.
        compared: What makes two answers equal; by default the payload alone. The
            topics are set here.
        expectation: File of the expected answers; by default what
            `expectation_of` names, if it is there.
        update: Write the answers as the new expectation.
        ready_within_s: How long it may take to subscribe.
        settle_s: How long after the end an answer may still come.

    Raises:
        PlaygroundError: Nothing to expect, nothing to play, overlapping topics,
            or a program that does not start.
        ConnectionFailed: The program never listens.
    """
    inputs, expect = tuple(inputs), tuple(expect)
    for topic_filter in (*inputs, *expect):
        check_filter(topic_filter)
    if not inputs or not expect:
        raise PlaygroundError(
            "It is not said what the program hears and what it answers.",
            "name both: --inputs 'modbus/#' --expect 'processed/#'",
        )
    source = Recording.open(recording)
    named = expectation_of(recording) if expectation is None else Path(expectation)
    expected_path = named if named.exists() else None
    if expected_path is None and expectation is not None and not update:
        raise PlaygroundError(
            f"There is no expectation {named}.",
            "look after the name, or write it with --update",
        )
    expected = source if expected_path is None else Recording.open(expected_path)
    # Who recorded through a subscription saw its QoS, not the publisher's.
    base = Compared(qos=False, retain=False) if compared is None else compared
    compared = Compared(
        ignore=base.ignore,
        qos=base.qos,
        retain=base.retain,
        times_s=base.times_s,
        topics=expect,
        exclude=base.exclude,
    )
    if not update and not any(
        len(t) for t in expected.tables(topics=expect, kinds=SAID, columns=("seq",))
    ):
        raise PlaygroundError(
            f"Nothing is expected: {expected.paths[0]} holds no message on "
            f"{', '.join(expect)}.",
            "look after --expect, or write what the program answers with --update",
        )
    performance = (stage or RealTime()).perform(
        Script(
            recording=source,
            inputs=inputs,
            expect=expect,
            ready_within_s=ready_within_s,
            settle_s=settle_s,
        ),
        app,
    )
    if update and not performance.answers:
        raise PlaygroundError(
            "The program answered nothing, which is no expectation."
            + (f" It said:\n{performance.output}" if performance.output else ""),
            "look after --expect, and after the program",
        )
    with tempfile.TemporaryDirectory(prefix="playground-verify-") as folder:
        got = _answers(performance, Path(folder) / "answers.parquet", app)
        report = diff(expected, got, compared=compared)
        updated = None
        if update and not performance.failure:
            cut(got, named, overwrite=True)
            updated = named
    return VerifyReport(
        diff=report,
        performance=performance,
        expectation=expected_path,
        updated=updated,
    )


def _answers(performance: Performance, path: Path, app: str) -> Recording:
    with RecordingWriter(path, journal=False, metadata={"program": app}) as writer:
        for message in performance.answers:
            writer.append(message)
    return Recording.open(path)


__all__ = [
    "Lockstep",
    "Performance",
    "RealTime",
    "Script",
    "Stage",
    "VerifyReport",
    "VirtualTime",
    "expectation_of",
    "verify",
]
