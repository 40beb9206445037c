# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""perturb: a recording under a corruption of known severity, as a bag."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from seg_uncertainty_ros.cli.options import CommandError
from seg_uncertainty_ros.cli.options import add_command
from seg_uncertainty_ros.cli.options import add_source
from seg_uncertainty_ros.cli.options import progress
from seg_uncertainty_ros.corruptions import CORRUPTIONS
from seg_uncertainty_ros.corruptions import Perturbation
from seg_uncertainty_ros.corruptions import Ramp
from seg_uncertainty_ros.corruptions.perturbation import RECORD
from seg_uncertainty_ros.corruptions.severity import check_corruption
from seg_uncertainty_ros.recordings import open_source
from seg_uncertainty_ros.recordings.bag_writer import BagWriter

if TYPE_CHECKING:
    import argparse

    from seg_uncertainty_ros.frames import Frame

DEFAULT_TOPIC = '/camera/front/image_raw'
SEVERITY_TOPIC = '/perturbation/severity'
COMPRESSED = '/compressed'
PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'perturb',
        run,
        'Write a bag with the images of a recording, corrupted: topic, stamps and frame ids stay.',
        'perturb BAG --corruption fog --severity 4 --ramp 5:10 --out BAG2',
    )
    width = max(map(len, CORRUPTIONS))
    listing = '\n'.join(f'  {x.name:{width}}  {x.summary}' for x in CORRUPTIONS.values())
    parser.epilog += (
        '\n\nMessages are stored at the stamps of the images; other topics of the source,\n'
        f'camera_info too, are left out. The severity of each image is on {SEVERITY_TOPIC};\n'
        f'name, ramp and seed are in {RECORD}.\n\n'
        f'corruptions; [C]: as in ImageNet-C:\n{listing}\n'
    )
    add_source(parser)
    parser.add_argument('--out', required=True, type=Path, help='new bag (a directory or .mcap)')
    parser.add_argument('--corruption', required=True, metavar='NAME', help='one of those below')
    parser.add_argument(
        '--severity',
        required=True,
        type=float,
        metavar='S',
        help='0 (none) to 5, not only whole numbers',
    )
    parser.add_argument(
        '--ramp',
        metavar='START_S:END_S',
        help='severity rises from 0 to S between these times (default: S from the first frame on)',
    )
    parser.add_argument('--seed', type=int, default=0, help='of all randomness (default: 0)')


def write_frame(bag: BagWriter, topic: str, frame: Frame) -> None:
    """Write the image without loss: as PNG on a topic of compressed images, else raw."""
    if not topic.endswith(COMPRESSED):
        bag.write_image(topic, frame.image, 'bgr8', frame.stamp_ns, frame.frame_id)
        return
    _, data = cv2.imencode('.png', frame.image, PNG)
    bag.write_compressed(topic, data.tobytes(), frame.stamp_ns, frame.frame_id, format='png')


def run(options: argparse.Namespace) -> int:
    """Corrupt every frame of the source."""
    name, peak = options.corruption, options.severity
    check_corruption(name, peak, options.seed)
    ramp = Ramp.parse(peak, options.ramp) if options.ramp is not None else Ramp(peak)
    source = open_source(options.source, topic=options.topic)
    topic = source.topic or DEFAULT_TOPIC
    bag = BagWriter(options.out)
    # Nothing is written before it is known that there is a frame.
    first = next(iter(source), None)
    if first is None:
        msg = f'{options.source}: has no frames'
        raise CommandError(msg)
    perturbation = Perturbation(name, ramp, options.seed, first.stamp_ns)
    severities = []
    with bag:
        record = perturbation.write(options.out)
        for index, frame in progress(source):
            write_frame(bag, topic, perturbation.apply(frame, index))
            severities.append(perturbation.severity(frame.stamp_ns))
            bag.write_float(SEVERITY_TOPIC, severities[-1], frame.stamp_ns)
    # A ramp may be longer than the recording, or start after its end.
    reached = ' to '.join(f'{x:.3g}' for x in sorted({min(severities), max(severities)}))
    print(f'{len(severities)} frames under {name}, severity {reached}, on {topic}')
    print(f'{options.out} and {record} written')
    return 0
