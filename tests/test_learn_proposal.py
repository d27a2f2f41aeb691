"""A proposed signals file: what the recording says, ready to be edited."""

import json

import pytest

from playground.cli import _run as run_command
from playground.errors import NotEnoughData
from playground.learn.proposal import proposed
from playground.message import Message
from playground.recording import RecordingWriter
from playground.signals_file import load_signals

START = 1_700_000_000 * 10**9


def recorded(path, messages):
    with RecordingWriter(path, journal=False) as writer:
        for k, (topic, payload, retain) in enumerate(messages):
            data = payload if isinstance(payload, bytes) else str(payload).encode()
            writer.append(Message(START + k * 10**9, topic, data, 0, retain))
    return writer.close()


def lab(path):
    rows = []
    for k in range(40):
        block = {"timestamp": START / 1e9 + k, "2024": 210 + k, "2103": 65507}
        rows.append(("modbus/device/0/registers", json.dumps(block), True))
        rows.append(("valve/write", 0.1 * (k % 5), False))
        rows.append(("house/heating/switch", "ON" if k % 3 else "OFF", False))
        rows.append(("weather/ambient_temp", 3.5 + k, False))
        rows.append(("camera/picture", bytes([0xFF, 0xD8] * 80), False))
    return recorded(path, rows)


def test_the_proposal_is_a_signals_file(tmp_path):
    text = proposed(lab(tmp_path / "r.parquet"))
    (tmp_path / "signals.yaml").write_text(text)
    signals = load_signals(tmp_path / "signals.yaml")
    assert {s.topic for s in signals.values()} == {
        "modbus/device/0/registers",
        "valve/write",
        "house/heating/switch",
        "weather/ambient_temp",
    }
    registers = signals.by_topic["modbus/device/0/registers"]
    assert {(s.path, s.type) for s in registers} == {
        ("2024", "float"),
        ("2103", "int16"),
    }
    assert signals["valve"].role == "command"
    assert (signals["ambient_temp"].role, signals["ambient_temp"].unit) == (
        "disturbance",
        "degC",
    )
    assert signals["switch"].values == {"OFF": 0.0, "ON": 1.0}
    assert "numbers from 0 to 0.4" in text
    assert "retained" in text


def test_names_are_no_signals_and_an_own_time_is_said(tmp_path):
    tree = {"ts": START / 1e9, "type": "modbus", "pump": "ON", "t": 20.5}
    rows = [("lab/state", json.dumps(tree), False)] * 3
    text = proposed(recorded(tmp_path / "r.parquet", rows))
    (tmp_path / "signals.yaml").write_text(text)
    assert list(load_signals(tmp_path / "signals.yaml")) == ["pump", "t"]
    assert "# lab/state says its own time: 'stamp: ts' at a signal takes it." in text


def test_the_same_name_in_two_topics_becomes_two_names(tmp_path):
    rows = [
        (f"plant/{n}/state", json.dumps({"t": k}), False)
        for k in range(3)
        for n in "ab"
    ]
    text = proposed(recorded(tmp_path / "r.parquet", rows))
    (tmp_path / "signals.yaml").write_text(text)
    assert list(load_signals(tmp_path / "signals.yaml")) == ["t", "plant_b_state_t"]


def test_a_recording_without_numbers_is_refused(tmp_path):
    recording = recorded(tmp_path / "r.parquet", [("a", b"\xff\xfe" * 60, False)])
    with pytest.raises(NotEnoughData, match="no number"):
        proposed(recording)


def test_the_command_writes_a_file_once(tmp_path, capsys):
    lab(tmp_path / "r.parquet")
    path = tmp_path / "signals.yaml"
    arguments = ["signals", str(tmp_path / "r.parquet"), "-o", str(path)]
    assert run_command(arguments) == 0
    assert "wrote" in capsys.readouterr().out
    before = path.read_text()
    path.write_text(before + "# mine\n")
    assert run_command(arguments) == 2
    assert path.read_text().endswith("# mine\n")
    assert run_command(["signals", str(tmp_path / "r.parquet")]) == 0
    assert capsys.readouterr().out == before


def test_the_command_makes_the_folder_or_says_why_it_cannot(tmp_path, capsys):
    lab(tmp_path / "r.parquet")
    arguments = ["signals", str(tmp_path / "r.parquet"), "-o"]
    assert run_command([*arguments, str(tmp_path / "new" / "lab.yaml")]) == 0
    assert (tmp_path / "new" / "lab.yaml").exists()
    below_a_file = tmp_path / "r.parquet" / "lab.yaml"
    assert run_command([*arguments, str(below_a_file)]) == 2
    assert "lab.yaml cannot be written: " in capsys.readouterr().err
