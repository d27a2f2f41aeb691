"""What the pytest plugin costs: unused, and at work.

Each figure is printed beside a baseline that is measured in the same run.
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
CPU = time.process_time
"""A busy machine adds nothing to it."""
PROJECT = Path(__file__).parent.parent / "plugin_project"


@pytest.fixture
def project(tmp_path):
    """A project of a user, with one test."""
    for file in PROJECT.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    (tmp_path / "test_one.py").write_text("def test_one():\n    pass\n")
    return tmp_path


def took_s(project, *arguments):
    """Returns the processor seconds of a collection; a busy machine adds few."""
    # Modules are compiled once, as they are where the package is installed.
    environment = {**os.environ, "PYTEST_ADDOPTS": ""}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPYCACHEPREFIX"] = str(project / "compiled")
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", *arguments],
        cwd=project,
        stdout=subprocess.DEVNULL,
        env=environment,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


def test_the_unused_plugin_costs_little(project, benchmark):
    rounds = 15 if benchmark.enabled else 1
    took_s(project), took_s(project, "-p", "no:playground")
    without, having = [], []
    for _ in range(rounds):
        # In turn, so that a busy machine is busy for both.
        without.append(took_s(project, "-p", "no:playground"))
        having.append(took_s(project))
    benchmark.pedantic(lambda: took_s(project), rounds=1)
    base, full = min(without), min(having)
    print(
        f"\n--collect-only: {full * 1e3:.0f} ms with the plugin, {base * 1e3:.0f} ms "
        f"without: {(full - base) * 1e3:+.1f} ms (medians "
        f"{(statistics.median(having) - statistics.median(without)) * 1e3:+.1f} ms); "
        f"ratio {full / base:.3f}"
    )


def test_an_hour_of_a_virtual_plant(benchmark, monkeypatch):
    monkeypatch.syspath_prepend(PROJECT)
    from playground.virtual import VirtualPlant, make_plant

    def hour(spec):
        plant = VirtualPlant(make_plant(spec))
        plant.advance("1h")
        return plant.signal(next(iter(plant.signals))).value

    def physics():
        plant = make_plant("lab_rig")
        plant.reset(seed=0)
        told = {
            signal.name: signal.initial or 0.0
            for signal in plant.signals.with_role("command", "disturbance")
        }
        for second in range(1, 3601):
            plant.step(float(second), told)

    rounds = 5 if benchmark.enabled else 1
    hour("tank:Tank"), hour("lab_rig")
    rig = min(timed(lambda: hour("lab_rig"), CPU) for _ in range(rounds))
    alone = min(timed(physics, CPU) for _ in range(rounds))
    benchmark.pedantic(lambda: hour("tank:Tank"), rounds=rounds)
    tank = min(timed(lambda: hour("tank:Tank"), CPU) for _ in range(rounds))
    print(
        f"\n1 h of plant time, processor time: {tank * 1e3:.1f} ms with a plant of one "
        f"state (bar: 50 ms); lab_rig {rig * 1e3:.0f} ms for 8,600 messages with 95,000 "
        f"numbers, of it {alone * 1e3:.0f} ms its physics; ratio {rig / alone:.1f}"
    )


def test_a_broker_up_and_down(benchmark):
    from playground.client import BrokerWithClients

    def up_and_down():
        with BrokerWithClients() as broker:
            return broker.url

    def with_a_client():
        with BrokerWithClients() as broker:
            broker.client(subscribe="#")

    rounds = 20 if benchmark.enabled else 1
    up_and_down()
    benchmark.pedantic(up_and_down, rounds=rounds)
    bare = min(timed(up_and_down) for _ in range(rounds))
    client = min(timed(with_a_client) for _ in range(rounds))
    print(
        f"\nbroker up and down: {bare * 1e3:.1f} ms; with a client "
        f"{client * 1e3:.1f} ms; ratio {client / bare:.1f}"
    )


def test_cells_are_collected_quickly(project, benchmark):
    text = (project / "warm.yaml").read_text()
    (project / "many.scenario.yaml").write_text(
        text + "matrix: {seed: {range: [0, 500]}}\n"
    )
    (project / "one.scenario.yaml").write_text(text)
    rounds = 3 if benchmark.enabled else 1
    base = min(took_s(project, "one.scenario.yaml") for _ in range(rounds))
    full = min(took_s(project, "many.scenario.yaml") for _ in range(rounds))
    benchmark.pedantic(lambda: took_s(project, "many.scenario.yaml"), rounds=1)
    print(
        f"\n500 cells collected in {full - base:.2f} s more than one "
        f"({base:.2f} s, start of the interpreter included); ratio {full / base:.2f}"
    )


def timed(action, clock=time.perf_counter):
    begun = clock()
    action()
    return clock() - begun
