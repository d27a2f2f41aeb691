"""What a recording survives: kills, cuts, full disks, other recorders."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.errors import ExitCode, FileFormatError, PlaygroundError
from playground.message import KINDS, Message
from playground.recording import (
    Recording,
    RecordingStopped,
    RecordingWriter,
    content_hash,
    recover,
)
from playground.recording import journal as journal_module
from playground.recording.columns import to_messages
from playground.recording.journal import JournalReader, JournalWriter, journal_of

START = 1_767_225_600 * 10**9


def number(index: int) -> Message:
    return Message(START + index, f"a/{index % 3}", b"%d" % index * (index % 7))


def numbers(count: int) -> list[Message]:
    return [number(index) for index in range(count)]


def read(journal: Path) -> list[Message]:
    reader = JournalReader(journal)
    found = [m for batch in reader.batches() for m in to_messages(batch_table(batch))]
    reader.close()
    return found


def batch_table(batch: object) -> object:
    import pyarrow as pa

    return pa.Table.from_batches([batch])


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[bytes, list[Message], list[int]]:
    """A journal of some messages, these, and where each ends."""
    directory = tmp_path_factory.mktemp("journal")
    path = directory / "r.parquet.journal"
    rows = [
        number(0),
        Message(START, "ünïcode/\U0001f525", bytes(range(256)), 1, True),
        Message(START, "a", b"", 2, False, True, "client", '{"a": 1}', "will"),
        Message(START, "a", b"\0" * 300),
        Message(START, "", b"{}", kind="gap"),
        *numbers(12),
    ]
    writer = JournalWriter(path)
    writer.metadata({"broker": "mqtt://lab"})
    ends = []
    for seq, message in enumerate(rows):
        writer.append(message, seq)
        ends.append(writer.size)
    writer.close()
    return path.read_bytes(), rows, ends


def test_a_journal_cut_at_any_byte_gives_all_messages_before_the_cut(
    tmp_path: Path, whole: tuple[bytes, list[Message], list[int]]
) -> None:
    data, rows, ends = whole
    path = tmp_path / "cut.parquet.journal"
    path.write_bytes(data)
    # Cut off byte after byte: rewriting a file whole waits for the disk each time.
    for cut in reversed(range(len(data))):
        os.truncate(path, cut)
        complete = sum(end <= cut for end in ends)
        assert read(path) == rows[:complete], cut


@given(cut=st.integers(0, 3000), tail=st.binary(max_size=40))
@settings(max_examples=60, deadline=None)
def test_recovering_a_cut_journal_tells_what_was_discarded(
    tmp_path_factory: pytest.TempPathFactory,
    whole: tuple[bytes, list[Message], list[int]],
    cut: int,
    tail: bytes,
) -> None:
    data, rows, ends = whole
    cut = min(cut, len(data))
    path = tmp_path_factory.mktemp("cut") / "r.parquet"
    journal_of(path).write_bytes(data[:cut] + tail)
    complete = sum(end <= cut for end in ends)
    if tail and cut < journal_module.SALT_BYTES + len(journal_module.MAGIC):
        return  # then it is a file that somebody else made
    report = recover(path)
    assert report.messages == complete
    recording = Recording.open(path)
    assert list(recording.messages(kinds=KINDS)) == rows[:complete]
    assert recording.sha256 == content_hash(rows[:complete])
    assert recording.recovered is None
    assert not journal_of(path).exists()
    whole_frames = max([end for end in ends if end <= cut], default=0)
    if whole_frames:
        assert report.bytes_discarded == cut - whole_frames + len(tail)
    assert report.lossless == (report.bytes_discarded == 0)
    assert report.exit_code == (0 if report.lossless else 3)
    assert bool(report.reason) == (not report.lossless)


def test_a_flipped_byte_of_a_journal_costs_one_message_and_invents_none(
    tmp_path: Path, whole: tuple[bytes, list[Message], list[int]]
) -> None:
    data, rows, ends = whole
    begins = [0, *ends[:-1]]
    path = tmp_path / "flip.parquet.journal"
    first = len(journal_module.MAGIC) + journal_module.SALT_BYTES
    draw = random.Random(7)
    for place in range(first, len(data), 3):
        flipped = bytearray(data)
        flipped[place] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        hit = [i for i, end in enumerate(ends) if begins[i] <= place < end]
        expected = [m for i, m in enumerate(rows) if i not in hit]
        found = read(path)
        if hit == [0]:  # the metadata frame lies before the first message
            assert found in (rows, expected), place
        else:
            assert found == expected, place


def test_a_damaged_salt_is_a_journal_that_cannot_be_read(
    tmp_path: Path, whole: tuple[bytes, list[Message], list[int]]
) -> None:
    data, _, _ = whole
    path = tmp_path / "salt.parquet.journal"
    path.write_bytes(b"x" + data[1:])
    with pytest.raises(FileFormatError, match="not a journal of this version"):
        recover(path)


def test_frames_inside_a_payload_are_never_taken_for_messages(
    tmp_path: Path, whole: tuple[bytes, list[Message], list[int]]
) -> None:
    data, _, _ = whole
    path = tmp_path / "r.parquet.journal"
    writer = JournalWriter(path)
    writer.append(Message(START, "a", data * 5), 0)
    writer.append(number(1), 1)
    writer.close()
    raw = bytearray(path.read_bytes())
    raw[60] ^= 1  # in the first message
    path.write_bytes(raw)
    assert read(path) == [number(1)]
    path.write_bytes(bytes(raw[:-1]))
    assert read(path) == []


def test_zeros_after_the_last_frame_are_discarded(
    tmp_path: Path, whole: tuple[bytes, list[Message], list[int]]
) -> None:
    data, rows, _ = whole
    path = tmp_path / "r.parquet"
    journal_of(path).write_bytes(data + bytes(100_000))
    report = recover(path)
    assert report.messages == len(rows)
    assert report.bytes_discarded == 100_000


@pytest.mark.parametrize("block", [64, 200, 1 << 12])
def test_frames_and_damage_may_lie_across_blocks(
    tmp_path: Path,
    whole: tuple[bytes, list[Message], list[int]],
    monkeypatch: pytest.MonkeyPatch,
    block: int,
) -> None:
    data, rows, ends = whole
    monkeypatch.setattr(journal_module, "_BLOCK", block)
    path = tmp_path / "r.parquet.journal"
    path.write_bytes(data)
    assert read(path) == rows
    for hit in (1, 3, 8):
        flipped = bytearray(data)
        flipped[ends[hit] - 1] ^= 4
        path.write_bytes(flipped)
        reader = JournalReader(path)
        found = [m for b in reader.batches() for m in to_messages(batch_table(b))]
        reader.close()
        assert found == rows[:hit] + rows[hit + 1 :]
        assert reader.discarded == ends[hit] - ends[hit - 1]
        assert len(reader.reasons) == 1


# Kills

CHILD = """
import os, struct, sys
from playground.recording import RecordingWriter
from playground.message import Message

