"""Faults act on a hosted program as on any other client of a run."""

import json
from pathlib import Path

import pytest

from playground.recording import Recording
from playground.run import PROGRAMS, run
from playground.scenario import Scenario

HERE = Path(__file__).parent
START_NS = 1_767_225_600 * 10**9
PROGRAM = """\
import time
import paho.mqtt.client as mqtt
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, 'night')
client.will_set('night/gone', 'gone')
client.reconnect_delay_set(1, 4)
def connected(c, *_):
    c.publish('night/here', 'here')
    c.subscribe('tank/temp')
client.on_connect = connected
client.on_message = lambda c, u, m: c.publish('night/heard', m.payload)
client.connect('broker')
client.loop_start()
while True:
    client.publish('tank/heater/set', '1', qos=1)
    time.sleep(10)
"""


@pytest.fixture
def night(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    (tmp_path / "night.py").write_text(PROGRAM)

    def ran(*faults, **changes):
        facts = {
            "name": "night",
            "plant": {"heated_tank:HeatedTank": {"start": "38 degC"}},
            "duration": "2min",
            "programs": [{"run": f"python {tmp_path / 'night.py'}"}],
            "events": [{"at": "30500ms", "fault": fault} for fault in faults],
        }
        scenario = Scenario(**{**facts, **changes})
        result = run(scenario, out=tmp_path / "out")
        log = Recording.open(result.recording).messages(kinds=("publish", "will"))
        return [((m.time_ns - START_NS) / 1e9, m.topic, m.payload) for m in log]

    return ran


def times(log, topic, payload=None):
    return [
        time_s
        for time_s, its_topic, its_payload in log
        if its_topic == topic and payload in (None, its_payload)
    ]


@pytest.mark.slow
def test_a_signal_fault_alters_what_a_program_says(night):
    stuck = {"signal": "heater", "kind": "stuck", "value": 0.25, "for": "40s"}
    log = night(stuck)
    set_to = [(time_s, p) for time_s, topic, p in log if topic == "tank/heater/set"]
    assert [p for time_s, p in set_to if not 30.5 < time_s < 70.5] == [b"1"] * 8
    assert [p for time_s, p in set_to if 30.5 < time_s < 70.5] == [b"0.25"] * 4
    # Its sessions and its other words are as they were.
    assert len(times(log, "night/here")) == 1


@pytest.mark.slow
def test_a_program_hears_what_a_faulty_sensor_says(night):
    stuck = {"signal": "temp", "kind": "stuck", "value": "12 degC", "for": "10s"}
    log = night(stuck)
    heard = times(log, "night/heard", b"12.0") or times(log, "night/heard", b"12")
    assert [int(time_s) for time_s in heard] == list(range(31, 41))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "count"),
    [
        ({"kind": "drop", "topic": "tank/heater/#", "for": "40s"}, 8),
        ({"kind": "duplicate", "topic": "tank/heater/#", "for": "40s"}, 16),
        ({"kind": "late", "topic": "tank/heater/#", "delay": "3s", "for": "40s"}, 12),
    ],
)
def test_a_message_fault_acts_on_what_a_program_says(night, fault, count):
    said = times(night(fault), "tank/heater/set")
    assert len(said) == count
    if fault["kind"] == "late":
        assert [round(s) for s in said] == [
            0,
            10,
            20,
            30,
            43,
            53,
            63,
            73,
            *range(80, 120, 10),
        ]


@pytest.mark.slow
def test_a_partition_cuts_a_program_off_and_lets_it_come_back(night):
    log = night({"kind": "partition", "client": "night", "for": "30s"})
    assert times(log, "night/gone") == [30.5, 120.0]  # and at the end
    here = times(log, "night/here")
    assert len(here) == 2
    assert 60.5 <= here[1] <= 66
    assert not [s for s in times(log, "night/heard") if 30.5 < s < 60.5]


@pytest.mark.slow
def test_a_broker_that_restarts_throws_a_program_out_without_its_will(night):
    log = night({"kind": "broker_restart", "for": "5s"})
    assert times(log, "night/gone") == [120.0]  # at the end only
    here = times(log, "night/here")
    assert len(here) == 2
    assert 35.5 <= here[1] <= 41


@pytest.mark.slow
def test_a_program_that_crashes_is_started_anew_at_the_end(night):
    log = night({"kind": "client_crash", "client": "night", "for": "20s"})
    assert times(log, "night/gone") == [30.5, 120.0]  # and at the end
    here = times(log, "night/here")
    assert len(here) == 2
    assert here[1] == pytest.approx(50.5, abs=0.1)
    said = times(log, "tank/heater/set")
    assert [round(s) for s in said] == [0, 10, 20, 30, 50, 60, 70, 80, 90, 100, 110]


