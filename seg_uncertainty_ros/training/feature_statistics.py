# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Class means and shared covariance of the features, image by image, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.scores import FeatureStatistics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from seg_uncertainty_ros.frames import Geometry
    from seg_uncertainty_ros.network.segmenter import Segmenter
    from seg_uncertainty_ros.training.datasets import Sample


class FeatureStatisticsError(SegUncertaintyError):
    """Statistics cannot be had from these features; the message says why."""


class FeatureMoments:
    """Counts, sums and products of features, float64: what the statistics are made of."""

    def __init__(self, classes: int, features: int) -> None:
        self._counts = np.zeros(classes, np.int64)
        self._sums = np.zeros((classes, features))
        self._products = np.zeros((features, features))

    def update(self, features: NDArray[np.floating], labels: NDArray[np.integer]) -> None:
        """Add features NxF with labels N, 0..S − 1."""
        features = features.astype(np.float64)
        member = labels[None] == np.arange(len(self._counts))[:, None]
        self._counts += member.sum(axis=1)
        self._sums += member.astype(np.float64) @ features
        self._products += features.T @ features

    def statistics(self) -> FeatureStatistics:
        """Return the statistics of what was added.

        Raises:
            FeatureStatisticsError: no more pixels than classes, or features that are not finite.

        """
        pixels = int(self._counts.sum())
        if pixels <= np.count_nonzero(self._counts):
            msg = f'labelled pixels: {pixels}, expected more than one of some class'
            raise FeatureStatisticsError(msg)
        means = self._sums / np.maximum(self._counts, 1)[:, None]
        covariance = (self._products - (self._counts * means.T) @ means) / pixels
        if not np.isfinite(covariance).all() or not np.trace(covariance) > 0:
            msg = f'features: total variance {np.trace(covariance)}, expected finite and > 0'
            raise FeatureStatisticsError(msg)
        return FeatureStatistics(self._counts.copy(), means, covariance)


@torch.no_grad()
def fit_feature_statistics(
    segmenter: Segmenter, samples: Iterable[Sample], geometry: Geometry
) -> FeatureStatistics:
    """Return the statistics of φ on the labelled pixels of training images.

    Args:
        segmenter: the trained network, in evaluation mode.
        samples: labels below the number of classes count, all others are left out.
        geometry: the network's, so that features are those of deployment.

    Raises:
        FeatureStatisticsError: no labelled pixels, or features that are not finite.

    """
    moments = FeatureMoments(segmenter.classes, segmenter.classifier.in_channels)
    for sample in samples:
        rows, columns = geometry.network_size(*sample.labels.shape)
        image = cv2.resize(sample.image, (columns, rows), interpolation=cv2.INTER_LINEAR)
        planes = torch.from_numpy(image).float().permute(2, 0, 1).unsqueeze(0)
        features = segmenter(planes).features[0].numpy()
        labels = cv2.resize(sample.labels, features.shape[:0:-1], interpolation=cv2.INTER_NEAREST)
        known = labels < segmenter.classes
        moments.update(features[:, known].T, labels[known])
    return moments.statistics()
