# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What is lost in another precision or on another runtime, on labelled images, and a gate.

Every image goes through all runtimes. Segmentation is judged on CamVid's classes; the scores that
the bundle uses, its default and those of its meta model, on labelled outliers; planes by their
distance from those of the reference.
"""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import dataclass
from datetime import datetime
from datetime import timezone
from typing import TYPE_CHECKING

import cv2
import numpy as np
from tqdm import tqdm

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.evaluation.confusion import ConfusionMatrix
from seg_uncertainty_ros.evaluation.datasets import IGNORED
from seg_uncertainty_ros.evaluation.datasets import open_dataset
from seg_uncertainty_ros.evaluation.pixel_metrics import PixelCounts
from seg_uncertainty_ros.evaluation.pixel_metrics import ranking_metrics
from seg_uncertainty_ros.evaluation.tables import grid
from seg_uncertainty_ros.evaluation.tables import to_json
from seg_uncertainty_ros.pipeline import network_input
from seg_uncertainty_ros.runtime.outputs import Outputs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from seg_uncertainty_ros.bundle import Bundle
    from seg_uncertainty_ros.evaluation.datasets import Dataset
    from seg_uncertainty_ros.evaluation.datasets import Sample
    from seg_uncertainty_ros.runtime.outputs import Runtime

SEGMENTATION = 'camvid/val'
OUTLIERS = 'ood/fs_static'
# Deviations are counted in tenths of a step of 8 bits.
BINS = 2550
RARE = 0.999


class ParityError(SegUncertaintyError):
    """A graph cannot be compared, or falls behind by more than is tolerated."""


@dataclass(frozen=True)
class Tolerance:
    """How far mIoU and AP (0..1) may fall behind the reference."""

    miou: float = 0.01
    ap: float = 0.01


@dataclass(frozen=True)
class CheckSet:
    """Labelled images: of CamVid's classes, and with outliers."""

    segmentation: Dataset
    outliers: Dataset

    @classmethod
    def open(cls, data: Path) -> CheckSet:
        """Return CamVid's validation images and Fishyscapes Static below the folder ``data``.

        Raises:
            DatasetError: one of them is missing.

        """
        return cls(
            open_dataset('camvid', data / SEGMENTATION),
            open_dataset('fishyscapes', data / OUTLIERS),
        )


@dataclass(frozen=True)
class Parity:
    """One runtime beside the reference; deviations are over the pixels of all images.

    ``ap`` is by score, ``agreement`` the share of labels that are the reference's. By score,
    ``deviation_999`` and ``deviation_max``, 0..1: how far its plane is from the reference's on the
    bundle's scale, at 99.9 % of the pixels and at worst. ``iou_emd``: earth mover's distance
    between the two distributions of the images' mIoU. ``embedding``: the median relative distance
    of an image's embedding. ``infinite``: images with an output that is not finite, as those of
    float16 beyond its range; in the other figures such numbers count as 0, or the largest.
    """

    name: str
    miou: float
    ap: Mapping[str, float]
    agreement: float
    deviation_999: Mapping[str, float]
    deviation_max: Mapping[str, float]
    iou_emd: float
    embedding: float
    infinite: int = 0


