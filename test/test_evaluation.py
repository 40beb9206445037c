# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Datasets, and the commands evaluate and results with the bundle that ships."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.metrics import roc_auc_score

from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.cli import main
from seg_uncertainty_ros.evaluation.benchmark import EvaluationError
from seg_uncertainty_ros.evaluation.benchmark import evaluate_outliers
from seg_uncertainty_ros.evaluation.benchmark import evaluate_segmentation
from seg_uncertainty_ros.evaluation.component_metrics import ANOMALY_TRACK
from seg_uncertainty_ros.evaluation.component_metrics import OBSTACLE_TRACK
from seg_uncertainty_ros.evaluation.confusion import ConfusionMatrix
from seg_uncertainty_ros.evaluation.contact_sheet import contact_sheet
from seg_uncertainty_ros.evaluation.datasets import DatasetError
from seg_uncertainty_ros.evaluation.datasets import open_dataset
from seg_uncertainty_ros.evaluation.tables import bundle_labels
from seg_uncertainty_ros.frames import Frame
from seg_uncertainty_ros.pipeline import Pipeline
from seg_uncertainty_ros.procedural import random_scene
from seg_uncertainty_ros.runtime.onnx_runtime import OnnxRuntime

SIZE = (192, 96)
"""Width and height of the labels; images are half of it."""


