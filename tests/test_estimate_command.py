"""``playground estimate`` as it is typed: every option, and what comes of its file."""

import json
from pathlib import Path

import numpy as np
import pytest

from playground.cli import _run as run_command
from playground.message import Message
from playground.plants.boptest_testcase1 import SimpleRC
from playground.recording import RecordingWriter

START_NS = 10**18
CAPACITY, RESISTANCE = 1.3e6, 0.012
TOPICS = {
    "heater": "zone/heater/set",
    "temp": "zone/temperature",
    "power": "zone/heater/power",
}


def record_room(path, *, hours=14, power=1.0, change=None, topics=TOPICS):
    """Records the room of `SimpleRC`, heated in steps of an hour.

    Args:
        path: Where to.
        hours: How long.
        power: What the power meter says, times the truth.
        change: Hour from which on the resistance is another, and which.
        topics: Where it is said.
    """
    rng = np.random.default_rng(4)
    truth = {"capacity_j_per_k": CAPACITY, "start_degc": 18.0}
    room = SimpleRC(**truth, resistance_k_per_w=RESISTANCE)
    heat, messages = 0.0, []
    for row in range(hours * 60 + 1):
        at = START_NS + row * 60 * 10**9
        if change is not None and row == change[0] * 60:
            before = room.snapshot()
            room = SimpleRC(**truth, resistance_k_per_w=change[1])
            room.restore(before)
        if row:
            said = room.step(row * 60.0, {"heater": heat})
            warm = said["zone_temp"] + 0.05 * rng.standard_normal()
            watts = power * said["heater_power"] + 2.0 * rng.standard_normal()
            messages += [
                Message(at, topics["temp"], f"{warm:.3f}".encode()),
                Message(at, topics["power"], f"{watts:.1f}".encode()),
            ]
        if row % 60 == 0:
            heat = float(rng.integers(0, 5) * 400)
            messages.append(Message(at, topics["heater"], str(heat).encode()))
    with RecordingWriter(path, journal=False, metadata={"start_ns": START_NS}) as out:
        out.extend(messages)


@pytest.fixture
def asked(tmp_path, monkeypatch, capsys):
    """Returns a function: the exit code and the JSON of an estimate."""
    monkeypatch.chdir(tmp_path)

    def ask(*options, recording="room.parquet"):
        arguments = ["estimate", recording, "--plant", "testcase1", "--warm-up", "1h"]
        arguments += [*options, "--json", "found.json", "--overwrite"]
        code = run_command(arguments)
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        found = Path("found.json")
        by_name = {}
        if found.exists():
            written = json.loads(found.read_text())
            # Of --online it is a list of windows.
            parameters = written["parameters"] if isinstance(written, dict) else []
            by_name = {p["name"]: p for p in parameters}
            found.unlink()
        return code, by_name, told.out + told.err

    return ask


def test_a_signal_that_is_not_trusted_has_no_say(asked, tmp_path):
    # The meter shows 30 % too much: taken at its word, the heater is a bad one.
    record_room(tmp_path / "room.parquet", power=1.3)
    wanted = [
        "--parameters",
        "efficiency,capacity",
        "--outputs",
        "zone_temp,heater_power",
    ]
    wanted += ["--set", "resistance=0.012 K/W"]
    code, believed, _ = asked(*wanted)
    assert code == 0
    assert believed["efficiency"]["value"] == pytest.approx(0.99 / 1.3, rel=0.01)
    code, found, said = asked(*wanted, "--weight", "heater_power=0")
    assert code == 3
    assert "efficiency: the data say nothing of it" in said
    assert found["efficiency"]["status"] != "identified"
    assert found["capacity_j_per_k"]["value"] == pytest.approx(CAPACITY, rel=0.03)


def test_what_was_known_may_stand_in_a_file(asked, tmp_path):
    record_room(tmp_path / "room.parquet")
    (tmp_path / "known.yaml").write_text(
        "efficiency: 0.97 ± 0.02\ncapacity: 1.2±0.3 MJ/K\n"
    )
    options = ["--parameters", "efficiency,capacity", "--outputs", "zone_temp"]
    options += ["--set", "resistance=0.012 K/W"]
    code, found, _ = asked(*options, "--prior", "known.yaml")
    assert code == 0
    assert found["efficiency"]["status"] == "prior"
    assert found["efficiency"]["value"] == pytest.approx(0.97, abs=0.005)
    # The data know the capacity far better than the file.
    assert found["capacity_j_per_k"]["value"] == pytest.approx(CAPACITY, rel=0.02)
    (tmp_path / "known.yaml").write_text("efficency: 0.97 ± 0.02\n")
    code, _, said = asked(*options, "--prior", "known.yaml")
    assert code == 2
    assert "Did you mean 'efficiency'" in said


