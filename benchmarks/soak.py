# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The real nodes over many frames, with faults at random: what grows, what slows, what is lost.

Segmentation, monitor and recorder are processes of their own in a ROS domain of their own; the
last two write event logs and snapshots, within limits that make them delete old ones. This process
is the camera: it holds an image back until the monitor's state of the one before (--in-flight:
some more) has come, so that the nodes process what they get. Frames are those that segmentation
says it processed. --faults lets something go wrong every few hundred images, each kind (see
faults.py) as often as the others.

Exit status 1: a target is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from array import array
from collections import Counter
from dataclasses import astuple
from dataclasses import fields
from pathlib import Path

import cv2
import faults
import numpy as np
from reporting import import_rclpy
from reporting import machine
from reporting import own_domain
from reporting import table
from rosbags.highlevel import AnyReader
from tqdm import tqdm
from watching import Sample
from watching import Watched
from watching import slope
from watching import unused

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import default_bundle_path
from seg_uncertainty_ros.recordings import open_source
from seg_uncertainty_ros.recordings.event_log import read_events

NODES = ('segmentation', 'monitor', 'recorder')
MONITOR_LOG_MIB = 2
RECORDS = {
    'monitor': {'event_log.file_mib': 1, 'event_log.total_mib': MONITOR_LOG_MIB},
    'recorder': {'before': 1.0, 'after': 0.5, 'min_interval': 20.0, 'memory_mib': 64},
}
DISK_MIB = 64
"""Of snapshots."""
SIZES = {'tiny': (96, 64), 'bundle': (640, 360)}
SAMPLES = 400
"""Over a run: reading what memory a process has stops it for milliseconds."""
EVERY = 300
LEAST = 200
WARM_UP = 0.25
ANSWER_S = 1.0
START_S = 120.0
CALL_S = 20.0
TENTHS = 10
LATENCY_GOAL = 1.2
STAMP = re.compile(rb'"stamp_ns": (-?\d+)')
COUNTS = ('received', 'processed', 'dropped', 'rejected', 'in_flight')


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--frames', type=int, default=10_000, help='to be processed')
    parser.add_argument(
        '--graph',
        choices=tuple(SIZES),
        default='tiny',
        help='a network that costs nothing on 96x64, or --bundle on 640x360',
    )
    parser.add_argument('--bundle', type=Path, default=default_bundle_path())
    parser.add_argument('--faults', action='store_true')
    parser.add_argument('--every', type=int, default=EVERY, help='images between two faults')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--in-flight', type=int, default=1)
    parser.add_argument('--threads', type=int, default=1, help='of the runtime')
    parser.add_argument('--hours', type=float, default=float('inf'), help='end then at the latest')
    parser.add_argument('--page', type=Path, help='write the result into this page')
    parser.add_argument('--samples', type=Path, help='write what was seen of processes as CSV')
    parser.add_argument('--role', choices=('listen',), help=argparse.SUPPRESS)
    return parser.parse_args()


def rendered(size, seed, seconds=10):
    """Return the frames of a procedural drive."""
    width, height = size
    source = f'procedural:seed={seed},width={width},height={height},rate=4,duration={seconds}'
    return list(open_source(source))


class Messages:
    """Images that are serialised already; only their stamp is written anew."""

    def __init__(self, images):
        from rclpy.serialization import serialize_message

        self._buffers = [bytearray(serialize_message(image)) for image in images]
        self._next = 0

    def next(self, stamp_ns):
        """Return the next image with a stamp."""
        buffer = self._buffers[self._next]
        self._next = (self._next + 1) % len(self._buffers)
        # Little-endian CDR: four bytes of encapsulation, then seconds and nanoseconds.
        struct.pack_into('<iI', buffer, 4, *divmod(stamp_ns, 10**9))
        return bytes(buffer)


