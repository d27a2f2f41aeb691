from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from functools import partial
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from playground import packets
from playground.broker import EmbeddedBroker, find_mosquitto
from playground.errors import ConnectionFailed, PlaygroundError
from playground.message import Message
from playground.mqtt import MqttBus, Receiver
from playground.record import (
    BrokerSource,
    EmbeddedSource,
    Recorder,
    Rotation,
    Window,
    make_trigger,
    record,
)
from playground.record.sources import smallest
from playground.recording import Recording, RecordingStopped, journal
from playground.signals_file import load_signals

PAYLOADS = [b"", b"\0", b"\r\n", b"\xff\xfe\x00", b'{"v":1}', b"x" * 1_000_000]


def rows(recording: Recording, *kinds: str) -> list[Message]:
    kinds = kinds or ("publish",)
    return list(recording.messages(kinds=kinds))


# ------------------------------------------------------------- what is written


def test_everything_a_broker_passes_on_is_written_down(mosquitto, tmp_path, eventually):
    path = tmp_path / "a.parquet"
    publisher = MqttBus(mosquitto.url).connect("plant")
    with Recorder(mosquitto.url, path) as recorder:
        for number, payload in enumerate(PAYLOADS):
            publisher.publish(
                f"t/{number}/ä b", payload, properties='{"content_type":"x"}'
            )
        publisher.flush()
        eventually(lambda: recorder.progress().count == len(PAYLOADS))
    publisher.disconnect()
    recording = Recording.open(path)
    assert [(m.topic, m.payload, m.properties) for m in rows(recording)] == [
        (f"t/{number}/ä b", payload, '{"content_type":"x"}')
        for number, payload in enumerate(PAYLOADS)
    ]
    assert recording.metadata["broker"] == mosquitto.url
    assert recording.metadata["protocol"] == "MQTT 5"
    assert recording.metadata["warnings"] == []
    assert recording.sha256 == recorder.recording.sha256


def test_only_what_the_filters_cover_is_recorded_and_only_once(
    mosquitto, tmp_path, eventually
):
    path = tmp_path / "a.parquet"
    publisher = MqttBus(mosquitto.url).connect("plant")
    with Recorder(
        mosquitto.url,
        path,
        filters=("a/#", "a/b", "c/+", "$lab/x"),
        exclude=("a/secret/#",),
    ) as recorder:
        for topic in ("a", "a/b", "a/secret/x", "b", "c/d", "c/d/e", "$lab/x"):
            publisher.publish(topic, b"1", qos=1)
        publisher.publish("a/end", b"", qos=1)
        publisher.flush()
        eventually(lambda: recorder.progress().count == 5)
    publisher.disconnect()
    topics = [m.topic for m in rows(recorder.recording)]
    assert topics == ["a", "a/b", "c/d", "$lab/x", "a/end"]
    assert recorder.recording.metadata["filters"] == ["a/#", "a/b", "c/+", "$lab/x"]
    assert recorder.recording.metadata["exclude"] == ["a/secret/#"]


@pytest.mark.parametrize(
    ("given", "left"),
    [
        (("a/#", "a/b", "a/+"), ("a/#",)),
        (("a/b", "a/b"), ("a/b",)),
        (("#", "$SYS/#", "a"), ("#", "$SYS/#")),
        (("+/b", "a/+"), ("+/b", "a/+")),
        (("a/+/c", "a/b/c", "a/+/+"), ("a/+/+",)),
        (("a/+", "a/#/"[:-1]), ("a/#",)),
        (("+", "#"), ("#",)),
        (("a", "a/#"), ("a/#",)),
        (("a/b/#", "a/+"), ("a/b/#", "a/+")),
    ],
)
def test_filters_that_others_cover_are_not_subscribed(given, left):
    assert smallest(given) == left


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("+/b", "a/+", True),
        ("a/#", "b/#", False),
        ("a/+", "a/b/c", False),
        ("a/+/#", "a/b", True),
        ("#", "$SYS/#", False),
        ("a", "a/#", True),
    ],
)
def test_overlapping_filters_are_found(one, other, overlap):
    from playground.record.sources import _overlap

    assert _overlap(one, other) is overlap
    assert _overlap(other, one) is overlap


