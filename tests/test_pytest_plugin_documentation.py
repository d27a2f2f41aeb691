"""What a person can type is documented: fixtures, marks, options, verbs, keys."""

import dataclasses
import inspect
import os
import re
from pathlib import Path

import click
import pytest
import typer

import playground.fixtures
import playground.pytest_plugin as plugin
from playground.cli import VERBS, app
from playground.scenario import Scenario

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "pytest.md").read_text()
GROUP = typer.main.get_command(app)


def fixtures():
    return sorted(
        name
        for name, value in vars(playground.fixtures).items()
        if type(value).__name__ == "FixtureFunctionDefinition"
    )


def test_there_are_fixtures():
    assert {"mqtt_broker", "virtual_plant", "run_scenario"} <= set(fixtures())


@pytest.mark.parametrize("name", fixtures())
def test_a_fixture_has_a_section_with_an_example_that_is_run(name):
    parts = re.split(r"^#{2,3} ", PAGE, flags=re.MULTILINE)
    own = [part for part in parts if f"`{name}`" in part.partition("\n")[0]]
    assert own, f"docs/pytest.md has no section '### `{name}`'"
    assert re.search(rf'```python title="test_\w+.py"\n.*\b{name}\b', own[0], re.DOTALL)


@pytest.mark.parametrize("line", plugin.MARKS, ids=lambda line: line.split("(")[0])
def test_a_mark_is_documented(line):
    assert f"`{line.partition('(')[0]}(" in PAGE


def test_options_and_settings_of_the_plugin_are_documented():
    source = Path(plugin.__file__).read_text()
    names = re.findall(r'add(?:option|ini)\(\s*"([\w-]+)"', source)
    assert len(names) == 6
    assert [name for name in names if name not in PAGE] == []


INTRODUCTION = """\
# The command line

`playground VERB …`; every verb answers `--help`. Exit codes: 0 good; 1 the thing that was
checked is not so; 2 wrong usage or a bad file; 3 it could not be decided. `playground
--version` says which version; `-v`, `--verbose` says more.
"""


def section(verb):
    """Returns what the reference says about a command, from the command itself."""
    command = GROUP.get_command(click.Context(GROUP), verb)
    first, *rest = inspect.cleandoc(command.help).split("\n\n")
    lines = ["", f"## playground {verb}", "", first]
    rows = [row(p) for p in command.params if p.name != "help"]
    if rows:
        lines += ["", "| | |", "|---|---|", *rows]
    for paragraph in rest:
        if paragraph.startswith("Example"):
            example = re.sub(r"^Examples?: *", "", " ".join(paragraph.split()))
            lines += ["", "```", example, "```"]
    return "\n".join(lines) + "\n"


def row(parameter):
    told = (parameter.help or "").replace("|", "\\|").strip()
    if parameter.param_type_name == "argument":
        return f"| `{parameter.metavar or parameter.name.upper()}` | {told} |"
    names = ", ".join(f"`{n}`" for n in (*parameter.opts, *parameter.secondary_opts))
    if parameter.metavar and not parameter.is_flag:
        names += f" {parameter.metavar}"
    default = parameter.default
    shows = isinstance(default, str | int | float) and not isinstance(default, bool)
    if shows and default != "" and "[" not in told:
        told += f" [{getattr(default, 'value', default)}]"
    return f"| {names} | {told} |"


def test_every_command_and_option_is_documented():
    expected = INTRODUCTION + "".join(section(verb) for verb in VERBS)
    page = ROOT / "docs" / "cli.md"
    if os.environ.get("PLAYGROUND_UPDATE_DOCS"):
        page.write_text(expected)
    assert page.read_text() == expected, (
        "docs/cli.md is not what the commands say of themselves\n"
        "  fix: PLAYGROUND_UPDATE_DOCS=1 pytest tests/test_pytest_plugin_documentation.py"
    )


def test_every_option_says_what_it_does():
    silent = [
        f"{verb} {parameter.name}"
        for verb in VERBS
        for parameter in GROUP.get_command(click.Context(GROUP), verb).params
        if not parameter.help
    ]
    assert silent == []


def test_every_key_of_a_scenario_is_documented():
    pages = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    text = "".join(
        page.read_text() for page in [*pages, ROOT / "scenarios" / "README.md"]
    )
    keys = [field.name for field in dataclasses.fields(Scenario) if field.init]
    missing = [
        key
        for key in keys
        if not re.search(rf"^\s*(- )?{key}:|`{key}`|[{{ ]{key}:", text, re.MULTILINE)
    ]
    assert missing == []
