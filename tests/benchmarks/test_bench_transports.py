"""The transports beside what each stands on: one table, ``make bench-transports``.

Each figure is set beside a baseline measured in the same run, because absolute
numbers belong to a machine: a local run beside bare SimPy timeouts, hosted programs
beside real time, lockstep beside bare round trips over the same broker. Without
``--benchmark-enable`` everything runs small, to show that it works.
"""

from __future__ import annotations

import queue
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import simpy

from playground import transport
from playground.broker import EmbeddedBroker, find_mosquitto
from playground.bus import LocalBus
from playground.clock import Phase, VirtualClock
from playground.host import Hosted
from playground.mqtt import MqttBus
from playground.run import run
from playground.scenario import Scenario

HERE = Path(__file__).parent
TABLE: list[tuple[str, str, str]] = []
CLIENT = """
import sys
from playground.testing import LockstepClient

def act(now, messages, client):
    for message in messages:
        client.publish("lab/valve", b"1")

LockstepClient(sys.argv[1], "control", act, filters=["lab/temp"]).run()
"""
ECHO = """
import sys, threading
from playground.mqtt import MqttBus

def answer(message):
    echo.publish("pong", message.payload)

echo = MqttBus(sys.argv[1]).connect("echo", answer)
echo.subscribe("ping")
echo.publish("ready", b"", retain=True)
threading.Event().wait()
"""


@pytest.fixture(scope="module", autouse=True)
def _table() -> Iterator[None]:
    yield
    width = [max(len(row[k]) for row in TABLE) for k in range(3)]
    print()
    for row in TABLE:
        print("| " + " | ".join(f"{c:<{w}}" for c, w in zip(row, width, strict=True)))


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--benchmark-enable"))


def _bare_timeouts_per_s(count: int) -> float:
    env = simpy.Environment()

    def ticking() -> Iterator[simpy.Event]:
        while True:
            yield env.timeout(1)

    for _ in range(10):
        env.process(ticking())
    began = time.process_time()
    env.run(until=count / 10)
    return count / (time.process_time() - began)


