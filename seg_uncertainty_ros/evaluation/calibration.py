# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Fit what turns logits and scores into numbers with a meaning, and measure how true they are.

Everything accumulates image by image in a memory that does not grow with the number of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
from math import exp
from math import log
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.evaluation.pixel_metrics import order_keys
from seg_uncertainty_ros.evaluation.pixel_metrics import scores_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BINS = 15
KNOTS = 9
DECADES = 4.0


class CalibrationDataError(SegUncertaintyError):
    """Data that nothing can be fitted on; the message names what, how much and what is needed."""


class ReliabilityBins:
    """Confidence against accuracy of the top label (Guo et al., ICML 2017).

    Counts in 15 x 256 narrow bins of equal width over 0..1, of which the 15 usual ones, and bins
    of equal mass, are sums.
    """

    def __init__(self) -> None:
        self._fine = BINS * 256
        self._sums = np.zeros((3, self._fine))  # pixels, their confidence, those that are right

    def update(self, confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> None:
        """Add N pixels: confidence 0..1, and whether the predicted label is right."""
        bins = np.minimum((confidence * self._fine).astype(np.int64), self._fine - 1)
        for row, weights in enumerate((None, confidence, correct)):
            self._sums[row] += np.bincount(bins, weights, minlength=self._fine)

    @property
    def pixels(self) -> int:
        """The number of pixels."""
        return int(self._sums[0].sum())

    def equal_width(self) -> NDArray[np.float64]:
        """Return pixels, mean confidence and accuracy, 3x15; NaN where a bin is empty."""
        return _means(self._sums.reshape(3, BINS, -1).sum(axis=2))

    def equal_mass(self) -> NDArray[np.float64]:
        """Return the same for at most 15 bins of equal mass, as far as narrow bins can be kept."""
        before = np.cumsum(self._sums[0]) - self._sums[0]
        group = np.minimum((before * BINS / max(self.pixels, 1)).astype(np.int64), BINS - 1)
        sums = np.stack([np.bincount(group, row, minlength=BINS) for row in self._sums])
        return _means(sums[:, sums[0] > 0])

    def ece(self) -> float:
        """Return the expected calibration error over bins of equal width, 0..1."""
        return _mean_gap(self.equal_width())

    def adaptive_ece(self) -> float:
        """Return the expected calibration error over bins of equal mass, 0..1."""
        return _mean_gap(self.equal_mass())

    def mce(self) -> float:
        """Return the largest gap of a bin of equal width, 0..1."""
        _, confidence, accuracy = self.equal_width()
        return float(np.nanmax(np.abs(confidence - accuracy)))

    def accuracy(self) -> float:
        """Return the share of pixels that are right, 0..1."""
        return float(self._sums[2].sum() / self._sums[0].sum())


def _means(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid='ignore'):
        return np.stack([sums[0], sums[1] / sums[0], sums[2] / sums[0]])


def _mean_gap(bins: NDArray[np.float64]) -> float:
    pixels, confidence, accuracy = bins
    return float(np.nansum(pixels * np.abs(confidence - accuracy)) / pixels.sum())


@dataclass
class ProbabilityMetrics:
    """How good softmax probabilities are: reliability, negative log likelihood, Brier score."""

    bins: ReliabilityBins = field(default_factory=ReliabilityBins)
    nll_sum: float = 0.0
    brier_sum: float = 0.0

    def update(
        self, logits: NDArray[np.float32], labels: NDArray[np.integer], temperature: float = 1.0
    ) -> None:
        """Add logits SxN and labels N (0..S−1) of pixels; p = softmax(y / T)."""
        z = logits.astype(np.float64) / temperature
        z -= z.max(axis=0)
        p = np.exp(z)
        total = p.sum(axis=0)
        p /= total
        pixels = np.arange(len(labels))
        predicted = z.argmax(axis=0)
        self.bins.update(p[predicted, pixels], predicted == labels)
        self.nll_sum += float((np.log(total) - z[labels, pixels]).sum())
        self.brier_sum += float((p**2).sum() + len(labels) - 2 * p[labels, pixels].sum())

    def nll(self) -> float:
        """Return the mean negative log likelihood, nats a pixel."""
        return self.nll_sum / self.bins.pixels

    def brier(self) -> float:
        """Return the mean squared distance of p from the true class, summed over classes, 0..2."""
        return self.brier_sum / self.bins.pixels


class TemperatureFit:
    """The temperature T that minimises the NLL of softmax(y / T) (Guo et al., ICML 2017).

    The NLL is convex in β = 1 / T. Slope g = Σ E_p[y] − y_label and curvature Σ Var_p[y] are
    summed at fixed β, half an octave apart; between two of them a cubic in log β has the root,
    to 2e-4 of T.
    """

    INVERSE = 2.0 ** (np.arange(-6, 7) / 2)

    def __init__(self) -> None:
        count = len(self.INVERSE)
        self._slope = np.zeros(count)
        self._curvature = np.zeros(count)
        self._products = np.zeros((count, count))

    def update(self, logits: NDArray[np.float32], labels: NDArray[np.integer]) -> None:
        """Add an image: logits SxN and labels N (0..S−1)."""
        y = logits.astype(np.float64)
        y -= y.max(axis=0)
        label_sum = y[labels, np.arange(len(labels))].sum()
        slope = np.empty_like(self._slope)
        for k, beta in enumerate(self.INVERSE):
            p = np.exp(beta * y)
            p /= p.sum(axis=0)
            first = (p * y).sum(axis=0)
            slope[k] = first.sum() - label_sum
            p *= y
            p *= y
            self._curvature[k] += p.sum() - (first**2).sum()
        self._slope += slope
        self._products += np.outer(slope, slope)

    def temperature(self) -> float:
        """Return T.

        Raises:
            CalibrationDataError: no pixels, or T outside 1/8..8.

        """
        return exp(-self._root()[0])

    def standard_error(self) -> float:
        """Return the standard error of T, with images as what is independent (sandwich)."""
        log_beta, k, share = self._root()
        weights = np.zeros(len(self.INVERSE))
        weights[[k, k + 1]] = 1 - share, share
        beta = exp(log_beta)
        spread = sqrt(weights @ self._products @ weights)
        return spread / (beta * float(weights @ self._curvature)) / beta

    def _root(self) -> tuple[float, int, float]:
        """Return log β, the point of the grid below it, and how far it is to the next, 0..1."""
        low, high = self._slope[[0, -1]]
        if not low < 0 < high:
            if not self._curvature.any():
                msg = 'temperature: no labelled pixels, or logits that are all equal'
            else:
                side = 'below' if high <= 0 else 'above'
                limit = 1 / self.INVERSE[-1 if high <= 0 else 0]
                msg = (
                    f'temperature: the best lies {side} {limit:g}; do these labels fit the model?'
                )
            raise CalibrationDataError(msg)
        k = int(np.searchsorted(self._slope, 0.0)) - 1  # the slope rises: the NLL is convex
        step = log(self.INVERSE[k + 1] / self.INVERSE[k])
        (g0, g1), (d0, d1) = (
            values[k : k + 2] for values in (self._slope, step * self.INVERSE * self._curvature)
        )
        left, right = 0.0, 1.0
        for _ in range(50):
            t = (left + right) / 2
            hermite = (
                (1 + 2 * t) * (1 - t) ** 2 * g0
                + t * (1 - t) ** 2 * d0
                + t**2 * (3 - 2 * t) * g1
                + t**2 * (t - 1) * d1
            )
            left, right = (t, right) if hermite < 0 else (left, t)
        return log(self.INVERSE[k]) + left * step, k, left


def rates() -> NDArray[np.float64]:
    """Return the false-positive rates of the knots: 10^(−4 m / (M − 1)) for m = 0..M−1."""
    return 10.0 ** (-DECADES * np.arange(KNOTS) / (KNOTS - 1))


class ScoreQuantiles:
    """Quantiles of K raw scores from histograms, 2 MB a score.

    The bins are the leading 18 bits of a float32, in order of value: 2^-9 (0.2 %) of the value
    wide, whatever the score's range. Within a bin the quantile is interpolated.
    """

    BITS = 18

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._counts = np.zeros((len(names), 1 << self.BITS), dtype=np.int64)

    @property
    def pixels(self) -> int:
        """The number of pixels."""
        return int(self._counts[0].sum())

    def update(self, scores: NDArray[np.float32]) -> None:
        """Add finite scores KxN.

        Raises:
            CalibrationDataError: a score that is not finite.

        """
        for k, row in enumerate(scores):
            if not (finite := np.isfinite(row)).all():
                msg = f'score {self._names[k]}: {row[~finite][0]} for a pixel, expected a number'
                raise CalibrationDataError(msg)
            keys = order_keys(np.ascontiguousarray(row, np.float32))
            bins = (keys >> np.uint32(32 - self.BITS)).astype(np.int64)
            self._counts[k] += np.bincount(bins, minlength=1 << self.BITS)

    def upper(self, rate: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return KxM: what a share ``rate`` (M values in 0..1) of the pixels reaches."""
        result = np.empty((len(self._counts), len(rate)))
        for k, counts in enumerate(self._counts):
            filled = np.flatnonzero(counts)
            above = np.append(np.cumsum(counts[filled][::-1])[::-1], 0)
            target = rate * above[0]
            # The highest bin with at least that many pixels in and above it.
            at = np.searchsorted(-above, -target, side='right') - 1
            at = np.minimum(at, len(filled) - 1)
            share = (above[at] - target) / counts[filled[at]]
            low, high = self._edge(filled[at]), self._edge(filled[at] + 1)
            result[k] = low + share * (high - low)
        return result

    def knots(self) -> NDArray[np.float64]:
        """Return KxM knots of the fixed scale, rising.

        Knot m is the raw score that a share 10^(−4 m / (M − 1)) of in-distribution pixels reaches,
        so that the value a of the anomaly plane means a false-positive rate of 10^(−4 a).
        """
        knots = self.upper(rates())
        # Saturated scores make equal quantiles; the map needs a step, however small.
        for before, knot in zip(knots.T[:-1], knots.T[1:], strict=True):
            np.maximum(knot, before + 1e-6 * np.maximum(np.abs(before), 1e-6), out=knot)
        return knots

    def _edge(self, bins: NDArray[np.int64]) -> NDArray[np.float64]:
        keys = (bins << (32 - self.BITS)).astype(np.uint32)
        return scores_of(keys).astype(np.float64)
