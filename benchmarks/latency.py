# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Rate and latency of the real nodes over DDS: replay, segmentation, monitor, and an observer.

Each is a process. Images carry the time of their publication; the observer, this process, takes
the time until mask, confidence, anomaly and embedding of a stamp have all come, and until the
monitor's state of that stamp has. A drive is rendered into a bag first: rendering costs nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from reporting import import_rclpy
from reporting import machine
from reporting import ms
from reporting import own_domain
from reporting import table

from seg_uncertainty_ros.bundle import default_bundle_path
from seg_uncertainty_ros.cli.demo import count_frames
from seg_uncertainty_ros.recordings import open_source
from seg_uncertainty_ros.recordings.bag_writer import BagWriter

DRIVE = 'procedural:seed=3,width=640,height=360,rate=10,duration=20'
PLANES = ('mask', 'confidence', 'anomaly', 'embedding')
SEGMENTATION = 'segmentation: frames'
MONITOR = 'monitor: trust'
REPLAY = 'replay: recording'
WARM_UP = 10
START_TIMEOUT_S = 60.0
SETTLE_TIMEOUT_S = 10.0


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', nargs='?', default=DRIVE, help=f'default: {DRIVE}')
    parser.add_argument('--topic', default='', help='image topic of a bag that has several')
    parser.add_argument('--bundle', type=Path, default=default_bundle_path())
    parser.add_argument('--threads', type=int, default=0, help='of the runtime; 0: one a core')
    parser.add_argument(
        '--hz',
        type=rates,
        default=[10.0, 30.0],
        metavar='HZ,...',
        help='rates at which images are published, one run each (default: 10,30); a rate beyond '
        'what the machine does shows the most that it does',
    )
    return parser.parse_args()


def rates(text):
    try:
        values = [float(rate) for rate in text.split(',')]
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is no HZ,HZ,...') from None
    if min(values) <= 0:
        raise argparse.ArgumentTypeError(f'{text!r} has a rate that is not positive')
    return values


def recorded(source, folder):
    """Write the frames of a source to a bag; return its path."""
    path = folder / 'frames.mcap'
    with BagWriter(path) as bag:
        for frame in source:
            bag.write_image('/image', frame.image, 'bgr8', frame.stamp_ns, frame.frame_id)
    return path


class Observer:
    """When the outputs of each stamp came, and the newest diagnostics."""

    def __init__(self, node):
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import DurabilityPolicy
        from rclpy.qos import QoSProfile
        from sensor_msgs.msg import Image
        from std_msgs.msg import String

        from seg_uncertainty_ros.nodes.exact_stamps import ExactStamps

        self.planes = {}
        self.states = {}
        self.values = {}
        self._node = node
        self._sets = ExactStamps(PLANES)
        for name in PLANES:
            node.create_subscription(
                Image,
                f'segmentation/{name}',
                lambda message, name=name: self._on_plane(name, message),
                QoSProfile(depth=5),
            )
        latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(String, 'monitor/state', self._on_state, latched)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def _now(self):
        return self._node.get_clock().now().nanoseconds

    def _on_plane(self, name, message):
        stamp = message.header.stamp
        stamp_ns = stamp.sec * 10**9 + stamp.nanosec
        if self._sets.add(name, stamp_ns, message):
            self.planes[stamp_ns] = self._now()

    def _on_state(self, message):
        # Between images the monitor repeats the last stamp: the first time counts.
        self.states.setdefault(json.loads(message.data)['stamp_ns'], self._now())

    def _on_diagnostics(self, array):
        for status in array.status:
            self.values[status.name] = {item.key: item.value for item in status.values}

    def nodes_are_active(self):
        states = [self.values.get(name, {}).get('state') for name in (SEGMENTATION, MONITOR)]
        return states == ['active', 'active']

    def settled(self):
        frames = count_frames(self.values)
        in_flight = self.values.get(SEGMENTATION, {}).get('in_flight')
        complete = frames.accounted and frames.lost == 0
        return in_flight == '0' and complete and len(self.planes) >= frames.processed


