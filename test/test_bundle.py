# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A bundle loads whole or says in one line what is wrong with it."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from seg_uncertainty_ros.bundle import GRAPH
from seg_uncertainty_ros.bundle import MANIFEST
from seg_uncertainty_ros.bundle import MAX_MANIFEST_BYTES
from seg_uncertainty_ros.bundle import REFERENCE
from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import BundleError
from seg_uncertainty_ros.bundle import Threshold
from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.frames import Frame
from seg_uncertainty_ros.pipeline import Pipeline
from seg_uncertainty_ros.segments.meta import LinearModel
from seg_uncertainty_ros.segments.meta import MetaModel


@pytest.fixture
def copy(bundle_path, tmp_path):
    """Return a copy of the bundle that ships."""
    return shutil.copytree(bundle_path, tmp_path / 'bundle')


def change(path, edit):
    """Edit the manifest of the bundle at ``path``."""
    manifest = json.loads((path / MANIFEST).read_text())
    edit(manifest)
    (path / MANIFEST).write_text(json.dumps(manifest))


def expect(path, *words):
    with pytest.raises(BundleError) as caught:
        Bundle.load(path)
    message = str(caught.value)
    assert '\n' not in message
    for word in (str(path), *words):
        assert word in message


def test_shipped_bundle_is_what_the_issue_asks_for(bundle):
    assert bundle.classes == CAMVID
    assert bundle.default_score in bundle.score_names
    asked = {'max_softmax', 'entropy', 'margin', 'max_logit', 'energy', 'pgn_onehot'}
    assert asked | {'pgn_uniform'} <= set(bundle.score_names)
    assert {'ood_area', 'low_confidence', 'domain_shift'} <= set(bundle.thresholds)
    assert all(threshold.reason for threshold in bundle.thresholds.values())
    assert sum(file.stat().st_size for file in bundle.path.iterdir()) <= 20e6
    assert bundle.provenance['camvid_val_miou'] >= 0.60


def test_write_and_load_give_the_same(bundle, copy):
    threshold = Threshold(0.5, 0.4, 'for the test')
    changed = replace(
        bundle, path=copy, name='other', thresholds={**bundle.thresholds, 'ood_area': threshold}
    )
    written = changed.write()
    assert written.name == 'other'
    assert written.thresholds['ood_area'] == threshold
    assert written.scores == bundle.scores
    assert written.geometry == bundle.geometry
    assert (written.reference.weight == bundle.reference.weight).all()
    assert written.digest == hashlib.sha256((copy / MANIFEST).read_bytes()).hexdigest()
    assert written.digest != bundle.digest


def meta_model(**changes):
    rows = {
        'scores': ('entropy', 'margin', 'pgn_onehot'),
        'features': ('log_area', 'ring_road'),
        'mean': (0.0, 1.0),
        'scale': (1.0, 2.0),
        'classification': LinearModel((1.0, -1.0), 0.5),
        'regression': LinearModel((0.5, 0.25), 0.0),
        'threshold': 0.2,
        'reason': 'for the test',
        'provenance': {'segments': 12},
    }
    return MetaModel(**{**rows, **changes})


def test_meta_model_is_part_of_the_manifest_where_there_is_one(bundle, copy):
    model = meta_model()
    assert replace(bundle, path=copy, segments=model).write().segments == model
    without = replace(Bundle.load(copy), segments=None).write()
    assert without.segments is None
    assert 'segments' not in json.loads((copy / MANIFEST).read_text())


@pytest.mark.parametrize(
    ('edit', 'words'),
    [
        (lambda s: s.pop('reason'), ['segments', 'reason']),
        (lambda s: s.update(threshold=1.5), ['segments.threshold', '1.5']),
        (lambda s: s['mean'].pop(), ['segments.mean', '1 values']),
        (lambda s: s.update(scale=[1.0, 0.0]), ['segments.scale', '0']),
        (lambda s: s['features'].reverse() or s['features'].pop(), ['segments.', 'values']),
        (lambda s: s.update(features=['log_area', 'ring_lava']), ['segments.', 'ring_lava']),
        (lambda s: s['scores'].pop(), ['segments.scores']),
        (
            lambda s: s.update(scores=['entropy', 'margin', 'guess']),
            ['segments.scores', 'guess', 'pgn_onehot'],
        ),
        (lambda s: s['classification'].update(intercept=float('nan')), ['segments', 'nan']),
        (lambda s: s['regression'].update(extra=1), ['segments.regression', 'extra']),
    ],
)
def test_meta_model_against_the_schema(bundle, copy, edit, words):
    replace(bundle, path=copy, segments=meta_model()).write()
    change(copy, lambda manifest: edit(manifest['segments']))
    expect(copy, *words)


def test_copies_of_a_read_only_bundle_can_be_written(bundle, copy, tmp_path):
    for file in copy.iterdir():
        file.chmod(0o444)
    out = tmp_path / 'out'
    out.mkdir()
    Bundle.load(copy).copy_files(out)
    assert all(file.stat().st_mode & 0o200 for file in out.iterdir())
    assert replace(bundle, path=out).write().reference.size == bundle.reference.size


