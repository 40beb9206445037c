# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""ESPNetv2, its mapping to our classes, and what it teaches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.classes import UNLABELLED
from seg_uncertainty_ros.evaluation.confusion import ConfusionMatrix
from seg_uncertainty_ros.evaluation.datasets import DatasetError
from seg_uncertainty_ros.training import teacher
from seg_uncertainty_ros.training.cityscapes import TRAIN_CLASSES
from seg_uncertainty_ros.training.cityscapes import cityscapes
from seg_uncertainty_ros.training.cityscapes import label_ids
from seg_uncertainty_ros.training.cityscapes import train_ids
from seg_uncertainty_ros.training.datasets import camvid
from seg_uncertainty_ros.training.espnetv2 import OUTPUTS
from seg_uncertainty_ros.training.espnetv2 import EspNetV2
from seg_uncertainty_ros.training.espnetv2 import WeightsError
from seg_uncertainty_ros.training.espnetv2 import load_espnetv2
from seg_uncertainty_ros.training.taxonomy import IDD_OFFSET

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [info.name for info in CAMVID]
CAR = NAMES.index('car')
ROAD = NAMES.index('road')


@pytest.fixture(scope='module')
def network(data_dir: Path) -> EspNetV2:
    return load_espnetv2(data_dir / teacher.WEIGHTS)


@pytest.mark.parametrize('scale', ['1.0', '2.0'])
def test_the_authors_weights_load_strictly(data_dir: Path, scale: str):
    network = load_espnetv2(data_dir / f'weights/espnetv2_s_{scale}_city_1024x512.pth')
    assert network.base_net.level4_0.act.num_parameters == 256 * float(scale)


def test_logits_have_half_the_size_of_the_image():
    network = EspNetV2(1.0).eval()
    with torch.inference_mode():
        logits = network(torch.zeros(2, 3, 48, 80, dtype=torch.uint8))
    assert logits.shape == (2, OUTPUTS, 24, 40)


def test_other_weights_are_refused(tmp_path: Path):
    path = tmp_path / 'other.pth'
    torch.save({'weight': torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r'other\.pth'):
        load_espnetv2(path)


def test_cityscapes_classes_become_ours():
    ours = {
        theirs: NAMES[id_] for (theirs, _, _), id_ in zip(TRAIN_CLASSES, train_ids(), strict=True)
    }
    assert len(ours) == OUTPUTS - 1
    assert set(ours.values()) == set(NAMES)
    assert ours['wall'] == 'building'
    assert ours['terrain'] == 'tree'
    assert ours['bus'] == 'car'
    assert ours['rider'] == ours['bicycle'] == 'bicyclist'


def test_label_ids_without_a_train_id_are_unlabelled():
    table = label_ids()
    assert table[7] == ROAD
    assert table[26] == CAR
    assert set(np.flatnonzero(table != UNLABELLED)) == {label for _, label, _ in TRAIN_CLASSES}


def test_cityscapes_recordings_have_labels_but_none_on_the_own_car(data_dir: Path):
    samples = cityscapes(data_dir / 'recordings')
    assert len(samples) == 90
    labels = np.stack([sample.labels for sample in samples])
    assert (labels[:, -1, 512] == UNLABELLED).all()
    assert (labels[:, 350, 512] == ROAD).mean() > 0.9


def test_a_folder_without_cityscapes_is_an_error(tmp_path: Path):
    with pytest.raises(DatasetError, match='no cityscapes_seq'):
        cityscapes(tmp_path)


def test_the_teacher_knows_camvid(data_dir: Path, network: EspNetV2):
    confusion = ConfusionMatrix(len(CAMVID))
    for sample in camvid(data_dir / 'camvid', 'val')[::25]:
        p = teacher.class_probabilities(network, sample.image)
        assert p.shape == (len(CAMVID), *sample.labels.shape)
        assert p.sum(axis=0).max() < 1.0001
        confusion.update(sample.labels, p.argmax(axis=0).astype(np.uint8))
    assert confusion.accuracy() > 0.8


def test_unsure_pixels_are_unlabelled_and_sure_ones_right(data_dir: Path, network: EspNetV2):
    sample = camvid(data_dir / 'camvid', 'val')[50]
    (labels,) = teacher.pseudo_labels(network, [sample.image])
    sure = (labels != UNLABELLED) & (sample.labels != UNLABELLED)
    assert 0.5 < sure.mean() < 0.95
    assert (labels == sample.labels)[sure].mean() > 0.95


def test_refined_labels_never_contradict_the_coarse_ones():
    vehicle, sky = IDD_OFFSET + 3, IDD_OFFSET + 6
    coarse = np.array([[vehicle, vehicle, vehicle, sky, UNLABELLED]], np.uint8)
    labels = np.array([[CAR, ROAD, UNLABELLED, CAR, CAR]], np.uint8)
    expected = [[CAR, vehicle, vehicle, sky, UNLABELLED]]
    np.testing.assert_array_equal(teacher.refined(coarse, labels), expected)


def test_road_in_the_sky_and_the_own_car_are_nonsense():
    labels = np.full((10, 10), UNLABELLED, np.uint8)
    labels[1, 1:3] = ROAD
    labels[5:] = ROAD
    labels[5, 4] = NAMES.index('pedestrian')
    footage = teacher.Footage('', every=1, visible=0.8, absent=('pedestrian',))
    cleaned = teacher.without_nonsense(labels, footage)
    expected = np.full((10, 10), UNLABELLED, np.uint8)
    expected[5:8] = ROAD
    expected[5, 4] = UNLABELLED
    np.testing.assert_array_equal(cleaned, expected)


def test_frames_the_teacher_knows_are_taught_and_read_from_the_cache(
    data_dir: Path, tmp_path: Path
):
    cache = tmp_path / 'taught.npz'
    bdd = (teacher.Footage('bdd', every=12, visible=0.75),)  # the first by day, the last by night
    first, refined = teacher.taught(data_dir, cache, bdd, 1)
    assert first.name == 'bdd_adb4871d-4d063244'
    assert first.image.shape == (360, 640, 3)
    assert first.labels.shape == (360, 640)
    assert set(np.unique(first.labels)) <= {*range(len(CAMVID)), UNLABELLED}
    assert (refined.labels < len(CAMVID)).mean() > 0.2

    written = cache.stat().st_mtime_ns
    again = teacher.taught(data_dir, cache, bdd, 1)
    assert cache.stat().st_mtime_ns == written
    for before, after in zip((first, refined), again, strict=True):
        assert before.name == after.name
        np.testing.assert_array_equal(before.image, after.image)
        np.testing.assert_array_equal(before.labels, after.labels)
    assert len(teacher.taught(data_dir, cache, (), 2)) == 2
