# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Diagnostics in the form that rqt_robot_monitor and diagnostic_aggregator read.

diagnostic_updater is not everywhere, and its timer stops with a paused ``/clock``; this one runs
on steady time.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from dataclasses import field
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from diagnostic_msgs.msg import DiagnosticStatus
from diagnostic_msgs.msg import KeyValue
from rclpy.clock import Clock
from rclpy.clock import ClockType
from rclpy.duration import Duration

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from rclpy.node import Node

OK = DiagnosticStatus.OK
WARN = DiagnosticStatus.WARN
ERROR = DiagnosticStatus.ERROR
STALE = DiagnosticStatus.STALE

PERIOD_S = 1.0
# Latencies over this are no latencies: the stamps come from another clock.
PLAUSIBLE_LATENCY_S = 60.0


@dataclass(frozen=True)
class Status:
    """One line of a diagnostic panel with its values."""

    level: bytes
    message: str
    values: Mapping[str, Any] = field(default_factory=dict)


class Diagnostics:
    """Publishes the statuses of a node's tasks once a second on ``/diagnostics``.

    ``tasks`` maps a task's name to a function that returns its status; the published name is
    ``<node>: <task>`` with the namespace in front of the node where there is one.
    """

    def __init__(
        self, node: Node, hardware_id: str, tasks: Mapping[str, Callable[[], Status]]
    ) -> None:
        self._node = node
        self._hardware_id = hardware_id
        self._tasks = tasks
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        node.create_timer(PERIOD_S, self.publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def publish(self) -> None:
        """Publish now, besides the regular beat."""
        name = self._node.get_fully_qualified_name().lstrip('/')
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        for task, status in ((task, function()) for task, function in self._tasks.items()):
            message.status.append(
                DiagnosticStatus(
                    level=status.level,
                    name=f'{name}: {task}',
                    message=status.message,
                    hardware_id=self._hardware_id,
                    values=[
                        KeyValue(key=key, value=_text(value))
                        for key, value in status.values.items()
                    ],
                )
            )
        self._publisher.publish(message)

    def flush(self, timeout_s: float = 1.0) -> None:
        """Wait until every reliable subscriber has what was published, for the last message."""
        self._publisher.wait_for_all_acked(Duration(seconds=timeout_s))

    def wait_for_reader(self, timeout_s: float = 3.0) -> None:
        """Wait until somebody listens: a node that ends soon is found late by its observers."""
        end = time.monotonic() + timeout_s
        while not self._publisher.get_subscription_count() and time.monotonic() < end:
            time.sleep(0.05)


def _text(value: Any) -> str:
    if value is None:
        return 'unknown'
    return f'{value:.2f}' if isinstance(value, float) else str(value)


class Window:
    """The last samples of a quantity, and its percentiles."""

    def __init__(self, size: int = 300) -> None:
        self._samples: deque[float] = deque(maxlen=size)

    def add(self, sample: float) -> None:
        """Take a sample."""
        self._samples.append(sample)

    def percentiles(self, name: str, unit: float = 1e3) -> dict[str, float | None]:
        """Return ``<name>_p50``, ``_p95`` and ``_p99``, times ``unit``; None while empty."""
        samples = list(self._samples)
        values = np.percentile(samples, (50, 95, 99)) * unit if samples else (None,) * 3
        return {
            f'{name}_p{rank}': None if value is None else float(value)
            for rank, value in zip((50, 95, 99), values, strict=True)
        }


class Rate:
    """How often something happened a second, over the last few of its moments (s)."""

    def __init__(self, size: int = 60) -> None:
        self._moments: deque[float] = deque(maxlen=size)

    def add(self, moment: float) -> None:
        """Take the moment of an event, in seconds of a steady clock."""
        self._moments.append(moment)

    def value(self, now: float) -> float:
        """Return events a second; 0 once nothing came for a while."""
        moments = list(self._moments)
        if len(moments) < 2 or moments[-1] <= moments[0]:
            return 0.0
        pause = (moments[-1] - moments[0]) / (len(moments) - 1)
        return 0.0 if now - moments[-1] > max(1.0, 5.0 * pause) else 1.0 / pause


class StampGaps:
    """Frames that seem to be missing between stamps: gaps of more than 1.5 usual intervals.

    A gap of more than a minute is a jump of time or a pause, not a thousand lost frames.
    """

    LEAST = 5
    JUMP_NS = 60 * 10**9

    def __init__(self) -> None:
        self._intervals: deque[int] = deque(maxlen=30)
        self._last: int | None = None
        self.missing = 0

    def add(self, stamp_ns: int) -> None:
        """Take the stamp of a frame."""
        interval = None if self._last is None else stamp_ns - self._last
        self._last = stamp_ns
        if interval is None:
            return
        if not 0 < interval <= self.JUMP_NS:  # a loop, or a jump of time
            self._intervals.clear()
            return
        if len(self._intervals) >= self.LEAST:
            usual = float(np.median(self._intervals))
            if interval > 1.5 * usual:
                self.missing += round(interval / usual) - 1
        self._intervals.append(interval)

    def pause(self) -> None:
        """Count nothing for the time until the next frame: nobody listened."""
        self._last = None


class Complaints:
    """Says a kind of complaint once; messages that differ only in numbers are one kind."""

    MOST_KINDS = 64

    def __init__(self, say: Callable[[str], Any]) -> None:
        self._say = say
        self._kinds: set[str] = set()
        self.count = 0
        self.last = ''

    def add(self, message: str) -> None:
        """Count a complaint; say it if its kind is new."""
        self.count += 1
        self.last = message
        kind = ''.join('#' if character.isdigit() else character for character in message)
        if kind not in self._kinds and len(self._kinds) < self.MOST_KINDS:
            self._kinds.add(kind)
            self._say(f'{message} (said once; counted in /diagnostics)')
