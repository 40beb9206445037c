# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The real nodes over many frames, with faults at random: what grows, what slows, what is lost.

Segmentation, monitor and recorder are processes of their own in a ROS domain of their own; the
last two write event logs and snapshots, within limits that make them delete old ones. This process
is the camera: it holds an image back until the monitor's state of the one before (--in-flight:
some more) has come, so that the nodes process what they get. Frames are those that segmentation
says it processed. --faults lets something go wrong every few hundred images, each kind (see
faults.py) as often as the others; --warm-up-every lets more go wrong in the part of the warm-up
that is after the first tenth, so that queues have held the largest images in each of their places
before the slope of memory begins, and latencies still compare two tenths of the same faults.

Exit status 1: a target is missed.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import signal
import sys
import tempfile
from dataclasses import astuple
from dataclasses import fields
from pathlib import Path

import cv2
from reporting import import_rclpy
from reporting import own_domain
from soaking.watching import Sample
from soaking.watching import unused

from seg_uncertainty_ros.bundle import default_bundle_path

EVERY = 300
LEAST = 200


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--frames', type=int, default=10_000, help='to be processed')
    parser.add_argument(
        '--graph',
        choices=('tiny', 'bundle'),
        default='tiny',
        help='a network that costs nothing on 96x64, or --bundle on 640x360',
    )
    parser.add_argument('--bundle', type=Path, default=default_bundle_path())
    parser.add_argument('--faults', action='store_true')
    parser.add_argument('--every', type=int, default=EVERY, help='images between two faults')
    parser.add_argument(
        '--warm-up-every', type=int, help='the same, between the first tenth and the slopes'
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--in-flight', type=int, default=1)
    parser.add_argument('--threads', type=int, default=1, help='of the runtime')
    parser.add_argument('--hours', type=float, default=float('inf'), help='end then at the latest')
    parser.add_argument('--page', type=Path, help='write the result into this page')
    parser.add_argument('--samples', type=Path, help='write what was seen of processes as CSV')
    return parser.parse_args()


def write_samples(path, watched):
    """Write all samples as CSV."""
    with path.open('w', encoding='utf-8', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['process', *(field.name for field in fields(Sample))])
        for process in watched:
            writer.writerows([process.name, *astuple(sample)] for sample in process.samples)


def put_section(page, title, text):
    """Replace a section of a page, or add it."""
    head = '# Soak\n\nMade by `python benchmarks/soak.py --page docs/soak.md`; see its `--help`.\n'
    old = page.read_text('utf-8') if page.exists() else head
    start, *sections = re.split(r'^(?=## )', old, flags=re.MULTILINE)
    sections = [each for each in sections if not each.startswith(f'## {title}\n')]
    sections.append(f'## {title}\n\n{text}\n')
    page.write_text('\n'.join(part.rstrip('\n') + '\n' for part in (start, *sections)), 'utf-8')


def command(options):
    """Return the command line of a run."""
    words = ['python benchmarks/soak.py', f'--frames {options.frames}', f'--graph {options.graph}']
    words += [f'--faults --every {options.every}'] * options.faults
    words += [f'--warm-up-every {options.warm_up_every}'] * bool(options.warm_up_every)
    words += [f'--hours {options.hours:.2f}'] * (options.hours < float('inf'))
    words += [f'--in-flight {options.in_flight}'] * (options.in_flight != 1)
    return ' '.join([*words, f'--seed {options.seed}'])


def main():
    options = parse()
    rclpy = import_rclpy()
    from rclpy.signals import SignalHandlerOptions
    from soaking.report import Report
    from soaking.run import NODES
    from soaking.run import Soak

    from seg_uncertainty_ros.nodes import transport
    from seg_uncertainty_ros.nodes.transport import environment

    transport.prepare()
    cv2.setNumThreads(1)
    with own_domain() as variables, tempfile.TemporaryDirectory() as folder:
        os.environ.update(variables)
        before = set(map(str, Path('/dev/shm').iterdir()))
        # SIGINT and SIGTERM end the run, and what was seen until then is reported.
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        soak = Soak(options, Path(folder), {**environment(), **os.environ})
        try:
            elapsed = soak.run()
        finally:
            soak.close()
            rclpy.try_shutdown()
        of_nodes = [soak.watched[name] for name in NODES if name in soak.watched]
        left = unused({name for watched in of_nodes for name in watched.shared} - before)
        if soak.processed() < LEAST:
            raise SystemExit(f'{soak.processed()} frames: too few. {soak.ended}')
        if options.samples:
            write_samples(options.samples, of_nodes)
        report = Report(soak, elapsed, left)
        text = report.text()
    print(text)
    if options.page:
        title = f'{options.graph} graph, ' + (
            f'a fault every {options.every} images' if options.faults else 'no faults'
        )
        put_section(options.page, title, f'`{command(options)}`\n\n{text}')
    return int(any(row[-1] == 'MISSED' for row in report.targets))


if __name__ == '__main__':
    sys.exit(main())
