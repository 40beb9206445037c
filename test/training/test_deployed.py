# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The deployed graph: ONNX Runtime gives what torch gives, on every score and any size."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from seg_uncertainty_ros.network.deployed import DeployedGraph
from seg_uncertainty_ros.network.deployed import ScoreScale
from seg_uncertainty_ros.network.export import OPSET
from seg_uncertainty_ros.network.export import export_onnx
from seg_uncertainty_ros.network.segmenter import Segmenter
from seg_uncertainty_ros.runtime.calibrated_graph import CLASSIFIER
from seg_uncertainty_ros.scores import DEPLOYED
from seg_uncertainty_ros.scores import SCORES
from seg_uncertainty_ros.scores import FeatureStatistics

CLASSES, FEATURES = 5, 16


@pytest.fixture(scope='module')
def graph():
    torch.manual_seed(0)
    segmenter = Segmenter(CLASSES, features=FEATURES, outlier=True)
    # Untrained logits are nearly equal: spread them, so that argmax is not a matter of rounding.
    torch.nn.init.normal_(segmenter.classifier.weight, std=2.0)
    rng = np.random.default_rng(7)
    means = rng.uniform(0.0, 1.0, (CLASSES, FEATURES))
    root = rng.normal(0.0, 0.3, (FEATURES, FEATURES))
    statistics = FeatureStatistics(np.full(CLASSES, 9), means, root @ root.T)
    knots = torch.tensor([[-8.0, -1.0, 0.0, 0.5, 9.0]]).repeat(len(SCORES), 1)
    return DeployedGraph(segmenter, knots, 1.3, tuple(SCORES), statistics).eval()


@pytest.fixture(scope='module')
def exported(graph, tmp_path_factory):
    path = tmp_path_factory.mktemp('export') / 'graph.onnx'
    export_onnx(graph, path)
    return path


def test_one_file_of_the_opset(exported):
    model = onnx.load(exported, load_external_data=False)
    onnx.checker.check_model(model)
    assert [entry.version for entry in model.opset_import if not entry.domain] == [OPSET]
    assert [path.name for path in exported.parent.iterdir()] == [exported.name]
    # TensorRT: an uint8 input must meet a cast before anything else.
    users = [node.op_type for node in model.graph.node if 'image' in node.input]
    assert users == ['Cast']
    # Means over the image keep a runtime's blocked layout only in this form.
    operators = [node.op_type for node in model.graph.node]
    assert operators.count('GlobalAveragePool') >= 4
    assert 'ReduceMean' not in operators
    # The mask of the classes that are not predicted.
    assert operators.count('HardSigmoid') == 1
    read = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= read


def test_confidence_is_the_first_score(graph):
    knots = torch.zeros(2, 5)
    with pytest.raises(ValueError, match='max_softmax comes first'):
        DeployedGraph(graph.segmenter, knots, scores=('entropy', 'max_softmax'))


@pytest.mark.parametrize(
    ('size', 'score'), [((32, 32), 0), ((32, 32), 3), ((96, 160), 6), ((352, 640), 9)]
)
def test_onnx_runtime_equals_torch(graph, exported, size, score):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(str(exported), providers=['CPUExecutionProvider'])
    actual = session.run(None, {'image': image, 'score_index': np.array(score)})
    with torch.no_grad():
        expected = graph(torch.from_numpy(image), torch.tensor(score))
    labels, confidence, anomaly, embedding, scores = (e.numpy() for e in expected)
    assert (actual[0] == labels).mean() > 0.999
    np.testing.assert_allclose(actual[1].astype(int), confidence.astype(int), atol=1)
    np.testing.assert_allclose(actual[2].astype(int), anomaly.astype(int), atol=1)
    np.testing.assert_allclose(actual[3], embedding, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(actual[4], scores, rtol=2e-3, atol=2e-3)


def test_the_size_of_the_planes_is_that_of_the_logits(exported):
    nodes = onnx.load(exported).graph.node
    (shape,) = [node for node in nodes if node.op_type == 'Shape']
    (convolution,) = [node for node in nodes if shape.input[0] in node.output]
    assert CLASSIFIER in convolution.input


def test_scale_is_the_interpolation_of_its_knots():
    knots = torch.tensor([[0.0, 1.0, 1.5, 4.0], [-3.0, -2.0, 5.0, 5.5]])
    scores = torch.stack([torch.linspace(-5, 7, 60), torch.linspace(6, -4, 60)])
    for index, (score, row) in enumerate(zip(scores.numpy(), knots.numpy(), strict=True)):
        actual = ScoreScale(knots)(scores, torch.tensor(index))
        expected = np.interp(score, row, np.linspace(0, 1, 4))[None, None]
        np.testing.assert_allclose(actual.numpy(), expected, atol=1e-6)


def test_shipped_graph_scores_in_torch_and_out(bundle):
    """The shipped bundle has the deployed scores in their order, then others by their names."""
    assert bundle.score_names[: len(DEPLOYED)] == DEPLOYED
    assert set(bundle.score_names) <= set(SCORES)
