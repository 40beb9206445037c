# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The bundle's graph in other precisions and on OpenVINO, and what is lost by it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from seg_uncertainty_ros.bundle import GRAPH
from seg_uncertainty_ros.bundle import MODEL_CARD
from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.cli import main
from seg_uncertainty_ros.evaluation.parity import CheckSet
from seg_uncertainty_ros.evaluation.parity import ParityError
from seg_uncertainty_ros.evaluation.parity import Tolerance
from seg_uncertainty_ros.evaluation.parity import compare
from seg_uncertainty_ros.evaluation.parity import gate
from seg_uncertainty_ros.frames import Frame
from seg_uncertainty_ros.pipeline import network_input
from seg_uncertainty_ros.procedural import random_scene
from seg_uncertainty_ros.runtime import openvino_runtime
from seg_uncertainty_ros.runtime.calibrated_graph import CLASSIFIER
from seg_uncertainty_ros.runtime.calibrated_graph import CalibratedGraph
from seg_uncertainty_ros.runtime.onnx_runtime import OnnxRuntime
from seg_uncertainty_ros.runtime.openvino_runtime import OpenVinoRuntime
from seg_uncertainty_ros.runtime.outputs import GraphError
from seg_uncertainty_ros.runtime.precision import PrecisionError
from seg_uncertainty_ros.runtime.precision import write_graph

SIZE = (320, 192)
COUNT = 4


@pytest.fixture(scope='module')
def scenes():
    return [random_scene(seed, *SIZE) for seed in range(COUNT)]


@pytest.fixture(scope='module')
def frames(scenes):
    return [Frame(scene.image, index) for index, scene in enumerate(scenes)]


@pytest.fixture(scope='module')
def images(frames, bundle):
    return [network_input(frame.image, bundle.geometry) for frame in frames]


@pytest.fixture(scope='module')
def graphs(bundle, frames, onnx, tmp_path_factory):
    """Return the files of the graph that ships, by precision."""
    assert onnx
    folder = tmp_path_factory.mktemp('graphs')
    files = {name: folder / f'{name}.onnx' for name in ('fp32', 'fp16', 'int8')}
    for name, path in files.items():
        write_graph(bundle, name, path, frames)
    return files


@pytest.fixture(scope='module')
def check_data(scenes, tmp_path_factory):
    """Return a folder with the scenes and their classes, and with a box that is an outlier."""
    root = tmp_path_factory.mktemp('check')
    val, annotations, outliers = 'camvid/val', 'camvid/valannot', 'ood/fs_static'
    for folder in (val, annotations, f'{outliers}/images', f'{outliers}/labels'):
        (root / folder).mkdir(parents=True)
    for index, scene in enumerate(scenes):
        name = f'{index}.png'
        labels = np.where(scene.labels < len(CAMVID), scene.labels, len(CAMVID)).astype(np.uint8)
        boxed, box = scene.image.copy(), np.zeros_like(labels)
        cv2.rectangle(boxed, (60, 120), (140, 170), (255, 0, 255), cv2.FILLED)
        cv2.rectangle(box, (60, 120), (140, 170), 1, cv2.FILLED)
        written = [(val, scene.image), (annotations, labels)]
        written += [(f'{outliers}/images', boxed), (f'{outliers}/labels', box)]
        assert all(cv2.imwrite(str(root / folder / name), image) for folder, image in written)
    return root


@pytest.fixture(scope='module')
def check_set(check_data):
    return CheckSet.open(check_data)


def typed(onnx, path):
    """Return the nodes of a graph, and the element types of its tensors."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return model.graph.node, types | {t.name: t.data_type for t in model.graph.initializer}


def steps(bundle, plane, other, score):
    """Return how far two raw planes are apart, in steps of 8 bits on the bundle's scale."""
    knots = bundle.scores[score].knots
    values = np.linspace(0, 255, len(knots))
    return np.abs(np.interp(plane, knots, values) - np.interp(other, knots, values))


def test_fp32_is_the_graph_itself(bundle, graphs):
    assert graphs['fp32'].read_bytes() == bundle.graph.read_bytes()


