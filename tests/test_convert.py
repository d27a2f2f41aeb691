import base64
import csv
import io
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.convert import TableOptions, import_file
from playground.convert.recorder_csv import write_recorder_csv
from playground.errors import FileFormatError, PlaygroundError
from playground.message import Message

START = 1_767_225_600 * 10**9
S = 10**9


@pytest.fixture
def bring(tmp_path):
    """Writes a file, imports it, and returns the report."""

    def bring(text, name="in.csv", **options):
        source = tmp_path / name
        if isinstance(text, pa.Table):
            pq.write_table(text, source)
        else:
            source.write_bytes(text.encode() if isinstance(text, str) else text)
        return import_file(source, tmp_path / "out.parquet", **options)

    return bring


def said(report):
    return [
        ((m.time_ns - START) / S, m.topic, m.payload)
        for m in report.recording.messages()
    ]


# The CSV of mqtt-recorder


def recorder_row(topic, payload, qos=0, retain=False, time=START / S, delta=0.0):
    line = io.StringIO(newline="")
    csv.writer(line).writerow([topic, payload, qos, retain, time, delta])
    return line.getvalue()


def test_a_recorder_csv_keeps_topic_payload_qos_retain_and_time(bring):
    report = bring(
        recorder_row("a/b", '{"x":1,"y":"q\r\nz"}', 2, True, "1767225600.1234567")
        + recorder_row("ä", "", 0, False, "1767225601.5")
    )
    assert report.format == "mqtt-recorder"
    first, second = report.recording.messages()
    assert first[:5] == (
        START + 123_456_700, "a/b", b'{"x":1,"y":"q\r\nz"}', 2, True
    )  # fmt: skip
    assert second[:5] == (START + 1_500_000_000, "ä", b"", 0, False)
    assert report.notes == ()


def test_base64_payloads_are_recognised(bring):
    payloads = [b"\xff\x00", b"text", b"", b"21.5"]
    text = "".join(recorder_row("a", base64.b64encode(p).decode()) for p in payloads)
    report = bring(text)
    assert [m.payload for m in report.recording.messages()] == payloads
    assert "base64" in report.notes[0]


def test_words_that_are_base64_by_chance_stay_words(bring):
    report = bring(recorder_row("a", "true") + recorder_row("a", "1234"))
    assert [m.payload for m in report.recording.messages()] == [b"true", b"1234"]
    assert "--base64" in report.notes[0]


def test_whether_payloads_are_base64_can_be_said(bring):
    text = recorder_row("a", "true")
    report = bring(text, is_encoded=True)
    assert [m.payload for m in report.recording.messages()] == [b"\xb6\xbb\x9e"]
    report = bring(recorder_row("a", "MjEuNQ=="), is_encoded=False, overwrite=True)
    assert [m.payload for m in report.recording.messages()] == [b"MjEuNQ=="]


def test_a_clock_that_was_set_back_changes_no_order(bring):
    text = "".join(
        recorder_row("a", f"{i}.", time=START / S + second)
        for i, second in enumerate([0, 5, 2, 6])
    )
    report = bring(text)
    assert [time for time, *_ in said(report)] == [0, 5, 5, 6]
    assert [payload for *_, payload in said(report)] == [b"0.", b"1.", b"2.", b"3."]
    assert "set back" in report.notes[0]


