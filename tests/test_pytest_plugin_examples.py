"""The example project passes with the wheel as it would be published.

Not from the source tree: the wheel is built and put into a fresh virtual
environment. With PLAYGROUND_FRESH_INSTALL, as in CI and by ``make fresh``, its
dependencies are installed as well, which takes a minute or two; else they are those of
the surrounding environment.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(p.parent for p in (ROOT / "examples").glob("*/pytest.ini"))


def called(*command, **options):
    ran = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        **options,
    )
    assert ran.returncode == 0, f"$ {command}\n{ran.stdout}{ran.stderr}"
    return ran.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of a fresh virtual environment with the built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    called(*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    called(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    found = folder / "venv" / "bin" / "python"
    install = [*pip, "--python", found, "install", "--no-warn-script-location"]
    if os.environ.get("PLAYGROUND_FRESH_INSTALL"):
        called(*install, "--constraint", ROOT / "constraints.txt", wheel, "pytest")
    else:
        called(*install, "--no-deps", wheel)
        (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
        for dependency in Path(sysconfig.get_path("purelib")).iterdir():
            if not re.search("playground|editable|[.]pth$", dependency.name):
                (site / dependency.name).symlink_to(dependency)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.name)
def test_an_example_project_passes_with_the_built_wheel(python, example, tmp_path):
    project = tmp_path / example.name
    shutil.copytree(example, project)
    where = called(
        python, "-c", "import playground; print(playground.__file__)", cwd=project
    )
    assert Path(where.strip()).is_relative_to(python.parents[1])
    assert not Path(where.strip()).is_relative_to(ROOT)
    # No module imports it; child processes of tests find it in the wheel.
    assert (Path(where.strip()).parent / "offline" / "sitecustomize.py").is_file()
    said = called(
        python,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:asyncio",
        cwd=project,
        env={**os.environ, "NO_COLOR": "1", "PYTHONPATH": ""},
    )
    assert " passed" in said
    assert "skipped" not in said
