"""Programs as people write them, in virtual time."""

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from playground.bus import LocalBus
from playground.clock import Phase, VirtualClock
from playground.errors import PlaygroundError
from playground.host import Finding, Hosted
from playground.message import Message

PROGRAMS = Path(__file__).parent / "programs"


@dataclass
class Rig:
    """A clock, a bus, a log, a plant that speaks when told to, and programs."""

    clock: VirtualClock = field(default_factory=VirtualClock)
    programs: list[Hosted] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bus = LocalBus(self.clock)
        self.log: list[Message] = []
        self.bus.observe(self.log.append)
        self.plant = self.bus.connect("plant")

    def host(self, program: str, **settings: Any) -> Hosted:
        hosted = Hosted(program, self.bus, self.clock, cwd=PROGRAMS, **settings)
        self.programs.append(hosted)
        return hosted

    def at(self, time_s: float, action: Callable[[], object]) -> None:
        event = self.clock.at(time_s, phase=Phase.PUBLICATION)
        assert event.callbacks is not None
        event.callbacks.append(lambda _: action())

    def say(self, time_s: float, topic: str, payload: str, qos: int = 0) -> None:
        self.at(time_s, lambda: self.plant.publish(topic, payload.encode(), qos=qos))

    def run(self, until: float, *, close: bool = True) -> None:
        self.clock.run(until=until)
        if close:
            for program in self.programs:
                program.close()

    def said(self, *, kinds: tuple[str, ...] = ("publish", "will")) -> list[Any]:
        """Returns (time, topic, payload) of what the programs said."""
        start_ns = self.clock.start_ns
        return [
            ((m.time_ns - start_ns) / 1e9, m.topic, m.payload.decode())
            for m in self.log
            if m.kind in kinds and m.client != "plant"
        ]


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    for program in rig.programs:
        program.kill()


def lines(program: Hosted, stream: str = "stdout") -> list[tuple[float, str]]:
    return [
        (line.time_s, line.text) for line in program.output if line.stream == stream
    ]


def line_of(program: str, text: str) -> str:
    """Returns ``program, line N`` for the first line that contains ``text``."""
    source = (PROGRAMS / program).read_text().splitlines()
    number = next(n for n, line in enumerate(source, 1) if text in line)
    return f"{program}, line {number}"


def kinds(program: Hosted) -> list[tuple[float, str]]:
    return [(finding.time_s, finding.kind) for finding in program.findings]


def test_a_global_client_and_a_sleeping_main_loop(rig: Rig) -> None:
    program = rig.host("global_client.py")
    rig.run(5)
    assert rig.said() == [(float(t), "counter/value", str(t)) for t in range(5)]
    assert program.findings == []


def test_a_callback_answers_in_the_instant_of_the_reading(rig: Rig) -> None:
    program = rig.host("python thermostat.py 20.5", name="thermostat")
    for time_s, value in ((10, 19.5), (20.25, 21.0), (3600, 20.4)):
        rig.say(time_s, "room/temperature", json.dumps({"value": value}), qos=1)
    rig.run(3601, close=False)
    assert rig.said() == [
        (10.0, "heater/on", "1"),
        (20.25, "heater/on", "0"),
        (3600.0, "heater/on", "1"),
    ]
    assert [m.qos for m in rig.log if m.topic == "heater/on"] == [1, 1, 1]
    assert lines(program) == [(0.0, "connected: Success")]
    assert program.running


def test_callbacks_of_paho_1_and_subscriptions_with_qos(rig: Rig) -> None:
    rig.plant.publish("cfg/kp", b"2.5", qos=2, retain=True)
    rig.say(3, "cmd/stop/now", "yes", qos=2)
    program = rig.host("old_callbacks.py")
    rig.run(60)
    assert lines(program) == [
        (0.0, "connected with result code 0"),
        (0.0, "granted (0, 1)"),
        (0.0, "config cfg/kp 2.5 q1 r1"),
        (3.0, "message cmd/stop/now yes"),
        (10.0, "bye 00:00:10"),
    ]
    assert program.exit_code == 0


