"""More comes than a recorder can take: what is lost then is written down as well."""

from __future__ import annotations

import socket
import subprocess
import threading

import pytest

from playground.broker import EmbeddedBroker, find_mosquitto
from playground.clock import WallClock
from playground.message import Message
from playground.mqtt import MqttBus
from playground.mqtt.backlog import BEHIND_AFTER_S, LOOK_EVERY_S, Backlog
from playground.record import BrokerSource, Recorder

SECOND = 10**9
DROPPED = "$SYS/broker/publish/messages/dropped"


class Jumping(WallClock):
    """A clock that can be set forward, so that nobody need wait."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_ns = 0

    def time_ns(self) -> int:
        return super().time_ns() + self.ahead_ns


class Slow(Recorder):
    """A recorder that takes nothing while it is told to wait."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.may_take = threading.Event()
        self.may_take.set()
        self.is_waiting = threading.Event()

    def take(self, *messages: Message, snapshot: bool = False) -> None:
        if not self.may_take.is_set():
            self.is_waiting.set()
            assert self.may_take.wait(60)
        super().take(*messages, snapshot=snapshot)


@pytest.fixture
def forgetful_mosquitto(tmp_path):
    """A mosquitto as it comes: it drops what a subscriber does not take in time.

    Gives its URL for the number of messages that it holds back for each, and
    the seconds between its reports.
    """
    program = find_mosquitto()
    if program is None:
        pytest.skip("mosquitto is not installed")
    running = []

    def start(held_back: int, *, reports_every_s: int = 1, acl: str = "") -> str:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        lines = [
            "persistence false",
            "allow_anonymous true",
            "user root",
            f"sys_interval {reports_every_s}",
            f"max_queued_messages {held_back}",
            f"listener {port} 127.0.0.1",
        ]
        if acl:
            (tmp_path / "acl").write_text(acl)
            lines.append(f"acl_file {tmp_path / 'acl'}")
        file = tmp_path / f"{port}.conf"
        file.write_text("\n".join(lines) + "\n")
        quiet = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        running.append(subprocess.Popen([program, "-c", file], **quiet))
        pause = threading.Event()
        for _ in range(1000):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return f"mqtt://127.0.0.1:{port}"
            except OSError:
                pause.wait(0.01)
        raise AssertionError("mosquitto does not start")

    yield start
    for process in running:
        process.terminate()
        process.wait(5)


def publish_too_much(url: str, recorder: Slow, *, count: int = 20_000) -> None:
    """Publishes 20 MB while the recorder waits: no buffer on the way is so large."""
    recorder.may_take.clear()
    plant = MqttBus(url).send("plant")
    for number in range(count):
        plant.publish("a/b", b"%05d" % number + bytes(1000))
        if number % 500 == 0:
            plant.push()
    plant.flush(60)
    plant.disconnect()
    assert recorder.is_waiting.wait(10)


def numbers(recorder: Recorder) -> list[int]:
    said = recorder.recording.messages(["a/b"])
    return [int(message.payload[:5]) for message in said]


@pytest.mark.parametrize("qos", [0, 1])
def test_what_mosquitto_really_drops_becomes_a_gap(
    forgetful_mosquitto, tmp_path, eventually, qos
):
    url = forgetful_mosquitto(100)
    told: list[int] = []
    watcher = MqttBus(url).connect(
        "w", lambda message: told.append(int(message.payload))
    )
    watcher.subscribe(DROPPED)
    eventually(lambda: told)
    source = BrokerSource(url, qos=qos)
    with Slow(source, tmp_path / "a.parquet", filters=("a/#",)) as recorder:
        # The counter has been heard before anything is dropped.
        eventually(lambda: source._dropped == 0)
        plant = MqttBus(url).connect("plant")
        recorder.may_take.clear()
        for number in range(20_000):
            plant.publish("a/b", b"%05d" % number + bytes(1000), qos=qos)
        plant.flush(60)
        plant.disconnect()
        eventually(lambda: told[-1] > 0)
        recorder.may_take.set()
        eventually(lambda: recorder.progress().gaps)
    watcher.disconnect()
    heard = numbers(recorder)
    assert 0 < len(heard) < 20_000
    assert heard == sorted(set(heard))
    gap = recorder.recording.summary().gaps[0]
    assert "the broker dropped messages (its counter" in gap.reason
    assert gap.start_ns < gap.end_ns


