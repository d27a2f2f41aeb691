"""The pytest plugin, as a project that installed it sees it."""

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

# Imported before the tests: pytester forgets what an inner run has imported; numpy
# cannot be imported twice, and what pint brings along replaces importlib.metadata's
# own finder.
import pint  # noqa: F401
import pytest

import playground.collection
import playground.host.hosted
import playground.plants.lab_rig
import playground.record
import playground.replay
import playground.report
import playground.virtual  # noqa: F401
from playground.model import save_model

sys.path.insert(0, str(Path(__file__).parent))

from heater_model import heater_model

pytest_plugins = ["pytester"]


@pytest.fixture
def project(pytester):
    """A project of a user: its plant, its settings."""
    for file in (Path(__file__).parent / "plugin_project").iterdir():
        shutil.copy(file, pytester.path)
    return pytester


def run(project, *arguments):
    return project.runpytest_inprocess("-p", "no:cacheprovider", *arguments)


def run_test(project, body, *arguments):
    """Runs test functions; returns the result of the inner run."""
    project.makepyfile(test_it=textwrap.dedent(body))
    return run(project, *arguments)


# -- fixtures --------------------------------------------------------------------


def test_a_virtual_plant_is_told_run_and_asked(project):
    result = run_test(
        project,
        """
        import pytest
        from playground.errors import PlaygroundError

        def test_tank(virtual_plant):
            plant = virtual_plant("tank:Tank", start="30 degC")
            assert plant.signal("temp").value != plant.signal("temp").value
            plant.set("heat", "0.5")
            plant.advance("10min")
            temp = plant.signal("temp")
            assert plant.now_s == 600
            # The sample of the last instant is there too.
            assert len(temp) == 601 and temp.times_s[-1] == 600
            assert temp.unit == "degC"
            assert temp.at("0s") == 30 and temp.value == temp.values[-1] > 50
            assert plant.signal("heat").value == 0.5
            rows = [m.topic for m in plant.recording.messages()]
            assert rows.count("tank/temp") == 601 and rows.count("tank/heat") == 1

        def test_mistakes(virtual_plant):
            plant = virtual_plant("tank:Tank")
            for name, value, problem in [
                ("haet", 1, "Did you mean 'heat'"),
                ("temp", 1, "is a measurement"),
                ("heat", 7, "outside the range"),
                ("heat", "7 degC", "does not convert"),
            ]:
                with pytest.raises(PlaygroundError, match=problem):
                    plant.set(name, value)
            with pytest.raises(PlaygroundError, match="unknown key 'sart'|sart"):
                virtual_plant("tank:Tank", sart="3 degC")
        """,
    )
    result.assert_outcomes(passed=2)


def test_waiting_lets_virtual_time_pass_until_it_is_so(project):
    result = run_test(
        project,
        """
        import pytest

        def test_tank(virtual_plant):
            plant = virtual_plant("tank:Tank")
            plant.set("heat", 1)
            assert plant.wait_for("temp > 25 degC", within="1h") == 31
            assert plant.now_s == 31
            with pytest.raises(AssertionError) as caught:
                plant.wait_for("temp > 99 degC", within="1min")
            assert plant.now_s == 91
            assert "margin" in str(caught.value)
        """,
    )
    result.assert_outcomes(passed=1)


def test_a_learned_plant_that_left_what_it_knows_warns(project):
    save_model(heater_model(), project.path / "heater")
    result = run_test(
        project,
        """
        import pytest

        @pytest.mark.parametrize("heater", ["50 %", "105 %"])
        def test_heater(virtual_plant, heater):
            plant = virtual_plant("heater")
            plant.set("heater", heater)
            plant.advance("5min")
            assert plant.departures.outside == (0 if heater == '50 %' else 60)

        def test_other_plants_know_everything(virtual_plant):
            assert virtual_plant("tank:Tank").departures is None
        """,
        "-W",
        "default",
    )
    result.assert_outcomes(passed=3, warnings=1)
    result.stdout.fnmatch_lines(
        ["*LeftEnvelope: plant: outside the envelope at * by 'heater'; what it says*"]
    )
    run(project).assert_outcomes(passed=2, failed=1)


def test_plant_bus_clock_and_controller_share_one_virtual_time(project):
    result = run_test(
        project,
        """
        class Full:
            measures, commands, period_s = ("temp",), ("heat",), 60.0

            def reset(self, *, seed=0): pass

            def step(self, now, values):
                return {"heat": 1.0 if values["temp"] < 40 else 0.0}

        def test_tank(virtual_plant, bus, clock):
            heard = []
            bus.connect("ear", heard.append).subscribe("tank/heat")
            plant = virtual_plant("tank:Tank")
            second = virtual_plant("tank:Tank")
            assert plant.clock is second.clock is clock
            plant.control(Full())
            clock.run(until=300)
            assert [m.payload for m in heard] == [b"1.0", b"0.0", b"1.0"][:len(heard)]
            assert len(heard) >= 2
        """,
    )
    result.assert_outcomes(passed=1)


