# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Rain and snow on a uint8 HxWx3 BGR image: particles that fall from frame to frame.

A particle's path depends on the seed, its place on the path on the frame: any frame can be made
without the ones before. More intense precipitation adds particles to those that fall anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

LAYERS = (0.3, 0.45, 0.67, 1.0)  # sizes of the particles, from far to near
RAIN_VEIL = (172, 170, 167)
RAIN_COLOUR = (226, 222, 218)
FLAKE_COLOUR = (252, 250, 248)
_FRACTION_BITS = 4  # of the coordinates that OpenCV draws at
_GOLDEN = 0.6180339887


@dataclass(frozen=True)
class Fall:
    """How near particles move, lengths in image heights.

    ``speed`` a frame, ``streak`` during the exposure, ``width`` across, ``slant`` sideways over
    down, ``turbulence`` the deviation of the slant.
    """

    speed: float
    streak: float
    width: float
    slant: float
    turbulence: float


RAIN = Fall(speed=0.45, streak=0.1, width=0.0035, slant=0.14, turbulence=0.03)
SNOW = Fall(speed=0.16, streak=0.015, width=0.014, slant=0.35, turbulence=0.4)


def rain(image: Image, drops: float, veil: float, seed: int, frame: int) -> Image:
    """Draw ``drops`` streaks on an image that fades to grey by ``veil`` (0 to 1)."""
    faded = cv2.addWeighted(image, 1 - veil, np.full_like(image, RAIN_VEIL), veil, 0)
    return _over(faded, RAIN_COLOUR, 0.55 * _falling(image, RAIN, drops, seed, frame))


def snow(image: Image, flakes: float, whiteness: float, seed: int, frame: int) -> Image:
    """Draw ``flakes`` on an image that whitens by ``whiteness`` (0 to 1).

    Whitening is that of ImageNet-C: towards the brighter of the image and 1.5 grey + 0.5.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    white = cv2.cvtColor(cv2.convertScaleAbs(grey, alpha=1.5, beta=127.5), cv2.COLOR_GRAY2BGR)
    whitened = cv2.addWeighted(image, 1 - whiteness, cv2.max(image, white), whiteness, 0)
    return _over(whitened, FLAKE_COLOUR, 0.9 * _falling(image, SNOW, flakes, seed, frame))


def _over(image: Image, colour: tuple[int, int, int], share: NDArray[np.float32]) -> Image:
    return cv2.blendLinear(np.full_like(image, colour), image, share, 1 - share)


def _falling(image: Image, fall: Fall, count: float, seed: int, frame: int) -> NDArray[np.float32]:
    """Return how much of each pixel ``count`` particles cover, 0 to 1; near ones are blurred."""
    height, width = image.shape[:2]
    # Row by row, so that more particles are these and others.
    rng = np.random.default_rng([seed, 0])
    start_x, start_y, own_speed, own_slant, depth = rng.random((round(count), 5)).T
    # As in an even cloud: the farther and smaller, the more.
    shares = np.cumsum(np.power(LAYERS, -1.5))
    layers = np.searchsorted(shares / shares[-1], depth)
    covered = np.zeros((height, width), np.float32)
    for layer, size in enumerate(LAYERS):
        mine = layers == layer
        way = start_y[mine] + frame * fall.speed * size * (0.8 + 0.4 * own_speed[mine])
        slant = fall.slant + fall.turbulence * (2 * own_slant[mine] - 1)
        # From above the picture to below it; then again, at another place.
        tall = 1 + fall.streak
        turn, y = np.divmod(way, tall)
        x = (start_x[mine] + turn * _GOLDEN + y * slant * height / width) % 1.0
        head = np.stack([x * width, y * height], axis=1)
        tail = head - fall.streak * size * height * np.stack([slant, np.ones_like(slant)], axis=1)
        lines = np.stack([head, tail], axis=1) * 2**_FRACTION_BITS
        thickness = fall.width * size * height
        mask = np.zeros((height, width), np.uint8)
        cv2.polylines(
            mask,
            list(lines.round().astype(np.int32)),
            isClosed=False,
            color=round(255 * min(1.0, 0.4 + 0.6 * thickness)),
            thickness=max(1, round(thickness)),
            lineType=cv2.LINE_AA,
            shift=_FRACTION_BITS,
        )
        soft = cv2.GaussianBlur(mask, (0, 0), 0.3 + 0.25 * thickness)
        covered = np.maximum(covered, soft * np.float32(1 / 255))
    return covered
