import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from playground.broker import EmbeddedBroker
from playground.cli import _run
from playground.message import Message
from playground.mqtt import MqttBus
from playground.recording import Recording, RecordingWriter
from playground.replay import Replayer

START = 1_700_000_000 * 10**9


def record(path: Path, messages) -> Path:
    with RecordingWriter(path, journal=False) as writer:
        for message in messages:
            writer.append(message)
    return path


def at(seconds: float, topic: str = "a", payload: bytes = b"1", **more) -> Message:
    return Message(START + round(seconds * 1e9), topic, payload, **more)


@pytest.fixture
def session(tmp_path) -> Path:
    return record(
        tmp_path / "s.parquet", [at(i / 10, "a", b"%d" % i) for i in range(20)]
    )


# import


def test_import_makes_a_recording_and_says_what_it_made(tmp_path, capsys):
    (tmp_path / "x.csv").write_text("t_s,T1\n0,20.5\n1,21\n")
    out = tmp_path / "x.parquet"
    code = _run(
        [
            "import",
            str(tmp_path / "x.csv"),
            "-o",
            str(out),
            "--topic-prefix",
            "lab",
            "--start",
            "2026-02-01T00:00:00Z",
        ]
    )
    assert code == 0
    assert "2 messages on 1 topics (from table)" in capsys.readouterr().out
    assert [m.topic for m in Recording.open(out).messages()] == ["lab/T1", "lab/T1"]


def test_import_of_a_bad_file_says_why_and_leaves_nothing(tmp_path, capsys):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    code = _run(["import", str(tmp_path / "x.csv"), "-o", str(tmp_path / "x.parquet")])
    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith("error: ")
    assert "Traceback" not in said
    assert not (tmp_path / "x.parquet").exists()


def test_import_refuses_a_start_that_is_none(tmp_path, capsys):
    (tmp_path / "x.csv").write_text("t_s,T1\n0,20.5\n")
    code = _run(
        ["import", str(tmp_path / "x.csv"), "-o", "o.parquet", "--start", "noon"]
    )
    assert code == 2
    assert "'noon' is not an instant" in capsys.readouterr().err


# diff


def test_diff_of_equal_recordings_answers_0(session, capsys):
    assert _run(["diff", str(session), str(session)]) == 0
    assert capsys.readouterr().out == "equal: 20 messages\n"


def test_diff_shows_the_first_divergence_and_answers_1(session, tmp_path, capsys):
    messages = list(Recording.open(session).messages())
    messages[12] = messages[12]._replace(payload=b"wrong")
    other = record(tmp_path / "o.parquet", messages)
    assert _run(["diff", str(session), str(other)]) == 1
    said = capsys.readouterr().out
    assert "1 changed" in said
    assert "first divergence: a at 1.200000 s" in said
    assert "expected a '12' qos 0" in said
    assert "got      a 'wrong' qos 0" in said
    assert len(re.findall(r"^    a ", said, re.MULTILINE)) == 10


