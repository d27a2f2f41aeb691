"""Programs of a scenario in real time: ordinary processes, watched by the run."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from playground.broker import EmbeddedBroker, find_mosquitto
from playground.cli import main
from playground.clock import RealtimeClock
from playground.errors import PlaygroundError
from playground.host.ordinary import Ordinary
from playground.recording import Recording
from playground.run import PROGRAMS, run
from playground.scenario import Scenario

HERE = Path(__file__).parent

HEARING = """\
import sys
import paho.mqtt.client as mqtt
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, 'night')
client.will_set('night/gone', 'gone')
client.on_connect = lambda c, *_: c.subscribe('tank/temp')
def on_message(c, u, message):
    print('heard', message.payload.decode())
    c.publish('night/heard', message.payload)
    if 'crash' in sys.argv:
        raise ValueError('nobody is perfect')
client.on_message = on_message
client.connect('broker.plant.example', 1883)
client.loop_forever()
"""


@pytest.fixture(params=["amqtt", "mosquitto"])
def url(request):
    if request.param == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    with EmbeddedBroker(backend=request.param) as broker:
        yield broker.url


@pytest.fixture
def in_real_time(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))

    def ran(text, *arguments, entry=None, duration="1500ms", venue=None, **changes):
        (tmp_path / "night.py").write_text(text)
        line = " ".join(["python", str(tmp_path / "night.py"), *arguments])
        scenario = Scenario(
            name="night",
            plant={"heated_tank:HeatedTank": {"start": "38 degC"}},
            duration=duration,
            programs=[{"run": line, "folder": str(tmp_path), **(entry or {})}],
            **changes,
        )
        venue = venue or {"transport": "realtime"}
        return run(scenario, out=tmp_path / "out", **venue)

    return ran


def told(result):
    """What the program printed and what was found, as the run keeps it."""
    lines = (result.folder / PROGRAMS).read_text().splitlines()
    return [json.loads(line) for line in lines]


def printed(result):
    return [entry["text"] for entry in told(result) if "stream" in entry]


def log_of(result):
    log = Recording.open(result.recording).messages(kinds=("publish", "will"))
    return [(message.topic, message.payload) for message in log]


@pytest.mark.slow
@pytest.mark.broker
def test_an_unmodified_program_takes_part_over_a_real_broker(url, in_real_time):
    result = in_real_time(
        HEARING, duration="3500ms", venue={"transport": "realtime", "broker": url}
    )
    assert result.verdict == "pass", "\n".join(result.lines())
    said = [payload for topic, payload in log_of(result) if topic == "tank/temp"]
    heard = [payload for topic, payload in log_of(result) if topic == "night/heard"]
    assert heard
    assert set(heard) <= set(said)
    assert printed(result) == [f"heard {payload.decode()}" for payload in heard]
    times = [entry["time_s"] for entry in told(result)]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= 3.5
    [program] = result.plain()["programs"]
    # The Ctrl-C at the end is no finding.
    assert (program["name"], program["findings"]) == ("night", [])


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.parametrize(("on_crash", "verdict"), [("fail", "fail"), ("go_on", "pass")])
def test_a_crash_is_a_finding_and_the_scenario_says_what_it_means(
    on_crash, verdict, in_real_time
):
    result = in_real_time(
        HEARING,
        "crash",
        entry={"on_crash": on_crash},
        duration="3500ms",
        checks=[{"always": "temp > 30 degC"}],
    )
    assert result.verdict == verdict
    about = "crash: ValueError: nobody is perfect ("
    assert any(about in line for line in result.lines())
    assert ("night/gone", b"gone") in log_of(result)
    # The run went on.
    assert [topic for topic, _ in log_of(result)].count("tank/temp") == 4
    assert "ValueError: nobody is perfect" in printed(result)
    [program] = result.plain()["programs"]
    assert program["exit_code"] == 1
    assert not any("playground/host" in text for text in printed(result))


# On a slow machine the end of the run may come first; then the run waits.
PATIENT = """\
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
"""

REACHING = f"""\
{PATIENT}import os, socket, subprocess
def attempt(what):
    try:
        what()
    except PermissionError as error:
        print('refused', error)
    else:
        print('done')
