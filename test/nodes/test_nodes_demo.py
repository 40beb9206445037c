# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""demo: processes over DDS, every frame accounted for, every output readable."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2

from seg_uncertainty_ros.recordings import open_source
from seg_uncertainty_ros.recordings.bag_writer import BagWriter


def demo(source, out):
    return subprocess.run(
        [sys.executable, '-m', 'seg_uncertainty_ros.cli', 'demo', str(source), '--out', str(out)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_demo_of_a_short_drive(tmp_path):
    out = tmp_path / 'demo_out'
    drive = 'procedural:seed=3,duration=4,rate=10,width=320,height=192'
    done = demo(drive, out)
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((out / 'warnings.json').read_text())
    frames = content['frames']
    assert frames['accounted']
    assert frames['published'] == 40
    assert frames['processed'] >= 1
    assert content['problems'] == []
    masks = open_source(out / 'outputs.mcap', topic='/segmentation/mask')
    assert masks.frame_count == frames['processed']
    stamps = {frame.stamp_ns for frame in open_source(drive)}
    assert {frame.stamp_ns for frame in masks} <= stamps
    video = cv2.VideoCapture(str(out / 'overlay.mp4'))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) >= frames['processed']
    assert video.get(cv2.CAP_PROP_FRAME_WIDTH) == 320
    assert cv2.imread(str(out / 'timeline.png')) is not None


def test_demo_reports_what_was_readable_of_a_damaged_recording(tmp_path):
    bag = tmp_path / 'cut.mcap'
    with BagWriter(bag) as writer:
        drive = open_source('procedural:seed=3,duration=6,rate=10,width=160,height=96')
        for frame in drive:
            writer.write_image('/camera', frame.image, 'bgr8', frame.stamp_ns, frame.frame_id)
    bag.write_bytes(bag.read_bytes()[: int(bag.stat().st_size * 0.6)])
    out = tmp_path / 'demo_out'
    done = demo(bag, out)
    assert done.returncode == 1, done.stdout + done.stderr
    content = json.loads((out / 'warnings.json').read_text())
    assert content['frames']['accounted']
    assert 1 <= content['frames']['published'] < 60
    (problem,) = content['problems']
    assert 'cut.mcap: damaged' in problem
    assert 'Traceback' not in done.stderr
    assert (out / 'timeline.png').is_file()
