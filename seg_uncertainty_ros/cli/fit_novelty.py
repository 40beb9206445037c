# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""fit-novelty: give a bundle a graph of how novel a frame is to known drives (extra train)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.cli.options import CommandError
from seg_uncertainty_ros.cli.options import add_command
from seg_uncertainty_ros.cli.options import new_directory
from seg_uncertainty_ros.cli.options import progress
from seg_uncertainty_ros.cli.train import check_torch
from seg_uncertainty_ros.pipeline import Pipeline
from seg_uncertainty_ros.recordings import open_source

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from seg_uncertainty_ros.recordings import Source


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'fit-novelty',
        run,
        'Train a variational autoencoder of the embedding on known drives, for novelty metrics.',
        'fit-novelty BUNDLE --data MONDAY.mcap TUESDAY.mcap --held-out FRIDAY.mcap --out NEW',
    )
    parser.add_argument('bundle', metavar='BUNDLE', type=Path)
    parser.add_argument(
        '--data',
        required=True,
        nargs='+',
        metavar='DRIVE',
        help='to train on: bags, videos, folders of images, procedural:seed=1,duration=10',
    )
    parser.add_argument(
        '--held-out',
        required=True,
        nargs='+',
        metavar='DRIVE',
        help='other known drives: what is usual where the autoencoder was not trained',
    )
    parser.add_argument('--topic', help='image topic of bags that have several')
    parser.add_argument(
        '--interval',
        type=float,
        default=0.0,
        metavar='S',
        help='take frames at least S seconds apart (default: every one; a folder has 10 Hz)',
    )
    parser.add_argument('--beta', type=float, default=1.0, help='of the beta-VAE (default: 1)')
    parser.add_argument('--seed', type=int, default=0, help='of weights and batches')
    parser.add_argument('--out', required=True, type=Path, help='new bundle')


def run(options: argparse.Namespace) -> int:
    """Write a copy of the bundle with a novelty graph."""
    check_torch()
    from seg_uncertainty_ros.novelty.measure import METRICS
    from seg_uncertainty_ros.novelty.measure import Novelty
    from seg_uncertainty_ros.training.vae import Drive
    from seg_uncertainty_ros.training.vae import VaeRecipe
    from seg_uncertainty_ros.training.vae import fit_novelty

    for name, value, least in (
        ('--interval', options.interval, 0),
        ('--beta', options.beta, 0),
        ('--seed', options.seed, 0),
    ):
        if not least <= value < np.inf:
            msg = f'{name}: {value}, expected a number of at least {least}'
            raise CommandError(msg)
    trained_on = {Path(spec).resolve() for spec in options.data}
    for spec in options.held_out:
        if Path(spec).resolve() in trained_on:
            msg = f'--held-out: {spec} is in --data too'
            raise CommandError(msg)
    bundle = Bundle.load(options.bundle)
    out = new_directory(options.out)
    pipeline = Pipeline(bundle, plane_size='network', dispersion=())
    drives, held_out = (
        [Drive(*_embeddings(pipeline, spec, options)) for spec in specs]
        for specs in (options.data, options.held_out)
    )
    recipe = VaeRecipe(beta=options.beta, seed=options.seed)
    written = fit_novelty(bundle, drives, held_out, recipe, out)
    usual = np.concatenate(Novelty(written).held_out)
    for name, median, high in zip(METRICS, *np.quantile(usual, (0.5, 0.95), axis=0), strict=True):
        print(f'{name:15} held out: median {median:.4g}, 95 % below {high:.4g}')
    print(f'{out} written')
    return 0


def _embeddings(
    pipeline: Pipeline, spec: str, options: argparse.Namespace
) -> tuple[str, NDArray[np.float32]]:
    source = open_source(spec, topic=options.topic)
    rows = list(_rows(pipeline, source, options.interval))
    if not rows:
        msg = f'{spec}: not one frame can be read'
        raise CommandError(msg)
    return source.name, np.stack(rows)


def _rows(pipeline: Pipeline, source: Source, interval_s: float) -> Iterator[NDArray[np.float32]]:
    last_ns = None
    for _, frame in progress(source):
        # A clock that goes back begins anew.
        if last_ns is None or not 0 <= frame.stamp_ns - last_ns < interval_s * 1e9:
            last_ns = frame.stamp_ns
            yield pipeline.process(frame).embedding