attempt(lambda: socket.create_connection(('plant.example', 1883)))
attempt(lambda: socket.create_connection(('broker.example', 1883)).close())
attempt(lambda: socket.create_connection(('192.0.2.1', 80)))
attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
attempt(lambda: subprocess.run(['true']))
attempt(lambda: open('forbidden.txt', 'w'))
attempt(lambda: open('allowed/some.txt', 'w').close())
attempt(lambda: open(os.path.join(os.environ['TMPDIR'], 'x'), 'w').close())
here, there = socket.socketpair()
here.sendall(b'x')
attempt(lambda: there.recv(1))
server = socket.create_server(('', 0))
attempt(lambda: socket.create_connection(server.getsockname()).close())
"""


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.parametrize("transport", ["local", "realtime"])
def test_a_program_reaches_the_broker_and_nothing_else(
    transport, in_real_time, tmp_path
):
    (tmp_path / "allowed").mkdir()
    result = in_real_time(
        REACHING,
        entry={"hosts": ["broker.example:1883"], "allow_write": ["allowed"]},
        venue={"transport": transport},
    )
    said = [text.split(",")[0] for text in printed(result)]
    assert [text.split(":")[0] for text in said] == [
        "refused A hosted program may not connect to plant.example",
        "done",
        "refused A hosted program may not connect to 192.0.2.1",
        "refused A hosted program may not open a socket of kind SOCK_DGRAM.",
        "refused A hosted program may not start another process",
        f"refused A hosted program may not write to {tmp_path}/forbidden.txt",
        "done",
        "done",
        "done",
        "done",
    ]
    kinds = [entry["finding"] for entry in told(result) if "finding" in entry]
    assert kinds == ["refused"] * 5
    assert result.verdict == "fail"


ASYNCHRONOUS = f"""\
{PATIENT}import asyncio, os, ssl
import aiomqtt
async def main():
    tls = aiomqtt.TLSParameters(ca_certs='/nowhere/ca.pem')
    async with aiomqtt.Client('broker.example', 8883, tls_params=tls) as client:
        await client.publish('aio/here', os.environ['GREETING'])
        await asyncio.to_thread(print, 'said')
    here = os.environ['PLAYGROUND_MQTT_HOST'], int(os.environ['PLAYGROUND_MQTT_PORT'])
    async with aiomqtt.Client(*here) as client:
        await client.publish('aio/here', 'again')
asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.parametrize("transport", ["local", "realtime"])
def test_asyncio_tls_and_the_address_in_the_environment_work(transport, in_real_time):
    result = in_real_time(
        ASYNCHRONOUS,
        entry={"hosts": ["broker.example:8883"], "env": {"GREETING": "hello"}},
        venue={"transport": transport},
    )
    assert result.verdict == "pass", "\n".join(result.lines())
    said = [payload for topic, payload in log_of(result) if topic == "aio/here"]
    assert said == [b"hello", b"again"]
    [note] = result.notes
    assert "TLS is accepted and not in force" in note
    assert printed(result) == ["said"]


STUBBORN = """\
import signal, time
signal.signal(signal.SIGTERM, lambda *_: print('no'))
print('here')
while True:
    time.sleep(60)
"""
TIDY = """\
import time
try:
    print('here')
    time.sleep(60)
except KeyboardInterrupt:
    print('tidy')
"""


