# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Options and output that several commands share."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from seg_uncertainty_ros.bundle import default_bundle_path
from seg_uncertainty_ros.errors import SegUncertaintyError

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from seg_uncertainty_ros.frames import Frame
    from seg_uncertainty_ros.recordings.source import Source


class CommandError(SegUncertaintyError):
    """A command cannot do what it was asked for."""


def add_command(
    commands: argparse._SubParsersAction,
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    example: str,
) -> argparse.ArgumentParser:
    """Add a command with its one-line summary and an example."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f'example:\n  seg-uncertainty {example}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """Add --bundle."""
    parser.add_argument(
        '--bundle',
        type=Path,
        default=default_bundle_path(),
        help='model bundle (default: the one that ships)',
    )


def add_source(parser: argparse.ArgumentParser, **kwargs: str) -> None:
    """Add SOURCE and --topic."""
    parser.add_argument(
        'source',
        metavar='SOURCE',
        help='bag, video, folder of images, or procedural:seed=1,duration=10',
        **kwargs,
    )
    parser.add_argument('--topic', help='image topic of a bag that has several')


def new_directory(path: Path) -> Path:
    """Create the directory ``path``; refuse one that holds something."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        msg = f'--out {path}: exists and is not an empty directory'
        raise CommandError(msg)
    path.mkdir(parents=True, exist_ok=True)
    return path


def progress(source: Source) -> Iterator[tuple[int, Frame]]:
    """Yield (index, frame) behind a progress bar; say on stderr what could not be read."""
    try:
        bar = tqdm(source, total=source.frame_count, desc=source.name, unit='frame')
        yield from enumerate(bar)
    finally:
        for reason in source.skipped:
            print(f'seg-uncertainty: skipped: {reason}', file=sys.stderr)
