"""The plant of a project that uses the plugin."""

from playground.signals import Signal, Signals


class Tank:
    """Warms by 10 K per minute at full heat, cools towards 20 degC."""

    period_s = 1.0
    signals = Signals(
        [
            Signal(
                name="heat",
                topic="tank/heat",
                unit="1",
                role="command",
                range=(0, 1),
                initial=0.0,
            ),
            Signal(name="temp", topic="tank/temp", unit="degC", role="measurement"),
        ]
    )

    def __init__(self, *, start_degc: float = 20.0, noise: float = 0.0):
        self.start_degc = start_degc
        self.noise = noise

    def reset(self, *, seed=0):
        self.seed = seed
        self.temp = self.start_degc + self.noise * seed
        return {"temp": self.temp}

    def step(self, now, inputs):
        self.temp += inputs["heat"] / 6 - 0.001 * (self.temp - 20)
        return {"temp": self.temp}

    def snapshot(self):
        return self.temp

    def restore(self, snapshot):
        self.temp = snapshot
