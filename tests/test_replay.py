import itertools
import math
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from playground.bus import LocalBus
from playground.clock import VirtualClock
from playground.errors import ConnectionFailed, NotEnoughData, PlaygroundError
from playground.message import Message
from playground.recording import Recording, RecordingWriter
from playground.replay import MAX, Pace, Remap, Replayer, Selection
from playground.replay.pace import LatenessMeter
from playground.replay.readiness import Audience

START = 1_700_000_000 * 10**9
MS = 1_000_000
S = 1_000 * MS


def record(path: Path, messages: list[Message]) -> Recording:
    path.unlink(missing_ok=True)
    with RecordingWriter(path, journal=False) as writer:
        for message in messages:
            writer.append(message)
    return Recording.open(path)


def at(seconds: float, topic: str = "a", payload: bytes = b"1", **more) -> Message:
    return Message(START + round(seconds * 1e9), topic, payload, **more)


class FakeTimer:
    """A clock that jumps; gives commands at instants that were fixed before."""

    def __init__(self, commands=(), *, overshoot_ns: int = 0) -> None:
        self.now = 0
        self.commands = sorted(commands, key=lambda entry: entry[0])
        self.overshoot_ns = overshoot_ns

    def now_ns(self) -> int:
        return self.now

    def time_ns(self) -> int:
        return START + self.now

    def wait(self, until_ns: int | None, woken: threading.Event) -> None:
        if self.commands and (until_ns is None or self.commands[0][0] <= until_ns):
            when, command = self.commands.pop(0)
            self.now = max(self.now, when)
            command()
            return
        assert until_ns is not None, "paused, and no command will ever come"
        self.now = max(self.now, until_ns + self.overshoot_ns)


class Listener:
    """Hears everything on a local bus, with the time of a fake clock."""

    def __init__(self, timer: FakeTimer) -> None:
        self.timer = timer
        self.bus = LocalBus(timer)
        self.heard: list[Message] = []
        self.bus.observe(self.heard.append)

    @property
    def said(self) -> list[Message]:
        return [m for m in self.heard if m.kind == "publish"]

    def at(self) -> list[tuple[float, str]]:
        return [((m.time_ns - START) / 1e9, m.topic) for m in self.said]


def play(recording: Recording, timer: FakeTimer | None = None, **options):
    timer = timer or FakeTimer()
    listener = Listener(timer)
    replayer = Replayer(recording, listener.bus, timer=timer, **options)
    return replayer.run(), listener


@pytest.fixture
def three(tmp_path: Path) -> Recording:
    return record(tmp_path / "r.parquet", [at(0, "a"), at(1, "b"), at(3, "c")])


def test_messages_come_at_their_distances(three):
    report, listener = play(three)
    assert listener.at() == [(0, "a"), (1, "b"), (3, "c")]
    assert (report.messages, report.duration_s, report.session_s) == (3, 3, 3)


def test_speed_divides_all_distances(three):
    assert play(three, speed=2.0)[1].at() == [(0, "a"), (0.5, "b"), (1.5, "c")]
    assert play(three, speed=0.1)[1].at() == [(0, "a"), (10, "b"), (30, "c")]


def test_max_speed_waits_for_nothing_and_keeps_order(three):
    report, listener = play(three, speed=MAX)
    assert listener.at() == [(0, "a"), (0, "b"), (0, "c")]
    assert report.lateness.count == 0


def test_late_wakeups_do_not_add_up(tmp_path):
    recording = record(tmp_path / "r.parquet", [at(i / 100) for i in range(500)])
    report, listener = play(recording, FakeTimer(overshoot_ns=2 * MS))
    times = [time for time, _ in listener.at()]
    assert times[-1] - 4.99 == pytest.approx(0.002)
    assert report.lateness.max_s == pytest.approx(0.002, rel=0.02)
    assert report.lateness.p50_s == pytest.approx(0.002, rel=0.02)


def test_qos_retain_properties_and_payload_are_as_recorded(tmp_path):
    said = [
        at(0, "a", b"\xff\x00", qos=2, retain=True, properties='{"x":1}'),
        at(1, "a", b"", qos=1),
    ]
    _, listener = play(record(tmp_path / "r.parquet", said))
    assert [
        (m.topic, m.payload, m.qos, m.retain, m.properties) for m in listener.said
    ] == [("a", b"\xff\x00", 2, True, '{"x":1}'), ("a", b"", 1, False, None)]


