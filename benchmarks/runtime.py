# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Every runtime that is present, for labels only and for all scores; memory over many frames.

Graphs of 8-bit integers run where the parity with float32 lets them: the gate needs --data.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version
from itertools import cycle
from itertools import islice
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import onnx
import onnxruntime
from graph import camera_frames
from graph import labels_only
from graph import runner
from graph import session
from reporting import machine
from reporting import ms
from reporting import pair_ratio
from reporting import table
from tqdm import tqdm

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import default_bundle_path
from seg_uncertainty_ros.evaluation.parity import CheckSet
from seg_uncertainty_ros.evaluation.parity import ParityError
from seg_uncertainty_ros.evaluation.parity import Tolerance
from seg_uncertainty_ros.evaluation.parity import compare
from seg_uncertainty_ros.evaluation.parity import gate
from seg_uncertainty_ros.frames import Frame
from seg_uncertainty_ros.pipeline import Pipeline
from seg_uncertainty_ros.pipeline import network_input
from seg_uncertainty_ros.recordings import open_source
from seg_uncertainty_ros.runtime.onnx_runtime import OnnxRuntime
from seg_uncertainty_ros.runtime.onnx_runtime import session_options
from seg_uncertainty_ros.runtime.openvino_runtime import OpenVinoRuntime
from seg_uncertainty_ros.runtime.outputs import GraphError
from seg_uncertainty_ros.runtime.precision import write_graph
from seg_uncertainty_ros.runtime.selection import open_runtime

WARM_UP = 5
RATE_GOAL_HZ = 15.0
PIPELINE_GOAL = 1.10
GROWTH_CAMERA = (64, 32)
WARM_UP_SHARE = 0.1
# Recordings that ranges of activations are taken from; none of them is in the check set.
CALIBRATION = ('dashcam_us_suburb', 'cityscapes_seq0003', 'highway_us')
CALIBRATION_FRAMES = 32


class Runner:
    """A runtime with its name, and what it runs without our code around it.

    ``bare`` and ``labels`` are functions of the network's input, None where there is none.
    """

    def __init__(self, name, runtime, bare=None, labels=None):
        self.name = name
        self.runtime = runtime
        self.bare = bare
        self.labels = labels

    def all(self, image):
        return self.runtime.run(image, 0)


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--bundle', type=Path, default=default_bundle_path())
    parser.add_argument('--data', type=Path, help='labelled images and recordings, for int8')
    parser.add_argument('--runs', type=int, default=100, help='of each thing that is compared')
    parser.add_argument('--threads', type=int, default=0, help='0: one a core')
    parser.add_argument('--frames', type=int, default=10_000, help='in the run for memory')
    parser.add_argument('--page', type=Path, help='Markdown file to write, such as a page of docs')
    return parser.parse_args()


def take_turns(functions, inputs, runs, task):
    """Return the seconds of each run of functions that take turns, the first one changing."""
    names = list(functions)
    seconds = {name: [] for name in names}
    images = cycle(inputs)
    for index in tqdm(range(WARM_UP + runs), desc=task, unit='round'):
        image = next(images)
        for offset in range(len(names)):
            name = names[(index + offset) % len(names)]
            start = perf_counter()
            functions[name](image)
            if index >= WARM_UP:
                seconds[name].append(perf_counter() - start)
    return seconds


def openvino_request(path, shape, threads):
    """Return a function that runs a graph on images of one shape, with nothing around it."""
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    shapes = {'image': list(shape), 'score_index': []}
    model.reshape({port.any_name: shapes[port.any_name] for port in model.inputs})
    options = {'INFERENCE_PRECISION_HINT': 'f32', 'INFERENCE_NUM_THREADS': threads}
    options |= {'PERFORMANCE_HINT': 'LATENCY', 'ENABLE_CPU_PINNING': False}
    request = core.compile_model(model, 'CPU', options).create_infer_request()
    feeds = {'image': None, 'score_index': np.array(0, dtype=np.int64)}
    feeds = {port.any_name: feeds[port.any_name] for port in model.inputs}

    def run(image):
        return request.infer({**feeds, 'image': image}, share_inputs=True, share_outputs=True)

    return run


def cpu_runners(bundle, graphs, shape, threads, folder):
    """Return the runtimes on the CPU; ``graphs`` by precision."""
    options = session_options(threads)
    for precision, path in graphs.items():
        labels_only(onnx.load(path), folder / f'labels_{precision}.onnx')
    labels = folder / 'labels_fp32.onnx'
    runners = [
        Runner(
            'onnxruntime-cpu fp32',
            OnnxRuntime(bundle, threads),
            runner(session(bundle.graph, options)),
            runner(session(labels, options)),
        )
    ]
    for precision, path in graphs.items():
        try:
            runtime = OpenVinoRuntime(bundle, threads, graph=path)
        except GraphError:
            break
        bare = openvino_request(path, shape, threads)
        only = openvino_request(folder / f'labels_{precision}.onnx', shape, threads)
        runners.append(Runner(f'openvino {precision}', runtime, bare, only))
    return runners


