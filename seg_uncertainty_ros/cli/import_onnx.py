# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""import-onnx: make a bundle of somebody else's network (extra train)."""

from __future__ import annotations

import colorsys
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.classes import ClassInfo
from seg_uncertainty_ros.cli.options import CommandError
from seg_uncertainty_ros.cli.options import add_command
from seg_uncertainty_ros.cli.options import new_directory
from seg_uncertainty_ros.evaluation.images import open_images
from seg_uncertainty_ros.structured_text import shown

if TYPE_CHECKING:
    import argparse

    from seg_uncertainty_ros.bundle import Bundle

MOST_CLASSES = 255
MAX_CLASS_BYTES = 1 << 16
GOLDEN = 0.618034
GROUND_NAMES = ('road', 'pavement', 'sidewalk')


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'import-onnx',
        run,
        'Make a bundle of any network with one logits output (needs the extra train).',
        'import-onnx NET.onnx --classes classes.txt --mean 0.485,0.456,0.406 '
        '--std 0.229,0.224,0.225 --data DRIVE.mcap --out BUNDLE',
    )
    parser.add_argument('network', metavar='NET.onnx', type=Path, help='1x3xHxW to logits')
    parser.add_argument(
        '--classes',
        required=True,
        type=Path,
        metavar='FILE',
        help='a class a line in the order of the logits: its name, and R G B (0..255) if wanted',
    )
    for name in ('mean', 'std'):
        parser.add_argument(
            f'--{name}',
            required=True,
            metavar='R,G,B',
            help='of the training images, in the order of the channels of the network',
        )
    parser.add_argument(
        '--pixel-range',
        type=int,
        choices=(1, 255),
        default=1,
        help='mean and std are of pixels in 0..1 (default) or 0..255',
    )
    order = parser.add_mutually_exclusive_group()
    order.add_argument('--rgb', dest='order', action='store_const', const='rgb', default='rgb')
    order.add_argument(
        '--bgr', dest='order', action='store_const', const='bgr', help='channels (default: rgb)'
    )
    parser.add_argument(
        '--ground',
        metavar='NAMES',
        help='classes that one drives on, with commas between: where the monitor looks for '
        f'objects (default: those of {", ".join(GROUND_NAMES)} that there are)',
    )
    parser.add_argument('--logits', metavar='NAME', help='output, or tensor inside')
    parser.add_argument(
        '--features', metavar='NAME', help='what the last convolution sees: gradient norms need it'
    )
    parser.add_argument(
        '--size', metavar='WxH', help='bring every image to this size (default: any size)'
    )
    parser.add_argument('--stride', type=int, help='sides are multiples of it (default: 32)')
    parser.add_argument('--max-pixels', type=int, help='of an image, about (default: 1024 * 512)')
    parser.add_argument(
        '--data',
        required=True,
        nargs='+',
        metavar='IMAGES',
        help='in-distribution images that the score scales are fitted on, at least ten: bags, '
        'videos, folders of images; there is no scale without',
    )
    parser.add_argument('--topic', help='image topic of a bag that has several')
    parser.add_argument(
        '--scores', default='', help='names with commas between (default: what it can give)'
    )
    parser.add_argument('--name', default='imported', help='of the bundle (default: imported)')
    parser.add_argument('--out', required=True, type=Path, help='new bundle')


def run(options: argparse.Namespace) -> int:
    """Write the bundle."""
    try:
        from seg_uncertainty_ros.network.given import MAX_PIXELS
        from seg_uncertainty_ros.network.given import read_network
        from seg_uncertainty_ros.network.wrapping import Normalisation
    except ImportError as error:
        msg = "needs onnx and torch: pip install '.[train]'"
        raise CommandError(msg) from error
    if not re.fullmatch('[a-z0-9][a-z0-9._-]*', options.name):
        msg = f'--name: {options.name!r}, expected a-z, 0-9, dots, dashes, underscores'
        raise CommandError(msg)
    if options.max_pixels is not None and not 1024 <= options.max_pixels <= 1 << 26:
        msg = f'--max-pixels: {options.max_pixels}, expected 1024 to {1 << 26}'
        raise CommandError(msg)
    classes = with_ground(read_classes(options.classes), options.ground)
    normalisation = Normalisation(
        three_numbers('--mean', options.mean),
        three_numbers('--std', options.std),
        options.order,
        options.pixel_range,
    )
    network = read_network(
        options.network,
        len(classes),
        logits=options.logits,
        features=options.features,
        size=None if options.size is None else read_size(options.size),
        stride=options.stride,
        max_pixels=options.max_pixels or MAX_PIXELS,
    )
    try:
        from seg_uncertainty_ros.training.importing import ground_hint
        from seg_uncertainty_ros.training.importing import import_network
    except ImportError as error:
        msg = "importing needs torch: pip install '.[train]'; running the bundle does not"
        raise CommandError(msg) from error
    sets = [open_images(spec, len(classes), options.topic) for spec in options.data]
    out = new_directory(options.out)
    try:
        bundle = import_network(
            options.network,
            network,
            normalisation,
            classes,
            sets,
            out,
            scores=[name for name in options.scores.split(',') if name],
            name=options.name,
        )
    finally:
        for images in sets:
            for reason in images.skipped:
                print(f'seg-uncertainty: skipped: {images.name}: {reason}', file=sys.stderr)
    for line in summary(bundle):
        print(line)
    if hint := ground_hint(classes):
        print(f'seg-uncertainty: {hint}', file=sys.stderr)
    return 0


