"""The packet codec: bytes in, packets out, and what it says about wrong bytes."""

from __future__ import annotations

import json
import pickle
import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from playground.errors import PlaygroundError
from playground.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    MalformedPacket,
    Packet,
    PacketReader,
    PacketType,
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
    TopicAliases,
    Unsuback,
    Unsubscribe,
    Will,
    encode,
    properties_from_json,
    properties_from_paho,
    properties_into_paho,
    properties_to_json,
)
from playground.packets.packet import REASON_CODES, VERSIONS
from playground.packets.properties import PROPERTIES, Kind

DEADLINE_S = 10


def read(data: bytes, version: int | None = None, **options: Any) -> list[Packet]:
    reader = PacketReader(version, **options)
    reader.feed(data)
    return list(reader)


def read_byte_by_byte(data: bytes, version: int | None = None) -> list[Packet]:
    reader = PacketReader(version)
    found: list[Packet] = []
    for number in range(len(data)):
        reader.feed(data[number : number + 1])
        found += reader
    return found


# ------------------------------------------------------------ strategies

texts = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20
)
topics = st.text(
    st.characters(exclude_characters="\0+#", exclude_categories=["Cs"]),
    min_size=1,
    max_size=30,
)
filters = st.one_of(
    topics,
    topics.map(lambda t: f"{t}/#"),
    topics.map(lambda t: f"+/{t}/+"),
    st.just("#"),
)
blobs = st.binary(max_size=40)
packet_ids = st.integers(1, 0xFFFF)


def values(name: str, packet: PacketType) -> st.SearchStrategy[Any]:
    known = PROPERTIES[name]
    if name == "response_topic":
        return topics
    if known.kind is Kind.TEXT:
        return texts
    if known.kind is Kind.BINARY:
        return blobs
    if known.kind is Kind.PAIR:
        return st.lists(st.tuples(texts, texts), min_size=1, max_size=3)
    number = st.integers(known.least, known.most)
    if known.kind is Kind.VARIABLE and packet is PacketType.PUBLISH:
        return st.lists(number, min_size=1, max_size=3)
    return number


def properties(packet: PacketType, version: int) -> st.SearchStrategy[dict[str, Any]]:
    if version != 5:
        return st.just({})
    allowed = [p.name for p in PROPERTIES.values() if packet in p.packets]
    return st.fixed_dictionaries(
        {}, optional={name: values(name, packet) for name in allowed}
    )


def reasons(packet: PacketType, version: int) -> st.SearchStrategy[int]:
    if version == 5:
        return st.sampled_from(sorted(REASON_CODES[packet]))
    return st.integers(0, 5) if packet is PacketType.CONNACK else st.just(0)


@st.composite
def publishes(draw: st.DrawFn, version: int) -> Publish:
    qos = draw(st.integers(0, 2))
    given_properties = draw(properties(PacketType.PUBLISH, version))
    topic = draw(topics)
    if "topic_alias" in given_properties and draw(st.booleans()):
        topic = ""
    return Publish(
        topic,
        draw(st.binary(max_size=300)),
        qos,
        draw(st.booleans()),
        draw(st.booleans()) if qos else False,
        draw(packet_ids) if qos else None,
        given_properties,
    )


@st.composite
def connects(draw: st.DrawFn, version: int) -> Connect:
    will = st.builds(
        Will,
        topic=topics,
        payload=blobs,
        qos=st.integers(0, 2),
        retain=st.booleans(),
        properties=properties(PacketType.WILL, version),
    )
    username = draw(st.none() | texts)
    passwords = st.none() | blobs
    return Connect(
        client_id=draw(texts),
        version=version,
        clean_start=draw(st.booleans()),
        keep_alive=draw(st.integers(0, 0xFFFF)),
        will=draw(st.none() | will),
        username=username,
        password=None if username is None and version < 5 else draw(passwords),
        bridge=draw(st.booleans()),
        properties=draw(properties(PacketType.CONNECT, version)),
    )


@st.composite
def connacks(draw: st.DrawFn, version: int) -> Connack:
    code = draw(reasons(PacketType.CONNACK, version))
    return Connack(
        reason_code=code,
        session_present=draw(st.booleans()) if version > 3 and not code else False,
        properties=draw(properties(PacketType.CONNACK, version)),
    )


def subscriptions(version: int) -> st.SearchStrategy[Subscription]:
    if version < 5:
        return st.builds(Subscription, topic_filter=filters, qos=st.integers(0, 2))
    return st.builds(
        Subscription,
        topic_filter=filters,
        qos=st.integers(0, 2),
        no_local=st.booleans(),
        retain_as_published=st.booleans(),
        retain_handling=st.integers(0, 2),
    ).filter(lambda s: not (s.no_local and s.topic_filter.startswith("$share/")))


def packets(version: int) -> st.SearchStrategy[Packet]:
    def common(kind: Any) -> dict[str, Any]:
        return {"properties": properties(kind.TYPE, version)}

    def acknowledgement(kind: Any) -> st.SearchStrategy[Packet]:
        return st.builds(
            kind,
            packet_id=packet_ids,
            reason_code=reasons(kind.TYPE, version),
            **common(kind),
        )

    def codes(kind: Any) -> st.SearchStrategy[tuple[int, ...]]:
        known = [0, 1, 2, 0x80] if version < 5 else sorted(REASON_CODES[kind.TYPE])
        return st.lists(st.sampled_from(known), min_size=1, max_size=5).map(tuple)

    every = [
        publishes(version),
        connects(version),
        connacks(version),
        *(acknowledgement(kind) for kind in (Puback, Pubrec, Pubrel, Pubcomp)),
        st.builds(
            Subscribe,
            packet_id=packet_ids,
            subscriptions=st.lists(subscriptions(version), min_size=1, max_size=4).map(
                tuple
            ),
            **common(Subscribe),
        ),
        st.builds(
            Suback, packet_id=packet_ids, reason_codes=codes(Suback), **common(Suback)
        ),
        st.builds(
            Unsubscribe,
            packet_id=packet_ids,
            topic_filters=st.lists(filters, min_size=1, max_size=4).map(tuple),
            **common(Unsubscribe),
        ),
        st.builds(
            Unsuback,
            packet_id=packet_ids,
            reason_codes=codes(Unsuback) if version == 5 else st.just(()),
            **common(Unsuback),
        ),
        st.builds(Pingreq),
        st.builds(Pingresp),
        st.builds(
            Disconnect,
            reason_code=reasons(PacketType.DISCONNECT, version),
            **common(Disconnect),
        ),
    ]
    if version == 5:
        every.append(
            st.builds(
                Auth, reason_code=reasons(PacketType.AUTH, version), **common(Auth)
            )
        )
    return st.one_of(every)


versions = pytest.mark.parametrize("version", VERSIONS)


# ------------------------------------------------------------ round trips


@versions
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_every_packet_comes_back_as_it_was_encoded(
    version: int, data: st.DataObject
) -> None:
    packet = data.draw(packets(version))
    assert read(encode(packet, version), version) == [packet]


@versions
def test_the_strategies_above_make_every_packet_type(version: int) -> None:
    # Guards the round-trip test against a type that was forgotten.
    seen: set[PacketType] = set()

    @given(packet=packets(version))
    @settings(max_examples=300, deadline=None, database=None, derandomize=True)
    def collect(packet: Packet) -> None:
        seen.add(packet.TYPE)

    collect()
    missing = set(PacketType) - seen
    assert missing == {PacketType.WILL} | ({PacketType.AUTH} if version < 5 else set())


