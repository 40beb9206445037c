# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Cutouts, blending, the losses on outliers, and runs that start from a bundle."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import default_bundle_path
from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.classes import UNLABELLED
from seg_uncertainty_ros.evaluation.datasets import DatasetError
from seg_uncertainty_ros.network.segmenter import Prediction
from seg_uncertainty_ros.network.segmenter import Segmenter
from seg_uncertainty_ros.procedural import random_scene
from seg_uncertainty_ros.runtime.onnx_runtime import OnnxRuntime
from seg_uncertainty_ros.training.batches import Things
from seg_uncertainty_ros.training.blending import paste
from seg_uncertainty_ros.training.datasets import Sample
from seg_uncertainty_ros.training.initial import initialise
from seg_uncertainty_ros.training.losses import outlier_cross_entropy
from seg_uncertainty_ros.training.losses import superset_cross_entropy
from seg_uncertainty_ros.training.losses import uniform_cross_entropy
from seg_uncertainty_ros.training.outliers import COCO_KNOWN
from seg_uncertainty_ros.training.outliers import HELD_OUT
from seg_uncertainty_ros.training.outliers import OUTDOORS
from seg_uncertainty_ros.training.outliers import Cutout
from seg_uncertainty_ros.training.outliers import coco_cutouts
from seg_uncertainty_ros.training.outliers import coco_scenes
from seg_uncertainty_ros.training.outliers import folder_cutouts
from seg_uncertainty_ros.training.outliers import held_out_scenes
from seg_uncertainty_ros.training.outliers import scene_cutouts
from seg_uncertainty_ros.training.outliers import texture_cutout
from seg_uncertainty_ros.training.recipe import Recipe
from seg_uncertainty_ros.training.recipe import RecipeError
from seg_uncertainty_ros.training.taxonomy import KNOWN
from seg_uncertainty_ros.training.taxonomy import OUTLIER
from seg_uncertainty_ros.training.taxonomy import target_table
from seg_uncertainty_ros.training.train import objective
from seg_uncertainty_ros.training.train import train

CAR = [info.name for info in CAMVID].index('car')
DOG = 16


@pytest.fixture
def coco(tmp_path):
    """Return a folder of two images: a dog on the left, a car on the right; one is held out."""
    for name in ('images', 'labels'):
        (tmp_path / 'coco' / name).mkdir(parents=True)
    image = np.full((100, 200, 3), 40, np.uint8)
    image[20:80, 10:90] = (0, 200, 0)
    image[20:80, 110:190] = (0, 0, 200)
    dog = f'{DOG} 0.05 0.2 0.45 0.2 0.45 0.8 0.05 0.8'
    car = '2 0.55 0.2 0.95 0.2 0.95 0.8 0.55 0.8'
    for number in (OUTDOORS[0], HELD_OUT[0]):
        cv2.imwrite(str(tmp_path / f'coco/images/{number:012d}.jpg'), image)
        (tmp_path / f'coco/labels/{number:012d}.txt').write_text(f'{dog}\n{car}\n')
    return tmp_path / 'coco'


def test_coco_objects_are_outliers_or_known(coco):
    dog, car = coco_cutouts(coco)
    assert (dog.label, car.label) == (OUTLIER, CAR)
    assert np.abs(dog.image[dog.alpha > 0].mean(axis=0) - (0, 200, 0)).max() < 25
    assert np.abs(car.image[car.alpha > 0].mean(axis=0) - (0, 0, 200)).max() < 25
    (scene,) = coco_scenes(coco)
    assert scene.labels[50, 50] == OUTLIER
    assert scene.labels[50, 150] == COCO_KNOWN[2]
    assert scene.labels[5, 100] == KNOWN
    (held_out,) = held_out_scenes(coco)
    assert held_out.name != scene.name
    assert held_out.labels[50, [50, 150]].tolist() == [1, 0]