def kinds_of_images(frames):
    """Return messages of several encodings and sizes by name; the first is the usual one."""
    from std_msgs.msg import Header

    from seg_uncertainty_ros.nodes.conversions import image_message

    header = Header(frame_id='camera')

    def messages(change, encoding, channels):
        made = []
        for frame in frames:
            pixels = change(frame.image)
            message = image_message(pixels.reshape(len(pixels), -1), header)
            message.encoding = encoding
            message.width = pixels.shape[1]
            message.step = pixels.shape[1] * channels
            made.append(message)
        return made

    def to(code):
        return lambda image: cv2.cvtColor(image, code)

    def sized(factor):
        return lambda image: cv2.resize(image, None, fx=factor, fy=factor)

    return {
        'bgr8': messages(lambda image: image, 'bgr8', 3),
        'rgb8': messages(to(cv2.COLOR_BGR2RGB), 'rgb8', 3),
        'bgra8': messages(to(cv2.COLOR_BGR2BGRA), 'bgra8', 4),
        'mono8': messages(to(cv2.COLOR_BGR2GRAY), 'mono8', 1),
        'half': messages(sized(0.5), 'bgr8', 3),
        'double': messages(sized(2.0), 'bgr8', 3),
        'odd': messages(lambda image: image[:-1, :-3].copy(), 'bgr8', 3),
    }


class Camera:
    """Publishes images and holds them back until earlier ones have been judged."""

    def __init__(self, node, spin, images, options, environment):
        import rclpy
        from rclpy.qos import QoSProfile
        from rclpy.serialization import serialize_message
        from sensor_msgs.msg import CameraInfo
        from sensor_msgs.msg import Image
        from std_msgs.msg import String

        self.published = self.overtaken = self.unanswered = 0
        self.calls = self.silent_calls = 0
        self.clean = True
        self.latencies = array('d')
        self.bad = np.array(
            [serialize_message(m) for m in faults.bad_messages(images['bgr8'][0])], object
        )
        self.other_kinds = [kind for kind in images if kind != 'bgr8']
        self.statuses = {}
        self.inconsistent = []
        self._images = {kind: Messages(each) for kind, each in images.items()}
        self._node = node
        self._spin = spin
        self._in_flight = options.in_flight
        self._environment = environment
        self._pending = {}
        self._clients = {}
        self._listener = None
        self._publisher = node.create_publisher(Image, 'image', QoSProfile(depth=5))
        self._info = node.create_publisher(CameraInfo, 'camera_info', QoSProfile(depth=5))
        self._states = node.create_subscription(
            String, 'monitor/state', self._on_state, 10, raw=True
        )
        self._never_spun = rclpy.create_node('never_reads')

    def _on_state(self, data):
        now = time.perf_counter()
        stamp_ns = int(STAMP.search(data)[1])
        found = self._pending.pop(stamp_ns, None)
        if found is None:
            return
        sent, clean = found
        if clean:
            self.latencies.append(now - sent)
        # Images are processed in their order: what was sent before has given way to a newer one.
        for stamp_ns in [s for s, (earlier, _) in self._pending.items() if earlier < sent]:
            del self._pending[stamp_ns]
            self.overtaken += 1

    def publish(self, data, publisher=None):
        """Publish a serialised message."""
        (publisher or self._publisher).publish(data)
        self.published += 1

    def publish_next(self, kind='bgr8', publisher=None):
        """Publish the next image of a kind, now, whoever is waiting."""
        stamp_ns = time.time_ns()
        self._pending[stamp_ns] = (time.perf_counter(), False)
        self.publish(self._images[kind].next(stamp_ns), publisher)

    def frames(self, count, kind='bgr8', stamps=time.time_ns):
        """Publish images, each as soon as there is room for it."""
        for _ in range(count):
            self.settle(self._in_flight - 1)
            if self._pending:  # two at once: the first would be dropped
                self._spin(0.003)
            stamp_ns = stamps()
            data = self._images[kind].next(stamp_ns)
            self._pending[stamp_ns] = (time.perf_counter(), self.clean)
            self.publish(data)

    def settle(self, most=0):
        """Wait until no more than ``most`` images are without an answer, or too late for one."""
        while len(self._pending) > most:
            self._spin(0.05)
            late = time.perf_counter() - ANSWER_S
            for stamp_ns in [s for s, (sent, _) in self._pending.items() if sent < late]:
                del self._pending[stamp_ns]
                self.unanswered += 1

    def rest(self, seconds):
        """Publish nothing for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._spin(min(left, 0.1))

    def publish_info(self, width, height):
        """Publish a camera info."""
        from sensor_msgs.msg import CameraInfo

        self._info.publish(CameraInfo(width=width, height=height))

    def set(self, node, name, value):
        """Ask a node for a parameter; return the future of its answer."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]
        )
        return self._call(SetParameters, f'/{node}/set_parameters', request)

    def transition(self, node, label):
        """Ask a node for a transition; return the future of its answer."""
        from lifecycle_msgs.srv import ChangeState

        request = ChangeState.Request()
        request.transition.label = label
        return self._call(ChangeState, f'/{node}/change_state', request)

    def _call(self, kind, name, request):
        if name not in self._clients:
            self._clients[name] = self._node.create_client(kind, name)
        client = self._clients[name]
        end = time.monotonic() + CALL_S
        while not client.service_is_ready() and time.monotonic() < end:
            self._spin(0.05)
        return client.call_async(request)

    def wait_for(self, futures):
        """Wait for answers, and count those that do not come."""
        end = time.monotonic() + CALL_S
        while not all(future.done() for future in futures) and time.monotonic() < end:
            self._spin(0.05)
        self.calls += len(futures)
        self.silent_calls += sum(not future.done() for future in futures)

    @contextlib.contextmanager
    def second_publisher(self):
        """Yield another publisher of images."""
        from sensor_msgs.msg import Image

        publisher = self._node.create_publisher(Image, 'image', 5)
        self.rest(0.1)
        yield publisher
        self._node.destroy_publisher(publisher)

    @contextlib.contextmanager
    def unread(self, names):
        """Subscribe to planes with a node that nothing spins."""
        from sensor_msgs.msg import Image

        node = self._never_spun
        subscriptions = [
            node.create_subscription(Image, f'segmentation/{name}', id, 1) for name in names
        ]
        self.rest(0.1)
        yield
        for subscription in subscriptions:
            node.destroy_subscription(subscription)

    def start_listener(self):
        """Start the process that subscribes to planes now and then."""
        command = [sys.executable, __file__, '--role', 'listen']
        self._listener = subprocess.Popen(command, stdin=subprocess.PIPE, env=self._environment)

    @contextlib.contextmanager
    def listener(self):
        """Yield that process while it subscribes."""
        self._say(b'+')
        self.rest(0.1)
        yield self._listener
        self._say(b'-')

    def _say(self, word):
        self._listener.stdin.write(word)
        self._listener.stdin.flush()

    def close(self):
        """End the listening process and the node that is never spun."""
        self._never_spun.destroy_node()
        if self._listener is not None:
            self._listener.stdin.close()
            try:
                self._listener.wait(10)
            except subprocess.TimeoutExpired:
                self._listener.kill()
                self._listener.wait()


