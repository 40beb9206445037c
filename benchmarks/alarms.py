# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Warnings on procedural drives that neither the thresholds nor the demo have seen.

A drive for each kind of unknown object (seeds 900 and up): was it warned of while it was there,
and how long after it came into view? Clean drives (seeds 950 and up): how many false warnings?
"""

import argparse

from reporting import machine
from reporting import table
from tqdm import tqdm

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import default_bundle_path
from seg_uncertainty_ros.frames import Frame
from seg_uncertainty_ros.monitor.assessment import Observation
from seg_uncertainty_ros.monitor.config import MonitorConfig
from seg_uncertainty_ros.monitor.monitor import Monitor
from seg_uncertainty_ros.pipeline import Pipeline
from seg_uncertainty_ros.procedural import KINDS
from seg_uncertainty_ros.procedural import Drive
from seg_uncertainty_ros.procedural import UnknownEvent

UNKNOWN_SEED, CLEAN_SEED = 900, 950
START_S, END_S, GRACE_S = 1.5, 6.0, 1.0


def raised(pipeline, drive):
    """Return (name, seconds since the start) of every warning that a drive raises."""
    bundle = pipeline.bundle
    monitor = Monitor.of(bundle, MonitorConfig())
    found = []
    for index, rendered in enumerate(drive):
        stamp_ns = drive.stamp_ns(index)
        result = pipeline.process(Frame(rendered.image, stamp_ns))
        assessment = monitor.update(Observation.of(result, stamp_ns))
        found += [
            (change.name, (change.stamp_ns - drive.stamp_ns(0)) / 1e9)
            for change in assessment.transitions
            if change.raised
        ]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--clean', type=int, default=15, help='clean drives of 8 s each')
    options = parser.parse_args()
    pipeline = Pipeline(Bundle.load(default_bundle_path()))
    print(machine())
    rows = []
    for offset, kind in enumerate(tqdm(KINDS, unit='drive')):
        event = UnknownEvent(START_S, END_S, kind)
        warnings = raised(pipeline, Drive(UNKNOWN_SEED + offset, duration_s=7.0, events=(event,)))
        moments = [moment for name, moment in warnings if name == 'ood_area']
        hits = [moment for moment in moments if START_S <= moment <= END_S + GRACE_S]
        rows.append([kind, f'{hits[0] - START_S:.1f}' if hits else 'no', len(moments) - len(hits)])
    print(table(['unknown object', 'warned after, s', 'false before'], rows))
    detected = sum(row[1] != 'no' for row in rows)
    print(f'\n{detected} of {len(rows)} warned of; ego passes each after {END_S - START_S:g} s\n')
    counts = dict.fromkeys(('ood_area', 'low_confidence', 'domain_shift'), 0)
    for seed in tqdm(range(CLEAN_SEED, CLEAN_SEED + options.clean), unit='drive'):
        for name, _ in raised(pipeline, Drive(seed, duration_s=8.0)):
            counts[name] += 1
    print(table(['false warning', f'in {8 * options.clean} s'], list(counts.items())))


if __name__ == '__main__':
    main()