def test_a_broken_polygon_is_named(coco):
    path = coco / f'labels/{OUTDOORS[0]:012d}.txt'
    path.write_text('16 0.1 0.2 0.3\n')
    with pytest.raises(DatasetError, match=rf'{path.name}: line 1'):
        coco_cutouts(coco)


def test_cutouts_of_a_folder(tmp_path):
    image = np.zeros((60, 80, 4), np.uint8)
    image[10:50, 20:70] = (10, 20, 30, 255)
    (tmp_path / 'deep').mkdir()
    cv2.imwrite(str(tmp_path / 'deep' / 'thing.png'), image)
    cv2.imwrite(str(tmp_path / 'opaque.png'), image[..., :3])
    (thing,) = folder_cutouts(tmp_path)
    assert thing.name == 'thing'
    assert thing.image.shape == (40, 50, 3)
    assert thing.label == OUTLIER


def test_known_objects_of_a_scene():
    labels = np.zeros((100, 100), np.uint8)
    labels[30:60, 30:70] = CAR
    labels[70:90, :40] = CAR  # cut by the border: no whole object
    (car,) = scene_cutouts([Sample('s', np.zeros((100, 100, 3), np.uint8), labels)])
    assert car.alpha.shape == (30, 40)
    assert car.label == CAR


def test_pasting_changes_what_it_labels():
    scene = random_scene(3, 160, 120)
    cutout = Cutout(
        'x', np.full((50, 50, 3), 255, np.uint8), np.full((50, 50), 255, np.uint8), 254
    )
    pasted = 0
    for seed in range(60):
        image, labels = scene.image.copy(), scene.labels.copy()
        visible = paste(image, labels, cutout, np.random.default_rng(seed))
        changed = labels != scene.labels
        assert visible == bool(changed.any())
        assert set(np.unique(labels[changed])) <= {OUTLIER}
        pasted += visible
        if visible and changed.sum() > 100:
            moved = np.abs(image.astype(int) - scene.image).max(axis=2) > 8
            assert (moved & changed).sum() > 0.5 * changed.sum()
        again = scene.image.copy()
        paste(again, scene.labels.copy(), cutout, np.random.default_rng(seed))
        np.testing.assert_array_equal(again, image)
    assert pasted > 30


def test_textures_have_a_shape():
    for seed in range(40):
        cutout = texture_cutout(np.random.default_rng(seed), [])
        assert cutout.image.shape[:2] == cutout.alpha.shape
        assert 0.02 < (cutout.alpha > 0).mean() < 1.0


def test_things_are_drawn_from_both_kinds():
    one = np.ones((4, 4), np.uint8)
    known = Cutout('known', one, one, CAR)
    outlier = Cutout('outlier', one, one, OUTLIER)
    rng = np.random.default_rng(0)
    things = Things([outlier], [known], [])
    labels = [things.draw(rng).label for _ in range(400)]
    assert 0.4 < np.mean(np.array(labels) == OUTLIER) < 0.6


def test_entropy_maximisation_is_least_where_all_classes_are_alike():
    outlier = torch.tensor([[[True, False]]])
    logits = torch.randn(1, 5, 1, 2)
    expected = -torch.log_softmax(logits, dim=1)[0, :, 0, 0].mean()
    torch.testing.assert_close(uniform_cross_entropy(logits, outlier), expected)
    flat = uniform_cross_entropy(torch.zeros(1, 5, 1, 2), outlier)
    torch.testing.assert_close(flat, torch.tensor(5.0).log())
    assert flat < expected
    assert uniform_cross_entropy(logits, torch.zeros_like(outlier)) == 0


def test_outlier_head_ignores_what_is_neither():
    logit = torch.tensor([[[2.0, -1.0, 50.0]]])
    outlier, known = torch.tensor([[[True, False, False]]]), torch.tensor([[[False, True, False]]])
    expected = F.softplus(torch.tensor(-2.0)) + F.softplus(torch.tensor(-1.0))
    torch.testing.assert_close(outlier_cross_entropy(logit, outlier, known), expected)


