# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Metrics of connected components as SegmentMeIfYouCan counts them.

Chan et al., SegmentMeIfYouCan: A benchmark for anomaly segmentation, NeurIPS 2021 datasets track;
SegmentMeIfYouCan/road-anomaly-benchmark, ``metrics/instance_segmentation.py``. For a component k
of the truth with K̂(k) the pixels of the predicted components that touch it,

    sIoU(k) = |k ∩ K̂(k)| / |k ∪ (K̂(k) without the other components of the truth)|

so that one prediction over two objects is not held against either. PPV of a predicted component is
the share of it that is true. At a threshold τ, a component of the truth is found (TP) where
sIoU >= τ, else missed (FN); a predicted one is false (FP) where PPV < τ. F1 is the mean over τ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from seg_uncertainty_ros.evaluation.datasets import IGNORED
from seg_uncertainty_ros.evaluation.estimates import Estimate
from seg_uncertainty_ros.evaluation.estimates import estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

THRESHOLDS = np.linspace(0.25, 0.75, 11)


@dataclass(frozen=True)
class MinimumSizes:
    """Pixels that a component needs: smaller predictions are dropped, smaller truth ignored."""

    predicted: int
    truth: int


ANOMALY_TRACK = MinimumSizes(predicted=500, truth=100)
OBSTACLE_TRACK = MinimumSizes(predicted=50, truth=10)


@dataclass(frozen=True)
class Components:
    """``siou`` of each true component, ``ppv`` of each predicted one, of one image."""

    siou: NDArray[np.float64]
    ppv: NDArray[np.float64]

    def sums(self) -> NDArray[np.float64]:
        """Return what adds up over images: sIoU, truths, PPV, predictions, TP and FP at each τ."""
        found = (self.siou[:, None] >= THRESHOLDS).sum(axis=0)
        false = (self.ppv[:, None] < THRESHOLDS).sum(axis=0)
        sizes = (self.siou.sum(), len(self.siou), self.ppv.sum(), len(self.ppv))
        return np.concatenate([sizes, found, false])


@dataclass(frozen=True)
class ComponentMetrics:
    """Means over the components of a set; ``f1`` averaged over the thresholds."""

    siou: Estimate
    ppv: Estimate
    f1: Estimate


def components(
    labels: NDArray[np.uint8], anomalous: NDArray[np.bool_], sizes: MinimumSizes
) -> Components:
    """Compare HxW labels (0, 1 = outlier, 255 ignored) with what is predicted as anomalous."""
    truth, truth_sizes = _connected(labels == 1)
    # Too small objects are no error to miss, nor to hit: their pixels leave the region.
    small = truth_sizes < sizes.truth
    truth_ids = np.where(small, -1, np.cumsum(~small))
    predicted, predicted_sizes = _connected(anomalous & (labels != IGNORED))
    large = predicted_sizes >= sizes.predicted
    predicted_ids = np.where(large, np.cumsum(large), 0)
    # Background is 0 on both sides.
    truth_ids, predicted_ids = (np.concatenate([[0], ids]) for ids in (truth_ids, predicted_ids))
    some = np.flatnonzero((truth != 0) | (predicted != 0))
    rows, columns = truth_ids[truth.ravel()[some]], predicted_ids[predicted.ravel()[some]]
    shape = (truth_ids.max() + 1, predicted_ids.max() + 1)
    pairs = (rows * shape[1] + columns)[rows >= 0]
    overlap = np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)
    inside = overlap[1:, 1:]
    beside = overlap[0, 1:]  # pixels of each prediction on no object
    siou = inside.sum(axis=1) / (overlap[1:].sum(axis=1) + (inside > 0) @ beside)
    area = overlap[:, 1:].sum(axis=0)
    hit = inside.sum(axis=0)
    return Components(siou, hit[area > 0] / area[area > 0])


def _connected(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return HxW ids of 8-connected components from 1, 0 elsewhere, and their sizes."""
    _, ids, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    return ids, stats[1:, cv2.CC_STAT_AREA]


def component_values(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sIoU, PPV and F1, 3 x ..., from sums ... x 26 over images; NaN where undefined."""
    siou, truths, ppv, predictions = np.moveaxis(sums[..., :4], -1, 0)
    found, false = np.split(sums[..., 4:], 2, axis=-1)
    with np.errstate(invalid='ignore', divide='ignore'):
        f1 = 2 * found / (found + false + truths[..., None])
        return np.stack([siou / truths, ppv / predictions, f1.mean(axis=-1)])


def component_metrics(
    images: NDArray[np.float64], weights: NDArray[np.float64]
) -> ComponentMetrics:
    """Return the metrics of a set from the sums n x 26 of its images, with intervals."""
    return ComponentMetrics(*estimate(component_values, images.sum(axis=0), images, weights))