@versions
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_stream_may_be_cut_at_every_byte(version: int, data: st.DataObject) -> None:
    not_connect = packets(version).filter(lambda p: not isinstance(p, Connect))
    sent = [data.draw(connects(version))]
    sent += data.draw(st.lists(not_connect, min_size=1, max_size=4))
    stream = b"".join(encode(packet, version) for packet in sent)
    for cut in range(len(stream) + 1):
        reader = PacketReader()
        reader.feed(stream[:cut])
        found = list(reader)
        reader.feed(stream[cut:])
        found += reader
        assert found == sent
        assert reader.pending == 0
    assert read_byte_by_byte(stream) == sent


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_pieces_of_any_size_give_the_same_packets_however_often_one_looks(
    data: st.DataObject,
) -> None:
    sent = [Connect(), *data.draw(st.lists(publishes(5), max_size=8))]
    stream = b"".join(encode(packet, 5) for packet in sent)
    reader, found, at = PacketReader(), [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, 400))
        piece = stream[at : at + size]
        kind = data.draw(st.sampled_from([bytes, bytearray, memoryview]))
        reader.feed(kind(piece))
        at += size
        if data.draw(st.booleans()):
            found += reader
    found += reader
    assert found == sent
    assert all(type(p.payload) is bytes for p in found if isinstance(p, Publish))


@pytest.mark.parametrize("size", [0, 1, 113, 114, 16_369, 16_370, 2_097_137, 2_097_138])
@versions
def test_payloads_around_each_length_of_the_length_field(
    version: int, size: int
) -> None:
    packet = Publish("a/topic/123", bytes(size), 1, False, False, 7)
    data = encode(packet, version)
    assert read(data, version) == [packet]
    for cut in (1, 2, 3, 4, 5, len(data) - 1):
        reader = PacketReader(version)
        reader.feed(data[:cut])
        assert list(reader) == []
        reader.feed(data[cut:] + encode(packet, version))
        assert list(reader) == [packet, packet]


def test_one_large_packet_in_many_pieces_is_put_together() -> None:
    packet = Publish("big", bytes(range(256)) * 40_000)
    data = encode(packet, 4)
    reader = PacketReader(4)
    for at in range(0, len(data), 1000):
        assert list(reader) == []
        reader.feed(data[at : at + 1000])
    assert list(reader) == [packet]
    assert list(reader) == []
    assert reader.pending == 0
    # The reader does not keep what it has given out.
    assert reader._data == b""
    assert not reader._later


def test_a_large_packet_in_small_pieces_is_joined_only_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = encode(Publish("big", bytes(200_000)), 4)
    reader = PacketReader(4)
    joined: list[int] = []

    class Watched(PacketReader):
        def __setattr__(self, name: str, value: object) -> None:
            if name == "_data" and isinstance(value, bytes):
                joined.append(len(value))
            super().__setattr__(name, value)

    reader = Watched(4)
    for at in range(0, len(data), 10):
        reader.feed(data[at : at + 10])
        list(reader)
    # Bytes that were put together in all: each at most twice, not n² / 2.
    assert sum(joined) < 2 * len(data)


def test_a_reader_of_the_server_side_can_be_told_the_version_later() -> None:
    client, server = PacketReader(), PacketReader()
    client.feed(encode(Connect(version=5, client_id="c"), 5))
    (connect,) = client
    assert client.version == 5
    server.version = connect.version
    connack = Connack(properties={"topic_alias_maximum": 10})
    server.feed(encode(connack, 5))
    assert list(server) == [connack]


def test_a_second_loop_takes_over_where_the_first_was_left() -> None:
    sent = [Publish(f"t/{number}", b"x") for number in range(5)]
    reader = PacketReader(4)
    reader.feed(b"".join(encode(packet, 4) for packet in sent))
    first = next(iter(reader))
    assert [first, *reader] == sent


def test_many_and_long_topics_are_read_right_and_not_all_kept() -> None:
    sent = [Publish(f"plant/{number}", b"x") for number in range(10_000)]
    sent += [Publish("long/" * 200 + str(number), b"x") for number in range(10)]
    reader = PacketReader(4)
    reader.feed(b"".join(encode(packet, 4) for packet in sent * 2))
    assert list(reader) == sent * 2
    assert len(reader._topics) <= 4096
    assert max(map(len, reader._topics)) < 100


def test_a_packet_too_large_for_mqtt_is_refused() -> None:
    payload = memoryview(bytes(268_435_456))
    with pytest.raises(PlaygroundError, match="MQTT allows 268435455"):
        encode(Publish("a", payload), 4)  # type: ignore[arg-type]


def test_packets_survive_pickle_and_compare_by_value() -> None:
    for packet in (
        Publish("a", b"1", properties={"content_type": "x"}),
        Publish("a"),
        Connect(will=Will(topic="w")),
        Puback(packet_id=1),
    ):
        assert pickle.loads(pickle.dumps(packet)) == packet
    assert Publish("a").properties is not Publish("a").properties


def test_a_password_is_not_shown() -> None:
    assert "geheim" not in repr(Connect(username="u", password=b"geheim"))
    with pytest.raises(PlaygroundError) as caught:
        encode(Connect(username="u", password="geheim"), 5)  # type: ignore[arg-type]
    assert "geheim" not in str(caught.value)


# ------------------------------------------------ known bytes, by hand


@pytest.mark.parametrize(
    ("version", "packet", "expected"),
    [
        (3, Connect(version=3, client_id="c"), "100f00064d514973647003 02 003c 000163"),
        (4, Connect(version=4, client_id="c"), "100d00044d51545404 02 003c 000163"),
        (5, Connect(client_id="c"), "100e00044d51545405 02 003c 00 000163"),
        (4, Connect(version=4, client_id="c", bridge=True), "100d00044d51545484 02003c000163"),
        (4, Publish("a/b", b"hi", 1, True, True, 10), "3b 09 0003612f62 000a 6869"),
        (5, Publish("a/b", b"hi"), "30 08 0003612f62 00 6869"),
        (5, Publish("", b"", properties={"topic_alias": 3}), "30 06 0000 03 230003"),
        (5, Puback(packet_id=1), "4002 0001"),
        (5, Puback(packet_id=1, reason_code=0x10), "4003 0001 10"),
        (4, Pubrel(packet_id=2), "6202 0002"),
        (4, Subscribe(packet_id=1, subscriptions=(Subscription(topic_filter="a/#", qos=2),)), "8208 0001 0003612f23 02"),
        (5, Unsuback(packet_id=1, reason_codes=(0, 0x11)), "b005 0001 00 00 11"),
        (4, Unsuback(packet_id=1), "b002 0001"),
        (5, Disconnect(), "e000"),
        (5, Disconnect(reason_code=4), "e001 04"),
        (5, Auth(reason_code=0x18, properties={"authentication_method": "m"}), "f006 18 04 1500016d"),
        (4, Pingreq(), "c000"),
        (4, Pingresp(), "d000"),
        (5, Connack(properties={"user_property": [("a", "b"), ("a", "c")]}), "2011 00 00 0e 260001610001 62 26000161000163"),
    ],
)  # fmt: skip
def test_bytes_are_those_of_the_standard(
    version: int, packet: Packet, expected: str
) -> None:
    assert encode(packet, version).hex() == expected.replace(" ", "")
    assert read(bytes.fromhex(expected), version) == [packet]


