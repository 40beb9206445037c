# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Fit a bundle's meta model on images whose unknown objects are labelled.

A predicted segment is a true object where it overlaps one (IoU > 0, Rottmann et al. 2020); the
regression learns their adjusted IoU. Folds keep the images of a group together. The threshold
bounds how many objects are lost: of which the model keeps no segment.
"""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from seg_uncertainty_ros.classes import UNLABELLED
from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.evaluation.datasets import open_dataset
from seg_uncertainty_ros.frames import Frame
from seg_uncertainty_ros.monitor.config import AnomalyConfig
from seg_uncertainty_ros.monitor.region_of_interest import sample
from seg_uncertainty_ros.pipeline import Pipeline
from seg_uncertainty_ros.procedural import KINDS
from seg_uncertainty_ros.procedural import Drive
from seg_uncertainty_ros.procedural import UnknownEvent
from seg_uncertainty_ros.segments.components import find
from seg_uncertainty_ros.segments.features import DISPERSION
from seg_uncertainty_ros.segments.features import feature_names
from seg_uncertainty_ros.segments.features import measure
from seg_uncertainty_ros.segments.meta import LinearModel
from seg_uncertainty_ros.segments.meta import MetaModel

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from seg_uncertainty_ros.bundle import Bundle
    from seg_uncertainty_ros.segments.components import Components

MOST_LOST = 0.05
FOLDS = 5
# Of the L2 penalties; a factor of ten either way changes the held-out figures by a few points.
INVERSE_PENALTY = 0.1
RIDGE = 30.0
# Seeds of drives that neither training, calibration nor the benchmark of warnings uses.
DRIVE_SEED = 600
DRIVE_RATE_HZ = 2.0


class SegmentFitError(SegUncertaintyError):
    """There is too little to fit a meta model on."""


@dataclass(frozen=True)
class LabelledFrame:
    """``image`` uint8 HxWx3 BGR; ``labels`` uint8 HxW: 0 known, 1 unknown object, 255 ignored.

    ``group``: frames of one group, such as those of a drive, are alike.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    group: str


@dataclass(frozen=True)
class SegmentTable:
    """Segments of many frames.

    features: (N, F); iou: (N,) in [0, 1], adjusted IoU with unknown objects; object: (N,), number
    of the object that a segment overlaps most, -1 for none; group: (N,).
    """

    features: NDArray[np.float64]
    iou: NDArray[np.float64]
    object: NDArray[np.int64]
    group: NDArray[np.str_]

    @property
    def true(self) -> NDArray[np.bool_]:
        """Whether a segment overlaps an unknown object, (N,)."""
        return self.iou > 0


@dataclass(frozen=True)
class HeldOut:
    """What the model does to segments of groups that it was not fitted on.

    objects: unknown objects that segments overlap; auroc: of the probability, true against false
    segments. removed: share of false segments below ``threshold``, which loses ``lost`` of the
    objects, at most MOST_LOST; lost is an object of which every segment is below.
    nested_removed, nested_lost: the same where the threshold too comes from other groups.
    strict_removed: where at most MOST_LOST of true segments, crumbs of objects too, are lost.
    iou_error: mean absolute error of the expected IoU of true segments.
    """

    segments: int
    true: int
    objects: int
    auroc: float
    threshold: float
    removed: float
    lost: float
    nested_removed: float
    nested_lost: float
    strict_removed: float
    iou_error: float


