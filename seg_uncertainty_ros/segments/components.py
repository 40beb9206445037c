# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Connected components of the thresholded anomaly plane."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 255
"""Labels are uint8: the smaller of more components are left out."""

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


@dataclass(frozen=True)
class Components:
    """Segments of a plane (h, w), the largest first.

    labels: uint8 (h, w), 0 for none, k + 1 for segment k; boxes: int32 (N, 4), left, top, width,
    height; area: int64 (N,) pixels.
    """

    labels: NDArray[np.uint8]
    boxes: NDArray[np.int32]
    area: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of segments."""
        return len(self.area)

    def count(self, chosen: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return how many pixels of each segment are chosen: (N,), from a 0/1 plane (h, w)."""
        return np.bincount((self.labels * chosen).ravel(), minlength=len(self) + 1)[1:]

    def boundary(self) -> NDArray[np.uint8]:
        """Return the pixels, 0/1, with a neighbour in the image that is not of their segment."""
        # Segments are 8-connected, so no two touch.
        inside = (self.labels > 0).view(np.uint8)
        return inside - cv2.erode(inside, _CROSS)

    def ring(self, radius: int = 2) -> NDArray[np.uint8]:
        """Return the pixels around, at most ``radius`` away a side, labelled by their segment.

        What is near several segments belongs to the smallest.
        """
        size = 2 * radius + 1
        near = cv2.dilate(self.labels, np.ones((size, size), np.uint8))
        return near * (self.labels == 0)


def find(anomaly: NDArray[np.uint8], *, threshold: float, opening: int = 1) -> Components:
    """Find the segments where the anomaly plane, 0-255 = 0-1, is at or above ``threshold``.

    Responses thinner than ``opening`` pixels are removed first.
    """
    level = ceil(round(threshold * 255, 6))
    anomalous = (anomaly >= level).view(np.uint8)
    if opening > 1:
        # The anchors are each other's reflection: MORPH_OPEN shifts where the side is even.
        kernel, anchor = np.ones((opening, opening), np.uint8), opening // 2
        anomalous = cv2.erode(anomalous, kernel, anchor=(anchor, anchor))
        anchor = opening - 1 - anchor
        anomalous = cv2.dilate(anomalous, kernel, anchor=(anchor, anchor))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(anomalous, connectivity=8)
    order = 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind='stable')[:MOST]
    rank = np.zeros(len(stats), np.uint8)
    rank[order] = np.arange(1, len(order) + 1)
    chosen = stats[order]
    return Components(
        rank[labels], chosen[:, : cv2.CC_STAT_AREA], chosen[:, cv2.CC_STAT_AREA].astype(np.int64)
    )
