# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What messages cost: to decode an image of each encoding to BGR, to make what is published.

Each conversion takes turns with a memcpy, into memory that is there already, of the bytes that it
reads and with one of the bytes that it writes: a decoded image has three bytes a pixel, whatever
the message has. Processor time of one thread, heap kept as in the nodes.

Exit status 1: a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from array import array
from pathlib import Path

import cv2
import numpy as np
from reporting import import_rclpy
from reporting import machine
from reporting import ms
from reporting import pair_ratio
from reporting import table
from tqdm import tqdm

from seg_uncertainty_ros.encodings import ENCODINGS
from seg_uncertainty_ros.encodings import LAYOUTS
from seg_uncertainty_ros.recordings import open_source

SIZES = ((640, 360), (1920, 1080))
GOAL = 1.5
GOALS = ('bgr8', 'rgb8', 'mono8', 'plane, mono8', 'overlay, bgr8')
BUFFERS = 4
WARM_UP = 10
PLANAR = ('nv12', 'nv21')
COMPRESSED = {'jpeg': '.jpg', 'png': '.png'}
EMBEDDING = 320
HEAD = """# Conversions

Made by `python benchmarks/conversions.py --page docs/conversions.md`. Each conversion takes turns
with two memcpys into memory that is there already, of the bytes that it reads and of those that it
writes (three a pixel when an image is decoded, whatever the message has): median ratio of
neighbouring runs, with its 95 % interval. Processor time of one thread."""


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--rounds', type=int, default=200)
    parser.add_argument('--page', type=Path, help='write the tables there')
    return parser.parse_args()


def data_of(values):
    """Return the bytes of an array as rclpy has them in a message."""
    data = array('B')
    data.frombytes(np.ascontiguousarray(values).tobytes())
    return data


def image_of(encoding, width, height, rng, padding=0):
    """Return an Image of noise."""
    from sensor_msgs.msg import Image

    layout = LAYOUTS[encoding]
    rows = height * 3 // 2 if encoding in PLANAR else height
    step = width * layout.pixel_bytes + padding
    values = rng.integers(0, 256, (rows, step), np.uint8)
    if encoding == '32FC1':
        values = rng.random((rows, width), np.float32)
    return Image(height=height, width=width, encoding=encoding, step=step, data=data_of(values))


def compressed_of(kind, picture):
    """Return a CompressedImage of a picture."""
    from sensor_msgs.msg import CompressedImage

    _, values = cv2.imencode(COMPRESSED[kind], picture)
    return CompressedImage(format=f'bgr8; {kind} compressed bgr8', data=data_of(values))


def timed(function, argument):
    start = time.thread_time()
    result = function(argument)
    return time.thread_time() - start, result


class Copy:
    """memcpy of an array of so many bytes to one that is there already."""

    def __init__(self, count):
        self._sources = [np.full(count, index, np.uint8) for index in range(BUFFERS)]
        self._target = np.zeros(count, np.uint8)

    def __call__(self, index):
        np.copyto(self._target, self._sources[index % BUFFERS])


def measure(convert, arguments, read, written, rounds):
    """Return seconds of a conversion and of both copies, in turns."""
    copies = Copy(read), Copy(written)
    seconds = []
    for index in range(-WARM_UP, rounds):
        took = [timed(convert, arguments[index % len(arguments)])[0]]
        took += [timed(copy, index)[0] for copy in copies]
        if index >= 0:
            seconds.append(took)
    return np.array(seconds).T


