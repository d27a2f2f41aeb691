"""The JSON Schema of a scenario file, for the completion of editors."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from playground.controllers import BUILT_IN as CONTROLLERS
from playground.document import key_of
from playground.faults import KINDS as FAULTS
from playground.faults import FaultEntry
from playground.kpis import KPIS
from playground.plants import BUILT_IN as PLANTS
from playground.scenario.entries import KpiEntry, Scenario

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """Returns the JSON Schema (2020-12) of a scenario file."""
    definitions: dict[str, Any] = {}
    root = _of_dataclass(Scenario, definitions)
    properties = root["properties"]
    properties["extends"] = {
        "type": "string",
        "description": "A scenario beside this one that it is laid over.",
    }
    properties["plant"]["examples"] = [
        *PLANTS,
        {"model": "../models/NAME"},
        {"model": "../models/NAME", "fast": True, "envelope": {"share": "5 %"}},
    ]
    properties["controllers"]["items"]["examples"] = [
        {name: {}} for name in CONTROLLERS
    ]
    definitions[FaultEntry.__name__]["properties"]["kind"]["enum"] = list(FAULTS)
    definitions[KpiEntry.__name__]["properties"]["use"]["items"]["examples"] = list(
        KPIS
    )
    # The name may come from that of the file, and all else from what it extends.
    root["required"] = []
    return {
        "$schema": DIALECT,
        "title": "Scenario of the MQTT playground",
        **root,
        "$defs": definitions,
    }


def _of(type_: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(type_), typing.get_args(type_)
    if origin is typing.Annotated:
        return _of(arguments[0], definitions)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_of(member, definitions) for member in arguments]}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if dataclasses.is_dataclass(type_):
        name = typing.cast("type", type_).__name__
        if name not in definitions:
            definitions[name] = {}
            definitions[name] = _of_dataclass(type_, definitions)
        return {"$ref": f"#/$defs/{name}"}
    if origin in (list, tuple, Sequence):
        return {"type": "array", "items": _of(arguments[0], definitions)}
    if origin in (dict, Mapping):
        return {
            "type": "object",
            "additionalProperties": _of(arguments[1], definitions),
        }
    names = {str: "string", int: "integer", float: "number", bool: "boolean"}
    if type_ is type(None):
        return {"type": "null"}
    return {"type": names[type_]} if type_ in names else {}


def _of_dataclass(type_: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(type_, include_extras=True)
    about = _attributes(type_.__doc__ or "")
    properties, required = {}, []
    for one in dataclasses.fields(type_):
        if not one.init:
            continue
        here = _of(hints[one.name], definitions)
        if one.name in about:
            here = {**here, "description": about[one.name]}
        if one.default is not dataclasses.MISSING and one.default is not None:
            here["default"] = one.default
        if (
            one.default is dataclasses.MISSING
            and one.default_factory is dataclasses.MISSING
        ):
            required.append(key_of(one.name))
        properties[key_of(one.name)] = here
    return {
        "type": "object",
        "description": (type_.__doc__ or "").partition("\n")[0],
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _attributes(text: str) -> dict[str, str]:
    """Returns what a docstring says about each attribute."""
    found: dict[str, str] = {}
    name = ""
    for line in text.partition("Attributes:\n")[2].splitlines():
        start = re.fullmatch(r" {8}(\w+): (.*)", line)
        if start:
            name = start[1]
            found[name] = start[2]
        elif name and line.startswith(" " * 12):
            found[name] += " " + line.strip()
        elif not line.strip():
            break
    return {name: said.replace("``", "`") for name, said in found.items()}
