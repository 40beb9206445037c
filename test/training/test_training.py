# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Losses, encoder weights and a run that is cut short and continues."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.classes import UNLABELLED
from seg_uncertainty_ros.cli.train import RECIPES
from seg_uncertainty_ros.evaluation.confusion import ConfusionMatrix
from seg_uncertainty_ros.evaluation.datasets import DatasetError
from seg_uncertainty_ros.network.encoder import EfficientNetLite0
from seg_uncertainty_ros.procedural import random_scene
from seg_uncertainty_ros.training.augmentation import random_crop
from seg_uncertainty_ros.training.datasets import camvid
from seg_uncertainty_ros.training.losses import superset_cross_entropy
from seg_uncertainty_ros.training.recipe import Recipe
from seg_uncertainty_ros.training.recipe import RecipeError
from seg_uncertainty_ros.training.taxonomy import IDD_OFFSET
from seg_uncertainty_ros.training.taxonomy import target_table
from seg_uncertainty_ros.training.train import train

TABLE = target_table()
ONES = torch.ones(256)


def test_loss_of_single_classes_is_cross_entropy():
    logits = torch.randn(2, len(CAMVID), 5, 7)
    target = torch.randint(0, len(CAMVID), (2, 5, 7))
    loss = superset_cross_entropy(logits, target, TABLE, ONES)
    torch.testing.assert_close(loss, F.cross_entropy(logits, target))


def test_loss_of_a_superset_is_the_negative_log_of_the_sum():
    logits = torch.randn(1, len(CAMVID), 1, 1)
    target = torch.full((1, 1, 1), IDD_OFFSET + 3)  # vehicle: car or bicyclist
    names = [info.name for info in CAMVID]
    p = torch.softmax(logits, dim=1)[0, :, 0, 0]
    expected = -(p[names.index('car')] + p[names.index('bicyclist')]).log()
    torch.testing.assert_close(superset_cross_entropy(logits, target, TABLE, ONES), expected)


def test_unlabelled_pixels_have_no_gradient():
    logits = torch.randn(1, len(CAMVID), 2, 2, requires_grad=True)
    target = torch.tensor([[[0, UNLABELLED], [UNLABELLED, 3]]])
    superset_cross_entropy(logits, target, TABLE, ONES).backward()
    assert logits.grad[0, :, 0, 1].abs().sum() == 0
    assert logits.grad[0, :, 0, 0].abs().sum() > 0
    assert torch.isfinite(logits.grad).all()


def test_imagenet_weights_fit_the_encoder():
    encoder = EfficientNetLite0()
    before = encoder._blocks[3]._depthwise_conv.weight.clone()
    encoder.load_imagenet()
    assert not torch.equal(before, encoder._blocks[3]._depthwise_conv.weight)
    levels = encoder.eval()(torch.zeros(1, 3, 64, 96))
    assert [tuple(level.shape[1:]) for level in levels] == [
        (channels, 64 // stride, 96 // stride)
        for channels, stride in zip(EfficientNetLite0.channels, (4, 8, 16, 32), strict=True)
    ]


def test_crop_moves_labels_with_the_image():
    labels = np.zeros((90, 120), np.uint8)
    labels[30:60, 40:80] = 7
    image = np.repeat(labels[..., None] * 20, 3, axis=2)
    for seed in range(20):
        crop, target = random_crop(image, labels, 48, 64, (0.5, 2.0), np.random.default_rng(seed))
        inside = target != UNLABELLED
        # Edges are interpolated in the image and not in the labels.
        agree = (np.abs(crop[..., 0].astype(int) - target.astype(int) * 20) < 60) & inside
        assert agree.sum() > 0.97 * inside.sum()


def test_confusion_matrix():
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([[0, 0, 1, UNLABELLED]], np.uint8), np.array([[0, 1, 1, 2]], np.uint8))
    np.testing.assert_allclose(matrix.iou()[:2], [0.5, 0.5])
    assert np.isnan(matrix.iou()[2])
    assert matrix.miou() == 0.5
    assert matrix.accuracy() == pytest.approx(2 / 3)


@pytest.mark.parametrize('text', ['[]', 'name: x\nstep: 3', 'name: x\nsteps: many', '{', 'a: 1'])
def test_bad_recipe(tmp_path, text):
    path = tmp_path / 'recipe.yaml'
    path.write_text(text)
    with pytest.raises(RecipeError, match=r'recipe\.yaml'):
        Recipe.load(path)


@pytest.mark.parametrize('path', sorted(RECIPES.glob('*.yaml')), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path):
    recipe = Recipe.load(path)
    assert recipe.steps >= recipe.stop_after
    assert recipe.validate_every <= (recipe.stop_after or recipe.steps)
    # Outliers come from somewhere, and a loss looks at them.
    assert recipe.uses_outliers == bool(recipe.coco or recipe.pasted)


def test_missing_dataset(tmp_path):
    with pytest.raises(DatasetError, match=r'no \*\.jpg'):
        camvid(tmp_path, 'train')


@pytest.fixture
def tiny_data(tmp_path):
    """Return a folder in CamVid's form with procedural scenes."""
    for split, seeds in (('train', (0, 1)), ('val', (2,))):
        for folder in (split, f'{split}annot'):
            (tmp_path / 'data' / 'camvid' / folder).mkdir(parents=True)
        for seed in seeds:
            scene = random_scene(seed, 96, 64)
            root = tmp_path / 'data' / 'camvid'
            cv2.imwrite(str(root / split / f'{seed}.jpg'), scene.image)
            labels = np.where(scene.labels == UNLABELLED, len(CAMVID), scene.labels)
            cv2.imwrite(str(root / f'{split}annot' / f'{seed}.png'), labels)
    return tmp_path / 'data'


RECIPE = Recipe(
    name='tiny',
    steps=6,
    warmup=1,
    validate_every=3,
    camvid=2,
    idd_lite=0,
    procedural=0,
    crop_height=64,
    crop_width=96,
)


def test_a_cut_run_continues_as_if_it_were_not_cut(tiny_data, tmp_path):
    train(RECIPE, tiny_data, tmp_path / 'whole')
    train(replace(RECIPE, stop_after=3), tiny_data, tmp_path / 'cut')
    train(RECIPE, tiny_data, tmp_path / 'cut')
    rows = [
        [json.loads(line) for line in (tmp_path / run / 'log.jsonl').read_text().splitlines()]
        for run in ('whole', 'cut')
    ]
    assert [row['step'] for row in rows[0]] == [row['step'] for row in rows[1]] == [3, 6]
    weights = [
        torch.load(tmp_path / run / 'last.pt', weights_only=True)['average']
        for run in ('whole', 'cut')
    ]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=1e-5, atol=1e-6)


def test_kept_weights_lie_between_the_start_and_what_was_learned(tiny_data, tmp_path):
    start = train(replace(RECIPE, stop_after=3), tiny_data, tmp_path / 'start')
    found = {
        share: torch.load(
            train(
                replace(RECIPE, seed=2, learned_share=share),
                tiny_data,
                tmp_path / str(share),
                start,
            ).with_name('end.pt'),
            weights_only=True,
        )['weights']
        for share in (0.0, 0.5, 1.0)
    }
    begun = torch.load(start, weights_only=True)['weights']
    for name, learned in found[1.0].items():
        if learned.is_floating_point():
            torch.testing.assert_close(found[0.0][name], begun[name])
            torch.testing.assert_close(found[0.5][name], (begun[name] + learned) / 2)
    assert not torch.equal(found[1.0]['classifier.weight'], begun['classifier.weight'])
