from __future__ import annotations

import socket

import pytest

from playground.broker import EmbeddedBroker
from playground.bus import Will
from playground.errors import ConnectionFailed, PlaygroundError
from playground.message import KINDS, Message
from playground.mqtt import MqttBus
from playground.record import Recorder, TapSource
from playground.record.tap import parse_address


@pytest.fixture(params=["5", "3.1.1"])
def protocol(request):
    return request.param


def recorded(recorder: Recorder) -> list[Message]:
    return list(recorder.recording.messages(kinds=KINDS))


def test_a_thousand_mqtt_5_messages_pass_unchanged_and_with_their_client_ids(
    mosquitto, tmp_path, eventually
):
    tap = TapSource("127.0.0.1:0", mosquitto.url)
    heard: list[Message] = []
    sent = [
        (
            f"t/{n % 7}",
            b"\xff%d" % n,
            n % 3,
            n % 10 == 0,
            f'{{"content_type":"x","user_property":[["n","{n}"],["site","lab"]]}}',
        )
        for n in range(1000)
    ]
    with Recorder(tap, tmp_path / "a.parquet", filters=("t/#",)) as recorder:
        # One listener beside the tap, one through it.
        beside = MqttBus(mosquitto.url, retain_as_published=True).connect(
            "beside", heard.append
        )
        beside.subscribe("#", qos=2)
        through: list[Message] = []
        behind = MqttBus(tap.url).connect("behind", through.append)
        behind.subscribe("t/#", qos=2)
        plants = [MqttBus(tap.url).connect(f"plant{n}") for n in range(2)]
        for number, (topic, payload, qos, retain, properties) in enumerate(sent):
            plant = plants[number >= 500]
            plant.publish(topic, payload, qos=qos, retain=retain, properties=properties)
            if number == 499:
                plant.flush()
                eventually(lambda: len(heard) == 500)
        plants[1].flush()
        eventually(lambda: len(heard) == len(through) == 1000)
        for connection in (*plants, behind, beside):
            connection.disconnect()
        eventually(lambda: recorder.progress().count == 1000 + 3 + 1 + 3)

    def facts(messages):
        return sorted(
            (m.topic, m.payload, m.qos, m.retain, m.properties) for m in messages
        )

    assert facts(heard) == sorted(sent)
    said = [m for m in recorded(recorder) if m.kind == "publish"]
    # paho itself changes the order between QoS 0 and what waits for room.
    assert facts(said) == sorted(sent)
    number = {facts_of_one[1]: n for n, facts_of_one in enumerate(sent)}
    assert all(m.client == f"plant{int(number[m.payload] >= 500)}" for m in said)
    assert recorder.recording.metadata["source"] == "tap"
    assert recorder.recording.metadata["broker"] == mosquitto.url


def test_sessions_are_recorded(mosquitto, tmp_path, eventually, protocol):
    tap = TapSource("127.0.0.1:0", mosquitto.url)
    with Recorder(tap, tmp_path / "a.parquet") as recorder:
        bus = MqttBus(tap.url, protocol=protocol)
        leaves = bus.connect("leaves", will=Will(topic="w", payload=b"no"))
        leaves.subscribe("a/#", qos=1)
        leaves.unsubscribe("a/#")
        leaves.disconnect()
        eventually(lambda: recorder.progress().count == 4)
        vanishes = bus.connect(
            "vanishes", will=Will(topic="w", payload=b"gone", qos=1, retain=True)
        )
        vanishes.abort()
        eventually(lambda: recorder.progress().count == 7)
    assert [
        (m.kind, m.client, m.topic, m.payload, m.qos) for m in recorded(recorder)
    ] == [
        ("connect", "leaves", "", b"", 0),
        ("subscribe", "leaves", "a/#", b"", 1),
        ("unsubscribe", "leaves", "a/#", b"", 0),
        ("disconnect", "leaves", "", b"", 0),
        ("connect", "vanishes", "", b"", 0),
        ("disconnect", "vanishes", "", b"", 0),
        ("will", "vanishes", "w", b"gone", 1),
    ]


