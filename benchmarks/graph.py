# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Cost of the graph that ships: of its scores, of the pipeline around it, of session settings.

``--each-score`` exports a network with every score and prints what each adds to the labels.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import cycle
from pathlib import Path
from time import perf_counter
from time import process_time

import cv2
import numpy as np
import onnx
import onnxruntime
from onnx.utils import Extractor
from reporting import machine
from reporting import ms
from reporting import pair_ratio
from reporting import size
from reporting import table

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import default_bundle_path
from seg_uncertainty_ros.pipeline import Pipeline
from seg_uncertainty_ros.recordings import open_source
from seg_uncertainty_ros.runtime.onnx_runtime import session_options

WARM_UP = 5
MOST_FRAMES = 40
SCORES_GOAL = 1.03
EVERY_SCORE_GOAL = 1.05
NETWORK_SIZE = (384, 640)
PIPELINE_GOAL = 1.10


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--bundle', type=Path, default=default_bundle_path())
    parser.add_argument('--size', type=size, default=(640, 360), metavar='WxH', help='of a frame')
    parser.add_argument('--runs', type=int, default=100, help='of each thing that is compared')
    parser.add_argument('--threads', type=int, default=0, help='0: one a core')
    parser.add_argument(
        '--each-score',
        metavar='CHECKPOINT',
        help='instead: what each score adds to the graph of this, or "random" (needs torch)',
    )
    parser.add_argument(
        '--cpu-time', action='store_true', help='of the process, where the machine is not idle'
    )
    parser.add_argument('--settings', action='store_true', help='try session settings as well')
    return parser.parse_args()


def camera_frames(width, height, runs):
    source = open_source(f'procedural:seed=3,width={width},height={height},duration=4')
    return [frame for _, frame in zip(range(min(runs, MOST_FRAMES)), source, strict=False)]


def network_inputs(frames, bundle):
    height, width = frames[0].image.shape[:2]
    rows, columns = bundle.geometry.network_size(height, width)
    return [cv2.resize(frame.image, (columns, rows)) for frame in frames]


def session(path, options):
    return onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])


def runner(graph_session):
    """Return a function that runs a session on an image, with the inputs that it has."""
    score = np.array(0, dtype=np.int64)
    wanted = {value.name for value in graph_session.get_inputs()}

    def run(image):
        feeds = {'image': image, 'score_index': score}
        return graph_session.run(None, {name: feeds[name] for name in wanted})

    return run


def bound_runner(graph_session, image):
    """Return a function that runs a session into outputs that are allocated once."""
    binding = graph_session.io_binding()
    score = np.array(0, dtype=np.int64)
    binding.bind_cpu_input('score_index', score)
    names = [value.name for value in graph_session.get_outputs()]
    for name, made in zip(names, runner(graph_session)(image), strict=True):
        value = onnxruntime.OrtValue.ortvalue_from_numpy(np.empty_like(made))
        binding.bind_ortvalue_output(name, value)

    def run(image):
        binding.bind_cpu_input('image', image)
        graph_session.run_with_iobinding(binding)

    return run


def interleave(first, second, first_inputs, second_inputs, runs, clock=perf_counter):
    """Return the seconds of each run of two functions that take turns, also in going first."""
    inputs = cycle(zip(first_inputs, second_inputs, strict=True))
    seconds = ([], [])
    for index in range(WARM_UP + runs):
        pair = next(inputs)
        for which in (0, 1) if index % 2 else (1, 0):
            start = clock()
            (first, second)[which](pair[which])
            if index >= WARM_UP:
                seconds[which].append(clock() - start)
    return seconds


def labels_only(model, path):
    """Write the part of the graph that leads to the labels."""
    onnx.save(Extractor(model).extract_model(['image'], ['labels']), path)


