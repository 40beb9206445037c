# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Cost of one monitor update on one core: python benchmarks/monitor.py [WIDTH HEIGHT]."""

from __future__ import annotations

import sys
from time import perf_counter
from time import thread_time
from types import SimpleNamespace

import cv2
import numpy as np

from seg_uncertainty_ros.monitor.assessment import Observation
from seg_uncertainty_ros.monitor.config import MonitorConfig
from seg_uncertainty_ros.monitor.domain_shift import ShiftJudge
from seg_uncertainty_ros.monitor.monitor import Monitor
from seg_uncertainty_ros.segments.features import DISPERSION
from seg_uncertainty_ros.segments.features import feature_names
from seg_uncertainty_ros.segments.meta import LinearModel
from seg_uncertainty_ros.segments.meta import MetaModel
from seg_uncertainty_ros.shift.fitting import fit_shift_reference
from seg_uncertainty_ros.shift.image_statistics import image_statistics
from seg_uncertainty_ros.shift.indicators import frame_statistics

NAMES = ('sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign', 'fence', 'car')
FRAMES = 500
PERIOD_NS = 33_000_000
SIZE = 320


def meta_model():
    """Return a model of every feature: what it says does not matter here."""
    names = feature_names(DISPERSION, NAMES)
    flat = LinearModel((0.0,) * len(names), 0.0)
    unit = (1.0,) * len(names)
    return MetaModel(DISPERSION, names, unit, unit, flat, flat, 0.5, 'benchmark', {})


def scene(width, height, rng):
    """Road, pavement, cars, an unknown object, thin boundary responses and speckle."""
    mask = np.full((height, width), 1, np.uint8)
    horizon, middle = int(0.45 * height), width // 2
    corners = [[0, height], [middle - 40, horizon], [middle + 40, horizon], [width, height]]
    cv2.fillPoly(mask, [np.array(corners)], 3)
    anomaly = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    anomaly = np.where(anomaly > 0, 200, 40).astype(np.uint8)
    mask[int(0.6 * height) : int(0.7 * height), middle : middle + width // 12] = 8
    anomaly[int(0.6 * height) : int(0.7 * height), middle : middle + width // 12] = 230
    speckle = rng.random((height, width)) < 0.01
    anomaly[speckle] = 255
    mask[rng.random((height, width)) < 0.01] = 5
    return mask, rng.integers(100, 255, (height, width), np.uint8), anomaly


def fit(planes, image, rng):
    """Return a reference of all indicators to two domains."""

    def drive(shift):
        return [
            frame_statistics(
                index * 500_000_000,
                *planes,
                rng.normal(shift, 1.0, SIZE),
                image,
                classes=len(NAMES),
            )
            for index in range(200)
        ]

    drives = {name: [drive(shift) for _ in range(3)] for name, shift in (('a', 0), ('b', 9))}
    return fit_shift_reference(drives).reference


def indicators(reference, planes, image, rng):
    """Print the processor's time for statistics of the image (pipeline) and a window (monitor)."""
    judge = ShiftJudge(reference)
    measured, judged = [], []
    for index in range(FRAMES):
        embedding = rng.normal(size=SIZE).astype(np.float32)
        start = thread_time()
        statistics = image_statistics(image)
        between = thread_time()
        judge.update(
            Observation(index * PERIOD_NS, *planes, embedding, image_statistics=statistics)
        )
        measured.append(between - start)
        judged.append(thread_time() - between)
    total = np.add(measured, judged)
    for name, times, goal in (
        ('image statistics', measured, '(goal: <= 0.3 ms)'),
        ('judging a window', judged, ''),
        ('all indicators', total, '(goal: <= 1 ms)'),
    ):
        median, p95 = 1e3 * np.quantile(times, (0.5, 0.95))
        print(f'{name:24} processor median {median:.2f} ms, p95 {p95:.2f} ms {goal}')


def run(name, planes, monitor, rng, dispersion=None, statistics=None):
    """Print median and 95th percentile of an update and of a copy of its three planes."""
    updates, copies = [], []
    for index in range(FRAMES):
        embedding = rng.normal(size=SIZE).astype(np.float32)
        observation = Observation(
            index * PERIOD_NS, *planes, embedding, 0.05, dispersion, statistics
        )
        start = perf_counter()
        monitor.update(observation)
        updates.append(perf_counter() - start)
        start = perf_counter()
        [plane.copy() for plane in planes]
        copies.append(perf_counter() - start)
    median, p95 = 1e3 * np.quantile(updates, (0.5, 0.95))
    ratio = np.median(updates) / np.median(copies)
    print(f'{name:24} median {median:.2f} ms, p95 {p95:.2f} ms, {ratio:.0f} x copying the planes')


def main():
    cv2.setNumThreads(1)
    width, height = (int(text) for text in sys.argv[1:3]) if len(sys.argv) > 2 else (640, 360)
    rng = np.random.default_rng(0)
    classes = [SimpleNamespace(name=name) for name in NAMES]
    limits = {
        'ood_area': SimpleNamespace(enter=0.02, exit=0.01),
        'low_confidence': SimpleNamespace(enter=0.5, exit=0.6),
        'domain_shift': SimpleNamespace(enter=1.5, exit=1.2),
    }
    print(f'{width}x{height}, {FRAMES} updates, embedding of {SIZE}, two domains, one core')
    scenes = {
        'scene': scene(width, height, rng),
        'noise': tuple(
            rng.integers(0, high, (height, width), np.uint8) for high in (11, 255, 255)
        ),
    }
    dispersion = rng.random((height // 4, width // 4, 3)).astype(np.float32)
    planes = scenes['scene']
    image = cv2.merge([planes[1], planes[2], planes[1]])
    reference = fit(planes, image, rng)
    for name, planes in scenes.items():
        run(name, planes, Monitor(MonitorConfig(), classes, limits, reference), rng)
        judging = Monitor(MonitorConfig(), classes, limits, reference, meta_model())
        run(f'{name}, objects judged', planes, judging, rng, dispersion)
    planes = scenes['scene']
    all_of_it = Monitor(MonitorConfig(), classes, limits, reference, meta_model())
    run('scene, all indicators', planes, all_of_it, rng, dispersion, image_statistics(image))
    indicators(reference, planes, image, rng)


if __name__ == '__main__':
    main()