START = 1_767_225_600 * 10**9
report = int(sys.argv[1])
for line in sys.stdin:
    path, sync, rotate = line.rstrip("\\n").split("\\t")
    child = os.fork()
    if child:
        print(child, flush=True)
        os.waitpid(child, 0)
        print("dead", flush=True)
        continue
    sync_s = None if sync == "None" else float(sync)
    writer = RecordingWriter(path, sync_s=sync_s)
    index = 0
    while True:
        text = b"%d" % index * (index % 7)
        writer.append(Message(START + index, f"a/{index % 3}", text))
        index += 1
        os.write(report, struct.pack("<q", index))
        if rotate == "True" and index % 200 == 0:
            writer.rotate()
"""


class Killer:
    """Starts recorders and kills them once they have reported enough."""

    def __init__(self) -> None:
        self.read, report = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(report)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[report],
        )
        os.close(report)

    def run(self, path: Path, sync_s: float | None, rotate: bool, after: int) -> int:
        """Returns how many messages the recorder had reported when it died."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{path}\t{sync_s}\t{rotate}\n")
        self.process.stdin.flush()
        child = int(self.process.stdout.readline())
        reported = 0
        while reported < after:
            reported = self._last(os.read(self.read, 1 << 16)) or reported
        os.kill(child, signal.SIGKILL)
        assert self.process.stdout.readline() == "dead\n"
        os.set_blocking(self.read, False)
        try:
            while data := os.read(self.read, 1 << 16):
                reported = self._last(data) or reported
        except BlockingIOError:
            pass
        finally:
            os.set_blocking(self.read, True)
        return reported

    @staticmethod
    def _last(data: bytes) -> int:
        # Eight bytes reach a pipe together, so nothing is torn.
        return int.from_bytes(data[-8:], "little")

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()
        os.close(self.read)


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    made = Killer()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("sync_s", "rotate", "times"),
    [(None, False, 55), (0.001, False, 30), (0.0, False, 10), (None, True, 25)],
)
def test_a_killed_recorder_loses_nothing_it_had_taken(
    tmp_path: Path, killer: Killer, sync_s: float | None, rotate: bool, times: int
) -> None:
    draw = random.Random(f"{sync_s}{rotate}")
    for attempt in range(times):
        path = tmp_path / (f"{attempt}" if rotate else f"{attempt}.parquet")
        after = draw.randrange(1, 40 if sync_s == 0 else 1200)
        reported = killer.run(path, sync_s, rotate, after)
        assert reported >= after
        recording = Recording.open(path)
        found = list(recording.messages())
        # One more may have been written that was not yet reported.
        assert len(found) in (reported, reported + 1)
        assert found == numbers(len(found))
        assert recording.verify() == content_hash(found)
        assert recording.summary().losses == 0