def test_void_is_one_more_class_of_the_softmax():
    logits, void = torch.randn(2, len(CAMVID), 6, 8), torch.randn(2, 1, 6, 8)
    targets = torch.randint(0, len(CAMVID), (2, 12, 16), dtype=torch.uint8)
    targets[:, :, :8] = OUTLIER
    recipe = Recipe('x', outlier_output='void', outlier_weight=1.0)
    # At stride 2 of the targets; a constant plane is what its upsampling is.
    logits, void = (
        plane.mean((2, 3), keepdim=True).expand(-1, -1, 3, 4) for plane in (logits, void)
    )
    prediction = Prediction(logits, logits, logits, void)
    loss = objective(prediction, targets, recipe, target_table(), torch.ones(256))
    everything = torch.cat([logits, void], dim=1).log_softmax(dim=1)
    labels = targets[:, ::2, ::2].long()
    classes = torch.where(labels == OUTLIER, len(CAMVID), labels)
    nll = -everything.repeat_interleave(2, 2).repeat_interleave(2, 3).gather(1, classes[:, None])
    outlier = (labels == OUTLIER)[:, None]
    torch.testing.assert_close(loss, nll[outlier].mean() + nll[~outlier].mean())


def test_any_class_is_known_but_teaches_no_class():
    table = target_table()
    assert table[KNOWN].all()
    logits = torch.randn(1, len(CAMVID), 2, 2)
    target = torch.full((1, 2, 2), KNOWN, dtype=torch.uint8)
    loss = superset_cross_entropy(logits, target, table, torch.ones(256))
    torch.testing.assert_close(loss, torch.tensor(0.0), atol=1e-5, rtol=0)


def test_a_bundle_gives_its_network_back():
    bundle = Bundle.load(default_bundle_path())
    scene = random_scene(5, 128, 96).image
    images = torch.from_numpy(scene).permute(2, 0, 1)[None].float()
    model = Segmenter(len(CAMVID), outlier=True)
    origin, sources = initialise(model, bundle.path, images)
    assert bundle.digest[:12] in origin
    assert {'camvid', 'idd_lite', 'procedural'} <= set(sources)
    with torch.no_grad():
        found = model.eval()(images)
    outputs = OnnxRuntime(bundle, 1).run(scene, 0)
    p = torch.softmax(found.logits / bundle.temperature, dim=1).max(dim=1).values[0].numpy()
    index = bundle.score_names.index('max_softmax')
    np.testing.assert_allclose(1.0 - p, outputs.scores[index], atol=2e-3)


def test_another_network_is_refused(tmp_path):
    weights = Segmenter(len(CAMVID), features=32).state_dict()
    path = tmp_path / 'other.pt'
    other = {'weights': weights, 'recipe': {'name': 'x'}, 'val': {'step': 1}, 'sources': []}
    torch.save(other, path)
    with pytest.raises(RecipeError, match=r'other\.pt'):
        initialise(Segmenter(len(CAMVID)), path, torch.zeros(1, 3, 64, 64))


def test_unknown_outlier_output(tmp_path):
    path = tmp_path / 'recipe.yaml'
    path.write_text('name: x\noutlier_output: haed\n')
    with pytest.raises(RecipeError, match='haed'):
        Recipe.load(path)


