"""docs/scenarios.md says every key, check, fault and KPI, as the code has them.

``PLAYGROUND_UPDATE_DOCS=1 pytest tests/test_scenario_reference.py`` writes it.
"""

import os
from pathlib import Path

from playground.controllers import BUILT_IN as CONTROLLERS
from playground.faults import (
    BROKER_FAULTS,
    CONNECTION_FAULTS,
    KINDS,
    MESSAGE_FAULTS,
    SIGNAL_FAULTS,
)
from playground.kpis import KPIS
from playground.parameters import parameters_of
from playground.plants import BUILT_IN as PLANTS
from playground.scenario.schema import schema

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "scenarios.md"

INTRODUCTION = """\
# Scenario files

Every key, check, fault and KPI of a scenario. How they go together, with examples to
run, stands in [scenarios/README.md](../scenarios/README.md); `playground schema` prints
the same for your editor.

Quantities carry their unit (`50 degC`, `2 K`, `0.3 l/s`, `5 %`). A duration is `500ms`,
`30s`, `10min`, `1h30min`, `8h`, `2d`. A difference of temperatures may be written `2 K`
or `2 degC`; both mean 2 K. All times count from the start of the run.

Plants: PLANTS. Controllers: CONTROLLERS.
"""
BLOCKS = {
    "": "The file",
    "ProgramEntry": "An entry of `programs`",
    "LinkEntry": "An entry of `links`",
    "EventEntry": "An entry of `events`",
    "PublishEntry": "`publish` of an event",
    "FaultEntry": "`fault` of an event",
    "CheckEntry": "An entry of `checks`",
    "KpiEntry": "`kpis`",
    "MonteCarloEntry": "`monte_carlo`",
}
AFTER_CHECKS = """\
A margin is the distance to the limit at the worst instant, in the unit of the signal,
negative where the check failed; checks with `within`, `every` and `stays` on messages
and times have it in seconds. A check that never came to bear is *untested* and the run
answers 3. A `schema` reaches nothing outside itself.
"""
TARGETS = {
    "`signal`": SIGNAL_FAULTS,
    "`topic`": MESSAGE_FAULTS,
    "`client`": CONNECTION_FAULTS,
    "everybody": BROKER_FAULTS,
}
FAULTS = {
    "stuck": "says its last value again and again, or `value`",
    "bias": "adds `by`, in the unit of the signal (a difference)",
    "scale": "multiplies with `factor`, a plain number",
    "noise": "adds normal noise of standard deviation `std`, in the unit of the signal",
    "drift": "adds more and more, `rate: 1 K/h`",
    "lag": "follows with the time constant `tau`, a duration",
    "delay": "says the value of a time `delay` before",
    "dropout": "says nothing",
    "intermittent": "says nothing, by chance (`probability`)",
    "out_of_range": "says `value`, by default one beyond its range",
    "nan": "says NaN",
    "wrong_unit": "says the number in `unit`",
    "unsigned": "a 16-bit register that is read unsigned: below 0 it jumps by 65536 "
    "steps of `factor`",
    "garbage": "says bytes that are no number",
    "drop": "messages are lost",
    "duplicate": "messages come twice",
    "reorder": "messages overtake each other, each up to `within` late",
    "late": "messages come `delay` later",
    "clock_skew": "the time in the JSON field `field` is wrong by the duration `by`",
    "partition": "the client is cut off from the broker",
    "client_crash": "the client is gone, its will goes out; it comes back at the end",
    "broker_restart": "everybody is disconnected, what was retained is forgotten",
    "retained_loss": "what was retained is forgotten",
}


def told(name, how, required):
    default = how.get("default")
    shown = "" if default in (None, "", False) else f" [`{default}`]"
    need = " **needed**" if name in required else ""
    return f"| `{name}` | {how.get('description', '')}{shown}{need} |"


def parameter(name, how):
    default = getattr(how, "default", None)
    unit = getattr(how, "unit", None) or "unit of `of`"
    unit = "" if unit == "1" else f" {unit}"
    if default is not None:
        return f"`{name}` [{default}{unit}]"
    optional = " (optional)" if getattr(how, "optional", False) else ""
    return f"`{name}`{unit}{optional}"


def expected():
    whole = schema()
    blocks = {"": whole, **whole["$defs"]}
    assert set(blocks) == set(BLOCKS)
    assert set(FAULTS) == set(KINDS)
    lines = [
        INTRODUCTION.replace("PLANTS", ", ".join(f"`{n}`" for n in PLANTS)).replace(
            "CONTROLLERS",
            "; ".join(
                f"`{name}` ({', '.join(f'`{key}`' for key in _keys(name))})"
                for name in CONTROLLERS
            ),
        )
    ]
    for name, title in BLOCKS.items():
        block = blocks[name]
        lines += [f"## {title}\n", "| key | what it says |", "|---|---|"]
        lines += [
            told(key, how, block["required"])
            for key, how in block["properties"].items()
        ]
        lines.append("")
        if name == "CheckEntry":
            lines.append(AFTER_CHECKS)
    lines += ["## Faults\n", "| kind | of | needs or takes | what happens |"]
    lines.append("|---|---|---|---|")
    for kind, takes in KINDS.items():
        of = next(of for of, kinds in TARGETS.items() if kind in kinds)
        keys = ", ".join(f"`{key}`" for key in takes)
        lines.append(f"| `{kind}` | {of} | {keys} | {FAULTS[kind]} |")
    lines += ["", "## KPIs\n", "| name | unit | parameters | what it is |"]
    lines.append("|---|---|---|---|")
    for name, kind in KPIS.items():
        given = ", ".join(parameter(k, how) for k, how in kind.parameters.items())
        unit = kind.unit.replace("of", "unit of `of`")
        lines.append(f"| `{name}` | {unit} | {given} | {kind.about} |")
    return "\n".join(lines) + "\n\nYour own KPI is `module:function`.\n"


def _keys(name):
    from playground.parameters import load_class

    found = load_class(CONTROLLERS[name], "controller", CONTROLLERS)
    return parameters_of(found)


def test_every_key_check_fault_and_kpi_is_in_the_reference():
    text = expected()
    if os.environ.get("PLAYGROUND_UPDATE_DOCS"):
        PAGE.write_text(text)
    assert PAGE.read_text() == text, (
        "docs/scenarios.md is not what the code says\n"
        "  fix: PLAYGROUND_UPDATE_DOCS=1 pytest tests/test_scenario_reference.py"
    )
