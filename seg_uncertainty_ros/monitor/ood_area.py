# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Unknown objects in the region of interest: how much of it they cover, where and what."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from seg_uncertainty_ros.bundle import ClassInfo
    from seg_uncertainty_ros.monitor.config import AnomalyConfig
    from seg_uncertainty_ros.segments.components import Components
    from seg_uncertainty_ros.segments.meta import Verdicts
    from seg_uncertainty_ros.segments.tracks import Tracker

COLUMNS = ('left', 'centre', 'right')
ROWS = ('far', 'middle', 'near')


@dataclass(frozen=True)
class Box:
    """A box in camera pixels; ``x`` and ``y`` are its upper left pixel."""

    x: int
    y: int
    width: int
    height: int

    def __str__(self) -> str:
        """Say first and last column and row."""
        right, lower = self.x + self.width - 1, self.y + self.height - 1
        return f'box x={self.x}..{right} y={self.y}..{lower}'


@dataclass(frozen=True)
class Region:
    """An unknown object: a connected anomalous region that reaches into the region of interest.

    ``area`` is the fraction of the region of interest that it covers, ``anomaly`` its mean in
    [0, 1], ``predicted`` the class that most of its pixels are taken for, ``place`` in plain
    words. ``probability`` that it is an object and ``iou`` expected with it, None where there is
    no meta model or no dispersion. ``track`` is its identity over images, ``age_s`` since when it
    is in view, ``persistence`` the share of the images since then that show it.
    """

    box: Box
    area: float
    anomaly: float
    predicted: str
    place: str
    probability: float | None
    iou: float | None
    track: int
    age_s: float
    persistence: float


@dataclass(frozen=True)
class OodArea:
    """Fraction of the region of interest that unknown objects cover, and the largest first.

    ``dismissed``: regions that are no objects.
    """

    fraction: float
    regions: tuple[Region, ...]
    dismissed: int = 0


@dataclass(frozen=True)
class Scene:
    """Planes of one image at working size (h, w).

    anomaly: 0-255 = 0-1; mask: class ids; region: of interest, 0 or 1, some 1; size: (height,
    width) of the camera, in whose pixels boxes are.
    """

    anomaly: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    region: NDArray[np.uint8]
    size: tuple[int, int]


def measure(
    scene: Scene,
    components: Components,
    verdicts: Verdicts | None,
    tracker: Tracker,
    stamp_ns: int,
    *,
    classes: Sequence[ClassInfo],
    config: AnomalyConfig,
    threshold: float = 0.0,
) -> OodArea:
    """Measure the segments inside the region of interest, and track them.

    verdicts: of the meta model on every component; a segment whose probability is below
    ``threshold`` does not count where ``config.meta`` is on.
    """
    total = cv2.countNonZero(scene.region)
    inside = components.count(scene.region)
    order = np.argsort(-inside, kind='stable')
    large = order[(inside > 0)[order] & (inside >= config.min_region * total)[order]]
    boxes = _camera_boxes(components.boxes[large], scene.mask.shape, scene.size)
    tracks = dict(zip(large, tracker.update(boxes.astype(np.float64), stamp_ns), strict=True))
    places = dict(zip(large, boxes, strict=True))
    kept = [
        index
        for index in large
        if tracks[index].age_s >= config.min_age_s
        and not (config.meta and verdicts and verdicts.probability[index] < threshold)
    ]
    rows = np.flatnonzero(scene.region.any(axis=1))
    regions = []
    for index in kept[: config.max_regions]:
        left, top, width, height = (int(value) for value in components.boxes[index])
        crop = slice(top, top + height), slice(left, left + width)
        chosen = components.labels[crop] == index + 1
        track = tracks[index]
        x, y, right, lower = (int(value) for value in places[index])
        regions.append(
            Region(
                box=Box(x, y, right - x, lower - y),
                area=float(inside[index] / total),
                anomaly=float(scene.anomaly[crop][chosen].mean() / 255),
                predicted=_majority(scene.mask[crop][chosen], classes),
                place=place(
                    (left + width / 2) / scene.mask.shape[1],
                    (top + height - rows[0]) / (rows[-1] + 1 - rows[0]),
                ),
                probability=float(verdicts.probability[index]) if verdicts else None,
                iou=float(verdicts.iou[index]) if verdicts else None,
                track=track.id,
                age_s=track.age_s,
                persistence=track.persistence,
            )
        )
    return OodArea(float(inside[kept].sum() / total), tuple(regions), len(large) - len(kept))


def place(across: float, down: float) -> str:
    """Say a place in words from fractions in [0, 1].

    across: from the left to the right of the image; down: the lower end of the thing, where it
    stands on the ground, from the far to the near end of the region of interest.
    """
    column, row = (min(2, max(0, ceil(3 * value) - 1)) for value in (across, down))
    return f'{COLUMNS[column]} {ROWS[row]}'


def _majority(ids: NDArray[np.uint8], classes: Sequence[ClassInfo]) -> str:
    most = int(np.bincount(ids, minlength=1).argmax())
    return classes[most].name if most < len(classes) else 'unlabelled'


def _camera_boxes(
    boxes: NDArray[np.int32], shape: tuple[int, ...], size: tuple[int, int]
) -> NDArray[np.int64]:
    """Return left, top, right, bottom in camera pixels of (N, 4) left, top, width, height."""
    scale = np.array((size[1] / shape[1], size[0] / shape[0]))
    first = np.floor(boxes[:, :2] * scale + 1e-9)
    last = np.ceil((boxes[:, :2] + boxes[:, 2:]) * scale - 1e-9)
    return np.concatenate((first, last), axis=1).astype(np.int64)