def test_other_topics_and_a_signal_that_stands_in_for_an_input(asked, tmp_path):
    # Here nobody recorded the command, but a meter of the heat.
    topics = {"heater": "lab/heat", "temp": "lab/t", "power": "lab/p"}
    record_room(tmp_path / "room.parquet", topics=topics)
    (tmp_path / "lab.yaml").write_text(
        "signals:\n"
        "  heater: {topic: lab/never, unit: W, role: command, initial: 0}\n"
        "  heat_seen: {topic: lab/heat, unit: W, role: measurement}\n"
        "  zone_temp: {topic: lab/t, unit: degC, role: measurement}\n"
        "  heater_power: {topic: lab/p, unit: W, role: measurement}\n"
        "  ambient: {topic: lab/a, unit: degC, role: measurement}\n"
    )
    options = ["--parameters", "capacity,resistance", "--outputs", "zone_temp"]
    options += ["--signals", "lab.yaml"]
    code, found, said = asked(*options, "--input", "heater=heat_seen")
    assert code == 0, said
    assert found["capacity_j_per_k"]["value"] == pytest.approx(CAPACITY, rel=0.02)
    assert found["resistance_k_per_w"]["value"] == pytest.approx(RESISTANCE, rel=0.02)
    code, found, said = asked(*options)
    assert "heater is never said" in said
    assert found["resistance_k_per_w"]["value"] != pytest.approx(RESISTANCE, rel=0.05)
    code, _, said = asked(*options, "--input", "heater=heat_sen")
    assert code == 2
    assert "Did you mean 'heat_seen'" in said


def test_what_was_found_runs_in_a_scenario(asked, tmp_path, capsys):
    record_room(tmp_path / "room.parquet")
    options = ["--parameters", "capacity,resistance", "--outputs", "zone_temp"]
    code, _, _ = asked(*options, "-o", "plants/room.yaml")
    assert code == 0
    (tmp_path / "cold.yaml").write_text(
        'version: "1.0"\nplant: !include plants/room.yaml\nduration: 48h\nwarm_up: 24h\n'
        "checks:\n  - always: zone_temp in 9 degC..31 degC\n"
    )
    assert run_command(["run", "cold.yaml", "--no-report"]) == 0
    assert "cold: PASS" in capsys.readouterr().out


def test_following_names_the_window_and_the_parameter_that_drifted(asked, tmp_path):
    record_room(tmp_path / "room.parquet", hours=97, change=(60, 0.0105))
    options = ["--parameters", "capacity,resistance", "--outputs", "zone_temp"]
    code, _, said = asked(*options, "--online", "24h")
    assert code == 1
    lines = said.splitlines()
    (at,) = [number for number, one in enumerate(lines) if "DRIFT" in one]
    assert "resistance_k_per_w" in lines[at]
    windows = [one for one in lines[:at] if "–" in one and "DRIFT" not in one]
    # It changed at hour 60, so in the third window.
    assert len(windows) == 3
    assert windows[-1].startswith("2 d 1:00:00")
    code, _, _ = asked(*options, "--online", "24h", "--tolerance", "0.5")
    assert code == 0


@pytest.mark.slow
def test_the_rigs_own_air_sensor_stands_in_for_the_weather(asked):
    recording = Path(__file__).parent.parent / "recordings" / "lab-rig.parquet"
    arguments = ["estimate", str(recording), "--plant", "lab_rig", "--json", "rig.json"]
    arguments += ["--parameters", "ua_hx", "--input", "ambient=air_ambient"]
    arguments += ["--outputs", "buffer_temp,cold_in_temp,power"]
    assert run_command(arguments) == 0
    (found,) = json.loads(Path("rig.json").read_text())["parameters"]
    assert found["value"] == pytest.approx(2400.0, rel=0.05)
