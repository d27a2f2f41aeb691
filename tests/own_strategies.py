"""Strategies of a user's own, on the heated tank: a function, a generator, a class."""

from typing import Annotated

from playground.parameters import In


def two_point(now, values, below: Annotated[float, In("degC")] = 39.0):
    """Heats below a temperature."""
    return {"heater": 1.0 if values["temp"] < below else 0.0}


def pulses(env, plant, on_s: float = 20.0):
    """Heats in pulses while it is cold."""
    while True:
        if plant["temp"] < 39.0:
            plant.set(heater=1.0)
            yield env.timeout(on_s)
            plant.set(heater=0.0)
        yield plant.heard("temp")


class Pulses:
    """The same as a class, which keeps to 39 degC and counts."""

    measures = ("temp",)
    commands = ("heater",)

    def __init__(self, *, on_s: float = 20.0) -> None:
        self.on_s = on_s
        self.pulses = 0

    def reset(self, *, seed: int = 0) -> None:
        """Forgets how many there were."""
        self.pulses = 0

    def process(self, env, plant):
        """Heats in pulses while it is cold."""
        while True:
            if plant["temp"] < 39.0:
                self.pulses += 1
                plant.set(heater=1.0)
                yield env.timeout(self.on_s)
                plant.set(heater=0.0)
            yield plant.heard("temp")


def confused(now, values):
    """Wants to set what is no command."""
    return {"temp": 1.0}


def speechless(now, values):
    """Answers with something else than commands."""
    return 1.0