def test_a_queue_between_threads_with_a_slow_worker(rig: Rig) -> None:
    for number in range(4):
        rig.say(1 + number, "job/new", str(number))
    rig.host("worker_queue.py")
    rig.run(30)
    assert rig.said() == [
        (4.0, "job/done", "0"),
        (7.0, "job/done", "1"),
        (10.0, "job/done", "2"),
        (13.0, "job/done", "3"),
    ]


def test_a_timer_that_arms_itself_again(rig: Rig) -> None:
    program = rig.host("timer.py")
    rig.run(60)
    assert rig.said() == [
        (2.5 * beat, "timer/beat", str(beat)) for beat in (1, 2, 3, 4)
    ]
    assert lines(program) == [(10.0, "in time: False later: True")]
    assert program.exit_code == 0


def test_jobs_that_are_due_at_a_datetime(rig: Rig) -> None:
    rig.host("jobs.py")
    rig.run(31)
    assert rig.said() == [
        (10.0, "report/fast", "2026-01-01T00:00:10"),
        (20.0, "report/fast", "2026-01-01T00:00:20"),
        (25.0, "report/slow", "2026-01-01T00:00:25"),
        (30.0, "report/fast", "2026-01-01T00:00:30"),
    ]


def test_a_framework_that_reads_the_clock_when_it_is_imported(rig: Rig) -> None:
    rig.host("uses_framework.py", start_s=100.0)
    rig.run(110)
    # It looks at 0.0 and then each 0.6 s, until 3.0. loop() returns at once
    # after a publication, so it looks next at 3.1, then each 0.6 s from 3.7.
    assert rig.said() == [
        (103.0, "uptime", "2026-01-01 3.0"),
        (106.1, "uptime", "2026-01-01 6.1"),
        (109.2, "uptime", "2026-01-01 9.2"),
    ]


def test_a_daemon_thread_does_not_hold_up_the_end_and_others_do(rig: Rig) -> None:
    program = rig.host("daemon.py")
    rig.run(20, close=False)
    assert lines(program) == [(0.0, "main is done")]
    assert rig.said() == [(4.0, "finite", "done")]
    assert program.exit_code == 0
    assert rig.log[-1].kind == "disconnect"


def test_ctrl_c_lets_the_program_say_goodbye(rig: Rig) -> None:
    program = rig.host("goodbye.py")
    rig.run(90)
    assert rig.said() == [
        (0.0, "polite/status", "online"),
        (90.0, "polite/status", "offline: ctrl-c"),
    ]
    assert (program.exit_code, program.findings) == (0, [])


def test_a_service_gets_the_signal_it_handles(rig: Rig) -> None:
    program = rig.host("goodbye.py --service")
    rig.run(90)
    assert rig.said()[-1] == (90.0, "polite/status", "offline: SIGTERM")
    assert program.exit_code == 3


def test_a_power_cut_publishes_the_will(rig: Rig) -> None:
    program = rig.host("goodbye.py")
    rig.at(45, program.kill)
    rig.run(90)
    assert rig.said()[-1] == (45.0, "polite/status", "lost")
    assert program.exit_code == -9


def test_an_interrupt_in_mid_run(rig: Rig) -> None:
    program = rig.host("goodbye.py")
    rig.at(45.5, program.interrupt)
    rig.run(90)
    assert rig.said()[-1] == (45.5, "polite/status", "offline: ctrl-c")


def test_sys_exit_in_a_callback_ends_the_program(rig: Rig) -> None:
    rig.say(5, "how", "exit")
    program = rig.host("exits.py")
    rig.run(10)
    assert program.exit_code == 5
    assert rig.said() == [(5.0, "exits/will", "gone")]
    assert kinds(program) == [(5.0, "exit")]


def test_os_exit_ends_the_program_at_once(rig: Rig) -> None:
    rig.say(5, "how", "at once")
    program = rig.host("exits.py")
    rig.run(10)
    assert program.exit_code == 6


def test_an_uncaught_exception_is_a_crash_with_its_line(rig: Rig) -> None:
    rig.say(2, "how", "21.5")
    rig.say(5, "how", "warm")
    seen: list[Finding] = []
    program = rig.host("exits.py", on_finding=seen.append)
    rig.run(10)
    assert program.exit_code == 1
    assert lines(program) == [(2.0, "reading 21.5")]
    [finding] = program.findings
    assert seen == [finding]
    assert (finding.time_s, finding.kind, finding.program) == (5.0, "crash", "exits")
    assert "could not convert string to float: 'warm'" in finding.text
    assert f"{line_of('exits.py', 'float(how)')}, in on_message" in finding.text
    assert rig.said() == [(5.0, "exits/will", "gone")]
    trace = [text for _, text in lines(program, "stderr")]
    assert trace[0] == "Traceback (most recent call last):"
    assert not [text for text in trace if "playground" in text]


