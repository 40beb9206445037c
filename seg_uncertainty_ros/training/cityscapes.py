# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Cityscapes classes as ours, and recordings with Cityscapes label ids.

Cordts et al., The Cityscapes dataset for semantic urban scene understanding, CVPR 2016.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.classes import UNLABELLED
from seg_uncertainty_ros.evaluation.datasets import DatasetError
from seg_uncertainty_ros.recordings.source import open_source
from seg_uncertainty_ros.training.datasets import Sample

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# Train id order: Cityscapes' name, its label id, our class. Where they differ we follow what
# SegNet's grouping does to CamVid's 32 classes: Wall is building, VegetationMisc (grass, hedges)
# is tree, TrafficLight is sign, Truck_Bus and Train are car, MotorcycleScooter is bicyclist; a
# bicycle and its rider are one bicyclist.
TRAIN_CLASSES = (
    ('road', 7, 'road'),
    ('sidewalk', 8, 'pavement'),
    ('building', 11, 'building'),
    ('wall', 12, 'building'),
    ('fence', 13, 'fence'),
    ('pole', 17, 'pole'),
    ('traffic light', 19, 'sign'),
    ('traffic sign', 20, 'sign'),
    ('vegetation', 21, 'tree'),
    ('terrain', 22, 'tree'),
    ('sky', 23, 'sky'),
    ('person', 24, 'pedestrian'),
    ('rider', 25, 'bicyclist'),
    ('car', 26, 'car'),
    ('truck', 27, 'car'),
    ('bus', 28, 'car'),
    ('train', 31, 'car'),
    ('motorcycle', 32, 'bicyclist'),
    ('bicycle', 33, 'bicyclist'),
)
# What the camera sees of its own car, (x, y) over (width, height): bonnet and star. Void in
# Cityscapes; the recordings' labels call it anything.
_BONNET = (
    *((0.14, 1.0), (0.27, 0.965), (0.40, 0.940), (0.565, 0.925)),
    *((0.72, 0.937), (0.84, 0.957), (1.0, 0.992), (1.0, 1.0)),
)
_STAR = (
    *((0.533, 0.94), (0.533, 0.84), (0.545, 0.818)),
    *((0.575, 0.818), (0.592, 0.84), (0.592, 0.94)),
)
_INDEX = {info.name: index for index, info in enumerate(CAMVID)}


def train_ids() -> NDArray[np.int64]:
    """Return 19 numbers: our class of each train id."""
    return np.array([_INDEX[ours] for _, _, ours in TRAIN_CLASSES])


def label_ids() -> NDArray[np.uint8]:
    """Return 256 numbers: our class of each label id, UNLABELLED for those not trained on."""
    table = np.full(256, UNLABELLED, np.uint8)
    for _, label, ours in TRAIN_CLASSES:
        table[label] = _INDEX[ours]
    return table


def _without_ego_vehicle(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = labels.shape
    for outline in (_BONNET, _STAR):
        points = np.round(np.array(outline) * (width, height)).astype(np.int32)
        cv2.fillPoly(labels, [points], UNLABELLED)
    return labels


def cityscapes(root: Path) -> list[Sample]:
    """Read the labelled sequences: bags root/cityscapes_seq*, PNG in *_pseudo_label_ids."""
    samples = []
    table = label_ids()
    for folder in sorted(root.glob('cityscapes_seq*_pseudo_label_ids')):
        bag = folder.with_name(folder.name.removesuffix('_pseudo_label_ids'))
        images, labels = list(open_source(bag)), list(open_source(folder))
        if len(images) != len(labels):
            msg = f'{folder}: {len(labels)} label images for the {len(images)} frames of {bag}'
            raise DatasetError(msg)
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            name = f'{bag.name}_{index:06d}'
            ours = _without_ego_vehicle(table[label.image[..., 0]])
            samples.append(Sample(name, image.image, ours))
    if not samples:
        msg = f'{root}: no cityscapes_seq*_pseudo_label_ids found'
        raise DatasetError(msg)
    return samples
