"""Replay and diff beside mqtt-recorder, bare SimPy and bare Parquet.

Each figure is a ratio within one run: absolute numbers belong to a machine.
Small by default, to show that they work; full sizes with ``make bench-replayer``,
which prints them as a table.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import simpy

from playground.broker import EmbeddedBroker, find_mosquitto
from playground.bus import LocalBus
from playground.clock import VirtualClock
from playground.diff import diff
from playground.message import Message
from playground.recording import Recording, RecordingWriter
from playground.recording.columns import to_messages
from playground.replay import Replayer

FULL = os.environ.get("PLAYGROUND_BENCH") == "full"
MILLION = 1_000_000 if FULL else 20_000
START = 1_700_000_000 * 10**9
MQTT_RECORDER = shutil.which("mqtt-recorder", path=str(Path(sys.executable).parent))
OURS = "from playground.cli import main; main()"
LISTENER = """
import json, socket, sys, time
from playground.packets import *
port, quiet_s, enough = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
link = socket.create_connection(("127.0.0.1", port))
link.sendall(encode(Connect(client_id="listener", version=4), 4))
reader = PacketReader(4)
while reader.next_packet() is None:
    reader.feed(link.recv(1000))
link.sendall(encode(Subscribe(
    packet_id=1, subscriptions=(Subscription(topic_filter="bench/#"),)), 4))
while reader.next_packet() is None:
    reader.feed(link.recv(1000))
print("ready", flush=True)
# Monotonic time is the same for all processes; a batch has one instant.
batches, numbers = [], []
while len(numbers) < enough:
    link.settimeout(quiet_s if batches else 60)
    try:
        data = link.recv(1 << 18)
    except TimeoutError:
        break
    now = time.monotonic_ns()
    reader.feed(data)
    before = len(numbers)
    for packet in reader:
        if type(packet) is Publish:
            numbers.append(int(packet.payload[:9]))
    if len(numbers) > before:
        batches.append((now, len(numbers) - before))
