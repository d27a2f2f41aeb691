from __future__ import annotations

import logging
import socket
import ssl
import subprocess
import sys
import threading

import pytest

from playground.broker import EmbeddedBroker, find_mosquitto
from playground.bus import Will
from playground.cli import main
from playground.errors import ConnectionFailed, PlaygroundError
from playground.message import Message
from playground.mqtt import BrokerUrl, MqttBus, Tls, find_password
from playground.recording import Recording

BACKENDS = [
    "amqtt",
    pytest.param(
        "mosquitto",
        marks=pytest.mark.skipif(
            find_mosquitto() is None, reason="mosquitto is not installed"
        ),
    ),
]


@pytest.fixture(params=BACKENDS)
def broker(request):
    with EmbeddedBroker(backend=request.param) as broker:
        yield broker


@pytest.fixture(params=["connect", "receive"])
def opening(request):
    """Both ways to a broker: paho's, and our own that only listens."""

    def open_one(bus: MqttBus):
        if request.param == "connect":
            return bus.connect("a")
        return bus.receive("a", lambda messages: None)

    return open_one


# ------------------------------------------------------------------------ URLs


@pytest.mark.parametrize(
    ("text", "rendered", "port", "user", "path"),
    [
        ("mqtt://host", "mqtt://host:1883", 1883, None, ""),
        ("mqtt://lab@host:1884", "mqtt://lab@host:1884", 1884, "lab", ""),
        ("mqtts://host/", "mqtts://host:8883", 8883, None, ""),
        ("ws://host", "ws://host:80/mqtt", 80, None, "/mqtt"),
        ("wss://host:9001/broker", "wss://host:9001/broker", 9001, None, "/broker"),
        ("tcp://host", "mqtt://host:1883", 1883, None, ""),
        ("MQTT://[::1]:1883", "mqtt://[::1]:1883", 1883, None, ""),
        ("mqtt://a%40b@host", "mqtt://a@b@host:1883", 1883, "a@b", ""),
    ],
)
def test_a_url_is_read(text, rendered, port, user, path):
    url = BrokerUrl.parse(text)
    assert (str(url), url.port, url.user, url.path) == (rendered, port, user, path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("localhost:1883", "write mqtt://localhost:1883"),
        ("", "has no scheme"),
        ("mqt://host", "Did you mean 'mqtt'"),
        ("http://host", "not one of mqtt, mqtts, ws, wss"),
        ("mqtt://", "names no host"),
        ("mqtt://host:port", "port could not be cast"),
        ("mqtt://host:0", "port 0"),
        ("mqtt://host:99999", "port out of range"),
        ("mqtt://host/topic", "nothing may follow"),
        ("ws://host/mqtt?x=1", "nothing may follow but a path"),
    ],
)
def test_a_url_that_is_none_is_refused_with_the_reason(text, said):
    with pytest.raises(PlaygroundError) as error:
        BrokerUrl.parse(text)
    assert said.lower() in str(error.value).lower()


@pytest.mark.parametrize(
    "text", ["mqtt://lab:hunter2@host", "mqt://lab:hunter2@host", "mqtt://lab:hunter2@"]
)
def test_a_password_in_a_url_is_refused_and_never_shown(text):
    with pytest.raises(PlaygroundError) as error:
        BrokerUrl.parse(text)
    assert "hunter2" not in str(error.value)
    assert "hunter2" not in repr(error.value)
    if text == "mqtt://lab:hunter2@host":
        assert "PLAYGROUND_MQTT_PASSWORD" in error.value.fix


def test_the_password_comes_from_a_file_or_the_environment(tmp_path):
    file = tmp_path / "password"
    file.write_text("se:cret \nnot this\n")
    assert find_password(file, {"PLAYGROUND_MQTT_PASSWORD": "x"}) == "se:cret "
    assert find_password(None, {"PLAYGROUND_MQTT_PASSWORD": "x"}) == "x"
    assert find_password(None, {}) is None
    file.write_text("\n")
    with pytest.raises(PlaygroundError, match="empty line"):
        find_password(file)
    with pytest.raises(PlaygroundError, match="cannot be read"):
        find_password(tmp_path / "nowhere")


