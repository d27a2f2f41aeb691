"""A small learned plant, written by hand: a tank that follows its heater."""

import numpy as np

from playground.model import Model
from playground.signals import Publication, Signal, Signals


def heater_model(*, responds=None, gain=0.2, outputs=("tank",), card=None):
    """Returns a model that knows its heater from 0 to 100 percent and no further.

    Args:
        responds: Declared directions of the tank.
        gain: Of the tank to the heater; below 0 it is of the wrong sign.
        outputs: ``tank``, and ``loose``, which answers to nothing.
        card: Added to the card.
    """
    count = len(outputs)
    names = [
        Signal(name=n, topic=f"lab/{n}", unit="degC", role="measurement")
        for n in outputs
    ]
    if responds is not None:
        names[0] = Signal(
            name="tank",
            topic="lab/tank",
            unit="degC",
            role="measurement",
            responds=responds,
        )
    heater = Signal(
        name="heater",
        topic="lab/heater",
        unit="percent",
        role="command",
        range=(0, 200),
        initial=0.0,
    )
    states = [[h, *[t] * count] for h in range(0, 111, 10) for t in range(-90, 291, 10)]
    # Of each output: its fall by itself, what the heater does, and no constant.
    weights = np.zeros((count + 2, count))
    weights[0, 0], weights[count, 0] = -0.1, gain
    for k in range(1, count):
        weights[k, k] = -0.1
    return Model(
        signals=Signals(
            [heater, *names],
            [
                Publication(topic=f"lab/{n}", signals=(n,), period_s=5.0)
                for n in outputs
            ],
        ),
        period_s=5.0,
        inputs=("heater",),
        outputs=tuple(outputs),
        history=1,
        members=({"family": "arx", "na": 1, "nb": 1},),
        parameters={
            "scaling.u_mean": np.zeros(1),
            "scaling.u_std": np.ones(1),
            "scaling.y_mean": np.zeros(count),
            "scaling.y_std": np.ones(count),
            "start.u": np.zeros((1, 1)),
            "start.y": np.full((1, count), 20.0),
            "weights": np.ones((1, count)),
            "envelope.low": np.array([-5.0, *[-90.0] * count]),
            "envelope.high": np.array([100.0, *[290.0] * count]),
            "envelope.states": np.array(states, float),
            "envelope.reach": np.array([300.0]),
            "interval.floor": np.full(count, 0.5),
            "interval.factor": np.ones((3, count)),
            "interval.spread": np.zeros(count),
            "0.weights": weights,
            "0.low": np.full(count, -100.0),
            "0.high": np.full(count, 300.0),
        },
        card={
            "errors": [
                {
                    "output": n,
                    "unit": "degC",
                    "rmse": 0.5 if n == "tank" else 4.2,
                    "persistence": 2.0,
                    "train_mean": 3.0,
                }
                for n in outputs
            ],
            "step_responses": [
                {
                    "command": "heater",
                    "output": n,
                    "gain": 10 * gain if n == "tank" else 0.0,
                    "settled_s": 110.0 if n == "tank" else None,
                }
                for n in outputs
            ],
            **(card or {}),
        },
    )
