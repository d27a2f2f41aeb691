import dataclasses
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.document import Document, DocumentError
from playground.errors import FileFormatError, PlaygroundError
from playground.signals import Publication, Signal, Signals
from playground.signals_file import load_signals, read_signals


def signal(**changes):
    facts = {"name": "t", "topic": "lab/t", "unit": "degC", "role": "measurement"}
    return Signal(**(facts | changes))


def test_a_bare_payload_is_a_number():
    assert signal().decode(b" 21.5\n") == 21.5
    assert signal().encode(21.5) == b"21.5"


@pytest.mark.parametrize("payload", [b"", b"warm", b"\xff\xfe", b"[1]", b"nan"])
def test_a_payload_without_a_number_is_not_valid_rather_than_an_error(payload):
    assert math.isnan(signal().decode(payload))


def test_a_json_payload_is_read_along_its_path():
    payload = json.dumps(
        {"2023": 503, "a": {"b": [{"c": 1.5}]}, "x.y": 2, "on": True, "s": "7"}
    ).encode()
    found = {
        path: signal(path=path).decode(payload)
        for path in ("2023", "a.b[0].c", "$.a.b[0].c", "x.y", "on", "s", "no", "a.b[9]")
    }
    assert found == {
        "2023": 503,
        "a.b[0].c": 1.5,
        "$.a.b[0].c": 1.5,
        "x.y": 2,
        "on": 1,
        "s": 7,
        "no": None,
        "a.b[9]": None,
    }


def test_a_payload_that_is_not_json_names_no_signal():
    assert signal(path="2023").decode(b"\xff{") is None


def test_a_register_that_carries_a_negative_number_reads_negative():
    absent = signal(path="2103", type="int16", scale=0.1)
    assert absent.decode(b'{"2103":65507}') == pytest.approx(-2.9)
    assert absent.encode(-2.9) == b'{"2103":65507}'
    assert signal(path="2103", type="uint16", scale=0.1).decode(b'{"2103":65507}') == (
        pytest.approx(6550.7)
    )


def test_what_the_meter_marks_as_not_valid_is_not_zero():
    power = signal(path="P", unit="W", invalid=("0.000E+99",))
    assert math.isnan(power.decode(b'{"P":0.000E+99}'))
    assert power.decode(b'{"P":0.000E+00}') == 0.0


def test_words_stand_for_numbers():
    state = signal(unit="1", values={"ON": 1, "OFF": 0})
    assert [state.decode(p) for p in (b"ON", b"OFF", b"0.5")] == [1, 0, 0.5]
    assert (state.encode(1), state.encode(0.5)) == (b"ON", b"0.5")


@given(st.integers(-32_768, 32_767), st.sampled_from([1.0, 0.1, 0.01]))
def test_a_signed_register_survives_the_wire(raw, scale):
    register = signal(path="r", type="int16", scale=scale, offset=3)
    value = raw * scale + 3
    assert register.decode(register.encode(value)) == pytest.approx(value, abs=1e-9)


@given(st.floats(-1e6, 1e6))
def test_a_float_survives_the_wire_to_ten_digits(value):
    read = signal().decode(signal().encode(value))
    assert math.isclose(read, value, rel_tol=1e-9, abs_tol=1e-300)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_bare_number_is_written_as_python_writes_it(value):
    assert signal().encode(value) == repr(float(f"{value:.10g}")).encode()


def test_several_signals_of_one_payload_are_read_together():
    signals = Signals(
        [
            signal(name="inlet", topic="m", path="2023", scale=0.1),
            signal(name="outlet", topic="m", path="2024", scale=0.1),
            signal(name="other", topic="x"),
        ]
    )
    assert signals.decode("m", b'{"2023":503,"2024":null}') == [
        ("inlet", pytest.approx(50.3)),
        ("outlet", pytest.approx(math.nan, nan_ok=True)),
    ]
    assert signals.decode("unknown", b"1") == []


def test_a_publication_writes_its_fields_then_its_signals():
    signals = Signals(
        [
            signal(name="inlet", topic="m", path="2023", scale=0.1, type="uint16"),
            signal(name="deep", topic="m", path="a.b"),
        ]
    )
    publication = Publication(
        topic="m",
        signals=("inlet", "deep"),
        period_s=5.015,
        fields={"device": "0"},
        timestamp="timestamp",
    )
    payload = signals.encode(
        publication, {"inlet": 50.3, "deep": math.nan}, 1_769_224_800_500_000_000
    )
    assert payload == (
        b'{"timestamp":1769224800.5,"device":"0","2023":503,"a":{"b":null}}'
    )


def test_topics_nobody_declared_a_message_for_get_one_per_step():
    signals = Signals(
        [
            signal(name="a", topic="m", path="a"),
            signal(name="b", topic="m", path="b"),
            signal(name="c", topic="c"),
            signal(name="u", topic="u", role="command"),
        ],
        [Publication(topic="c", signals=("c",), period_s=9)],
    )
    assert [
        (p.topic, p.signals, p.period_s) for p in signals.publications_every(2)
    ] == [
        ("c", ("c",), 9),
        ("m", ("a", "b"), 2),
    ]


def test_an_unknown_signal_is_refused_with_the_nearest_name():
    with pytest.raises(PlaygroundError, match=r"'tank_tmp'.*Did you mean 'tank_temp'"):
        Signals([signal(name="tank_temp")]).need("tank_tmp")


def test_two_signals_of_one_name_are_refused():
    with pytest.raises(PlaygroundError, match="Two signals are called 't'"):
        Signals([signal(), signal()])


