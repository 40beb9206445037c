# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Temperature, reliability and score scales, against known truths; a bundle calibrated anew."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest

from seg_uncertainty_ros.bundle import GRAPH
from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.classes import UNLABELLED
from seg_uncertainty_ros.cli import main
from seg_uncertainty_ros.evaluation.calibration import CalibrationDataError
from seg_uncertainty_ros.evaluation.calibration import ProbabilityMetrics
from seg_uncertainty_ros.evaluation.calibration import ReliabilityBins
from seg_uncertainty_ros.evaluation.calibration import ScoreQuantiles
from seg_uncertainty_ros.evaluation.calibration import TemperatureFit
from seg_uncertainty_ros.evaluation.calibration import rates
from seg_uncertainty_ros.evaluation.images import open_images
from seg_uncertainty_ros.evaluation.reliability import save_reliability
from seg_uncertainty_ros.frames import Frame
from seg_uncertainty_ros.pipeline import Pipeline
from seg_uncertainty_ros.procedural import random_scene
from seg_uncertainty_ros.runtime.outputs import GraphError

IMAGES = 10


def draw(seed=0, pixels=40_000, classes=6):
    """Return logits SxN and labels drawn from their softmax."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (classes, pixels)).astype(np.float32)
    p = np.exp(logits)
    labels = (np.cumsum(p / p.sum(axis=0), axis=0) < rng.random(pixels)).sum(axis=0)
    return logits, np.minimum(labels, classes - 1)


def nll(logits, labels, temperature):
    z = logits.astype(float) / temperature
    return (np.log(np.exp(z).sum(axis=0)) - z[labels, np.arange(len(labels))]).mean()


@pytest.mark.parametrize('factor', [0.15, 1.0, 2.5, 7.0])
def test_temperature_is_found_again_and_is_the_minimum(factor):
    logits, labels = draw()
    fit = TemperatureFit()
    for part in np.array_split(np.arange(len(labels)), 7):
        fit.update(factor * logits[:, part], labels[part])
    found = fit.temperature()
    assert found == pytest.approx(factor, rel=0.02)
    assert abs(found - factor) < 4 * fit.standard_error() < 0.1 * factor
    fine = found * (1 + 0.001 * np.arange(-5, 6))
    best = fine[np.argmin([nll(factor * logits, labels, t) for t in fine])]
    assert best == pytest.approx(found, rel=1.1e-3)


def test_temperature_that_cannot_be_fitted():
    with pytest.raises(CalibrationDataError, match='no labelled pixels'):
        TemperatureFit().temperature()
    logits, labels = draw()
    fit = TemperatureFit()
    fit.update(20 * logits, labels)
    with pytest.raises(CalibrationDataError, match='above 8'):
        fit.temperature()
    fit = TemperatureFit()
    fit.update(logits, logits.argmax(axis=0))
    with pytest.raises(CalibrationDataError, match=r'below 0\.125'):
        fit.temperature()


def naive_bins(confidence, correct):
    edges = np.linspace(0, 1, 16)
    for low, high in pairwise(edges):
        inside = (confidence >= low) & ((confidence < high) | (high == 1))
        if inside.any():
            yield inside.mean(), abs(confidence[inside].mean() - correct[inside].mean())


def test_reliability_equals_the_definition():
    rng = np.random.default_rng(1)
    confidence = np.append(rng.beta(4, 1, 30_000), [0.0, 1.0, 1.0])
    correct = rng.random(len(confidence)) < confidence**2
    bins = ReliabilityBins()
    for part in np.array_split(np.arange(len(confidence)), 9):
        bins.update(confidence[part], correct[part])
    naive = list(naive_bins(confidence, correct))
    assert bins.ece() == pytest.approx(sum(share * gap for share, gap in naive))
    assert bins.mce() == pytest.approx(max(gap for _, gap in naive))
    assert bins.accuracy() == pytest.approx(correct.mean())
    parts = np.array_split(np.argsort(confidence), 15)
    gaps = [len(i) * abs(confidence[i].mean() - correct[i].mean()) for i in parts]
    assert bins.adaptive_ece() == pytest.approx(sum(gaps) / len(confidence), rel=0.02)
    pixels = bins.equal_mass()[0]
    assert pixels.sum() == len(confidence)
    np.testing.assert_allclose(pixels, len(confidence) / 15, rtol=0.05)


def test_probabilities_are_worst_where_they_claim_too_much():
    logits, labels = draw()
    right, sharp = ProbabilityMetrics(), ProbabilityMetrics()
    right.update(logits, labels)
    sharp.update(2 * logits, labels)
    p = np.exp(logits.astype(float))
    p /= p.sum(axis=0)
    truth = np.eye(len(p))[labels].T
    assert right.nll() == pytest.approx(nll(logits, labels, 1.0))
    assert right.brier() == pytest.approx(((p - truth) ** 2).sum(axis=0).mean())
    assert right.bins.ece() < 0.01 < 0.05 < sharp.bins.ece()
    tempered = ProbabilityMetrics()
    tempered.update(2 * logits, labels, 2.0)
    assert tempered.nll() == pytest.approx(right.nll())


@pytest.mark.parametrize('scale', [1.0, -1e4, 1e-6])
def test_quantiles_of_a_stream(scale):
    scores = scale * np.random.default_rng(2).gamma(2.0, 1.0, (2, 300_000)).astype(np.float32)
    scores[1] -= 3 * scale
    quantiles = ScoreQuantiles(('a', 'b'))
    for part in np.array_split(scores, 20, axis=1):
        quantiles.update(part)
    falling = -np.sort(-scores.astype(float), axis=1)
    rank = np.round(rates() * scores.shape[1]).astype(int)
    # Two neighbours in rank may lie far apart; between them any value is right.
    above = falling[:, np.maximum(rank - 2, 0)]
    below = falling[:, np.minimum(rank + 1, scores.shape[1] - 1)]
    found = quantiles.upper(rates())
    width = 2.0**-9 * np.abs(found)
    assert (found <= above + width).all()
    assert (found >= below - width).all()
    middle = (rank > 1000) & (rank < 250_000)
    exact = np.quantile(scores.astype(float), 1 - rates()[middle], axis=1).T
    np.testing.assert_allclose(found[:, middle], exact, rtol=2.0**-9)


def test_knots_are_false_positive_rates_on_other_data():
    rng = np.random.default_rng(3)
    seen, unseen = rng.gamma(2.0, 1.0, (2, 1, 500_000)).astype(np.float32)
    quantiles = ScoreQuantiles(('a',))
    quantiles.update(seen)
    knots = quantiles.knots()[0]
    for value, knot in zip(np.linspace(0, 1, len(knots)), knots, strict=True):
        nominal = 10 ** (-4 * value)
        noise = 4 * np.sqrt(2 * nominal / unseen.size) / nominal  # both samples are finite
        assert (unseen >= knot).mean() == pytest.approx(nominal, rel=0.01 + noise)


def test_knots_of_a_saturated_score_still_rise():
    quantiles = ScoreQuantiles(('zero', 'five'))
    quantiles.update(np.repeat(np.float32([[0], [5]]), 1000, axis=1))
    knots = quantiles.knots().astype(np.float32)
    assert (np.diff(knots) > 0).all()
    np.testing.assert_allclose(knots, [[0] * 9, [5] * 9], rtol=2.0**-8, atol=1e-9)


def test_a_score_that_is_not_finite_is_named():
    with pytest.raises(CalibrationDataError, match='score entropy: nan'):
        ScoreQuantiles(('entropy',)).update(np.float32([[1.0, np.nan]]))


def test_reliability_diagram_shows_the_gap(tmp_path):
    logits, labels = draw()
    sharp, right = ProbabilityMetrics(), ProbabilityMetrics()
    sharp.update(3 * logits, labels)
    right.update(logits, labels)
    orange = []
    for name, metrics in {'sharp': sharp, 'right': right}.items():
        save_reliability(tmp_path / f'{name}.png', {name: metrics.bins})
        blue, green, red = np.moveaxis(cv2.imread(str(tmp_path / f'{name}.png')).astype(int), 2, 0)
        orange.append(((red > 220) & (green < 130) & (blue < 60)).sum())
    assert orange[0] > 3 * orange[1]
    save_reliability(tmp_path / 'both.png', {'a': sharp.bins, 'b': right.bins})
    one, two = (cv2.imread(str(tmp_path / f'{x}.png')).shape for x in ('sharp', 'both'))
    assert two[0] == one[0]
    assert two[1] == 2 * one[1]


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """Return a folder with images/ and labels/ of procedural scenes, each also mirrored."""
    root = tmp_path_factory.mktemp('scenes')
    for folder in ('images', 'labels'):
        (root / folder).mkdir()
    for seed in range(IMAGES // 2):
        scene = random_scene(700 + seed, 480, 352)
        labels = np.where(scene.labels == UNLABELLED, len(CAMVID), scene.labels).astype(np.uint8)
        for name, step in ((f'{seed}', 1), (f'{seed}m', -1)):
            cv2.imwrite(str(root / 'images' / f'{name}.png'), scene.image[:, ::step])
            cv2.imwrite(str(root / 'labels' / f'{name}.png'), labels[:, ::step])
    return root


@pytest.fixture(scope='module')
def calibrated(bundle, scenes, tmp_path_factory, onnx):
    """Return a sharpened copy of the bundle that ships, its calibration and the report."""
    from seg_uncertainty_ros.runtime.calibrated_graph import CalibratedGraph

    root = tmp_path_factory.mktemp('calibrated')
    sharp = shutil.copytree(bundle.path, root / 'sharp')
    graph = CalibratedGraph(bundle)
    graph.set_temperature(0.4)
    graph.save(sharp / GRAPH)
    replace(bundle, path=sharp, temperature=0.4).write()
    out, report = root / 'new', root / 'report'
    arguments = ('--data', scenes, '--out', out, '--report', report)
    assert main(['calibrate-scores', str(sharp), *map(str, arguments)]) == 0
    return sharp, out, report


def test_command_undoes_a_sharpened_softmax(calibrated):
    sharp, out, report = (calibrated[0], Bundle.load(calibrated[1]), calibrated[2])
    assert Bundle.load(sharp).temperature == 0.4
    assert 0.6 < out.temperature < 4
    text = (report / 'calibration.md').read_text()
    rows = [line.split('|') for line in text.splitlines() if 'T = ' in line and '|' in line]
    before, after, held_before, held_after = (
        {'nll': float(row[2]), 'ece': float(row[4])} for row in rows
    )
    for key in ('nll', 'ece'):
        assert after[key] < before[key]
        assert held_after[key] < held_before[key]
    assert text in (out.path / 'MODEL_CARD.md').read_text().replace('## ', '# ')
    assert cv2.imread(str(report / 'reliability.png')) is not None


def test_new_bundle_says_where_it_comes_from(calibrated, bundle):
    old, new = (Bundle.load(path) for path in calibrated[:2])
    made = new.provenance['calibration']
    assert made['from_bundle'] == old.digest
    assert made['images'] == IMAGES
    rows, columns = old.geometry.network_size(352, 480)
    assert 100_000 <= made['pixels'] <= IMAGES * rows * columns // 16
    assert 'kept' in made['thresholds']
    assert new.thresholds == bundle.thresholds
    assert new.provenance['commit'] == bundle.provenance['commit']


def test_anomaly_plane_is_the_map_of_the_manifest(calibrated, scenes):
    """The graph maps as numpy does by the knots of the manifest, and by no older ones."""
    new = Bundle.load(calibrated[1])
    image = cv2.imread(str(scenes / 'images' / '3.png'))
    for score in (new.default_score, 'max_softmax', 'pgn_onehot'):
        pipeline = Pipeline(new, score=score, plane_size='network')
        outputs = pipeline.runtime.run(image, new.score_names.index(score))
        index = new.score_names.index(score)
        knots = new.scores[index].knots
        expected = np.interp(outputs.scores[index], knots, np.linspace(0, 1, len(knots)))
        np.testing.assert_allclose(outputs.anomaly, 255 * expected, atol=0.6)
        np.testing.assert_allclose(outputs.confidence, 255 * (1 - outputs.scores[0]), atol=0.6)
        assert 20 < outputs.anomaly.mean() < 90  # E[a] of an in-distribution pixel is 255 * 0.11


def test_labels_do_not_depend_on_the_temperature(calibrated, scenes):
    image = cv2.imread(str(scenes / 'images' / '3.png'))
    old, new = (
        Pipeline(Bundle.load(path)).process(Frame(image, 0)).mask for path in calibrated[:2]
    )
    np.testing.assert_array_equal(old, new)


def test_a_calibrated_bundle_can_be_calibrated_again(calibrated, scenes, tmp_path, capsys):
    arguments = ('--data', scenes, '--out', tmp_path / 'again', '--keep-temperature')
    assert main(['calibrate-scores', str(calibrated[1]), *map(str, arguments)]) == 0
    once, again = (Bundle.load(path) for path in (calibrated[1], tmp_path / 'again'))
    assert again.temperature == once.temperature
    for first, second in zip(once.scores, again.scores, strict=True):
        np.testing.assert_allclose(first.knots, second.knots, rtol=1e-5)
    assert (
        'thresholds of the monitor and a meta model of segments were kept'
        in capsys.readouterr().err
    )


def refused(bundle, capsys, tmp_path, *data, options=()):
    pytest.importorskip('onnx', reason='onnx belongs to the extra dev')
    arguments = ['calibrate-scores', bundle.path, '--data', *data, '--out', tmp_path / 'x']
    assert main([*map(str, arguments), *options]) == 1
    assert not (tmp_path / 'x' / GRAPH).exists()
    lines = capsys.readouterr().err.splitlines()
    return next(line for line in lines if line.startswith('seg-uncertainty: '))


def few(scenes, tmp_path, count, label=None):
    """Copy the first images, with these labels instead."""
    for folder in ('images', 'labels'):
        (tmp_path / 'data' / folder).mkdir(parents=True)
        for file in sorted((scenes / folder).iterdir())[:count]:
            shutil.copy(file, tmp_path / 'data' / folder)
    if label is not None:
        for file in (tmp_path / 'data' / 'labels').iterdir():
            cv2.imwrite(str(file), label(cv2.imread(str(file), cv2.IMREAD_UNCHANGED)))
    return tmp_path / 'data'


def test_too_few_images(bundle, scenes, tmp_path, capsys):
    error = refused(bundle, capsys, tmp_path, few(scenes, tmp_path, 4))
    assert '4 images' in error
    assert 'needed 10' in error


def test_report_that_cannot_be_written(bundle, scenes, tmp_path, capsys):
    (tmp_path / 'file').touch()
    options = ['--report', str(tmp_path / 'file')]
    error = refused(bundle, capsys, tmp_path, scenes, options=options)
    assert 'File exists' in error


def test_no_labels(bundle, scenes, tmp_path, capsys):
    error = refused(bundle, capsys, tmp_path, scenes / 'images')
    assert 'temperature: 0 images with labels' in error


def test_too_few_pixels(bundle, tmp_path, capsys):
    drive = 'procedural:seed=3,width=96,height=64,duration=2.5,rate=4'
    error = refused(bundle, capsys, tmp_path, drive, options=['--keep-temperature'])
    rows, columns = bundle.geometry.network_size(64, 96)
    pixels = 10 * rows * columns // 16  # ten frames
    assert f'{pixels} known pixels' in error
    assert 'needed 100000' in error
    assert f'about {-(-10 * 100_000 // pixels)} such images' in error


def test_a_second_half_that_cannot_be_read(bundle, scenes, tmp_path, capsys, onnx):
    images = few(scenes, tmp_path, IMAGES) / 'images'
    for index in range(IMAGES):
        (images / f'z{index}.png').write_bytes(b'not a PNG')
    arguments = ('--data', images, '--out', tmp_path / 'x', '--keep-temperature')
    assert main(['calibrate-scores', str(bundle.path), *map(str, arguments)]) == 1
    error = capsys.readouterr().err
    assert 'of 20 images 10 can be read, none in a second half' in error
    assert 'skipped: images: z9.png' in error


@pytest.mark.parametrize(
    ('label', 'words'),
    [
        (lambda x: (x + 5) % 11, ['the model is right on', 'ids of its classes']),
        (
            lambda x: np.where(x == 3, 200, x).astype(np.uint8),
            ['value 200', '10, 11, 255 (class ids)'],
        ),
        (lambda x: cv2.merge([x, x, x]), ['(352, 480, 3)', 'one channel of 8 bits']),
        (lambda x: x[::2], ['480x176, not the aspect ratio', '480x352']),
        (lambda x: np.full_like(x, 255), ['not one labelled pixel']),
    ],
)
def test_wrong_labels(bundle, scenes, tmp_path, capsys, label, words):
    error = refused(bundle, capsys, tmp_path, few(scenes, tmp_path, IMAGES, label))
    for word in words:
        assert word in error


def test_missing_label(bundle, scenes, tmp_path, capsys):
    data = few(scenes, tmp_path, IMAGES)
    (data / 'labels' / '2.png').unlink()
    error = refused(bundle, capsys, tmp_path, data)
    assert 'labels/2.png: missing' in error


def test_graph_without_its_calibration(bundle, tmp_path, onnx):
    from seg_uncertainty_ros.runtime.calibrated_graph import CalibratedGraph

    with pytest.raises(GraphError, match='manifest says temperature 3'):
        CalibratedGraph(replace(bundle, temperature=3.0))
    model = onnx.load(bundle.graph)
    for tensor in model.graph.initializer:
        if tensor.name == 'scale.lower':
            model.graph.initializer.remove(tensor)
            break
    onnx.save(model, tmp_path / GRAPH)
    with pytest.raises(GraphError, match=r"no tensor 'scale\.lower'"):
        CalibratedGraph(replace(bundle, path=tmp_path))


def test_graph_that_cannot_be_run(bundle, tmp_path, onnx):
    from seg_uncertainty_ros.runtime.calibrated_graph import CalibratedGraph

    model = onnx.load(bundle.graph)
    onnx.save(model, tmp_path / GRAPH)
    session = CalibratedGraph(replace(bundle, path=tmp_path)).session()
    with pytest.raises(GraphError, match=r'failed on \(7, 9, 3\)'):
        session.run(np.zeros((7, 9, 3), np.uint8))
    model.opset_import[0].version = 999
    onnx.save(model, tmp_path / GRAPH)
    with pytest.raises(GraphError, match=r'graph\.onnx: ONNX Runtime cannot load it'):
        CalibratedGraph(replace(bundle, path=tmp_path)).session()


def test_layouts_of_labelled_folders(scenes, tmp_path):
    for folder, name in (('images', 'val'), ('labels', 'valannot')):
        (tmp_path / 'camvid').mkdir(exist_ok=True)
        (tmp_path / 'camvid' / name).symlink_to(scenes / folder)
    for path in (scenes, tmp_path / 'camvid'):
        images = open_images(str(path), len(CAMVID))
        assert images.labelled
        assert len(images) == IMAGES
        first, second = images.read(0, 2)  # 0 and its mirror image, in natural order
        np.testing.assert_array_equal(first.labels, second.labels[:, ::-1])
        assert first.image.shape[:2] == first.labels.shape
    assert not open_images(str(scenes / 'images'), len(CAMVID)).labelled


def test_temperature_of_the_shipped_bundle_on_camvid(bundle, data_dir, onnx):
    """What torch once fitted on CamVid val, found again from the ONNX file."""
    from seg_uncertainty_ros.evaluation.recalibration import known_pixels
    from seg_uncertainty_ros.runtime.calibrated_graph import CalibratedGraph

    images = open_images(str(data_dir / 'camvid'), len(bundle.classes))
    session = CalibratedGraph(bundle).session()
    fit, metrics = TemperatureFit(), ProbabilityMetrics()
    for index in range(0, len(images), 10):
        (image,) = images.read(index, index + 1)
        pixels = known_pixels(session, image, bundle.geometry)
        fit.update(pixels.logits, pixels.labels)
        metrics.update(pixels.logits, pixels.labels)
    assert fit.temperature() == pytest.approx(1.0, abs=4 * fit.standard_error())
    assert fit.standard_error() < 0.06
    assert metrics.bins.ece() < 0.03
