# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""shift-report: what a reference tells apart, how soon, and how often it is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.calibration.calibrate import calibrate
from seg_uncertainty_ros.calibration.judging import PEAK
from seg_uncertainty_ros.calibration.judging import false_alarm_rates
from seg_uncertainty_ros.calibration.judging import ramp_delay
from seg_uncertainty_ros.calibration.observed import observe_drive
from seg_uncertainty_ros.cli.calibrate import open_all
from seg_uncertainty_ros.cli.options import CommandError
from seg_uncertainty_ros.cli.options import add_command
from seg_uncertainty_ros.cli.options import new_directory
from seg_uncertainty_ros.cli.options import progress
from seg_uncertainty_ros.corruptions import Perturbation
from seg_uncertainty_ros.corruptions import Ramp
from seg_uncertainty_ros.corruptions.severity import check_corruption
from seg_uncertainty_ros.evaluation import shift_report
from seg_uncertainty_ros.evaluation.shift import known_drives
from seg_uncertainty_ros.evaluation.shift import separation
from seg_uncertainty_ros.pipeline import Pipeline
from seg_uncertainty_ros.recordings import open_source

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from seg_uncertainty_ros.calibration.observed import ObservedDrive
    from seg_uncertainty_ros.frames import Frame

REPORT, PICTURE = 'shift.md', 'shift.png'
MIN_RAMP_S = 6.0


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'shift-report',
        run,
        'Table and picture of how well each indicator of a domain shift tells drives apart.',
        'shift-report BUNDLE NIGHT.mcap SNOW.mcap --known FRIDAY.mcap --out REPORT',
    )
    parser.add_argument('reference', metavar='REFERENCE', type=Path, help='bundle of calibrate')
    parser.add_argument('sources', metavar='SOURCE', nargs='+', help='drives to tell apart')
    parser.add_argument(
        '--known',
        required=True,
        nargs='+',
        metavar='DRIVE',
        help='usual drives that the reference has not seen: what SOURCE is compared with',
    )
    parser.add_argument(
        '--fit',
        nargs='+',
        default=[],
        metavar='DRIVE',
        help='calibrate on these usual drives first, as calibrate does',
    )
    parser.add_argument(
        '--ramps',
        nargs='*',
        default=['fog', 'night'],
        metavar='NAME',
        help='corruptions that rise to severity 5 over the middle third of the first --known '
        'drive (default: fog night)',
    )
    parser.add_argument('--topic', help='image topic of bags that have several')
    parser.add_argument('--out', required=True, type=Path, help=f'folder of {REPORT}, {PICTURE}')


def run(options: argparse.Namespace) -> int:
    """Write the report."""
    for name in options.ramps:
        check_corruption(name, PEAK, 0)
    bundle = Bundle.load(options.reference)
    if both := {*options.known} & {*options.fit}:
        msg = f'--known: {min(both)} is in --fit too'
        raise CommandError(msg)
    if not options.fit and bundle.reference is None:
        msg = f'{options.reference}: no reference of drives: calibrate it first, or --fit DRIVE...'
        raise CommandError(msg)
    open_all((*options.known, *options.fit, *options.sources), options.topic)
    out = new_directory(options.out)
    pipeline = Pipeline(bundle)
    if options.fit:
        found = calibrate(
            bundle, {'fit': [_observe(pipeline, spec, options) for spec in options.fit]}
        )
        bundle = replace(bundle, reference=found.reference, thresholds=found.thresholds)
    known = [_observe(pipeline, spec, options) for spec in options.known]
    usual = known_drives(bundle.reference, known)
    sources = [
        separation(bundle.reference, usual, drive.name, [drive])
        for drive in (_observe(pipeline, spec, options) for spec in options.sources)
    ]
    delays = {}
    for name in options.ramps:
        if known[0].stamps_s[-1] < MIN_RAMP_S:
            print(f'no ramp of {name}: {options.known[0]} is shorter than {MIN_RAMP_S:g} s')
            continue
        ramp = _third(known[0])
        drive = _observe(pipeline, options.known[0], options, (name, ramp))
        delays[f'{name} on {known[0].name}'] = ramp_delay(bundle, drive, ramp)
    text = f"""# Domain shift by {bundle.name} {bundle.version}

Bundle {bundle.digest[:12]}. Windows of {bundle.reference.window_s:g} s of each source against
those of known drives that the reference has not seen: {', '.join(options.known)}.

{shift_report.separations(sources)}

## False alarms

{shift_report.false_alarm_table(false_alarm_rates(bundle, known))}

Simulated: known drives recombined in blocks to hours, with the 90 % interval of these.

## Ramps

{shift_report.delay_table(delays)}

## Indicators

AUROC of windows.

{shift_report.indicators(sources)}

AUROC of frames.

{shift_report.indicators(sources, frames=True)}
"""
    (out / REPORT).write_text(text, encoding='utf-8')
    shift_report.draw(out / PICTURE, sources, f'{bundle.name} {bundle.version}')
    print(text)
    print(f'{out / REPORT} and {out / PICTURE} written')
    return 0


def _observe(
    pipeline: Pipeline,
    spec: str,
    options: argparse.Namespace,
    ramp: tuple[str, Ramp] | None = None,
) -> ObservedDrive:
    source = open_source(spec, topic=options.topic)
    frames = (frame for _, frame in progress(source))
    return observe_drive(pipeline, source.name, frames if ramp is None else _rise(frames, *ramp))


def _third(drive: ObservedDrive) -> Ramp:
    seconds = float(drive.stamps_s[-1])
    return Ramp(PEAK, seconds / 3, 2 * seconds / 3)


def _rise(frames: Iterator[Frame], name: str, ramp: Ramp) -> Iterator[Frame]:
    perturbation = None
    for index, frame in enumerate(frames):
        perturbation = perturbation or Perturbation(name, ramp, 0, frame.stamp_ns)
        yield perturbation.apply(frame, index)
