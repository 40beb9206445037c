# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""How far a runtime is from the machine: its time over the least that the layers can take.

Williams et al., Roofline, CACM 2009. A layer takes at least its operations over the peak of a
matrix product, and at least its bytes (activations in, weights, activations out, each once) over
the bandwidth of a copy; both peaks are measured here, by the same runtime on the same device.
What is not a convolution, linear layer or matrix product counts as free: it can be fused.
"""

from __future__ import annotations

import argparse
from math import prod
from pathlib import Path
from time import perf_counter

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto
from onnx import helper
from onnx import shape_inference
from reporting import machine
from reporting import ms
from reporting import size
from reporting import table
from tqdm import tqdm

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import default_bundle_path
from seg_uncertainty_ros.runtime.onnx_runtime import session_options
from seg_uncertainty_ros.runtime.selection import BACKENDS
from seg_uncertainty_ros.runtime.selection import open_runtime
from seg_uncertainty_ros.runtime.tensorrt_graph import tensorrt_graph

WARM_UP = 3
PEAK_RUNS = 15
MATRIX = 2048
COPIED = 1 << 26
"""Numbers of a copy: more than any cache holds."""
LAYERS = ('Conv', 'ConvTranspose', 'Gemm', 'MatMul')


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--bundle', type=Path, default=default_bundle_path())
    parser.add_argument('--size', type=size, default=(640, 360), metavar='WxH', help='of a frame')
    parser.add_argument('--backend', choices=BACKENDS, default='onnxruntime-cpu')
    parser.add_argument('--runs', type=int, default=50)
    parser.add_argument('--threads', type=int, default=0, help='0: one a core')
    return parser.parse_args()


def layers(model):
    """Return kind, operations and bytes of each layer of a graph for one image size."""
    model = shape_inference.infer_shapes(model, data_prop=True)
    graph = model.graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    found = []
    for node in graph.node:
        if node.op_type not in LAYERS:
            continue
        first, second = (shapes[name] for name in node.input[:2])
        out = shapes[node.output[0]]
        if not all((*first, *second, *out)):
            raise SystemExit(f'{node.op_type} {node.name}: its size is not known')
        # Products for each number that comes out, of a transposed convolution that goes in.
        terms = {'Conv': prod(second[1:]), 'ConvTranspose': prod(second[1:])}
        products = terms.get(node.op_type, first[-1])
        places = prod(first if node.op_type == 'ConvTranspose' else out)
        moved = sum(prod(shapes[name]) for name in (*node.input, node.output[0]) if name)
        kind = node.op_type
        if kind == 'Conv':
            sides = 'x'.join(map(str, second[2:]))
            groups = next((a.i for a in node.attribute if a.name == 'group'), 1)
            kind = f'Conv {sides}{" by channel" if groups > 1 else ""}'
        found.append((kind, 2 * products * places, 4 * moved))
    return found


def best_time(nodes, inputs, outputs, provider, threads):
    """Return the least seconds of a graph of these nodes on random numbers, on its device."""
    values = [helper.make_tensor_value_info(k, TensorProto.FLOAT, v.shape) for k, v in inputs]
    ends = [helper.make_tensor_value_info(k, TensorProto.FLOAT, s) for k, s in outputs]
    graph = helper.make_graph(nodes, 'peak', values, ends)
    opsets = [helper.make_opsetid('', 18)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    run = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(threads), providers=[provider]
    )
    device = 'cuda' if provider.startswith('CUDA') else 'cpu'
    binding = run.io_binding()
    for name, value in inputs:
        bound = onnxruntime.OrtValue.ortvalue_from_numpy(value, device, 0)
        binding.bind_ortvalue_input(name, bound)
    for name, shape in outputs:
        bound = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, device, 0)
        binding.bind_ortvalue_output(name, bound)
    seconds = []
    for _ in tqdm(range(PEAK_RUNS), desc=f'peak of {nodes[0].op_type}', unit='run'):
        start = perf_counter()
        run.run_with_iobinding(binding)
        binding.synchronize_outputs()
        seconds.append(perf_counter() - start)
    return min(seconds[WARM_UP:])


def peaks(provider, threads):
    """Return operations and bytes a second that the device reaches."""
    rng = np.random.default_rng(0)
    square = rng.random((MATRIX, MATRIX), np.float32)
    product = best_time(
        [helper.make_node('MatMul', ['a', 'b'], ['c'])],
        [('a', square), ('b', square)],
        [('c', [MATRIX, MATRIX])],
        provider,
        threads,
    )
    long = rng.random(COPIED, np.float32)
    copy = best_time(
        [helper.make_node('Abs', ['a'], ['b'])],
        [('a', long)],
        [('b', [COPIED])],
        provider,
        threads,
    )
    return 2 * MATRIX**3 / product, 8 * COPIED / copy


def main():
    options = parse()
    bundle = Bundle.load(options.bundle)
    rows, columns = bundle.geometry.network_size(*options.size[::-1])
    runtime = open_runtime(bundle, options.backend, threads=options.threads)
    gpu = options.backend in ('tensorrt', 'onnxruntime-cuda')
    provider = 'CUDAExecutionProvider' if gpu else 'CPUExecutionProvider'
    flops, bandwidth = peaks(provider, options.threads)
    found = layers(onnx.load_from_string(tensorrt_graph(bundle.graph, rows, columns)))
    image = np.random.default_rng(0).integers(0, 256, (rows, columns, 3), np.uint8)
    seconds = []
    for _ in tqdm(range(WARM_UP + options.runs), desc=runtime.name, unit='frame'):
        start = perf_counter()
        runtime.run(image, 0)
        seconds.append(perf_counter() - start)
    seconds = seconds[WARM_UP:]
    lines, least = [], 0.0
    for kind in sorted({kind for kind, _, _ in found}):
        own = [(work, moved) for name, work, moved in found if name == kind]
        bound = sum(max(work / flops, moved / bandwidth) for work, moved in own)
        least += bound
        work, moved = (sum(column) for column in zip(*own, strict=True))
        lines.append([kind, len(own), f'{work / 1e9:.3f}', f'{moved / 1e6:.1f}', ms([bound])])
    print(f'# Roofline\n\n{machine()}; {runtime.name}, network {columns}x{rows}\n')
    peak = f'{flops / 1e9:.1f} GFLOP/s of a product, {bandwidth / 1e9:.1f} GB/s copied'
    print(f'Peaks: {peak}\n')
    print(table(['layers', 'count', 'GFLOP', 'MB moved', 'least ms'], lines))
    median = float(np.median(seconds))
    print(
        f'\nA frame takes {ms(seconds)} ms, its layers at least {ms([least])} ms: '
        f'{median / least:.2f} times the roofline.'
    )


if __name__ == '__main__':
    main()
