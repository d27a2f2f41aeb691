"""What is special about the bus in memory; the rules all buses share are in
test_bus_conformance.py."""

import contextlib

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.bus import LocalBus, Will, publish_all
from playground.clock import VirtualClock
from playground.errors import PlaygroundError
from playground.message import Bundle
from playground.recording.columns import to_messages
from playground.recording.ledger import Ledger


class Ear:
    def __init__(self):
        self.heard = []

    def __call__(self, message):
        self.heard.append((message.topic, message.payload, message.qos, message.retain))


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def bus(clock):
    return LocalBus(clock)


def test_a_message_arrives_in_the_instant_in_which_it_was_published(bus, clock):
    seen = []
    bus.connect("ear", lambda m: seen.append((clock.now, m.time_ns))).subscribe("a")
    voice = bus.connect("voice")
    clock.at(2.5).callbacks.append(lambda _: voice.publish("a", b""))
    clock.run()
    assert seen == [(2.5, clock.start_ns + 2_500_000_000)]


def test_everybody_sees_the_same_order_even_when_a_listener_answers(bus):
    order = {"first": [], "second": []}

    def answer(message):
        order["first"].append(message.payload)
        if message.payload == b"question":
            first.publish("talk", b"answer")

    first = bus.connect("first", answer)
    second = bus.connect("second", lambda m: order["second"].append(m.payload))
    first.subscribe("talk")
    second.subscribe("talk")
    bus.connect("voice").publish("talk", b"question")
    assert order["first"] == order["second"] == [b"question", b"answer"]


def test_an_observer_sees_publisher_qos_and_retain_as_published(bus):
    seen = []
    bus.observe(seen.append)
    ear = Ear()
    bus.connect("ear", ear).subscribe("a", qos=0)
    bus.connect("voice").publish("a", b"1", qos=2, retain=True)
    published = [m for m in seen if m.kind == "publish"]
    assert [(m.client, m.qos, m.retain) for m in published] == [("voice", 2, True)]
    assert ear.heard == [("a", b"1", 0, False)]
    kinds = [(m.kind, m.client, m.topic) for m in seen if m.kind != "publish"]
    assert kinds == [
        ("connect", "ear", ""),
        ("subscribe", "ear", "a"),
        ("connect", "voice", ""),
    ]


def test_a_will_is_observed_as_will_and_heard_as_a_message(bus):
    seen, ear = [], Ear()
    bus.observe(seen.append)
    bus.connect("ear", ear).subscribe("state")
    rig = bus.connect("rig", will=Will(topic="state", payload=b"gone", retain=True))
    rig.abort()
    assert [m.kind for m in seen if m.topic == "state"] == ["subscribe", "will"]
    assert ear.heard == [("state", b"gone", 0, False)]
    late = Ear()
    bus.connect("late", late).subscribe("state")
    assert late.heard == [("state", b"gone", 0, True)]


def test_a_goodbye_takes_the_will_back(bus):
    ear = Ear()
    bus.connect("ear", ear).subscribe("#")
    bus.connect("rig", will=Will(topic="state", payload=b"gone")).disconnect()
    assert ear.heard == []


def test_who_is_not_connected_cannot_speak(bus):
    voice = bus.connect("voice")
    voice.disconnect()
    with pytest.raises(PlaygroundError, match="'voice' wants to publish"):
        voice.publish("a", b"")
    with pytest.raises(PlaygroundError, match="'voice' wants to subscribe"):
        voice.subscribe("a")


def test_a_wildcard_cannot_be_published_to(bus):
    with pytest.raises(PlaygroundError, match="wildcard"):
        bus.connect("voice").publish("a/#", b"")


def test_after_a_failed_publication_the_bus_works_on(bus):
    ear = Ear()
    bus.connect("ear", ear).subscribe("a")
    voice = bus.connect("voice")
    with pytest.raises(PlaygroundError):
        voice.publish("a/+", b"lost")
    voice.publish("a", b"heard")
    assert ear.heard == [("a", b"heard", 0, False)]


def test_an_error_in_a_listener_reaches_the_run_and_loses_nothing(bus):
    ear = Ear()

    def fail(message):
        raise RuntimeError("in the listener")

    bus.connect("broken", fail).subscribe("a")
    voice = bus.connect("voice")
    with pytest.raises(RuntimeError, match="in the listener"):
        voice.publish("a", b"1")
    bus.connect("ear", ear).subscribe("b")
    voice.publish("b", b"2")
    assert ear.heard == [("b", b"2", 0, False)]


def test_a_new_subscription_changes_the_route_of_a_known_topic(bus):
    voice, first, second = bus.connect("voice"), Ear(), Ear()
    bus.connect("first", first).subscribe("a")
    voice.publish("a", b"1")
    late = bus.connect("second", second)
    late.subscribe("+")
    voice.publish("a", b"2")
    late.unsubscribe("+")
    voice.publish("a", b"3")
    assert [p for _, p, _, _ in first.heard] == [b"1", b"2", b"3"]
    assert [p for _, p, _, _ in second.heard] == [b"2"]


