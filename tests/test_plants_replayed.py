import math
from pathlib import Path

import numpy as np
import pytest

from playground.errors import NotEnoughData, PlaygroundError
from playground.message import Message
from playground.plants import Plant, plant_class
from playground.plants.replayed import ReplayedPlant, replayed_table
from playground.recording import Recording, RecordingWriter
from playground.recording.aligned import align
from playground.run import run
from playground.scenario import load_scenario
from playground.signals_file import load_signals
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
    [
        ({"after": "end"}, "none of stop"),
        ({"start_s": 5.0}, "behind the end"),
        ({"period_s": 0.0}, "not above 0"),
        ({"period_s": -1.0, "by": "commands"}, "not above 0"),
        ({"period_s": 5.0, "by": "commands"}, "not even one step of 5 s"),
    ],
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


# -- what it may be asked


def test_by_time_it_is_outside_once_it_is_told_what_was_not_told_then(paths):
    plant = ReplayedPlant(**paths)
    # Nobody has touched the heater: who only listens may believe everything.
    plant.step(1.0, {"heater": 0.0})
    assert plant.in_envelope
    plant.step(2.0, {"heater": 0.5})  # the recording knows 1 only
    assert not plant.in_envelope
    plant.step(4.0, {"heater": 1.0})
    assert plant.in_envelope
    seen = plant.departures
    assert (seen.steps, seen.outside, seen.first_s) == (3, 1, 2.0)
    assert seen.signals == {"heater": 1}


def test_what_it_holds_after_the_end_is_outside(paths):
    plant = ReplayedPlant(**paths, after="hold")
    plant.step(4.0, {})
    assert plant.in_envelope
    plant.step(5.0, {})
    assert plant.departures.signals == {"the end of the recording": 1}


TANK_SIGNALS = """
signals:
  tank: {topic: lab/tank, unit: degC, role: measurement}
  heater: {topic: lab/heater, unit: kW, role: command, range: [0, 10], initial: 0}
"""
PULSES = {300: 5.0, 900: 0.0, 2000: 2.0, 2900: 0.0, 3800: 5.0, 5000: 0.0}


def tank_step(t, heat):
    return t + (20.0 + 10.0 * heat - t) / 120.0


@pytest.fixture
def tank(tmp_path):
    """Two hours of a tank that is heated with 5 and 2 kW now and then."""
    t, heat = 20.0, 0.0
    with RecordingWriter(tmp_path / "tank.parquet", journal=False) as writer:
        for second in range(7200):
            at = START + second * 10**9
            if second in PULSES:
                heat = PULSES[second]
                writer.append(Message(at, "lab/heater", str(heat).encode()))
            writer.append(Message(at, "lab/tank", f"{t:.3f}".encode()))
            t = tank_step(t, heat)
    (tmp_path / "tank.yaml").write_text(TANK_SIGNALS)
    return {
        "recording": str(tmp_path / "tank.parquet"),
        "signals": str(tmp_path / "tank.yaml"),
        "by": "commands",
    }


def told(plant, pulses, seconds):
    """Runs it; returns how far it is from the tank itself (RMS), and the share out."""
    plant.reset()
    t, heat, off = 20.0, 0.0, []
    for second in range(seconds):
        heat = pulses.get(second, heat)
        t = tank_step(t, heat)
        off.append(plant.step(second + 1.0, {"heater": heat})["tank"] - t)
    return math.sqrt(np.mean(np.square(off))), plant.departures


def test_told_what_was_told_then_it_says_what_was_said_then(tank):
    off, seen = told(ReplayedPlant(**tank), PULSES, 7000)
    assert off < 0.6  # kelvin of 50: a step is taken a second late
    assert seen.outside == 0


def test_told_the_same_in_another_order_it_answers_from_the_moments_that_fit(tank):
    # First the small pulse, then the large one, at times when nothing was told.
    pulses = {100: 2.0, 1100: 0.0, 2400: 5.0, 3200: 0.0}
    off, seen = told(ReplayedPlant(**tank), pulses, 5000)
    by_time, _ = told(ReplayedPlant(**{**tank, "by": "time"}), pulses, 5000)
    assert by_time > 15
    assert off < 3
    assert seen.share < 0.05


