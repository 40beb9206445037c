# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Whether images of several cameras are faster in one batch: the network alone, on ONNX Runtime.

``--provider CUDAExecutionProvider`` asks the same of a GPU.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnx
from graph import interleave
from onnx.utils import Extractor
from onnxruntime import InferenceSession
from reporting import machine
from reporting import ms
from reporting import pair_ratio
from reporting import size
from reporting import table

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import default_bundle_path
from seg_uncertainty_ros.runtime.calibrated_graph import TEMPERATURE
from seg_uncertainty_ros.runtime.calibrated_graph import CalibratedGraph
from seg_uncertainty_ros.runtime.onnx_runtime import session_options

BATCHES = (2, 4)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--bundle', type=Path, default=default_bundle_path())
    parser.add_argument('--size', type=size, default=(640, 360), metavar='WxH', help='of a frame')
    parser.add_argument('--runs', type=int, default=40)
    parser.add_argument('--threads', type=int, default=0, help='0: one a core')
    parser.add_argument('--provider', default='CPUExecutionProvider')
    return parser.parse_args()


def network(bundle, folder):
    """Write the graph from float images NxHxWx3 to logits; return its path."""
    CalibratedGraph(bundle).save(folder / 'named.onnx')
    model = onnx.load(folder / 'named.onnx')
    logits = next(node.input[0] for node in model.graph.node if TEMPERATURE in node.input)
    # The one image gets the axis of the batch here.
    start = next(node.output[0] for node in model.graph.node if node.op_type == 'Unsqueeze')
    cut = Extractor(model).extract_model([start], [logits])
    for value in (*cut.graph.input, *cut.graph.output):
        value.type.tensor_type.ClearField('shape')
    sides = ['batch', 3, 'height', 'width']
    described = onnx.helper.make_tensor_value_info(start, onnx.TensorProto.FLOAT, sides)
    cut.graph.input[0].CopyFrom(described)
    del cut.graph.value_info[:]
    onnx.save(cut, folder / 'network.onnx')
    return folder / 'network.onnx'


def main():
    options = parse()
    bundle = Bundle.load(options.bundle)
    rows, columns = bundle.geometry.network_size(*options.size[::-1])
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        path = network(bundle, Path(name))
        run = InferenceSession(
            str(path), session_options(options.threads), providers=[options.provider]
        )
    start = run.get_inputs()[0].name
    lines = []
    for batch in BATCHES:
        images = rng.uniform(0, 255, (batch, 3, rows, columns)).astype(np.float32)

        def together(batch):
            return run.run(None, {start: batch})[0]

        def single(batch):
            return np.concatenate([run.run(None, {start: image[None]})[0] for image in batch])

        if not np.allclose(together(images), single(images), atol=1e-3):
            raise SystemExit(f'{path}: a batch of {batch} gives something else than its images')
        seconds = interleave(together, single, [images], [images], options.runs)
        per_image = [np.array(times) / batch for times in seconds]
        lines.append([batch, *(ms(times) for times in per_image), pair_ratio(*seconds)])
    print(f'# Batches\n\n{machine()}; {options.provider}, network {columns}x{rows}\n')
    head = ['images', 'in a batch, ms an image', 'one by one, ms an image', 'ratio']
    print(table(head, lines))


if __name__ == '__main__':
    main()
