# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""AP, AUROC and FPR95 pooled over the pixels of a set, in bounded memory.

Scores are counted by the bits of their float32, which in the right order are a whole number that
rises with the score. Where there are more distinct scores than a histogram may hold, last bits are
dropped, so that neighbours count as equal; below that limit the counts are exact.

Counted as by Fishyscapes (Blum et al., IJCV 2021; hermannsblum/bdl-benchmark,
``calculate_metrics_perpixAP``) and SegmentMeIfYouCan (Chan et al., NeurIPS 2021;
SegmentMeIfYouCan/road-anomaly-benchmark, ``curves_from_cmats``): all pixels that are not ignored
are one pool, AP is the sum of precision times the step of recall, FPR95 belongs to the first
threshold with a true-positive rate of at least 0.95. scikit-learn gives the same numbers.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.evaluation.estimates import Estimate
from seg_uncertainty_ros.evaluation.estimates import estimate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

SET_BINS = 1 << 17
"""Distinct scores of a set; AP, AUROC and FPR95 are then right to 2e-5 (see the tests)."""
IMAGE_BINS = 1 << 11
"""Distinct scores that are kept of each image, for the intervals: 40 kB an image and score."""
TPR = 0.95

SIGN = np.uint32(1 << 31)
KEY_OF_INFINITY = 0xFF800000
KEY_OF_MINUS_INFINITY = 0x007FFFFF


class ScoreError(SegUncertaintyError):
    """Scores that cannot be ranked."""


