# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What encoding and resolution do to a uint8 HxWx3 BGR image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]


def jpeg(image: Image, quality: float) -> Image:
    """Encode as JPEG of ``quality`` (1 to 100, rounded) and decode again."""
    _, data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, round(quality)])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def pixelate(image: Image, side: float) -> Image:
    """Merge pixels into larger ones, whose sides are ``side`` pixels (at least 1) long."""
    height, width = image.shape[:2]
    side = max(1.0, side)
    small = (max(1, round(width / side)), max(1, round(height / side)))
    low = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return cv2.resize(low, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
