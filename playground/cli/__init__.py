"""The command line: ``playground VERB …``.

Every verb is a module of this package with one function, ``command``; it
parses, makes one call into the package and prints. The modules are imported
only when their verb is typed, so ``playground --help`` answers at once. Errors
are turned into text and an exit code here, in one place.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import typer
import typer.core

from playground.errors import ExitCode, PlaygroundError

STOPPED = 130
"""What a shell expects of a command that was interrupted."""

VERBS = {
    "demo": "Show the whole idea at work: record, learn, run, report.",
    "broker": "Start the embedded MQTT broker.",
    "record": "Record an MQTT session to a file.",
    "replay": "Play a recording into a broker.",
    "info": "Say what a recording holds.",
    "diff": "Compare two recordings.",
    "verify": "Replay inputs to a program and compare its answers.",
    "import": "Make a recording out of a CSV, a table or another tool's file.",
    "cut": "Write a part of a recording.",
    "merge": "Join what several recorders heard of one session.",
    "filter": "Drop topics and parts of payloads from a recording.",
    "export": "Write a recording as a file of another tool.",
    "recover": "Mend a recording that was cut off.",
    "signals": "Propose a signals file for a recording.",
    "learn": "Learn a plant from recordings.",
    "backtest": "Say whether a learned plant is still right.",
    "estimate": "Fit parameters of a physical plant to recordings.",
    "run": "Run a scenario in virtual time.",
    "sweep": "Run a scenario over its matrix and by chance, on many cores.",
    "report": "Write the report of a run, or of two side by side.",
    "schema": "Print the JSON Schema of scenario files.",
    "host": "Run an unmodified MQTT program in virtual time.",
}


def _process_value(parameter: Any, ctx: Any, given: Any) -> Any:
    """Returns the value of an option, as `click.Parameter.process_value` does."""
    kind = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    is_several = parameter.multiple or parameter.nargs == -1
    value = given
    if given is None and kind is not None and not parameter.required:
        value = () if is_several else None
    elif kind is str and isinstance(given, str):
        pass
    elif kind is Path and isinstance(given, str) and _is_any_path(parameter):
        value = Path(given)
    elif kind == list[str] and given and isinstance(given, list | tuple):
        value = [str(word) for word in given]
    elif not (
        isinstance(kind, type) and given is not None and given == parameter.default
    ):
        return type(parameter).process_value(parameter, ctx, given)
    if parameter.callback is not None:
        value = parameter.callback(ctx, parameter, value)
    return value


def _is_any_path(parameter: Any) -> bool:
    info = parameter.type_descriptor.parameter_info
    return not (info.exists or info.resolve_path or info.allow_dash)


class _Plainly:
    """A command that makes no validator where none is needed.

    typer makes a pydantic one for every option, also for one that was not given,
    ``--help`` among them: 0.15 s per command. Defaults and words need none.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            parameter.process_value = partial(_process_value, parameter)
        return parameters


class _Verb(_Plainly, typer.core.TyperCommand):
    """One verb."""


class _LazyVerbs(_Plainly, typer.core.TyperGroup):
    """A command group that imports a verb's module when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in VERBS:
            return None
        module_name = (
            f"{cmd_name.replace('-', '_')}_"
            if cmd_name == "import"
            else (cmd_name.replace("-", "_"))
        )
        module = importlib.import_module(f"playground.cli.{module_name}")
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(name=cmd_name, cls=_Verb)(module.command)
        command = typer.main.get_command(single)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        # The table above, so that listing the verbs imports none of them.
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


app = typer.Typer(
    cls=_LazyVerbs,
    add_completion=False,
    rich_markup_mode=None,
    help="Record what a plant says over MQTT, and test control code against its "
    "double.",
)


@app.callback(invoke_without_command=True)
def _options(
    ctx: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version."),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Say more."),
) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s" if verbose else "%(message)s",
    )
    # What the libraries under the embedded broker tell is about themselves.
    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if version:
        from playground import __version__

        print(f"playground {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and ends the process with the right exit code."""
    # Whoever cleans up behind itself on Ctrl-C does so on SIGTERM too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(arguments: list[str]) -> int:
    try:
        answer = app(arguments, prog_name="playground", standalone_mode=True)
    except PlaygroundError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    except BrokenPipeError:
        # `playground info … | head`: nobody is listening any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.GOOD)
    except SystemExit as end:
        if end.code == STOPPED:
            # typer has turned the KeyboardInterrupt into this.
            print(
                "stopped: files that were finished are kept, "
                "nothing is left half-written",
                file=sys.stderr,
            )
        return end.code if isinstance(end.code, int) else int(ExitCode.USAGE)
    return answer if isinstance(answer, int) else int(ExitCode.GOOD)
