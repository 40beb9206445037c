# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Camera, segmentation and monitor as processes of their own, as on a vehicle, and a probe."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy
from rclpy.qos import QoSProfile
from ros_graph import TIMEOUT_S
from ros_graph import Inbox
from ros_graph import until
from sensor_msgs.msg import Image
from std_msgs.msg import String

from seg_uncertainty_ros.nodes.conversions import stamp_ns
from seg_uncertainty_ros.nodes.processes import yaml_scalar
from seg_uncertainty_ros.nodes.transport import SHARED_MEMORY
from seg_uncertainty_ros.nodes.transport import own_segments

NAMES = ('segmentation', 'monitor', 'camera')
OK, WARN, ERROR, STALE = (bytes([level]) for level in range(4))
RATE_HZ = 20.0
# Nothing but silence can raise a warning: the images are noise.
QUIET = {
    f'{name}.enabled': False for name in ('ood_area', 'low_confidence', 'domain_shift', 'latency')
}
# A start takes two seconds; a machine that has more to do than cores takes its time.
PATIENCE_S = 60.0


Said = namedtuple('Said', 'moment name level message values')


class Listener:
    """What nodes say on ``/diagnostics``, by name, with the moment (s) at which it came."""

    def __init__(self, graph, clock=time.monotonic):
        self.said = {}
        self._clock = clock
        graph.probe.create_subscription(DiagnosticArray, '/diagnostics', self._on, 50)

    def _on(self, message):
        now = self._clock()
        for each in message.status:
            values = {item.key: item.value for item in each.values}
            said = Said(now, each.name, each.level, each.message, values)
            self.said.setdefault(each.name, []).append(said)

    def last(self, name):
        return until(lambda: self.said.get(name), f'diagnostics of {name}')[-1]

    def wait(self, name, accept, what, since=0.0, timeout_s=TIMEOUT_S, check=lambda: None):
        """Return the first that is accepted of what came after ``since``."""

        def find():
            check()
            said = self.said.get(name, ())
            return next((x for x in said if x.moment >= since and accept(x)), None)

        try:
            return until(find, f'{name}: {what}', timeout_s)
        except AssertionError as error:
            raise AssertionError(f'{error}; {self.said.get(name, [None])[-1]}') from None


