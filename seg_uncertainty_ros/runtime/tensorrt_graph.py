# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A graph as TensorRT takes it: one image size, bytes at the inputs and outputs only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seg_uncertainty_ros.runtime.onnx_file import read_onnx

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

MOVES = ('Flatten', 'Identity', 'Reshape', 'Squeeze', 'Transpose', 'Unsqueeze')
"""Operators that only move values: a cast may stand before or behind."""


def tensorrt_graph(path: Path, height: int, width: int) -> bytes:
    """Return the ONNX file ``path`` for images of one size, with its casts to uint8 last.

    Raises:
        GraphError: no package onnx, or a file that it cannot read.

    """
    model = read_onnx(path, 'building an engine')
    fix_size(model, height, width)
    cast_to_bytes_last(model)
    return model.SerializeToString()


def fix_size(model: onnx.ModelProto, height: int, width: int) -> None:
    """Give the first input, an image HxWx3, its size; what follows from it follows."""
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    for dimension, size in zip(dimensions, (height, width, 3), strict=True):
        dimension.dim_value = size
    del model.graph.value_info[:]
    for output in model.graph.output:
        for dimension in output.type.tensor_type.shape.dim:
            if dimension.HasField('dim_param'):
                dimension.Clear()


def cast_to_bytes_last(model: onnx.ModelProto) -> None:
    """Let every cast to uint8 change places with the operator behind it that only moves values.

    TensorRT has uint8 for inputs and outputs only.
    """
    import onnx

    outputs = [output.name for output in model.graph.output]
    nodes = list(model.graph.node)  # in the order of computation
    for cast in [node for node in nodes if node.op_type == 'Cast']:
        if onnx.helper.get_node_attr_value(cast, 'to') != onnx.TensorProto.UINT8:
            continue
        while len(users := [node for node in nodes if cast.output[0] in node.input]) == 1:
            (user,) = users
            if user.op_type not in MOVES or cast.output[0] in outputs:
                break
            # value, cast, bytes, user, result: becomes value, user, bytes, cast, result.
            value, passed, result = cast.input[0], cast.output[0], user.output[0]
            user.input[0], user.output[0] = value, passed
            cast.input[0], cast.output[0] = passed, result
            nodes.remove(cast)
            nodes.insert(nodes.index(user) + 1, cast)
    ordered = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(ordered)