def test_an_exception_in_a_thread_is_found_and_the_program_goes_on(rig: Rig) -> None:
    rig.say(1, "value", "3")
    rig.say(2, "value", "three")
    program = rig.host("fragile.py")
    rig.run(10, close=False)
    assert rig.said() == [(1.0, "half", "1.5")]
    assert program.running
    [finding] = program.findings
    assert (finding.time_s, finding.kind) == (2.0, "exception")
    place = line_of("fragile.py", "float(message.payload)")
    assert f"{place}, in on_message" in finding.text
    assert "paho-mqtt-client-fragile" in finding.text


def test_paho_helpers_publish_single_multiple_and_subscribe_simple(rig: Rig) -> None:
    rig.say(1, "question", "how?", qos=1)
    rig.say(2, "more/1", "so")
    rig.say(3, "more/2", "!")
    program = rig.host("helpers.py")
    rig.run(10, close=False)
    assert rig.said() == [
        (0.0, "helper/ready", "1"),
        (0.0, "helper/a", "1"),
        (0.0, "helper/b", "2"),
        (3.0, "answer", "so!"),
    ]
    assert lines(program) == [(1.0, "question b'how?' 1")]
    assert program.exit_code == 0


def test_qos_0_1_and_2_in_both_directions(rig: Rig) -> None:
    for qos in (0, 1, 2):
        rig.say(5 + qos, "in/x", str(qos), qos=qos)
    program = rig.host("qos.py")
    rig.run(60)
    assert rig.said() == [(0.0, f"out/{qos}", str(qos)) for qos in (0, 1, 2)]
    assert [m.qos for m in rig.log if m.topic.startswith("out")] == [0, 1, 2]
    heard = [(t, text) for t, text in lines(program) if text.startswith("in")]
    assert heard == [(5.0, "in 0 0"), (6.0, "in 1 1"), (7.0, "in 2 2")]
    published = [text for _, text in lines(program) if text.startswith("published")]
    assert published == [f"published {qos} True" for qos in (0, 1, 2)]


def test_keep_alive_pings_come_when_nothing_was_said_for_the_keep_alive(
    rig: Rig,
) -> None:
    program = rig.host("quiet.py")
    rig.run(31, close=False)
    # CONNECT and CONNACK at 0 s, then one exchange each 10 s.
    assert lines(program) == [
        (time_s, text)
        for time_s in (10.0, 20.0, 30.0)
        for text in ("Sending PINGREQ", "Received PINGRESP")
    ]
    assert rig.said() == []


def test_a_client_that_goes_silent_is_dropped_after_one_and_a_half_keep_alives(
    rig: Rig,
) -> None:
    rig.host("quiet.py --stall")
    rig.run(31, close=False)
    # Last heard at 0 s (CONNECT), keep-alive 10 s.
    assert rig.said() == [(15.0, "quiet/will", "gone")]


def test_reconnect_backs_off_to_its_longest_delay(rig: Rig) -> None:
    program = rig.host("reconnecting.py")
    rig.at(5, program.link_down)
    rig.at(22, program.link_up)
    rig.run(40, close=False)
    # Cut at 5; then after 1, 2, 4, 8, 8 s: 6, 8, 12, 20, and 28 succeeds.
    assert lines(program) == [
        (0.0, "connected Success"),
        (5.0, "disconnected Unspecified error"),
        (6.0, "failed"),
        (8.0, "failed"),
        (10.0, "published The client is not currently connected."),
        (12.0, "failed"),
        (20.0, "failed"),
        (28.0, "connected Success"),
    ]
    assert rig.said() == [(28.0, "late", "x")]


