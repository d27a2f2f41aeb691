import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from playground.diff import Compared, Ignore, Tally, diff
from playground.diff.alignment import align, moved_between, tally
from playground.errors import ExitCode, PlaygroundError
from playground.message import Message
from playground.recording import Recording, RecordingWriter

START = 1_700_000_000 * 10**9
LATER = 86_400 * 10**9


def record(path: Path, messages, **metadata) -> Recording:
    path.unlink(missing_ok=True)
    with RecordingWriter(path, journal=False, metadata=metadata) as writer:
        for message in messages:
            writer.append(message)
    return Recording.open(path)


def at(number: float, topic: str = "a", payload: object = 1, **more) -> Message:
    text = payload if isinstance(payload, bytes) else str(payload).encode()
    return Message(START + round(number * 1e9), topic, text, **more)


@pytest.fixture
def compare(tmp_path):
    def compare(a, b, **compared):
        return diff(
            record(tmp_path / "a.parquet", a),
            record(tmp_path / "b.parquet", b),
            compared=Compared(**compared),
        )

    return compare


def session(count: int = 100) -> list[Message]:
    return [at(i, "ab"[i % 2], i) for i in range(count)]


def test_equal_recordings_are_equal(compare):
    report = compare(session(), session())
    assert (report.equal, report.first, report.count_a) == (True, None, 100)
    assert report.exit_code == ExitCode.GOOD


def test_time_does_not_count_by_default(compare):
    later = [m._replace(time_ns=m.time_ns * 2) for m in session()]
    assert compare(session(), later).equal


def test_order_between_topics_does_not_count_and_within_a_topic_does(compare):
    messages = session(4)
    swapped = [messages[1], messages[0], messages[3], messages[2]]
    assert compare(messages, swapped).equal
    report = compare(messages, [messages[2], messages[1], messages[0], messages[3]])
    assert not report.equal
    assert report.first.topic == "a"
    assert report.first.what == "reordered"


def test_a_changed_payload_is_shown_with_what_came_before(compare):
    changed = session()
    changed[50] = changed[50]._replace(payload=b"wrong")
    report = compare(session(), changed)
    assert report.tally == Tally(changed=1)
    assert report.exit_code == ExitCode.NOT_SO
    first = report.first
    assert (first.topic, first.what, first.position_s) == ("a", "changed", 50.0)
    assert (first.expected.payload, first.got.payload) == (b"50", b"wrong")
    assert [m.payload for m in first.before] == [str(i).encode() for i in range(40, 50)]


def test_what_came_before_reaches_over_what_was_streamed(compare):
    # 70,000 rows are two row groups; the first is passed over as equal.
    messages = [at(i, "a", i) for i in range(70_000)]
    changed = [*messages]
    changed[65_537] = changed[65_537]._replace(payload=b"wrong")
    report = compare(messages, changed)
    assert [int(m.payload) for m in report.first.before] == list(range(65_527, 65_537))
    assert report.first.position_s == 65_537
    assert report.tally == Tally(changed=1)


def test_missing_and_extra_are_counted_apart(compare):
    messages = session()
    report = compare(messages, messages[:10] + messages[11:])
    assert (report.tally, report.first.what) == (Tally(missing=1), "missing")
    assert report.first.expected == messages[10]
    report = compare(messages[:10] + messages[11:], messages)
    assert (report.tally, report.first.what) == (Tally(extra=1), "extra")
    assert report.first.got == messages[10]


def test_a_recording_that_ends_early_misses_the_rest(compare):
    report = compare(session(10), session(6))
    assert report.tally == Tally(missing=4)
    assert report.first.got is None
    assert report.first.expected == session(10)[6]
    report = compare(session(6), session(10))
    assert report.tally == Tally(extra=4)
    assert report.first.expected is None
    assert report.first.position_s == 6.0


def test_a_topic_that_only_one_has_is_counted(compare):
    report = compare([at(0, "a")], [at(0, "a"), at(1, "b", "x")])
    assert report.topics == {"b": Tally(extra=1)}


def test_the_first_divergence_is_the_earliest_of_all_topics(compare):
    changed = session()
    changed[61] = changed[61]._replace(payload=b"b is wrong")
    changed[60] = changed[60]._replace(payload=b"a is wrong first")
    changed[3] = changed[3]._replace(payload=b"b is wrong before that")
    assert compare(session(), changed).first.expected.payload == b"3"


@pytest.mark.parametrize("flag", [{"qos": 1}, {"retain": True}])
def test_qos_and_retain_count_unless_told_otherwise(compare, flag):
    messages = session(10)
    changed = [*messages]
    changed[4] = changed[4]._replace(**flag)
    assert compare(messages, changed).tally == Tally(changed=1)
    assert compare(messages, changed, qos=False, retain=False).equal


