"""Every scenario that is shipped comes out as it says, twice with the same log."""

from pathlib import Path

import pytest

from playground.document import Document
from playground.run import run
from playground.scenario import load_scenario

FOLDER = Path(__file__).parents[1] / "scenarios"
SHIPPED = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_scenario_comes_out_as_it_says_twice(path, tmp_path):
    scenario = load_scenario(path)
    first = run(scenario, out=tmp_path / "first")
    assert first.verdict == ("fail" if "fails" in scenario.tags else "pass"), "\n".join(
        first.lines()
    )
    again = run(load_scenario(path), out=tmp_path / "again")
    assert again.sha256 == first.sha256
    assert again.checks == first.checks


def test_the_readme_lists_every_scenario():
    readme = (FOLDER / "README.md").read_text()
    for path in SHIPPED:
        assert f"`{path.name}`" in readme


def test_the_readme_names_every_key_check_and_fault():
    from playground.checks import HEADS
    from playground.faults import KINDS
    from playground.scenario.schema import schema

    readme = (FOLDER / "README.md").read_text()
    for word in (*schema()["properties"], *HEADS, *KINDS):
        assert f"`{word}" in readme, word


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_scenario_begins_with_a_word_to_its_reader(path):
    assert path.read_text().startswith("# ")
    assert Document.read(path).data["description"]
