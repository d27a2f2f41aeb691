"""MQTT byte by byte, as a program's library sees the broker."""

from collections.abc import Callable
from typing import Any

import pytest

from playground.bus import LocalBus
from playground.clock import VirtualClock
from playground.host.session import Session
from playground.message import Message
from playground.packets import (
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketReader,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
    encode,
)


class Rig:
    """A bus with a plant on it, and clients that speak bytes."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.bus = LocalBus(self.clock)
        self.log: list[Message] = []
        self.bus.observe(self.log.append)
        self.plant = self.bus.connect("plant")

    def client(self, *, version: int = MQTT_3_1_1, **fields: Any) -> "Client":
        client = Client(self, version)
        client.say(Connect(version=version, **fields))
        return client

    def said(self) -> list[tuple[str, bytes]]:
        return [
            (m.topic, m.payload)
            for m in self.log
            if m.kind in ("publish", "will") and m.client != "plant"
        ]


class Client:
    """One end of a connection."""

    def __init__(self, rig: Rig, version: int) -> None:
        self.rig = rig
        self.version = version
        self.reader = PacketReader(version)
        self.hung_up = False
        self.found: list[tuple[str, str]] = []
        self.session = Session(
            rig.bus,
            rig.clock,
            send=self.reader.feed,
            hang_up=self._hang_up,
            found=lambda kind, text: self.found.append((kind, text)),
        )

    def _hang_up(self) -> None:
        self.hung_up = True

    def say(self, *packets: Packet) -> None:
        data = b"".join(encode(each, self.version) for each in packets)
        self.session.feed(data)

    def heard(self) -> list[Packet]:
        return list(self.reader)

    def subscribe(self, topic_filter: str, **options: Any) -> None:
        subscription = Subscription(topic_filter=topic_filter, **options)
        self.say(Subscribe(packet_id=1, subscriptions=(subscription,)))
        self.heard()


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize("version", [MQTT_3_1, MQTT_3_1_1, MQTT_5])
def test_a_client_connects_publishes_and_is_told_in_every_version(
    rig: Rig, version: int
) -> None:
    client = rig.client(version=version, client_id="c")
    [connack] = client.heard()
    assert isinstance(connack, Connack)
    assert (connack.reason_code, connack.session_present) == (0, False)
    client.subscribe("a/+", qos=2)
    client.say(Publish("a/b", b"1", 0))
    [echo] = client.heard()
    assert isinstance(echo, Publish)
    assert (echo.topic, echo.payload, echo.qos) == ("a/b", b"1", 0)
    client.say(Pingreq(), Disconnect())
    assert client.heard() == [Pingresp()]
    assert client.hung_up
    assert rig.log[-1].kind == "disconnect"


def test_packets_may_come_in_any_pieces(rig: Rig) -> None:
    client = Client(rig, MQTT_3_1_1)
    data = encode(Connect(version=4, client_id="c"), 4) + encode(
        Publish("topic", b"payload" * 50, 1, packet_id=9), 4
    )
    for byte in data:
        client.session.feed(bytes((byte,)))
    assert [type(each) for each in client.heard()] == [Connack, Puback]
    assert rig.said() == [("topic", b"payload" * 50)]


def test_suback_comes_before_the_retained_messages(rig: Rig) -> None:
    rig.plant.publish("state/a", b"1", qos=2, retain=True)
    client = rig.client(client_id="c")
    client.heard()
    client.say(
        Subscribe(
            packet_id=7,
            subscriptions=(
                Subscription(topic_filter="state/#", qos=1),
                Subscription(topic_filter="other", qos=2),
            ),
        )
    )
    suback, retained = client.heard()
    assert suback == Suback(packet_id=7, reason_codes=(1, 2))
    assert isinstance(retained, Publish)
    assert (retained.topic, retained.qos, retained.retain) == ("state/a", 1, True)


def test_a_filter_that_is_no_filter_is_refused_and_the_others_hold(rig: Rig) -> None:
    client = rig.client(version=MQTT_5, client_id="c")
    client.heard()
    client.say(
        Subscribe(
            packet_id=1,
            subscriptions=(
                Subscription(topic_filter="$share/group/a"),
                Subscription(topic_filter="a", qos=1),
            ),
        )
    )
    [suback] = client.heard()
    assert isinstance(suback, Suback)
    assert suback.reason_codes == (0x9E, 1)
    assert client.found[0][0] == "note"


def test_unsubscribe_is_answered_and_holds(rig: Rig) -> None:
    client = rig.client(version=MQTT_5, client_id="c")
    client.subscribe("a")
    client.say(Unsubscribe(packet_id=3, topic_filters=("a", "never")))
    assert client.heard() == [Unsuback(packet_id=3, reason_codes=(0, 0x11))]
    rig.plant.publish("a", b"1")
    assert client.heard() == []


def test_qos_2_from_the_client_is_delivered_once_however_often_it_is_sent(
    rig: Rig,
) -> None:
    client = rig.client(client_id="c")
    client.heard()
    client.say(Publish("t", b"x", 2, packet_id=5))
    client.say(Publish("t", b"x", 2, dup=True, packet_id=5))
    assert client.heard() == [Pubrec(packet_id=5)] * 2
    client.say(Pubrel(packet_id=5), Pubrel(packet_id=5))
    assert client.heard() == [Pubcomp(packet_id=5)] * 2
    client.say(Publish("t", b"y", 2, packet_id=5))
    assert rig.said() == [("t", b"x"), ("t", b"y")]


def test_qos_2_to_the_client_takes_four_packets(rig: Rig) -> None:
    client = rig.client(client_id="c")
    client.subscribe("t", qos=2)
    rig.plant.publish("t", b"x", qos=2)
    [publish] = client.heard()
    assert isinstance(publish, Publish)
    assert publish.packet_id == 1
    client.say(Pubrec(packet_id=1))
    assert client.heard() == [Pubrel(packet_id=1)]
    client.say(Pubcomp(packet_id=1))
    assert client.heard() == []


def test_no_more_is_in_flight_than_the_client_wants(rig: Rig) -> None:
    client = rig.client(
        version=MQTT_5, client_id="c", properties={"receive_maximum": 2}
    )
    client.subscribe("t", qos=1)
    for number in range(4):
        rig.plant.publish("t", b"%d" % number, qos=1)
    rig.plant.publish("t", b"at once", qos=0)
    first = client.heard()
    assert [each.payload for each in first] == [b"0", b"1", b"at once"]
    client.say(Puback(packet_id=first[0].packet_id))
    assert [each.payload for each in client.heard()] == [b"2"]


def test_a_packet_that_is_too_large_for_the_client_is_not_sent(rig: Rig) -> None:
    client = rig.client(
        version=MQTT_5, client_id="c", properties={"maximum_packet_size": 50}
    )
    client.subscribe("t", qos=1)
    rig.plant.publish("t", b"x" * 100, qos=1)
    rig.plant.publish("t", b"small", qos=1)
    assert [each.payload for each in client.heard()] == [b"small"]


def test_a_persistent_session_keeps_what_was_not_acknowledged(rig: Rig) -> None:
    first = rig.client(client_id="c", clean_start=False)
    first.subscribe("t", qos=2)
    for payload in (b"lost ack", b"lost comp"):
        rig.plant.publish("t", payload, qos=2)
    _, second = first.heard()
    first.say(Pubrec(packet_id=second.packet_id))
    first.session.lost()
    rig.plant.publish("t", b"meanwhile", qos=1)
    rig.plant.publish("t", b"not kept", qos=0)
    again = rig.client(client_id="c", clean_start=False)
    connack, repeated, release, kept = again.heard()
    assert connack == Connack(session_present=True)
    assert (repeated.payload, repeated.dup, repeated.packet_id) == (
        b"lost ack",
        True,
        1,
    )
    assert release == Pubrel(packet_id=second.packet_id)
    assert (kept.payload, kept.dup, kept.packet_id) == (b"meanwhile", False, 3)


def test_a_clean_start_forgets(rig: Rig) -> None:
    first = rig.client(client_id="c", clean_start=False)
    first.subscribe("t", qos=1)
    first.session.lost()
    again = rig.client(client_id="c", clean_start=True)
    rig.plant.publish("t", b"x", qos=1)
    assert again.heard() == [Connack(session_present=False)]


@pytest.mark.parametrize(("away_s", "kept"), [(59.0, True), (60.0, False)])
def test_an_mqtt_5_session_expires(rig: Rig, away_s: float, kept: bool) -> None:
    properties = {"session_expiry_interval": 60}
    first = rig.client(
        version=MQTT_5, client_id="c", keep_alive=0, properties=properties
    )
    first.subscribe("t", qos=1)
    rig.clock.run(until=100)
    first.session.lost()
    rig.plant.publish("t", b"x", qos=1)
    rig.clock.run(until=100 + away_s)
    again = rig.client(
        version=MQTT_5, client_id="c", clean_start=False, properties=properties
    )
    connack, *rest = again.heard()
    assert connack.session_present is kept
    assert [each.payload for each in rest] == ([b"x"] if kept else [])


def test_a_will_is_published_on_loss_and_not_on_goodbye(rig: Rig) -> None:
    will = Will(topic="gone", payload=b"1", qos=1, retain=True)
    rig.client(client_id="lost", will=will).session.lost()
    rig.client(client_id="polite", will=will).say(Disconnect())
    assert rig.said() == [("gone", b"1")]
    assert rig.bus.retained["gone"].payload == b"1"


def test_a_will_may_be_asked_for_with_the_goodbye(rig: Rig) -> None:
    client = rig.client(
        version=MQTT_5, client_id="c", will=Will(topic="gone", payload=b"1")
    )
    client.say(Disconnect(reason_code=0x04))
    assert rig.said() == [("gone", b"1")]


@pytest.mark.parametrize(("away_s", "said"), [(4.0, []), (6.0, [("gone", b"1")])])
def test_a_will_waits_for_its_delay_and_for_the_client(
    rig: Rig, away_s: float, said: list[Any]
) -> None:
    will = Will(topic="gone", payload=b"1", properties={"will_delay_interval": 5})
    session = {"session_expiry_interval": 60}
    rig.client(
        version=MQTT_5, client_id="c", will=will, properties=session
    ).session.lost()
    rig.clock.run(until=away_s)
    rig.client(version=MQTT_5, client_id="c", clean_start=False)
    rig.clock.run(until=20)
    assert rig.said() == said


def test_a_second_client_of_the_same_id_takes_over(rig: Rig) -> None:
    will = Will(topic="gone", payload=b"1")
    first = rig.client(version=MQTT_5, client_id="c", will=will)
    first.heard()
    second = rig.client(version=MQTT_5, client_id="c")
    assert first.heard() == [Disconnect(reason_code=0x8E)]
    assert first.hung_up
    assert not second.hung_up
    assert rig.said() == [("gone", b"1")]
    first.say(Publish("t", b"too late"))
    assert rig.said() == [("gone", b"1")]


def test_keep_alive_is_one_and_a_half_of_what_was_promised(rig: Rig) -> None:
    will = Will(topic="gone", payload=b"1")
    client = rig.client(version=MQTT_5, client_id="c", keep_alive=10, will=will)
    client.heard()
    ping = rig.clock.at(8.0)
    assert ping.callbacks is not None
    ping.callbacks.append(lambda _: client.say(Pingreq()))
    rig.clock.run(until=22.9)
    assert not client.hung_up
    rig.clock.run(until=23.1)
    assert client.heard() == [Pingresp(), Disconnect(reason_code=0x8D)]
    assert rig.log[-1].time_ns == rig.clock.start_ns + 23 * 10**9
    assert rig.said() == [("gone", b"1")]


def test_a_client_without_a_name_is_given_one(rig: Rig) -> None:
    old = rig.client(client_id="")
    new = rig.client(version=MQTT_5, client_id="")
    assert old.heard() == [Connack()]
    [connack] = new.heard()
    assert isinstance(connack, Connack)
    assert connack.properties["assigned_client_identifier"] == "assigned-2"


def test_a_persistent_session_without_a_name_is_refused_before_mqtt_5(
    rig: Rig,
) -> None:
    client = rig.client(client_id="", clean_start=False)
    assert client.heard() == [Connack(reason_code=2)]
    assert client.hung_up


def test_properties_pass_and_aliases_do_not(rig: Rig) -> None:
    sender = rig.client(version=MQTT_5, client_id="sender")
    hearer = rig.client(version=MQTT_5, client_id="hearer")
    old = rig.client(client_id="old")
    for client in (hearer, old):
        client.subscribe("t")
    properties = {"content_type": "text/plain", "topic_alias": 3}
    sender.say(
        Publish("t", b"1", properties=properties),
        Publish("", b"2", properties={"topic_alias": 3}),
    )
    first, second = hearer.heard()
    assert (first.topic, first.properties) == ("t", {"content_type": "text/plain"})
    assert (second.topic, second.payload, second.properties) == ("t", b"2", {})
    assert [each.payload for each in old.heard()] == [b"1", b"2"]


def test_subscription_options_of_mqtt_5(rig: Rig) -> None:
    rig.plant.publish("kept", b"old", retain=True)
    client = rig.client(version=MQTT_5, client_id="c")
    client.heard()
    options = {
        "not local": Subscription(topic_filter="mine", no_local=True),
        "no retained": Subscription(topic_filter="kept", retain_handling=2),
    }
    client.say(
        Subscribe(
            packet_id=1,
            subscriptions=tuple(options.values()),
            properties={"subscription_identifier": 77},
        )
    )
    assert [type(each) for each in client.heard()] == [Suback]
    client.say(Publish("mine", b"from me"))
    rig.plant.publish("mine", b"from the plant")
    [publish] = client.heard()
    assert publish.payload == b"from the plant"
    assert publish.properties == {"subscription_identifier": [77]}


def test_retained_messages_only_to_a_new_subscription(rig: Rig) -> None:
    rig.plant.publish("kept", b"old", retain=True)
    client = rig.client(version=MQTT_5, client_id="c")
    client.heard()
    subscribe = Subscribe(
        packet_id=1,
        subscriptions=(Subscription(topic_filter="kept", retain_handling=1),),
    )
    client.say(subscribe)
    assert [type(each) for each in client.heard()] == [Suback, Publish]
    client.say(subscribe)
    assert [type(each) for each in client.heard()] == [Suback]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1"),
        (b"\x16\x03\x01\x02\x00", "TLS handshake"),
        (encode(Pingreq(), 4), "and not CONNECT"),
    ],
)
def test_what_is_no_mqtt_is_found_and_cut_off(rig: Rig, data: bytes, text: str) -> None:
    client = Client(rig, MQTT_3_1_1)
    client.session.feed(data)
    [(kind, found)] = client.found
    assert kind == "protocol"
    assert text in found
    assert client.hung_up


def test_a_broken_packet_ends_the_connection_and_the_will_goes_out(rig: Rig) -> None:
    client = rig.client(
        version=MQTT_5, client_id="c", will=Will(topic="gone", payload=b"1")
    )
    client.heard()
    client.session.feed(b"\x36\x03\x00\x01x")  # PUBLISH with QoS 3
    [answer] = client.heard()
    assert isinstance(answer, Disconnect)
    assert answer.reason_code >= 0x80
    assert client.hung_up
    assert rig.said() == [("gone", b"1")]


@pytest.mark.parametrize(
    "packet", [Connack(), Connect(version=MQTT_5, client_id="c"), Auth(reason_code=24)]
)
def test_packets_that_have_no_place_end_the_connection(
    rig: Rig, packet: Packet
) -> None:
    client = rig.client(version=MQTT_5, client_id="c")
    client.heard()
    client.say(packet)
    assert client.hung_up


def test_many_messages_reuse_packet_identifiers(rig: Rig) -> None:
    client = rig.client(client_id="c")
    client.subscribe("t", qos=1)
    acknowledge: Callable[[int], None] = lambda n: client.say(Puback(packet_id=n))  # noqa: E731
    rig.plant.publish("t", b"kept", qos=1)
    [kept] = client.heard()
    for _ in range(65_535):
        rig.plant.publish("t", b"x", qos=1)
        [publish] = client.heard()
        assert publish.packet_id != kept.packet_id
        acknowledge(publish.packet_id)


def test_an_expired_session_takes_no_more_messages(rig: Rig) -> None:
    client = rig.client(
        version=MQTT_5, client_id="c", properties={"session_expiry_interval": 60}
    )
    client.subscribe("t", qos=1)
    client.session.lost()
    assert rig.bus.listeners("t") == 1
    rig.clock.run(until=61)
    assert rig.bus.listeners("t") == 0


def test_retain_as_published_is_an_option_of_each_subscription(rig: Rig) -> None:
    client = rig.client(version=MQTT_5, client_id="c")
    client.heard()
    client.say(
        Subscribe(
            packet_id=1,
            subscriptions=(
                Subscription(topic_filter="a", retain_as_published=True),
                Subscription(topic_filter="b"),
            ),
        )
    )
    client.heard()
    for topic in ("a", "b"):
        rig.plant.publish(topic, b"x", retain=True)
    assert [each.retain for each in client.heard()] == [True, False]
