# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Random geometry and colour for training crops (NumPy and OpenCV, on uint8 BGR)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from seg_uncertainty_ros.classes import UNLABELLED

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]


def random_crop(
    image: Image,
    labels: Image,
    height: int,
    width: int,
    scales: tuple[float, float],
    rng: Generator,
) -> tuple[Image, Image]:
    """Scale, mirror and crop to height x width; what lies outside the image is unlabelled."""
    scale = np.exp(rng.uniform(np.log(scales[0]), np.log(scales[1])))
    aspect = np.exp(rng.uniform(-0.1, 0.1))
    matrix = np.array([[scale * aspect, 0.0, 0.0], [0.0, scale, 0.0]])
    if rng.random() < 0.5:
        matrix[0] *= -1.0
        matrix[0, 2] = image.shape[1] * scale * aspect
    for axis, (size, extent) in enumerate(
        ((width, image.shape[1] * scale * aspect), (height, image.shape[0] * scale))
    ):
        matrix[axis, 2] -= rng.uniform(*sorted((0.0, extent - size)))
    flags = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
    crop = cv2.warpAffine(image, matrix, (width, height), flags=flags, borderValue=(127, 127, 127))
    target = cv2.warpAffine(
        labels, matrix, (width, height), flags=cv2.INTER_NEAREST, borderValue=UNLABELLED
    )
    return crop, target


def random_colour(image: Image, rng: Generator) -> Image:
    """Jitter brightness, contrast, saturation, hue, gamma; sometimes grey, blur or noise."""
    x = image.astype(np.float32)
    if rng.random() < 0.8:
        grey = x.mean(axis=2, keepdims=True)
        x = grey + (x - grey) * np.float32(rng.uniform(0.4, 1.5))
        mean = np.float32(x.mean())
        x = mean + (x - mean) * np.float32(rng.uniform(0.6, 1.4))
        x *= rng.uniform(0.85, 1.15, size=3).astype(np.float32)
        x += np.float32(rng.uniform(-25.0, 25.0))
        x = 255.0 * (np.clip(x, 0.0, 255.0) / 255.0) ** np.float32(rng.uniform(0.6, 1.6))
    if rng.random() < 0.15:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.4, 1.6))
    if rng.random() < 0.2:
        x = x + rng.standard_normal(x.shape, dtype=np.float32) * np.float32(rng.uniform(1.0, 10.0))
    return np.clip(x, 0.0, 255.0).astype(np.uint8)
