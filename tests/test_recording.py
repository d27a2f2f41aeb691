"""Writing and reading recordings; what survives a crash is in the other files."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import random
import struct
import sys
import threading
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.errors import ExitCode, FileFormatError, PlaygroundError
from playground.message import KINDS, LONGEST_TOPIC, Message
from playground.recording import (
    COLUMNS,
    SCHEMA,
    Recording,
    RecordingWriter,
    content_hash,
    sealing,
)
from playground.recording import sealed as sealed_module
from playground.signals import Signal

START = 1_767_225_600 * 10**9
SECOND = 10**9

topics = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"),
    min_size=1,
    max_size=40,
)
payloads = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\0", b"a\r\nb\r\n", b"\xff\xfe\x80", b"0.42", b'{"a": 1}']),
)
messages = st.lists(
    st.builds(
        Message,
        time_ns=st.integers(-(2**63), 2**63 - 1),
        topic=topics,
        payload=payloads,
        qos=st.integers(0, 2),
        retain=st.booleans(),
        dup=st.booleans(),
        client=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
        properties=st.none() | st.sampled_from(['{"a":"ü"}', ""]),
        kind=st.sampled_from(KINDS),
    ),
    max_size=40,
)


def some(count: int, *, period_ns: int = SECOND, topic_count: int = 3) -> list[Message]:
    return [
        Message(
            START + number * period_ns,
            f"lab/{number % topic_count}",
            b'{"v": %d}' % number,
            qos=number % 3,
            retain=number % 2 == 0,
            client=None if number % 5 else "rig",
        )
        for number in range(count)
    ]


def write(path: Path, rows: list[Message], **options: object) -> Recording:
    with RecordingWriter(path, **options) as writer:  # type: ignore[arg-type]
        for message in rows:
            writer.append(message)
    return writer.close()


@pytest.mark.parametrize("journal", [True, False])
@given(rows=messages)
@settings(max_examples=60, deadline=None)
def test_what_was_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Message], journal: bool
) -> None:
    path = tmp_path_factory.mktemp("identity") / "r.parquet"
    recording = write(path, rows, journal=journal, sync_s=None)
    assert list(recording.messages(kinds=KINDS)) == rows
    assert recording.sha256 == content_hash(rows) == recording.verify()
    assert recording.table(kinds=KINDS).column("seq").to_pylist() == list(
        range(len(rows))
    )


@pytest.mark.parametrize("journal", [True, False])
def test_payloads_and_topics_of_every_legal_shape_survive(
    tmp_path: Path, journal: bool
) -> None:
    every_byte = bytes(range(256))
    rows = [
        Message(START, "a", every_byte),
        Message(START, "a", b""),
        Message(START, "a", every_byte * 4096),
        Message(START, "a", b"\0" * 1_000_000),
        Message(START, "x" * LONGEST_TOPIC, b"longest topic"),
        Message(START, " ", b"\r\n"),
        Message(START, "/", b"\xc3\x28"),
        Message(START, "$SYS/x", b"1"),
        Message(START, "\U0001f525/\uffff/é\x01", b"1"),
        Message(START, "a", b"1", client="", properties=""),
    ]
    recording = write(tmp_path / "r.parquet", rows, journal=journal)
    assert list(recording.messages()) == rows


def test_a_recording_larger_than_a_row_group_and_a_block_survives(
    tmp_path: Path,
) -> None:
    rows = [
        *some(70_000, topic_count=7),
        Message(START, "big", b"\1" * 20_000_000),
        *some(20),
    ]
    recording = write(tmp_path / "r.parquet", rows, sync_s=None)
    assert recording.parts[0].groups > 2
    assert list(recording.messages()) == rows
    again = write(tmp_path / "s.parquet", rows, journal=False)
    assert again.sha256 == recording.sha256 == content_hash(rows)


def test_a_higher_level_of_compression_is_used_only_where_it_gains_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[int] = []
    real = sealing.level_of_compression

    def choose(sample: pa.Buffer) -> int:
        chosen.append(real(sample))
        return chosen[-1]

    draw = random.Random(1).uniform
    noise = [b'{"a":%.3f,"b":%.3f}' % (draw(0, 999), draw(0, 999)) for _ in range(9000)]
    slow = [
        json.dumps(
            {"at": 1_769_224_800.5 + n / 100}
            | {f"U{k}": round(200 + math.sin(n / 50_000 + k), 2) for k in range(7)}
        ).encode()
        for n in range(9000)
    ]
    for payloads in (noise, slow):
        rows = [Message(START + n, "t", text) for n, text in enumerate(payloads)]
        sizes = []
        for level in (choose, lambda sample: 3):
            with monkeypatch.context() as patched:
                patched.setattr(sealing, "level_of_compression", level)
                options = {"journal": False, "overwrite": True}
                recording = write(tmp_path / "r.parquet", rows, **options)
            assert list(recording.messages()) == rows
            sizes.append(recording.parts[0].size)
        assert sizes[0] <= 1.02 * sizes[1]
    assert chosen == [1, 3]


def test_the_schema_is_the_contract(tmp_path: Path) -> None:
    recording = write(tmp_path / "r.parquet", some(10))
    schema = pq.read_schema(recording.paths[0])
    assert schema.remove_metadata() == SCHEMA
    assert [str(field.type) for field in schema] == [
        "timestamp[ns, tz=UTC]",
        "int64",
        "dictionary<values=string, indices=int32, ordered=0>",
        "dictionary<values=string, indices=int32, ordered=0>",
        "binary",
        "uint8",
        "bool",
        "bool",
        "dictionary<values=string, indices=int32, ordered=0>",
        "string",
    ]
    assert tuple(schema.names) == COLUMNS


def test_the_sealed_file_is_laid_out_as_the_page_of_the_format_says(
    tmp_path: Path,
) -> None:
    path = Path(write(tmp_path / "r.parquet", some(2000)).paths[0])
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = {
        group.column(n).path_in_schema: group.column(n)
        for n in range(group.num_columns)
    }
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    for name in ("time", "seq"):
        assert "DELTA_BINARY_PACKED" in columns[name].encodings
    for name in ("kind", "topic", "client"):
        assert columns[name].has_dictionary_page
    for name in ("time", "seq", "kind", "topic"):
        assert columns[name].is_stats_set
    # Page checksums: another program that looks at them finds a flipped byte.
    data = bytearray(path.read_bytes())
    payload = columns["payload"]
    place = payload.data_page_offset + payload.total_compressed_size // 2
    data[place] ^= 1
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(data)
    with pytest.raises(OSError, match=r"CRC|checksum"):
        pq.read_table(damaged, page_checksum_verification=True, columns=["payload"])


def test_pandas_polars_and_duckdb_read_the_file_as_it_is(tmp_path: Path) -> None:
    rows = some(1000)
    path = Path(write(tmp_path / "r.parquet", rows).paths[0])
    expected = [(m.time_ns, m.topic, m.payload, m.qos, m.retain) for m in rows]

    frame = pd.read_parquet(path)
    assert list(frame.columns) == list(COLUMNS)
    assert (
        list(
            zip(
                frame["time"].astype("int64"),
                frame["topic"],
                frame["payload"],
                frame["qos"],
                frame["retain"],
                strict=True,
            )
        )
        == expected
    )
    assert str(frame["time"].dt.tz) == "UTC"

    table = pl.read_parquet(path)
    assert (
        list(
            zip(
                table["time"].dt.timestamp("ns"),
                table["topic"].cast(pl.String),
                table["payload"],
                table["qos"],
                table["retain"],
                strict=True,
            )
        )
        == expected
    )

    found = duckdb.sql(
        "select epoch_ns(time::timestamp_ns), topic, payload, qos, retain "
        f"from '{path}' order by seq"
    ).fetchall()
    assert found == expected


def test_metadata_may_be_amended_until_close(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    with RecordingWriter(path, metadata={"broker": "mqtt://lab"}) as writer:
        writer.append(some(1)[0])
        writer.metadata["filters"] = ["a/#"]
        writer.metadata["note"] = {"who": "Zoë"}
    recording = Recording.open(path)
    assert recording.metadata["broker"] == "mqtt://lab"
    assert recording.metadata["filters"] == ["a/#"]
    assert recording.metadata["note"] == {"who": "Zoë"}
    assert recording.metadata["format_version"] == 1
    assert recording.metadata["count"] == 1
    assert recording.metadata["writer"].startswith("mqtt-playground ")
    raw = pq.read_metadata(path).metadata
    assert json.loads(raw[b"playground.broker"]) == "mqtt://lab"


def test_metadata_copied_from_another_recording_does_not_lie(tmp_path: Path) -> None:
    first = write(tmp_path / "a.parquet", some(10))
    second = write(
        tmp_path / "b.parquet", some(3), metadata=first.metadata, journal=False
    )
    assert second.metadata["count"] == 3
    assert second.metadata["sha256"] == content_hash(some(3)) == second.verify()


def test_session_bounds_come_from_the_metadata_else_from_the_messages(
    tmp_path: Path,
) -> None:
    rows = some(10)
    plain = write(tmp_path / "a.parquet", rows)
    assert (plain.start_ns, plain.end_ns) == (START, START + 9 * SECOND)
    told = write(
        tmp_path / "b.parquet",
        rows,
        metadata={"start_ns": START - 5, "end_ns": START + 10 * SECOND},
    )
    assert (told.start_ns, told.end_ns) == (START - 5, START + 10 * SECOND)
    empty = write(tmp_path / "c.parquet", [])
    assert (empty.count, empty.start_ns, empty.end_ns) == (0, 0, 0)
    assert list(empty.messages()) == []
    assert empty.table().num_rows == 0
    assert empty.summary().topics == ()


# Queries


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recording, list[Message]]:
    path = tmp_path_factory.mktemp("long") / "r.parquet"
    rows = some(1000, topic_count=5)
    rows[500] = Message(START + 500 * SECOND, "$SYS/load", b"7")
    rows[700] = Message(START + 700 * SECOND, "", b"{}", kind="gap")
    rows[800] = Message(START + 800 * SECOND, "lab/#", b"", kind="subscribe")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealing, "ROWS", 64)
        return write(path, rows, journal=False), rows


def test_time_is_half_open(long: tuple[Recording, list[Message]]) -> None:
    recording, rows = long
    found = list(
        recording.messages(start_ns=rows[100].time_ns, end_ns=rows[200].time_ns)
    )
    assert found == rows[100:200]
    assert (
        list(recording.messages(start_ns=rows[5].time_ns, end_ns=rows[5].time_ns)) == []
    )


@given(
    start=st.none() | st.integers(-10, 1010),
    end=st.none() | st.integers(-10, 1010),
    wanted=st.sampled_from(
        [(), ("lab/#",), ("lab/1",), ("+/2", "lab/3"), ("#",), ("$SYS/#",), ("no",)]
    ),
    without=st.sampled_from([(), ("lab/1",), ("+/+",)]),
    kinds=st.sampled_from([("publish",), KINDS, ("gap",), ("publish", "subscribe")]),
)
@settings(max_examples=150, deadline=None)
def test_every_query_is_what_a_loop_over_all_messages_finds(
    long: tuple[Recording, list[Message]],
    start: int | None,
    end: int | None,
    wanted: tuple[str, ...],
    without: tuple[str, ...],
    kinds: tuple[str, ...],
) -> None:
    from playground.message import matches

    recording, rows = long
    start_ns = None if start is None else START + start * SECOND
    end_ns = None if end is None else START + end * SECOND
    expected = [
        m
        for m in rows
        if m.kind in kinds
        and (start_ns is None or m.time_ns >= start_ns)
        and (end_ns is None or m.time_ns < end_ns)
        and (not m.topic or not wanted or any(matches(f, m.topic) for f in wanted))
        and not (m.topic and any(matches(f, m.topic) for f in without))
    ]
    arguments = (wanted, without, start_ns, end_ns, kinds)
    assert list(recording.messages(*arguments)) == expected
    table = recording.table(*arguments, columns=["topic", "time"])
    assert table.column_names == ["topic", "time"]
    assert table.column("topic").to_pylist() == [m.topic for m in expected]


def test_row_groups_that_cannot_match_are_not_read(
    long: tuple[Recording, list[Message]], monkeypatch: pytest.MonkeyPatch
) -> None:
    recording, rows = long
    read: list[tuple[int, tuple[str, ...]]] = []
    original = sealed_module.GroupReader.read

    def spy(
        self: sealed_module.GroupReader, group: int, columns: tuple[str, ...] = COLUMNS
    ) -> pa.Table:
        read.append((group, tuple(columns)))
        return original(self, group, columns)

    monkeypatch.setattr(sealed_module.GroupReader, "read", spy)
    assert len(
        list(recording.messages(start_ns=rows[130].time_ns, end_ns=rows[140].time_ns))
    )
    assert {group for group, _ in read} == {2}
    read.clear()
    assert list(recording.messages(["zzz"])) == []
    assert read == []
    assert list(recording.messages(["zzz/#"])) == []
    assert read
    assert all("payload" not in columns for _, columns in read)


def test_wrong_arguments_of_a_query_are_named(
    long: tuple[Recording, list[Message]],
) -> None:
    recording, _ = long
    with pytest.raises(PlaygroundError, match=r"'publsh' is not a kind.*'publish'"):
        list(recording.messages(kinds=["publsh"]))
    with pytest.raises(PlaygroundError, match=r"'pyload' is not a column.*'payload'"):
        recording.table(columns=["pyload"])
    with pytest.raises(PlaygroundError, match="not 'lab/1'"):
        list(recording.messages("lab/1"))
    assert list(recording.messages(["a", "b"], exclude=["c", "d"])) == []
    with pytest.raises(PlaygroundError, match="not 'publish'"):
        list(recording.messages(kinds="publish"))
    with pytest.raises(PlaygroundError, match="shares one"):
        list(recording.messages(["lab/a+"]))


# Writing


def test_numbers_that_were_skipped_are_losses(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    with RecordingWriter(path) as writer:
        assert writer.append(some(1)[0]) == 0
        writer.skip(5)
        assert writer.append(some(1)[0]) == 6
        writer.skip(2)
        assert writer.count == 2
    recording = Recording.open(path)
    assert recording.table().column("seq").to_pylist() == [0, 6]
    assert recording.summary().losses == 7
    assert any("7 messages were lost" in text for text in recording.summary().warnings)


def test_a_gap_is_a_row_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    with RecordingWriter(path) as writer:
        writer.append(some(1)[0])
        writer.gap(START + 1, START + 2 * SECOND, "broker went away")
    recording = Recording.open(path)
    assert len(list(recording.messages())) == 1
    (gap,) = recording.messages(kinds=["gap"])
    assert gap.time_ns == START + 2 * SECOND
    (told,) = recording.summary().gaps
    assert (told.start_ns, told.end_ns) == (START + 1, START + 2 * SECOND)
    assert told.reason == "broker went away"


@pytest.mark.parametrize("journal", [True, False])
def test_an_existing_recording_is_not_overwritten_unasked(
    tmp_path: Path, journal: bool
) -> None:
    path = tmp_path / "r.parquet"
    write(path, some(10))
    before = path.read_bytes()
    with pytest.raises(PlaygroundError, match="--overwrite"):
        RecordingWriter(path, journal=journal)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.parquet"]
    recording = write(path, some(3), journal=journal, overwrite=True)
    assert recording.count == Recording.open(path).count == 3


def test_a_target_that_appears_while_recording_is_not_overwritten(
    tmp_path: Path,
) -> None:
    path = tmp_path / "r.parquet"
    writer = RecordingWriter(path)
    writer.append(some(1)[0])
    path.write_bytes(b"precious")
    with pytest.raises(PlaygroundError, match="kept in"):
        writer.close()
    assert path.read_bytes() == b"precious"
    assert (tmp_path / "r.parquet.journal").exists()


def test_the_old_recording_stays_until_the_new_one_is_sealed(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    write(path, some(10))
    with RecordingWriter(path, overwrite=True) as writer:
        writer.append(some(1)[0])
        assert Recording.open(path).count == 10
    assert Recording.open(path).count == 1


def _record_and_fail(path: Path, error: type[BaseException], *, journal: bool) -> None:
    with RecordingWriter(path, journal=journal) as writer:
        for message in some(20_000):
            writer.append(message)
        raise error


def test_an_exception_without_journal_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    with pytest.raises(ZeroDivisionError):
        _record_and_fail(path, ZeroDivisionError, journal=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_exception_with_journal_seals_what_is_there(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "r.parquet"
    with pytest.raises(error):
        _record_and_fail(path, error, journal=True)
    assert list(Recording.open(path).messages()) == some(20_000)
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.parquet"]


def test_a_failure_while_sealing_leaves_the_journal_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.parquet"
    writer = RecordingWriter(path)
    for message in some(100):
        writer.append(message)

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(sealing, "_add_integrity_block", full)
        with pytest.raises(PlaygroundError, match=r"No space left.*kept in") as caught:
            writer.close()
    assert caught.value.exit_code is ExitCode.NOT_SO
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.parquet.journal"]
    assert list(Recording.open(path).messages()) == some(100)


def test_what_does_not_read_back_the_same_is_not_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.parquet"
    writer = RecordingWriter(path)
    for message in some(100):
        writer.append(message)
    original = sealing._add_integrity_block

    def bad_disk(file: Path) -> None:
        data = bytearray(file.read_bytes())
        original(file)
        kept = bytearray(file.read_bytes())
        place = data.index(b"\xb5\x2f\xfd") + 12  # inside the first zstd frame
        kept[place] ^= 1
        file.write_bytes(kept)

    with monkeypatch.context() as patch:
        patch.setattr(sealing, "_add_integrity_block", bad_disk)
        with pytest.raises(PlaygroundError, match="reads back damaged"):
            writer.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.parquet.journal"]


def test_a_closed_recording_takes_no_more(tmp_path: Path) -> None:
    for journal in (True, False):
        writer = RecordingWriter(tmp_path / f"{journal}.parquet", journal=journal)
        writer.close()
        with pytest.raises(PlaygroundError, match="nothing more can be recorded"):
            writer.append(some(1)[0])
        assert writer.close().count == 0


def test_a_message_that_cannot_be_told_is_refused_and_the_rest_goes_on(
    tmp_path: Path,
) -> None:
    path = tmp_path / "r.parquet"
    with RecordingWriter(path) as writer:
        for bad in (
            Message(START, "a", b"", kind="nonsense"),
            Message(START, "x" * 70_000, b""),
            Message(2**63, "a", b""),
            Message(START, "\ud800", b""),
        ):
            with pytest.raises(PlaygroundError, match="cannot be recorded"):
                writer.append(bad)
        writer.append(some(1)[0])
    assert list(Recording.open(path).messages()) == some(1)
    assert Recording.open(path).summary().losses == 0


@pytest.mark.parametrize(
    "bad",
    [
        Message(START, "a", b"", kind="nonsense"),
        Message(2**63, "a", b""),
        Message(START, "\ud800", b""),
        Message(START, "a", b"", qos=300),
    ],
)
def test_a_message_that_cannot_be_told_ends_a_recording_without_journal(
    tmp_path: Path, bad: Message
) -> None:
    with pytest.raises(PlaygroundError, match="cannot be recorded"):
        write(tmp_path / "r.parquet", [*some(3), bad], journal=False)
    assert list(tmp_path.iterdir()) == []


def test_several_threads_may_append(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    with RecordingWriter(path) as writer:

        def produce(name: str) -> None:
            for number in range(500):
                writer.append(Message(START, name, b"%d" % number))

        threads = [threading.Thread(target=produce, args=(n,)) for n in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    recording = Recording.open(path)
    assert recording.table().column("seq").to_pylist() == list(range(2000))
    for name in "abcd":
        assert [int(m.payload) for m in recording.messages([name])] == list(range(500))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(PlaygroundError, match="cannot be written"):
        RecordingWriter(tmp_path / "file" / "r.parquet")


# Content hash


def test_the_hash_does_not_depend_on_the_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = some(1000)
    expected = content_hash(rows)
    found = {write(tmp_path / "a.parquet", rows).sha256}
    monkeypatch.setattr(sealing, "ROWS", 7)
    found.add(write(tmp_path / "b.parquet", rows, journal=False).sha256)
    found.add(content_hash(Recording.open(tmp_path / "a.parquet").table(kinds=KINDS)))
    found.add(content_hash(Recording.open(tmp_path / "b.parquet").tables(kinds=KINDS)))
    with RecordingWriter(tmp_path / "parts") as writer:
        for number, message in enumerate(rows):
            writer.append(message)
            if number % 300 == 299:
                writer.rotate()
    found.add(writer.close().sha256)
    found.add(writer.close().verify())
    assert found == {expected}


@given(rows=messages, other=messages)
@settings(max_examples=100, deadline=None)
def test_different_content_has_a_different_hash(
    rows: list[Message], other: list[Message]
) -> None:
    assert (content_hash(rows) == content_hash(other)) == (rows == other)
    assert (content_hash(rows, first_seq=1) == content_hash(rows)) == (not rows)


def test_the_hash_is_what_its_docstring_says() -> None:
    rows = [
        Message(START, "b", b"xy", 1, True, False, "c", None),
        Message(START + 1, "a", b"", 2, False, True, None, "{}", "will"),
        Message(START + 2, "b", b"z", 0, False, False, "d", None),
    ]

    def sha(data: bytes) -> bytes:
        return hashlib.sha256(data).digest()

    def named(codes: list[int], names: list[str]) -> bytes:
        text = b"".join(struct.pack("<I", len(n)) + n.encode() for n in names)
        return sha(struct.pack("<3I", *codes)) + sha(text)

    null = 0xFFFFFFFF
    whole = b"playground content 1\n" + struct.pack("<Q", 3)
    whole += b"time\n" + sha(struct.pack("<3q", START, START + 1, START + 2))
    whole += b"seq\n" + sha(struct.pack("<3q", 0, 1, 2))
    whole += b"kind\n" + named([0, 1, 0], ["publish", "will"])
    whole += b"topic\n" + named([0, 1, 0], ["b", "a"])
    whole += b"payload\n" + sha(struct.pack("<3I", 2, 0, 1)) + sha(b"xyz")
    whole += b"qos\n" + sha(bytes([1, 2, 0]))
    whole += b"retain\n" + sha(bytes([1, 0, 0]))
    whole += b"dup\n" + sha(bytes([0, 1, 0]))
    whole += b"client\n" + named([0, null, 1], ["c", "d"])
    whole += b"properties\n" + sha(struct.pack("<3I", null, 2, null)) + sha(b"{}")
    assert content_hash(rows) == hashlib.sha256(whole).hexdigest()


# Summary


def test_the_summary_says_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    metadata = {"broker": "mqtt://lab:1883", "filters": ["#"]}
    with RecordingWriter(path, metadata=metadata) as writer:
        for number in range(11):
            time_ns = START + number * SECOND
            writer.append(Message(time_ns, "t", b"%d.5" % number, 1, client="rig"))
            writer.append(Message(time_ns, "j", b'{"a": 1}', 0, retain=number == 3))
        writer.append(Message(time_ns, "mixed", b"on"))
        writer.append(Message(time_ns, "mixed", b"\xff"))
        writer.append(Message(time_ns, "mixed", b""))
        writer.append(Message(time_ns, "", b"", client="rig", kind="disconnect"))
    summary = Recording.open(path).summary()
    assert [topic.topic for topic in summary.topics] == ["j", "mixed", "t"]
    by_name = {topic.topic: topic for topic in summary.topics}
    assert by_name["t"].count == 11
    assert by_name["t"].rate_hz == pytest.approx(1.0)
    assert by_name["t"].median_period_s == 1.0
    assert by_name["t"].payload_kinds == ("number",)
    assert by_name["t"].qos == (1,)
    assert not by_name["t"].retained
    assert by_name["j"].payload_kinds == ("json",)
    assert by_name["j"].retained
    assert by_name["mixed"].payload_kinds == ("binary", "empty", "text")
    assert by_name["mixed"].rate_hz == 0.0
    assert summary.kinds == {"publish": 25, "disconnect": 1}
    assert summary.count == 26
    assert summary.duration_s == 10.0
    assert summary.clients == ("rig",)
    assert summary.broker == "mqtt://lab:1883"
    assert summary.warnings == ()
    assert summary.bytes == path.stat().st_size
    told = json.loads(json.dumps(summary.as_dict()))
    assert told["topics"][2]["first_ns"] == START
    assert told["sha256"] == Recording.open(path).sha256


def test_the_summary_warns_of_times_that_run_backwards(tmp_path: Path) -> None:
    rows = [Message(START + 5, "a", b""), Message(START, "a", b"")]
    recording = write(tmp_path / "r.parquet", rows)
    assert recording.summary().warnings == ("times run backwards in places",)
    assert recording.start_ns == START
    assert list(recording.messages(end_ns=START + 1)) == rows[1:]


# Signals


def signal(name: str, topic: str, role: str = "measurement", **more: object) -> Signal:
    return Signal(name=name, topic=topic, unit="1", role=role, **more)  # type: ignore[arg-type]


def values(table: pa.Table, name: str) -> list[float | None]:
    found = table.column(name).to_pylist()
    return [None if math.isnan(value) else value for value in found]


def seconds(table: pa.Table) -> list[float]:
    times = table.column("time").cast(pa.int64()).to_numpy()
    return ((times - START) / 1e9).tolist()  # type: ignore[no-any-return]


@pytest.fixture
def plant(tmp_path: Path) -> Recording:
    rows = []
    for time_s, topic, payload in [
        (0.0, "cmd", b"1"),
        (0.5, "both", b'{"a": 10, "b": 1}'),
        (1.0, "both", b'{"a": 20}'),
        (1.5, "cmd", b"2"),
        (2.5, "both", b'{"b": "broken"}'),
        (3.0, "both", b"not json"),
        (4.0, "both", b'{"a": 30, "b": 2}'),
        (4.0, "both", b'{"a": 31}'),
        (5.0, "other", b"9"),
    ]:
        rows.append(Message(START + round(time_s * 1e9), topic, payload))
    return write(tmp_path / "r.parquet", rows)


SIGNALS = {
    "a": signal("a", "both", path="a"),
    "b": signal("b", "both", path="b"),
    "u": signal("u", "cmd", "command"),
}


def test_signals_are_held_on_the_union_of_their_times(plant: Recording) -> None:
    table = plant.signals(SIGNALS)
    assert table.column_names == ["time", "a", "b", "u"]
    assert seconds(table) == [0.0, 0.5, 1.0, 1.5, 2.5, 4.0]
    assert values(table, "a") == [None, 10, 20, 20, 20, 31]
    assert values(table, "b") == [None, 1, 1, 1, None, 2]
    assert values(table, "u") == [1, 1, 1, 2, 2, 2]
    assert all(str(field.type) == "double" for field in list(table.schema)[1:])


def test_signals_on_a_grid_hold_the_last_value(plant: Recording) -> None:
    table = plant.signals(SIGNALS, period_s=1.0)
    assert seconds(table) == [0, 1, 2, 3, 4, 5]
    assert values(table, "a") == [None, 20, 20, 20, 31, 31]
    assert values(table, "b") == [None, 1, 1, None, 2, 2]
    assert values(table, "u") == [1, 1, 2, 2, 2, 2]


def test_a_measurement_is_averaged_over_the_period_and_a_command_held(
    plant: Recording,
) -> None:
    table = plant.signals(SIGNALS, period_s=2.0, how="mean")
    assert seconds(table) == [0, 2, 4]
    assert values(table, "a") == [15, 20, 30.5]
    assert values(table, "b") == [1, None, 2]
    assert values(table, "u") == [1, 2, 2]


def test_a_slice_of_signals_knows_what_was_said_before(plant: Recording) -> None:
    start, end = START + 2 * SECOND, START + 4 * SECOND
    table = plant.signals(SIGNALS, period_s=1.0, start_ns=start, end_ns=end)
    assert seconds(table) == [2, 3]
    assert values(table, "a") == [20, 20]
    assert values(table, "b") == [1, None]
    assert values(table, "u") == [2, 2]
    union = plant.signals(SIGNALS, start_ns=start, end_ns=end)
    assert seconds(union) == [2.5]
    assert values(union, "a") == [20]


@given(
    period_ms=st.integers(20, 3000),
    start=st.integers(0, 40),
    length=st.integers(0, 40),
)
@settings(max_examples=60, deadline=None)
def test_the_grid_of_a_slice_says_what_the_whole_says(
    long: tuple[Recording, list[Message]], period_ms: int, start: int, length: int
) -> None:
    recording, rows = long
    known = {f"s{n}": signal(f"s{n}", f"lab/{n}", path="v") for n in range(3)}
    start_ns = START + start * SECOND + 17
    end_ns = start_ns + length * SECOND
    table = recording.signals(
        known, period_s=period_ms / 1000, start_ns=start_ns, end_ns=end_ns
    )
    times = table.column("time").cast(pa.int64()).to_pylist()
    assert times == list(range(start_ns, end_ns, period_ms * 10**6))
    for name, one in known.items():
        held: dict[int, int | None] = {-1: None}
        for second, message in enumerate(rows[:100]):
            said = message.topic == one.topic
            held[second] = (
                json.loads(message.payload)["v"] if said else held[second - 1]
            )
        expected = [held[(time_ns - START) // SECOND] for time_ns in times]
        assert values(table, name) == expected


def test_a_grid_of_a_tenth_of_a_second_does_not_drift(tmp_path: Path) -> None:
    day = 86_400 * SECOND
    rows = [Message(START, "a", b"1"), Message(START + day, "a", b"2")]
    recording = write(tmp_path / "r.parquet", rows)
    table = recording.signals({"a": signal("a", "a")}, period_s=0.1)
    times = table.column("time").cast(pa.int64()).to_numpy()
    assert times[-1] == START + day
    assert np.unique(np.diff(times)).tolist() == [SECOND // 10]


def test_signals_refuse_what_cannot_be(plant: Recording) -> None:
    with pytest.raises(PlaygroundError, match="above 0"):
        plant.signals(SIGNALS, period_s=0.0)
    with pytest.raises(PlaygroundError, match="needs a period"):
        plant.signals(SIGNALS, how="mean")
    absent = plant.signals({"x": signal("x", "nowhere")}, period_s=1.0)
    assert values(absent, "x") == [None] * 6
    assert plant.signals({}, period_s=5.0).column_names == ["time"]


# Files that are not recordings


def _bad(directory: Path, name: str) -> Path:
    path = directory / "bad.parquet"
    table = pa.table({"time": [1], "value": [2.0]})
    if name == "empty":
        path.write_bytes(b"")
    elif name == "csv":
        path.write_text("topic,payload\na,b\n")
    elif name == "other parquet":
        pq.write_table(table, path)
    elif name == "no metadata":
        pq.write_table(SCHEMA.empty_table(), path)
    elif name == "types":
        schema = SCHEMA.set(0, pa.field("time", pa.int64()))
        pq.write_table(schema.empty_table(), path)
    elif name == "truncated":
        write(path, some(100))
        path.write_bytes(path.read_bytes()[:-1000])
    elif name == "half":
        write(path, some(100))
        path.write_bytes(path.read_bytes()[:300])
    elif name == "rewritten":
        write(path, some(100))
        rows = pq.read_table(path)
        metadata = pq.read_metadata(path).metadata
        pq.write_table(rows.replace_schema_metadata(metadata), path)
    return path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", "does not exist"),
        ("empty", "is empty"),
        ("csv", "no Parquet file.*import"),
        ("other parquet", "lacks the columns seq, kind.*import"),
        ("no metadata", "without the metadata.*import"),
        ("types", "columns of other types"),
        ("truncated", "truncated"),
        ("half", "truncated"),
        ("rewritten", "another program wrote the file anew"),
    ],
)
def test_a_file_that_is_no_recording_is_refused_with_the_reason(
    tmp_path: Path, name: str, said: str
) -> None:
    path = _bad(tmp_path, name)
    with pytest.raises(FileFormatError, match=f"(?s){said}") as caught:
        Recording.open(path)
    assert caught.value.exit_code is ExitCode.USAGE
    assert str(path) in str(caught.value)
    assert caught.value.fix


class _Locked:
    """A file system that answers as the system does without the right to read."""

    def __init__(self, number: int) -> None:
        self.number = number

    def open_input_file(self, path: str) -> None:
        why = f"Failed to open local file. Detail: [errno {self.number}]"
        raise OSError(self.number, why)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, r"cannot be read: Permission denied\.\n  fix: .*chmod u\+r"),
        (errno.EIO, r"cannot be read: Input/output error\.\n  fix: .*the disk"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_the_system_s_reason(
    number: int, said: str
) -> None:
    with pytest.raises(FileFormatError, match=said):
        sealed_module.SealedFile("lab.parquet", _Locked(number))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "r.parquet", some(1))
    (tmp_path / "r.parquet").chmod(0)
    with pytest.raises(FileFormatError, match="Permission denied"):
        Recording.open(tmp_path / "r.parquet")


def test_a_misspelled_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "monday.parquet", some(1))
    with pytest.raises(FileFormatError, match=r"Did you mean 'monday\.parquet'"):
        Recording.open(tmp_path / "mondy.parquet")
    with pytest.raises(FileFormatError, match="is a directory"):
        Recording.open(tmp_path)


def test_a_newer_format_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sealing, "FORMAT_VERSION", 99)
        patch.setattr(sealed_module, "FORMAT_VERSION", 99)
        write(tmp_path / "r.parquet", some(1))
    with pytest.raises(FileFormatError, match=r"format version 99.*up to 1"):
        Recording.open(tmp_path / "r.parquet")


def test_a_recording_opens_by_uri(tmp_path: Path) -> None:
    write(tmp_path / "r.parquet", some(10))
    with RecordingWriter(tmp_path / "parts") as writer:
        writer.append(some(1)[0])
        writer.rotate()
        writer.append(some(2)[1])
    uri = tmp_path.as_uri()
    assert list(Recording.open(f"{uri}/r.parquet").messages()) == some(10)
    assert list(Recording.open(f"{uri}/parts").messages()) == some(2)
    for name in ("nothing.parquet", ""):
        with pytest.raises(FileFormatError):
            Recording.open(f"{uri}/{name}")
    with pytest.raises(FileFormatError, match="cannot be opened"):
        Recording.open("nonsense://x/y")


def test_reading_and_sealing_do_not_import_pandas(tmp_path: Path) -> None:
    import subprocess

    code = f"""
import sys
from playground.message import Message
from playground.recording import Recording, RecordingWriter
with RecordingWriter({str(tmp_path / "r.parquet")!r}) as writer:
    writer.append(Message(1, "a", b"1", client="c"))
    writer.append(Message(2, "b", b"2"))
recording = Recording.open({str(tmp_path / "r.parquet")!r})
assert len(list(recording.messages(["a"]))) == 1
recording.summary()
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
