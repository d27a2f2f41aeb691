import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from playground.document import DocumentError
from playground.errors import ExitCode, PlaygroundError
from playground.scenario import load_scenario
from playground.sweep import TABLE, falsify, jobs_of, sweep

HERE = Path(__file__).parent
TEXT = """\
name: tank
plant: {heated_tank:HeatedTank: {start: 38 degC}}
duration: 20min
seed: 5
controllers:
  - thermostat: {measure: temp, command: heater, setpoint: 40 degC, hysteresis: 2 K}
disturbances: {room: 10 degC}
checks:
  - never: temp > 42 degC
kpis: {use: [travel: {of: heater}]}
matrix: {setpoint: [39 degC, 43 degC]}
monte_carlo:
  runs: 3
  vary: {room_offset: {normal: [0 K, 5 K]}, power: {uniform: [8 kW, 12 kW]}}
"""


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    path = tmp_path / "tank.yaml"
    path.write_text(TEXT.replace("{start: 38 degC}", "{start: 38 degC, power: 10 kW}"))
    return path


def test_a_sweep_runs_each_cell_as_often_as_chance_says(path, tmp_path):
    done = sweep(path, out=tmp_path / "out", workers=1)
    table = done.table
    assert table.column("cell").to_pylist() == ["setpoint=39"] * 3 + ["setpoint=43"] * 3
    assert table.column("run").to_pylist() == [0, 1, 2] * 2
    assert table.column("seed").to_pylist() == [5, 6, 7] * 2
    assert table.column("verdict").to_pylist() == ["pass"] * 3 + ["fail"] * 3
    assert all(margin < 0 for margin in table.column(_MARGIN).to_pylist()[3:])
    assert done.exit_code == ExitCode.NOT_SO
    assert pq.read_table(tmp_path / "out" / TABLE).equals(table)
    kept = [p.name for p in sorted((tmp_path / "out" / "runs").iterdir())]
    assert kept == ["000003", "000004", "000005"]


_MARGIN = "margin.never temp > 42 degC"


def test_runs_of_equal_number_draw_equal_chances_in_every_cell(path):
    jobs = jobs_of(load_scenario(path))
    drawn = [(job.values["room"], job.values["power"]) for job in jobs]
    assert drawn[:3] == drawn[3:]
    assert len(set(drawn)) == 3
    for room, power in drawn:
        assert room.endswith(" degC")
        assert 8 <= float(power.removesuffix(" kW")) <= 12


def test_the_table_is_the_same_for_any_number_of_workers(path, tmp_path):
    one = sweep(path, out=tmp_path / "one", workers=1)
    two = sweep(path, out=tmp_path / "two", workers=2)
    assert one.table.equals(two.table)


def test_a_sweep_that_was_stopped_goes_on_where_it_was(path, tmp_path):
    class StoppedError(Exception):
        pass

    def stop(done, total):
        if done == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        sweep(path, out=tmp_path / "out", workers=1, progress=stop)
    assert not (tmp_path / "out" / TABLE).exists()
    done = sweep(path, out=tmp_path / "out", workers=1)
    assert (done.done, done.kept) == (4, 2)
    whole = sweep(path, out=tmp_path / "whole", workers=1)
    assert done.table.equals(whole.table)
    assert sweep(path, out=tmp_path / "out", workers=1).done == 0


def test_another_scenario_is_not_taken_for_the_one_before(path, tmp_path):
    sweep(path, out=tmp_path / "out", workers=1)
    path.write_text(path.read_text().replace("42 degC", "41 degC"))
    assert sweep(path, out=tmp_path / "out", workers=1).done == 6


def test_another_file_of_the_same_name_is_not_taken_for_the_one_before(path, tmp_path):
    text = path.read_text().replace("{room: 10 degC}", "{room: {table: room.csv}}")
    path.write_text(text.replace("room_offset: {normal: [0 K, 5 K]}, ", ""))
    (tmp_path / "room.csv").write_text("time,value\n0,10\n")
    sweep(path, out=tmp_path / "out", workers=1)
    assert sweep(path, out=tmp_path / "out", workers=1).done == 0
    (tmp_path / "room.csv").write_text("time,value\n0,11\n")
    assert sweep(path, out=tmp_path / "out", workers=1).done == 6


