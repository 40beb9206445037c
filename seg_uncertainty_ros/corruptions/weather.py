# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What weather and the hour do to a uint8 HxWx3 BGR image of a road.

Without a depth image a straight street is assumed, with the horizon halfway up.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from seg_uncertainty_ros.corruptions.sensor import gaussian_noise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]
    Depth = NDArray[np.float32]

FOG_COLOUR = (214, 212, 210)
NIGHT_GAIN = (0.16, 0.09, 0.07)  # BGR at darkness 1: dark and blue
HEADLIGHTS = (0.42, 0.48, 0.52)  # BGR, where they are brightest


@lru_cache(maxsize=4)
def guess_depth(height: int, width: int) -> Depth:
    """Return the depth of a street: flat ground 1.4 m below the camera, walls 12 m beside it.

    The horizon is halfway up, nothing is farther than 100 m; corners are rounded.
    """
    focal = 0.9 * width
    down = np.maximum(np.arange(height, dtype=np.float32) + 0.5 - height / 2, 0)
    aside = np.abs(np.arange(width, dtype=np.float32) + 0.5 - width / 2)
    ground, wall, end = down[:, None] / (1.4 * focal), aside / (12 * focal), 1 / 100
    return np.cbrt(1 / (ground**3 + wall**3 + np.float32(end**3)))


def fog(image: Image, extinction: float, depth: Depth | None = None) -> Image:
    """Koschmieder's law: transmission exp(-extinction x depth) towards the fog's colour.

    ``extinction`` in 1/m; the meteorological visibility is 3 / extinction.
    """
    if depth is None:
        depth = guess_depth(*image.shape[:2])
    clear = cv2.exp(np.minimum(depth, 2000).astype(np.float32) * np.float32(-extinction))
    # The sky is seen through as much fog as a far object.
    clear[np.isinf(depth)] = np.exp(-extinction * 150)
    return cv2.blendLinear(image, np.full_like(image, FOG_COLOUR), clear, 1 - clear)


def dusk(image: Image, darkness: float) -> Image:
    """Darken to a blue tenth; ``darkness`` from 0 to 1."""
    gain = (1 - darkness) + darkness * np.array(NIGHT_GAIN)
    return cv2.multiply(image, (*gain, 0.0))


def night(image: Image, darkness: float, deviation: float, rng: np.random.Generator) -> Image:
    """Dusk, a sky darker still, the road in the headlights' light, and a sensor at high gain.

    ``darkness`` from 0 to 1, noise of ``deviation`` grey levels.
    """
    gain = _night_light(*image.shape[:2]) * np.float32(darkness) + np.float32(1 - darkness)
    return gaussian_noise(cv2.multiply(image, gain, dtype=cv2.CV_8U), deviation, rng)


@lru_cache(maxsize=4)
def _night_light(height: int, width: int) -> NDArray[np.float32]:
    """Return the gain (HxWx3) of a night: the sky is at a third, headlights reach the road."""
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height
    x = (np.arange(width, dtype=np.float32) + 0.5) / width - 0.5
    below_sky = 1 / (1 + np.exp((0.42 - y) / 0.05)) + 0 * x
    pool = np.exp(-((x / 0.3) ** 2) - ((y - 0.72) / 0.18) ** 2) * below_sky
    moon = 0.3 + 0.7 * below_sky
    return cv2.merge([moon * a + pool * b for a, b in zip(NIGHT_GAIN, HEADLIGHTS, strict=True)])