def decoding(width, height, rounds, bar):
    """Return table rows of decoding."""
    from seg_uncertainty_ros.nodes import conversions

    rng = np.random.default_rng(0)
    source = f'procedural:seed=1,width={width},height={height},rate=2,duration=3'
    pictures = [frame.image for frame in open_source(source)][:BUFFERS]
    cases = {
        encoding: [image_of(encoding, width, height, rng) for _ in range(BUFFERS)]
        for encoding in ENCODINGS
    }
    cases['bgr8, rows padded'] = [
        image_of('bgr8', width, height, rng, padding=64) for _ in range(BUFFERS)
    ]
    cases |= {
        f'compressed, {kind}': [compressed_of(kind, picture) for picture in pictures]
        for kind in COMPRESSED
    }
    written = width * height * 3
    rows = []
    for name, messages in cases.items():
        convert = conversions.frame_from_image
        if name.startswith('compressed'):
            convert = conversions.frame_from_compressed
        read = len(messages[0].data)
        took, of_read, of_written = measure(
            convert, messages, read, written, rounds if 'png' not in name else rounds // 4
        )
        ratios = pair_ratio(took, of_read), pair_ratio(took, of_written)
        rows.append([name, f'{read / 2**20:.2f}', ms(took), *ratios])
        bar.update()
    return rows


def publishing(width, height, rounds, bar):
    """Return table rows of making messages out of what a frame gives."""
    from std_msgs.msg import Header

    from seg_uncertainty_ros.nodes import conversions

    rng = np.random.default_rng(0)
    header = Header(frame_id='camera')

    def filled(make):
        """Return a function that fills the same message each time, as the node does."""
        message = None

        def fill(values):
            nonlocal message
            message = make(values, header, message)
            return message

        return fill

    def arrays(shape, kind):
        if kind is np.float32:
            return [rng.random(shape, kind) for _ in range(BUFFERS)]
        return [rng.integers(0, 256, shape, kind) for _ in range(BUFFERS)]

    cases = {
        'plane, mono8': (filled(conversions.image_message), arrays((height, width), np.uint8)),
        'anomaly, 32FC1': (filled(conversions.image_message), arrays((height, width), np.float32)),
        'overlay, bgr8': (filled(conversions.image_message), arrays((height, width, 3), np.uint8)),
        'dispersion, 32FC3': (
            filled(conversions.image_message),
            arrays((height // 4, width // 4, 3), np.float32),
        ),
        'embedding': (filled(conversions.embedding_message), arrays(EMBEDDING, np.float32)),
    }
    rows = []
    for name, (make, inputs) in cases.items():
        read, written = inputs[0].nbytes, len(make(inputs[0]).data)
        took, of_read, of_written = measure(make, inputs, read, written, rounds)
        row = [name, f'{written / 2**20:.2f}', ms(took)]
        # A memcpy of a vector takes no time to speak of.
        small = written < 4096
        row += ['-' if small else pair_ratio(took, each) for each in (of_read, of_written)]
        rows.append(row)
        bar.update()
    return rows


def main():
    options = parse()
    import_rclpy()
    from seg_uncertainty_ros.nodes.transport import keep_heap

    keep_heap()
    cv2.setNumThreads(1)
    parts = [
        machine(),
        f'{options.rounds} rounds. Goal: bgr8, rgb8 and mono8 are decoded, mono8 and bgr8 made, '
        f'within {GOAL} of a memcpy of the bytes that are written.',
    ]
    missed = []
    ratios = ['/ memcpy of what is read', '/ memcpy of what is written']
    with tqdm(total=len(SIZES) * (len(ENCODINGS) + 8), unit='case') as bar:
        for width, height in SIZES:
            decoded = decoding(width, height, options.rounds, bar)
            made = publishing(width, height, options.rounds, bar)
            missed += [
                f'{name} at {width}x{height} ({ratio})'
                for name, _, _, _, ratio in (*decoded, *made)
                if name in GOALS and float(ratio.split()[0]) > GOAL
            ]
            parts += [
                f'## {width}x{height}',
                'Decoding, message to BGR image:',
                table(['encoding', 'MiB', 'median ms', *ratios], decoded),
                'Publishing, planes to messages that are filled again and again:',
                table(['message', 'MiB', 'median ms', *ratios], made),
            ]
    parts.insert(2, f'Missed: {", ".join(missed)}.' if missed else 'The goal is met.')
    print('\n\n'.join(parts))
    if options.page:
        text = '\n\n'.join([HEAD, *parts]) + '\n'
        options.page.write_text(text, encoding='utf-8')
    return int(bool(missed))


if __name__ == '__main__':
    sys.exit(main())