def test_long_forms_that_the_standard_allows_are_read() -> None:
    assert read(bytes.fromhex("4004 0001 00 00"), 5) == [Puback(packet_id=1)]
    assert read(bytes.fromhex("e002 00 00"), 5) == [Disconnect()]
    assert read(bytes.fromhex("f002 00 00"), 5) == [Auth()]
    # Before MQTT 5 nothing forbids a longer Remaining Length than needed.
    assert read(bytes.fromhex("c08000"), 4) == [Pingreq()]
    assert read(bytes.fromhex("308580 00 000161 6869"), 4) == [Publish("a", b"hi")]


def test_a_server_without_mqtt_5_may_refuse_in_the_words_of_3_1_1() -> None:
    assert read(bytes.fromhex("20020001"), 5) == [Connack(reason_code=1)]


def test_mqtt_3_1_may_flag_a_user_name_it_does_not_send() -> None:
    data = bytes.fromhex("100f00064d514973647003 c2 003c 000163".replace(" ", ""))
    (connect,) = read(data)
    assert connect == Connect(version=3, client_id="c")


def test_mqtt_3_1_repeats_a_subscribe_with_dup() -> None:
    packet = Subscribe(packet_id=1, subscriptions=(Subscription(topic_filter="a"),))
    data = bytearray(encode(packet, 3))
    data[0] |= 0x08
    assert read(bytes(data), 3) == [packet]


# ---------------------------------------------------- wrong packets

CONNECT_311 = "100d 00044d515454 04 02 003c 000163"

WRONG = [
    # what, version, bytes, clause, words of the message, byte at fault
    ("type 0", 4, "0000", "section 2.2.1", "packet type 0 is forbidden", 0),
    ("type 15 in 3.1.1", 4, "f000", "section 2.2.1", "15 is forbidden before MQTT 5", 0),
    ("no CONNECT first", None, "c000", "MQTT-3.1.0-1", "CONNECT must be the first", 0),
    ("HTTP", None, "474554202f", "MQTT-3.1.0-1", "CONNECT must be the first", 0),
    ("second CONNECT", None, CONNECT_311 * 2, "MQTT-3.1.0-2", "a second CONNECT", 15),
    ("flags of PINGREQ", 4, "c100", "MQTT-2.2.2-2", "they must be 0000", 0),
    ("flags of PINGREQ, 5", 5, "c100", "MQTT-2.1.3-1", "they must be 0000", 0),
    ("flags of SUBSCRIBE", 4, "800600010001 6100", "MQTT-3.8.1-1", "must be 0010", 0),
    ("flags of UNSUBSCRIBE", 4, "a00500010001 61", "MQTT-3.10.1-1", "must be 0010", 0),
    ("flags of PUBREL", 4, "60020001", "MQTT-3.6.1-1", "must be 0010", 0),
    ("flags of DISCONNECT", 5, "e800", "MQTT-3.14.1-1", "flags of the fixed", 0),
    ("flags of CONNECT", None, "110d" + CONNECT_311[5:], "MQTT-2.2.2-2", "0001", 2),
    ("length of 5 bytes", 4, "30ffffffff01", "section 2.2.3", "longer than 4 bytes", 1),
    ("length of 5 bytes, 5", 5, "c0ffffffff01", "section 2.1.4", "longer than 4", 1),
    ("length not minimal, 5", 5, "c08000", "MQTT-1.5.5-1", "fewest bytes", 1),
    ("length not minimal, 5", 5, "308600 000161 00 6869", "MQTT-1.5.5-1", "fewest", 1),
    ("CONNECT not minimal", None, "108e00 00044d515454 05 02 003c 00 000163", "MQTT-1.5.5-1", "fewest", 1),
    ("bytes left over", 4, "c00100", "section 2.2.3", "1 bytes are left over", 2),
    ("bytes left over", 4, "4003000100", "section 2.2.3", "1 bytes are left over", 4),
    # PUBLISH
    ("QoS 3", 4, "3607000161 0001 6869", "MQTT-3.3.1-4", "QoS is 3", 0),
    ("QoS 3, long", 4, "368001 000161 0001" + "00" * 123, "MQTT-3.3.1-4", "QoS is 3", 0),
    ("DUP with QoS 0", 4, "3805000161 6869", "MQTT-3.3.1-2", "DUP is 1 with QoS 0", 0),
    ("no topic", 4, "300100", "MQTT-3.3.2-1", "Topic Name is missing", 2),
    ("topic cut off", 4, "300400056161", "section 2.2.3", "5 bytes long, but only 2", 2),
    ("empty topic", 4, "30040000 6869", "MQTT-4.7.3-1", "Topic Name is empty", 4),
    ("empty topic, no alias", 5, "3003000000", "section 3.3.2.1", "no topic alias", 4),
    ("wildcard", 4, "30050003 612f23", "MQTT-3.3.2-2", "'a/#' contains a wildcard", 4),
    ("NUL in topic", 4, "30050003 610062", "MQTT-1.5.3-2", "U+0000", 5),
    ("NUL in topic, 5", 5, "30060003 610062 00", "MQTT-1.5.4-2", "U+0000", 5),
    ("surrogate in topic", 4, "30060004 61eda080", "MQTT-1.5.3-1", "not well-formed UTF-8", 5),
    ("broken UTF-8", 5, "30050002 61ff 00", "MQTT-1.5.4-1", "not well-formed UTF-8", 5),
    ("packet id 0", 4, "3205000161 0000", "MQTT-2.3.1-1", "Packet Identifier is 0", 5),
    ("packet id missing", 4, "3203000161", "section 2.2.3", "needs 2 bytes, but 0", 5),
    ("no property length", 5, "3003000161", "section 2.1.4", "Property Length needs", 5),
    # properties
    ("property length", 5, "3005000161 05 01", "section 2.2.2.1", "only 1 bytes", 6),
    ("unknown property", 5, "3006000161 02 7f00", "section 2.2.2.2", "0x7F does not exist", 6),
    ("property of another", 5, "3009000161 05 1100000001", "section 2.2.2.2", "session_expiry_interval is not a property of PUBLISH", 6),
    ("property twice", 5, "3008000161 04 01000101", "section 2.2.2.2", "appears twice", 8),
    ("property cut off", 5, "3006000161 02 0200", "section 2.1.4", "needs 4 bytes, but 1", 7),
    ("property not minimal", 5, "3007000161 03 8b0001", "MQTT-1.5.5-1", "fewest", 6),
    ("flag is 2", 5, "3006000161 02 0102", "section 3.3.2.3.2", "payload_format_indicator is 2", 6),
    ("topic alias 0", 5, "3007000161 03 230000", "MQTT-3.3.2-8", "topic_alias is 0", 6),
    ("response topic", 5, "3008000161 04 08000123", "MQTT-3.3.2-14", "wildcard", 6),
    ("subscription id 0", 5, "3006000161 02 0b00", "section 3.8.2.1.2", "is 0, it must be", 6),
    ("receive maximum 0", 5, "2006 0000 03 210000", "section 3.1.2.11.3", "receive_maximum is 0", 5),
    ("long varint", 5, "3009000161 05 0bffffffff", "section 1.5.5", "longer than 4", 7),
    # CONNECT and CONNACK
    ("protocol name", None, "100d 00044d515458 04 02 003c 000163", "MQTT-3.1.2-1", "b'MQTX'", 2),
    ("protocol level", None, "100d 00044d515454 06 02 003c 000163", "MQTT-3.1.2-2", "Protocol Level 6", 8),
    ("3.1's name, 3.1.1's level", None, "100f 00064d5149736470 04 02 003c 000163", "MQTT-3.1.2-2", "Protocol Level 4", 10),
    ("reserved flag", None, "100d 00044d515454 04 03 003c 000163", "MQTT-3.1.2-3", "reserved flag", 9),
    ("will QoS 3", None, "1013 00044d515454 04 1e 003c 000163 000177 000178", "MQTT-3.1.2-14", "Will QoS is 3", 9),
    ("will QoS 3, 5", None, "1015 00044d515454 05 1e 003c 00 000163 00 000177 000178", "MQTT-3.1.2-12", "Will QoS is 3", 9),
    ("will QoS, no will", None, "100d 00044d515454 04 0a 003c 000163", "MQTT-3.1.2-13", "without a will", 9),
    ("will retain, no will", None, "100d 00044d515454 04 22 003c 000163", "MQTT-3.1.2-15", "without a will", 9),
    ("password alone", None, "1010 00044d515454 04 42 003c 000163 000170", "MQTT-3.1.2-22", "without User Name", 9),
    ("user name missing", None, "100d 00044d515454 04 82 003c 000163", "section 2.2.3", "User Name needs 2 bytes", 15),
    ("will topic", None, "1013 00044d515454 04 06 003c 000163 00012b 000178", "MQTT-4.7.1-1", "Will Topic '+'", 17),
    ("client id missing", None, "100a 00044d515454 04 02 003c", "section 2.2.3", "Client Identifier needs", 12),
    ("connack flags", 4, "20020200", "section 3.2.2.1", "only the last bit", 2),
    ("session in refusal", 4, "20020105", "MQTT-3.2.2-4", "Session Present is 1", 2),
    ("return code 6", 4, "20020006", "section 3.2.2.3", "return code 6 is reserved", 3),
    ("reason code", 5, "2003000700", "MQTT-3.2.2-8", "no reason code 0x07", 3),
    # the rest
    ("PUBACK reason", 5, "4003000142", "MQTT-3.4.2-1", "PUBACK has no reason code 0x42", 4),
    ("no filter", 4, "82020001", "MQTT-3.8.3-3", "no topic filter", 4),
    ("no filter, 5", 5, "8203000100", "MQTT-3.8.3-2", "no topic filter", 5),
    ("filter wildcard", 4, "82080001 0003612b62 00", "MQTT-4.7.1-3", "fills a whole level", 6),
    ("filter hash", 4, "82080001 0003232f62 00", "MQTT-4.7.1-2", "must be the last level", 6),
    ("filter empty", 4, "82050001 0000 00", "MQTT-4.7.3-1", "Topic filter is empty", 6),
    ("asks for QoS 3", 4, "82060001 000161 03", "MQTT-3-8.3-4", "QoS 3", 7),
    ("options in 3.1.1", 4, "82060001 000161 04", "MQTT-3-8.3-4", "reserved bits", 7),
    ("options in 5", 5, "82070001 00 000161 40", "MQTT-3.8.3-5", "reserved bits", 8),
    ("retain handling 3", 5, "82070001 00 000161 30", "section 3.8.3.1", "Retain Handling is 3", 8),
    ("no local, shared", 5, "82100001 00 000a 2473686172652f672f61 04", "MQTT-3.8.3-4", "No Local", 17),
    ("SUBACK code", 4, "9003000103", "MQTT-3.9.3-2", "no reason code 0x03", 4),
    ("SUBACK empty", 4, "90020001", "MQTT-3.9.3-2", "SUBACK has no reason code", 4),
    ("UNSUBSCRIBE empty", 4, "a2020001", "MQTT-3.10.3-2", "no topic filter", 4),
    ("UNSUBACK code", 5, "b00400010042", "MQTT-3.11.3-2", "no reason code 0x42", 5),
    ("DISCONNECT body in 3.1.1", 4, "e00100", "section 2.2.3", "left over", 2),
    ("DISCONNECT reason", 5, "e00142", "MQTT-3.14.2-1", "no reason code 0x42", 2),
    ("AUTH reason", 5, "f00142", "MQTT-3.15.2-1", "no reason code 0x42", 2),
]  # fmt: skip