def test_drops_before_a_stop_are_told_though_the_report_was_dropped_too(
    forgetful_mosquitto, tmp_path, eventually
):
    """The report is a message as others are: here the broker has no room for it."""
    url = forgetful_mosquitto(100)
    told: list[int] = []
    watcher = MqttBus(url).connect(
        "w", lambda message: told.append(int(message.payload))
    )
    watcher.subscribe(DROPPED)
    source = BrokerSource(url)
    with Slow(source, tmp_path / "a.parquet", filters=("a/#",)) as recorder:
        eventually(lambda: source._dropped == 0)
        connection = source._connection
        assert connection is not None
        connection.unsubscribe(DROPPED)  # so nothing is told while it records
        publish_too_much(url, recorder)
        eventually(lambda: told and told[-1] > 0)
        recorder.may_take.set()
        eventually(lambda: recorder.progress().count > 100)
        eventually(lambda: connection.backlog.since_ns is None)
    watcher.disconnect()
    (gap,) = recorder.recording.summary().gaps
    assert "the broker dropped messages" in gap.reason


def test_where_the_broker_tells_nothing_an_overrun_is_told_by_the_recorder(
    forgetful_mosquitto, tmp_path, eventually
):
    url = forgetful_mosquitto(100, acl="topic readwrite a/#\ntopic deny $SYS/#\n")
    clock = Jumping()
    with Slow(
        BrokerSource(url, clock=clock),
        tmp_path / "a.parquet",
        filters=("a/#",),
        clock=clock,
    ) as recorder:
        before_ns = clock.time_ns()
        publish_too_much(url, recorder)
        clock.ahead_ns += 10 * SECOND
        recorder.may_take.set()
        eventually(lambda: recorder.progress().gaps)
    assert len(numbers(recorder)) < 20_000
    (gap,) = recorder.recording.summary().gaps
    assert gap.reason.startswith("overrun: the recorder could not keep up")
    assert before_ns <= gap.start_ns + round(LOOK_EVERY_S * SECOND)
    assert gap.end_ns - gap.start_ns >= 10 * SECOND


@pytest.mark.parametrize(("later_s", "is_told"), [(0, True), (31, False)])
def test_a_broker_that_counts_is_believed_when_it_had_time_to_tell(
    forgetful_mosquitto, tmp_path, eventually, later_s, is_told
):
    """Nothing was dropped; shortly after an overrun nobody can know."""
    url = forgetful_mosquitto(0)  # holds everything back
    clock = Jumping()
    source = BrokerSource(url, clock=clock)
    with Slow(
        source, tmp_path / "a.parquet", filters=("a/#",), clock=clock
    ) as recorder:
        eventually(lambda: source._dropped == 0)
        publish_too_much(url, recorder)
        clock.ahead_ns += 10 * SECOND
        recorder.may_take.set()
        eventually(lambda: recorder.progress().count == 20_000, within_s=60)
        eventually(lambda: source._behind is not None)
        clock.ahead_ns += later_s * SECOND
    assert numbers(recorder) == list(range(20_000))
    reasons = [gap.reason for gap in recorder.recording.summary().gaps]
    if is_told:
        (reason,) = reasons
        assert "did not tell" in reason
    else:
        assert reasons == []


def test_a_broker_that_was_restarted_counts_from_zero(tmp_path, eventually):
    with EmbeddedBroker() as broker:
        source = BrokerSource(broker.url)
        with Recorder(source, tmp_path / "a.parquet") as recorder:
            client = MqttBus(broker.url).connect("sys")
            for total in (b"100", b"3"):
                client.publish(DROPPED, total)
            eventually(lambda: recorder.progress().gaps)
            client.disconnect()
    (gap,) = recorder.recording.summary().gaps
    assert "rose by 3)" in gap.reason