def listen(_options):
    """Subscribe to planes after each + on stdin, no longer after a -; end with stdin."""
    rclpy = import_rclpy()
    from sensor_msgs.msg import Image

    rclpy.init(args=[])
    node = rclpy.create_node('listener')
    subscriptions = []
    while True:
        rclpy.spin_once(node, timeout_sec=0.02 if subscriptions else 0.2)
        if not select.select([sys.stdin], [], [], 0)[0]:
            continue
        word = os.read(sys.stdin.fileno(), 1)
        if word == b'+':
            subscriptions = [
                node.create_subscription(Image, f'segmentation/{name}', id, 1)
                for name in ('mask', 'anomaly', 'overlay')
            ]
            continue
        for subscription in subscriptions:
            node.destroy_subscription(subscription)
        subscriptions = []
        if not word:
            break
    node.destroy_node()
    rclpy.shutdown()


class Health:
    """The newest values of each node's diagnostics, and every one whose counts do not add up."""

    def __init__(self, node):
        from diagnostic_msgs.msg import DiagnosticArray

        self.values = {name: {} for name in NODES}
        self.errors = []
        self._subscription = node.create_subscription(
            DiagnosticArray, '/diagnostics', self._on_diagnostics, 50
        )

    def _on_diagnostics(self, message):
        new = {}
        for status in message.status:
            name = status.name.partition(':')[0]
            new.setdefault(name, {}).update({item.key: item.value for item in status.values})
        for name, values in new.items():
            if name in self.values:
                self.values[name] = values
                if set(COUNTS) <= values.keys():
                    self._check({key: int(values[key]) for key in COUNTS})

    def _check(self, counts):
        if counts['received'] != sum(counts[key] for key in COUNTS[1:]):
            self.errors.append(counts)

    def count(self, node, key):
        """Return a counter of a node."""
        return int(self.values[node].get(key, 0))

    def active(self):
        """Tell whether all nodes are at work."""
        return all(self.values[name].get('state') == 'active' for name in NODES)


