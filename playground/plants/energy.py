"""The heat balance of a physical plant: the books that have to close."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Heat balance since the last reset, joules.

    Attributes:
        electricity_j: Taken by compressor, fan, electronics and pumps.
        from_air_j: Taken from the air by the evaporator, with its moisture.
        to_air_j: Given off by electronics, fan and whatever stands about.
        to_sink_j: Given to what the plant heats in the end: the cooling tower's
            air, or the outside by a house, less what sun and people bring.
        to_water_j: Given to the water by the heat pump; inside the balance.
        stored_j: More than at the reset in water, walls, coil and frost.
    """

    electricity_j: float
    from_air_j: float
    to_air_j: float
    to_sink_j: float
    to_water_j: float
    stored_j: float

    @property
    def imbalance(self) -> float:
        """What is missing, as a fraction of all heat that has moved."""
        moved = (
            abs(self.electricity_j)
            + abs(self.from_air_j)
            + abs(self.to_air_j)
            + abs(self.to_sink_j)
            + abs(self.stored_j)
        )
        if moved == 0.0:
            return 0.0
        gained = self.electricity_j + self.from_air_j
        gone = self.to_air_j + self.to_sink_j
        return (gained - gone - self.stored_j) / moved