def test_system_topics_that_are_asked_for_are_recorded_once(
    mosquitto, tmp_path, eventually
):
    with Recorder(
        mosquitto.url, tmp_path / "a.parquet", filters=("$SYS/#",)
    ) as recorder:
        eventually(lambda: recorder.progress().count > 10)
    said = list(recorder.recording.messages([DROPPED]))
    assert len({m.time_ns for m in said}) == len(said)


# --------------------------------------------------------------- the reader's side


def behind_of(*calls: tuple) -> list[tuple[float, float]]:
    """Plays calls of ``(second, "look" or "idle" or "end")`` or ``(second, size, is_all)``."""
    told: list[tuple[float, float]] = []
    backlog = Backlog(
        lambda since, until: told.append((since / SECOND, until / SECOND))
    )
    for second, *what in calls:
        now_ns = round(second * SECOND)
        if what in (["look"], ["idle"]):
            backlog.look(now_ns, is_idle=what == ["idle"])
        elif what == ["end"]:
            backlog.end(now_ns)
        else:
            size, is_all = what
            backlog.read(now_ns, size, is_all=is_all)
    return told


def busy_until(second: float) -> list[tuple]:
    """Large reads from the first second on, ten in each."""
    moments = [1 + n / 10 for n in range(round(10 * (second - 1)))]
    return [call for at in moments for call in ((at, "look"), (at, 65_536, False))]


def test_reads_that_leave_something_for_long_are_a_backlog():
    end = 1 + BEHIND_AFTER_S + 0.2
    assert behind_of(*busy_until(end), (end, 100, True)) == [(1.0, end)]


def test_a_backlog_is_over_when_there_is_nothing_to_read():
    """Also if the last read was a large one."""
    assert behind_of(*busy_until(4), (4, "idle")) == [(1.0, 4.0)]


def test_a_short_burst_is_none():
    assert behind_of((1, "look"), (1, 65_536, False), (1.5, 100, True)) == []
    # Nor is one after a long silence.
    silence = [(second, "look") for second in range(1, 100)]
    burst = [(99.5, 65_536, False), (99.6, 65_536, False), (99.7, 10, True)]
    assert behind_of(*silence, *burst) == []


def test_a_clock_that_counts_faster_makes_no_backlog_of_a_moment():
    """Buffers fill in seconds of the machine, whatever the stamps say."""
    told: list[tuple[int, int]] = []
    backlog = Backlog(lambda *instants: told.append(instants), speed=240.0)
    for second in (0, 100, 300, 400):  # 0.8 s at most between two looks
        backlog.look(second * SECOND, is_idle=False)
        backlog.read(second * SECOND, 65_536, is_all=False)
    backlog.read(450 * SECOND, 100, is_all=True)
    assert told == []
    backlog.read(1000 * SECOND, 65_536, is_all=False)
    backlog.read(1500 * SECOND, 100, is_all=True)
    assert told == [(1000 * SECOND, 1500 * SECOND)]


def test_an_absence_after_which_much_is_there_is_a_backlog():
    """What the kernel held comes first and is little; then the broker's queue."""
    assert behind_of(
        (1, "look"),
        (9, "look"),
        (9.01, 5000, True),
        (9.02, "look"),
        (9.02, 65_536, False),
        (9.5, 5000, True),
        (10.2, 100, True),
    ) == [(1.0, 10.2)]
    # It is noticed that it is over also where nothing comes any more.
    assert behind_of(
        (1, "look"), (9, "look"), (9.01, 5000, True), (9.5, "look"), (10.5, "look")
    ) == [(1.0, 10.5)]


def test_an_absence_after_which_nothing_is_there_is_none():
    assert (
        behind_of(
            (1, "look"),
            (9, "look"),
            (9.1, 2, True),
            (10.5, "look"),
            (10.6, 65_536, False),
        )
        == []
    )


def test_a_connection_that_ends_while_one_is_behind_ends_the_backlog():
    assert behind_of((1, "look"), (1, 65_536, False), (5, "end")) == [(1.0, 5.0)]
