# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""evaluate: the public benchmarks' numbers for all scores of one or several bundles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import default_bundle_path
from seg_uncertainty_ros.cli.options import CommandError
from seg_uncertainty_ros.cli.options import add_command
from seg_uncertainty_ros.cli.options import new_directory
from seg_uncertainty_ros.evaluation.benchmark import evaluate_outliers
from seg_uncertainty_ros.evaluation.datasets import FORMATS
from seg_uncertainty_ros.evaluation.datasets import open_dataset
from seg_uncertainty_ros.evaluation.tables import outlier_json
from seg_uncertainty_ros.evaluation.tables import outlier_markdown
from seg_uncertainty_ros.evaluation.tables import write_tables

if TYPE_CHECKING:
    import argparse


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'evaluate',
        run,
        'Print AP, AUROC and FPR95 of every score on a dataset with labelled outliers.',
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


def run(options: argparse.Namespace) -> int:
    """Evaluate every bundle."""
    if options.max_pixels is not None and options.max_pixels < 1:
        msg = f'--max-pixels: {options.max_pixels}, expected at least 1'
        raise CommandError(msg)
    bundles = [Bundle.load(path) for path in options.bundle or [default_bundle_path()]]
    scores = [chosen_scores(bundle, options.score) for bundle in bundles]
    dataset = open_dataset(options.dataset, options.root)
    out = None if options.out is None else new_directory(options.out)
    tables = [
        evaluate_outliers(bundle, dataset, names, max_pixels=options.max_pixels)
        for bundle, names in zip(bundles, scores, strict=True)
    ]
    markdown = outlier_markdown(dataset, tables)
    print(markdown)
    if out is not None:
        write_tables(out, markdown, outlier_json(dataset, tables))
        print(f'{out / "table.md"} and {out / "table.json"} written')
    return 0
