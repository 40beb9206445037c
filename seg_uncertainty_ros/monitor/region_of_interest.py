# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Where in the image an unknown object matters: on the ground, inside a polygon, or both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from seg_uncertainty_ros.monitor.config import GROUND
from seg_uncertainty_ros.monitor.config import MonitorError
from seg_uncertainty_ros.structured_text import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from seg_uncertainty_ros.bundle import ClassInfo
    from seg_uncertainty_ros.monitor.config import RegionConfig

# A part of the ground counts when it has this share of the largest part.
MIN_SHARE = 0.05


def sample(plane: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Take the pixels nearest to the centres of a grid of ``size`` (height, width)."""
    if plane.shape == size:
        return plane
    return cv2.resize(plane, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def named_classes(config: RegionConfig, classes: Sequence[ClassInfo]) -> tuple[str, ...]:
    """Return the names of the classes that a configuration means.

    Raises:
        MonitorError: the model has no such class, or calls none of its classes ground.

    """
    names = [info.name for info in classes]
    found: list[str] = []
    for name in config.classes:
        if name in names:
            found.append(name)
        elif name == GROUND and any(info.ground for info in classes):
            found += [info.name for info in classes if info.ground]
        else:
            why = 'the model calls none of its classes so' if name == GROUND else 'no such class'
            asked = shown(repr(name), 80)
            msg = f'region.classes: {asked}, {why}; expected some of {", ".join(names)}'
            raise MonitorError(msg)
    return tuple(dict.fromkeys(found))


class RegionOfInterest:
    """The region of interest of each mask, at working size."""

    def __init__(self, config: RegionConfig, classes: Sequence[ClassInfo]) -> None:
        self.config = config
        self.classes = named_classes(config, classes)
        names = [info.name for info in classes]
        self._members = np.zeros(256, np.uint8)
        self._members[[names.index(name) for name in self.classes]] = 1
        self._polygon: NDArray[np.uint8] | None = None

    @property
    def name(self) -> str:
        """What to call the region in a sentence."""
        if self.classes:
            return f'{self.classes[0]} region'
        return 'region of interest' if self.config.polygon else 'image'

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) of planes that are a whole fraction of the camera's size."""
        factor = -(-width // self.config.working_width)
        return -(-height // factor), -(-width // factor)

    def find(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """Return the region, 0 or 1, of a mask at working size (H, W); None if there is none."""
        region = np.ones(mask.shape, np.uint8)
        if self.classes:
            region = ground(cv2.LUT(mask, self._members))
        if self.config.polygon:
            region &= self._polygon_of(mask.shape)
        area = cv2.countNonZero(region)
        return region if area and area >= self.config.min_area * mask.size else None

    def _polygon_of(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        if self._polygon is None or self._polygon.shape != shape:
            last = np.array([shape[1] - 1, shape[0] - 1])
            points = np.rint(np.array(self.config.polygon) * last).astype(np.int32)
            self._polygon = cv2.fillPoly(np.zeros(shape, np.uint8), [points], 1)
        return self._polygon


def ground(members: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the outline, filled, of the parts of a 0/1 plane that reach the lower image half.

    Small parts, and parts up in the image, are misclassified walls and roofs rather than ground.
    """
    height = members.shape[0]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(members, connectivity=8)
    if count == 1:
        return members
    area = stats[:, cv2.CC_STAT_AREA].copy()
    area[0] = 0
    area[stats[:, cv2.CC_STAT_TOP] + stats[:, cv2.CC_STAT_HEIGHT] <= height / 2] = 0
    kept = (area > 0) & (area >= MIN_SHARE * area.max())
    return hull(kept[labels])


def hull(inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Fill between the outermost pixels of each row, column and diagonal.

    An object on the road is predicted as something else, but it has road on two opposite sides:
    left and right, before and behind, or, at the border of the road, along a diagonal. A convex
    hull would take the houses at the inner side of a bend along (CamVid labels: 2.3 % of the
    region are building, tree or sky, instead of 0.7 %).
    """
    filled = _fill_rows(inside) | _fill_rows(inside.T).T
    filled |= _fill_diagonals(inside)
    filled |= _fill_diagonals(inside[:, ::-1])[:, ::-1]
    return filled.view(np.uint8)


def _fill_rows(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    width = inside.shape[1]
    columns = np.arange(width, dtype=np.int32)
    first = inside.argmax(axis=1).astype(np.int32)[:, None]
    last = (width - 1 - inside[:, ::-1].argmax(axis=1)).astype(np.int32)[:, None]
    return (columns >= first) & (columns <= last) & inside.any(axis=1)[:, None]


def _fill_diagonals(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill along the diagonals on which x + y is constant."""
    height, width = inside.shape
    padded = np.zeros((height, width + height), np.bool_)
    padded[:, :width] = inside
    # Rows one pixel shorter move row y by y pixels: diagonals stand in columns.
    sheared = padded.reshape(-1)[: height * (width + height - 1)].reshape(height, -1)
    sheared[:] = _fill_rows(sheared.T).T
    return padded[:, :width]
