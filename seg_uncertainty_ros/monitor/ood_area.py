# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""How much of the region of interest is anomalous, and where."""

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
    """A connected anomalous region inside the region of interest.

    ``area`` is its fraction of the region of interest, ``anomaly`` the mean in [0, 1],
    ``predicted`` the class that most of its pixels are taken for, ``place`` in plain words.
    """

    box: Box
    area: float
    anomaly: float
    predicted: str
    place: str


@dataclass(frozen=True)
class OodArea:
    """Fraction of the region of interest that is anomalous, and the largest regions first."""

    fraction: float
    regions: tuple[Region, ...]


def measure(
    anomaly: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    region: NDArray[np.uint8],
    *,
    factor: int,
    size: tuple[int, int],
    classes: Sequence[ClassInfo],
    config: AnomalyConfig,
) -> OodArea:
    """Measure the anomaly plane inside a region, all (H, W) at working size.

    anomaly: 0-255 = 0-1; mask: class ids; region: 0 or 1, some 1; factor: camera pixels per
    pixel, a side; size: (height, width) of the camera, which bounds the boxes.
    """
    level = ceil(round(config.threshold * 255, 6))
    anomalous = (anomaly >= level).view(np.uint8)
    if config.opening > 1:
        # Open before cutting, so that a response across the border of the region keeps its width.
        kernel = np.ones((config.opening, config.opening), np.uint8)
        anomalous = cv2.morphologyEx(anomalous, cv2.MORPH_OPEN, kernel)
    anomalous &= region
    total = cv2.countNonZero(region)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(anomalous, connectivity=8)
    area = stats[:, cv2.CC_STAT_AREA]
    order = 1 + np.argsort(-area[1:], kind='stable')
    large = order[area[order] >= config.min_region * total]
    rows = np.flatnonzero(region.any(axis=1))
    regions = []
    for label in large[: config.max_regions]:
        left, top, width, height = (int(value) for value in stats[label, :4])
        crop = slice(top, top + height), slice(left, left + width)
        chosen = labels[crop] == label
        regions.append(
            Region(
                box=_camera_box(left, top, width, height, factor=factor, size=size),
                area=float(area[label] / total),
                anomaly=float(anomaly[crop][chosen].mean() / 255),
                predicted=_majority(mask[crop][chosen], classes),
                place=place(
                    (left + width / 2) / mask.shape[1],
                    (top + height - rows[0]) / (rows[-1] + 1 - rows[0]),
                ),
            )
        )
    return OodArea(float(area[large].sum() / total), tuple(regions))


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


def _camera_box(
    left: int, top: int, width: int, height: int, *, factor: int, size: tuple[int, int]
) -> Box:
    x, y = left * factor, top * factor
    return Box(x, y, min(width * factor, size[1] - x), min(height * factor, size[0] - y))
