# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Run one node or several in this process until they are done or told to stop."""

from __future__ import annotations

import faulthandler
import gc
import signal
import sys
import time
from contextlib import contextmanager
from threading import Event
from threading import Thread
from typing import TYPE_CHECKING
from typing import Protocol

import rclpy
from rclpy.exceptions import NameValidationException
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.signals import SignalHandlerOptions

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.nodes import transport
from seg_uncertainty_ros.recordings.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from collections.abc import Sequence

    from rclpy.context import Context

# How soon a finished node, or a signal, ends the process (s).
PERIOD_S = 0.2
EXIT_S = 10.0
# Rest after a callback that failed, lest one that always fails takes the whole processor.
REST_S = 0.01
# Of a node that cannot be made as it was asked for.
REFUSALS = (SegUncertaintyError, NameValidationException, ParameterException)


class ArgumentsError(SegUncertaintyError):
    """What follows ``--ros-args`` cannot be used."""


class Runnable(Protocol):
    """A node that ``run`` can start and stop."""

    def start(self) -> None:
        """Begin to work."""

    def fail(self, error: Exception) -> None:
        """Tell that a callback in this process failed; the process goes on."""

    def stop(self) -> None:
        """End every thread and release everything."""

    def say_goodbye(self) -> None:
        """Tell that the node ends because it was meant to."""


def run(create: Callable[[], Runnable | Sequence[Runnable]]) -> int:
    """Create a node, or several, and spin; return the exit status of the process.

    A node may have ``exit_status`` (int or None): as soon as it is an int, the process ends
    with it. SIGINT and SIGTERM end it too, once the callback that is under way is done; further
    ones change nothing. After it, the process has ``EXIT_S`` to end.
    """
    heap_is_kept = transport.prepare()
    freed = transport.remove_leftovers()
    told_to_stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told_to_stop.set())
    try:
        initialise()
        created = create()
    except Exception as error:
        _end_in_time()
        if not isinstance(error, REFUSALS):
            raise
        get_logger('seg_uncertainty_ros').fatal(one_line(error))
        rclpy.try_shutdown()
        return 1
    nodes = created if isinstance(created, list | tuple) else [created]
    for shortcoming in transport.shortcomings():
        nodes[0].get_logger().warning(shortcoming)
    if freed:
        nodes[0].get_logger().info(
            f'removed {freed / 2**20:.0f} MiB of shared memory that killed processes had left'
        )
    if not heap_is_kept:
        nodes[0].get_logger().warning(
            'mallopt is not to be had here (no glibc): each image costs fresh pages of memory'
        )
    executor = SingleThreadedExecutor()
    for node in nodes:
        executor.add_node(node)
    try:
        for node in nodes:
            node.start()
        _forget_the_start()
        with _awake(executor):
            return _spin(executor, nodes, told_to_stop)
    finally:
        _end_in_time()
        for node in nodes:
            node.stop()
        executor.shutdown()
        for node in nodes:
            node.say_goodbye()
            node.destroy_node()
        rclpy.try_shutdown()


def initialise(args: Sequence[str] | None = None, context: Context | None = None) -> None:
    """Start ROS; raises ArgumentsError where it refuses an argument or a parameter file."""
    try:
        # Not ROS's handlers of signals: they shut it down in the middle of whatever is going on,
        # and a node could not even say that it ends.
        options = SignalHandlerOptions.NO
        rclpy.init(
            args=None if args is None else [*args], context=context, signal_handler_options=options
        )
    except (RuntimeError, ValueError) as error:  # ValueError: a message that is no UTF-8
        msg = f'ROS arguments: {one_line(error)}'
        raise ArgumentsError(msg) from error


def _spin(executor: SingleThreadedExecutor, nodes: Sequence[Runnable], told_to_stop: Event) -> int:
    while rclpy.ok() and not told_to_stop.is_set():
        try:
            executor.spin_once(timeout_sec=PERIOD_S)
        except Exception as error:
            for node in nodes:
                node.fail(error)
            time.sleep(REST_S)
        for node in nodes:
            if (status := getattr(node, 'exit_status', None)) is not None:
                return status
    return 0


@contextmanager
def _awake(executor: SingleThreadedExecutor) -> Iterator[None]:
    """Wake the executor now and then, whatever it waits for.

    ROS built for an old glibc, as in the wheels, waits until a time of day. Where the system clock
    is set back, that may be hours, without timers, diagnostics and an ear for signals.
    """
    ended = Event()

    def wake() -> None:
        while not ended.is_set():
            time.sleep(PERIOD_S)
            executor.wake()

    thread = Thread(target=wake, name='wake', daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def exit_with(create: Callable[[], Runnable | Sequence[Runnable]]) -> None:
    """Run nodes with the arguments of the command line and exit; for console scripts."""
    sys.exit(run(create))


def _forget_the_start() -> None:
    """Take what is there by now out of the garbage collector's way.

    Modules, graph and bundle are 60,000 objects: to look through them stops every thread for
    15 ms, and so Python does it rarely and lets garbage lie that long.
    """
    gc.collect()
    gc.freeze()


def _end_in_time() -> None:
    # Fast DDS waits for its threads while the interpreter ends, now and then for ever, with the
    # interpreter's lock: only a timer in C still ends the process.
    faulthandler.dump_traceback_later(EXIT_S, exit=True)
