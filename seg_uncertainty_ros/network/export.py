# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Export the deployed graph as one ONNX file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import torch
from torch.export import Dim

from seg_uncertainty_ros.network.deployed import INPUTS
from seg_uncertainty_ros.network.deployed import OUTPUTS
from seg_uncertainty_ros.network.segmenter import Segmenter

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
    opsets = {entry.version for entry in model.opset_import if entry.domain in ('', 'ai.onnx')}
    outside = [t.name for t in model.graph.initializer if t.data_location == t.EXTERNAL]
    if opsets != {OPSET} or outside:
        msg = f'{path}: exported with opsets {opsets}, external weights {outside}'
        raise RuntimeError(msg)