def measure(options, source, rate, folder):
    """Play a source at a rate (its own is 1) through fresh nodes; return the observer."""
    rclpy = import_rclpy()
    from rclpy.executors import SingleThreadedExecutor

    from seg_uncertainty_ros.nodes.processes import NodeProcesses

    with own_domain() as variables:
        # rclpy reads them from the environment of this process.
        os.environ.update(variables)
        logs = Path(tempfile.mkdtemp(dir=folder))
        rclpy.init(args=[])
        node = rclpy.create_node('observer')
        observer = Observer(node)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        with NodeProcesses(logs, variables) as nodes:

            def spin_until(done, timeout_s):
                end = time.monotonic() + timeout_s
                while not done() and time.monotonic() < end:
                    executor.spin_once(timeout_sec=0.1)
                    nodes.check()
                return done()

            common = {'bundle': options.bundle.resolve()}
            nodes.start('segmentation', {**common, 'threads': options.threads})
            nodes.start('monitor', common)
            if not spin_until(observer.nodes_are_active, START_TIMEOUT_S):
                raise SystemExit(f'the nodes were not active after {START_TIMEOUT_S:.0f} s')
            replay = nodes.start(
                'replay',
                {'source': source, 'topic': options.topic, 'rate': rate, 'stamps': 'now'},
            )
            spin_until(lambda: replay.process.poll() is not None, float('inf'))
            spin_until(observer.settled, SETTLE_TIMEOUT_S)
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown()
    return observer


def row(observer, offered_hz):
    stamps = sorted(observer.planes)[WARM_UP:]
    planes = [(observer.planes[stamp] - stamp) * 1e-9 for stamp in stamps]
    states = [
        (observer.states[stamp] - stamp) * 1e-9 for stamp in stamps if stamp in observer.states
    ]
    arrivals = [observer.planes[stamp] for stamp in stamps]
    span_s = (arrivals[-1] - arrivals[0]) * 1e-9 if len(arrivals) > 1 else 0.0
    rate = f'{(len(arrivals) - 1) / span_s:.1f}' if span_s else '-'
    percentiles = [ms(times, rank) for times in (planes, states) for rank in (50, 95)]
    inference = observer.values.get(SEGMENTATION, {}).get('inference_ms_p50', '-')
    return [
        f'{offered_hz:g}',
        rate,
        *percentiles,
        inference,
        count_frames(observer.values).dropped,
    ]


def main():
    options = parse()
    import_rclpy()
    from seg_uncertainty_ros.nodes import transport

    transport.prepare()
    source = open_source(options.source, topic=options.topic or None)
    source_hz = source.rate_hz or 10.0
    print(machine())
    for shortcoming in transport.shortcomings():
        print(f'warning: {shortcoming}')
    rows, sums = [], defaultdict(str)
    with tempfile.TemporaryDirectory() as folder:
        path = options.source
        if path.startswith('procedural:'):
            path = recorded(source, Path(folder))
        image = next(iter(source)).image
        print(
            f'{source.name}: {source.frame_count} frames {image.shape[1]}x{image.shape[0]}, '
            f'threads {options.threads or "one a core"}\n'
        )
        for hz in options.hz:
            observer = measure(options, path, hz / source_hz, Path(folder))
            rows.append(row(observer, hz))
            frames = count_frames(observer.values)
            sums[hz] = f'{hz:g} Hz: {frames}; complete sets of planes seen: {len(observer.planes)}'
            if not frames.accounted:
                sums[hz] += ' (DOES NOT ADD UP)'
    header = ['images in, Hz', 'planes out, Hz', 'stamp to planes p50 ms', 'p95 ms']
    header += ['stamp to state p50 ms', 'p95 ms', 'graph p50 ms', 'dropped']
    print(table(header, rows), *sums.values(), sep='\n\n')


if __name__ == '__main__':
    main()