def test_told_what_was_never_told_it_is_outside_and_names_the_command(tank):
    plant = ReplayedPlant(**tank)
    _, seen = told(plant, {100: 9.0}, 1000)
    assert not plant.in_envelope
    assert seen.share > 0.5
    assert list(seen.signals) == ["heater"]


def test_a_recording_that_is_over_goes_on_at_a_moment_that_fits(tank):
    plant = ReplayedPlant(**tank, start_s=6000.0)
    plant.reset()
    for second in range(3000):
        said = plant.step(second + 1.0, {"heater": 0.0})
    assert said["tank"] == pytest.approx(20.0, abs=0.5)
    assert plant.in_envelope


def test_by_commands_it_is_a_plant_like_any_other(tank):
    check_plant(lambda: ReplayedPlant(**tank))


def test_a_distance_that_cannot_be_is_refused(tank):
    with pytest.raises(PlaygroundError, match="not above 0"):
        ReplayedPlant(**tank, reach=0.0)
    with pytest.raises(PlaygroundError, match="neither time nor commands"):
        ReplayedPlant(**{**tank, "by": "magic"})


def test_a_scenario_finds_its_files_beside_it_and_is_inconclusive_outside(
    tank, tmp_path, monkeypatch
):
    path = tmp_path / "again.yaml"
    path.write_text(
        'version: "1.0"\nduration: 20min\nplant:\n'
        "  replayed: {recording: tank.parquet, signals: tank.yaml, by: commands}\n"
        "controllers:\n  - schedule: {command: heater, table: {0s: 9 kW}}\n"
        "checks:\n  - always: tank < 100 degC\n"
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    result = run(load_scenario(path), out=tmp_path / "out")
    assert result.verdict == "inconclusive"
    assert "'heater'" in result.doubts[0]
    # What was run can be run again, from where it lies.
    resolved = load_scenario(tmp_path / "out" / "scenario.resolved.yaml")
    assert run(resolved, out=tmp_path / "again").sha256 == result.sha256
    assert "tank.yaml" in "".join(resolved.files)


def test_the_recorded_rig_answers_its_own_commands_and_not_others():
    root = Path(__file__).parent.parent
    plant = ReplayedPlant(
        recording=str(root / "recordings" / "lab-rig.parquet"),
        signals=str(root / "scenarios" / "signals" / "tower-loop.yaml"),
        by="commands",
        period_s=10.0,
    )
    source = Recording.open(root / "recordings" / "lab-rig.parquet")
    names = ("valve", "vsd1", "vsd2", "ambient", "cold_out_temp", "hot_out_temp")
    signals = {name: plant.signals[name] for name in names}
    rows = align(source, signals, period_s=10.0).to_pydict()

    def off(change):
        plant.reset()
        apart = []
        for k in range(1, 500):
            # A step is decided by what was told before its end.
            given = {n: change(n, rows[n][k - 1]) for n in names[:4]}
            said = plant.step(10.0 * k, given)
            apart.append(said["cold_out_temp"] - rows["cold_out_temp"][k])
        return math.sqrt(np.mean(np.square(apart))), plant.departures.share

    same, outside = off(lambda name, value: value)
    assert same < 0.3
    assert outside < 0.02
    _, outside = off(lambda name, value: 0.15 if name == "vsd1" else value)
    assert outside > 0.5


def test_a_signal_becomes_a_table_of_a_disturbance(paths):
    recording = Recording.open(paths["recording"])
    signals = load_signals(paths["signals"])
    table = replayed_table(recording, signals, "tank")
    assert table.times_s == (0.0, 1.5)
    assert table.values == (20.0, 21.0)
    table = replayed_table(recording, signals, "tank", start_ns=START + 10**9)
    assert table.times_s == (0.0, 0.5)
    assert table.at(np.array([0.2, 0.5, 9.0])).tolist() == [20.0, 21.0, 21.0]
