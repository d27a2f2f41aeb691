"""``playground estimate``: recordings to parameters of a physical plant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from playground.estimate import Estimate, Window


def command(
    recordings: Annotated[
        list[Path], typer.Argument(metavar="REC…", help="One or more recordings.")
    ],
    plant: Annotated[
        str,
        typer.Option(
            "--plant", "-p", help="Physical plant, module:Class, or a plant file."
        ),
    ],
    parameters: Annotated[
        str, typer.Option(help="What to find: its parameters, separated by commas.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File: plants/NAME.yaml.")
    ] = None,
    signals: Annotated[
        Path | None,
        typer.Option(
            "--signals", "-s", help="What the topics mean; else as the plant says."
        ),
    ] = None,
    outputs: Annotated[
        str, typer.Option(help="Signals to compare, separated by commas; else all.")
    ] = "",
    priors: Annotated[
        list[str] | None,
        typer.Option("--prior", help="What was known: NAME='2400±300 W/K', or a YAML."),
    ] = None,
    bounds: Annotated[
        list[str] | None,
        typer.Option("--bounds", help="Lowest and highest: NAME=1000..5000."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A parameter as it is, or its start: NAME=VALUE."),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weight", help="How far to trust a signal: NAME=0.5, 0 for not."
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", help="Stands in for an input: ambient=air_ambient."),
    ] = None,
    warm_up: Annotated[
        str, typer.Option(help="Beginning of each recording that is not judged.")
    ] = "10min",
    online: Annotated[
        str, typer.Option(help="Follow the plant in windows of this length.")
    ] = "",
    tolerance: Annotated[
        float, typer.Option(help="With --online: a smaller change is no drift.")
    ] = 0.02,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Also write everything as JSON.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file of that name.")
    ] = False,
) -> None:
    """Fit parameters of a physical plant to recordings of the real one.

    Says how sure each is, which ones hang together, and what the data cannot tell.
    The exit code is 3 where they cannot tell a parameter, and 1 where --online
    finds that the plant has drifted.

    Example: playground estimate lab.parquet --plant lab_rig --parameters
    ua_hx,carnot_fraction --outputs buffer_temp,water_outlet,power -o plants/lab.yaml
    """
    import json
    import sys

    from playground.cli.output import write_text
    from playground.estimate import estimate, read_plant_file, write_plant_file
    from playground.estimate.online import exit_code_of, follow
    from playground.estimate.plant_file import check_target
    from playground.estimate.unknowns import (
        full_name,
        read_assignments,
        read_bounds,
        read_prior,
        read_settings,
        scalars,
    )
    from playground.plants import plant_class
    from playground.quantity import seconds
    from playground.recording import Recording
    from playground.signals_file import load_signals

    for target in (output, as_json):
        if target is not None:
            check_target(target, overwrite=overwrite)
    known: dict[str, object] = {}
    if plant.endswith((".yaml", ".yml")):
        plant, known = read_plant_file(plant)
    cls = plant_class(plant)
    known |= read_settings(cls, scalars(read_assignments(settings or [], "--set")))
    names = [name.strip() for name in parameters.split(",") if name.strip()]

    def progress(text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    arguments = {
        "plant": plant,
        "parameters": names,
        "signals": load_signals(signals) if signals is not None else None,
        "settings": known,
        "bounds": {
            (full := full_name(cls, name)): read_bounds(full, text)
            for name, text in read_assignments(bounds or [], "--bounds").items()
        },
        "priors": {
            (full := full_name(cls, name)): read_prior(full, text)
            for name, text in _prior_texts(priors or []).items()
        },
        "reliability": {
            name: _factor(name, text)
            for name, text in read_assignments(weights or [], "--weight").items()
        },
        "outputs": [n.strip() for n in outputs.split(",") if n.strip()] or None,
        "inputs_from": read_assignments(inputs or [], "--input"),
        "warm_up_s": seconds(warm_up),
        "progress": progress,
    }
    opened = [Recording.open(path) for path in recordings]
    if online:
        windows = follow(
            opened,
            window_s=seconds(online),
            tolerance=tolerance,
            on_window=_print_window,
            **arguments,  # type: ignore[arg-type]
        )
        result = windows[-1].estimate
        if as_json is not None:
            rows = [
                {
                    "recording": str(recordings[w.recording]),
                    "start_s": w.start_s,
                    "end_s": w.end_s,
                    "running": w.running,
                    "drifts": [d.parameter for d in w.drifts],
                    "estimate": w.estimate.plain(),
                }
                for w in windows
            ]
            write_text(as_json, json.dumps(rows, indent=1))
        code = exit_code_of(windows)
    else:
        result = estimate(opened, **arguments)  # type: ignore[arg-type]
        progress("")
        _print(result)
        if as_json is not None:
            write_text(as_json, json.dumps(result.plain(), indent=1))
        code = result.exit_code
    if output is not None:
        write_plant_file(
            output, result, sources=[p.name for p in recordings], overwrite=overwrite
        )
        print(f"wrote {output}; in a scenario beside it: plant: !include {output.name}")
    if code:
        raise typer.Exit(int(code))


def _prior_texts(given: list[str]) -> dict[str, str]:
    from playground.document import Document
    from playground.errors import PlaygroundError
    from playground.estimate.unknowns import read_assignments

    texts: dict[str, str] = {}
    for one in given:
        if one.endswith((".yaml", ".yml")):
            data = Document.read(one).data
            if not isinstance(data, dict):
                raise PlaygroundError(
                    f"{one} is no list of priors.", "write 'ua_hx: 2400±300 W/K' lines"
                )
            texts |= {str(name): str(text) for name, text in data.items()}
        else:
            texts |= read_assignments([one], "--prior")
    return texts


def _factor(name: str, text: str) -> float:
    from playground.errors import PlaygroundError

    try:
        return float(text)
    except ValueError:
        raise PlaygroundError(
            f"The weight {name}={text} is no number.", f"write {name}=0.5"
        ) from None


def _print(result: Estimate) -> None:
    from playground.quantity import say_seconds

    print(
        f"{say_seconds(result.duration_s)} of plant time compared, "
        f"{len(result.misfits)} signals, {result.simulations} simulations"
    )
    width = max(len("parameter"), *(len(one.name) for one in result.parameters))
    print(f"{'parameter':<{width}}  {'estimate':>10}  {'95 % interval':^23}  unit")
    for one in result.parameters:
        interval = f"{one.low:>10.5g} – {one.high:<10.5g}"
        if one.status == "not identified":
            interval = "unknown"
        remark = "" if one.status in ("identified", "not identified") else one.status
        print(
            f"{one.name:<{width}}  {one.value:>10.6g}  {interval:^23}  "
            f"{one.unit:<6} {remark}".rstrip()
        )
    if result.directions:
        print("the data cannot tell:")
        for direction in result.directions:
            print(f"  {direction.text}")
    pairs = result.strong_correlations()
    if pairs and not result.directions:
        print("hang together (correlation of the estimates):")
        for a, b, value in pairs:
            print(f"  {a}, {b}: {value:+.2f}")
    told = sorted(result.misfits, key=lambda one: -one.share)[:8]
    print(f"{'signal':<{width}}  {'says':>5}  {'RMSE':>9}  {'scatter':>9}  unit")
    for misfit in told:
        print(
            f"{misfit.output:<{width}}  {misfit.share:>5.0%}  {misfit.rmse:>9.3g}  "
            f"{misfit.noise:>9.3g}  {misfit.unit}"
        )
    for note in result.notes:
        print(f"note: {note}")


def _print_window(window: Window) -> None:
    from playground.quantity import say_seconds

    def spread(name: str) -> str:
        kelvin = window.estimate[name].unit == "degC"
        deviation = window.deviation[name]
        return f"±{deviation:.2g} K" if kelvin else f"±{deviation:.2%}"

    values = ", ".join(
        f"{name} {value:.6g} {spread(name)}" for name, value in window.running.items()
    )
    print(f"{say_seconds(window.start_s)}–{say_seconds(window.end_s)}: {values}")
    for drift in window.drifts:
        print(
            f"  DRIFT {drift.parameter}: {drift.before:.5g} -> {drift.now:.5g} "
            f"({drift.deviations:.1f} deviations)"
        )