@pytest.mark.slow
def test_a_program_that_crashes_for_good_stays_away(night):
    log = night({"kind": "client_crash", "client": "night"})
    assert max(times(log, "tank/heater/set")) < 30.5
    assert len(times(log, "night/here")) == 1


@pytest.mark.slow
def test_what_is_not_likely_does_not_befall_a_program(night):
    fault = {"kind": "client_crash", "client": "night", "probability": 1e-9}
    assert night(fault) == night(
        events=[{"at": "30500ms", "fault": {**fault, "kind": "partition"}}]
    )


@pytest.mark.slow
def test_faults_of_a_program_are_the_same_twice(night):
    faults = (
        {"kind": "client_crash", "client": "night", "for": "20s"},
        {"kind": "reorder", "topic": "tank/#", "within": "5s"},
        {"kind": "intermittent", "signal": "heater"},
    )
    assert night(*faults) == night(*faults)


def test_a_fault_acts_on_a_disturbance_as_on_any_signal(night):
    changes = {
        "programs": [],
        "disturbances": {"room": {"table": {"0s": "5 degC", "1min": "9 degC"}}},
    }
    stuck = {"signal": "room", "kind": "stuck", "value": "21 degC"}
    said = [(s, p) for s, topic, p in night(stuck, **changes) if topic == "room/temp"]
    assert [float(p) for _, p in said] == [5.0, 21.0]


def test_what_the_scenario_sets_itself_happens_as_written(night):
    stuck = {"signal": "room", "kind": "stuck", "value": "21 degC"}
    events = [
        {"at": "30s", "fault": stuck},
        {"at": "40s", "set": {"room": "11 degC"}},
    ]
    log = night(programs=[], events=events)
    assert [float(p) for _, topic, p in log if topic == "room/temp"] == [11.0]


@pytest.mark.parametrize(
    ("line", "name", "command"),
    [
        ("python night.py --fast", "night", ("night.py", "--fast")),
        ("python3 -u night.py", "night", ("night.py",)),
        ("-B night.py", "night", ("night.py",)),
        ("python -m json.tool --fast", "json", ("-m", "json.tool", "--fast")),
    ],
)
def test_a_command_line_names_its_program(line, name, command, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "night.py").write_text("")
    scenario = Scenario(
        name="night",
        plant="heated_tank:HeatedTank",
        duration="1min",
        programs=[{"run": line}],
    )
    [program] = scenario.prepare().programs
    assert (program.name, program.command) == (name, command)


ODD = """\
import sys
print('here')
print('there', file=sys.stderr)
open('log.txt', 'w').write('x')
while 'busy' in sys.argv:
    pass
"""


@pytest.mark.slow
def test_what_a_program_prints_is_kept_with_the_run(night, tmp_path):
    (tmp_path / "odd.py").write_text(ODD)
    (tmp_path / "logs").mkdir()
    run_it = f"python {tmp_path / 'odd.py'}"
    night(
        duration="10s",
        programs=[
            {
                "run": run_it,
                "start": "3s",
                "folder": str(tmp_path / "logs"),
                "allow_write": ["."],
            },
            {
                "run": f"{run_it} busy",
                "name": "busy",
                "watchdog": "2s",
                "allow_write": [str(tmp_path)],
                "folder": str(tmp_path),
                "on_crash": "go_on",
            },
        ],
    )
    told = [
        json.loads(line)
        for line in (tmp_path / "out" / PROGRAMS).read_text().splitlines()
    ]
    hang = told.pop(2)
    assert told == [
        {"time_s": at, "program": who, "stream": stream, "text": text}
        for at, who in ((0.0, "busy"), (3.0, "odd"))
        for stream, text in (("stdout", "here"), ("stderr", "there"))
    ]
    assert (hang["program"], hang["finding"]) == ("busy", "hang")
    assert "odd.py, line " in hang["text"]
    assert (tmp_path / "logs" / "log.txt").exists()
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    # What on_crash says is about crashes.
    assert [check["name"] for check in result["checks"]] == ["program busy"]
    assert [
        (each["name"], each["exit_code"], each["lines"], len(each["findings"]))
        for each in result["programs"]
    ] == [("odd", 0, 2, 0), ("busy", -9, 2, 1)]
