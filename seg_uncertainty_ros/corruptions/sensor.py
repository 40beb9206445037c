# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What a sensor and its exposure do to a uint8 HxWx3 BGR image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from seg_uncertainty_ros.corruptions.optics import box_blur
from seg_uncertainty_ros.corruptions.optics import chromatic_aberration

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

DISPLAY_GAMMA = 2.2  # grey levels are about light^(1 / 2.2)


def gaussian_noise(image: Image, deviation: float, rng: np.random.Generator) -> Image:
    """Add noise of ``deviation`` grey levels to each sample."""
    noise = rng.standard_normal(image.shape, dtype=np.float32) * deviation
    return cv2.add(image, noise, dtype=cv2.CV_8U)


def shot_noise(image: Image, deviation: float, rng: np.random.Generator) -> Image:
    """Count photons: white is a mean of 1 / ``deviation``^2 of them, ``deviation`` its noise."""
    photons = max(deviation, 1e-4) ** -2  # NumPy cannot draw any number of photons
    counts = rng.poisson(image * (photons / 255))
    return np.minimum(counts * (255 / photons) + 0.5, 255).astype(np.uint8)


def impulse_noise(image: Image, amount: float, rng: np.random.Generator) -> Image:
    """Set a share ``amount`` of the samples to 0 or 255, both alike often."""
    chance = rng.integers(0, 65536, image.shape, np.uint16)
    noisy = image.copy()
    half = round(amount * 32768)
    noisy[chance < half] = 0
    noisy[chance >= 65536 - half] = 255
    return noisy


def gamma(image: Image, exponent: float) -> Image:
    """x^exponent on [0, 1]."""
    table = np.round((np.arange(256) / 255) ** exponent * 255).astype(np.uint8)
    return cv2.LUT(image, table)


def saturation(image: Image, share: float) -> Image:
    """Map linearly so that the brightest ``share`` of the pixels become as grey as white.

    Pixels with a saturated channel do not count, so that any share has an effect.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    rest = grey[image.max(axis=2) < 255]
    limit = float(np.quantile(rest, 1 - share)) if rest.size else 255.0
    return cv2.convertScaleAbs(image, alpha=255 / max(limit, 1.0))


def exposure(image: Image, stops: float) -> Image:
    """Multiply the light by 2^stops; what is too bright is clipped."""
    return cv2.convertScaleAbs(image, alpha=2 ** (stops / DISPLAY_GAMMA))


def brightness(image: Image, offset: float) -> Image:
    """Add ``offset`` (1 is white) to the value of HSV."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV_FULL)
    return cv2.cvtColor(cv2.add(hsv, (0, 0, offset * 255, 0)), cv2.COLOR_HSV2BGR_FULL)


def contrast(image: Image, factor: float) -> Image:
    """Bring each channel closer to its mean: the distance is multiplied by ``factor``."""
    levels = np.arange(256)[:, None] * factor + np.array(cv2.mean(image)[:3]) * (1 - factor)
    return cv2.LUT(image, np.round(levels).astype(np.uint8)[None])


def sensor_artifacts(
    image: Image,
    side: float,
    aberration: float,
    deviation: float,
    saturated: float,
    exponent: float,
    rng: np.random.Generator,
) -> Image:
    """Box blur, chromatic aberration, Gaussian noise, saturation, gamma, in this order.

    The chain of the chapter on sensor artifacts in "Deep Neural Networks and Data for Automated
    Driving" (Springer, 2022); parameters as of the functions of these names.
    """
    image = chromatic_aberration(box_blur(image, side), aberration)
    image = gaussian_noise(image, deviation, rng)
    return gamma(saturation(image, saturated), exponent)