def test_diff_speaks_json(session, tmp_path, capsys):
    other = record(tmp_path / "o.parquet", [at(0, "a", b"0")])
    assert _run(["diff", str(session), str(other), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["equal"], told["missing"]) == (False, 19)


def test_diff_of_nothing_answers_3(tmp_path, capsys):
    empty = record(tmp_path / "e.parquet", [])
    assert _run(["diff", str(empty), str(empty)]) == 3
    assert "undecided" in capsys.readouterr().out


def test_diff_of_a_missing_file_answers_2(session, capsys):
    assert _run(["diff", str(session), "nowhere.parquet"]) == 2
    assert "does not exist" in capsys.readouterr().err


# replay


def test_replay_to_a_broker_reports_what_it_did(session, mosquitto, capsys):
    heard = []
    listener = MqttBus(mosquitto.url).connect("listener", heard.append)
    listener.subscribe("#")
    code = _run(["replay", str(session), "--broker", mosquitto.url, "--speed", "max"])
    assert code == 0
    assert "20 messages" in capsys.readouterr().out
    listener.disconnect()


@pytest.mark.broker
def test_replay_without_a_broker_starts_one_and_waits_for_a_subscriber(session):
    program = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from playground.cli import main; main()",
            "replay",
            str(session),
            "--speed",
            "max",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    heard: list[Message] = []
    complete = threading.Event()

    def hear(message: Message) -> None:
        heard.append(message)
        if len(heard) == 20:
            complete.set()

    try:
        url = program.stderr.readline().removeprefix("broker: ").strip()
        listener = MqttBus(url).connect("listener", hear)
        listener.subscribe("a")
        # The last message arrives although the broker ends with the replay.
        assert complete.wait(20)
        assert program.wait(20) == 0
        assert "20 messages" in program.stdout.read()
        listener.disconnect()
    finally:
        program.kill()
        program.wait()
        program.stdout.close()
        program.stderr.close()
    assert [m.payload for m in heard] == [b"%d" % i for i in range(20)]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--speed", "fast"], 2, "'fast' is not a speed"),
        (["--speed", "-1"], 2, "not a speed"),
        (["-t", "x/#"], 2, "matches no topic"),
    ],
)
def test_wrong_use_of_replay_is_explained(
    session, mosquitto, capsys, arguments, code, words
):
    assert _run(["replay", str(session), "--broker", mosquitto.url, *arguments]) == code
    assert words in capsys.readouterr().err


def test_replay_to_nobody_answers_1(session, capsys):
    code = _run(["replay", str(session), "--broker", "mqtt://127.0.0.1:1"])
    assert code == 1
    assert "Nobody listens" in capsys.readouterr().err


def test_keys_seek_and_the_progress_line_follows(session, mosquitto, tmp_path):
    import os
    import pty

    long = record(tmp_path / "long.parquet", [at(0, "a", b"0"), at(95, "a", b"95")])
    here, there = pty.openpty()
    program = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from playground.cli import main; main()",
            "replay",
            str(long),
            "--broker",
            mosquitto.url,
        ],
        stdin=there,
        stderr=there,
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(there)
    try:
        shown = ""
        while "space pause" not in shown:
            shown += os.read(here, 1000).decode("utf-8", "replace")
        # Ten seconds each; the program would need 95 s without them.
        for _ in range(10):
            os.write(here, b"\x1b[C")
        assert program.wait(20) == 0
        assert program.stdout.read().startswith("2 messages in ")
    finally:
        program.kill()
        program.wait()
        program.stdout.close()
        os.close(here)


