# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Training batches: crops of several sources, with outliers and known objects pasted in."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from seg_uncertainty_ros.classes import UNLABELLED
from seg_uncertainty_ros.training import datasets
from seg_uncertainty_ros.training.augmentation import random_colour
from seg_uncertainty_ros.training.augmentation import random_crop
from seg_uncertainty_ros.training.blending import paste
from seg_uncertainty_ros.training.cityscapes import cityscapes
from seg_uncertainty_ros.training.outliers import coco_cutouts
from seg_uncertainty_ros.training.outliers import coco_scenes
from seg_uncertainty_ros.training.outliers import folder_cutouts
from seg_uncertainty_ros.training.outliers import scene_cutouts
from seg_uncertainty_ros.training.outliers import texture_cutout
from seg_uncertainty_ros.training.taxonomy import KNOWN
from seg_uncertainty_ros.training.taxonomy import OUTLIER
from seg_uncertainty_ros.training.teacher import taught

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.random import Generator
    from torch import Tensor

    from seg_uncertainty_ros.training.datasets import Sample
    from seg_uncertainty_ros.training.outliers import Cutout
    from seg_uncertainty_ros.training.recipe import Recipe


@dataclass(frozen=True)
class Pool:
    """Samples of one source, how many crops of them a batch holds, and whether things are pasted.

    ``base``: width in pixels of the camera that the samples are scaled to.
    """

    samples: Sequence[Sample]
    crops: float
    street: bool = True
    base: int = 480


@dataclass(frozen=True)
class Things:
    """What is pasted: outliers and known objects, and images that textures are cut from."""

    outliers: Sequence[Cutout]
    known: Sequence[Cutout]
    textures: Sequence[Sample]

    def draw(self, rng: Generator) -> Cutout:
        """Return a known object or an outlier; one outlier of three is a texture."""
        if rng.random() < 0.5:
            return self.known[rng.integers(len(self.known))]
        if rng.random() < 1 / 3:
            return texture_cutout(rng, self.textures)
        return self.outliers[rng.integers(len(self.outliers))]


def load_pools(recipe: Recipe, data: Path, out: Path) -> list[Pool]:
    """Return the training pools; CamVid train is the first."""
    pools = [Pool(datasets.camvid(data / 'camvid', 'train'), recipe.camvid)]
    if recipe.idd_lite:
        pools.append(Pool(datasets.idd_lite(data / 'idd_lite', 'train'), recipe.idd_lite))
    if recipe.procedural:
        scenes = datasets.procedural(
            recipe.procedural_scenes, 10_000, 360, 480, out / 'scenes.npz'
        )
        pools.append(Pool(scenes, recipe.procedural))
    if recipe.cityscapes:
        pools.append(Pool(cityscapes(data / 'recordings'), recipe.cityscapes, base=640))
    if recipe.pseudo:
        samples = taught(data, out / 'pseudo.npz')
        pools.append(Pool(samples, recipe.pseudo))
    if recipe.uses_outliers:
        pools = [replace(pool, samples=[all_known(x) for x in pool.samples]) for pool in pools]
    if recipe.coco:
        pools.append(Pool(coco_scenes(data / 'coco128_seg'), recipe.coco, street=False))
    return pools


def all_known(sample: Sample) -> Sample:
    """Return a street with its unlabelled pixels KNOWN: whatever they are, it belongs there.

    Left out, they would be what the network calls unknown: nobody labels what is hard to tell.
    """
    labels = np.where(sample.labels == UNLABELLED, np.uint8(KNOWN), sample.labels)
    return replace(sample, labels=labels)


def load_things(data: Path, scenes: Sequence[Sample]) -> Things:
    """Return what to paste: of COCO, DATA/cutouts where it exists, known objects of ``scenes``."""
    coco = coco_cutouts(data / 'coco128_seg')
    outliers = [thing for thing in coco if thing.label == OUTLIER]
    if (data / 'cutouts').is_dir():
        outliers += folder_cutouts(data / 'cutouts')
    known = [thing for thing in coco if thing.label != OUTLIER] + scene_cutouts(scenes)
    return Things(outliers, known, coco_scenes(data / 'coco128_seg'))


def draw_batch(
    pools: Sequence[Pool], things: Things | None, recipe: Recipe, rng: Generator
) -> tuple[Tensor, Tensor]:
    """Return images Nx3xHxW (float, BGR 0..255) and targets uint8 NxHxW."""
    images, targets = [], []
    for pool in pools:
        crops = int(pool.crops) + int(rng.random() < pool.crops % 1)
        for index in rng.integers(len(pool.samples), size=crops):
            sample = pool.samples[index]
            # As if all images were taken by a camera of the same width.
            base = pool.base / sample.image.shape[1]
            image, labels = random_crop(
                sample.image,
                sample.labels,
                recipe.crop_height,
                recipe.crop_width,
                (recipe.scale_min * base, recipe.scale_max * base),
                rng,
            )
            if things and pool.street:
                for _ in range(rng.integers(recipe.pasted + 1)):
                    paste(image, labels, things.draw(rng), rng)
            images.append(random_colour(image, rng))
            targets.append(labels)
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    return batch.contiguous(memory_format=torch.channels_last), torch.from_numpy(np.stack(targets))
