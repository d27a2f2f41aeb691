"""The recorder beside mqtt-recorder and beside a paho client that only counts.

Each figure is a ratio within one run: absolute numbers belong to a machine.
Run with ``make bench-recorder``; without ``--benchmark-enable`` they run small, to
show that they work.
"""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from playground.broker import EmbeddedBroker, find_mosquitto
from playground.packets import MQTT_3_1_1, Connect, PacketReader, Publish, encode
from playground.recording import Recording

pytestmark = pytest.mark.skipif(
    find_mosquitto() is None, reason="mosquitto is not installed"
)

FULL = os.environ.get("PLAYGROUND_BENCH") == "full"
MQTT_RECORDER = shutil.which("mqtt-recorder", path=str(Path(sys.executable).parent))
COUNTER = """
import sys, time
import paho.mqtt.client as paho
count, first = 0, 0.0
def on_message(client, userdata, message):
    global count, first
    count += 1
    if count == 1:
        first = time.time()
    if count == int(sys.argv[2]):
        print(count, first, time.time(), flush=True)
        client.disconnect()
client = paho.Client(paho.CallbackAPIVersion.VERSION2, "counter")
client.on_message = on_message
client.on_connect = lambda c, *a: c.subscribe("bench/#")
client.on_subscribe = lambda *a: print("ready", flush=True)
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_forever()
"""
OURS = "from playground.cli import main; main()"


