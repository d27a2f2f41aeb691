"""From recordings to parameters of a physical plant, and how sure they are."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from playground.cli import _run as run_command
from playground.errors import ExitCode, NotEnoughData, PlaygroundError
from playground.estimate import (
    Prior,
    estimate,
    follow,
    read_plant_file,
    write_plant_file,
)
from playground.estimate.observed import noise_of
from playground.estimate.online import exit_code_of
from playground.estimate.uncertainty import persistence, spread
from playground.estimate.unknowns import read_bounds, read_prior
from playground.message import Message
from playground.plants.boptest_testcase1 import SimpleRC
from playground.recording import Recording, RecordingWriter
from playground.scenario import load_scenario
from playground.signals import Signal

TRUTH = {"capacity_j_per_k": 1.3e6, "resistance_k_per_w": 0.012}
ROOM = {"plant": "testcase1", "outputs": ["zone_temp"], "warm_up_s": 3600.0}
START_NS = 10**18


def record_room(
    path, *, hours=24, seed=0, noise=0.05, heated=True, lag=0.0, change=None, **truth
):
    """Records the room; ``change`` is the hour and the parameters from there on."""
    rng = np.random.default_rng(seed)
    room = SimpleRC(**{"start_degc": 18.0} | TRUTH | truth)
    heat, wander, messages = 0.0, 0.0, []
    with RecordingWriter(path, journal=False, metadata={"start_ns": START_NS}) as out:
        for row in range(hours * 60 + 1):
            time_ns = START_NS + row * 60 * 10**9
            if change and row == change[0] * 60:
                before = room.snapshot()
                room = SimpleRC(**{"start_degc": 18.0} | TRUTH | change[1])
                room.restore(before)
            if row:
                told = {"heater": heat}
                found = room.step(row * 60.0, told)
                wander = lag * wander + noise * rng.standard_normal()
                text = str(found["zone_temp"] + wander).encode()
                messages.append(Message(time_ns, "zone/temperature", text))
            if heated and row % 60 == 0:
                heat = float(rng.integers(0, 5) * 400)
                messages.append(Message(time_ns, "zone/heater/set", str(heat).encode()))
        out.extend(messages)
    return Recording.open(path)


def test_parameters_are_found_with_intervals_that_hold_the_truth(tmp_path):
    inside = []
    for seed in range(10):
        recording = record_room(tmp_path / f"{seed}.parquet", seed=seed)
        found = estimate([recording], parameters=list(TRUTH), **ROOM)
        for name, truth in TRUTH.items():
            assert found[name].value == pytest.approx(truth, rel=0.05)
            assert found[name].status == "identified"
            inside.append(found[name].low <= truth <= found[name].high)
    # Nineteen of twenty are to be expected; three misses come once in forty times.
    assert sum(inside) >= 17
    assert not found.directions
    assert found.exit_code == ExitCode.GOOD


def test_the_rig_gives_back_its_parameters_through_registers_and_noise(
    tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    from lab_experiment import record_rig

    truth = {"ua_hx_w_per_k": 2100.0, "tank_water_kg": 170.0}
    recording = record_rig(tmp_path / "rig.parquet", seed=1, minutes=35, **truth)
    found = estimate(
        [recording],
        plant="lab_rig",
        parameters=["ua_hx", "tank_water"],
        outputs=["buffer_temp", "cold_in_temp", "power", "water_outlet"],
    )
    for name, value in truth.items():
        assert found[name].value == pytest.approx(value, rel=0.02)
        assert found[name].low < value < found[name].high
    assert found.starts[0]["start_degc"] == pytest.approx(30.0, abs=0.5)
    assert {m.output: m.samples for m in found.misfits}["water_outlet"] < 400


def test_parameters_that_enter_only_as_a_product_are_named(tmp_path):
    cold = record_room(tmp_path / "cold.parquet", heated=False)
    found = estimate([cold], parameters=["capacity", "resistance"], **ROOM)
    assert [d.text.partition(":")[2] for d in found.directions] == [
        " the data tell only their product"
    ]
    assert {one.status for one in found.parameters} == {"not identified"}
    product = found["capacity_j_per_k"].value * found["resistance_k_per_w"].value
    assert product == pytest.approx(1.3e6 * 0.012, rel=0.01)
    assert found.exit_code == ExitCode.UNDECIDED
    assert "heater is never said: held at 0 W" in found.notes


def test_a_parameter_without_any_effect_is_named_alone(tmp_path):
    recording = record_room(tmp_path / "room.parquet")
    found = estimate(
        [recording], parameters=["capacity", "resistance", "efficiency"], **ROOM
    )
    assert [d.text for d in found.directions] == [
        "efficiency: the data say nothing of it"
    ]
    assert found["capacity_j_per_k"].status == "identified"
    assert found["efficiency"].status == "not identified"


def test_a_prior_settles_what_the_data_cannot(tmp_path):
    cold = record_room(tmp_path / "cold.parquet", heated=False)
    found = estimate(
        [cold],
        parameters=["capacity", "resistance"],
        priors={"capacity": Prior(mean=1.3e6, deviation=0.05e6)},
        **ROOM,
    )
    assert found["capacity_j_per_k"].value == pytest.approx(1.3e6, rel=0.01)
    assert found["capacity_j_per_k"].status == "prior"
    assert found["resistance_k_per_w"].value == pytest.approx(0.012, rel=0.02)
    assert found["capacity_j_per_k"].deviation == pytest.approx(0.05 / 1.3, rel=0.1)


def test_several_recordings_share_parameters_but_not_their_start(tmp_path):
    both = [
        record_room(tmp_path / f"{start}.parquet", seed=start, start_degc=start)
        for start in (12, 25)
    ]
    found = estimate(both, parameters=list(TRUTH), **ROOM)
    alone = estimate(both[:1], parameters=list(TRUTH), **ROOM)
    assert [one["start_degc"] for one in found.starts] == pytest.approx(
        [12, 25], abs=0.5
    )
    for name in TRUTH:
        assert found[name].deviation < alone[name].deviation


def test_readings_that_are_wildly_off_hardly_move_the_estimate(tmp_path):
    clean = record_room(tmp_path / "room.parquet")
    messages = list(clean.messages())
    rng = np.random.default_rng(1)
    for k in rng.choice(len(messages), 40, replace=False):
        if messages[k].topic == "zone/temperature":
            messages[k] = messages[k]._replace(payload=b"85.0")
    with RecordingWriter(
        tmp_path / "wild.parquet", journal=False, metadata={"start_ns": START_NS}
    ) as out:
        out.extend(messages)
    wild = Recording.open(tmp_path / "wild.parquet")
    found = estimate([wild], parameters=list(TRUTH), **ROOM)
    for name, truth in TRUTH.items():
        assert found[name].value == pytest.approx(truth, rel=0.02)


@pytest.mark.parametrize(
    ("lag", "copies"), [(0.0, 1), (0.9, 1), (0.0, 3)], ids=["white", "slow", "copies"]
)
def test_intervals_are_honest_for_residuals_that_follow_each_other(lag, copies):
    # A straight line with a wave; noise that wanders, or that several signals share.
    rows = np.arange(1500)
    truth_slopes = np.column_stack(
        [np.ones(1500), rows / 1500, np.sin(rows / 40.0)]
    ).repeat(copies, axis=0)
    inside, textbook = [], []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        noise = np.zeros(1500)
        for k in range(1500):
            noise[k] = lag * noise[k - 1] + rng.standard_normal()
        noise = noise.repeat(copies)
        fitted = np.linalg.lstsq(truth_slopes, noise, rcond=None)[0]
        residuals = noise - truth_slopes @ fitted
        where = rows.repeat(copies)
        first = residuals[::copies]
        factor, memory = persistence([(rows, first)])
        scale = np.sqrt(factor) * 1.4826 * np.median(np.abs(first))
        found = spread(
            truth_slopes / scale,
            residuals / scale,
            np.ones(len(residuals)),
            prior=np.zeros(3),
            recording=np.zeros(len(where), int),
            signal=np.tile(np.arange(copies), 1500),
            row=where,
            memory_rows=int(np.ceil(memory)),
        )
        deviation = np.sqrt(np.diag(found.covariance))
        inside.append(np.abs(fitted) < norm.ppf(0.975) * deviation)
        plain = np.sqrt(np.diag(np.linalg.inv(truth_slopes.T @ truth_slopes)))
        textbook.append(np.abs(fitted) < norm.ppf(0.975) * plain * noise.std())
    assert np.mean(inside) >= 0.90
    assert np.mean(inside) <= 0.995
    if lag or copies > 1:
        assert np.mean(textbook) < 0.80


def test_scatter_is_told_from_movement_and_from_rounding():
    rng = np.random.default_rng(0)
    rows = np.arange(2000)
    slow = 20.0 + 5.0 * np.sin(rows / 300.0)
    analog = Signal(name="t", topic="t", unit="degC", role="measurement")
    noisy = slow + 0.2 * rng.standard_normal(2000)
    assert noise_of(analog, [(rows, noisy)]) == pytest.approx(0.2, rel=0.1)
    register = Signal(
        name="t", topic="t", unit="degC", role="measurement", type="int16", scale=0.1
    )
    assert noise_of(register, [(rows, slow.round(1))]) == pytest.approx(0.1 / 12**0.5)
    assert noise_of(analog, [(rows, slow.round(1))]) == pytest.approx(0.1 / 12**0.5)
    stages = 400.0 / 0.99 * (rows // 100 % 5)
    assert noise_of(analog, [(rows, stages)]) < 0.01


def test_the_result_is_a_plant_file_that_a_scenario_takes(tmp_path):
    recording = record_room(tmp_path / "room.parquet")
    found = estimate([recording], parameters=list(TRUTH), **ROOM)
    write_plant_file(tmp_path / "plants" / "room.yaml", found, sources=["room.parquet"])
    assert read_plant_file(tmp_path / "plants" / "room.yaml") == (
        "testcase1",
        pytest.approx(found.values, rel=1e-5),
    )
    scenario = tmp_path / "cold.yaml"
    scenario.write_text(
        "version: '1.0'\nname: cold\nplant: !include plants/room.yaml\nduration: 1h\n"
    )
    plant = load_scenario(scenario).prepare().plant
    assert plant.capacity == pytest.approx(found["capacity_j_per_k"].value, rel=1e-5)
    with pytest.raises(PlaygroundError, match="is there already"):
        write_plant_file(tmp_path / "plants" / "room.yaml", found)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parameters": ["capacitance"]}, "has no parameter 'capacitance'. Did you"),
        ({"parameters": ["period_s"]}, "'period_s' cannot be estimated"),
        ({"parameters": []}, "No parameter is to be estimated"),
        ({"bounds": {"capacity": (2e6, 3e6)}}, "exclude where the search begins"),
        ({"bounds": {"capacity": (3e6, 2e6)}}, "the first must be below the second"),
        ({"priors": {"efficiency": Prior(mean=1, deviation=1)}}, "is not estimated"),
        ({"outputs": ["zone_tmp"]}, "There is no signal 'zone_tmp'. Did you mean"),
        ({"outputs": ["heater_power"]}, "No recording says heater_power"),
        ({"reliability": {"zone_temp": -1.0}}, "cannot be below 0"),
        ({"inputs_from": {"heating": "heater"}}, "'heating' is no input of the plant"),
        (
            {"settings": {"capacity_j_per_k": -5.0}},
            r"capacity_j_per_k = -5.0: it must be above 0.*\n.*--set NAME=VALUE",
        ),
        (
            {"settings": {"resistance_k_per_w": 0.0}},
            r"resistance_k_per_w = 0.0: it must be above 0.*\n.*--set NAME=VALUE",
        ),
        ({"plant": "testcase"}, "There is no plant 'testcase'. Did you mean"),
    ],
)
def test_a_mistake_is_told_with_what_to_write_instead(tmp_path, settings, message):
    recording = record_room(tmp_path / "room.parquet", hours=2)
    with pytest.raises(PlaygroundError, match=message) as caught:
        estimate([recording], **{"parameters": ["capacity"]} | ROOM | settings)
    assert caught.value.exit_code == ExitCode.USAGE


def test_too_little_data_is_undecided(tmp_path):
    recording = record_room(tmp_path / "room.parquet", hours=2)
    for warm_up_s, message in ((7200.0, "are not judged"), (7000.0, "cannot settle")):
        with pytest.raises(NotEnoughData, match=message) as caught:
            estimate(
                [recording],
                parameters=["capacity"],
                **ROOM | {"warm_up_s": warm_up_s},
            )
        assert caught.value.exit_code == ExitCode.UNDECIDED


def test_priors_and_bounds_are_read_with_units():
    assert read_prior("ua_hx_w_per_k", "2400±300 W/K") == Prior(
        mean=2400, deviation=300
    )
    assert read_prior("ua_hx_w_per_k", "2.4 +/- 0.3 kW/K") == Prior(
        mean=pytest.approx(2400), deviation=pytest.approx(300)
    )
    assert read_prior("carnot_fraction", "0.5±10%").deviation == pytest.approx(0.05)
    assert read_prior("start_degc", "20±2 K") == Prior(mean=20, deviation=2)
    assert read_bounds("ua_hx_w_per_k", "1..5 kW/K") == (1000, 5000)
    with pytest.raises(PlaygroundError, match="does not say how sure"):
        read_prior("ua_hx_w_per_k", "2400")
    with pytest.raises(PlaygroundError, match="are not two values"):
        read_bounds("ua_hx_w_per_k", "1000-5000")


def test_a_plant_that_changes_on_the_way_raises_an_alarm_in_its_window(tmp_path):
    changed = record_room(
        tmp_path / "leak.parquet",
        hours=97,
        change=(49, {"resistance_k_per_w": 0.0108}),
    )
    settings = ROOM | {"parameters": list(TRUTH), "window_s": 86_400.0}
    windows = follow([changed], **settings)
    assert [[d.parameter for d in w.drifts] for w in windows] == [
        [],
        [],
        ["resistance_k_per_w"],
        [],
    ]
    assert windows[-1].running["resistance_k_per_w"] == pytest.approx(0.0108, rel=0.01)
    assert exit_code_of(windows) == ExitCode.NOT_SO
    sound_room = record_room(tmp_path / "sound.parquet", hours=97)
    sound = follow([sound_room], **settings)
    assert exit_code_of(sound) == ExitCode.GOOD
    # What never forgets knows more with each window.
    unforgetting = follow([sound_room], forgetting=0.0, **settings)
    deviations = [w.deviation["resistance_k_per_w"] for w in unforgetting]
    assert deviations == sorted(deviations, reverse=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_s": 0.0}, "A window lasts 0 s"),
        ({"window_s": -60.0}, "has to be above 0"),
        ({"tolerance": -0.1}, "The tolerance is -0.1"),
        ({"tolerance": math.nan}, "cannot be below 0"),
    ],
)
def test_windows_that_cannot_be_are_refused(tmp_path, settings, message):
    recording = record_room(tmp_path / "room.parquet", hours=2)
    with pytest.raises(PlaygroundError, match=message):
        follow([recording], **{"window_s": 3600.0} | ROOM | settings)


def test_the_command_writes_a_plant_file_and_answers_with_the_exit_code(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    record_room(tmp_path / "room.parquet")
    room = ["estimate", "room.parquet", "--plant", "testcase1", "--warm-up", "1h"]
    good = [*room, "--parameters", "capacity,resistance", "-o", "plants/room.yaml"]
    good += ["--prior", "capacity=1 ± 2 MJ/K", "--bounds", "resistance=0.001..0.1"]
    good += ["--set", "capacity=0.9 MJ/K", "--json", "room.json"]
    assert run_command(good) == ExitCode.GOOD
    printed = capsys.readouterr().out
    assert "plant: !include room.yaml" in printed
    told = json.loads((tmp_path / "room.json").read_text())
    assert told["parameters"][0]["status"] == "identified"
    # What was found is where the next one begins.
    again = ["estimate", "room.parquet", "--plant", "plants/room.yaml"]
    again += ["--parameters", "efficiency", "--warm-up", "1h"]
    assert run_command(again) == ExitCode.UNDECIDED
    assert "efficiency: the data say nothing of it" in capsys.readouterr().out
    assert run_command([*room, "--parameters", "capasity"]) == ExitCode.USAGE
    assert "Did you mean 'capacity'" in capsys.readouterr().err
    assert run_command(good) == ExitCode.USAGE
    assert "is there already" in capsys.readouterr().err
    follow_it = [*room, "--parameters", "capacity,resistance", "--online", "6h"]
    assert run_command(follow_it) == ExitCode.GOOD
    assert len(capsys.readouterr().out.splitlines()) == 3