def test_wait_for_publish_times_out_at_its_virtual_time(rig: Rig) -> None:
    program = rig.host("waiting.py", start_s=2.0)
    rig.run(20)
    # Nobody reads the PUBACK. paho looks at each tenth of the time-out, 0.5 s,
    # whether it is over, and at 5.0 s sharp it is not yet.
    assert lines(program) == [(7.5, "waited 5.5 s, published: False")]
    assert rig.said() == [(2.0, "unread", "x")]


def test_mqtt_5_properties_no_local_and_the_response_topic(rig: Rig) -> None:
    program = rig.host("newest.py")
    rig.at(
        7,
        lambda: rig.plant.publish(
            "ask/double",
            b"21",
            properties='{"correlation_data":"3q2+7w==","response_topic":"told"}',
        ),
    )
    rig.run(10, close=False)
    assert lines(program) == [(0.0, "connected Success False")]
    assert rig.said() == [(7.0, "told", "2121"), (7.0, "ask/nobody", "no local")]
    told = next(m for m in rig.log if m.topic == "told")
    assert told.properties == (
        '{"correlation_data":"3q2+7w==","user_property":[["by","newest"]]}'
    )


def test_tls_is_accepted_and_noted_as_not_in_force(rig: Rig) -> None:
    program = rig.host("tls.py")
    rig.run(5)
    assert rig.said() == [(0.0, "tls/said", "hello")]
    assert kinds(program) == [(0.0, "note")]
    assert "TLS is accepted and not in force" in program.findings[0].text
    assert program.exit_code == 0


def test_a_program_that_computes_for_ever_is_named_with_its_line(rig: Rig) -> None:
    program = rig.host("busy.py", watchdog_s=0.5)
    rig.run(10)
    [finding] = program.findings
    assert finding.kind == "hang"
    first = int(line_of("busy.py", "while not").split()[-1])
    where = re.search(r"busy\.py, line (\d+), in wait_until_ready:", finding.text)
    assert where is not None
    assert int(where[1]) in (first, first + 1)
    assert program.exit_code == -9
    assert rig.said() == [(finding.time_s, "busy/will", "gone")]


def test_a_program_may_spin_on_the_clock(rig: Rig) -> None:
    rig.host("spinning.py")
    rig.run(10)
    assert rig.said() == [(2.0, "spun", "2 s")]


def test_clocks_agree_with_the_run(rig: Rig) -> None:
    program = rig.host("clocks.py", start_s=3600.0, timezone="Europe/Zurich")
    rig.run(4000)
    first, second = lines(program)[:6], lines(program)[6:]
    assert [t for t, _ in first] == [3600.0] * 6
    assert [t for t, _ in second] == [3600.5] * 6
    assert second[0][1] == ("1767229200.5 1767229200500000000 265744.5 265744500000000")
    assert second[1][1] == "2026-01-01 02:00:00.500000 2026-01-01 01:00:00.500000+00:00"
    assert second[2][1] == "2026-01-01 02:00:00.500000 2026-01-01 2"
    assert second[3][1] == ("2026-01-01 10:00:00.500000+09:00 Thu Jan  1 02:00:00 2026")
    assert second[4][1] == "1767229200.5 (2026, 1, 1, 1, 0, 0)"
    assert second[5][1] == "True"


def test_alarms_and_schedulers_ring_at_virtual_times(rig: Rig) -> None:
    program = rig.host("alarms.py")
    rig.run(60)
    assert lines(program) == [
        (3.0, "timed out 3.0"),
        (4.1, "rings [3.5, 3.75, 4.0] 4.1"),
        (5.1, "first 5.1"),
        (6.1, "second 6.1"),
    ]


def test_threads_wait_for_each_other_in_virtual_time(rig: Rig) -> None:
    program = rig.host("threads.py")
    rig.run(60)
    assert [text for _, text in lines(program)] == [
        "lock False False at 1.5",
        "lock True at 2.0",
        "rlock False at 3.0",
        "condition True at 5.0",
        "condition False at 5.25",
        "semaphore a at 6.25",
        "semaphore b at 6.25",
        "semaphore c at 7.25",
        "alive True at 9.75",
        "barrier 3 at 11.25",
        "barrier 1 at 11.25",
        "barrier 2 at 11.25",
        "simple queue x at 12.25",
        "empty at 14.25",
        "pool [2, 1, 1] at 16.25",
        "threads 1 MainThread at 16.25",
    ]
    assert lines(program, "stderr") == []
    assert program.exit_code == 0


