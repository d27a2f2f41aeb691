"""Whether the parts of a model fit together, asked before a plant is made of them.

Hashes say that nobody changed a model since it was written. They do not say who wrote
it: the folder may come from another program, and its arrays may be of any shape. No
numbers are judged here but those that would stop a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from playground.errors import FileFormatError
from playground.model import Model
from playground.plants.learned.envelope import NEIGHBOURS
from playground.plants.learned.simulator import Simulator

AGAIN = "learn the model again, or take it from its source again"
OPTIONAL = ("median", "envelope.rate")
MOST = 1e100
"""In size: the square of a larger number is soon none."""
POSITIVE = ("scaling.u_std", "scaling.y_std")
UNFIT = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What arrays and settings that do not fit each other raise in the end."""


def check_model(model: Model, *, fast: bool) -> None:
    """Refuses a model whose parts do not fit its inputs and outputs.

    Args:
        model: From anywhere.
        fast: Whether its fast form will step, which has intervals of its own.

    Raises:
        FileFormatError: With the part that does not fit.
    """
    problem = next(_wrong_in_general(model), None)
    if problem is not None:
        raise FileFormatError(problem, AGAIN)
    for name, shape in _shapes(model, fast=fast).items():
        if name not in model.parameters:
            if name in OPTIONAL:
                continue
            raise FileFormatError(f"The model has no parameter {name!r}.", AGAIN)
        array = model.parameters[name]
        if len(array.shape) != len(shape) or any(
            here not in allowed
            for here, allowed in zip(array.shape, shape, strict=True)
        ):
            raise FileFormatError(
                f"The parameter {name!r} of the model has the shape {array.shape}; of "
                f"{len(model.inputs)} inputs, {len(model.outputs)} outputs and "
                f"{len(model.members)} members it must be {_said(shape)}.",
                AGAIN,
            )
        rule = "above 0" if name in POSITIVE else f"numbers below {MOST:g} in size"
        least = 0.0 if name in POSITIVE else -MOST
        most = np.inf if name == "envelope.rate" else MOST
        if not ((array > least) & (array <= most)).all():
            raise FileFormatError(
                f"The parameter {name!r} of the model has values that are not {rule}.",
                AGAIN,
            )


def _wrong_in_general(model: Model) -> Iterator[str]:
    if not model.members:
        yield "The model has no members, so that nothing could step."
    if not model.inputs or not model.outputs:
        yield "The model has no inputs or no outputs: a plant needs both."
    if not (math.isfinite(model.period_s) and model.period_s > 0):
        yield f"A step of the model takes {model.period_s:g} s: it must be above 0."
    for names, roles in (
        (model.inputs, ("command", "disturbance")),
        (model.outputs, ("measurement",)),
    ):
        for name in names:
            if name not in model.signals or model.signals[name].role not in roles:
                yield f"{name!r} is no {' and no '.join(roles)} of the model."


_Lengths = range | tuple[int, ...]
_SOME = range(1, 2**31)


def _shapes(model: Model, *, fast: bool) -> dict[str, tuple[_Lengths, ...]]:
    """Returns which lengths the axes of parameters may have, by name."""
    inputs, outputs = (len(model.inputs),), (len(model.outputs),)
    all_signals = (len(model.inputs + model.outputs),)
    rows = range(max(model.history, 1), 2**31)
    interval = "fast interval" if fast else "interval"
    return {
        "scaling.u_mean": (inputs,),
        "scaling.u_std": (inputs,),
        "scaling.y_mean": (outputs,),
        "scaling.y_std": (outputs,),
        "start.u": (rows, inputs),
        "start.y": (rows, outputs),
        "weights": ((len(model.members),), outputs),
        "median": (outputs,),
        "envelope.low": (all_signals,),
        "envelope.high": (all_signals,),
        "envelope.rate": (all_signals,),
        "envelope.states": (range(NEIGHBOURS, 2**31), all_signals),
        "envelope.reach": ((1,),),
        f"{interval}.floor": (outputs,),
        f"{interval}.factor": (_SOME, outputs),
        f"{interval}.spread": ((1, *outputs),),
    }


def _said(shape: tuple[_Lengths, ...]) -> str:
    said = [
        f"{lengths[0]} or more"
        if isinstance(lengths, range)
        else " or ".join(str(length) for length in dict.fromkeys(lengths))
        for lengths in shape
    ]
    return f"({' × '.join(said)})"


def fitting(make: Callable[[], Simulator], model: Model, which: str) -> Simulator:
    """Makes a simulator and has it make a step, as no shape alone tells that it can.

    Args:
        make: Makes it from settings and arrays.
        model: That `check_model` has let pass.
        which: What a reader calls it.

    Raises:
        FileFormatError: Its settings and arrays do not fit each other, or do not fit
            the inputs and outputs of the model.
    """
    runs = 2
    u, y = model.parameters["start.u"], model.parameters["start.y"]
    try:
        with np.errstate(all="ignore"):
            simulator = make()
            needs = simulator.history
            if needs > model.history:
                raise ValueError(f"{needs} rows of the past, not {model.history}")
            # One input would fill the places of several without a word.
            inputs = getattr(simulator, "inputs", u.shape[1])
            if inputs != u.shape[1]:
                raise ValueError(f"it is made for {inputs}")
            shown = np.zeros((runs, needs, u.shape[1]))
            simulator.begin(shown, np.zeros((runs, needs, y.shape[1])))
            said = simulator.advance(shown[:, -1])
    except KeyError as error:
        raise FileFormatError(f"{which} of the model has no {error}.", AGAIN) from error
    except (*UNFIT, MemoryError) as error:
        raise FileFormatError(
            f"{which} of the model does not fit its {len(model.inputs)} inputs and "
            f"{len(model.outputs)} outputs ({error}).",
            AGAIN,
        ) from error
    if said.shape != (runs, y.shape[1]) or not (np.abs(said) < MOST).all():
        raise FileFormatError(
            f"{which} of the model answers {said.shape[-1]} values, or some that are "
            f"no numbers; it must be {len(model.outputs)} numbers, one per output.",
            AGAIN,
        )
    return simulator
