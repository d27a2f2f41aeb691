"""What all verbs share: help, errors, exit codes, signals."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from playground.cli import VERBS

COMMAND = [sys.executable, "-c", "from playground.cli import main; main()"]
ENDLESS = """\
version: "1.0"
name: endless
plant: lab_rig
duration: 9000d
"""


def playground(*arguments, cwd=None):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=60,
        check=False,
    )


def test_without_a_verb_it_says_which_there_are():
    ran = playground()
    assert ran.returncode == 0
    for verb, text in VERBS.items():
        assert f"{verb} " in ran.stdout
        assert text.split()[0] in ran.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example_to_paste(verb):
    ran = playground(verb, "--help")
    assert ran.returncode == 0, ran.stderr
    assert f"Example: playground {verb}" in " ".join(ran.stdout.split())


def test_an_unknown_verb_is_wrong_usage():
    ran = playground("recrod")
    assert ran.returncode == 2
    assert "No such command 'recrod'" in ran.stderr


def test_a_mistake_of_the_user_shows_no_traceback(tmp_path):
    ran = playground("info", tmp_path / "nothing.parquet")
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: ")
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_so_and_leaves_nothing_half_written(number, tmp_path):
    (tmp_path / "endless.yaml").write_text(ENDLESS)
    process = subprocess.Popen(
        [*COMMAND, "run", "endless.yaml", "-o", "out"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        # It is at work as soon as its unfinished folder is there.
        while not list(tmp_path.glob(".out*")):
            assert process.poll() is None
            os.sched_yield()
        process.send_signal(number)
        _, told = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "stopped: " in told
    assert "Traceback" not in told
    assert [p.name for p in Path(tmp_path).iterdir()] == ["endless.yaml"]


def test_a_command_of_words_and_defaults_makes_no_validators(tmp_path):
    # They take longer than all that a short command does.
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys\nfrom playground.cli import _run\n"
            "assert _run(sys.argv[1:]) == 2\n"
            "assert 'pydantic' not in sys.modules",
            *("replay", str(tmp_path / "none.parquet"), "-t", "a/#", "--speed", "max"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert "none.parquet does not exist" in said.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--qos", "7"), "--qos"),
        (("--port", "x"), "--port"),
        ((), "Missing argument"),
    ],
)
def test_what_is_no_word_is_checked(options, words, tmp_path):
    file = (str(tmp_path / "none.parquet"),) if options else ()
    said = playground("replay", *file, *options)
    assert said.returncode == 2
    assert words in said.stderr
