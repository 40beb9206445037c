# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Diagnostics in the form that rqt_robot_monitor and diagnostic_aggregator read.

diagnostic_updater is not everywhere, and its timer stops with a paused ``/clock``; this one runs
on steady time.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import sys
import threading
import time
from collections import Counter
from collections import deque
from dataclasses import dataclass
from dataclasses import field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from diagnostic_msgs.msg import DiagnosticStatus
from diagnostic_msgs.msg import KeyValue
from rclpy.clock import Clock
from rclpy.clock import ClockType
from rclpy.duration import Duration

from seg_uncertainty_ros.nodes import transport
from seg_uncertainty_ros.recordings.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from rclpy.node import Node

OK = DiagnosticStatus.OK
WARN = DiagnosticStatus.WARN
ERROR = DiagnosticStatus.ERROR
STALE = DiagnosticStatus.STALE

PERIOD_S = 1.0
# What changes is said at the next of these moments, not at the next beat.
LOOK_S = 0.2
# How long a fault that lasted for one image is shown: people and recorders look once a second.
SHOWN_S = 2.0
# Beyond these (s) it is no latency: the stamps come from another clock. Clocks of camera and host
# differ by a little.
PLAUSIBLE_LATENCY_S = (-0.05, 60.0)
# Made once: the interpreter keeps the parts of each new path in a table, which grows even though
# they go again.
_STATM = Path('/proc/self/statm')
_DESCRIPTORS = Path('/proc/self/fd')


@dataclass(frozen=True)
class Status:
    """One line of a diagnostic panel with its values."""

    level: bytes
    message: str
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def gist(self) -> str:
        """What is news where it changes; a number is only where something is wrong."""
        return kind_of(self.message) if self.level == OK else self.message