@cache
def scene(seed):
    return random_scene(seed, *SIZE)


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def outlier_set(root, *, outlier=1, labels='labels/{}.png', count=3):
    """Write scenes with a bright box that is an outlier, but for the last; names 1, 2, 10."""
    width, height = SIZE
    for index, name in enumerate(('1', '2', '10')[:count]):
        image = cv2.resize(scene(index).image, (width // 2, height // 2))
        mask = np.zeros((height, width), np.uint8)
        if index < count - 1:
            cv2.rectangle(image, (20, 20), (50, 40), (255, 0, 255), cv2.FILLED)
            cv2.rectangle(mask, (40, 40), (101, 81), outlier, cv2.FILLED)
        if outlier == 1:
            mask[90:] = 255
        write(root / 'images' / f'{name}.png', image)
        write(root / labels.format(name), mask)
    return root


def camvid_set(root):
    for index in range(3):
        labels = np.where(scene(index).labels < len(CAMVID), scene(index).labels, len(CAMVID))
        labels[:4] = len(CAMVID)
        write(root / f'{index}.jpg', scene(index).image)
        write(root.with_name(f'{root.name}annot') / f'{index}.png', labels.astype(np.uint8))
    return root


@pytest.fixture(scope='module')
def fishyscapes(tmp_path_factory):
    return outlier_set(tmp_path_factory.mktemp('fishyscapes') / 'tiny')


@pytest.fixture(scope='module')
def camvid(tmp_path_factory):
    return camvid_set(tmp_path_factory.mktemp('camvid') / 'val')


@pytest.mark.parametrize(
    ('name', 'outlier', 'labels'),
    [
        ('fishyscapes', 1, 'labels/{}.png'),
        ('road-anomaly', 2, 'labels/{}.png'),
        ('smiyc', 1, 'labels_masks/{}_labels_semantic.png'),
    ],
)
def test_outlier_formats(tmp_path, name, outlier, labels):
    dataset = open_dataset(name, outlier_set(tmp_path / 'x', outlier=outlier, labels=labels))
    assert dataset.name == 'x'
    samples = [dataset[index] for index in range(len(dataset))]
    assert [sample.name for sample in samples] == ['1', '2', '10']
    for sample in samples:
        assert sample.image.shape == (48, 96, 3)
        assert sample.labels.shape == (96, 192)
    assert [np.count_nonzero(sample.labels == 1) for sample in samples] == [2604, 2604, 0]
    assert (samples[0].labels[90:] == (255 if outlier == 1 else 0)).all()


def test_smiyc_reads_images_with_labels_only(tmp_path):
    root = outlier_set(tmp_path, labels='labels_masks/{}_labels_semantic.png')
    write(root / 'images' / 'test.png', np.zeros((48, 96, 3), np.uint8))
    write(root / 'labels_masks' / '1_labels_semantic_color.png', np.zeros((96, 192), np.uint8))
    assert len(open_dataset('smiyc', root)) == 3
    (root / 'images' / '2.png').unlink()
    with pytest.raises(DatasetError, match="no image '2', labels_masks has labels"):
        open_dataset('smiyc', root)


def test_camvid_labels(camvid):
    dataset = open_dataset('camvid', camvid)
    assert dataset.name == f'{camvid.parent.name}/val'
    values = np.unique(np.concatenate([dataset[i].labels.ravel() for i in range(3)]))
    assert set(values) <= {*range(len(CAMVID)), 255}
    assert 255 in values


def test_camvid_from_inside_its_folder(camvid, monkeypatch):
    monkeypatch.chdir(camvid)
    assert open_dataset('camvid', Path()).files == open_dataset('camvid', camvid).files


def test_a_folder_that_is_no_dataset(tmp_path):
    with pytest.raises(DatasetError, match='images: no such folder, fishyscapes needs it'):
        open_dataset('fishyscapes', tmp_path)
    (tmp_path / 'images').mkdir()
    with pytest.raises(DatasetError, match='labels: no such folder'):
        open_dataset('fishyscapes', tmp_path)
    (tmp_path / 'labels').mkdir()
    with pytest.raises(DatasetError, match='images: no images'):
        open_dataset('fishyscapes', tmp_path)
    with pytest.raises(DatasetError, match="'cityscapes' is none of fishyscapes, "):
        open_dataset('cityscapes', tmp_path)


def test_an_image_without_labels(tmp_path):
    root = outlier_set(tmp_path)
    (root / 'labels' / '2.png').unlink()
    with pytest.raises(DatasetError, match=r'2\.png: missing, 2\.png needs it'):
        open_dataset('fishyscapes', root)


def test_two_images_for_one_file_of_labels(tmp_path):
    root = outlier_set(tmp_path)
    write(root / 'images' / '2.jpg', np.zeros((48, 96, 3), np.uint8))
    with pytest.raises(DatasetError, match=r'2\.png: labels of 2\.jpg or of 2\.png\?'):
        open_dataset('fishyscapes', root)


@pytest.mark.parametrize(
    ('mask', 'message'),
    [
        (np.full((96, 192), 2, np.uint8), r'1\.png: value 2, expected 0, 1, 255 \(fishyscapes\)'),
        (np.zeros((96, 96), np.uint8), r'1\.png: 96x96, not the aspect ratio .*, 96x48'),
        (np.zeros((96, 192, 3), np.uint8), r'1\.png: uint8 \(96, 192, 3\), expected one channel'),
        (np.zeros((96, 192), np.uint16), r'1\.png: uint16 \(96, 192\), expected one channel'),
    ],
)
def test_labels_that_are_not_of_the_format(tmp_path, mask, message):
    root = outlier_set(tmp_path)
    write(root / 'labels' / '1.png', mask)
    with pytest.raises(DatasetError, match=message):
        open_dataset('fishyscapes', root)[0]


def test_a_damaged_image(tmp_path):
    root = outlier_set(tmp_path)
    (root / 'images' / '1.png').write_bytes(b'not a PNG')
    with pytest.raises(DatasetError, match=r'1\.png: not a readable image'):
        open_dataset('fishyscapes', root)[0]


def test_fs_static_has_ten_images_without_outliers(data_dir):
    dataset = open_dataset('fishyscapes', data_dir / 'ood' / 'fs_static')
    outliers = [(dataset[index].labels == 1).any() for index in range(len(dataset))]
    assert (len(outliers), sum(outliers)) == (30, 20)


def test_evaluate_equals_scikit_learn_on_the_upsampled_scores(bundle, fishyscapes):
    dataset = open_dataset('fishyscapes', fishyscapes)
    table = evaluate_outliers(bundle, dataset, bundle.score_names)
    runtime = OnnxRuntime(bundle)
    pooled, positive = [], []
    for index in range(len(dataset)):
        sample = dataset[index]
        rows, columns = bundle.geometry.network_size(*sample.image.shape[:2])
        resized = cv2.resize(sample.image, (columns, rows), interpolation=cv2.INTER_LINEAR)
        scores = runtime.run(resized, 0).scores
        known = sample.labels != 255
        pooled.append(np.stack([cv2.resize(plane, SIZE)[known] for plane in scores]))
        positive.append(sample.labels[known] == 1)
    pooled, positive = np.concatenate(pooled, axis=1), np.concatenate(positive)
    assert table.run.pixels == positive.size
    assert table.outlier_pixels == positive.sum() == 2 * 2604
    assert table.sizes == OBSTACLE_TRACK
    assert [row.score for row in table.rows] == list(bundle.score_names)
    for row, scores in zip(table.rows, pooled, strict=True):
        ap = average_precision_score(positive, scores)
        assert row.pixels.average_precision.value == pytest.approx(ap, abs=1e-9)
        auroc = roc_auc_score(positive, scores)
        assert row.pixels.auroc.value == pytest.approx(auroc, abs=1e-9)
        found = scores >= row.tpr95_threshold
        assert found[positive].mean() >= 0.95
        assert row.pixels.fpr95.value == pytest.approx(found[~positive].mean(), abs=1e-9)
        per_image = [frame.true_positive_rate for frame in row.frames]
        assert np.nanmean(per_image) == pytest.approx(found[positive].mean())
        assert np.isnan(per_image[2])
        assert 0 <= row.components.siou.value <= 1


def test_another_resolution_changes_the_scores(bundle, fishyscapes):
    dataset = open_dataset('fishyscapes', fishyscapes)
    own = evaluate_outliers(bundle, dataset, ['energy'])
    small = evaluate_outliers(bundle, dataset, ['energy'], max_pixels=64 * 32)
    assert small.run.max_pixels == 64 * 32
    assert own.run.max_pixels == bundle.geometry.max_pixels
    assert small.rows[0].pixels.auroc.value != own.rows[0].pixels.auroc.value


@pytest.mark.parametrize(
    ('name', 'folder', 'labels', 'sizes'),
    [
        ('smiyc', 'dataset_ObstacleTrack', 'labels_masks/{}_labels_semantic.png', OBSTACLE_TRACK),
        ('smiyc', 'dataset_AnomalyTrack', 'labels_masks/{}_labels_semantic.png', ANOMALY_TRACK),
        ('road-anomaly', 'RoadAnomaly', 'labels/{}.png', ANOMALY_TRACK),
    ],
)
def test_component_sizes_are_those_of_the_track(bundle, tmp_path, name, folder, labels, sizes):
    outlier = 2 if name == 'road-anomaly' else 1
    root = outlier_set(tmp_path / folder, outlier=outlier, labels=labels, count=2)
    assert evaluate_outliers(bundle, open_dataset(name, root), ['energy']).sizes == sizes


def test_a_set_without_outliers_is_an_error(bundle, tmp_path):
    dataset = open_dataset('fishyscapes', outlier_set(tmp_path / 'x', count=1))
    with pytest.raises(EvaluationError, match='x: 0 of 17280 pixels are outliers'):
        evaluate_outliers(bundle, dataset, ['energy'])


def test_camvid_equals_the_masks_of_the_pipeline(bundle, camvid):
    dataset = open_dataset('camvid', camvid)
    table = evaluate_segmentation(bundle, dataset, ['entropy', 'max_softmax'])
    pipeline = Pipeline(bundle)
    matrix = ConfusionMatrix(len(CAMVID))
    wrong, scores, confidence = [], [], []
    for index in range(len(dataset)):
        sample = dataset[index]
        result = pipeline.process(Frame(sample.image, 0), keep_scores=True)
        matrix.update(sample.labels, result.mask)
        known = sample.labels != 255
        wrong.append((result.mask != sample.labels)[known])
        scores.append(result.scores['entropy'][known])
        confidence.append(1 - result.scores['max_softmax'][known])
    wrong, confidence = np.concatenate(wrong), np.concatenate(confidence)
    assert table.miou.value == pytest.approx(matrix.miou())
    assert table.miou.low <= table.miou.value <= table.miou.high
    assert table.accuracy.value == pytest.approx(1 - wrong.mean())
    assert np.array_equal(table.class_iou, matrix.iou(), equal_nan=True)
    ap = average_precision_score(wrong, np.concatenate(scores))
    assert table.rows[0].metrics.average_precision.value == pytest.approx(ap, abs=1e-5)
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = np.bincount(bins, (1.0 - wrong) - confidence, minlength=15)
    assert table.ece == pytest.approx(np.abs(gaps).sum() / wrong.size, abs=1e-6)


def test_camvid_needs_its_classes(bundle, camvid):
    other = replace(bundle, classes=bundle.classes[1:])
    with pytest.raises(EvaluationError, match=r'classes building, .*, expected sky, building'):
        evaluate_segmentation(other, open_dataset('camvid', camvid), ['energy'])


def test_command_evaluate(bundle, fishyscapes, tmp_path, capsys):
    out, sheet = tmp_path / 'out', tmp_path / 'sheet.png'
    arguments = ['--score', 'energy', '--score', 'entropy', '--max-pixels', '4608']
    arguments += ['--out', str(out), '--contact-sheet', str(sheet)]
    root = str(fishyscapes)
    assert main(['evaluate', '--dataset', 'fishyscapes', root, *arguments]) == 0
    text = (out / 'table.md').read_text(encoding='utf-8')
    assert text in capsys.readouterr().out
    assert '3 images, 51840 pixels, 10.05 % of them outliers.' in text
    lines = [line.split('|')[1:-1] for line in text.splitlines() if line.startswith('| ')]
    assert [cell.strip() for cell in lines[0]] == (
        ['bundle', 'input up to', 'score', 'AP', 'AUROC', 'FPR95', 'sIoU', 'PPV', 'F1']
    )
    content = json.loads((out / 'table.json').read_text(encoding='utf-8'))
    (result,) = content['results']
    assert result['dataset'] == {'format': 'fishyscapes', 'name': 'tiny'}
    assert result['bundle']['sha256'] == bundle.digest
    assert (result['images'], result['pixels'], result['max_pixels']) == (3, 51840, 4608)
    assert list(result['scores']) == ['entropy', 'energy']
    for line in lines[1:]:
        values = result['scores'][line[2].strip()]
        ap = values['average_precision']
        assert line[3].strip() == f'{ap["value"]:.3f} [{ap["low"]:.3f}, {ap["high"]:.3f}]'
        assert values['frames']['10']['true_positive_rate'] is None
    picture = cv2.imread(str(sheet))
    # A title, and for each image a caption and three tiles of 400 x 200.
    assert picture.shape == (24 + 3 * (24 + 200), 3 * 400 + 2 * 4, 3)
    assert (picture == (255, 0, 255)).all(axis=2).any()


def test_contact_sheet_without_the_data(bundle, fishyscapes):
    table = evaluate_outliers(bundle, open_dataset('fishyscapes', fishyscapes), ['energy'])
    shown = contact_sheet(table, table.rows[0])
    hidden = contact_sheet(table, table.rows[0], show_data=False)
    assert hidden.shape == shown.shape
    palette = {info.color[::-1] for info in bundle.classes}
    left = hidden[48 : 48 + 200, :400].reshape(-1, 3)
    assert {tuple(int(v) for v in colour) for colour in left} <= palette | {(0, 0, 0)}
    assert (hidden == (255, 0, 255)).all(axis=2).any()


def test_command_evaluate_on_camvid(camvid, tmp_path, capsys):
    arguments = ['--score', 'entropy', '--out', str(tmp_path / 'out')]
    assert main(['evaluate', '--dataset', 'camvid', str(camvid), *arguments]) == 0
    text = capsys.readouterr().out
    for word in ('mIoU', 'ECE', 'AuSE', 'bicyclist'):
        assert word in text
    content = json.loads((tmp_path / 'out' / 'table.json').read_text(encoding='utf-8'))
    (result,) = content['results']
    assert list(result['class_iou']) == [info.name for info in CAMVID]
    assert set(result['misclassification']['entropy']) == (
        {'average_precision', 'auroc', 'fpr95', 'ause'}
    )


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--max-pixels', '0'], '--max-pixels: 0, expected at least 1'),
        (['--score', 'energi'], "--score: 'energi' is none of energy, entropy"),
        (['--contact-sheet', 'nowhere/sheet.png'], '--contact-sheet: nowhere/sheet.png, expected'),
        (['--contact-sheet', 'sheet.jpg'], '--contact-sheet: sheet.jpg, expected a .png file'),
        (['--bundle', 'nowhere'], 'nowhere: no such bundle'),
    ],
)
def test_command_evaluate_says_what_is_wrong(fishyscapes, arguments, message, capsys):
    assert main(['evaluate', '--dataset', 'fishyscapes', str(fishyscapes), *arguments]) == 1
    assert message in capsys.readouterr().err


