# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""All scores of a bundle over a dataset; the graph runs once for each image."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import cv2
import numpy as np
from tqdm import tqdm

from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.evaluation.calibration import ReliabilityBins
from seg_uncertainty_ros.evaluation.component_metrics import ANOMALY_TRACK
from seg_uncertainty_ros.evaluation.component_metrics import OBSTACLE_TRACK
from seg_uncertainty_ros.evaluation.component_metrics import ComponentMetrics
from seg_uncertainty_ros.evaluation.component_metrics import MinimumSizes
from seg_uncertainty_ros.evaluation.component_metrics import component_metrics
from seg_uncertainty_ros.evaluation.component_metrics import components
from seg_uncertainty_ros.evaluation.confusion import ConfusionMatrix
from seg_uncertainty_ros.evaluation.confusion import class_iou
from seg_uncertainty_ros.evaluation.confusion import segmentation_values
from seg_uncertainty_ros.evaluation.datasets import IGNORED
from seg_uncertainty_ros.evaluation.estimates import Estimate
from seg_uncertainty_ros.evaluation.estimates import estimate
from seg_uncertainty_ros.evaluation.estimates import resampling_weights
from seg_uncertainty_ros.evaluation.misclassification import MisclassificationMetrics
from seg_uncertainty_ros.evaluation.misclassification import misclassification_metrics
from seg_uncertainty_ros.evaluation.pixel_metrics import PixelCounts
from seg_uncertainty_ros.evaluation.pixel_metrics import PixelMetrics
from seg_uncertainty_ros.evaluation.pixel_metrics import ScoreError
from seg_uncertainty_ros.evaluation.pixel_metrics import best_f1_threshold
from seg_uncertainty_ros.evaluation.pixel_metrics import tpr_threshold
from seg_uncertainty_ros.pipeline import network_input
from seg_uncertainty_ros.runtime.onnx_runtime import OnnxRuntime

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from seg_uncertainty_ros.bundle import Bundle
    from seg_uncertainty_ros.evaluation.datasets import Dataset
    from seg_uncertainty_ros.evaluation.datasets import Sample
    from seg_uncertainty_ros.runtime.outputs import Outputs


class EvaluationError(SegUncertaintyError):
    """A bundle cannot be evaluated on a dataset."""


@dataclass(frozen=True)
class Run:
    """One bundle over one dataset; ``pixels`` are those that are not ignored."""

    bundle: Bundle
    dataset: Dataset
    max_pixels: int
    pixels: int


@dataclass(frozen=True)
class FrameErrors:
    """Rates of one image at the threshold that finds 95 % of the outlier pixels of the set.

    NaN: the image has no such pixels.
    """

    index: int
    name: str
    false_positive_rate: float
    true_positive_rate: float


@dataclass(frozen=True)
class OutlierRow:
    """One score on a set with labelled outliers; thresholds are of the raw score."""

    score: str
    pixels: PixelMetrics
    components: ComponentMetrics
    component_threshold: float
    tpr95_threshold: float
    frames: tuple[FrameErrors, ...]


@dataclass(frozen=True)
class OutlierTable:
    """All scores of one bundle on a set with labelled outliers."""

    run: Run
    outlier_pixels: int
    sizes: MinimumSizes
    rows: tuple[OutlierRow, ...]


@dataclass(frozen=True)
class MisclassificationRow:
    """One score as a ranking of the segmentation's errors."""

    score: str
    metrics: MisclassificationMetrics


@dataclass(frozen=True)
class SegmentationTable:
    """Segmentation of one bundle on CamVid; ``ece`` is of the confidence (max softmax)."""

    run: Run
    miou: Estimate
    accuracy: Estimate
    class_iou: tuple[float, ...]
    ece: float
    rows: tuple[MisclassificationRow, ...]


class GraphRunner:
    """Runs a bundle's graph on images of any size, at the bundle's or another resolution."""

    def __init__(self, bundle: Bundle, max_pixels: int | None = None) -> None:
        self._geometry = bundle.geometry
        if max_pixels is not None:
            self._geometry = replace(self._geometry, max_pixels=max_pixels)
        self.max_pixels = self._geometry.max_pixels
        self._runtime = OnnxRuntime(bundle)

    def run(self, image: NDArray[np.uint8]) -> Outputs:
        """Run the graph on a uint8 HxWx3 BGR image, resized as the pipeline does."""
        return self._runtime.run(network_input(image, self._geometry), 0)