class Beginning:
    """A real-time clock that runs until a program has printed something."""

    def __init__(self):
        self.clock = RealtimeClock()

    def until(self, program):
        deadline = threading.Event()
        timer = threading.Timer(30, deadline.set)
        timer.start()
        while not program.output and not deadline.is_set():
            self.clock.run(until=self.clock.now + 0.02)
        timer.cancel()
        assert program.output, program.findings


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "lines", "notes", "code"),
    [(STUBBORN, ["here", "no"], 1, -9), (TIDY, ["here", "tidy"], 0, 0)],
)
def test_a_program_is_asked_to_end_and_then_made_to(text, lines, notes, code, tmp_path):
    (tmp_path / "night.py").write_text(text)
    beginning = Beginning()
    program = Ordinary(
        tmp_path / "night.py", ("127.0.0.1", 1), beginning.clock, grace_s=0.3
    )
    with program:
        beginning.until(program)
    assert [line.text for line in program.output] == lines
    assert [f.kind for f in program.findings] == ["note"] * notes
    assert program.exit_code == code
    assert not program.running


WATCHING = """\
import os, signal, sys
from playground.clock import RealtimeClock
from playground.host.ordinary import Ordinary
clock = RealtimeClock()
program = Ordinary(sys.argv[1], ("127.0.0.1", 1), clock)
while not program.output:
    clock.run(until=clock.now + 0.02)
print(program.output[0].text, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_program_ends_with_the_run_that_watches_it(tmp_path, eventually):
    (tmp_path / "night.py").write_text(
        STUBBORN.replace("print('here')", "import os\nprint(os.getpid())")
    )
    watching = subprocess.run(
        [sys.executable, "-c", WATCHING, str(tmp_path / "night.py")],
        stdout=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert watching.returncode == -signal.SIGKILL
    pid = int(watching.stdout)

    def is_gone():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        # Nobody may have asked for its exit code yet.
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"

    eventually(is_gone)


@pytest.mark.slow
@pytest.mark.broker
def test_a_program_that_crashes_by_a_fault_is_started_anew(in_real_time):
    fault = {"kind": "client_crash", "client": "night", "for": "500ms"}
    result = in_real_time(
        HEARING, duration="4s", events=[{"at": "1500ms", "fault": fault}]
    )
    assert result.verdict == "pass", "\n".join(result.lines())
    said = [topic for topic, _ in log_of(result)]
    gone = said.index("night/gone")
    assert "night/heard" in said[:gone]
    assert "night/heard" in said[gone:]


@pytest.mark.broker
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"links": {"night": {"latency": "1s"}}}, "has a link, but in real time"),
        (
            {
                "events": [
                    {"at": "1s", "fault": {"kind": "partition", "client": "night"}}
                ]
            },
            "is to suffer a partition, but in real time",
        ),
    ],
)
def test_what_cannot_be_done_to_a_process_is_refused(changes, says, in_real_time):
    with pytest.raises(PlaygroundError) as error:
        in_real_time("", **changes)
    assert says in str(error.value)


@pytest.mark.slow
@pytest.mark.broker
def test_faults_that_miss_a_process_are_told(in_real_time):
    fault = {"kind": "drop", "topic": "tank/heater/#"}
    result = in_real_time("", events=[{"at": "0s", "fault": fault}], duration="500ms")
    [note] = result.notes
    assert "do not act on what night says and hears: drop" in note


def test_a_process_at_another_speed_is_refused(in_real_time):
    with pytest.raises(PlaygroundError, match="read the wall clock"):
        in_real_time("", venue={"transport": "realtime", "speed": 10})


@pytest.mark.slow
@pytest.mark.broker
def test_the_command_says_what_the_program_said(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "night.py").write_text("import sys\nprint('here')\nsys.exit(3)\n")
    (tmp_path / "night.yaml").write_text(
        "name: night\nplant: heated_tank:HeatedTank\nduration: 3s\n"
        "programs: [{run: python night.py}]\n"
    )
    words = ["run", "night.yaml", "--transport", "realtime", "--no-report", "-o", "out"]
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 1
    assert "exit: It ended with code 3." in capsys.readouterr().out
    lines = (tmp_path / "out" / PROGRAMS).read_text().splitlines()
    assert json.loads(lines[0])["text"] == "here"
