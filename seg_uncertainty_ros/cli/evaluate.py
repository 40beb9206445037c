# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""evaluate and results: the public benchmarks' numbers for all scores of one or more bundles."""

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
from seg_uncertainty_ros.evaluation.results import CAMVID_TEST
from seg_uncertainty_ros.evaluation.results import OUTLIER_SETS
from seg_uncertainty_ros.evaluation.results import evaluate_all
from seg_uncertainty_ros.evaluation.results import open_datasets
from seg_uncertainty_ros.evaluation.results import results_page
from seg_uncertainty_ros.evaluation.tables import content
from seg_uncertainty_ros.evaluation.tables import markdown
from seg_uncertainty_ros.evaluation.tables import to_json

if TYPE_CHECKING:
    import argparse

    from seg_uncertainty_ros.evaluation.benchmark import OutlierRow

OUTLIER_FOLDERS = ', '.join(folder for _, folder in OUTLIER_SETS)


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add both commands."""
    evaluate = add_command(
        commands,
        'evaluate',
        run_evaluate,
        'Print the metrics of every score on labelled outliers, or of the segmentation on CamVid.',
        'evaluate --dataset fishyscapes DATA/ood/fs_static --bundle A --bundle B --out DIR',
    )
    evaluate.add_argument('root', metavar='DIR', type=Path, help='folder of the dataset')
    evaluate.add_argument('--dataset', required=True, choices=FORMATS, help='its format')
    add_bundles(evaluate)
    evaluate.add_argument(
        '--score', action='append', help='name, may be given more than once (default: all)'
    )
    evaluate.add_argument('--out', type=Path, help='new directory for table.md and table.json')
    evaluate.add_argument(
        '--contact-sheet', type=Path, metavar='PNG', help='the worst frames of the best score'
    )
    evaluate.add_argument(
        '--hide-data',
        action='store_true',
        help='no images and label masks of the dataset in the contact sheet',
    )
    results = add_command(
        commands,
        'results',
        run_results,
        'Write the page of results over CamVid test and three sets with labelled outliers.',
        'results DATA --bundle A --bundle B --out docs/results.md',
    )
    results.add_argument(
        'data', metavar='DATA', type=Path, help=f'folder with {CAMVID_TEST}, {OUTLIER_FOLDERS}'
    )
    add_bundles(results)
    results.add_argument('--out', required=True, type=Path, help='markdown file to write')


def add_bundles(parser: argparse.ArgumentParser) -> None:
    """Add --bundle and --max-pixels, each any number of times."""
    parser.add_argument(
        '--bundle',
        action='append',
        type=Path,
        help='model bundle, may be given more than once (default: the one that ships)',
    )
    parser.add_argument(
        '--max-pixels',
        action='append',
        type=int,
        metavar='N',
        help="pixels of the network's input, may be given more than once (default: the bundle's)",
    )


def bundles_and_resolutions(
    options: argparse.Namespace,
) -> tuple[list[Bundle], list[int | None]]:
    """Load the bundles, check the resolutions.

    Raises:
        CommandError: a resolution of less than a pixel.

    """
    for pixels in options.max_pixels or []:
        if pixels < 1:
            msg = f'--max-pixels: {pixels}, expected at least 1'
            raise CommandError(msg)
    bundles = [Bundle.load(path) for path in options.bundle or [default_bundle_path()]]
    return bundles, options.max_pixels or [None]


def chosen_scores(bundles: list[Bundle], names: list[str] | None) -> list[tuple[str, ...]]:
    """Return those of ``names`` that each bundle has, or all.

    Raises:
        CommandError: a name that no bundle has, a bundle that has none of the names.

    """
    known = {name for bundle in bundles for name in bundle.score_names}
    if unknown := set(names or ()) - known:
        msg = f'--score: {min(unknown)!r} is none of {", ".join(sorted(known))}'
        raise CommandError(msg)
    scores = [
        tuple(name for name in bundle.score_names if names is None or name in names)
        for bundle in bundles
    ]
    if () in scores:
        path = bundles[scores.index(())].path
        msg = f'--score: {path} has none of {", ".join(names or ())}'
        raise CommandError(msg)
    return scores


def check_target(option: str, path: Path, suffix: str) -> None:
    """Raise CommandError where a file cannot be written; better now than after an hour."""
    if path.suffix != suffix or path.is_dir() or not path.parent.is_dir():
        msg = f'{option}: {path}, expected a {suffix} file in a folder that exists'
        raise CommandError(msg)


def best_row(table: OutlierTable) -> OutlierRow:
    """Return the score with the highest AP."""
    return max(table.rows, key=lambda row: row.pixels.average_precision.value)


def run_evaluate(options: argparse.Namespace) -> int:
    """Evaluate every bundle on one dataset."""
    segments = options.dataset == 'camvid'
    if options.contact_sheet is not None:
        if segments:
            msg = '--contact-sheet: camvid has no outliers to show'
            raise CommandError(msg)
        check_target('--contact-sheet', options.contact_sheet, '.png')
    bundles, resolutions = bundles_and_resolutions(options)
    scores = chosen_scores(bundles, options.score)
    dataset = open_dataset(options.dataset, options.root)
    out = None if options.out is None else new_directory(options.out)
    evaluate = evaluate_segmentation if segments else evaluate_outliers
    tables = [
        evaluate(bundle, dataset, names, max_pixels=pixels)
        for bundle, names in zip(bundles, scores, strict=True)
        for pixels in resolutions
    ]
    text = markdown(tables)
    print(text)
    if out is not None:
        (out / 'table.md').write_text(text, encoding='utf-8')
        (out / 'table.json').write_text(to_json(content(tables)), encoding='utf-8')
        print(f'{out / "table.md"} and {out / "table.json"} written')
    if options.contact_sheet is not None:
        best = max(tables, key=lambda table: best_row(table).pixels.average_precision.value)
        picture = contact_sheet(best, best_row(best), show_data=not options.hide_data)
        if not cv2.imwrite(str(options.contact_sheet), picture):
            msg = f'--contact-sheet: {options.contact_sheet} cannot be written'
            raise CommandError(msg)
        print(f'{options.contact_sheet} written')
    return 0


def run_results(options: argparse.Namespace) -> int:
    """Evaluate every bundle on all datasets."""
    bundles, resolutions = bundles_and_resolutions(options)
    datasets = open_datasets(options.data)
    check_target('--out', options.out, '.md')
    results = list(evaluate_all(datasets, bundles, resolutions))
    names = [f' --bundle {path.name}' for path in options.bundle or []]
    sizes = [f' --max-pixels {pixels}' for pixels in options.max_pixels or []]
    command = f'seg-uncertainty results DATA{"".join(names + sizes)} --out {options.out.name}'
    options.out.write_text(results_page(results, command), encoding='utf-8')
    print(f'{options.out} written')
    return 0