def test_a_message_that_two_filters_cover_is_recorded_once(
    mosquitto, tmp_path, eventually
):
    publisher = MqttBus(mosquitto.url).connect("plant")
    properties = '{"content_type":"x"}'
    with Recorder(mosquitto.url, tmp_path / "a.parquet", filters=("+/b", "a/+")) as rec:
        for topic in ("a/b", "c/b", "a/d", "a/b"):
            publisher.publish(topic, b"", qos=1, properties=properties)
        publisher.publish("a/end", b"", qos=1)
        eventually(lambda: rec.progress().count == 5)
    publisher.disconnect()
    topics = [m.topic for m in rows(rec.recording)]
    assert topics == ["a/b", "c/b", "a/d", "a/b", "a/end"]
    assert {m.properties for m in rows(rec.recording)[:4]} == {properties}


def test_the_retained_snapshot_is_told_from_live_messages(
    mosquitto, tmp_path, eventually
):
    publisher = MqttBus(mosquitto.url).connect("plant")
    publisher.publish("kept/1", b"old", retain=True, qos=1)
    publisher.publish("kept/2", b"old", retain=True, qos=1)
    publisher.flush()
    with Recorder(
        mosquitto.url, tmp_path / "a.parquet", exclude=("kept/2",)
    ) as recorder:
        publisher.publish("kept/1", b"new", retain=True, qos=1)
        publisher.publish("live", b"", qos=1)
        publisher.flush()
        eventually(lambda: recorder.progress().count == 3)
    publisher.disconnect()
    written = rows(recorder.recording)
    spans = recorder.recording.metadata["retained_snapshot"]
    snapshot = {seq for first, last in spans for seq in range(first, last + 1)}
    told = [
        (m.topic, m.payload, m.retain, seq in snapshot) for seq, m in enumerate(written)
    ]
    assert ("kept/1", b"old", True, True) in told or (
        "kept/1",
        b"new",
        True,
        True,
    ) in told
    assert ("kept/1", b"new", True, False) in told
    assert ("live", b"", False, False) in told
    assert len(told) == 3


def test_with_mqtt_3_1_1_the_recording_says_what_cannot_be_trusted(
    tmp_path, eventually
):
    with EmbeddedBroker() as broker:
        publisher = MqttBus(broker.url).connect("plant")
        publisher.publish("kept", b"old", retain=True, qos=1)
        publisher.flush()
        with Recorder(broker.url, tmp_path / "a.parquet") as recorder:
            publisher.publish("kept", b"new", retain=True)
            eventually(lambda: recorder.progress().count == 2)
        publisher.disconnect()
    recording = recorder.recording
    assert [(m.payload, m.retain) for m in rows(recording)] == [
        (b"old", True),
        (b"new", False),
    ]
    assert recording.metadata["retained_snapshot"] == [[0, 0]]
    assert recording.metadata["protocol"] == "MQTT 3.1.1"
    (warning,) = recording.metadata["warnings"]
    assert "retain flag" in warning
    assert warning in recording.summary().warnings


def test_the_embedded_broker_tells_publishers_true_flags_and_session_events(
    tmp_path, eventually
):
    broker = EmbeddedBroker()
    with Recorder(
        EmbeddedSource(broker), tmp_path / "a.parquet", exclude=("no",)
    ) as rec:
        client = MqttBus(broker.url).connect("plant")
        client.subscribe("cmd/#", qos=1)
        client.publish("t", b"1", qos=2, retain=True)
        client.publish("no", b"")
        client.unsubscribe("cmd/#")
        client.disconnect()
        eventually(lambda: rec.progress().count == 5)
    assert not broker.is_running
    assert [(m.kind, m.topic, m.qos, m.retain, m.client) for m in _all(rec)] == [
        ("connect", "", 0, False, "plant"),
        ("subscribe", "cmd/#", 1, False, "plant"),
        ("publish", "t", 2, True, "plant"),
        ("unsubscribe", "cmd/#", 0, False, "plant"),
        ("disconnect", "", 0, False, "plant"),
    ]
    assert rec.recording.metadata["source"] == "embedded"
    assert rec.recording.metadata["broker"].startswith("mqtt://127.0.0.1:")


