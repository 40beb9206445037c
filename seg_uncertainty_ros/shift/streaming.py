# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Statistics of a stream in memory that does not grow with it; parts can be merged."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.errors import SegUncertaintyError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from numpy.typing import NDArray


class StreamError(SegUncertaintyError):
    """Values or settings that a stream's statistics refuse."""


@dataclass(eq=False)
class Moments:
    """Mean and (co)variance of rows (D,), pairwise updated: no sum of squares that cancels.

    Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample
    variances, 1979; for a single row it is Welford's. Rows with a number that is not finite are
    counted in ``ignored`` and left out. Memory: O(D), O(D^2) with ``covariance``.
    """

    size: int
    with_covariance: bool = False
    count: int = 0
    ignored: int = 0
    mean: NDArray[np.float64] = field(init=False)
    _scatter: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        """Start with nothing seen."""
        if self.size < 1:
            msg = f'size: {self.size}, expected at least 1'
            raise StreamError(msg)
        self.mean = np.zeros(self.size)
        self._scatter = np.zeros((self.size, self.size) if self.with_covariance else self.size)

    def update(self, rows: ArrayLike) -> None:
        """Take one row (D,) or several (n, D)."""
        values = np.atleast_2d(np.asarray(rows, np.float64))
        if values.ndim != 2 or values.shape[1] != self.size:
            msg = f'rows: shape {np.shape(rows)}, expected (n, {self.size})'
            raise StreamError(msg)
        finite = np.isfinite(values).all(axis=1)
        self.ignored += int(len(values) - finite.sum())
        values = values[finite]
        if not len(values):
            return
        mean = values.mean(axis=0)
        centred = values - mean
        scatter = centred.T @ centred if self.with_covariance else (centred**2).sum(axis=0)
        self._add(len(values), mean, scatter)

    def merge(self, other: Moments) -> None:
        """Add what another one has seen."""
        if (other.size, other.with_covariance) != (self.size, self.with_covariance):
            msg = f'merge: size {other.size}, covariance {other.with_covariance}, expected '
            msg += f'{self.size}, {self.with_covariance}'
            raise StreamError(msg)
        self.ignored += other.ignored
        if other.count:
            self._add(other.count, other.mean, other._scatter)

    @property
    def variance(self) -> NDArray[np.float64]:
        """Variance (D,) of all rows seen, divided by their number; NaN without any."""
        diagonal = self._scatter.diagonal() if self.with_covariance else self._scatter
        return diagonal / self.count if self.count else np.full(self.size, np.nan)

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Covariance (D, D), divided by the number of rows."""
        if not self.with_covariance:
            msg = 'covariance: not kept, expected with_covariance=True'
            raise StreamError(msg)
        return self._scatter / self.count if self.count else np.full_like(self._scatter, np.nan)

    def _add(self, count: int, mean: NDArray[np.float64], scatter: NDArray[np.float64]) -> None:
        total = self.count + count
        delta = mean - self.mean
        between = np.outer(delta, delta) if self.with_covariance else delta**2
        self._scatter += scatter + between * (self.count * count / total)
        self.mean = self.mean + delta * (count / total)
        self.count = total


@dataclass(eq=False)
class Histogram:
    """Counts in ``bins`` equal bins from ``lower`` to ``upper``; what lies outside is clipped."""

    lower: float
    upper: float
    bins: int
    counts: NDArray[np.float64] = field(init=False)
    ignored: int = 0

    def __post_init__(self) -> None:
        """Start with empty bins."""
        if not self.lower < self.upper or self.bins < 1:
            msg = f'histogram: {self.bins} bins from {self.lower} to {self.upper}'
            raise StreamError(msg)
        self.counts = np.zeros(self.bins)

    @property
    def width(self) -> float:
        """Width of a bin."""
        return (self.upper - self.lower) / self.bins

    def update(self, values: ArrayLike) -> None:
        """Count values of any shape; those that are not finite only count as ``ignored``."""
        array = np.asarray(values, np.float64).ravel()
        finite = np.isfinite(array)
        self.ignored += int(array.size - finite.sum())
        index = ((array[finite] - self.lower) / self.width).clip(0, self.bins - 1).astype(int)
        self.counts += np.bincount(index, minlength=self.bins)

    def merge(self, other: Histogram) -> None:
        """Add what another one has counted."""
        theirs = (other.lower, other.upper, other.bins)
        if theirs != (self.lower, self.upper, self.bins):
            msg = f'merge: bins {theirs}, expected {(self.lower, self.upper, self.bins)}'
            raise StreamError(msg)
        self.counts += other.counts
        self.ignored += other.ignored

    def quantile(self, level: float) -> float:
        """Quantile, values spread evenly within a bin: off by a bin's width at most."""
        return float(histogram_quantile(self.counts, level) * self.width + self.lower)


def histogram_quantile(counts: NDArray[np.floating], level: float) -> float:
    """Quantile of a histogram (B,), in bins from its lower end; NaN where it is empty."""
    if not 0.0 <= level <= 1.0:
        msg = f'level: {level}, expected 0..1'
        raise StreamError(msg)
    below = np.cumsum(counts, dtype=np.float64)
    if not below[-1] > 0:
        return float('nan')
    wanted = level * below[-1]
    index = min(int(np.searchsorted(below, wanted)), len(below) - 1)
    inside = counts[index]
    return index + (wanted - (below[index] - inside)) / inside if inside > 0 else float(index)


def wasserstein(
    first: NDArray[np.floating], second: NDArray[np.floating]
) -> NDArray[np.float64] | float:
    """Wasserstein-1 distance of histograms (..., B) over the same bins, on a scale of 0..1.

    The area between the two cumulative distributions (the one-dimensional earth mover's
    distance, Ramdas et al., 2017), as a share of the width of all bins. Any sums > 0 will do.
    """
    shares = [h / np.sum(h, axis=-1, keepdims=True) for h in (first, second)]
    return np.abs(np.cumsum(shares[0] - shares[1], axis=-1)).sum(axis=-1) / np.shape(first)[-1]
