"""How fast and how small recordings are, as ratios measured in one run.

Baselines: the file side of mqtt-recorder 1.4.0, the tool lab people use today (a
``csv.writer`` on a line-buffered file, which is one ``write`` per message), and
pyarrow writing and reading the same rows without journal, hash or checks.

    make bench-recorder
    make bench-recorder PLAYGROUND_BENCH=full

``short``, the default there, takes 1 M messages; ``full`` 10 M as well, and some
minutes. Without either they run small, to show that they work. Sizes and memory
are asserted, times are printed.
"""

from __future__ import annotations

import csv
import json
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from playground.message import Message
from playground.recording import Recording, RecordingWriter, content_hash

MILLION = 1_000_000
SIZES = {"short": (MILLION,), "full": (MILLION, 10 * MILLION)}.get(
    os.environ.get("PLAYGROUND_BENCH", ""), (30_000,)
)
START = 1_767_225_600 * 10**9
CHANNELS = ("U1_Ins", "I1_Ins", "P_Ins", "Q_Ins", "S_Ins", "PF_Ins", "Freq_Ins")


def payload(number: int, values: list[float]) -> bytes:
    told = {"device": "powermeter", "timestamp": 1_769_224_800.5 + number / 100}
    told |= dict(zip(CHANNELS, (round(value, 3) for value in values), strict=True))
    return json.dumps(told).encode()


def slow(number: int) -> bytes:
    """A plant that moves slowly, seen with three decimals."""
    phase = number / 50_000
    return payload(number, [200 + k + round(math.sin(phase + k), 2) for k in range(7)])


def redrawn(number: int) -> bytes:
    draw = random.Random(number).uniform
    return payload(number, [draw(0, 250) for _ in CHANNELS])


def messages(count: int, kind: object = slow) -> Iterator[Message]:
    """Messages of 50 topics, 1,000 per second with some jitter."""
    known = [kind(number) for number in range(min(count, 50_000))]  # type: ignore[operator]
    for number in range(count):
        jitter = (number * 7919) % 1000 * 700
        yield Message(
            START + number * 1_000_000 + jitter,
            f"lab/device{number % 50}/measurements",
            known[number % len(known)],
        )


def write_csv(path: Path, rows: Iterator[Message]) -> None:
    with path.open("w", newline="", buffering=1) as file:
        writer = csv.writer(file)
        last = 0.0
        for row in rows:
            now = row.time_ns / 1e9
            text = row.payload.decode()
            writer.writerow([row.topic, text, row.qos, row.retain, now, now - last])
            last = now


def rate(count: int, begin: float) -> float:
    return count / (time.perf_counter() - begin)


def in_child(code: str, *arguments: object) -> dict[str, float]:
    """Runs code in a process of its own; returns what it prints and its memory."""
    code += """
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        told["peak_mb"] = int(line.split()[1]) / 1024
print(json.dumps(told))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("kind", "share"), [(slow, 1 / 10), (redrawn, 1 / 4)], ids=["slow", "redrawn"]
)
def test_bytes_per_message(
    tmp_path: Path,
    kind: object,
    share: float,
    record_property: Callable[[str, object], None],
) -> None:
    count = 50_000
    write_csv(tmp_path / "r.csv", messages(count, kind))
    with RecordingWriter(tmp_path / "r.parquet", journal=False) as writer:
        for message in messages(count, kind):
            writer.append(message)
    theirs = (tmp_path / "r.csv").stat().st_size / count
    ours = (tmp_path / "r.parquet").stat().st_size / count
    print(
        f"\nbytes per message: {ours:.1f}, mqtt-recorder's CSV {theirs:.1f}, "
        f"ratio 1/{theirs / ours:.1f} (must reach 1/{1 / share:.0f})"
    )
    record_property(
        "bar",
        (
            f"bytes per message, {kind.__name__}, beside mqtt-recorder's CSV",  # type: ignore[attr-defined]
            f"1/{theirs / ours:.1f} ({ours:.1f} B)",
            f"<= 1/{1 / share:.0f}",
            ours <= theirs * share,
        ),
    )
    assert ours <= theirs * share


def test_appending(tmp_path: Path) -> None:
    count = SIZES[0] // 3
    rows = list(messages(count))
    begin = time.perf_counter()
    write_csv(tmp_path / "r.csv", iter(rows))
    theirs = rate(count, begin)
    said = []
    for journal in (True, False):
        writer = RecordingWriter(tmp_path / f"{journal}.parquet", journal=journal)
        begin = time.perf_counter()
        for row in rows:
            writer.append(row)
        ours = rate(count, begin)
        said.append(
            f"{'' if journal else 'no '}journal {ours:,.0f}/s ({ours / theirs:.2f} x)"
        )
        writer.abandon()
    print(f"\nappending: {', '.join(said)}; mqtt-recorder's CSV {theirs:,.0f}/s")


@pytest.fixture(
    scope="module",
    params=[(count, slow) for count in SIZES] + [(SIZES[0], redrawn)],
    ids=lambda param: f"{param[0]}-{param[1].__name__}",
)
def sealed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, int, dict[str, float]]:
    """A sealed file of so many messages, and how its journal was sealed."""
    path = tmp_path_factory.mktemp("sealed") / "r.parquet"
    count, kind = request.param
    writer = RecordingWriter(path, sync_s=None)
    for message in messages(count, kind):
        writer.append(message)
    writer.abandon()
    # The best of several, as other programs may be at work; once if it is long.
    tries = 3 if count <= MILLION else 1
    told = min(
        (_recovered(path) for _ in range(tries)), key=lambda told: told["wall_s"]
    )
    return path, count, told


def _recovered(path: Path) -> dict[str, float]:
    """Seals a journal in a process of its own; the journal is there again after."""
    journal, kept = path.with_name("r.parquet.journal"), path.with_name("kept")
    if not kept.exists():
        journal.rename(kept)
    path.unlink(missing_ok=True)
    os.link(kept, journal)
    return in_child(
        """
