# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Networks of other people become bundles: planes are those of the same network in torch."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto
from onnx import helper
from torch import nn
from torch.export import Dim

from seg_uncertainty_ros.bundle import MODEL_CARD
from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.calibration.calibrate import calibrate
from seg_uncertainty_ros.calibration.calibrate import write_bundle
from seg_uncertainty_ros.calibration.observed import observe_drive
from seg_uncertainty_ros.classes import ClassInfo
from seg_uncertainty_ros.cli import main
from seg_uncertainty_ros.cli.import_onnx import with_ground
from seg_uncertainty_ros.cli.options import CommandError
from seg_uncertainty_ros.evaluation.images import CalibrationImage
from seg_uncertainty_ros.frames import Frame
from seg_uncertainty_ros.frames import Geometry
from seg_uncertainty_ros.monitor.assessment import Observation
from seg_uncertainty_ros.monitor.config import MonitorConfig
from seg_uncertainty_ros.monitor.monitor import Monitor
from seg_uncertainty_ros.network.given import read_network
from seg_uncertainty_ros.network.score_head import resample
from seg_uncertainty_ros.network.wrapping import Normalisation
from seg_uncertainty_ros.pipeline import Pipeline
from seg_uncertainty_ros.pipeline import network_input
from seg_uncertainty_ros.runtime.calibrated_graph import CalibratedGraph
from seg_uncertainty_ros.scores import DEPLOYED
from seg_uncertainty_ros.scores import ScoreError
from seg_uncertainty_ros.scores.mahalanobis import FLOOR
from seg_uncertainty_ros.training.importing import choose_scores
from seg_uncertainty_ros.training.importing import ground_hint
from seg_uncertainty_ros.training.importing import import_network

