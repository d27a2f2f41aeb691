"""``playground schema``: what a scenario file may contain, for editors."""

from __future__ import annotations

import json


def command() -> None:
    """Print the JSON Schema of scenario files.

    Save it and name it in the first line of a scenario, and an editor with the
    YAML language server completes and checks as you write:
    # yaml-language-server: $schema=scenario.schema.json

    Example: playground schema > scenario.schema.json
    """
    from playground.scenario.schema import schema

    print(json.dumps(schema(), indent=2))
