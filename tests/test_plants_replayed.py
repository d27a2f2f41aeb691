import numpy as np
import pytest

from playground.errors import NotEnoughData, PlaygroundError
from playground.message import Message
from playground.plants import Plant, plant_class
from playground.plants.replayed import ReplayedPlant, replayed_table
from playground.recording import Recording, RecordingWriter
from playground.signals import load_signals
from playground.testing import check_plant

START = 1_700_000_000 * 10**9
SIGNALS = """
signals:
  tank: {topic: lab/tank, unit: degC, role: measurement}
  room: {topic: lab/all, path: room, unit: degC, role: measurement, initial: 15}
  heater: {topic: lab/heater, unit: "1", role: command}
"""


@pytest.fixture
def paths(tmp_path):
    said = [
        (0.0, "lab/tank", b"20"),
        (1.5, "lab/tank", b"21"),
        (2.0, "lab/all", b'{"room": 19.5}'),
        (3.0, "lab/heater", b"1"),
        (4.0, "lab/tank", b"broken"),
    ]
    with RecordingWriter(tmp_path / "r.parquet", journal=False) as writer:
        for time, topic, payload in said:
            writer.append(Message(START + round(time * 1e9), topic, payload))
    (tmp_path / "s.yaml").write_text(SIGNALS)
    return {
        "recording": str(tmp_path / "r.parquet"),
        "signals": str(tmp_path / "s.yaml"),
    }


def test_it_says_what_was_said_last(paths):
    plant = ReplayedPlant(**paths)
    assert plant.reset() == {"tank": 20, "room": 15}
    assert plant.step(1.0, {"heater": 1}) == {"tank": 20, "room": 15}
    assert plant.step(1.5, {"heater": 0}) == {"tank": 21, "room": 15}
    assert plant.step(2.0, {"heater": 0}) == {"tank": 21, "room": 19.5}
    # What is no number changes nothing.
    assert plant.step(4.0, {})["tank"] == 21


def test_it_can_begin_later(paths):
    plant = ReplayedPlant(**paths, start_s=1.75)
    assert plant.reset() == {"tank": 21, "room": 15}
    assert plant.step(0.25, {})["room"] == 19.5


def test_after_the_end_it_stops_holds_or_loops(paths):
    with pytest.raises(NotEnoughData, match="ends after 4 s"):
        ReplayedPlant(**paths).step(5, {})
    assert ReplayedPlant(**paths, after="hold").step(5, {})["room"] == 19.5
    assert ReplayedPlant(**paths, after="loop").step(5, {}) == {"tank": 20, "room": 15}


@pytest.mark.parametrize(
    ("options", "words"),
    [({"after": "end"}, "none of stop"), ({"start_s": 5.0}, "behind the end")],
)
def test_wrong_parameters_are_refused(paths, options, words):
    with pytest.raises(PlaygroundError, match=words):
        ReplayedPlant(**paths, **options)


def test_a_measurement_that_was_never_said_is_named(paths, tmp_path):
    (tmp_path / "s.yaml").write_text(
        "signals:\n  x: {topic: lab/x, unit: degC, role: measurement}\n"
    )
    with pytest.raises(NotEnoughData, match="'lab/x'"):
        ReplayedPlant(**paths)


def test_it_is_a_plant_like_any_other(paths):
    assert plant_class("replayed") is ReplayedPlant
    assert isinstance(ReplayedPlant(**paths), Plant)
    check_plant(lambda: ReplayedPlant(**paths, after="loop"))


def test_a_signal_becomes_a_table_of_a_disturbance(paths):
    recording = Recording.open(paths["recording"])
    signals = load_signals(paths["signals"])
    table = replayed_table(recording, signals, "tank")
    assert table.times_s.tolist() == [0.0, 1.5]
    assert table.values.tolist() == [20.0, 21.0]
    table = replayed_table(recording, signals, "tank", start_ns=START + 10**9)
    assert table.times_s.tolist() == [0.0, 0.5]
    assert table.at(np.array([0.2, 0.5, 9.0])).tolist() == [20.0, 21.0, 21.0]
