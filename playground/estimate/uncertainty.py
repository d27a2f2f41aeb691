"""How sure an estimate is, when residuals are neither independent nor alike.

The textbook's covariance H⁻¹ (Gauss-Newton) holds for independent residuals of
the assumed scatter. Residuals of plants follow each other in time, and signals of
one instrument scatter together, so the middle of the sandwich H⁻¹ S H⁻¹ is taken
from the residuals twice: from their correlation over lags and between signals
(precise, but takes the scatter to be the same all the time), and from sums over
blocks of time (takes nothing for granted, but rests on few blocks). The wider one
counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
_MOST_LAGS = 30
_FEWEST_BLOCKS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Covariance of the unknowns in their coordinates.

    Attributes:
        covariance: With what was known before; shape (p, p).
        from_data: What the data alone would give; very large along directions of
            which they know nothing; shape (p, p).
        blocks: Stretches of time that count as independent.
    """

    covariance: Array
    from_data: Array
    blocks: int


def spread(
    jacobian: Array,
    residuals: Array,
    curvature: Array,
    *,
    prior: Array,
    recording: Whole,
    signal: Whole,
    row: Whole,
    memory_rows: int,
) -> Spread:
    """Returns how sure the unknowns are.

    Args:
        jacobian: Of the weighted residuals, shape (n, p).
        residuals: The weighted residuals after the robust loss (its derivative),
            shape (n,).
        curvature: Second derivative of the robust loss, shape (n,).
        prior: Information from before, a diagonal, shape (p,).
        recording: Which one each residual belongs to, shape (n,).
        signal: Which signal, shape (n,).
        row: Which step of the plant, shape (n,).
        memory_rows: Rows after which residuals have forgotten each other.
    """
    information = jacobian.T @ (curvature[:, None] * jacobian)
    count = jacobian.shape[1]
    by_lag = np.zeros((count, count))
    by_block = np.zeros((count, count))
    blocks = 0
    for k in np.unique(recording):
        mine = recording == k
        one = (
            jacobian[mine],
            residuals[mine],
            signal[mine],
            row[mine] - row[mine].min(),
        )
        by_lag += _over_lags(*one, memory_rows=memory_rows)
        added, number = _over_blocks(*one, memory_rows=memory_rows)
        by_block += added
        blocks += number
    if blocks > 1:
        by_block *= blocks / (blocks - 1)
    # Nothing is known less well than to a factor of e^±30.
    floor = np.full(count, 1.0 / 30.0**2)
    return Spread(
        covariance=_wider(information, by_lag, by_block, np.maximum(prior, floor)),
        from_data=_wider(information, by_lag, by_block, floor),
        blocks=blocks,
    )


def _wider(information: Array, by_lag: Array, by_block: Array, prior: Array) -> Array:
    bread = np.linalg.inv(information + np.diag(prior))
    first = bread @ (by_lag + np.diag(prior)) @ bread
    second = bread @ (by_block + np.diag(prior)) @ bread
    factor = np.sqrt(np.maximum(1.0, np.diag(second) / np.diag(first)))
    result: Array = first * np.outer(factor, factor)
    return result


def _over_lags(
    jacobian: Array, residuals: Array, signal: Whole, row: Whole, *, memory_rows: int
) -> Array:
    rows, signals, count = int(row.max()) + 1, int(signal.max()) + 1, jacobian.shape[1]
    r = np.zeros((rows, signals))
    there = np.zeros((rows, signals))
    j = np.zeros((rows, count, signals))
    r[row, signal] = residuals
    there[row, signal] = 1.0
    j[row, :, signal] = jacobian
    used = there.any(axis=0)
    r, there, j = r[:, used], there[:, used], np.ascontiguousarray(j[:, :, used])
    lags = min(memory_rows, _MOST_LAGS, rows // 4)
    total = np.zeros((count, count))
    for lag in range(lags + 1):
        ahead, behind = slice(lag, rows), slice(0, rows - lag)
        pairs = there[behind].T @ there[ahead]
        products = r[behind].T @ r[ahead]
        # Pairs that never met have no say in J either.
        gamma = products / np.maximum(pairs, 1.0)
        through = j[behind] @ gamma
        part = np.tensordot(through, j[ahead], axes=([0, 2], [0, 2]))
        weight = 1.0 - lag / (lags + 1)
        total += weight * (part if lag == 0 else part + part.T)
    # Bartlett's weights keep it positive but for rows that are missing.
    values, vectors = np.linalg.eigh(0.5 * (total + total.T))
    result: Array = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return result


def _over_blocks(
    jacobian: Array, residuals: Array, signal: Whole, row: Whole, *, memory_rows: int
) -> tuple[Array, int]:
    rows = int(row.max()) + 1
    length = max(1, min(max(30, 5 * memory_rows), rows // _FEWEST_BLOCKS))
    number = max(1, rows // length)
    block = np.minimum(row // length, number - 1)
    count = jacobian.shape[1]
    sums = np.zeros((number, count))
    for i in range(count):
        sums[:, i] = np.bincount(
            block, weights=jacobian[:, i] * residuals, minlength=number
        )
    result: Array = sums.T @ sums
    return result, number


def persistence(pieces: list[tuple[Whole, Array]]) -> tuple[float, float]:
    """Returns by how much a signal's residuals follow each other.

    Args:
        pieces: Rows and residuals, recording by recording.

    Returns:
        The variance of their mean over that of independent ones (at least 1), and
        after how many rows they have forgotten each other.
    """
    factors, memories, weights = [], [], []
    for rows, residuals in pieces:
        count = len(residuals)
        if count < 8:
            continue
        spacing = float(np.median(np.diff(rows))) or 1.0
        size = 1 << (2 * count - 1).bit_length()
        power = np.abs(np.fft.rfft(residuals, size)) ** 2
        correlation = np.fft.irfft(power, size)[: max(2, count // 4)]
        if not correlation[0] > 0.0:
            continue
        correlation = correlation / correlation[0]
        sums = 2.0 * np.cumsum(correlation) - 1.0
        # Sokal's window: as soon as it is five times the time it has found.
        enough = np.flatnonzero(np.arange(len(sums)) >= 2.5 * np.maximum(sums, 1.0))
        at = int(enough[0]) if len(enough) else len(sums) - 1
        factor = max(1.0, float(sums[at]))
        # Chance alone gives white residuals a correlation of 2/√n.
        if correlation[1] < 2.0 / np.sqrt(count):
            factor = 1.0
        factors.append(factor)
        memories.append(spacing * (0.5 * factor if factor > 1.0 else 0.0))
        weights.append(count)
    if not factors:
        return 1.0, 1.0
    return (
        float(np.average(factors, weights=weights)),
        max(1.0, float(np.average(memories, weights=weights))),
    )
