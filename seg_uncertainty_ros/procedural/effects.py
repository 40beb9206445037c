# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Corruptions of a drive, each with a strength from 0 (none) to 1, fog by its depth image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.corruptions import optics
from seg_uncertainty_ros.corruptions import sensor
from seg_uncertainty_ros.corruptions import weather
from seg_uncertainty_ros.errors import SegUncertaintyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Image = NDArray[np.uint8]
    Depth = NDArray[np.float32]

FOG_DENSITY = 0.12  # extinction at strength 1, 1/m: meteorological visibility 3 / 0.12 = 25 m
NOISE_DEVIATION = 40.0  # grey levels at strength 1; the book's chain starts at 3
BLUR_SHARE = 1 / 24  # side of the box at strength 1, in image heights; the book: F = 4
ABERRATION = 0.02  # radial scale of red minus green at strength 1; the book: 0.08 and 0.008
GAMMA = 3.0  # exponent at strength 1
SATURATED = 0.4  # share of the pixels that saturate at strength 1; the book starts at 2 %

_EFFECTS: dict[str, Callable[[Image, float, int, Depth | None], Image]] = {
    'fog': lambda image, strength, _, depth: weather.fog(image, FOG_DENSITY * strength, depth),
    'dusk': lambda image, strength, _seed, _depth: weather.dusk(image, strength),
    'noise': lambda image, strength, seed, _: sensor.gaussian_noise(
        image, NOISE_DEVIATION * strength, np.random.default_rng([abs(seed), 7])
    ),
    'blur': lambda image, strength, _seed, _depth: optics.box_blur(
        image, 1 + strength * max(2.0, image.shape[0] * BLUR_SHARE)
    ),
    'chromatic_aberration': lambda image, strength, _seed, _depth: optics.chromatic_aberration(
        image, ABERRATION * strength
    ),
    'gamma': lambda image, strength, _seed, _depth: sensor.gamma(
        image, 1 + (GAMMA - 1) * strength
    ),
    'saturation': lambda image, strength, _seed, _depth: sensor.saturation(
        image, SATURATED * strength
    ),
}
EFFECTS = tuple(_EFFECTS)


class EffectError(SegUncertaintyError):
    """An effect is unknown or its strength is out of range."""


def apply_effect(
    image: Image, name: str, strength: float, *, seed: int = 0, depth: Depth | None = None
) -> Image:
    """Return ``image`` (uint8 HxWx3 BGR) under effect ``name``; strength 0 returns a copy.

    ``depth`` (float32 HxW, metres, inf in the sky) serves fog; without it a street is assumed.
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
