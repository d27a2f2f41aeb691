"""Mistakes planted into a recording of the rig are named before anybody believes it.

Each is planted as it would happen: into the payloads of the recorded messages.
"""

import dataclasses
import json
from pathlib import Path

import pytest

from playground.cli import _run as run_command
from playground.learn import learn
from playground.recording import Recording, RecordingWriter
from playground.signals import Signals
from playground.signals_file import load_signals

ROOT = Path(__file__).parent.parent
RIG = ROOT / "recordings" / "lab-rig.parquet"
TOWER = ROOT / "scenarios" / "signals" / "tower-loop.yaml"
DAQ = "nidaq/cDAQ9189-0/snapshot"


def spoilt(folder, spoil):
    """Writes the shipped recording again, with the temperatures spoilt.

    Args:
        folder: Where to.
        spoil: Changes the decoded payload of a snapshot, given the minute.
    """
    source = Recording.open(RIG)

    def changed(message):
        if message.topic != DAQ:
            return message
        tree = json.loads(message.payload)
        spoil(tree, (message.time_ns - source.start_ns) / 60e9)
        return message._replace(payload=json.dumps(tree).encode())

    with RecordingWriter(folder / "spoilt.parquet", journal=False) as writer:
        writer.extend([changed(message) for message in source.messages()])
    return Recording.open(folder / "spoilt.parquet")


def card_of(recording, signals=None):
    known = load_signals(TOWER) if signals is None else signals
    model = learn([recording], known, period_s=10, holdout=0.2, budget_s=0.1, jobs=1)
    return model.card


def named(card, kind):
    return [f["text"] for f in card["findings"] if f["kind"] == kind]


def test_the_sound_recording_names_none_of_them():
    card = card_of(Recording.open(RIG))
    assert {f["kind"] for f in card["findings"]} <= {"excitation"}


def test_a_sensor_with_the_wrong_sign_is_named_by_the_report(tmp_path):
    def mirrored(tree, _):
        tree["tc_cold_out"] = -tree["tc_cold_out"]

    card = card_of(spoilt(tmp_path, mirrored))
    (finding,) = [f for f in card["findings"] if f["kind"] == "sign"]
    assert finding["signal"] == "cold_out_temp"


def test_a_sensor_mirrored_about_its_middle_is_named_by_the_card(tmp_path):
    # Nothing in the data says so: only who knows the plant can, beforehand.
    def mirrored(tree, _):
        tree["tc_cold_out"] = 90.0 - tree["tc_cold_out"]

    signals = load_signals(TOWER)
    knowing = Signals(
        [
            dataclasses.replace(s, responds={"vsd1": "up", "vsd2": "down"})
            if s.name.endswith("_out_temp")
            else s
            for s in signals.values()
        ],
        signals.publications,
    )
    assert card_of(Recording.open(RIG), knowing)["contradictions"] == []
    wrong = card_of(spoilt(tmp_path, mirrored), knowing)["contradictions"]
    assert sorted(text.split(" (")[0] for text in wrong) == [
        "cold_out_temp goes down when vsd1 rises",
        "cold_out_temp goes up when vsd2 rises",
    ]


def test_a_swapped_pair_of_columns_is_named_with_its_times(tmp_path):
    def swapped(tree, minute):
        if 45 <= minute < 75:
            hot, cold = tree["tc_hot_out"], tree["tc_cold_out"]
            tree["tc_hot_out"], tree["tc_cold_out"] = cold, hot

    (text,) = named(card_of(spoilt(tmp_path, swapped)), "swapped")
    assert "'hot_out_temp'" in text
    assert "0:45:00 and 1:15:00" in text


def test_commands_that_stand_for_each_other_are_named_by_the_card():
    # Swapped from beginning to end, the data are as good as any; the signs are not.
    signals = load_signals(TOWER)
    topics = {"vsd1": "vsd2/write", "vsd2": "vsd1/write"}
    crossed = Signals(
        [
            dataclasses.replace(
                s,
                topic=topics.get(s.name, s.topic),
                responds={"vsd1": "up", "vsd2": "down"}
                if s.name == "cold_out_temp"
                else None,
            )
            for s in signals.values()
        ],
        signals.publications,
    )
    wrong = card_of(Recording.open(RIG), crossed)["contradictions"]
    assert len(wrong) == 2


def test_a_frozen_sensor_is_named_with_its_time(tmp_path):
    last = {}

    def frozen(tree, minute):
        if minute >= 40:
            tree["tc_cold_out"] = last.setdefault("value", tree["tc_cold_out"])

    card = card_of(spoilt(tmp_path, frozen))
    (finding,) = [f for f in card["findings"] if f["kind"] == "frozen"]
    assert finding["signal"] == "cold_out_temp"
    assert "from 0:40:0" in finding["text"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda value, minute: value + 273.15, "looks like kelvin"),
        (lambda value, minute: value * 10, "tenths of a degree"),
        (lambda value, minute: value * (10 if minute > 60 else 1), "tenfold higher"),
    ],
)
def test_a_unit_mistake_is_named(tmp_path, spoil, said):
    def changed(tree, minute):
        tree["tc_cold_out"] = spoil(tree["tc_cold_out"], minute)

    card = card_of(spoilt(tmp_path, changed))
    assert any(said in text for text in named(card, "unit"))
    assert {f["signal"] for f in card["findings"] if f["kind"] == "unit"} == {
        "cold_out_temp"
    }


def test_a_register_read_as_unsigned_is_named_with_what_to_write():
    # The rig's absent sensors say 65,507, which is -2.9 as a signed register.
    rig = load_signals(ROOT / "scenarios" / "signals" / "lab-rig.yaml")
    wrong = dataclasses.replace(rig["absent_1"], type="uint16")
    tower = load_signals(TOWER)
    card = card_of(Recording.open(RIG), Signals([*tower.values(), wrong]))
    (text,) = named(card, "unsigned")
    assert "65507" in text
    assert "-2.9 degC" in text
    assert "type: int16" in text


def test_the_command_says_it_before_it_learns(tmp_path, capsys):
    def mirrored(tree, _):
        tree["tc_cold_out"] = -tree["tc_cold_out"]

    spoilt(tmp_path, mirrored)
    signals = tmp_path / "tower.yaml"
    text = TOWER.read_text()
    old = "path: tc_cold_out, unit: degC, role: measurement}"
    assert old in text
    signals.write_text(text.replace(old, old[:-1] + ", responds: {vsd2: down}}"))
    model = tmp_path / "model"
    arguments = ["learn", str(tmp_path / "spoilt.parquet"), "-s", str(signals)]
    arguments += ["-o", str(model), "--period", "10s", "--budget", "100ms"]
    assert run_command(arguments) == 0
    said = capsys.readouterr()
    assert "sign: cold_out_temp is mostly below zero" in said.err
    assert "wrong sign: cold_out_temp goes up when vsd2 rises" in said.out
    assert "Wrong sign: cold_out_temp goes up" in (model / "card.md").read_text()
    scenario = tmp_path / "try.yaml"
    scenario.write_text('version: "1.0"\nplant: {model: model}\nduration: 10min\n')
    assert run_command(["run", str(scenario), "--no-report"]) == 2
    assert "cold_out_temp goes up when vsd2 rises" in capsys.readouterr().err
