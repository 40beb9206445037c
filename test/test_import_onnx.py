# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Networks that cannot be imported are refused with one clear sentence; no torch needed."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from seg_uncertainty_ros.bundle import MANIFEST
from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import BundleError
from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.cli import main
from seg_uncertainty_ros.cli.import_onnx import read_classes
from seg_uncertainty_ros.cli.options import CommandError
from seg_uncertainty_ros.frames import Frame
from seg_uncertainty_ros.frames import Geometry
from seg_uncertainty_ros.pipeline import Pipeline

pytest.importorskip('onnx', reason='onnx belongs to the extra dev')

import onnx
from onnx import TensorProto
from onnx import helper

from seg_uncertainty_ros.network.given import NetworkError
from seg_uncertainty_ros.network.given import read_network
from seg_uncertainty_ros.network.wrapping import Normalisation
from seg_uncertainty_ros.network.wrapping import body

CLASSES = 3
ANY = [1, 3, 'h', 'w']


def model(
    shape=ANY,
    *,
    kind=TensorProto.FLOAT,
    after=(),
    outputs=(('logits', TensorProto.FLOAT),),
    rank=4,
    channels=CLASSES,
    stride=4,
    opset=18,
    domains=(),
):
    """Return a convolution with a stride, and the nodes ``after`` it."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    inputs = shape[1] if len(shape) > 1 and isinstance(shape[1], int) else 3
    weight = np.random.default_rng(0).normal(size=(channels, inputs, stride, stride))
    weight = onnx.numpy_helper.from_array(weight.astype(dtype), 'weight')
    nodes = [
        helper.make_node(
            'Conv', ['image', 'weight'], ['logits'], strides=[stride, stride], name='conv'
        ),
        *after,
    ]
    graph = helper.make_graph(
        nodes,
        'net',
        [helper.make_tensor_value_info('image', kind, shape)],
        [helper.make_tensor_value_info(name, x, [None] * rank) for name, x in outputs],
        [weight],
    )
    imports = [helper.make_opsetid('', opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs, outputs, **attributes)


def constant(name, values):
    return node('Constant', [], [name], value=onnx.numpy_helper.from_array(np.array(values)))


def read(made, folder, **options):
    path = folder / 'net.onnx'
    onnx.save(made, path)
    return read_network(path, CLASSES, **options)


def test_what_is_found_out(tmp_path):
    features = [node('Relu', ['logits'], ['inside'])]
    found = read(model(after=features), tmp_path, features='inside')
    assert found.geometry.size is None
    assert (found.geometry.stride, found.logits.stride, found.logits.channels) == (32, 4, CLASSES)
    assert (found.features.name, found.features.channels) == ('inside', CLASSES)
    assert read(model(), tmp_path, stride=6).geometry.stride == 12
    fixed = read(model([1, 3, 64, 96], stride=8, opset=11), tmp_path)
    assert fixed.geometry.network_size(1080, 1920) == (64, 96)
    assert (fixed.logits.stride, fixed.opset) == (8, 18)
    half_fixed = read(model([1, 3, 64, 'w']), tmp_path, size=(64, 80))
    assert half_fixed.geometry.size == (64, 80)
    # Weights listed as inputs too, as exporters did once.
    old = model()
    old.graph.input.append(helper.make_tensor_value_info('weight', 1, [CLASSES, 3, 4, 4]))
    assert read(old, tmp_path).image == 'image'


FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
OTHER = [node('Relu', ['logits'], ['other'])]
BAD = {
    'fp16 input': (
        lambda: model(kind=HALF, outputs=[('logits', HALF)]),
        {},
        "input 'image' is float16, expected float32: export in float32",
    ),
    'double input': (
        lambda: model(kind=TensorProto.DOUBLE, outputs=[('logits', TensorProto.DOUBLE)]),
        {},
        "input 'image' is double, expected float32",
    ),
    'rank of the input': (
        lambda: model([3, 64, 64]),
        {},
        "input 'image' is 3x64x64, expected 1x3xHxW",
    ),
    'batch': (lambda: model([2, 3, 64, 64]), {}, 'is 2x3x64x64, expected 1x3xHxW'),
    'four channels in': (lambda: model([1, 4, 'h', 'w']), {}, r'is 1x4x\?x\?, expected 1x3xHxW'),
    'several outputs': (
        lambda: model(after=OTHER, outputs=[('logits', FLOAT), ('other', FLOAT)]),
        {},
        r'several outputs \(logits, other\): say which one has the logits with --logits',
    ),
    'unknown logits': (lambda: model(), {'logits': 'up'}, "--logits: no tensor 'up'; its outputs"),
    'unknown features': (lambda: model(), {'features': 'x'}, "--features: no tensor 'x'"),
    'features are logits': (lambda: model(), {'features': 'logits'}, 'are the logits already'),
    'labels instead of logits': (
        lambda: model(
            after=[node('ArgMax', ['logits'], ['labels'], axis=1)],
            outputs=[('labels', TensorProto.INT64)],
        ),
        {},
        "the output 'labels' is int64, no logits",
    ),
    'labels named as logits': (
        lambda: model(
            after=[node('ArgMax', ['logits'], ['labels'], axis=1)],
            outputs=[('labels', TensorProto.INT64)],
        ),
        {'logits': 'labels'},
        "'labels' is int64 1x1x32x48, expected float32 1xCxhxw",
    ),
    'labels inside named as features': (
        lambda: model(after=[node('ArgMax', ['logits'], ['labels'], axis=1)]),
        {'features': 'labels'},
        'an operator, opset or type that ONNX Runtime does not take: .*labels',
    ),
    'channels': (lambda: model(channels=7), {}, "'logits' has 7 channels, --classes names 3"),
    'rank of the logits': (
        lambda: model(
            after=[constant('axis', [0]), node('Squeeze', ['logits', 'axis'], ['flat'])],
            outputs=[('flat', FLOAT)],
            rank=3,
        ),
        {},
        r"'flat' is float32 3x32x48, expected float32 1xCxhxw",
    ),
    'softmax': (
        lambda: model(after=[node('Softmax', ['logits'], ['p'], axis=1)], outputs=[('p', FLOAT)]),
        {},
        "'p' are probabilities, which add up to 1, not logits",
    ),
    'log softmax': (
        lambda: model(
            after=[node('LogSoftmax', ['logits'], ['p'], axis=1)], outputs=[('p', FLOAT)]
        ),
        {},
        "'p' are log probabilities",
    ),
    'not finite': (
        lambda: model(after=[node('Log', ['logits'], ['log'])], outputs=[('log', FLOAT)]),
        {},
        "'log' is not finite",
    ),
    'operator': (
        lambda: model(after=[node('Conjure', ['logits'], ['x'])], outputs=[('x', FLOAT)]),
        {},
        'not valid ONNX: No Op registered for Conjure',
    ),
    'operator of others': (
        lambda: model(
            after=[node('Conjure', ['logits'], ['x'], domain='org.example')],
            outputs=[('x', FLOAT)],
            domains=['org.example'],
        ),
        {},
        'an operator, opset or type that ONNX Runtime does not take: .*Conjure',
    ),
    'opset': (lambda: model(opset=999), {}, 'opset'),
    'one side of any length': (
        lambda: model([1, 3, 64, 'w']),
        {},
        'takes anyx64, one side of any length: name a --size',
    ),
    'another size': (
        lambda: model([1, 3, 64, 96]),
        {'size': (32, 96)},
        r'--size: 96x32, but .* takes 96x64',
    ),
    'stride of one size': (
        lambda: model([1, 3, 64, 96]),
        {'stride': 16},
        '--stride: 16, but every image is brought to one size',
    ),
    'stride too large': (lambda: model(), {'stride': 100_000}, '--stride: 100000 '),
    'says any size, takes one': (
        lambda: model(
            after=[constant('shape', [1, 3, 16, 24]), node('Reshape', ['logits', 'shape'], ['x'])],
            outputs=[('x', FLOAT)],
        ),
        {},
        'fails on an image of 192x128: name the --stride or the --size that it takes',
    ),
    'one logit whatever the size': (
        lambda: model(
            after=[node('GlobalAveragePool', ['logits'], ['x'])], outputs=[('x', FLOAT)]
        ),
        {},
        r"'x' is 1x3x1x1 of an image of 192x128: no one stride",
    ),
    'no operators': (
        lambda: helper.make_model(helper.make_graph([], 'empty', [], [])),
        {},
        'no ONNX file, or one without operators',
    ),
}


@pytest.mark.parametrize('case', BAD)
def test_a_clear_sentence(case, tmp_path):
    make, options, message = BAD[case]
    with pytest.raises(NetworkError, match=message) as caught:
        read(make(), tmp_path, **options)
    assert '\n' not in str(caught.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(NetworkError, match=r'net\.onnx: no such file'):
        read_network(tmp_path / 'net.onnx', CLASSES)
    path = tmp_path / 'net.onnx'
    path.write_text('not a network')
    with pytest.raises(NetworkError, match='no ONNX file, or a damaged one'):
        read_network(path, CLASSES)
    path.write_bytes(b'')
    with pytest.raises(NetworkError, match='no ONNX file'):
        read_network(path, CLASSES)


def test_a_damaged_file_is_refused_wherever_the_damage_is(tmp_path):
    whole = model().SerializeToString()
    path = tmp_path / 'net.onnx'
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(NetworkError):
            read_network(path, CLASSES)


def test_flipped_bytes_are_refused_or_harmless(tmp_path):
    whole = model([1, 3, 32, 48]).SerializeToString()
    path = tmp_path / 'net.onnx'
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(100):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            assert read_network(path, CLASSES).logits.channels == CLASSES
        except NetworkError:
            refused += 1
    assert 20 < refused < 100


def test_weights_outside_the_file(tmp_path):
    path = tmp_path / 'net.onnx'
    onnx.save(model(), path, save_as_external_data=True, size_threshold=0, location='weights')
    with pytest.raises(NetworkError, match="1 weights, as 'weight', lie outside the file"):
        read_network(path, CLASSES)


@pytest.mark.parametrize('order', ['rgb', 'bgr'])
@pytest.mark.parametrize('pixel_range', [1, 255])
def test_an_image_is_normalised_as_it_was_in_training(tmp_path, order, pixel_range):
    import onnxruntime

    mean, std = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.25, 0.3])
    found = read(model([1, 3, 64, 96]), tmp_path)
    start = body(
        found,
        Normalisation(tuple(mean * pixel_range), tuple(std * pixel_range), order, pixel_range),
    )
    normalised = helper.make_tensor_value_info('input.normalised', FLOAT, [1, 3, 64, 96])
    start.graph.output.append(normalised)
    onnx.checker.check_model(start)
    session = onnxruntime.InferenceSession(
        start.SerializeToString(), providers=['CPUExecutionProvider']
    )
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    actual = session.run(['input.normalised'], {'image': image})[0]
    channels = image[..., ::-1] if order == 'rgb' else image
    expected = ((channels / 255 - mean) / std).transpose(2, 0, 1)[None]
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (((123.7, 116.3, 103.5), (58.4, 57.1, 57.4)), r'--mean: 123.7,116.3,103.5 of pixels in'),
        (((0.5, 0.5, 0.5), (0.0, 0.2, 0.2)), '--std: 0,0.2,0.2, expected > 0'),
        (((0.5, -0.5, 0.5), (0.2, 0.2, 0.2)), '--mean: 0.5,-0.5,0.5, expected >= 0'),
        (((float('nan'), 0.5, 0.5), (0.2, 0.2, 0.2)), '--mean: nan,0.5,0.5, expected three'),
        (((0.5, 0.5), (0.2, 0.2, 0.2)), '--mean: 0.5,0.5, expected three numbers'),
    ],
)
def test_normalisations_that_are_none(arguments, message):
    with pytest.raises(NetworkError, match=message):
        Normalisation(*arguments)


def test_classes_by_line(tmp_path):
    path = tmp_path / 'classes.txt'
    path.write_text('# ours\nroad\ntraffic light 250 170 30  # amber\nsky, 1, 2, 3\n\nhut\n')
    found = read_classes(path)
    assert [info.name for info in found] == ['road', 'traffic light', 'sky', 'hut']
    assert found[0].color == next(info.color for info in CAMVID if info.name == 'road')
    assert [info.color for info in found[1:3]] == [(250, 170, 30), (1, 2, 3)]


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'road\nroad\n', "line 2: 'road' a second time"),
        (b'road\n1 2 3\n', "line 2: '1 2 3', expected name R G B"),
        (b'road\nsky 1 2 300\n', "line 2: 'sky 1 2 300', expected name R G B"),
        (b'road\n', '1 classes, expected 2 to 255'),
        (b'\xff\xfe', 'unreadable: not UTF-8'),
        ('\n'.join(f'c{k}' for k in range(256)).encode(), '256 classes, expected 2 to 255'),
    ],
)
def test_class_files_that_are_none(tmp_path, content, message):
    path = tmp_path / 'classes.txt'
    path.write_bytes(content)
    with pytest.raises(CommandError, match=message):
        read_classes(path)
    with pytest.raises(CommandError, match='No such file'):
        read_classes(tmp_path / 'none.txt')


def command(tmp_path, *more):
    path = tmp_path / 'net.onnx'
    if not path.exists():
        onnx.save(model(), path)
    classes = tmp_path / 'classes.txt'
    classes.write_text('road\npavement\nsky\n')
    return main(
        [
            *('import-onnx', str(path), '--classes', str(classes)),
            *('--mean', '0.5,0.5,0.5', '--std', '0.2,0.2,0.2', '--data', 'procedural:seed=1'),
            *('--out', str(tmp_path / 'bundle'), *more),
        ]
    )


@pytest.mark.parametrize(
    ('more', 'message'),
    [
        (['--mean', '0.5,0.5'], "--mean: '0.5,0.5', expected three numbers with commas between"),
        (['--size', '512'], "--size: '512', expected WxH, as 1024x512"),
        (['--size', '0x512'], "--size: '0x512', expected WxH"),
        (['--max-pixels', '5'], '--max-pixels: 5, expected 1024'),
        (['--name', 'My Net'], "--name: 'My Net', expected a-z"),
        (['--logits', 'nothing'], "--logits: no tensor 'nothing'"),
    ],
)
def test_bad_options_are_one_line(tmp_path, capsys, more, message):
    assert command(tmp_path, *more) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count('\n') == 1
    assert not (tmp_path / 'bundle').exists()


def test_without_torch(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'seg_uncertainty_ros.training.importing', None)
    assert command(tmp_path) == 1
    assert "importing needs torch: pip install '.[train]'" in capsys.readouterr().err


def test_a_scale_needs_images(capsys):
    arguments = ['net.onnx', '--classes', 'c', '--mean', '0,0,0', '--std', '1,1,1', '--out', 'b']
    with pytest.raises(SystemExit):
        main(['import-onnx', *arguments])
    assert 'the following arguments are required: --data' in capsys.readouterr().err


def test_a_bundle_of_one_size(bundle, tmp_path, capsys):
    bundle.copy_files(tmp_path)
    geometry = Geometry(1, 64 * 96, size=(64, 96))
    written = replace(bundle, path=tmp_path, geometry=geometry, reference=None).write()
    assert written.geometry == geometry
    result = Pipeline(written, plane_size='network').process(
        Frame(np.zeros((72, 50, 3), np.uint8), 0)
    )
    assert result.mask.shape == (64, 96)
    assert main(['info', str(tmp_path)]) == 0
    assert 'images of 96x64' in capsys.readouterr().out
    manifest = tmp_path / MANIFEST
    manifest.write_text(manifest.read_text('utf-8').replace('64,', '0,', 1), encoding='utf-8')
    with pytest.raises(BundleError, match=r'bundle\.json: geometry'):
        Bundle.load(tmp_path)