@pytest.mark.parametrize(
    ("version", "data", "clause", "words", "position"),
    [
        pytest.param(*row[1:], id=f"{number} {row[0]}")
        for number, row in enumerate(WRONG)
    ],
)
def test_wrong_bytes_are_refused_with_their_clause_and_position(
    version: int | None, data: str, clause: str, words: str, position: int
) -> None:
    raw = bytes.fromhex(data.replace(" ", ""))
    # Bytes of a next packet must not be taken for those that are missing.
    with pytest.raises(MalformedPacket) as caught:
        read(raw + bytes.fromhex("c000") * 20, version)
    error = caught.value
    assert error.clause == clause
    assert words in error.problem
    assert f"[{clause}]" in error.problem
    assert error.position == position
    with pytest.raises(MalformedPacket) as again:
        read_byte_by_byte(raw, version)
    assert again.value.args == error.args
    copied = pickle.loads(pickle.dumps(error))
    assert (copied.args, copied.position) == (error.args, error.position)


def test_the_position_counts_from_the_first_byte_of_the_stream() -> None:
    good = encode(Publish("a", bytes(1000)), 4)
    reader = PacketReader(4)
    for _ in range(10):
        reader.feed(good)
        assert len(list(reader)) == 1
    reader.feed(good + bytes.fromhex("3607000161 0001 6869"))
    with pytest.raises(MalformedPacket) as caught:
        list(reader)
    assert caught.value.position == 11 * len(good)
    assert str(caught.value) == (
        f"PUBLISH at byte {11 * len(good)}: QoS is 3 (byte {11 * len(good)}) "
        "[MQTT-3.3.1-4].\n  fix: send QoS 0, 1 or 2"
    )


def test_packets_before_a_wrong_one_are_given_out_and_nothing_after_it() -> None:
    good = Publish("a", b"1")
    reader = PacketReader(4)
    reader.feed(encode(good, 4) * 2 + b"\0\0" + encode(good, 4))
    found: list[Packet] = []
    with pytest.raises(MalformedPacket) as first:
        found.extend(reader)
    with pytest.raises(MalformedPacket) as second:
        found.extend(reader)
    with pytest.raises(MalformedPacket) as fed:
        reader.feed(encode(good, 4))
    assert found == [good, good]
    assert first.value is second.value is fed.value
    assert reader.pending == 0


def test_a_packet_above_the_maximum_is_refused_by_its_header_alone() -> None:
    packet = Publish("a", bytes(100))
    size = len(encode(packet, 5))
    assert read(encode(packet, 5), 5, maximum_packet_size=size) == [packet]
    for data in (encode(packet, 5), encode(packet, 5)[:2]):
        with pytest.raises(MalformedPacket) as caught:
            read(data, 5, maximum_packet_size=size - 1)
        assert caught.value.clause == "MQTT-3.1.2-24"
        assert caught.value.reason_code == 0x95
    # The largest header there is: refused before a byte of it is kept.
    with pytest.raises(MalformedPacket, match="1000 are accepted"):
        read(bytes.fromhex("30ffffff7f"), 5, maximum_packet_size=1000)


@pytest.mark.parametrize("code", [0x81, 0x82, 0x84])
def test_an_error_says_what_an_mqtt_5_peer_is_to_be_told(code: int) -> None:
    data = {
        0x81: bytes.fromhex("c100"),
        0x82: bytes.fromhex("e00142"),
        0x84: bytes.fromhex("100d00044d5154540602003c000163"),
    }
    with pytest.raises(MalformedPacket) as caught:
        read(data[code], 5)
    assert caught.value.reason_code == code


