"""The whole idea at work, on a real broker, in one go.

A virtual lab rig stands in for the hardware and is recorded over MQTT; a plant is
learned from the recording; a control strategy runs on the learned plant for a
day; a report says how it went. The files it leaves are those a user would write.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from playground import transport
from playground.broker import EmbeddedBroker
from playground.bus import Connection
from playground.clock import Phase, VirtualClock, WallClock
from playground.errors import PlaygroundError
from playground.learn import learn
from playground.model import Model, save_model
from playground.plants.device import Device
from playground.plants.lab_rig import LabRig
from playground.record import BrokerSource, Recorder
from playground.recording import Recording
from playground.report import write_report
from playground.run import Result, run
from playground.scenario import load_scenario
from playground.signals_file import load_signals

SPEED = 240.0
"""Seconds of the rig in one second of ours; above this the recorder's stamps
would scatter by more than one step of the plant that is learned."""
SESSION_S = 2.0 * 3600.0
EXCITE_EVERY_S = 150.0
STEP_S = 10.0

SIGNALS = """\
# What the topics mean: name, place, unit, role. The rig says a hundred things more;
# what is not named here is recorded all the same, and not used.
version: "1.0"
signals:
  valve:   {topic: valve/write, unit: "1", role: command, range: [0, 1], initial: 1}
  vsd1:    {topic: vsd1/write, unit: "1", role: command, range: [0, 1], initial: 0}
  vsd2:    {topic: vsd2/write, unit: "1", role: command, range: [0, 1], initial: 0}
  ambient: {topic: weather/ambient, unit: degC, role: disturbance, initial: 20}
  tower_temp:
    {topic: nidaq/cDAQ9189-0/snapshot, path: tc_cold_out, unit: degC, role: measurement,
     description: water to the cooling tower}
  return_temp:
    {topic: nidaq/cDAQ9189-0/snapshot, path: tc_hot_out, unit: degC, role: measurement,
     description: water back to the heat pump}
  power:
    {topic: power/powermeter/measurements, path: P_Ins, unit: W, role: measurement,
     range: [0, 20000], invalid: ["0.000E+99"], description: electricity of the unit}
"""

SCENARIO = """\
version: "1.0"
name: keep_the_tower_warm
description: A thermostat on the tower pump keeps the water to the tower near 44 degC.
plant: {model: model}
controllers:
  - thermostat: {measure: tower_temp, command: vsd2, setpoint: 44 degC,
                 hysteresis: 3 K, on: 0.8, off: 0.4, cooling: true, period: 60s}
  - schedule: {command: vsd1, table: {0s: 0.7}}
  - schedule: {command: valve, table: {0s: 0.6}}
disturbances:
  ambient: {table: {0h: 17 degC, 6h: 15 degC, 15h: 28 degC, 24h: 17 degC}, hold: false}
start: 2026-01-23T00:00:00Z
warm_up: 1h
duration: 24h
seed: 7
checks:
  - never: "tower_temp > 55 degC"
  - always: "tower_temp in 34..53 degC"
kpis:
  use:
    - electricity_kwh: {electricity: power}
    - travel: {of: vsd2}
  limits: ["electricity_kwh <= 200 kWh"]
"""

Progress = Callable[[float], None]


class Demo:
    """The demo, step by step; every step leaves its files in ``folder``.

    Args:
        folder: Must be new or empty, or a folder of an earlier demo.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.session = folder / "lab-session.parquet"
        self.signals = folder / "signals.yaml"
        self.scenario = folder / "thermostat.yaml"
        self.model = folder / "model"
        self.run_folder = folder / "run"

    def prepare(self) -> None:
        """Writes the two files that a person would write.

        Raises:
            PlaygroundError: The folder holds something else.
        """
        earlier = self.scenario.is_file() and self.signals.is_file()
        if self.folder.exists() and not (
            self.folder.is_dir() and (earlier or not any(self.folder.iterdir()))
        ):
            raise PlaygroundError(
                f"{self.folder} exists and is not from an earlier demo.",
                f"name another folder, for instance 'playground demo {self.folder}-2'",
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.signals.write_text(SIGNALS)
            self.scenario.write_text(SCENARIO)
        except OSError as error:
            raise PlaygroundError(
                f"{self.folder} cannot be written: {error.strerror or error}.",
                "name a folder in a place that you may write to",
            ) from error

    def record(self, progress: Progress, *, session_s: float = SESSION_S) -> Recording:
        """Lets the rig run on a real broker, excites it, and records all of it.

        Args:
            progress: Called with the share that is done, 0 to 1.
            session_s: Plant time to record, seconds.
        """
        with EmbeddedBroker() as broker:
            clock = WallClock(speed=SPEED)
            source = BrokerSource(broker.url, clock=clock)
            recorder = Recorder(
                source,
                self.session,
                # Our own last word is not part of the session.
                exclude=(transport.END_TOPIC,),
                overwrite=True,
                clock=clock,
            )
            with (
                recorder,
                transport.realtime(url=broker.url, speed=SPEED) as opened,
            ):
                plant = opened.clock
                Device(LabRig(start_degc=40.0), opened.bus, plant, client_id="rig")
                excite(opened.bus.connect("operator"), plant)
                plant.every(60.0, lambda: progress(plant.now / session_s))
                plant.run(until=session_s)
                opened.finish()
        return Recording.open(self.session)

    def learn(self) -> Model:
        """Learns a plant from the recording and saves it."""
        model = learn(
            [Recording.open(self.session)],
            load_signals(self.signals),
            period_s=STEP_S,
            holdout=0.3,
            # Seconds, not a minute: it is a demonstration.
            budget_s=3.0,
        )
        save_model(model, self.model, overwrite=True)
        return model

    def run(self) -> Result:
        """Runs the scenario for a day of plant time."""
        return run(load_scenario(self.scenario), out=self.run_folder)

    def report(self, result: Result) -> Path:
        """Draws what happened in the run; returns the page."""
        again = f"playground run {self.scenario} -o {self.run_folder}"
        return write_report(result.folder, again=again)


def excite(operator: Connection, clock: VirtualClock, *, seed: int = 1) -> None:
    """Moves the actuators and the weather now and then, as an experiment would.

    A plant that is never moved teaches nothing about how it moves.
    """
    generator = random.Random(seed)
    lowest = {"vsd1": 0.4, "vsd2": 0.1, "valve": 0.3}
    for name, value in (("vsd1", "0.7"), ("vsd2", "0.5"), ("valve", "0.6")):
        operator.publish(f"{name}/write", value.encode())

    def move() -> None:
        name = generator.choice(sorted(lowest))
        value = generator.uniform(lowest[name], 1.0)
        operator.publish(f"{name}/write", f"{value:.2f}".encode())
        if generator.random() < 0.3:
            ambient = generator.uniform(15.0, 30.0)
            operator.publish("weather/ambient", f"{ambient:.1f}".encode())

    clock.every(EXCITE_EVERY_S, move, offset_s=1.0, phase=Phase.DISTURBANCE)