def test_fp16_is_half_in_the_network_and_single_in_the_head(bundle, onnx, graphs):
    nodes, types = typed(onnx, graphs['fp16'])
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    for node in nodes:
        if node.op_type in ('Conv', 'Resize', 'ArgMax', 'GlobalAveragePool'):
            expected = half if node.input[0] != 'conv2d_63_single' else single
            assert types[node.input[0]] == expected, node.name
        if node.op_type in ('Exp', 'Log', 'Sqrt', 'Sigmoid', 'MatMul', 'Round'):
            assert types[node.input[0]] == single, node.name
    assert graphs['fp16'].stat().st_size < 0.51 * bundle.graph.stat().st_size
    assert types['scores'] == half
    assert types['embedding'] == single


def test_fp16_casts_once_where_the_precisions_meet(onnx, graphs):
    nodes, types = typed(onnx, graphs['fp16'])
    casts = [node for node in nodes if node.op_type == 'Cast']
    made_by_cast = {node.output[0] for node in casts}
    assert not [node.name for node in casts if node.input[0] in made_by_cast]
    # The pixels arrive as bytes and go on in half precision at once.
    users = [node for node in nodes if 'image' in node.input]
    assert [(u.op_type, types[u.output[0]]) for u in users] == [('Cast', onnx.TensorProto.FLOAT16)]
    to_single = [n for n in casts if types[n.input[0]] == onnx.TensorProto.FLOAT16]
    to_half = [n for n in casts if types[n.input[0]] == onnx.TensorProto.FLOAT]
    # Logits, features and the outlier's logit enter the head, the embedding leaves; then scores.
    assert len(to_single) == 4
    assert [n.output[0] for n in to_half if n.output[0] in types and n.output[0] == 'scores']


def test_fp16_planes_are_those_of_fp32(bundle, graphs, images):
    single, half = (OnnxRuntime(bundle, graph=graphs[name]) for name in ('fp32', 'fp16'))
    default = bundle.score_names.index(bundle.default_score)
    for image in images:
        expected, outputs = single.run(image, default), half.run(image, default)
        assert outputs.scores.dtype == np.float32
        assert np.mean(outputs.labels == expected.labels) > 0.995
        for plane, most in (('confidence', 2), ('anomaly', 1)):
            difference = getattr(outputs, plane).astype(int) - getattr(expected, plane)
            assert np.mean(np.abs(difference) <= most) > 0.999
        apart = steps(bundle, outputs.scores[default], expected.scores[default], default)
        assert np.quantile(apart, 0.999) < 2


def test_scores_beyond_float16_stay_float32(bundle, onnx, tmp_path):
    first, *rest = bundle.scores
    for factor in (1e6, 1e-9):  # too large; too close to each other beside 1
        knots = tuple((1.0 if factor < 1 else 0.0) + factor * knot for knot in first.knots)
        scores = (replace(first, knots=knots), *rest)
        write_graph(replace(bundle, scores=scores), 'fp16', tmp_path / 'graph.onnx')
        _, types = typed(onnx, tmp_path / 'graph.onnx')
        assert types['scores'] == onnx.TensorProto.FLOAT


