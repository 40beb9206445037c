# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A soak: the nodes as processes, the camera, and what is seen of them meanwhile."""

from __future__ import annotations

import os
import time
from collections import Counter

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.experimental.events_executor import EventsExecutor
from tqdm import tqdm

from seg_uncertainty_ros.nodes.processes import NodeProcesses
from seg_uncertainty_ros.nodes.processes import ProcessError
from seg_uncertainty_ros.recordings import open_source
from soaking import faults
from soaking.camera import Camera
from soaking.camera import kinds_of_images
from soaking.listener import Listener
from soaking.tiny_bundle import make_bundle
from soaking.watching import Watched

NODES = ('segmentation', 'monitor', 'recorder')
MONITOR_LOG_MIB = 2
SNAPSHOTS_MIB = 64
SIZES = {'tiny': (96, 64), 'bundle': (640, 360)}
SAMPLES = 400
"""Over a run: reading what memory a process has stops it for milliseconds."""
WARM_UP = 0.25
TENTHS = 10
START_S = 120.0
COUNTS = ('received', 'processed', 'dropped', 'rejected', 'in_flight')


def rendered(size, seed, seconds=10):
    """Return the frames of a procedural drive."""
    width, height = size
    source = f'procedural:seed={seed},width={width},height={height},rate=4,duration={seconds}'
    return list(open_source(source))


def _reads():
    """Return reads all over more memory than a core has caches for."""
    values = np.arange(2**21)
    order = np.random.default_rng(0).permutation(values.size)[: 2**18]
    return lambda: values[order]


YARDSTICKS = {
    'sum': lambda: sum(range(100_000)),
    'reads': _reads(),
    'calls': lambda: [os.getppid() for _ in range(20_000)],
}
"""The same work each time, of Python, of memory and of the kernel."""


def yardstick_s():
    """Return the processor time of each yardstick: other guests of a host slow it."""
    took = []
    for work in YARDSTICKS.values():
        start = time.thread_time()
        work()
        took.append(time.thread_time() - start)
    return took


class Health:
    """The newest values of each node's diagnostics, and every one whose counts do not add up."""

    def __init__(self, node):
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
        self.options = options
        self.rng = np.random.default_rng(options.seed)
        size = SIZES[options.graph]
        drives = [rendered(size, seed) for seed in range(options.seed, options.seed + 2)]
        self.bundle = options.bundle
        if options.graph == 'tiny':
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
        self.listener = Listener(environment) if options.faults else None
        self.camera = Camera(self.node, self._spin, images, options.in_flight, self.listener)
        self.nodes = NodeProcesses(folder, environment)
        self.running = {}
        self.watched = {}
        self.records = folder / 'records'
        self.yardstick = []

    def _spin(self, timeout_s):
        self.executor.spin_once(timeout_sec=timeout_s)
        for node in self.running.values():
            if node.process.poll() is not None:
                node.check()
                raise ProcessError(f'node {node.name} ended by itself')

    def parameters(self, name):
        """Return the parameters of a node; limits of records are low, so that old ones go."""
        bundle = self.bundle.resolve()
        return {
            'segmentation': {'bundle': bundle, 'threads': self.options.threads},
            'monitor': {
                'bundle': bundle,
                'event_log.directory': self.records,
                'event_log.file_mib': 1,
                'event_log.total_mib': MONITOR_LOG_MIB,
            },
            'recorder': {
                'directory': self.records,
                'before': 1.0,
                'after': 0.5,
                'min_interval': 20.0,
                'memory_mib': 64,
                'disk_mib': SNAPSHOTS_MIB,
            },
        }[name]

    def start(self, name):
        """Start a node and watch it."""
        self.running[name] = self.nodes.start(name, self.parameters(name))
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
        """Sample every process, and how fast the machine is."""
        self.yardstick.append((self.processed(), *yardstick_s()))
        for name, watched in self.watched.items():
            watched.sample(self.processed(), self.health.values.get(name, {}))

    def run(self):
        """Run to the end, or until a node ends or the user has enough; return the seconds."""
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
        self.watched['this camera'] = Watched('this camera', os.getpid())
        self.wait_until_active()

    def run_frames(self, end):
        """Publish until enough frames are processed, or until ``end``."""
        options, camera = self.options, self.camera
        next_sample, next_fault = 0, self.images_to_next_fault()
        with tqdm(total=options.frames, unit='frame', mininterval=1.0) as bar:
            while (done := self.processed()) < options.frames and time.monotonic() < end:
                camera.frames(10)
                bar.update(done - bar.n)
                if done >= next_sample:
                    self.sample()
                    next_sample = done + options.frames // SAMPLES
                if options.faults and camera.published >= next_fault:
                    self.one_fault()
                    next_fault = camera.published + 1 + self.images_to_next_fault()
            bar.update(self.processed() - bar.n)
        camera.settle()
        # Two beats of the diagnostics: the first one may be of before the last image.
        camera.rest(3.0)
        self.sample()

    def images_to_next_fault(self):
        """Return how many images are good before the next fault."""
        every, done = self.options.every, self.processed() / self.options.frames
        if self.options.warm_up_every and 1 / TENTHS <= done < WARM_UP:
            every = self.options.warm_up_every
        return int(self.rng.exponential(every))

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
        """End the processes."""
        self.nodes.__exit__(None, None, None)
        if self.listener is not None:
            self.listener.close()
        self.camera.close()
        self.executor.shutdown()
        self.node.destroy_node()