def upsampled(plane: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a score plane at (height, width) of the labels, bilinear."""
    return cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR)


def minimum_sizes(dataset: Dataset) -> MinimumSizes:
    """Return the sizes that SegmentMeIfYouCan uses for such a set.

    Its obstacle track includes Lost & Found; of its own folders the name tells the track.
    """
    obstacles = dataset.format == 'fishyscapes' or 'obstacle' in dataset.name.lower()
    return OBSTACLE_TRACK if obstacles else ANOMALY_TRACK


def evaluate_outliers(
    bundle: Bundle,
    dataset: Dataset,
    scores: Sequence[str],
    *,
    max_pixels: int | None = None,
) -> OutlierTable:
    """Return pixel and component metrics of scores on a set with labelled outliers.

    Components need the threshold of the best pixel F1 of the whole set, for which planes wait on
    disk.

    Raises:
        EvaluationError: no outlier pixels, or nothing else.

    """
    runner = GraphRunner(bundle, max_pixels)
    chosen = [bundle.score_names.index(name) for name in scores]
    counts = {name: PixelCounts() for name in scores}
    pixels = outliers = 0
    with TemporaryDirectory(prefix='seg_uncertainty_') as folder:
        for index, sample in _samples(dataset, f'{bundle.name} on {dataset.name}'):
            planes = runner.run(sample.image).scores[chosen]
            np.save(Path(folder) / f'{index}.npy', planes)
            outlier = sample.labels[sample.labels != IGNORED] == 1
            pixels += outlier.size
            outliers += int(np.count_nonzero(outlier))
            _count(counts, planes, sample, outlier)
        if not 0 < outliers < pixels:
            msg = f'{dataset.name}: {outliers} of {pixels} pixels are outliers, expected some'
            raise EvaluationError(f'{msg} of both kinds')
        sizes = minimum_sizes(dataset)
        rows = _outlier_rows(dataset, Path(folder), counts, sizes)
    return OutlierTable(Run(bundle, dataset, runner.max_pixels, pixels), outliers, sizes, rows)


def _outlier_rows(
    dataset: Dataset, planes: Path, counts: Mapping[str, PixelCounts], sizes: MinimumSizes
) -> tuple[OutlierRow, ...]:
    """Look again at all planes, at thresholds of the whole set."""
    thresholds = [
        (best_f1_threshold(count.pooled), tpr_threshold(count.pooled)) for count in counts.values()
    ]
    sums: list[list[NDArray[np.float64]]] = [[] for _ in counts]
    frames: list[list[FrameErrors]] = [[] for _ in counts]
    for index, sample in _samples(dataset, f'components on {dataset.name}'):
        for k, plane in enumerate(np.load(planes / f'{index}.npy')):
            values = upsampled(plane, sample.labels.shape)
            best, tpr95 = thresholds[k]
            sums[k].append(components(sample.labels, values >= best, sizes).sums())
            frames[k].append(_frame_errors(index, sample, values >= tpr95))
    weights = resampling_weights(len(dataset))
    return tuple(
        OutlierRow(
            name,
            count.metrics(weights),
            component_metrics(np.stack(sums[k]), weights),
            *thresholds[k],
            tuple(frames[k]),
        )
        for k, (name, count) in enumerate(counts.items())
    )


def evaluate_segmentation(
    bundle: Bundle,
    dataset: Dataset,
    scores: Sequence[str],
    *,
    max_pixels: int | None = None,
) -> SegmentationTable:
    """Return mIoU, calibration, and how the scores rank the errors, on CamVid.

    Raises:
        EvaluationError: the bundle's first classes are not those of CamVid.

    """
    classes = tuple(info.name for info in CAMVID)
    names = tuple(info.name for info in bundle.classes)
    if names[: len(classes)] != classes:
        msg = f'{bundle.path}: classes {", ".join(names)}, expected {", ".join(classes)}'
        raise EvaluationError(msg)
    runner = GraphRunner(bundle, max_pixels)
    chosen = [bundle.score_names.index(name) for name in scores]
    counts = {name: PixelCounts() for name in scores}
    matrices = []
    reliability = ReliabilityBins()
    for _, sample in _samples(dataset, f'{bundle.name} on {dataset.name}'):
        outputs = runner.run(sample.image)
        size = sample.labels.shape
        mask = cv2.resize(outputs.labels, size[::-1], interpolation=cv2.INTER_NEAREST)
        matrix = ConfusionMatrix(len(names))
        matrix.update(sample.labels, mask)
        matrices.append(matrix.counts)
        known = sample.labels != IGNORED
        wrong = mask[known] != sample.labels[known]
        reliability.update(upsampled(_confidence(bundle, outputs), size)[known], ~wrong)
        _count(counts, outputs.scores[chosen], sample, wrong)
    images = np.stack(matrices)
    total = images.sum(axis=0)
    if not total.any():
        msg = f'{dataset.name}: every pixel is ignored'
        raise EvaluationError(msg)
    weights = resampling_weights(len(dataset))
    miou, accuracy = estimate(segmentation_values, total, images, weights)
    return SegmentationTable(
        Run(bundle, dataset, runner.max_pixels, int(total.sum())),
        miou,
        accuracy,
        tuple(class_iou(total).tolist()),
        reliability.ece(),
        tuple(
            MisclassificationRow(name, misclassification_metrics(count, weights))
            for name, count in counts.items()
        ),
    )


def _samples(dataset: Dataset, task: str) -> Iterator[tuple[int, Sample]]:
    for index in tqdm(range(len(dataset)), desc=task, unit='image'):
        yield index, dataset[index]


def _count(
    counts: Mapping[str, PixelCounts],
    planes: NDArray[np.float32],
    sample: Sample,
    positive: NDArray[np.bool_],
) -> None:
    """Add the planes Kxhxw of an image; ``positive`` for each of its pixels not ignored."""
    known = sample.labels != IGNORED
    for (name, count), plane in zip(counts.items(), planes, strict=True):
        try:
            count.add(upsampled(plane, sample.labels.shape)[known], positive)
        except ScoreError as error:
            msg = f'score {name} of image {sample.name}: {error}'
            raise ScoreError(msg) from error


def _frame_errors(index: int, sample: Sample, anomalous: NDArray[np.bool_]) -> FrameErrors:
    rates = [
        float(np.count_nonzero(anomalous & part) / pixels)
        if (pixels := np.count_nonzero(part))
        else float('nan')
        for part in (sample.labels == 0, sample.labels == 1)
    ]
    return FrameErrors(index, sample.name, *rates)


def _confidence(bundle: Bundle, outputs: Outputs) -> NDArray[np.float32]:
    """Return max softmax, HxW in 0..1: from the raw score where there is one, else from 8 bits."""
    if 'max_softmax' in bundle.score_names:
        return 1.0 - outputs.scores[bundle.score_names.index('max_softmax')]
    return outputs.confidence.astype(np.float32) / 255.0