import json, sys, time
from playground.recording import recover
begin = time.perf_counter(), time.process_time()
report = recover(sys.argv[1])
told = {
    "messages": report.messages,
    "wall_s": time.perf_counter() - begin[0],
    "cpu_s": time.process_time() - begin[1],
}
""",
        path,
    )


def test_sealing_and_recovering(
    sealed: tuple[Path, int, dict[str, float]],
    record_property: Callable[[str, object], None],
    request: pytest.FixtureRequest,
) -> None:
    path, count, told = sealed
    assert told["messages"] == count
    bare = in_child(
        """
import json, sys, time
import pyarrow.parquet as pq
source = pq.ParquetFile(sys.argv[1])
spent = 0.0
writer = None
for group in range(source.num_row_groups):
    table = source.read_row_group(group)
    begin = time.perf_counter()
    if writer is None:
        writer = pq.ParquetWriter(sys.argv[1] + ".bare", table.schema, compression="zstd")
    writer.write_table(table)
    spent += time.perf_counter() - begin
writer.close()
told = {"wall_s": spent}
""",
        path,
    )
    ours, theirs = count / told["wall_s"], count / bare["wall_s"]
    print(
        f"\nsealing {count:,}: {ours:,.0f} rows/s (must reach 500,000), "
        f"{told['cpu_s'] / count * 1e6:.2f} us of CPU per row, "
        f"peak {told['peak_mb']:.0f} MB; pyarrow's bare write {theirs:,.0f} rows/s, "
        f"ratio {ours / theirs:.2f}"
    )
    drawn = request.node.callspec.params["sealed"][1].__name__
    what = f"sealing and recovering {count:,} messages, {drawn}"
    rate_said = (
        f"{ours:,.0f} rows/s ({told['cpu_s'] / count * 1e6:.1f} us of CPU; "
        f"{ours / theirs:.2f} x pyarrow's bare write)"
    )
    peak = told["peak_mb"]
    record_property("bar", (what, rate_said, ">= 500,000 rows/s", ours >= 500_000))
    record_property("bar", (what, f"{peak:.0f} MB at most", "< 300 MB", peak < 300))
    assert peak < 300


def test_opening_and_reading_a_minute(
    sealed: tuple[Path, int, dict[str, float]],
    record_property: Callable[[str, object], None],
) -> None:
    path, count, _ = sealed
    ours = in_child(
        """
import json, sys, time
from playground.recording import Recording
begin = time.perf_counter()
recording = Recording.open(sys.argv[1])
middle = (recording.start_ns + recording.end_ns) // 2
found = sum(1 for _ in recording.messages(start_ns=middle, end_ns=middle + 60 * 10**9))
told = {"wall_s": time.perf_counter() - begin, "found": found}
""",
        path,
    )
    theirs = in_child(
        """
import json, sys, time
import pyarrow.parquet as pq
begin = time.perf_counter()
source = pq.ParquetFile(sys.argv[1])
for group in range(source.num_row_groups):
    source.read_row_group(group)
told = {"wall_s": time.perf_counter() - begin}
""",
        path,
    )
    assert ours["found"] == min(60_000, count // 2)
    print(
        f"\nopen + a minute of {count:,}: {ours['wall_s']:.3f} s (must stay below 0.5), "
        f"peak {ours['peak_mb']:.0f} MB; pyarrow reads the whole file in "
        f"{theirs['wall_s']:.3f} s, ratio {ours['wall_s'] / theirs['wall_s']:.3f}"
    )
    what = f"Recording.open and one minute of {count:,} messages"
    took, peak = ours["wall_s"], ours["peak_mb"]
    share = f"{took:.3f} s ({took / theirs['wall_s']:.2f} x reading all of it)"
    record_property("bar", (what, share, "< 0.5 s", took < 0.5))
    record_property("bar", (what, f"{peak:.0f} MB at most", "< 200 MB", peak < 200))
    assert peak < 200


def test_reading_hashing_and_summing_up(
    sealed: tuple[Path, int, dict[str, float]],
) -> None:
    path, count, _ = sealed
    recording = Recording.open(path)
    begin = time.perf_counter()
    assert recording.verify() == recording.sha256
    verified = rate(count, begin)
    begin = time.perf_counter()
    assert recording.summary().count == count
    summed = rate(count, begin)
    some = min(count, 200_000)
    end_ns = START + some * 1_000_000
    begin = time.perf_counter()
    read = list(recording.messages(end_ns=end_ns))
    reading = rate(len(read), begin)
    begin = time.perf_counter()
    content_hash(read)
    hashed = rate(len(read), begin)
    print(
        f"\nof {count:,}: verify {verified:,.0f} rows/s, summary {summed:,.0f} rows/s, "
        f"messages {reading:,.0f}/s, content_hash of messages {hashed:,.0f}/s"
    )