def compare(
    found: Components, unknown: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return of each segment its adjusted IoU with unknown objects, and which it overlaps most.

    unknown: 0/1, of the segments' size; objects are numbered from 0, -1 is none. In the adjusted
    IoU, what other segments cover of the objects that a segment overlaps is left out: an object
    in two parts is no fault of either part (Rottmann et al. 2020, section 3).
    """
    count, objects = cv2.connectedComponents(unknown, connectivity=8)
    cells = found.labels.astype(np.intp) * count + objects
    table = np.bincount(cells.ravel(), minlength=(len(found) + 1) * count)
    table = table.reshape(len(found) + 1, count)[:, 1:]
    overlap, uncovered = table[1:], table[0]
    union = found.area + (overlap > 0) @ uncovered
    iou = overlap.sum(axis=1) / np.maximum(union, 1)
    most = np.where(iou > 0, overlap.argmax(axis=1), -1) if count > 1 else np.full(len(iou), -1)
    return iou, most


def collect(
    bundle: Bundle,
    frames: Iterable[LabelledFrame],
    config: AnomalyConfig | None = None,
    scores: Sequence[str] = DISPERSION,
) -> SegmentTable:
    """Measure the segments of every frame as the monitor does.

    Those of which most is ignored are left out.
    """
    config = config or AnomalyConfig()
    pipeline = Pipeline(bundle, dispersion=scores)
    names = feature_names(scores, [info.name for info in bundle.classes])
    rows = [(np.empty((0, len(names))), np.empty(0), np.empty(0, np.int64))]
    groups, objects = [], 0
    for frame in frames:
        result = pipeline.process(Frame(frame.image, 0))
        size = result.dispersion.shape[:2]
        anomaly, mask = (sample(plane, size) for plane in (result.anomaly, result.mask))
        found = find(anomaly, threshold=config.threshold, opening=config.opening)
        judged = found.count(_majority(frame.labels == UNLABELLED, size)) <= 0.5 * found.area
        iou, number = compare(found, _majority(frame.labels == 1, size))
        table = measure(found, anomaly, result.dispersion, mask, len(bundle.classes))
        number = np.where(number < 0, number, number + objects)
        objects = max(objects, number.max(initial=-1) + 1)
        rows.append((table[judged], iou[judged], number[judged]))
        groups += [frame.group] * int(judged.sum())
    columns = (np.concatenate(column) for column in zip(*rows, strict=True))
    return SegmentTable(*columns, np.array(groups, np.str_))


def fit_segments(
    bundle: Bundle,
    frames: Iterable[LabelledFrame],
    config: AnomalyConfig | None = None,
    scores: Sequence[str] = DISPERSION,
) -> tuple[MetaModel, HeldOut]:
    """Fit the meta model of a bundle, and say what it does to groups that it has not seen.

    Raises:
        SegmentFitError: too few groups with true, or with false, segments.

    """
    config = config or AnomalyConfig()
    table = collect(bundle, frames, config, scores)
    held_out = cross_validate(table)
    classification, regression = fit_linear(table)
    model = MetaModel(
        scores=tuple(scores),
        features=feature_names(scores, [info.name for info in bundle.classes]),
        mean=_floats(table.features.mean(axis=0)),
        scale=_floats(_scale(table.features)),
        classification=classification,
        regression=regression,
        threshold=held_out.threshold,
        reason=f'loses {100 * held_out.lost:.1f} % of {held_out.objects} unknown objects and '
        f'{100 * held_out.removed:.0f} % of the false segments, held out by group',
        provenance={
            'anomaly_score': bundle.default_score,
            'anomaly_threshold': config.threshold,
            'opening': config.opening,
            'groups': len(set(table.group)),
            'held_out': {
                key: round(value, 4) if isinstance(value, float) else value
                for key, value in asdict(held_out).items()
            },
        },
    )
    return model, held_out


def fit_linear(table: SegmentTable) -> tuple[LinearModel, LinearModel]:
    """Return classification and regression on standardised features.

    The regression is fitted on true segments: the IoU to expect if it is an object.
    """
    z = (table.features - table.features.mean(axis=0)) / _scale(table.features)
    logistic = LogisticRegression(C=INVERSE_PENALTY, max_iter=5000).fit(z, table.true)
    ridge = Ridge(alpha=RIDGE).fit(z[table.true], table.iou[table.true])
    return (
        LinearModel(_floats(logistic.coef_[0]), float(logistic.intercept_[0])),
        LinearModel(_floats(ridge.coef_), float(ridge.intercept_)),
    )


def cross_validate(table: SegmentTable) -> HeldOut:
    """Judge each group by models of the others; nested, with a threshold of the others too."""
    probability, iou = np.empty(len(table.iou)), np.empty(len(table.iou))
    # Above 0 where the threshold of the other groups keeps the segment.
    nested = np.empty(len(table.iou))
    # Two groups are left for the inner folds.
    for train, test in _folds(table, least=3):
        inner = _subset(table, train)
        probability[test], iou[test] = _predict(inner, table.features[test])
        inner_probability = np.empty(len(train))
        for fit, judge in _folds(inner):
            inner_probability[judge], _ = _predict(_subset(inner, fit), inner.features[judge])
        nested[test] = probability[test] - loss_threshold(best_of(inner_probability, inner.object))
    true, best = table.true, best_of(probability, table.object)
    threshold = loss_threshold(best)
    return HeldOut(
        segments=len(true),
        true=int(true.sum()),
        objects=len(best),
        auroc=float(roc_auc_score(true, probability)),
        threshold=threshold,
        removed=float((probability[~true] < threshold).mean()),
        lost=float((best < threshold).mean()),
        nested_removed=float((nested[~true] < 0).mean()),
        nested_lost=float((best_of(nested, table.object) < 0).mean()),
        strict_removed=float((probability[~true] < loss_threshold(probability[true])).mean()),
        iou_error=float(np.abs(iou - table.iou)[true].mean()),
    )


def best_of(values: NDArray[np.float64], number: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the highest value of each object's segments; number: (N,), -1 is no object."""
    objects, index = np.unique(number, return_inverse=True)
    best = np.full(len(objects), -np.inf)
    np.maximum.at(best, index, values)
    return best[objects >= 0]


def loss_threshold(values: NDArray[np.float64], most_lost: float = MOST_LOST) -> float:
    """Return the highest threshold below which at most a share ``most_lost`` of values lies."""
    return float(np.sort(values)[int(most_lost * len(values))])


def labelled_frames(data: Path, drives: int = 2) -> Iterator[LabelledFrame]:
    """Yield what a bundle's meta model is fitted on: fs_static, CamVid val, procedural drives."""
    yield from outlier_frames(data / 'ood' / 'fs_static')
    yield from known_frames(data / 'camvid' / 'val')
    yield from procedural_frames(drives)


def outlier_frames(root: Path, format_name: str = 'fishyscapes') -> Iterator[LabelledFrame]:
    """Yield a dataset with labelled outliers (``evaluation.datasets``); a group an image."""
    dataset = open_dataset(format_name, root)
    for index in range(len(dataset)):
        item = dataset[index]
        yield LabelledFrame(item.image, item.labels, f'{dataset.name}/{item.name}')


def known_frames(root: Path) -> Iterator[LabelledFrame]:
    """Yield a folder of CamVid, in which every labelled pixel is known; a group an image."""
    dataset = open_dataset('camvid', root)
    for index in range(len(dataset)):
        item = dataset[index]
        ignored = np.where(item.labels == UNLABELLED, UNLABELLED, 0).astype(np.uint8)
        yield LabelledFrame(item.image, ignored, f'camvid/{item.name}')


def procedural_frames(
    drives: int = 2, seed: int = DRIVE_SEED, rate_hz: float = DRIVE_RATE_HZ
) -> Iterator[LabelledFrame]:
    """Yield drives towards each kind of unknown object; a group a drive."""
    for number in range(drives * len(KINDS)):
        event = UnknownEvent(1.0, 6.5, KINDS[number % len(KINDS)])
        drive = Drive(seed + number, rate_hz=rate_hz, duration_s=7.0, events=(event,))
        yield from drive_frames(drive, f'procedural/{seed + number}')


def drive_frames(drive: Drive, group: str) -> Iterator[LabelledFrame]:
    """Yield every frame of a procedural drive."""
    for rendered in drive:
        labels = np.where(rendered.labels == UNLABELLED, UNLABELLED, 0).astype(np.uint8)
        labels[rendered.unknown] = 1
        yield LabelledFrame(rendered.image, labels, group)


def _majority(chosen: NDArray[np.bool_], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return where at least half of a block is chosen, 0/1 of (h, w)."""
    share = cv2.resize(chosen.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    return (share >= 0.5).view(np.uint8)


def _folds(table: SegmentTable, least: int = 2) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    folds = FOLDS
    for true in (True, False):
        groups = len(set(table.group[table.true == true]))
        folds = min(folds, groups)
        if groups < least:
            msg = f'{groups} groups with {"true" if true else "false"} segments'
            raise SegmentFitError(f'{msg}, expected at least {least}')
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    return list(splitter.split(table.features, table.true, table.group))


def _predict(
    table: SegmentTable, features: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return probability and IoU by models that are fitted on ``table``."""
    z = (features - table.features.mean(axis=0)) / _scale(table.features)
    classification, regression = fit_linear(table)
    logit, iou = (z @ np.array(m.weights) + m.intercept for m in (classification, regression))
    return 0.5 + 0.5 * np.tanh(0.5 * logit), np.clip(iou, 0.0, 1.0)


def _subset(table: SegmentTable, rows: NDArray[np.intp]) -> SegmentTable:
    return SegmentTable(
        table.features[rows], table.iou[rows], table.object[rows], table.group[rows]
    )


def _scale(features: NDArray[np.float64]) -> NDArray[np.float64]:
    deviation = features.std(axis=0)
    return np.where(deviation > 1e-9, deviation, 1.0)


def _floats(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f'{value:.7g}') for value in values)