def test_the_embedded_broker_tells_wills_and_repeated_messages(tmp_path, eventually):
    broker = EmbeddedBroker()
    with Recorder(EmbeddedSource(broker), tmp_path / "a.parquet") as recorder:
        with socket.create_connection(("127.0.0.1", broker.port)) as raw:
            will = packets.Will(topic="w", payload=b"gone", qos=1, retain=True)
            hello = packets.Connect(
                client_id="rig", version=packets.MQTT_3_1_1, will=will
            )
            again = packets.Publish("t", b"1", 1, False, True, 7)
            for packet in (hello, again):
                raw.sendall(packets.encode(packet, packets.MQTT_3_1_1))
            eventually(lambda: recorder.progress().count == 2)
        # Gone without a word.
        eventually(lambda: recorder.progress().count == 4)
    assert sorted(
        (m.kind, m.topic, m.payload, m.qos, m.dup, m.client) for m in _all(recorder)
    ) == [
        ("connect", "", b"", 0, False, "rig"),
        ("disconnect", "", b"", 0, False, "rig"),
        ("publish", "t", b"1", 1, True, "rig"),
        ("will", "w", b"gone", 1, False, "rig"),
    ]


def _all(recorder: Recorder) -> list[Message]:
    kinds = (
        "publish",
        "connect",
        "disconnect",
        "subscribe",
        "unsubscribe",
        "will",
        "gap",
    )
    return rows(recorder.recording, *kinds)


def test_recording_a_running_embedded_broker_begins_with_what_it_has_kept(tmp_path):
    with EmbeddedBroker() as broker:
        client = MqttBus(broker.url).connect("plant")
        client.publish("kept", b"1", qos=1, retain=True)
        client.flush()
        with Recorder(broker, tmp_path / "a.parquet") as recorder:
            pass
        assert broker.is_running
        client.disconnect()
    assert [(m.topic, m.client) for m in rows(recorder.recording)] == [
        ("kept", "plant")
    ]
    assert recorder.recording.metadata["retained_snapshot"] == [[0, 0]]


def test_times_never_run_backwards(tmp_path):
    recorder = Recorder(EmbeddedBroker(), tmp_path / "a.parquet")
    with recorder:
        recorder.take(Message(20, "a", b""))
        recorder.take(Message(10, "b", b""))
    assert [m.time_ns for m in rows(recorder.recording)] == [20, 20]


# ------------------------------------------------------------------ beginning


def test_nothing_is_left_when_the_broker_cannot_be_reached(tmp_path):
    with pytest.raises(ConnectionFailed):
        Recorder("mqtt://127.0.0.1:1", tmp_path / "a.parquet").start()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_when_a_subscription_is_refused(tmp_path):
    with EmbeddedBroker() as broker:
        recorder = Recorder(broker.url, tmp_path / "a.parquet", filters=("$share/g/a",))
        with pytest.raises(ConnectionFailed, match="refuses the subscription"):
            recorder.start()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_recording_is_not_touched_unless_told(tmp_path, eventually):
    path = tmp_path / "a.parquet"
    with EmbeddedBroker() as broker:
        with Recorder(broker, path):
            pass
        before = path.read_bytes()
        with pytest.raises(PlaygroundError, match="exists"):
            Recorder(broker, path).start()
        assert path.read_bytes() == before
        with Recorder(broker, path, overwrite=True) as again:
            again.take(Message(1, "a", b""))
    assert Recording.open(path).count == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]


def test_a_wrong_qos_is_refused():
    with pytest.raises(PlaygroundError, match="QoS is 3"):
        BrokerSource("mqtt://host", qos=3)


def test_the_password_is_nowhere_in_the_recording(tmp_path):
    with EmbeddedBroker(users={"lab": "hunter2"}) as broker:
        url = broker.url.replace("//", "//lab@")
        source = BrokerSource(url, password="hunter2")
        with Recorder(source, tmp_path / "a.parquet") as recorder:
            recorder.take(Message(1, "a", b""))
    assert b"hunter2" not in (tmp_path / "a.parquet").read_bytes()
    assert "lab@" in recorder.recording.metadata["broker"]


