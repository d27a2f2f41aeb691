import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.bus import LocalBus
from playground.clock import VirtualClock
from playground.errors import PlaygroundError
from playground.link import Link, LinkedBus


def said_each_second(link, *, seconds=100, qos=0, seed=0, of="ear"):
    clock = VirtualClock()
    bus = LinkedBus(LocalBus(clock), clock, {of: link}, seed=seed)
    heard = []
    bus.connect("ear", lambda m: heard.append((clock.now, int(m.payload)))).subscribe(
        "a", qos=2
    )
    clock.run(until=50)
    voice = bus.connect("voice")
    for second in range(seconds):
        clock.at(50.0 + second).callbacks.append(
            lambda _, s=second: voice.publish("a", b"%d" % s, qos=qos)
        )
    clock.run()
    return [(time - 50, number) for time, number in heard]


def test_a_perfect_link_changes_nothing():
    assert said_each_second(Link(), seconds=5) == [(k, k) for k in range(5)]


@pytest.mark.parametrize("of", ["ear", "voice", "*"])
def test_latency_is_added_on_each_link_a_message_passes(of):
    ways = 2 if of == "*" else 1
    heard = said_each_second(Link(latency_s=0.25), seconds=5, of=of)
    assert heard == [(k + 0.25 * ways, k) for k in range(5)]


@given(
    st.floats(0, 3), st.floats(0, 5), st.integers(0, 2**32), st.sampled_from([0, 1, 2])
)
@settings(max_examples=50, deadline=None)
def test_a_link_keeps_order_and_never_hurries(latency, jitter, seed, qos):
    heard = said_each_second(
        Link(latency_s=latency, jitter_s=jitter), seed=seed, qos=qos, seconds=30
    )
    assert [number for _, number in heard] == list(range(30))
    for time, number in heard:
        assert time >= number + latency - 1e-9
        assert time <= 29 + latency + jitter + 1e-9


def test_at_qos_0_a_share_of_messages_is_lost():
    heard = said_each_second(Link(loss=0.3), seconds=1000)
    assert 620 < len(heard) < 780
    assert [n for _, n in heard] == sorted({n for _, n in heard})


def test_at_qos_1_nothing_is_lost_but_some_arrive_later():
    heard = said_each_second(Link(loss=0.3, retry_s=0.5), seconds=200, qos=1)
    assert [n for _, n in heard] == list(range(200))
    assert 20 < sum(time > number for time, number in heard) < 100


def test_equal_seeds_give_equal_runs_and_others_do_not():
    link = Link(latency_s=0.1, jitter_s=2, loss=0.1)
    assert said_each_second(link, seed=4) == said_each_second(link, seed=4)
    assert said_each_second(link, seed=4) != said_each_second(link, seed=5)


def test_a_goodbye_does_not_overtake_what_was_said_before():
    clock = VirtualClock()
    bus = LinkedBus(LocalBus(clock), clock, {"voice": Link(latency_s=1)})
    heard = []
    bus.connect("ear", lambda m: heard.append((clock.now, m.payload))).subscribe("a")
    voice = bus.connect("voice")
    voice.publish("a", b"last words")
    voice.disconnect()
    clock.run()
    assert heard == [(1, b"last words")]


def test_a_message_says_when_it_came_out_of_the_link():
    clock = VirtualClock()
    bus = LinkedBus(LocalBus(clock), clock, {"ear": Link(latency_s=2)})
    stamps = []
    bus.connect("ear", lambda m: stamps.append(m.time_ns - clock.start_ns)).subscribe(
        "a"
    )
    clock.run(until=3)
    bus.connect("voice").publish("a", b"")
    clock.run()
    assert stamps == [5_000_000_000]


@pytest.mark.parametrize(
    "wrong",
    [{"latency_s": -1}, {"jitter_s": float("nan")}, {"loss": 1}, {"loss": -0.1}],
)
def test_a_link_that_cannot_be_is_refused(wrong):
    with pytest.raises(PlaygroundError, match="link"):
        Link(**wrong)