def test_a_will_is_said_again_and_other_events_are_not(tmp_path):
    said = [
        at(0, "", b"", kind="connect", client="dev"),
        at(1, "dev/state", b"gone", kind="will", client="dev"),
        at(2, "dev/#", b"", kind="subscribe", client="dev"),
        at(3, "a"),
    ]
    _, listener = play(record(tmp_path / "r.parquet", said))
    assert [(m.topic, m.payload) for m in listener.said] == [
        ("dev/state", b"gone"),
        ("a", b"1"),
    ]


def test_filters_choose_by_recorded_topic(tmp_path):
    recording = record(
        tmp_path / "r.parquet", [at(0, "a/x"), at(1, "a/y"), at(2, "b/x")]
    )
    assert play(recording, topics=["a/#"], exclude=["a/y"])[1].at() == [(0, "a/x")]


def test_a_range_is_half_open(three):
    _, listener = play(three, start_ns=START + S, end_ns=START + 3 * S)
    assert listener.at() == [(0, "b")]


def test_a_start_between_messages_keeps_the_distance_to_the_first(three):
    _, listener = play(three, start_ns=START + S // 2)
    assert listener.at() == [(0.5, "b"), (2.5, "c")]


def test_the_retained_state_of_the_start_comes_first(tmp_path):
    recording = record(
        tmp_path / "r.parquet",
        [
            at(0, "old", b"1", retain=True),
            at(1, "gone", b"1", retain=True),
            at(2, "gone", b"", retain=True),
            at(3, "live", b"1"),
            at(4, "old", b"2", retain=True, qos=1),
            at(5, "x"),
        ],
    )
    report, listener = play(recording, start_ns=START + 5 * S)
    assert [(m.topic, m.payload, m.retain, m.qos) for m in listener.said] == [
        ("old", b"2", True, 1),
        ("x", b"1", False, 0),
    ]
    assert (report.messages, report.state_messages) == (1, 1)


def test_a_loop_begins_where_the_last_pass_ended_and_rebuilds_the_state(tmp_path):
    recording = record(
        tmp_path / "r.parquet", [at(0, "a"), at(1, "s", b"on", retain=True), at(2, "b")]
    )
    report, listener = play(recording, FakeTimer(overshoot_ns=MS), loop=2)
    said = [(m.time_ns - START, m.topic, m.payload) for m in listener.said]
    assert [(topic, payload) for _, topic, payload in said] == [
        ("a", b"1"),
        ("s", b"on"),
        ("b", b"1"),
        ("s", b""),
        ("a", b"1"),
        ("s", b"on"),
        ("b", b"1"),
    ]
    # 1 ms late each, but not 2 ms: the second pass is tied to the first.
    assert said[-1][0] == 4 * S + MS
    assert report.passes == 2


def test_an_end_that_was_given_is_part_of_the_period_of_a_loop(three):
    _, listener = play(three, end_ns=START + 10 * S, loop=2)
    assert [time for time, _ in listener.at()] == [0, 1, 3, 10, 11, 13]


def test_clear_retained_leaves_the_bus_as_it_was(tmp_path):
    recording = record(tmp_path / "r.parquet", [at(0, "s", b"1", retain=True)])
    _, listener = play(recording)
    assert list(listener.bus.retained) == ["s"]
    _, listener = play(recording, clear_retained=True)
    assert list(listener.bus.retained) == []


def test_overrides_apply_to_live_and_rebuilt_messages(tmp_path):
    recording = record(
        tmp_path / "r.parquet", [at(0, "s", b"1", retain=True), at(1, "a", qos=2)]
    )
    _, listener = play(recording, retain="never", qos=1, start_ns=START + S)
    assert [(m.topic, m.qos, m.retain) for m in listener.said] == [("a", 1, False)]
    _, listener = play(recording, qos=1, start_ns=START + S)
    assert [(m.topic, m.qos, m.retain) for m in listener.said] == [
        ("s", 1, True),
        ("a", 1, False),
    ]


@pytest.mark.parametrize(
    ("rule", "topic", "renamed"),
    [
        ("a/#=b/#", "a/x/y", "b/x/y"),
        ("a/#=b/#", "a", "b"),
        ("a/+/c=z/+", "a/1/c", "z/1"),
        ("+/+/#=x/+/y/+/#", "1/2/3/4", "x/1/y/2/3/4"),
        ("a/b=c", "a/b", "c"),
        ("a/+=fixed", "a/1", "fixed"),
        ("a/#=b/#", "c/x", None),
    ],
)
def test_remap_renames(rule, topic, renamed):
    assert Remap.parse(rule)(topic) == renamed


@pytest.mark.parametrize("rule", ["a/#", "a/b=c/+", "a/b#=c", "a=", "a/+=c/#"])
def test_a_bad_remap_is_refused(rule):
    with pytest.raises(PlaygroundError):
        Remap.parse(rule)


def test_the_first_remap_that_covers_a_topic_wins(three):
    rules = [Remap.parse("a=first"), Remap.parse("#=second")]
    assert play(three, remap=rules)[1].at() == [
        (0, "first"),
        (1, "second"),
        (3, "second"),
    ]


def test_a_transformer_has_the_last_word_also_on_the_retained_state(tmp_path):
    recording = record(
        tmp_path / "r.parquet",
        [at(0, "s", b"1", retain=True), at(1, "b"), at(2, "c", b"c")],
    )

    def shout(message: Message) -> Message | None:
        if message.topic == "b":
            return None
        return message._replace(payload=message.payload * 2)

    _, listener = play(recording, transform=shout, start_ns=START + S)
    assert [(m.topic, m.payload) for m in listener.said] == [
        ("s", b"11"),
        ("c", b"cc"),
    ]


def test_clients_speak_through_connections_of_their_own(tmp_path):
    recording = record(
        tmp_path / "r.parquet",
        [at(0, "a", client="plant"), at(1, "b", client="hmi"), at(2, "c")],
    )
    _, listener = play(recording, clients=True)
    assert [(m.topic, m.client) for m in listener.said] == [
        ("a", "plant"),
        ("b", "hmi"),
        ("c", "replay"),
    ]
    goodbyes = [m.client for m in listener.heard if m.kind == "disconnect"]
    assert sorted(goodbyes) == ["hmi", "plant", "replay"]


def test_clients_speak_in_the_order_of_the_recording_however_fast(tmp_path):
    from playground.mqtt import MqttBus

    left = []

    class Gathering:
        """As `Sender` does it: what is published leaves together."""

        def __init__(self, client):
            self.client, self.gathered = client, []

        def publish(self, topic, payload, **_):
            self.gathered.append(payload)

        def push(self):
            left.extend(self.gathered)
            self.gathered.clear()

        def flush(self, _):
            self.push()

        def disconnect(self):
            pass

    class Bus(MqttBus):
        def send(self, client_id, on_message=None):
            return Gathering(client_id)

    said = [at(i, "a", b"%d" % i, client="xyz"[i * i % 3]) for i in range(30)]
    recording = record(tmp_path / "r.parquet", said)
    bus = Bus("mqtt://127.0.0.1:1")
    Replayer(recording, bus, clients=True, control=False, speed=MAX).run()
    assert left == [b"%d" % i for i in range(30)]


def test_a_recorded_will_is_said_by_the_connection_of_its_client(tmp_path):
    will = at(1, "plant/state", b"gone", retain=True, client="plant", kind="will")
    recording = record(tmp_path / "r.parquet", [at(0, "a", client="hmi"), will])
    _, listener = play(recording, clients=True)
    assert [(m.topic, m.client) for m in listener.said] == [
        ("a", "hmi"),
        ("plant/state", "plant"),
    ]
    assert listener.bus.retained["plant/state"].payload == b"gone"


def test_a_seek_into_a_later_part_rebuilds_what_an_earlier_part_retained(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    record(
        folder / "part-00000.parquet", [at(0, "set", b"20", retain=True), at(1, "a")]
    )
    record(folder / "part-00001.parquet", [at(2, "b"), at(3, "c")])
    parts = Recording.open(folder)
    report, listener = play(parts, start_ns=START + 3 * S)
    assert [m.topic for m in listener.said] == ["set", "c"]
    assert (report.messages, report.state_messages) == (1, 1)


def test_a_connection_that_was_handed_in_stays_open(three):
    timer = FakeTimer()
    listener = Listener(timer)
    connection = listener.bus.connect("mine")
    Replayer(three, connection, timer=timer).run()
    assert connection.connected
    assert {m.client for m in listener.said} == {"mine"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"speed": 0.0}, "would never arrive"),
        ({"speed": -1.0}, "would never arrive"),
        ({"speed": math.nan}, "would never arrive"),
        ({"topics": ["x/#"]}, "matches no topic"),
        ({"topics": ["a/b#"]}, "wildcard"),
        ({"remap": [Remap.parse("x=y")]}, "matches no topic"),
        ({"start_ns": START + S, "end_ns": START + S}, "not after the start"),
        ({"start_ns": START + 4 * S}, "Nothing to play"),
        ({"end_ns": START}, "Nothing to play"),
        ({"qos": 3}, "QoS 3"),
        ({"loop": -1}, "below 0"),
        ({"retain": "sometimes"}, "not a rule"),
    ],
)
def test_what_cannot_be_played_is_refused_before_anything_is_said(
    three, options, words
):
    listener = Listener(FakeTimer())
    with pytest.raises(PlaygroundError, match=words):
        Replayer(three, listener.bus, timer=listener.timer, **options)
    assert listener.heard == []


