"""The search: weighted, robust least squares over whole simulations.

Two passes. The first weighs each signal by the scatter of its own readings; the
second by what the plant could not explain as well, counted by how long it lasts,
so that a sensor with an offset, or a part that the plant does not model, loses its
say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from playground.estimate.observed import noise_of
from playground.estimate.simulation import Simulation
from playground.estimate.uncertainty import Spread, persistence, spread
from playground.signals import Signals

Array = npt.NDArray[np.float64]
STEP = 5e-4
"""Of the derivatives, in coordinates: half a part in a thousand."""
_SAME_SLOPES = 0.1
"""As long as the unknowns have moved by less than this, the derivatives stand."""
_AT_REST = 2e-3
_MOST_ROUNDS = 3
_BEND = 3.0
"""Residuals beyond three deviations count less and less (soft L1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """How well the plant explains a signal.

    Attributes:
        output: The signal.
        unit: Its unit.
        samples: How many readings were compared.
        rmse: Of simulated against measured.
        noise: Scatter of the readings alone.
        persistence: Variance of the mean of the residuals over that of
            independent ones; 1 for white noise.
        share: Of what the data say about the parameters, 0 to 1.
    """

    output: str
    unit: str
    samples: int
    rmse: float
    noise: float
    persistence: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where the search ended, in coordinates.

    Attributes:
        z: The unknowns, shape (p,).
        spread: How sure they are.
        misfits: How well each signal is explained.
        converged: The search came to an end by itself.
    """

    z: Array
    spread: Spread
    misfits: tuple[Misfit, ...]
    converged: bool


def search(
    simulation: Simulation,
    signals: Signals,
    *,
    reliability: Mapping[str, float],
    progress: Callable[[str], None] | None = None,
) -> Found:
    """Finds the unknowns that explain the recordings best.

    Args:
        simulation: Simulates and compares.
        signals: Of the recording; says how readings are rounded.
        reliability: Factor on the weight of a signal; 1 where it is not named.
        progress: Is told what is being done.
    """
    return _Search(simulation, signals, reliability, progress).run()


class _Search:
    def __init__(
        self,
        simulation: Simulation,
        signals: Signals,
        reliability: Mapping[str, float],
        progress: Callable[[str], None] | None,
    ) -> None:
        self.simulation = simulation
        self.signals = signals
        self.progress = progress
        outputs = simulation.outputs
        self.noise = np.array(
            [
                noise_of(
                    signals[name], [one.samples[name] for one in simulation.observed]
                )
                for name in outputs
            ]
        )
        self.trust = np.array([reliability.get(name, 1.0) for name in outputs])
        self.deviation = self.noise.copy()
        self.persistence = np.ones(len(outputs))
        self.memory_rows = np.ones(len(outputs))
        priors = [unknown.prior_coordinates for unknown in simulation.unknowns]
        self.prior_mean = np.array([0.0 if p is None else p[0] for p in priors])
        # A start of a recording is no wonder within 30 K.
        self.prior_weight = np.array(
            [
                (0.0 if unknown.recording is None else 1.0 / 3.0)
                if p is None
                else 1.0 / p[1]
                for p, unknown in zip(priors, simulation.unknowns, strict=True)
            ]
        )
        self._slopes: tuple[Array, Array] | None = None

    def run(self) -> Found:
        count = len(self.simulation.unknowns)
        z = np.zeros(count)
        self._say("searching")
        answer = self._minimise(z)
        z = answer.x
        for _ in range(_MOST_ROUNDS):
            # A residue of the way to here would bend the estimate by more than its
            # deviation: from now on derivatives are of this place, to both sides.
            self._slopes = (z.copy(), self._slopes_at(z, central=True))
            self._reweigh(z)
            self._say("searching again, signals weighed by what stays unexplained")
            answer = self._minimise(z)
            moved = float(np.max(np.abs(answer.x - z)))
            z = answer.x
            if moved < _AT_REST:
                break
        self._reweigh(z)
        self._say("asking what the data cannot tell")
        slopes = self._sure_slopes(z, self._slopes_near(z))
        z = self._without_wandering(z, slopes)
        weights = self._weights()
        ratio = self.simulation.residuals(z) * weights / _BEND
        bent = np.sqrt(1.0 + ratio**2)
        weighted = slopes * weights[:, None]
        memory = float(self.memory_rows.max(initial=1.0))
        shares: Array = np.bincount(
            self.simulation.signal_of,
            weights=self._shares(weighted),
            minlength=len(self.noise),
        ).astype(np.float64)
        # What has no say may remember for as long as it likes.
        heard = shares > 0.01
        if heard.any():
            memory = float(self.memory_rows[heard].max())
        result = spread(
            weighted,
            ratio * _BEND / bent,
            bent**-3.0,
            prior=self.prior_weight**2,
            recording=self.simulation.recording_of,
            signal=self.simulation.signal_of,
            row=self.simulation.row_of,
            memory_rows=int(np.ceil(memory)),
        )
        return Found(
            z=z,
            spread=result,
            misfits=self._misfits(z, shares),
            converged=bool(answer.success),
        )

    def _say(self, text: str) -> None:
        if self.progress is not None:
            self.progress(f"{text} ({self.simulation.runs} simulations so far)")

    def _weights(self) -> Array:
        weights: Array = (self.trust / self.deviation)[self.simulation.signal_of]
        return weights

    def _minimise(self, z: Array) -> Any:
        weights = self._weights()
        simulation = self.simulation
        low, high = (
            np.array(side)
            for side in zip(*(u.bounds for u in simulation.unknowns), strict=True)
        )
        data = len(weights)

        def residuals(z: Array) -> Array:
            far = self.prior_weight * (z - self.prior_mean)
            return np.concatenate([simulation.residuals(z) * weights, far])

        def slopes(z: Array) -> Array:
            near = self._slopes_near(z)
            return np.vstack([near * weights[:, None], np.diag(self.prior_weight)])

        def loss(squares: Array) -> Array:
            # Soft L1 for readings; what was known before counts in full.
            result = np.empty((3, len(squares)))
            root = np.sqrt(1.0 + squares[:data])
            result[0, :data] = 2.0 * (root - 1.0)
            result[1, :data] = 1.0 / root
            result[2, :data] = -0.5 * root**-3.0
            result[0, data:] = squares[data:]
            result[1, data:] = 1.0
            result[2, data:] = 0.0
            return result

        width = np.where(np.isfinite(high - low), high - low, 2.0)
        inside = np.clip(z, low + 1e-6 * width, high - 1e-6 * width)
        return least_squares(
            residuals,
            inside,
            jac=slopes,
            bounds=(low, high),
            loss=loss,  # type: ignore[arg-type]
            f_scale=_BEND,
            x_scale=1.0,
            ftol=max(1e-10, 0.01 / data),
            xtol=1e-7,
            gtol=1e-10,
            max_nfev=40,
        )

    def _slopes_near(self, z: Array) -> Array:
        """Returns the derivatives of the residuals, shape (n, p), here or near by."""
        if self._slopes is not None:
            at, known = self._slopes
            # Temperatures act in proportion, so ten times as far is as good.
            reach = np.where([u.positive for u in self.simulation.unknowns], 1.0, 0.1)
            if np.max(np.abs(z - at) * reach, initial=0.0) < _SAME_SLOPES:
                return known
        # One side is enough to find the way; what is reported takes both.
        known = self._slopes_at(z, central=False)
        self._slopes = (z.copy(), known)
        self._say("searching")
        return known

    def _slopes_at(self, z: Array, *, central: bool) -> Array:
        columns = [
            self.simulation.slope(z, direction, STEP, central=central)
            for direction in np.eye(len(z))
        ]
        return np.column_stack(columns)

    def _sure_slopes(self, z: Array, slopes: Array) -> Array:
        """Looks again along directions in which little happens.

        There the differences of nearly equal answers may be all rounding; a wide
        step tells nothing from little.
        """
        weights = self._weights()
        weighted = slopes * weights[:, None]
        values, vectors = np.linalg.eigh(weighted.T @ weighted)
        strongest = max(float(values[-1]), 1e-300)
        for value, direction in zip(values, vectors.T, strict=True):
            if value > 1e-5 * strongest:
                continue
            clean = np.where(np.abs(direction) > 1e-3, direction, 0.0)
            wide = 0.1 / float(np.max(np.abs(clean)))
            seen = self.simulation.slope(z, clean, wide)
            slopes = slopes + np.outer(seen - slopes @ direction, direction)
        return slopes

    def _without_wandering(self, z: Array, slopes: Array) -> Array:
        """Puts back what has no effect here, but had some on the way."""
        lengths = np.sum((slopes * self._weights()[:, None]) ** 2, axis=0)
        idle = (lengths < 1e-3) & (self.prior_weight == 0.0)
        back = np.where(idle, 0.0, z)
        if not idle.any() or self._cost(back) > self._cost(z) + 0.5:
            return z
        return back

    def _cost(self, z: Array) -> float:
        squares = (self.simulation.residuals(z) * self._weights() / _BEND) ** 2
        return float(_BEND**2 * np.sum(np.sqrt(1.0 + squares) - 1.0))

    def _reweigh(self, z: Array) -> None:
        """Finds from the residuals what each signal is worth."""
        simulation = self.simulation
        residuals = simulation.residuals(z)
        for i in range(len(self.noise)):
            mine = simulation.signal_of == i
            if not mine.any():
                continue
            left = residuals[mine]
            typical = 1.4826 * float(np.median(np.abs(left)))
            scatter = max(float(self.noise[i]), typical)
            clipped = np.clip(left, -_BEND * scatter, _BEND * scatter)
            pieces = []
            for k in range(len(simulation.observed)):
                here = simulation.recording_of[mine] == k
                pieces.append((simulation.row_of[mine][here], clipped[here]))
            self.persistence[i], self.memory_rows[i] = persistence(pieces)
            self.deviation[i] = scatter * np.sqrt(self.persistence[i])

    @staticmethod
    def _shares(weighted: Array) -> Array:
        """Returns how much each residual says about the unknowns, sum 1."""
        information = weighted.T @ weighted
        values, vectors = np.linalg.eigh(information)
        kept = values > 1e-9 * max(float(values[-1]), 1e-300)
        white = weighted @ (vectors[:, kept] / np.sqrt(values[kept]))
        total = np.sum(white**2, axis=1)
        result: Array = total / max(float(total.sum()), 1e-300)
        return result

    def _misfits(self, z: Array, shares: Array) -> tuple[Misfit, ...]:
        simulation = self.simulation
        residuals = simulation.residuals(z)
        found = []
        for i, name in enumerate(simulation.outputs):
            mine = residuals[simulation.signal_of == i]
            found.append(
                Misfit(
                    output=name,
                    unit=self.signals[name].unit,
                    samples=len(mine),
                    rmse=float(np.sqrt(np.mean(mine**2))) if len(mine) else 0.0,
                    noise=float(self.noise[i]),
                    persistence=float(self.persistence[i]),
                    share=float(shares[i]),
                )
            )
        return tuple(found)
