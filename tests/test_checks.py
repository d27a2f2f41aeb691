import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.checks import CheckEntry, Sightings, read_check
from playground.errors import PlaygroundError
from playground.signals import Signal, Signals
from playground.trajectory import Trajectory

SIGNALS = Signals(
    [
        Signal(name="x", topic="x", unit="degC", role="measurement"),
        Signal(name="on", topic="on", unit="1", role="measurement"),
    ]
)
NAN = math.nan


def check(**entry):
    entry = {f"{k}_" if k in ("while", "for") else k: v for k, v in entry.items()}
    return read_check(CheckEntry(**entry), SIGNALS)


def trajectory(times, end_s, **values):
    return Trajectory(
        times_s=np.array(times, float),
        values={k: np.array(v, float) for k, v in values.items()},
        end_s=float(end_s),
    )


def judge(span, **entry):
    found = check(**entry).judge(span)
    return found.verdict, found.margin, found.worst_s


SPAN = trajectory(
    [0, 10, 20, 30, 40, 50], 60, x=[20, 25, 31, 28, 22, 20], on=[0, 1, 1, 0, 0, 1]
)


@pytest.mark.parametrize(
    ("entry", "verdict", "margin", "worst_s"),
    [
        ({"always": "x < 35 degC"}, "pass", 4, 20),
        ({"always": "x < 30 degC"}, "fail", -1, 20),
        ({"never": "x > 30 degC"}, "fail", -1, 20),
        ({"never": "x > 40 degC"}, "pass", 9, 20),
        ({"always": "x < 30 degC", "while": "on == 0"}, "pass", 2, 30),
        ({"always": "x < 30 degC", "while": "on == 7"}, "untested", None, None),
        # The guard holds on [10, 30); its first 12 s do not count.
        ({"always": "x > 26 degC", "while": "on == 1", "for": "12s"}, "pass", 5, 22),
        ({"always": "x > 26 degC", "while": "on == 1", "for": "5s"}, "fail", -6, 55),
        ({"always": "on == 1"}, "fail", None, 0),
        ({"eventually": "x > 30 degC"}, "pass", 1, 20),
        ({"eventually": "x > 30 degC", "within": "15s"}, "fail", -5, 10),
        ({"eventually": "x > 40 degC", "within": "90s"}, "untested", None, None),
        ({"eventually": "on == 1"}, "pass", None, 10),
        ({"settles": "x < 30 degC"}, "pass", 10, 30),
        ({"settles": "x < 30 degC", "within": "20s"}, "fail", -1, 20),
        ({"settles": "x < 30 degC", "within": "30s"}, "pass", 2, 30),
        ({"settles": "x > 30 degC"}, "fail", -10, 0),
        ({"stays": "on == 1", "for": "15s"}, "pass", 5, 10),
        ({"stays": "on == 1", "for": "25s"}, "fail", -5, 10),
        ({"stays": "on == 0", "for": "20s"}, "pass", 0, 30),
        ({"stays": "x > 99 degC", "for": "20s"}, "untested", None, None),
        ({"when": "on == 1", "then": "x > 19 degC"}, "pass", 1, 50),
        ({"when": "on == 1", "then": "x > 30 degC", "within": "10s"}, "fail", -10, 50),
        (
            {"when": "on == 1", "then": "x > 30 degC", "within": "15s"},
            "pass",
            1,
            10,
        ),
        (
            {"when": "on == 1", "for": "25s", "then": "x > 0 degC"},
            "untested",
            None,
            None,
        ),
        ({"when": "on == 1", "for": "15s", "then": "x > 30 degC"}, "pass", 1, 25),
        (
            {"when": "x > 30 degC", "then": "on == 0", "within": "10s", "keeps": "20s"},
            "pass",
            None,
            20,
        ),
        (
            {"when": "x > 30 degC", "then": "on == 0", "within": "10s", "keeps": "25s"},
            "fail",
            None,
            20,
        ),
        (
            {"when": "x > 24 degC", "then": "x > 23 degC", "keeps": "40s"},
            "fail",
            -1,
            10,
        ),
    ],
)
def test_a_check_gives_verdict_margin_and_worst_instant(
    entry, verdict, margin, worst_s
):
    found = judge(SPAN, **entry)
    assert found[0] == verdict
    assert found[1] == (margin if margin is None else pytest.approx(margin))
    if worst_s is not None:
        assert found[2] == worst_s


