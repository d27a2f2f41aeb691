"""A scenario in memory, in lockstep and in real time: `playground run --transport`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from playground.broker import EmbeddedBroker, find_mosquitto
from playground.document import DocumentError
from playground.errors import ExitCode, PlaygroundError
from playground.mqtt import MqttBus
from playground.recording import Recording
from playground.run import RECORDING, run
from playground.scenario import Scenario, load_scenario

HERE = Path(__file__).parent
SHIPPED = HERE.parent / "scenarios"
START_NS = 1_767_225_600 * 10**9


def tank(**changes):
    return Scenario(
        name="tank",
        plant={"heated_tank:HeatedTank": {"start": "38 degC"}},
        duration="2min",
        controllers=[
            {
                "thermostat": {
                    "measure": "temp",
                    "command": "heater",
                    "setpoint": "40 degC",
                    "hysteresis": "2 K",
                }
            }
        ],
    ).replace(**changes)


@pytest.fixture(autouse=True)
def _tank(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))


@pytest.fixture(params=["amqtt", "mosquitto"])
def url(request):
    if request.param == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    with EmbeddedBroker(backend=request.param) as broker:
        yield broker.url


def log_of(result):
    return list(Recording.open(result.folder / RECORDING).messages())


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.parametrize("name", ["lost_messages", "own_program", "thermostat"])
def test_a_shipped_scenario_has_the_same_log_in_memory_and_on_a_broker(
    name, url, tmp_path
):
    scenario = load_scenario(SHIPPED / f"{name}.yaml").replace(
        duration="15min", warm_up="0s", checks=[], kpis={}
    )
    local = run(scenario, out=tmp_path / "local")
    lockstep = run(
        scenario, out=tmp_path / "lockstep", transport="lockstep", broker=url
    )
    assert log_of(lockstep) == log_of(local)  # times included
    assert lockstep.sha256 == local.sha256
    assert local.messages > 1000
    assert lockstep.plain()["transport"] == "lockstep"


# Asks every ten seconds what is retained, as a display does that is switched on.
DISPLAY = """\
import time
import paho.mqtt.client as mqtt
import paho.mqtt.publish as publish
while True:
    kept = []
    def keep(client, kept, message):
        if message.retain:
            kept.append(message.topic + '=' + message.payload.decode())

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, userdata=kept)
    client.on_message = keep
    client.on_connect = lambda c, *_: c.subscribe('#')
    client.connect('broker')
    client.loop_start()
    time.sleep(0.25)
    client.disconnect()
    client.loop_stop()
    publish.single('display/shows', ' '.join(sorted(kept)), hostname='broker')
    time.sleep(9.75)
"""


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.parametrize("kind", ["retained_loss", "broker_restart"])
def test_a_broker_that_forgets_has_the_same_log_everywhere(kind, url, tmp_path):
    (tmp_path / "display.py").write_text(DISPLAY)
    scenario = tank(
        initial={"retained": {"lab/mode": "heat"}},
        programs=[{"run": f"python {tmp_path / 'display.py'}"}],
        events=[
            {
                "at": "22s",
                "publish": {"topic": "lab/a", "payload": "1", "retain": True},
            },
            {"at": "33s", "fault": {"kind": kind}},
            {
                "at": "55s",
                "publish": {"topic": "lab/b", "payload": "2", "retain": True},
            },
        ],
        duration="75s",
    )
    local = run(scenario, out=tmp_path / "local")
    shown = [m.payload.decode() for m in log_of(local) if m.topic == "display/shows"]
    assert shown == [
        *["lab/mode=heat"] * 3,
        "lab/a=1 lab/mode=heat",
        *[""] * 2,
        *["lab/b=2"] * 2,
    ]
    for again in "first", "second":  # on the same broker
        lockstep = run(scenario, out=tmp_path / again, transport="lockstep", broker=url)
        assert log_of(lockstep) == log_of(local)
        assert lockstep.sha256 == local.sha256


FORGETFUL = """
import sys
from playground.mqtt import MqttBus
from playground.testing import LockstepClient

def act(now, messages, client):
    for message in messages:
        client.publish("heard", message.payload or b"nothing")
    if now in (20.0, 40.0):
        kept = []
        late = MqttBus(sys.argv[1]).converse("late", kept.append)
        late.subscribe("lab/#")
        late.flush()
        late.disconnect()
        client.publish("kept", b"%d" % len(kept))

