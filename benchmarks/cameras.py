# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Four cameras, one of them much faster: on one engine in one process, against a process each.

This process publishes; what each camera got and how late it was is from its diagnostics. Shares
are those of the time in which all of them publish.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from reporting import import_rclpy
from reporting import machine
from reporting import own_domain
from reporting import size
from reporting import table

from seg_uncertainty_ros.bundle import default_bundle_path
from seg_uncertainty_ros.nodes import transport
from seg_uncertainty_ros.recordings import open_source

RATES = {'front': 60.0, 'rear': 15.0, 'left': 15.0, 'right': 15.0}
START_TIMEOUT_S = 60.0
GOAL = 0.1


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--bundle', type=Path, default=default_bundle_path())
    parser.add_argument('--size', type=size, default=(640, 360), metavar='WxH', help='of an image')
    parser.add_argument('--seconds', type=float, default=20.0, help='of each set-up')
    return parser.parse_args()


def commands(setup, bundle):
    """Return the command line of each process of a set-up."""
    given = ['--ros-args', '-p', f'bundle:={bundle.resolve()}']
    module = [sys.executable, '-m', 'seg_uncertainty_ros.nodes']
    if setup == 'one process':
        return [[*module[:2], f'{module[2]}.cameras', *RATES, '--no-monitor', *given]]
    return [
        [*module[:2], f'{module[2]}.segmentation', *given, '-r', f'__ns:=/{name}']
        for name in RATES
    ]


def resident_mib(process):
    for line in Path(f'/proc/{process.pid}/status').read_text(encoding='utf-8').splitlines():
        if line.startswith('VmRSS'):
            return int(line.split()[1]) / 1024
    return float('nan')


class Watcher:
    """The newest diagnostics of each camera."""

    def __init__(self, node):
        from diagnostic_msgs.msg import DiagnosticArray

        self.values = {}
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 50)

    def _on_diagnostics(self, array):
        for status in array.status:
            for name in RATES:
                if f'{name}/image' in status.hardware_id:
                    self.values[name] = {item.key: item.value for item in status.values}

    def processed(self):
        return {name: int(self.values[name]['processed']) for name in RATES}

    def active(self):
        return all(self.values.get(name, {}).get('state') == 'active' for name in RATES)


def measure(setup, options):
    """Return images that each camera got, its diagnostics, seconds and MiB."""
    rclpy = import_rclpy()
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header

    from seg_uncertainty_ros.nodes.conversions import image_message

    width, height = options.size
    source = open_source(f'procedural:seed=3,width={width},height={height},duration=1,rate=10')
    messages = [image_message(frame.image, Header(frame_id='camera')) for frame in source]
    with own_domain() as variables:
        os.environ.update(variables)
        rclpy.init(args=[])
        node = rclpy.create_node('cameras_benchmark')
        watcher = Watcher(node)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        publishers = {name: node.create_publisher(Image, f'/{name}/image', 1) for name in RATES}
        # Somebody has to listen, as planes that nobody wants are not made.
        for name in RATES:
            node.create_subscription(Image, f'/{name}/segmentation/mask', lambda _: None, 1)
        environment = {**transport.environment(), **os.environ}
        processes = [
            subprocess.Popen(each, env=environment) for each in commands(setup, options.bundle)
        ]
        try:
            end = time.monotonic() + START_TIMEOUT_S
            while not watcher.active():
                executor.spin_once(timeout_sec=0.1)
                if time.monotonic() > end:
                    raise SystemExit(f'not active after {START_TIMEOUT_S:.0f} s')
            before, begun = watcher.processed(), time.monotonic()
            sent = dict.fromkeys(RATES, 0)
            while (now := time.monotonic() - begun) < options.seconds:
                for name, rate in RATES.items():
                    if now >= sent[name] / rate:
                        message = messages[sent[name] % len(messages)]
                        message.header.stamp = node.get_clock().now().to_msg()
                        publishers[name].publish(message)
                        sent[name] += 1
                executor.spin_once(timeout_sec=0.001)
            memory = sum(resident_mib(process) for process in processes)
            # The diagnostics come once a second.
            end = time.monotonic() + 2.5
            while time.monotonic() < end:
                executor.spin_once(timeout_sec=0.1)
        finally:
            for process in processes:
                process.send_signal(signal.SIGINT)
            for process in processes:
                process.wait(60.0)
        got = {name: count - before[name] for name, count in watcher.processed().items()}
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown()
    return got, sent, watcher.values, memory


def main():
    options = parse()
    import_rclpy()
    transport.prepare()
    print(machine())
    for shortcoming in transport.shortcomings():
        print(f'warning: {shortcoming}')
    print(f'{options.size[0]}x{options.size[1]}, {options.seconds:g} s of each set-up\n')
    rows, sums = [], []
    for setup in ('one process', 'a process each'):
        got, sent, values, memory = measure(setup, options)
        for name, count in got.items():
            late = [values[name].get(f'latency_stamp_to_planes_ms_p{rank}') for rank in (50, 95)]
            came = values[name]['received']
            rows.append(
                [setup, name, sent[name], came, count, f'{count / options.seconds:.1f}', *late]
            )
        counts = np.array(list(got.values()))
        spread = (counts.max() - counts.min()) / counts.max()
        sums.append(
            f'{setup}: {counts.sum() / options.seconds:.1f} images a second in all, the camera '
            f'with the fewest got {100 * spread:.0f} % less than the one with the most (goal: '
            f'{100 * GOAL:.0f} %), {memory:.0f} MiB'
        )
    header = ['set-up', 'camera', 'sent', 'received', 'processed', 'Hz', 'stamp to planes p50 ms']
    header += ['p95 ms']
    print(table(header, rows), *sums, sep='\n\n')


if __name__ == '__main__':
    main()