def test_command_results(bundle, tmp_path):
    data, page = tmp_path / 'data', tmp_path / 'results.md'
    outlier_set(data / 'ood' / 'fs_static')
    outlier_set(data / 'ood' / 'FS_LostFound_full')
    outlier_set(data / 'ood' / 'RoadAnomaly', outlier=2)
    camvid_set(data / 'camvid' / 'test')
    own = str(bundle.geometry.max_pixels)
    sizes = ['--max-pixels', '4608', '--max-pixels', own]
    assert main(['results', str(data), '--out', str(page), *sizes]) == 0
    text = page.read_text(encoding='utf-8')
    command = f'results DATA --max-pixels 4608 --max-pixels {own} --out results.md'
    assert f'seg-uncertainty {command}' in text
    headings = [line for line in text.splitlines() if line.startswith('#')]
    assert headings == [
        '# Results',
        '## Summary',
        '## camvid/test',
        '## fs_static',
        '## FS_LostFound_full',
        '## RoadAnomaly',
        '## Reported in the literature',
    ]
    assert str(tmp_path) not in text
    # The score of the summary is the best of fs_static.
    section = text.split('## fs_static')[1].split('##')[0]
    rows = [line.split('|') for line in section.splitlines() if line.startswith('| ')][1:]
    summary = text.split('## Summary')[1].split('##')[0].splitlines()
    small, large = ([cell.strip() for cell in line.split('|')] for line in summary[-3:-1])
    for line in (small, large):
        best = max(
            (row for row in rows if row[2].strip() == line[2]),
            key=lambda row: float(row[4].split()[0]),
        )
        assert line[3] == best[3].strip()
    # The mIoU stands where it was measured.
    assert small[4] == '–'
    assert large[4] in text.split('## camvid/test')[1]


def test_command_results_needs_all_sets(tmp_path, capsys):
    outlier_set(tmp_path / 'ood' / 'fs_static')
    assert main(['results', str(tmp_path), '--out', str(tmp_path / 'r.md')]) == 1
    assert 'test: no such folder, camvid needs it' in capsys.readouterr().err


def test_bundles_of_one_name_are_told_apart(bundle, tmp_path):
    twin = replace(bundle, path=tmp_path / 'runs' / 'b', digest='other')
    assert bundle_labels([bundle]) == {bundle.digest: bundle.name}
    labels = bundle_labels([bundle, twin])
    assert labels == {bundle.digest: 'models/default', 'other': 'runs/b'}