def test_an_unfinished_packet_shows_as_pending_bytes() -> None:
    reader = PacketReader(4)
    reader.feed(encode(Publish("a", b"123"), 4)[:-1])
    assert list(reader) == []
    assert reader.pending == 7


def test_an_unknown_version_is_refused() -> None:
    for make in (
        lambda: PacketReader(6),
        lambda: setattr(PacketReader(), "version", 2),
        lambda: encode(Publish("a"), 6),
        lambda: encode(Pingreq(), 0),
    ):
        with pytest.raises(PlaygroundError, match="not a protocol level of MQTT"):
            make()


# ----------------------------------------------------------------- fuzz


def drain(data: bytes, version: int | None, pieces: int) -> None:
    reader = PacketReader(version)
    error: MalformedPacket | None = None
    try:
        for at in range(0, len(data), pieces):
            reader.feed(data[at : at + pieces])
            for packet in reader:
                assert isinstance(packet.TYPE, PacketType)
    except MalformedPacket as caught:
        error = caught
    if error is not None:
        assert error.position is not None
        assert 0 <= error.position <= len(data)
        assert error.clause


@given(
    data=st.binary(max_size=200),
    version=st.sampled_from([None, 3, 4, 5]),
    pieces=st.sampled_from([1, 7, 1000]),
)
@settings(max_examples=1500, deadline=None)
def test_random_bytes_raise_nothing_but_malformed_packet(
    data: bytes, version: int | None, pieces: int
) -> None:
    drain(data, version, pieces)


RICH: list[tuple[int, Packet]] = [
    (3, Connect(version=3, client_id="c", username="u", password=b"p")),
    (4, Connect(version=4, client_id="c", will=Will(topic="w", payload=b"x", qos=2))),
    (
        5,
        Connect(
            client_id="c",
            will=Will(topic="w", payload=b"x", properties={"will_delay_interval": 3}),
            username="ü",
            password=b"p",
            properties={"receive_maximum": 3, "user_property": [("a", "b")]},
        ),
    ),
    (4, Connack(session_present=True)),
    (5, Connack(properties={"maximum_qos": 1, "assigned_client_identifier": "id"})),
    (4, Publish("räume/1", b"hello", 2, True, True, 300)),
    (
        5,
        Publish(
            "a/b",
            bytes(200),
            1,
            packet_id=7,
            properties={
                "correlation_data": b"123",
                "response_topic": "r",
                "subscription_identifier": [1, 300],
                "message_expiry_interval": 9,
            },
        ),
    ),
    (
        5,
        Pubrec(
            packet_id=1, reason_code=0x10, properties={"user_property": [("a", "")]}
        ),
    ),
    (4, Pubrel(packet_id=1)),
    (4, Subscribe(packet_id=1, subscriptions=(Subscription(topic_filter="+/#"),) * 2)),
    (
        5,
        Subscribe(
            packet_id=1,
            subscriptions=(Subscription(topic_filter="a/+", no_local=True),),
            properties={"subscription_identifier": 300},
        ),
    ),
    (4, Suback(packet_id=1, reason_codes=(0, 1, 2, 0x80))),
    (5, Unsubscribe(packet_id=1, topic_filters=("a", "b/#"))),
    (5, Unsuback(packet_id=1, reason_codes=(0, 0x11))),
    (5, Disconnect(reason_code=0x8E, properties={"server_reference": "there"})),
    (5, Auth(reason_code=0x18, properties={"authentication_data": b"x"})),
]


def one_byte_changed(rng: random.Random, good: bytes) -> Iterator[bytes]:
    for at in range(min(len(good), 80)):
        bits = (good[at] ^ 1 << bit for bit in range(8))
        for value in sorted({*bits, *rng.choices(range(256), k=8)}):
            yield good[:at] + bytes((value,)) + good[at + 1 :]


@pytest.mark.parametrize(("version", "packet"), RICH)
def test_a_good_packet_with_a_wrong_byte_raises_nothing_but_malformed_packet(
    version: int, packet: Packet
) -> None:
    rng = random.Random(1)
    for wrong in one_byte_changed(rng, encode(packet, version)):
        drain(wrong, version, 1000)
        drain(wrong[: rng.randrange(len(wrong))], version, 7)
        drain(wrong, rng.choice([None, 3, 4, 5]), 1000)


@pytest.mark.parametrize(("version", "packet"), RICH)
def test_what_is_read_can_be_written_and_reads_the_same(
    version: int, packet: Packet
) -> None:
    # Whatever odd form came in, what the codec makes of it is a legal packet.
    rng = random.Random(2)
    written = 0
    for odd in one_byte_changed(rng, encode(packet, version)):
        try:
            found = read(odd, version)
        except MalformedPacket:
            continue
        for each in found:
            if isinstance(each, Connack) and version == 5 and each.reason_code:
                continue  # perhaps a refusal in the words of 3.1.1
            spoken = each.version if isinstance(each, Connect) else version
            if isinstance(each, Connect) and spoken == 3 and each.username is None:
                each = replace(each, password=None)
            assert read(encode(each, spoken), spoken) == [each]
            written += 1
    assert written > 0


# ------------------------------------------------------ what encode refuses


