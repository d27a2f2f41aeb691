"""A plant with ten topics at 1 Hz, and a controller that sets three commands."""

from playground.signals import Signal, Signals


class TenTopics:
    period_s = 1.0

    def __init__(self):
        self.names = [f"y{k}" for k in range(10)]
        self.signals = Signals(
            [
                Signal(name=n, topic=f"plant/{n}", unit="degC", role="measurement")
                for n in self.names
            ]
            + [
                Signal(
                    name=f"u{k}",
                    topic=f"plant/u{k}/set",
                    unit="1",
                    role="command",
                    range=(0, 1),
                    initial=0.0,
                )
                for k in range(3)
            ]
        )

    def reset(self, *, seed=0):
        self.values = [20.0 + k for k in range(10)]
        return dict(zip(self.names, self.values, strict=True))

    def step(self, now, inputs):
        heat = 20 * (inputs["u0"] + inputs["u1"] + inputs["u2"])
        self.values = [y + 0.01 * (heat - y + k) for k, y in enumerate(self.values)]
        return dict(zip(self.names, self.values, strict=True))


class ThreeCommands:
    measures = ("y0", "y1", "y2")
    commands = ("u0", "u1", "u2")
    period_s = 1.0

    def reset(self, *, seed=0):
        self.count = 0

    def step(self, now, values):
        self.count += 1
        share = self.count % 100 / 100
        return {
            "u0": share,
            "u1": 1 - share,
            "u2": min(1.0, values["y0"] / 100 + share / 10),
        }