class Soak:
    """A run: its nodes, the camera, and what was seen of the processes."""

    def __init__(self, options, folder, environment):
        import rclpy
        from rclpy.experimental.events_executor import EventsExecutor

        from seg_uncertainty_ros.nodes.processes import NodeProcesses

        self.options = options
        self.rng = np.random.default_rng(options.seed)
        size = SIZES[options.graph]
        drives = [rendered(size, seed) for seed in range(options.seed, options.seed + 2)]
        self.bundle = options.bundle
        if options.graph == 'tiny':
            from tiny_bundle import make_bundle

            self.bundle = folder / 'bundle'
            self.bundle.mkdir()
            make_bundle(self.bundle, drives)
        self.faults = Counter()
        self.waiting = []
        self.ended = ''
        self.node = rclpy.create_node('camera')
        self.executor = EventsExecutor()
        self.executor.add_node(self.node)
        self.health = Health(self.node)
        images = kinds_of_images(drives[0])
        self.camera = Camera(self.node, self._spin, images, options, environment)
        self.nodes = NodeProcesses(folder, environment)
        self.running = {}
        self.watched = {}
        self.records = folder / 'records'

    def _spin(self, timeout_s):
        self.executor.spin_once(timeout_sec=timeout_s)
        from seg_uncertainty_ros.nodes.processes import ProcessError

        for node in self.running.values():
            if node.process.poll() is not None:
                node.check()
                raise ProcessError(f'node {node.name} ended by itself')

    def start(self, name):
        """Start a node and watch it."""
        parameters = RECORDS.get(name, {})
        if name == 'recorder':
            parameters |= {'directory': self.records, 'disk_mib': DISK_MIB}
        else:
            parameters |= {'bundle': self.bundle.resolve()}
        if name == 'monitor':
            parameters |= {'event_log.directory': self.records}
        if name == 'segmentation':
            parameters |= {'threads': self.options.threads}
        self.running[name] = self.nodes.start(name, parameters)
        self.watched[name] = Watched(name, self.running[name].process.pid)

    def wait_until_active(self):
        """Wait for all nodes."""
        end = time.monotonic() + START_S
        while not self.health.active():
            self._spin(0.1)
            if time.monotonic() > end:
                raise SystemExit(f'the nodes were not active after {START_S:.0f} s')

    def processed(self):
        """Return how many frames segmentation says it processed."""
        return self.health.count('segmentation', 'processed')

    def sample(self):
        """Sample every process."""
        for watched in self.watched.values():
            watched.sample(self.processed())

    def run(self):
        """Run to the end, or until a node ends or the user has enough; return the seconds."""
        from seg_uncertainty_ros.nodes.processes import ProcessError

        start = time.monotonic()
        try:
            self.start_nodes()
            start = time.monotonic()
            self.run_frames(start + 3600 * self.options.hours)
        except KeyboardInterrupt:
            self.ended = 'interrupted'
        except ProcessError as error:
            self.ended = str(error)
        return time.monotonic() - start

    def start_nodes(self):
        """Start all processes."""
        for name in NODES:
            self.start(name)
        if self.options.faults:
            self.camera.start_listener()
        self.watched['this camera'] = Watched('this camera', os.getpid())
        self.wait_until_active()

    def run_frames(self, end):
        """Publish until enough frames are processed, or until ``end``."""
        options, camera = self.options, self.camera
        next_sample, next_fault = 0, int(self.rng.exponential(options.every))
        with tqdm(total=options.frames, unit='frame', mininterval=1.0) as bar:
            while (done := self.processed()) < options.frames and time.monotonic() < end:
                camera.frames(10)
                bar.update(done - bar.n)
                if done >= next_sample:
                    self.sample()
                    next_sample = done + options.frames // SAMPLES
                if options.faults and camera.published >= next_fault:
                    self.one_fault()
                    next_fault = camera.published + 1 + int(self.rng.exponential(options.every))
            bar.update(self.processed() - bar.n)
        camera.settle()
        # Two beats of the diagnostics: the first one may be of before the last image.
        camera.rest(3.0)
        self.sample()

    def one_fault(self):
        """Let something go wrong; latencies count again when good images have come through."""
        if not self.waiting:
            self.waiting = list(self.rng.permutation(faults.KINDS))
        kind = self.waiting.pop()
        self.faults[kind.__name__] += 1
        self.camera.clean = False
        kind(self.camera, self.rng)
        self.camera.settle()
        self.camera.frames(5)
        self.camera.settle()
        self.camera.clean = True

    def close(self):
        """End the processes; return what they leave in /dev/shm."""
        self.camera.close()
        self.nodes.__exit__(None, None, None)
        self.executor.shutdown()
        self.node.destroy_node()


