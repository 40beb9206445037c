# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A camera frame and the geometry between camera and network."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAME_ID = 'camera_front_optical_frame'


@dataclass(frozen=True)
class Frame:
    """One camera image: ``image`` uint8 HxWx3 BGR, ``stamp_ns`` since the epoch (ns)."""

    image: NDArray[np.uint8]
    stamp_ns: int
    frame_id: str = FRAME_ID


@dataclass(frozen=True)
class Geometry:
    """What the network accepts: sides that ``stride`` divides, at most about ``max_pixels``.

    ``enlarge`` >= 1: the sides of images that have room for it grow by this factor; thin things
    gain by it. ``size`` (height, width) of a network that takes no other, None for any.
    """

    stride: int
    max_pixels: int
    enlarge: float = 1.0
    size: tuple[int, int] | None = None

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the network's (height, width) for a camera's.

        The image is enlarged, or shrunk to ``max_pixels``, and stretched to the nearest
        multiples of ``stride``: at most half a stride a side, and no pixel is spent on padding.
        A network of one size gets that one, whatever the camera's proportions.
        """
        if self.size is not None:
            return self.size
        room = sqrt(self.max_pixels / (height * width))
        scale = self.enlarge if self.enlarge <= room else min(1.0, room)
        rows, columns = (
            max(1, round(side * scale / self.stride)) * self.stride for side in (height, width)
        )
        return rows, columns


def scale_intrinsics(
    k: NDArray[np.float64],
    p: NDArray[np.float64],
    *,
    scale: tuple[float, float],
    offset: tuple[float, float] = (0.0, 0.0),
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the camera matrices of an image that was cropped, then resized.

    ``k`` holds the 9 numbers of the intrinsic matrix, ``p`` the 12 of the projection matrix, both
    row by row; ``offset`` (x, y) is the crop's first pixel, ``scale`` (x, y) new over old size.
    Pixel centres lie at whole numbers, as in ROS and in ``cv2.resize``.
    """
    homography = np.diag([scale[0], scale[1], 1.0])
    for axis in (0, 1):
        homography[axis, 2] = (0.5 - offset[axis]) * scale[axis] - 0.5
    with np.errstate(over='ignore', invalid='ignore'):  # what is not finite stays so
        return (
            (homography @ np.asarray(k, np.float64).reshape(3, 3)).ravel(),
            (homography @ np.asarray(p, np.float64).reshape(3, 4)).ravel(),
        )
