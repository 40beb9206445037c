# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A vehicle whose /dev/shm fills up; a test runs this where /dev/shm is a small one of its own."""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path

from ros_graph import Graph
from ros_graph import free_domain
from ros_graph import until
from vehicle import NAMES
from vehicle import WARN
from vehicle import Vehicle

from seg_uncertainty_ros.nodes import transport

SEGMENT = transport.SEGMENT_BYTES


def free():
    return shutil.disk_usage(transport.SHARED_MEMORY).free


def fill(file):
    with suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert free() < 4096


def run(vehicle, filler):
    for name in NAMES:
        vehicle.start(name)
    vehicle.wait_until_well(0.0)
    assert free() < SEGMENT
    fill(filler)
    full = time.time()
    vehicle.wait_for_mask(full + 2.0)
    vehicle.wait_until_well(full + 2.0)
    print('those that run go on')

    vehicle.kill('monitor')
    # It is freed when nobody has it mapped any more.
    until(lambda: transport.remove_leftovers() >= 0 and free() > SEGMENT, 'room', 60.0)
    fill(filler)
    started = time.time()
    vehicle.start('monitor')
    named, status = vehicle.first('monitor: process', lambda status: True, started)
    assert 'without shared memory' in status.message, 'the first that it says'
    assert status.level == WARN
    well = vehicle.wait_until_well(named)
    print(f'{status.name} | {status.message} | well {well - named:.2f} s later')


def main(bundle, folder):
    """Run with a probe of its own; raises AssertionError."""
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    transport.prepare()
    with free_domain() as domain, (transport.SHARED_MEMORY / 'filler').open('wb', 0) as filler:
        graph = Graph(domain)
        vehicle = Vehicle(graph, folder, bundle, {})
        try:
            run(vehicle, filler)
        finally:
            vehicle.close()
            graph.close()


if __name__ == '__main__':
    main(Path(sys.argv[1]), Path(sys.argv[2]))
