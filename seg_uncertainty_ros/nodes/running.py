# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Run one node or several in this process until they are done or told to stop."""

from __future__ import annotations

import faulthandler
import sys
from typing import TYPE_CHECKING
from typing import Protocol

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import get_logger

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.nodes import transport

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence

# How soon a finished node ends its process (s).
PERIOD_S = 0.2
EXIT_S = 10.0


class Runnable(Protocol):
    """A node that ``run`` can start and stop."""

    def start(self) -> None:
        """Begin to work."""

    def stop(self) -> None:
        """End every thread and release everything."""


def run(
    create: Callable[[], Runnable | Sequence[Runnable]], args: Sequence[str] | None = None
) -> int:
    """Create a node, or several, and spin; return the exit status of the process.

    A node may have ``exit_status`` (int or None): as soon as it is an int, the process ends
    with it.
    """
    heap_is_kept = transport.prepare()
    rclpy.init(args=None if args is None else list(args))
    try:
        created = create()
    except SegUncertaintyError as error:
        get_logger('seg_uncertainty_ros').fatal(str(error))
        rclpy.try_shutdown()
        return 1
    except KeyboardInterrupt:
        return 0
    nodes = created if isinstance(created, list | tuple) else [created]
    for shortcoming in transport.shortcomings():
        nodes[0].get_logger().warning(shortcoming)
    if not heap_is_kept:
        nodes[0].get_logger().warning(
            'mallopt is not to be had here (no glibc): each image costs fresh pages of memory'
        )
    executor = SingleThreadedExecutor()
    for node in nodes:
        executor.add_node(node)
    status = None
    try:
        for node in nodes:
            node.start()
        while rclpy.ok() and status is None:
            executor.spin_once(timeout_sec=PERIOD_S)
            ended = [getattr(node, 'exit_status', None) for node in nodes]
            status = next((each for each in ended if each is not None), None)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        # A signal shuts ROS down in the middle of whatever is going on.
        if rclpy.ok():
            raise
    finally:
        for node in nodes:
            node.stop()
        executor.shutdown()
        for node in nodes:
            node.destroy_node()
        rclpy.try_shutdown()
    return status or 0


def exit_with(create: Callable[[], Runnable | Sequence[Runnable]]) -> None:
    """Run nodes with the arguments of the command line and exit; for console scripts."""
    status = run(create)
    # Fast DDS waits for its threads while the interpreter ends, now and then for ever, with the
    # interpreter's lock: only a timer in C still ends the process.
    faulthandler.dump_traceback_later(EXIT_S, exit=True)
    sys.exit(status)