class Blaster:
    """Publishes at QoS 0 faster than anybody can listen."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(
            encode(Connect(client_id="blaster", version=MQTT_3_1_1), MQTT_3_1_1)
        )
        reader = PacketReader(MQTT_3_1_1)
        while reader.next_packet() is None:
            reader.feed(self.socket.recv(100))
        draw = random.Random(1)
        said = [
            Publish(f"bench/rig/unit{n % 50}/state", _payload(draw))
            for n in range(1000)
        ]
        self.packets = [encode(packet, MQTT_3_1_1) for packet in said]
        self.journal_bytes = sum(36 + len(p.topic) + len(p.payload) for p in said)

    def blast(self, count: int) -> None:
        block = b"".join(self.packets)
        for _ in range(count // len(self.packets)):
            self.socket.sendall(block)

    def pace(self, count: int, rate_hz: float) -> None:
        begin = time.monotonic()
        for number in range(count):
            self.socket.sendall(self.packets[number % len(self.packets)])
            ahead_s = begin + (number + 1) / rate_hz - time.monotonic()
            if ahead_s > 0:
                time.sleep(ahead_s)  # it is a pace, nothing is waited for

    def close(self) -> None:
        self.socket.close()


def _payload(draw: random.Random) -> bytes:
    """185 bytes of JSON, as of the facts page."""
    body = (
        f'{{"ts":{draw.randint(1_760_000_000_000, 1_770_000_000_000)},'
        f'"temperature":{draw.uniform(10, 60):.3f},"flow":{draw.uniform(0, 2):.4f},'
        f'"power":{draw.uniform(0, 4000):.1f},"state":"running","unit":"degC",'
        f'"quality":"good","seq":{draw.randint(0, 99999):05d},"note":"'
    )
    return (body + "x" * (185 - len(body) - 2) + '"}').encode()


class Subscriber:
    """A process under test, from ready to done."""

    def __init__(self, kind: str, port: int, folder: Path, count: int) -> None:
        self.kind = kind
        self.count = count
        self.file = folder / f"{kind}.out"
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if kind == "paho":
            command = [sys.executable, "-c", COUNTER, str(port), str(count)]
        elif kind == "mqtt-recorder":
            command = [
                *(str(MQTT_RECORDER), "--host", "127.0.0.1", "--port", str(port)),
                *("--mode", "record", "--file", str(self.file), "-t", "bench/#"),
            ]
        else:
            self.file = folder / "ours.parquet"
            command = [
                *(sys.executable, "-c", OURS, "record", str(self.file)),
                *("--broker", f"mqtt://127.0.0.1:{port}", "-t", "bench/#"),
            ]
        self.process = subprocess.Popen(
            command,
            # mqtt-recorder logs every message; nobody reads it here.
            stdout=subprocess.DEVNULL if kind == "mqtt-recorder" else subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
        )

    def wait_until_ready(self, probe: Blaster) -> None:
        """Until it hears: a message is repeated until something has come."""
        if self.kind == "mqtt-recorder":
            deadline = time.monotonic() + 20
            while not (self.file.exists() and self.file.stat().st_size):
                assert time.monotonic() < deadline
                probe.socket.sendall(encode(Publish("bench/probe", b"{}"), MQTT_3_1_1))
                time.sleep(0.05)
            return
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2]
        user, system = fields.split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def received(self) -> int:
        if self.kind == "mqtt-recorder":
            with self.file.open("rb") as file:
                return sum(
                    block.count(b"\n")
                    for block in iter(lambda: file.read(1 << 20), b"")
                )
        journal = self.file.with_name(self.file.name + ".journal")
        return journal.stat().st_size if journal.exists() else 0

    def finish(self) -> np.ndarray:
        """Ends it; returns when each message was received, seconds."""
        if self.kind == "paho":
            assert self.process.stdout is not None
            count, first, last = self.process.stdout.readline().split()
            assert int(count) == self.count
            self.process.wait(10)
            self.process.stdout.close()
            return np.array([float(first), float(last)])
        _until_quiet(self.received)
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=60)
        if self.kind == "mqtt-recorder":
            with self.file.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.reader(file) if row[0] != "bench/probe"]
            return np.array([float(row[4]) for row in rows])
        recording = Recording.open(self.file)
        times = recording.table(columns=["time"]).column("time")
        return times.cast("int64").to_numpy() / 1e9

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()


def _until_quiet(size, *, quiet_s: float = 0.7) -> None:
    """A process cannot be asked whether it has everything: until nothing grows."""
    known, since = size(), time.monotonic()
    pause = threading.Event()
    while time.monotonic() - since < quiet_s:
        pause.wait(0.1)
        if (now := size()) != known:
            known, since = now, time.monotonic()


def _sustained(kind: str, folder: Path, count: int) -> tuple[float, int]:
    """Messages per second that a subscriber takes, and how many it lost.

    mosquitto keeps what a subscriber has not taken, so the rate between the
    first and the last is what the subscriber sustains.
    """
    with EmbeddedBroker(backend="mosquitto") as broker:
        blaster = Blaster(broker.port)
        subscriber = Subscriber(kind, broker.port, folder, count)
        try:
            subscriber.wait_until_ready(blaster)
            blaster.blast(count)
            times = subscriber.finish()
        finally:
            subscriber.kill()
            blaster.close()
    lost = 0 if kind == "paho" else count - len(times)
    return (count - lost) / (times[-1] - times[0]), lost


def test_sustained_rate(benchmark, tmp_path, record_property):
    small = benchmark.disabled
    count = 4000 if small else 60_000
    kinds = ["paho", "ours"] + (["mqtt-recorder"] if MQTT_RECORDER else [])
    rounds = 1 if small else 2
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    losses: dict[str, int] = dict.fromkeys(kinds, 0)

    def run() -> None:
        for number in range(rounds):
            for kind in kinds:
                folder = tmp_path / f"{kind}{number}"
                folder.mkdir()
                rate, lost = _sustained(kind, folder, count)
                rates[kind].append(rate)
                losses[kind] += lost

    benchmark.pedantic(run, rounds=1)
    median = {kind: float(np.median(values)) for kind, values in rates.items()}
    assert losses["ours"] == 0
    for kind in kinds:
        print(f"\n{kind:<14} {median[kind]:9.0f} msg/s, lost {losses[kind]}", end="")
    for kind, least in {"paho": 0.9, "mqtt-recorder": 1.5}.items():
        if kind in median:
            ratio = median["ours"] / median[kind]
            print(f"\nours / {kind:<14} {ratio:.2f} (must be >= {least})", end="")
            record_property(
                "bar",
                (
                    f"sustained rate without loss, QoS 0, beside {kind}",
                    f"{ratio:.2f} x ({median['ours']:,.0f}/s)",
                    f">= {least} x",
                    ratio >= least,
                ),
            )


def test_cpu_per_message_at_1000_per_second(benchmark, tmp_path, record_property):
    seconds = 0.5 if benchmark.disabled else 5.0
    count = int(1000 * seconds)
    kinds = ["ours"] + (["mqtt-recorder"] if MQTT_RECORDER else [])
    cpu_us: dict[str, float] = {}

    def run() -> None:
        with EmbeddedBroker(backend="mosquitto") as broker:
            blaster = Blaster(broker.port)
            subscribers = [
                Subscriber(kind, broker.port, tmp_path, count) for kind in kinds
            ]
            try:
                for subscriber in subscribers:
                    subscriber.wait_until_ready(blaster)
                blaster.pace(100, 1000)
                before = [subscriber.cpu_s() for subscriber in subscribers]
                blaster.pace(count, 1000)
                for subscriber, began in zip(subscribers, before, strict=True):
                    used_s = subscriber.cpu_s() - began
                    cpu_us[subscriber.kind] = used_s / count * 1e6
            finally:
                for subscriber in subscribers:
                    subscriber.kill()
                blaster.close()

    benchmark.pedantic(run, rounds=1)
    for kind, used_us in cpu_us.items():
        print(f"\n{kind:<14} {used_us:7.1f} us of CPU per message", end="")
    if MQTT_RECORDER:
        ratio = cpu_us["ours"] / max(cpu_us["mqtt-recorder"], 1e-9)
        print(f"\nours / mqtt-recorder   {ratio:.2f} (must be <= 0.6)")
        record_property(
            "bar",
            (
                "CPU per message at 1,000/s, beside mqtt-recorder",
                f"{ratio:.2f} x ({cpu_us['ours']:.0f} us)",
                "<= 0.6 x",
                ratio <= 0.6,
            ),
        )


def _resident_mb(process: subprocess.Popen[str]) -> float:
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the recorder has ended")


def _until_it_has(path: Path, size: int) -> None:
    deadline = time.monotonic() + 120
    pause = threading.Event()
    while path.stat().st_size < size:
        assert time.monotonic() < deadline, "it does not hear any more"
        pause.wait(0.002)


def test_resident_memory_stays_flat(benchmark, tmp_path, record_property):
    """10 M messages with ``PLAYGROUND_BENCH=full``, else 1 M; 100 k to try it.

    What the recorder has not taken yet lies in the broker: so memory here is the
    recorder's alone.
    """
    count = 10_000_000 if FULL else 1_000_000
    if benchmark.disabled:
        count = 100_000
    told: list[float] = []

    def run() -> None:
        with EmbeddedBroker(backend="mosquitto") as broker:
            blaster = Blaster(broker.port)
            subscriber = Subscriber("ours", broker.port, tmp_path, count)
            try:
                subscriber.wait_until_ready(blaster)
                journal = subscriber.file.with_name("ours.parquet.journal")
                size = journal.stat().st_size
                for _ in range(count // 20_000):
                    blaster.blast(20_000)
                    size += 20 * blaster.journal_bytes
                    _until_it_has(journal, size)
                    told.append(_resident_mb(subscriber.process))
            finally:
                subscriber.kill()
                blaster.close()

    benchmark.pedantic(run, rounds=1)
    settled, end = told[len(told) // 4], told[-1]
    print(
        f"\nresident memory over {count:,} messages: {settled:.1f} MB after a "
        f"quarter, {end:.1f} MB at the end, ratio {end / settled:.3f} "
        "(must stay flat: <= 1.05)"
    )
    record_property(
        "bar",
        (
            f"resident memory while recording {count:,} messages",
            f"{settled:.0f} MB, then {end:.0f} MB ({end / settled:.3f} x)",
            "flat (<= 1.05 x)",
            end <= 1.05 * settled,
        ),
    )
    assert end <= 1.05 * settled
