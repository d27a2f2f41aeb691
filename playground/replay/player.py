"""`Replayer`: a recording, said again on a bus.

One generator (`_play`) decides what is said next and when; it asks its driver
to wait and knows nothing of how. `run` waits with the machine's clock,
`process` inside a simulation. Commands may come at any time from any thread
and are obeyed between two messages.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

from simpy.events import Event

from playground.bus import Bus, Connection
from playground.clock import Phase, VirtualClock, iso
from playground.errors import ConnectionFailed, PlaygroundError
from playground.message import Message
from playground.recording import Recording
from playground.replay.control import (
    CONTROL_FILTER,
    STATUS_TOPIC,
    Command,
    number_or_word,
    obey,
    status_payload,
)
from playground.replay.drivers import MonotonicTimer, Simulated, Timer
from playground.replay.pace import MAX, LatenessMeter, Pace, check_speed
from playground.replay.selection import Remap, RetainRule, Selection, Transformer
from playground.replay.status import ReplayReport, Status
from playground.replay.target import Target, is_bus

BEHIND_NS = 250_000_000
"""Later than this and the whole replay is slowed down instead of hurried."""
RECOVER_NS = 1_000_000_000
"""In time for so long, and a slowed replay is speeded up again."""


@dataclass(slots=True)
class _Progress:
    """What changes while it plays."""

    messages: int = 0
    state_messages: int = 0
    passes: int = 0
    paused: bool = False
    steps: int = 0
    stopped: bool = False
    position_ns: int = 0
    played_ns: int = 0
    since_ns: int = 0
    next: Message | None = None
    slowest: float | None = None
    slipped_ns: int = 0
    in_time_since_ns: int = 0
    stepping: bool = False
    sought_ns: int | None = None
    meter: LatenessMeter = field(default_factory=LatenessMeter)

    def count(self, until_ns: int) -> None:
        """Counts what was played since the start of the pass or the last seek."""
        self.played_ns += until_ns - self.since_ns
        self.since_ns = until_ns

    def take_sought(self) -> int | None:
        """Returns the instant of the seek that came, once."""
        sought_ns, self.sought_ns = self.sought_ns, None
        return sought_ns


class Replayer:
    """Plays a recording into a bus.

    At the start, and after every seek and loop, the bus is first brought to the
    retained state of that instant. Order and proportions are never changed:
    where the other side cannot keep up, everything is slowed down.

    Args:
        recording: What to play.
        where: A bus (a connection is opened and closed here) or a connection.
        speed: Session seconds per second, or `MAX`.
        topics: Topic filters of what is played; none means all.
        exclude: Topic filters of what is left out.
        start_ns: First instant played, nanoseconds since 1970 UTC; the first
            selected message by default.
        end_ns: First instant not played any more.
        remap: Rules that rename topics.
        qos: Overrides the recorded QoS.
        retain: ``preserve`` the recorded retain flags, or ``never`` set one.
        transform: Has the last word on every message.
        loop: How many times it is played; 0 for ever.
        clients: Publish through one connection per recorded client id.
        clear_retained: Clear at the end what was left retained.
        control: Obey commands on ``playground/replay/…``; needs a bus.
        client_id: Name of the replayer on the bus.
        timer: What `run` waits with.

    Raises:
        PlaygroundError: Wrong speed, filter, range or rule, or nothing to play.
        ConnectionFailed: The broker cannot be reached.
    """

    FLUSH_S = 30.0
    """How long the end waits for what is still on its way."""

    def __init__(
        self,
        recording: Recording,
        where: Bus | Connection,
        *,
        speed: float = 1.0,
        topics: Sequence[str] = (),
        exclude: Sequence[str] = (),
        start_ns: int | None = None,
        end_ns: int | None = None,
        remap: Sequence[Remap] = (),
        qos: int | None = None,
        retain: RetainRule = "preserve",
        transform: Transformer | None = None,
        loop: int = 1,
        clients: bool = False,
        clear_retained: bool = False,
        control: bool = True,
        client_id: str = "replay",
        timer: Timer | None = None,
    ) -> None:
        self.speed = check_speed(speed)
        if loop < 0:
            raise PlaygroundError(
                f"Loop {loop} is below 0.", "write how many times, or 0 for ever"
            )
        self.selection = Selection(
            recording,
            topics=topics,
            exclude=exclude,
            start_ns=start_ns,
            end_ns=end_ns,
            remap=remap,
            qos=qos,
            retain=retain,
            transform=transform,
        )
        self._loop = loop
        self._clear_retained = clear_retained
        self._timer: Timer = MonotonicTimer() if timer is None else timer
        self._commands: deque[Command] = deque()
        self._woken = threading.Event()
        self._simulated: Simulated | None = None
        self._progress = _Progress(position_ns=self.selection.start_ns)
        self._now_ns: Callable[[], int] = self._timer.now_ns
        self._is_wall = False
        self._skip_to: Callable[[int], bool] = lambda _: False
        self._pace = Pace(self.speed, session_ns=self.selection.start_ns, clock_ns=0)
        self._explicit_end = end_ns
        self._last_ns = self._end_of(recording)
        self._answers = False
        self._before_ns = 0
        self.target = Target(
            where,
            client_id=client_id,
            clients=clients,
            on_message=self._hear if control else None,
        )
        if control and is_bus(where):
            self.target.connection.subscribe(CONTROL_FILTER, qos=1)

    def _end_of(self, recording: Recording) -> int:
        if self._explicit_end is not None:
            return self._explicit_end
        span = recording.time_range
        return self.selection.start_ns if span is None else span[1]

    # Commands, from any thread

    def pause(self) -> None:
        """Stops before the next message."""
        self.command(Command(verb="pause"))

    def resume(self) -> None:
        """Goes on from where it was paused."""
        self.command(Command(verb="resume"))

    def step(self) -> None:
        """Plays one message and pauses."""
        self.command(Command(verb="step"))

    def stop(self) -> None:
        """Ends it; what was published still arrives."""
        self.command(Command(verb="stop"))

    def seek(self, position_s: float, *, relative: bool = False) -> None:
        """Goes to a place and rebuilds the retained state of that instant.

        Args:
            position_s: Seconds since the start of the selection, or since the
                present position.
            relative: Which of the two.
        """
        self.command(Command(verb="seek", number=position_s, relative=relative))

    def set_speed(self, speed: float, *, relative: bool = False) -> None:
        """Changes the speed without a jump.

        Args:
            speed: The new speed, or a factor on the present one.
            relative: Which of the two.
        """
        if not relative:
            check_speed(speed)
        self.command(Command(verb="speed", number=speed, relative=relative))

    def command(self, command: Command) -> None:
        """Hands in a command; it is obeyed before the next message."""
        self._commands.append(command)
        self._woken.set()
        if self._simulated is not None:
            self._simulated.wake()

    def _hear(self, message: Message) -> None:
        command = obey(message)
        if command is not None:
            self._answers = True
            self.command(command)

    def status(self) -> Status:
        """Returns where it is; may be asked from any thread."""
        progress = self._progress
        slowed = self._pace.speed
        return Status(
            position_s=(progress.position_ns - self.selection.start_ns) / 1e9,
            length_s=(self._last_ns - self.selection.start_ns) / 1e9,
            speed=self.speed,
            slowed_to=slowed if slowed < self.speed else None,
            paused=progress.paused,
            messages=progress.messages,
            passes=progress.passes,
            topic="" if progress.next is None else progress.next.topic,
            lateness=progress.meter.summary(),
        )

    # Drivers

    def run(self) -> ReplayReport:
        """Plays by the machine's clock in this thread, until the end.

        Raises:
            ConnectionFailed: The broker went away, or did not take everything.
        """
        timer = self._timer
        self._now_ns = timer.now_ns
        self._is_wall = True
        begun_ns = timer.now_ns()
        try:
            self._play_in_thread(timer)
            self.target.flush(self.FLUSH_S)
        except ConnectionFailed as error:
            done = self._progress.messages
            raise ConnectionFailed(
                f"{error.problem} {done} messages had been published, up to "
                f"{iso(self._progress.position_ns)}.",
                error.fix,
            ) from error
        finally:
            self.target.close()
        return self.report(timer.now_ns() - begun_ns)

    def _play_in_thread(self, timer: Timer) -> None:
        play, woken = self._play(), self._woken
        try:
            until_ns = next(play)
            while True:
                self.target.push()
                timer.wait(until_ns, woken)
                is_woken = woken.is_set()
                if is_woken:
                    # Before the commands are looked at, so that none is missed.
                    woken.clear()
                until_ns = play.send(is_woken)
        except StopIteration:
            pass

    def process(self, clock: VirtualClock, *, phase: int = Phase.DISTURBANCE) -> Event:
        """Plays inside a simulation, from its present instant on.

        Args:
            clock: Of the simulation.
            phase: Its place among what happens at the same instant.

        Returns:
            An event that happens at the end; its value is the `ReplayReport`.
        """
        self._now_ns = clock.time_ns
        self._simulated = Simulated(self, self._play(), clock, phase)
        self._skip_to = self._simulated.skip_to
        return self._simulated.end

    def report(self, took_ns: int) -> ReplayReport:
        """Returns what it did, in so many nanoseconds of its clock."""
        progress = self._progress
        return ReplayReport(
            messages=progress.messages,
            state_messages=progress.state_messages,
            passes=progress.passes,
            duration_s=took_ns / 1e9,
            session_s=progress.played_ns / 1e9,
            lateness=progress.meter.summary(),
            slowest=progress.slowest,
            slipped_s=progress.slipped_ns / 1e9,
            stopped=progress.stopped,
        )

    # What is said next, and when

    def _play(self) -> Generator[int | None, bool | None, None]:
        """Yields the instant to wait for; is sent whether it may be early."""
        selection, progress = self.selection, self._progress
        position_ns = selection.start_ns
        # The first pass begins when it is ready to; each further one at the end
        # of the one before, so that loops do not drift.
        begin_ns: int | None = None
        progress.passes = 1
        while True:
            progress.state_messages += self.target.become(selection.state(position_ns))
            progress.position_ns = progress.since_ns = position_ns
            now_ns = self._now_ns()
            self._pace.tie(
                session_ns=position_ns,
                clock_ns=now_ns if begin_ns is None else begin_ns,
            )
            self._before_ns = now_ns
            sought_ns = yield from self._play_from(position_ns)
            if sought_ns is None:
                progress.count(progress.position_ns)
            if progress.stopped:
                break
            if sought_ns is not None:
                position_ns, begin_ns = sought_ns, None
                continue
            if progress.passes == self._loop:
                break
            progress.passes += 1
            begin_ns = self._pace.due_ns(self._last_ns)
            position_ns = selection.start_ns
        if self._clear_retained:
            progress.state_messages += self.target.become({})

    def _play_from(
        self, position_ns: int
    ) -> Generator[int | None, bool | None, int | None]:
        """Plays to the end of a pass; returns the instant of a seek, if one came."""
        progress, commands = self._progress, self._commands
        now, due, publish = self._now_ns, self._pace.due_ns, self.target.publish
        is_wall, skip_to = self._is_wall, self._skip_to
        # In a simulation the clock stands while nobody waits for it.
        reached_ns = now()
        for message in self.selection.messages(position_ns):
            time_ns = message[0]
            due_ns = due(time_ns)
            if is_wall:
                reached_ns = now()
            if due_ns > reached_ns or commands or progress.paused:
                progress.next = message
                if (
                    commands
                    or progress.paused
                    or (not skip_to(due_ns) and ((yield due_ns) or commands))
                ):
                    yield from self._until(time_ns)
                    if progress.stopped or progress.sought_ns is not None:
                        return progress.take_sought()
                    due_ns = due(time_ns)
                if is_wall:
                    reached_ns = now()
                elif due_ns > reached_ns:
                    reached_ns = due_ns
            if is_wall:
                self._keep_pace(time_ns, reached_ns, reached_ns - due_ns)
            publish(message)
            progress.messages += 1
            progress.position_ns = time_ns
        if progress.passes != self._loop:
            # An end that was given is waited for; it is part of the period.
            yield from self._until(self._last_ns)
            if progress.stopped or progress.sought_ns is not None:
                return progress.take_sought()
        return None

    def _until(self, time_ns: int) -> Generator[int | None, bool | None, None]:
        """Returns when a session instant is due, or a command changes the course."""
        progress = self._progress
        while True:
            if self._commands:
                self._obey(time_ns)
                if progress.stopped or progress.sought_ns is not None:
                    return
            if progress.paused:
                if progress.steps:
                    progress.steps -= 1
                    progress.stepping = True
                    return
                yield None
                continue
            due_ns = self._pace.due_ns(time_ns)
            if self._now_ns() >= due_ns:
                return
            if not ((yield due_ns) or self._commands):
                return

    def _obey(self, next_ns: int) -> None:
        """Obeys what came; ``next_ns`` is the session time of the next message."""
        progress, pace = self._progress, self._pace
        while self._commands:
            command = self._commands.popleft()
            now_ns = self._now_ns()
            here_ns = progress.position_ns
            if not progress.paused:
                # Between two messages time goes on, but not past the next one.
                here_ns = max(here_ns, min(pace.session_ns(now_ns), next_ns))
            match command.verb:
                case "pause":
                    progress.position_ns = here_ns
                    progress.paused = True
                case "resume" if progress.paused:
                    progress.paused = False
                    progress.steps = 0
                    pace.tie(session_ns=here_ns, clock_ns=now_ns)
                case "step":
                    progress.position_ns = here_ns
                    progress.paused = True
                    progress.steps += 1
                case "speed":
                    asked = self.speed * command.number
                    self.speed = check_speed(
                        asked if command.relative else command.number
                    )
                    progress.position_ns = here_ns
                    pace.tie(session_ns=here_ns, clock_ns=now_ns, speed=self.speed)
                case "seek":
                    origin_ns = here_ns if command.relative else self.selection.start_ns
                    to_ns = origin_ns + round(command.number * 1e9)
                    progress.count(here_ns)
                    progress.sought_ns = min(
                        max(to_ns, self.selection.start_ns), self._last_ns
                    )
                    progress.position_ns = progress.sought_ns
                    # What else came is obeyed there.
                    break
                case "stop":
                    progress.stopped = True
        if self._answers:
            self._answers = False
            self._answer()

    def _answer(self) -> None:
        status = self.status()
        self.target.connection.publish(
            STATUS_TOPIC,
            status_payload(
                {
                    "position_s": status.position_s,
                    "length_s": status.length_s,
                    "speed": number_or_word(status.speed),
                    "slowed_to": status.slowed_to,
                    "paused": status.paused,
                    "stopped": self._progress.stopped,
                    "messages": status.messages,
                    "pass": status.passes,
                    "next_topic": status.topic,
                    "lateness_p99_s": status.lateness.p99_s,
                }
            ),
        )

    def _keep_pace(self, time_ns: int, now_ns: int, late_ns: int) -> None:
        """Measures lateness; slows all down where the other side cannot keep up.

        Hurrying after a delay would change the proportions between messages.
        """
        progress, pace = self._progress, self._pace
        if pace.speed == MAX:
            return
        if progress.stepping:
            progress.stepping = False
            return
        progress.meter.add(late_ns)
        if late_ns > BEHIND_NS:
            if now_ns - self._before_ns > late_ns // 2:
                # It stood still once (a stalled consumer, a sleeping laptop).
                pace.slip(late_ns)
            else:
                speed = pace.reached(time_ns, now_ns) * 0.9
                pace.tie(session_ns=time_ns, clock_ns=now_ns, speed=speed)
                progress.slowest = min(speed, progress.slowest or math.inf)
            progress.slipped_ns += late_ns
            progress.in_time_since_ns = now_ns
        elif pace.speed < self.speed:
            if late_ns > BEHIND_NS // 10:
                progress.in_time_since_ns = now_ns
            elif now_ns - progress.in_time_since_ns > RECOVER_NS:
                speed = min(self.speed, pace.speed * 1.25)
                pace.tie(session_ns=time_ns, clock_ns=now_ns, speed=speed)
                progress.in_time_since_ns = now_ns
        self._before_ns = now_ns