def test_what_is_never_known_is_untested():
    unknown = trajectory([0, 10], 20, x=[NAN, NAN], on=[NAN, NAN])
    for entry in (
        {"always": "x < 35 degC"},
        {"eventually": "x < 35 degC"},
        {"settles": "x < 35 degC"},
        {"stays": "x < 35 degC", "for": "1s"},
        {"when": "x < 35 degC", "then": "on == 1"},
    ):
        assert judge(unknown, **entry)[0] == "untested"


def test_the_unit_of_a_margin_is_that_of_its_signal():
    assert check(always="x < 35 degC").judge(SPAN).unit == "K"
    assert check(stays="on == 1", **{"for": "1s"}).judge(SPAN).unit == "s"
    assert check(always="on < 2").judge(SPAN).unit == "1"
    assert check(always="on == 1").judge(SPAN).unit is None


def test_a_check_is_called_what_it_says_unless_it_has_a_name():
    entry = {"always": "x < 35 degC", "while": "on == 1", "for": "5s"}
    assert check(**entry).name == "always x < 35 degC, while on == 1, for 5s"
    assert check(**entry, name="cool").name == "cool"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({}, "needs to say what must be so"),
        ({"always": "on == 1", "never": "on == 0"}, "'always' and 'never'"),
        ({"always": "on == 1", "within": "5s"}, "'within' does not go with 'always'"),
        ({"stays": "on == 1"}, "'stays' needs 'for'"),
        ({"when": "on == 1"}, "'when' needs 'then'"),
        ({"always": "on == 1", "for": "5s"}, "there is no 'while'"),
        ({"always": "on == 1", "while": "x > 5"}, "5 has no unit"),
        ({"when": "on == 1", "then": "y > 5"}, "there is no signal 'y'"),
        ({"eventually": "on == 1", "within": "5"}, "has no unit"),
        ({"message": "a/#/b", "every": "5s"}, "must be the last level"),
        ({"message": "a/b"}, "needs to say how often"),
        ({"message": "a", "every": "5s", "after": "b"}, "every and after"),
        ({"message": "a", "after": "b"}, "'after' and 'within' go together"),
        ({"message": "a", "every": "5s", "within": "5s"}, "go together"),
        ({"message": "a", "after": "a", "within": "5s"}, "the answer to itself"),
        ({"message": "a", "schema": {"type": "wrong"}}, "no JSON Schema: $.type"),
        ({"message": "a", "schema": "none.json"}, "cannot be read as JSON"),
        (
            {"message": "a", "schema": {"$ref": "file:///etc/x.json"}},
            "refers to 'file:///etc/x.json'",
        ),
        ({"message": "a", "schema": {"$ref": "#/$defs/x"}}, "leads nowhere"),
        ({"when": "on == 1", "then": "on == 1", "then_message": "a"}, "not both"),
        (
            {"when": "on == 1", "then_message": "a", "until": "on == 0"},
            "'until' does not go with 'then_message'",
        ),
        (
            {"when": "on == 1", "then": "on == 1", "keeps": "5s", "until": "on == 0"},
            "'keeps' and 'until' both say how long",
        ),
        ({"stays": "on == 1", "for": "5s", "until": "on == 1"}, "does not go with"),
        ({"message": "a/b", "at_most": "five"}, "not a number of messages per time"),
        ({"no_message": "a/b", "every": "5s"}, "does not go with 'no_message'"),
    ],
)
def test_a_check_that_makes_no_sense_is_refused(entry, said):
    with pytest.raises(PlaygroundError) as error:
        check(**entry)
    assert said in str(error.value)


def seen(*times, end_s=60.0):
    return Sightings(times_s=np.array(times, float), start_s=0.0, end_s=end_s)


EMPTY = trajectory([0], 60)