LockstepClient(sys.argv[1], "echo", act, filters=["lab/#"]).run()
"""


@pytest.mark.slow
@pytest.mark.broker
def test_a_broker_that_forgets_does_so_for_programs_outside(url, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", FORGETFUL, url])
    try:
        result = run(
            tank(
                events=[
                    {
                        "at": "12s",
                        "publish": {"topic": "lab/a", "payload": "1", "retain": True},
                    },
                    {"at": "33s", "fault": {"kind": "retained_loss"}},
                ],
                duration="1min",
            ),
            out=tmp_path / "out",
            transport="lockstep",
            broker=url,
            clients=["echo"],
        )
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
    said = [(m.topic, m.payload) for m in log_of(result) if m.client == "echo"]
    assert said == [("heard", b"1"), ("kept", b"1"), ("kept", b"0")]


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.parametrize("name", ["thermostat", "lost_messages"])
def test_a_shipped_scenario_comes_out_the_same_in_real_time(name, url, tmp_path):
    shipped = load_scenario(SHIPPED / f"{name}.yaml")
    scenario = shipped.replace(duration="15min", warm_up="5min")
    local = run(scenario, out=tmp_path / "local")
    real = run(
        scenario, out=tmp_path / "real", transport="realtime", broker=url, speed=120
    )
    assert real.transport == "realtime"
    assert real.lateness_s is not None
    # What a plant says on its own period does not depend on the wall clock.
    assert real.messages == pytest.approx(local.messages, rel=0.02)
    assert [check.name for check in real.checks] == [c.name for c in local.checks]
    assert [check.verdict for check in real.checks] == [
        check.verdict for check in local.checks
    ]
    for kpi, other in zip(real.kpis, local.kpis, strict=True):
        wanted = None if other.value is None else pytest.approx(other.value, rel=0.1)
        assert kpi.value == wanted, kpi.name


# -- a strategy of one's own, on every transport --------------------------------

STRATEGIES = {
    "function": "own_strategies:two_point",
    "generator": "own_strategies:pulses",
    "class": "own_strategies:Pulses",
}


@pytest.mark.broker
@pytest.mark.parametrize("transport", ["local", "lockstep", "realtime"])
@pytest.mark.parametrize("written", ["yaml", "python"])
@pytest.mark.parametrize("kind", STRATEGIES)
def test_a_strategy_of_ones_own_runs_on_every_transport(
    kind, written, transport, tmp_path, request
):
    import own_strategies

    if written == "yaml":
        controllers = [STRATEGIES[kind]]
    else:
        controllers = [getattr(own_strategies, STRATEGIES[kind].partition(":")[2])]
    scenario = tank(
        controllers=controllers,
        checks=[{"eventually": "temp > 38.5 degC"}, {"never": "temp > 41 degC"}],
    )
    assert scenario.controllers == [STRATEGIES[kind]]
    assert (
        scenario.plain()
        == tank(controllers=[STRATEGIES[kind]], checks=scenario.checks).plain()
    )
    more = {}
    if transport != "local":
        embedded = request.getfixturevalue("embedded")
        more = {"transport": transport, "broker": embedded.url}
    if transport == "realtime":
        more["speed"] = 100
    result = run(scenario, out=tmp_path / "out", **more)
    assert result.verdict == "pass", "\n".join(result.lines())
    said = [m.payload for m in log_of(result) if m.topic == "tank/heater/set"]
    assert len(said) >= 2
    assert set(said) <= {b"0", b"1", b"0.0", b"1.0"}


def test_a_strategy_without_a_name_is_refused():
    with pytest.raises(PlaygroundError, match="define it at the top of a module"):
        tank(controllers=[lambda now, values: {"heater": 1.0}])


def test_parameters_of_a_function_stand_around_it(tmp_path):
    import own_strategies

    def hottest(below):
        scenario = tank(
            controllers=[{own_strategies.two_point: {"below": below, "period": "1s"}}],
            kpis={"use": [{"travel": {"of": "temp"}}]},
        )
        return run(scenario, out=tmp_path / below.split()[0]).kpis[0].value

    assert hottest("38.2 degC") < hottest("39.9 degC")


# -- links --------------------------------------------------------------------


def times(result, topic):
    return [(m.time_ns - START_NS) / 1e9 for m in log_of(result) if m.topic == topic]


def test_a_link_delays_what_passes_it(tmp_path):
    direct = run(tank(), out=tmp_path / "direct")
    linked = run(tank(links={"plant": {"latency": "50ms"}}), out=tmp_path / "linked")
    assert times(linked, "tank/temp") == [
        pytest.approx(at + 0.05) for at in times(direct, "tank/temp") if at < 119.95
    ]


def test_jitter_and_loss_come_from_the_seed(tmp_path):
    bad = tank(links={"*": {"latency": "20ms", "jitter": "300ms", "loss": "20 %"}})
    first, again, other = (
        run(bad.replace(seed=seed), out=tmp_path / str(number))
        for number, seed in enumerate((1, 1, 2))
    )
    assert first.sha256 == again.sha256 != other.sha256
    said = len(times(run(tank(), out=tmp_path / "direct"), "tank/temp"))
    assert 0.5 * said < len(times(first, "tank/temp")) < said


@pytest.mark.broker
def test_links_are_the_same_in_lockstep(tmp_path):
    bad = tank(links={"*": {"latency": "20ms", "jitter": "300ms", "loss": "20 %"}})
    local = run(bad, out=tmp_path / "local")
    assert run(bad, out=tmp_path / "b", transport="lockstep").sha256 == local.sha256


@pytest.mark.parametrize(
    ("links", "says"),
    [
        ({"plnt": {}}, "There is no client 'plnt'. Did you mean 'plant'?"),
        ({"plant": {"latency": "5"}}, "has no unit"),
        ({"plant": {"loss": "200 %"}}, "loses the share 2.0"),
        ({"plant": {"delay": "1s"}}, "unknown key 'delay'"),
    ],
)
def test_a_link_that_cannot_be_is_named(links, says, tmp_path):
    with pytest.raises(DocumentError, match=None) as error:
        run(tank(links=links), out=tmp_path / "out")
    assert says in str(error.value)


def test_the_file_says_the_transport_and_the_links(tmp_path):
    scenario = tank(
        transport="lockstep", links={"plant": {"latency": "50ms", "loss": "1 %"}}
    )
    plain = scenario.plain()
    assert plain["transport"] == "lockstep"
    assert plain["links"] == {"plant": {"latency": "50ms", "loss": "1 %"}}
    assert Scenario(**plain) == scenario


@pytest.mark.slow
def test_a_link_of_a_program_carries_its_bytes(tmp_path):
    (tmp_path / "echo.py").write_text(
        "import time\n"
        "import paho.mqtt.client as mqtt\n"
        "client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, 'echo')\n"
        "client.on_connect = lambda c, *_: c.subscribe('tank/temp')\n"
        "client.on_message = lambda c, u, m: c.publish('echo', m.payload)\n"
        "client.connect('broker')\n"
        "client.loop_start()\n"
        "time.sleep(60)\n"
        "client.disconnect()\n"
        "client.loop_stop()\n"
    )
    program = {"run": f"python {tmp_path / 'echo.py'}"}
    result = run(
        tank(programs=[program], links={"echo": {"latency": "1500ms"}}),
        out=tmp_path / "out",
    )
    assert not result.checks
    said, echoed = times(result, "tank/temp"), times(result, "echo")
    assert echoed
    # Down to the program, and up again.
    heard = [at for at in said if any(abs(at + 3 - e) < 1e-6 for e in echoed)]
    assert len(heard) == len(echoed)
    # Connected and subscribed after: SYN, CONNECT, CONNACK, SUBSCRIBE.
    assert min(heard) >= 6.0


# -- clients outside ------------------------------------------------------------

CLIENT = """
import sys
from playground.testing import LockstepClient