@pytest.fixture
def data(tmp_path, coco):
    """Return a data folder: CamVid and fs_static out of procedural scenes, one COCO image."""
    root = tmp_path / 'data'
    (root / 'coco128_seg').parent.mkdir()
    coco.rename(root / 'coco128_seg')
    for split, seeds in (('train', (0, 1, 2, 3)), ('val', (4,))):
        for folder in (split, f'{split}annot'):
            (root / 'camvid' / folder).mkdir(parents=True)
        for seed in seeds:
            scene = random_scene(seed, 160, 128)
            cv2.imwrite(str(root / f'camvid/{split}/{seed}.jpg'), scene.image)
            labels = np.where(scene.labels == UNLABELLED, len(CAMVID), scene.labels)
            cv2.imwrite(str(root / f'camvid/{split}annot/{seed}.png'), labels)
    for folder in ('images', 'labels'):
        (root / 'ood/fs_static' / folder).mkdir(parents=True)
    labels = np.zeros((128, 160), np.uint8)
    labels[60:90, 60:100] = 1
    cv2.imwrite(str(root / 'ood/fs_static/images/0.jpg'), random_scene(9, 160, 128).image)
    cv2.imwrite(str(root / 'ood/fs_static/labels/0.png'), labels)
    return root


@pytest.mark.parametrize('output', ['void', 'head', 'none'])
def test_recipes_with_outliers_run(data, tmp_path, output):
    recipe = Recipe(
        name='tiny',
        steps=2,
        warmup=1,
        validate_every=2,
        camvid=2.5,
        idd_lite=0,
        procedural=0,
        coco=1,
        pasted=3,
        crop_height=64,
        crop_width=96,
        outlier_output=output,
        entropy_weight=0.3 if output == 'none' else 0.0,
        frozen_blocks=2,
    )
    best = train(recipe, data, tmp_path / 'run')
    state = torch.load(best, weights_only=True)
    assert any(name.startswith('branch.') for name in state['weights']) == (output != 'none')
    row = json.loads((tmp_path / 'run' / 'log.jsonl').read_text())
    for found in (row['fs_static'], row['coco']):
        assert set(found) == set(recipe.outlier_scores)
        for ap, fpr in found.values():
            assert 0.0 < ap <= 1.0
            assert 0.0 <= fpr <= 1.0
    first = Segmenter(len(CAMVID))
    first.encoder.load_imagenet()
    name = 'encoder._blocks.1._expand_conv.weight'
    torch.testing.assert_close(state['weights'][name], first.state_dict()[name])
    assert state['sources'] == ['camvid', 'coco']
    later = replace(recipe, steps=3, coco=0)
    again = torch.load(train(later, data, tmp_path / 'next', init=best), weights_only=True)
    assert 'tiny, step 2' in again['origin']
    assert again['sources'] == ['camvid', 'coco']


def test_a_branch_learns_beside_a_network_that_stays(data, tmp_path):
    tiny = {'steps': 2, 'warmup': 1, 'validate_every': 2, 'crop_height': 64, 'crop_width': 96}
    plain = Recipe('plain', camvid=2, idd_lite=0, procedural=0, **tiny)
    first = torch.load(train(plain, data, tmp_path / 'plain'), weights_only=True)
    branch = Recipe(
        'branch',
        camvid=2,
        idd_lite=0,
        procedural=0,
        coco=1,
        pasted=3,
        outlier_output='void',
        trained='branch',
        **tiny,
    )
    out = tmp_path / 'branch'
    state = torch.load(
        train(branch, data, out, init=tmp_path / 'plain' / 'best.pt'), weights_only=True
    )
    for name, weight in first['weights'].items():
        torch.testing.assert_close(state['weights'][name], weight, rtol=0, atol=0)
    last = torch.load(out / 'last.pt', weights_only=True)['model']
    assert any(
        not torch.equal(last[name], weight)
        for name, weight in Segmenter(len(CAMVID), outlier=True).state_dict().items()
        if name == 'branch.hidden.1.running_mean'
    )
    assert state['val']['miou'] == first['val']['miou']


def test_a_branch_that_is_not_there_cannot_be_trained(tmp_path):
    path = tmp_path / 'recipe.yaml'
    path.write_text('name: x\ntrained: branch\n')
    with pytest.raises(RecipeError, match="'branch' of outlier_output 'none'"):
        Recipe.load(path)