def test_an_empty_recording_has_nothing_to_play(tmp_path):
    recording = record(tmp_path / "r.parquet", [])
    with pytest.raises(NotEnoughData):
        Replayer(recording, Listener(FakeTimer()).bus)


def test_a_misspelled_filter_is_shown_the_nearest_topic(tmp_path):
    recording = record(tmp_path / "r.parquet", [at(0, "modbus/registers")])
    with pytest.raises(PlaygroundError, match="modbus/registers"):
        Replayer(recording, Listener(FakeTimer()).bus, topics=["modbus/register"])


# Control


def controlled(recording: Recording, commands, **options):
    """Plays; ``commands`` are (seconds of the clock, function of the replayer)."""
    timer = FakeTimer()
    listener = Listener(timer)
    replayer = Replayer(recording, listener.bus, timer=timer, **options)
    timer.commands = [
        (round(when * 1e9), lambda act=act: act(replayer)) for when, act in commands
    ]
    return replayer.run(), listener


def test_a_pause_moves_all_that_follows(three):
    _, listener = controlled(three, [(0.5, Replayer.pause), (10, Replayer.resume)])
    assert listener.at() == [(0, "a"), (10.5, "b"), (12.5, "c")]


def test_steps_play_one_message_each(three):
    _, listener = controlled(
        three,
        [(0.5, Replayer.step), (5, Replayer.step), (7, Replayer.resume)],
    )
    assert listener.at() == [(0, "a"), (0.5, "b"), (5, "c")]