GOOD = """\
version: "1.0"
signals:
  inlet: {topic: m, path: "2023", unit: degC, scale: 0.1, type: int16, role: measurement}
  valve: {topic: valve/write, unit: "1", role: command, range: [0, 1], initial: 1}
publications:
  - {topic: m, signals: [inlet], period: 5.015 s, retain: true, fields: {device: "0"}}
"""


def test_a_signals_file_is_read(tmp_path):
    path = tmp_path / "lab.yaml"
    path.write_text(GOOD)
    signals = load_signals(path)
    assert list(signals) == ["inlet", "valve"]
    assert signals["valve"].range == (0, 1)
    assert signals.publications[0].period_s == pytest.approx(5.015)


BAD = """\
version: "1.0"
signals:
  inlet: {topic: m, unit: degc, role: measurement}
  outlet: {topic: m, role: measurement}
  valve: {topic: "a/#", unit: "1", role: comand}
  pump: {topik: p, topic: p, unit: "1", role: command}
  7up: {topic: p, unit: "1", role: command, scale: 0}
  flow: nothing
  tank: {topic: t, unit: degC, role: measurement, max_age: 30}
  back: {topic: t, unit: degC, role: measurement, max_age: 0s}
publications:
  - {topic: m, signals: [inlt], period: 5 s}
  - {topic: m, signals: [inlet], period: 5}
colour: red
"""


def test_every_mistake_of_a_signals_file_is_reported_with_its_line():
    with pytest.raises(DocumentError) as error:
        read_signals(Document.parse(BAD, "lab.yaml"))
    text = str(error.value)
    for part in (
        "lab.yaml:3: signals.inlet: 'degc' is not a unit. Did you mean 'degC'?",
        "lab.yaml:4: signals.outlet: the key 'unit' is missing.",
        "lab.yaml:5: signals.valve.role: 'comand' is not one of",
        "Did you mean 'command'?",
        "lab.yaml:6: signals.pump.topik: unknown key 'topik'. Did you mean 'topic'?",
        "lab.yaml:7: signals.7up: '7up' cannot be used as a name",
        "lab.yaml:7: signals.7up: Signal '7up' has scale 0",
        "lab.yaml:8: signals.flow: 'nothing' is not a block",
        "lab.yaml:9: signals.tank.max_age",
        "lab.yaml:10: signals.back: Signal 'back' has max_age 0s",
        "lab.yaml:12: publications[0]: there is no signal 'inlt'. Did you mean 'inlet'?",
        "lab.yaml:13: publications[1]",
        "lab.yaml:14: colour: unknown key",
    ):
        assert part in text, text


def test_every_key_of_a_signal_is_documented():
    page = (Path(__file__).parent.parent / "docs" / "learning.md").read_text()
    for field in dataclasses.fields(Signal):
        assert field.name == "name" or f"| `{field.name}` |" in page, field.name


@pytest.mark.parametrize(
    "text", ["", "3", "a: b", "signals: []", "signals: {a: {topic: t", "\t- x"]
)
def test_a_file_that_is_no_signals_file_is_refused(text):
    with pytest.raises(FileFormatError):
        read_signals(Document.parse(text, "x.yaml"))


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"scale": 0.1},
        {"offset": -3.0},
        {"type": "int"},
        {"values": {"on": 1.0, "off": 0.0}},
        {"path": "a.b"},
    ],
    ids=str,
)
@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 20.25, 1e-7, 1e22, math.nan])
def test_an_encoder_writes_what_encode_writes(facts, value):
    signal = Signal(name="x", topic="t", unit="1", role="measurement", **facts)
    assert signal.encoder()(value) == signal.encode(value)
    signals = Signals([signal])
    for publication in signals.publications_every(1.0):
        made = signals.encoder(publication)({"x": value}, 5)
        assert made == signals.encode(publication, {"x": value}, 5)


numbers = st.one_of(
    st.floats(allow_nan=True, allow_infinity=False),
    st.integers(-70_000, 70_000).map(float),
    st.sampled_from([0.0, -0.0, 1e-7, 1e16, 503.0, 1.8e307]),
)


@given(
    values=st.lists(numbers, min_size=4, max_size=4),
    order=st.permutations(["a", "b", "c", "d"]),
    timestamp=st.sampled_from([None, "ts", "new"]),
)
def test_a_json_encoder_writes_what_encode_writes(values, order, timestamp):
    signals = Signals(
        [
            signal(name="a", path="a"),
            signal(name="b", path="deep.b%", scale=0.1, type="int16"),
            signal(name="c", path="2023", type="uint16"),
            signal(name="d", path="d", values={"on%s": 1.0, "off": 0.0}),
        ]
    )
    publication = Publication(
        topic="lab/t",
        signals=tuple(order),
        period_s=1.0,
        fields={"ts": 0, "50 %": "%s", "2023": 7, "text": 'a "quoted" word'},
        timestamp=timestamp,
    )
    told = dict(zip("abcd", values, strict=True))
    now_ns = 1_767_225_600_123_456_789
    expected = signals.encode(publication, told, now_ns)
    assert signals.encoder(publication)(told, now_ns) == expected
    assert signals.encoder_of_all([publication, publication])(told, now_ns) == (
        [expected, expected]
    )


@given(values=st.lists(numbers, min_size=3, max_size=3))
def test_numbers_that_are_written_together_are_written_as_each_alone(values):
    signals = Signals([signal(name=name, topic=f"lab/{name}") for name in "abc"])
    publications = signals.publications_every(1.0)
    told = dict(zip("abc", values, strict=True))
    assert signals.encoder_of_all(publications)(told, 0) == [
        signals.encode(publication, told, 0) for publication in publications
    ]
