import json
import textwrap
from pathlib import Path

import pytest

from playground.cli import _run
from playground.errors import ConnectionFailed, ExitCode, PlaygroundError
from playground.message import Message
from playground.recording import Recording, RecordingWriter
from playground.replay import MAX
from playground.verify import Lockstep, RealTime, VirtualTime, expectation_of, verify

START = 1_700_000_000 * 10**9
PROGRAM = """
    import os, sys
    import paho.mqtt.client as mqtt

    FACTOR = {factor}

    def connected(client, userdata, flags, reason, properties):
        client.subscribe("modbus/#")

    def heard(client, userdata, message):
        value = float(message.payload) * FACTOR
        client.publish("processed/" + message.topic[7:], f"{{value:.1f}}")

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
    client.on_connect, client.on_message = connected, heard
    client.connect(os.environ.get("MQTT_HOST", "broker"),
                   int(os.environ.get("MQTT_PORT", "1883")))
    client.loop_forever()
"""


@pytest.fixture
def session(tmp_path) -> Path:
    with RecordingWriter(tmp_path / "s.parquet", journal=False) as writer:
        for i in range(20):
            time_ns = START + i * 50_000_000
            raw, said = b"%d" % (200 + i), b"%.1f" % ((200 + i) * 0.1)
            writer.append(Message(time_ns, "modbus/inlet", raw))
            writer.append(Message(time_ns + 1_000_000, "processed/inlet", said))
    return tmp_path / "s.parquet"


@pytest.fixture
def program(tmp_path):
    def write(factor: float) -> str:
        text = textwrap.dedent(PROGRAM.format(factor=factor))
        (tmp_path / "program.py").write_text(text)
        return f"python {tmp_path / 'program.py'}"

    return write


TOPICS = {"inputs": ["modbus/#"], "expect": ["processed/#"]}
STAGES = [RealTime(speed=10.0), VirtualTime()]


@pytest.fixture(params=STAGES, ids=["real time", "virtual time"])
def stage(request):
    return request.param


def test_a_program_that_answers_as_before_passes(session, program, stage):
    report = verify(session, program(0.1), stage=stage, settle_s=0.2, **TOPICS)
    assert report.diff.equal, report.diff.as_dict()
    assert report.diff.count_b == 20
    assert report.exit_code == ExitCode.GOOD
    assert report.expectation is None


def test_one_changed_constant_is_caught_with_the_first_wrong_message(
    session, program, stage
):
    report = verify(session, program(0.11), stage=stage, settle_s=0.2, **TOPICS)
    assert report.exit_code == ExitCode.NOT_SO
    first = report.diff.first
    assert (first.topic, first.what) == ("processed/inlet", "changed")
    assert (first.expected.payload, first.got.payload) == (b"20.0", b"22.0")
    assert report.diff.tally.changed == 20


def test_a_program_is_told_the_broker_in_its_command_line_and_environment(
    session, program, tmp_path, stage
):
    command = program(0.1) + " {host} {port} {url}"
    text = (tmp_path / "program.py").read_text()
    text = text.replace(
        "client = mqtt",
        "import sys\nassert sys.argv[1:] == [os.environ[name] for name in"
        " ('MQTT_HOST', 'MQTT_PORT', 'MQTT_URL')]\nclient = mqtt",
        1,
    )
    (tmp_path / "program.py").write_text(text)
    report = verify(session, command, stage=stage, settle_s=0.2, **TOPICS)
    assert report.diff.equal, report.diff.as_dict()


def test_as_fast_as_the_broker_goes(session, program):
    stage = RealTime(speed=MAX)
    report = verify(session, program(0.1), stage=stage, settle_s=0.5, **TOPICS)
    assert report.diff.equal, report.diff.as_dict()


def test_update_writes_a_new_expectation_and_shows_what_changed(session, program):
    stage = VirtualTime()
    report = verify(session, program(0.2), stage=stage, update=True, **TOPICS)
    assert report.updated == expectation_of(session)
    assert report.diff.tally.changed == 20
    assert report.exit_code == ExitCode.GOOD
    report = verify(session, program(0.2), stage=stage, **TOPICS)
    assert report.expectation == expectation_of(session)
    assert report.exit_code == ExitCode.GOOD
    assert verify(session, program(0.1), stage=stage, **TOPICS).diff.tally.changed == 20


def test_a_missing_expectation_is_an_error_and_is_not_created(session, program):
    with pytest.raises(PlaygroundError, match="holds no message on other/"):
        verify(
            session,
            program(0.1),
            stage=VirtualTime(),
            inputs=["modbus/#"],
            expect=["other/#"],
        )
    missing = session.with_name("none.parquet")
    with pytest.raises(PlaygroundError, match="There is no expectation"):
        verify(session, program(0.1), expectation=missing, **TOPICS)
    assert not missing.exists()
    assert not expectation_of(session).exists()


