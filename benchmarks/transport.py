# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Camera images between two processes, with the defaults of Fast DDS and with our settings.

A publisher (reliable, as our nodes) sends bgr8 images at a fixed rate, a best-effort subscriber
takes the time from before a message is built until its callback. The baseline is Fast DDS and
glibc as they come; then config/fastdds.xml alone; then also the two settings of the heap, which is
what our commands and launch files give every node.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np
from reporting import import_rclpy
from reporting import machine
from reporting import ms
from reporting import own_domain
from reporting import size
from reporting import table

TOPIC = 'camera/image'
DEPTH = 5
GRACE_S = 1.0
TIMEOUT_S = 60.0


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--size', type=size, default=(1280, 720), metavar='WxH')
    parser.add_argument('--rate', type=float, default=30.0, help='images a second')
    parser.add_argument('--frames', type=int, default=300)
    parser.add_argument('--rounds', type=int, default=1, help='of all cases, in turn')
    parser.add_argument('--role', choices=('publish', 'subscribe'), help=argparse.SUPPRESS)
    return parser.parse_args()


def cases():
    """Return the environment of each case; None removes a variable."""
    from seg_uncertainty_ros.nodes.transport import environment

    ours = environment()
    heap = {name: None for name in ours if name.startswith('MALLOC_')}
    return {
        'baseline: Fast DDS and glibc as they come': dict.fromkeys(ours),
        'fastdds.xml': {**ours, **heap},
        'fastdds.xml and mallopt (ours)': ours,
    }


def measure(variables, options):
    """Run publisher and subscriber as processes; return what the subscriber saw."""
    with own_domain() as domain:
        environ = {**os.environ, **domain, **variables}
        environ = {name: value for name, value in environ.items() if value is not None}
        command = [sys.executable, __file__, '--size', 'x'.join(map(str, options.size))]
        command += ['--rate', str(options.rate), '--frames', str(options.frames), '--role']
        subscriber = subprocess.Popen([*command, 'subscribe'], env=environ, stdout=subprocess.PIPE)
        publisher = subprocess.Popen([*command, 'publish'], env=environ)
        patience = TIMEOUT_S + options.frames / options.rate
        try:
            output, _ = subscriber.communicate(timeout=patience)
            publisher.wait(TIMEOUT_S)
        finally:
            for process in (subscriber, publisher):
                if process.poll() is None:
                    process.kill()
    if subscriber.returncode or publisher.returncode:
        raise SystemExit(f'exit codes {subscriber.returncode}, {publisher.returncode}')
    return json.loads(output)


def qos(reliable):
    from rclpy.qos import QoSProfile
    from rclpy.qos import ReliabilityPolicy

    policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(depth=DEPTH, reliability=policy)


def publish(options):
    rclpy = import_rclpy()
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header

    from seg_uncertainty_ros.nodes.conversions import image_message

    width, height = options.size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    rclpy.init(args=[])
    node = rclpy.create_node('camera')
    publisher = node.create_publisher(Image, TOPIC, qos(reliable=True))
    give_up = time.monotonic() + TIMEOUT_S
    while not publisher.get_subscription_count():
        time.sleep(0.05)
        if time.monotonic() > give_up:
            raise SystemExit(f'nobody subscribed within {TIMEOUT_S:.0f} s')
    time.sleep(GRACE_S)
    start = time.monotonic()
    for index in range(options.frames):
        time.sleep(max(0.0, start + index / options.rate - time.monotonic()))
        header = Header(stamp=node.get_clock().now().to_msg(), frame_id=str(index))
        publisher.publish(image_message(pixels, header))
    time.sleep(GRACE_S)
    node.destroy_node()
    rclpy.shutdown()


def subscribe(_options):
    rclpy = import_rclpy()
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import Image

    from seg_uncertainty_ros.nodes.conversions import stamp_ns

    latencies = []
    moments = []

    def on_image(message):
        now = node.get_clock().now().nanoseconds
        latencies.append((now - stamp_ns(message.header.stamp)) * 1e-9)
        moments.append((time.monotonic(), time.process_time()))

    rclpy.init(args=[])
    node = rclpy.create_node('listener')
    node.create_subscription(Image, TOPIC, on_image, qos(reliable=False))
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    seen = False
    while not seen or node.count_publishers(TOPIC):
        executor.spin_once(timeout_sec=0.2)
        seen = seen or bool(node.count_publishers(TOPIC))
    node.destroy_node()
    rclpy.shutdown()
    spans = np.ptp(moments, axis=0) if len(moments) > 1 else (1.0, 0.0)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({'latencies': latencies, 'cpu': spans[1] / spans[0], 'rss_mib': rss}))


def main():
    options = parse()
    if options.role:
        return {'publish': publish, 'subscribe': subscribe}[options.role](options)
    import_rclpy()
    environments = cases()
    print(machine())
    width, height = options.size
    total = options.frames * options.rounds
    print(
        f'{width}x{height} bgr8 at {options.rate:g} Hz, {total} images a case, '
        f'reliable publisher, best-effort subscriber, depth {DEPTH}\n'
    )
    seen = {name: [] for name in environments}
    for _ in range(options.rounds):
        for name, variables in environments.items():
            seen[name].append(measure(variables, options))
    rows = []
    for name, runs in seen.items():
        latencies = [latency for run in runs for latency in run['latencies']]
        cpu = np.median([run['cpu'] for run in runs])
        rss = np.median([run['rss_mib'] for run in runs])
        lost = f'{total - len(latencies)} of {total}'
        percentiles = [ms(latencies, 50), ms(latencies, 95)]
        rows.append([name, lost, *percentiles, f'{100 * cpu:.0f} %', f'{rss:.0f}'])
    header = ['settings', 'lost', 'p50 ms', 'p95 ms', 'subscriber CPU', 'subscriber MiB']
    print(table(header, rows))
    return None


if __name__ == '__main__':
    main()
