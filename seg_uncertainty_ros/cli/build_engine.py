# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""build-engine: TensorRT's engine of a bundle, before the node needs it."""

from __future__ import annotations

import argparse
import re
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.cli.options import CommandError
from seg_uncertainty_ros.cli.options import add_command
from seg_uncertainty_ros.recordings import open_source
from seg_uncertainty_ros.runtime.tensorrt_engines import EngineMaker
from seg_uncertainty_ros.runtime.tensorrt_engines import TensorRt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seg_uncertainty_ros.frames import Frame
    from seg_uncertainty_ros.recordings import Source

# More frames than these hardly widen the ranges of activations.
CALIBRATION_FRAMES = 128


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'build-engine',
        run,
        "Build TensorRT's engine for this machine's GPU; the node finds it at its next start.",
        'build-engine BUNDLE --size 1920x1080 --precision int8 --calibration DRIVE.mcap',
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


def run(options: argparse.Namespace) -> int:
    """Build the engine, or say that it is there."""
    if (options.precision == 'int8') != (options.calibration is not None):
        msg = f'--precision {options.precision}: --calibration goes with int8 and only with it'
        raise CommandError(msg)
    bundle = Bundle.load(options.bundle)
    frames = None
    if options.calibration is not None:
        frames = spread(open_source(options.calibration, topic=options.topic))
    maker = EngineMaker(TensorRt(), bundle, options.precision, options.cache, frames)
    width, height = options.size
    key = maker.key(*bundle.geometry.network_size(height, width))
    if frames is not None:
        maker.cache.discard(key)  # it may be of other recordings
    with tqdm(total=100, desc=f'engine {key.size} {key.precision}', unit='%') as bar:

        def report(done: float) -> bool:
            bar.update(int(100 * done) - bar.n)
            return True

        maker.make(key, report, lambda text: print(text, file=sys.stderr))
        bar.update(100 - bar.n)
    path = maker.cache.path(key)
    print(
        f'{path}: {path.stat().st_size / 1e6:.1f} MB, {key.size} {key.precision}, '
        f'{key.gpu} ({key.compute_capability}), TensorRT {key.tensorrt}'
    )
    return 0


def spread(source: Source) -> Iterator[Frame]:
    """Return about ``CALIBRATION_FRAMES`` frames from the whole of a recording."""
    step = max(1, (source.frame_count or 0) // CALIBRATION_FRAMES)
    return islice(source, 0, None, step)


def _size(text: str) -> tuple[int, int]:
    if not (match := re.fullmatch(r'([1-9]\d{1,4})x([1-9]\d{1,4})', text)):
        msg = f'{text!r}, expected width x height, such as 1920x1080'
        raise argparse.ArgumentTypeError(msg)
    return int(match[1]), int(match[2])
