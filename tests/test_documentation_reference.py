"""What README and docs/ show outside of sessions: examples, commands, fragments.

Every block of a page is run: sessions and files by test_documentation.py, all others
here. A command in the middle of a text must have its verb and its options.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import click
import paho.mqtt.client as mqtt
import pytest
import typer

from playground.cli import VERBS, app
from playground.client import BrokerWithClients
from playground.message import Message
from playground.mqtt import MqttBus
from playground.recording import RecordingWriter
from playground.run import run
from playground.scenario import load_scenario

sys.path.insert(0, str(Path(__file__).parent))

from test_documentation import PAGES, ROOT, sessions

BLOCK = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

GROUP = typer.main.get_command(app)


# -- what no session shows ---------------------------------------------------------


MENTIONING = [
    *PAGES,
    *sorted((ROOT / "examples").glob("*/README.md")),
    *(ROOT / f / "README.md" for f in ("scenarios", "recordings", "models")),
]


def commands():
    """Yields the commands of this project that stand outside of sessions."""
    for page in MENTIONING:
        text = page.read_text()
        found = re.findall(r"`(playground [a-z][^`\n]*)`", text)
        for language, rest, body in BLOCK.findall(text):
            if language == "console" and "skip" in rest:
                body = re.sub(r"^\$ ", "", body.replace("\\\n", " "), flags=re.M)
            elif language != "":
                continue
            found += re.findall(r"^(playground .*)$", body, re.M)
        for line in dict.fromkeys(found):
            yield pytest.param(line, id=f"{page.relative_to(ROOT)}: {line}")


@pytest.mark.parametrize("line", list(commands()))
def test_a_command_that_is_mentioned_has_this_verb_and_these_options(line):
    verb, *words = shlex.split(re.sub(r" > [\w.]+$", "", line))[1:]
    command = GROUP.get_command(click.Context(GROUP), verb)
    assert command is not None, f"there is no command {verb!r}"
    words = [word for word in words if word != "…"]
    command.make_parser(click.Context(command)).parse_args(words)


def test_every_block_is_run_or_is_no_program():
    """Whoever adds a block lets it be run, or names the test that runs it."""
    elsewhere = {
        # By the tests below.
        ("cli.md", ""),
        ("hosting.md", "python"),
        ("hosting.md", "yaml"),
        ("learned-plants.md", "python"),
        ("learning.md", "python"),
        ("plants.md", "python"),
        ("replay.md", "python"),
        # By test_clock_protocol.py.
        ("clock-protocol.md", "python"),
        ("clock-protocol.md", "javascript"),
    }
    blocks = {
        (page.name, language)
        for page in PAGES
        for language, rest, _ in BLOCK.findall(page.read_text())
        if language not in ("console", "text") and "title=" not in rest
    }
    assert blocks == elsewhere


def links(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http:", "https:")):
            path, _, anchor = target.partition("#")
            yield target, page.parent / path if path else page, anchor


def anchors(page):
    for heading in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", MENTIONING, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page):
    for target, path, anchor in links(page):
        assert path.exists(), target
        assert not anchor or anchor in set(anchors(path)), target


def test_the_table_of_contents_has_each_page_once():
    contents = ROOT / "docs" / "README.md"
    table = contents.read_text().partition("| page |")[2].partition("\n## ")[0]
    linked = re.findall(r"^\| \[([\w-]+\.md)\]", table, re.MULTILINE)
    pages = {page.name for page in contents.parent.glob("*.md")} - {"README.md"}
    assert sorted(linked) == sorted(pages)


def fragment(page, language, containing=""):
    """Returns the one block of a page that is no file of its own."""
    (found,) = [
        body
        for its, rest, body in BLOCK.findall((ROOT / "docs" / page).read_text())
        if its == language and "title=" not in rest and containing in body
    ]
    return found


def file_of(page, title):
    found = {
        what: text
        for kind, what, text in sessions((ROOT / "docs" / page).read_text())
        if kind == "file"
    }
    return found[title]


def test_the_energy_of_plants_md_adds_up(capsys):
    exec(fragment("plants.md", "python"), {})
    assert 1 < float(capsys.readouterr().out) < 10


def test_many_plants_at_once(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    exec(fragment("learned-plants.md", "python"), {})
    assert capsys.readouterr().out.startswith("(1000, ")


def test_the_members_of_a_plant_and_its_fast_form(monkeypatch):
    """The shipped model is one small member, which is its own fast form."""
    monkeypatch.chdir(ROOT)
    code = fragment("learning.md", "python").replace("models/mine", "models/lab-rig")
    found: dict = {}
    exec(code, found)
    said = [found[name].reset(seed=0) for name in ("plant", "exact", "quick")]
    assert said[0] == said[1] == said[2]


def test_hosting_from_python(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("my_control.py").write_text(file_of("hosting.md", "my_control.py"))
    exec(fragment("hosting.md", "python"), {})
    assert "an hour later: 23:00 None" in capsys.readouterr().out


def test_programs_in_a_scenario(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program = file_of("hosting.md", "my_control.py")
    (tmp_path / "my_control.py").write_text(program)
    other = program.replace("my-control", "night-setback")
    (tmp_path / "night_setback.py").write_text(other)
    (tmp_path / "two.yaml").write_text(
        'version: "1.0"\nplant: lab_rig\nduration: 20min\n'
        + fragment("hosting.md", "yaml")
    )
    result = run(load_scenario(tmp_path / "two.yaml"), out=tmp_path / "out")
    assert result.verdict == "pass", result.lines()
    assert [each.name for each in result.programs] == ["my_control", "night_setback"]


def test_a_consumer_says_that_it_is_ready():
    code = fragment("replay.md", "python").replace("...", "client.loop_start()")
    with BrokerWithClients() as broker:
        ear = broker.client(subscribe="playground/ready/#")
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "dashboard")
        exec(code, {"client": client, "host": broker.host, "port": broker.port})
        ear.wait_for("playground/ready/dashboard", "modbus/#\nprocessed/#")
        client.disconnect()
        client.loop_stop()


# -- the examples of the reference ----------------------------------------------


SHOWN_IN_SESSIONS = {"verify", "learn", "backtest", "estimate"}
"""Their examples take minutes; sessions of other pages show them at work."""
SIGNALS = """\
version: "1.0"
signals:
  temp: {topic: rig/state, path: temp, unit: degC, role: measurement}
