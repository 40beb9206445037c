# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Mahalanobis distance of the features to the nearest class.

Lee et al., A simple unified framework for detecting out-of-distribution samples and adversarial
attacks, NeurIPS 2018: min_s (φ − μ_s)ᵀ Σ⁻¹ (φ − μ_s) with one covariance Σ for all classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from seg_uncertainty_ros.scores.sums import channel_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from seg_uncertainty_ros.scores.evidence import Evidence

# Share of the mean variance that every direction has at least: a feature that was always 0 in
# training must not decide alone.
FLOOR = 1e-3


@dataclass(frozen=True)
class FeatureStatistics:
    """Features φ of labelled training pixels, float64.

    ``counts`` S pixels of each class; ``means`` SxF, rows of absent classes 0; ``covariance`` FxF
    around the class means, over all pixels.
    """

    counts: NDArray[np.int64]
    means: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def whitened(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return centre F, rows RxF and class means CxR in coordinates of covariance I.

        The rows are discriminants: a class mean differs from the centre, the mean of all pixels,
        in the first C − 1 coordinates at most, and by less in each further one.
        """
        present = self.counts > 0
        share = self.counts[present] / self.counts.sum()
        means = self.means[present]
        centre = share @ means
        values, vectors = np.linalg.eigh(self.covariance)
        scale = 1.0 / np.sqrt(np.maximum(values, 0.0) + FLOOR * values.mean())
        whitening = scale[:, None] * vectors.T
        apart = (means - centre) @ whitening.T
        _, directions = np.linalg.eigh((share * apart.T) @ apart)
        directions = directions[:, ::-1]
        return centre, directions.T @ whitening, apart @ directions


class Mahalanobis(nn.Module):
    """min_s (φ − μ_s)ᵀ Σ⁻¹ (φ − μ_s) within the first ``rank`` discriminants.

    All F of them give the distance itself. The default, one fewer than classes, leaves out what
    does not tell classes from each other (reduced-rank discriminant analysis, Hastie et al., The
    Elements of Statistical Learning, section 4.3.3): noise to this score, and most of its cost.
    """

    def __init__(self, statistics: FeatureStatistics, rank: int | None = None) -> None:
        super().__init__()
        centre, rows, means = statistics.whitened()
        rank = len(means) - 1 if rank is None else rank
        rows, means = rows[:rank], means[:, :rank]
        self._hold('rows', rows[:, :, None, None])
        self._hold('bias', -rows @ centre)
        self._hold('means', -2.0 * means[:, :, None, None])
        self._hold('squares', (means**2).sum(axis=1))

    def _hold(self, name: str, values: NDArray[np.float64]) -> None:
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)).float())

    def forward(self, evidence: Evidence) -> Tensor:
        """Return the score, Nx1xP, >= 0."""
        whitened = F.conv2d(evidence.features, self.rows, self.bias)
        to_classes = F.conv2d(whitened, self.means, self.squares)
        nearest = to_classes.amin(dim=1, keepdim=True).flatten(2)
        flat = whitened.flatten(2)
        return channel_sum(flat * flat) + nearest


class FullMahalanobis(Mahalanobis):
    """min_s (φ − μ_s)ᵀ Σ⁻¹ (φ − μ_s), as printed."""

    def __init__(self, statistics: FeatureStatistics) -> None:
        super().__init__(statistics, statistics.means.shape[1])