class Report:
    """Tables of a run and the targets that it met or missed."""

    def __init__(self, soak, elapsed, left):
        self.soak = soak
        self.elapsed = elapsed
        self.left = left
        self.targets = []

    def target(self, text, met, found):
        """Note a target."""
        self.targets.append([text, found, 'met' if met else 'MISSED'])
        return met

    def text(self):
        """Return the report as Markdown."""
        soak = self.soak
        processed = soak.processed()
        options = soak.options
        enough = processed >= options.frames
        self.target(f'{options.frames} frames processed', enough, processed)
        bundle = Bundle.load(soak.bundle)
        faulty = ', '.join(f'{name} {count}' for name, count in sorted(soak.faults.items()))
        lines = [
            machine(),
            f'{processed} frames processed in {self.elapsed / 60:.1f} min '
            f'({processed / self.elapsed:.0f} a second), {options.graph} graph '
            f'({bundle.name} {bundle.version}), {SIZES[options.graph][0]}x'
            f'{SIZES[options.graph][1]}, {options.in_flight} in flight, seed {options.seed}',
            f'Faults: {sum(soak.faults.values())} ({faulty or "none"}).',
            self.resources(),
            self.tenths(),
            self.counts(),
            self.records(),
            table(['target', 'found', ''], self.targets),
        ]
        return '\n\n'.join(lines)

    def resources(self):
        """Return the table of memory, descriptors and threads."""
        rows = []
        for watched in self.soak.watched.values():
            total = self.soak.processed()
            kept = watched.column('frames') >= WARM_UP * total
            frames = watched.column('frames')[kept]
            row = [watched.name]
            for name in ('heap', 'pss', 'rss'):
                values = watched.column(name)[kept]
                row.append(f'{values[0]:.1f} - {values[-1]:.1f}')
            found, low, high = (1e6 * v for v in slope(frames, watched.column('heap')[kept]))
            grown = watched.column('heap')[kept][-1] - watched.column('heap')[kept][0]
            row.append(f'{found:+.2f} ({low:+.2f} to {high:+.2f})')
            ends = {}
            for name in ('descriptors', 'threads', 'shm'):
                values = watched.column(name)[kept]
                tenth = max(1, len(values) // TENTHS)
                ends[name] = values[:tenth].max(), np.median(values[-tenth:])
                row.append(f'{ends[name][0]:.0f} - {ends[name][1]:.0f}')
            rows.append(row)
            if watched.name in NODES:
                self.target(
                    f'{watched.name}: memory slope not distinguishable from zero',
                    low <= 0.0,
                    f'{found:+.2f} ({low:+.2f} to {high:+.2f}) MiB a million frames, '
                    f'{grown:+.2f} MiB in all',
                )
                for name, what in (
                    ('descriptors', 'file descriptors'),
                    ('threads', 'threads'),
                    ('shm', 'MiB in /dev/shm'),
                ):
                    before, after = ends[name]
                    self.target(
                        f'{watched.name}: {what} do not grow',
                        after <= before,
                        f'{before:.0f} - {after:.0f}',
                    )
        header = ['process', 'heap MiB', 'PSS MiB', 'RSS MiB', 'heap slope, MiB a million frames']
        header += ['descriptors', 'threads', '/dev/shm MiB']
        return (
            f'After a warm-up of {100 * WARM_UP:.0f} %, first and last sample; slope by Theil-Sen '
            'with the 95 % interval of a block bootstrap:\n\n' + table(header, rows)
        )

    def tenths(self):
        """Return the table of latency and processor time by tenth of the run."""
        latencies = np.array(self.soak.camera.latencies)
        parts = np.array_split(latencies, TENTHS)
        total = self.soak.processed()
        edges = np.linspace(0, total, TENTHS + 1)
        columns = {}
        for name in NODES:
            for field in ('cpu_s', 'waited_s'):
                columns[name, field] = self._per_frame(name, field, edges)
        rows = []
        for index, part in enumerate(parts):
            row = [index + 1, len(part)]
            row += [f'{1e3 * np.percentile(part, rank):.2f}' for rank in (50, 99)]
            row += [
                f'{columns[name, field][index]:.3f}'
                for name in NODES
                for field in ('cpu_s', 'waited_s')
            ]
            rows.append(row)
        ratios = [np.percentile(parts[-1], r) / np.percentile(parts[0], r) for r in (50, 99)]
        ratio_row = ['last / first', '', *(f'{ratio:.3f}' for ratio in ratios)]
        ratio_row += [f'{c[-1] / c[0]:.3f}' for c in columns.values()]
        rows.append(ratio_row)
        self.target(
            f'latency p99, last tenth <= {LATENCY_GOAL} x first tenth',
            ratios[1] <= LATENCY_GOAL,
            f'{ratios[1]:.3f} (p50 {ratios[0]:.3f})',
        )
        for name in NODES:
            cpu = columns[name, 'cpu_s']
            self.target(
                f'{name}: processor time a frame, last tenth <= {LATENCY_GOAL} x first tenth',
                cpu[-1] <= LATENCY_GOAL * cpu[0],
                f'{cpu[-1] / cpu[0]:.3f}',
            )
        header = ['tenth', 'images timed', 'p50 ms', 'p99 ms']
        header += [f'{name} {what} ms' for name in NODES for what in ('CPU', 'waited for a core')]
        return (
            "Image published to monitor's state received, without images during faults; processor "
            'time and time ready without a core, a frame:\n\n' + table(header, rows)
        )

    def _per_frame(self, name, field, edges):
        """Return milliseconds a frame between edges (frames)."""
        watched = self.soak.watched[name]
        at_edges = np.interp(edges, watched.column('frames'), watched.column(field))
        return 1e3 * np.diff(at_edges) / np.diff(edges)

    def counts(self):
        """Return where every image went."""
        soak, camera, health = self.soak, self.soak.camera, self.soak.health
        seen = {key: health.count('segmentation', key) for key in COUNTS}
        judged = health.count('monitor', 'judged')
        self.target(
            'counts consistent in every diagnostic: received = processed + dropped + rejected '
            '+ in flight',
            not health.errors,
            f'{len(health.errors)} that do not add up'
            + (f': {health.errors[0]}' if health.errors else ''),
        )
        self.target(
            f'every service call answered within {CALL_S:.0f} s',
            not camera.silent_calls,
            f'{camera.silent_calls} of {camera.calls} not',
        )
        self.target('nodes alive to the end', not soak.ended, soak.ended or 'yes')
        self.target('nothing left in flight', seen['in_flight'] == 0, seen['in_flight'])
        if soak.options.faults:
            self.target('bad images rejected', seen['rejected'] > 0, seen['rejected'])
        else:
            lost = camera.published - seen['received']
            self.target('every image received', lost == 0, f'{lost} of {camera.published} not')
            self.target('every processed image judged', judged == seen['processed'], judged)
        # Files of ports, 50 KiB each, are those of whoever uses the domain next.
        segments = [name for name in self.left if 'port' not in name]
        self.target(
            'no segment left in /dev/shm',
            not segments,
            f'{len(segments)} ({len(self.left) - len(segments)} files of ports)',
        )
        rows = [
            ['published', camera.published],
            *([key.replace('_', ' '), value] for key, value in seen.items()),
            [
                'not received (queue overwritten, or node paused)',
                camera.published - seen['received'],
            ],
            ['judged by the monitor', judged],
            [
                'monitor: rejected, incomplete',
                f'{health.count("monitor", "rejected")}, {health.count("monitor", "incomplete")}',
            ],
            ['overtaken by a newer one', camera.overtaken],
            ['without an answer within a second', camera.unanswered],
        ]
        return table(['images', 'count'], rows)


    def records(self):
        """Return what event logs and snapshots hold."""
        folder = self.soak.records
        read = read_events(folder)
        self.target('no fault in any event log', not read.faults, [*read.faults, 'none'][0])
        messages = []
        for path in sorted(folder.glob('*/')):
            with AnyReader([path]) as reader:
                messages.append(sum(1 for _ in reader.messages()))
        self.target('snapshots written and readable', min(messages, default=0) > 0, len(messages))
        sizes = {}
        for kind, limit in (('**/*.mcap', DISK_MIB), ('monitor.*.jsonl', MONITOR_LOG_MIB)):
            sizes[kind] = sum(path.stat().st_size for path in folder.glob(kind)) / 2**20
            self.target(f'{kind}: at most {limit} MiB', sizes[kind] <= limit, f'{sizes[kind]:.1f}')
        health = self.soak.health
        rows = [
            ['events kept, all nodes', len(read.events)],
            ['events written by the monitor', health.count('monitor', 'written')],
            ['snapshots taken', health.count('recorder', 'taken')],
            ['snapshots kept', f'{len(messages)}, {sum(messages)} messages'],
            ['warnings without one: another was just taken', health.count('recorder', 'refused')],
            ['snapshots that failed', health.count('recorder', 'failed')],
            ['messages without room in one', health.count('recorder', 'dropped')],
        ]
        return table(['records', 'count'], rows)


def write_samples(path, watched):
    """Write all samples as CSV."""
    with path.open('w', encoding='utf-8', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['process', *(field.name for field in fields(Sample))])
        for process in watched:
            writer.writerows([process.name, *astuple(sample)] for sample in process.samples)


def put_section(page, title, text):
    """Replace a section of a page, or add it."""
    head = '# Soak\n\nMade by `python benchmarks/soak.py --page docs/soak.md`; see its `--help`.\n'
    old = page.read_text('utf-8') if page.exists() else head
    start, *sections = re.split(r'^(?=## )', old, flags=re.MULTILINE)
    sections = [each for each in sections if not each.startswith(f'## {title}\n')]
    sections.append(f'## {title}\n\n{text}\n')
    page.write_text('\n'.join(part.rstrip('\n') + '\n' for part in (start, *sections)), 'utf-8')


def command(options):
    """Return the command line of a run."""
    words = ['python benchmarks/soak.py', f'--frames {options.frames}', f'--graph {options.graph}']
    words += [f'--faults --every {options.every}'] * options.faults
    words += [f'--hours {options.hours:.2f}'] * (options.hours < float('inf'))
    words += [f'--in-flight {options.in_flight}'] * (options.in_flight != 1)
    return ' '.join([*words, f'--seed {options.seed}'])


def main():
    options = parse()
    if options.role:
        return listen(options)
    rclpy = import_rclpy()
    from rclpy.signals import SignalHandlerOptions

    from seg_uncertainty_ros.nodes import transport
    from seg_uncertainty_ros.nodes.transport import environment

    transport.prepare()
    cv2.setNumThreads(1)
    with own_domain() as variables, tempfile.TemporaryDirectory() as folder:
        os.environ.update(variables)
        before = set(map(str, Path('/dev/shm').iterdir()))
        # SIGINT and SIGTERM end the run, and what was seen until then is reported.
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        soak = Soak(options, Path(folder), {**environment(), **os.environ})
        try:
            elapsed = soak.run()
        finally:
            soak.close()
            rclpy.try_shutdown()
        of_nodes = [soak.watched[name] for name in NODES if name in soak.watched]
        left = unused({name for watched in of_nodes for name in watched.shared} - before)
        if soak.processed() < LEAST:
            raise SystemExit(f'{soak.processed()} frames: too few. {soak.ended}')
        if options.samples:
            write_samples(options.samples, of_nodes)
        report = Report(soak, elapsed, left)
        text = report.text()
    print(text)
    if options.page:
        put_section(options.page, f'{options.graph} graph', f'`{command(options)}`\n\n{text}')
    return int(any(row[-1] == 'MISSED' for row in report.targets))


if __name__ == '__main__':
    sys.exit(main())
