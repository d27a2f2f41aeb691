"""Replay to consumers and brokers that stop listening for a while.

Two seconds each; five with ``PLAYGROUND_BENCH=full``.
"""

import os
import signal
import socket
import threading
from contextlib import contextmanager

import pytest

from playground.broker import EmbeddedBroker, find_mosquitto
from playground.message import Message
from playground.mqtt import MqttBus
from playground.packets import (
    Connect,
    PacketReader,
    Publish,
    Subscribe,
    Subscription,
    encode,
)
from playground.recording import Recording, RecordingWriter
from playground.replay import Replayer

STALL_S = 5.0 if os.environ.get("PLAYGROUND_BENCH") == "full" else 2.0
START = 1_700_000_000 * 10**9


@pytest.fixture
def session(tmp_path):
    """Half a second before a stall and as long as it after: 100 kB, 200 times a second.

    Far more than all buffers between a replay and a consumer hold.
    """
    count = round((STALL_S + 1) * 200)
    with RecordingWriter(tmp_path / "s.parquet", journal=False) as writer:
        for number in range(count):
            payload = b"%06d" % number + bytes(100_000)
            time_ns = START + number * 5_000_000
            writer.append(Message(time_ns, "stall/a", payload))
    return Recording.open(tmp_path / "s.parquet")


class Consumer:
    """A subscriber on a bare socket, which can stop reading."""

    def __init__(self, port: int) -> None:
        self.numbers: list[int] = []
        self._reader = PacketReader(4)
        self._link = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._say(Connect(client_id="consumer", version=4))
        wanted = (Subscription(topic_filter="stall/#"),)
        self._say(Subscribe(packet_id=1, subscriptions=wanted))

    def _say(self, packet) -> None:
        self._link.sendall(encode(packet, 4))
        while self._reader.next_packet() is None:
            self._reader.feed(self._link.recv(1000))

    def read(self, count: int) -> None:
        """Reads until so many messages have come."""
        while len(self.numbers) < count:
            data = self._link.recv(1 << 20)
            assert data, "the broker has closed the connection"
            self._reader.feed(data)
            for packet in self._reader:
                if isinstance(packet, Publish):
                    self.numbers.append(int(packet.payload[:6]))

    def close(self) -> None:
        self._link.close()


@contextmanager
def consumer_of(broker):
    consumer = Consumer(broker.port)
    try:
        yield consumer
    finally:
        consumer.close()


@contextmanager
def playing(recording, url):
    """Plays in a thread; yields what will hold the report."""
    reports: list = []
    replayer = Replayer(recording, MqttBus(url), control=False)
    thread = threading.Thread(target=lambda: reports.append(replayer.run()))
    thread.start()
    try:
        yield reports, thread
    finally:
        replayer.stop()
        thread.join(60)


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["amqtt", "mosquitto"])
def test_a_consumer_that_stalls_loses_nothing_and_lateness_is_told(session, backend):
    if backend == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    with (
        EmbeddedBroker(backend=backend) as broker,
        consumer_of(broker) as consumer,
        playing(session, broker.url) as (reports, thread),
    ):
        consumer.read(100)
        # The stall itself is the thing that is tested.
        threading.Event().wait(STALL_S)
        consumer.read(session.count)
        thread.join(60)
    (report,) = reports
    assert consumer.numbers == list(range(session.count))
    assert report.messages == report.lateness.count == session.count
    assert "lateness: p50" in str(report)


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
def test_a_broker_that_stalls_moves_what_follows_and_loses_nothing(
    session, monkeypatch
):
    import subprocess

    started: list[subprocess.Popen] = []
    popen = subprocess.Popen

    def remember(*arguments, **options):
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr("playground.broker.mosquitto.subprocess.Popen", remember)
    with (
        EmbeddedBroker(backend="mosquitto") as broker,
        consumer_of(broker) as consumer,
        playing(session, broker.url) as (reports, thread),
    ):
        consumer.read(100)
        started[-1].send_signal(signal.SIGSTOP)
        try:
            threading.Event().wait(STALL_S)
        finally:
            started[-1].send_signal(signal.SIGCONT)
        consumer.read(session.count)
        thread.join(60)
    (report,) = reports
    assert consumer.numbers == list(range(session.count))
    # Some of it went into buffers; the rest of the stall is said, not made up for.
    assert report.lateness.max_s > 0.25
    assert report.slipped_s > 0.25
    assert "could not keep up" in str(report)