@dataclass(frozen=True)
class ParityReport:
    """Runtimes on a check set; the first of ``rows`` is the reference."""

    bundle: str
    score: str
    images: Mapping[str, int]
    date: str
    rows: tuple[Parity, ...]

    def row(self, name: str) -> Parity:
        """Return the figures of a runtime."""
        return next(row for row in self.rows if row.name == name)

    def markdown(self) -> str:
        """Return the report as a section."""
        sets = ', '.join(f'{count} images of {name}' for name, count in self.images.items())
        reference = self.rows[0].name
        head = (
            '',
            'mIoU',
            f'AP of {self.score}',
            'labels alike',
            f'99.9 % of {self.score} within',
            f'all of {self.score} within',
            '99.9 % of any score within',
            'EMD of mIoU',
            'embedding off',
        )
        rows = [
            (
                row.name,
                f'{row.miou:.4f}',
                f'{row.ap[self.score]:.4f}',
                f'{100 * row.agreement:.2f} %',
                f'{255 * row.deviation_999[self.score]:.1f}',
                f'{255 * row.deviation_max[self.score]:.1f}',
                f'{255 * max(row.deviation_999.values()):.1f}',
                f'{row.iou_emd:.4f}',
                f'{100 * row.embedding:.2f} %',
            )
            for row in self.rows
        ]
        return (
            f'## Parity with {reference}\n\n'
            f'{self.date}, bundle {self.bundle}; {sets}. Labels as those of {reference}; '
            'planes of scores within so many of their 255 steps of it; EMD of the mIoU of single '
            'images; relative distance of the embedding (median).\n\n'
            f'{grid(head, rows)}\n'
        )

    def write(self, beside: Path) -> None:
        """Write FILE.parity.md and FILE.parity.json beside a graph or engine."""
        for suffix, text in (('md', self.markdown()), ('json', to_json(asdict(self)))):
            path = beside.with_name(f'{beside.name}.parity.{suffix}')
            try:
                path.write_text(text, encoding='utf-8')
            except OSError as error:
                msg = f'{path}: cannot be written: {error.strerror}'
                raise ParityError(msg) from error


def compare(
    bundle: Bundle,
    runtimes: Mapping[str, Runtime],
    check_set: CheckSet,
    *,
    images: int | None = None,
) -> ParityReport:
    """Run a check set through runtimes of one bundle, the first of which is the reference.

    Args:
        bundle: the model.
        runtimes: by the names that the report shall have.
        check_set: labelled images.
        images: of each set, evenly spaced; None for all.

    Raises:
        ParityError: no runtime, or no outliers among the images.
        GraphError: a runtime failed.

    """
    if not runtimes:
        msg = 'nothing to compare'
        raise ParityError(msg)
    counts = {name: _Counts(bundle) for name in runtimes}
    score = bundle.score_names.index(bundle.default_score)
    for sample, outliers in _samples(check_set, images):
        image = network_input(sample.image, bundle.geometry)
        reference = None
        for name, runtime in runtimes.items():
            outputs = counts[name].finite(runtime.run(image, score))
            reference = reference or outputs
            counts[name].add(outputs, reference)
            if outliers:
                counts[name].add_outliers(outputs.scores, sample)
            else:
                counts[name].add_labels(outputs.labels, sample)
    sets = (check_set.segmentation, check_set.outliers)
    chosen = {dataset.name: len(_chosen(dataset, images)) for dataset in sets}
    first = next(iter(counts.values()))
    if not first.has_outliers():
        msg = f'{check_set.outliers.name}: no outliers in {chosen[check_set.outliers.name]} images'
        raise ParityError(msg)
    return ParityReport(
        bundle.label,
        bundle.default_score,
        chosen,
        f'{datetime.now(timezone.utc):%Y-%m-%d}',
        tuple(count.parity(name, first) for name, count in counts.items()),
    )


def gate(report: ParityReport, tolerance: Tolerance) -> None:
    """Refuse runtimes that fall behind the reference by more than is tolerated.

    Raises:
        ParityError: with the figures; or outputs that are not finite.

    """
    reference = report.rows[0]
    for row in report.rows[1:]:
        if row.infinite:
            msg = f'{row.name}: not a number, or infinite, in outputs of {row.infinite} images'
            raise ParityError(msg)
        falls = [('mIoU', reference.miou, row.miou, tolerance.miou)]
        falls += [
            (f'AP of {score}', reference.ap[score], ap, tolerance.ap)
            for score, ap in row.ap.items()
        ]
        for metric, before, after, limit in falls:
            if not before - after <= limit:  # not a number is refused as well
                msg = (
                    f'{row.name}: {metric} falls from {before:.4f} to {after:.4f}, '
                    f'by more than the tolerated {limit:g}'
                )
                raise ParityError(msg)


