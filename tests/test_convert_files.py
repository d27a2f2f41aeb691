"""Recordings cut, merged, filtered; written for other tools and read back."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from playground.cli import _run
from playground.convert import Redaction, cut, export, filtered, import_file, merge
from playground.errors import FileFormatError, PlaygroundError
from playground.message import KINDS, Message
from playground.recording import Recording, RecordingWriter
from playground.signals import Signal, Signals

START = 1_767_225_600 * 10**9
S = 10**9


def record(path: Path, messages, **metadata) -> Recording:
    path.unlink(missing_ok=True)
    with RecordingWriter(path, journal=False, metadata=metadata) as writer:
        for message in messages:
            writer.append(message)
    return Recording.open(path)


def at(seconds: float, topic: str = "a", payload: bytes = b"1", **more) -> Message:
    return Message(START + round(seconds * S), topic, payload, **more)


def said(recording: Recording) -> list[tuple[float, str, bytes]]:
    return [((m.time_ns - START) / S, m.topic, m.payload) for m in recording.messages()]


# cut


@pytest.fixture
def day(tmp_path) -> Recording:
    return record(
        tmp_path / "day.parquet",
        [
            at(0, "state", b"on", retain=True, qos=1),
            at(1, "gone", b"x", retain=True),
            at(2, "gone", b"", retain=True),
            at(3, "a", b"3"),
            at(4, "", b"", kind="connect", client="c"),
            at(5, "a", b"5"),
            at(6, "b", b"6"),
        ],
        broker="mqtt://x",
    )


def test_a_cut_begins_with_the_retained_state(day, tmp_path):
    part = cut(day, tmp_path / "p.parquet", start_ns=START + 4 * S)
    rows = list(part.messages(kinds=KINDS))
    assert [(m.kind, m.topic, m.payload, m.retain, m.qos) for m in rows] == [
        ("publish", "state", b"on", True, 1),
        ("connect", "", b"", False, 0),
        ("publish", "a", b"5", False, 0),
        ("publish", "b", b"6", False, 0),
    ]
    assert rows[0].time_ns == START + 4 * S
    assert part.metadata["retained_snapshot"] == [[0, 0]]
    assert part.metadata["broker"] == "mqtt://x"
    assert part.metadata["cut_from"]["sha256"] == day.sha256
    assert part.start_ns == START + 4 * S


def test_a_cut_is_half_open_and_chooses_topics(day, tmp_path):
    part = cut(
        day, tmp_path / "p.parquet", end_ns=START + 5 * S, topics=["a", "b", "state"]
    )
    assert [topic for _, topic, _ in said(part)] == ["state", "a"]


def test_cutting_twice_is_cutting_once(day, tmp_path):
    once = cut(day, tmp_path / "1.parquet", start_ns=START + 5 * S)
    first = cut(day, tmp_path / "2.parquet", start_ns=START + 3 * S)
    twice = cut(first, tmp_path / "3.parquet", start_ns=START + 5 * S)
    assert list(twice.messages(kinds=KINDS)) == list(once.messages(kinds=KINDS))


def test_an_empty_cut_is_refused_and_leaves_nothing(day, tmp_path):
    with pytest.raises(PlaygroundError, match="it reaches from 2026-01-01T00:00:00Z"):
        cut(day, tmp_path / "p.parquet", start_ns=START + 60 * S)
    with pytest.raises(PlaygroundError, match="not after the start"):
        cut(day, tmp_path / "p.parquet", start_ns=START, end_ns=START)
    assert [p.name for p in tmp_path.iterdir()] == ["day.parquet"]


# merge


def test_what_two_recorders_heard_is_there_once(tmp_path):
    a = record(tmp_path / "a.parquet", [at(0, "x", b"1"), at(1, "x", b"2")])
    b = record(
        tmp_path / "b.parquet",
        [at(0.01, "x", b"1"), at(1.02, "x", b"2"), at(2, "y", b"3")],
    )
    whole = merge([a, b], tmp_path / "m.parquet")
    assert said(whole) == [(0, "x", b"1"), (1, "x", b"2"), (2, "y", b"3")]
    assert [m["sha256"] for m in whole.metadata["merged_from"]] == [a.sha256, b.sha256]


def test_equal_messages_in_a_row_each_find_their_counterpart(tmp_path):
    a = record(tmp_path / "a.parquet", [at(i / 10, "x", b"on") for i in range(10)])
    b = record(
        tmp_path / "b.parquet",
        [at(i / 10 + 0.01, "x", b"on") for i in range(10) if i != 4],
    )
    assert merge([a, b], tmp_path / "m.parquet").count == 10
    assert merge([b, a], tmp_path / "n.parquet").count == 10


def test_the_same_message_much_later_is_another(tmp_path):
    a = record(tmp_path / "a.parquet", [at(0, "x", b"on")])
    b = record(tmp_path / "b.parquet", [at(5, "x", b"on")])
    assert merge([a, b], tmp_path / "m.parquet").count == 2
    assert merge([a, b], tmp_path / "n.parquet", within_s=10).count == 1


def test_three_recorders_are_merged_in_order_of_time(tmp_path):
    parts = [
        record(
            tmp_path / f"{part}.parquet",
            [at(i + part / 1000, "x", b"%d" % i) for i in range(20) if i % 3 != part],
        )
        for part in range(3)
    ]
    whole = merge(parts, tmp_path / "m.parquet")
    assert [payload for *_, payload in said(whole)] == [b"%d" % i for i in range(20)]
    times = [time for time, *_ in said(whole)]
    assert times == sorted(times)


def test_a_gap_that_the_other_heard_through_is_no_gap(tmp_path):
    def one(name, messages, gap):
        with RecordingWriter(
            tmp_path / name,
            journal=False,
            metadata={"filters": ["#"], "start_ns": START, "end_ns": START + 10 * S},
        ) as writer:
            for message in messages:
                writer.append(message)
            if gap:
                writer.gap(START + gap[0] * S, START + gap[1] * S, "away")
        return Recording.open(tmp_path / name)

    a = one("a.parquet", [at(0), at(9)], (1, 3))
    b = one("b.parquet", [at(0), at(2)], (5, 7))
    c = one("c.parquet", [at(0)], (6, 8))
    kinds = [
        m.kind for m in merge([a, b], tmp_path / "m.parquet").messages(kinds=KINDS)
    ]
    assert kinds.count("gap") == 0
    kinds = [
        m.kind for m in merge([b, c], tmp_path / "n.parquet").messages(kinds=KINDS)
    ]
    assert kinds.count("gap") == 2


def test_one_recording_is_nothing_to_merge(day, tmp_path):
    with pytest.raises(PlaygroundError, match="nothing to merge"):
        merge([day], tmp_path / "m.parquet")


# filter


def test_fields_are_dropped_and_hashed(tmp_path):
    payload = b'{"owner":"Ann","at":{"lat":1.5,"lon":2},"v":[{"id":"x","t":1}]}'
    source = record(
        tmp_path / "s.parquet", [at(0, "m/1", payload), at(1, "n", payload)]
    )
    redaction = Redaction.parse(["m/#:$.at", "$.v.*.t"], ["$.owner"], key="k")
    rest = filtered(source, tmp_path / "r.parquet", redaction=redaction)
    one, other = [json.loads(m.payload) for m in rest.messages()]
    assert set(one) == {"owner", "v"}
    assert one["v"] == [{"id": "x"}]
    assert other["at"] == {"lat": 1.5, "lon": 2}
    assert one["owner"] == other["owner"] != "Ann"
    assert "Ann" not in str(list(rest.messages()))


def test_payloads_that_cannot_be_cleaned_are_not_kept(tmp_path):
    source = record(tmp_path / "s.parquet", [at(0, "m", b"owner: Ann")])
    rest = filtered(
        source, tmp_path / "r.parquet", redaction=Redaction.parse(["$.owner"], [])
    )
    assert [m.payload for m in rest.messages()] == [b""]


def test_untouched_payloads_stay_byte_for_byte(tmp_path):
    odd = b'{ "a" : 1.50, "a":2 }'
    source = record(tmp_path / "s.parquet", [at(0, "m", odd)])
    rest = filtered(
        source, tmp_path / "r.parquet", redaction=Redaction.parse(["$.b"], [])
    )
    assert [m.payload for m in rest.messages()] == [odd]


def test_whole_payloads_can_be_dropped_and_hashed(tmp_path):
    source = record(tmp_path / "s.parquet", [at(0, "a", b"x"), at(1, "b", b"x")])
    redaction = Redaction.parse(["a"], ["b"])
    rest = filtered(source, tmp_path / "r.parquet", redaction=redaction)
    one, other = [m.payload for m in rest.messages()]
    assert one == b""
    assert len(other) == 16


def test_a_place_that_no_message_has_is_told(tmp_path, capsys):
    """Else one would believe that something was taken out."""
    record(
        tmp_path / "s.parquet",
        [at(0, "m", b'{"owner":"Ann","list":[1]}'), at(1, "n", b"no json")],
    )
    places = ["--drop", "owner", "--drop", "m:$.owner", "--hash", "m:$.ower"]
    code = _run(
        ["filter", f"{tmp_path}/s.parquet", "-o", f"{tmp_path}/r.parquet", *places]
    )
    assert code == 0
    notes = capsys.readouterr().err
    assert "nothing was found at 'owner'; a field of payloads is written '$.owner'" in (
        notes
    )
    assert "nothing was found at 'm:$.ower'" in notes
    assert "'m:$.owner'" not in notes


def test_topics_are_filtered(day, tmp_path):
    rest = filtered(day, tmp_path / "r.parquet", exclude=["gone", "state"])
    assert [topic for _, topic, _ in said(rest)] == ["a", "a", "b"]
    with pytest.raises(PlaygroundError, match="Nothing is left"):
        filtered(day, tmp_path / "n.parquet", exclude=["#"], topics=["zz"])


# export and import of the same

texts = st.one_of(
    st.text(
        st.characters(exclude_characters="+#\0", exclude_categories=["Cs"]),
        min_size=1,
        max_size=8,
    ),
    st.text('"\\, =/a', min_size=1, max_size=6),
)
payloads = st.one_of(
    st.binary(max_size=12),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12).map(str.encode),
    st.sampled_from(
        [b"21.50", b"-0", b"1e5", b"NaN", b"", b'{"a":1.50}', b"{}", b'"x"', b"true"]
    ),
)
messages_of = st.lists(
    st.tuples(
        texts,
        payloads,
        st.integers(0, 2),
        st.booleans(),
        st.sampled_from([None, "dev 1", "ä,=\\"]),
        st.sampled_from([None, '{"content_type":"text/plain"}']),
    ),
    min_size=1,
    max_size=6,
)
CSV_HEADER = "time,topic,payload,payload_base64,qos,retain,dup,client,properties,kind\n"
ALL = settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def session_of(drawn) -> list[Message]:
    return [
        Message(
            START + i * 1001,
            topic,
            payload,
            qos,
            retain,
            client=client,
            properties=properties,
        )
        for i, (topic, payload, qos, retain, client, properties) in enumerate(drawn)
    ]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "mcap"])
@ALL
@given(drawn=messages_of)
def test_everything_comes_back_from_formats_that_can_say_it(tmp_path, drawn, suffix):
    messages = session_of(drawn)
    source = record(tmp_path / "s.parquet", messages)
    export(source, tmp_path / f"x.{suffix}", format=suffix, overwrite=True)
    back = import_file(
        tmp_path / f"x.{suffix}", tmp_path / "b.parquet", overwrite=True
    ).recording
    assert list(back.messages()) == messages


def test_an_mcap_file_has_what_foxglove_asks_for(tmp_path):
    """Read by the reader of the MCAP project, without anything of ours."""
    reader_of = pytest.importorskip("mcap.reader").make_reader
    state = b'{"v":1.5,"on":true,"at":{"lat":1},"list":[1,2],"odd":[[1]],"no":null}'
    messages = [
        at(0, "", b"", kind="connect", client="plc"),
        at(1, "rig/state", state, client="plc", qos=1, retain=True),
        at(2, "rig/state", b'{"v":2}', client="plc", qos=1, retain=True),
        at(3, "rig/number", b"21.5", properties='{"content_type":"x"}'),
        at(4, "rig/text", "grün".encode()),
        at(5, "rig/binary", b"\xff\x00"),
    ]
    export(record(tmp_path / "s.parquet", messages), tmp_path / "x.mcap")
    with (tmp_path / "x.mcap").open("rb") as file:
        reader = reader_of(file, validate_crcs=True)
        summary = reader.get_summary()
        found = list(reader.iter_messages())
    # Foxglove wants an index: chunks, channels, statistics without reading all.
    assert summary is not None
    assert summary.statistics.message_count == len(messages)
    assert summary.statistics.message_start_time == START
    assert summary.chunk_indexes
    assert [m.log_time for _, _, m in found] == [m.time_ns for m in messages]
    told = {}
    for schema, channel, message in found:
        assert (schema.encoding, channel.message_encoding) == ("jsonschema", "json")
        shape = json.loads(schema.data)
        assert shape["type"] == "object"
        data = json.loads(message.data)
        assert set(shape["properties"]) <= set(data) or message.sequence == 2
        told.setdefault(channel.topic, (schema.name, shape["properties"], data))
    assert told["rig/state"][0] == "rig/state"
    assert told["rig/state"][1] == {
        "v": {"type": "number"},
        "on": {"type": "boolean"},
        "at": {"type": "object", "properties": {"lat": {"type": "number"}}},
        "list": {"type": "array", "items": {"type": "number"}},
    }
    assert told["rig/number"][2] == {"value": 21.5}
    assert told["rig/text"][2] == {"value": "grün"}
    assert told["rig/binary"][2] == {"base64": "/wA="}
    assert told["connect"][2] == {"value": ""}
    metadata = {c.topic: c.metadata for c in summary.channels.values()}
    assert metadata["rig/state"] == {
        "form": "json",
        "qos": "1",
        "retain": "true",
        "dup": "false",
        "kind": "publish",
        "client": "plc",
    }
    assert metadata["rig/number"]["properties"] == '{"content_type":"x"}'
    # A name of a schema stands for one shape.
    assert len({s.name for s in summary.schemas.values()}) == len(summary.schemas)


@ALL
@given(drawn=messages_of)
def test_line_protocol_keeps_all_but_properties(tmp_path, drawn):
    messages = [
        m._replace(properties=None)
        for m in session_of(drawn)
        # A tag cannot hold a line end.
        if "\n" not in m.topic and "\r" not in m.topic
    ]
    if not messages:
        return
    source = record(tmp_path / "s.parquet", messages)
    export(source, tmp_path / "x.lp", overwrite=True)
    back = import_file(
        tmp_path / "x.lp", tmp_path / "b.parquet", overwrite=True
    ).recording
    assert list(back.messages()) == messages


def test_session_events_travel_too(day, tmp_path):
    for suffix in ("csv", "jsonl", "mcap"):
        export(day, tmp_path / f"x.{suffix}", format=suffix)
        back = import_file(tmp_path / f"x.{suffix}", tmp_path / f"{suffix}.parquet")
        everything = list(day.messages(kinds=KINDS))
        assert list(back.recording.messages(kinds=KINDS)) == everything


def test_points_of_one_instant_stay_apart_in_line_protocol(tmp_path):
    source = record(tmp_path / "s.parquet", [at(0, "a", b"1"), at(0, "a", b"2")])
    report = export(source, tmp_path / "x.lp")
    lines = (tmp_path / "x.lp").read_text().splitlines()
    assert [int(line.rsplit(" ", 1)[1]) - START for line in lines] == [0, 1]
    assert "value=1.0" in lines[0]
    assert report.notes == ("1 points were moved by nanoseconds to stay apart",)


def test_numbers_of_json_become_fields_of_line_protocol(tmp_path):
    source = record(
        tmp_path / "s.parquet", [at(0, "rig", b'{"t":20.5,"in":{"x":1},"s":"on"}')]
    )
    export(source, tmp_path / "x.lp")
    line = (tmp_path / "x.lp").read_text()
    assert ",t=20.5,in.x=1.0 " in line


def test_lines_of_other_programs_become_a_topic_per_field(tmp_path):
    (tmp_path / "x.lp").write_text(
        "# comment\n"
        'weather,site=lab\\ 1 temp=21.5,on=t,n=3i,txt="a b" 1767225600000000000\n'
    )
    report = import_file(tmp_path / "x.lp", tmp_path / "o.parquet")
    assert said(report.recording) == [
        (0, "weather/lab 1/temp", b"21.5"),
        (0, "weather/lab 1/on", b"true"),
        (0, "weather/lab 1/n", b"3"),
        (0, "weather/lab 1/txt", b"a b"),
    ]


def test_messages_out_of_order_are_sorted_and_it_is_said(tmp_path):
    (tmp_path / "x.jsonl").write_text(
        '{"time":"2026-01-01T00:00:01Z","topic":"a","payload":"1"}\n'
        '{"time":"2026-01-01T00:00:00Z","topic":"a","payload":{"x":0}}\n'
    )
    report = import_file(tmp_path / "x.jsonl", tmp_path / "o.parquet")
    assert said(report.recording) == [(0, "a", b'{"x": 0}'), (1, "a", b"1")]
    assert "sorted" in report.notes[0]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "x.jsonl",
            '{"time":1,"topic":"a"}\n{"time":1}\n',
            "x.jsonl:2: the key 'topic'",
        ),
        ("x.jsonl", '{"time":1,"topic":"a","qox":1}\n', "Did you mean 'qos'"),
        ("x.jsonl", '{"time":1,"topic":"a/#"}\n', "1: Topic 'a/#' contains"),
        ("x.jsonl", '{"time":1,"topic":"a","payload_base64":"?"}\n', "x.jsonl:1: "),
        ("x.jsonl", "nonsense\n", "x.jsonl:1: "),
        ("x.lp", "a b c d\n", "x.lp:1: a line is"),
        ("x.lp", "m,t f=1 now\n", "x.lp:1: 't' has no '='"),
        ("x.lp", 'm f="a\nb" 1\nm f=1\n', "x.lp:3: a line is"),
        ("x.mcap", "nonsense", "not a readable MCAP file"),
        ("x.csv", CSV_HEADER + "noon,a,,,0,,,,,publish\n", "x.csv:2: "),
        ("x.csv", CSV_HEADER + "1,a,,,0,maybe,,,,publish\n", "2: retain is 'maybe'"),
        ("x.csv", CSV_HEADER + "1,a,,,7,,,,,publish\n", "2: QoS is '7'"),
        ("x.csv", CSV_HEADER + "1,a,b\n", "2: the row has more or fewer cells"),
    ],
)
def test_bad_files_are_refused_with_the_line(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(FileFormatError, match=words) as error:
        import_file(tmp_path / name, tmp_path / "o.parquet")
    assert error.value.fix
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_wide_table_holds_signals_in_their_unit(tmp_path):
    source = record(
        tmp_path / "s.parquet",
        [at(0, "t", b"205"), at(1, "t", b"210"), at(2, "h", b"1")],
    )
    signals = Signals(
        [
            Signal(name="temp", topic="t", unit="degC", role="measurement", scale=0.1),
            Signal(name="heat", topic="h", unit="1", role="command"),
        ]
    )
    export(source, tmp_path / "w.parquet", signals=signals, period_s=1.0)
    table = pq.read_table(tmp_path / "w.parquet")
    assert table.column("temp").to_pylist() == [20.5, 21.0, 21.0]
    export(source, tmp_path / "w.csv", signals=signals)
    rows = list(csv.DictReader((tmp_path / "w.csv").read_text().splitlines()))
    assert [row["temp"] for row in rows] == ["20.5", "21", "21"]
    assert rows[1]["time"] == "2026-01-01 00:00:01.000000000"


def test_a_wide_table_comes_back_as_an_import(tmp_path):
    source = record(tmp_path / "s.parquet", [at(0, "t", b"20.5"), at(1, "t", b"21.0")])
    signals = Signals([Signal(name="t", topic="t", unit="degC", role="measurement")])
    for name in ("w.parquet", "w.csv"):
        export(source, tmp_path / name, signals=signals)
        back = import_file(tmp_path / name, tmp_path / "o.parquet", overwrite=True)
        assert [time for time, *_ in said(back.recording)] == [0, 1]
        assert [float(p) for *_, p in said(back.recording)] == [20.5, 21.0]


def test_the_recorder_csv_is_read_by_the_tool_it_is_named_after(tmp_path):
    source = record(
        tmp_path / "s.parquet", [at(0, "a", b"\xff", qos=1), at(0.5, "b", b"x,\r\n")]
    )
    report = export(source, tmp_path / "x.csv")
    assert "base64" in report.notes[0]
    rows = list(csv.reader(io.StringIO((tmp_path / "x.csv").read_bytes().decode())))
    assert rows[0] == ["a", "/w==", "1", "False", "1767225600.0", "0.0"]
    assert rows[1][4:] == ["1767225600.5", "0.5"]
    report = export(source, tmp_path / "y.csv", encode=False)
    assert report.count == 1
    assert "1 messages are no text" in report.notes[0]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("x.xyz", {}, "does not tell the format"),
        ("x.csv", {"format": "jsonlines"}, "Did you mean 'jsonl'"),
        ("x.parquet", {}, "needs to know its columns"),
    ],
)
def test_a_wrong_export_is_refused_and_leaves_nothing(
    day, tmp_path, name, options, words
):
    with pytest.raises(PlaygroundError, match=words):
        export(day, tmp_path / name, **options)
    assert [p.name for p in tmp_path.iterdir()] == ["day.parquet"]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "mcap", "lp"])
def test_a_place_that_cannot_be_written_is_told(day, tmp_path, suffix):
    (tmp_path / "file").write_text("")
    with pytest.raises(PlaygroundError, match="cannot be written") as error:
        export(day, tmp_path / "file" / "below" / f"x.{suffix}")
    assert "Errno" not in str(error.value)


@pytest.mark.parametrize("verb", ["cut", "filter", "merge", "import"])
def test_a_recording_that_cannot_be_written_is_told_without_a_traceback(
    day, tmp_path, capsys, verb
):
    (tmp_path / "file").write_text("")
    export(day, tmp_path / "day.jsonl")
    source = tmp_path / ("day.jsonl" if verb == "import" else "day.parquet")
    sources = [str(source)] * (2 if verb == "merge" else 1)
    assert _run([verb, *sources, "-o", f"{tmp_path}/file/below/x.parquet"]) == 2
    errors = capsys.readouterr().err
    assert "x.parquet cannot be written: " in errors
    assert "Errno" not in errors


def test_a_wrong_place_in_a_recording_is_told_with_both_forms(day, tmp_path, capsys):
    out = str(tmp_path / "c.parquet")
    assert _run(["cut", day.paths[0], "-o", out, "--start", "21:24"]) == 2
    errors = capsys.readouterr().err
    assert "'21:24' is neither an instant nor a duration from the start" in errors
    assert "2026-01-31T08:00 (UTC), or 10min" in errors


def test_an_existing_file_is_not_replaced_unasked(day, tmp_path):
    export(day, tmp_path / "x.jsonl")
    with pytest.raises(PlaygroundError, match="exists already"):
        export(day, tmp_path / "x.jsonl")
    export(day, tmp_path / "x.jsonl", overwrite=True)


def test_without_mcap_the_message_says_what_to_install(day, tmp_path):
    program = (
        "import sys; sys.modules['mcap'] = None\n"
        "from playground.cli import main; main(sys.argv[1:])"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            "export",
            day.paths[0],
            "-o",
            str(tmp_path / "x.mcap"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install mcap" in done.stderr
    assert "Traceback" not in done.stderr


# The commands


def test_the_commands_do_what_the_functions_do(day, tmp_path, capsys):
    file, out = day.paths[0], tmp_path / "out"
    part = str(out / "p.parquet")
    assert _run(["cut", file, "-o", part, "--start", "4s", "-x", "b"]) == 0
    assert "3 of 7 rows" in capsys.readouterr().out
    assert _run(["merge", file, part, "-o", str(out / "m.parquet")]) == 0
    assert "were heard more than once" in capsys.readouterr().out
    assert _run(["filter", file, "-o", str(out / "f.parquet"), "-t", "a"]) == 0
    assert _run(["export", file, "-o", str(out / "x.jsonl")]) == 0
    assert "7 rows (jsonl)" in capsys.readouterr().out
    assert _run(["import", str(out / "x.jsonl"), "-o", str(out / "i.parquet")]) == 0
    assert _run(["diff", file, str(out / "i.parquet")]) == 0
