# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Cost of event log and snapshots in processor time: python benchmarks/records.py [--size WxH]."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from time import process_time
from time import thread_time

import numpy as np
from reporting import import_rclpy
from reporting import machine
from reporting import own_domain
from reporting import size
from reporting import table

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import default_bundle_path
from seg_uncertainty_ros.monitor.assessment import Observation
from seg_uncertainty_ros.monitor.config import MonitorConfig
from seg_uncertainty_ros.monitor.events import Model
from seg_uncertainty_ros.monitor.events import Moment
from seg_uncertainty_ros.monitor.events import Origin
from seg_uncertainty_ros.monitor.monitor import Monitor
from seg_uncertainty_ros.monitor.narrator import Narrator
from seg_uncertainty_ros.recordings.event_log import EventLog
from seg_uncertainty_ros.recordings.event_log import RotatingFile

FRAMES = 300
RATE_HZ = 20.0
TICKS = os.sysconf('SC_CLK_TCK')


def log_costs(folder):
    """Return rows: what the monitor's thread pays for the log, and the log's own thread."""

    def now():
        return Moment(time.time_ns(), time.monotonic_ns(), 0)

    bundle = Bundle.load(default_bundle_path())
    # Holds of no time: a warning begins or ends with each image.
    flicker = {'ood_area.hold_on_s': 0.0, 'ood_area.hold_off_s': 0.0}
    monitor = Monitor.of(bundle, MonitorConfig().with_values(flicker))
    narrator = Narrator(monitor, Model.of(bundle))
    files = RotatingFile(folder, 'monitor', max_bytes=8 << 20, max_total_bytes=64 << 20)
    log = EventLog(files, Origin('/monitor', 'benchmark'), now)
    road = [info.name for info in bundle.classes].index('road')
    mask = np.full((360, 640), road, np.uint8)
    costs = {False: [], True: []}
    all_before, told_in_thread = process_time(), thread_time()
    for index in range(2 * FRAMES):
        anomaly = np.zeros_like(mask)
        if index // 2 % 2:
            anomaly[200:300, 200:300] = 255
        assessment = monitor.update(
            Observation(index * 50_000_000, mask, np.full_like(mask, 230), anomaly)
        )
        start = thread_time()
        for event in narrator.tell(assessment, 'front'):
            log.write(event)
        costs[bool(assessment.transitions)].append(thread_time() - start)
        while log.health.waiting:
            time.sleep(0.001)
    written = log.close().written
    others = (process_time() - all_before) - (thread_time() - told_in_thread)
    return [
        ['monitor: image without an event', f'{1e3 * np.median(costs[False]):.3f}'],
        ['monitor: image with an event', f'{1e3 * np.median(costs[True]):.3f}'],
        ['thread of the log: line with fsync', f'{1e3 * others / written:.3f}'],
    ]


def processor_s(pid):
    """Return the processor time of a process in seconds."""
    fields = Path(f'/proc/{pid}/stat').read_text(encoding='ascii').rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def recorder_costs(folder, height, width):
    """Return rows: the processor time of a recorder that keeps, and one that writes."""
    rclpy = import_rclpy()
    from rclpy.qos import DurabilityPolicy
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header
    from std_msgs.msg import String

    from seg_uncertainty_ros.nodes import transport
    from seg_uncertainty_ros.nodes.conversions import image_message

    with own_domain() as variables:
        os.environ.update(variables)
        transport.prepare()
        arguments = ['-p', f'directory:={folder}', '-p', 'before:=2.0', '-p', 'after:=5.0']
        recorder = subprocess.Popen(
            [sys.executable, '-m', 'seg_uncertainty_ros.nodes.recorder', '--ros-args', *arguments],
            stderr=subprocess.DEVNULL,
        )
        rclpy.init()
        node = rclpy.create_node('camera')
        topics = ('image', 'segmentation/mask', 'segmentation/anomaly')
        publishers = [node.create_publisher(Image, topic, 5) for topic in topics]
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        states = node.create_publisher(String, 'monitor/state', latched)
        rng = np.random.default_rng(0)
        pixels = [rng.integers(0, 255, (height, width, 3), np.uint8)]
        pixels += [pixels[0][..., 0], pixels[0][..., 1]]
        try:
            while not all(each.get_subscription_count() for each in (*publishers, states)):
                time.sleep(0.1)

            def drive(warnings):
                text = json.dumps({'warnings': warnings, 'stamp_ns': 1, 'bundle': 'x'})
                before, due = processor_s(recorder.pid), time.monotonic()
                for index in range(FRAMES // 3):
                    header = Header()
                    header.stamp.sec = index
                    for publisher, each in zip(publishers, pixels, strict=True):
                        publisher.publish(image_message(each, header))
                    states.publish(String(data=text))
                    due += 1.0 / RATE_HZ
                    time.sleep(max(0.0, due - time.monotonic()))
                return (processor_s(recorder.pid) - before) / (FRAMES // 3) * 1e3

            drive([])
            keeping = drive([])
            writing = drive([{'name': 'ood_area', 'message': 'benchmark'}])
        finally:
            rclpy.shutdown()
            recorder.terminate()
            recorder.wait(20.0)
    return [
        [f'recorder: a frame {width}x{height} kept', f'{keeping:.2f}'],
        ['recorder: a frame kept and written', f'{writing:.2f}'],
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--size', type=size, default=(1280, 720), metavar='WxH')
    width, height = parser.parse_args().size
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        rows = log_costs(Path(folder, 'log'))
        rows += recorder_costs(Path(folder, 'snapshots'), height, width)
    print()
    print(table(['what', 'processor ms'], rows))


if __name__ == '__main__':
    main()