def test_keys_pause_step_and_change_the_rate(mosquitto, tmp_path):
    import os
    import pty

    long = record(tmp_path / "long.parquet", [at(i, "a", b"%d" % i) for i in range(90)])
    here, there = pty.openpty()
    program = subprocess.Popen(
        [
            *(sys.executable, "-c", "from playground.cli import main; main()"),
            *("replay", str(long), "--broker", mosquitto.url, "--speed", "0.5"),
        ],
        stdin=there,
        stderr=there,
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(there)

    def until(pattern: str) -> re.Match[str]:
        """Reads what is shown from now on until it says something."""
        shown = ""
        while not (found := re.search(pattern, shown)):
            shown += os.read(here, 1000).decode("utf-8", "replace")
        return found

    try:
        until("space pause")
        os.write(here, b" ")
        played = int(until(r"paused .* (\d+) messages")[1])
        os.write(here, b"..")
        until(rf"paused .* {played + 2} messages .* next a")
        os.write(here, b"++ ")
        until(r"of .*  x2 ")
        os.write(here, b"-")
        until(r"of .*  x1 ")
        until(rf" {played + 3} messages ")
        os.write(here, b"\x1b[C" * 20)
        assert program.wait(20) == 0
        assert " messages in " in program.stdout.read()
    finally:
        program.kill()
        program.wait()
        program.stdout.close()
        os.close(here)


@pytest.mark.broker
@pytest.mark.parametrize("backend", ["embedded", "mosquitto"])
def test_programs_control_a_replay_over_a_broker(backend, request, tmp_path):
    import queue

    broker = request.getfixturevalue(backend)
    long = record(tmp_path / "long.parquet", [at(i, "a", b"%d" % i) for i in range(90)])
    replayer = Replayer(Recording.open(long), MqttBus(broker.url))
    thread = threading.Thread(target=replayer.run)
    told: queue.Queue[dict] = queue.Queue()
    console = MqttBus(broker.url).connect(
        "console", lambda message: told.put(json.loads(message.payload))
    )
    console.subscribe("playground/replay/status", qos=1)

    def say(verb: str, payload: bytes = b"") -> dict:
        console.publish(f"playground/replay/{verb}", payload, qos=1)
        return told.get(timeout=20)

    thread.start()
    try:
        paused = say("pause")
        assert paused["paused"]
        say("step")
        assert say("get")["messages"] == paused["messages"] + 1
        assert say("seek", b"50")["position_s"] == 50
        assert say("seek", b"-20")["position_s"] == 30
        assert say("speed", b"*4")["speed"] == 4
        assert not say("resume")["paused"]
        assert say("speed", b"nonsense")["speed"] == 4
        assert say("stop")["stopped"]
        thread.join(20)
        assert not thread.is_alive()
    finally:
        replayer.stop()
        thread.join(20)
        console.disconnect()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--start", "noon"], "neither an instant nor a duration"),
        (["--start", "1h"], "Nothing to play"),
        (["--end", "1s", "--duration", "1s"], "both say where it ends"),
        (["--remap", "a"], "has no '='"),
        (["--remap", "x/#=y/#"], "matches no topic"),
        (["--retain", "always"], "preserve or never"),
        (["--transform", "nowhere:function"], "cannot be imported"),
        (["--transform", "rewrite"], "write module:function"),
    ],
)
def test_wrong_options_are_explained_before_anything_is_sent(
    session, mosquitto, capsys, arguments, words
):
    assert _run(["replay", str(session), "--broker", mosquitto.url, *arguments]) == 2
    assert words in capsys.readouterr().err


def test_options_select_and_rewrite(
    session, mosquitto, eventually, tmp_path, monkeypatch
):
    (tmp_path / "shouting.py").write_text(
        "def shout(message):\n    return message._replace(payload=message.payload * 2)\n"
    )
    monkeypatch.chdir(tmp_path)
    heard: list[Message] = []
    listener = MqttBus(mosquitto.url).connect("listener", heard.append)
    listener.subscribe("b/#", qos=2)
    arguments = ["--remap", "a=b/x", "--qos", "1", "--transform", "shouting:shout"]
    place = ["--start", "0.5s", "--duration", "0.3s", "--speed", "max"]
    code = _run(["replay", str(session), "--broker", mosquitto.url, *arguments, *place])
    assert code == 0
    eventually(lambda: len(heard) == 3)
    listener.disconnect()
    assert [(m.topic, m.payload, m.qos) for m in heard] == [
        ("b/x", b"55", 1),
        ("b/x", b"66", 1),
        ("b/x", b"77", 1),
    ]


@pytest.mark.broker
def test_clients_loops_exclusions_and_clearing_are_options(tmp_path):
    session = record(
        tmp_path / "s.parquet",
        [
            at(0, "a", b"1", retain=True, client="pump"),
            at(1, "secret", b"x", client="pump"),
            at(2, "b", b"2", client="valve"),
            at(3, "a", b"gone", retain=True, client="pump", kind="will"),
        ],
    )
    seen: list[Message] = []
    with EmbeddedBroker(observer=seen.append) as broker:
        arguments = ["--broker", broker.url, "--speed", "20", "--loop", "2"]
        more = ["--clients", "--clear-retained", "-x", "secret"]
        assert _run(["replay", str(session), *arguments, *more]) == 0
        said = [m for m in seen if m.kind == "publish"]
        assert [(m.client, m.topic, m.payload) for m in said] == [
            ("pump", "a", b"1"),
            ("valve", "b", b"2"),
            ("pump", "a", b"gone"),
            # The state of the second start, then the session once more.
            ("pump", "a", b""),
            ("pump", "a", b"1"),
            ("valve", "b", b"2"),
            ("pump", "a", b"gone"),
            ("pump", "a", b""),
        ]
        assert all(m.retain for m in said if m.topic == "a")


