"""The strategy as it goes to the lab, against the lab's double."""

import pytest
from keep_warm import SNAPSHOT, KeepWarm

from playground.assertions import (
    assert_always,
    assert_eventually,
    assert_messages,
    assert_never,
)


def test_the_tank_is_brought_to_40_degc_and_kept_there(virtual_plant, hosted):
    rig = virtual_plant("lab_rig")
    rig.set("ambient", "10 degC")
    program = hosted("keep_warm.py", "broker.lab", "40")
    rig.advance("90min")
    assert not program.findings
    assert_eventually(rig.signal("buffer_temp"), "> 38 degC", within="1h")
    assert_always(rig.signal("buffer_temp"), "in 34 degC..45 degC", since_s=3600)
    assert_never(rig, "power > 10 kW")


def test_it_says_on_a_recorded_day_what_it_said_before(replay, bus, clock, hosted):
    said = []
    bus.connect("ear", said.append).subscribe("+/write")
    hosted("keep_warm.py", "broker.lab", "40")
    replay("warming-up.parquet", topics=[SNAPSHOT])
    clock.run(until=1200)
    assert_messages(
        said, [("vsd2/write", "0.5"), ("vsd1/write", "0.7")], exactly=True
    )


@pytest.mark.recording("warming-up.parquet", max_age="3650d")
def test_the_recording_has_what_the_strategy_needs(recording):
    assert recording.table(topics=[SNAPSHOT]).num_rows > 100


@pytest.fixture
def lab(mqtt_broker):
    return mqtt_broker.client(subscribe="+/write")


@pytest.fixture
def strategy(mqtt_broker, lab):
    # The lab listens first: what nobody hears is gone.
    control = KeepWarm("127.0.0.1", mqtt_broker.port)
    yield control
    control.close()


def test_over_a_real_broker_it_answers_a_cold_tank(lab, strategy):
    lab.wait_for("vsd2/write", "0.5")
    lab.publish(SNAPSHOT, {"tc_buffer": 20.0})
    lab.wait_for("vsd1/write", "0.7")
    lab.publish(SNAPSHOT, {"tc_buffer": 50.0})
    lab.wait_for("vsd1/write", "0.1")


@pytest.mark.seeds(2)
def test_sensor_noise_does_not_make_it_restless(virtual_plant, hosted):
    rig = virtual_plant("lab_rig")
    hosted("keep_warm.py", "broker.lab", "40")
    rig.advance("20min")
    commands = [m for m in rig.messages if m.topic == "vsd1/write"]
    assert len(commands) <= 4
