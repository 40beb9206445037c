# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What a person would say of an image: dark, pale, blurred, noisy, colourless, blinded."""

from __future__ import annotations

from math import log2
from math import pi
from math import sqrt
from typing import TYPE_CHECKING
from typing import NamedTuple

import cv2
import numpy as np

from seg_uncertainty_ros.errors import SegUncertaintyError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_SIDE = 12
COARSE = 4
BAND = 12
"""Rows that are looked at together, so that neighbours stay neighbours."""
MAX_PIXELS = 48 * 1024
CLIPPED = 3
"""Grey levels at either end that count as clipped; compression moves them by some."""
# Immerkaer, Fast noise variance estimation, CVIU 1996: the difference of two Laplacians.
NOISE = np.array([1.0, -2.0, 1.0], np.float32)


class ImageError(SegUncertaintyError):
    """An image without statistics; the message names its type and shape."""


class ImageStatistics(NamedTuple):
    """Statistics of an image, none of which depends on its size.

    brightness:   mean grey, 0..1.
    contrast:     standard deviation of grey, 0..0.5.
    sharpness:    binary logarithm of the mean magnitude of the Laplacian over the geometric mean
                  of that at a quarter of the resolution and the contrast: what changes brightness
                  or contrast alone hardly moves it, blur lowers it, noise raises it; -3.3 for an
                  even image.
    noise:        standard deviation of white noise, 0..1 (Immerkaer, 1996); what is fine in the
                  scene counts as well.
    saturation:   mean saturation (HSV), 0..1.
    warmth:       (red - blue) / (red + green + blue) of the mean colour, -1..1.
    underexposed: share of pixels that are black, 0..1.
    overexposed:  share of pixels that are white, 0..1.
    """

    brightness: float
    contrast: float
    sharpness: float
    noise: float
    saturation: float
    warmth: float
    underexposed: float
    overexposed: float


def image_statistics(image: NDArray[np.uint8]) -> ImageStatistics:
    """Return the statistics of a uint8 HxWx3 BGR image, such as the network's input.

    Looks at bands of rows, about ``MAX_PIXELS`` pixels in all, evenly over the image.

    Raises:
        ImageError: not uint8 HxWx3, or a side shorter than 12.

    """
    if (
        getattr(image, 'dtype', None) != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
        or min(image.shape[:2]) < MIN_SIDE
    ):
        kind, shape = getattr(image, 'dtype', type(image).__name__), np.shape(image)
        msg = f'image: {kind} {shape}, expected uint8 HxWx3 with sides of at least {MIN_SIDE}'
        raise ImageError(msg)
    bands, rows = _bands(image)
    grey = cv2.cvtColor(bands, cv2.COLOR_BGR2GRAY)
    counts = cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel().astype(np.float64)
    counts /= counts.sum()
    levels = np.arange(256) / 255
    brightness = float(counts @ levels)
    contrast = sqrt(max(0.0, float(counts @ levels**2) - brightness**2))
    blue, green, red = cv2.mean(bands)[:3]
    colours = cv2.cvtColor(np.ascontiguousarray(bands[::4, ::4]), cv2.COLOR_BGR2HSV)
    size = (grey.shape[1] // COARSE, grey.shape[0] // COARSE)
    quarter = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    coarse = _magnitude(cv2.Laplacian(quarter, cv2.CV_16S), rows // COARSE)
    fine = _magnitude(cv2.Laplacian(grey, cv2.CV_16S), rows)
    noise = _magnitude(cv2.sepFilter2D(grey, cv2.CV_16S, NOISE, NOISE), rows)
    return ImageStatistics(
        brightness=brightness,
        contrast=contrast,
        # In grey levels, with a tenth of what rounding leaves, for even images.
        sharpness=log2((fine + 0.1) / (sqrt(coarse * 255 * contrast) + 1)),
        noise=sqrt(pi / 2) / 6 / 255 * noise,
        saturation=cv2.mean(colours)[1] / 255,
        warmth=(red - blue) / max(red + green + blue, 1.0),
        underexposed=float(counts[:CLIPPED].sum()),
        overexposed=float(counts[-CLIPPED:].sum()),
    )


def _bands(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """Stack bands of rows, multiples of COARSE; return the stack and the rows of a band."""
    height, width = (side // COARSE * COARSE for side in image.shape[:2])
    rows = min(BAND, height)
    count = max(1, MAX_PIXELS // (rows * width))
    if count * rows >= height:
        return np.ascontiguousarray(image[:height, :width]), height
    starts = np.linspace(0, height - rows, count).astype(int)
    return np.concatenate([image[start : start + rows, :width] for start in starts]), rows


def _magnitude(plane: NDArray[np.int16], rows: int) -> float:
    """Mean magnitude where a 3x3 filter saw one band only; overwrites the rest."""
    bands = plane.reshape(-1, rows, plane.shape[1])
    bands[:, 0] = bands[:, -1] = 0
    inner = len(bands) * max(1, rows - 2) * plane.shape[1]
    return cv2.norm(plane, cv2.NORM_L1) / inner
