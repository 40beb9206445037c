# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Statistics of drives that nobody drove, for tests of what becomes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from seg_uncertainty_ros.calibration.calibrate import fit_test
from seg_uncertainty_ros.calibration.calibrate import held_out_shift
from seg_uncertainty_ros.shift.image_statistics import ImageStatistics
from seg_uncertainty_ros.shift.indicators import BINS
from seg_uncertainty_ros.shift.indicators import FrameStatistics

USUAL = ImageStatistics(0.5, 0.25, 0.5, 0.005, 0.3, 0.0, 0.01, 0.02)


def random_drive(seed, *, size, classes, seconds, rate=2.0, start_s=10.0):
    """Return frames whose statistics scatter about one place, by seed."""
    rng = np.random.default_rng(seed)
    return [
        FrameStatistics(
            round((start_s + index / rate) * 1e9),
            rng.normal(3.0, 1.0, size).astype(np.float32),
            *(_counted(rng, bins) for bins in (BINS, BINS, classes)),
            ImageStatistics(*(rng.normal(USUAL, 0.003))),
        )
        for index in range(round(seconds * rate))
    ]


def with_test(fit, ert_h):
    """Return the reference of a fit with a sequential test."""
    return replace(fit.reference, test=fit_test(held_out_shift(fit, 10.0), ert_h))


def _counted(rng, bins):
    weights = np.arange(1, bins + 1) ** 2.0
    return (rng.multinomial(4000, weights / weights.sum()) / 4000).astype(np.float32)