def test_bytes_that_are_no_utf8_come_through(bring):
    report = bring(b"a,caf\xe9,0,False,1767225600.0,0.0\r\n")
    assert [m.payload for m in report.recording.messages()] == [b"caf\xe9"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a,x,0,False,1767225600.0", "2: the row has 5 cells"),
        ("a,x,3,False,1767225600.0,0", "2: QoS is '3'"),
        ("a,x,0,maybe,1767225600.0,0", "2: retain is 'maybe'"),
        ("a,x,0,False,noon,0", "2: 'noon' is not a time"),
        ("a,x,0,False,nan,0", "2: 'nan' is not a time"),
        ("a/#,x,0,False,1767225600.0,0", "2: Topic 'a/#' contains a wildcard"),
        (",x,0,False,1767225600.0,0", "2: Topic is empty"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_left(bring, tmp_path, row, words):
    with pytest.raises(FileFormatError, match=words) as error:
        bring("a,1.5,0,False,1767225600.0,0\r\n" + row + "\r\n")
    assert error.value.fix
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.csv"]


@given(
    rows=st.lists(
        st.tuples(
            st.text(
                st.characters(exclude_characters="+#\0", exclude_categories=["Cs"]),
                min_size=1,
                max_size=10,
            ),
            st.binary(max_size=20),
            st.integers(0, 2),
            st.booleans(),
            st.integers(0, 10**12),
        ),
        max_size=5,
    )
)
def test_what_is_written_as_recorder_csv_reads_back(tmp_path_factory, rows):
    messages = [
        Message(START + i, topic, payload, qos, retain)
        for i, (topic, payload, qos, retain, _) in enumerate(rows)
    ]
    folder = tmp_path_factory.mktemp("csv")
    with (folder / "x.csv").open("w", encoding="utf-8", newline="") as file:
        assert write_recorder_csv(messages, file, encode=True) == (len(rows), 0)
    if rows:
        report = import_file(
            folder / "x.csv",
            folder / "x.parquet",
            format="mqtt-recorder",
            is_encoded=True,
        )
        assert list(report.recording.messages()) == messages


# Tables


def test_a_long_csv_keeps_every_cell_as_it_is_written(bring):
    report = bring(
        "time,signal,value\n"
        "2026-01-01T00:00:00Z,T1,21.50\n"
        "2026-01-01T00:00:01.25Z,mode,ON\n"
        "2026-01-01T01:00:02+01:00,T1,1e3\n",
        table=TableOptions(topic_prefix="lab"),
    )
    assert said(report) == [
        (0, "lab/T1", b"21.50"),
        (1.25, "lab/mode", b"ON"),
        (2, "lab/T1", b"1e3"),
    ]


def test_value_num_and_value_text_are_one_payload(bring):
    table = pa.table(
        {
            "time": pa.array([0, 1, 2, 3], pa.timestamp("s", tz="UTC")),
            "topic": ["a", "b", "c", "d"],
            "value_num": pa.array([20.9, None, 3.0, None], pa.float32()),
            "value_text": ["", "ON", None, None],
        }
    )
    report = bring(table, "in.parquet")
    assert [(m.topic, m.payload) for m in report.recording.messages()] == [
        ("a", b"20.9"),
        ("b", b"ON"),
        ("c", b"3.0"),
    ]
    assert report.notes == ("1 rows without a value were left out",)


def test_numbers_become_the_shortest_text_that_reads_back():
    from playground.convert.render import render

    def texts(values, kind):
        return [
            None if text is None else text.decode()
            for text in render(pa.array(values, kind), "x").to_pylist()
        ]

    assert texts([21.0, 20.9, 0.1, 1e16, float("nan"), None], pa.float64()) == [
        "21.0", "20.9", "0.1", "1e+16", None, None
    ]  # fmt: skip
    assert texts([20.9, 21.0, 43.457], pa.float32()) == ["20.9", "21.0", "43.457"]
    assert texts([21, -3], pa.int16()) == ["21", "-3"]
    assert texts([True, False], pa.bool_()) == ["true", "false"]
    assert texts(["x", "ü"], pa.large_string()) == ["x", "ü"]
    with pytest.raises(FileFormatError, match="no plain text"):
        texts([[1]], pa.list_(pa.int64()))


@given(st.lists(st.floats(allow_nan=False, width=32), min_size=1))
def test_single_precision_reads_back(values):
    import numpy as np

    from playground.convert.render import render

    texts = render(pa.array(values, pa.float32()), "x").to_pylist()
    assert [np.float32(text.decode()) for text in texts] == values


def test_a_wide_table_is_one_topic_per_column(bring):
    table = pa.table(
        {"t_s": [0.0, 0.5], "T1": [20.0, 21.5], "Q1": pa.array([None, 30], pa.int32())}
    )
    report = bring(table, "in.parquet", table=TableOptions(topic_prefix="lab/"))
    assert said(report) == [
        (0, "lab/T1", b"20.0"),
        (0.5, "lab/T1", b"21.5"),
        (0.5, "lab/Q1", b"30"),
    ]
    assert report.notes == (
        "column 't_s' counts from the start of the session; 0 was set to "
        "2026-01-01T00:00:00Z (--start sets another)",
        "1 empty cells were left out",
    )


def test_a_start_sets_where_relative_times_begin(bring):
    report = bring("t_s,x\n10,1\n", table=TableOptions(start_ns=START + S))
    assert said(report) == [(11, "x", b"1")]


def test_chosen_columns_only(bring):
    options = TableOptions(columns=("b",))
    assert said(bring("t_s,a,b\n0,1,2\n", table=options)) == [(0, "b", b"2")]
    with pytest.raises(PlaygroundError, match="There is no column 'bb'"):
        bring("t_s,a,b\n0,1,2\n", table=TableOptions(columns=("bb",)), overwrite=True)


def test_a_wide_table_of_many_rows_keeps_the_order_of_its_cells(bring):
    rows, names = 4000, [f"s{i}" for i in range(100)]
    table = pa.table(
        {"t_s": [float(i) for i in range(rows)]}
        | {name: [f"{name}@{i}" for i in range(rows)] for name in names}
    )
    report = bring(table, "in.parquet")
    assert report.count == rows * 100
    expected = [f"{name}@{i}".encode() for i in range(rows) for name in names]
    assert (
        report.recording.table(columns=("payload",)).column(0).to_pylist() == expected
    )


@pytest.mark.parametrize("factor", [1, 10**3, 10**6, 10**9])
def test_numbers_of_any_usual_unit_since_1970_are_told_by_their_size(bring, factor):
    whole = 1_767_225_600 * factor
    report = bring(f"time,x\n{whole},1\n{whole + factor},2\n")
    assert [time for time, *_ in said(report)] == [0, 1]


def test_rows_out_of_order_are_sorted_and_rows_of_one_time_keep_theirs(bring):
    report = bring("t_s,topic,value\n1,a,1\n0,b,2\n1,c,3\n0,d,4\n")
    assert [topic for _, topic, _ in said(report)] == ["b", "d", "a", "c"]
    assert "sorted" in report.notes[1]


def test_flags_in_columns_are_taken_over(bring):
    report = bring("t_s,topic,payload,qos,retain\n0,a,x,1,true\n1,b,y,0,false\n")
    assert [(m.qos, m.retain) for m in report.recording.messages()] == [
        (1, True),
        (0, False),
    ]


def test_flags_can_be_set_for_all(bring):
    report = bring("t_s,x\n0,1\n", table=TableOptions(qos=2, retain=True))
    assert [(m.qos, m.retain) for m in report.recording.messages()] == [(2, True)]


def test_semicolons_and_tabs_separate_too(bring):
    assert said(bring("t_s;x;y\n0;1,5;2\n")) == [(0, "x", b"1,5"), (0, "y", b"2")]
    assert said(bring("t_s\tx\n0\t3\n", overwrite=True)) == [(0, "x", b"3")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("time,signal,value\n2026-01-01T00:00:00Z,a,1\nnoon,a,2\n", "Row 2: 'noon'"),
        ("time,signal,value\n,a,1\n", "Row 1 has no time"),
        ("time,signal,value\n2026-01-01T00:00:00Z,,1\n", "Row 1 has no signal"),
        ("t_s,signal,value\n0,ok,1\n1,a/+/b,1\n", "Row 2: Topic 'a/\\+/b'"),
        ("t_s,signal\n0,a\n", "none of values"),
        ("t_s\n0\n", "column of time and no other"),
        ("t_s,a,b\n0,1\n", "not a CSV table"),
        ("t_s,topic,value,qos\n0,a,1,7\n", "'qos' holds 7"),
        ("x,y\n1,2\n", "cannot be told by its first line"),
        ("", "is empty"),
    ],
)
def test_a_bad_table_is_refused_with_the_row(bring, tmp_path, text, words):
    with pytest.raises(FileFormatError, match=words) as error:
        bring(text)
    assert error.value.fix
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.csv"]


def test_a_table_without_time_lists_its_columns(bring):
    with pytest.raises(FileFormatError, match="its columns are a, b"):
        bring(pa.table({"a": [1], "b": [2]}), "in.parquet")


def test_a_broken_parquet_file_is_refused(bring):
    with pytest.raises(FileFormatError, match="not a Parquet file") as error:
        bring(b"PAR1 nonsense", "in.parquet")
    assert error.value.fix


def test_a_missing_file_is_named_with_the_nearest(tmp_path: Path):
    (tmp_path / "session.csv").write_text("x")
    with pytest.raises(FileFormatError, match=r"session\.csv"):
        import_file(tmp_path / "sesion.csv", tmp_path / "out.parquet")


def test_an_unknown_format_is_refused_with_the_nearest(bring):
    with pytest.raises(PlaygroundError, match="mqtt-recorder"):
        bring("t_s,x\n0,1\n", format="mqttrecorder")


def test_an_existing_recording_is_not_replaced_unasked(bring):
    bring("t_s,x\n0,1\n")
    with pytest.raises(PlaygroundError, match="exists"):
        bring("t_s,x\n0,2\n")
    assert said(bring("t_s,x\n0,2\n", overwrite=True)) == [(0, "x", b"2")]


def test_the_heat_pump_messages_come_in_whole(data_dir, tmp_path):
    report = import_file(
        data_dir / "altherma_ha" / "messages.parquet",
        tmp_path / "a.parquet",
        table=TableOptions(topic_prefix="altherma"),
    )
    assert (report.count, report.topics) == (29_671, 25)
    first = next(iter(report.recording.messages(topics=["altherma/DHW Temp"])))
    assert first.payload == b"43.9"
    assert datetime.fromtimestamp(first.time_ns / 1e9, UTC).isoformat() == (
        "2024-10-09T04:00:07+00:00"
    )


def test_the_temperature_lab_comes_in_as_signals(data_dir, tmp_path):
    report = import_file(
        data_dir / "tclab_mimo" / "prbs.parquet", tmp_path / "t.parquet"
    )
    assert (report.count, report.topics) == (20_400, 4)
