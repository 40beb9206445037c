# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""How well a score ranks the errors of the segmentation.

Misclassification AP: pixels whose class is wrong are the positives (Blum et al., IJCV 2021,
appendix A; Hendrycks and Gimpel, ICLR 2017).

AuSE: the area between two sparsification curves (Ilg et al., ECCV 2018). Pixels are taken away
from the highest score down, and the error of the remaining ones is drawn over the share that is
gone; the oracle takes the wrong ones first. The error here is 0 or 1, whether the class is wrong
(Gustafsson et al., CVPRW 2020, take the Brier score), and is divided by its value over all pixels:
0 is the oracle, about 1 is chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.evaluation.estimates import Estimate
from seg_uncertainty_ros.evaluation.estimates import estimate
from seg_uncertainty_ros.evaluation.pixel_metrics import ranking_metrics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from seg_uncertainty_ros.evaluation.pixel_metrics import PixelCounts


@dataclass(frozen=True)
class MisclassificationMetrics:
    """Of one score over a set; ``fpr95`` is the share of right pixels above 95 % of the errors."""

    average_precision: Estimate
    auroc: Estimate
    fpr95: Estimate
    ause: Estimate


def sparsification_area(counts: NDArray) -> NDArray[np.float64]:
    """Return AuSE from counts ... x 2 x K (right, wrong) of rising scores; NaN without errors.

    Within a tie pixels go in random order, so that the error rate there is (A − p x) / (B − x)
    with A errors among B pixels left and p errors a pixel of the tie; its integral is closed.
    """
    descending = counts[..., ::-1].astype(float)
    wrong, pixels = descending[..., 1, :], descending.sum(axis=-2)
    gone, errors_gone = np.cumsum(pixels, axis=-1), np.cumsum(wrong, axis=-1)
    total, errors = gone[..., -1:], errors_gone[..., -1:]
    left = total - gone
    before, errors_before = left + pixels, errors - errors_gone + wrong
    with np.errstate(invalid='ignore', divide='ignore'):
        rate = np.where(pixels > 0, wrong / pixels, 0.0)
        # The last tie is left with nothing; its rate is constant.
        bend = np.where(left > 0, (errors_before - rate * before) * np.log(before / left), 0.0)
        area = (wrong + bend).sum(axis=-1) / total[..., 0]
        share = (errors / total)[..., 0]
        oracle = share + np.where(share < 1, (1 - share) * np.log1p(-share), 0.0)
        return np.where(share > 0, (area - oracle) / share, np.nan)


def misclassification_metrics(
    counts: PixelCounts, weights: NDArray[np.float64]
) -> MisclassificationMetrics:
    """Return the metrics of a set whose positives are the wrong pixels, with intervals."""

    def values(total: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([ranking_metrics(total), sparsification_area(total)[None]])

    return MisclassificationMetrics(
        *estimate(values, counts.pooled.counts, counts.images(), weights)
    )