def test_what_others_publish_is_recorded_once_when_it_is_delivered(
    mosquitto, tmp_path, eventually
):
    tap = TapSource("127.0.0.1:0", mosquitto.url)
    elsewhere = MqttBus(mosquitto.url).connect("elsewhere")
    elsewhere.publish("kept", b"old", qos=1, retain=True)
    elsewhere.flush()
    with Recorder(tap, tmp_path / "a.parquet") as recorder:
        listeners = []
        for name in ("one", "two"):
            got: list[Message] = []
            connection = MqttBus(tap.url).connect(name, got.append)
            connection.subscribe("#")
            listeners.append((connection, got))
        for payload in (b"ON", b"ON", b"OFF"):
            elsewhere.publish("switch", payload, qos=1)
            elsewhere.flush()
        listeners[0][0].publish("switch", b"ON", qos=1)
        for _, got in listeners:
            eventually(lambda: len(got) == 5)  # noqa: B023
        for connection, _ in listeners:
            connection.disconnect()
        eventually(lambda: recorder.progress().count == 3 * 2 + 5)
    elsewhere.disconnect()
    said = [
        (m.topic, m.payload, m.client, m.retain) for m in recorded(recorder) if m.topic
    ]
    assert [s for s in said if s[0] != "#"] == [
        ("kept", b"old", None, True),
        ("switch", b"ON", None, False),
        ("switch", b"ON", None, False),
        ("switch", b"OFF", None, False),
        ("switch", b"ON", "one", False),
    ]


def test_a_client_that_is_refused_leaves_no_session(tmp_path, eventually):
    with EmbeddedBroker(users={"lab": "x"}) as broker:
        tap = TapSource("127.0.0.1:0", broker.url)
        with Recorder(tap, tmp_path / "a.parquet") as recorder:
            with pytest.raises(ConnectionFailed, match="refuses the login"):
                MqttBus(tap.url).connect("stranger")
            named = tap.url.replace("//", "//lab@")
            MqttBus(named, password="x").connect("lab").disconnect()
            eventually(lambda: recorder.progress().count == 2)
    assert [(m.kind, m.client) for m in recorded(recorder)] == [
        ("connect", "lab"),
        ("disconnect", "lab"),
    ]


def test_what_is_no_mqtt_passes_too(tmp_path, eventually):
    """A server that echoes stands in for a broker that knows more than we do."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        tap = TapSource("127.0.0.1:0", f"mqtt://127.0.0.1:{server.getsockname()[1]}")
        with Recorder(tap, tmp_path / "a.parquet") as recorder:
            server.accept()[0].close()  # the tap looked whether it is there
            with socket.create_connection(("127.0.0.1", tap.port), 5) as client:
                client.sendall(b"\x00 no MQTT \xff" * 10_000)
                peer, _ = server.accept()
                peer.settimeout(5)
                got = b""
                while len(got) < 110_000:
                    got += peer.recv(65_536)
                peer.sendall(b"answer")
                assert client.recv(100) == b"answer"
                peer.close()
                assert client.recv(100) == b""
            eventually(lambda: recorder._warnings)
    assert got == b"\x00 no MQTT \xff" * 10_000
    assert "can no longer be understood" in recorder.recording.metadata["warnings"][0]


def test_a_tap_before_nothing_is_an_error(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    recorder = Recorder(
        TapSource("0", f"mqtt://127.0.0.1:{port}"), tmp_path / "a.parquet"
    )
    with pytest.raises(ConnectionFailed, match="Nobody listens"):
        recorder.start()
    assert list(tmp_path.iterdir()) == []


def test_a_tap_on_a_port_in_use_is_an_error(embedded, tmp_path):
    recorder = Recorder(
        TapSource(f"{embedded.port}", embedded.url), tmp_path / "a.parquet"
    )
    with pytest.raises(ConnectionFailed, match="tap cannot listen on"):
        recorder.start()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("1884", ("127.0.0.1", 1884)),
        (":0", ("127.0.0.1", 0)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("[::1]:5", ("::1", 5)),
    ],
)
def test_an_address_to_listen_on_is_read(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "host", "host:", "host:x", "1:70000", "host:-1"])
def test_an_address_that_is_none_is_refused(text):
    with pytest.raises(PlaygroundError, match="not an address"):
        parse_address(text)


def test_a_tap_before_websockets_is_refused():
    with pytest.raises(PlaygroundError, match="speaks WebSocket"):
        TapSource("0", "ws://host")
