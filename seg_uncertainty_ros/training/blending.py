# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Paste a cutout into a scene so that the seam is no cue.

The steps of Fishyscapes' blending (Blum et al., The Fishyscapes benchmark, IJCV 2021, section
3.1): colour adaptation to the surroundings, depth blur, motion blur, glow of the background around
the edges, fog. A contact shadow is ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.training.taxonomy import IDD_OFFSET

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from seg_uncertainty_ros.training.outliers import Cutout

    Image = NDArray[np.uint8]

# Road, pavement, and what IDD-Lite calls drivable.
_GROUND = [i for i, info in enumerate(CAMVID) if info.name in ('road', 'pavement')] + [IDD_OFFSET]


def paste(
    image: Image, labels: Image, cutout: Cutout, rng: Generator, *, smallest: float = 8.0
) -> bool:
    """Paste ``cutout`` at a random place and size into ``image`` and ``labels``, in place.

    Three of four stand on road or pavement where there is any, and are then smaller further up.
    Sizes: from ``smallest`` pixels to 0.7 of the image's height, more small ones than large ones.

    Returns:
        Whether anything of it is visible.

    """
    height, width = labels.shape
    column, foot, largest = _place(labels, rng)
    longest = np.exp(rng.uniform(np.log(smallest), np.log(max(largest, smallest + 1))))
    factor = longest / max(cutout.alpha.shape)
    size = tuple(max(3, round(side * factor)) for side in cutout.alpha.shape[::-1])
    mirrored = rng.random() < 0.5
    thing, alpha = (
        cv2.resize(p[:, ::-1] if mirrored else p, size, interpolation=cv2.INTER_AREA)
        for p in (cutout.image, cutout.alpha)
    )
    left, top = column - size[0] // 2, foot - size[1]
    margin = 4
    x0, y0 = max(0, left - margin), max(0, top - margin)
    x1, y1 = min(width, left + size[0] + margin), min(height, foot + margin)
    if x1 - x0 < 4 or y1 - y0 < 4:
        return False
    # Bring both planes onto the window x0..x1, y0..y1 of the scene.
    window = (x1 - x0, y1 - y0)
    shift = np.array([[1.0, 0.0, left - x0], [0.0, 1.0, top - y0]])
    thing = cv2.warpAffine(thing, shift, window, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(alpha, shift, window)
    scene = image[y0:y1, x0:x1]
    solid = alpha > 127
    if np.count_nonzero(solid) < 6:
        return False
    if rng.random() < 0.5:
        _shadow(image, left, foot, size, rng)
    blended = _blend(scene.astype(np.float32), thing.astype(np.float32), alpha, rng)
    image[y0:y1, x0:x1] = np.clip(blended, 0, 255).astype(np.uint8)
    labels[y0:y1, x0:x1][solid] = cutout.label
    return True


def _place(labels: Image, rng: Generator) -> tuple[int, int, float]:
    """Return column and row of the foot, and how large a thing may be there."""
    height, width = labels.shape
    ground = np.flatnonzero(np.isin(labels, _GROUND))
    if len(ground) > 100 and rng.random() < 0.75:
        foot, column = divmod(int(ground[rng.integers(len(ground))]), width)
        horizon = int(ground[0]) // width
        nearness = (foot - horizon) / max(1, height - horizon)
        return column, foot, height * (0.08 + 0.6 * nearness)
    return int(rng.integers(width)), int(rng.integers(height // 4, height + 40)), 0.7 * height


def _blend(
    scene: NDArray[np.float32], thing: NDArray[np.float32], alpha: Image, rng: Generator
) -> NDArray[np.float32]:
    solid = alpha > 127
    around = scene.reshape(-1, 3)
    inside = thing[solid]
    # Colour adaptation: towards mean and contrast of what is around it.
    amount = rng.uniform(0.0, 0.6)
    spread = (around.std(axis=0) + 8.0) / (inside.std(axis=0) + 8.0)
    gain = (1.0 - amount) + amount * np.clip(spread, 0.5, 1.5)
    thing = (thing - inside.mean(axis=0)) * gain
    thing += (1.0 - amount) * inside.mean(axis=0) + amount * around.mean(axis=0)
    weight = alpha.astype(np.float32) / 255
    # Depth blur: as sharp as a lens shows things at that distance.
    if rng.random() < 0.6:
        sigma = rng.uniform(0.3, 1.3)
        thing = cv2.GaussianBlur(thing, (0, 0), sigma)
        weight = cv2.GaussianBlur(weight, (0, 0), sigma)
    # Motion blur: along the image's rows, as the vehicle turns or the thing crosses.
    if rng.random() < 0.15:
        length = int(rng.integers(3, 8))
        thing, weight = (cv2.blur(p, (length, 1)) for p in (thing, weight))
    # Glow: light of the background spills over the edges.
    if rng.random() < 0.4:
        spill = cv2.GaussianBlur(1.0 - weight, (0, 0), rng.uniform(1.0, 3.0))[..., None]
        thing += 0.5 * spill * (cv2.GaussianBlur(scene, (0, 0), 3.0) - thing)
    # Fog: airlight of the brightest surroundings.
    if rng.random() < 0.3:
        air = np.percentile(around, 90, axis=0)
        thing += rng.uniform(0.05, 0.4) * (air - thing)
    return scene + weight[..., None] * (thing - scene)


def _shadow(image: Image, left: int, foot: int, size: tuple[int, int], rng: Generator) -> None:
    shade = np.zeros(image.shape[:2], np.uint8)
    axes = max(1, int(size[0] * rng.uniform(0.35, 0.6))), max(1, int(size[0] * 0.1))
    cv2.ellipse(shade, (left + size[0] // 2, foot), axes, 0, 0, 360, 255, -1)
    x0, y0 = max(0, left - size[0]), max(0, foot - 3 * axes[1])
    box = slice(y0, foot + 3 * axes[1]), slice(x0, left + 2 * size[0])
    if image[box].size:
        soft = cv2.GaussianBlur(shade[box], (0, 0), 1.0 + axes[1] / 2)[..., None] / 255.0
        image[box] = (image[box] * (1.0 - rng.uniform(0.2, 0.6) * soft)).astype(np.uint8)