"""
SCENARIO = """\
version: "1.0"
plant: lab_rig
duration: 5min
checks: [{never: power > 20 kW}]
"""


def examples():
    page = (ROOT / "docs" / "cli.md").read_text()
    return {
        line.split()[1]: line for line in re.findall(r"^(playground .*)$", page, re.M)
    }


def test_every_verb_has_an_example_that_is_run_somewhere():
    shown = {
        what.split()[1]
        for page in PAGES
        for kind, what, _ in sessions(page.read_text())
        if kind == "run" and what.startswith("playground ")
    }
    assert SHOWN_IN_SESSIONS - shown == set()
    assert set(examples()) == set(VERBS)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which all files lie that the examples of the reference name."""
    folder = tmp_path_factory.mktemp("reference")
    start = 1_767_225_600 * 10**9
    for name in ("lab", "before", "after", "day", "left", "right", "s", "session"):
        with RecordingWriter(folder / f"{name}.parquet", journal=False) as writer:
            for second in range(0, 30 if name == "session" else 36_000, 10):
                state = {"temp": 20 + second % 7, "owner": "me"}
                if name == "after":
                    state["timestamp"] = second
                payload = json.dumps(state).encode()
                writer.append(Message(start + second * 10**9, "rig/state", payload))
    (folder / "lab.csv").write_text(
        "timestamp,topic,payload,qos,retain\n1767225600.5,rig/state,21.0,0,0\n"
    )
    (folder / "rig.yaml").write_text(SIGNALS)
    (folder / "scenarios").mkdir()
    (folder / "scenarios" / "thermostat.yaml").write_text(SCENARIO)
    many = SCENARIO + "matrix: {seed: [1, 2]}\n"
    (folder / "scenarios" / "setpoints.yaml").write_text(many)
    (folder / "my_control.py").write_text(file_of("hosting.md", "my_control.py"))
    return folder


def typed(line, folder):
    """Types a command line; where it names a broker, one on loopback is meant."""
    with BrokerWithClients() as broker:
        return subprocess.run(
            ["bash", "-c", re.sub(r"mqtt://[\w.]+", broker.url, line)],
            cwd=folder,
            env={
                **os.environ,
                "NO_COLOR": "1",
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "verb", sorted({*VERBS} - SHOWN_IN_SESSIONS - {"demo", "broker"})
)
def test_an_example_of_the_reference_runs(verb, place, tmp_path):
    folder = tmp_path / "here"
    shutil.copytree(place, folder)
    line = examples()[verb]
    written = re.search(r"(?:-o|>|record) (\S+)", line)
    if written:
        (folder / written[1]).unlink(missing_ok=True)
    if verb == "report":
        for day in ("today", "yesterday"):
            one = f"playground run scenarios/thermostat.yaml -o runs/{day} --no-report"
            assert typed(one, folder).returncode == 0
    ran = typed(line + (" --for 1s" if verb == "record" else ""), folder)
    assert ran.returncode == 0, f"$ {line}\n{ran.stdout}{ran.stderr}"
    assert written is None or (folder / written[1]).exists()


def test_the_example_of_broker_runs_until_it_is_told_to_end(tmp_path):
    # A free port, whatever the example says.
    words = shlex.split(examples()["broker"].replace("9001", "0"))
    with subprocess.Popen(
        [Path(sys.executable).parent / words[0], *words[1:]],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            url = re.search(r"mqtt://\S+", process.stdout.readline())[0]
            guest = MqttBus(url).connect("guest")
            guest.publish("lab/valve", b"1")
            guest.disconnect()
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0


@pytest.mark.slow
def test_what_needs_a_lab_runs_where_there_is_one(place, tmp_path):
    """Sessions marked with skip: the lab is a broker on loopback."""
    (tmp_path / "recordings").mkdir()
    (tmp_path / "lab.yaml").write_text(SIGNALS.replace("temp:", "outlet:", 1))
    lines = [
        " ".join(line.split())
        for page in PAGES
        for language, rest, body in BLOCK.findall(page.read_text())
        if language == "console" and "skip" in rest
        for line in body.replace("\\\n", " ").removeprefix("$ ").split("\n$ ")
    ]
    assert len(lines) >= 3
    for line in lines:
        ran = typed(f"{line} --for 1s --overwrite", tmp_path)
        assert ran.returncode == 0, f"$ {line}\n{ran.stdout}{ran.stderr}"