def test_a_row_that_was_cut_off_is_made_again(path, tmp_path):
    sweep(path, out=tmp_path / "out", workers=1)
    (tmp_path / "out" / "rows" / "000001.json").write_text('{"number": 1')
    assert sweep(path, out=tmp_path / "out", workers=1).done == 1


@pytest.mark.parametrize(
    ("vary", "said"),
    [
        ("{rom_offset: {normal: [0 K, 1 K]}}", "rom"),
        ("{room_offset: {norml: [0 K, 1 K]}}", "Did you mean 'normal'"),
        ("{room_offset: {normal: [0 K]}}", "is not a distribution"),
        ("{power: {uniform: [1 kW, 2 K]}}", "does not convert"),
    ],
)
def test_what_cannot_be_varied_is_refused_with_its_line(path, vary, said):
    path.write_text(path.read_text().partition("  vary:")[0] + f"  vary: {vary}\n")
    with pytest.raises(DocumentError) as error:
        jobs_of(load_scenario(path))
    assert said in str(error.value)
    assert "tank.yaml:14: monte_carlo.vary" in str(error.value)


def test_falsify_finds_the_corner_in_which_a_check_fails(path, tmp_path):
    # Only a strong heater in a warm room overshoots by more than this.
    path.write_text(
        path.read_text()
        .replace("matrix: {setpoint: [39 degC, 43 degC]}\n", "")
        .replace("42 degC", "41.028 degC")
        .replace("{uniform: [8 kW, 12 kW]}", "{uniform: [1 kW, 12 kW]}")
    )
    check = "never temp > 41.028 degC"
    worst = falsify(path, check, out=tmp_path / "out", runs=40)
    assert worst.check.verdict == "fail"
    assert worst.check.margin < 0
    assert worst.runs <= 60
    again = json.loads((tmp_path / "out" / "result.json").read_text())
    assert again["sha256"] == worst.result.sha256
    assert float(worst.values["power"].removesuffix(" kW")) > 6
    repeated = falsify(path, check, out=tmp_path / "again", runs=40)
    assert repeated.result.sha256 == worst.result.sha256


def test_falsify_leaves_a_folder_alone_that_holds_other_things(path, tmp_path):
    precious = tmp_path / "precious"
    (precious / "deep").mkdir(parents=True)
    (precious / "notes.txt").write_text("years of work")
    (precious / "deep" / "more.txt").write_text("and more")
    with pytest.raises(PlaygroundError, match="holds other things than a run"):
        falsify(path, "never temp > 42 degC", out=precious, runs=5)
    assert (precious / "notes.txt").read_text() == "years of work"
    assert (precious / "deep" / "more.txt").read_text() == "and more"
    assert sorted(p.name for p in precious.iterdir()) == ["deep", "notes.txt"]


@pytest.mark.parametrize("name", ["out", "out.trial"])
def test_falsify_takes_the_place_of_an_earlier_run_only(path, tmp_path, name):
    text = path.read_text().replace("matrix: {setpoint: [39 degC, 43 degC]}\n", "")
    path.write_text(text)
    first = falsify(path, "never temp > 42 degC", out=tmp_path / "out", runs=5)
    assert falsify(
        path, "never temp > 42 degC", out=tmp_path / "out", runs=5
    ).result.sha256 == (first.result.sha256)
    other = tmp_path / "other"
    (tmp_path / name.replace("out", "other")).mkdir()
    (tmp_path / name.replace("out", "other") / "mine.txt").write_text("mine")
    with pytest.raises(PlaygroundError, match="holds other things than a run"):
        falsify(path, "never temp > 42 degC", out=other, runs=5)
    assert (tmp_path / name.replace("out", "other") / "mine.txt").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-j", "0"], "No process makes no runs"),
        (["--falsify", "x", "--shrink"], "two different searches"),
        (
            ["--falsify", "never temp > 42 degC", "--runs", "0"],
            "at least one is needed",
        ),
        (["--shrink", "--runs", "0"], "at least one is needed"),
        (["-o", "tank.yaml/out"], "cannot be written"),
        (["--shrink", "-o", "tank.yaml/out"], "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_refused_without_a_traceback(
    words, said, path, tmp_path, monkeypatch, capsys
):
    from playground.cli import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["sweep", "tank.yaml", *words])
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_falsify_needs_a_check_that_is_there(path, tmp_path):
    with pytest.raises(PlaygroundError, match="There is no check 'never temp'"):
        falsify(path, "never temp", out=tmp_path / "out")