class Vehicle:
    """Starts, kills and restarts the processes; the camera is the node replay, in a loop.

    Moments are those at which the probe heard of something, in seconds of its system clock.
    """

    def __init__(self, graph, folder, bundle, environment):
        self.graph = graph
        self.bundle = folder / 'bundle'
        shutil.copytree(bundle, self.bundle)
        self.processes = {}
        # On the system clock, as the stamps of images are.
        self.listener = Listener(graph, time.time)
        self.segments_of_the_killed = set()
        self.right = {}
        self._folder = folder
        self._environment = {**os.environ, 'ROS_DOMAIN_ID': str(graph.domain), **environment}
        self._images = folder / 'images'
        self._images.mkdir()
        noise = np.random.default_rng(0)
        for index in range(3):
            pixels = noise.integers(0, 256, (96, 160, 3), dtype=np.uint8)
            cv2.imwrite(str(self._images / f'{index}.png'), pixels)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.images = self._see('/image')
        self.masks = self._see('/segmentation/mask')
        self.states = graph.subscribe(String, '/monitor/state', latched)

    def _see(self, topic):
        """Return the stamps (s) of the images on a topic, each with what stands for its pixels."""
        seen = Inbox()

        def see(message):
            seen.append((stamp_ns(message.header.stamp) * 1e-9, hash(message.data.tobytes())))

        self.graph.probe.create_subscription(Image, topic, see, 10)
        return seen

    def start(self, name, *, prefix=(), code='', **parameters):
        """Start a process; ``prefix``: a command that runs it, ``code``: Python to run instead."""
        camera = {'source': self._images, 'loop': True, 'stamps': 'now', 'rate': RATE_HZ / 10}
        usual = {
            'segmentation': {'bundle': self.bundle, 'threads': 1},
            'monitor': {'bundle': self.bundle, **QUIET},
            'camera': {**camera, 'wait_for_subscribers': 0},
        }
        module = 'replay' if name == 'camera' else name
        command = [sys.executable, *(('-c', code) if code else ('-m', f'{PACKAGE}.{module}'))]
        command.append('--ros-args')
        for key, value in {**usual.get(name, {}), **parameters}.items():
            command += ['-p', f'{key}:={yaml_scalar(value)}']
        with self._log(name).open('ab') as log:
            self.processes[name] = subprocess.Popen(
                [*prefix, *command], stdout=log, stderr=subprocess.STDOUT, env=self._environment
            )

    def signal(self, name, number):
        self.processes[name].send_signal(number)
        return time.time()

    def kill(self, name):
        """Kill a process without warning and return when."""
        process = self.processes.pop(name)
        self.segments_of_the_killed |= set(own_segments(process.pid))
        process.kill()
        moment = time.time()
        process.wait()
        return moment

    def port_files(self):
        """Return the files of Fast DDS's ports of this domain in shared memory."""
        first = 7400 + 250 * self.graph.domain
        numbers = {
            path: re.search(r'_port(\d+)', path.name)
            for path in SHARED_MEMORY.glob('*fast*_port*')
        }
        return [path for path, n in numbers.items() if n and first <= int(n[1]) < first + 250]

    def wait_for_end(self, name, timeout_s=30.0):
        """Return the exit status of a process that is to end by itself."""
        return self.processes.pop(name).wait(timeout_s)

    def close(self):
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGINT)
        stubborn = []
        for name, process in self.processes.items():
            try:
                process.wait(30.0)
            except subprocess.TimeoutExpired:
                stubborn.append(name)
                process.kill()
                process.wait()
        assert not stubborn

    def _log(self, name):
        return self._folder / f'{name}.log'

    def said(self, name):
        """Return what processes of this name have written."""
        return self._log(name).read_text(encoding='utf-8', errors='replace')

    def check(self):
        """Fail where a process has ended."""
        for name, process in self.processes.items():
            assert process.poll() is None, f'{name} ended: {self.said(name)}'

    def first(self, task, accept, since):
        """Return when the first status of a task after ``since`` came that is accepted, and it."""
        said = self.listener.wait(task, accept, 'as expected', since, PATIENCE_S, self.check)
        return said.moment, said

    def wait_until_well(self, since):
        """Wait until planes come and are judged, and nobody finds anything wrong; return when.

        Fail where a plane was wrong, or an image is not accounted for.
        """
        moments = [
            self.first(task, lambda status: status.level == OK, since)[0]
            for task in ('segmentation: node', 'monitor: trust', 'monitor: node')
        ]
        # What was missing between two stamps is shown for a while.
        moments.append(self.first('segmentation: input', _goes_on, since)[0])
        self.check_masks()
        self.counts(since)
        return max(moments)

    def check_masks(self):
        """Fail where the mask of an image is not the one that it had the first time."""
        images = dict(self.images)
        for stamp, mask in self.masks:
            if stamp in images:
                assert self.right.setdefault(images[stamp], mask) == mask, stamp

    def wait_for_mask(self, since):
        """Wait for a mask of an image after ``since``, by its stamp (s); return that."""

        def find():
            self.check()
            stamps = [stamp for stamp, _ in self.masks[-20:]]
            return next((stamp for stamp in stamps if 0.0 < stamp - since < PATIENCE_S), None)

        return until(find, 'a mask', PATIENCE_S)

    def images_between(self, begin, end):
        """Return how many images have stamps (s) from ``begin`` to just before ``end``."""
        return sum(begin <= stamp < end for stamp, _ in self.images)

    def counts(self, since):
        """Return what became of the images, all of them accounted for."""
        _, status = self.first('segmentation: frames', lambda status: True, since)
        names = ('received', 'processed', 'dropped', 'rejected', 'in_flight')
        received, *others = (int(status.values[name]) for name in names)
        assert received == sum(others)
        return dict(zip(names, (received, *others), strict=True))

    def assessment(self):
        return json.loads(self.states[-1].data)


PACKAGE = 'seg_uncertainty_ros.nodes'


def _goes_on(status):
    return 'no image' not in status.message and 'publish' not in status.message


def slack():
    """Return by how much longer things may take: this machine may have more to do than cores.

    No more than threefold: what takes longer is wrong, whatever the load.
    """
    return min(max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0))), 3.0)
