"""From messages to rows: what a row means, and where a segment ends."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.errors import NotEnoughData, PlaygroundError
from playground.learn.dataset import (
    Series,
    believed,
    end_of_rows,
    held,
    ordered,
    read_segments,
    read_series,
    sampled,
    split_by_time,
    usual_age,
)
from playground.message import Message
from playground.recording import RecordingWriter
from playground.signals import Signal, Signals

SECOND = 10**9
START = 1_700_000_000 * SECOND
SIGNALS = Signals(
    [
        Signal(name="u", topic="p/u", unit="percent", role="command"),
        Signal(name="t", topic="p/t", unit="degC", role="measurement", range=(-50, 99)),
    ]
)


def recorded(path, rows):
    """Writes ``(seconds, topic, payload)`` and opens what was written."""
    with RecordingWriter(path / "r.parquet", journal=False) as writer:
        for seconds, topic, payload in rows:
            time_ns = START + round(seconds * SECOND)
            writer.append(Message(time_ns, topic, str(payload).encode()))
    return writer.close()


def test_a_command_acts_from_the_row_after_the_one_it_was_sent_with(tmp_path):
    # As in a run: the plant speaks at 0, 5, 10 s; the controller answers at once.
    rows = [(-1.0, "p/u", 1)]
    for k in range(5):
        rows += [(5.0 * k, "p/t", 20 + k), (5.0 * k, "p/u", 10 * k)]
    (segment,) = read_segments(
        recorded(tmp_path, sorted(rows, key=lambda r: r[0])), SIGNALS, period_s=5.0
    )
    # Rows end where the plant speaks, though the first word was that of the command.
    assert segment.y[:, 0].tolist() == [21, 22, 23, 24]
    assert segment.u[:, 0].tolist() == [0, 10, 20, 30]


@pytest.mark.parametrize("first_word_s", [-5.0, -4.3, -0.3])
@pytest.mark.parametrize("lateness_s", [0.0, 0.04])
def test_rows_hold_what_a_plant_answered_to_whenever_the_recording_began(
    tmp_path, first_word_s, lateness_s
):
    rng = np.random.default_rng(4)
    value, told, rows = 20.0, 30.0, [(first_word_s, "p/u", 30.0)]
    for k in range(300):
        at = 5.0 * k + lateness_s * rng.random()
        rows.append((at, "p/t", value))
        if k % 7 == 0:
            told = float(rng.integers(0, 60))
            rows.append((at + 0.001, "p/u", told))
        value = 0.8 * value + 0.2 * told
    (segment,) = read_segments(recorded(tmp_path, rows), SIGNALS, period_s=5.0)
    features = np.column_stack([segment.y[:-1, 0], segment.u[1:, 0]])
    weights, _, _, _ = np.linalg.lstsq(features, segment.y[1:, 0], rcond=None)
    assert weights == pytest.approx([0.8, 0.2], abs=1e-4 + lateness_s / 5)
    wrong = features @ weights - segment.y[1:, 0]
    assert np.abs(wrong).max() < 0.01 + 20 * lateness_s / 5


def test_rows_end_when_most_measurements_have_come():
    steady = 5.0 * np.arange(100)
    assert end_of_rows([steady + 1.25], 5.0) == 1.25
    assert end_of_rows([steady + 0.5, steady + 1.0], 5.0) == 1.0
    assert end_of_rows([steady + 4.8, steady + 5.3], 5.0) == 0.3
    # One word in between, or a period that is no part of a row's, rules nothing.
    assert end_of_rows([np.append(steady + 1.25, 13.9)], 5.0) == 1.25
    assert end_of_rows([np.arange(0.3, 500.0, 1.0)], 5.0) == 0.0
    assert end_of_rows([5.015 * np.arange(1000)], 5.0) == 0.0
    assert end_of_rows([np.array([])], 5.0) == 0.0


def test_a_command_sent_at_the_end_of_a_row_belongs_to_the_next():
    said = ordered([0.0, 5.0, 10.0], [7.0, 8.0, 9.0])
    answer = held(said, np.array([5.0, 10.0, 15.0]))
    assert answer.tolist() == [7.0, 8.0, 9.0]


def test_a_held_value_is_weighted_by_time():
    said = ordered([0.0, 4.0], [0.0, 10.0])
    assert held(said, np.array([5.0, 10.0])).tolist() == pytest.approx([2.0, 10.0])


def test_before_the_first_word_a_command_has_its_initial_value_or_none():
    said = ordered([7.5], [4.0])
    grid = np.array([5.0, 10.0, 15.0])
    assert held(said, grid, before=2.0).tolist() == [2.0, 3.0, 4.0]
    assert np.isnan(held(said, grid)).tolist() == [True, True, False]


@given(
    st.lists(
        st.tuples(st.integers(0, 400), st.floats(-1e3, 1e3)), min_size=1, max_size=30
    )
)
def test_holding_agrees_with_a_fine_ruler(said):
    series = ordered([t / 4 for t, _ in said], [v for _, v in said])
    grid = np.arange(0.0, 120.0, 5.0)
    fine = np.arange(-5.0, 115.0, 0.25)
    last = np.searchsorted(series.time, fine, side="right") - 1
    values = np.where(last >= 0, series.value[np.maximum(last, 0)], 0.0)
    expected = values.reshape(-1, 20).mean(axis=1)
    np.testing.assert_allclose(
        held(series, grid, before=0.0), expected, rtol=1e-9, atol=1e-9
    )


def test_measurements_within_a_step_become_their_mean_or_the_last():
    said = ordered([1.0, 2.0, 5.0, 6.0], [1.0, 2.0, 6.0, 9.0])
    grid = np.array([5.0, 10.0])
    assert sampled(said, grid).tolist() == [3.0, 9.0]
    assert sampled(said, grid, aggregate="last").tolist() == [6.0, 9.0]


def test_an_old_measurement_is_none():
    said = ordered([0.0, 20.0], [1.0, 2.0])
    answer = sampled(said, np.array([0.0, 5.0, 10.0, 15.0, 20.0]), max_age_s=7.0)
    np.testing.assert_array_equal(answer, [1.0, 1.0, math.nan, math.nan, 2.0])


def test_a_word_that_is_no_number_ends_the_one_before():
    said = ordered([0.0, 5.0, 15.0], [1.0, math.nan, 3.0])
    answer = sampled(said, np.array([0.0, 5.0, 10.0, 15.0]))
    np.testing.assert_array_equal(answer, [1.0, math.nan, math.nan, 3.0])


def test_stamps_are_put_in_order_and_of_equal_ones_the_later_message_wins():
    said = ordered([3.0, 1.0, 1.0], [30.0, 10.0, 11.0])
    assert (said.time.tolist(), said.value.tolist()) == ([1.0, 3.0], [11.0, 30.0])


def test_what_is_outside_its_range_is_not_believed(tmp_path):
    recording = recorded(tmp_path, [(0, "p/t", 20.0), (5, "p/t", 65507), (6, "p/u", 1)])
    series = believed(read_series(recording, SIGNALS), SIGNALS)
    np.testing.assert_array_equal(series["t"].value, [20.0, math.nan])


def test_gaps_end_segments_and_are_never_bridged(tmp_path):
    rows = [(0.0, "p/u", 5)]
    rows += [(float(k), "p/t", k % 7) for k in range(300)]
    rows += [(float(k), "p/t", k % 7) for k in range(400, 700)]
    rows += [(700.0, "p/t", "broken")]
    rows += [(float(k), "p/t", k % 7) for k in range(720, 800)]
    segments = read_segments(recorded(tmp_path, rows), SIGNALS, period_s=5.0)
    start = START / SECOND
    spans = [(s.t0 - start, s.t0 - start + (len(s) - 1) * 5.0) for s in segments]
    # The last value before silence is good for three steps.
    assert spans == [(5.0, 310.0), (400.0, 695.0), (720.0, 795.0)]
    assert all(np.isfinite(s.y).all() and np.isfinite(s.u).all() for s in segments)


def test_where_the_recorder_was_blind_a_segment_ends(tmp_path):
    path = tmp_path / "r.parquet"
    with RecordingWriter(path, journal=False) as writer:
        writer.append(Message(START, "p/u", b"5"))
        for k in range(100):
            if k == 50:
                writer.gap(START + 46 * SECOND, START + 50 * SECOND, "broker away")
            if not 46 <= k < 50:
                writer.append(Message(START + k * SECOND, "p/t", b"1"))
    segments = read_segments(writer.close(), SIGNALS, period_s=1.0)
    assert [len(s) for s in segments] == [45, 50]


def test_a_sensor_is_late_after_three_steps_unless_it_speaks_on_change():
    regular = Series(time=np.arange(500.0), value=np.zeros(500))
    assert usual_age(regular, 1.0) == 3.0
    gaps = np.tile([1.0, 1.0, 1.0, 60.0], 100)
    on_change = Series(time=np.cumsum(gaps), value=np.zeros(400))
    assert usual_age(on_change, 1.0) == pytest.approx(120.0)
    assert usual_age(Series(time=np.arange(9.0), value=np.zeros(9)), 1.0) == math.inf


def test_a_signal_that_never_spoke_is_named_with_its_topic(tmp_path):
    recording = recorded(tmp_path, [(0, "p/u", 1), (1, "p/T", 20)])
    with pytest.raises(NotEnoughData, match=r"no message of 't' \(topic 'p/t'\)"):
        read_segments(recording, SIGNALS, period_s=1.0)


def test_a_signal_that_said_nothing_valid_is_named(tmp_path):
    recording = recorded(tmp_path, [(0, "p/u", 1), (1, "p/t", 65507)])
    with pytest.raises(NotEnoughData, match="no valid value of 't'"):
        read_segments(recording, SIGNALS, period_s=1.0)


def test_an_empty_recording_is_refused(tmp_path):
    with pytest.raises(NotEnoughData, match="no message of"):
        read_segments(recorded(tmp_path, []), SIGNALS, period_s=1.0)


@pytest.mark.parametrize("period_s", [0.0, -5.0, math.nan])
def test_a_step_that_takes_no_time_is_refused(tmp_path, period_s):
    recording = recorded(tmp_path, [(0.0, "p/u", 1), (1.0, "p/t", 20)])
    with pytest.raises(PlaygroundError, match="--period 5s"):
        read_segments(recording, SIGNALS, period_s=period_s)


def test_a_recording_shorter_than_two_steps_is_told_with_both_times(tmp_path):
    rows = [(float(k), topic, k) for k in range(8) for topic in ("p/u", "p/t")]
    with pytest.raises(NotEnoughData, match=r"lasts 7 s: .* two steps of 1:00:00"):
        read_segments(recorded(tmp_path, rows), SIGNALS, period_s=3600.0)


@pytest.mark.parametrize("period_s", [0.1, 5.015])
def test_the_distance_of_rows_is_exactly_the_period(tmp_path, period_s):
    # Seconds since 1970 cannot tell it to the last digit.
    rows = [(k * period_s, topic, k) for k in range(8) for topic in ("p/u", "p/t")]
    (segment,) = read_segments(recorded(tmp_path, rows), SIGNALS, period_s=period_s)
    assert segment.dt == period_s


def test_signals_that_are_never_known_together_are_refused(tmp_path):
    rows = [(float(k), "p/t", 1) for k in range(250)]
    rows += [(900.0, "p/u", 1)]
    with pytest.raises(NotEnoughData, match=r"none in which every signal is known"):
        read_segments(recorded(tmp_path, rows), SIGNALS, period_s=1.0)


def test_an_age_for_an_unknown_signal_is_refused(tmp_path):
    recording = recorded(tmp_path, [(0, "p/u", 1), (1, "p/t", 20)])
    with pytest.raises(PlaygroundError, match="'flow'"):
        read_segments(recording, SIGNALS, period_s=1.0, max_age_s={"flow": 3.0})


def test_json_payloads_are_read_once_for_all_their_signals(tmp_path):
    signals = Signals(
        [
            Signal(name="u", topic="p/u", unit="1", role="command", initial=0.0),
            Signal(name="a", topic="p/j", path="x.a", unit="K", role="measurement"),
            Signal(name="b", topic="p/j", path="b", unit="K", role="measurement"),
        ]
    )
    rows = [(k, "p/j", json.dumps({"x": {"a": k}, "b": -k})) for k in range(10)]
    (segment,) = read_segments(recorded(tmp_path, rows), signals, period_s=1.0)
    assert segment.y.tolist() == [[k, -k] for k in range(10)]
    assert (segment.inputs, segment.outputs) == (("u",), ("a", "b"))


def test_a_signal_says_how_old_it_may_be_and_how_it_is_resampled(tmp_path):
    rows = [(0.0, "p/u", 1), (0.0, "p/t", 20), (4.0, "p/t", 30), (5.0, "p/t", 40)]
    rows += [(25.0, "p/t", 50), (26.0, "p/t", 51)]
    recording = recorded(tmp_path, rows)

    def outputs(**declared):
        signals = Signals([SIGNALS["u"], replace(SIGNALS["t"], **declared)])
        found = read_segments(recording, signals, period_s=5.0)
        return [s.y[:, 0].tolist() for s in found]

    assert outputs() == [[35, 40, 40, 40, 50.5]]
    assert outputs(resample="last") == [[40, 40, 40, 40, 51]]
    assert outputs(max_age="12s") == [[35, 40, 40]]


STAMPED = Signals(
    [
        SIGNALS["u"],
        Signal(
            name="t",
            topic="p/t",
            path="t",
            unit="degC",
            role="measurement",
            stamp="ts",
        ),
    ]
)


def test_where_a_signal_has_a_stamp_the_time_in_the_payload_counts(tmp_path):
    # The network held them up: they came at 8 s, the last of them without a stamp.
    said = [{"t": 20 + k, "ts": START / SECOND + k} for k in range(3)]
    rows = [(8.0, "p/t", json.dumps(tree)) for tree in said]
    rows += [(9.0, "p/t", json.dumps({"t": 30, "ts": "?"})), (9.5, "p/t", "[]")]
    series = read_series(recorded(tmp_path, rows), STAMPED)["t"]
    assert (series.time - START / SECOND).tolist() == [0, 1, 2, 9]
    assert series.value.tolist() == [20, 21, 22, 30]


def test_a_stamp_in_another_unit_is_refused_with_what_it_says(tmp_path):
    rows = [(0.0, "p/u", 1), (0.0, "p/t", json.dumps({"t": 20, "ts": START / 1e6}))]
    with pytest.raises(PlaygroundError, match=r"'ts' says 1\.7e\+12 in a message"):
        read_segments(recorded(tmp_path, rows), STAMPED, period_s=5.0)


def test_splitting_keeps_every_row_once_and_in_order(tmp_path):
    rows = [(0.0, "p/u", 5)]
    rows += [(float(k), "p/t", k % 50) for k in range(300) if not 100 < k < 150]
    segments = read_segments(recorded(tmp_path, rows), SIGNALS, period_s=1.0)
    total = sum(len(s) for s in segments)
    before, after = split_by_time(segments, 0.35)
    assert sum(len(s) for s in after) == round(total * 0.35)
    joined = np.vstack([s.y for s in (*before, *after)])
    np.testing.assert_array_equal(joined, np.vstack([s.y for s in segments]))
    assert before[-1].t0 < after[0].t0