def test_a_recorder_killed_before_its_first_message_leaves_an_empty_recording(
    tmp_path: Path, killer: Killer
) -> None:
    for attempt in range(10):
        path = tmp_path / f"{attempt}.parquet"
        killer.run(path, None, False, 0)
        if journal_of(path).exists():
            found = list(Recording.open(path).messages())
            assert found == numbers(len(found))
        else:
            with pytest.raises(FileFormatError, match="does not exist"):
                Recording.open(path)


# Power cut


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How large the journal was at each sync: what a power cut leaves at least."""
    sizes: list[int] = []
    sync = journal_module._sync_data

    def spy(descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        sync(descriptor)
        sizes.append(size)

    monkeypatch.setattr(journal_module, "_sync_data", spy)
    return sizes


def after_the_power_cut(path: Path, size: int) -> list[Message]:
    """What is recovered from so much of the journal."""
    cut = path.with_name("cut.parquet")
    journal_of(cut).write_bytes(journal_of(path).read_bytes()[:size])
    return list(Recording.open(cut).messages())


def test_a_power_cut_costs_at_most_what_came_since_the_last_sync(
    tmp_path: Path, synced: list[int], eventually: Callable[..., None]
) -> None:
    path = tmp_path / "r.parquet"
    writer = RecordingWriter(path, sync_s=0.005)
    for message in numbers(100):
        writer.append(message)
    # By itself, as nobody asks for it.
    eventually(lambda: synced and synced[-1] == journal_of(path).stat().st_size)
    size = synced[-1]
    writer._stop.set()
    assert writer._syncer is not None
    writer._syncer.join(10)
    for message in numbers(110)[100:]:
        writer.append(message)
    assert after_the_power_cut(path, size) == numbers(100)
    writer.abandon()


def test_with_sync_always_a_power_cut_costs_nothing(
    tmp_path: Path, synced: list[int]
) -> None:
    path = tmp_path / "r.parquet"
    writer = RecordingWriter(path, sync_s=0)
    for number, message in enumerate(numbers(20), 1):
        writer.append(message)
        assert after_the_power_cut(path, synced[-1]) == numbers(number)
        path.with_name("cut.parquet").unlink()
    writer.abandon()


# Disk full

FULL = """
import json, resource, signal, sys
from playground.message import Message
from playground.errors import ExitCode
from playground.recording import RecordingWriter, RecordingStopped
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
taken = 0
try:
    with RecordingWriter(sys.argv[1]) as writer:
        while True:
            writer.append(Message(taken, "a", b"x" * 150))
            taken += 1
except RecordingStopped as error:
    print(json.dumps([taken, int(error.exit_code), str(error)]))