@pytest.mark.broker
def test_a_wrong_filter_is_told_before_anybody_is_waited_for(session, capsys):
    assert _run(["replay", str(session), "-t", "x/#", "--wait", "30s"]) == 2
    said = capsys.readouterr().err
    assert "matches no topic" in said
    assert "waiting" not in said


def test_waiting_for_a_client_in_vain_answers_1(session, capsys):
    code = _run(["replay", str(session), "--wait-for-client", "x", "--wait", "0.1s"])
    assert code == 1
    assert "Client 'x' did not connect within 0.1 s" in capsys.readouterr().err


def test_a_consumer_says_on_a_broker_of_others_that_it_is_ready(
    session, mosquitto, eventually
):
    program = subprocess.Popen(
        [
            *(sys.executable, "-c", "from playground.cli import main; main()"),
            *("replay", str(session), "--broker", mosquitto.url, "--speed", "max"),
            *("--wait-for-client", "twin", "--wait-for-subscriber", "a"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    heard: list[Message] = []
    try:
        assert program.stderr.readline().startswith("listening to playground/ready/#")
        assert program.stderr.readline().startswith("waiting for client 'twin'")
        twin = MqttBus(mosquitto.url).connect("twin", heard.append)
        twin.subscribe("a")
        ready = "playground/ready/twin"
        twin.publish(ready, b"a\nb/#", retain=True, qos=1)
        assert program.wait(20) == 0, program.stderr.read()
        eventually(lambda: len(heard) == 20)
        twin.publish(ready, b"", retain=True, qos=1)
        twin.disconnect()
    finally:
        program.kill()
        program.wait()
        program.stdout.close()
        program.stderr.close()


def test_a_consumer_that_says_nothing_is_waited_for_in_vain(session, mosquitto, capsys):
    silent = MqttBus(mosquitto.url).connect("silent")
    silent.subscribe("a")
    arguments = ["--broker", mosquitto.url, "--wait-for-subscriber", "a"]
    assert _run(["replay", str(session), *arguments, "--wait", "0.2s"]) == 1
    said = capsys.readouterr().err
    assert "Nobody subscribed to 'a' within 0.2 s" in said
    assert "on playground/ready/<client id>" in said
    silent.disconnect()


@pytest.mark.broker
def test_in_lockstep_the_consumer_sets_the_pace_and_hears_virtual_time(
    session, embedded, capsys
):
    from playground.testing import LockstepClient

    heard: list[tuple[float, bytes]] = []

    def act(now, messages, _client):
        heard.extend((now, message.payload) for message in messages)

    consumer = LockstepClient(embedded.url, "twin", act, filters=["a"])
    thread = threading.Thread(target=consumer.run)
    thread.start()
    code = _run(
        ["replay", str(session), "--broker", embedded.url, "--lockstep", "twin"]
    )
    thread.join(10)
    assert code == 0
    assert "20 messages in 1.9 s" in capsys.readouterr().out
    assert heard == [(i / 10, b"%d" % i) for i in range(20)]


def test_a_consumer_that_never_acknowledges_is_named_and_nothing_is_decided(
    session, embedded, capsys
):
    arguments = ["--broker", embedded.url, "--lockstep", "nobody", "--wait", "0.2s"]
    assert _run(["replay", str(session), *arguments]) == 3
    assert "'nobody' did not appear" in capsys.readouterr().err
