"""Real messages: imported, replayed through a broker, recorded, compared.

Once each; twenty times in a row with ``PLAYGROUND_BENCH=full``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from playground.broker import EmbeddedBroker, find_mosquitto
from playground.convert import TableOptions, import_file
from playground.diff import diff
from playground.message import Message
from playground.mqtt import MqttBus
from playground.record import BrokerSource, EmbeddedSource, Recorder
from playground.recording import Recording, RecordingWriter
from playground.replay import MAX, Replayer

ROUNDS = 20 if os.environ.get("PLAYGROUND_BENCH") == "full" else 1


@pytest.fixture
def heat_pump(data_dir, tmp_path) -> Recording:
    return import_file(
        data_dir / "altherma_ha" / "messages.parquet",
        tmp_path / "imported.parquet",
        table=TableOptions(topic_prefix="altherma", retain=True),
    ).recording


def keep(path: Path, messages: list[Message]) -> Recording:
    with RecordingWriter(path, journal=False) as writer:
        for message in messages:
            writer.append(message)
    return Recording.open(path)


def assert_same(expected: Recording, got: Recording) -> None:
    report = diff(expected, got)
    assert report.equal, report.as_dict()
    assert report.count_b == expected.count == 29_671


@pytest.mark.broker
@pytest.mark.slow
def test_heat_pump_messages_come_through_the_embedded_broker(
    heat_pump, tmp_path, eventually
):
    heard: list[Message] = []
    seen: list[Message] = []
    with EmbeddedBroker(observer=seen.append) as broker:
        listener = MqttBus(broker.url).receive("listener", heard.extend)
        listener.subscribe("altherma/#", qos=2)
        Replayer(heat_pump, MqttBus(broker.url), speed=MAX).run()
        eventually(lambda: len(heard) >= heat_pump.count)
        listener.disconnect()
    # What the broker saw is the recording, retain flags and QoS included; what
    # a subscriber hears of MQTT 3.1.1 has lost the retain flag by the standard.
    said = [m for m in seen if m.kind == "publish"]
    assert_same(heat_pump, keep(tmp_path / "seen.parquet", said))
    live = [m._replace(retain=True) for m in heard]
    assert_same(heat_pump, keep(tmp_path / "heard.parquet", live))


@pytest.mark.slow
def test_heat_pump_messages_come_through_mosquitto(
    heat_pump, tmp_path, mosquitto, eventually
):
    heard: list[Message] = []
    bus = MqttBus(mosquitto.url, retain_as_published=True)
    listener = bus.receive("listener", heard.extend)
    listener.subscribe("altherma/#", qos=2)
    Replayer(heat_pump, MqttBus(mosquitto.url), speed=MAX).run()
    eventually(lambda: len(heard) >= heat_pump.count)
    listener.disconnect()
    assert_same(heat_pump, keep(tmp_path / "heard.parquet", heard))
    # Afterwards the broker holds the state of the end of the recording.
    late: list[Message] = []
    newcomer = bus.receive("newcomer", late.extend)
    newcomer.subscribe("altherma/#", qos=1)
    eventually(lambda: len(late) >= 25)
    newcomer.disconnect()
    last = {m.topic: m.payload for m in heat_pump.messages()}
    assert {m.topic: m.payload for m in late} == last


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["amqtt", "mosquitto"])
def test_what_was_recorded_replayed_and_recorded_again_is_equal(
    backend, heat_pump, tmp_path, eventually
):
    if backend == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    last = {m.topic: m.payload for m in heat_pump.messages()}
    recording = heat_pump
    # Each round plays what the round before it recorded.
    for number in range(ROUNDS):
        path = tmp_path / f"{number}.parquet"
        broker = EmbeddedBroker(backend=backend)
        if backend == "amqtt":
            source = EmbeddedSource(broker)
        else:
            broker.start()
            source = BrokerSource(broker.url)
        try:
            with Recorder(source, path, filters=("altherma/#",)) as recorder:
                bus = MqttBus(broker.url)
                report = Replayer(recording, bus, speed=MAX, control=False).run()
                assert report.messages == heat_pump.count
                eventually(
                    lambda: recorder.progress().count >= heat_pump.count, within_s=60
                )
                late: list[Message] = []
                newcomer = bus.connect("newcomer", late.append)
                newcomer.subscribe("altherma/#", qos=1)
                eventually(lambda heard=late: len(heard) >= len(last))
                newcomer.disconnect()
            recording = recorder.recording
        finally:
            broker.stop()
        assert {m.topic: m.payload for m in late if m.retain} == last, number
        report = diff(heat_pump, recording)
        assert report.equal, (number, report.as_dict())
        assert report.count_b == 29_671