def gpu_runners(bundle):
    """Return the runtimes on a GPU, and of each that is not there the reason."""
    runners, reasons = [], {}
    for backend in ('tensorrt', 'onnxruntime-cuda'):
        try:
            runners.append(Runner(backend, open_runtime(bundle, backend)))
        except GraphError as error:
            reasons[backend] = str(error)
    return runners, reasons


def write_graphs(bundle, data, threads, folder):
    """Return graphs by precision that may run, and parity and refusals as text."""
    graphs = {'fp32': bundle.graph}
    if data is None:
        return graphs, '## Parity\n\nNot measured: `--data` was not given.'
    sources = [open_source(str(data / 'recordings' / name)) for name in CALIBRATION]
    frames = [
        frame
        for source in sources
        for frame in islice(source, 0, None, max(1, source.frame_count // CALIBRATION_FRAMES))
    ]
    candidates = {name: folder / f'{name}.onnx' for name in ('fp16', 'int8')}
    runtimes = {'onnxruntime-cpu fp32': OnnxRuntime(bundle, threads)}
    for name, path in candidates.items():
        write_graph(bundle, name, path, frames)
        runtimes[f'onnxruntime-cpu {name}'] = OnnxRuntime(bundle, threads, graph=path)
    candidates = {'fp32': bundle.graph, 'int8': candidates['int8']}
    for name, path in candidates.items():
        try:
            runtimes[f'openvino {name}'] = OpenVinoRuntime(bundle, threads, graph=path)
        except GraphError:
            break
    report = compare(bundle, runtimes, CheckSet.open(data))
    verdicts = []
    for row in report.rows[1:]:
        try:
            gate(replace(report, rows=(report.rows[0], row)), Tolerance())
        except ParityError as error:
            verdicts.append(f'- refused: {error}')
        else:
            verdicts.append(f'- {row.name}: within a point of mIoU and AP')
            if row.name == 'openvino int8':
                graphs['int8'] = candidates['int8']
    recordings = ', '.join(CALIBRATION)
    text = f'{report.markdown()}\nRanges of activations from {len(frames)} frames of {recordings}.'
    return graphs, f'{text} The gate says:\n\n' + '\n'.join(verdicts)


def rates(seconds):
    """Return p50, p95, p99 in milliseconds and the mean rate."""
    return [ms(seconds), ms(seconds, 95), ms(seconds, 99), f'{1 / np.mean(seconds):.1f}']


def compare_runtimes(bundle, graphs, camera, options, folder):
    """Return Markdown about one camera, and the best rate."""
    frames = camera_frames(*camera, options.runs)
    inputs = [network_input(frame.image, bundle.geometry) for frame in frames]
    rows, columns = inputs[0].shape[:2]
    runners = cpu_runners(bundle, graphs, inputs[0].shape, options.threads, folder)
    more, reasons = gpu_runners(bundle)
    runners += more
    functions = {(r.name, 'all'): r.all for r in runners}
    functions |= {(r.name, 'labels'): r.labels for r in runners if r.labels}
    seconds = take_turns(functions, inputs, options.runs, f'{columns}x{rows}')
    lines = []
    for r in runners:
        scores = seconds[r.name, 'all']
        only = seconds.get((r.name, 'labels'))
        ratio = pair_ratio(scores, only) if only else '-'
        lines.append([r.name, *rates(scores), *(rates(only) if only else '-' * 4), ratio])
    head = ['runtime', 'p50 ms', 'p95', 'p99', 'Hz']
    head += ['labels only: p50 ms', 'p95', 'p99', 'Hz', 'all to labels']
    outputs = runners[0].all(inputs[0])
    planes = sum(plane.nbytes for plane in outputs)
    traffic = (
        f'Bytes in and out of the runtime: {inputs[0].nbytes:,} in; {planes:,} out with all '
        f'scores, {outputs.labels.nbytes:,} labels only.'
    )
    text = f'{table(head, lines)}\n\n{traffic}\n'
    for name, reason in reasons.items():
        text += f'\n{name} was not measured: {reason}\n'
    best = max(1 / np.mean(seconds[r.name, 'all']) for r in runners)
    return text + '\n' + compare_pipelines(bundle, runners, frames, inputs, options), best


def compare_pipelines(bundle, runners, frames, inputs, options):
    """Return a table of the pipeline against what its runtime runs."""
    lines = []
    pairs = list(zip(frames, inputs, strict=True))
    for r in (r for r in runners if r.bare):
        pipeline = Pipeline(bundle, runtime=r.runtime)
        functions = {
            'pipeline': lambda pair, pipeline=pipeline: pipeline.process(pair[0]),
            'bare': lambda pair, bare=r.bare: bare(pair[1]),
        }
        seconds = take_turns(functions, pairs, options.runs, f'pipeline on {r.name}')
        ratio = pair_ratio(seconds['pipeline'], seconds['bare'])
        lines.append([r.name, ms(seconds['pipeline']), ms(seconds['bare']), ratio])
    return table(['runtime', 'Pipeline.process, p50 ms', 'bare, p50 ms', 'ratio'], lines)


def memory(bundle, graphs, options):
    """Return a table of what many frames leave behind in memory."""
    width, height = GROWTH_CAMERA
    rng = np.random.default_rng(0)
    frames = [Frame(rng.integers(0, 256, (height, width, 3), np.uint8), i) for i in range(8)]
    makers = {'onnxruntime-cpu fp32': lambda: OnnxRuntime(bundle, threads=1)}
    for name, path in graphs.items():
        makers[f'openvino {name}'] = lambda path=path: OpenVinoRuntime(
            bundle, threads=1, graph=path
        )
    lines = []
    for name, make in makers.items():
        try:
            pipeline = Pipeline(bundle, runtime=make())
        except GraphError:
            break
        resident = []
        for index in tqdm(range(options.frames), desc=f'memory, {name}', unit='frame'):
            pipeline.process(frames[index % len(frames)])
            if index % max(1, options.frames // 100) == 0:
                resident.append(resident_bytes())
        settled = resident[int(WARM_UP_SHARE * len(resident)) :]
        growth = settled[-1] - settled[0]
        slope = growth / ((1 - WARM_UP_SHARE) * options.frames)
        lines.append([name, f'{resident[0] / 2**20:.0f}', f'{settled[-1] / 2**20:.0f}'])
        lines[-1] += [f'{growth / 2**20:.1f}', f'{slope:.0f}']
    head = ['Pipeline on', 'first frame, MiB', 'last frame, MiB']
    return table([*head, 'growth after the first tenth, MiB', 'bytes a frame'], lines)


def resident_bytes():
    pages = int(Path('/proc/self/statm').read_text(encoding='utf-8').split()[1])
    return pages * os.sysconf('SC_PAGESIZE')


def packages():
    found = []
    for name in ('onnxruntime', 'openvino', 'tensorrt'):
        try:
            found.append(f'{name} {version(name)}')
        except PackageNotFoundError:
            found.append(f'no {name}')
    return ', '.join(found)


def main():
    options = parse()
    onnxruntime.set_default_logger_severity(3)  # a cut graph leaves constants behind: no news
    # OpenCV's share of the pipeline gets as many threads as the graph; 0 means one thread there.
    cv2.setNumThreads(options.threads or -1)
    bundle = Bundle.load(options.bundle)
    full = replace(bundle, geometry=replace(bundle.geometry, max_pixels=1024 * 512))
    cases = (
        ('Camera 640x360', bundle, (640, 360)),
        ('Camera 1024x512', bundle, (1024, 512)),
        ('Camera 1024x512, network of the same size', full, (1024, 512)),
    )
    parts = [
        '# Performance',
        f'{machine()}; {packages()}. Bundle {bundle.label}, threads '
        f'{options.threads or "one a core"}, {options.runs} runs of each, taking turns. Made by '
        f'`python benchmarks/runtime.py --page docs/performance.md`'
        f'{" with `--data`" if options.data else ""}. Rates are of single frames one after '
        'another; `all to labels` is the median ratio of neighbouring runs.',
    ]
    # First: what others leave on the heap would be in the way.
    growth = memory(bundle, {'fp32': bundle.graph}, options)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graphs, parity = write_graphs(bundle, options.data, options.threads, folder)
        for title, model, camera in cases:
            rows, columns = model.geometry.network_size(*camera[::-1])
            text, best = compare_runtimes(model, graphs, camera, options, folder)
            parts += [f'## {title}: network {columns}x{rows}', text]
            if camera == (1024, 512):
                parts.append(f'Best: {best:.1f} Hz with all scores, goal >= {RATE_GOAL_HZ:g}.')
        parts.append(f'Goal of the ratio of the pipeline: <= {PIPELINE_GOAL}.')
        width, height = GROWTH_CAMERA
        parts += [
            f'## Memory over {options.frames:,} frames',
            f'Resident memory of the process; a camera of {width}x{height}, one thread.',
            growth,
            parity,
        ]
    page = '\n\n'.join(part.strip() for part in parts) + '\n'
    print(page)
    if options.page:
        options.page.parent.mkdir(parents=True, exist_ok=True)
        options.page.write_text(page, encoding='utf-8')


if __name__ == '__main__':
    main()
