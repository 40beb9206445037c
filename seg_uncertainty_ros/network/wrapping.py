# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Put a given network between an image and a score head: one ONNX model, the network unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto
from onnx import compose
from onnx import helper
from onnx import numpy_helper
from onnx import version_converter

from seg_uncertainty_ros.network.given import NetworkError

if TYPE_CHECKING:
    from pathlib import Path

    from seg_uncertainty_ros.network.given import GivenNetwork

OUTPUTS = ('labels', 'confidence', 'anomaly', 'embedding', 'scores')
PREFIX = 'network.'
"""Of every name in the given network, none of which then meets one of the head."""
NORMALISED = 'input.normalised'


@dataclass(frozen=True)
class Normalisation:
    """What the network was trained with: (pixel - mean) / std, channels in its order.

    ``mean`` and ``std`` are of pixels in 0..``pixel_range``: 1 as in torchvision, or 255.

    Raises:
        NetworkError: no numbers of that range.

    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    order: Literal['rgb', 'bgr'] = 'rgb'
    pixel_range: float = 1.0

    def __post_init__(self) -> None:
        scale = f'pixels in 0..{self.pixel_range:g}'
        other = 255 if self.pixel_range == 1 else 1
        for name, values in (('mean', self.mean), ('std', self.std)):
            text = ','.join(f'{value:g}' for value in values)
            if len(values) != 3 or not all(isfinite(value) for value in values):
                msg = f'--{name}: {text}, expected three numbers'
                raise NetworkError(msg)
            least = min(values)
            if least < 0 or (name == 'std' and least == 0):
                msg = f'--{name}: {text}, expected {">" if name == "std" else ">="} 0'
                raise NetworkError(msg)
            if max(values) > self.pixel_range:
                msg = f'--{name}: {text} of {scale}; are they of 0..{other}? --pixel-range says so'
                raise NetworkError(msg)


def body(network: GivenNetwork, normalisation: Normalisation) -> onnx.ModelProto:
    """Return the model from a uint8 HxWx3 BGR ``image`` to the network's outputs, prefixed."""
    model = compose.add_prefix(network.model, PREFIX)
    # Shapes noted for another batch or size are none of this graph's.
    del model.graph.value_info[:]
    before = helper.make_model(
        _normaliser(network, normalisation),
        opset_imports=[helper.make_opsetid('', network.opset)],
        ir_version=model.ir_version,
    )
    return compose.merge_models(before, model, [(NORMALISED, PREFIX + network.image)])


def whole(network: GivenNetwork, start: onnx.ModelProto, head: onnx.ModelProto) -> onnx.ModelProto:
    """Return the deployed graph: ``start`` of ``body``, then the score head.

    Raises:
        NetworkError: head and network cannot be one model.

    """
    try:
        if network.opset > head.opset_import[0].version:
            head = version_converter.convert_version(head, network.opset)
        start.ir_version = head.ir_version = max(start.ir_version, head.ir_version)
        names = [value.name for value in head.graph.input if value.name != 'score_index']
        outputs = [PREFIX + plane.name for plane in network.planes]
        model = compose.merge_models(
            start, head, list(zip(outputs, names, strict=True)), outputs=list(OUTPUTS)
        )
        # Merging lists the same operators once for each part.
        versions = {entry.domain: entry.version for entry in model.opset_import}
        del model.opset_import[:]
        model.opset_import.extend(helper.make_opsetid(*entry) for entry in versions.items())
        onnx.checker.check_model(model)
    except (ValueError, RuntimeError, onnx.checker.ValidationError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        msg = f'opset {network.opset}: the scores cannot be put behind the network: {reason}'
        raise NetworkError(msg) from error
    model.graph.name = 'deployed'
    return model


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a model as one file."""
    onnx.save(model, path)


def _normaliser(network: GivenNetwork, normalisation: Normalisation) -> onnx.GraphProto:
    stride = network.geometry.stride
    rows, columns = network.geometry.size or (f'{stride}*rows', f'{stride}*columns')
    scale = 255.0 / normalisation.pixel_range
    std = scale * np.array(normalisation.std, np.float32).reshape(1, 3, 1, 1)
    mean = scale * np.array(normalisation.mean, np.float32).reshape(1, 3, 1, 1)
    constants = {
        'input.batch': np.array([0], np.int64),
        'input.mean': mean.astype(np.float32),
        'input.std': std.astype(np.float32),
    }
    planes = ['input.0', 'input.1', 'input.2']
    order = planes[::-1] if normalisation.order == 'rgb' else planes
    nodes = [
        # TensorRT wants a uint8 input to meet a cast before anything else.
        helper.make_node('Cast', ['image'], ['input.cast'], to=TensorProto.FLOAT),
        helper.make_node('Transpose', ['input.cast'], ['input.channels'], perm=[2, 0, 1]),
        helper.make_node('Unsqueeze', ['input.channels', 'input.batch'], ['input.batched']),
        helper.make_node('Split', ['input.batched'], planes, axis=1, num_outputs=3),
        helper.make_node('Concat', order, ['input.ordered'], axis=1),
        helper.make_node('Sub', ['input.ordered', 'input.mean'], ['input.centred']),
        helper.make_node('Div', ['input.centred', 'input.std'], [NORMALISED]),
    ]
    return helper.make_graph(
        nodes,
        'normalise',
        [helper.make_tensor_value_info('image', TensorProto.UINT8, [rows, columns, 3])],
        [helper.make_tensor_value_info(NORMALISED, TensorProto.FLOAT, [1, 3, rows, columns])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
