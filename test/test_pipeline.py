# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The walk of a frame through the real graph."""

from __future__ import annotations

import hashlib
import json
import shutil

import cv2
import numpy as np
import pytest

from seg_uncertainty_ros.bundle import GRAPH
from seg_uncertainty_ros.bundle import MANIFEST
from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.frames import Frame
from seg_uncertainty_ros.frames import Geometry
from seg_uncertainty_ros.monitor.assessment import Observation
from seg_uncertainty_ros.pipeline import Pipeline
from seg_uncertainty_ros.pipeline import PipelineError
from seg_uncertainty_ros.pipeline import network_input
from seg_uncertainty_ros.procedural import parse_drive
from seg_uncertainty_ros.runtime.onnx_runtime import OnnxRuntime
from seg_uncertainty_ros.runtime.outputs import GraphError
from seg_uncertainty_ros.shift.image_statistics import image_statistics


@pytest.fixture(scope='module')
def pipeline(bundle):
    return Pipeline(bundle)


@pytest.fixture(scope='module')
def street():
    return parse_drive('procedural:seed=3,duration=1,rate=2').render(0)


@pytest.mark.parametrize(
    ('camera', 'network'),
    [
        ((360, 640), (352, 640)),
        ((360, 480), (352, 480)),
        ((540, 960), (384, 672)),
        ((1080, 1920), (384, 672)),
        ((1, 1), (32, 32)),
        ((40, 2000), (32, 1984)),
    ],
)
def test_network_size(camera, network):
    assert Geometry(32, 640 * 384).network_size(*camera) == network


@pytest.mark.parametrize(
    ('camera', 'network'),
    [((360, 480), (416, 576)), ((360, 640), (352, 640)), ((1080, 1920), (384, 672))],
)
def test_small_images_are_enlarged_where_there_is_room(camera, network):
    assert Geometry(32, 640 * 384, enlarge=1.19).network_size(*camera) == network


