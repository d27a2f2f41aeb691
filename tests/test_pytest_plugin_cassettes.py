"""A session with a real broker is recorded once and played in every test."""

import shutil
from pathlib import Path

# Imported before the tests: pytester forgets what an inner run has imported; numpy
# cannot be imported twice, and what pint brings along replaces importlib.metadata's
# own finder.
import pint  # noqa: F401
import pytest

import playground.cassette
import playground.virtual  # noqa: F401
from playground.broker import find_mosquitto
from playground.cassette import redaction
from playground.client import BrokerWithClients
from playground.message import Message
from playground.recording import Recording

pytest_plugins = ["pytester"]

STRATEGY = '''
"""The code under test: asks for the state, then opens the valve by what it hears."""

import json
import queue

import paho.mqtt.client as mqtt


def control(url, rounds=2):
    host, _, port = url.removeprefix("mqtt://").partition(":")
    heard = queue.SimpleQueue()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    subscribed = queue.SimpleQueue()
    client.on_subscribe = lambda *_: subscribed.put(1)
    client.on_message = lambda _c, _u, message: heard.put(message.payload)
    client.connect(host, int(port))
    client.loop_start()
    client.subscribe("lab/answer", qos=1)
    subscribed.get(timeout=5)
    seen = []
    for number in range(rounds):
        client.publish("lab/ask", json.dumps({"n": number, "token": "s3cret"}), qos=1)
        seen.append(json.loads(heard.get(timeout=5)))
    client.disconnect()
    client.loop_stop()
    return [answer["value"] for answer in seen]
'''

TEST = """
from strategy import control

def test_control(mqtt_cassette):
    assert control(mqtt_cassette.url, rounds=ROUNDS) == EXPECTED
"""


@pytest.fixture
def project(pytester):
    """A project of a user, with a strategy."""
    for file in (Path(__file__).parent / "plugin_project").iterdir():
        shutil.copy(file, pytester.path)
    pytester.makepyfile(strategy=STRATEGY)
    return pytester


class Lab:
    """A plant that answers each question with a number, one higher each time."""

    def __init__(self, broker, begin=10):
        self.url = broker.url
        self.value = begin
        self.client = broker.client("lab", subscribe=["lab/ask"])
        self.client.add = self.answer
        self.client.connection._on_message = self.answer

    def answer(self, message):
        self.value += 1
        self.client.connection.publish(
            "lab/answer", b'{"value": %d, "wifi": "pw"}' % self.value, qos=1
        )


@pytest.fixture(params=["amqtt", "mosquitto"])
def lab(request):
    if request.param == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    with BrokerWithClients(backend=request.param) as broker:
        yield Lab(broker)


def write_test(project, *, rounds=2, expected=(11, 12), mark=""):
    text = TEST.replace("ROUNDS", str(rounds)).replace("EXPECTED", str(list(expected)))
    if mark:
        text = f"import pytest\n{text}".replace("def test", f"{mark}\ndef test")
    (project.path / "test_it.py").write_text(text)


def run(project, *arguments):
    return project.runpytest_inprocess("-p", "no:cacheprovider", *arguments)


def recorded(project, lab, mode="once", *arguments):
    return run(
        project,
        "--mqtt-record-mode",
        mode,
        "--mqtt-record-broker",
        lab.url,
        *arguments,
    )


def cassette(project):
    return project.path / "cassettes" / "test_it" / "test_control.parquet"


def test_a_session_is_recorded_once_and_played_without_the_broker(project, lab):
    write_test(project)
    recorded(project, lab).assert_outcomes(passed=1)
    told = [
        (m.kind, m.topic, m.payload[:12], m.client is not None)
        for m in Recording.open(cassette(project)).messages(
            kinds=("publish", "subscribe")
        )
    ]
    assert told == [
        ("subscribe", "lab/answer", b"", True),
        ("publish", "lab/ask", b'{"n": 0, "to', True),
        ("publish", "lab/answer", b'{"value": 11', False),
        ("publish", "lab/ask", b'{"n": 1, "to', True),
        ("publish", "lab/answer", b'{"value": 12', False),
    ]
    # A second run asks nobody, though the mode would allow it.
    recorded(project, lab).assert_outcomes(passed=1)
    assert lab.value == 12
    lab.client.close()
    run(project).assert_outcomes(passed=1)


def test_a_missing_cassette_names_the_command_that_records_it(project):
    write_test(project)
    result = run(project)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "There is no cassette *cassettes/test_it/test_control.parquet, and the "
            "record mode is 'none'.",
            "  fix: record it: pytest test_it.py::test_control --mqtt-record-mode rewrite "
            "--mqtt-record-broker mqtt://HOST",
        ]
    )
    assert "Traceback" not in result.stdout.str()


def test_recording_without_a_broker_says_how_to_name_one(project):
    write_test(project)
    result = run(project, "--mqtt-record-mode", "once")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*add --mqtt-record-broker mqtt://HOST, or*"])


@pytest.fixture
def amqtt_lab():
    with BrokerWithClients() as broker:
        yield Lab(broker)


