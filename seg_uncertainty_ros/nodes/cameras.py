# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Several cameras in one process: segmentation, and monitor, in the namespace of each.

They share one engine and take turns with it. A camera whose turn comes gives its newest image, so
that each of them gets the same share, whatever their rates, and none waits longer than the others
take for an image each. Everything else is theirs alone: parameters, topics, diagnostics.

An engine for each would need the memory several times, and would not be faster: the graph takes
one image, and one of them keeps the processor busy.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from rclpy.utilities import remove_ros_args

from seg_uncertainty_ros.nodes.monitor import MonitorNode
from seg_uncertainty_ros.nodes.running import exit_with
from seg_uncertainty_ros.nodes.segmentation import SegmentationNode
from seg_uncertainty_ros.runtime.sharing import Runtimes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seg_uncertainty_ros.nodes.lifecycle import ManagedNode


def create(namespaces: Sequence[str], *, monitor: bool) -> list[ManagedNode]:
    """Return the nodes of each camera."""
    runtimes = Runtimes()
    nodes: list[ManagedNode] = []
    for namespace in namespaces:
        nodes.append(SegmentationNode(namespace=namespace, runtimes=runtimes))
        if monitor:
            nodes.append(MonitorNode(namespace=namespace))
    return nodes


def parse() -> argparse.Namespace:
    """Return the arguments that are not for ROS."""
    parser = argparse.ArgumentParser(
        prog='cameras',
        description=__doc__.split('\n\n')[0],
        epilog='ROS arguments follow behind --ros-args, such as --params-file FILE with the keys '
        '/NAMESPACE/segmentation and /NAMESPACE/monitor, or /** for all.',
    )
    parser.add_argument(
        'namespaces', metavar='NAMESPACE', nargs='+', help='of a camera: NAMESPACE/image'
    )
    parser.add_argument('--no-monitor', action='store_true', help='segmentation only')
    options = parser.parse_args(remove_ros_args()[1:])
    if twice := {name for name in options.namespaces if options.namespaces.count(name) > 1}:
        parser.error(f'{min(twice)}: given twice')
    return options


def main() -> None:
    """Run the nodes; the console script ``cameras``."""
    options = parse()
    exit_with(partial(create, options.namespaces, monitor=not options.no_monitor))


if __name__ == '__main__':
    main()
