# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""fit-segments: give a bundle the meta model of its segments (extra train)."""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.cli.options import CommandError
from seg_uncertainty_ros.cli.options import add_command
from seg_uncertainty_ros.cli.options import new_directory

if TYPE_CHECKING:
    import argparse


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'fit-segments',
        run,
        'Fit which anomalous segments are objects, on Fishyscapes Static, CamVid val and drives.',
        'fit-segments BUNDLE --data DATA --out NEW',
    )
    parser.add_argument('bundle', metavar='BUNDLE', type=Path)
    parser.add_argument(
        '--data', required=True, type=Path, help='folder with ood/fs_static and camvid'
    )
    parser.add_argument('--out', required=True, type=Path, help='new bundle')
    parser.add_argument('--drives', type=int, default=2, help='procedural drives per kind')


def run(options: argparse.Namespace) -> int:
    """Write a copy of the bundle with a meta model."""
    try:
        from seg_uncertainty_ros.training import segments
    except ImportError as error:
        msg = "needs scikit-learn: pip install '.[train]'"
        raise CommandError(msg) from error
    if options.drives < 0:
        msg = f'--drives: {options.drives}, expected at least 0'
        raise CommandError(msg)
    bundle = Bundle.load(options.bundle)
    out = new_directory(options.out)
    frames = segments.labelled_frames(options.data, options.drives)
    model, held_out = segments.fit_segments(bundle, tqdm(frames, desc='segments', unit='frame'))
    bundle.copy_files(out)
    replace(bundle, path=out, segments=model).write()
    for name, value in asdict(held_out).items():
        print(f'{name:15} {value:.4g}')
    print(f'{out} written: {model.reason}')
    return 0
