# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Weather and sensor effects on any BGR image, each with a strength from 0 (none) to 1.

Blur, chromatic aberration, noise, saturation and gamma follow the sensor chain of the chapter on
sensor artifacts in "Deep Neural Networks and Data for Automated Driving" (Springer, 2022): box
blur FxF and radial scaling of blue and red, additive Gaussian noise, a linear map that saturates
the brightest percents, and x^gamma, in this order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from seg_uncertainty_ros.errors import SegUncertaintyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Image = NDArray[np.uint8]
    Depth = NDArray[np.float32]

FOG_DENSITY = 0.12  # extinction at strength 1, 1/m: meteorological visibility 3 / 0.12 = 25 m
FOG_COLOUR = (214, 212, 210)
DUSK_GAIN = (0.16, 0.09, 0.07)  # BGR at strength 1: dark and blue
NOISE_DEVIATION = 40.0  # grey levels at strength 1; the book starts at 3
BLUR_SHARE = 1 / 24  # side of the box at strength 1, in image heights; the book starts at F = 4
ABERRATION = 0.02  # radial scale of red minus green at strength 1; the book prints 0.08 and 0.008
GAMMA = 3.0  # exponent at strength 1
SATURATED = 0.4  # share of the pixels that saturate at strength 1; the book starts at 2 %


class EffectError(SegUncertaintyError):
    """An effect is unknown or its strength is out of range."""


def _guess_depth(height: int, width: int) -> Depth:
    """Return a flat ground seen from 1.4 m with the horizon halfway up, and 80 m above it."""
    rows = np.arange(height, dtype=np.float32) + 0.5 - height / 2
    depth = np.where(rows > 0, 1.4 * 0.9 * width / np.maximum(rows, 1e-3), 80.0)
    column = np.minimum(depth, 80.0).astype(np.float32)
    return np.repeat(column[:, None], width, axis=1)


def _fog(image: Image, strength: float, _seed: int, depth: Depth | None) -> Image:
    """Koschmieder's law: transmission exp(-extinction x depth) towards the fog's colour."""
    if depth is None:
        depth = _guess_depth(*image.shape[:2])
    clear = cv2.exp(
        np.minimum(depth, 2000).astype(np.float32) * np.float32(-FOG_DENSITY * strength)
    )
    # The sky is seen through as much fog as a far object.
    clear[np.isinf(depth)] = np.exp(-FOG_DENSITY * strength * 150)
    veil = np.empty_like(image)
    veil[:] = FOG_COLOUR
    return cv2.blendLinear(image, veil, clear, 1 - clear)


def _dusk(image: Image, strength: float, _seed: int, _depth: Depth | None) -> Image:
    gain = (1 - strength) + strength * np.array(DUSK_GAIN)
    return cv2.multiply(image, (*gain, 0.0))


def _noise(image: Image, strength: float, seed: int, _depth: Depth | None) -> Image:
    """Additive Gaussian noise of deviation 40 x strength grey levels."""
    rng = np.random.default_rng([abs(seed), 7])
    noise = rng.standard_normal(image.shape, dtype=np.float32) * (NOISE_DEVIATION * strength)
    return cv2.add(image, noise, dtype=cv2.CV_8U)


def _blur(image: Image, strength: float, _seed: int, _depth: Depth | None) -> Image:
    """Box blur FxF; between whole F the results are mixed, so that it grows with strength."""
    side = 1 + strength * max(2.0, image.shape[0] * BLUR_SHARE)
    whole, part = int(side), side - int(side)
    low = cv2.blur(image, (whole, whole), borderType=cv2.BORDER_REPLICATE)
    high = cv2.blur(image, (whole + 1, whole + 1), borderType=cv2.BORDER_REPLICATE)
    return cv2.addWeighted(low, 1 - part, high, part, 0)


def _chromatic_aberration(
    image: Image, strength: float, _seed: int, _depth: Depth | None
) -> Image:
    """Scale blue by 1 - k and red by 1 + k about the middle; green stays."""
    height, width = image.shape[:2]
    middle = ((width - 1) / 2, (height - 1) / 2)
    blue, green, red = cv2.split(image)
    scaled = []
    for channel, sign in ((blue, -1), (red, 1)):
        matrix = cv2.getRotationMatrix2D(middle, 0, 1 + sign * ABERRATION * strength)
        scaled.append(
            cv2.warpAffine(channel, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        )
    return cv2.merge([scaled[0], green, scaled[1]])


def _gamma(image: Image, strength: float, _seed: int, _depth: Depth | None) -> Image:
    """x^g on [0, 1], g from 1 to 3: midtones darken."""
    exponent = 1 + (GAMMA - 1) * strength
    table = np.round((np.arange(256) / 255) ** exponent * 255).astype(np.uint8)
    return cv2.LUT(image, table)


def _saturation(image: Image, strength: float, _seed: int, _depth: Depth | None) -> Image:
    """Map linearly so that the brightest 40 % x strength of the pixels saturate.

    Pixels that are saturated already do not count, so that any strength has an effect.
    """
    brightest = image.max(axis=2)
    rest = brightest[brightest < 255]
    limit = float(np.quantile(rest, 1 - SATURATED * strength)) if rest.size else 255.0
    return cv2.convertScaleAbs(image, alpha=255 / max(limit, 1.0))


_EFFECTS: dict[str, Callable[[Image, float, int, Depth | None], Image]] = {
    'fog': _fog,
    'dusk': _dusk,
    'noise': _noise,
    'blur': _blur,
    'chromatic_aberration': _chromatic_aberration,
    'gamma': _gamma,
    'saturation': _saturation,
}
EFFECTS = tuple(_EFFECTS)


def apply_effect(
    image: Image, name: str, strength: float, *, seed: int = 0, depth: Depth | None = None
) -> Image:
    """Return ``image`` (uint8 HxWx3 BGR) under effect ``name``; strength 0 returns a copy.

    ``depth`` (float32 HxW, metres, inf in the sky) serves fog; without it a flat road is assumed.
    Raises EffectError for a name outside EFFECTS or a strength outside 0 to 1.
    """
    if name not in _EFFECTS:
        msg = f'effect {name!r} is none of {", ".join(EFFECTS)}'
        raise EffectError(msg)
    if not 0 <= strength <= 1:
        msg = f'effect {name}: strength = {strength} is outside 0 to 1'
        raise EffectError(msg)
    if strength == 0:
        return image.copy()
    return _EFFECTS[name](image, strength, seed, depth)
