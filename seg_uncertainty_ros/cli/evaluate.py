# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""evaluate: the public benchmarks' numbers for all scores of one or several bundles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import default_bundle_path
from seg_uncertainty_ros.cli.options import CommandError
from seg_uncertainty_ros.cli.options import add_command
from seg_uncertainty_ros.cli.options import new_directory
from seg_uncertainty_ros.evaluation.benchmark import OutlierTable
from seg_uncertainty_ros.evaluation.benchmark import evaluate_outliers
from seg_uncertainty_ros.evaluation.benchmark import evaluate_segmentation
from seg_uncertainty_ros.evaluation.contact_sheet import contact_sheet
from seg_uncertainty_ros.evaluation.datasets import FORMATS
from seg_uncertainty_ros.evaluation.datasets import open_dataset
from seg_uncertainty_ros.evaluation.tables import content
from seg_uncertainty_ros.evaluation.tables import markdown
from seg_uncertainty_ros.evaluation.tables import to_json

if TYPE_CHECKING:
    import argparse

    import numpy as np
    from numpy.typing import NDArray

    from seg_uncertainty_ros.evaluation.benchmark import OutlierRow


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'evaluate',
        run,
        'Print the metrics of every score on labelled outliers, or of the segmentation on CamVid.',
        'evaluate --dataset fishyscapes DATA/ood/fs_static --bundle A --bundle B --out DIR',
    )
    parser.add_argument('root', metavar='DIR', type=Path, help='folder of the dataset')
    parser.add_argument('--dataset', required=True, choices=FORMATS, help='its format')
    parser.add_argument(
        '--bundle',
        action='append',
        type=Path,
        help='model bundle, may be given more than once (default: the one that ships)',
    )
    parser.add_argument(
        '--score', action='append', help='name, may be given more than once (default: all)'
    )
    parser.add_argument(
        '--max-pixels', type=int, help="pixels of the network's input (default: the bundle's)"
    )
    parser.add_argument('--out', type=Path, help='new directory for table.md and table.json')
    parser.add_argument(
        '--contact-sheet', type=Path, metavar='PNG', help='the worst frames of the best score'
    )


def chosen_scores(bundle: Bundle, names: list[str] | None) -> tuple[str, ...]:
    """Return those of ``names`` that the bundle has, or all.

    Raises:
        CommandError: the bundle has none of them.

    """
    scores = tuple(name for name in bundle.score_names if names is None or name in names)
    if not scores:
        msg = f'--score: {bundle.path} has none of {", ".join(names or ())}, '
        raise CommandError(f'{msg}it has {", ".join(bundle.score_names)}')
    return scores


def best_row(table: OutlierTable) -> OutlierRow:
    """Return the score with the highest AP."""
    return max(table.rows, key=lambda row: row.pixels.average_precision.value)


def run(options: argparse.Namespace) -> int:
    """Evaluate every bundle."""
    if options.max_pixels is not None and options.max_pixels < 1:
        msg = f'--max-pixels: {options.max_pixels}, expected at least 1'
        raise CommandError(msg)
    segments = options.dataset == 'camvid'
    if segments and options.contact_sheet is not None:
        msg = '--contact-sheet: camvid has no outliers to show'
        raise CommandError(msg)
    bundles = [Bundle.load(path) for path in options.bundle or [default_bundle_path()]]
    scores = [chosen_scores(bundle, options.score) for bundle in bundles]
    dataset = open_dataset(options.dataset, options.root)
    out = None if options.out is None else new_directory(options.out)
    evaluate = evaluate_segmentation if segments else evaluate_outliers
    tables = [
        evaluate(bundle, dataset, names, max_pixels=options.max_pixels)
        for bundle, names in zip(bundles, scores, strict=True)
    ]
    text = markdown(tables)
    print(text)
    if out is not None:
        (out / 'table.md').write_text(text, encoding='utf-8')
        (out / 'table.json').write_text(to_json(content(tables)), encoding='utf-8')
        print(f'{out / "table.md"} and {out / "table.json"} written')
    if options.contact_sheet is not None:
        best = max(tables, key=lambda table: best_row(table).pixels.average_precision.value)
        write_picture(options.contact_sheet, contact_sheet(best, best_row(best)))
    return 0


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a PNG.

    Raises:
        CommandError: it cannot be written.

    """
    if path.suffix.lower() != '.png' or not cv2.imwrite(str(path), picture):
        msg = f'--contact-sheet: {path} cannot be written, expected a .png in a folder that exists'
        raise CommandError(msg)
    print(f'{path} written')
