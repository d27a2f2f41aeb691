import json
import re
from pathlib import Path

import numpy as np
import pytest

from playground.cli import _run
from playground.diff.tubes import Tolerance, diff_signals, parse_tolerances
from playground.errors import ExitCode, PlaygroundError
from playground.message import Message
from playground.recording import Recording, RecordingWriter
from playground.signals import Signal, Signals

START = 1_700_000_000 * 10**9
SIGNALS = Signals(
    [
        Signal(name="tank", topic="t", unit="degC", role="measurement"),
        Signal(name="valve", topic="v", unit="1", role="command"),
    ]
)


def record(path: Path, samples, start=START) -> Recording:
    """Samples are (seconds, topic, payload)."""
    path.unlink(missing_ok=True)
    with RecordingWriter(path, journal=False) as writer:
        for time, topic, value in samples:
            text = value if isinstance(value, bytes) else str(value).encode()
            writer.append(Message(start + round(time * 1e9), topic, text))
    return Recording.open(path)


@pytest.fixture
def compare(tmp_path):
    def compare(a, b, **tolerance):
        return diff_signals(
            record(tmp_path / "a.parquet", a),
            record(tmp_path / "b.parquet", b, START + 10**12),
            SIGNALS,
            tolerances={"tank": Tolerance(**tolerance)},
        )

    return compare


RAMP = [(i, "t", 20 + i / 10) for i in range(50)]


def test_the_same_signals_are_equal_at_another_time_and_in_other_words(compare):
    report = compare(RAMP, [(t, topic, f"{v:.4f}") for t, topic, v in RAMP])
    assert report.equal
    assert report.exit_code == ExitCode.GOOD
    assert report.signals["tank"].samples == (50, 50)


def test_a_deviation_within_the_tolerance_is_equal_and_beyond_it_is_not(compare):
    off = [(t, topic, v + 0.5) for t, topic, v in RAMP]
    assert not compare(RAMP, off).equal
    assert compare(RAMP, off, atol=0.5).equal
    assert compare(RAMP, off, rtol=0.025).equal
    report = compare(RAMP, off, atol=0.4)
    found = report.signals["tank"]
    assert (found.outside, found.missed) == (50, 50)
    assert found.largest == pytest.approx(0.1)
    assert found.first_s == 0.0
    assert found.expected == pytest.approx((19.6, 20.4))
    assert found.got == 20.5


def test_a_delay_within_the_tolerance_in_time_is_equal(compare):
    late = [(0, "t", 20.0)] + [(t + 0.4, topic, v) for t, topic, v in RAMP[1:]]
    assert not compare(RAMP, late).equal
    assert compare(RAMP, late, ttol_s=0.5).equal
    assert not compare(RAMP, late, ttol_s=0.3).equal


def test_another_sampling_of_the_same_held_values_is_equal(compare):
    steps = [(0, "t", 20), (10, "t", 21), (20, "t", 20)]
    fine = [(i / 2, "t", 21 if 10 <= i / 2 < 20 else 20) for i in range(50)]
    assert compare(steps, fine).equal
    assert compare(fine, steps).equal


def test_a_change_that_never_comes_is_missed(compare):
    steps = [(0, "t", 20), (10, "t", 25), (20, "t", 20)]
    report = compare(steps, [(0, "t", 20)], atol=1)
    found = report.signals["tank"]
    assert (found.outside, found.missed) == (0, 1)
    assert found.first_s == 10.0
    assert found.expected == (24.0, 26.0)
    assert found.got == 20.0


def test_a_short_spike_is_outside(compare):
    spike = [*RAMP[:25], (24.5, "t", 99), *RAMP[25:]]
    found = compare(RAMP, spike, atol=1, ttol_s=1).signals["tank"]
    assert (found.outside, found.missed) == (1, 0)
    assert (found.first_s, found.got) == (24.5, 99.0)


def test_invalid_values_agree_with_invalid_values_only(compare):
    broken = [*RAMP[:25], (24.5, "t", b"error"), *RAMP[25:]]
    assert compare(broken, broken).equal
    assert compare(RAMP, broken).signals["tank"].outside == 1
    assert compare(broken, RAMP).signals["tank"].missed == 1


def test_the_first_signal_to_leave_is_named(compare):
    a = [*RAMP, *[(i, "v", 0) for i in range(50)]]
    b = [
        (t, k, v + (5 if k == "t" and t > 30 else 1 if k == "v" and t > 20 else 0))
        for t, k, v in a
    ]
    report = compare(sorted(a), sorted(b))
    assert report.first.name == "valve"
    assert report.first.first_s == 21.0


def test_a_signal_that_one_never_says_is_different(compare):
    assert compare(RAMP, []).signals["tank"].missed == 50
    assert compare([], RAMP).signals["tank"].outside == 50
    assert compare([], []).exit_code == ExitCode.UNDECIDED


def test_tolerances_are_read_for_all_and_for_one():
    found = parse_tolerances(
        SIGNALS, atol=["tank=0.5", "0.1"], rtol=["0.01"], ttol=["valve=500ms"]
    )
    assert found == {
        "tank": Tolerance(atol=0.5, rtol=0.01),
        "valve": Tolerance(atol=0.1, rtol=0.01, ttol_s=0.5),
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"atol": ["tnk=1"]}, "Did you mean 'tank'"),
        ({"atol": ["much"]}, "not a number"),
        ({"rtol": ["-1"]}, "makes no sense"),
        ({"ttol": ["5"]}, "has no unit"),
    ],
)
def test_wrong_tolerances_are_refused(given, words):
    with pytest.raises(PlaygroundError, match=words):
        parse_tolerances(SIGNALS, **given)


@pytest.fixture
def files(tmp_path):
    record(tmp_path / "a.parquet", RAMP)
    off = [(t, topic, v + (2 if t >= 30 else 0)) for t, topic, v in RAMP]
    record(tmp_path / "b.parquet", off)
    (tmp_path / "s.yaml").write_text(
        "signals:\n  tank: {topic: t, unit: degC, role: measurement}\n"
    )
    return [str(tmp_path / name) for name in ("a.parquet", "b.parquet", "s.yaml")]


def test_the_command_compares_signals(files, capsys):
    a, b, signals = files
    assert _run(["diff", a, b, "--signals", signals, "--atol", "tank=2"]) == 0
    assert "equal: 1 signals" in capsys.readouterr().out
    assert _run(["diff", a, b, "--signals", signals, "--atol", "1"]) == 1
    said = capsys.readouterr().out
    assert "first divergence: tank at 30.000000 s" in said
    assert "expected 22 to 24" in said
    assert "got      25" in said
    assert _run(["diff", a, b, "--signals", signals, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["first"] == "tank"
    assert _run(["diff", a, b, "--atol", "1"]) == 2


def test_a_page_shows_the_divergence_without_anything_from_outside(
    files, tmp_path, capsys
):
    a, b, signals = files
    page = tmp_path / "page.html"
    command = ["diff", a, b, "--html", str(page)]
    assert _run([*command, "--signals", signals, "--atol", "1"]) == 1
    text = page.read_text()
    assert "tank: 20 samples outside" in text
    assert "not equal" in text
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=.?(https?:)?//", text)
    assert _run(command) == 1
    text = page.read_text()
    assert "t: changed" in text
    capsys.readouterr()


def test_a_page_opens_at_the_divergence():
    from playground.diff.page import _around

    times = np.arange(10_000.0)
    assert _around(times, 5000.0) == (4800.0, 5200.0)
    assert _around(times, 20_000.0) == (9800.0, 9999.0)
    assert _around(times, None) is None
    assert _around(times[:500], 100.0) is None