class Diagnostics:
    """Publishes the statuses of a node's tasks on ``/diagnostics``.

    Once a second, and within ``LOOK_S`` where there is news.
    ``tasks`` maps a task's name to a function that returns its status; the published name is
    ``<node>: <task>`` with the namespace in front of the node where there is one. The task
    ``process`` comes by itself. The functions run in the executor's thread, more often than
    their result is published.
    """

    def __init__(
        self, node: Node, hardware_id: str, tasks: Mapping[str, Callable[[], Status]]
    ) -> None:
        self._node = node
        self._hardware_id = hardware_id
        self._tasks = {**tasks, 'process': process_status}
        self._said: dict[str, str] = {}
        self._looks = 0
        self._complaints = Complaints(node.get_logger().error)
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        node.create_timer(LOOK_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def publish(self) -> None:
        """Publish now, besides the regular beat."""
        self._publish(self._statuses())

    def _look(self) -> None:
        beat = self._looks % round(PERIOD_S / LOOK_S) == 0
        if beat:
            # Garbage and free lists of the interpreter, thousands of them, are Python's blocks
            # until then. It takes 0.3 to 2 ms: what the start left is frozen.
            gc.collect()
        statuses = self._statuses()
        self._looks += 1
        if beat or any(self._is_new(task, status) for task, status in statuses.items()):
            self._publish(statuses)

    def _is_new(self, task: str, status: Status) -> bool:
        return self._said.get(task) != status.gist

    def _statuses(self) -> dict[str, Status]:
        return {task: self._status(task, function) for task, function in self._tasks.items()}

    def _status(self, task: str, function: Callable[[], Status]) -> Status:
        try:
            return function()
        except Exception as error:
            # Out of a timer this would end the node.
            message = f'no status: {type(error).__name__}: {one_line(error)}'
            self._complaints.add(f'diagnostics of {task}: {message}')
            return Status(ERROR, message)

    def _publish(self, statuses: Mapping[str, Status]) -> None:
        name = self._node.get_fully_qualified_name().lstrip('/')
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        for task, status in statuses.items():
            self._said[task] = status.gist
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


def plausible_latency_s(latency_s: float) -> float | None:
    """Return a latency, not below 0; None where the stamp is from another clock."""
    lowest, highest = PLAUSIBLE_LATENCY_S
    return max(0.0, latency_s) if lowest <= latency_s <= highest else None


def process_status() -> Status:
    """Return what this process takes, and what it lacks to carry images."""
    lacking = transport.shortcomings()
    in_use = heap_in_use_bytes()
    profile = next(filter(None, map(os.environ.get, transport.PROFILE_VARIABLES)), '')
    values = {
        'pid': os.getpid(),
        'rss_mib': resident_bytes() / 2**20,
        'heap_in_use_mib': None if in_use is None else in_use / 2**20,
        'python_blocks': sys.getallocatedblocks(),
        'threads': threading.active_count(),
        'descriptors': _descriptors(),
        'transport_profile': profile or 'none',
        'middleware': os.environ.get('RMW_IMPLEMENTATION', 'the default'),
    }
    if lacking:
        return Status(WARN, '; '.join(lacking), values)
    return Status(OK, f'{values["rss_mib"]:.0f} MiB', values)


def resident_bytes() -> int:
    """Return the memory of this process that is in RAM; 0 where there is no /proc."""
    try:
        pages = _STATM.read_text(encoding='ascii').split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf('SC_PAGE_SIZE')


class _HeapInfo(ctypes.Structure):
    """What glibc's mallinfo2 returns."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            'arena',
            'ordblks',
            'smblks',
            'hblks',
            'hblkhd',
            'usmblks',
            'fsmblks',
            'uordblks',
            'fordblks',
            'keepcost',
        )
    )


def heap_in_use_bytes() -> int | None:
    """Return what is allocated now by malloc; None without glibc 2.33 or newer.

    A leak shows here and in Python's blocks, small objects that are not from malloc: the memory
    that is resident never shrinks (``transport.keep_heap``), and grows with every new maximum.
    """
    mallinfo2 = _mallinfo2()
    if mallinfo2 is None:
        return None
    info = mallinfo2()
    return info.uordblks + info.hblkhd


@cache  # each CDLL makes a class
def _mallinfo2() -> Callable[[], _HeapInfo] | None:
    try:
        function = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError):
        return None
    function.restype = _HeapInfo
    return function


def _descriptors() -> int | None:
    return len(list(_DESCRIPTORS.iterdir())) if _DESCRIPTORS.is_dir() else None


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
        ordered = sorted(self._samples)
        return {
            f'{name}_p{rank}': unit * _percentile(ordered, rank) if ordered else None
            for rank in (50, 95, 99)
        }

    def median(self) -> float | None:
        """Return the median; None while empty."""
        return _percentile(sorted(self._samples), 50) if self._samples else None


def _percentile(ordered: list[float], rank: float) -> float:
    # As numpy.percentile, which takes ten times as long for so few.
    below, part = divmod(rank / 100 * (len(ordered) - 1), 1.0)
    low, high = ordered[int(below)], ordered[min(int(below) + 1, len(ordered) - 1)]
    return low + part * (high - low)


class Rate:
    """How often something happened a second, over its moments (s) of the last ``WINDOW_S``."""

    WINDOW_S = 5.0

    def __init__(self, size: int = 60) -> None:
        self._moments: deque[float] = deque(maxlen=size)

    def add(self, moment: float) -> None:
        """Take the moment of an event, in seconds of a steady clock."""
        self._moments.append(moment)

    def value(self, now: float) -> float:
        """Return events a second; 0 once nothing came for a while."""
        moments = list(self._moments)
        recent = [moment for moment in moments if now - moment <= self.WINDOW_S]
        moments = recent if len(recent) > 1 else moments[-2:]
        if len(moments) < 2 or moments[-1] <= moments[0]:
            return 0.0
        pause = (moments[-1] - moments[0]) / (len(moments) - 1)
        return 0.0 if now - moments[-1] > max(1.0, 5.0 * pause) else 1.0 / pause


class Stamps:
    """What the stamps of successive images say: lost ones, and clocks that are not right.

    A gap of more than 1.5 usual intervals is images that are missing; one of more than a minute
    is a jump of time or a pause, not a thousand lost images.
    """

    LEAST = 5
    JUMP_NS = 60 * 10**9
    FAULTS = ('zero', 'still', 'back', 'jump')

    def __init__(self) -> None:
        self._intervals: deque[int] = deque(maxlen=30)
        self._last: int | None = None
        self.missing = 0
        self.faults: Counter[str] = Counter()

    def add(self, stamp_ns: int) -> str:
        """Take the stamp of an image; return what is wrong with it, or an empty string."""
        # Of an image without a stamp no interval is known, neither before nor behind it.
        last, self._last = self._last, stamp_ns or None
        if not stamp_ns:
            return self._fault('zero', 'the stamp is zero: the driver does not set it')
        if last is None:
            return ''
        interval = stamp_ns - last
        if not interval:
            return self._fault('still', f'the stamp stands still at {stamp_ns * 1e-9:.3f} s')
        if interval < 0:
            self._intervals.clear()
            return self._fault('back', f'the stamp went back by {interval * -1e-9:.3f} s')
        if interval > self.JUMP_NS:
            self._intervals.clear()
            return self._fault('jump', f'the stamp jumped on by {interval * 1e-9:.3f} s')
        missing = 0
        if len(self._intervals) >= self.LEAST:
            usual = _percentile(sorted(self._intervals), 50)
            missing = max(0, round(interval / usual) - 1) if interval > 1.5 * usual else 0
        self._intervals.append(interval)
        self.missing += missing
        return f'images missing between two stamps: {missing}' if missing else ''

    def pause(self) -> None:
        """Count nothing for the time until the next image: nobody listened."""
        self._last = None

    def _fault(self, kind: str, text: str) -> str:
        self.faults[kind] += 1
        return text


class Recent:
    """The faults of the last ``SHOWN_S``, each kind in its newest words, the newest few kinds."""

    MOST_KINDS = 8

    def __init__(self) -> None:
        self._faults: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()

    def add(self, fault: str, now: float) -> None:
        """Take a fault, seen at ``now`` (s, steady clock); from any thread."""
        with self._lock:
            self._forget(now)
            self._faults.pop(kind_of(fault), None)
            self._faults[kind_of(fault)] = (now, fault)
            if len(self._faults) > self.MOST_KINDS:
                del self._faults[next(iter(self._faults))]

    def texts(self, now: float) -> list[str]:
        """Return what is to be shown at ``now``, the newest first."""
        with self._lock:
            self._forget(now)
            return [text for _, text in sorted(self._faults.values(), reverse=True)]

    def _forget(self, now: float) -> None:
        self._faults = {
            kind: (moment, text)
            for kind, (moment, text) in self._faults.items()
            if now - moment <= SHOWN_S
        }


def kind_of(message: str) -> str:
    """Return what messages of a kind have in common: all but the numbers."""
    return re.sub(r'\d+', '#', message)


class Complaints:
    """Says a kind of complaint once, counts them all and shows those of the last ``SHOWN_S``."""

    MOST_KINDS = 64

    def __init__(self, say: Callable[[str], Any]) -> None:
        self._say = say
        self._kinds: set[str] = set()
        self._recent = Recent()
        self.count = 0
        self.last = ''

    def recent(self) -> list[str]:
        """Return what is to be shown now, the newest first."""
        return self._recent.texts(time.monotonic())

    def add(self, message: str) -> None:
        """Take a complaint; say it if its kind is new."""
        self.count += 1
        self.last = message
        self._recent.add(message, time.monotonic())
        kind = kind_of(message)
        if kind not in self._kinds and len(self._kinds) < self.MOST_KINDS:
            self._kinds.add(kind)
            self._say(f'{message} (said once; counted in /diagnostics)')
