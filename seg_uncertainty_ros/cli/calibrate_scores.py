# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""calibrate-scores: fit temperature and score scales of a bundle on other images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.cli.options import add_command
from seg_uncertainty_ros.cli.options import new_directory
from seg_uncertainty_ros.evaluation.calibration_report import KEPT
from seg_uncertainty_ros.evaluation.calibration_report import report
from seg_uncertainty_ros.evaluation.calibration_report import write_report
from seg_uncertainty_ros.evaluation.images import open_images
from seg_uncertainty_ros.evaluation.recalibration import recalibrate
from seg_uncertainty_ros.evaluation.recalibration import write_bundle

if TYPE_CHECKING:
    import argparse


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'calibrate-scores',
        run,
        'Fit temperature and score scales of a bundle on in-distribution images (needs onnx).',
        'calibrate-scores BUNDLE --data camvid DRIVE.mcap --out NEW --report REPORT',
    )
    parser.add_argument('bundle', metavar='BUNDLE', type=Path, help='the bundle to start from')
    parser.add_argument(
        '--data',
        required=True,
        nargs='+',
        metavar='DIR',
        help='in-distribution images: a folder with images/ and labels/, or val/ and valannot/; '
        'without labels, for the scales alone, a bag, a video or a folder of images',
    )
    parser.add_argument('--topic', help='image topic of a bag that has several')
    parser.add_argument('--out', required=True, type=Path, help='new bundle')
    parser.add_argument(
        '--report', type=Path, help='folder for calibration.md and reliability.png'
    )
    parser.add_argument(
        '--keep-temperature', action='store_true', help='fit the scales only; needs no labels'
    )


def run(options: argparse.Namespace) -> int:
    """Write the new bundle."""
    bundle = Bundle.load(options.bundle)
    sets = [open_images(spec, len(bundle.classes), options.topic) for spec in options.data]
    out = new_directory(options.out)
    if options.report is not None:
        options.report.mkdir(parents=True, exist_ok=True)
    try:
        result = recalibrate(bundle, sets, keep_temperature=options.keep_temperature)
    finally:
        for images in sets:
            for reason in images.skipped:
                print(f'seg-uncertainty: skipped: {images.name}: {reason}', file=sys.stderr)
    text = report(bundle, result)
    write_bundle(bundle, result, text, out)
    if options.report is not None:
        write_report(bundle, result, options.report)
    print(text)
    print(f'seg-uncertainty: {KEPT}', file=sys.stderr)
    return 0
