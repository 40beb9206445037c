# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Real nodes over real DDS: each test in a domain of its own."""

from __future__ import annotations

import os
from importlib.util import find_spec

# Before any message is imported: a field of the wrong type is then an AssertionError at once.
os.environ.setdefault('ROS_PYTHON_CHECK_FIELDS', '1')
os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')

import pytest

HAVE_ROS = find_spec('rclpy') is not None
collect_ignore_glob = [] if HAVE_ROS else ['test_*.py']

if HAVE_ROS:
    from ros_graph import ErrorLines
    from ros_graph import Graph
    from ros_graph import free_domain

    from seg_uncertainty_ros.nodes import transport

    transport.prepare()


@pytest.fixture
def domain():
    """Yield a ROS domain that nobody else uses."""
    with free_domain() as number:
        yield number


@pytest.fixture
def graph(domain):
    """Yield nodes, topics and services of one domain."""
    graph = Graph(domain)
    yield graph
    graph.close()


@pytest.fixture
def error_lines(capfd):
    """Return what nodes of this process complain about."""
    return ErrorLines(capfd)