def act(now, messages, client):
    for message in messages:
        client.publish("echo", message.payload)

LockstepClient(sys.argv[1], "echo", act, filters=["tank/temp"]).run()
"""


@pytest.mark.slow
@pytest.mark.broker
def test_a_program_outside_takes_part_in_lockstep(url, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", CLIENT, url])
    try:
        result = run(
            tank(),
            out=tmp_path / "out",
            transport="lockstep",
            broker=url,
            clients=["echo"],
        )
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
    assert times(result, "echo") == times(result, "tank/temp")


@pytest.mark.broker
def test_a_client_that_does_not_answer_is_named_and_the_exit_code_is_3(
    tmp_path, monkeypatch, capsys
):
    from playground.cli import main

    (tmp_path / "tank.yaml").write_text(json.dumps(tank().plain()))
    monkeypatch.chdir(tmp_path)
    words = ["run", "tank.yaml", "--transport", "lockstep", "--client", "my-control"]
    with pytest.raises(SystemExit) as end:
        main([*words, "--deadline", "200ms", "-o", "out"])
    assert end.value.code == ExitCode.UNDECIDED == 3
    assert "'my-control' did not appear within 0.2 s" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# -- real time --------------------------------------------------------------------


@pytest.mark.broker
def test_a_realtime_run_reports_how_late_its_events_were(embedded, tmp_path):
    heard = []
    outside = MqttBus(embedded.url).connect("outside", heard.append)
    outside.subscribe("tank/temp")
    result = run(
        tank(),
        out=tmp_path / "out",
        transport="realtime",
        speed=200,
        broker=embedded.url,
    )
    outside.disconnect()
    assert heard
    late = result.lateness_s
    assert 0 <= late["p50"] <= late["p99"] <= late["max"]
    assert result.plain()["lateness_s"] == late
    assert any(line.startswith("events late by ") for line in result.lines())


def test_in_virtual_time_nothing_is_late(tmp_path):
    result = run(tank(), out=tmp_path / "out")
    assert result.lateness_s is None
    assert not any("late" in line for line in result.lines())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"transport": "realtme"}, "There is no transport 'realtme'. Did you mean 're"),
        ({"broker": "mqtt://127.0.0.1"}, "The transport local has no broker"),
        ({"clients": ["ctl"]}, "Nobody waits for ctl on the transport local"),
        ({"speed": 10}, "A run on the transport local has no speed"),
        ({"speed": 0, "transport": "realtime"}, "A speed of 0 would never end"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(arguments, says, tmp_path):
    with pytest.raises(PlaygroundError) as error:
        run(tank(), out=tmp_path / "out", **arguments)
    assert says in str(error.value)
    assert error.value.exit_code == ExitCode.USAGE