def test_a_change_of_speed_does_not_jump(three):
    _, listener = controlled(three, [(0.5, lambda r: r.set_speed(0.5))])
    assert listener.at() == [(0, "a"), (1.5, "b"), (5.5, "c")]


def test_a_relative_speed_is_a_factor(three):
    _, listener = controlled(
        three, [(0.5, lambda r: r.set_speed(0.5, relative=True))], speed=1.0
    )
    assert listener.at() == [(0, "a"), (1.5, "b"), (5.5, "c")]


def test_a_seek_goes_on_from_there(three):
    _, listener = controlled(three, [(0.5, lambda r: r.seek(2.5))])
    assert listener.at() == [(0, "a"), (1, "c")]
    _, listener = controlled(three, [(2, lambda r: r.seek(-10, relative=True))])
    assert listener.at() == [(0, "a"), (1, "b"), (2, "a"), (3, "b"), (5, "c")]


def test_a_seek_takes_back_what_was_retained_later(tmp_path):
    recording = record(
        tmp_path / "r.parquet",
        [
            at(0, "s", b"0", retain=True),
            at(1, "s", b"1", retain=True),
            at(2, "t", b"2", retain=True),
            at(9, "end"),
        ],
    )
    timer = FakeTimer()
    listener = Listener(timer)
    replayer = Replayer(recording, listener.bus, timer=timer)
    states = []

    def look():
        states.append({t: m.payload for t, m in listener.bus.retained.items()})

    timer.commands = [
        (5 * S, replayer.pause),
        (6 * S, lambda: (look(), replayer.seek(0.5))),
        (7 * S, lambda: (look(), replayer.stop())),
    ]
    report = replayer.run()
    assert states == [{"s": b"1", "t": b"2"}, {"s": b"0"}]
    assert report.stopped


