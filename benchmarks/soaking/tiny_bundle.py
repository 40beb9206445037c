# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A bundle whose network costs next to nothing, for runs in which everything around it counts.

The network is the classifier of the nearest class colour, a linear one: a 1x1 convolution of the
image at a quarter of its size. Everything else is there as in a real bundle: three scores,
embedding, meta model, a reference fitted to the frames that are given.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from seg_uncertainty_ros.bundle import GRAPH
from seg_uncertainty_ros.bundle import MODEL_CARD
from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import ScoreInfo
from seg_uncertainty_ros.bundle import default_bundle_path
from seg_uncertainty_ros.calibration.observed import observe_drive
from seg_uncertainty_ros.frames import Geometry
from seg_uncertainty_ros.pipeline import Pipeline
from seg_uncertainty_ros.segments.features import feature_names
from seg_uncertainty_ros.segments.meta import LinearModel
from seg_uncertainty_ros.segments.meta import MetaModel
from seg_uncertainty_ros.shift.fitting import fit_shift_reference

SCORES = ('entropy', 'margin', 'max_softmax')
STRIDE = 8
SOFTNESS = 0.02
"""Of the softmax over distances between colours, 0..1."""


def make_bundle(folder, drives):
    """Write the bundle to an empty folder.

    Its reference is fitted to drives (lists of Frame); without one it has none, nor a meta model.
    """
    base = Bundle.load(default_bundle_path())
    _write_graph(folder / GRAPH, base.classes)
    (folder / MODEL_CARD).write_text('# Nearest class colour\n', encoding='utf-8')
    bundle = replace(
        base,
        path=folder,
        name='tiny',
        geometry=Geometry(STRIDE, 2**16),
        temperature=1.0,
        scores=tuple(ScoreInfo(name, name, (0.0, 0.5, 1.0)) for name in SCORES),
        default_score=SCORES[0],
        reference=None,
        segments=_meta_model(base.classes) if drives else None,
        provenance={},
        novelty=None,
    ).write()
    if not drives:
        return bundle
    pipeline = Pipeline(bundle, threads=1)
    observed = [observe_drive(pipeline, 'drive', frames).frames for frames in drives]
    return replace(bundle, reference=fit_shift_reference({'drives': observed}).reference).write()


def _meta_model(classes):
    """Return a model that takes every segment for an object."""
    names = feature_names(SCORES, [info.name for info in classes])
    flat = LinearModel((0.0,) * len(names), 0.0)
    unit = (1.0,) * len(names)
    return MetaModel(SCORES, names, unit, unit, flat, flat, 0.5, 'takes everything', {})


def _write_graph(path, classes):
    node, tensor = onnx.helper.make_node, onnx.numpy_helper.from_array
    float32, uint8 = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8
    count = len(classes)
    # -|x - c|^2 less what all classes share: 2 c x - |c|^2, on BGR.
    colors = np.array([info.color[::-1] for info in classes], np.float32) / 255
    weights = (2 / SOFTNESS * colors / 255).reshape(count, 3, 1, 1)
    constants = {
        'weights': weights.astype(np.float32),
        'bias': (-(colors**2).sum(axis=1) / SOFTNESS).astype(np.float32),
        'axis0': np.array([0]),
        'axis1': np.array([1]),
        'two': np.array([2]),
        'twice': np.array([1, 1, 2, 2], np.float32),
        'quarter': np.array([1, 1, 0.25, 0.25], np.float32),
        'one': np.array(1, np.float32),
        'full': np.array(255, np.float32),
        'tiny': np.array(1e-6, np.float32),
        'per_nat': np.array(-1 / np.log(count), np.float32),
    }
    nodes = [
        node('Cast', ['image'], ['pixels'], to=float32),
        node('Transpose', ['pixels'], ['planes'], perm=[2, 0, 1]),
        node('Unsqueeze', ['planes', 'axis0'], ['batch']),
        node('Resize', ['batch', '', 'quarter'], ['small'], mode='nearest'),
        node('Conv', ['small', 'weights', 'bias'], ['logits']),
        node('Resize', ['logits', '', 'twice'], ['fine'], mode='linear'),
        node('ArgMax', ['fine'], ['best'], axis=1, keepdims=0),
        node('Squeeze', ['best', 'axis0'], ['best_plane']),
        node('Cast', ['best_plane'], ['labels'], to=uint8),
        node('Softmax', ['logits'], ['p'], axis=1),
        node('TopK', ['p', 'two'], ['top', 'ranks'], axis=1),
        node('Split', ['top'], ['first', 'second'], axis=1, num_outputs=2),
        node('Add', ['p', 'tiny'], ['positive']),
        node('Log', ['positive'], ['log']),
        node('Mul', ['p', 'log'], ['p_log']),
        node('ReduceSum', ['p_log', 'axis1'], ['nats'], keepdims=1),
        node('Mul', ['nats', 'per_nat'], ['entropy']),
        node('Sub', ['one', 'first'], ['max_softmax']),
        node('Add', ['max_softmax', 'second'], ['margin']),
        node('Concat', [*SCORES], ['stack'], axis=1),
        node('Squeeze', ['stack', 'axis0'], ['scores']),
        node('Gather', ['scores', 'score_index'], ['chosen'], axis=0),
        node('Mul', ['chosen', 'full'], ['chosen_full']),
        node('Clip', ['chosen_full', '', 'full'], ['clipped']),
        node('Cast', ['clipped'], ['anomaly'], to=uint8),
        node('Mul', ['first', 'full'], ['first_full']),
        node('Squeeze', ['first_full', 'axes01'], ['confidence_plane']),
        node('Cast', ['confidence_plane'], ['confidence'], to=uint8),
        node('ReduceMean', ['logits', 'image_axes'], ['embedding'], keepdims=0),
    ]
    constants |= {'axes01': np.array([0, 1]), 'image_axes': np.array([0, 2, 3])}
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        'tiny',
        [value('image', uint8, ['H', 'W', 3]), value('score_index', onnx.TensorProto.INT64, [])],
        [
            value('labels', uint8, ['H2', 'W2']),
            value('confidence', uint8, ['H4', 'W4']),
            value('anomaly', uint8, ['H4', 'W4']),
            value('embedding', float32, [count]),
            value('scores', float32, [len(SCORES), 'H4', 'W4']),
        ],
        [tensor(array, name) for name, array in constants.items()],
    )
    opsets = [onnx.helper.make_opsetid('', 18)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
