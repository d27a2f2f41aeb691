import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.errors import PlaygroundError
from playground.message import (
    Message,
    TopicFilters,
    check_filter,
    check_topic,
    matches,
)

LEVEL = st.text(
    st.characters(exclude_characters="/+#\0", exclude_categories=("Cs",)), max_size=4
)
TOPIC = st.lists(LEVEL, min_size=1, max_size=5).map("/".join).filter(bool)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "answer"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/c", False),
        ("a/b", "a/b/c", False),
        ("a/b/c", "a/b", False),
        ("+", "a", True),
        ("+", "a/b", False),
        ("a/+/c", "a/b/c", True),
        ("a/+/c", "a//c", True),
        ("+/+", "/a", True),
        ("+/", "a/", True),
        ("+/", "a", False),
        ("#", "a/b/c", True),
        ("a/#", "a", True),
        ("a/#", "a/", True),
        ("a/#", "ab", False),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
        ("$SYS/+", "$SYS/x", True),
        ("a/$b", "a/$b", True),
        ("A", "a", False),
    ],
)
def test_a_filter_covers_exactly_the_topics_of_the_standard(
    topic_filter, topic, answer
):
    assert matches(topic_filter, topic) is answer


@given(TOPIC)
def test_every_topic_matches_itself_and_its_own_prefix(topic):
    assert matches(topic, topic)
    if not topic.startswith("$"):
        assert matches("#", topic)
    levels = topic.split("/")
    for cut in range(1, len(levels)):
        if "/".join(levels[:cut]):
            assert matches("/".join([*levels[:cut], "#"]), topic)


@given(TOPIC, st.data())
def test_plus_stands_for_any_one_level(topic, data):
    levels = topic.split("/")
    place = data.draw(st.integers(0, len(levels) - 1))
    if place == 0 and topic.startswith("$"):
        return
    assert matches("/".join([*levels[:place], "+", *levels[place + 1 :]]), topic)
    assert not matches("/".join([*levels, "+"]), topic)


@pytest.mark.parametrize(
    ("topic_filter", "fix"),
    [
        ("a/#/b", "write 'a/#', or '+' for a single level"),
        ("a/b+/c", "write 'a/+/c'"),
        ("a#", "write '+'"),
        ("", "name at least one character"),
        ("a\0", "leave it out"),
    ],
)
def test_a_wrong_filter_is_refused_with_a_fix(topic_filter, fix):
    with pytest.raises(PlaygroundError) as error:
        check_filter(topic_filter)
    assert error.value.fix == fix


@pytest.mark.parametrize("topic", ["a/+", "#", "", "x\0y", "ä" * 40_000])
def test_nobody_publishes_to_a_wrong_topic(topic):
    with pytest.raises(PlaygroundError):
        check_topic(topic)


def test_topics_of_every_legal_character_and_length_are_fine():
    assert check_topic("ä/€/ 🙂 /\n")
    assert check_topic("x" * 65_535)


def test_topic_filters_include_and_exclude():
    wanted = TopicFilters(("lab/#", "$SYS/x"), exclude=("lab/secret/+",))
    topics = ("lab", "lab/a", "lab/secret/a", "$SYS/x", "x")
    assert [t for t in topics if t in wanted] == ["lab", "lab/a", "$SYS/x"]
    assert "lab/a" in TopicFilters()
    assert "$SYS/x" not in TopicFilters()


def test_topic_filters_forget_before_they_grow_without_bound(monkeypatch):
    monkeypatch.setattr(TopicFilters, "LARGEST_MEMORY", 10)
    wanted = TopicFilters(("a/#",))
    assert all(f"a/{n}" in wanted for n in range(100))
    assert len(wanted._known) <= 10


def test_a_message_and_an_error_survive_pickling():
    message = Message(1, "a", b"\xff", 2, True, False, "me", '{"a":1}')
    assert pickle.loads(pickle.dumps(message)) == message
    error = pickle.loads(pickle.dumps(PlaygroundError("seen", "do")))
    assert (error.problem, error.fix, str(error)) == ("seen", "do", "seen\n  fix: do")
