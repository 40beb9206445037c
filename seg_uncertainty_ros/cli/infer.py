# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""infer: masks and raw scores of every frame as files; no ROS needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.cli.options import CommandError
from seg_uncertainty_ros.cli.options import add_bundle
from seg_uncertainty_ros.cli.options import add_command
from seg_uncertainty_ros.cli.options import add_source
from seg_uncertainty_ros.cli.options import new_directory
from seg_uncertainty_ros.cli.options import progress
from seg_uncertainty_ros.pipeline import Pipeline
from seg_uncertainty_ros.recordings import open_source

if TYPE_CHECKING:
    import argparse

FLOAT16_RANGE = (float(np.finfo(np.float16).min), float(np.finfo(np.float16).max))


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'infer',
        run,
        'Write <stem>_mask.png (class ids) and <stem>_scores.npz (float16, raw) of every frame.',
        'infer IMAGES --out DIR --scores entropy,pgn_uniform',
    )
    add_source(parser)
    parser.add_argument('--out', required=True, type=Path, help='new or empty directory')
    parser.add_argument(
        '--scores', default='', help='all, or names with commas between (default: none)'
    )
    add_bundle(parser)


def wanted_scores(bundle: Bundle, text: str) -> tuple[str, ...]:
    """Return the score names that ``--scores`` asks for.

    Raises:
        CommandError: a name that the bundle does not have.

    """
    if text == 'all':
        return bundle.score_names
    names = tuple(name for name in text.split(',') if name)
    for name in names:
        if name not in bundle.score_names:
            msg = f'--scores: {name!r} is none of {", ".join(bundle.score_names)}'
            raise CommandError(msg)
    return names


def run(options: argparse.Namespace) -> int:
    """Process every frame of the source."""
    bundle = Bundle.load(options.bundle)
    names = wanted_scores(bundle, options.scores)
    source = open_source(options.source, topic=options.topic)
    out = new_directory(options.out)
    pipeline = Pipeline(bundle)
    count = 0
    for index, frame in progress(source):
        result = pipeline.process(frame, keep_scores=bool(names))
        stem = source.stem(index)
        target = out / f'{stem}_mask.png'
        if not cv2.imwrite(str(target), result.mask):
            msg = f'--out: {target} cannot be written (is the disk full?)'
            raise CommandError(msg)
        if result.scores is not None:
            # Gradient norms have no bound; float16 ends at 65504.
            planes = {
                name: np.clip(result.scores[name], *FLOAT16_RANGE).astype(np.float16)
                for name in names
            }
            np.savez_compressed(out / f'{stem}_scores.npz', **planes)
        count += 1
    print(f'{count} frames written to {out}')
    return 0