def test_another_reference(bundle, copy, shift_reference):
    written = replace(bundle, path=copy, reference=shift_reference).write()
    assert written.reference.names == ('town',)
    assert written.reference.test == shift_reference.test
    assert (written.reference.domains[0].bound == shift_reference.domains[0].bound).all()
    assert written.digest != bundle.digest
    assert (copy / REFERENCE).stat().st_size < 2e6


def test_reference_to_other_classes(bundle, copy, shift_reference):
    data = shift_reference.domains[0]
    fewer = replace(shift_reference, domains=(replace(data, classes=data.classes[:5]),))
    with pytest.raises(BundleError, match=r'reference\.npz: 5 classes, the manifest has 11'):
        replace(bundle, path=copy, reference=fewer).write()


def test_exchanged_reference(bundle, copy, shift_reference):
    shift_reference.save(copy / REFERENCE)
    expect(copy, REFERENCE, 'bytes')
    data = bytearray((bundle.path / REFERENCE).read_bytes())
    data[-1] ^= 1
    (copy / REFERENCE).write_bytes(data)
    expect(copy, REFERENCE, 'sha256')


def test_without_a_reference(bundle, copy):
    written = replace(bundle, path=copy, reference=None).write()
    assert written.reference is None
    assert not (copy / REFERENCE).exists()
    assert Pipeline(written).process(Frame(np.zeros((64, 64, 3), np.uint8), 0)).embedding.size


def test_missing_bundle(tmp_path):
    expect(tmp_path / 'nowhere', 'no such bundle')


def test_path_that_the_system_refuses(tmp_path):
    expect(tmp_path / ('x' * 300), 'unreadable')


def test_missing_manifest(copy):
    (copy / MANIFEST).unlink()
    expect(copy, MANIFEST, 'unreadable')


@pytest.mark.parametrize('text', ['', '{', 'nonsense', '[' * 100_000])
def test_manifest_that_is_no_json(copy, text):
    (copy / MANIFEST).write_text(text)
    expect(copy, 'not JSON')


def test_manifest_too_large(copy):
    (copy / MANIFEST).write_text(' ' * (MAX_MANIFEST_BYTES + 1))
    expect(copy, 'more than')


@pytest.mark.parametrize(
    ('edit', 'words'),
    [
        (lambda m: m.pop('classes'), ['classes']),
        (lambda m: m.update(format=2), ['format', '1']),
        (lambda m: m.update(name='../up'), ['name', '../up']),
        (lambda m: m['geometry'].update(stride=0), ['geometry.stride', '0']),
        (lambda m: m['geometry'].update(max_pixels='many'), ['geometry.max_pixels', 'many']),
        (lambda m: m['classes'][2].update(color=[0, 0, 256]), ['classes.2.color.2', '256']),
        (lambda m: m['classes'][2].update(name='sky'), ['classes', 'sky', 'twice']),
        (lambda m: m.update(temperature=0), ['temperature', '0']),
        (lambda m: m.update(temperature=float('nan')), ['temperature', 'nan']),
        (lambda m: m['thresholds']['ood_area'].update(exit=1.0), ['ood_area', 'wrong side']),
        (
            lambda m: m['thresholds']['low_confidence'].update(exit=0.0),
            ['low_confidence', 'wrong side'],
        ),
        (lambda m: m.update(default_score='guess'), ['default_score', 'guess', 'entropy']),
        (lambda m: m['scores'][1]['knots'].reverse(), ['entropy', 'increasing']),
        (lambda m: m['scores'][1]['knots'].pop(), ['entropy', 'knots']),
        (lambda m: m['scores'][1]['knots'].__setitem__(3, float('nan')), ['entropy', 'knots']),
        (lambda m: m['thresholds'].pop('ood_area'), ['thresholds', 'ood_area']),
        (lambda m: m['thresholds']['ood_area'].pop('reason'), ['thresholds.ood_area', 'reason']),
        (lambda m: m['thresholds']['ood_area'].update(enter=float('inf')), ['ood_area', 'finite']),
        (lambda m: m['files'].pop(GRAPH), ['files', GRAPH]),
        (lambda m: m['files'].update({'../x': {'sha256': '0' * 64, 'bytes': 1}}), ['files']),
        (lambda m: m.update(surprise=1), ['surprise']),
    ],
)
def test_manifest_against_the_schema(copy, edit, words):
    change(copy, edit)
    expect(copy, *words)


def test_missing_file(copy):
    (copy / GRAPH).unlink()
    expect(copy, GRAPH, 'missing')


def test_wrong_size(copy):
    with (copy / GRAPH).open('ab') as file:
        file.write(b'x')
    expect(copy, GRAPH, 'bytes')


def test_wrong_hash(copy):
    data = bytearray((copy / GRAPH).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / GRAPH).write_bytes(data)
    expect(copy, GRAPH, 'sha256')


def test_damaged_reference_with_the_right_hash(copy):
    data = b'not an archive'
    (copy / REFERENCE).write_bytes(data)
    entry = {'sha256': hashlib.sha256(data).hexdigest(), 'bytes': len(data)}
    change(copy, lambda m: m['files'].update({REFERENCE: entry}))
    expect(copy, REFERENCE)