def labels_at_stride_4(model, path):
    """Write the graph with the labels of the logits as they are, not of logits upsampled by 2."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    producer = {name: node for node in changed.graph.node for name in node.output}
    node = producer['labels']
    while node.op_type != 'ArgMax':
        node = producer[node.input[0]]
    upsampling = producer[node.input[0]]
    if upsampling.op_type != 'Resize':
        raise SystemExit(f'{node.input[0]} comes from {upsampling.op_type}, expected Resize')
    node.input[0] = upsampling.input[0]
    changed.graph.node.remove(upsampling)
    # The stored shapes are those of the finer labels.
    del changed.graph.value_info[:]
    for output in changed.graph.output:
        if output.name == 'labels':
            output.type.tensor_type.ClearField('shape')
    onnx.save(changed, path)


def compare_scores(model, bundle, inputs, options, folder):
    """Print the time of the scores, and of scores and embedding, against labels only."""
    labels_only(model, folder / 'labels.onnx')
    labels = runner(session(folder / 'labels.onnx', session_options(options.threads)))
    everything = [output.name for output in model.graph.output]
    scores = [name for name in everything if name != 'embedding']
    rows = []
    for name, outputs in (
        (f'all {len(bundle.scores)} scores', scores),
        ('scores and embedding', everything),
    ):
        onnx.save(Extractor(model).extract_model(inputs_of(outputs), outputs), folder / 's.onnx')
        graph = runner(session(folder / 's.onnx', session_options(options.threads)))
        seconds = interleave(graph, labels, inputs, inputs, options.runs)
        rows.append([name, ms(seconds[0]), ms(seconds[1]), pair_ratio(*seconds)])
    print('\n## Graph: all scores against labels only\n')
    print(table(['graph', 'median ms', 'labels only, median ms', 'ratio'], rows))
    print(f'\ngoal for the scores <= {SCORES_GOAL}')


def deployed_graph(checkpoint, path):
    """Export a network with every score that is not an alternative form; return their names."""
    try:
        import torch
    except ImportError:
        raise SystemExit('--each-score needs torch: see CONTRIBUTING.md') from None

    from seg_uncertainty_ros.classes import CAMVID
    from seg_uncertainty_ros.network.deployed import DeployedGraph
    from seg_uncertainty_ros.network.export import export_onnx
    from seg_uncertainty_ros.network.segmenter import Segmenter
    from seg_uncertainty_ros.scores import ALTERNATIVES
    from seg_uncertainty_ros.scores import FeatureStatistics
    from seg_uncertainty_ros.scores import available

    torch.manual_seed(0)
    weights = None
    if checkpoint != 'random':
        weights = torch.load(checkpoint, weights_only=True)['weights']
    outlier = weights is None or len(weights['classifier.bias']) > len(CAMVID)
    segmenter = Segmenter(len(CAMVID), outlier=outlier)
    if weights is not None:
        segmenter.load_state_dict(weights)
    features = segmenter.classifier.in_channels
    # Their values change no time.
    rng = np.random.default_rng(0)
    statistics = FeatureStatistics(
        np.ones(len(CAMVID), np.int64),
        rng.uniform(0.0, 1.0, (len(CAMVID), features)),
        np.eye(features),
    )
    names = tuple(
        name
        for name in available(outlier=outlier, statistics=statistics)
        if name not in ALTERNATIVES
    )
    knots = torch.linspace(-1.0, 1.0, 9).repeat(len(names), 1)
    export_onnx(DeployedGraph(segmenter, knots, 1.5, names, statistics), path)
    return names


def with_scores(model, kept, outputs, path):
    """Write the graph with these rows of its scores only, up to these outputs."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    producer = {name: node for node in changed.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in changed.graph.initializer}
    planes = producer['scores']
    while planes.op_type == 'Reshape':
        if planes.input[1] in constants:  # to (scores, pixels)
            shape = np.array([len(kept), -1])
            constants[planes.input[1]].CopyFrom(
                onnx.numpy_helper.from_array(shape, planes.input[1])
            )
        planes = producer[planes.input[0]]
    if planes.op_type != 'Concat':
        raise SystemExit(f'scores come from {planes.op_type}, expected Concat')
    rows = [planes.input[index] for index in kept]
    del planes.input[:]
    planes.input.extend(rows)
    # The stored shapes are those of all scores.
    del changed.graph.value_info[:]
    for output in changed.graph.output:
        if output.name == 'scores':
            output.type.tensor_type.ClearField('shape')
    onnx.save(Extractor(changed).extract_model(inputs_of(outputs), outputs), path)