@pytest.mark.parametrize(
    ("entry", "sightings", "verdict", "margin"),
    [
        ({"no_message": "a"}, seen(), "pass", None),
        ({"no_message": "a"}, seen(3), "fail", None),
        ({"message": "a", "every": "25s"}, seen(10, 30, 50), "pass", 5),
        ({"message": "a", "every": "15s"}, seen(10, 30, 50), "fail", -5),
        ({"message": "a", "every": "15s"}, seen(), "fail", -45),
        ({"message": "a", "at_most": "2 per 30s"}, seen(0, 10, 30, 31), "fail", -1),
        ({"message": "a", "at_most": "3 per 30s"}, seen(0, 10, 30, 31), "pass", 0),
        ({"message": "a", "at_most": "3 per 30s"}, seen(), "untested", None),
    ],
)
def test_checks_on_messages(entry, sightings, verdict, margin):
    found = check(**entry)
    assert found.topics == "a"
    result = found.judge(EMPTY, sightings)
    assert (result.verdict, result.margin) == (verdict, margin)


def after(asked, answers, *, end_s=60.0):
    return Sightings(
        times_s=np.array(answers, float),
        start_s=0.0,
        end_s=end_s,
        after_s=np.array(asked, float),
    )


@pytest.mark.parametrize(
    ("asked", "answers", "verdict", "margin", "worst_s"),
    [
        ([10, 30], [12, 33], "pass", 2, 30),
        ([10, 30], [10, 35], "pass", 0, 30),
        ([10, 30], [12, 36], "fail", -1, 30),
        ([10, 55], [12], "fail", 0, 55),
        ([10, 56], [12], "pass", 3, 10),
        ([10], [], "fail", -45, 10),
        ([56], [], "untested", None, None),
        ([], [5], "untested", None, None),
    ],
)
def test_a_message_comes_soon_after_another(asked, answers, verdict, margin, worst_s):
    found = check(message="a", after="b", within="5s")
    assert (found.topics, found.after) == ("a", "b")
    result = found.judge(EMPTY, after(asked, answers))
    assert (result.verdict, result.margin) == (verdict, margin)
    assert result.worst_s == worst_s


@given(
    st.lists(st.integers(0, 60), unique=True).map(sorted),
    st.lists(st.integers(0, 60), unique=True).map(sorted),
    st.integers(0, 20),
)
def test_answers_agree_with_brute_force(asked, answers, within_s):
    good = []
    for time_s in asked:
        if any(time_s <= a <= time_s + within_s for a in answers):
            good.append(True)
        elif time_s + within_s <= 60:
            good.append(False)
    result = check(message="a", after="b", within=f"{within_s}s").judge(
        EMPTY, after(asked, answers)
    )
    expected = "untested" if not good else "pass" if all(good) else "fail"
    assert result.verdict == expected


def test_a_condition_is_answered_by_a_message():
    found = check(when="on == 1", then_message="alarm", within="5s", **{"for": "10s"})
    span = trajectory([0, 10, 40], 60, on=[0, 1, 0])
    assert found.judge(span, seen(24)).margin == 1
    late = found.judge(span, seen(26))
    assert (late.verdict, late.margin, late.worst_s) == ("fail", -1, 20)
    assert found.judge(trajectory([0], 60, on=[0]), seen(26)).verdict == "untested"


SCHEMA = {
    "type": "object",
    "properties": {"value": {"$ref": "#/$defs/share"}},
    "required": ["value"],
    "$defs": {"share": {"type": "number", "maximum": 1}},
}


@pytest.mark.parametrize(
    ("payloads", "verdict", "worst_s", "said"),
    [
        ([b'{"value": 0.5}', b'{"value": 1}'], "pass", None, "2 fit"),
        ([b'{"value": 0.5}', b'{"value": 2}'], "fail", 1, "$.value: 2 is greater"),
        ([b"{}", b"5"], "fail", 0, "2 of 2 do not fit; the first: $: 'value' is a"),
        ([b"{"], "fail", 0, "not JSON"),
        ([b"\xff"], "fail", 0, "not JSON"),
        ([], "untested", None, "no message came"),
    ],
)
@pytest.mark.parametrize("in_a_file", [False, True])
def test_payloads_fit_a_schema(payloads, verdict, worst_s, said, in_a_file, tmp_path):
    schema = SCHEMA
    if in_a_file:
        (tmp_path / "state.json").write_text(json.dumps(SCHEMA))
        schema = "state.json"
    entry = CheckEntry(message="a", schema=schema)
    found = read_check(entry, SIGNALS, folder=tmp_path)
    assert found.payloads
    result = found.judge(
        EMPTY,
        Sightings(
            times_s=np.arange(len(payloads), dtype=float),
            start_s=0.0,
            end_s=60.0,
            payloads=payloads,
        ),
    )
    assert (result.verdict, result.worst_s) == (verdict, worst_s)
    assert said in result.detail