def test_a_recorded_run_on_the_local_bus(
    long: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    scenario = Scenario(
        name="bench",
        plant="ten_topics:TenTopics",
        controllers=["ten_topics:ThreeCommands"],
        duration="1min",
    )
    run(scenario, out=tmp_path / "warm")  # imports are not the subject
    duration = "24h" if long else "5min"
    # Each run between two baselines: the machine is not the same from minute to minute.
    count = 500_000 if long else 10_000
    ratios, rates, walls = [], [], []
    before = _bare_timeouts_per_s(count)
    for number in range(5 if long else 1):
        began, began_wall = time.process_time(), time.perf_counter()
        result = run(scenario.replace(duration=duration), out=tmp_path / f"{number}")
        rates.append(result.messages / (time.process_time() - began))
        walls.append(time.perf_counter() - began_wall)
        after = _bare_timeouts_per_s(count)
        ratios.append(rates[-1] / np.sqrt(before * after))
        before = after
    TABLE.append(
        (
            f"local bus, plant 10 topics, 3 commands at 1 Hz, {duration}, recorded",
            f"{np.median(rates):,.0f} msg/s of processor time, median; "
            f"{min(walls):.1f} to {max(walls):.1f} s wall; goal 2.5 s",
            f"{np.median(ratios):.2f} x bare timeouts ({before:,.0f}/s), "
            f"{min(ratios):.2f} to {max(ratios):.2f}; goal 0.4",
        )
    )
    assert result.messages > 3000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("programs", "hours", "goal"), [(1, 1.0, "1 s"), (10, 24.0, "60 s")]
)
def test_hosted_programs(long: bool, programs: int, hours: float, goal: str) -> None:
    hours = hours if long else 0.05
    clock = VirtualClock()
    bus = LocalBus(clock)
    plant = bus.connect("plant")
    answers: list[object] = []
    bus.connect("ear", answers.append).subscribe("processed/inlet")
    clock.every(
        5.0,
        lambda: plant.publish("device/0/registers", b'{"device": 0, "2023": 505}'),
        phase=Phase.PUBLICATION,
    )
    hosted = [
        Hosted(HERE / "hosted_control.py", bus, clock, name=f"control-{number}")
        for number in range(programs)
    ]
    clock.run(until=1.0)  # the interpreters have started
    began = time.perf_counter()
    clock.run(until=hours * 3600)
    took = time.perf_counter() - began
    for program in hosted:
        program.close()
        assert not program.findings
    assert len(answers) == programs * (int(hours * 3600 / 5) - 1)
    TABLE.append(
        (
            f"{programs} hosted, a message in and out each 5 s, {hours:g} h",
            f"{took:.2f} s wall; goal {goal}",
            f"{hours * 3600 / took:,.0f} x real time",
        )
    )


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.parametrize(("backend", "goal"), [("amqtt", 800), ("mosquitto", 2000)])
def test_lockstep_with_one_client(long: bool, backend: str, goal: int) -> None:
    if backend == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    ticks = 5_000 if long else 200
    with EmbeddedBroker(backend=backend) as broker:
        bare = _round_trips_per_s(broker.url, ticks)
        client = subprocess.Popen([sys.executable, "-c", CLIENT, broker.url])
        try:
            with transport.lockstep(
                url=broker.url, clients=["control"], deadline_s=60
            ) as opened:
                plant = opened.bus.connect("plant")
                opened.clock.every(
                    1.0, lambda: plant.publish("lab/temp", b"50"), phase=Phase.PLANT
                )
                opened.clock.run(until=0.5)  # the client is there
                before = opened.bus.ticks
                began = time.perf_counter()
                opened.clock.run(until=0.5 + ticks)
                took = time.perf_counter() - began
                rate = (opened.bus.ticks - before) / took
        finally:
            client.kill()
            client.wait()
    TABLE.append(
        (
            f"lockstep, one client in a process of its own, {backend}",
            f"{rate:,.0f} ticks/s; goal {goal:,} on an idle machine",
            f"{rate / bare:.2f} x bare round trips over it ({bare:,.0f}/s)",
        )
    )


def _round_trips_per_s(url: str, count: int) -> float:
    process = subprocess.Popen([sys.executable, "-c", ECHO, url])
    heard: queue.SimpleQueue[object] = queue.SimpleQueue()
    asking = MqttBus(url).connect("asking", heard.put)
    try:
        asking.subscribe("ready")
        heard.get(timeout=60)
        asking.subscribe("pong")
        began = time.perf_counter()
        for _ in range(count):
            asking.publish("ping", b"")
            heard.get(timeout=60)
        return count / (time.perf_counter() - began)
    finally:
        asking.disconnect()
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.broker
def test_realtime_at_speed_1(long: bool) -> None:
    duration_s = 20.0 if long else 1.0
    with transport.realtime() as opened:
        plant = opened.bus.connect("plant")
        opened.clock.every(
            0.1, lambda: plant.publish("lab/temp", b"50"), phase=Phase.PLANT
        )
        opened.clock.run(until=duration_s)
        opened.finish()
        late = np.array(opened.clock.lateness_s)
    sleeps = _sleeping(duration_s)
    TABLE.append(
        (
            "realtime x 1, a message each 0.1 s over amqtt",
            f"{np.mean(late <= 0.005):.1%} of {len(late)} events within 5 ms; goal 99 %",
            f"bare sleeps: {np.mean(sleeps <= 0.005):.1%}; p99 "
            f"{1e3 * np.percentile(late, 99):.1f} ms, sleeps "
            f"{1e3 * np.percentile(sleeps, 99):.1f} ms",
        )
    )


def _sleeping(duration_s: float) -> np.ndarray:
    """Returns what this machine does to a thread that only sleeps."""
    begin = time.monotonic()
    late = []
    for number in range(1, int(duration_s / 0.1) + 1):
        due = begin + number * 0.1
        time.sleep(max(0.0, due - time.monotonic()))
        late.append(time.monotonic() - due)
    return np.array(late)
