"""The client without a thread: what it shares with `Sender`, and listening."""

import time

import pytest

from playground.broker import EmbeddedBroker, find_mosquitto
from playground.errors import ConnectionFailed, PlaygroundError
from playground.message import Message
from playground.mqtt import MqttBus


@pytest.fixture(params=["amqtt", "mosquitto"])
def broker(request):
    if request.param == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    with EmbeddedBroker(backend=request.param) as running:
        yield running


def hear(dialogue, messages, count, within_s=20.0):
    give_up = time.monotonic() + within_s
    while len(messages) < count:
        left_s = give_up - time.monotonic()
        assert left_s > 0, f"{len(messages)} of {count} messages came"
        dialogue.receive(left_s)


@pytest.mark.broker
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_it_hears_itself_once_in_order_at_every_qos(broker, qos):
    messages: list[Message] = []
    dialogue = MqttBus(broker.url).converse("talker", messages.append)
    dialogue.subscribe("a/+", qos=2)
    for number in range(3000):
        dialogue.publish("a/b", b"%d" % number, qos=qos)
    dialogue.flush()
    hear(dialogue, messages, 3000)
    dialogue.disconnect()
    assert [m.payload for m in messages] == [b"%d" % number for number in range(3000)]
    assert {m.qos for m in messages} == {qos}


@pytest.mark.broker
def test_more_than_any_buffer_holds_comes_back_whole(broker):
    messages: list[Message] = []
    dialogue = MqttBus(broker.url).converse("talker", messages.append)
    dialogue.subscribe("big")
    payloads = [bytes([number]) * 500_000 for number in range(40)]
    for payload in payloads:
        dialogue.publish("big", payload)
    hear(dialogue, messages, len(payloads))
    dialogue.disconnect()
    assert [m.payload for m in messages] == payloads


@pytest.mark.broker
def test_without_a_message_it_says_so_when_the_time_is_over(broker):
    dialogue = MqttBus(broker.url).converse("talker")
    assert dialogue.receive(0.01) is False
    assert dialogue.receive(0.0) is False
    dialogue.disconnect()
    dialogue.disconnect()


@pytest.mark.broker
def test_what_was_gathered_leaves_at_the_goodbye(broker, eventually):
    messages: list[Message] = []
    ear = MqttBus(broker.url).connect("ear", messages.append)
    ear.subscribe("#")
    dialogue = MqttBus(broker.url).converse("talker")
    dialogue.publish("last/word", b"bye")
    dialogue.push()
    dialogue.disconnect()
    eventually(lambda: messages)
    ear.disconnect()
    assert messages[0].payload == b"bye"


@pytest.mark.parametrize("doing", ["listening", "speaking", "subscribing"])
def test_a_broker_that_goes_away_is_an_error_at_once(doing):
    with EmbeddedBroker() as broker:
        dialogue = MqttBus(broker.url).converse("talker")
        broker.stop()

        def go_on():
            for _ in range(1000):
                if doing == "speaking":
                    dialogue.publish("a", b"x")
                elif doing == "subscribing":
                    dialogue.subscribe("a")
                dialogue.receive(30.0)

        with pytest.raises(ConnectionFailed, match="was lost"):
            go_on()
    dialogue.disconnect()


def test_a_missing_broker_is_an_error():
    with pytest.raises(ConnectionFailed, match="Nobody listens"):
        MqttBus("mqtt://127.0.0.1:1").converse("talker")


def test_a_wrong_topic_and_a_wrong_filter_are_refused():
    with EmbeddedBroker() as broker:
        dialogue = MqttBus(broker.url).converse("talker")
        with pytest.raises(PlaygroundError, match="wildcard"):
            dialogue.publish("a/#", b"")
        with pytest.raises(PlaygroundError, match="last level"):
            dialogue.subscribe("#/a")
        dialogue.disconnect()
