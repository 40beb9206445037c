# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Things to paste: outliers that are no class of ours, and known objects, cut out with an alpha.

Chan et al. (ICCV 2021) take COCO objects as a proxy of the unknown. Known objects are pasted in
the same way, so that pasting itself tells nothing (Blum et al., Fishyscapes, IJCV 2021, section
3.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.classes import UNLABELLED
from seg_uncertainty_ros.evaluation.datasets import DatasetError
from seg_uncertainty_ros.evaluation.datasets import read_image
from seg_uncertainty_ros.training.datasets import Sample
from seg_uncertainty_ros.training.datasets import read_paths
from seg_uncertainty_ros.training.taxonomy import KNOWN
from seg_uncertainty_ros.training.taxonomy import OUTLIER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.random import Generator
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

_INDEX = {info.name: index for index, info in enumerate(CAMVID)}

# COCO-80 ids. Known: what a driving class covers. Neither: street furniture and plants, which our
# classes may or may not cover, and chairs, tables, ... whose polygons hold other things.
COCO_KNOWN = {
    0: _INDEX['pedestrian'],
    1: _INDEX['bicyclist'],
    2: _INDEX['car'],
    3: _INDEX['bicyclist'],
    5: _INDEX['car'],
    7: _INDEX['car'],
}
COCO_NEITHER = frozenset({6, 9, 10, 11, 12, 13, 56, 57, 58, 60})
# COCO128's photographs of the open air, looked at one by one: what is not labelled in them, grass,
# trees, gravel, sky, is nothing that a driving scene may not hold. Images of rooms would teach
# that whatever is no street is unknown.
OUTDOORS = (25, 49, 72, 81, 144, 149, 247, 307, 474, 540, 542, 569, 575, 625)
# To validate on: neither these nor the objects in them are trained on.
HELD_OUT = (34, 74, 154, 263, 312, 394, 502, 595, 597, 650)
KNOWN_CLASSES = ('car', 'pedestrian', 'bicyclist')
MIN_PIXELS = 400
MAX_SIDE = 360


@dataclass(frozen=True)
class Cutout:
    """``image`` uint8 HxWx3 BGR; ``alpha`` uint8 HxW; ``label`` OUTLIER or one of our classes."""

    name: str
    image: Image
    alpha: Image
    label: int


def _cutout(name: str, image: Image, alpha: Image, label: int) -> Cutout | None:
    """Crop to the object and shrink it to MAX_SIDE; None where it is tiny."""
    x, y, width, height = cv2.boundingRect(alpha)
    if cv2.countNonZero(alpha) < MIN_PIXELS:
        return None
    box = slice(y, y + height), slice(x, x + width)
    factor = min(1.0, MAX_SIDE / max(width, height))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    image, alpha = (cv2.resize(p[box], size, interpolation=cv2.INTER_AREA) for p in (image, alpha))
    return Cutout(name, image, alpha, label)


def _coco(root: Path) -> Iterator[tuple[str, Image, list[tuple[int, NDArray[np.int32]]]]]:
    for path in read_paths(root / 'images', '*.jpg', nested=True):
        labels = next(iter(root.joinpath('labels').rglob(f'{path.stem}.txt')), None)
        image = read_image(path, cv2.IMREAD_COLOR)
        objects = []
        for number, line in enumerate(labels.read_text().splitlines() if labels else (), 1):
            try:
                kind, *points = (float(value) for value in line.split())
                polygon = np.array(points).reshape(-1, 2) * image.shape[1::-1]
            except ValueError as error:
                msg = f'{labels}: line {number}: {line[:40]!r} is no class with a polygon'
                raise DatasetError(msg) from error
            objects.append((int(kind), np.round(polygon).astype(np.int32)))
        yield path.stem, image, objects


def coco_cutouts(root: Path) -> list[Cutout]:
    """Cut the objects of COCO (YOLO polygons, root/images and root/labels) out of their images.

    Those of the images HELD_OUT are left out.
    """
    cutouts = []
    for name, image, objects in _coco(root):
        if int(name) in HELD_OUT:
            continue
        for index, (kind, polygon) in enumerate(objects):
            if kind in COCO_NEITHER:
                continue
            alpha = np.zeros(image.shape[:2], np.uint8)
            cv2.fillPoly(alpha, [polygon], 255)
            label = COCO_KNOWN.get(kind, OUTLIER)
            cutouts.append(_cutout(f'{name}_{index}', image, alpha, label))
    return [cutout for cutout in cutouts if cutout is not None]


def coco_scenes(root: Path, numbers: Sequence[int] = OUTDOORS) -> list[Sample]:
    """Return COCO images as they are: outliers where they lie, everything else KNOWN.

    What belongs to neither (COCO_NEITHER) is unlabelled. ``numbers`` are the names of the files.
    """
    samples = []
    for name, image, objects in _coco(root):
        if int(name) not in numbers:
            continue
        labels = np.full(image.shape[:2], KNOWN, np.uint8)
        for kind, polygon in sorted(objects, key=lambda o: o[0] in COCO_KNOWN):
            neither = UNLABELLED if kind in COCO_NEITHER else OUTLIER
            cv2.fillPoly(labels, [polygon], COCO_KNOWN.get(kind, neither))
        samples.append(Sample(name, image, labels))
    return samples


def held_out_scenes(root: Path) -> list[Sample]:
    """Return the scenes HELD_OUT, labelled as sets with outliers are: 0, 1 = outlier, 255."""
    samples = []
    for sample in coco_scenes(root, HELD_OUT):
        labels = np.zeros_like(sample.labels)
        labels[sample.labels == OUTLIER] = 1
        labels[sample.labels == UNLABELLED] = UNLABELLED
        samples.append(replace(sample, labels=labels))
    return samples


def folder_cutouts(root: Path) -> list[Cutout]:
    """Read outliers from PNG files with an alpha channel, at any depth of ``root``."""
    cutouts = []
    for path in read_paths(root, '*.png', nested=True):
        image = read_image(path, cv2.IMREAD_UNCHANGED)
        if image.ndim == 3 and image.shape[2] == 4:
            cutouts.append(_cutout(path.stem, image[..., :3], image[..., 3], OUTLIER))
    return [cutout for cutout in cutouts if cutout is not None]


def scene_cutouts(samples: Sequence[Sample]) -> list[Cutout]:
    """Cut known objects out of labelled scenes: whole components of movable classes."""
    cutouts = []
    for sample in samples:
        for name in KNOWN_CLASSES:
            plane = (sample.labels == _INDEX[name]).astype(np.uint8)
            count, components, stats, _ = cv2.connectedComponentsWithStats(plane)
            for index in range(1, count):
                left, top, width, _ = stats[index, :4]
                inside = left > 0 and top > 0 and left + width < plane.shape[1]
                if stats[index, cv2.CC_STAT_AREA] >= MIN_PIXELS and inside:
                    alpha = (components == index).astype(np.uint8) * 255
                    cutouts.append(_cutout(sample.name, sample.image, alpha, _INDEX[name]))
    return [cutout for cutout in cutouts if cutout is not None]


def texture_cutout(rng: Generator, sources: Sequence[Sample]) -> Cutout:
    """Return a random shape with a procedural texture, or one out of an image of ``sources``."""
    side = int(rng.integers(48, 200))
    kind = rng.integers(4)
    if kind == 0 and sources:
        image = sources[rng.integers(len(sources))].image
        top, left = (int(rng.integers(max(1, s - side))) for s in image.shape[:2])
        texture = cv2.resize(image[top : top + side, left : left + side], (side, side))
    else:
        texture = _texture(rng, side, int(kind))
    return Cutout('texture', texture, _shape(rng, side), OUTLIER)


def _texture(rng: Generator, side: int, kind: int) -> Image:
    """Two colours, mixed by noise of a random grain, stripes or a gradient."""
    # Most things are greyer than a random colour.
    colours = rng.uniform(10, 245, (2, 1)) + rng.uniform(-1, 1, (2, 3)) * rng.uniform(5, 110)
    if kind == 1:
        cells = int(rng.integers(2, max(3, side // 3)))
        mix = cv2.resize(rng.random((cells, cells), np.float32), (side, side))
    else:
        angle, waves = rng.uniform(0, np.pi), rng.uniform(0.1, 12.0 if kind == 2 else 1.0)
        y, x = np.mgrid[:side, :side] / side
        mix = 0.5 + 0.5 * np.sin(2 * np.pi * waves * (x * np.cos(angle) + y * np.sin(angle)))
        if rng.random() < 0.3:
            mix = (mix > 0.5).astype(np.float32)
    mix = mix[..., None]
    texture = colours[0] * mix + colours[1] * (1.0 - mix) + rng.normal(0, 6, (side, side, 1))
    # Light from above.
    texture *= np.linspace(1.15, rng.uniform(0.5, 1.0), side)[:, None, None]
    return np.clip(texture, 0, 255).astype(np.uint8)


def _shape(rng: Generator, side: int) -> Image:
    """Return the alpha of a smooth blob, a box or a polygon."""
    alpha = np.zeros((side, side), np.uint8)
    half = side / 2
    kind = rng.integers(3)
    if kind == 0:
        angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        radius = np.full(64, 0.6)
        for wave in range(1, 5):
            radius += rng.uniform(0, 0.3 / wave) * np.cos(wave * angles + rng.uniform(0, 6.3))
        radius = np.clip(radius, 0.1, 0.98)
    else:
        corners = 4 if kind == 1 else int(rng.integers(3, 9))
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners)) if kind == 2 else _box_angles(rng)
        radius = rng.uniform(0.5, 0.98, corners) if kind == 2 else np.full(4, 0.95)
    points = half + half * radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    cv2.fillPoly(alpha, [np.round(points).astype(np.int32)], 255)
    return alpha


def _box_angles(rng: Generator) -> NDArray[np.float64]:
    corner, turn = rng.uniform(0.3, 1.2), rng.uniform(-0.2, 0.2)
    return turn + np.array([corner, np.pi - corner, np.pi + corner, 2 * np.pi - corner])
