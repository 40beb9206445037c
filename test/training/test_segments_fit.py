# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The fit of the meta model: targets, folds, thresholds, and the whole on procedural drives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from seg_uncertainty_ros.cli import main
from seg_uncertainty_ros.monitor.config import AnomalyConfig
from seg_uncertainty_ros.procedural import KINDS
from seg_uncertainty_ros.procedural import Drive
from seg_uncertainty_ros.procedural import UnknownEvent
from seg_uncertainty_ros.segments.components import find
from seg_uncertainty_ros.segments.features import DISPERSION
from seg_uncertainty_ros.segments.meta import MetaModel
from seg_uncertainty_ros.training import segments
from seg_uncertainty_ros.training.segments import SegmentFitError
from seg_uncertainty_ros.training.segments import SegmentTable


def test_targets_by_hand():
    anomaly = np.zeros((20, 30), np.uint8)
    unknown = np.zeros((20, 30), np.uint8)
    unknown[5:15, 5:15] = 1
    unknown[0:2, 0:2] = 1
    anomaly[5:15, 2:8] = 255  # 30 of its 60 pixels on the first object
    anomaly[5:9, 10:15] = 255  # 20 pixels, all on it
    anomaly[0:3, 25:28] = 255  # nowhere
    iou, number = segments.compare(find(anomaly, threshold=0.5), unknown)
    # The object has 100 pixels, 50 of which no segment covers.
    assert iou.tolist() == [30 / (60 + 50), 20 / (20 + 50), 0]
    assert number.tolist() == [1, 1, -1]
    nothing, none = segments.compare(find(anomaly, threshold=0.5), np.zeros_like(unknown))
    assert nothing.tolist() == [0, 0, 0]
    assert none.tolist() == [-1, -1, -1]


def test_an_object_is_as_probable_as_its_best_segment():
    best = segments.best_of(np.array([0.1, 0.9, 0.4, 0.2]), np.array([4, -1, 4, 2]))
    assert best.tolist() == [0.2, 0.4]


@pytest.mark.parametrize(('count', 'lost'), [(10, 0), (20, 1), (39, 1), (40, 2)])
def test_threshold_loses_no_more_than_it_may(count, lost):
    values = np.random.default_rng(0).random(count)
    threshold = segments.loss_threshold(values)
    assert (values < threshold).sum() == lost
    assert threshold in values


def table_of(rng, groups=30, size=12, features=4):
    """Return segments whose first feature tells true ones, and whose group shifts the second."""
    true = rng.random(groups * size) < 0.3
    group = np.repeat(np.arange(groups), size)
    values = rng.normal(size=(groups * size, features))
    values[:, 0] = 100 + 10 * (values[:, 0] + 2.5 * true)
    values[:, 1] += group
    iou = np.where(true, rng.uniform(0.1, 0.9, len(true)), 0.0)
    number = np.where(true, np.arange(len(true)), -1)
    return SegmentTable(values, iou, number, np.char.add('g', group.astype(str)))


def test_classification_is_that_of_scikit_learn():
    table = table_of(np.random.default_rng(0))
    classification, regression = segments.fit_linear(table)
    mean, scale = table.features.mean(axis=0), table.features.std(axis=0)
    names = ('log_area', 'fill', 'top', 'bottom')
    model = MetaModel(
        DISPERSION, names, tuple(mean), tuple(scale), classification, regression, 0.5, 'test', {}
    )
    z = (table.features - mean) / scale
    expected = LogisticRegression(C=segments.INVERSE_PENALTY, max_iter=5000).fit(z, table.true)
    verdicts = model.predict(table.features)
    np.testing.assert_allclose(verdicts.probability, expected.predict_proba(z)[:, 1], atol=1e-6)
    assert np.abs(verdicts.iou[table.true] - table.iou[table.true]).mean() < 0.25


def test_held_out_figures_of_a_feature_that_tells_and_of_none():
    table = table_of(np.random.default_rng(0))
    held_out = segments.cross_validate(table)
    assert held_out.objects == held_out.true == table.true.sum()
    assert held_out.auroc > 0.93
    assert held_out.removed > 0.6
    assert held_out.lost <= 0.05
    assert held_out.nested_lost < 0.12
    noise = np.random.default_rng(1).normal(size=table.features.shape)
    blind = segments.cross_validate(SegmentTable(noise, table.iou, table.object, table.group))
    assert abs(blind.auroc - 0.5) < 0.12
    assert blind.removed < 0.25


def test_too_few_groups_are_refused():
    table = table_of(np.random.default_rng(0), groups=2)
    with pytest.raises(SegmentFitError, match='2 groups with true segments, expected at least 3'):
        segments.cross_validate(table)


def test_fit_on_a_drive_past_unknown_objects(bundle):
    kinds = (*KINDS, *KINDS)[:8]
    events = tuple(UnknownEvent(3 * i, 3 * i + 2.5, kind) for i, kind in enumerate(kinds))
    drive = Drive(600, rate_hz=1.0, duration_s=24.0, events=events)
    frames = [
        replace(frame, group=str(index // 3))
        for index, frame in enumerate(segments.drive_frames(drive, 'drive'))
    ]
    # A low threshold gives enough segments on few frames.
    model, held_out = segments.fit_segments(bundle, frames, AnomalyConfig(threshold=0.4))
    assert held_out.objects >= 5
    assert held_out.auroc > 0.7
    assert model.threshold == held_out.threshold
    assert model.provenance['anomaly_threshold'] == 0.4
    assert MetaModel.from_dict(model.to_dict()) == model


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        (('--out', '.'), '--out .: exists and is not an empty directory'),
        (('--out', 'new', '--drives', '-1'), '--drives: -1, expected at least 0'),
    ],
)
def test_bad_options_are_refused_before_the_work(
    bundle, tmp_path, monkeypatch, capsys, option, words
):
    (tmp_path / 'file').touch()
    monkeypatch.chdir(tmp_path)
    arguments = ('--data', 'nowhere', *option)
    assert main(['fit-segments', str(bundle.path), *arguments]) == 1
    assert words in capsys.readouterr().err
