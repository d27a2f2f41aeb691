from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from playground.broker import EmbeddedBroker, find_mosquitto
from playground.broker.access import Access, hashed, read_passwords, read_rules
from playground.errors import ConnectionFailed, FileFormatError, PlaygroundError
from playground.message import Message
from playground.mqtt import MqttBus
from playground.packets import (
    Connack,
    Connect,
    PacketReader,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Will,
    encode,
)

BACKENDS = [
    "amqtt",
    pytest.param(
        "mosquitto",
        marks=pytest.mark.skipif(
            find_mosquitto() is None, reason="mosquitto is not installed"
        ),
    ),
]


class RawClient:
    """A client that says exactly the bytes it is told to."""

    def __init__(self, broker: EmbeddedBroker, client_id: str = "raw", **connect):
        self.socket = socket.create_connection(("127.0.0.1", broker.port), 5)
        self.reader = PacketReader(4)
        self.say(Connect(client_id=client_id, version=4, **connect))

    def say(self, packet, version: int = 4) -> None:
        self.socket.sendall(encode(packet, version))

    def hear(self):
        while (packet := self.reader.next_packet()) is None:
            data = self.socket.recv(65536)
            if not data:
                return None
            self.reader.feed(data)
        return packet

    def close(self) -> None:
        self.socket.close()


def collect(broker_url, topic_filter="#", *, qos=0, client_id="listener"):
    got: list[Message] = []
    connection = MqttBus(broker_url).connect(client_id, got.append)
    connection.subscribe(topic_filter, qos=qos)
    return connection, got


# ------------------------------------------------------------------ lifecycle


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_listens_on_loopback_and_a_free_port_and_stops(backend, eventually):
    with EmbeddedBroker(backend=backend) as broker:
        assert broker.url == f"mqtt://127.0.0.1:{broker.port}"
        assert broker.websocket_port is None
        assert broker.websocket_url is None
        port = broker.port
        listener, got = collect(broker.url)
        listener.publish("a", b"1")
        eventually(lambda: got)
        listener.disconnect()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)
    with pytest.raises(PlaygroundError, match="not running"):
        _ = broker.port