print(json.dumps({"batches": batches, "numbers": numbers}))
"""
needs_mosquitto = pytest.mark.skipif(
    find_mosquitto() is None, reason="mosquitto is not installed"
)
needs_baseline = pytest.mark.skipif(
    MQTT_RECORDER is None, reason="mqtt-recorder is not installed"
)


def payload(number: int, draw: random.Random) -> bytes:
    """185 bytes; the first nine say which message it is."""
    body = (
        f'{number:09d} {{"ts":{1_760_000_000_000 + number},'
        f'"temperature":{draw.uniform(10, 60):.3f},"flow":{draw.uniform(0, 2):.4f},'
        f'"power":{draw.uniform(0, 4000):.1f},"state":"running","unit":"degC"'
    )
    return body.ljust(184).encode() + b"}"


def make(path: Path, count: int, step_ns: int, *, at_once: int = 1) -> Recording:
    """A session of 50 topics; ``at_once`` messages share an instant."""
    draw = random.Random(1)
    with RecordingWriter(path, journal=False) as writer:
        for number in range(count):
            writer.append(
                Message(
                    START + number // at_once * step_ns,
                    f"bench/unit{number % 50}/state",
                    payload(number, draw),
                )
            )
    return Recording.open(path)


def make_csv(recording: Recording, path: Path, *, delta_s: float) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        for message in recording.messages():
            writer.writerow(
                (
                    message.topic,
                    message.payload.decode(),
                    0,
                    False,
                    message.time_ns / 1e9,
                    delta_s,
                )
            )
    return path


def _peak_until_the_end(
    process: subprocess.Popen[bytes], listener: subprocess.Popen[str]
) -> int:
    """Returns the most memory that a process has had, KiB.

    Not of its resource usage: that begins with the memory of who started it. Who is
    not done when the listener has heard enough is ended.
    """
    peak, status = 0, Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        with contextlib.suppress(OSError, StopIteration):
            lines = status.read_text().splitlines()
            told = next(line for line in lines if line.startswith("VmHWM"))
            peak = max(peak, int(told.split()[1]))
        if listener.poll() is not None:
            process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
    return peak


class Player:
    """Ours or the baseline in a process, and what a listener heard of it."""

    def __init__(
        self,
        kind: str,
        url: str,
        source: Path,
        *speed: str,
        enough: int = sys.maxsize,
    ) -> None:
        host, port = url.removeprefix("mqtt://").split(":")
        quiet_s = "5" if FULL else "1.5"
        with subprocess.Popen(
            [sys.executable, "-c", LISTENER, port, quiet_s, str(enough)],
            stdout=subprocess.PIPE,
            text=True,
        ) as listener:
            assert listener.stdout is not None
            assert listener.stdout.readline() == "ready\n"
            begun = time.monotonic_ns()
            if kind == "ours":
                command = [sys.executable, "-c", OURS, "replay", str(source)]
                command += ["--broker", url, *speed]
            else:
                command = [str(MQTT_RECORDER), "--host", host, "--port", port]
                command += ["--mode", "replay", "--file", str(source)]
            with subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as process:
                self.megabytes = _peak_until_the_end(process, listener) / 1024
            heard = json.loads(listener.stdout.read())
        self.numbers = np.array(heard["numbers"])
        assert heard["batches"], f"{kind} said nothing"
        instants, counts = np.array(heard["batches"], np.int64).T
        self.arrivals = np.repeat(instants, counts)
        self.first_s = (self.arrivals[0] - begun) / 1e9

    @property
    def rate(self) -> float:
        return (len(self.arrivals) - 1) / (self.arrivals[-1] - self.arrivals[0]) * 1e9


@pytest.fixture
def broker():
    with EmbeddedBroker(backend="mosquitto") as running:
        yield running


@needs_mosquitto
@needs_baseline
def test_pace_of_100_hz(tmp_path, broker, record_property):
    count = 1000 if FULL else 100
    recording = make(tmp_path / "s.parquet", count, 10_000_000)
    table = make_csv(recording, tmp_path / "s.csv", delta_s=0.01)
    found = {}
    print()
    for kind, source in (("ours", tmp_path / "s.parquet"), ("mqtt-recorder", table)):
        player = Player(kind, broker.url, source)
        arrivals, numbers = player.arrivals, player.numbers
        apart = np.abs(np.diff(arrivals) - np.diff(numbers) * 10_000_000) / 1e6
        offset = (arrivals - arrivals[0] - (numbers - numbers[0]) * 10_000_000) / 1e6
        # Of a line through all of them: the first and the last may be late.
        drift = np.polyfit(numbers, offset, 1)[0] * count
        p50, p99 = np.percentile(apart, (50, 99))
        late = np.percentile(np.abs(offset), 99)
        print(
            f"{kind:14} of {count} messages {count - len(numbers)} lost; between two "
            f"p50 {p50:.3f} p99 {p99:.3f} ms; offset p99 {late:.2f} ms; "
            f"drift {drift:.2f} ms"
        )
        found[kind] = (p50, late, abs(drift))
        if kind == "ours":
            assert len(numbers) == count
    for number, (what, bar) in enumerate(
        (
            ("100 Hz: error between two messages, p50", 0.1),
            ("100 Hz: absolute offset, p99", 10.0),
            ("100 Hz for 10 s: drift", 2.0),
        )
    ):
        ours, theirs = found["ours"][number], found["mqtt-recorder"][number]
        said = f"{ours:.3g} ms (1/{theirs / ours:.3g} of mqtt-recorder's {theirs:.3g})"
        record_property("bar", (what, said, f"<= {bar:g} ms", bool(ours <= bar)))


@needs_mosquitto
@needs_baseline
def test_highest_rate_without_loss(tmp_path, broker, record_property):
    count = 200_000 if FULL else 5_000
    recording = make(tmp_path / "s.parquet", count, 1_000_000)
    table = make_csv(recording, tmp_path / "s.csv", delta_s=0.0)
    ours = Player("ours", broker.url, tmp_path / "s.parquet", "--speed", "max")
    baseline = Player("mqtt-recorder", broker.url, table)
    print(
        f"\nours {ours.rate:,.0f}/s, lost {count - len(ours.numbers)}; mqtt-recorder "
        f"{baseline.rate:,.0f}/s, lost {count - len(baseline.numbers)}; ratio "
        f"{ours.rate / baseline.rate:.2f}"
    )
    assert ours.numbers.tolist() == list(range(count))
    ratio = ours.rate / baseline.rate
    said = f"{ratio:.2f} x ({ours.rate:,.0f}/s to {baseline.rate:,.0f}/s)"
    what = "highest rate, QoS 0, none lost, to mqtt-recorder's"
    record_property("bar", (what, said, ">= 2 x", bool(ratio >= 2)))


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    return make(tmp_path_factory.mktemp("long") / "s.parquet", MILLION, 1_000_000)


@needs_mosquitto
@needs_baseline
def test_first_message_and_memory_of_a_long_recording(
    long, tmp_path, broker, record_property
):
    (source,) = long.paths
    table = make_csv(long, tmp_path / "s.csv", delta_s=0.0)
    ours = Player("ours", broker.url, source, "--speed", "max")
    # It holds the whole file before it says anything: the first will do.
    baseline = Player("mqtt-recorder", broker.url, table, enough=1)
    assert len(ours.numbers) == MILLION
    begin = time.perf_counter()
    heard: list[float] = []

    class First(Exception):  # noqa: N818 - ends the run at once
        pass

    def hear(message: Message) -> None:
        if message.kind == "publish":
            heard.append(time.perf_counter() - begin)
            raise First

    clock = VirtualClock(START)
    bus = LocalBus(clock)
    bus.observe(hear)
    Replayer(Recording.open(source), bus).process(clock)
    with pytest.raises(First):
        clock.run()
    print(
        f"\n{MILLION:,} messages: from the start of the process to the first ours "
        f"{ours.first_s:.2f} s ({heard[0]:.2f} s without starting Python), "
        f"mqtt-recorder {baseline.first_s:.2f} s; ratio "
        f"{baseline.first_s / ours.first_s:.1f}; peak memory ours "
        f"{ours.megabytes:.0f} MB, mqtt-recorder {baseline.megabytes:.0f} MB"
    )
    what = f"first of {MILLION:,} messages, opening to saying"
    record_property("bar", (what, f"{heard[0]:.3f} s", "< 0.5 s", heard[0] < 0.5))
    what = f"first of {MILLION:,} messages, process start to listener"
    said = (
        f"{ours.first_s:.2f} s (1/{baseline.first_s / ours.first_s:.1f} of "
        f"mqtt-recorder's {baseline.first_s:.2f})"
    )
    record_property("bar", (what, said, "< 0.5 s", bool(ours.first_s < 0.5)))
    what = f"peak memory over {MILLION:,} messages"
    said = (
        f"{ours.megabytes:.0f} MB (1/{baseline.megabytes / ours.megabytes:.1f} of "
        f"mqtt-recorder's {baseline.megabytes:.0f})"
    )
    record_property("bar", (what, said, "< 200 MB", ours.megabytes < 200))


@pytest.mark.parametrize("at_once", [1, 10])
def test_rate_in_a_simulation(long, tmp_path, at_once, record_property):
    if at_once == 1:
        recording = long
    else:
        recording = make(
            tmp_path / "s.parquet", MILLION // 4, 1_000_000_000, at_once=at_once
        )
    count = recording.count
    clock = VirtualClock(recording.start_ns)
    end = Replayer(recording, LocalBus(clock), control=False).process(clock)
    begin = time.process_time()
    clock.run()
    rate = count / (time.process_time() - begin)
    bare = simpy.Environment()

    def tick():
        for _ in range(count):
            yield bare.timeout(1)

    bare.process(tick())
    begin = time.process_time()
    bare.run()
    timeouts = count / (time.process_time() - begin)
    print(
        f"\n{at_once} messages per instant: {rate:,.0f} messages/s of processor time; "
        f"bare SimPy {timeouts:,.0f} timeouts/s; ratio {rate / timeouts:.2f}"
    )
    assert end.value.messages == count
    what = f"local bus in SimPy time, {at_once} at an instant"
    said = f"{rate:,.0f}/s ({rate / timeouts:.2f} x SimPy's bare timeouts)"
    record_property("bar", (what, said, ">= 300,000/s", rate >= 300_000))


@pytest.mark.parametrize("what", ["equal", "equal in another order", "one changed"])
def test_diff_of_long_recordings(long, tmp_path, what, record_property):
    first = next(iter(long.tables(end_ns=START + 10**9)))
    messages = list(to_messages(first.slice(0, 20)))
    if what == "equal in another order":
        messages[10], messages[11] = messages[11], messages[10]
    elif what == "one changed":
        messages[10] = messages[10]._replace(payload=b"wrong")
    with RecordingWriter(tmp_path / "b.parquet", journal=False) as writer:
        for message in messages:
            writer.append(message)
        for message in long.messages(start_ns=messages[-1].time_ns + 1):
            writer.append(message)
    b = Recording.open(tmp_path / "b.parquet")
    assert b.count == long.count
    begin, used = time.perf_counter(), time.process_time()
    report = diff(long, b)
    took, used = time.perf_counter() - begin, time.process_time() - used
    begin = time.process_time()
    for path in (*long.paths, *b.paths):
        pq.read_table(path)
    reading = time.process_time() - begin
    print(
        f"\ndiff of 2 x {MILLION:,}, {what}: {took:.2f} s ({used:.2f} s of processor "
        f"time; only reading both with pyarrow {reading:.2f} s; ratio "
        f"{used / reading:.1f})"
    )
    assert report.equal == what.startswith("equal")
    said = f"{took:.2f} s ({used / reading:.1f} x pyarrow's reading of both)"
    name = f"diff of 2 x {MILLION:,}, {what}"
    record_property("bar", (name, said, "< 5 s", took < 5))