# -------------------------------------------------------------------- ending


def test_record_ends_when_the_time_is_over_and_tells_its_progress(tmp_path):
    told = []
    recording = record(
        EmbeddedBroker(),
        tmp_path / "a.parquet",
        duration_s=0.3,
        on_progress=told.append,
        progress_every_s=0.1,
    )
    assert recording.count == 0
    assert 2 <= len(told) <= 4
    assert 0.3 <= recording.metadata["end_ns"] / 1e9 - recording.start_ns / 1e9 < 5


def test_record_ends_when_it_is_told_to(tmp_path):
    stop = threading.Event()
    recording = record(
        EmbeddedBroker(),
        tmp_path / "a.parquet",
        stop=stop,
        on_start=lambda _: stop.set(),
    )
    assert recording.count == 0


def test_a_full_disk_ends_the_recording_and_keeps_what_it_had(tmp_path, monkeypatch):
    from playground.recording.journal import JournalWriter

    real = JournalWriter.append
    room = 10

    def append(self, message, seq):
        nonlocal room
        if room == 0:
            raise RecordingStopped("No space left on device.", "make room")
        room -= 1
        return real(self, message, seq)

    monkeypatch.setattr(JournalWriter, "append", append)
    recorder = Recorder(EmbeddedBroker(), tmp_path / "a.parquet")
    with recorder:
        for number in range(10):
            recorder.take(Message(number, "a", b""))
        with pytest.raises(RecordingStopped):
            recorder.take(Message(10, "a", b""))
        assert recorder.stopped.is_set()
    assert isinstance(recorder.failure, RecordingStopped)
    assert len(rows(recorder.recording)) == 10
    assert recorder.recording.summary().losses == 0
    (gap,) = recorder.recording.summary().gaps
    assert gap.start_ns == 10
    assert gap.reason == "No space left on device."
    (warning,) = recorder.recording.metadata["warnings"]
    assert warning == "the recording ended early: No space left on device."


# --------------------------------------------------------------- blind spots


def test_a_broker_that_is_restarted_leaves_a_gap_and_nothing_later_is_lost(
    tmp_path, eventually
):
    first_broker = EmbeddedBroker().start()
    second_broker = EmbeddedBroker(port=first_broker.port)
    with Recorder(first_broker.url, tmp_path / "a.parquet") as recorder:
        first = MqttBus(first_broker.url).connect("plant")
        first.publish("t", b"1")
        eventually(lambda: recorder.progress().count == 1)
        first_broker.stop()
        eventually(lambda: recorder.progress().deaf_because)
        first.disconnect()
        second_broker.start()
        eventually(lambda: not recorder.progress().deaf_because)
        second = MqttBus(second_broker.url).connect("plant")
        second.publish("t", b"2")
        eventually(lambda: recorder.progress().count == 3)
        second.disconnect()
    second_broker.stop()
    assert [m.payload for m in rows(recorder.recording)] == [b"1", b"2"]
    (gap,) = recorder.recording.summary().gaps
    assert "connection lost" in gap.reason
    one, two = rows(recorder.recording)
    assert one.time_ns <= gap.start_ns < gap.end_ns <= two.time_ns


@pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
def test_a_killed_mosquitto_leaves_a_gap_and_nothing_later_is_lost(
    tmp_path, eventually
):
    """SIGKILL in mid-session; the new process knows no session of the recorder."""
    first = EmbeddedBroker(backend="mosquitto").start()
    second = EmbeddedBroker(backend="mosquitto", port=first.port)
    with Recorder(first.url, tmp_path / "a.parquet", filters=("a/#",)) as recorder:
        first._server._process.kill()
        eventually(lambda: recorder.progress().deaf_because)
        first.stop()
        second.start()
        eventually(lambda: not recorder.progress().deaf_because)
        plant = MqttBus(second.url).connect("plant")
        for number in range(500):
            plant.publish(f"a/{number % 3}", b"%d" % number, qos=number % 3)
        plant.flush()
        eventually(lambda: recorder.progress().count == 501)
        plant.disconnect()
    second.stop()
    later = [m for m in rows(recorder.recording) if m.topic.startswith("a/")]
    assert sorted(int(m.payload) for m in later) == list(range(500))
    (gap,) = recorder.recording.summary().gaps
    assert gap.end_ns <= later[0].time_ns