@pytest.mark.parametrize(
    ("packet", "version", "words"),
    [
        (Publish("a/#"), 4, "contains a wildcard"),
        (Publish(""), 4, "topic is empty"),
        (Publish("a\0b"), 4, "NUL"),
        (Publish("ö" * 40_000), 4, "MQTT allows 65535"),
        (Publish("\ud800"), 4, "UTF-8"),
        (Publish("a", qos=3, packet_id=1), 4, "QoS 3 does not exist"),
        (Publish("a", qos=1), 4, "packet_id is None"),
        (Publish("a", qos=1, packet_id=0), 4, "packet_id is 0"),
        (Publish("a", packet_id=3), 4, "QoS 0 message has no packet_id"),
        (Publish("a", dup=True), 4, "never repeated"),
        (Publish("a", properties={"content_type": "x"}), 4, "PUBLISH has no properties in MQTT 3.1.1"),
        (Publish("a", properties={"contenttype": "x"}), 5, "Did you mean 'content_type'"),
        (Publish("a", properties={"server_keep_alive": 1}), 5, "not a property of PUBLISH"),
        (Publish("a", properties={"topic_alias": 0}), 5, "from 1 to 65535"),
        (Publish("a", properties={"topic_alias": "1"}), 5, "is '1'; it is a number"),
        (Publish("a", properties={"content_type": 1}), 5, "content_type is 1; it is text"),
        (Publish("a", properties={"correlation_data": "x"}), 5, "is of type str; it is bytes"),
        (Publish("a", properties={"user_property": {"a": 1}}), 5, "list of (name, value) pairs"),
        (Publish("a", properties={"response_topic": "a/+"}), 5, "contains a wildcard"),
        (Puback(packet_id=1, reason_code=0x10), 4, "PUBACK has no reason code in MQTT 3.1.1"),
        (Puback(packet_id=1, reason_code=1), 5, "PUBACK has no reason code 1"),
        (Connack(session_present=True), 3, "no session_present in MQTT 3.1"),
        (Connack(session_present=True, reason_code=1), 4, "session_present in a refusal"),
        (Connack(reason_code=0x80), 4, "Return code 128 does not exist"),
        (Connect(version=4), 5, "cannot be encoded as 5"),
        (Connect(version=4, password=b"x"), 4, "password without a username"),
        (Connect(keep_alive=70_000), 5, "keep_alive is 70000"),
        (Connect(will=Will(topic="a", qos=3)), 5, "Will QoS 3"),
        (Connect(version=4, will=Will(topic="a", properties={"content_type": "x"})), 4, "no will properties"),
        (Subscribe(packet_id=1, subscriptions=()), 4, "without a subscription"),
        (Subscribe(packet_id=1, subscriptions=(Subscription(topic_filter="a#"),)), 4, "fills a whole level"),
        (Subscribe(packet_id=1, subscriptions=(Subscription(topic_filter="a", no_local=True),)), 4, "options but qos"),
        (Subscribe(packet_id=1, subscriptions=(Subscription(topic_filter="$share/g/a", no_local=True),)), 5, "no_local on the shared"),
        (Subscribe(packet_id=1, subscriptions=(Subscription(topic_filter="a", qos=4),)), 5, "qos is 4"),
        (Suback(packet_id=1, reason_codes=()), 4, "without a reason code"),
        (Suback(packet_id=1, reason_codes=(0x87,)), 4, "no return code 135"),
        (Unsubscribe(packet_id=1, topic_filters=()), 4, "without a topic filter"),
        (Unsuback(packet_id=1, reason_codes=(0,)), 4, "no reason codes in MQTT 3.1.1"),
        (Auth(), 4, "AUTH does not exist in MQTT 3.1.1"),
        (Disconnect(properties={"reason_string": "x"}), 4, "DISCONNECT has no properties in MQTT 3.1.1"),
        (Connect(client_id="a\0"), 5, "contains NUL"),
        (Connect(client_id=1), 5, "client_id is 1; it is text"),
        (Connect(will=Will(topic="a", payload=bytes(65_536))), 5, "65536 bytes long"),
        (Connect(client_id="\udc80"), 5, "cannot be written in UTF-8"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_refused(
    packet: Packet, version: int, words: str
) -> None:
    with pytest.raises(PlaygroundError) as caught:
        encode(packet, version)
    assert words in caught.value.problem
    assert caught.value.fix


# --------------------------------------------------------------- aliases


def test_topic_aliases_become_topics_again() -> None:
    aliases = TopicAliases(maximum=5)
    first = Publish("a/b", b"1", properties={"topic_alias": 2, "content_type": "x"})
    plain = Publish("c", b"2")
    assert aliases.resolve(first) == Publish(
        "a/b", b"1", properties={"content_type": "x"}
    )
    assert aliases.resolve(plain) is plain
    by_alias = Publish("", b"3", properties={"topic_alias": 2})
    assert aliases.resolve(by_alias) == Publish("a/b", b"3")
    # The sender may give an alias another topic.
    aliases.resolve(Publish("d", properties={"topic_alias": 2}))
    assert aliases.resolve(by_alias).topic == "d"


def test_an_alias_without_topic_or_above_the_maximum_is_an_error() -> None:
    aliases = TopicAliases(maximum=5)
    with pytest.raises(MalformedPacket, match="never given a topic") as unknown:
        aliases.resolve(Publish("", properties={"topic_alias": 1}))
    with pytest.raises(MalformedPacket, match="above the announced maximum") as above:
        aliases.resolve(Publish("a", properties={"topic_alias": 6}))
    assert unknown.value.reason_code == 0x82
    assert above.value.reason_code == 0x94


# ------------------------------------------------------------------ JSON


def test_properties_are_written_as_one_sorted_json_object() -> None:
    assert properties_to_json(
        {
            "user_property": [("b", "2"), ("a", "ü")],
            "topic_alias": 3,
            "correlation_data": b"\xde\xad\xbe\xef",
            "message_expiry_interval": 60,
            "subscription_identifier": [7],
        }
    ) == (
        '{"correlation_data":"3q2+7w==","message_expiry_interval":60,'
        '"subscription_identifier":[7],"user_property":[["b","2"],["a","ü"]]}'
    )


def test_no_properties_are_none_in_a_recording() -> None:
    assert properties_to_json({}) is None
    assert properties_to_json({"topic_alias": 1}) is None
    assert properties_from_json(None) == {}
    assert properties_from_json("") == {}


@given(given_properties=properties(PacketType.PUBLISH, 5))
@settings(deadline=None)
def test_properties_come_back_from_json(given_properties: dict[str, Any]) -> None:
    text = properties_to_json(given_properties)
    given_properties.pop("topic_alias", None)
    assert properties_from_json(text) == given_properties
    if text is not None:
        assert list(json.loads(text)) == sorted(given_properties)
        # What was read from a recording can be sent again as it is.
        packet = Publish("a", properties=properties_from_json(text))
        assert read(encode(packet, 5), 5) == [packet]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "are not JSON"),
        ("[]", "not a JSON object"),
        ('{"contenttype":"x"}', "Did you mean 'content_type'"),
        ('{"content_type":1}', "content_type is 1; it is text"),
        ('{"correlation_data":"???"}', "which is not base64"),
        ('{"correlation_data":"ä"}', "which is not base64"),
        ('{"message_expiry_interval":"1"}', "is '1'; it is a number"),
        ('{"message_expiry_interval":-1}', "is -1; it is a number"),
        ('{"user_property":{"a":"b"}}', "list of (name, value) pairs"),
        ('{"user_property":[["a"]]}', "list of (name, value) pairs"),
        ('{"user_property":[["a",1]]}', "list of (name, value) pairs"),
        ('{"subscription_identifier":[0]}', "is 0; it is a number"),
    ],
)
def test_wrong_json_is_refused(text: str, words: str) -> None:
    with pytest.raises(PlaygroundError) as caught:
        properties_from_json(text)
    assert words in caught.value.problem
    assert caught.value.fix


def test_properties_go_to_paho_and_back() -> None:
    for packet in PacketType:
        if packet in (PacketType.PINGREQ, PacketType.PINGRESP):
            continue
        for name, known in PROPERTIES.items():
            if packet not in known.packets:
                continue
            value: Any = {
                Kind.TEXT: "text",
                Kind.BINARY: b"\0\xff",
                Kind.PAIR: [("a", "1"), ("a", "2")],
            }.get(known.kind, 1)
            if known.kind is Kind.VARIABLE:
                value = [1]
            number = PacketTypes.WILLMESSAGE if packet == 0 else int(packet)
            target = Properties(number)
            properties_into_paho({name: value}, target)
            assert properties_from_paho(target) == {name: value}
    assert properties_from_paho(None) == {}
    assert properties_from_paho(Properties(PacketTypes.PUBLISH)) == {}


@given(given_properties=properties(PacketType.PUBLISH, 5))
@settings(deadline=None)
def test_property_bytes_are_read_as_paho_reads_them(
    given_properties: dict[str, Any],
) -> None:
    # paho refuses U+FEFF, which the standard allows [MQTT-1.5.4-3].
    if "\ufeff" in repr(given_properties) or "\\ufeff" in repr(given_properties):
        return
    data = encode(Publish("a", b"", properties=given_properties), 5)
    _, body = data[:1], data[data.index(b"\0\1a") + 3 :]
    theirs = Properties(PacketTypes.PUBLISH)
    theirs.unpack(body)
    assert properties_from_paho(theirs) == given_properties
    in_their_order = {
        name: given_properties[name] for name in PROPERTIES if name in given_properties
    }
    assert read(encode(Publish("a", properties=in_their_order), 5), 5) == [
        Publish("a", properties=given_properties)
    ]
    assert encode(Publish("a", properties=in_their_order), 5).endswith(theirs.pack())


# ------------------------------------------------------- paho on the wire