def inputs_of(outputs):
    return ['image', 'score_index'] if 'anomaly' in outputs else ['image']


def compare_each_score(options, folder):
    from seg_uncertainty_ros.scores import DEPLOYED

    names = deployed_graph(options.each_score, folder / 'all.onnx')
    model = onnx.load(folder / 'all.onnx')
    labels_only(model, folder / 'labels.onnx')
    everything = [output.name for output in model.graph.output]
    deployed = [names.index(name) for name in DEPLOYED if name in names]
    sets = {
        'embedding alone': ([], ['labels', 'embedding']),
        **{name: ([index], ['labels', 'scores']) for index, name in enumerate(names)},
        f'the {len(deployed)} of DEPLOYED, all outputs': (deployed, everything),
        f'all {len(names)}, all outputs': (range(len(names)), everything),
    }
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, *NETWORK_SIZE, 3), dtype=np.uint8)
    labels = runner(session(folder / 'labels.onnx', session_options(options.threads)))
    clock = process_time if options.cpu_time else perf_counter
    rows = []
    for name, (kept, outputs) in sets.items():
        path = folder / 'some.onnx'
        if kept:
            with_scores(model, kept, outputs, path)
        else:
            onnx.save(Extractor(model).extract_model(['image'], outputs), path)
        graph = runner(session(path, session_options(options.threads)))
        seconds = interleave(graph, labels, images, images, options.runs, clock)
        added = np.median(seconds[0]) - np.median(seconds[1])
        rows.append([name, ms(seconds[0]), f'{1e3 * added:.2f}', pair_ratio(*seconds)])
    print(f'\n## What a score adds to the labels, {NETWORK_SIZE[1]}x{NETWORK_SIZE[0]}\n')
    print(table(['graph', 'median ms', 'added ms', 'ratio to labels only'], rows))
    print(f'\ngoal for all of them <= {EVERY_SCORE_GOAL}')


def compare_pipeline(bundle, frames, inputs, options):
    pipeline = Pipeline(bundle, threads=options.threads)
    results = []
    seconds = interleave(
        lambda frame: results.append(pipeline.process(frame).timings),
        runner(session(bundle.graph, session_options(options.threads))),
        frames,
        inputs,
        options.runs,
    )
    rows = [
        [name, ms(times), ms(times, 95)]
        for name, times in zip(('Pipeline.process', 'bare session'), seconds, strict=True)
    ]
    print('\n## Pipeline against the bare session on the resized image\n')
    print(table(['', 'median ms', 'p95 ms'], rows))
    print(f'\nratio {pair_ratio(*seconds)}, goal <= {PIPELINE_GOAL}')
    parts = results[WARM_UP:]
    total = np.median([part.total_s for part in parts])
    rows = []
    for name, text in (
        ('pre_s', 'resize to the network'),
        ('infer_s', 'graph'),
        ('post_s', 'planes to the camera'),
    ):
        times = [getattr(part, name) for part in parts]
        rows.append([text, ms(times), ms(times, 95), f'{100 * np.median(times) / total:.1f} %'])
    print('\n## Where a frame spends its time\n')
    print(table(['part', 'median ms', 'p95 ms', 'share'], rows))


