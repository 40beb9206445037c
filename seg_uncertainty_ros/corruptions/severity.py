# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Corruptions by name and severity: 0 is none, 1 to 5 are the rows of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.corruptions import compression
from seg_uncertainty_ros.corruptions import optics
from seg_uncertainty_ros.corruptions import precipitation
from seg_uncertainty_ros.corruptions import sensor
from seg_uncertainty_ros.corruptions import weather
from seg_uncertainty_ros.errors import SegUncertaintyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

MAX_SEVERITY = 5


class CorruptionError(SegUncertaintyError):
    """A corruption is unknown, or its severity, seed, frame or image is not what it takes."""


@dataclass(frozen=True)
class Chance:
    """Where randomness comes from: a seed and the number of the frame."""

    seed: int
    frame: int

    def anew(self) -> np.random.Generator:
        """Return a generator of this frame alone."""
        return np.random.default_rng([self.seed, 1, self.frame])

    def angle(self) -> float:
        """Return the direction of a motion, of all frames alike: up to 45 degrees off level."""
        return float(np.random.default_rng([self.seed, 0]).uniform(-np.pi / 4, np.pi / 4))


@dataclass(frozen=True)
class Corruption:
    """A corruption: ``apply(image, chance, *parameters)`` and its parameters by severity.

    ``table`` has a row for each of the severities 0 (where nothing changes) to 5.
    """

    name: str
    summary: str
    table: tuple[tuple[float, ...], ...]
    apply: Callable[..., Image]

    def parameters(self, severity: float) -> tuple[float, ...]:
        """Return the parameters; between whole severities they are interpolated linearly."""
        rows = range(MAX_SEVERITY + 1)
        return tuple(float(np.interp(severity, rows, x)) for x in zip(*self.table, strict=True))


def _single(*values: float) -> tuple[tuple[float, ...], ...]:
    return tuple((value,) for value in values)


def _pixel(image: Image) -> float:
    """Return how long a pixel of ImageNet-C is here: its images are 224 pixels high and wide.

    So blurs and large pixels look alike at every resolution.
    """
    return min(image.shape[:2]) / 224


