# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Confusion matrix and mean intersection over union."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ConfusionMatrix:
    """Counts SxS (truth, prediction) over all pixels of a set, never averaged per image."""

    def __init__(self, classes: int) -> None:
        self.counts = np.zeros((classes, classes), dtype=np.int64)

    def update(self, truth: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> None:
        """Add HxW label maps; truth values that are no class are ignored."""
        classes = len(self.counts)
        valid = truth < classes
        pairs = truth[valid].astype(np.int64) * classes + prediction[valid]
        self.counts += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)

    def iou(self) -> NDArray[np.float64]:
        """Return TP / (TP + FP + FN) for each class; NaN where a class never occurs."""
        return class_iou(self.counts)

    def miou(self) -> float:
        """Return the mean IoU over the classes that occur, 0..1."""
        return float(segmentation_values(self.counts)[0])

    def accuracy(self) -> float:
        """Return the share of pixels that are right, 0..1."""
        return float(segmentation_values(self.counts)[1])


def class_iou(counts: NDArray) -> NDArray[np.float64]:
    """Return TP / (TP + FP + FN), ... x S, from counts ... x S x S; NaN where none occurs."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    union = counts.sum(axis=-1) + counts.sum(axis=-2) - hits
    with np.errstate(invalid='ignore'):
        return hits / union


def segmentation_values(counts: NDArray) -> NDArray[np.float64]:
    """Return mIoU over the classes that occur and accuracy, 2 x ..., from counts ... x S x S."""
    hits = np.trace(counts, axis1=-2, axis2=-1)
    return np.stack([np.nanmean(class_iou(counts), axis=-1), hits / counts.sum(axis=(-2, -1))])
