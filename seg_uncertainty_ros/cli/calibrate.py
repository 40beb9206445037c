# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""calibrate: a bundle that takes the user's own drives for usual."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from dataclasses import field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.calibration.calibrate import ERT_H
from seg_uncertainty_ros.calibration.calibrate import calibrate
from seg_uncertainty_ros.calibration.calibrate import write_bundle
from seg_uncertainty_ros.calibration.observed import observe_drive
from seg_uncertainty_ros.cli.options import CommandError
from seg_uncertainty_ros.cli.options import add_bundle
from seg_uncertainty_ros.cli.options import add_command
from seg_uncertainty_ros.cli.options import new_directory
from seg_uncertainty_ros.cli.options import progress
from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.pipeline import Pipeline
from seg_uncertainty_ros.recordings import open_source

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable
    from collections.abc import Iterator
    from collections.abc import Sequence

    from seg_uncertainty_ros.frames import Frame
    from seg_uncertainty_ros.recordings import Source


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'calibrate',
        run,
        "Fit reference and thresholds to one's own drives, for a stated rate of false alarms.",
        'calibrate MONDAY.mcap TUESDAY.mcap --out BUNDLE --hours-between-false-alarms 10',
    )
    parser.add_argument(
        'drives',
        metavar='DRIVE',
        nargs='+',
        help='usual drives: bags, videos, folders of images, procedural:seed=1,duration=10',
    )
    add_bundle(parser)
    parser.add_argument('--out', required=True, type=Path, help='new bundle')
    parser.add_argument(
        '--hours-between-false-alarms',
        type=float,
        default=ERT_H,
        metavar='H',
        help='of each of ood_area, low_confidence, domain_shift (default: %(default)g)',
    )
    parser.add_argument(
        '--without-rate',
        action='store_true',
        help='for a minute or less: no rate of false alarms, thresholds well beyond these drives',
    )
    parser.add_argument(
        '--sequential',
        action='store_true',
        help='sum up what is beyond the bound of the domain: finds small ones that last, later',
    )
    parser.add_argument(
        '--domain', default='own drives', help='what the monitor calls them (default: %(default)s)'
    )
    parser.add_argument('--topic', help='image topic of bags that have several')
    parser.add_argument('--seed', type=int, default=0, help='of the bootstrap (default: 0)')


def run(options: argparse.Namespace) -> int:
    """Write the new bundle."""
    hours = options.hours_between_false_alarms
    if not (isfinite(hours) and hours > 0):
        msg = f'--hours-between-false-alarms: {hours}, expected a positive number'
        raise CommandError(msg)
    if options.sequential and options.without_rate:
        msg = '--sequential: a sequential test needs a rate, not --without-rate'
        raise CommandError(msg)
    if options.seed < 0:
        msg = f'--seed: {options.seed}, expected at least 0'
        raise CommandError(msg)
    if twice := {spec for spec in options.drives if options.drives.count(spec) > 1}:
        msg = f'{min(twice)}: given twice, it would count as two drives'
        raise CommandError(msg)
    bundle = Bundle.load(options.bundle)
    sources = open_all(options.drives, options.topic)
    new_directory(options.out)
    pipeline = Pipeline(bundle)
    drives, records = [], []
    for source in sources:
        seen = Fingerprint(frame for _, frame in progress(source))
        drive = observe_drive(pipeline, source.name, seen)
        drives.append(drive)
        records.append(
            {
                'name': source.name,
                'sha256_of_frames': seen.digest,
                'frames': len(drive.frames),
                'skipped': len(source.skipped),
                'seconds': round(float(drive.stamps_s[-1]), 3),
            }
        )
    result = calibrate(
        bundle,
        {options.domain: drives},
        ert_h=None if options.without_rate else hours,
        sequential=options.sequential,
        seed=options.seed,
        progress=True,
    )
    written = write_bundle(bundle, result, records, options.out)
    for name, threshold in written.thresholds.items():
        print(f'{name}: {threshold.enter:g}, until {threshold.exit:g}: {threshold.reason}')
    print(f'{options.out} written')
    return 0


def open_all(specs: Sequence[str], topic: str | None) -> list[Source]:
    """Open drives; say of each that cannot be opened why, not of the first alone."""
    sources, errors = [], []
    for spec in specs:
        try:
            sources.append(open_source(spec, topic=topic))
        except SegUncertaintyError as error:
            errors.append(error)
    if errors:
        for error in errors[:-1]:
            print(f'seg-uncertainty: {error}', file=sys.stderr)
        raise errors[-1]
    return sources


@dataclass(eq=False)
class Fingerprint:
    """Frames that pass through, and the sha256 of their stamps and pixels so far."""

    frames: Iterable[Frame]
    _sha: hashlib._Hash = field(default_factory=hashlib.sha256)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames."""
        for frame in self.frames:
            self._sha.update(f'{frame.stamp_ns} {frame.image.shape}'.encode())
            self._sha.update(frame.image.tobytes())
            yield frame

    @property
    def digest(self) -> str:
        """Hexadecimal."""
        return self._sha.hexdigest()
