import json
from pathlib import Path

import jsonschema
import pytest

from playground.cli import main
from playground.document import Document
from playground.scenario.schema import schema

ROOT = Path(__file__).parents[1]
SHIPPED = sorted((ROOT / "scenarios").glob("*.yaml"))


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_scenario_fits_the_schema(path):
    jsonschema.validate(Document.read(path).data, schema())


@pytest.mark.parametrize(
    "wrong",
    [
        {"sed": 1},
        {"seed": "one"},
        {"checks": [{"nevr": "x > 1"}]},
        {"events": [{"at": "1h", "fault": {"kind": "stuk", "signal": "x"}}]},
        {"kpis": {"uses": []}},
        {"version": "2.0"},
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(wrong):
    good = {"name": "x", "plant": "lab_rig", "duration": "1h"}
    jsonschema.validate(good, schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(good | wrong, schema())


def test_every_key_is_described():
    found = schema()
    for block in (found, *found["$defs"].values()):
        for key, value in block["properties"].items():
            assert value.get("description"), key


def test_the_command_prints_it(capsys):
    with pytest.raises(SystemExit):
        main(["schema"])
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(schema()))
