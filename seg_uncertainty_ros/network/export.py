# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Export the deployed graph as one ONNX file."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from torch.export import Dim

from seg_uncertainty_ros.network.deployed import INPUTS
from seg_uncertainty_ros.network.deployed import OUTPUTS
from seg_uncertainty_ros.network.segmenter import Segmenter
from seg_uncertainty_ros.runtime.calibrated_graph import CLASSIFIER

if TYPE_CHECKING:
    from pathlib import Path

    from seg_uncertainty_ros.network.deployed import DeployedGraph

OPSET = 18


def export_onnx(graph: DeployedGraph, path: Path) -> None:
    """Write ``graph`` to ``path``: opset 18, weights inside, H and W any multiples of the stride.

    Raises:
        RuntimeError: the exporter silently chose another opset or left weights outside.

    """
    image = torch.zeros(6 * Segmenter.stride, 8 * Segmenter.stride, 3, dtype=torch.uint8)
    shapes = {
        'image': {0: Segmenter.stride * Dim('rows'), 1: Segmenter.stride * Dim('columns')},
        'score_index': None,
    }
    torch.onnx.export(
        graph.eval(),
        (image, torch.tensor(0)),
        str(path),
        input_names=list(INPUTS),
        output_names=list(OUTPUTS),
        opset_version=OPSET,
        external_data=False,
        dynamic_shapes=shapes,
        dynamo=True,
        verbose=False,
    )
    model = onnx.load(path, load_external_data=False)
    simplify(model)
    take_size_from_logits(model)
    onnx.save(model, path)
    opsets = {entry.version for entry in model.opset_import if entry.domain in ('', 'ai.onnx')}
    outside = [t.name for t in model.graph.initializer if t.data_location == t.EXTERNAL]
    if opsets != {OPSET} or outside:
        msg = f'{path}: exported with opsets {opsets}, external weights {outside}'
        raise RuntimeError(msg)


def simplify(model: onnx.ModelProto) -> None:
    """Write what the exporter gives as runtimes are quick at, and without what nothing needs."""
    pool_globally(model)
    split_extrema(model)
    fuse_hard_sigmoids(model)
    drop_unused_initializers(model)
    drop_traces(model)


def pool_globally(model: onnx.ModelProto) -> None:
    """Write means over height and width as GlobalAveragePool.

    Runtimes have it for their blocked layouts; a ReduceMean makes them convert the whole map.
    """
    values = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        keep = [a.i for a in node.attribute if a.name == 'keepdims'] or [1]
        if node.op_type != 'ReduceMean' or keep != [1] or len(node.input) != 2:
            continue
        if sorted(values.get(node.input[1], ())) in ([2, 3], [-2, -1]):
            node.op_type = 'GlobalAveragePool'
            del node.input[1:]
            del node.attribute[:]


def split_extrema(model: onnx.ModelProto) -> None:
    """Write the largest or smallest of a few channels as Max or Min of planes.

    ONNX Runtime's reduction over an axis that is not the last takes twice as long on a CPU.
    """
    values = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    shapes = {v.name: v.type.tensor_type.shape.dim for v in model.graph.value_info}
    nodes = []
    for node in model.graph.node:
        operator = {'ReduceMax': 'Max', 'ReduceMin': 'Min'}.get(node.op_type)
        keep = [a.i for a in node.attribute if a.name == 'keepdims'] or [1]
        axes = values.get(node.input[1]) if operator and len(node.input) == 2 else None
        if operator is None or keep != [1] or axes is None or axes.tolist() != [1]:
            nodes.append(node)
            continue
        channels = shapes[node.input[0]][1].dim_value
        planes = [f'{node.output[0]}_plane_{channel}' for channel in range(channels)]
        nodes += [
            onnx.helper.make_node('Split', node.input[:1], planes, axis=1, num_outputs=channels),
            onnx.helper.make_node(operator, planes, node.output),
        ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def fuse_hard_sigmoids(model: onnx.ModelProto) -> None:
    """Write a x - b, clipped to 0..1, as a HardSigmoid: one pass over the planes, not three."""
    values = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    producer = {name: node for node in model.graph.node for name in node.output}
    readers = Counter(name for node in model.graph.node for name in node.input)

    def constant(name: str) -> float | None:
        value = values.get(name)
        return float(value) if value is not None and value.size == 1 else None

    for node in list(model.graph.node):
        if node.op_type != 'Clip' or [constant(name) for name in node.input[1:]] != [0.0, 1.0]:
            continue
        less = producer.get(node.input[0])
        scaled = producer.get(less.input[0]) if less is not None and less.input else None
        if scaled is None or (less.op_type, scaled.op_type) != ('Sub', 'Mul'):
            continue
        alpha, beta = constant(scaled.input[1]), constant(less.input[1])
        shared = any(readers[name] > 1 for name in (*less.output, *scaled.output))
        if alpha is None or beta is None or shared:
            continue
        fused = onnx.helper.make_node(
            'HardSigmoid', scaled.input[:1], node.output, alpha=alpha, beta=-beta
        )
        model.graph.node.insert(list(model.graph.node).index(node), fused)
        for old in (scaled, less, node):
            model.graph.node.remove(old)


def take_size_from_logits(model: onnx.ModelProto) -> None:
    """Ask the logits for the planes' size, which the exporter computes from the image's.

    Two operators instead of ten. And TensorRT wants a uint8 input to meet nothing but a cast.
    """
    nodes = list(model.graph.node)
    producer = {name: node for node in nodes for name in node.output}
    logits = next(node for node in nodes if CLASSIFIER in node.input)
    make = onnx.helper.make_node
    rows = onnx.numpy_helper.from_array(np.array([-1]), 'rows_of_scores')
    sizes = [
        make('Shape', logits.output, ['size_of_planes'], start=2),
        make('Concat', [rows.name, 'size_of_planes'], ['size_of_scores'], axis=0),
    ]
    for output in ('confidence', 'anomaly', 'scores'):
        if producer[output].op_type != 'Reshape':
            msg = f'{output} comes from {producer[output].op_type}, expected Reshape'
            raise RuntimeError(msg)
        producer[output].input[1] = sizes[output == 'scores'].output[0]
    place = nodes.index(logits) + 1
    nodes[place:place] = sizes
    read = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(nodes):  # what nothing reads any more is left out
        if not read.isdisjoint(node.output):
            read.update(node.input)
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
    model.graph.initializer.append(rows)
    drop_unused_initializers(model)


def drop_unused_initializers(model: onnx.ModelProto) -> None:
    """Drop constants that no node reads: runtimes warn of each at every start."""
    read = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def drop_traces(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes of the code behind each node: paths of the machine, mostly."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
    for value in (*graph.input, *graph.output):
        del value.metadata_props[:]