def test_int8_is_symmetric_and_signed_as_tensorrt_wants_it(onnx, graphs):
    model = onnx.load(graphs['int8'])
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == 'Conv']
    producer = {name: node for node in model.graph.node for name in node.output}
    quantised = []
    for node in model.graph.node:
        if node.op_type in ('QuantizeLinear', 'DequantizeLinear'):
            zero = tensors[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()
    for node in convolutions:
        source = producer.get(node.input[1])
        if source is None:
            continue
        quantised.append(node)
        weights = tensors[source.input[0]]
        assert np.abs(weights.astype(int)).max() <= 64  # what no processor's sums overflow with
        assert len(tensors[source.input[1]]) == len(weights)
        assert node.input[2] in tensors  # biases stay in float
    plain = [n.input[1] for n in convolutions if n.input[1] not in producer]
    named = {name for name in plain if 'depthwise' not in name}
    assert named == {
        'segmenter.encoder._conv_stem.weight',
        'segmenter.classifier.weight',
        'segmenter.branch.output.weight',
        'segmenter.branch.laterals.0.0.weight',  # of the features that scores are made of
    }
    assert len(quantised) > 40


def test_int8_leaves_what_scores_are_made_of(onnx, graphs):
    nodes = onnx.load(graphs['int8']).graph.node
    (features,) = [node.input[0] for node in nodes if CLASSIFIER in node.input]
    readers = {node.op_type for node in nodes if features in node.input}
    assert 'Conv' in readers
    assert 'QuantizeLinear' not in readers


def test_int8_labels_are_nearly_those_of_fp32(bundle, graphs, images):
    single, integer = (OnnxRuntime(bundle, graph=graphs[name]) for name in ('fp32', 'int8'))
    for image in images:
        expected, outputs = single.run(image, 0), integer.run(image, 0)
        assert np.mean(outputs.labels == expected.labels) > 0.97


def test_the_same_frames_give_the_same_int8_graph(bundle, graphs, frames, tmp_path):
    write_graph(bundle, 'int8', tmp_path / 'again.onnx', frames)
    assert (tmp_path / 'again.onnx').read_bytes() == graphs['int8'].read_bytes()


@pytest.mark.parametrize(
    ('precision', 'frames', 'message'),
    [
        ('bf16', None, "'bf16' is none of fp32, fp16, int8"),
        ('int8', None, 'needs frames of recordings'),
        ('int8', (), 'hold no frame'),
    ],
)
def test_what_is_missing_is_named(bundle, onnx, tmp_path, precision, frames, message):
    assert onnx
    with pytest.raises(PrecisionError, match=message):
        write_graph(bundle, precision, tmp_path / 'graph.onnx', frames)
    assert not (tmp_path / 'graph.onnx').exists()


def test_without_the_package_onnx(bundle, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(PrecisionError, match='pip install onnx'):
        write_graph(bundle, 'fp16', tmp_path / 'graph.onnx')


def test_a_folder_that_is_not_there(bundle, onnx, tmp_path):
    assert onnx
    for precision in ('fp32', 'fp16'):
        with pytest.raises(PrecisionError, match=r'none/graph\.onnx: cannot be written'):
            write_graph(bundle, precision, tmp_path / 'none' / 'graph.onnx')


def small_graph(onnx, path, *, weight=1.0, layer=True):
    """Write a graph with a layer, sizes computed in float, and the outputs of a bundle."""
    h, tensor = onnx.helper, onnx.numpy_helper.from_array
    float32, uint8 = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8
    weights = weight * np.arange(1, 5, dtype=np.float32).repeat(3).reshape(4, 3, 1, 1)
    second = np.array([1, 1, 2, 2], np.float32)
    nodes = [
        h.make_node('Cast', ['image'], ['pixels'], to=float32),
        h.make_node('Transpose', ['pixels'], ['planes'], perm=[2, 0, 1]),
        h.make_node('Unsqueeze', ['planes', 'zero'], ['batch']),
        h.make_node('Conv', ['batch', 'weights'], ['logits'])
        if layer
        else h.make_node('Concat', ['batch', 'batch'], ['logits'], axis=1),
        # The network is enlarged by half its own number of channels: 2.
        h.make_node('Shape', ['logits'], ['shape'], start=1, end=2),
        h.make_node('Cast', ['shape'], ['channels'], to=float32),
        h.make_node('Mul', ['channels', 'half'], ['factor']),
        h.make_node('Concat', ['ones', 'factor', 'factor'], ['factors'], axis=0),
        h.make_node('Resize', ['logits', '', 'factors'], ['fine'], mode='linear'),
        h.make_node('ArgMax', ['fine'], ['best'], axis=1, keepdims=0),
        h.make_node('Cast', ['best'], ['labels'], to=uint8),
        h.make_node('Softmax', ['logits'], ['scores'], axis=1),
        h.make_node('ReduceMax', ['scores'], ['top'], keepdims=0),
        h.make_node('Cast', ['top'], ['confidence'], to=uint8),
        h.make_node('Identity', ['confidence'], ['anomaly']),
        h.make_node('GlobalAveragePool', ['logits'], ['embedding']),
    ]
    constants = [
        tensor(weights, 'weights'),
        tensor(np.array([0]), 'zero'),
        tensor(np.array([0.5], np.float32), 'half'),
        tensor(second[:2], 'ones'),
    ]
    inputs = [h.make_tensor_value_info('image', uint8, ['h', 'w', 3])]
    outputs = [
        h.make_tensor_value_info('labels', uint8, [1, 'H', 'W']),
        h.make_tensor_value_info('confidence', uint8, []),
        h.make_tensor_value_info('anomaly', uint8, []),
        h.make_tensor_value_info('embedding', float32, [1, 4, 1, 1]),
        h.make_tensor_value_info('scores', float32, [1, 4, 'h', 'w']),
    ]
    graph = h.make_graph(nodes, 'small', inputs, outputs, constants)
    opsets = [h.make_opsetid('', 18)]
    onnx.save(h.make_model(graph, opset_imports=opsets, ir_version=10), path)


@pytest.fixture
def small(bundle, onnx, tmp_path):
    """Return a function that makes a bundle of a small graph."""

    def make(**options):
        small_graph(onnx, tmp_path / GRAPH, **options)
        return replace(bundle, path=tmp_path)

    return make


def test_quantize_makes_a_bundle_of_its_own(bundle, onnx, images, check_data, tmp_path, capsys):
    assert onnx
    out = tmp_path / 'int8'
    quantize = ['quantize', str(bundle.path), '--calibration', str(check_data / 'camvid' / 'val')]
    assert main([*quantize, '--out', str(out)]) == 1
    assert 'what it loses has to be known: --check DATA, or --unchecked' in capsys.readouterr().err
    strict = ['--check', str(check_data), '--tolerance', '0']
    assert main([*quantize, *strict, '--out', str(out)]) == 1
    assert 'by more than the tolerated 0' in capsys.readouterr().err
    assert not out.exists()
    assert main([*quantize, *strict[:3], '0.1', '--out', str(out)]) == 0
    assert 'domain_shift is not judged until calibrate' in capsys.readouterr().out
    made = Bundle.load(out)
    assert (made.name, made.reference, made.novelty) == (f'{bundle.name}_int8', None, None)
    assert made.provenance['quantized']['from'] == bundle.label
    assert '| int8' in (out / MODEL_CARD).read_text('utf-8')
    assert made.segments == bundle.segments
    reference = OnnxRuntime(bundle).run(images[0], 0)
    outputs = OnnxRuntime(made).run(images[0], 0)
    assert 0.9 < np.mean(outputs.labels == reference.labels) < 1.0
    # What calibrates bundles knows its constants, and it cannot be narrowed twice.
    CalibratedGraph(made).set_temperature(2.0)
    for precision in ('int8', 'fp16'):
        with pytest.raises(PrecisionError, match='of 8-bit integers already'):
            write_graph(made, precision, tmp_path / 'graph.onnx', [])


def test_sizes_that_a_graph_computes_keep_their_precision(small, onnx, tmp_path):
    import onnxruntime

    source = small(weight=0.01)
    write_graph(source, 'fp16', tmp_path / 'half.onnx')
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    single, half = (
        onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
        for path in (source.graph, tmp_path / 'half.onnx')
    )
    expected, outputs = (session.run(None, {'image': image}) for session in (single, half))
    assert outputs[0].shape == expected[0].shape == (1, 16, 16)
    np.testing.assert_array_equal(outputs[0], expected[0])
    np.testing.assert_allclose(outputs[3], expected[3], rtol=2e-3)
    _, types = typed(onnx, tmp_path / 'half.onnx')
    assert types['factors'] == onnx.TensorProto.FLOAT


@pytest.mark.parametrize(
    ('options', 'precision', 'message'),
    [
        ({'weight': 1e5}, 'fp16', "'weights' holds 400000, beyond float16"),
        ({'layer': False}, 'fp16', 'no convolution or linear layer'),
        ({}, 'int8', 'no convolution or linear layer between the first and the last'),
    ],
)
def test_graphs_that_do_not_allow_it(small, frames, tmp_path, options, precision, message):
    with pytest.raises(PrecisionError, match=message):
        write_graph(small(**options), precision, tmp_path / 'other.onnx', frames)


@pytest.mark.parametrize('precision', ['fp16', 'int8'])
def test_a_file_that_is_no_graph(bundle, onnx, frames, tmp_path, precision):
    assert onnx
    (tmp_path / GRAPH).write_bytes(b'no graph')
    with pytest.raises(PrecisionError, match='onnx cannot read it'):
        write_graph(replace(bundle, path=tmp_path), precision, tmp_path / 'other.onnx', frames)


@pytest.fixture(scope='module')
def openvino():
    return pytest.importorskip('openvino', reason='openvino belongs to the extra dev')


def test_openvino_gives_the_planes_of_onnxruntime(bundle, openvino, images):
    assert openvino
    runtime, reference = OpenVinoRuntime(bundle, threads=1), OnnxRuntime(bundle)
    for image in (images[0], images[1], images[2][:64, :128]):
        expected, outputs = reference.run(image, 3), runtime.run(image, 3)
        assert np.mean(outputs.labels == expected.labels) > 0.9999
        for plane in ('confidence', 'anomaly'):
            difference = getattr(outputs, plane).astype(int) - getattr(expected, plane)
            assert np.abs(difference).max() <= 1
        np.testing.assert_allclose(outputs.embedding, expected.embedding, atol=1e-3)
        for score, (plane, other) in enumerate(zip(outputs.scores, expected.scores, strict=True)):
            assert np.quantile(steps(bundle, plane, other, score), 0.999) < 1
        assert [(p.shape, p.dtype) for p in outputs] == [(p.shape, p.dtype) for p in expected]


def test_openvino_on_real_frames(bundle, openvino, data_dir):
    from seg_uncertainty_ros.recordings import open_source

    assert openvino
    runtime, reference = OpenVinoRuntime(bundle), OnnxRuntime(bundle)
    for name in ('dashcam_us_suburb', 'cityscapes_seq0000'):
        frame = next(iter(open_source(str(data_dir / 'recordings' / name))))
        image = network_input(frame.image, bundle.geometry)
        expected, outputs = reference.run(image, 0), runtime.run(image, 0)
        assert np.mean(outputs.labels == expected.labels) > 0.9999
        assert np.abs(outputs.anomaly.astype(int) - expected.anomaly).max() <= 1


def test_openvino_planes_outlive_the_next_frame(bundle, openvino, images):
    assert openvino
    runtime = OpenVinoRuntime(bundle, threads=1)
    outputs = runtime.run(images[0], 0)
    kept = [plane.copy() for plane in outputs]
    runtime.run(images[1], 0)
    assert all(np.array_equal(*pair) for pair in zip(outputs, kept, strict=True))


def test_openvino_keeps_a_few_sizes(bundle, openvino, monkeypatch):
    assert openvino
    monkeypatch.setattr(openvino_runtime, 'SIZES_KEPT', 1)
    runtime = OpenVinoRuntime(bundle, threads=1)
    for columns in (32, 64, 32):
        outputs = runtime.run(np.zeros((32, columns, 3), np.uint8), 0)
        assert outputs.labels.shape == (16, columns // 2)
        assert len(runtime._requests) == 1


def test_openvino_says_what_is_wrong(bundle, openvino, tmp_path, small):
    assert openvino
    with pytest.raises(GraphError, match=r"inputs {'image': 'u8'}, expected"):
        OpenVinoRuntime(small())
    (tmp_path / 'bad.onnx').write_bytes(b'no graph')
    with pytest.raises(GraphError, match=r'bad\.onnx: OpenVINO cannot read it'):
        OpenVinoRuntime(bundle, graph=tmp_path / 'bad.onnx')
    with pytest.raises(GraphError, match=r'OpenVINO failed on \(64, 64\)'):
        OpenVinoRuntime(bundle).run(np.zeros((64, 64), np.uint8), 0)


def test_without_openvino(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, 'openvino', None)
    with pytest.raises(GraphError, match='pip install openvino'):
        OpenVinoRuntime(bundle)


class Blurred:
    """A runtime whose labels and scores are those of another one, smeared."""

    name = 'blurred'

    def __init__(self, runtime):
        self._runtime = runtime

    def run(self, image, score_index):
        outputs = self._runtime.run(image, score_index)
        scores = [cv2.blur(plane, (31, 31)) for plane in outputs.scores]
        labels = cv2.medianBlur(outputs.labels, 31)
        return outputs._replace(labels=labels, scores=np.stack(scores))


def test_parity_of_a_runtime_with_itself(bundle, check_set):
    runtime = OnnxRuntime(bundle)
    report = compare(bundle, {'one': runtime, 'the same': runtime}, check_set)
    one, same = report.rows
    assert (same.miou, same.ap) == (one.miou, one.ap)
    assert 0 < one.miou < 1
    assert 0 < one.ap[bundle.default_score] <= 1
    assert same.agreement == 1
    assert same.iou_emd == same.embedding == 0
    assert not any((*same.deviation_999.values(), *same.deviation_max.values()))
    gate(report, Tolerance(0.0, 0.0))


def test_parity_of_precisions_and_the_files_of_it(bundle, graphs, check_set, tmp_path):
    runtimes = {name: OnnxRuntime(bundle, graph=path) for name, path in graphs.items()}
    report = compare(bundle, runtimes, check_set, images=3)
    half, integer = report.rows[1:]
    assert 1 > half.agreement > integer.agreement > 0.97
    assert half.deviation_999['void'] < integer.deviation_999['void'] < 0.5
    assert 0 < half.embedding < 0.02 < integer.embedding
    assert report.images == {check_set.segmentation.name: 3, check_set.outliers.name: 3}
    report.write(tmp_path / 'x.engine')
    content = json.loads((tmp_path / 'x.engine.parity.json').read_text())
    assert [row['name'] for row in content['rows']] == ['fp32', 'fp16', 'int8']
    assert content['rows'][2]['agreement'] == integer.agreement
    text = (tmp_path / 'x.engine.parity.md').read_text()
    assert f'| int8 | {integer.miou:.4f} |' in text
    with pytest.raises(ParityError, match=r'none/x\.parity\.md: cannot be written'):
        report.write(tmp_path / 'none' / 'x')


def test_the_gate_refuses_with_the_figures(bundle, check_set):
    runtime = OnnxRuntime(bundle)
    report = compare(bundle, {'sharp': runtime, 'blurred': Blurred(runtime)}, check_set)
    with pytest.raises(ParityError, match=r'blurred: mIoU falls from 0\.\d+ to 0\.\d+, by more'):
        gate(report, Tolerance())
    with pytest.raises(ParityError, match=r'blurred: AP of \w+ falls from'):
        gate(report, Tolerance(miou=1.0, ap=0.0))
    gate(report, Tolerance(1.0, 1.0))
    assert report.row('blurred').iou_emd > 0
    broken = replace(report.rows[1], miou=float('nan'))
    with pytest.raises(ParityError, match='to nan'):
        gate(replace(report, rows=(report.rows[0], broken)), Tolerance(1.0, 1.0))


@pytest.mark.parametrize('plane', ['scores', 'embedding'])
def test_what_is_not_finite_is_refused(bundle, check_set, plane):
    runtime = OnnxRuntime(bundle)

    class Overflowing:
        name = 'overflowing'

        def run(self, image, score_index):
            outputs = runtime.run(image, score_index)
            values = getattr(outputs, plane).copy()
            values.flat[7] = np.inf
            return outputs._replace(**{plane: values})

    report = compare(bundle, {'fp32': runtime, 'half': Overflowing()}, check_set, images=1)
    assert [row.infinite for row in report.rows] == [0, 2]
    with pytest.raises(ParityError, match='half: not a number, or infinite, in outputs of 2 im'):
        gate(report, Tolerance(1.0, 1.0))


def test_parity_needs_runtimes_and_outliers(bundle, check_set):
    with pytest.raises(ParityError, match='nothing to compare'):
        compare(bundle, {}, check_set)
    without = replace(check_set.outliers, files=check_set.outliers.files, values={0: 0, 1: 0})
    with pytest.raises(ParityError, match='no outliers in 1 images'):
        compare(bundle, {'x': OnnxRuntime(bundle)}, replace(check_set, outliers=without), images=1)
