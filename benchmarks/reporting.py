# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: the machine in a line, tables, percentiles, a ROS domain."""

from __future__ import annotations

import argparse
import os
import platform
import socket
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import numpy as np


def machine():
    """Return date, processor, usable cores, system and Python in one line."""
    cores = len(os.sched_getaffinity(0))
    return (
        f'{date.today()}, {_processor()}, {cores} of {os.cpu_count()} cores, '
        f'load {os.getloadavg()[0]:.1f}, {platform.system()}, Python {platform.python_version()}'
    )


def _processor():
    for line in Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines():
        key, _, value = line.partition(':')
        if key.strip() == 'model name':
            return value.strip()
    return platform.machine()


def table(header, rows):
    """Return a Markdown table; numbers to the right."""
    lines = [header, ['-' if index == 0 else '-:' for index in range(len(header))], *rows]
    return '\n'.join(f'| {" | ".join(str(cell) for cell in line)} |' for line in lines)


def ms(seconds, rank=50):
    """Return a percentile of seconds as milliseconds."""
    return f'{1e3 * np.percentile(seconds, rank):.2f}' if len(seconds) else '-'


def pair_ratio(numerator, denominator):
    """Return the median ratio of neighbouring runs, and the 95 % interval of that median."""
    ratios = np.asarray(numerator) / np.asarray(denominator)
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, (2000, len(ratios))), axis=1)
    low, high = np.percentile(medians, (2.5, 97.5))
    return f'{np.median(ratios):.3f} ({low:.3f} to {high:.3f})'


def size(text):
    """Parse WIDTHxHEIGHT; for argparse."""
    try:
        width, height = (int(side) for side in text.split('x'))
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is no WIDTHxHEIGHT') from None
    if min(width, height) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} has a side below 1')
    return width, height


@contextmanager
def own_domain():
    """Yield the variables of a ROS domain on this host that nobody else has reserved."""
    for offset in range(100):
        number = (os.getpid() + offset) % 100 + 1
        with socket.socket() as reserved:
            try:
                reserved.bind(('', 32768 + number))  # the convention of ROS's domain_coordinator
            except OSError:
                continue
            yield {
                'ROS_DOMAIN_ID': str(number),
                'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
                'RCUTILS_COLORIZED_OUTPUT': '0',
            }
            return
    raise SystemExit('no free ROS domain')


def import_rclpy():
    """Return rclpy, or end with what is missing."""
    try:
        import rclpy
    except ImportError:
        raise SystemExit("needs ROS 2: source an installation, or pip install '.[ros]'") from None
    return rclpy
