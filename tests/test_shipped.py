"""What the repository ships is what its own commands make."""

from pathlib import Path

import pytest

from playground.model import load_model
from playground.recording import Recording
from playground.run import run
from playground.scenario import load_scenario
from playground.signals_file import load_signals

ROOT = Path(__file__).parent.parent


def test_the_shipped_recording_is_the_run_of_its_scenario(tmp_path):
    result = run(
        load_scenario(ROOT / "scenarios" / "excitation.yaml"), out=tmp_path / "o"
    )
    shipped = Recording.open(ROOT / "recordings" / "lab-rig.parquet")
    assert shipped.verify() == result.sha256, (
        "the rig or the scenario has changed: make the recording and models/lab-rig "
        "anew as recordings/README.md and models/README.md say"
    )


def test_the_shipped_model_was_learned_from_the_shipped_recording():
    model = load_model(ROOT / "models" / "lab-rig")
    signals = load_signals(ROOT / "scenarios" / "signals" / "tower-loop.yaml")
    assert set(model.outputs) == {s.name for s in signals.with_role("measurement")}
    errors = {e["output"]: e for e in model.card["errors"]}
    for output in model.outputs:
        assert errors[output]["rmse"] < errors[output]["persistence"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "recordings").glob("*.parquet")), ids=lambda p: p.name
)
def test_what_is_shipped_is_small_and_names_no_machine(path):
    assert path.stat().st_size < 1_000_000
    said = str(Recording.open(path).metadata)
    assert "/home" not in said
    assert str(ROOT) not in said