def test_wills_are_compared_and_session_events_are_not(compare):
    event = at(0.5, "", b"", kind="connect", client="x")
    will = at(1, "w", b"gone", kind="will")
    assert compare([at(0)], [at(0), event]).equal
    assert not compare([at(0)], [at(0), will]).equal


def test_filters_choose_what_is_compared(compare):
    messages = session(10)
    changed = [m._replace(payload=b"x") if m.topic == "b" else m for m in messages]
    assert not compare(messages, changed).equal
    assert compare(messages, changed, topics=("a",)).equal
    assert compare(messages, changed, exclude=("b",)).equal
    assert compare(messages, changed, ignore=Ignore.parse(["b"])).equal


def test_json_paths_can_be_ignored_and_key_order_then_does_not_count(compare):
    a = [at(0, "m/x", b'{"t":1,"v":{"n":5,"at":9}}'), at(1, "o", b'{"t":1}')]
    b = [at(0, "m/x", b'{"v":{"at":7,"n":5},"t":2}'), at(1, "o", b'{"t":1}')]
    assert not compare(a, b).equal
    assert not compare(a, b, ignore=Ignore.parse(["$.t"])).equal
    assert compare(a, b, ignore=Ignore.parse(["$.t", "m/#:$.v.at"])).equal
    report = compare(
        a, [*b[:1], at(1, "o", b'{"t":2}')], ignore=Ignore.parse(["m/#:$.t", "$.v.at"])
    )
    assert report.first.topic == "o"


def test_json_paths_reach_into_arrays(compare):
    a = [at(0, "m", b'[{"t":1,"v":2},{"t":3,"v":4}]')]
    b = [at(0, "m", b'[{"t":5,"v":2},{"t":6,"v":4}]')]
    assert compare(a, b, ignore=Ignore.parse(["$.[*].t"])).equal
    assert not compare(a, b, ignore=Ignore.parse(["$.[0].t"])).equal
    assert compare(a, b, ignore=Ignore.parse(["$.[0].t", "$.[1].t"])).equal


@pytest.mark.parametrize("text", ["$.", "a/b:$.", "a/#/b", ""])
def test_a_bad_ignore_is_refused(text):
    with pytest.raises(PlaygroundError):
        Ignore.parse([text])


def test_times_count_relative_to_the_first_message(compare):
    later = [m._replace(time_ns=m.time_ns + LATER) for m in session()]
    assert compare(session(), later, times_s=0.0).equal
    later[42] = later[42]._replace(time_ns=later[42].time_ns + 20_000_000)
    assert compare(session(), later, times_s=0.05).equal
    report = compare(session(), later, times_s=0.01)
    assert (report.first.what, report.first.topic) == ("late", "a")
    assert report.first.position_s == 42.0
    assert report.tally == Tally(changed=1)


def test_nothing_to_compare_is_undecided(compare):
    report = compare([], [])
    assert report.exit_code == ExitCode.UNDECIDED


def test_what_a_lossy_recording_misses_is_undecided(tmp_path):
    expected = record(tmp_path / "a.parquet", session(20))
    with RecordingWriter(tmp_path / "b.parquet", journal=False) as writer:
        for message in session(20)[:10]:
            writer.append(message)
        writer.gap(START, START + 1, "connection lost")
    report = diff(expected, Recording.open(tmp_path / "b.parquet"))
    assert not report.equal
    assert report.exit_code == ExitCode.UNDECIDED
    assert "was blind 1 time" in report.undecided


def test_what_a_lossy_recording_says_wrongly_is_wrong(tmp_path):
    expected = record(tmp_path / "a.parquet", session(20))
    with RecordingWriter(tmp_path / "b.parquet", journal=False) as writer:
        writer.gap(START, START + 1, "connection lost")
        for message in session(20)[:10]:
            writer.append(message._replace(payload=b"x"))
    report = diff(expected, Recording.open(tmp_path / "b.parquet"))
    assert report.exit_code == ExitCode.NOT_SO


def test_the_report_is_plain_json(compare):
    changed = session()
    changed[50] = changed[50]._replace(payload=b"\xff")
    told = compare(session(), changed).as_dict()
    assert told["first"]["got"]["payload"] == "\\xff"
    assert told["topics"] == {
        "a": {"missing": 0, "extra": 0, "changed": 1, "reordered": 0}
    }


# Alignment

few = st.lists(st.integers(0, 3), max_size=14)