def test_the_broker_of_the_mark_may_be_recorded_from(project, amqtt_lab):
    write_test(project, mark=f"@pytest.mark.cassette(broker={amqtt_lab.url!r})")
    run(project, "--mqtt-record-mode", "once").assert_outcomes(passed=1)
    write_test(project, mark="@pytest.mark.cassette('test_it/test_control')")
    run(project).assert_outcomes(passed=1)


def test_what_the_cassette_does_not_know_fails_the_test(project, amqtt_lab):
    write_test(project)
    recorded(project, amqtt_lab).assert_outcomes(passed=1)
    (project.path / "test_it.py").write_text(
        "from strategy import control\n"
        "def test_control(mqtt_cassette):\n"
        "    control(mqtt_cassette.url)\n"
        "    mqtt_cassette.client().publish('lab/aks', 'x')\n"
    )
    result = run(project)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*The code publishes lab/aks  x  qos=1; on the cassette test_control.parquet "
            "that is not on it. Did you mean 'lab/ask'[?]",
            "*fix: record it anew: pytest test_it.py::test_control *",
        ]
    )


def test_payloads_count_only_if_that_is_asked_for(project, amqtt_lab):
    write_test(project)
    recorded(project, amqtt_lab).assert_outcomes(passed=1)
    strategy = project.path / "strategy.py"
    strategy.write_text(strategy.read_text().replace("s3cret", "other"))
    run(project).assert_outcomes(passed=1)
    write_test(project, mark="@pytest.mark.cassette(payloads=True)")
    result = run(project)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*The code says something else than on the cassette*",
            '*expected  lab/ask  {"n": 0, "token": "s3cret"}*',
            '*got       lab/ask  {"n": 0, "token": "other"}*',
        ]
    )


def test_new_goes_on_with_the_broker_where_the_cassette_ends(project, amqtt_lab):
    write_test(project)
    recorded(project, amqtt_lab).assert_outcomes(passed=1)
    write_test(project, rounds=3, expected=(11, 12, 13))
    run(project, "-q").assert_outcomes(failed=1)
    recorded(project, amqtt_lab, "new").assert_outcomes(passed=1)
    amqtt_lab.client.close()
    run(project).assert_outcomes(passed=1)


def test_all_replaces_what_was_there_if_the_test_passes(project, amqtt_lab):
    write_test(project)
    recorded(project, amqtt_lab).assert_outcomes(passed=1)
    before = cassette(project).read_bytes()
    recorded(project, amqtt_lab, "all").assert_outcomes(failed=1)
    assert cassette(project).read_bytes() == before
    write_test(project, expected=(15, 16))
    recorded(project, amqtt_lab, "all").assert_outcomes(passed=1)
    run(project).assert_outcomes(passed=1)


def test_rewrite_keeps_what_was_recorded_in_any_case(project, amqtt_lab):
    write_test(project)
    recorded(project, amqtt_lab).assert_outcomes(passed=1)
    recorded(project, amqtt_lab, "rewrite").assert_outcomes(failed=1)
    write_test(project, expected=(13, 14))
    run(project).assert_outcomes(passed=1)


def test_a_cassette_expires_on_a_fake_date(project, amqtt_lab):
    project.makeconftest(
        """
        import datetime, pytest

        @pytest.fixture
        def playground_today():
            return datetime.date(2999, 1, 1)
        """
    )
    write_test(project, mark="@pytest.mark.cassette(max_age='180d')")
    recorded(project, amqtt_lab).assert_outcomes(passed=1)
    result = run(project)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "test_control.parquet is of 20* days old; its test allows 180d.",
            "  fix: record it anew: pytest test_it.py::test_control *",
        ]
    )
    write_test(project, mark="@pytest.mark.cassette(max_age='180d', expired='warn')")
    run(project, "-W", "default").assert_outcomes(passed=1, warnings=1)


def test_secrets_are_taken_out_before_anything_is_written(project, amqtt_lab):
    project.makeconftest(
        """
        import pytest

        @pytest.fixture
        def mqtt_redact():
            return lambda message: message._replace(
                payload=message.payload.replace(b"s3cret", b"***")
            )
        """
    )
    write_test(project, mark="@pytest.mark.cassette(redact=['lab/answer:$.wifi'])")
    recorded(project, amqtt_lab).assert_outcomes(passed=1)
    said = b"".join(m.payload for m in Recording.open(cassette(project)).messages())
    assert b"s3cret" not in said
    assert b"pw" not in said
    assert said.count(b'"wifi":"REDACTED"') == 2
    run(project).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("rule", "payload", "written"),
    [
        ("wifi/#", b"secret", b"REDACTED"),
        ("lab/#", b"secret", b"secret"),
        ("wifi/#:$.pw", b'{"pw":1,"a":2}', b'{"pw":"REDACTED","a":2}'),
        ("$.a.pw", b'{"a":{"pw":1}}', b'{"a":{"pw":"REDACTED"}}'),
        ("$.pw", b'[{"pw":1},{"pw":2}]', b'[{"pw":"REDACTED"},{"pw":"REDACTED"}]'),
        ("$.pw", b"\xff", b"\xff"),
        ("$.pw", b'{ "b": 1 }', b'{ "b": 1 }'),
    ],
)
def test_redaction_takes_out_what_its_rules_name(rule, payload, written):
    assert redaction([rule])(Message(0, "wifi/x", payload)).payload == written