def test_everything_that_waits_waits_in_virtual_time(rig: Rig) -> None:
    program = rig.host("surface.py")
    rig.run(60)
    assert lines(program, "stderr") == []
    assert [text for _, text in lines(program)] == [
        "True 2026-01-01 00:00:00 @ 0.0",
        "0.0 0.0 0.0 0 @ 0.0",
        "select @ 2.0",
        "selector [] @ 3.5",
        "selector 1 b'x' @ 4.5",
        "poll [] @ 5.0",
        "epoll [] @ 5.5",
        "event False @ 8.5",
        "event True @ 9.5",
        "full @ 11.5",
        "put @ 12.5",
        "semaphore False @ 15.5",
        "broken @ 17.5",
        "wait 1 1 @ 19.5",
        "pool @ 21.5",
        "asyncio @ 22.5",
        "timeout @ 24.5",
        "later @ 27.5",
        "gathered @ 30.5",
        "timeout @ 31.5",
        "pause [32.5] @ 32.5",
        "sigtimedwait None @ 33.5",
        "sigwait SIGALRM 1 @ 34.5",
        "pending ['SIGALRM'] 1 @ 34.5",
        "unblocked [] 2 @ 34.5",
        "2026-01-01 00:00:34,500 logged",
        "Thu, 01 Jan 2026 00:00:34 -0000 2026-01-01 00:00:34 @ 34.5",
        "ended by 15 @ 60.0",
    ]
    assert program.exit_code == 0
    assert kinds(program) == []


def test_a_loop_of_its_own_around_the_socket(rig: Rig) -> None:
    program = rig.host("own_loop.py")
    rig.run(60)
    assert lines(program) == [
        (0.0, "heard own/loop b'x' 2"),
        (0.0, "published"),
        (30.0, "done True"),
    ]