def test_a_gap_that_lasts_until_the_end_is_recorded(tmp_path, eventually):
    broker = EmbeddedBroker().start()
    with Recorder(broker.url, tmp_path / "a.parquet") as recorder:
        broker.stop()
        eventually(lambda: recorder.progress().deaf_because)
    (gap,) = recorder.recording.summary().gaps
    assert gap.end_ns >= gap.start_ns


def test_what_the_broker_says_it_dropped_becomes_a_gap(tmp_path, eventually):
    with (
        EmbeddedBroker() as broker,
        Recorder(broker.url, tmp_path / "a.parquet") as recorder,
    ):
        client = MqttBus(broker.url).connect("sys")
        for total in (b"5", b"5", b"17", b"no number"):
            client.publish("$SYS/broker/publish/messages/dropped", total)
        client.publish("t", b"")
        eventually(lambda: recorder.progress().count == 2)
        client.disconnect()
    (gap,) = recorder.recording.summary().gaps
    assert "rose by 12" in gap.reason
    assert [m.topic for m in rows(recorder.recording)] == ["t"]


# ------------------------------------------------------------------ hard ends


def test_a_killed_recorder_has_lost_nothing_it_had_received(tmp_path, eventually):
    path = tmp_path / "a.parquet"
    code = (
        "import sys, threading\n"
        "from playground.record import record\n"
        "record(sys.argv[1], sys.argv[2], on_progress=lambda p: print(p.count, flush=True),"
        " progress_every_s=0.02)\n"
    )
    with EmbeddedBroker() as broker:
        process = subprocess.Popen(
            [sys.executable, "-c", code, broker.url, str(path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        client = MqttBus(broker.url).connect("plant")
        for number in range(1000):
            client.publish("t", b"%d" % number)
        client.flush()
        while int(process.stdout.readline()) < 1000:
            pass
        process.kill()
        process.wait(10)
        process.stdout.close()
        client.disconnect()
    assert not path.exists()
    recording = Recording.open(path)
    assert [int(m.payload) for m in rows(recording)] == list(range(1000))
    assert recording.recovered is not None
    assert recording.recovered.lossless


def test_the_real_messages_come_back_as_they_were_sent(data_dir, mosquitto, tmp_path):
    """29,671 messages of a domestic heat pump, through mosquitto."""
    table = pq.read_table(data_dir / "altherma_ha" / "messages.parquet")
    sent = [
        (row["signal"], (row["value_text"] or str(row["value_num"])).encode())
        for row in table.select(["signal", "value_num", "value_text"]).to_pylist()
    ]
    publisher = MqttBus(mosquitto.url).connect("plant")
    done = threading.Event()
    with Recorder(mosquitto.url, tmp_path / "a.parquet") as recorder:
        for name, payload in sent:
            publisher.publish(name, payload)
        publisher.flush(60)
        while recorder.progress().count < len(sent) and not done.wait(0.01):
            pass
    publisher.disconnect()
    assert [(m.topic, m.payload) for m in rows(recorder.recording)] == sent


def test_metadata_of_the_session_are_json(tmp_path):
    with Recorder(
        EmbeddedBroker(), tmp_path / "a.parquet", metadata={"site": "lab"}
    ) as recorder:
        pass
    metadata = recorder.recording.metadata
    assert metadata["site"] == "lab"
    assert metadata["clock"]["wall_ns"] <= metadata["start_ns"] <= metadata["end_ns"]
    json.dumps(metadata)


def test_a_recorder_that_was_not_started_cannot_be_stopped(tmp_path: Path):
    with pytest.raises(PlaygroundError, match="not started"):
        Recorder(EmbeddedBroker(), tmp_path / "a.parquet").stop()


# ------------------------------------------------------------------ durability


def test_nothing_the_broker_accepted_is_lost_when_the_recorder_is_killed(
    mosquitto, tmp_path, eventually
):
    """QoS 1, written to the disk before it is acknowledged, a session that stays."""
    path = tmp_path / "a.parquet"
    command = [
        *(sys.executable, "-c", "from playground.cli import main; main()"),
        *("record", str(path), "--broker", mosquitto.url, "-t", "t"),
        *("--qos", "1", "--sync", "always"),
    ]
    publisher = MqttBus(mosquitto.url).connect("plant")
    sent = 0
    for life in range(4):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        while "recording" not in (line := process.stderr.readline()):
            assert line
        for _ in range(300):
            publisher.publish("t", b"%d" % sent, qos=1)
            sent += 1
        if life < 3:
            process.kill()
        else:
            publisher.flush()
            journal = path.with_name(path.name + ".journal")
            last = b"%d" % (sent - 1)
            eventually(partial(_holds, journal, last), within_s=60)
            process.terminate()
        process.wait(30)
        process.stderr.close()
        for _ in range(20):  # while nobody listens
            if life < 3:
                publisher.publish("t", b"%d" % sent, qos=1)
                sent += 1
    publisher.disconnect()
    parts = sorted(tmp_path.glob("*.parquet"), key=lambda p: Recording.open(p).start_ns)
    assert len(parts) == 4
    messages = [m for part in parts for m in rows(Recording.open(part))]
    assert {int(m.payload) for m in messages} == set(range(sent))
    seen: set[bytes] = set()
    for message in messages:
        assert message.dup or message.payload not in seen
        seen.add(message.payload)
    gaps = Recording.open(path).summary().gaps
    assert "was not running" in gaps[0].reason
    # Ended in good order, the session is gone from the broker.
    again = MqttBus(mosquitto.url).receive(
        Recording.open(path).metadata["recorder_client"], print, clean=False
    )
    assert not again.session_present
    again.disconnect(forget=True)


def _holds(path: Path, what: bytes) -> bool:
    return what in path.read_bytes()


def test_a_durable_recording_needs_a_name_that_stays():
    with pytest.raises(PlaygroundError, match="client id that stays"):
        BrokerSource("mqtt://host", qos=1, durable=True)
    with pytest.raises(PlaygroundError, match="client id that stays"):
        BrokerSource("mqtt://host", qos=0, durable=True, client_id="a")


def test_a_message_is_on_the_disk_before_it_is_acknowledged(
    mosquitto, tmp_path, eventually, monkeypatch
):
    """``--qos 1 --sync always``: the journal is synced, then PUBACK leaves."""
    told: list[str] = []
    sync, write = journal._sync_data, Receiver._write

    def spy_sync(descriptor):
        sync(descriptor)
        told.append("synced")

    def spy_write(self, connection, unsent):
        answers = [data for data in self._queue if data[0] >> 4 == 4]
        told.extend(["acknowledged"] * len(answers))
        return write(self, connection, unsent)

    monkeypatch.setattr(journal, "_sync_data", spy_sync)
    monkeypatch.setattr(Receiver, "_write", spy_write)
    source = BrokerSource(mosquitto.url, qos=1, client_id="lab", durable=True)
    with Recorder(source, tmp_path / "a.parquet", sync_s=0) as recorder:
        plant = MqttBus(mosquitto.url).connect("plant")
        for number in range(5):
            plant.publish("t", b"%d" % number, qos=1)
            plant.flush()
            eventually(lambda: recorder.progress().count == number + 1)  # noqa: B023
            eventually(lambda: told.count("acknowledged") == number + 1)  # noqa: B023
        plant.disconnect()
    first = told.index("acknowledged")
    assert "synced" in told[:first]
    acknowledged = [n for n, what in enumerate(told) if what == "acknowledged"]
    for one, other in pairwise(acknowledged):
        assert "synced" in told[one:other]


def test_what_could_not_be_written_is_not_acknowledged(mosquitto, eventually):
    bus = MqttBus(mosquitto.url)

    def full(messages: list[Message]) -> None:
        raise RecordingStopped("No space left on device.", "make room")

    first = bus.receive("c", full, clean=False)
    first.subscribe("t", qos=1)
    publisher = bus.connect("p")
    publisher.publish("t", b"1", qos=1)
    publisher.flush()
    eventually(lambda: first.failure is not None)
    first.disconnect()
    got: list[Message] = []
    second = bus.receive("c", got.extend, clean=False)
    eventually(lambda: got)
    assert [(m.payload, m.dup) for m in got] == [(b"1", True)]
    second.disconnect(forget=True)
    publisher.disconnect()


# -------------------------------------------------------------------- rotation


def test_a_recording_goes_on_in_parts_and_is_one_recording(tmp_path, eventually):
    recorder = Recorder(
        EmbeddedBroker(), tmp_path / "a.parquet", rotate=Rotation(bytes=50_000)
    )

    def parts() -> int:
        return len({p.name[:10] for p in (tmp_path / "a").glob("part-*")})

    with recorder:
        for number in range(300):
            recorder.take(Message(number, "a", b"x" * 1000))
            if number % 100 == 99:
                # The present part has begun after those that are full.
                eventually(lambda n=number: parts() > n // 100 + 1, within_s=30)
    assert recorder.recording.count == 300
    assert len(recorder.recording.paths) >= 3
    assert [m.time_ns for m in rows(Recording.open(tmp_path / "a"))] == list(range(300))


@pytest.mark.parametrize(
    ("text", "rotation"),
    [
        ("1h", Rotation(every_s=3600)),
        ("256MB", Rotation(bytes=256_000_000)),
        ("1.5 GiB", Rotation(bytes=3 * 2**29)),
        ("30s", Rotation(every_s=30)),
    ],
)
def test_when_to_rotate_is_read(text, rotation):
    assert Rotation.parse(text) == rotation


@pytest.mark.parametrize("text", ["0h", "0MB", "5", "5 apples", ""])
def test_a_rotation_that_is_none_is_refused(text):
    with pytest.raises(PlaygroundError):
        Rotation.parse(text)


def test_a_rotation_is_due_by_age_or_by_size():
    assert Rotation(every_s=10).is_due(10, 0)
    assert not Rotation(every_s=10).is_due(9.9, 10**12)
    assert Rotation(bytes=10).is_due(0, 10)
    assert not Rotation(bytes=10).is_due(10**9, 9)


# ------------------------------------------------------------ around an event


def s(seconds: float) -> int:
    return round(seconds * 1e9)


def test_what_came_before_and_after_an_event_is_recorded(tmp_path):
    window = Window(make_trigger("alarm/#", None), before_s=10, after_s=5)
    path = tmp_path / "a.parquet"
    with Recorder(EmbeddedBroker(), path, window=window) as recorder:
        recorder.take(Message(s(0), "kept", b"old", retain=True))
        recorder.take(Message(s(1), "kept", b"new", retain=True))
        recorder.take(Message(s(2), "deleted", b"x", retain=True))
        recorder.take(Message(s(3), "deleted", b"", retain=True))
        for second in range(20, 60):
            recorder.take(Message(s(second), "t", b"%d" % second))
            if second in (40, 43):
                recorder.take(Message(s(second), "alarm/1", b"!"))
        for second in range(100, 120):
            recorder.take(Message(s(second), "t", b"%d" % second))
        recorder.take(Message(s(120), "alarm/1", b"!"))
    told = [(m.time_ns / 1e9, m.kind, m.topic) for m in _all(recorder)]
    assert told == [
        (30.0, "publish", "kept"),
        *((float(n), "publish", "t") for n in range(30, 41)),
        (40.0, "publish", "alarm/1"),
        *((float(n), "publish", "t") for n in range(41, 44)),
        (43.0, "publish", "alarm/1"),
        *((float(n), "publish", "t") for n in range(44, 49)),
        (110.0, "gap", ""),
        (110.0, "publish", "kept"),
        *((float(n), "publish", "t") for n in range(110, 120)),
        (120.0, "publish", "alarm/1"),
    ]
    assert [m.payload for m in rows(recorder.recording) if m.topic == "kept"] == [
        b"new"
    ] * 2
    assert window.opened == 2
    (gap,) = recorder.recording.summary().gaps
    assert (gap.start_ns, gap.end_ns) == (s(48), s(110))
    spans = recorder.recording.metadata["retained_snapshot"]
    assert spans == [[0, 0], [23, 23]]


def test_events_so_near_that_the_ring_covers_what_is_between_leave_no_gap(tmp_path):
    """Nothing is missing, and what was retained is in the file already."""
    window = Window(make_trigger("alarm/#", None), before_s=10, after_s=5)
    path = tmp_path / "a.parquet"
    with Recorder(EmbeddedBroker(), path, window=window) as recorder:
        recorder.take(Message(s(0), "kept", b"old", retain=True))
        for second in (20, 32):
            recorder.take(Message(s(second), "alarm/1", b"!"))
            for later in (6, 7):
                recorder.take(Message(s(second + later), "t", b""))
    told = [(m.time_ns / 1e9, m.kind, m.topic) for m in _all(recorder)]
    assert told == [
        (20.0, "publish", "kept"),
        (20.0, "publish", "alarm/1"),
        (26.0, "publish", "t"),
        (27.0, "publish", "t"),
        (32.0, "publish", "alarm/1"),
    ]
    assert recorder.recording.summary().gaps == ()


def test_between_two_events_only_what_the_ring_did_not_reach_is_a_gap(tmp_path):
    window = Window(make_trigger("alarm/#", None), before_s=10, after_s=5)
    path = tmp_path / "a.parquet"
    with Recorder(EmbeddedBroker(), path, window=window) as recorder:
        recorder.take(Message(s(20), "alarm/1", b"!"))
        recorder.take(Message(s(58), "t", b""))
        recorder.take(Message(s(60), "alarm/1", b"!"))
    (gap,) = recorder.recording.summary().gaps
    assert (gap.start_ns, gap.end_ns) == (s(25), s(50))


SIGNALS = """
signals:
  outlet: {topic: plant/outlet, unit: degC, role: measurement}
  flow: {topic: plant/state, path: flow, unit: l/s, role: measurement}
"""


@pytest.fixture
def signals(tmp_path):
    file = tmp_path / "signals.yaml"
    file.write_text(SIGNALS)
    return load_signals(file)


@pytest.mark.parametrize(
    ("condition", "fired"),
    [
        ("outlet > 60 degC", [False, True, True, True, False]),
        ("outlet > 60 degC and flow < 0.2 l/s", [False, False, False, True, False]),
        ("topic:plant/state", [False, False, True, True, False]),
    ],
)
def test_a_condition_on_signals_fires_while_it_is_true(signals, condition, fired):
    trigger = make_trigger(condition, signals)
    messages = [
        Message(1, "plant/outlet", b"59"),
        Message(2, "plant/outlet", b"61"),
        Message(3, "plant/state", b'{"flow": 0.5}'),
        Message(4, "plant/state", b'{"flow": 0.1}'),
        Message(5, "plant/outlet", b"40"),
    ]
    told = [trigger(m) for m in messages]
    if condition.startswith("outlet > 60 degC") and "and" not in condition:
        # It looks only when one of its own signals is told.
        fired = [False, True, False, False, False]
    assert told == fired


def test_a_rate_is_a_condition_too(signals):
    trigger = make_trigger("rate(outlet, 10s) > 1 K/s", signals)
    values = [20, 20, 20, 60, 60]
    told = [
        trigger(Message(s(10 * n), "plant/outlet", b"%d" % value))
        for n, value in enumerate(values)
    ]
    assert told == [False, False, False, True, False]


def test_a_condition_without_signals_is_refused():
    with pytest.raises(PlaygroundError, match="no signals are known") as error:
        make_trigger("outlet > 60 degC", None)
    assert "--signals" in error.value.fix


def test_times_of_a_window_must_not_be_negative():
    with pytest.raises(PlaygroundError, match="must not be negative"):
        Window(make_trigger("a", None), before_s=-1, after_s=0)
