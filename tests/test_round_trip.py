"""Real messages: imported, replayed through a broker, recorded, compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from playground.broker import EmbeddedBroker
from playground.convert import TableOptions, import_file
from playground.diff import diff
from playground.message import Message
from playground.mqtt import MqttBus
from playground.recording import Recording, RecordingWriter
from playground.replay import MAX, Replayer


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