def test_virtual_hardware_speaks_on_a_real_broker_in_real_time(project):
    result = run_test(
        project,
        """
        def test_tank(virtual_hardware, mqtt_broker, mqtt_recorder):
            recorder = mqtt_recorder(mqtt_broker.url, "tank/#")
            plant = virtual_hardware("tank:Tank", speed=50)
            dashboard = mqtt_broker.client(subscribe="tank/#")
            dashboard.wait_for("tank/temp", count=3)
            plant.set("heat", "100 %")
            dashboard.wait_for("tank/heat", "1.0")
            assert plant.wait_for("temp > 21 degC", within="2min") > 0
            plant.advance("5s")
            assert plant.signal("temp").value > 21
            assert plant.url == mqtt_broker.url
            said = [m.topic for m in recorder.stop().messages()]
            assert "tank/heat" in said and said.count("tank/temp") > 5
        """,
    )
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    "broker", ["mqtt_broker", "mqtt_broker_session", "mosquitto_broker"]
)
def test_a_broker_hands_out_clients_that_wait(project, broker):
    result = run_test(
        project,
        f"""
        import pytest
        from playground.bus import Will

        def test_broker({broker} as_broker):
            pass
        """.replace(f"{broker} as_broker", broker)
        + f"""
        def test_clients({broker}):
            broker = {broker}
            ear = broker.client(subscribe="lab/#")
            mouth = broker.client("mouth", will=Will(topic="lab/gone", payload=b"x"))
            mouth.publish("lab/valve", "0.5")
            mouth.publish("lab/state", {{"on": True}})
            assert ear.wait_for("lab/+", '{{"on": true}}').topic == "lab/state"
            assert [m.payload for m in ear.on("lab/valve")] == [b"0.5"]
            mouth.vanish()
            ear.wait_for("lab/gone", lambda payload: payload == b"x")
            with pytest.raises(AssertionError) as caught:
                ear.wait_for("lab/vlave", within="20ms")
            assert "Did you mean 'lab/valve'" in str(caught.value)
            assert "lab/state" in str(caught.value)
        """,
    )
    if result.parseoutcomes().get("skipped"):
        pytest.skip("mosquitto is not installed")
    result.assert_outcomes(passed=2)


def test_a_recording_is_replayed_on_the_bus_and_to_a_broker(project):
    result = run_test(
        project,
        """
        import pytest
        from playground.virtual import VirtualPlant, make_plant

        @pytest.fixture
        def lab(tmp_path):
            plant = VirtualPlant(make_plant("tank:Tank"))
            plant.advance("9s")
            return plant.save(tmp_path / "lab.parquet")

        def test_in_virtual_time(lab, replay, bus, clock):
            heard = []
            bus.connect("ear", heard.append).subscribe("tank/temp")
            replay(lab)
            clock.run(until=clock.now + 4.5)
            assert [m.payload for m in heard] == [b"20.0"] * 5

        def test_to_a_broker(lab, replay, mqtt_broker):
            ear = mqtt_broker.client(subscribe="tank/#")
            assert replay.to(mqtt_broker.url, lab).messages == 10
            ear.wait_for("tank/temp", count=10)
        """,
    )
    result.assert_outcomes(passed=2)


def test_an_unmodified_program_runs_beside_the_plant(project):
    project.makepyfile(
        control="""
        import time
        import paho.mqtt.client as mqtt

        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        client.connect("broker.lab", 1883)
        client.loop_start()
        while True:
            time.sleep(60)
            client.publish("tank/heat", "1.0")
        """
    )
    result = run_test(
        project,
        """
        def test_program(virtual_plant, hosted):
            plant = virtual_plant("tank:Tank")
            program = hosted("control.py")
            plant.advance("5min")
            assert plant.device.inputs["heat"] == 1.0
            assert not program.findings
        """,
    )
    result.assert_outcomes(passed=1)


# -- scenarios -------------------------------------------------------------------


