"""A sealed recording says where it is damaged, and the rest stays readable."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from playground.errors import FileFormatError
from playground.message import Message
from playground.recording import COLUMNS, Recording, RecordingWriter, recover, sealing
from playground.recording import sealed as sealed_module

START = 1_767_225_600 * 10**9
GROUP = 40
PLACES = (
    "footer",
    "integrity block",
    "first four bytes",
    "end (truncated or overwritten)",
)


def rows(count: int) -> list[Message]:
    draw = random.Random(1)
    return [
        Message(
            START + index * 10**9,
            f"lab/{index % 4}",
            draw.randbytes(12) if index % 2 else b'{"v": %d}' % index,
            qos=index % 3,
            retain=index % 7 == 0,
            client="rig" if index % 3 else None,
            properties='{"a": 1}' if index % 5 == 0 else None,
        )
        for index in range(count)
    ]


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sealed") / "r.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealing, "ROWS", GROUP)
        with RecordingWriter(path, journal=False) as writer:
            for message in rows(3 * GROUP):
                writer.append(message)
    return path.read_bytes()


def test_every_flipped_byte_is_detected_and_named_and_the_rest_readable(
    tmp_path: Path, sealed: bytes
) -> None:
    whole = rows(3 * GROUP)
    draw = random.Random(2)
    places = sorted(draw.sample(range(len(sealed)), 1200))
    path = tmp_path / "r.parquet"
    path.write_bytes(sealed)
    saved_all = before = 0
    for number, place in enumerate(places):
        # Only the byte: rewriting a file whole waits for the disk each time.
        with path.open("r+b") as file:
            for at, flip in ((before, 0), (place, 1 << draw.randrange(8))):
                file.seek(at)
                file.write(bytes([sealed[at] ^ flip]))
        before = place
        with pytest.raises(FileFormatError) as caught:
            Recording.open(path).verify()
        said = str(caught.value)
        named = [name for name in PLACES if f"{name} is damaged" in said]
        hit = [
            (group, column)
            for group in range(3)
            for column in COLUMNS
            if f"row group {group}, column {column} is damaged" in said
        ]
        assert len(hit) + len(named) == 1, (place, said)
        if number % 6:
            continue
        expected = whole
        if hit:
            group = hit[0][0]
            expected = whole[: group * GROUP] + whole[(group + 1) * GROUP :]
            recording = Recording.open(path)
            with pytest.raises(FileFormatError, match="is damaged"):
                list(recording.messages())
            assert list(recording.messages(skip_damaged=True)) == expected
        report = recover(path)
        assert report.messages == len(expected)
        assert report.messages_lost == len(whole) - len(expected)
        assert report.lossless == (not hit)
        saved_all += not hit
        saved = Recording.open(report.target)
        assert list(saved.messages()) == expected
        assert any("damaged" in text for text in saved.summary().warnings)
        Path(report.target).unlink()
    assert saved_all > 10


def test_queries_that_do_not_need_the_damaged_part_are_answered(
    tmp_path: Path, sealed: bytes
) -> None:
    path = tmp_path / "r.parquet"
    path.write_bytes(sealed)
    start, size = sealed_module.chunk_range(
        Recording.open(path).parts[0].parquet, 1, COLUMNS.index("payload")
    )
    flipped = bytearray(sealed)
    flipped[start + size // 2] ^= 1
    path.write_bytes(flipped)
    recording = Recording.open(path)
    whole = rows(3 * GROUP)
    before = whole[GROUP].time_ns
    assert list(recording.messages(end_ns=before)) == whole[:GROUP]
    assert recording.table(columns=["topic"]).num_rows == 3 * GROUP
    with pytest.raises(FileFormatError, match="row group 1, column payload"):
        recording.table(columns=["payload"])
    (damage,) = recording.damages()
    assert (damage.place, damage.rows) == ("row group 1, column payload", GROUP)


def test_a_recording_cut_within_its_last_bytes_is_recovered_whole(
    tmp_path: Path, sealed: bytes
) -> None:
    path = tmp_path / "r.parquet"
    for cut in (1, 4, 8, 500, 3000):
        path.write_bytes(sealed[:-cut])
        with pytest.raises(FileFormatError, match="truncated"):
            Recording.open(path)
        report = recover(path)
        assert report.lossless
        assert list(Recording.open(report.target).messages()) == rows(3 * GROUP)
        Path(report.target).unlink()


def test_a_recording_cut_anywhere_is_refused(tmp_path: Path, sealed: bytes) -> None:
    path = tmp_path / "r.parquet"
    for cut in range(0, len(sealed), 97):
        path.write_bytes(sealed[:cut])
        with pytest.raises(FileFormatError, match=r"truncated|empty|no Parquet"):
            Recording.open(path)


def test_an_altered_recording_is_told_from_a_damaged_one(
    tmp_path: Path, sealed: bytes
) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "r.parquet"
    path.write_bytes(sealed)
    table = pq.read_table(path)
    metadata = pq.read_metadata(path).metadata
    altered = table.slice(1)
    pq.write_table(altered.replace_schema_metadata(metadata), path)
    with pytest.raises(FileFormatError, match="another program wrote the file anew"):
        Recording.open(path)
    report = recover(path)
    assert not report.lossless
    assert "not the one that was sealed" in report.reason
    assert Recording.open(report.target).count == 3 * GROUP - 1


def test_content_that_was_altered_with_care_is_still_found(
    tmp_path: Path, sealed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.parquet"
    with RecordingWriter(path, journal=False) as writer:
        writer.append(Message(START, "a", b"1"))
        monkeypatch.setattr(type(writer._seal.content), "hexdigest", lambda _: "0" * 64)
    monkeypatch.undo()
    with pytest.raises(FileFormatError, match="the file was altered"):
        Recording.open(path).verify()