def test_what_is_outside_the_allowance_is_refused_and_found(
    rig: Rig, tmp_path: Path
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    program = rig.host(
        f"reaches_out.py {inside}", hosts=["broker:1883"], allow_write=[inside]
    )
    rig.run(1)
    assert [text for _, text in lines(program)] == [
        "read worked",
        "write inside worked",
        "temporary worked",
        "write outside NotAllowed",
        "mkdir outside NotAllowed",
        "remove outside NotAllowed",
        "other host NotAllowed",
        "web URLError",
        "datagram NotAllowed",
        "process NotAllowed",
        "fork NotAllowed",
    ]
    assert program.exit_code == 0
    refused = [f.text for f in program.findings if f.kind == "refused"]
    assert len(refused) == 8
    assert "outside.txt" in refused[0]
    assert "folders it may write to: " in refused[0]
    assert "connect to plant.example:1883: only these lead to the bus" in refused[3]
    assert all("reaches_out.py:" in text for text in refused)
    assert (inside / "inside.txt").read_text() == "x"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["inside"]


def test_a_web_request_to_the_bus_is_no_mqtt(rig: Rig, tmp_path: Path) -> None:
    program = rig.host(f"reaches_out.py {tmp_path}")
    rig.run(1)
    [finding] = [f for f in program.findings if f.kind == "protocol"]
    assert "GET / HTTP/1.1" in finding.text


def test_several_programs_talk_to_each_other(rig: Rig) -> None:
    rig.host("thermostat.py 20")
    rig.host("worker_queue.py")
    counter = rig.host("global_client.py", start_s=0.25)
    rig.say(1, "room/temperature", '{"value": 18}')
    rig.say(1, "job/new", "j")
    rig.run(4.5, close=False)
    assert rig.said() == [
        (0.25, "counter/value", "0"),
        (1.0, "heater/on", "1"),
        (1.25, "counter/value", "1"),
        (2.25, "counter/value", "2"),
        (3.25, "counter/value", "3"),
        (4.0, "job/done", "j"),
        (4.25, "counter/value", "4"),
    ]
    assert counter.running


def test_a_program_that_is_not_there_is_a_mistake_of_the_user(rig: Rig) -> None:
    with pytest.raises(PlaygroundError, match=r"Did you mean .thermostat\.py"):
        rig.host("termostat.py")
    with pytest.raises(PlaygroundError, match="names no Python program"):
        rig.host("python -x")


def test_a_module_is_run_as_python_dash_m_does(rig: Rig) -> None:
    program = rig.host("python -m chance")
    rig.run(1)
    assert program.exit_code == 0
    assert len(lines(program)) == 5


def test_chance_and_identity_are_the_same_on_every_run_and_machine(rig: Rig) -> None:
    first, again, other = (
        rig.host("chance.py", name=name, seed=seed)
        for name, seed in (("a", 1), ("a", 1), ("a", 2))
    )
    rig.run(1)
    assert lines(first) == lines(again)
    assert len(lines(first)) == 5
    draws, uuids, identity, rest, arrays = zip(lines(first), lines(other), strict=True)
    for one, two in (draws, uuids, arrays):
        assert one != two
    assert identity[0] == identity[1] == (0.0, "4242 hosted 1 hosted")
    assert rest[0][1].endswith("['a', 'b', 'c'] 8000993259118358886")


def test_aiomqtt_with_a_timeout_an_executor_and_a_will(rig: Rig) -> None:
    rig.say(2, "control/in", "1.5", qos=1)
    rig.say(11, "control/in", "4", qos=1)
    program = rig.host("async_control.py")
    rig.run(20)
    assert lines(program) == [
        (2.0, "got 1.5"),
        (2.5, "settled"),
        (11.0, "got 4.0"),
        (11.5, "settled"),
    ]
    # Each 5 s of sleep and 0.25 s in the executor.
    assert rig.said() == [
        (5.25, "control/out", "3.0"),
        (10.5, "control/out", "3.0"),
        (15.75, "control/out", "8.0"),
        (20.0, "control/status", "stopped"),
    ]
    assert (program.exit_code, program.findings) == (0, [])


def test_asyncio_streams_threads_and_signal_handlers(rig: Rig) -> None:
    program = rig.host("async_streams.py")
    rig.run(20)
    assert lines(program) == [
        (0.5, "['ONE', 'TWO'] 0.5"),
        (2.5, "threads 2.5"),
        (4.0, "later"),
        (20.0, "stopped"),
    ]
    assert lines(program, "stderr") == []
    assert (program.exit_code, program.findings) == (0, [])


def test_a_loop_that_idles_pings_at_the_times_of_its_own_grid(rig: Rig) -> None:
    program = rig.host("ping_pong_threads.py")
    rig.run(36, close=False)
    # CONNECT at 0 s and a keep-alive of 7 s (paho does not count a PUBLISH as a
    # sign of life). The loop looks each second, since the publication at 3.3 at
    # 4.3, 5.3 ... 7.3: ping; 14.3 and 21.3: ping. It is stopped at 23.3 and begins
    # anew; after the publication at 25.55 it looks at 26.55, 27.55, 28.55: ping.
    exchange = ("Sending PINGREQ", "Received PINGRESP")
    times = [time_s for time_s, text in lines(program) if text == exchange[0]]
    assert times == [7.3, 14.3, 21.3, 28.55, 35.55]
    assert [text for _, text in lines(program) if text != "stopped"] == [
        text for _ in times for text in exchange
    ]
    assert rig.said() == [(3.3, "said", "first"), (25.55, "said", "last")]
    assert program.findings == []


def test_programs_that_answer_each_other_for_ever_are_stopped(rig: Rig) -> None:
    rig.host("echo.py ping pong", name="one")
    rig.host("echo.py pong ping", name="two")
    rig.say(3, "ping", "ball")
    with pytest.raises(PlaygroundError, match="one, two have exchanged messages") as it:
        rig.run(10)
    assert "at 3 s" in it.value.problem


def test_a_wait_that_virtual_time_does_not_know_is_named(rig: Rig) -> None:
    program = rig.host("stuck.py", watchdog_s=0.5)
    rig.run(10)
    [finding] = program.findings
    assert finding.kind == "hang"
    place = line_of("stuck.py", "return os.read")
    assert f"{place}, in read_for_ever: return os.read(end, 1)" in finding.text


def test_code_that_holds_the_interpreter_is_named_too(rig: Rig) -> None:
    program = rig.host("stuck.py --lock", watchdog_s=0.5)
    rig.run(10)
    [finding] = program.findings
    assert finding.kind == "hang"
    number = line_of("stuck.py", "return sum").split()[-1]
    assert f'stuck.py", line {number} in read_for_ever' in finding.text


def test_output_is_kept_line_by_line_with_its_time(rig: Rig) -> None:
    program = rig.host("talkative.py")
    rig.run(10)
    assert lines(program) == [
        (0.0, "one-two"),
        (1.5, "half a line and the rest: äöü"),
        (1.5, "raw \\xff bytes"),
        (1.5, "name? nobody answers"),
    ]
    stderr = lines(program, "stderr")
    assert stderr[0] == (1.5, "2026-01-01 00:00:01,500 logged")
    assert stderr[1][1].startswith("no end of line")
    assert stderr[1][1].endswith("UserWarning: look out")
    assert program.exit_code == 0


def test_a_program_that_cannot_be_compiled_has_crashed(rig: Rig) -> None:
    program = rig.host(["broken.py.txt"])
    rig.run(10)
    assert program.exit_code == 1
    [finding] = program.findings
    assert finding.kind == "crash"
    assert "SyntaxError: '(' was never closed" in finding.text
    assert lines(program, "stderr")[-1][1] == "SyntaxError: '(' was never closed"


def test_a_run_may_go_on_in_steps_with_messages_in_between(rig: Rig) -> None:
    rig.host("thermostat.py 20", name="thermostat")
    for stop in (10, 20, 30):
        rig.clock.run(until=stop)
        rig.plant.publish("room/temperature", b'{"value": 18}')
    rig.clock.run(until=40)
    assert rig.said() == [(float(stop), "heater/on", "1") for stop in (10, 20, 30)]


def test_a_program_that_nobody_closes_does_not_outlive_its_run() -> None:
    rig = Rig()
    process = rig.host("global_client.py")._process
    rig.clock.run(until=2)
    process.end()
    with pytest.raises(ProcessLookupError):
        os.kill(process._popen.pid, 0)


def test_a_program_that_will_not_end_is_ended(rig: Rig) -> None:
    program = rig.host("stubborn.py", grace_s=30)
    rig.run(60)
    assert lines(program) == [(60.0, "not now")]
    [finding] = program.findings
    assert (finding.time_s, finding.kind) == (90.0, "note")
    assert finding.text == "It did not end within 30 s of being asked to."
    assert program.exit_code == -9


def test_plain_sockets_behave_as_real_ones_in_virtual_time(rig: Rig) -> None:
    program = rig.host("sockets.py")
    rig.run(60)
    assert [text for _, text in lines(program)] == [
        "timed out at 1.5",
        "b'hello' b' world' 1.5 at 2.5",
        "3 b' wo' at 2.5",
        "EAGAIN at 2.5",
        "poll [] at 3.0",
        "poll [1] b'' at 3.0",
        "broken pipe at 3.0",
        "line rest at 3.0",
        "b'answer' b'' at 3.0",
        "selector [] at 5.0",
        "selector ['server'] at 6.0",
        "EADDRINUSE at 6.0",
        "0 1883 at 6.0",
        "198.18.0.1 broker.example at 6.0",
        "EBADF -1 at 6.0",
    ]
    assert (program.exit_code, lines(program, "stderr")) == (0, [])


def test_signals_of_a_program_to_itself(rig: Rig) -> None:
    program = rig.host("signals.py")
    rig.run(60)
    assert lines(program) == [
        (1.0, "3 1.0"),
        (3.0, "3.0 3 3"),
        (4.0, "interrupted in a lock at 4.0"),
        (4.0, "True True SIG_DFL"),
        (4.0, "signal number out of range"),
    ]
    assert program.exit_code == -15


def test_a_reading_at_a_tenth_is_heard_by_who_wakes_at_that_tenth(rig: Rig) -> None:
    # 3 * 0.1 is not 0.3, but it is the same instant.
    rig.clock.every(
        0.1,
        lambda: rig.plant.publish("tenth", str(round(rig.clock.now * 10)).encode()),
        phase=Phase.PUBLICATION,
    )
    program = rig.host("tenths.py")
    rig.run(1.05)
    assert [text for _, text in lines(program)] == [f"{n} {n}" for n in range(1, 11)]