def test_run_scenario_takes_a_file_a_mapping_and_changes(project):
    result = run_test(
        project,
        """
        import pytest
        from playground.errors import PlaygroundError

        def test_file(run_scenario):
            assert run_scenario("warm.yaml").verdict == "pass"
            assert run_scenario("warm.yaml", heat=0).verdict == "fail"
            assert run_scenario("warm.yaml", **{"tank:Tank.start": "31 degC", "seed": 3}).seed == 3
            with pytest.raises(PlaygroundError, match="Did you mean 'heat'"):
                run_scenario("warm.yaml", haet=0.3)
            with pytest.raises(PlaygroundError, match="Did you mean 'warm.yaml'"):
                run_scenario("wram.yaml")

        def test_mapping(run_scenario):
            result = run_scenario({
                "plant": "tank:Tank", "duration": "1min",
                "checks": [{"never": "temp > 30 degC"}],
            })
            assert result.verdict == "pass"

        @pytest.mark.scenario("warm.yaml", heat=0)
        def test_mark(scenario_result, run_scenario):
            assert scenario_result.verdict == "fail"
            assert run_scenario(heat=0.4).verdict == "pass"
        """,
    )
    result.assert_outcomes(passed=3)


# -- marks -----------------------------------------------------------------------


def test_the_failing_seed_is_named_with_the_line_that_repeats_it(project):
    result = run_test(
        project,
        """
        import pytest

        @pytest.mark.seeds(4)
        def test_noise(virtual_plant):
            plant = virtual_plant("tank:Tank", noise=1.0)
            plant.advance("1s")
            assert plant.signal("temp").values[0] < 22.5
        """,
    )
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        ["failing seed 3; again: pytest 'test_it.py::test_noise[[]seed=3[]]'"]
    )
    again = run(project, "test_it.py::test_noise[seed=3]")
    again.assert_outcomes(failed=1)


def test_seeds_without_a_seed_is_an_error_with_a_fix(project):
    result = run_test(
        project,
        """
        import pytest

        @pytest.mark.seeds(4)
        def test_nothing():
            pass
        """,
    )
    result.stdout.fnmatch_lines(["*is marked with seeds but uses no seed.", "*fix:*"])


