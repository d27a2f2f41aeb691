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


@pytest.fixture
def heard(broker):
    """What arrives, in order, at the QoS of its publication."""
    messages: list[Message] = []
    listener = MqttBus(broker.url).receive("listener", messages.extend)
    listener.subscribe("#", qos=2)
    yield messages
    listener.disconnect()


@pytest.mark.broker
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_arrive_once_in_order_at_every_qos(broker, heard, eventually, qos):
    sender = MqttBus(broker.url).send("sender")
    for number in range(3000):
        sender.publish("a/b", b"%d" % number, qos=qos)
    sender.flush()
    eventually(lambda: len(heard) >= 3000)
    sender.disconnect()
    assert [m.payload for m in heard] == [b"%d" % number for number in range(3000)]
    assert {m.qos for m in heard} == {qos}


@pytest.mark.broker
def test_nothing_leaves_before_it_is_pushed(broker, heard, eventually):
    sender = MqttBus(broker.url).send("sender")
    sender.publish("a", b"1")
    other = MqttBus(broker.url).connect("other")
    other.publish("b", b"2")
    eventually(lambda: heard)
    other.disconnect()
    assert [m.topic for m in heard] == ["b"]
    sender.push()
    eventually(lambda: len(heard) == 2)
    sender.disconnect()


@pytest.mark.broker
def test_payloads_of_any_size_and_content_arrive(broker, heard, eventually):
    payloads = [b"", b"\0", b"\xff" * 127, b"x" * 128, bytes(range(256)) * 4096]
    sender = MqttBus(broker.url).send("sender")
    for payload in payloads:
        sender.publish("ä/€", payload, retain=True)
    sender.flush()
    eventually(lambda: len(heard) == len(payloads))
    sender.disconnect()
    assert [m.payload for m in heard] == payloads


def test_properties_go_along_where_the_broker_knows_them(mosquitto, eventually):
    messages: list[Message] = []
    listener = MqttBus(mosquitto.url).receive("listener", messages.extend)
    listener.subscribe("#")
    sender = MqttBus(mosquitto.url).send("sender")
    properties = '{"content_type":"text/plain","user_property":[["a","b"]]}'
    sender.publish("a", b"1", properties=properties)
    sender.flush()
    eventually(lambda: messages)
    sender.disconnect()
    listener.disconnect()
    assert messages[0].properties == properties


@pytest.mark.broker
def test_it_hears_what_it_subscribes_to(broker, eventually):
    messages: list[Message] = []
    sender = MqttBus(broker.url).send("sender", messages.append)
    sender.subscribe("commands/+", qos=1)
    other = MqttBus(broker.url).connect("other")
    other.publish("commands/stop", b"now", qos=1)
    eventually(lambda: messages)
    assert (messages[0].topic, messages[0].payload) == ("commands/stop", b"now")
    other.disconnect()
    sender.disconnect()


@pytest.mark.broker
def test_a_topic_that_is_none_is_refused(broker):
    sender = MqttBus(broker.url).send("sender")
    with pytest.raises(PlaygroundError, match="wildcard"):
        sender.publish("a/#", b"")
    sender.disconnect()


@pytest.mark.parametrize("qos", [0, 1])
def test_a_broker_that_goes_away_is_an_error_at_once(qos):
    with EmbeddedBroker() as broker:
        sender = MqttBus(broker.url).send("sender")
        sender.publish("a", b"1", qos=qos)
        sender.flush()
        broker.stop()

        def go_on():
            for _ in range(100_000):
                sender.publish("a", b"x" * 1000, qos=qos)

        with pytest.raises(ConnectionFailed, match="was lost"):
            go_on()
    sender.disconnect()


def test_a_missing_broker_is_an_error():
    with pytest.raises(ConnectionFailed, match="Nobody listens"):
        MqttBus("mqtt://127.0.0.1:1").send("sender")