CLASSES = (
    ClassInfo('road', (128, 64, 128), ground=True),
    ClassInfo('pavement', (244, 35, 232), ground=True),
    ClassInfo('other', (70, 70, 70)),
    ClassInfo('sky', (70, 130, 180)),
    ClassInfo('car', (0, 0, 142)),
)
DISTANCE = 'mahalanobis_full'
IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def block(inputs, outputs, **options):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=options.get('dilation', 1), bias=False, **options),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class UNet(nn.Module):
    """Ronneberger et al., MICCAI 2015: logits at each pixel."""

    def __init__(self, width=8, levels=3):
        super().__init__()
        widths = [width * 2**k for k in range(levels + 1)]
        self.down = nn.ModuleList([block(3, width)])
        self.down += [block(a, b) for a, b in pairwise(widths)]
        self.up = nn.ModuleList(
            block(a + b, a) for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.classifier = nn.Conv2d(width, len(CLASSES), 1)

    def forward(self, image):
        maps = [self.down[0](image)]
        for step in self.down[1:]:
            maps.append(step(F.max_pool2d(maps[-1], 2)))
        x = maps.pop()
        for step in self.up:
            skip = maps.pop()
            x = step(torch.cat([skip, F.interpolate(x, scale_factor=2.0)], dim=1))
        return self.classifier(x)


class DeepLab(nn.Module):
    """Chen et al., ECCV 2018: dilated encoder, ASPP, decoder at stride 4; or, plain, at 8."""

    def __init__(self, *, decoder=True, width=16):
        super().__init__()
        self.low = nn.Sequential(block(3, width, stride=2), block(width, width, stride=2))
        self.high = nn.Sequential(
            block(width, 2 * width, stride=2), block(2 * width, 2 * width, dilation=2)
        )
        self.aspp = nn.ModuleList(block(2 * width, width, dilation=d) for d in (1, 2, 4))
        self.pooled = nn.Conv2d(2 * width, width, 1)
        self.project = block(4 * width, width)
        self.decoder = block(2 * width, width) if decoder else None
        self.classifier = nn.Conv2d(width, len(CLASSES), 1)

    def forward(self, image):
        low = self.low(image)
        x = self.high(low)
        mean = self.pooled(x.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        x = self.project(torch.cat([*(branch(x) for branch in self.aspp), mean], dim=1))
        if self.decoder is not None:
            x = F.interpolate(x, scale_factor=2.0, mode='bilinear', align_corners=False)
            x = self.decoder(torch.cat([x, low], dim=1))
        return self.classifier(x), x


class Setr(nn.Module):
    """Zheng et al., CVPR 2021: patches, positions of one size, transformer, features of any sign.

    Logits lie at the stride of the patches.
    """

    def __init__(self, rows, columns, patch=32, width=32):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.positions = nn.Parameter(torch.randn(1, rows * columns, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, activation='gelu', batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Conv2d(width, len(CLASSES), 1)

    def forward(self, image):
        x = self.patches(image)
        size = x.shape
        x = self.norm(self.encoder(x.flatten(2).transpose(1, 2) + self.positions))
        x = x.transpose(1, 2).reshape(size)
        return self.classifier(x), x


@dataclass(frozen=True)
class Case:
    """A network, its export, and what is to be found out about it."""

    make: type | object
    stride: int
    size: tuple[int, int] | None
    camera: tuple[int, int]
    dynamo: bool = True
    opset: int = 18
    order: str = 'rgb'
    scores: tuple[str, ...] = ()

    @property
    def features(self):
        return self.make is not UNet


CASES = {
    'unet, stride 1, any size, opset 17': Case(UNet, 1, None, (160, 96), dynamo=False, opset=17),
    'deeplab, stride 4, any size': Case(DeepLab, 4, None, (96, 160), order='bgr'),
    'fcn, stride 8, one size, opset 13': Case(
        lambda: DeepLab(decoder=False), 8, (96, 160), (120, 160), dynamo=False, opset=13
    ),
    # The head is converted for it, and has a score of what features are in each class.
    'setr, stride 32, one size, opset 20': Case(
        lambda: Setr(3, 6), 32, (96, 192), (100, 201), opset=20, scores=(*DEPLOYED, DISTANCE)
    ),
}


def network(case):
    torch.manual_seed(1)
    model = case.make()
    # Statistics of noise instead of 0 and 1, and logits that are apart.
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(2, 3, *(case.size or (96, 160))))
    nn.init.normal_(model.classifier.weight, std=1.0)
    return model.eval()


def export(case, model, path):
    image = torch.randn(1, 3, *(case.size or (128, 192)))
    names = ['logits', 'features'] if case.features else ['logits']
    options = {}
    if case.size is None and case.dynamo:
        options['dynamic_shapes'] = {'image': {2: 32 * Dim('h'), 3: 32 * Dim('w')}}
    elif case.size is None:
        options['dynamic_axes'] = {'image': {2: 'h', 3: 'w'}}
    torch.onnx.export(
        model,
        (image,),
        str(path),
        input_names=['image'],
        output_names=names,
        opset_version=case.opset,
        dynamo=case.dynamo,
        external_data=False,
        verbose=False,
        **options,
    )


class Noise:
    """In-distribution images: smooth noise."""

    name = 'noise'
    labelled = False
    skipped = ()

    def __init__(self, count, size):
        self._count = count
        self._size = size

    def __len__(self):
        return self._count

    def read(self, start, stop):
        for seed in range(start, stop):
            yield CalibrationImage(smooth(seed, self._size), None)


def smooth(seed, size):
    noise = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(seed))
    fine = F.interpolate(noise, size=size, mode='bicubic').clamp(0, 1)
    return (255 * fine[0].permute(1, 2, 0)).round().to(torch.uint8).numpy()


def sets(case):
    """Return enough pixels for the scales, at a quarter of the sides."""
    return [Noise(12, (416, 416)) if case.size is None else Noise(120, case.size)]


@torch.no_grad()
def outputs(case, model, image):
    """Return logits and features, None without, of a uint8 image in double precision."""
    planes = torch.from_numpy(image).double().permute(2, 0, 1)[None] / 255
    if case.order == 'rgb':
        planes = planes.flip(1)
    mean, std = (torch.tensor(x).double().view(1, 3, 1, 1) for x in (IMAGENET.mean, IMAGENET.std))
    found = model.double()((planes - mean) / std)
    return found if isinstance(found, tuple) else (found, None)


def distance(case, model, features):
    """Return squared distances 1xHxW to the nearest predicted class of the images of `sets`."""
    known, labels = [], []
    for image in sets(case)[0].read(0, len(sets(case)[0])):
        logits, phi = outputs(case, model, image.image)
        known.append(phi[0].flatten(1).T)
        labels.append(logits[0].argmax(dim=0).flatten())
    known, labels = torch.cat(known), torch.cat(labels)
    present = labels.unique()
    means = torch.stack([known[labels == label].mean(dim=0) for label in present])
    apart = known - means[torch.searchsorted(present, labels)]
    covariance = apart.T @ apart / len(apart)
    covariance += FLOOR * covariance.trace() / len(covariance) * torch.eye(len(covariance))
    offsets = features[0].flatten(1).T[None] - means[:, None]
    squares = (offsets @ covariance.inverse() * offsets).sum(dim=2)
    return squares.amin(dim=0).view(1, *features.shape[2:])


@torch.no_grad()
def expected(case, model, image, names):
    """Compute by the formulas: raw scores by name, labels, embedding, margin of the labels."""
    logits, features = outputs(case, model, image)

    def at(plane, target):
        size = [side // target for side in image.shape[:2]]
        if case.stride < target:
            return F.adaptive_avg_pool2d(plane, size)
        return F.interpolate(plane, size=size, mode='bilinear', align_corners=False)

    z = at(logits, 4)
    p = z.softmax(dim=1)
    top = p.sort(dim=1, descending=True).values
    scores = {
        'max_softmax': 1 - top[:, 0],
        'entropy': -(p * p.clamp_min(1e-300).log()).sum(dim=1) / np.log(p.shape[1]),
        'margin': 1 - top[:, 0] + top[:, 1],
        'max_logit': -z.amax(dim=1),
        'energy': -z.logsumexp(dim=1),
    }
    if features is not None:
        other = p.scatter(1, p.argmax(dim=1, keepdim=True), 0.0)
        uniform = (p.shape[1] - 1) / p.shape[1] * p
        norm = at(features, 4).abs().sqrt().sum(dim=1) ** 2
        scores['pgn_onehot'] = other.sqrt().sum(dim=1) ** 2 * norm
        scores['pgn_uniform'] = uniform.sqrt().sum(dim=1) ** 2 * norm
    if DISTANCE in names:
        scores[DISTANCE] = distance(case, model, at(features, 4))
    fine = at(logits, 2).sort(dim=1, descending=True)
    source = logits if features is None else features
    return (
        {name: scores[name][0].numpy() for name in names},
        fine.indices[0, 0].numpy(),
        source.mean(dim=(2, 3))[0].numpy(),
        (fine.values[0, 0] - fine.values[0, 1]).numpy(),
    )


@pytest.fixture(scope='module', params=CASES, ids=lambda name: name.split(',')[0])
def imported(request, tmp_path_factory):
    case = CASES[request.param]
    model = network(case)
    folder = tmp_path_factory.mktemp('import')
    path = folder / 'net.onnx'
    export(case, model, path)
    given = read_network(
        path,
        len(CLASSES),
        logits='logits' if case.features else None,
        features='features' if case.features else None,
    )
    normalisation = Normalisation(IMAGENET.mean, IMAGENET.std, case.order)
    out = folder / 'bundle'
    out.mkdir()
    bundle = import_network(
        path, given, normalisation, CLASSES, sets(case), out, scores=case.scores
    )
    return case, model, given, bundle


def test_planes_are_those_of_torch(imported):
    case, model, given, bundle = imported
    graph = onnx.load(bundle.graph)
    onnx.checker.check_model(graph, full_check=True)
    assert [entry.domain for entry in graph.opset_import] == ['']
    # TensorRT: an uint8 input must meet a cast before anything else.
    assert [node.op_type for node in graph.graph.node if 'image' in node.input] == ['Cast']
    assert given.logits.stride == case.stride
    assert given.geometry.size == case.size
    assert ('pgn_uniform' in bundle.score_names) == case.features
    image = smooth(99, case.camera)
    pipeline = Pipeline(bundle, plane_size='network')
    size = bundle.geometry.network_size(*case.camera)
    taken = network_input(image, bundle.geometry)
    assert taken.shape[:2] == size
    actual = pipeline.runtime.run(taken, bundle.score_names.index('energy'))
    scores, labels, embedding, margin = expected(case, model, taken, bundle.score_names)
    rows, columns = (side // 4 for side in size)
    assert actual.scores.shape == (len(bundle.scores), rows, columns)
    for plane, name in zip(actual.scores, bundle.score_names, strict=True):
        np.testing.assert_allclose(plane, scores[name], rtol=1e-4, atol=1e-4, err_msg=name)
    # Where two classes are level, rounding decides.
    assert actual.labels.shape == labels.shape == (2 * rows, 2 * columns)
    assert (actual.labels == labels)[margin > 1e-4].all()
    assert (margin > 1e-4).mean() > 0.99
    assert len(np.unique(labels)) > 1
    np.testing.assert_allclose(actual.embedding, embedding, rtol=1e-4, atol=1e-4)
    confidence = np.rint(255 * (1 - scores['max_softmax']))
    np.testing.assert_allclose(actual.confidence.astype(float), confidence, atol=1)
    knots = bundle.scores[bundle.score_names.index('energy')].knots
    anomaly = 255 * np.interp(scores['energy'], knots, np.linspace(0, 1, len(knots)))
    np.testing.assert_allclose(actual.anomaly.astype(float), anomaly, atol=1.01)
    result = pipeline.process(Frame(image, 0))
    assert result.mask.shape == size


def test_scores_without_what_they_need():
    assert 'pgn_onehot' not in choose_scores((), features=False)
    assert choose_scores(['energy', 'mahalanobis'], features=True)[0] == 'max_softmax'
    with pytest.raises(ScoreError, match="'mahalanobis' needs features: name the tensor"):
        choose_scores(['mahalanobis'], features=False)
    with pytest.raises(ScoreError, match="'void' needs an outlier output"):
        choose_scores(['void'], features=True)


def test_monitor_and_calibration_take_it(imported, tmp_path):
    case, _, _, bundle = imported
    pipeline = Pipeline(bundle)
    seconds = 16
    drives = []
    for drive in range(2):
        frames = [
            Frame(smooth(1000 * drive + k, case.camera), 10**9 + k * 200_000_000)
            for k in range(5 * seconds)
        ]
        drives.append(observe_drive(pipeline, f'drive {drive}', frames))
    usual = calibrate(bundle, {'noise': drives}, ert_h=None)
    assert usual.reference.size == len(frames_embedding(pipeline, case))
    out = tmp_path / 'calibrated'
    out.mkdir()
    known = write_bundle(bundle, usual, [], out)
    monitor = Monitor.of(known, MonitorConfig())
    for k, frame in enumerate(frames):
        result = pipeline.process(frame)
        assessment = monitor.update(Observation.of(result, frame.stamp_ns))
        assert assessment.mean_confidence is None or 0 < assessment.mean_confidence < 1, k
    assert assessment.domain_shift is not None


def frames_embedding(pipeline, case):
    return pipeline.process(Frame(smooth(0, case.camera), 0)).embedding


@pytest.mark.parametrize('target', [2, 4])
@pytest.mark.parametrize(('rows', 'columns'), [(97, 129), (95, 127), (49, 65), (24, 33), (13, 17)])
def test_planes_of_sides_that_nothing_divides(rows, columns, target):
    image = (97, 129)
    plane = torch.rand(1, 2, rows, columns)
    found = resample(plane, Fraction(round(97 / rows)), target, image)
    assert found.shape == (1, 2, -(-97 // target), -(-129 // target))
    constant = resample(torch.ones(1, 2, rows, columns), Fraction(round(97 / rows)), target, image)
    assert torch.allclose(constant, torch.ones(()))


def test_command(tmp_path, capsys):
    weight = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    nodes = [
        helper.make_node('Conv', ['image', 'weight'], ['sums'], strides=[4, 4]),
        helper.make_node('Relu', ['sums'], ['inside']),
        helper.make_node('Neg', ['inside'], ['out']),
    ]
    graph = helper.make_graph(
        nodes,
        'net',
        [helper.make_tensor_value_info('image', TensorProto.FLOAT, ['n', 3, 'h', 'w'])],
        [helper.make_tensor_value_info('out', TensorProto.FLOAT, ['n', 3, None, None])],
        [onnx.numpy_helper.from_array(weight.numpy(), 'weight')],
    )
    path, classes = tmp_path / 'net.onnx', tmp_path / 'classes.txt'
    imports = [helper.make_opsetid('', 17)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    classes.write_text('lane 128 64 128\nsidewalk 244 35 232\nsky\n')
    arguments = [
        *('import-onnx', str(path), '--classes', str(classes), '--features', 'inside'),
        *('--mean', '123.7,116.3,103.5', '--std', '58.4,57.1,57.4', '--pixel-range', '255'),
        *('--stride', '16', '--max-pixels', '180000', '--bgr', '--name', 'tiny'),
    ]
    data = ['--data', 'procedural:seed=3,duration=1.2']
    assert main([*arguments, *data, '--out', str(tmp_path / 'bundle')]) == 0
    said = capsys.readouterr()
    assert 'stride 4; features inside, stride 4' in said.out
    assert not said.err.count('ground')
    bundle = Bundle.load(tmp_path / 'bundle')
    assert [info.name for info in bundle.classes if info.ground] == ['sidewalk']
    assert bundle.geometry == Geometry(16, 180_000)
    assert [info.color for info in bundle.classes][:2] == [(128, 64, 128), (244, 35, 232)]
    assert bundle.provenance['normalisation']['order'] == 'bgr'
    assert 'ask its maker' in (tmp_path / 'bundle' / MODEL_CARD).read_text('utf-8')
    # calibrate-scores knows the graph by its temperature.
    graph = CalibratedGraph(bundle)
    graph.set_temperature(2.0)
    image = smooth(0, (64, 96))
    hot, _ = graph.session().run(image)
    cold, _ = CalibratedGraph(bundle).session().run(image)
    np.testing.assert_allclose(2 * hot, cold, rtol=1e-5, atol=1e-6)
    replay = ['replay', 'procedural:seed=3,duration=0.5', '--bundle', str(bundle.path)]
    assert main([*replay, '--out', str(tmp_path / 'bag')]) == 0


def test_ground_by_name_and_by_wish():
    classes = (ClassInfo('lane', (0, 0, 0)), ClassInfo('sky', (0, 0, 0)))
    assert 'no class is ground: say with --ground' in ground_hint(with_ground(classes, None))
    marked = with_ground(classes, 'lane')
    assert [info.ground for info in marked] == [True, False]
    assert not ground_hint(marked)
    with pytest.raises(CommandError, match="--ground: 'pavement', expected some of lane, sky"):
        with_ground(classes, 'pavement')
