# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Distillation: what ESPNetv2 is sure of in frames without labels, or with coarse ones.

The student learns from hard labels; pixels the teacher is not sure of stay unlabelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from seg_uncertainty_ros import __version__
from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.classes import UNLABELLED
from seg_uncertainty_ros.recordings.source import open_source
from seg_uncertainty_ros.training.cityscapes import train_ids
from seg_uncertainty_ros.training.datasets import Sample
from seg_uncertainty_ros.training.datasets import idd_lite
from seg_uncertainty_ros.training.espnetv2 import STRIDE
from seg_uncertainty_ros.training.espnetv2 import load_espnetv2
from seg_uncertainty_ros.training.taxonomy import target_table

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from seg_uncertainty_ros.training.espnetv2 import EspNetV2

    Image = NDArray[np.uint8]

WEIGHTS = 'weights/espnetv2_s_2.0_city_1024x512.pth'
HEIGHT = 512
"""Rows (px) of what the teacher is shown: it learnt from images of that height."""
IDD_LITE_HEIGHT = 256
"""More would blur its 227 rows: of what the teacher is sure of, 96 % agree with the coarse labels
at 256 rows, 86 % at 512."""
CONFIDENCE = 0.9
"""On CamVid val 74 % of the pixels are that sure, and 98 % of those right."""
MAX_WIDTH = 640
MIN_LABELLED = 0.55
"""A frame of which the teacher knows less is not used: at night it is sure of wrong labels too."""
REFINED = 200
"""Images of IDD-Lite."""

_INDEX = {info.name: index for index, info in enumerate(CAMVID)}


@dataclass(frozen=True)
class Footage:
    """Frames without labels: every ``every``-th of the recording ``path`` in the data folder.

    ``visible`` is the share of the rows above the camera's own car, ``absent`` names classes
    that somebody who looked did not find.
    """

    path: str
    every: int
    visible: float = 1.0
    absent: tuple[str, ...] = ()


FOOTAGE = (
    Footage('recordings/dashcam_us_suburb', every=5, visible=0.93),
    Footage('recordings/highway_us', every=5, absent=('pedestrian', 'bicyclist')),
    Footage('bdd', every=1, visible=0.75),
)


def _label_size(image: Image) -> tuple[int, int]:
    height, width = image.shape[:2]
    scale = min(1.0, MAX_WIDTH / width)
    return round(height * scale), round(width * scale)


@torch.inference_mode()
def class_probabilities(
    network: EspNetV2, image: Image, rows: int = HEIGHT
) -> NDArray[np.float32]:
    """Return the teacher's SxHxW for our S classes: the mean over ``image`` and its mirror image.

    The probabilities of Cityscapes' classes are summed up to ours. Those of background belong to
    none, so that a pixel's sum may be less than 1. ``image`` is uint8 BGR of any size; it is
    resized to ``rows`` for the teacher. H and W are the image's, shrunk to MAX_WIDTH.
    """
    height, width = image.shape[:2]
    columns = round(width * rows / height / STRIDE) * STRIDE
    shown = torch.from_numpy(cv2.resize(image, (columns, rows))).permute(2, 0, 1)
    logits = network(torch.stack([shown, shown.flip(2)]).to(network.mean.device))
    size = _label_size(image)
    both = F.interpolate(logits, size, mode='bilinear', align_corners=True).softmax(1)
    theirs = ((both[0] + both[1].flip(2)) / 2).cpu()
    ids = torch.from_numpy(train_ids())
    ours = torch.zeros(len(CAMVID), *size)
    return ours.index_add_(0, ids, theirs[: len(ids)]).numpy()


def pseudo_labels(
    network: EspNetV2,
    images: list[Image],
    rows: int = HEIGHT,
    confidence: float = CONFIDENCE,
) -> list[Image]:
    """Return uint8 HxW for each image: the teacher's class where it is sure, else UNLABELLED.

    Sizes and ``rows`` as for class_probabilities.
    """
    labels = []
    for image in tqdm(images, desc='pseudo labels', unit='image'):
        p = class_probabilities(network, image, rows)
        best = p.argmax(axis=0).astype(np.uint8)
        best[p.max(axis=0) < confidence] = UNLABELLED
        labels.append(best)
    return labels