@pytest.mark.parametrize('size', [(360, 640), (361, 643), (1, 1), (720, 1280), (33, 500)])
def test_planes_have_the_size_of_the_camera(pipeline, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    result = pipeline.process(Frame(image, 1), keep_scores=True)
    for plane in (result.mask, result.confidence, result.anomaly):
        assert plane.shape == size
        assert plane.dtype == np.uint8
        assert plane.flags.c_contiguous
    assert result.mask.max() < len(pipeline.bundle.classes)
    assert set(result.scores) == set(pipeline.bundle.score_names)
    assert all(np.isfinite(plane).all() for plane in result.scores.values())
    assert result.embedding.shape == (pipeline.bundle.reference.size,)
    assert result.timings.total_s > 0


def test_planes_of_the_network_size(bundle, street):
    result = Pipeline(bundle, plane_size='network').process(Frame(street.image, 1))
    assert result.mask.shape == bundle.geometry.network_size(*street.image.shape[:2])


def test_same_frame_same_planes(pipeline, street):
    first, second = (pipeline.process(Frame(street.image, 1)) for _ in range(2))
    assert (first.mask == second.mask).all()
    assert (first.anomaly == second.anomaly).all()
    assert (first.embedding == second.embedding).all()


def test_a_street_is_recognised(pipeline, street):
    mask = pipeline.process(Frame(street.image, 1)).mask
    known = street.labels < len(pipeline.bundle.classes)
    assert (mask == street.labels)[known].mean() > 0.85


def test_anomaly_plane_is_the_calibrated_score(bundle, street):
    runtime = OnnxRuntime(bundle)
    rows, columns = bundle.geometry.network_size(*street.image.shape[:2])
    image = cv2.resize(street.image, (columns, rows))
    for index, score in enumerate(bundle.scores):
        outputs = runtime.run(image, index)
        values = np.linspace(0, 1, len(score.knots))
        expected = 255 * np.interp(outputs.scores[index].astype(np.float64), score.knots, values)
        assert np.abs(outputs.anomaly - expected).max() <= 1.0, score.name
        assert outputs.confidence == pytest.approx(255 * (1 - outputs.scores[0]), abs=0.51)


@pytest.mark.parametrize('plane_size', ['network', 'camera'])
def test_exact_anomaly_is_the_plane_without_its_steps(bundle, street, plane_size):
    pipeline = Pipeline(bundle, plane_size=plane_size)
    assert pipeline.process(street).exact_anomaly is None
    result = pipeline.process(street, exact_anomaly=True)
    exact = result.exact_anomaly
    assert (exact.dtype, exact.shape) == (np.float32, result.anomaly.shape)
    assert 0.0 <= exact.min() <= exact.max() <= 1.0
    # Up to a step of the graph, as above, and half a step of the resize.
    assert np.abs(exact * 255.0 - result.anomaly).max() <= 1.5
    assert len(np.unique(exact)) > 256


def test_dispersion_is_the_raw_scores_at_the_size_of_the_logits(bundle, street, pipeline):
    names = ('margin', 'entropy', 'pgn_uniform')
    result = Pipeline(bundle, plane_size='network', dispersion=names).process(
        Frame(street.image, 1), keep_scores=True
    )
    rows, columns = result.mask.shape
    assert result.dispersion.shape == (rows // 4, columns // 4, 3)
    assert result.dispersion.dtype == np.float32
    for index, name in enumerate(names):
        expected = cv2.resize(result.dispersion[..., index], (columns, rows))
        np.testing.assert_allclose(result.scores[name], expected, rtol=1e-5)
    if bundle.segments is None:
        assert pipeline.process(Frame(street.image, 1)).dispersion is None
    with pytest.raises(PipelineError, match=r"dispersion: 'odd' is none of .*entropy"):
        Pipeline(bundle, dispersion=('odd',))


def test_image_statistics_are_those_of_what_the_network_took(bundle, street, pipeline):
    statistics = pipeline.process(Frame(street.image, 1)).image_statistics
    assert statistics == image_statistics(network_input(street.image, bundle.geometry))
    darker = pipeline.process(Frame(street.image // 2, 1)).image_statistics
    assert darker.brightness == pytest.approx(statistics.brightness / 2, abs=0.01)
    assert Observation.of(pipeline.process(Frame(street.image, 1)), 1).image_statistics


def test_score_changes_while_running(pipeline, street):
    planes = {}
    for name in ('entropy', 'energy'):
        pipeline.anomaly_score = name
        assert pipeline.anomaly_score == name
        planes[name] = pipeline.process(Frame(street.image, 1)).anomaly
    pipeline.anomaly_score = pipeline.bundle.default_score
    assert (planes['entropy'] != planes['energy']).any()


def test_unknown_score(pipeline):
    with pytest.raises(PipelineError, match=r"'odd' is none of .*entropy"):
        pipeline.anomaly_score = 'odd'
    assert pipeline.anomaly_score == pipeline.bundle.default_score


def test_unknown_plane_size(bundle):
    with pytest.raises(PipelineError, match="plane_size: 'huge'"):
        Pipeline(bundle, plane_size='huge')


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_image_of_the_wrong_kind(pipeline, image):
    with pytest.raises(PipelineError, match='expected uint8 HxWx3'):
        pipeline.process(Frame(image, 1))


def with_graph(bundle_path, tmp_path, data):
    """Return a bundle whose graph is ``data``, with a manifest that agrees."""
    path = shutil.copytree(bundle_path, tmp_path / 'bundle')
    (path / GRAPH).write_bytes(data)
    manifest = json.loads((path / MANIFEST).read_text())
    digest = hashlib.sha256(data).hexdigest()
    manifest['files'][GRAPH] = {'sha256': digest, 'bytes': len(data)}
    (path / MANIFEST).write_text(json.dumps(manifest))
    return Bundle.load(path)


def test_graph_that_is_no_onnx(bundle_path, tmp_path):
    with pytest.raises(GraphError, match=r'graph\.onnx: ONNX Runtime cannot load it'):
        Pipeline(with_graph(bundle_path, tmp_path, b'no graph'))


def test_graph_with_other_inputs_and_outputs(bundle_path, tmp_path, onnx):
    value = onnx.helper.make_tensor_value_info('image', onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node('Identity', ['image'], ['logits'])],
        'other',
        [value],
        [onnx.helper.make_tensor_value_info('logits', onnx.TensorProto.FLOAT, [1])],
    )
    opset = onnx.helper.make_opsetid('', 18)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
    with pytest.raises(GraphError, match=r'inputs .*expected'):
        Pipeline(with_graph(bundle_path, tmp_path, model.SerializeToString()))


def test_camvid_val_is_segmented(pipeline, data_dir):
    """Every eighth image of CamVid val; the whole set is in the model card."""
    right = total = 0
    for path in sorted((data_dir / 'camvid' / 'val').glob('*.jpg'))[::8]:
        labels = cv2.imread(
            str(data_dir / 'camvid' / 'valannot' / f'{path.stem}.png'), cv2.IMREAD_GRAYSCALE
        )
        mask = pipeline.process(Frame(cv2.imread(str(path)), 1)).mask
        known = labels < len(pipeline.bundle.classes)
        right += int((mask == labels)[known].sum())
        total += int(known.sum())
    assert right / total > 0.88
