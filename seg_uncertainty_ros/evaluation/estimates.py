# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Values with bootstrap intervals over images.

Pixels of one image are no independent sample; images are. Every metric here is a function of
counts that add up over images, so that a resample is a weighted sum of the counts of each image.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

RESAMPLES = 1000
SEED = 0
CHUNK = 50
PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Estimate:
    """A value, and the 95 % percentile interval of resampled sets of images; NaN: undefined."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """Return what JSON can hold: None where undefined."""
        pairs = {'value': self.value, 'low': self.low, 'high': self.high}
        return {key: value if isfinite(value) else None for key, value in pairs.items()}


def resampling_weights(images: int, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """Return how often each resample draws each image, resamples x images, always the same."""
    rng = np.random.default_rng(SEED)
    return rng.multinomial(images, np.full(images, 1.0 / images), size=resamples).astype(float)


def estimate(
    metric: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    total: NDArray,
    images: NDArray,
    weights: NDArray[np.float64],
) -> tuple[Estimate, ...]:
    """Return values of the whole set with their intervals (Efron, percentile bootstrap).

    Args:
        metric: from counts ... x M to values V x ..., any number of leading axes.
        total: counts of the whole set; may be finer than those of the images.
        images: counts n x M of each image.
        weights: R x n, of `resampling_weights`.

    Resamples for which a value is undefined (no positive pixel was drawn) do not count for it.

    """
    values = np.atleast_1d(metric(np.asarray(total, dtype=float)))
    flat = images.reshape(len(images), -1).astype(float)
    chunks = [
        metric((weights[start : start + CHUNK] @ flat).reshape(-1, *images.shape[1:]))
        for start in range(0, len(weights), CHUNK)
    ]
    drawn = np.concatenate([chunk.reshape(len(values), -1) for chunk in chunks], axis=1)
    return tuple(
        Estimate(float(value), *_interval(row[~np.isnan(row)]))
        for value, row in zip(values, drawn, strict=True)
    )


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    if not values.size:
        return float('nan'), float('nan')
    low, high = np.percentile(values, PERCENTILES)
    return float(low), float(high)
