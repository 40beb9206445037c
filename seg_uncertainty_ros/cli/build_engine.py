# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""build-engine: TensorRT's engine of a bundle, before the node needs it."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tqdm import tqdm

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.cli.options import CommandError
from seg_uncertainty_ros.cli.options import add_check
from seg_uncertainty_ros.cli.options import add_command
from seg_uncertainty_ros.cli.options import check
from seg_uncertainty_ros.cli.options import open_check_set
from seg_uncertainty_ros.cli.options import spread
from seg_uncertainty_ros.recordings import open_source
from seg_uncertainty_ros.runtime.onnx_runtime import OnnxRuntime
from seg_uncertainty_ros.runtime.precision import write_graph
from seg_uncertainty_ros.runtime.tensorrt_engines import EngineMaker
from seg_uncertainty_ros.runtime.tensorrt_engines import TensorRt

if TYPE_CHECKING:
    from seg_uncertainty_ros.runtime.engines import EngineKey


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'build-engine',
        run,
        "Build TensorRT's engine for this machine's GPU; the node finds it at its next start.",
        'build-engine BUNDLE --precision int8 --calibration DRIVE.mcap --check DATA',
    )
    parser.add_argument('bundle', metavar='BUNDLE', type=Path, help='model bundle')
    parser.add_argument('--precision', choices=('fp16', 'fp32', 'int8'), default='fp16')
    parser.add_argument(
        '--calibration',
        metavar='BAG',
        help='recording of the camera, for int8: bag, video, folder of images, procedural:...',
    )
    parser.add_argument('--topic', help='image topic of a bag that has several')
    parser.add_argument(
        '--size',
        type=_size,
        default='1920x1080',
        metavar='WxH',
        help="the camera's images (default: %(default)s)",
    )
    parser.add_argument(
        '--cache', type=Path, metavar='DIR', help='(default: ~/.cache/seg_uncertainty/engines)'
    )
    add_check(parser)


def run(options: argparse.Namespace) -> int:
    """Build the engine, or say that it is there."""
    if (options.precision == 'int8') != (options.calibration is not None):
        msg = f'--precision {options.precision}: --calibration goes with int8 and only with it'
        raise CommandError(msg)
    check_set = open_check_set(
        options, needed='--precision int8' if options.precision == 'int8' else ''
    )
    bundle = Bundle.load(options.bundle)
    platform = TensorRt()
    with TemporaryDirectory(prefix='seg_uncertainty_') as folder:
        graph = Path(folder) / f'{options.precision}.onnx'
        maker = EngineMaker(platform, bundle, options.precision, options.cache, graph)
        width, height = options.size
        key = maker.key(*bundle.geometry.network_size(height, width))
        frames = None
        if options.calibration is not None:
            frames = spread(open_source(options.calibration, topic=options.topic))
        write_graph(bundle, options.precision, graph, frames)
        report = None
        if check_set is not None:
            runtimes = {
                'fp32': OnnxRuntime(bundle),
                options.precision: OnnxRuntime(bundle, graph=graph),
            }
            report = check(bundle, runtimes, check_set, options.tolerance)
        if frames is not None:
            maker.cache.discard(key)  # it may be of other recordings
        make(maker, key)
    path = maker.cache.path(key)
    print(
        f'{path}: {path.stat().st_size / 1e6:.1f} MB, {key.size} {key.precision}, '
        f'{key.gpu} ({key.compute_capability}), TensorRT {key.tensorrt}'
    )
    if report is not None:
        report.write(path)
    return 0


def make(maker: EngineMaker, key: EngineKey) -> None:
    """Load or build the engine behind a progress bar, and see that it runs."""
    with tqdm(total=100, desc=f'engine {key.size} {key.precision}', unit='%') as bar:

        def report(done: float) -> bool:
            bar.update(int(100 * done) - bar.n)
            return True

        maker.make(key, report, lambda text: tqdm.write(text, file=sys.stderr))
        bar.update(100 - bar.n)


def _size(text: str) -> tuple[int, int]:
    if not (match := re.fullmatch(r'([1-9]\d{1,4})x([1-9]\d{1,4})', text)):
        msg = f'{text!r}, expected width x height, such as 1920x1080'
        raise argparse.ArgumentTypeError(msg)
    return int(match[1]), int(match[2])