# The rows marked [C] are those of ImageNet-C (Hendrycks, Dietterich, Benchmarking neural network
# robustness to common corruptions and perturbations, ICLR 2019).
_ALL = (
    # Sensor and exposure
    Corruption(
        'gaussian_noise',
        'additive noise [C]; its deviation, 1 is white',
        _single(0, 0.08, 0.12, 0.18, 0.26, 0.38),
        lambda image, chance, deviation: sensor.gaussian_noise(
            image, 255 * deviation, chance.anew()
        ),
    ),
    Corruption(
        'shot_noise',
        'few photons [C]: 60, 25, 12, 5, 3 make white; their noise',
        _single(0, *(photons**-0.5 for photons in (60, 25, 12, 5, 3))),
        lambda image, chance, deviation: sensor.shot_noise(image, deviation, chance.anew()),
    ),
    Corruption(
        'impulse_noise',
        'dead and hot samples [C]; their share',
        _single(0, 0.03, 0.06, 0.09, 0.17, 0.27),
        lambda image, chance, amount: sensor.impulse_noise(image, amount, chance.anew()),
    ),
    Corruption(
        'gamma',
        'midtones darken; exponent',
        _single(1, 1.25, 1.5, 1.9, 2.4, 3),
        lambda image, _, exponent: sensor.gamma(image, exponent),
    ),
    Corruption(
        'saturation',
        'bright pixels saturate; their share',
        _single(0, 0.03, 0.08, 0.16, 0.28, 0.45),
        lambda image, _, share: sensor.saturation(image, share),
    ),
    Corruption(
        'overexposure',
        'too much light; stops',
        _single(0, 0.7, 1.4, 2.1, 2.9, 3.8),
        lambda image, _, stops: sensor.exposure(image, stops),
    ),
    Corruption(
        'underexposure',
        'too little light, and the noise of reading it; stops, grey levels',
        ((0, 0), (-1, 1), (-2, 1.5), (-3, 2), (-4.2, 3), (-5.5, 4)),
        lambda image, chance, stops, deviation: sensor.gaussian_noise(
            sensor.exposure(image, stops), deviation, chance.anew()
        ),
    ),
    Corruption(
        'brightness',
        'value of HSV raised [C]; by how much, 1 is white',
        _single(0, 0.1, 0.2, 0.3, 0.4, 0.5),
        lambda image, _, offset: sensor.brightness(image, offset),
    ),
    Corruption(
        'contrast',
        'contrast lowered [C]; factor',
        _single(1, 0.4, 0.3, 0.2, 0.1, 0.05),
        lambda image, _, factor: sensor.contrast(image, factor),
    ),
    Corruption(
        'sensor_artifacts',
        'the chain blur, chromatic aberration, noise, saturation, gamma',
        (
            # side - 1 in heights, radial scale, grey levels, share, exponent
            (0, 0, 0, 0, 1),
            (0.004, 0.002, 3, 0.005, 0.85),
            (0.009, 0.004, 7, 0.012, 0.78),
            (0.016, 0.007, 13, 0.025, 0.72),
            (0.025, 0.011, 21, 0.05, 0.66),
            (0.036, 0.016, 32, 0.1, 0.6),
        ),
        lambda image, chance, side, aberration, deviation, share, exponent: (
            sensor.sensor_artifacts(
                image,
                1 + side * image.shape[0],
                aberration,
                deviation,
                share,
                exponent,
                chance.anew(),
            )
        ),
    ),
    # Optics
    Corruption(
        'box_blur',
        'blur with a square; side - 1 in image heights',
        _single(0, 0.016, 0.026, 0.04, 0.058, 0.08),
        lambda image, _, side: optics.box_blur(image, 1 + side * image.shape[0]),
    ),
    Corruption(
        'defocus_blur',
        'blur with a disc [C]; its radius, pixels of 224',
        _single(0, 3, 4, 6, 8, 10),
        lambda image, _, radius: optics.defocus_blur(image, radius * _pixel(image)),
    ),
    Corruption(
        'motion_blur',
        'smear in one direction [C]; length and deviation, pixels of 224',
        ((0, 0), (10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        lambda image, chance, radius, deviation: optics.motion_blur(
            image, radius * _pixel(image), deviation * _pixel(image), chance.angle()
        ),
    ),
    Corruption(
        'chromatic_aberration',
        'red and blue are scaled apart; by how much',
        _single(0, 0.004, 0.008, 0.014, 0.022, 0.032),
        lambda image, _, scale: optics.chromatic_aberration(image, scale),
    ),
    Corruption(
        'dirt',
        'mud on the lens, which stays at its place; share of the image',
        _single(0, 0.06, 0.13, 0.22, 0.34, 0.5),
        lambda image, chance, coverage: optics.dirt(image, coverage, chance.seed),
    ),
    # Weather and hour
    Corruption(
        'fog',
        'visibility of 400, 200, 110, 60, 35 m in a street; extinction, 1/m',
        _single(0, *(3 / visibility for visibility in (400, 200, 110, 60, 35))),
        lambda image, _, extinction: weather.fog(image, extinction),
    ),
    Corruption(
        'rain',
        'falling streaks and a grey veil; their number, its share',
        ((0, 0), (200, 0.12), (450, 0.22), (850, 0.33), (1400, 0.45), (2200, 0.58)),
        lambda image, chance, drops, veil: precipitation.rain(
            image, drops, veil, chance.seed, chance.frame
        ),
    ),
    Corruption(
        'snow',
        'falling flakes and a white veil; their number, its share',
        ((0, 0), (300, 0.2), (700, 0.3), (1300, 0.38), (2100, 0.46), (3200, 0.55)),
        lambda image, chance, flakes, whiteness: precipitation.snow(
            image, flakes, whiteness, chance.seed, chance.frame
        ),
    ),
    Corruption(
        'night',
        'dark and blue, headlights, noise; darkness and grey levels',
        ((0, 0), (0.45, 1.5), (0.65, 3), (0.8, 5), (0.92, 7), (1, 10)),
        lambda image, chance, darkness, deviation: weather.night(
            image, darkness, deviation, chance.anew()
        ),
    ),
    # Compression and resolution
    Corruption(
        'jpeg',
        'JPEG [C]; quality',
        _single(100, 25, 18, 15, 10, 7),
        lambda image, _, quality: compression.jpeg(image, quality),
    ),
    Corruption(
        'pixelate',
        'large pixels [C]; their side, pixels of 224',
        _single(0, *(1 / scale for scale in (0.6, 0.5, 0.4, 0.3, 0.25))),
        # The pixels of a small image are larger than those of ImageNet-C.
        lambda image, _, side: compression.pixelate(image, side * max(1.0, _pixel(image))),
    ),
)
CORRUPTIONS = {corruption.name: corruption for corruption in _ALL}


def check_corruption(name: str, severity: float, seed: int) -> None:
    """Raise CorruptionError for an unknown name, a severity outside 0 to 5, a negative seed."""
    if name not in CORRUPTIONS:
        msg = f'corruption {name!r} is none of {", ".join(CORRUPTIONS)}'
        raise CorruptionError(msg)
    if not 0 <= severity <= MAX_SEVERITY:
        msg = f'corruption {name}: severity = {severity} is outside 0 to {MAX_SEVERITY}'
        raise CorruptionError(msg)
    if seed < 0:
        msg = f'corruption {name}: seed = {seed} is less than 0'
        raise CorruptionError(msg)


def corrupt(image: Image, name: str, severity: float, seed: int = 0, frame: int = 0) -> Image:
    """Return ``image`` (uint8 HxWx3 BGR) under corruption ``name``; severity 0 returns a copy.

    The result depends on the arguments alone. ``frame`` (>= 0) counts the images of a recording:
    noise is new in each, rain and snow move on, dirt and the direction of motion blur stay.
    Raises CorruptionError for a name outside CORRUPTIONS, a severity outside 0 to 5, a negative
    seed or frame, and what is no such image.
    """
    check_corruption(name, severity, seed)
    if frame < 0:
        msg = f'corruption {name}: frame = {frame} is less than 0'
        raise CorruptionError(msg)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        msg = f'corruption {name}: image is {image.dtype} {image.shape}, expected uint8 HxWx3'
        raise CorruptionError(msg)
    if severity == 0:
        return image.copy()
    corruption = CORRUPTIONS[name]
    return corruption.apply(image, Chance(seed, frame), *corruption.parameters(severity))
