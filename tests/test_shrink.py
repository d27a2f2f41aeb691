from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.errors import PlaygroundError
from playground.run import run
from playground.scenario import load_scenario
from playground.shrink import SHRUNK, fewest, roundest, shrink

HERE = Path(__file__).parent
SCENARIO = """\
name: two_faults
plant: {heated_tank:HeatedTank: {start: 39 degC, period: 10s, litres: 20}}
duration: 1h
controllers:
  - thermostat: {measure: temp, command: heater, setpoint: 40 degC, hysteresis: 2 K}
disturbances: {room: 20 degC}
events:
  - {at: 3min, publish: {topic: note, payload: a}}
  - {at: 5min, fault: {kind: noise, signal: power, std: 0.1 kW, for: 1min}}
  - {at: 7min, set: {room: 18 degC}}
  - {at: 11min, fault: {kind: duplicate, topic: tank/power, for: 5min}}
  - {at: 21min, fault: {kind: stuck, signal: temp, value: 38.37 degC, for: 13min}}
  - {at: 22min, publish: {topic: note, payload: b}}
  - {at: 23min, set: {room: 49 degC}}
  - {at: 24min, fault: {kind: clock_skew, topic: tank/power, by: 9s}}
  - {at: 40min, publish: {topic: note, payload: c}}
  - {at: 41min, fault: {kind: drop, topic: note, for: 1min}}
checks:
  - never: temp > 1000 degC
  - when: power > 9 kW
    for: 4min
    then: room < 45 degC
"""


def test_a_planted_bug_of_two_among_ten_events_is_shrunk_to_the_two(
    tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(str(HERE))
    path = tmp_path / "two_faults.yaml"
    path.write_text(SCENARIO)
    assert run(load_scenario(path), out=tmp_path / "whole").verdict == "fail"
    found = shrink(path, out=tmp_path / "out")
    assert found.before == 10
    said = found.scenario.plain()["events"]
    assert len(said) == 2
    assert said[0]["fault"]["kind"] == "stuck"
    assert said[0]["at"] == "20min"
    assert set(said[1]["set"]) == {"room"}
    again = load_scenario(tmp_path / "out" / SHRUNK)
    assert again.files == {}  # The strategy is to be mended.
    assert run(again, out=tmp_path / "again").verdict == "fail"


def test_a_scenario_that_passes_cannot_be_shrunk(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    path = tmp_path / "good.yaml"
    path.write_text(SCENARIO.partition("checks:")[0])
    with pytest.raises(PlaygroundError, match="does not fail"):
        shrink(path, out=tmp_path / "out")
    assert not (tmp_path / "out" / SHRUNK).exists()


@given(st.sets(st.integers(0, 11), max_size=4))
def test_exactly_what_is_needed_is_left(needed):
    found = fewest(list(range(12)), lambda part: needed <= set(part))
    assert found == sorted(needed)


def test_quantities_become_as_round_as_they_may():
    items = [{"at": "47.3min", "set": {"x": "12.34 degC", "y": 0.123}, "once": True}]

    def fails(attempt):
        return float(attempt[0]["set"]["x"].split()[0]) >= 11.5

    assert roundest(items, fails) == [
        {"at": "50min", "set": {"x": "12 degC", "y": 0.1}, "once": True}
    ]
