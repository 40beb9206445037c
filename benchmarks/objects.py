# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What objects add to a frame: components, features, meta model, tracks.

The yardstick is one call of connectedComponentsWithStats of OpenCV on the same plane, in the same
run: what any listing of anomalous regions costs.
"""

import argparse
from time import perf_counter

import cv2
import numpy as np
from monitor import NAMES
from monitor import meta_model
from monitor import scene
from reporting import machine
from reporting import ms
from reporting import pair_ratio
from reporting import size
from reporting import table

from seg_uncertainty_ros.classes import ClassInfo
from seg_uncertainty_ros.frames import Geometry
from seg_uncertainty_ros.monitor.region_of_interest import sample
from seg_uncertainty_ros.segments import features
from seg_uncertainty_ros.segments.components import find
from seg_uncertainty_ros.segments.tracks import Tracker

STEPS = ('components', 'features', 'meta model', 'tracks')


def objects(planes, dispersion, model, columns, tracker, stamp_ns, clock):
    """Do what the monitor does with the objects of a frame; return the seconds of each step."""
    mask, anomaly = planes
    moments = [clock()]
    found = find(anomaly, threshold=0.5, opening=2)
    moments.append(clock())
    measured = features.measure(found, anomaly, dispersion, mask, len(NAMES))
    moments.append(clock())
    model.predict(measured[:, columns])
    moments.append(clock())
    left_top, sides = np.split(found.boxes.astype(np.float64), 2, axis=1)
    tracker.update(np.hstack((left_top, left_top + sides)), stamp_ns)
    moments.append(clock())
    return np.diff(moments), len(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--size', type=size, default=(640, 360), help='of the camera, WxH')
    parser.add_argument('--frames', type=int, default=500)
    options = parser.parse_args()
    cv2.setNumThreads(2)
    width, height = options.size
    rows, columns = Geometry(32, 640 * 384).network_size(height, width)
    rows, columns = rows // 4, columns // 4
    rng = np.random.default_rng(0)
    model = meta_model()
    chosen = features.columns(model, [ClassInfo(name, (0, 0, 0)) for name in NAMES])
    dispersion = rng.random((rows, columns, 3)).astype(np.float32)
    clutter = cv2.GaussianBlur(rng.normal(size=(rows, columns)), (0, 0), 2.0)
    clutter = np.clip(255 * (0.25 + 0.25 * clutter / clutter.std()), 0, 255).astype(np.uint8)
    mask, _, anomaly = (sample(plane, (rows, columns)) for plane in scene(width, height, rng))
    print(f'{machine()}\n{width}x{height}, planes of {columns}x{rows}, two threads\n')
    lines = []
    for name, plane in (('scene', anomaly), ('clutter', clutter)):
        tracker = Tracker()
        seconds, yardstick = [], []
        binary = (plane >= 128).astype(np.uint8)
        for index in range(options.frames):
            start = perf_counter()
            cv2.connectedComponentsWithStats(binary, connectivity=8)
            yardstick.append(perf_counter() - start)
            step, count = objects(
                (mask, plane), dispersion, model, chosen, tracker, index * 33_000_000, perf_counter
            )
            seconds.append(step)
        seconds = np.array(seconds)
        total = seconds.sum(axis=1)
        lines.append(
            [
                f'{name}, {count} segments',
                *(ms(column) for column in seconds.T),
                ms(total),
                ms(total, 95),
                pair_ratio(total, yardstick),
            ]
        )
    header = ['median, ms', *STEPS, 'all', 'all, p95', 'ratio to one labelling']
    print(table(header, lines))


if __name__ == '__main__':
    main()
