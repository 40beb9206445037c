# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A node's event log: parameters, clocks, and what diagnostics say of it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from seg_uncertainty_ros.monitor.events import Moment
from seg_uncertainty_ros.monitor.events import Origin
from seg_uncertainty_ros.nodes import diagnostics
from seg_uncertainty_ros.nodes.diagnostics import Status
from seg_uncertainty_ros.nodes.parameters import Parameter
from seg_uncertainty_ros.recordings.event_log import MAX_WAITING
from seg_uncertainty_ros.recordings.event_log import RETRY_S
from seg_uncertainty_ros.recordings.event_log import EventLog
from seg_uncertainty_ros.recordings.event_log import RotatingFile

if TYPE_CHECKING:
    from rclpy.node import Node

    from seg_uncertainty_ros.monitor.events import Event

PARAMETERS = (
    Parameter(
        'event_log.directory',
        '',
        'Where events are written, as JSON lines; ~ is the home directory; empty: nowhere.',
    ),
    Parameter('event_log.file_mib', 8, 'Most of one file (MiB).', minimum=1, maximum=1024),
    Parameter(
        'event_log.total_mib',
        128,
        'Most of all files of this node (MiB): the oldest are deleted.',
        minimum=2,
        maximum=1_048_576,
    ),
)


class Journal:
    """Writes a node's events with the times of its clocks; does nothing while it is closed."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._log: EventLog | None = None
        self._directory = ''
        self._problem = ''

    @property
    def is_open(self) -> bool:
        """Whether events go anywhere."""
        return self._log is not None

    def open(self, directory: str, *, file_mib: int, total_mib: int) -> None:
        """Open the log in a directory, none where that is empty; raises ``SinkError``.

        A disk that refuses is no error here: it is tried again, and diagnostics say so.
        """
        self._problem = ''
        if not directory:
            return
        self._directory = str(Path(directory).expanduser())
        files = RotatingFile(
            self._directory,
            file_stem(self._node),
            max_bytes=file_mib << 20,
            max_total_bytes=total_mib << 20,
        )
        run = f'{time.time_ns():x}-{os.getpid()}'
        origin = Origin(self._node.get_fully_qualified_name(), run)
        self._log = EventLog(files, origin, self._now)
        self._node.get_logger().info(f'event log in {self._directory}')

    def close(self) -> None:
        """Write what waits and close; say what could not be written."""
        if self._log is None:
            return
        lost = self._log.close().lost
        self._log = None
        if lost:
            self._node.get_logger().error(f'{lost} lines of the event log are lost')

    def write(self, *events: Event) -> None:
        """Note events, without waiting for the disk."""
        if self._log is not None:
            for event in events:
                self._log.write(event)

    def status(self) -> Status:
        """Return what diagnostics say; tell the log of the node when that changes."""
        if self._log is None:
            return Status(diagnostics.OK, 'closed: no directory is given, or not configured')
        health = self._log.health
        problem = health.problem
        if not problem and health.waiting > MAX_WAITING // 10:
            problem = 'the disk is slow'
        values = {
            'directory': self._directory,
            'written': health.written,
            'waiting': health.waiting,
            'lost': health.lost,
        }
        if problem != self._problem:
            self._problem = problem
            if problem:
                self._node.get_logger().error(f'event log in {self._directory}: {problem}')
            else:
                self._node.get_logger().info(f'event log in {self._directory}: written again')
        if problem:
            message = (
                f'{self._directory}: {problem}; trying again every {RETRY_S:.0f} s, '
                f'{health.waiting} lines wait, {health.lost} are lost'
            )
            return Status(diagnostics.WARN, message, values)
        return Status(diagnostics.OK, f'writing to {self._directory}', values)

    def _now(self) -> Moment:
        return Moment(
            wall_ns=time.time_ns(),
            steady_ns=time.monotonic_ns(),
            ros_ns=self._node.get_clock().now().nanoseconds,
        )


def file_stem(node: Node) -> str:
    """Return a node's full name as the beginning of file names: front.monitor."""
    return node.get_fully_qualified_name().strip('/').replace('/', '.')
