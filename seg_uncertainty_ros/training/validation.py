# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What a run is judged by: mIoU of known classes, AP and FPR95 of outliers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.evaluation.confusion import ConfusionMatrix
from seg_uncertainty_ros.evaluation.datasets import IGNORED
from seg_uncertainty_ros.evaluation.pixel_metrics import PixelCounts
from seg_uncertainty_ros.evaluation.pixel_metrics import ranking_metrics
from seg_uncertainty_ros.frames import Geometry
from seg_uncertainty_ros.network.segmenter import Segmenter
from seg_uncertainty_ros.pipeline import network_input
from seg_uncertainty_ros.scores import build_scores
from seg_uncertainty_ros.scores.evidence import Evidence

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from seg_uncertainty_ros.evaluation.datasets import Sample as OutlierSample
    from seg_uncertainty_ros.network.segmenter import Prediction
    from seg_uncertainty_ros.training.datasets import Sample

# Enlarged to this, CamVid val (480x360) gains a point of mIoU or two; 640x360 stays as it is.
GEOMETRY = Geometry(stride=Segmenter.stride, max_pixels=640 * 384, enlarge=1.19)
"""Sizes at which networks are judged, and deployed."""


def predict(model: Segmenter, image: NDArray[np.uint8]) -> Prediction:
    """Run one image, scaled as the pipeline does."""
    image = network_input(image, GEOMETRY)
    device = next(model.parameters()).device
    return model(torch.from_numpy(image).to(device).permute(2, 0, 1)[None].float())


@torch.no_grad()
def validate(model: Segmenter, samples: Sequence[Sample]) -> ConfusionMatrix:
    """Segment as the pipeline does, and count at label resolution."""
    model.eval()
    matrix = ConfusionMatrix(len(CAMVID))
    for sample in samples:
        logits = predict(model, sample.image).logits
        logits = F.interpolate(logits, size=sample.labels.shape, mode='bilinear')
        matrix.update(sample.labels, logits[0].argmax(dim=0).cpu().numpy().astype(np.uint8))
    return matrix


@torch.no_grad()
def validate_outliers(
    model: Segmenter, samples: Iterable[OutlierSample | Sample], scores: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """Return pooled AP and FPR95 of each score at logit resolution; labels 0, 1 = outlier, 255.

    Coarser than the public benchmarks count, and fast: for the choice of a checkpoint.
    """
    model.eval()
    modules = build_scores(scores, outlier=True)
    counts = {name: PixelCounts() for name in scores}
    for sample in samples:
        found = predict(model, sample.image)
        evidence = Evidence.of(found.logits, found.features, found.outlier)
        size = found.logits.shape[:1:-1]
        truth = cv2.resize(sample.labels, size, interpolation=cv2.INTER_NEAREST)
        known = truth != IGNORED
        for name, module in zip(scores, modules, strict=True):
            score = module(evidence).view(truth.shape).cpu().numpy()
            counts[name].add(score[known], truth[known] == 1)
    return {
        name: tuple(round(float(v), 4) for v in ranking_metrics(count.pooled.counts)[[0, 2]])
        for name, count in counts.items()
    }
