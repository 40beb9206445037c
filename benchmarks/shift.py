# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Domain shift on real drives."""

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import default_bundle_path
from seg_uncertainty_ros.calibration.observed import ObservedDrive
from seg_uncertainty_ros.calibration.observed import observe_drive
from seg_uncertainty_ros.corruptions import MAX_SEVERITY
from seg_uncertainty_ros.corruptions import Perturbation
from seg_uncertainty_ros.corruptions import Ramp
from seg_uncertainty_ros.frames import Frame
from seg_uncertainty_ros.pipeline import Pipeline
from seg_uncertainty_ros.recordings import open_source
from seg_uncertainty_ros.shift.image_statistics import ImageStatistics
from seg_uncertainty_ros.shift.indicators import FrameStatistics

DAY = {'0006R0': 'train', '0016E5': 'train', 'Seq05VD': 'test'}
CAMVID_HZ = 30
VAL = 'camvid_val_15hz'
DASHCAM = 'dashcam_us_suburb'
RATE_HZ = 5
RECORDINGS = (
    DASHCAM,
    'highway_us',
    'cityscapes_seq0000',
    'cityscapes_seq0003',
    'cityscapes_seq0005',
)
CORRUPTIONS = (
    'fog',
    'night',
    'rain',
    'gaussian_noise',
    'box_blur',
    'motion_blur',
    'contrast',
    'underexposure',
)
HELD_OUT = 'Seq05VD'
STILL_GAP_S = 100
RAMPS = ('fog', 'night')
START_NS = 10**9


def camvid(data, drive, split):
    """Return the labelled frames of a drive, 1 s apart; the number in a name counts at 30 Hz."""
    files = sorted((data / 'camvid' / split).glob(f'{drive}_*'))
    numbers = [int(''.join(c for c in file.stem.split('_')[1] if c.isdigit())) for file in files]
    return [
        Frame(cv2.imread(str(file)), START_NS + round((number - numbers[0]) * 1e9 / CAMVID_HZ))
        for file, number in zip(files, numbers, strict=True)
    ]


def stills(folder, count):
    """Return up to ``count`` single images, far apart in time."""
    files = sorted(folder.rglob('*.jpg'))
    chosen = np.linspace(0, len(files) - 1, min(count, len(files))).astype(int)
    return [
        Frame(cv2.imread(str(file)), START_NS + index * STILL_GAP_S * 10**9)
        for index, file in enumerate(files[i] for i in chosen)
    ]


def pairs(frames, count):
    """Return pairs of neighbouring frames, pairs far apart in time."""
    first = np.linspace(0, len(frames) - 2, count).astype(int)
    return [
        replace(frames[i + j], stamp_ns=START_NS + (k * STILL_GAP_S + j) * 10**9)
        for k, i in enumerate(first)
        for j in (0, 1)
    ]


def twice(drive):
    """Return stills as a standing camera sees them: two frames, 1 s apart."""
    frames = [
        replace(frame, stamp_ns=frame.stamp_ns + j * 10**9)
        for frame in drive.frames
        for j in (0, 1)
    ]
    return ObservedDrive(
        drive.name, tuple(frames), np.repeat(drive.ood_area, 2), np.repeat(drive.confidence, 2)
    )


def ramped(frames, name, ramp):
    """Return frames under a ramp."""
    perturbation = Perturbation(name, ramp, 0, frames[0].stamp_ns)
    return [perturbation.apply(frame, index) for index, frame in enumerate(frames)]


class Store:
    """Observed drives, kept in a folder where there is one."""

    def __init__(self, bundle, cache):
        self.pipeline = Pipeline(bundle)
        self._cache = cache and cache / bundle.digest[:12]

    def get(self, name, load):
        """Return what was measured of the frames that ``load`` gives."""
        file = self._cache and self._cache / f'{name}.npz'
        if file and file.is_file():
            return _load(name, file)
        frames = load()
        drive = observe_drive(self.pipeline, name, tqdm(frames, desc=name, leave=False))
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            _save(drive, file)
        return drive


def _save(drive, file):
    frames = drive.frames
    columns = {
        key: np.stack([getattr(frame, key) for frame in frames])
        for key in ('stamp_ns', 'embedding', 'confidence', 'anomaly', 'classes', 'image')
    }
    np.savez(file, area=drive.ood_area, mean=drive.confidence, **columns)


def _load(name, file):
    with np.load(file) as kept:
        kept = dict(kept)
    frames = tuple(
        FrameStatistics(int(stamp), e, c, a, k, ImageStatistics(*map(float, i)))
        for stamp, e, c, a, k, i in zip(
            *(
                kept[key]
                for key in ('stamp_ns', 'embedding', 'confidence', 'anomaly', 'classes', 'image')
            ),
            strict=True,
        )
    )
    return ObservedDrive(name, frames, kept['area'], kept['mean'])


def recording(data, name):
    """Return the frames of a recording at RATE_HZ or as close as its rate allows."""
    source = open_source(data / 'recordings' / name)
    return list(source)[:: max(1, round(source.rate_hz / RATE_HZ))]


def observe_all(data, store, counts):
    """Return known drives, real shifts, corruptions by name and severity, and ramps."""
    day = {d: store.get(d, lambda d=d, s=s: camvid(data, d, s)) for d, s in DAY.items()}
    day[VAL] = store.get(VAL, lambda: recording(data, VAL))
    real = {
        f'dusk, {split}': store.get(f'dusk, {split}', lambda s=split: camvid(data, '0001TP', s))
        for split in ('train', 'test')
    }
    real |= {name: store.get(name, lambda n=name: recording(data, n)) for name in RECORDINGS}
    ramps = {}
    known, dashcam = camvid(data, HELD_OUT, DAY[HELD_OUT]), recording(data, DASHCAM)
    for name in RAMPS:
        ramps[name, HELD_OUT] = store.get(
            f'ramp {name} {HELD_OUT}', lambda n=name: ramped(known[:35], n, Ramp(5, 15, 25))
        )
        ramps[name, DASHCAM] = store.get(
            f'ramp {name} {DASHCAM}',
            lambda n=name: ramped(dashcam[len(dashcam) // 2 :], n, Ramp(5, 3, 13)),
        )
    folders = {'IDD-Lite val': 'idd_lite/leftImg8bit/val', 'bdd': 'bdd'}
    real |= {
        name: twice(store.get(name, lambda f=folder: stills(data / f, counts.stills)))
        for name, folder in folders.items()
    }
    levels = [(name, s) for name in CORRUPTIONS for s in range(1, MAX_SEVERITY + 1)]
    corrupted = {
        (name, s): store.get(
            f'{name} {s}', lambda n=name, s=s: ramped(pairs(known, counts.pairs), n, Ramp(s))
        )
        for name, s in tqdm(levels, desc='corruptions', unit='set')
    }
    return day, real, corrupted, ramps


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, default=Path('../shared/data'))
    parser.add_argument('--bundle', type=Path, default=default_bundle_path())
    parser.add_argument('--cache', type=Path, help='folder to keep what was measured in')
    parser.add_argument('--pairs', type=int, default=16, help='of frames under each corruption')
    parser.add_argument('--stills', type=int, default=100, help='of a set of single images')
    options = parser.parse_args()
    observe_all(options.data, Store(Bundle.load(options.bundle), options.cache), options)


if __name__ == '__main__':
    main()
