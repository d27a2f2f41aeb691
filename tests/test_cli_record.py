"""The verbs broker, record, recover and info, as one types them."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from playground.broker import EmbeddedBroker, find_mosquitto
from playground.cli import main
from playground.message import KINDS, Message
from playground.mqtt import MqttBus
from playground.recording import Recording, RecordingWriter

PLAYGROUND = [sys.executable, "-c", "from playground.cli import main; main()"]


@contextmanager
def running(*arguments: str | Path, **options) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*PLAYGROUND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        **options,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def begins(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    lines = []
    while line := process.stderr.readline():
        lines.append(line)
        if line.startswith("recording "):
            return line
    raise AssertionError(f"it did not begin: {lines}")


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def publish(url: str, *messages: tuple[str, bytes], qos: int = 1) -> None:
    connection = MqttBus(url).connect("plant")
    for topic, payload in messages:
        connection.publish(topic, payload, qos=qos)
    connection.flush()
    connection.disconnect()


# ---------------------------------------------------------------------- broker


@pytest.mark.parametrize(
    "backend",
    [
        "amqtt",
        pytest.param(
            "mosquitto",
            marks=pytest.mark.skipif(
                find_mosquitto() is None, reason="mosquitto is not installed"
            ),
        ),
    ],
)
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_broker_prints_its_urls_and_runs_until_it_is_stopped(backend, ending):
    with running(
        "broker", "--port", 0, "--ws-port", 0, "--backend", backend
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert re.fullmatch(r"mqtt://127\.0\.0\.1:\d+", url)
        assert process.stdout.readline().startswith("ws://127.0.0.1:")
        publish(url, ("a", b"1"))
        process.send_signal(ending)
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (0, "")


def test_broker_refuses_to_be_open_to_the_world_by_accident(capsys):
    assert run("broker", "--host", "0.0.0.0", "--port", 0) == 2
    assert "--allow-anonymous" in capsys.readouterr().err


def test_broker_on_a_port_in_use_says_so(capsys, embedded):
    assert run("broker", "--port", embedded.port) == 1
    errors = capsys.readouterr().err
    assert str(embedded.port) in errors
    assert "Traceback" not in errors


# ---------------------------------------------------------------------- record


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_record_seals_the_file_when_it_is_stopped(
    embedded, tmp_path, ending, eventually
):
    path = tmp_path / "a.parquet"
    with running("record", path, "--broker", embedded.url, "-t", "a/#") as process:
        assert embedded.url in begins(process)
        publish(embedded.url, ("a/b", b"\xff"), ("b", b""), ("a/c", b"2"))
        journal = path.with_name("a.parquet.journal")
        eventually(lambda: b"a/c" in journal.read_bytes())
        process.send_signal(ending)
        output, errors = process.communicate(timeout=20)
        assert process.returncode == 0
    assert output.startswith("2 messages in ")
    assert str(path) in output
    assert errors == ""
    assert [(m.topic, m.payload) for m in Recording.open(path).messages()] == [
        ("a/b", b"\xff"),
        ("a/c", b"2"),
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]


def test_record_ends_after_the_time_it_was_given(embedded, tmp_path):
    path = tmp_path / "a.parquet"
    with running("record", path, "--broker", embedded.url, "--for", "300ms") as process:
        output, _ = process.communicate(timeout=20)
        assert process.returncode == 0
    assert output.startswith("0 messages")
    assert Recording.open(path).count == 0


def test_record_with_a_broker_of_its_own(tmp_path, eventually):
    path = tmp_path / "a.parquet"
    with running("record", path, "--embedded", "--port", 0) as process:
        url = begins(process).split()[1]
        publish(url, ("a", b"1"))
        journal = path.with_name("a.parquet.journal")
        eventually(
            lambda: b"disconnect" in journal.read_bytes() or journal.stat().st_size
        )
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    kinds = [(m.kind, m.client) for m in Recording.open(path).messages(kinds=KINDS)]
    assert kinds[:2] == [("connect", "plant"), ("publish", "plant")]


def test_record_through_a_tap(mosquitto, tmp_path, eventually):
    path = tmp_path / "a.parquet"
    with running(
        "record", path, "--broker", mosquitto.url, "--tap", "127.0.0.1:0"
    ) as process:
        line = begins(process)
        tap = re.search(r"through (mqtt://\S+)", line)
        assert tap is not None
        publish(tap[1], ("a", b"1"))
        journal = path.with_name("a.parquet.journal")
        eventually(lambda: b"plant" in journal.read_bytes())
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    (message,) = Recording.open(path).messages()
    assert (message.topic, message.payload, message.client) == ("a", b"1", "plant")


def test_record_around_an_event(embedded, tmp_path, eventually):
    path = tmp_path / "a.parquet"
    with running(
        *("record", path, "--broker", embedded.url),
        *("--trigger", "alarm", "--ring", "1min", "--after", "1min"),
    ) as process:
        begins(process)
        publish(embedded.url, ("a", b"before"), ("alarm", b"!"), ("a", b"after"))
        journal = path.with_name("a.parquet.journal")
        eventually(lambda: b"after" in journal.read_bytes())
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    payloads = [m.payload for m in Recording.open(path).messages()]
    assert payloads == [b"before", b"!", b"after"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "Nothing to record from"),
        (["--embedded", "--broker", "mqtt://x"], 2, "two sources"),
        (["--embedded", "--tap", "1884"], 2, "none is named"),
        (["--broker", "mqtt://127.0.0.1:1"], 1, "Nobody listens"),
        (["--broker", "localhost"], 2, "write mqtt://localhost"),
        (["--broker", "mqtt://lab:hunter2@x"], 2, "PLAYGROUND_MQTT_PASSWORD"),
        (["--embedded", "--for", "10"], 2, "has no unit"),
        (["--embedded", "--sync", "often"], 2, "not a duration"),
        (["--embedded", "--rotate", "0MB"], 2, "256MB"),
        (["--embedded", "-t", "a/#/b"], 2, "last level"),
        (["--embedded", "--trigger", "a > 5"], 2, "--signals"),
        (["--embedded", "--qos", "3"], 2, "Invalid value for '--qos'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_record_says_what_is_wrong_and_leaves_nothing(
    tmp_path, capsys, arguments, code, said
):
    assert run("record", tmp_path / "a.parquet", "--port", 0, *arguments) == code
    errors = capsys.readouterr().err
    assert said in errors
    assert "hunter2" not in errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "option", [["--ring", "5min"], ["--after", "1s"], ["--signals", "s.yaml"]]
)
def test_what_belongs_to_a_trigger_is_refused_without_one(tmp_path, capsys, option):
    path = tmp_path / "a.parquet"
    assert run("record", path, "--broker", "mqtt://127.0.0.1:1", *option) == 2
    assert f"{option[0]} belongs to --trigger" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_record_refuses_the_name_of_another_kind_of_file(tmp_path, capsys):
    assert run("record", tmp_path / "a.csv", "--broker", "mqtt://127.0.0.1:1") == 2
    assert "a.parquet, and then: playground export" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_record_says_that_nothing_was_heard(embedded, tmp_path, capsys):
    path = tmp_path / "a.parquet"
    assert (
        run("record", path, "--broker", embedded.url, "-t", "rigg/#", "--for", "10ms")
        == 0
    )
    assert "nothing was heard on rigg/#" in capsys.readouterr().out


def test_record_refuses_to_overwrite(embedded, tmp_path, capsys):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"precious")
    assert run("record", path, "--broker", embedded.url) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert path.read_bytes() == b"precious"


def test_record_says_a_login_is_refused_without_the_password(tmp_path, capsys):
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    with EmbeddedBroker(users={"lab": "other"}) as broker:
        url = broker.url.replace("//", "//lab@")
        out = tmp_path / "a.parquet"
        assert run("record", out, "--broker", url, "--password-file", file) == 1
    errors = capsys.readouterr().err
    assert "refuses the login" in errors
    assert "hunter2" not in errors


def test_a_full_disk_ends_the_recording_with_a_clear_error(embedded, tmp_path):
    path = tmp_path / "a.parquet"

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    with running(
        "record", path, "--broker", embedded.url, preexec_fn=small_files
    ) as process:
        begins(process)
        publish(embedded.url, *(("a", b"%d" % n + b"x" * 1000) for n in range(400)))
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 1
    assert "error: " in errors
    assert "Traceback" not in errors
    recording = Recording.open(path)
    (gap,) = recording.summary().gaps
    assert "File too large" in gap.reason
    assert f"The {recording.count - 1} rows before are in {path}." in errors
    payloads = [int(m.payload.partition(b"x")[0]) for m in recording.messages()]
    assert len(payloads) > 150
    assert payloads == list(range(len(payloads)))


@pytest.mark.parametrize("every", ["20kB", "300ms"])
def test_record_goes_on_in_parts(embedded, tmp_path, every, eventually):
    with running(
        *("record", tmp_path / "a.parquet", "--broker", embedded.url),
        *("--rotate", every),
    ) as process:
        begins(process)
        sent = 0

        def has_begun_a_third() -> bool:
            nonlocal sent
            publish(embedded.url, ("a", b"%d" % sent + b"x" * 2000))
            sent += 1
            return len([*tmp_path.glob("a/part-0000[01].parquet")]) == 2

        eventually(has_begun_a_third, within_s=30)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (0, "")
    recording = Recording.open(tmp_path / "a")
    assert len(recording.paths) >= 3
    assert output.startswith(f"{sent} messages")
    payloads = [int(m.payload.partition(b"x")[0]) for m in recording.messages()]
    assert payloads == list(range(sent))
    assert recording.summary().losses == 0
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_record_around_an_event_begins_with_what_the_broker_had_kept(
    embedded, tmp_path, eventually
):
    path = tmp_path / "a.parquet"
    plant = MqttBus(embedded.url).connect("plant")
    plant.publish("valve", b"open", qos=1, retain=True)
    plant.flush()
    with running(
        *("record", path, "--broker", embedded.url),
        *("--trigger", "alarm", "--ring", "1ms", "--after", "1min"),
    ) as process:
        begins(process)
        threading.Event().wait(0.01)  # out of the ring
        publish(embedded.url, ("a", b"1"), ("alarm", b"!"), ("a", b"after"))
        journal = path.with_name("a.parquet.journal")
        eventually(lambda: b"after" in journal.read_bytes())
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    plant.disconnect()
    told = [(m.topic, m.payload, m.retain) for m in Recording.open(path).messages()]
    assert told[0] == ("valve", b"open", True)
    assert told[-2:] == [("alarm", b"!", False), ("a", b"after", False)]


def test_record_says_a_subscription_is_refused(embedded, tmp_path, capsys):
    path = tmp_path / "a.parquet"
    assert run("record", path, "--broker", embedded.url, "-t", "$share/g/a") == 1
    errors = capsys.readouterr().err
    assert "refuses the subscription to '$share/g/a'" in errors
    assert "fix: " in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", ["variable", "file", "through a tap"])
def test_a_password_stands_nowhere_but_where_it_was_given(
    tmp_path, given, eventually, monkeypatch
):
    secret = "correct-horse"
    path = tmp_path / "a.parquet"
    with EmbeddedBroker(users={"lab": secret}) as broker:
        monkeypatch.setenv("PLAYGROUND_MQTT_PASSWORD", secret)
        url = broker.url.replace("//", "//lab@")
        options: list[str | Path] = ["--broker", url]
        if given == "file":
            monkeypatch.delenv("PLAYGROUND_MQTT_PASSWORD")
            file = tmp_path / "password"
            file.write_text(secret + "\n")
            options += ["--password-file", file]
        elif given == "through a tap":
            options = ["--broker", broker.url, "--tap", "127.0.0.1:0"]
        with running("record", path, *options) as process:
            line = begins(process)
            seen = [line.encode()]
            seen.append(Path(f"/proc/{process.pid}/cmdline").read_bytes())
            where = url
            if tap := re.search(r"through mqtt://(\S+)", line):
                where = f"mqtt://lab@{tap[1]}"
            publisher = MqttBus(where, password=secret).connect("plant")
            publisher.publish("a", b"said", qos=1)
            journal = path.with_name("a.parquet.journal")
            eventually(lambda: b"said" in journal.read_bytes())
            publisher.disconnect()
            broker.stop()  # and what is said about that
            process.send_signal(signal.SIGTERM)
            seen.append(journal.read_bytes() if journal.exists() else b"")
            seen += [text.encode() for text in process.communicate(timeout=20)]
    seen.append(path.read_bytes())
    seen.append(repr(Recording.open(path).metadata).encode())
    assert len(b"".join(seen)) > 1000
    assert not [where for where in seen if secret.encode() in where]


# --------------------------------------------------------------------- recover


def abandoned(path: Path, count: int = 3) -> Path:
    writer = RecordingWriter(path)
    for number in range(count):
        writer.append(Message(number, "t", b"%d" % number))
    writer.abandon()
    return path.with_name(path.name + ".journal")


def test_recover_seals_what_a_killed_recorder_left(tmp_path, capsys):
    path = tmp_path / "a.parquet"
    abandoned(path)
    assert run("recover", path) == 0
    assert "3 messages are in" in capsys.readouterr().out
    assert Recording.open(path).count == 3


def test_recover_says_what_is_lost(tmp_path, capsys):
    path = tmp_path / "a.parquet"
    journal = abandoned(path)
    journal.write_bytes(journal.read_bytes()[:-3])
    assert run("recover", path) == 3
    output = capsys.readouterr().out
    assert "2 messages are in" in output
    assert "discarded: " in output
    assert Recording.open(path).count == 2


def test_recover_without_room_fails_and_keeps_the_journal(tmp_path):
    path = tmp_path / "a.parquet"
    journal = abandoned(path)
    before = journal.read_bytes()

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    with running("recover", path, preexec_fn=no_room) as process:
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 1
    assert "error: " in errors
    assert "Traceback" not in errors
    assert [p.name for p in tmp_path.iterdir()] == [journal.name]
    assert journal.read_bytes() == before


def test_recover_of_nothing_is_an_error(tmp_path, capsys):
    assert run("recover", tmp_path / "nowhere.parquet") == 2
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    assert run("recover", tmp_path / "x.parquet") == 2
    assert "Traceback" not in capsys.readouterr().err


# ------------------------------------------------------------------------ info


@pytest.fixture
def recording(tmp_path) -> Path:
    path = tmp_path / "lab.parquet"
    start = 1_767_225_600 * 10**9
    with RecordingWriter(
        path,
        metadata={
            "start_ns": start,
            "end_ns": start + 90 * 10**9,
            "broker": "mqtt://lab:1883",
            "filters": ["rig/#"],
        },
    ) as writer:
        for second in range(60):
            at = start + second * 10**9
            writer.append(Message(at, "rig/temperature", b"%d" % second))
            if second == 30:
                writer.append(
                    Message(at, "rig/mode", b'{"on":true}', 1, True, client="plc")
                )
                writer.gap(at, at + 10**9, "connection lost")
                writer.skip(2)
    return path


def test_info_says_what_a_recording_holds(recording, capsys):
    assert run("info", recording) == 0
    output = capsys.readouterr().out
    for said in (
        "2026-01-01T00:00:00Z .. 2026-01-01T00:01:30Z",
        "duration    0:01:30",
        "61 on 2 topics, and 1 gap",
        "mqtt://lab:1883",
        "rig/#",
        "plc",
        "lost        2",
        "gap         2026-01-01T00:00:30Z for 1 s: connection lost",
    ):
        assert said in output
    (line,) = [x for x in output.splitlines() if x.startswith("rig/mode")]
    assert line.split() == ["rig/mode", "1", "11", "json", "1", "yes"]
    (line,) = [x for x in output.splitlines() if x.startswith("rig/temperature")]
    assert line.split()[:5] == ["rig/temperature", "60", "1", "1", "s"]


def test_info_with_a_gap_does_not_say_that_nothing_is_known_to_be_lost(
    tmp_path, capsys
):
    with RecordingWriter(tmp_path / "a.parquet") as writer:
        writer.gap(1, 2, "connection lost")
    assert run("info", tmp_path / "a.parquet") == 0
    assert "lost        not counted; see the gaps" in capsys.readouterr().out


def test_info_for_programs(recording, capsys):
    assert run("info", recording, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["count"] == 62
    assert told["losses"] == 2
    assert [topic["topic"] for topic in told["topics"]] == [
        "rig/mode",
        "rig/temperature",
    ]


def test_info_cuts_nothing_off_in_a_pipe(tmp_path, capsys):
    path = tmp_path / "a.parquet"
    topic = "/".join(["a long topic with many levels"] * 5)
    with RecordingWriter(path) as writer:
        writer.append(Message(1, topic, b""))
    assert run("info", path) == 0
    assert topic in capsys.readouterr().out


def test_info_of_an_empty_recording(tmp_path, capsys):
    path = tmp_path / "a.parquet"
    with RecordingWriter(path):
        pass
    assert run("info", path) == 0
    assert "0 on 0 topics" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, b"", b"PAR1 nothing PAR1", b"a,b\n1,2\n"])
def test_info_of_what_is_no_recording_is_an_error(tmp_path, capsys, content):
    path = tmp_path / "a.parquet"
    if content is not None:
        path.write_bytes(content)
    assert run("info", path) == 2
    errors = capsys.readouterr().err
    assert "error: " in errors
    assert "Traceback" not in errors


def test_no_thread_is_left_behind():
    assert not [t for t in threading.enumerate() if t.name.startswith(("mqtt-", "tap"))]
