"""How fast the physical plants step, as ratios measured in one run.

The baseline is the cheapest plant there can be in Python: a loop of one float,
``x += (u - x) * k``. The machine may be slow or busy; the ratio is not.

    pytest tests/benchmarks/test_bench_plants.py -s
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from playground.bus import LocalBus
from playground.clock import VirtualClock
from playground.plants import Plant
from playground.plants.boptest_testcase1 import SimpleRC
from playground.plants.device import Device
from playground.plants.house import House
from playground.plants.lab_rig import LabRig

ROUNDS = 5
STEPS = 10_000
BARE_STEPS = 500_000


def fastest(work: Callable[[], int]) -> float:
    """Returns steps per second of processor time in the best of some rounds."""
    best = 0.0
    for _ in range(ROUNDS):
        begin = time.process_time()
        count = work()
        best = max(best, count / (time.process_time() - begin))
    return best


def bare() -> int:
    x = 20.0
    u = 50.0
    for _ in range(BARE_STEPS):
        x += (u - x) * 1e-3
    assert x > 20.0
    return BARE_STEPS


def stepping(plant: Plant, **inputs: float) -> Callable[[], int]:
    held = {
        s.name: s.initial or 0.0
        for s in plant.signals.with_role("command", "disturbance")
    } | inputs
    plant.reset(seed=1)
    period_s = plant.period_s

    def work() -> int:
        step = plant.step
        for tick in range(1, STEPS + 1):
            step(tick * period_s, held)
        return STEPS

    work()  # until it runs warm: a plant at rest would be cheaper
    return work


# Bare steps in the time of one step of the plant, with room for a busy machine.
@pytest.mark.parametrize(
    ("name", "make", "inputs", "most"),
    [
        ("lab rig", LabRig, {"vsd1": 0.7, "vsd2": 0.7}, 600),
        ("house", House, {}, 2_500),
        ("testcase1", SimpleRC, {"heater": 1_000.0}, 80),
    ],
)
def test_steps_per_second(
    name: str, make: Callable[[], Plant], inputs: dict[str, float], most: float
) -> None:
    baseline = fastest(bare)
    rate = fastest(stepping(make(), **inputs))
    print(
        f"\n{name}: {rate:,.0f} steps/s; "
        f"bare float loop: {baseline:,.0f}/s; ratio 1 : {baseline / rate:.0f}"
    )
    assert baseline / rate < most


def test_an_hour_of_the_rig_on_the_bus() -> None:
    baseline = fastest(bare)

    def hour() -> int:
        clock = VirtualClock()
        bus = LocalBus(clock)
        count = 0

        def observe(_: object) -> None:
            nonlocal count
            count += 1

        bus.observe(observe)
        Device(LabRig(), bus, clock)
        clock.run(until=3_600.0)
        return count

    rate = fastest(hour)
    print(
        f"\nlab rig on the local bus: {rate:,.0f} messages/s; "
        f"bare float loop: {baseline:,.0f}/s; ratio 1 : {baseline / rate:.0f}"
    )
    assert baseline / rate < 3_000
