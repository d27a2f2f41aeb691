"""Hosted programs beside the same control written as callbacks on the bus.

Each figure is a ratio within one run: absolute numbers belong to a machine.
Run with ``pytest tests/benchmarks/test_bench_host.py --benchmark-enable -s``;
without that option they run small, to show that they work.
"""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path

import pytest

from playground.bus import LocalBus
from playground.clock import Phase, VirtualClock
from playground.host import Hosted
from playground.message import Message

PROGRAM = Path(__file__).parent / "hosted_control.py"
READING = json.dumps({"device": 0, "2023": 505}).encode()
READ_EACH_S = 5.0


def _plant(clock: VirtualClock, bus: LocalBus) -> list[Message]:
    """Publishes a reading each 5 s; returns where all messages are logged."""
    log: list[Message] = []
    bus.observe(log.append)
    plant = bus.connect("plant")
    clock.every(
        READ_EACH_S,
        lambda: plant.publish("device/0/registers", READING),
        phase=Phase.PUBLICATION,
    )
    return log


def _native(duration_s: float) -> float:
    """Returns the wall time of the same control as callbacks on the bus."""
    clock = VirtualClock()
    bus = LocalBus(clock)
    log = _plant(clock, bus)

    def on_message(message: Message) -> None:
        value = json.loads(message.payload)["2023"] / 10
        control.publish("processed/inlet", str(value).encode())

    control = bus.connect("control", on_message)
    control.subscribe("device/+/registers")
    begin = time.perf_counter()
    clock.run(until=duration_s)
    took = time.perf_counter() - begin
    assert len(log) > 2 * duration_s / READ_EACH_S
    return took


def _processor_s() -> float:
    """Returns the processor time of this process and of those that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def _hosted(duration_s: float, programs: int) -> tuple[float, float, float]:
    """Returns wall time with and without starting interpreters, and processor time."""
    clock = VirtualClock()
    bus = LocalBus(clock)
    log = _plant(clock, bus)
    begin, begin_processor = time.perf_counter(), _processor_s()
    hosted = [
        Hosted(PROGRAM, bus, clock, name=f"control-{number}")
        for number in range(programs)
    ]
    clock.run(until=1.0)
    begin_running = time.perf_counter()
    clock.run(until=duration_s)
    end = time.perf_counter()
    for program in hosted:
        program.close()
        assert not program.findings
    answers = sum(message.topic == "processed/inlet" for message in log)
    # It connects at 0 s, after the first reading.
    assert answers == programs * (int(duration_s / READ_EACH_S) - 1)
    return end - begin, end - begin_running, _processor_s() - begin_processor


@pytest.mark.parametrize(("programs", "hours"), [(1, 1.0), (10, 24.0)])
def test_hosted_programs_beside_native_callbacks(
    programs: int, hours: float, request: pytest.FixtureRequest
) -> None:
    if not request.config.getoption("--benchmark-enable"):
        hours = min(hours, 0.05)
    duration_s = hours * 3600
    native_s = _native(duration_s)
    whole_s, running_s, processor_s = _hosted(duration_s, programs)
    print(
        f"\n{programs} hosted x {hours:g} h, a reading each {READ_EACH_S:g} s: "
        f"{whole_s:.2f} s with the start of the interpreters, {running_s:.2f} s "
        f"without = {duration_s / running_s:,.0f} x real time; "
        f"{running_s / native_s:.0f} x the time of one native control; "
        f"{processor_s:.2f} s of processor time on all cores, all included"
    )
