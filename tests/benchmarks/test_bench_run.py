"""How fast a run is: messages per second, beside SimPy's bare timeouts.

The goal is a day of a plant with ten topics at 1 Hz and a controller with three
commands (1.1 M messages), recorded to Parquet, at 500,000 messages a second on a
machine that does 1.4 M bare timeouts: a ratio of 0.36. ``pytest tests/benchmarks
--benchmark-enable -s`` prints it; without that a short run is made once.
"""

import os
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import simpy

from playground.recording import Recording
from playground.report import write_report
from playground.run import judge, run
from playground.scenario import Scenario
from playground.sweep import TABLE, sweep

HERE = Path(__file__).parent
CHECKS = [
    {"always": f"y{k} in {low} degC..{low + 200} degC"}
    for k in range(10)
    for low in (-50, -100)
]
KPIS = {"use": [{"travel": {"of": f"y{k}", "as": f"travel{k}"}} for k in range(10)]}


@pytest.fixture
def scenario(monkeypatch, request):
    monkeypatch.syspath_prepend(str(HERE))
    long = request.config.getoption("--benchmark-enable")
    return Scenario(
        name="bench",
        plant="ten_topics:TenTopics",
        controllers=["ten_topics:ThreeCommands"],
        duration="24h" if long else "10min",
    )


def bare_timeouts_per_s(count=200_000):
    env = simpy.Environment()

    def ticking():
        while True:
            yield env.timeout(1)

    for _ in range(10):
        env.process(ticking())
    began = time.process_time()
    env.run(until=count / 10)
    return count / (time.process_time() - began)


def test_a_recorded_day(benchmark, scenario, tmp_path):
    baseline = bare_timeouts_per_s()
    result = benchmark.pedantic(run, (scenario,), {"out": tmp_path / "out"}, rounds=1)
    rate = result.messages / result.wall_s
    print(
        f"\n{result.messages:,} messages in {result.wall_s:.2f} s: {rate:,.0f}/s, "
        f"{rate / baseline:.2f} × bare timeouts ({baseline:,.0f}/s)"
    )


def test_twenty_checks_and_ten_kpis(benchmark, scenario, tmp_path):
    result = run(scenario, out=tmp_path / "out")
    setup = scenario.replace(checks=CHECKS, kpis=KPIS).prepare()
    recording = Recording.open(result.recording)
    began = time.perf_counter()
    checks, kpis = benchmark.pedantic(judge, (setup, recording), rounds=1)
    judged_s = time.perf_counter() - began
    assert [c.verdict for c in checks] == ["pass"] * 20
    assert all(kpi.value for kpi in kpis)
    print(f"\njudging {judged_s:.2f} s, {judged_s / result.wall_s:.0%} of the run")


def test_the_report_of_a_day(benchmark, scenario, tmp_path):
    folder = run(scenario.replace(checks=CHECKS), out=tmp_path / "out").folder
    began = time.perf_counter()
    page = benchmark.pedantic(write_report, (folder,), rounds=1)
    print(
        f"\nreport: {time.perf_counter() - began:.2f} s, "
        f"{page.stat().st_size / 1e6:.1f} MB"
    )
    assert page.stat().st_size < 10_000_000


CELLS = """\
name: cells
plant: lab_rig
duration: 1h
controllers:
  - thermostat: {measure: buffer_temp, command: vsd1, setpoint: 38 degC, hysteresis: 3 K}
checks: [{never: buffer_temp > 80 degC}]
matrix: {seed: {range: [0, COUNT]}}
"""


def test_a_sweep_on_two_cores(benchmark, tmp_path, request):
    """The goal is 1.7 times one worker, for 200 cells of an hour."""
    long = request.config.getoption("--benchmark-enable")
    count = int(os.environ.get("PLAYGROUND_CELLS", "200")) if long else 2
    path = tmp_path / "cells.yaml"
    path.write_text(CELLS.replace("COUNT", str(count)))
    took = {}
    for workers in (1, 2):
        began = time.perf_counter()
        done = sweep(path, out=tmp_path / f"{workers}", workers=workers, keep="none")
        took[workers] = time.perf_counter() - began
        assert done.done == count
    tables = [pq.read_table(tmp_path / f"{workers}" / TABLE) for workers in took]
    assert tables[0].equals(tables[1])
    benchmark.pedantic(lambda: None, rounds=1)
    print(
        f"\n{count} runs of 1 h: {took[1]:.1f} s with one worker, {took[2]:.1f} s with "
        f"two: {took[1] / took[2]:.2f} ×"
    )