def test_who_asks_for_it_hears_the_retain_flag_of_the_publisher(bus):
    logger, other, late = Ear(), Ear(), Ear()
    connection = bus.connect("logger", logger)
    connection.subscribe("a/#", qos=1, retain_as_published=True)
    bus.connect("other", other).subscribe("a/#")
    speaker = bus.connect("speaker")
    speaker.publish("a/b", b"kept", retain=True)
    speaker.publish("a/b", b"said")
    assert [heard[3] for heard in logger.heard] == [True, False]
    assert [heard[3] for heard in other.heard] == [False, False]
    connection.subscribe("a/#")
    speaker.publish("a/b", b"kept", retain=True)
    assert logger.heard[-1] == ("a/b", b"kept", 0, False)
    bus.connect("late", late).subscribe("a/b")
    assert late.heard == [("a/b", b"kept", 0, True)]


def test_a_session_may_be_forgotten_while_its_client_is_away(bus):
    ear = Ear()
    first = bus.connect("ear", ear, clean=False)
    first.subscribe("a", qos=1)
    bus.forget("ear")  # is connected
    speaker = bus.connect("speaker")
    speaker.publish("a", b"1", qos=1)
    first.disconnect()
    speaker.publish("a", b"2", qos=1)
    bus.forget("ear")
    bus.forget("nobody")
    bus.connect("ear", ear, clean=False)
    speaker.publish("a", b"3", qos=1)
    assert [payload for _, payload, _, _ in ear.heard] == [b"1"]


SAID = st.tuples(
    st.sampled_from("abc"),
    st.sampled_from([0, 0, 0, 1, 2]),
    st.sampled_from([False] * 9 + [True]),
)


def one_by_one(connection, bundle, payloads):
    said = zip(bundle.topics, payloads, bundle.qos, bundle.retain, strict=True)
    for topic, payload, qos, retain in said:
        connection.publish(topic, payload, qos=qos, retain=retain)


def log_of(publish, bundles, answers, *, heard, granted, several):
    """Returns what is recorded and heard of bundles, some of which are answered."""
    bus = LocalBus(VirtualClock())
    log, ear, seen = Ledger(), Ear(), []
    bus.observe(log.append, log.extend)
    if several:
        bus.observe(lambda m: seen.append((m.client, *m[1:6])))
    bus.connect("ear", ear).subscribe(heard, qos=granted)

    def answer(message):
        does = answers.pop(0) if answers else None
        if does == "answer":
            publish(echo, Bundle(["x", "a"], [1, 0], [False, False]), [b"x", b"y"])
        elif does == "subscribe":
            late.subscribe("b")
        elif does == "leave":
            ear_of_c.disconnect()
        elif does == "fail":
            raise ValueError(message.topic)

    echo = bus.connect("echo", answer)
    echo.subscribe("a", qos=granted)
    late_ear = Ear()
    late, ear_of_c = bus.connect("late", late_ear), bus.connect("c", Ear())
    ear_of_c.subscribe("c")
    plain = []
    eager = bus.connect("eager", lambda m: plain.append((m.topic, m.payload)))
    eager.on_payload = lambda *said: plain.append(said)
    eager.subscribe("b", qos=granted)
    voice = bus.connect("voice")
    for said in bundles:
        bundle = Bundle(*zip(*said, strict=True))
        for _ in range(2):  # what is found out about a bundle is remembered
            payloads = [b"%d" % number for number in range(len(said))]
            with contextlib.suppress(ValueError):
                publish(voice, bundle, payloads)
    rows = list(to_messages(pa.table(log.to_batch(3))))
    return rows, ear.heard, late_ear.heard, plain, seen


@settings(max_examples=150, deadline=None)
@given(
    bundles=st.lists(st.lists(SAID, min_size=1, max_size=5), min_size=1, max_size=3),
    answers=st.lists(
        st.sampled_from([None, "answer", "subscribe", "leave", "fail"]), max_size=6
    ),
    heard=st.sampled_from(["#", "b", "nothing"]),
    granted=st.sampled_from([0, 2]),
    several=st.booleans(),
)
def test_several_messages_at_once_are_those_messages_one_by_one(
    bundles, answers, heard, granted, several
):
    other = {"heard": heard, "granted": granted, "several": several}
    assert log_of(publish_all, bundles, [*answers], **other) == log_of(
        one_by_one, bundles, [*answers], **other
    )


def test_who_is_cut_off_by_an_answer_says_no_more_of_several(bus):
    def take_over(message):
        bus.connect("voice")

    ear = Ear()
    bus.connect("ear", ear).subscribe("#")
    bus.connect("rival", take_over).subscribe("a")
    voice = bus.connect("voice")
    with pytest.raises(PlaygroundError, match="not connected"):
        publish_all(voice, Bundle("ab", [0, 0], [False, False]), [b"1", b"2"])
    assert [topic for topic, *_ in ear.heard] == ["a"]


def test_several_messages_said_within_a_delivery_wait_for_their_turn(bus):
    ear = Ear()
    both = Bundle("xy", [0, 0], [False, False])
    answering = bus.connect(
        "answering",
        lambda m: publish_all(answering, both, [b"", b""]),
    )
    answering.subscribe("a")
    bus.connect("ear", ear).subscribe("#")
    bus.connect("voice").publish("a", b"")
    assert [topic for topic, *_ in ear.heard] == ["a", "x", "y"]
