# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""All scores of a bundle over a dataset; the graph runs once for each image."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from tqdm import tqdm

from seg_uncertainty_ros.evaluation.datasets import IGNORED
from seg_uncertainty_ros.evaluation.estimates import resampling_weights
from seg_uncertainty_ros.evaluation.pixel_metrics import PixelCounts
from seg_uncertainty_ros.evaluation.pixel_metrics import PixelMetrics
from seg_uncertainty_ros.runtime.onnx_runtime import OnnxRuntime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from seg_uncertainty_ros.bundle import Bundle
    from seg_uncertainty_ros.evaluation.datasets import Dataset
    from seg_uncertainty_ros.runtime.outputs import Outputs


@dataclass(frozen=True)
class OutlierRow:
    """One score of one bundle on a set with labelled outliers."""

    score: str
    pixels: PixelMetrics


@dataclass(frozen=True)
class OutlierTable:
    """All scores of one bundle on one dataset; ``pixels`` counts those that are not ignored."""

    bundle: Bundle
    max_pixels: int
    images: int
    pixels: int
    outlier_pixels: int
    rows: tuple[OutlierRow, ...]


class GraphRunner:
    """Runs a bundle's graph on images of any size, at the bundle's or another resolution."""

    def __init__(self, bundle: Bundle, max_pixels: int | None, threads: int = 0) -> None:
        self._geometry = bundle.geometry
        if max_pixels is not None:
            self._geometry = replace(self._geometry, max_pixels=max_pixels)
        self.max_pixels = self._geometry.max_pixels
        self._runtime = OnnxRuntime(bundle, threads)

    def run(self, image: NDArray[np.uint8]) -> Outputs:
        """Run the graph on a uint8 HxWx3 BGR image."""
        rows, columns = self._geometry.network_size(*image.shape[:2])
        shrinks = 2 * rows <= image.shape[0]
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        resized = cv2.resize(image, (columns, rows), interpolation=interpolation)
        return self._runtime.run(resized, 0)


def upsampled(plane: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return a score plane at (height, width) of the labels, bilinear."""
    return cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR)


def evaluate_outliers(
    bundle: Bundle,
    dataset: Dataset,
    scores: Sequence[str],
    *,
    max_pixels: int | None = None,
) -> OutlierTable:
    """Return pixel metrics of scores on a set with labelled outliers."""
    runner = GraphRunner(bundle, max_pixels)
    counts = {name: PixelCounts() for name in scores}
    pixels = outliers = 0
    for index in tqdm(range(len(dataset)), desc=f'{bundle.name} on {dataset.name}', unit='image'):
        sample = dataset[index]
        outputs = runner.run(sample.image)
        known = sample.labels != IGNORED
        positive = sample.labels[known] == 1
        pixels += positive.size
        outliers += int(np.count_nonzero(positive))
        for name, count in counts.items():
            plane = outputs.scores[bundle.score_names.index(name)]
            count.add(upsampled(plane, sample.labels.shape)[known], positive)
    weights = resampling_weights(len(dataset))
    rows = tuple(OutlierRow(name, count.metrics(weights)) for name, count in counts.items())
    return OutlierTable(bundle, runner.max_pixels, len(dataset), pixels, outliers, rows)