"""


def test_a_full_disk_stops_the_recorder_and_costs_nothing_before(
    tmp_path: Path,
) -> None:
    path = tmp_path / "r.parquet"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    taken, code, said = json.loads(done.stdout)
    assert taken > 400
    assert code == ExitCode.NOT_SO
    assert "File too large" in said
    assert "All messages before are kept" in said
    recording = Recording.open(path)
    assert list(recording.messages()) == [
        Message(index, "a", b"x" * 150) for index in range(taken)
    ]
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.parquet"]


def test_a_partly_written_frame_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.parquet"
    writer = RecordingWriter(path, sync_s=None)
    writer.append(number(0))
    original = os.write
    calls = []

    def full(descriptor: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) == 1:
            return original(descriptor, data[:11])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "_write", full)
        with pytest.raises(RecordingStopped, match="No space left"):
            writer.append(number(1))
    assert len(calls) == 2
    with pytest.raises(RecordingStopped, match="cannot go on"):
        writer.append(number(2))
    writer.abandon()
    report = recover(path)
    assert report.lossless
    assert list(Recording.open(path).messages()) == [number(0)]


def test_a_failing_disk_is_told_at_the_next_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    path = tmp_path / "r.parquet"
    writer = RecordingWriter(path, sync_s=0.001)
    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "_sync_data", broken)
        writer.append(number(0))
        assert writer._syncer is not None
        writer._syncer.join(10)
        with pytest.raises(RecordingStopped, match="Input/output error"):
            writer.append(number(1))
    writer.abandon()


# Journals that are found


def abandoned(path: Path, rows: list[Message], **options: object) -> Path:
    writer = RecordingWriter(path, **options)  # type: ignore[arg-type]
    for message in rows:
        writer.append(message)
    writer.abandon()
    return path


def test_opening_an_abandoned_recording_seals_it_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = abandoned(tmp_path / "r.parquet", numbers(50), metadata={"broker": "b"})
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.parquet.journal"]
    with pytest.raises(FileFormatError, match=r"abandoned journal.*\n.*recover"):
        Recording.open(path, recover=False)
    with caplog.at_level(logging.WARNING):
        recording = Recording.open(path)
    assert "50 messages recovered" in caplog.text
    assert recording.recovered is not None
    assert recording.recovered.messages == 50
    assert recording.recovered.lossless
    assert recording.metadata["broker"] == "b"
    assert list(recording.messages()) == numbers(50)
    assert any("recovered" in text for text in recording.summary().warnings)
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.parquet"]
    again = Recording.open(path)
    assert again.recovered is None
    # Whoever reads it next year is told as well.
    assert any("cut off" in text for text in again.summary().warnings)


def test_a_journal_opens_by_its_own_name(tmp_path: Path) -> None:
    path = abandoned(tmp_path / "r.parquet", numbers(5))
    assert Recording.open(journal_of(path)).count == 5
    assert path.exists()


def test_a_journal_in_use_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    with RecordingWriter(path) as writer:
        writer.append(number(0))
        for attempt in (Recording.open, recover, RecordingWriter):
            with pytest.raises(PlaygroundError, match="at this moment"):
                attempt(path)
        writer.append(number(1))
    assert list(Recording.open(path).messages()) == numbers(2)


def test_a_journal_beside_the_target_becomes_a_recording_of_its_own(
    tmp_path: Path,
) -> None:
    path = abandoned(tmp_path / "r.parquet", numbers(3))
    abandoned(path, numbers(4))
    with RecordingWriter(path) as writer:
        writer.append(number(0))
        assert writer.recovered is not None
        assert writer.recovered.messages == 4
    assert Recording.open(tmp_path / "r.recovered-1.parquet").count == 3
    assert Recording.open(tmp_path / "r.recovered-2.parquet").count == 4
    assert Recording.open(path).count == 1
    assert len(list(tmp_path.iterdir())) == 3


def test_a_journal_of_a_failed_overwrite_does_not_touch_the_old_recording(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = abandoned(tmp_path / "r.parquet", numbers(3))
    recover(path)
    abandoned(path, numbers(9), overwrite=True)
    with caplog.at_level(logging.WARNING):
        assert Recording.open(path).count == 3
    assert "lies beside" in caplog.text
    report = recover(path)
    assert Path(report.target).name == "r.recovered-1.parquet"
    assert Recording.open(report.target).count == 9
    assert Recording.open(path).count == 3


def test_a_kill_between_sealing_and_deleting_the_journal_doubles_nothing(
    tmp_path: Path,
) -> None:
    path = abandoned(tmp_path / "r.parquet", numbers(30))
    journal = journal_of(path)
    kept = journal.read_bytes()
    recover(path)
    journal.write_bytes(kept)
    report = recover(path)
    assert (report.messages, report.lossless) == (30, True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.parquet"]


def test_recovering_a_whole_recording_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    with RecordingWriter(path) as writer:
        writer.append(number(0))
    before = path.read_bytes()
    report = recover(path)
    assert (report.messages, report.lossless, report.target) == (1, True, str(path))
    assert path.read_bytes() == before


def test_what_cannot_be_recovered_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="does not exist"):
        recover(tmp_path / "no.parquet")
    with pytest.raises(FileFormatError, match="holds no part"):
        recover(tmp_path)
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(FileFormatError, match="truncated"):
        recover(tmp_path / "x.parquet")


# Parts


def test_parts_are_one_recording(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "r.parquet", metadata={"broker": "b"}) as writer:
        for index in range(100):
            if index in (30, 60):
                writer.rotate()
            if index == 70:
                writer.skip(4)
            writer.append(number(index))
        assert writer.count == 100
        assert writer.bytes > 100 * 36
    recording = writer.close()
    assert not (tmp_path / "r.parquet").exists()
    assert [Path(path).name for path in recording.paths] == [
        f"part-{number:05d}.parquet" for number in range(3)
    ]
    again = Recording.open(tmp_path / "r")
    assert list(again.messages()) == numbers(100)
    assert again.count == 100
    assert again.metadata["broker"] == "b"
    seqs = again.table().column("seq").to_pylist()
    assert seqs == [*range(70), *range(74, 104)]
    assert list(again.messages(start_ns=START + 25, end_ns=START + 65)) == [
        number(index) for index in range(25, 65)
    ]
    assert again.summary().losses == 4
    assert again.verify() == again.sha256 == again.summary().sha256
    middle = Recording.open(recording.paths[1])
    assert middle.summary().losses == 0
    assert middle.sha256 == content_hash(numbers(60)[30:], first_seq=30)


def test_a_killed_recorder_goes_on_in_the_next_part(tmp_path: Path) -> None:
    path = tmp_path / "session"
    writer = RecordingWriter(path)
    for index in range(20):
        writer.append(number(index))
        if index == 9:
            writer.rotate()
    writer.abandon()
    assert (path / "part-00001.parquet.journal").exists()
    with RecordingWriter(path) as second:
        assert second.recovered is not None
        assert second.recovered.messages == 10
        assert second.append(number(20)) == 20
    recording = Recording.open(path)
    assert len(recording.paths) == 3
    assert list(recording.messages()) == numbers(21)
    assert recording.summary().losses == 0
    with pytest.raises(PlaygroundError, match="--overwrite"):
        RecordingWriter(path)
    with RecordingWriter(path, overwrite=True) as third:
        third.append(number(0))
    assert Recording.open(path).count == 1


def test_an_abandoned_part_is_recovered_on_opening(tmp_path: Path) -> None:
    path = tmp_path / "session"
    writer = RecordingWriter(path)
    for index in range(20):
        writer.append(number(index))
        if index == 9:
            writer.rotate()
    writer.abandon()
    recording = Recording.open(path)
    assert recording.recovered is not None
    assert list(recording.messages()) == numbers(20)


def test_rotating_into_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "notes.txt").write_text("mine")
    with RecordingWriter(tmp_path / "r.parquet") as writer:
        writer.append(number(0))
        with pytest.raises(PlaygroundError, match="exists"):
            writer.rotate()
        writer.append(number(1))
    assert writer.close().count == 2
    with (
        RecordingWriter(tmp_path / "s.parquet", journal=False) as writer,
        pytest.raises(PlaygroundError, match="without a journal"),
    ):
        writer.rotate()