def refined(coarse: Image, labels: Image) -> Image:
    """Return ``labels`` where ``coarse`` allows them, else ``coarse``.

    Both are HxW with values of taxonomy.target_table.
    """
    table = target_table().numpy()
    known = labels < len(CAMVID)
    allowed = table[coarse, np.where(known, labels, 0)] & known
    return np.where(allowed, labels, coarse)


def without_nonsense(labels: Image, footage: Footage) -> Image:
    """Return ``labels`` without what cannot be: road in the sky, the own car, absent classes."""
    labels = labels.copy()
    labels[round(footage.visible * len(labels)) :] = UNLABELLED
    labels[np.isin(labels, [_INDEX[name] for name in footage.absent])] = UNLABELLED
    road = labels == _INDEX['road']
    _, parts, stats, _ = cv2.connectedComponentsWithStats(road.astype(np.uint8))
    if road.any():
        largest = 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
        labels[road & (parts != largest)] = UNLABELLED
    return labels


def footage_samples(network: EspNetV2, data: Path, footage: Footage) -> list[Sample]:
    """Return the frames that the teacher knows enough of, at most MAX_WIDTH wide."""
    source = open_source(data / footage.path)
    frames = {
        f'{source.name}_{source.stem(index)}': frame.image
        for index, frame in enumerate(source)
        if index % footage.every == 0
    }
    samples = []
    labelled = pseudo_labels(network, list(frames.values()))
    for (name, image), labels in zip(frames.items(), labelled, strict=True):
        kept = without_nonsense(labels, footage)
        if (kept != UNLABELLED).mean() >= MIN_LABELLED * footage.visible:
            small = cv2.resize(image, kept.shape[::-1], interpolation=cv2.INTER_AREA)
            samples.append(Sample(name, small, kept))
    return samples


def refined_idd_lite(network: EspNetV2, data: Path, count: int) -> list[Sample]:
    """Return at most ``count`` training images, coarse where the teacher does not say more."""
    samples = idd_lite(data / 'idd_lite', 'train')
    samples = samples[:: ceil(len(samples) / count)]
    labelled = pseudo_labels(network, [x.image for x in samples], IDD_LITE_HEIGHT)
    return [
        replace(sample, labels=refined(sample.labels, labels))
        for sample, labels in zip(samples, labelled, strict=True)
    ]


def taught(
    data: Path,
    cache: Path | None = None,
    footage: tuple[Footage, ...] = FOOTAGE,
    idd_images: int = REFINED,
) -> list[Sample]:
    """Return frames of ``footage`` and images of IDD-Lite with what the teacher says of them.

    The latter keep their coarse labels (and names) where the teacher is unsure or contradicts
    them. All are read from ``cache`` (.npz) where it holds the same, else written there.
    """
    recipe = f'{__version__}: {WEIGHTS}, {CONFIDENCE}, {MIN_LABELLED}, {footage}, {idd_images}'
    if cache is not None and cache.exists():
        with np.load(cache) as stored:
            if str(stored['made']) == recipe:
                names = [str(x) for x in stored['names']]
                return [
                    Sample(name, stored[f'image_{i}'], stored[f'labels_{i}'])
                    for i, name in enumerate(names)
                ]
    network = load_espnetv2(data / WEIGHTS)
    network = network.to('cuda' if torch.cuda.is_available() else 'cpu')
    samples = [x for item in footage for x in footage_samples(network, data, item)]
    samples += refined_idd_lite(network, data, idd_images)
    if cache is not None:
        arrays = {f'image_{i}': x.image for i, x in enumerate(samples)}
        arrays |= {f'labels_{i}': x.labels for i, x in enumerate(samples)}
        np.savez(cache, made=recipe, names=[x.name for x in samples], **arrays)
    return samples