def test_a_program_that_answers_nothing_is_no_expectation(session, program):
    with pytest.raises(PlaygroundError, match="answered nothing"):
        verify(
            session,
            program(0.1),
            stage=VirtualTime(),
            update=True,
            inputs=["modbus/#"],
            expect=["other/#"],
        )


def test_a_program_that_ends_before_it_listens_is_told_with_its_last_words(
    session, tmp_path
):
    (tmp_path / "broken.py").write_text(
        "print('no such register'); raise SystemExit(3)"
    )
    with pytest.raises(
        ConnectionFailed,
        match=r"(?s)exit code 3 before it subscribed.*no such register",
    ):
        verify(session, f"python {tmp_path / 'broken.py'}", **TOPICS)


def test_a_program_that_never_listens_is_given_up(session, tmp_path, stage):
    (tmp_path / "deaf.py").write_text("import time\nwhile True: time.sleep(1)")
    with pytest.raises(ConnectionFailed, match="did not subscribe to"):
        verify(
            session,
            f"python {tmp_path / 'deaf.py'}",
            stage=stage,
            ready_within_s=1.0,
            **TOPICS,
        )


def test_a_program_that_dies_while_it_plays_has_failed(
    session, program, tmp_path, stage
):
    command = program(0.1)
    text = (tmp_path / "program.py").read_text()
    text = text.replace(
        "    value =", "    if message.payload == b'210': os._exit(7)\n    value ="
    )
    (tmp_path / "program.py").write_text(text)
    report = verify(session, command, stage=stage, settle_s=0.2, **TOPICS)
    assert "exit code 7" in report.performance.failure
    assert report.exit_code == ExitCode.NOT_SO


@pytest.mark.parametrize(
    ("app", "options", "words"),
    [
        ("", TOPICS, "No program was named"),
        ("no-such-program-anywhere", TOPICS, "cannot be started"),
        ("python x.py", {"inputs": [], "expect": ["a"]}, "not said"),
        ("python x.py", {"inputs": ["a/b#"], "expect": ["a"]}, "wildcard"),
    ],
)
def test_wrong_use_is_explained(session, app, options, words):
    with pytest.raises(PlaygroundError, match=words):
        verify(session, app, **options)


def test_the_command_prints_the_verdict_and_answers_it(session, program, capsys):
    def run(app: str, *more: str) -> int:
        topics = ["--inputs", "modbus/#", "--expect", "processed/#"]
        return _run(["verify", str(session), "--app", app, *topics, *more])

    assert run(program(0.1), "--virtual") == 0
    assert capsys.readouterr().out.startswith("equal: 20 messages")
    assert run(program(0.11), "--virtual") == 1
    said = capsys.readouterr().out
    assert "first divergence: processed/inlet" in said
    assert "expected processed/inlet '20.0'" in said
    assert run(program(0.11), "--virtual", "--json") == 1
    assert json.loads(capsys.readouterr().out)["changed"] == 20
    assert run(program(0.11), "--virtual", "--update") == 0
    assert "written as expected from now on" in capsys.readouterr().out
    assert Recording.open(expectation_of(session)).count == 20


LOCKSTEP_PROGRAM = """
    import json, os
    import paho.mqtt.client as mqtt

    heard = []

    def connected(client, userdata, flags, reason, properties):
        client.subscribe([("playground/clock", 0), ("modbus/#", 0)])

    def on_message(client, userdata, message):
        if message.topic != "playground/clock":
            return heard.append(message)
        tick = json.loads(message.payload)
        if tick.get("end"):
            return client.disconnect()
        if tick.get("client") == "pre":
            for event in heard:
                client.publish("processed/" + event.topic[7:],
                               f"{float(event.payload) * FACTOR:.1f}")
            heard.clear()
            client.publish("playground/clock/ack/pre",
                           json.dumps({"tick": tick["tick"]}))

    FACTOR = 0.1
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "pre")
    client.on_connect, client.on_message = connected, on_message
    client.connect(os.environ["MQTT_HOST"], int(os.environ["MQTT_PORT"]))
    client.loop_forever()
"""


def test_in_lockstep_it_is_as_fast_as_the_program_and_has_no_wall_time(
    session, tmp_path
):
    (tmp_path / "pre.py").write_text(textwrap.dedent(LOCKSTEP_PROGRAM))
    app = f"python {tmp_path / 'pre.py'}"
    for _ in range(2):
        report = verify(session, app, stage=Lockstep(client="pre"), **TOPICS)
        assert report.diff.equal, report.diff.as_dict()
        # The answers are stamped with virtual time, which is the session's.
        times = [m.time_ns - START for m in report.performance.answers]
        assert times == [i * 50_000_000 for i in range(20)]
        assert report.performance.played.duration_s == 0.95
