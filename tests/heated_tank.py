"""A tank of water with a heater: the smallest plant that tests can be made of."""

from playground.signals import Publication, Signal, Signals


class HeatedTank:
    def __init__(
        self,
        *,
        start_degc: float = 20.0,
        power_kw: float = 10.0,
        loss_w_per_k: float = 100.0,
        litres: float = 100.0,
        period_s: float = 1.0,
    ):
        self.period_s = period_s
        self.start_degc = start_degc
        self.power_kw = power_kw
        self.loss_w_per_k = loss_w_per_k
        self.capacity = litres * 4186.0
        signals = [
            Signal(name="temp", topic="tank/temp", unit="degC", role="measurement"),
            Signal(name="power", topic="tank/power", unit="kW", role="measurement"),
            Signal(
                name="heater",
                topic="tank/heater/set",
                unit="1",
                role="command",
                range=(0, 1),
                initial=0.0,
            ),
            Signal(
                name="room",
                topic="room/temp",
                unit="degC",
                role="disturbance",
                range=(-30, 50),
                initial=20.0,
            ),
        ]
        self.signals = Signals(
            signals,
            [
                Publication(topic="tank/temp", signals=("temp",), period_s=period_s),
                Publication(topic="tank/power", signals=("power",), period_s=period_s),
            ],
        )

    def reset(self, *, seed=0):
        self.temp = self.start_degc
        return {"temp": self.temp, "power": 0.0}

    def step(self, now, inputs):
        kw = inputs["heater"] * self.power_kw
        gain = kw * 1000 - self.loss_w_per_k * (self.temp - inputs["room"])
        self.temp += gain * self.period_s / self.capacity
        return {"temp": round(self.temp, 3), "power": kw}
