"""One scenario, three ways to run it."""

import pytest

from playground import transport
from playground.broker import EmbeddedBroker, find_mosquitto
from playground.bus import Will
from playground.clock import Phase
from playground.errors import ConnectionFailed, PlaygroundError
from playground.plants.device import Device
from playground.plants.lab_rig import LabRig

BACKENDS = ["amqtt", "mosquitto"]


def by_topic(log, *facts):
    found = {}
    for message in log:
        said = tuple(getattr(message, fact) for fact in facts)
        found.setdefault(message.topic, []).append(said)
    return found


def assert_same_but_late_answers(got, expected):
    """On a busy machine an answer to the last messages may come after the end."""
    answers, all_answers = got.pop("vsd2/write"), expected.pop("vsd2/write")
    assert got == expected
    assert answers == all_answers[: len(answers)]
    assert len(answers) >= len(all_answers) - 2


@pytest.fixture(params=BACKENDS)
def url(request):
    if request.param == "mosquitto":
        try:
            find_mosquitto()
        except PlaygroundError as error:
            pytest.skip(str(error))
    with EmbeddedBroker(backend=request.param) as broker:
        yield broker.url


def build(bus, clock):
    """The rig, a controller that answers at once, and a client that crashes."""
    Device(LabRig(), bus, clock, seed=3)

    def control(message):
        if message.topic == "processed/outlet_temp":
            hot = float(message.payload) > 30
            controller.publish("vsd2/write", b"1.0" if hot else b"0.5", qos=1)

    controller = bus.connect("controller", control)
    controller.subscribe("processed/+", qos=1)
    state = bus.connect(
        "state", will=Will(topic="lab/state", payload=b"gone", qos=2, retain=True)
    )
    clock.every(
        7,
        lambda: (
            state.publish("lab/state", b"\xff\x00here", retain=True, qos=2)
            if clock.now < 20
            else None
        ),
        phase=Phase.CONTROLLER,
    )
    clock.at(20.5).callbacks.append(lambda _: state.abort())


def log_of(opened, until=30):
    log = []
    opened.observe(lambda m: log.append(m) if m.kind in ("publish", "will") else None)
    build(opened.bus, opened.clock)
    opened.clock.run(until=until)
    opened.finish()
    return log


def test_lockstep_over_a_real_broker_has_the_log_of_a_local_run(url):
    with transport.local() as opened:
        expected = log_of(opened)
    with transport.lockstep(url=url) as opened:
        got = log_of(opened)
    assert len(expected) > 100
    assert got == expected


def test_realtime_says_the_same_in_the_same_order_of_each_client(url):
    with transport.local() as opened:
        expected = log_of(opened)
    with transport.realtime(url=url, speed=30) as opened:
        got = log_of(opened)
        assert opened.clock.lateness_s

    assert_same_but_late_answers(by_topic(got, "qos"), by_topic(expected, "qos"))
    times = [m.time_ns for m in got]
    assert times == sorted(times)


def test_realtime_on_its_own_broker_knows_who_said_it_and_how():
    with transport.local() as opened:
        expected = log_of(opened)
    with transport.realtime(speed=30) as opened:
        got = log_of(opened)
    facts = ("client", "qos", "retain", "kind")
    assert_same_but_late_answers(by_topic(got, *facts), by_topic(expected, *facts))


def test_without_a_url_a_broker_is_started_and_stopped():
    with transport.realtime(speed=1000) as opened:
        assert opened.url.startswith("mqtt://127.0.0.1:")
        opened.clock.run(until=1)
        gone = opened.url
    with (
        pytest.raises(ConnectionFailed, match=r"refuses|reached|127"),
        transport.lockstep(url=gone),
    ):
        pass