def test_the_command_says_how_many_came_out_how(path, tmp_path, monkeypatch, capsys):
    from playground.cli import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["sweep", "tank.yaml", "-o", "out", "-j", "1"])
    assert end.value.code == 1
    said = capsys.readouterr().out
    assert "6 runs: 3 pass, 3 fail, 0 untested" in said
    assert str(Path("out") / TABLE) in said


def _worker(url, tmp_path, environment):
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "distributed.cli.dask_worker", url),
            *("--nworkers", "1", "--nthreads", "1", "--no-dashboard"),
            *("--local-directory", str(tmp_path / "dask"), "--host", "127.0.0.1"),
        ],
        # Somewhere else than here: the sweep takes its workers along.
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.fixture
def dask_url(tmp_path):
    """A Dask scheduler with two workers, each a process of its own."""
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    url = f"tcp://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:

        def end(process):
            process.terminate()
            process.wait(timeout=20)

        scheduler = subprocess.Popen(
            [
                *(sys.executable, "-m", "distributed.cli.dask_scheduler"),
                *("--host", "127.0.0.1", "--port", str(port), "--no-dashboard"),
            ],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(end, scheduler)
        for _ in range(2):
            stack.callback(end, _worker(url, tmp_path, environment))
        yield f"dask://127.0.0.1:{port}"


@pytest.fixture
def ray_url(tmp_path):
    """A Ray cluster of one machine with two workers, and its client server."""
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    ports = []
    with contextlib.ExitStack() as free:
        for _ in range(2):
            one = free.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            ports.append(one.getsockname()[1])
    cluster = subprocess.Popen(
        [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head"),
            *("--block", "--num-cpus=2", "--include-dashboard=false"),
            *("--disable-usage-stats", "--node-ip-address=127.0.0.1"),
            *(f"--port={ports[0]}", f"--ray-client-server-port={ports[1]}"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": _path(HERE)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 90
        while True:
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", ports[1])) == 0:
                    break
            assert cluster.poll() is None, "the cluster did not start"
            assert time.monotonic() < deadline, "the cluster did not start in time"
        yield f"ray://127.0.0.1:{ports[1]}"
    finally:
        os.killpg(cluster.pid, signal.SIGTERM)
        cluster.wait(timeout=60)


def _path(*more):
    return os.pathsep.join([*map(str, more), os.environ.get("PYTHONPATH", "")])


@pytest.mark.slow
def test_a_sweep_on_ray_gives_the_same_table(path, tmp_path, ray_url):
    program = "import sys; from playground.cli import main; main(sys.argv[1:])"
    done = subprocess.run(
        [
            *(sys.executable, "-c", program, "sweep", str(path)),
            *("-o", str(tmp_path / "there"), "--backend", ray_url),
        ],
        env={**os.environ, "PYTHONPATH": _path(HERE)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "6 runs: 3 pass, 3 fail" in done.stdout
    here = sweep(path, out=tmp_path / "here", workers=1)
    assert pq.read_table(tmp_path / "there" / TABLE).equals(here.table)


@pytest.mark.slow
def test_a_sweep_on_a_cluster_of_two_gives_the_same_table(path, tmp_path, dask_url):
    done = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "playground"), "sweep", str(path)),
            *("-o", str(tmp_path / "there"), "--backend", dask_url),
        ],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "6 runs: 3 pass, 3 fail" in done.stdout
    here = sweep(path, out=tmp_path / "here", workers=1)
    assert pq.read_table(tmp_path / "there" / TABLE).equals(here.table)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("dsk://x:1", "there is no such backend. Did you mean 'dask'?"),
        ("dask", "there is no such backend"),
        ("dask://", "there is no such backend"),
    ],
)
def test_an_unknown_backend_is_refused(path, tmp_path, url, said):
    with pytest.raises(PlaygroundError) as error:
        sweep(path, out=tmp_path / "out", backend=url)
    assert said in str(error.value)


@pytest.mark.parametrize(("kind", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_a_missing_package_is_told_with_its_extra(
    path, tmp_path, monkeypatch, kind, module
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PlaygroundError) as error:
        sweep(path, out=tmp_path / "out", backend=f"{kind}://127.0.0.1:1")
    assert "pip install 'mqtt-playground[cluster]'" in str(error.value)