# ------------------------------------------------------------------ connecting


def test_mqtt_5_is_spoken_where_it_is_known(mosquitto, embedded):
    for broker, protocol in ((mosquitto, "5"), (embedded, "3.1.1")):
        bus = MqttBus(broker.url)
        assert bus.protocol is None
        connection = bus.connect("a")
        assert (bus.protocol, connection.protocol) == (protocol, protocol)
        connection.disconnect()


def test_a_protocol_that_is_asked_for_and_not_known_is_an_error(opening, embedded):
    with pytest.raises(ConnectionFailed, match="does not speak MQTT 5"):
        opening(MqttBus(embedded.url, protocol="5"))


def test_a_port_where_nobody_listens_is_an_error(opening):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionFailed, match="Nobody listens") as error:
        opening(MqttBus(f"mqtt://127.0.0.1:{port}"))
    assert error.value.exit_code == 1
    assert "playground broker" in error.value.fix


def test_an_unknown_host_is_an_error(opening, monkeypatch):
    def nowhere(*_args, **_kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    with pytest.raises(
        ConnectionFailed, match=r"'broker\.invalid' of the broker is not"
    ):
        opening(MqttBus("mqtt://broker.invalid"))


def test_a_server_that_is_no_broker_is_an_error(opening, monkeypatch):
    monkeypatch.setattr("playground.mqtt.failures.CONNECT_WITHIN_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"mqtt://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ConnectionFailed, match="does not answer as an MQTT broker"):
            opening(MqttBus(url))


def test_a_server_that_hangs_up_is_an_error(opening):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            for _ in range(2):
                peer, _ = server.accept()
                peer.recv(100)
                peer.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"mqtt://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(
            ConnectionFailed, match="closed it before the MQTT handshake"
        ):
            opening(MqttBus(url))
        thread.join(5)


def test_failed_connections_leave_no_thread(opening):
    with EmbeddedBroker(users={"a": "b"}) as broker:
        before = threading.active_count()
        with pytest.raises(ConnectionFailed):
            opening(MqttBus(broker.url))
        assert threading.active_count() == before


def test_a_refused_login_tells_what_to_do(opening, monkeypatch):
    monkeypatch.delenv("PLAYGROUND_MQTT_PASSWORD", raising=False)
    with EmbeddedBroker(users={"lab": "right"}) as broker:
        named = broker.url.replace("//", "//lab@")
        with pytest.raises(ConnectionFailed, match="refuses the login") as nobody:
            opening(MqttBus(broker.url))
        with pytest.raises(ConnectionFailed, match="refuses the login") as unsaid:
            opening(MqttBus(named))
        with pytest.raises(ConnectionFailed, match="refuses the login") as wrong:
            opening(MqttBus(named, password="hunter2"))
        assert "name a user" in nobody.value.fix
        assert "PLAYGROUND_MQTT_PASSWORD" in unsaid.value.fix
        assert "check the password" in wrong.value.fix
        assert "hunter2" not in str(wrong.value)
        monkeypatch.setenv("PLAYGROUND_MQTT_PASSWORD", "right")
        opening(MqttBus(named)).disconnect()


# ------------------------------------------------------------------ messages


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize(
    "payload",
    [b"", b"\0", b"\r\n", b"\xff\xfe", b"x" * 1_000_000],
    ids=["empty", "NUL", "CRLF", "no UTF-8", "1 MB"],
)
def test_payloads_arrive_as_they_were_sent(broker, eventually, qos, payload):
    got: list[Message] = []
    connection = MqttBus(broker.url).connect("a", got.append)
    connection.subscribe("#", qos=2)
    connection.publish("t/\u00e4 \u4e16$", payload, qos=qos)
    eventually(lambda: got)
    (message,) = got
    assert (message.topic, message.payload, message.qos, message.retain) == (
        "t/\u00e4 \u4e16$",
        payload,
        qos,
        False,
    )
    assert message.kind == "publish"
    connection.disconnect()


def test_mqtt_5_properties_travel_as_json(mosquitto, eventually):
    got: list[Message] = []
    connection = MqttBus(mosquitto.url).connect("a", got.append)
    connection.subscribe("#")
    properties = (
        '{"content_type":"text/plain","correlation_data":"3q2+7w==",'
        '"response_topic":"back","user_property":[["site","lab"],["site","2"]]}'
    )
    connection.publish("t", b"1", properties=properties)
    connection.publish("t", b"2")
    eventually(lambda: len(got) == 2)
    assert [m.properties for m in got] == [properties, None]
    connection.disconnect()


def test_the_retain_flag_is_the_publishers_only_where_asked_for(mosquitto, eventually):
    plain: list[Message] = []
    published: list[Message] = []
    url = mosquitto.url
    one = MqttBus(url).connect("plain", plain.append)
    two = MqttBus(url, retain_as_published=True).connect("rap", published.append)
    for connection in (one, two):
        connection.subscribe("t")
    one.publish("t", b"1", retain=True)
    eventually(lambda: plain and published)
    assert (plain[0].retain, published[0].retain) == (False, True)
    one.disconnect()
    two.disconnect()


def test_retained_messages_can_be_left_out_with_mqtt_5(mosquitto, eventually):
    got: list[Message] = []
    connection = MqttBus(mosquitto.url).connect("a", got.append)
    connection.publish("kept", b"old", retain=True, qos=1)
    connection.flush()
    connection.subscribe("kept", retained=False)
    connection.publish("kept", b"new", qos=1)
    eventually(lambda: got)
    assert [m.payload for m in got] == [b"new"]
    connection.disconnect()


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_flush_returns_when_the_broker_has_everything(broker, eventually, qos):
    got: list[Message] = []
    listener = MqttBus(broker.url).connect("l", got.append)
    listener.subscribe("#", qos=2)
    publisher = MqttBus(broker.url).connect("p")
    for n in range(500):
        publisher.publish("t", b"%d" % n, qos=qos)
    publisher.flush(10)
    publisher.disconnect()
    eventually(lambda: len(got) == 500)
    assert [int(m.payload) for m in got] == list(range(500))
    listener.disconnect()


def test_flush_says_when_the_broker_does_not_take_it():
    with EmbeddedBroker() as broker:
        publisher = MqttBus(broker.url).connect("p")
        broker.stop()
        publisher.publish("t", b"", qos=1)
        with pytest.raises(ConnectionFailed, match="1 messages were not taken"):
            publisher.flush(0.1)
        publisher.disconnect()


def test_what_a_publisher_does_wrong_is_refused(broker):
    connection = MqttBus(broker.url).connect("p")
    with pytest.raises(PlaygroundError, match="wildcard"):
        connection.publish("a/#", b"")
    with pytest.raises(PlaygroundError, match="empty"):
        connection.publish("", b"")
    with pytest.raises(PlaygroundError, match="last level"):
        connection.subscribe("a/#/b")
    connection.disconnect()
    connection.disconnect()
    with pytest.raises(PlaygroundError, match="has disconnected"):
        connection.publish("a", b"")


def test_a_refused_subscription_is_an_error(tmp_path):
    with EmbeddedBroker() as broker:
        connection = MqttBus(broker.url).connect("p")
        with pytest.raises(
            ConnectionFailed, match=r"refuses the subscription to '\$share"
        ):
            connection.subscribe("$share/a/b")
        connection.disconnect()


def test_a_callback_that_fails_is_logged_and_the_rest_is_heard(
    broker, eventually, caplog
):
    got: list[bytes] = []

    def on_message(message: Message) -> None:
        if message.payload == b"bad":
            raise ValueError("no number")
        got.append(message.payload)

    connection = MqttBus(broker.url).connect("a", on_message)
    connection.subscribe("#")
    connection.publish("t", b"bad")
    connection.publish("t", b"good")
    eventually(lambda: got)
    assert got == [b"good"]
    assert isinstance(connection.failure, ValueError)
    assert "a callback failed" in caplog.text
    connection.disconnect()


def test_callbacks_may_publish_and_subscribe(broker, eventually):
    got: list[tuple[str, bytes]] = []

    def on_message(message: Message) -> None:
        got.append((message.topic, message.payload))
        if message.topic == "ask":
            connection.subscribe("late")
            connection.publish("late", b"1", qos=1)

    connection = MqttBus(broker.url).connect("a", on_message)
    connection.subscribe("ask")
    connection.publish("ask", b"")
    eventually(lambda: len(got) == 2)
    assert got == [("ask", b""), ("late", b"1")]
    connection.disconnect()


def test_messages_can_be_dispatched_to_another_thread(broker, eventually):
    calls = []
    threads = []
    bus = MqttBus(broker.url, dispatch=calls.append)
    connection = bus.connect("a", lambda _: threads.append(threading.current_thread()))
    connection.subscribe("#")
    connection.publish("t", b"")
    eventually(lambda: calls)
    assert threads == []
    calls[0]()
    assert threads == [threading.main_thread()]
    connection.disconnect()


def test_messages_are_stamped_by_the_clock(broker, eventually):
    class Clock:
        def time_ns(self) -> int:
            return 42

    got: list[Message] = []
    connection = MqttBus(broker.url, clock=Clock()).connect("a", got.append)
    connection.subscribe("#")
    connection.publish("t", b"")
    eventually(lambda: got)
    assert got[0].time_ns == 42
    connection.disconnect()


def test_the_will_is_published_for_who_vanishes_and_not_for_who_leaves(
    broker, eventually
):
    got: list[tuple[str, bytes]] = []
    bus = MqttBus(broker.url)
    listener = bus.connect("l", lambda m: got.append((m.topic, m.payload)))
    listener.subscribe("#")
    bus.connect("leaves", will=Will(topic="w/leaves", payload=b"")).disconnect()
    bus.connect("vanishes", will=Will(topic="w/vanishes", payload=b"1", qos=1)).abort()
    eventually(lambda: got)
    listener.publish("end", b"")
    eventually(lambda: len(got) == 2)
    assert got == [("w/vanishes", b"1"), ("end", b"")]
    listener.disconnect()


# --------------------------------------------------------------- losing it


def test_a_lost_connection_comes_back_and_subscribes_again(eventually):
    got: list[Message] = []
    events: list[str] = []
    with EmbeddedBroker() as broker:
        port = broker.port
        connection = MqttBus(broker.url).connect(
            "a",
            got.append,
            on_lost=lambda reason: events.append("lost"),
            on_back=lambda: events.append("back"),
        )
        connection.subscribe("t/#", qos=1)
    eventually(lambda: events == ["lost"])
    assert not connection.is_connected
    connection.publish("t/0", b"gone", qos=0)
    assert connection.dropped == 1
    connection.publish("t/1", b"kept", qos=1)
    with EmbeddedBroker(port=port):
        eventually(lambda: events == ["lost", "back"])
        eventually(lambda: got)
        connection.publish("t/2", b"new")
        eventually(lambda: len(got) == 2)
        assert {m.payload for m in got} == {b"kept", b"new"}
        connection.disconnect()
    assert events == ["lost", "back"]


def test_acknowledged_by_hand_means_sent_again_until_then(broker, eventually):
    bus = MqttBus(broker.url)
    first: list[Message] = []
    one = bus.connect("c", first.append, clean=False, manual_ack=True)
    one.subscribe("t", qos=1)
    publisher = bus.connect("p")
    for n in range(3):
        publisher.publish("t", b"%d" % n, qos=1)
    eventually(lambda: len(first) == 3)
    one.acknowledge(first[0])
    one.publish("after", b"", qos=1)
    one.flush()  # what was said before is said, too
    one.abort()
    second: list[Message] = []
    two = bus.connect("c", second.append, clean=False, manual_ack=True)
    assert two.session_present
    eventually(lambda: len(second) == 2)
    assert [(m.payload, m.dup) for m in second] == [(b"1", True), (b"2", True)]
    for message in second:
        two.acknowledge(message)
    two.disconnect()
    third: list[Message] = []
    three = bus.connect("c", third.append, clean=False)
    publisher.publish("t", b"end", qos=1)
    eventually(lambda: third)
    assert [m.payload for m in third] == [b"end"]
    three.disconnect()
    publisher.disconnect()


# -------------------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A CA, a server's, a client's and an expired certificate, by openssl."""
    folder = tmp_path_factory.mktemp("certificates")

    def run(*arguments: str) -> None:
        subprocess.run(
            ["openssl", *arguments], cwd=folder, check=True, capture_output=True
        )

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    try:
        run(
            *("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem"),
            *("-subj", "/CN=test ca", "-days", "2"),
        )
    except OSError:
        pytest.skip("openssl is not installed")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for name, days in (("server", "2"), ("client", "2"), ("expired", "0")):
        run(
            *("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr"),
            *("-subj", f"/CN={name}"),
        )
        run(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem"),
            *("-CAkey", "ca.key", "-CAcreateserial", "-out", f"{name}.pem"),
            *("-days", days, "-extfile", "san"),
        )
    return folder


@pytest.fixture
def tls_mosquitto(certificates, tmp_path):
    """Starts mosquitto with TLS; gives a function of (certificate, ask, ws)."""
    program = find_mosquitto()
    if program is None:
        pytest.skip("mosquitto is not installed")
    running = []

    def start(name: str = "server", *, ask: bool = False, websockets: bool = False):
        with (
            socket.create_server(("127.0.0.1", 0)) as probe,
            socket.create_server(("127.0.0.1", 0)) as other,
        ):
            port, plain = probe.getsockname()[1], other.getsockname()[1]
        lines = [
            "persistence false",
            "allow_anonymous true",
            "user root",
            # mosquitto does not start with WebSocket listeners alone.
            f"listener {plain} 127.0.0.1",
            f"listener {port} 127.0.0.1",
            f"cafile {certificates}/ca.pem",
            f"certfile {certificates}/{name}.pem",
            f"keyfile {certificates}/{name}.key",
            f"require_certificate {'true' if ask else 'false'}",
            *(["protocol websockets"] if websockets else []),
        ]
        file = tmp_path / f"{port}.conf"
        file.write_text("\n".join(lines) + "\n")
        process = subprocess.Popen(
            [program, "-c", file], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        running.append(process)
        pause = threading.Event()
        for _ in range(1000):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                pause.wait(0.01)
        return port

    yield start
    for process in running:
        process.terminate()
        process.wait(5)


def test_one_thread_speaks_and_hears_over_an_encrypted_connection(
    certificates, tls_mosquitto
):
    tls = Tls(ca_file=certificates / "ca.pem")
    port = tls_mosquitto()
    got: list[Message] = []
    dialogue = MqttBus(f"mqtts://127.0.0.1:{port}", tls=tls).converse("a", got.append)
    dialogue.subscribe("t", qos=1)
    payloads = [b"%d" % number * 20_000 for number in range(50)]
    for payload in payloads:
        dialogue.publish("t", payload, qos=1)
    dialogue.flush()
    while len(got) < len(payloads) and dialogue.receive(10.0):
        pass
    dialogue.disconnect()
    assert [message.payload for message in got] == payloads


def test_encrypted_connections_work_over_tcp_and_websocket(
    certificates, tls_mosquitto, eventually
):
    tls = Tls(ca_file=certificates / "ca.pem")
    for scheme in ("mqtts", "wss"):
        port = tls_mosquitto(websockets=scheme == "wss")
        got: list[Message] = []
        connection = MqttBus(f"{scheme}://127.0.0.1:{port}", tls=tls).connect(
            "a", got.append
        )
        connection.subscribe("t")
        connection.publish("t", b"1", qos=1)
        eventually(lambda: got)  # noqa: B023
        connection.disconnect()


def test_a_client_certificate_is_shown_where_the_broker_asks(
    opening, certificates, tls_mosquitto
):
    port = tls_mosquitto(ask=True)
    url = f"mqtts://127.0.0.1:{port}"
    tls = Tls(
        ca_file=certificates / "ca.pem",
        certificate_file=certificates / "client.pem",
        key_file=certificates / "client.key",
    )
    opening(MqttBus(url, tls=tls)).disconnect()
    with pytest.raises(ConnectionFailed) as error:
        opening(MqttBus(url, tls=Tls(ca_file=certificates / "ca.pem")))
    assert "certificate" in str(error.value)


@pytest.mark.parametrize(
    ("server", "trusts", "said"),
    [
        ("server", False, "is not accepted: "),
        ("expired", True, "is not accepted: certificate has expired"),
    ],
)
def test_a_certificate_that_is_not_good_is_an_error(
    opening, certificates, tls_mosquitto, server, trusts, said
):
    port = tls_mosquitto(server)
    tls = Tls(ca_file=certificates / "ca.pem") if trusts else None
    with pytest.raises(ConnectionFailed, match=said):
        opening(MqttBus(f"mqtts://127.0.0.1:{port}", tls=tls))


def test_record_with_an_expired_certificate_says_so_and_leaves_nothing(
    certificates, tls_mosquitto, tmp_path, capsys
):
    out = tmp_path / "out"
    out.mkdir()
    url = f"mqtts://127.0.0.1:{tls_mosquitto('expired')}"
    ca = certificates / "ca.pem"
    with pytest.raises(SystemExit) as end:
        main(["record", f"{out}/a.parquet", "--broker", url, "--ca", str(ca)])
    assert end.value.code == 1
    errors = capsys.readouterr().err
    assert "certificate has expired" in errors
    assert "fix: " in errors
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("scheme", ["mqtts", "ws", "wss"])
def test_record_hears_over_every_scheme(
    certificates, tls_mosquitto, tmp_path, scheme, eventually
):
    """The user's command; over mqtts with a certificate of the client's, too."""
    ca = ["--ca", str(certificates / "ca.pem")]
    tls = Tls(ca_file=certificates / "ca.pem")
    if scheme == "ws":
        ca, tls = [], None
        broker = EmbeddedBroker(backend="mosquitto", websocket_port=0).start()
        url = f"ws://127.0.0.1:{broker.websocket_port}"
    else:
        broker = None
        ask = scheme == "mqtts"
        port = tls_mosquitto(ask=ask, websockets=scheme == "wss")
        url = f"{scheme}://127.0.0.1:{port}"
        if ask:
            own = (certificates / "client.pem", certificates / "client.key")
            ca += ["--cert", str(own[0]), "--key", str(own[1])]
            tls = Tls(
                ca_file=certificates / "ca.pem",
                certificate_file=own[0],
                key_file=own[1],
            )
    plant = MqttBus(url, tls=tls).connect("plant")
    plant.publish("t/kept", b"\xff\0", qos=1, retain=True)
    plant.flush()
    path = tmp_path / "a.parquet"
    command = [sys.executable, "-c", "from playground.cli import main; main()"]
    process = subprocess.Popen(
        [*command, "record", str(path), "--broker", url, "-t", "t/#", *ca],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith(f"recording {scheme}://")
    plant.publish("t/live", b"1", qos=1)
    plant.flush()
    journal = tmp_path / "a.parquet.journal"
    eventually(lambda: all(t in journal.read_bytes() for t in (b"t/kept", b"t/live")))
    process.terminate()
    assert process.communicate(timeout=20)[0].startswith("2 messages in ")
    plant.disconnect()
    if broker is not None:
        broker.stop()
    recording = Recording.open(path)
    said = {m.topic: (m.payload, m.retain) for m in recording.messages()}
    assert said == {"t/kept": (b"\xff\0", True), "t/live": (b"1", False)}
    assert len(recording.metadata["retained_snapshot"]) == 1


def test_plain_and_encrypted_ports_are_told_apart(
    opening, certificates, tls_mosquitto, embedded
):
    with pytest.raises(ConnectionFailed, match="does not begin an encrypted"):
        opening(MqttBus(f"mqtts://127.0.0.1:{embedded.port}"))
    with pytest.raises(ConnectionFailed):
        opening(MqttBus(f"mqtt://127.0.0.1:{tls_mosquitto()}"))


def test_a_plain_mosquitto_is_told_from_an_encrypted_one(
    opening, certificates, mosquitto
):
    tls = Tls(ca_file=certificates / "ca.pem")
    with pytest.raises(ConnectionFailed) as error:
        opening(MqttBus(f"mqtts://127.0.0.1:{mosquitto.port}", tls=tls))
    assert "is it an encrypted port?" in str(error.value)


def test_certificate_files_are_checked_before_connecting(tmp_path):
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    for tls in (
        Tls(ca_file=bad),
        Tls(ca_file=tmp_path / "nowhere.pem"),
        Tls(certificate_file=bad),
        Tls(key_file=bad),
    ):
        with pytest.raises(PlaygroundError):
            MqttBus("mqtts://host", tls=tls)
    with pytest.raises(PlaygroundError, match="is not encrypted"):
        MqttBus("mqtt://host", tls=Tls())


def test_tls_contexts_verify_by_default():
    context = Tls().context()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


def test_nothing_is_logged_when_all_goes_well(broker, caplog):
    caplog.set_level(logging.WARNING)
    connection = MqttBus(broker.url).connect("a")
    connection.subscribe("t")
    connection.unsubscribe("t")
    connection.disconnect()
    assert caplog.records == []


# --------------------------------------------------------------------- receiver


def receive(bus: MqttBus, **options):
    got: list[Message] = []
    receiver = bus.receive("receiver", got.extend, **options)
    return receiver, got


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_receiver_hears_what_a_connection_hears(broker, eventually, qos):
    bus = MqttBus(broker.url, retain_as_published=True)
    receiver, got = receive(bus)
    heard: list[Message] = []
    connection = bus.connect("connection", heard.append)
    for listener in (receiver, connection):
        listener.subscribe("#", qos=qos)
    publisher = bus.connect("p")
    payloads = [b"", b"\0\xff", b"x" * 300_000, *(b"%d" % n for n in range(500))]
    for number, payload in enumerate(payloads):
        publisher.publish(
            f"t/{number % 3}",
            payload,
            qos=qos,
            retain=number % 2 == 0,
            properties='{"content_type":"x"}',
        )
    eventually(lambda: len(got) == len(heard) == len(payloads))
    assert [m._replace(time_ns=0) for m in got] == [
        m._replace(time_ns=0) for m in heard
    ]
    receiver.unsubscribe("#")
    publisher.publish("t", b"", qos=1)
    publisher.flush()
    assert len(got) == len(payloads)
    for each in (receiver, connection, publisher):
        each.disconnect()


def test_a_receiver_works_over_tls(certificates, tls_mosquitto, eventually):
    url = f"mqtts://127.0.0.1:{tls_mosquitto()}"
    bus = MqttBus(url, tls=Tls(ca_file=certificates / "ca.pem"))
    receiver, got = receive(bus)
    receiver.subscribe("#")
    publisher = bus.connect("p")
    for number in range(500):
        publisher.publish("t", b"%d" % number + b"x" * 1000)
    eventually(lambda: len(got) == 500)
    receiver.disconnect()
    publisher.disconnect()


def test_a_receiver_comes_back_and_says_so_when_all_is_answered(eventually):
    events: list[str] = []
    first = EmbeddedBroker().start()
    second = EmbeddedBroker(port=first.port)
    receiver, got = receive(
        MqttBus(first.url),
        on_lost=lambda reason: events.append("lost"),
        on_back=lambda: events.append("back"),
    )
    receiver.subscribe("t", qos=1)
    first.stop()
    eventually(lambda: events == ["lost"])
    with pytest.raises(ConnectionFailed):
        receiver.subscribe("more")
    second.start()
    eventually(lambda: events == ["lost", "back"])
    publisher = MqttBus(second.url).connect("p")
    publisher.publish("t", b"1", qos=1)
    eventually(lambda: got)
    publisher.disconnect()
    receiver.disconnect()
    second.stop()
    assert events == ["lost", "back"]


def test_a_receiver_waits_longer_from_try_to_try(eventually, monkeypatch):
    broker = EmbeddedBroker().start()
    receiver, _ = receive(MqttBus(broker.url))
    delays: list[float] = []
    enough = threading.Event()

    def wait(delay_s: float) -> bool:
        delays.append(delay_s)
        if len(delays) == 8:
            enough.set()
        return len(delays) >= 8

    monkeypatch.setattr(receiver._closing, "wait", wait)
    broker.stop()
    assert enough.wait(10)
    assert delays == [0.25, 0.5, 1, 2, 4, 8, 10, 10]
    receiver.disconnect()


def test_a_receiver_notices_a_broker_that_has_fallen_silent(eventually):
    """It answers CONNECT and then nothing, as behind a cut cable."""
    lost: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        peers = []

        def answer() -> None:
            peer, _ = server.accept()
            peer.recv(1000)
            peer.sendall(b"\x20\x02\x00\x00")
            peers.append(peer)

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"mqtt://127.0.0.1:{server.getsockname()[1]}"
        bus = MqttBus(url, protocol="3.1.1", keep_alive_s=1)
        receiver, _ = receive(bus, on_lost=lost.append)
        thread.join(5)
        eventually(lambda: lost == ["keep alive timeout"], within_s=5)
        assert peers[0].recv(2) == b"\xc0\x00"  # it had asked: PINGREQ
        receiver.disconnect()
        peers[0].close()


def test_a_quiet_connection_is_kept_alive(broker, eventually):
    lost: list[str] = []
    receiver, got = receive(MqttBus(broker.url, keep_alive_s=1), on_lost=lost.append)
    receiver.subscribe("t")
    assert not threading.Event().wait(1.8)  # a broker gives up after 1.5 keep-alives
    publisher = MqttBus(broker.url).connect("p")
    publisher.publish("t", b"")
    eventually(lambda: got)
    assert lost == []
    publisher.disconnect()
    receiver.disconnect()


def test_a_receiver_that_was_told_to_end_ends_while_it_tries_to_come_back(eventually):
    lost: list[str] = []
    broker = EmbeddedBroker().start()
    receiver, _ = receive(MqttBus(broker.url), on_lost=lost.append)
    broker.stop()
    eventually(lambda: lost)
    before = threading.active_count()
    receiver.disconnect()
    receiver.disconnect()
    assert threading.active_count() == before - 1


def test_a_receiver_does_not_speak_websocket():
    with pytest.raises(ValueError, match="WebSocket"):
        MqttBus("ws://host").receive("a", print)


def test_a_message_at_qos_2_is_taken_once_though_it_is_sent_twice(eventually):
    """Twice PUBLISH with one packet id before PUBREL [MQTT-4.3.3-2]."""
    from playground.packets import Connack, PacketReader, Publish, Pubrel, encode

    got: list[Message] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        answers = []

        def serve() -> None:
            peer, _ = server.accept()
            reader = PacketReader()
            reader.feed(peer.recv(1000))
            peer.sendall(encode(Connack(), 4))
            one = Publish("t", b"1", 2, False, False, 7)
            peer.sendall(encode(one, 4))
            peer.sendall(encode(one._replace(dup=True), 4))
            peer.sendall(encode(Pubrel(packet_id=7), 4))
            peer.sendall(encode(one._replace(payload=b"2"), 4))
            while len(answers) < 4:
                reader.feed(peer.recv(1000))
                answers.extend(type(p).__name__ for p in reader if p.TYPE != 1)
            peer.close()

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"mqtt://127.0.0.1:{server.getsockname()[1]}"
        receiver = MqttBus(url, protocol="3.1.1").receive("a", got.extend)
        thread.join(10)
        eventually(lambda: len(got) == 2)
        receiver.disconnect()
    assert [m.payload for m in got] == [b"1", b"2"]
    assert sorted(answers) == ["Pubcomp", "Pubrec", "Pubrec", "Pubrec"]
