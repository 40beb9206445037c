# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Changing an exported graph's calibration gives what an export with that calibration gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from seg_uncertainty_ros.bundle import GRAPH
from seg_uncertainty_ros.network.deployed import DeployedGraph
from seg_uncertainty_ros.network.export import export_onnx
from seg_uncertainty_ros.network.segmenter import Segmenter
from seg_uncertainty_ros.runtime.calibrated_graph import OUTLIER
from seg_uncertainty_ros.runtime.calibrated_graph import CalibratedGraph
from seg_uncertainty_ros.runtime.outputs import GraphError

OLD, NEW = 1.3, 0.7
SCORES = ('max_softmax', 'max_logit', 'pgn_uniform', 'void', 'outlier_combined')
KNOTS = torch.tensor([[-8.0, -1.0, 0.0, 0.5, 9.0]]).repeat(len(SCORES), 1)
NEW_KNOTS = torch.tensor([[-9.0, -2.0, 0.1, 0.6, 11.0]]).repeat(len(SCORES), 1)


def test_new_temperature_and_knots_are_those_of_a_new_export(bundle, tmp_path):
    torch.manual_seed(0)
    segmenter = Segmenter(len(bundle.classes), features=16, outlier=True)
    torch.nn.init.normal_(segmenter.classifier.weight, std=2.0)
    export_onnx(DeployedGraph(segmenter, KNOTS, OLD, SCORES), tmp_path / GRAPH)

    graph = CalibratedGraph(replace(bundle, path=tmp_path, temperature=OLD))
    graph.set_temperature(NEW)
    graph.set_knots(NEW_KNOTS.double().numpy())
    graph.save(tmp_path / GRAPH)

    image = np.random.default_rng(1).integers(0, 256, (96, 160, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(
        str(tmp_path / GRAPH), providers=['CPUExecutionProvider']
    )
    expected_graph = DeployedGraph(segmenter, NEW_KNOTS, NEW, SCORES).eval()
    for score in range(len(SCORES)):
        actual = session.run(None, {'image': image, 'score_index': np.array(score)})
        with torch.no_grad():
            expected = [
                x.numpy() for x in expected_graph(torch.from_numpy(image), torch.tensor(score))
            ]
        assert (actual[0] == expected[0]).mean() > 0.999
        for plane in (1, 2):
            np.testing.assert_allclose(
                actual[plane].astype(int), expected[plane].astype(int), atol=1
            )
        np.testing.assert_allclose(actual[4], expected[4], rtol=2e-3, atol=2e-3)

    with torch.no_grad():
        logits, scores, _ = expected_graph.raw(torch.from_numpy(image))
    found_logits, found_scores = (
        CalibratedGraph(replace(bundle, path=tmp_path, temperature=NEW)).session().run(image)
    )
    np.testing.assert_allclose(found_logits, logits[0].numpy(), rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(found_scores, scores.numpy(), rtol=2e-3, atol=2e-3)

    # What divides by the temperature and is not known must not keep the old one in silence.
    model = onnx.load(tmp_path / GRAPH)
    for names in (node.input for node in model.graph.node if OUTLIER in node.input):
        names[:] = [name.replace(OUTLIER, 'other') for name in names]
    next(x for x in model.graph.initializer if x.name == OUTLIER).name = 'other'
    onnx.save(model, tmp_path / GRAPH)
    with pytest.raises(GraphError, match='by the temperature, expected logits'):
        CalibratedGraph(replace(bundle, path=tmp_path, temperature=NEW))
