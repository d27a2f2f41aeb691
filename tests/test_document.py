import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.document import Document, DocumentError
from playground.errors import FileFormatError
from playground.scenario import dump


@pytest.mark.parametrize(
    ("yaml", "value"),
    [
        ("off", "off"),
        ("on", "on"),
        ("no", "no"),
        ("12:30", "12:30"),
        ("1e-3", 0.001),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("2026-01-23", "2026-01-23"),
        ("~", None),
        ("true", True),
        ("'true'", "true"),
        ('"5"', "5"),
        (".5", 0.5),
        ("+1", 1),
        ("1.", 1.0),
        ("NO", "NO"),
        ("=", "="),
    ],
)
def test_traps_of_yaml_are_none(yaml, value):
    found = Document.parse(f"a: {yaml}\n").data["a"]
    assert found == value
    assert type(found) is type(value)


def test_quoted_texts_survive_writing():
    plain = {"name": "x", "a": "1", "b": "true", "c": "1e3", "d": "12:30", "e": "~"}
    assert Document.parse(dump(plain)).data == plain


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: !include ../x.yaml", "leaves the folder"),
        ("a: !include t.yaml", "includes itself|nested more"),
        ("a: !include nothing.yaml", "There is no file"),
        ("a: !python/object:os.system {}", "the tag !python/object:os.system is not"),
        ("a: [" + "[" * 500 + "]" * 501, "nested"),
    ],
)
def test_reading_a_file_runs_and_reaches_nothing(tmp_path, text, said):
    path = tmp_path / "t.yaml"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=said):
        Document.read(path)


def test_aliases_of_aliases_are_bounded():
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 9)
    )
    with pytest.raises(FileFormatError, match="more than 100,000 values"):
        Document.parse(text)


def test_two_equal_keys_are_both_named():
    with pytest.raises(DocumentError) as error:
        Document.parse("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n", "x.yaml")
    assert [m.line for m in error.value.mistakes] == [4, 5]
    assert "the key 'c' stands here twice" in str(error.value)


@dataclass(frozen=True, kw_only=True)
class Inner:
    count: int
    share: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    kind: Literal["warm", "cold"] = "warm"
    inner: Inner | None = None
    many: list[Inner] = field(default_factory=list)
    pair: tuple[float, float] = (0.0, 1.0)
    words: Mapping[str, float] = field(default_factory=dict)
    either: str | list[int] = ""
    for_: str | None = None
    anything: Any = None


def read(text):
    return Document.parse(text, "x.yaml").validate(Outer)


def test_a_document_becomes_dataclasses():
    assert read(
        "name: a\nkind: cold\ninner: {count: 1, share: 2}\nmany: [{count: 2}]\n"
        "pair: [1, 2.5]\nwords: {ON: 1}\neither: [1, 2]\nfor: 5s\nanything: {x: [1]}\n"
    ) == Outer(
        name="a",
        kind="cold",
        inner=Inner(count=1, share=2.0),
        many=[Inner(count=2)],
        pair=(1.0, 2.5),
        words={"ON": 1.0},
        either=[1, 2],
        for_="5s",
        anything={"x": [1]},
    )


def test_every_mistake_has_its_line_what_was_seen_and_what_to_write():
    text = """\
name: 5
kind: wram
inner: {cuont: 1}
many:
  - {count: 1.5}
  - {count: true, share: .inf}
pair: [1, 2, 3]
words: {1: 2, a: b}
either: {a: 1}
"""
    with pytest.raises(DocumentError) as error:
        read(text)
    assert [(m.line, m.text, m.fix) for m in error.value.mistakes] == [
        (1, "name: 5 should be a text.", 'put it in quotes: "5"'),
        (
            2,
            "kind: 'wram' is not one of 'warm', 'cold'. Did you mean 'warm'?",
            "write one of these",
        ),
        (
            3,
            "inner.cuont: unknown key 'cuont'. Did you mean 'count'?",
            "allowed here: count, share",
        ),
        (3, "inner: the key 'count' is missing.", "add 'count: …'"),
        (
            5,
            "many[0].count: 1.5 should be a whole number.",
            "write a whole number",
        ),
        (6, "many[1].count: True should be a whole number.", "write a whole number"),
        (6, "many[1].share: inf is not a finite number.", "write a plain number"),
        (7, "pair: [1, 2, 3] should have 2 entries, not 3.", "write 2 entries"),
        (8, "words.a: 'b' should be a number.", _PLAIN),
        (8, "words[1]: the key 1 is not text.", "put it in quotes: '1'"),
        (9, "either: a block with 'a' should be a text or a list.", "change its shape"),
    ]


_PLAIN = "write a plain number without quotes or unit"


def test_a_later_file_is_laid_over_an_earlier_one():
    base = Document.parse("a: {x: 1, y: 2}\nb: [1, 2]\n", "base.yaml")
    over = Document.parse("extends: base.yaml\na: {y: 3}\nb: [4]\n", "over.yaml")
    both = over.over(base)
    assert both.data == {"a": {"x": 1, "y": 3}, "b": [4]}
    wrong = both.mistake(("a", "x"), "?")
    assert (wrong.path, wrong.line) == ("base.yaml", 1)
    wrong = both.mistake(("a", "y"), "?")
    assert (wrong.path, wrong.line) == ("", 2)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("aä:#'\"{}[]-,?! \n1.e|>&*%@`~\\yesno", max_size=12),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(st.text("abcxyz_", min_size=1), children, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text("abc_", min_size=1), PLAIN, max_size=4))
def test_what_is_written_reads_back_the_same(plain):
    def near(a, b):
        if isinstance(a, float) or isinstance(b, float):
            return math.isclose(a, b)
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(near(a[k], b[k]) for k in a)
        if isinstance(a, list):
            return len(a) == len(b) and all(map(near, a, b))
        return a == b and type(a) is type(b)

    read_back = Document.parse(dump(plain)).data or {}
    assert near(plain, read_back)


@given(st.text(max_size=80))
def test_no_text_breaks_the_reader(text):
    with contextlib.suppress(FileFormatError):
        Document.parse(text)