ANSWERS: dict[type, Any] = {
    Connect: lambda p, v: Connack(),
    Subscribe: lambda p, v: Suback(
        packet_id=p.packet_id, reason_codes=tuple(s.qos for s in p.subscriptions)
    ),
    Unsubscribe: lambda p, v: Unsuback(
        packet_id=p.packet_id,
        reason_codes=(0,) * len(p.topic_filters) if v == 5 else (),
    ),
    Pubrel: lambda p, v: Pubcomp(packet_id=p.packet_id),
    Pubrec: lambda p, v: Pubrel(packet_id=p.packet_id),
    Pingreq: lambda p, v: Pingresp(),
}


class Loopback:
    """A broker of few words for one paho client; keeps every byte it gets."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(DEADLINE_S)
        self.port = self.listener.getsockname()[1]
        self.reader = PacketReader()
        self.raw = b""
        self.packets: list[Packet] = []
        self.failure: BaseException | None = None
        self.changed = threading.Condition()
        self.connection: socket.socket | None = None
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        try:
            self.connection, _ = self.listener.accept()
            self.connection.settimeout(DEADLINE_S)
            while data := self.connection.recv(4096):
                self.reader.feed(data)
                with self.changed:
                    self.raw += data
                    for packet in self.reader:
                        self.packets.append(packet)
                        self._answer(packet)
                    self.changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - shown by the test
            with self.changed:
                self.failure = error
                self.changed.notify_all()

    def _answer(self, packet: Packet) -> None:
        make = ANSWERS.get(type(packet))
        if isinstance(packet, Publish) and packet.qos:
            kind = Puback if packet.qos == 1 else Pubrec
            self.send(kind(packet_id=packet.packet_id))
        elif make is not None:
            self.send(make(packet, self.reader.version))

    def send(self, packet: Packet) -> None:
        assert self.connection is not None
        self.connection.sendall(encode(packet, self.reader.version or 0))

    def wait_for(self, kind: type) -> None:
        with self.changed:
            ok = self.changed.wait_for(
                lambda: self.failure or any(type(p) is kind for p in self.packets),
                DEADLINE_S,
            )
        assert ok, f"no {kind.__name__} came"
        assert self.failure is None, self.failure

    def close(self) -> None:
        self.thread.join(DEADLINE_S)
        if self.connection is not None:
            self.connection.close()
        self.listener.close()


def paho_properties(packet_type: int, **given: Any) -> Properties:
    made = Properties(packet_type)
    properties_into_paho(given, made)
    return made


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    made = Loopback()
    yield made
    made.close()


@pytest.mark.parametrize("version", [3, 4])
def test_bytes_equal_those_of_paho_before_mqtt_5(
    version: int, loopback: Loopback
) -> None:
    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2, "tester", protocol=paho.MQTTProtocolVersion(version)
    )  # fmt: skip
    client.username_pw_set("user", "geheim")
    client.will_set("will/topic", b"gone", qos=1, retain=True)
    client.connect("127.0.0.1", loopback.port, keepalive=37)
    client.loop_start()
    loopback.wait_for(Connect)
    client.subscribe([("plant/#", 1), ("a/+/b", 2)])
    loopback.wait_for(Subscribe)
    client.publish("t/0", "zero", retain=True)
    client.publish("t/1", b"\0\xff" * 100, qos=1).wait_for_publish(DEADLINE_S)
    client.publish("t/2", b"", qos=2).wait_for_publish(DEADLINE_S)
    loopback.send(Publish("in/1", b"x", 1, packet_id=90))
    loopback.wait_for(Puback)
    loopback.send(Publish("in/2", b"y", 2, packet_id=91))
    loopback.wait_for(Pubcomp)
    client.unsubscribe(["plant/#", "a/+/b"])
    loopback.wait_for(Unsubscribe)
    # Bytes that paho has not read when it closes would reset the connection.
    answered = threading.Event()
    client.on_log = lambda *line: answered.set() if "PINGRESP" in line[-1] else None
    client._send_pingreq()
    assert answered.wait(DEADLINE_S)
    client.disconnect()
    loopback.wait_for(Disconnect)
    client.loop_stop()
    expected: list[Packet] = [
        Connect(
            client_id="tester",
            version=version,
            keep_alive=37,
            will=Will(topic="will/topic", payload=b"gone", qos=1, retain=True),
            username="user",
            password=b"geheim",
        ),
        Subscribe(
            packet_id=1,
            subscriptions=(
                Subscription(topic_filter="plant/#", qos=1),
                Subscription(topic_filter="a/+/b", qos=2),
            ),
        ),
        Publish("t/0", b"zero", retain=True),
        Publish("t/1", b"\0\xff" * 100, 1, packet_id=3),
        Publish("t/2", b"", 2, packet_id=4),
        Pubrel(packet_id=4),
        Puback(packet_id=90),
        Pubrec(packet_id=91),
        Pubcomp(packet_id=91),
        Unsubscribe(packet_id=5, topic_filters=("plant/#", "a/+/b")),
        Pingreq(),
        Disconnect(),
    ]
    assert loopback.packets == expected
    assert loopback.raw == b"".join(encode(packet, version) for packet in expected)


def test_bytes_equal_those_of_paho_in_mqtt_5(loopback: Loopback) -> None:
    user = [("site", "lab"), ("site", "roof")]
    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2, "tester", protocol=paho.MQTTv5
    )
    client.username_pw_set("user", "geheim")
    client.will_set(
        "will/topic",
        b"gone",
        qos=2,
        properties=paho_properties(
            PacketTypes.WILLMESSAGE, content_type="text/plain", will_delay_interval=5
        ),
    )
    connect_properties = {
        "session_expiry_interval": 300,
        "receive_maximum": 20,
        "topic_alias_maximum": 10,
        "user_property": user,
        "maximum_packet_size": 100_000,
    }
    client.connect(
        "127.0.0.1",
        loopback.port,
        clean_start=False,
        properties=paho_properties(PacketTypes.CONNECT, **connect_properties),
    )
    client.loop_start()
    loopback.wait_for(Connect)
    client.subscribe(
        [
            ("plant/#", SubscribeOptions(1, retainAsPublished=True, retainHandling=2)),
            ("x", SubscribeOptions(2, noLocal=True)),
        ],
        properties=paho_properties(PacketTypes.SUBSCRIBE, user_property=user),
    )
    loopback.wait_for(Subscribe)
    publish_properties = {
        "payload_format_indicator": 1,
        "message_expiry_interval": 60,
        "content_type": "application/json",
        "response_topic": "answers/here",
        "correlation_data": b"\0\1\2\xff",
        "topic_alias": 4,
        "user_property": user,
    }
    theirs = paho_properties(PacketTypes.PUBLISH, **publish_properties)
    client.publish("t/0", b"zero", properties=theirs)
    client.publish("t/1", b"x" * 200, qos=1, retain=True).wait_for_publish(DEADLINE_S)
    client.publish("t/2", b"", qos=2).wait_for_publish(DEADLINE_S)
    loopback.send(Publish("in/1", b"x", 1, packet_id=90))
    loopback.wait_for(Puback)
    loopback.send(Publish("in/2", b"y", 2, packet_id=91))
    loopback.wait_for(Pubcomp)
    client.unsubscribe("plant/#")
    loopback.wait_for(Unsubscribe)
    client.disconnect(
        reasoncode=ReasonCode(PacketTypes.DISCONNECT, identifier=4),
        properties=paho_properties(
            PacketTypes.DISCONNECT, session_expiry_interval=0, reason_string="enough"
        ),
    )
    loopback.wait_for(Disconnect)
    client.loop_stop()
    expected: list[Packet] = [
        Connect(
            client_id="tester",
            clean_start=False,
            will=Will(
                topic="will/topic",
                payload=b"gone",
                qos=2,
                properties={"content_type": "text/plain", "will_delay_interval": 5},
            ),
            username="user",
            password=b"geheim",
            # In the order in which paho writes them: by identifier's table.
            properties={
                name: connect_properties[name]
                for name in PROPERTIES
                if name in connect_properties
            },
        ),
        Subscribe(
            packet_id=1,
            subscriptions=(
                Subscription(
                    topic_filter="plant/#",
                    qos=1,
                    retain_as_published=True,
                    retain_handling=2,
                ),
                Subscription(topic_filter="x", qos=2, no_local=True),
            ),
            properties={"user_property": user},
        ),
        Publish("t/0", b"zero", properties=publish_properties),
        Publish("t/1", b"x" * 200, 1, True, packet_id=3),
        Publish("t/2", b"", 2, packet_id=4),
        Pubrel(packet_id=4),
        Puback(packet_id=90),
        Pubrec(packet_id=91),
        Pubcomp(packet_id=91),
        Unsubscribe(packet_id=5, topic_filters=("plant/#",)),
        Disconnect(
            reason_code=4,
            properties={"session_expiry_interval": 0, "reason_string": "enough"},
        ),
    ]
    assert loopback.packets == expected
    assert loopback.raw == b"".join(encode(packet, 5) for packet in expected)


# -------------------------------------------------- mosquitto on the wire

MOSQUITTO = shutil.which("mosquitto") or shutil.which(
    "mosquitto", path="/usr/sbin:/usr/local/sbin"
)


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config: Path = tmp_path_factory.mktemp("mosquitto") / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
        "max_queued_messages 0\n"
    )
    with subprocess.Popen(
        [MOSQUITTO, "-c", str(config)], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            started = any("running" in line for line in process.stderr)
            assert started, "mosquitto ended instead of starting"
            yield port
        finally:
            process.terminate()
            process.stderr.read()


class Client:
    """A client that speaks with this codec and keeps each reply's bytes."""

    def __init__(self, port: int, version: int) -> None:
        self.version = version
        self.reader = PacketReader(version)
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        self.raw = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, *packets_: Packet) -> None:
        self.socket.sendall(b"".join(encode(p, self.version) for p in packets_))

    def hear(self, count: int) -> list[Packet]:
        found: list[Packet] = []
        self.raw = b""
        while len(found) < count:
            data = self.socket.recv(65536)
            assert data, f"the broker closed after {found}"
            self.raw += data
            self.reader.feed(data)
            found += self.reader
        return found