def test_always_until_counts_only_what_was_before():
    span = trajectory([0, 10, 20, 30], 60, x=[30, 20, 5, 30], on=[0, 0, 1, 0])
    result = check(always="x > 15 degC", until="on == 1").judge(span)
    assert (result.verdict, result.margin, result.worst_s) == ("pass", 5, 10)
    result = check(never="x > 25 degC", until="on == 1").judge(span)
    assert (result.verdict, result.margin) == ("fail", -5)
    result = check(always="x > 15 degC", until="x > 25 degC").judge(span)
    assert result.verdict == "untested"


# -- against a brute-force evaluation on a fine grid
#
# All instants are multiples of 2 s and values hold in between, so asking at every
# half second sees everything there is to see.

GRID_S = 0.5
COLUMN = st.lists(
    st.sampled_from([10.0, 20.0, 30.0, 40.0, NAN]), min_size=2, max_size=9
)
DURATION = st.sampled_from([0, 2, 4, 6, 10])


@st.composite
def spans(draw):
    xs = draw(COLUMN)
    ons = draw(
        st.lists(st.sampled_from([0.0, 1.0]), min_size=len(xs), max_size=len(xs))
    )
    steps = draw(st.lists(st.sampled_from([2, 4]), min_size=len(xs), max_size=len(xs)))
    times = np.concatenate([[0], np.cumsum(steps)])
    return trajectory(times[:-1], times[-1], x=xs, on=ons)


def at(span, time_s, name):
    row = int(np.searchsorted(span.times_s, time_s, side="right")) - 1
    return float(span.values[name][row])


def grid(span, start_s=0.0, end_s=None):
    end_s = span.end_s if end_s is None else end_s
    return [
        start_s + k * GRID_S
        for k in range(int((end_s - start_s) / GRID_S) + 1)
        if start_s + k * GRID_S < span.end_s
    ]


def rising(span, condition):
    """Returns the spans in which a condition on the state holds."""
    runs, begin = [], None
    for time_s in [*grid(span), span.end_s]:
        holds = time_s < span.end_s and condition(time_s)
        if holds and begin is None:
            begin = time_s
        if not holds and begin is not None:
            runs.append((begin, time_s))
            begin = None
    return runs


@settings(max_examples=150)
@given(spans(), DURATION)
def test_always_while_for_agrees_with_brute_force(span, for_s):
    runs = rising(span, lambda t: at(span, t, "on") == 1)
    counted = [
        25 - at(span, t, "x")
        for t in grid(span)
        if any(a + for_s <= t < b for a, b in runs) and not math.isnan(at(span, t, "x"))
    ]
    found = judge(
        span, always="x < 25 degC", **{"while": "on == 1", "for": f"{for_s}s"}
    )
    if not counted:
        assert found[0] == "untested"
    else:
        assert found[0] == ("pass" if min(counted) > 0 else "fail")
        assert found[1] == min(counted)


@settings(max_examples=150)
@given(spans(), DURATION)
def test_eventually_within_agrees_with_brute_force(span, within_s):
    known = [
        at(span, t, "x") - 25
        for t in grid(span, 0, within_s)
        if not math.isnan(at(span, t, "x"))
    ]
    found = judge(span, eventually="x > 25 degC", within=f"{within_s}s")
    if known and max(known) > 0:
        assert found[:2] == ("pass", max(known))
    elif not known or within_s > span.end_s:
        assert found[0] == "untested"
    else:
        assert found[:2] == ("fail", max(known))