def order_keys(scores: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return whole numbers in the same order as the scores; equal where the scores are equal."""
    bits = (scores + np.float32(0)).view(np.uint32)  # -0.0 becomes 0.0
    flips = (bits.view(np.int32) >> 31).view(np.uint32)  # all bits of negative scores
    flips |= SIGN
    bits ^= flips
    return bits


def scores_of(keys: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Return the scores of keys."""
    return np.where(keys & SIGN, keys ^ SIGN, ~keys).astype(np.uint32).view(np.float32)


@dataclass(frozen=True)
class ScoreHistogram:
    """Pixels by score: ``counts`` int64 2xK, negatives and positives, at K rising ``keys``.

    A key is an order key without its last ``shift`` bits.
    """

    keys: NDArray[np.uint32]
    counts: NDArray[np.int64]
    shift: int = 0

    @classmethod
    def of(
        cls, scores: NDArray[np.float32], positive: NDArray[np.bool_], limit: int = SET_BINS
    ) -> ScoreHistogram:
        """Count N scores.

        Raises:
            ScoreError: a score is not a number.

        """
        if not scores.size:
            return cls(np.zeros(0, np.uint32), np.zeros((2, 0), np.int64))
        keys = order_keys(np.ascontiguousarray(scores, np.float32))
        low, high = int(keys.min()), int(keys.max())
        if low < KEY_OF_MINUS_INFINITY or high > KEY_OF_INFINITY:
            msg = f'{np.count_nonzero(np.isnan(scores))} of {scores.size} scores are not a number'
            raise ScoreError(msg)
        hits = np.sort(keys[positive])
        keys.sort()
        shift = _excess_bits(keys, limit)
        keys >>= np.uint32(shift)
        distinct, pixels = _distinct(keys)
        hit, positives = _distinct(hits >> np.uint32(shift))
        counts = np.stack([pixels, np.zeros_like(pixels)])
        at = np.searchsorted(distinct, hit)
        counts[0, at] -= positives
        counts[1, at] = positives
        return cls(distinct, counts, shift)

    def within(self, limit: int) -> ScoreHistogram:
        """Return a histogram of at most ``limit`` distinct scores."""
        return self.at(self.shift + _excess_bits(self.keys, limit))

    def at(self, shift: int) -> ScoreHistogram:
        """Return a histogram without the last ``shift`` bits."""
        if shift == self.shift:
            return self
        keys = self.keys >> np.uint32(shift - self.shift)
        return ScoreHistogram(*_sum_equal(keys, self.counts), shift)


def merge(histograms: Iterable[ScoreHistogram], limit: int = SET_BINS) -> ScoreHistogram:
    """Return the sum, at the finest resolution that all of them have and the limit allows."""
    histograms = tuple(histograms)
    shift = max(histogram.shift for histogram in histograms)
    same = [histogram.at(shift) for histogram in histograms]
    keys = np.concatenate([histogram.keys for histogram in same])
    order = np.argsort(keys, kind='stable')
    counts = np.concatenate([histogram.counts for histogram in same], axis=1)
    return ScoreHistogram(*_sum_equal(keys[order], counts[:, order]), shift).within(limit)


def _excess_bits(keys: NDArray[np.uint32], limit: int) -> int:
    """Return how many last bits to drop for at most ``limit`` distinct of the rising ``keys``."""
    if len(keys) <= limit:
        return 0
    # Neighbours stay distinct while the first bit in which they differ is not dropped.
    difference = keys[1:] ^ keys[:-1]
    return bisect_left(
        range(32), True, key=lambda bits: np.count_nonzero(difference >> np.uint32(bits)) < limit
    )


def _distinct(keys: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Return distinct keys and how often each occurs; ``keys`` rise."""
    first = _first_of_equal(keys)
    return keys[first], np.diff(first, append=keys.size)


def _sum_equal(
    keys: NDArray[np.uint32], counts: NDArray[np.int64]
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Return distinct keys and the sums of their counts; ``keys`` rise."""
    if not keys.size:
        return keys, counts
    first = _first_of_equal(keys)
    return keys[first], np.add.reduceat(counts, first, axis=1)


def _first_of_equal(keys: NDArray[np.uint32]) -> NDArray[np.intp]:
    start = np.ones(min(1, keys.size), bool)
    return np.flatnonzero(np.concatenate([start, keys[1:] != keys[:-1]]))


def _from_above(counts: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return false and true positives ... x K at the thresholds from the highest score down."""
    cumulated = np.cumsum(counts[..., ::-1], axis=-1, dtype=float)
    return cumulated[..., 0, :], cumulated[..., 1, :]


def ranking_metrics(counts: NDArray) -> NDArray[np.float64]:
    """Return AP, AUROC and FPR95, 3 x ..., from counts ... x 2 x K of rising scores, K > 0.

    NaN: all three without positives; AUROC and FPR95 without negatives.
    """
    false, true = _from_above(counts)
    negatives, positives = false[..., -1], true[..., -1]
    steps = np.diff(true, axis=-1, prepend=0.0)
    with np.errstate(invalid='ignore', divide='ignore'):
        precision = true / np.maximum(false + true, 1.0)
        ap = (precision * steps).sum(axis=-1) / positives
        # A tie counts half, as under the straight line between two points of the curve.
        wins = np.diff(false, axis=-1, prepend=0.0) * (true - steps / 2)
        auroc = wins.sum(axis=-1) / (positives * negatives)
        reached = true / positives[..., None] >= TPR
        fpr = np.where(reached, false, np.inf).min(axis=-1) / negatives
        fpr = np.where(positives > 0, fpr, np.nan)
    return np.stack([ap, auroc, fpr])


def best_f1_threshold(histogram: ScoreHistogram) -> float:
    """Return the threshold (score >= threshold) of the best pixel F1, as SegmentMeIfYouCan."""
    false, true = _from_above(histogram.counts)
    f1 = 2 * true / np.maximum(true + false + true[-1], 1.0)
    return _threshold(histogram, int(f1.argmax()))


def tpr_threshold(histogram: ScoreHistogram) -> float:
    """Return the threshold (score >= threshold) at which FPR95 is counted; needs positives."""
    _, true = _from_above(histogram.counts)
    return _threshold(histogram, int(np.argmax(true / true[-1] >= TPR)))


def _threshold(histogram: ScoreHistogram, from_above: int) -> float:
    key = histogram.keys[len(histogram.keys) - 1 - from_above]
    return float(scores_of(np.array([key << np.uint32(histogram.shift)], np.uint32))[0])


@dataclass(frozen=True)
class PixelMetrics:
    """Of one score over a set; positives are outliers or, for misclassification, errors."""

    average_precision: Estimate
    auroc: Estimate
    fpr95: Estimate


class PixelCounts:
    """Pixels of a set by score: pooled, and coarser for each image."""

    def __init__(self) -> None:
        self.pooled = ScoreHistogram.of(np.zeros(0, np.float32), np.zeros(0, bool))
        self._images: list[ScoreHistogram] = []

    def add(self, scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> None:
        """Count the N pixels of an image that are not ignored.

        Raises:
            ScoreError: a score is not a number.

        """
        image = ScoreHistogram.of(scores, positive)
        self.pooled = merge([self.pooled, image])
        self._images.append(image.within(IMAGE_BINS))

    def images(self) -> NDArray[np.int64]:
        """Return the counts of each image, n x 2 x K, at common keys."""
        common = merge(self._images, 2 * IMAGE_BINS)
        result = np.zeros((len(self._images), 2, len(common.keys)), np.int64)
        for row, image in zip(result, self._images, strict=True):
            same = image.at(common.shift)
            row[:, np.searchsorted(common.keys, same.keys)] = same.counts
        return result

    def metrics(self, weights: NDArray[np.float64]) -> PixelMetrics:
        """Return the metrics with intervals; ``weights`` R x n of `resampling_weights`."""
        total = self.pooled.counts
        if not total.size:  # every pixel is ignored
            nan = Estimate(*3 * [float('nan')])
            return PixelMetrics(nan, nan, nan)
        return PixelMetrics(*estimate(ranking_metrics, total, self.images(), weights))