@versions
def test_mosquittos_replies_are_read_and_written_byte_for_byte(
    mosquitto: int, version: int
) -> None:
    new = version == 5
    with Client(mosquitto, version) as client:
        client.say(Connect(version=version, client_id=f"codec{version}", keep_alive=30))
        (connack,) = client.hear(1)
        assert isinstance(connack, Connack)
        assert connack.reason_code == 0
        assert ("topic_alias_maximum" in connack.properties) == new
        assert client.raw == encode(connack, version)

        subscribe = Subscribe(
            packet_id=11,
            subscriptions=(
                Subscription(topic_filter=f"codec/{version}/#", qos=2),
                Subscription(topic_filter="other", qos=1),
            ),
            properties={"subscription_identifier": 300} if new else {},
        )
        client.say(subscribe)
        suback = Suback(packet_id=11, reason_codes=(2, 1))
        assert client.hear(1) == [suback]
        assert client.raw == encode(suback, version)

        topic = f"codec/{version}/räume/1"
        sent = {
            "payload_format_indicator": 1,
            "content_type": "text/plain",
            "response_topic": "answers",
            "correlation_data": b"\0\xff",
            "user_property": [("a", "1"), ("a", "2")],
        }
        payload = "grüße".encode() * 40
        client.say(
            Publish(topic, payload, 1, packet_id=12, properties=sent if new else {})
        )
        replies = client.hear(2)
        delivered = next(p for p in replies if isinstance(p, Publish))
        assert Puback(packet_id=12) in replies
        assert delivered._replace(packet_id=None, properties={}) == Publish(
            topic, payload, 1
        )
        assert delivered.properties == (
            {**sent, "subscription_identifier": [300]} if new else {}
        )
        assert client.raw == b"".join(encode(p, version) for p in replies)
        client.say(Puback(packet_id=delivered.packet_id or 0))

        client.say(Publish(topic, b"", 2, packet_id=13))
        assert client.hear(1) == [Pubrec(packet_id=13)]
        client.say(Pubrel(packet_id=13))
        replies = client.hear(2)
        assert Pubcomp(packet_id=13) in replies
        assert client.raw == b"".join(encode(p, version) for p in replies)
        (delivered,) = (p for p in replies if isinstance(p, Publish))
        client.say(Pubrec(packet_id=delivered.packet_id or 0))
        pubrel = Pubrel(packet_id=delivered.packet_id or 0)
        assert client.hear(1) == [pubrel]
        assert client.raw == encode(pubrel, version)
        client.say(Pubcomp(packet_id=pubrel.packet_id))

        client.say(Unsubscribe(packet_id=14, topic_filters=("other", "never")))
        unsuback = Unsuback(packet_id=14, reason_codes=(0, 0x11) if new else ())
        assert client.hear(1) == [unsuback]
        assert client.raw == encode(unsuback, version)

        client.say(Pingreq())
        assert client.hear(1) == [Pingresp()]
        assert client.raw == encode(Pingresp(), version)
        client.say(Disconnect())
        assert client.socket.recv(1) == b""


def test_mosquitto_takes_topic_aliases_and_names_no_subscribers(mosquitto: int) -> None:
    with Client(mosquitto, 5) as client:
        client.say(Connect(client_id="aliases"))
        client.hear(1)
        client.say(Publish("nobody/hears", b"1", 1, packet_id=1))
        puback = Puback(packet_id=1, reason_code=0x10)
        assert client.hear(1) == [puback]
        client.say(
            Subscribe(
                packet_id=2,
                subscriptions=(Subscription(topic_filter="aliased/topic"),),
            ),
            Publish("aliased/topic", b"1", properties={"topic_alias": 3}),
            Publish("", b"2", properties={"topic_alias": 3}),
        )
        replies = client.hear(3)
        assert replies == [
            Suback(packet_id=2, reason_codes=(0,)),
            Publish("aliased/topic", b"1"),
            Publish("aliased/topic", b"2"),
        ]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (encode(Publish("a", properties={"topic_alias": 60_000}), 5), 0x94),
        (encode(Publish("", properties={"topic_alias": 3}), 5), 0x82),
        (bytes.fromhex("30060003 610062 00"), 0x81),
        (bytes.fromhex("8000"), 0x81),
    ],
)
def test_mosquitto_gives_the_same_reason_codes_for_the_same_mistakes(
    mosquitto: int, wrong: bytes, code: int
) -> None:
    with Client(mosquitto, 5) as client:
        client.say(Connect(client_id="wrong"))
        (connack,) = client.hear(1)
        client.socket.sendall(wrong)
        assert client.hear(1) == [Disconnect(reason_code=code)]
    aliases = TopicAliases(maximum=connack.properties["topic_alias_maximum"])
    with pytest.raises(MalformedPacket) as caught:
        aliases.resolve(read(wrong, 5)[0])
    assert caught.value.reason_code == code