class _Counts:
    """What adds up over the images for one runtime."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._matrices: list[NDArray[np.int64]] = []
        used = [bundle.default_score, *(bundle.segments.scores if bundle.segments else ())]
        self._outliers = {score: PixelCounts() for score in used}
        self._same = self._pixels = 0
        self._deviations = np.zeros((len(bundle.scores), BINS + 1), np.int64)
        self._embeddings: list[float] = []
        self._infinite = 0

    def finite(self, outputs: Outputs) -> Outputs:
        """Return outputs without numbers that are none; count the images that have some."""
        if all(np.isfinite(plane).all() for plane in outputs):
            return outputs
        self._infinite += 1
        return Outputs(*map(np.nan_to_num, outputs))

    def add(self, outputs: Outputs, reference: Outputs) -> None:
        """Compare the planes of one image."""
        self._same += int(np.count_nonzero(outputs.labels == reference.labels))
        self._pixels += outputs.labels.size
        pairs = zip(self._bundle.scores, outputs.scores, reference.scores, strict=True)
        for counts, (score, *planes) in zip(self._deviations, pairs, strict=True):
            values = np.linspace(0.0, 1.0, len(score.knots))
            here, there = (np.interp(plane.ravel(), score.knots, values) for plane in planes)
            steps = np.ceil(np.abs(here - there) * BINS).astype(int)
            counts += np.bincount(steps, minlength=BINS + 1)
        distance = np.linalg.norm(outputs.embedding - reference.embedding)
        self._embeddings.append(float(distance / np.linalg.norm(reference.embedding)))

    def add_labels(self, labels: NDArray[np.uint8], sample: Sample) -> None:
        """Count the pixels of an image of CamVid by class."""
        size = sample.labels.shape[::-1]
        matrix = ConfusionMatrix(len(self._bundle.classes))
        matrix.update(sample.labels, cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST))
        self._matrices.append(matrix.counts)

    def add_outliers(self, planes: NDArray[np.float32], sample: Sample) -> None:
        """Count the pixels of an image with outliers by score, every other row and column."""
        labels = sample.labels[::2, ::2]
        known = labels != IGNORED
        for score, counts in self._outliers.items():
            plane = planes[self._bundle.score_names.index(score)]
            scores = cv2.resize(plane, labels.shape[::-1], interpolation=cv2.INTER_LINEAR)
            counts.add(scores[known], labels[known] == 1)

    def has_outliers(self) -> bool:
        """Return whether any pixel was one."""
        return any(counts.pooled.counts[1].any() for counts in self._outliers.values())

    def image_mious(self) -> NDArray[np.float64]:
        """Return the mIoU of each image, rising."""
        values = []
        for counts in self._matrices:
            matrix = ConfusionMatrix(len(self._bundle.classes))
            matrix.counts = counts
            values.append(matrix.miou())
        return np.sort(values)

    def parity(self, name: str, reference: _Counts) -> Parity:
        """Return the figures."""
        total = ConfusionMatrix(len(self._bundle.classes))
        total.counts = np.sum(self._matrices, axis=0)
        below = np.cumsum(self._deviations, axis=1) / self._deviations.sum(axis=1, keepdims=True)
        names = self._bundle.score_names
        return Parity(
            name=name,
            miou=total.miou(),
            ap={
                score: float(ranking_metrics(counts.pooled.counts)[0])
                for score, counts in self._outliers.items()
            },
            agreement=self._same / self._pixels,
            deviation_999={
                score: int(np.searchsorted(row, RARE)) / BINS
                for score, row in zip(names, below, strict=True)
            },
            deviation_max={
                score: int(np.flatnonzero(row)[-1]) / BINS
                for score, row in zip(names, self._deviations, strict=True)
            },
            # Of two samples of one size, the distance between the sorted values.
            iou_emd=float(np.abs(self.image_mious() - reference.image_mious()).mean()),
            embedding=float(np.median(self._embeddings)),
            infinite=self._infinite,
        )


def _chosen(dataset: Dataset, images: int | None) -> list[int]:
    count = len(dataset) if images is None else min(images, len(dataset))
    return np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()


def _samples(check_set: CheckSet, images: int | None) -> Iterator[tuple[Sample, bool]]:
    """Yield the images, and whether they have outliers rather than classes."""
    sets = [(check_set.segmentation, False), (check_set.outliers, True)]
    chosen = [(d, i, outliers) for d, outliers in sets for i in _chosen(d, images)]
    for dataset, index, outliers in tqdm(chosen, desc='parity', unit='image'):
        yield dataset[index], outliers