def _listening(port):
    """Returns the addresses on which anybody listens to a port, as Linux knows them."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            address, _, its_port = local.partition(":")
            if state == "0A" and int(its_port, 16) == port:
                found.add(address)
    return found


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="this is not Linux")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_listener_is_on_loopback_only(backend, host):
    loopback = {"0100007F", "00000000000000000000000001000000"}
    with EmbeddedBroker(backend=backend, host=host, websocket_port=0) as broker:
        for port in (broker.port, broker.websocket_port):
            assert _listening(port)
            assert _listening(port) <= loopback


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_can_be_started_again(backend, eventually):
    broker = EmbeddedBroker(backend=backend)
    for _ in range(2):
        with broker:
            listener, got = collect(broker.url)
            listener.publish("a", b"1")
            eventually(lambda: got)  # noqa: B023
            listener.disconnect()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_port_in_use_is_named(backend):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConnectionFailed, match=str(port)) as error:
            EmbeddedBroker(port=port, backend=backend).start()
    assert "in use" in str(error.value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_host_that_is_not_ours_is_named(backend):
    broker = EmbeddedBroker(host="192.0.2.1", allow_anonymous=True, backend=backend)
    with pytest.raises(ConnectionFailed, match=r"192\.0\.2\.1"):
        broker.start()


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(PlaygroundError, match="0 to 65535"):
        EmbeddedBroker(port=port)


def test_an_unknown_backend_is_refused():
    with pytest.raises(PlaygroundError, match="'emqx' is not a backend"):
        EmbeddedBroker(backend="emqx")


def test_stopping_is_bounded_while_clients_publish_and_peers_are_silent():
    broker = EmbeddedBroker().start()
    silent = socket.create_connection(("127.0.0.1", broker.port), 5)
    done = threading.Event()
    running = [threading.Event() for _ in range(2)]

    def shout(mine: threading.Event) -> None:
        client = RawClient(broker, "shouter")
        packet = encode(Publish("a", b"x" * 1000), 4) * 50
        try:
            while not done.is_set():
                client.socket.sendall(packet)
                mine.set()
        except OSError:
            pass
        client.close()

    shouters = [threading.Thread(target=shout, args=(mine,)) for mine in running]
    for thread in shouters:
        thread.start()
    # Both: one that comes after the stop would find nobody.
    assert all(mine.wait(5) for mine in running)
    begin = time.monotonic()
    broker.stop()
    assert time.monotonic() - begin < 5.0
    done.set()
    for thread in shouters:
        thread.join(5)
    silent.close()
    assert not [t for t in threading.enumerate() if t.name == "playground-broker"]


def test_nothing_is_logged_about_well_behaved_and_ill_behaved_clients(caplog):
    caplog.set_level(logging.INFO, "playground")
    with EmbeddedBroker() as broker:
        with socket.create_connection(("127.0.0.1", broker.port), 5) as stranger:
            stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert stranger.recv(100) == b""
        client = RawClient(broker, "abrupt")
        assert isinstance(client.hear(), Connack)
        client.close()
        for _ in range(2):
            MqttBus(broker.url, protocol="3.1.1").connect("same").disconnect()
    assert not [r for r in caplog.records if r.name.startswith("playground.broker")]


def test_importing_the_package_leaves_no_default_plugins_behind():
    code = (
        "import sys\n"
        "from playground.broker import EmbeddedBroker\n"
        "with EmbeddedBroker() as broker: pass\n"
        "print('psutil' in sys.modules, 'amqtt.plugins.sys.broker' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert (done.stdout.strip(), done.stderr) == ("False False", "")


def test_accepted_connections_do_not_wait_for_full_segments():
    with EmbeddedBroker() as broker:
        bus = MqttBus(broker.url)
        answered = threading.Event()
        answerer = bus.connect("b", lambda _: answerer.publish("pong", b""))
        answerer.subscribe("ping")
        asker = bus.connect("a", lambda _: answered.set())
        asker.subscribe("pong")
        fastest = 1.0
        for _ in range(20):
            answered.clear()
            begin = time.monotonic()
            asker.publish("ping", b"")
            assert answered.wait(5)
            fastest = min(fastest, time.monotonic() - begin)
        # With Nagle's algorithm on either side every round trip has 40 ms.
        assert fastest < 0.035
        asker.disconnect()
        answerer.disconnect()


# ------------------------------------------------------------------ websockets


@pytest.mark.parametrize("backend", BACKENDS)
def test_websocket_and_tcp_clients_meet(backend, eventually):
    with EmbeddedBroker(websocket_port=0, backend=backend) as broker:
        assert broker.websocket_url == f"ws://127.0.0.1:{broker.websocket_port}/mqtt"
        over_web, web_got = collect(broker.websocket_url, client_id="web")
        over_tcp, tcp_got = collect(broker.url, client_id="tcp")
        # mosquitto 2.0.11 sends no more than 4 kB in one piece over WebSockets.
        big = bytes(range(256)) * (8192 if backend == "amqtt" else 12)
        over_tcp.publish("big", big)
        over_web.publish("small", b"\0")
        for got in (web_got, tcp_got):
            eventually(lambda: len(got) == 2)  # noqa: B023
            assert {m.topic: m.payload for m in got} == {"big": big, "small": b"\0"}
        over_web.disconnect()
        over_tcp.disconnect()


# ------------------------------------------------------------------- observer


def test_the_observer_sees_the_whole_session(eventually):
    seen: list[Message] = []
    with EmbeddedBroker(observer=seen.append) as broker:
        listener = RawClient(broker, "listener")
        assert isinstance(listener.hear(), Connack)
        listener.say(
            Subscribe(
                packet_id=7, subscriptions=(Subscription(topic_filter="p/#", qos=1),)
            )
        )
        assert isinstance(listener.hear(), Suback)
        plant = RawClient(
            broker,
            "plant",
            will=Will(topic="p/state", payload=b"gone", qos=1, retain=True),
        )
        assert isinstance(plant.hear(), Connack)
        plant.say(Publish("p/t", b"\xff\x00", 2, True, False, 1))
        plant.say(Publish("p/u", b"", 0, False))
        eventually(lambda: len(seen) == 5)
        plant.close()
        eventually(lambda: len(seen) == 7)
        listener.close()
        eventually(lambda: len(seen) == 8)
    assert [(m.kind, m.client, m.topic, m.payload, m.qos, m.retain) for m in seen] == [
        ("connect", "listener", "", b"", 0, False),
        ("subscribe", "listener", "p/#", b"", 1, False),
        ("connect", "plant", "", b"", 0, False),
        ("publish", "plant", "p/t", b"\xff\x00", 2, True),
        ("publish", "plant", "p/u", b"", 0, False),
        ("disconnect", "plant", "", b"", 0, False),
        ("will", "plant", "p/state", b"gone", 1, True),
        ("disconnect", "listener", "", b"", 0, False),
    ]
    assert [m.time_ns for m in seen] == sorted(m.time_ns for m in seen)


def test_an_observer_that_fails_does_not_stop_the_broker(eventually, caplog):
    def fail(message: Message) -> None:
        raise RuntimeError("observer")

    with EmbeddedBroker(observer=fail) as broker:
        listener, got = collect(broker.url)
        listener.publish("a", b"1")
        eventually(lambda: got)
        listener.disconnect()
    assert "observer failed" in caplog.text


def test_mosquitto_has_no_observer():
    with pytest.raises(PlaygroundError, match="observer"):
        EmbeddedBroker(backend="mosquitto", observer=print)


# ---------------------------------------------------------------- amqtt's faults


def test_the_last_burst_of_a_publisher_that_leaves_is_not_lost(eventually):
    with EmbeddedBroker() as broker:
        for topic in range(50):
            helper = MqttBus(broker.url).connect("keeper")
            helper.publish(f"kept/{topic}", b"x" * 500, retain=True)
            helper.disconnect()
        listener, got = collect(broker.url, "burst")
        publisher = RawClient(broker, "leaver")
        burst = b"".join(encode(Publish("burst", b"%d" % n), 4) for n in range(1000))
        publisher.socket.sendall(burst)
        publisher.close()
        eventually(lambda: len(got) == 1000)
        assert [int(m.payload) for m in got] == list(range(1000))
        listener.disconnect()


def test_a_silent_client_is_given_up_after_one_and_a_half_keep_alives(eventually):
    with EmbeddedBroker() as broker:
        listener, got = collect(broker.url)
        silent = RawClient(
            broker, "silent", keep_alive=1, will=Will(topic="w", payload=b"gone")
        )
        assert isinstance(silent.hear(), Connack)
        begin = time.monotonic()
        assert silent.hear() is None
        assert 1.4 < time.monotonic() - begin < 5
        eventually(lambda: [m.payload for m in got] == [b"gone"])
        silent.close()
        listener.disconnect()


def test_mqtt_5_is_refused_at_once_whatever_its_properties():
    with EmbeddedBroker() as broker:
        client = socket.create_connection(("127.0.0.1", broker.port), 5)
        wish = Connect(
            client_id="five",
            version=5,
            properties={"session_expiry_interval": 100, "receive_maximum": 10},
        )
        client.sendall(encode(wish, 5))
        assert client.recv(10) == b"\x20\x02\x00\x01"
        client.close()


def test_a_publication_to_a_dollar_topic_reaches_who_names_it(eventually):
    with EmbeddedBroker() as broker:
        listener, got = collect(broker.url, "$lab/#")
        everything, all_got = collect(broker.url, "#", client_id="all")
        listener.publish("$lab/x", b"1")
        listener.publish("end", b"")
        eventually(lambda: all_got)
        assert [m.topic for m in got] == ["$lab/x"]
        assert [m.topic for m in all_got] == ["end"]
        listener.disconnect()
        everything.disconnect()


def test_shared_subscriptions_are_refused_and_not_swallowed():
    with EmbeddedBroker() as broker:
        connection = MqttBus(broker.url).connect("s")
        with pytest.raises(ConnectionFailed, match="refuses the subscription"):
            connection.subscribe("$share/g/a")
        connection.disconnect()


def test_unacknowledged_messages_come_again_after_a_reconnection():
    with EmbeddedBroker() as broker:
        client = RawClient(broker, "c", clean_start=False)
        assert isinstance(client.hear(), Connack)
        client.say(
            Subscribe(
                packet_id=1, subscriptions=(Subscription(topic_filter="a", qos=1),)
            )
        )
        client.hear()
        publisher = MqttBus(broker.url).connect("p")
        for n in range(3):
            publisher.publish("a", b"%d" % n, qos=1)
        publisher.flush()
        first = [client.hear() for _ in range(3)]
        assert [(p.payload, p.dup) for p in first] == [
            (b"0", False),
            (b"1", False),
            (b"2", False),
        ]
        client.close()
        again = RawClient(broker, "c", clean_start=False)
        assert again.hear().session_present
        repeated = [again.hear() for _ in range(3)]
        assert [(p.payload, p.dup) for p in repeated] == [
            (b"0", True),
            (b"1", True),
            (b"2", True),
        ]
        assert [p.packet_id for p in repeated] == [p.packet_id for p in first]
        again.close()
        publisher.disconnect()


def test_a_subscriber_that_does_not_read_costs_bounded_memory(monkeypatch):
    monkeypatch.setattr("playground.broker.mended.STALLED_AFTER_S", 0.2)
    with EmbeddedBroker() as broker:
        stalled = RawClient(broker, "stalled")
        assert isinstance(stalled.hear(), Connack)
        stalled.say(
            Subscribe(packet_id=1, subscriptions=(Subscription(topic_filter="#"),))
        )
        assert isinstance(stalled.hear(), Suback)
        publisher = MqttBus(broker.url).connect("p")
        payload = b"x" * 100_000
        for _ in range(400):  # 40 MB
            publisher.publish("a", payload)
        publisher.publish("a", b"", qos=1)
        publisher.flush()
        server = broker._server
        assert server.broker.dropped > 100
        backlog = max(stream.backlog for stream in server.broker._streams)
        assert backlog < 3 * 4 * 2**20
        publisher.disconnect()
        stalled.close()


# ---------------------------------------------------------------------- access


@pytest.mark.parametrize("backend", BACKENDS)
def test_users_come_in_with_their_password_only(backend, tmp_path):
    with EmbeddedBroker(users={"lab": "secret"}, backend=backend) as broker:
        url = broker.url.replace("//", "//lab@")
        MqttBus(url, password="secret").connect("a").disconnect()
        with pytest.raises(ConnectionFailed, match="refuses the login"):
            MqttBus(url, password="wrong").connect("a")
        with pytest.raises(ConnectionFailed, match="refuses the login"):
            MqttBus(broker.url).connect("a")
        with pytest.raises(ConnectionFailed, match="refuses the login"):
            MqttBus(broker.url.replace("//", "//eve@"), password="secret").connect("a")


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_acl_file_says_who_may_say_and_hear_what(backend, tmp_path, eventually):
    acl = tmp_path / "acl"
    acl.write_text(
        "# the lab\n"
        "user plant\n"
        "topic readwrite plant/#\n"
        "topic deny plant/secret\n"
        "user viewer\n"
        "topic read plant/#\n"
        "pattern write from/%u/%c\n"
    )
    users = {"plant": "p", "viewer": "v"}
    with EmbeddedBroker(users=users, acl_file=acl, backend=backend) as broker:

        def connect(user: str, client_id: str, got: list[Message]):
            url = broker.url.replace("//", f"//{user}@")
            bus = MqttBus(url, password=users[user])
            connection = bus.connect(client_id, got.append)
            connection.subscribe("#")
            return connection

        plant_got: list[Message] = []
        viewer_got: list[Message] = []
        plant = connect("plant", "p1", plant_got)
        viewer = connect("viewer", "v1", viewer_got)
        viewer.publish("plant/t", b"not allowed", qos=1)
        viewer.publish("from/viewer/v1", b"allowed, nobody may read it", qos=1)
        viewer.flush()
        plant.publish("plant/secret", b"denied", qos=1)
        plant.publish("elsewhere", b"not allowed", qos=1)
        plant.publish("plant/t", b"20", qos=1)
        plant.flush()
        eventually(lambda: viewer_got and plant_got)
        assert [m.payload for m in viewer_got] == [b"20"]
        assert [m.payload for m in plant_got] == [b"20"]
        plant.disconnect()
        viewer.disconnect()


def test_a_password_file_of_mosquitto_passwd_is_understood(tmp_path):
    program = find_mosquitto()
    tool = program and program.replace("sbin/mosquitto", "bin/mosquitto_passwd")
    file = tmp_path / "passwords"
    try:
        subprocess.run(
            [tool or "", "-b", "-c", str(file), "lab", "se:cret"], check=True
        )
    except OSError:
        pytest.skip("mosquitto_passwd is not installed")
    access = Access(users=read_passwords(file), allow_anonymous=False)
    assert access.admits("lab", "se:cret")
    assert not access.admits("lab", "secret")
    assert not access.admits("other", "se:cret")
    assert not access.admits(None, None)


def test_a_plain_password_file_is_understood(tmp_path):
    file = tmp_path / "passwords"
    file.write_text("# lab\nlab:se:cret\n")
    access = Access(users=read_passwords(file), allow_anonymous=False)
    assert access.admits("lab", "se:cret")
    assert "se:cret" not in repr(access)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("lab", "user:password"),
        ("lab:$6$abc$def", "mosquitto 1"),
        ("lab:$7$101$abc", "cut off"),
    ],
)
def test_a_bad_password_file_is_named_with_its_line(tmp_path, line, said):
    file = tmp_path / "passwords"
    file.write_text(f"ok:word\n{line}\n")
    with pytest.raises(FileFormatError, match="passwords:2") as error:
        read_passwords(file)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("topics read a", "Did you mean 'topic'"),
        ("topic", "not a line"),
        ("topic read a/#/b", "last level"),
    ],
)
def test_a_bad_acl_file_is_named_with_its_line(tmp_path, line, said):
    file = tmp_path / "acl"
    file.write_text(f"user x\n\n{line}\n")
    with pytest.raises(FileFormatError, match="acl:3") as error:
        read_rules(file)
    assert said in str(error.value)


def test_files_that_are_not_there_are_named(tmp_path):
    for argument in ("password_file", "acl_file"):
        with pytest.raises(PlaygroundError, match="nowhere"):
            EmbeddedBroker(**{argument: tmp_path / "nowhere"})


def test_a_client_id_with_wildcards_opens_no_pattern():
    (rule,) = read_rules_text("pattern read own/%c")
    assert rule.covers("own/a", None, "a")
    assert not rule.covers("own/a", None, "#")
    assert not rule.covers("own/a/b", None, "a/b")


def read_rules_text(text: str):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "acl"
        file.write_text(text)
        return read_rules(file)


def test_two_hashes_of_one_password_differ_and_both_fit():
    first, second = hashed("x"), hashed("x")
    assert first != second
    for kept in (first, second):
        assert Access(users={"u": kept}).admits("u", "x")


def test_listening_beyond_loopback_needs_users_or_a_word():
    with pytest.raises(PlaygroundError, match="open to the whole network"):
        EmbeddedBroker(host="0.0.0.0")
    with EmbeddedBroker(host="0.0.0.0", allow_anonymous=True) as broker:
        assert broker.url.startswith("mqtt://127.0.0.1:")
        MqttBus(broker.url).connect("a").disconnect()
    EmbeddedBroker(host="0.0.0.0", users={"a": "b"})
    EmbeddedBroker(host="localhost")


def test_ipv6_loopback_works():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with EmbeddedBroker(host="::1") as broker:
        assert broker.url.startswith("mqtt://[::1]:")
        MqttBus(broker.url).connect("a").disconnect()


def test_paho_programs_of_the_first_api_still_connect(embedded, eventually):
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, "old", protocol=paho.MQTTv31)
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()
    client.connect("127.0.0.1", embedded.port)
    client.loop_start()
    assert connected.wait(5)
    client.disconnect()
    client.loop_stop()