def test_the_recording_of_a_mark_is_opened_until_it_expires(project):
    project.makeconftest(
        """
        import datetime, pytest

        @pytest.fixture
        def playground_today():
            return datetime.date(2026, 7, 1)
        """
    )
    result = run_test(
        project,
        """
        import pytest
        from playground.virtual import VirtualPlant, make_plant
        from pathlib import Path

        folder = Path(__file__).parent / "recordings"
        folder.mkdir(exist_ok=True)
        plant = VirtualPlant(make_plant("tank:Tank"))
        plant.advance("10s")
        plant.save(folder / "lab.parquet")  # of 2026-01-01

        @pytest.mark.recording("lab.parquet", max_age="181d")
        def test_fresh(recording):
            assert recording.count == 11

        @pytest.mark.recording("lab.parquet", max_age="180d")
        def test_stale(recording):
            pass

        @pytest.mark.recording("lab.parquet", max_age="180d", expired="warn")
        @pytest.mark.filterwarnings("default")
        def test_warns(recording):
            pass

        def test_unnamed(recording):
            pass

        @pytest.mark.recording("lba.parquet")
        def test_missing(recording):
            pass
        """,
    )
    result.assert_outcomes(passed=2, errors=3, warnings=1)
    result.stdout.fnmatch_lines(
        [
            "lab.parquet is of 2026-01-01, 181 days old; its test allows 180d.",
            "  fix: record it anew: playground record lab.parquet --broker URL",
            "The test takes 'recording' but names none.",
            "There is no file 'lba.parquet'. Did you mean 'lab.parquet'[?]",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    assert "playground/fixtures.py" not in result.stdout.str()


# -- network ---------------------------------------------------------------------


def test_only_this_machine_is_reached_by_tests_that_use_a_fixture(project):
    project.makepyfile(
        test_it="""
        import socket, asyncio
        import pytest
        from playground.loopback import NetworkBlocked

        def reach(host):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
                one.settimeout(0.01)
                one.connect((host, 9))

        def test_connect(bus):
            with pytest.raises(NetworkBlocked, match="allow_hosts"):
                reach("192.0.2.1")

        def test_names(mqtt_broker):
            with pytest.raises(NetworkBlocked, match="broker.example"):
                socket.create_connection(("broker.example", 1883))
            assert socket.getaddrinfo("localhost", 80)

        def test_datagram(clock):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                with pytest.raises(NetworkBlocked):
                    one.sendto(b"x", ("192.0.2.1", 9))

        def test_paho(mqtt_broker):
            import paho.mqtt.client as mqtt
            client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
            with pytest.raises(NetworkBlocked):
                client.connect("192.0.2.1")

        @pytest.mark.allow_hosts("192.0.2.0/24")
        def test_allowed(bus):
            with pytest.raises(OSError):
                reach("192.0.2.1")

        def test_without_fixtures():
            with pytest.raises(OSError):
                reach("192.0.2.1")
        """
    )
    # Our own project has a guard of its own, which would answer first.
    result = project.runpytest_subprocess("-p", "no:socket", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=6)


def test_a_python_process_that_a_test_starts_reaches_this_machine_only(project):
    project.makepyfile(
        program="""
        import socket, subprocess, sys

        host, *others = sys.argv[1:]
        with socket.socket() as one:
            one.settimeout(0.01)
            try:
                one.connect((host, 9))
            except Exception as error:
                print(type(error).__name__, error)
        for other in others:
            subprocess.run([sys.executable, __file__, other])
        """,
        sitecustomize="print('of the project')",
        test_it="""
        import multiprocessing, os, subprocess, sys
        import pytest
        from playground.loopback import NetworkBlocked

        def said(*hosts, **options):
            return subprocess.run(
                [sys.executable, "program.py", *hosts],
                capture_output=True, text=True, check=True, **options
            ).stdout

        def test_child_and_grandchild(mqtt_broker):
            told = said("192.0.2.1", "127.0.0.1", "192.0.2.2")
            assert told.count("NetworkBlocked The test wants to reach '192.0.2.") == 2
            assert told.count("ConnectionRefusedError") == 1

        def test_the_module_that_is_hidden_is_executed_too(bus):
            path = os.pathsep.join(["elsewhere", os.environ["PYTHONPATH"], os.getcwd()])
            told = said("192.0.2.1", env={**os.environ, "PYTHONPATH": path})
            assert told.startswith("of the project")
            assert "NetworkBlocked" in told

        @pytest.mark.allow_hosts("192.0.2.0/24")
        def test_allowed(bus):
            assert "NetworkBlocked" not in said("192.0.2.1")

        def reach():
            import socket
            with socket.socket() as one:
                one.connect(("192.0.2.1", 9))

        def test_multiprocessing(bus):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                with pytest.raises(NetworkBlocked):
                    pool.apply(reach)

        def test_without_fixtures():
            assert "PLAYGROUND_ONLY_LOOPBACK" not in os.environ
            assert "offline" not in os.environ.get("PYTHONPATH", "")
            assert "NetworkBlocked" not in said("192.0.2.1")
        """,
    )
    result = project.runpytest_subprocess("-p", "no:socket", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=5)


def test_a_fixture_counts_by_where_it_comes_from_not_by_its_name(project):
    result = run_test(
        project,
        """
        import os
        import pytest

        @pytest.fixture
        def clock():
            return 7

        @pytest.fixture
        def replay():
            return "a film"

        def is_off():
            return "PLAYGROUND_ONLY_LOOPBACK" in os.environ

        def test_namesakes(clock, replay):
            assert not is_off()

        def test_asked_for_later(request):
            assert not is_off()
            request.getfixturevalue("mqtt_broker_session")
            assert is_off()

        def test_the_broker_of_the_session_is_there_already(mqtt_broker_session):
            assert is_off()

        def test_afterwards():
            assert not is_off()
        """,
    )
    result.assert_outcomes(passed=4)


# -- evidence --------------------------------------------------------------------


def test_a_failed_test_keeps_its_recording_scenario_and_report(project):
    result = run_test(
        project,
        """
        def test_plant(virtual_plant):
            plant = virtual_plant("tank:Tank")
            plant.advance("5s")
            assert 0

        def test_run(run_scenario):
            assert run_scenario("warm.yaml", heat=0).verdict == "pass"

        def test_good(run_scenario):
            assert run_scenario("warm.yaml").verdict == "pass"
        """,
    )
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines(
        [
            "kept in .playground/failures/test_it.py--test_plant",
            "kept in .playground/failures/test_it.py--test_run",
        ]
    )
    kept = project.path / ".playground" / "failures"
    assert sorted(f.name for f in kept.iterdir() if f.is_dir()) == [
        "test_it.py--test_plant",
        "test_it.py--test_run",
    ]
    from playground.recording import Recording

    plant = Recording.open(kept / "test_it.py--test_plant" / "plant.parquet")
    assert plant.count == 6
    folder = kept / "test_it.py--test_run" / "run"
    assert {"run.parquet", "scenario.resolved.yaml", "report.html"} <= {
        f.name for f in folder.iterdir()
    }
    assert "<html" in (folder / "report.html").read_text()
    result = run_test(
        project,
        """
        from pathlib import Path
        from playground.run import run
        from playground.scenario import load_scenario

        def test_again(tmp_path):
            folder = ".playground/failures/test_it.py--test_run/run/"
            again = run(load_scenario(folder + "scenario.resolved.yaml"), out=tmp_path / "r")
            said = Path(folder, "result.json").read_text()
            assert f'"sha256": "{again.sha256}"' in said
        """,
    )
    result.assert_outcomes(passed=1)


def test_artifacts_go_where_they_are_wanted_and_the_oldest_go(project):
    with (project.path / "pytest.ini").open("a") as settings:
        settings.write("playground_artifacts_kept = 3\n")
    result = run_test(
        project,
        """
        import pytest

        @pytest.mark.parametrize("number", range(5))
        def test_it(virtual_plant, number):
            virtual_plant("tank:Tank").advance("2s")
            assert 0
        """,
        "--playground-artifacts",
        "kept",
    )
    result.assert_outcomes(failed=5)
    assert sorted(f.name for f in (project.path / "kept").glob("test*")) == [
        f"test_it.py--test_it[{number}]" for number in (2, 3, 4)
    ]


# -- parts of one's own ----------------------------------------------------------


def test_the_suites_tell_a_project_which_rule_its_parts_break(project):
    project.makepyfile(
        parts="""
        import time
        from tank import Tank

        class Wobbly(Tank):
            def reset(self, *, seed=0):
                answer = super().reset(seed=seed)
                self.temp += getattr(self, "more", 0)
                self.more = 1
                return answer

        class Valve:
            measures, commands, period_s = ("temp",), ("heat",), 1.0

            def reset(self, *, seed=0): pass

            def step(self, now, values):
                return {"heat": time.time() % 1}
        """
    )
    result = run_test(
        project,
        """
        from parts import Valve, Wobbly
        from playground.bus import LocalBus
        from playground.clock import VirtualClock
        from playground.testing import check_bus, check_controller, check_plant
        from tank import Tank

        def test_good(): check_plant(Tank)

        def test_plant(): check_plant(Wobbly)

        def test_controller(): check_controller(Valve, Tank.signals)

        def test_bus(): check_bus(lambda: LocalBus(VirtualClock()))
        """,
    )
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(
        [
            "*AssertionError: after another reset with the same seed, step 1 differs: "
            "temp is *, was *",
            "*AssertionError: *reads or waits for the wall clock*",
        ]
    )


# -- other plugins and strictness ------------------------------------------------


def test_marks_are_known_and_options_documented(project):
    result = run(project, "--markers")
    for mark in ("scenario", "recording", "seeds", "cassette", "allow_hosts"):
        result.stdout.fnmatch_lines([f"@pytest.mark.{mark}(*"])
    result = run(project, "--help")
    result.stdout.fnmatch_lines(
        [
            "*--playground-artifacts=DIR",
            "*--mqtt-record-mode=*",
            "*--mqtt-record-broker=*",
        ]
    )


def test_unused_the_plugin_imports_nothing_heavy():
    code = (
        "import sys, playground.pytest_plugin; "
        "print([m for m in ('numpy', 'simpy', 'amqtt', 'pyarrow', 'pydantic', 'pint', "
        "'paho', 'ruamel') if m in sys.modules], "
        "sorted(m for m in sys.modules if m.startswith('playground')))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert said.stdout == (
        "[] ['playground', 'playground.fixtures', 'playground.pytest_plugin']\n"
    )


def test_two_workers_share_the_tests(project):
    text = (project.path / "warm.yaml").read_text()
    project.makefile(".scenario.yaml", warm=text + "matrix: {heat: [0.4, 0.41]}\n")
    project.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.seeds(4)
        def test_plant(virtual_plant, mqtt_broker):
            plant = virtual_plant("tank:Tank")
            plant.advance("1min")
            mqtt_broker.client(subscribe="a").publish("a", "1")

        def test_session(mqtt_broker_session):
            mqtt_broker_session.client().publish("a", "1")
        """
    )
    result = project.runpytest_subprocess("-n", "2", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=7)


def test_fixtures_have_a_line_of_help(project):
    result = run(project, "--fixtures", "-q")
    said = result.stdout.str()
    for name in (
        "mqtt_broker",
        "mqtt_broker_session",
        "mosquitto_broker",
        "virtual_plant",
        "virtual_hardware",
        "bus",
        "clock",
        "run_scenario",
        "scenario_result",
        "hosted",
        "mqtt_recorder",
        "mqtt_cassette",
        "replay",
        "recording",
        "seed",
    ):
        assert re.search(rf"^{name}\b.* -- .*fixtures.py", said, re.MULTILINE), name
    own = said.partition("defined from playground.fixtures")[2]
    assert "no docstring available" not in own.partition("fixtures defined from")[0]
