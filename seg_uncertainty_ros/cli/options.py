# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Options and output that several commands share."""

from __future__ import annotations

import argparse
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from seg_uncertainty_ros.bundle import default_bundle_path
from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.evaluation.parity import CheckSet
from seg_uncertainty_ros.evaluation.parity import Tolerance
from seg_uncertainty_ros.evaluation.parity import compare
from seg_uncertainty_ros.evaluation.parity import gate

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from collections.abc import Mapping

    from seg_uncertainty_ros.bundle import Bundle
    from seg_uncertainty_ros.evaluation.parity import ParityReport
    from seg_uncertainty_ros.frames import Frame
    from seg_uncertainty_ros.recordings.source import Source
    from seg_uncertainty_ros.runtime.outputs import Runtime

# More frames than these hardly widen the ranges of activations.
CALIBRATION_FRAMES = 128


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


def add_check(parser: argparse.ArgumentParser) -> None:
    """Add --check, --unchecked and --tolerance: what is lost in another precision."""
    parser.add_argument(
        '--check',
        type=Path,
        metavar='DATA',
        help='compare with fp32 on DATA/camvid/val, DATA/ood/fs_static; refuse what is worse',
    )
    parser.add_argument(
        '--unchecked', action='store_true', help='int8 without --check: nobody knows its loss'
    )
    parser.add_argument(
        '--tolerance',
        type=float,
        default=0.01,
        help='by which mIoU and AP may fall in the check, 0..1 (default: %(default)s)',
    )


def open_check_set(options: argparse.Namespace, needed: str = '') -> CheckSet | None:
    """Return the images of --check; ``needed`` says what must not do without, if anything."""
    if not 0 <= options.tolerance <= 1:
        msg = f'--tolerance: {options.tolerance}, expected 0..1'
        raise CommandError(msg)
    if options.check is not None:
        return CheckSet.open(options.check)
    if needed and not options.unchecked:
        msg = f'{needed}: what it loses has to be known: --check DATA, or --unchecked'
        raise CommandError(msg)
    return None


def check(
    bundle: Bundle, runtimes: Mapping[str, Runtime], check_set: CheckSet, tolerance: float
) -> ParityReport:
    """Return how runtimes compare with the first of them on labelled images; print it.

    Raises:
        ParityError: one falls behind by more than ``tolerance``.

    """
    report = compare(bundle, runtimes, check_set)
    print(report.markdown())
    gate(report, Tolerance(tolerance, tolerance))
    return report


def spread(source: Source) -> Iterator[Frame]:
    """Return about ``CALIBRATION_FRAMES`` frames from the whole of a recording."""
    count = source.frame_count or sum(1 for _ in source)  # some videos do not say
    step = max(1, count // CALIBRATION_FRAMES)
    return islice(source, 0, None, step)


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