def compare_settings(model, bundle, inputs, options, folder):
    """Print session settings against those that ship, one at a time."""
    labels_at_stride_4(model, folder / 'stride4.onnx')
    rows, columns = inputs[0].shape[:2]

    def variant(path=bundle.graph, threads=options.threads, **attributes):
        made = session_options(threads)
        for name, value in attributes.items():
            setattr(made, name, value)
        return session(path, made)

    def with_entry(key, value):
        made = session_options(options.threads)
        made.add_session_config_entry(key, value)
        return session(bundle.graph, made)

    def static():
        made = session_options(options.threads)
        sides = [side for value in model.graph.input for side in value.type.tensor_type.shape.dim]
        for side, length in zip(sides, (rows, columns), strict=False):
            made.add_free_dimension_override_by_name(side.dim_param, length)
        return session(bundle.graph, made)

    level = onnxruntime.GraphOptimizationLevel
    variants = {
        'the same again': variant,
        'no spinning': lambda: with_entry('session.intra_op.allow_spinning', '0'),
        'spinning between runs': lambda: with_entry('session.force_spinning_stop', '0'),
        '1 thread': lambda: variant(threads=1),
        '2 threads': lambda: variant(threads=2),
        'optimisation: basic': lambda: variant(graph_optimization_level=level.ORT_ENABLE_BASIC),
        'optimisation: extended': lambda: variant(
            graph_optimization_level=level.ORT_ENABLE_EXTENDED
        ),
        f'static shape {columns}x{rows}': static,
        'no memory arena': lambda: variant(enable_cpu_mem_arena=False),
        'no memory pattern': lambda: variant(enable_mem_pattern=False),
        'denormals as zero': lambda: with_entry('session.set_denormal_as_zero', '1'),
        'labels at stride 4': lambda: variant(folder / 'stride4.onnx'),
    }
    shipped = runner(variant())
    runners = {name: lambda create=create: runner(create()) for name, create in variants.items()}
    runners['outputs allocated once'] = lambda: bound_runner(variant(), inputs[0])
    clock = process_time if options.cpu_time else perf_counter
    lines = []
    for name, create in runners.items():
        seconds = interleave(create(), shipped, inputs, inputs, options.runs, clock)
        lines.append([name, ms(seconds[0]), ms(seconds[1]), pair_ratio(*seconds)])
    print('\n## Session settings against those that ship, one at a time\n')
    print(table(['change', 'median ms', 'shipped, median ms', 'ratio'], lines))


def main():
    options = parse()
    onnxruntime.set_default_logger_severity(3)  # a cut graph leaves constants behind: no news
    # OpenCV's share of the pipeline gets as many threads as the graph; 0 means one thread there.
    cv2.setNumThreads(options.threads or -1)
    if options.each_score:
        clock = 'processor time' if options.cpu_time else 'wall time'
        print(machine())
        print(
            f'network {options.each_score}, ONNX Runtime {onnxruntime.__version__}, threads '
            f'{options.threads or "one a core"}, {options.runs} runs, interleaved, {clock}'
        )
        with tempfile.TemporaryDirectory() as folder:
            compare_each_score(options, Path(folder))
        return
    bundle = Bundle.load(options.bundle)
    frames = camera_frames(*options.size, options.runs)
    inputs = network_inputs(frames, bundle)
    print(machine())
    print(
        f'bundle {bundle.name} {bundle.version}, ONNX Runtime {onnxruntime.__version__}, camera '
        f'{options.size[0]}x{options.size[1]}, network {inputs[0].shape[1]}x{inputs[0].shape[0]}, '
        f'threads {options.threads or "one a core"}, {options.runs} runs, interleaved'
    )
    model = onnx.load(bundle.graph)
    with tempfile.TemporaryDirectory() as folder:
        compare_scores(model, bundle, inputs, options, Path(folder))
        compare_pipeline(bundle, frames, inputs, options)
        if options.settings:
            compare_settings(model, bundle, inputs, options, Path(folder))


if __name__ == '__main__':
    main()
