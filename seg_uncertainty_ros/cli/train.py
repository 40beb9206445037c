# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""train and bundle: from a recipe to a checkpoint, from a checkpoint to a bundle (extra train)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from seg_uncertainty_ros.cli.options import CommandError
from seg_uncertainty_ros.cli.options import add_command
from seg_uncertainty_ros.cli.options import new_directory

if TYPE_CHECKING:
    import argparse

RECIPES = Path(__file__).parents[1] / 'training' / 'recipes'


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add both commands."""
    train = add_command(
        commands,
        'train',
        run_train,
        'Train a recipe; a run that was cut short continues.',
        'train default --data DATA --out runs/default --init runs/camvid_idd/best.pt',
    )
    names = ', '.join(path.stem for path in sorted(RECIPES.glob('*.yaml')))
    train.add_argument('recipe', metavar='RECIPE', help=f'a YAML file, or one of {names}')
    train.add_argument('--data', required=True, type=Path, help='folder with camvid, idd_lite')
    train.add_argument('--out', required=True, type=Path, help='folder of the run')
    train.add_argument('--init', type=Path, help='checkpoint or bundle to start from')
    bundle = add_command(
        commands,
        'bundle',
        run_bundle,
        'Calibrate and export a checkpoint to a model bundle.',
        'bundle runs/default/best.pt --data DATA --out BUNDLE',
    )
    bundle.add_argument('checkpoint', metavar='CHECKPOINT', type=Path)
    bundle.add_argument('--data', required=True, type=Path, help='folder with camvid')
    bundle.add_argument('--out', required=True, type=Path, help='new bundle')
    bundle.add_argument(
        '--scores',
        default='',
        help='names with commas between, max_softmax first, or all (default: what is deployed)',
    )
    bundle.add_argument(
        '--comparison',
        action='store_true',
        help='for tables, in less time: no procedural drives, no meta model, no CamVid test',
    )


def check_torch() -> None:
    """Raise CommandError where the extra `train` is not installed."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        msg = "needs torch: pip install torch==2.13.0, then pip install '.[train]'"
        raise CommandError(msg) from error


def run_train(options: argparse.Namespace) -> int:
    """Train."""
    check_torch()
    from seg_uncertainty_ros.training.recipe import Recipe
    from seg_uncertainty_ros.training.train import train

    shipped = RECIPES / f'{options.recipe}.yaml'
    recipe = Recipe.load(shipped if shipped.is_file() else Path(options.recipe))
    print(train(recipe, options.data, options.out, options.init))
    return 0


def run_bundle(options: argparse.Namespace) -> int:
    """Write a bundle."""
    check_torch()
    from seg_uncertainty_ros.scores import SCORES
    from seg_uncertainty_ros.training.bundling import make_bundle

    names = tuple(filter(None, options.scores.split(',')))
    if options.scores == 'all':
        names = 'all'
    elif unknown := set(names) - set(SCORES):
        msg = f'--scores: {min(unknown)!r} is none of {", ".join(SCORES)}'
        raise CommandError(msg)
    elif names and names[0] != 'max_softmax':
        msg = f'--scores: {names[0]!r} comes first, expected max_softmax: it is the confidence'
        raise CommandError(msg)
    out = new_directory(options.out)
    bundle = make_bundle(
        options.checkpoint, options.data, out, scores=names, comparison=options.comparison
    )
    print((bundle.path / 'MODEL_CARD.md').read_text(encoding='utf-8'))
    return 0
