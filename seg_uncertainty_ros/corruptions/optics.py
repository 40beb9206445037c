# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What lens and motion do to a uint8 HxWx3 BGR image: blur, colour fringes, dirt.

Lengths are in pixels, directions in radians.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

DIRT_COLOUR = (52, 62, 72)
DIRT_OPACITY = 0.92
DIRT_EDGE = 0.1  # of the picture's area lies under the soft edges of the spots


def box_blur(image: Image, side: float) -> Image:
    """Blur with a box of ``side`` >= 1 pixels; between odd sides the results are mixed."""
    # A box of even side would shift the image by half a pixel.
    odd = 1 + 2 * int((side - 1) / 2)
    part = (side - odd) / 2
    low = cv2.blur(image, (odd, odd), borderType=cv2.BORDER_REPLICATE)
    high = cv2.blur(image, (odd + 2, odd + 2), borderType=cv2.BORDER_REPLICATE)
    return cv2.addWeighted(low, 1 - part, high, part, 0)


def defocus_blur(image: Image, radius: float) -> Image:
    """Blur with a disc of ``radius`` pixels, its edge antialiased."""
    reach = int(np.ceil(radius))
    offsets = np.arange(-reach, reach + 1)
    distance = np.hypot(offsets[:, None], offsets)
    kernel = np.clip(radius + 0.5 - distance, 0, 1).astype(np.float32)
    return _filter(image, kernel / kernel.sum())


def motion_blur(image: Image, radius: float, deviation: float, angle: float) -> Image:
    """Smear along ``angle``, with the weights of one half of a Gaussian cut at ``radius``.

    ImageMagick, which ImageNet-C calls, cuts at twice the radius: up to 0.5 dB (PSNR) more blur.
    """
    reach = int(np.ceil(radius))
    steps = np.arange(0, radius + 0.25, 0.5)
    weights = np.exp(-0.5 * (steps / max(deviation, 1e-3)) ** 2)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    x, y = reach + steps * np.cos(angle), reach + steps * np.sin(angle)
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    # Every step falls on four pixels, by distance: the kernel has no stairs.
    for dx in (0, 1):
        for dy in (0, 1):
            share = np.abs(1 - dx - (x - column)) * np.abs(1 - dy - (y - row))
            inside = (column + dx <= 2 * reach) & (row + dy <= 2 * reach)
            at = (row[inside] + dy, column[inside] + dx)
            np.add.at(kernel, at, (share * weights)[inside])
    return _filter(image, kernel / kernel.sum())


def _filter(image: Image, kernel: NDArray[np.float32]) -> Image:
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE)


def chromatic_aberration(image: Image, scale: float) -> Image:
    """Scale blue by 1 - ``scale`` and red by 1 + ``scale`` about the middle; green stays."""
    height, width = image.shape[:2]
    middle = ((width - 1) / 2, (height - 1) / 2)
    blue, green, red = cv2.split(image)
    scaled = []
    for channel, sign in ((blue, -1), (red, 1)):
        matrix = cv2.getRotationMatrix2D(middle, 0, 1 + sign * scale)
        scaled.append(
            cv2.warpAffine(channel, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        )
    return cv2.merge([scaled[0], green, scaled[1]])


def dirt(image: Image, coverage: float, seed: int) -> Image:
    """Cover a share ``coverage`` (0 to 1) of the image with mud on the lens.

    The spots stay where they are (they depend on the seed alone) and grow with the coverage.
    They are out of focus: soft edges, and through them a little blurred light of the scene.
    """
    height, width = image.shape[:2]
    field = _dirt_field(seed, height, width)
    edge = min(DIRT_EDGE, coverage)
    covered = np.clip((field - (1 - coverage - edge / 2)) / edge, 0, 1)
    # Softer than the noise itself: the lens is far out of focus.
    side = height // 40 + 1
    covered = cv2.blur(covered, (side, side)) * DIRT_OPACITY
    light = cv2.blur(image, (height // 8 + 1, height // 8 + 1))
    mud = cv2.addWeighted(light, 0.25, np.full_like(image, DIRT_COLOUR), 0.75, 0)
    return cv2.blendLinear(mud, image, covered, 1 - covered)


@lru_cache(maxsize=4)
def _dirt_field(seed: int, height: int, width: int) -> NDArray[np.float32]:
    """Return smooth noise whose values are uniform on [0, 1): its top c covers the share c."""
    rng = np.random.default_rng([seed, 0])
    field = np.zeros((height, width), np.float32)
    for cells, weight in ((4, 1.0), (9, 0.8), (20, 0.5), (45, 0.2)):
        columns = max(2, round(cells * width / height))
        grid = rng.standard_normal((cells, columns), dtype=np.float32)
        field += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    rank = np.empty(field.size, np.float32)
    rank[field.ravel().argsort(kind='stable')] = np.arange(field.size) / field.size
    return rank.reshape(height, width)
