# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Labelled images in memory: CamVid, IDD-Lite, procedural scenes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from tqdm import tqdm

from seg_uncertainty_ros import __version__
from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.classes import UNLABELLED
from seg_uncertainty_ros.evaluation.datasets import DatasetError
from seg_uncertainty_ros.evaluation.datasets import read_image
from seg_uncertainty_ros.procedural import random_scene
from seg_uncertainty_ros.training.taxonomy import IDD_OFFSET

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """``image`` uint8 HxWx3 BGR; ``labels`` uint8 HxW, values of taxonomy.target_table."""

    name: str
    image: Image
    labels: Image


def read_paths(folder: Path, pattern: str, *, nested: bool = False) -> list[Path]:
    """Return the files of a folder, sorted; raise DatasetError where there are none."""
    paths = sorted(folder.rglob(pattern) if nested else folder.glob(pattern))
    if not paths:
        msg = f'{folder}: no {pattern} found'
        raise DatasetError(msg)
    return paths


def camvid(root: Path, split: str) -> list[Sample]:
    """Read CamVid: root/{split}/*.jpg and root/{split}annot/*.png with ids 0..10, 11 void."""
    samples = []
    for path in read_paths(root / split, '*.jpg'):
        labels = read_image(root / f'{split}annot' / f'{path.stem}.png', cv2.IMREAD_GRAYSCALE)
        labels[labels >= len(CAMVID)] = UNLABELLED
        samples.append(Sample(path.stem, read_image(path, cv2.IMREAD_COLOR), labels))
    return samples


def idd_lite(root: Path, split: str) -> list[Sample]:
    """Read IDD-Lite: leftImg8bit/{split}/*/*_image.jpg, gtFine/{split}/*/*_label.png."""
    samples = []
    for path in read_paths(root / 'leftImg8bit' / split, '*/*_image.jpg'):
        name = path.name.replace('_image.jpg', '_label.png')
        labels = read_image(
            root / 'gtFine' / split / path.parent.name / name, cv2.IMREAD_GRAYSCALE
        )
        labels[labels != UNLABELLED] += IDD_OFFSET
        samples.append(Sample(path.stem, read_image(path, cv2.IMREAD_COLOR), labels))
    return samples


def procedural(
    count: int, seed: int, height: int, width: int, cache: Path | None = None
) -> list[Sample]:
    """Render ``count`` random scenes; each scene has a seed of its own.

    They are read from ``cache`` (.npz) where it holds the same, else rendered and written there.
    """
    recipe = f'{__version__}: {count} x {height} x {width} from {seed}'
    if cache is not None and cache.exists():
        with np.load(cache) as stored:
            images, labels, made = stored['images'], stored['labels'], str(stored['made'])
        if made == recipe:
            return [Sample(f'scene_{seed + i}', images[i], labels[i]) for i in range(count)]

    def render(index: int) -> Sample:
        scene = random_scene(seed + index, width, height)
        return Sample(f'scene_{seed + index}', scene.image, scene.labels)

    with ThreadPoolExecutor() as pool:
        scenes = pool.map(render, range(count))
        samples = list(tqdm(scenes, total=count, desc='procedural scenes', unit='scene'))
    if cache is not None:
        images, labels = (
            np.stack([s.image for s in samples]),
            np.stack([s.labels for s in samples]),
        )
        np.savez(cache, images=images, labels=labels, made=recipe)
    return samples