def summary(bundle: Bundle) -> list[str]:
    """Return what was made and what comes next."""
    return [
        f'{bundle.path} written: {len(bundle.classes)} classes, {", ".join(bundle.score_names)}',
        f'logits {bundle.provenance["logits"]}; features {bundle.provenance["features"]}',
        'temperature and thresholds are defaults: calibrate-scores fits the one to labelled '
        'images, calibrate the others to drives',
    ]


def read_classes(path: Path) -> tuple[ClassInfo, ...]:
    """Read a class a line: a name, then perhaps red, green and blue; # begins a comment.

    Raises:
        CommandError: the line that is wrong, and why.

    """
    try:
        with path.open('rb') as file:
            data = file.read(MAX_CLASS_BYTES + 1)
        text = data[:MAX_CLASS_BYTES].decode()
    except (OSError, UnicodeDecodeError) as error:
        msg = f'--classes {path}: unreadable: {getattr(error, "strerror", None) or "not UTF-8"}'
        raise CommandError(msg) from error
    if len(data) > MAX_CLASS_BYTES:
        msg = f'--classes {path}: more than the {MAX_CLASS_BYTES} bytes accepted'
        raise CommandError(msg)
    classes: list[ClassInfo] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split('#')[0].replace(',', ' ').split()
        if not words:
            continue
        if len(classes) > MOST_CLASSES:
            break
        colored = len(words) >= 3 and all(re.fullmatch('[0-9]{1,3}', x) for x in words[-3:])
        name = ' '.join(words[:-3] if colored else words)
        color = tuple(map(int, words[-3:])) if colored else None
        if not name or (color and max(color) > 255):
            quoted = shown(repr(line.strip()), 80)
            msg = f'--classes {path}: line {number}: {quoted}, expected name R G B'
            raise CommandError(msg)
        if name in [info.name for info in classes]:
            msg = f'--classes {path}: line {number}: {shown(repr(name), 80)} a second time'
            raise CommandError(msg)
        classes.append(ClassInfo(name, color or default_color(name, len(classes))))
    if not 2 <= len(classes) <= MOST_CLASSES:
        msg = f'--classes {path}: {len(classes)} classes, expected 2 to {MOST_CLASSES}'
        raise CommandError(msg)
    return tuple(classes)


def with_ground(classes: tuple[ClassInfo, ...], wanted: str | None) -> tuple[ClassInfo, ...]:
    """Return the classes with those marked that are ground; ``wanted`` None: by common names.

    Raises:
        CommandError: a name that no class has.

    """
    names = GROUND_NAMES if wanted is None else wanted.split(',')
    known = [info.name for info in classes]
    if wanted is not None and (unknown := [name for name in names if name not in known]):
        msg = f'--ground: {unknown[0]!r}, expected some of {", ".join(known)}'
        raise CommandError(msg)
    return tuple(replace(info, ground=info.name in names) for info in classes)


def default_color(name: str, index: int) -> tuple[int, int, int]:
    """Return the palette's colour of a class by that name, or a hue far from its neighbours'."""
    for info in CAMVID:
        if info.name == name:
            return info.color
    red, green, blue = colorsys.hsv_to_rgb(index * GOLDEN % 1.0, 0.7, 0.6 + 0.15 * (index % 3))
    return round(255 * red), round(255 * green), round(255 * blue)


def three_numbers(option: str, text: str) -> tuple[float, float, float]:
    """Read R,G,B."""
    try:
        first, second, third = map(float, text.split(','))
    except ValueError as error:
        msg = f'{option}: {text!r}, expected three numbers with commas between'
        raise CommandError(msg) from error
    return first, second, third


def read_size(text: str) -> tuple[int, int]:
    """Read WxH; return (height, width)."""
    match = re.fullmatch('([0-9]{1,5})x([0-9]{1,5})', text)
    if match is None or '0' in match.groups():
        msg = f'--size: {text!r}, expected WxH, as 1024x512'
        raise CommandError(msg)
    width, height = map(int, match.groups())
    return height, width
