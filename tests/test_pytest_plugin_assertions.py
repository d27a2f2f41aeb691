"""Assertions say by how much, when, and what was said around it."""

import pytest

from playground.assertions import (
    assert_always,
    assert_eventually,
    assert_messages,
    assert_never,
    assert_same,
)
from playground.errors import PlaygroundError
from playground.signals import Signal, Signals
from playground.virtual import VirtualPlant


class Ramp:
    """Rises by 1 K in each step of a minute."""

    period_s = 60.0
    signals = Signals(
        [
            Signal(name="heat", topic="heat", unit="1", role="command", range=(0, 1)),
            Signal(name="temp", topic="temp", unit="degC", role="measurement"),
            Signal(name="flow", topic="f", path="l", unit="l/s", role="measurement"),
        ]
    )

    def reset(self, *, seed=0):
        self.temp = 20.0 + seed
        return {"temp": self.temp, "flow": 0.5}

    def step(self, now, inputs):
        self.temp += 1.0
        return {"temp": self.temp, "flow": 0.5}

    def snapshot(self):
        return self.temp

    def restore(self, snapshot):
        self.temp = snapshot


def plant(minutes, seed=0, folder=None):
    one = VirtualPlant(Ramp(), seed=seed, folder=folder)
    one.advance(f"{minutes}min")
    return one


def message_of(action):
    with pytest.raises(AssertionError) as caught:
        action()
    return str(caught.value)


def test_what_is_so_passes():
    ramp = plant(30)
    assert_eventually(ramp.signal("temp"), "> 45 degC", within="26min")
    assert_never(ramp.signal("temp"), "> 60 degC")
    assert_always(ramp, "temp > 19 degC and flow in 0.1..0.6 l/s")
    assert_always(ramp.signal("temp"), "> 30 degC", since_s=700)
    assert_always(ramp, "temp > 40 degC", while_="temp > 40.5 degC")


def test_what_did_not_come_about_is_told_with_the_nearest_instant():
    ramp = plant(30)
    assert (
        message_of(
            lambda: assert_eventually(ramp.signal("temp"), "> 50 degC", within="20min")
        )
        == """\
eventually temp > 50 degC, within 20min: is not so
  margin        -10 K
  worst instant 0:20:00 (2026-01-01T00:20:00Z)
  nearest at 0:20:00
  messages around it:
    0:17:00  temp  37.0
    0:18:00  temp  38.0
    0:19:00  temp  39.0
    0:20:00  temp  40.0
    0:21:00  temp  41.0
    0:22:00  temp  42.0"""
    )


def test_what_must_never_be_is_told_with_margin_and_first_instant():
    ramp = plant(3)
    assert (
        message_of(lambda: assert_never(ramp.signal("temp"), "> 21.5 degC"))
        == """\
never temp > 21.5 degC: is not so
  margin        -1.5 K
  worst instant 0:03:00 (2026-01-01T00:03:00Z)
  first broken at 0:02:00
  messages around it:
    0:00:00  temp  20.0
    0:01:00  temp  21.0
    0:02:00  temp  22.0
    0:03:00  temp  23.0"""
    )


def test_what_cannot_be_said_yet_is_not_passed():
    ramp = plant(10)
    said = message_of(lambda: assert_eventually(ramp, "temp > 50 degC", within="2h"))
    assert "cannot be said" in said
    assert "the run ends before its time is up" in said
    fresh = VirtualPlant(Ramp())
    assert "no time has passed" in message_of(
        lambda: assert_never(fresh, "temp > 1 degC")
    )


def test_a_condition_that_cannot_be_read_names_the_mistake():
    ramp = plant(1)
    with pytest.raises(PlaygroundError, match="Did you mean 'temp'"):
        assert_never(ramp, "tmp > 50 degC")
    with pytest.raises(PlaygroundError, match="has no unit"):
        assert_never(ramp.signal("temp"), "> 50")
    with pytest.raises(PlaygroundError, match="has no signals"):
        assert_never(7, "temp > 50 degC")


def test_a_recording_is_judged_with_its_signals(tmp_path):
    recording = plant(30).save(tmp_path / "a.parquet")
    assert_eventually(recording, "temp > 45 degC", signals=Ramp.signals)
    with pytest.raises(PlaygroundError, match="signals=load_signals"):
        assert_eventually(recording, "temp > 45 degC")


def test_equal_recordings_are_the_same_and_others_show_the_first_difference(tmp_path):
    a = plant(5, folder=tmp_path)
    b = plant(5)
    assert_same(a, b.save(tmp_path / "b.parquet"))
    c = plant(5, seed=1).save(tmp_path / "c.parquet")
    said = message_of(lambda: assert_same(a, tmp_path / "c.parquet"))
    assert said.splitlines()[1:4] == [
        "  first on 'temp' at 0 s: missing",
        "    expected  temp  20.0",
        "    got       temp  21.0",
    ]
    assert_same(a, c, ignore=["temp"])


def test_numbers_may_differ_by_the_tolerance(tmp_path):
    a = plant(5).save(tmp_path / "a.parquet")
    b = plant(5, seed=1).save(tmp_path / "b.parquet")
    assert_same(a, b, atol=1.0)
    assert_same(a, b, atol=1.0, signals=Ramp.signals)
    said = message_of(lambda: assert_same(a, b, atol=0.5))
    assert said.startswith(
        "On 'temp', message 1 of the topic: 20 and 21 are 1 apart; allowed is 0.5"
    )
    said = message_of(lambda: assert_same(a, b, atol=0.5, signals=Ramp.signals))
    assert "temp differs by 1 degC; allowed is 0.5" in said
    assert "margin        -0.5 degC" in said


def test_messages_are_expected_in_order():
    ramp = plant(2)
    ramp.set("heat", 1)
    assert_messages(ramp, ["temp", "f", ("temp", "22.0"), ("heat", "1.0")])
    assert (
        message_of(lambda: assert_messages(ramp, ["temp", ("heat", "0.0"), "temp"]))
        == """\
1 of 3 expected messages came; next should be  heat  b'0.0'
  on that topic came: heat  1.0
  but nothing more came:
    00:01:00  temp  21.0
    00:01:00  f  {"l":0.5}
    00:02:00  temp  22.0
    00:02:00  f  {"l":0.5}
    00:02:00  heat  1.0"""
    )


def test_exactly_these_messages_and_no_others():
    ramp = plant(0.5)
    assert_messages(ramp, ["temp", "f"], exactly=True)
    assert "but here is" in message_of(
        lambda: assert_messages(ramp, ["f"], exactly=True)
    )
    assert "but there is more" in message_of(
        lambda: assert_messages(ramp, ["temp"], exactly=True)
    )