def test_stop_ends_it(three):
    report, listener = controlled(three, [(2, Replayer.stop)])
    assert listener.at() == [(0, "a"), (1, "b")]
    assert report.stopped


def test_commands_come_as_mqtt_messages_and_are_answered(three):
    timer = FakeTimer()
    listener = Listener(timer)
    replayer = Replayer(three, listener.bus, timer=timer)
    answers = []
    console = listener.bus.connect("console", lambda m: answers.append(m.payload))
    console.subscribe("playground/replay/status")

    def say(verb, payload=b""):
        return lambda: console.publish(f"playground/replay/{verb}", payload)

    timer.commands = [
        (S // 2, say("pause")),
        (2 * S, say("speed", b"0.5")),
        (3 * S, say("seek", b"+0.25")),
        (4 * S, say("resume")),
        (5 * S, say("seek", b"nonsense")),
        (6 * S, say("speed", b"max")),
    ]
    replayer.run()
    said = [(t, topic) for t, topic in listener.at() if "playground" not in topic]
    assert said == [(0, "a"), (4.5, "b"), (6, "c")]
    assert b'"paused":true' in answers[0]
    assert b'"position_s":0.5' in answers[0]
    assert b'"speed":0.5' in answers[1]
    assert len(answers) == 6


def test_a_recorded_command_is_not_played(tmp_path):
    recording = record(
        tmp_path / "r.parquet", [at(0, "playground/replay/stop"), at(1, "a")]
    )
    report, listener = play(recording)
    assert [m.topic for m in listener.said] == ["a"]
    assert not report.stopped


payloads = st.sampled_from([b"", b"1", b"2"])
sessions = st.lists(
    st.tuples(
        st.integers(0, 3),  # tenths of a second after the one before
        st.sampled_from("ab"),
        payloads,
        st.booleans(),
    ),
    min_size=1,
    max_size=25,
)


def make_session(drawn) -> list[Message]:
    times = itertools.accumulate(step for step, *_ in drawn)
    return [
        Message(START + time * 100 * MS, topic, payload, retain=retain)
        for time, (_, topic, payload, retain) in zip(times, drawn, strict=True)
    ]


def retained_after(messages) -> dict[str, bytes]:
    state: dict[str, bytes] = {}
    for message in messages:
        if message.retain:
            if message.payload:
                state[message.topic] = message.payload
            else:
                state.pop(message.topic, None)
    return state


SLOW_FILES = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@SLOW_FILES
@given(drawn=sessions, data=st.data())
def test_state_after_seek_is_state_after_playing_to_there(tmp_path, drawn, data):
    messages = make_session(drawn)
    recording = record(tmp_path / "r.parquet", messages)
    length = (messages[-1].time_ns - START) / 1e9
    places = data.draw(st.lists(st.floats(0, max(length, 0.1)), min_size=1, max_size=4))
    timer = FakeTimer()
    listener = Listener(timer)
    replayer = Replayer(recording, listener.bus, timer=timer)
    first_ns = messages[0].time_ns
    got = []

    def look():
        got.append({t: m.payload for t, m in listener.bus.retained.items()})

    timer.commands = [(0, replayer.pause)]
    for number, place in enumerate(places, start=1):
        timer.commands.append((number * S, lambda p=place: replayer.seek(p)))
        timer.commands.append((number * S + 1, look))
    timer.commands.append((1000 * S, replayer.stop))
    replayer.pause()
    replayer.run()
    ends = [
        min(first_ns + round(place * 1e9), messages[-1].time_ns) for place in places
    ]
    assert got == [
        retained_after(m for m in messages if m.time_ns < end) for end in ends
    ]


actions = st.one_of(
    st.just(("pause", 0.0)),
    st.just(("resume", 0.0)),
    st.just(("step", 0.0)),
    st.tuples(st.just("speed"), st.sampled_from([0.25, 1.0, 3.0, 50.0])),
    st.tuples(st.just("seek"), st.floats(-1.0, 5.0)),
    st.tuples(st.just("skip"), st.floats(-3.0, 3.0)),
)


@settings(parent=SLOW_FILES, max_examples=150)
@given(
    drawn=sessions,
    orders=st.lists(st.tuples(st.integers(0, 90), actions), max_size=16),
    loop=st.integers(1, 4),
    rest_s=st.none() | st.floats(0.001, 2.0),
)
def test_whatever_is_asked_order_is_kept_nothing_twice_nothing_missing(
    tmp_path, drawn, orders, loop, rest_s
):
    messages = [
        m._replace(payload=str(number).encode(), retain=False)
        for number, m in enumerate(make_session(drawn))
    ]
    count, first_ns = len(messages), messages[0].time_ns
    recording = record(tmp_path / "r.parquet", messages)
    end_ns = None if rest_s is None else messages[-1].time_ns + round(rest_s * 1e9)
    timer = FakeTimer()
    listener = Listener(timer)
    replayer = Replayer(recording, listener.bus, timer=timer, loop=loop, end_ns=end_ns)
    # Per seek what was played after it, and with what it had to begin: None where
    # only the replayer knows the place.
    runs: list[tuple[int | None, list[int]]] = [(0, [])]
    listener.bus.observe(
        lambda m: runs[-1][1].append(int(m.payload)) if m.kind == "publish" else None
    )

    def first_from(place_s):
        last_ns = messages[-1].time_ns if end_ns is None else end_ns
        place_ns = min(max(first_ns + round(place_s * 1e9), first_ns), last_ns)
        later = (i for i, m in enumerate(messages) if m.time_ns >= place_ns)
        # After the last one the next pass begins.
        return next(later, 0)

    def act(name, number):
        if name == "seek":
            replayer.seek(number)
            runs.append((first_from(number), []))
        elif name == "skip":
            replayer.seek(number, relative=True)
            runs.append((None, []))
        elif name == "speed":
            replayer.set_speed(number)
        else:
            getattr(replayer, name)()

    timer.commands = [
        (tenth * 100 * MS, lambda n=name, x=number: act(n, x))
        for tenth, (name, number) in sorted(orders, key=lambda order: order[0])
    ]
    timer.commands.append((10**6 * S, replayer.resume))
    report = replayer.run()
    turns = 0
    for begin, run in runs:
        for before, after in itertools.pairwise(run):
            # In order, without a gap; after the last the first, in the next pass.
            assert after == (before + 1) % count
            turns += after == 0
        if run and begin is not None:
            assert run[0] == begin
    assert report.passes == loop
    assert report.messages == sum(len(run) for _, run in runs)
    assert turns <= loop - 1
    if len(runs) == 1:
        assert runs[0][1] == list(range(count)) * loop
    # It ends with the last message, if not with a seek behind it.
    assert not runs[-1][1] or runs[-1][1][-1] == count - 1


# In a simulation


def test_in_a_simulation_it_plays_in_virtual_time(three):
    clock = VirtualClock(start_ns=START)
    bus = LocalBus(clock)
    heard = []
    bus.observe(lambda m: heard.append((clock.now, m.topic)) if m.topic else None)
    process = Replayer(three, bus, control=False).process(clock)
    clock.run()
    assert heard == [(0, "a"), (1, "b"), (3, "c")]
    assert process.value.messages == 3


def test_in_a_simulation_message_times_are_those_of_the_recording(tmp_path):
    said = [at(0.123456789 * i, "a") for i in range(100)]
    recording = record(tmp_path / "r.parquet", said)
    clock = VirtualClock(start_ns=START)
    bus = LocalBus(clock)
    heard = []
    bus.observe(lambda m: heard.append(m.time_ns) if m.topic else None)
    Replayer(recording, bus, control=False).process(clock)
    clock.run()
    assert heard == [m.time_ns for m in said]


def test_in_a_simulation_everybody_has_his_turn_in_between(three):
    clock = VirtualClock(start_ns=START)
    bus = LocalBus(clock)
    order = []
    bus.observe(lambda m: order.append((clock.now, m.topic)) if m.topic else None)
    Replayer(three, bus, control=False).process(clock)
    clock.every(0.5, lambda: order.append((clock.now, "tick")))
    clock.run(until=2.25)
    assert order == [
        (0, "tick"),
        (0, "a"),
        (0.5, "tick"),
        (1, "tick"),
        (1, "b"),
        (1.5, "tick"),
        (2, "tick"),
    ]
    assert clock.now == 2.25


def test_in_a_simulation_an_end_is_kept_though_nobody_else_is_there(three):
    clock = VirtualClock(start_ns=START)
    bus = LocalBus(clock)
    heard = []
    bus.observe(lambda m: heard.append(m.topic) if m.topic else None)
    Replayer(three, bus, control=False).process(clock)
    clock.run(until=1.5)
    assert (clock.now, heard) == (1.5, ["a", "b"])
    clock.run()
    assert (clock.now, heard) == (3, ["a", "b", "c"])


def test_in_a_simulation_commands_wake_it(three):
    clock = VirtualClock(start_ns=START)
    bus = LocalBus(clock)
    heard = []
    bus.observe(
        lambda m: heard.append((clock.now, m.topic)) if m.topic in "abc" else None
    )
    replayer = Replayer(three, bus)
    replayer.process(clock)
    console = bus.connect("console")

    def person():
        yield clock.timeout(0.5)
        console.publish("playground/replay/pause", b"")
        yield clock.timeout(4.5)
        console.publish("playground/replay/resume", b"")
        yield clock.timeout(1)
        console.publish("playground/replay/seek", b"0")

    clock.process(person())
    clock.run(until=100)
    heard = [entry for entry in heard if entry[1]]
    assert heard == [(0, "a"), (5.5, "b"), (6, "a"), (7, "b"), (9, "c")]


# Pace


def test_a_pace_is_exact_over_a_year_at_any_speed():
    pace = Pace(1000.0, session_ns=START, clock_ns=5)
    year = 365 * 86_400 * S
    assert pace.due_ns(START + year) == 5 + year // 1000
    assert pace.session_ns(5 + year // 1000) == START + year


def test_lateness_is_measured_to_a_hundredth():
    meter = LatenessMeter()
    for late in range(1, 100_001):
        meter.add(late * 1000)
    figures = meter.summary()
    assert figures.p50_s == pytest.approx(0.05, rel=0.011)
    assert figures.p99_s == pytest.approx(0.099, rel=0.011)
    assert figures.max_s == 0.1


def slow_down(bus: LocalBus, timer: FakeTimer, costs_ns) -> None:
    """Makes every message take its time, as on a broker that is overrun."""

    def take_time(message: Message) -> None:
        if message.kind == "publish":
            timer.now += next(costs_ns)

    bus.observe(take_time)


def test_one_long_stall_moves_everything_and_hurries_nothing(tmp_path):
    recording = record(tmp_path / "r.parquet", [at(i / 10) for i in range(100)])
    timer = FakeTimer()
    bus = LocalBus(timer)
    times = []
    bus.observe(lambda m: times.append(timer.now) if m.topic else None)
    slow_down(bus, timer, itertools.chain([0] * 20, [5 * S], itertools.repeat(0)))
    report = Replayer(recording, bus, timer=timer, control=False).run()
    steps = {round((b - a) / MS) for a, b in itertools.pairwise(times)}
    assert steps == {100, 5000}
    assert report.slipped_s == pytest.approx(4.9)
    assert report.lateness.max_s == pytest.approx(4.9, rel=0.02)
    assert report.messages == 100


def test_a_broker_that_is_too_slow_slows_everything_in_proportion(tmp_path):
    # Bursts of 10 messages 10 ms apart each second; a message takes 50 ms at x10,
    # where 5 ms would be there for it.
    session = [at(s + i / 100) for s in range(60) for i in range(10)]
    recording = record(tmp_path / "r.parquet", session)
    timer = FakeTimer()
    bus = LocalBus(timer)
    slow_down(bus, timer, itertools.repeat(50 * MS))
    report = Replayer(recording, bus, timer=timer, speed=10.0, control=False).run()
    assert report.messages == 600
    assert report.slowest is not None
    assert report.slowest < 5
    # What a message waits is bounded: the session is slowed, not queued up.
    assert report.lateness.p99_s < 0.6


def test_selection_state_follows_remap_collisions(tmp_path):
    recording = record(
        tmp_path / "r.parquet",
        [
            at(0, "a", b"1", retain=True),
            at(1, "b", b"2", retain=True),
            at(2, "a", b"", retain=True),
            at(3, "z"),
        ],
    )
    rules = [Remap.parse("a=x"), Remap.parse("b=x")]
    selection = Selection(recording, remap=rules)
    assert {t: m.payload for t, m in selection.state(START + 2 * S).items()} == {
        "x": b"2"
    }
    assert selection.state(START + 3 * S) == {}


def test_neither_replay_nor_diff_wait_for_pandas(tmp_path):
    record(tmp_path / "r.parquet", [at(0, retain=True), at(1, "b", retain=True)])
    record(tmp_path / "s.parquet", [at(0, retain=True), at(1, "b", b"2", retain=True)])
    code = """if True:
        import sys
        from playground.diff import diff
        from playground.recording import Recording
        from playground.replay import Selection
        a, b = map(Recording.open, sys.argv[1:])
        assert len(Selection(a).state(a.time_range[1] + 1)) == 2
        assert not diff(a, b).equal
        assert "pandas" not in sys.modules
    """
    files = [str(tmp_path / "r.parquet"), str(tmp_path / "s.parquet")]
    # More than once: a thread of Arrow that still held a file when the interpreter
    # ended took down one process in ten.
    running = [subprocess.Popen([sys.executable, "-c", code, *files]) for _ in range(8)]
    assert [process.wait(120) for process in running] == [0] * len(running)


# Over a network


def test_a_broker_that_goes_away_is_told_with_the_place(three, tmp_path):
    from playground.broker import EmbeddedBroker
    from playground.mqtt import MqttBus

    recording = record(tmp_path / "long.parquet", [at(i / 100) for i in range(3000)])
    with EmbeddedBroker() as broker:
        heard = []

        def hear(message):
            heard.append(message)
            if len(heard) == 20:
                threading.Thread(target=broker.stop).start()

        listener = MqttBus(broker.url).connect("listener", hear)
        listener.subscribe("a")
        replayer = Replayer(recording, MqttBus(broker.url))
        with pytest.raises(
            ConnectionFailed,
            match=r"was lost.* messages had been published, up to 2023",
        ):
            replayer.run()
        listener.disconnect()


# Who is there to hear it


def hello(client, payload):
    return Message(0, f"playground/ready/{client}", payload, retain=True)


def test_a_consumer_is_there_from_its_hello_to_its_farewell():
    audience = Audience()
    audience.overhear(hello("a/b", b"modbus/+\n not a filter#\nvalve"))
    audience.wait_for_client("a/b", timeout_s=0)
    assert audience.has_subscriber("modbus/1")
    assert audience.has_subscriber("valve")
    assert not audience.has_subscriber("pump")
    audience.overhear(hello("a/b", b"pump"))
    assert audience.has_subscriber("pump")
    assert not audience.has_subscriber("valve")
    audience.overhear(hello("a/b", b""))
    with pytest.raises(ConnectionFailed, match="connected: nobody"):
        audience.wait_for_client("a/b", timeout_s=0)


def test_mosquittos_log_tells_who_comes_subscribes_and_goes():
    # As mosquitto 2.0.11 publishes them.
    audience = Audience()
    log = "$SYS/broker/log/"
    come = b"1795382876: New client connected from 127.0.0.1:4865 as the one (p5, c1, k30)."
    audience.overhear(
        Message(0, log + "N", b"1795382876: New connection from 1.1.1.1:2")
    )
    with pytest.raises(ConnectionFailed):
        audience.wait_for_client("the one", timeout_s=0)
    audience.overhear(Message(0, log + "N", come))
    audience.wait_for_client("the one", timeout_s=0)
    subscribed = b"1795382876: the one 1 a b/#"
    audience.overhear(Message(0, log + "M/subscribe", subscribed))
    audience.wait_for_subscriber("a b/c", timeout_s=0)
    gone = b"1795382876: Client the one disconnected."
    audience.overhear(Message(0, log + "N", gone))
    assert not audience.has_subscriber("a b/c")