@settings(max_examples=150)
@given(spans(), DURATION)
def test_settles_agrees_with_brute_force(span, within_s):
    def worst_from(start_s):
        values = [at(span, t, "x") for t in grid(span, start_s)]
        return min(-math.inf if math.isnan(v) else v - 15 for v in values)

    found = judge(span, settles="x > 15 degC", within=f"{within_s}s")
    if np.isnan(span.values["x"]).all() or within_s > span.end_s:
        assert found[0] == "untested"
        return
    best = max(worst_from(t) for t in grid(span, 0, within_s))
    assert found[0] == ("pass" if best > 0 else "fail")
    assert found[1] == (best if math.isfinite(best) else None)


@settings(max_examples=150)
@given(spans(), DURATION)
def test_stays_agrees_with_brute_force(span, for_s):
    runs = rising(span, lambda t: at(span, t, "on") == 1)
    lengths = [b - a for a, b in runs if (a > 0 and b < span.end_s) or b - a >= for_s]
    found = judge(span, stays="on == 1", **{"for": f"{for_s}s"})
    if not lengths:
        assert found[0] == "untested"
    else:
        assert found[:2] == (
            "pass" if min(lengths) >= for_s else "fail",
            min(lengths) - for_s,
        )


@settings(max_examples=300)
@given(spans(), DURATION, DURATION, DURATION)
def test_when_then_agrees_with_brute_force(span, for_s, within_s, keeps_s):
    def margin(time_s):
        value = at(span, time_s, "x")
        return -math.inf if math.isnan(value) else value - 25

    answers = []
    for begin, end in rising(span, lambda t: at(span, t, "on") == 1):
        trigger = begin + for_s
        if end - begin < for_s or trigger >= span.end_s:
            continue
        best, good, open_ = -math.inf, False, trigger + within_s > span.end_s
        for start in grid(span, trigger, trigger + within_s):
            stop = start + keeps_s
            inside = [t for t in grid(span, start, stop) if t < stop or t == start]
            worst = min(margin(t) for t in inside)
            if worst > 0 and stop > span.end_s:
                open_ = True
                continue
            good |= worst > 0
            best = max(best, worst)
        if good or not open_:
            answers.append((good, best))
    found = judge(
        span,
        when="on == 1",
        then="x > 25 degC",
        within=f"{within_s}s",
        keeps=f"{keeps_s}s",
        **{"for": f"{for_s}s"},
    )
    if not answers:
        assert found[0] == "untested"
    else:
        good, best = min(answers)
        assert found[0] == ("pass" if good else "fail")
        assert found[1] == (best if math.isfinite(best) else None)


@settings(max_examples=300)
@given(spans(), DURATION, DURATION)
def test_when_then_until_agrees_with_brute_force(span, for_s, within_s):
    def margin(time_s):
        value = at(span, time_s, "x")
        return -math.inf if math.isnan(value) else 35 - value

    def released(time_s):
        return at(span, time_s, "x") > 25

    everything = [t for t in grid(span, 0, span.end_s) if t < span.end_s]
    answers = []
    for begin, end in rising(span, lambda t: at(span, t, "on") == 1):
        trigger = begin + for_s
        if end - begin < for_s or trigger >= span.end_s:
            continue
        best, good, open_ = -math.inf, False, trigger + within_s > span.end_s
        for start in grid(span, trigger, trigger + within_s):
            if start >= span.end_s:
                continue
            rest = [t for t in everything if t >= start]
            until = next((t for t in rest if released(t)), None)
            inside = [t for t in rest if until is None or t < until]
            worst = min((margin(t) for t in inside), default=math.inf)
            if worst > 0 and until is None:
                open_ = True
                continue
            good |= worst > 0
            best = max(best, worst)
        if good or not open_:
            answers.append((good, best))
    found = judge(
        span,
        when="on == 1",
        then="x < 35 degC",
        within=f"{within_s}s",
        until="x > 25 degC",
        **{"for": f"{for_s}s"},
    )
    if not answers:
        assert found[0] == "untested"
    else:
        good, best = min(answers)
        assert found[0] == ("pass" if good else "fail")
        assert found[1] == (best if math.isfinite(best) else None)