def applied(a, b, gaps):
    """Replaces what the gaps say, which must make b out of a."""
    made, last = [], 0
    for gap in gaps:
        made += a[last : gap.a1].tolist() + b[gap.b1 : gap.b2].tolist()
        last = gap.a2
    return made + a[last:].tolist()


@settings(deadline=None)
@given(left=few, right=few)
def test_an_alignment_makes_one_sequence_of_the_other(left, right):
    a, b = np.array(left, np.int64), np.array(right, np.int64)
    gaps = align(a, b)
    assert applied(a, b, gaps) == right
    assert (gaps == []) == (left == right)
    counts = tally(a, b, gaps, moved_between(a, b, gaps))
    assert counts.missing - counts.extra == len(left) - len(right)
    assert (counts.total == 0) == (left == right)


@settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**6))
def test_a_few_losses_in_a_long_sequence_are_found_exactly(seed):
    chance = random.Random(seed)
    whole = [chance.choice((1, 2, 3)) for _ in range(3000)]
    lost = sorted(chance.sample(range(3000), 5))
    rest = [value for i, value in enumerate(whole) if i not in lost]
    a, b = np.array(whole, np.int64), np.array(rest, np.int64)
    gaps = align(a, b)
    assert applied(a, b, gaps) == rest
    counts = tally(a, b, gaps, moved_between(a, b, gaps))
    assert counts.missing + counts.reordered >= 5 - counts.changed
    assert counts.missing == 5


def test_many_losses_among_unique_messages_are_found_by_anchors():
    a = np.arange(20_000, dtype=np.int64)
    b = a[a % 7 != 3]
    gaps = align(a, b)
    moved = moved_between(a, b, gaps)
    assert tally(a, b, gaps, moved) == Tally(missing=len(a) - len(b))


def test_everything_changed_is_compared_by_position():
    a = np.arange(20_000, dtype=np.int64) % 50
    b = (a + 1) % 50
    counts = tally(a, b, align(a, b), Counter())
    assert counts.total in (2, 20_000)


def counted(a, b) -> Tally:
    left, right = np.array(a, np.int64), np.array(b, np.int64)
    gaps = align(left, right)
    assert applied(left, right, gaps) == list(b)
    return tally(left, right, gaps, moved_between(left, right, gaps))


@settings(deadline=None)
@given(data=st.data(), values=st.integers(1, 40), seed=st.integers(0, 10**6))
def test_what_a_cut_leaves_out_is_missing_and_nothing_is_reordered(data, values, seed):
    chance = random.Random(seed)
    count = data.draw(st.integers(1, 2000))
    whole = [chance.randrange(values) for _ in range(count)]
    first = data.draw(st.integers(0, count - 1))
    end = data.draw(st.integers(first + 1, count))
    part = whole[first:end]
    left_out = count - len(part)
    assert counted(whole, part) == Tally(missing=left_out)
    assert counted(part, whole) == Tally(extra=left_out)


def test_a_long_cut_with_changes_in_it_is_told_as_both():
    chance = random.Random(5)
    whole = [chance.randrange(4) for _ in range(60_000)]
    part = whole[20_000:50_000]
    for place in range(500, 30_000, 1000):
        part[place] = 9
    found = counted(whole, part)
    assert found == Tally(missing=30_000, changed=30)


def test_a_cut_of_what_never_changes_or_toggles_is_a_cut():
    assert counted([1] * 50_000, [1] * 20_000) == Tally(missing=30_000)
    assert counted([0, 1] * 50_000, [1, 0] * 20_000) == Tally(missing=60_000)


def test_many_losses_among_values_that_repeat_are_missing():
    chance = random.Random(3)
    whole = [chance.randrange(5) for _ in range(20_000)]
    rest = [value for i, value in enumerate(whole) if i % 97]
    assert counted(whole, rest) == Tally(missing=len(whole) - len(rest))


def test_two_that_changed_places_are_reordered():
    whole = list(range(1000))
    swapped = [*whole[:500], whole[501], whole[500], *whole[502:]]
    assert counted(whole, swapped) == Tally(reordered=2)


def test_a_value_that_is_gone_here_and_came_too_often_there_did_not_move():
    # 7 is missing at the start, and a 5 became a 7: nothing was reordered.
    assert counted([7, 7, 1, 2, 5, 3, 4], [1, 2, 7, 3, 4]) == Tally(
        missing=2, changed=1
    )


def test_a_cut_recording_has_only_missing_messages(compare):
    whole = [at(i, "abc"[i % 3], i // 30) for i in range(600)]
    report = compare(whole, whole[200:500])
    assert report.tally == Tally(missing=300)
    assert (report.first.what, report.first.topic) == ("missing", "a")
    assert report.first.expected.payload == b"0"
