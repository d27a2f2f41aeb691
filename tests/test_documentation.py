"""Every command in README.md and docs/ is run, and prints what stands there.

A block that begins with ```console is a session: ``$ command`` and below it what
it prints, with ``...`` for what differs from run to run. A block that begins with
```yaml title="name" (or python, text ...) is a file of that name. All blocks of one page share
one folder, in which the shipped recordings, models and scenarios lie.
"""

import doctest
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def sessions(text):
    """Yields ("file", name, text) and ("run", command, expected) in order."""
    for language, rest, body in BLOCK.findall(text):
        title = re.search(r'title="([^"]+)"', rest)
        if title:
            yield "file", title[1], body
        if language == "console" and "skip" not in rest:
            for chunk in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                command, _, expected = chunk.partition("\n")
                while command.endswith("\\"):
                    more, _, expected = expected.partition("\n")
                    command = command[:-1] + more.strip().removeprefix("> ")
                yield "run", command, expected


def with_sessions():
    for page in PAGES:
        steps = list(sessions(page.read_text()))
        if steps:
            yield pytest.param(steps, id=str(page.relative_to(ROOT)))


@pytest.mark.slow
@pytest.mark.parametrize("steps", list(with_sessions()))
def test_the_commands_of_a_page_print_what_the_page_says(steps, tmp_path):
    for folder in ("recordings", "models", "scenarios", "examples"):
        if (ROOT / folder).is_dir():
            shutil.copytree(ROOT / folder, tmp_path / folder)
    # A folder above may hold a project of somebody else.
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
        "NO_COLOR": "1",
    }
    for kind, what, text in steps:
        if kind == "file":
            (tmp_path / what).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / what).write_text(text)
            continue
        ran = subprocess.run(
            ["bash", "-c", what],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        printed = ran.stdout + ran.stderr
        assert doctest.OutputChecker().check_output(text, printed, FLAGS), (
            f"$ {what}\n--- the page says\n{text}\n--- it prints\n{printed}"
        )
