# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The node ``recorder``: keeps the last seconds and writes them when the monitor warns.

A process of its own: images, memory and disk that it needs can neither delay nor end the
monitor. It copies messages as they came, without a look inside.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING
from typing import Any

from rclpy.clock import Clock
from rclpy.clock import ClockType
from rclpy.qos import DurabilityPolicy
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo
from sensor_msgs.msg import Image
from std_msgs.msg import String

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.monitor.assessment import parse_state
from seg_uncertainty_ros.monitor.config import WARNINGS
from seg_uncertainty_ros.monitor.events import Event
from seg_uncertainty_ros.monitor.events import FrameId
from seg_uncertainty_ros.nodes import diagnostics
from seg_uncertainty_ros.nodes.diagnostics import Complaints
from seg_uncertainty_ros.nodes.diagnostics import Diagnostics
from seg_uncertainty_ros.nodes.diagnostics import Status
from seg_uncertainty_ros.nodes.image_topic import IMAGE_TRANSPORT
from seg_uncertainty_ros.nodes.image_topic import image_topic
from seg_uncertainty_ros.nodes.journal import Journal
from seg_uncertainty_ros.nodes.journal import file_stem
from seg_uncertainty_ros.nodes.lifecycle import ManagedNode
from seg_uncertainty_ros.nodes.lifecycle import overridable
from seg_uncertainty_ros.nodes.parameters import Parameter
from seg_uncertainty_ros.nodes.parameters import ParameterError
from seg_uncertainty_ros.nodes.qos_mismatches import QosMismatches
from seg_uncertainty_ros.nodes.running import exit_with
from seg_uncertainty_ros.recordings.bag_writer import STORAGES
from seg_uncertainty_ros.recordings.errors import one_line
from seg_uncertainty_ros.recordings.snapshots import Message
from seg_uncertainty_ros.recordings.snapshots import SnapshotConfig
from seg_uncertainty_ros.recordings.snapshots import Snapshots
from seg_uncertainty_ros.structured_text import TextError
from seg_uncertainty_ros.structured_text import shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from seg_uncertainty_ros.recordings.snapshots import Snapshot

_DEFAULTS = SnapshotConfig()
TICK_S = 0.1
PLANES = ('mask', 'anomaly')
STATE = 'monitor/state'
# Of its own log, which has a line or two a snapshot.
LOG_FILE_MIB, LOG_TOTAL_MIB = 1, 16

PARAMETERS = (
    Parameter(
        'directory',
        '',
        'Where snapshots and their event log are written; ~ is the home directory.',
    ),
    Parameter(
        'before',
        _DEFAULTS.before_s,
        'Seconds before a warning that a snapshot holds.',
        minimum=0.0,
        maximum=60.0,
    ),
    Parameter('after', _DEFAULTS.after_s, 'Seconds after it.', minimum=0.0, maximum=60.0),
    Parameter(
        'min_interval',
        _DEFAULTS.interval_s,
        'At most one snapshot begins in so many seconds.',
        minimum=0.0,
        maximum=86400.0,
    ),
    Parameter('warnings', list(WARNINGS), 'Warnings that are worth a snapshot.'),
    Parameter(
        'memory_mib',
        _DEFAULTS.memory_bytes >> 20,
        'Most of all messages held (MiB), half of it for the seconds before.',
        minimum=2,
        maximum=65536,
    ),
    Parameter(
        'disk_mib',
        _DEFAULTS.disk_bytes >> 20,
        'Most of all snapshots of this node (MiB): the oldest are deleted.',
        minimum=1,
        maximum=16_777_216,
    ),
    Parameter('storage', _DEFAULTS.storage, 'Format of the bags.', choices=tuple(STORAGES)),
    IMAGE_TRANSPORT,
)


class StateError(SegUncertaintyError):
    """A message that is no state of the monitor."""


@dataclass(frozen=True)
class Alarm:
    """What a state of the monitor says: known warnings with their messages, stamp, bundle."""

    warnings: Mapping[str, str]
    stamp_ns: int
    bundle: str | None

    @classmethod
    def of(cls, text: str) -> Alarm:
        """Parse the JSON of ``monitor/state``; raises ``StateError``."""
        try:
            content = parse_state(text)
            warnings = {
                item['name']: str(item['message'])
                for item in content['warnings']
                if item['name'] in WARNINGS
            }
        except (TextError, KeyError, TypeError) as error:
            msg = f'{STATE}: no state of a monitor: {type(error).__name__}: {shown(str(error))}'
            raise StateError(msg) from error
        bundle = content.get('bundle')
        # Any value of others, and lists in each other would make a line that nobody reads again.
        return cls(warnings, content['stamp_ns'], None if bundle is None else shown(str(bundle)))


class RecorderNode(ManagedNode):
    """Listens to image, planes and state; writes a snapshot where a warning begins."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('recorder', PARAMETERS, peers=('segmentation', 'monitor'), **kwargs)
        self._snapshots: Snapshots | None = None
        self._config = _DEFAULTS
        self._timer: Any = None
        self._known: frozenset[str] | None = None
        self._finished: SimpleQueue[tuple[Snapshot, Alarm, list[str]]] = SimpleQueue()
        self._counts = Counter(dict.fromkeys(('taken', 'refused', 'failed', 'dropped'), 0))
        self._problem = self._last = ''
        self._complaints = Complaints(self.get_logger().error)
        self._mismatches = QosMismatches(self, self.get_logger().error)
        self._journal = Journal(self)
        self.diagnostics = Diagnostics(
            self,
            self.resolve_topic_name('image'),
            {
                'snapshots': self._status,
                'event log': self._journal.status,
                'node': self.node_status,
            },
        )

    # Lifecycle

    def configure(self) -> None:
        """Take the limits and open the log of what is written."""
        values = self.parameters
        if not values['directory']:
            msg = 'parameter directory is empty, expected where snapshots go'
            raise ParameterError(msg)
        if unknown := set(values['warnings']) - {*WARNINGS, ''}:
            msg = (
                f'parameter warnings: {", ".join(sorted(unknown))}, expected {", ".join(WARNINGS)}'
            )
            raise ParameterError(msg)
        self._config = SnapshotConfig(
            before_s=values['before'],
            after_s=values['after'],
            interval_s=values['min_interval'],
            memory_bytes=values['memory_mib'] << 20,
            disk_bytes=values['disk_mib'] << 20,
            storage=values['storage'],
        )
        self._journal.open(values['directory'], file_mib=LOG_FILE_MIB, total_mib=LOG_TOTAL_MIB)

    def activate(self) -> None:
        """Listen."""
        directory = Path(self.parameters['directory']).expanduser()
        self._known = None
        self._snapshots = Snapshots(directory, file_stem(self), self._config)
        for kind, topic in self._topics():
            self._subscribe(kind, topic)
        # Without one, silence would leave a snapshot open.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(TICK_S, self._tick, clock=steady)
        message = f'keeping {self._config.before_s:g} s of {self.inputs[0].topic_name}'
        # Tells at once, not with the first warning, whether the disk takes anything.
        parameters = {'parameters': dict(self.parameters.values)}
        self._journal.write(Event('started', message, details=parameters))
        self.get_logger().info(f'{message}, snapshots in {directory}')

    def deactivate(self) -> None:
        """Finish what is being written."""
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None
        if self._snapshots is not None:
            if not self._snapshots.close():
                self.get_logger().error('the last snapshot was not finished: the disk is slow')
            self._tell()
            self._snapshots = None
            self._journal.write(Event('stopped', 'keeps no more', details=dict(self._counts)))

    def clean_up(self) -> None:
        """Close the log."""
        self._journal.close()

    # Input

    def _topics(self) -> list[tuple[type, str]]:
        return [
            image_topic(self, self.parameters['image_transport']),
            (CameraInfo, self.resolve_topic_name('camera_info')),
            *((Image, self.resolve_topic_name(f'segmentation/{name}')) for name in PLANES),
            (String, self.resolve_topic_name(STATE)),
        ]

    def _subscribe(self, kind: type, topic: str) -> None:
        # Best effort: whoever publishes images must not wait for a recorder.
        qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
        if kind is String:
            qos = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.inputs.append(
            self.create_subscription(
                kind,
                topic,
                self._keeper(topic, kind),
                qos,
                raw=True,
                qos_overriding_options=overridable(),
                event_callbacks=self._mismatches.subscription_events(topic),
            )
        )

    def _keeper(self, topic: str, kind: type) -> Callable[[bytes], None]:
        msgtype = f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'

        def keep(data: bytes) -> None:
            received_ns = self.get_clock().now().nanoseconds
            message = Message(topic, msgtype, data, time.monotonic_ns(), received_ns)
            self._snapshots.add(message)
            if kind is String:
                self._on_state(message)

        return keep

    def _on_state(self, message: Message) -> None:
        try:
            alarm = Alarm.of(deserialize_message(message.data, String).data)
        except (StateError, RuntimeError) as error:  # RuntimeError: bytes that are no message
            self._complaints.add(one_line(error))
            return
        known, self._known = self._known, frozenset(alarm.warnings)
        if known is None:  # what was raised before this node came has no frames here
            return
        wanted = self.parameters['warnings']
        if new := [name for name in alarm.warnings if name not in known and name in wanted]:
            self._take(alarm, new, message.steady_ns)

    def _take(self, alarm: Alarm, names: list[str], now_ns: int) -> None:
        utc = time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())
        refusal = self._snapshots.take(
            f'{utc}.{names[0]}',
            now_ns,
            lambda snapshot: self._finished.put((snapshot, alarm, names)),
        )
        if not refusal:
            self.get_logger().info(f'taking a snapshot: {shown(alarm.warnings[names[0]])}')
            return
        self._counts['refused'] += 1
        self._note(f'no snapshot of {", ".join(names)}: {refusal}', alarm, names, {'bag': None})

    # Output

    def _tick(self) -> None:
        self._snapshots.tick(time.monotonic_ns())
        self._tell()

    def _tell(self) -> None:
        while not self._finished.empty():
            self._tell_of(*self._finished.get())

    def _tell_of(self, snapshot: Snapshot, alarm: Alarm, names: list[str]) -> None:
        self._problem, self._last = snapshot.problem, snapshot.path.name
        if snapshot.problem:
            self._counts['failed'] += 1
            message = f'no snapshot of {", ".join(names)}: {snapshot.problem}'
            self.get_logger().error(message)
        else:
            self._counts['taken'] += 1
            self._counts['dropped'] += snapshot.dropped
            message = (
                f'{snapshot.path.name}: {", ".join(names)}, {snapshot.before_s:.1f} s before and '
                f'{snapshot.after_s:.1f} s after, {snapshot.bytes / 1e6:.1f} MB'
                + (f', {snapshot.dropped} messages had no room' if snapshot.dropped else '')
            )
            self.get_logger().info(f'snapshot {message}')
        details = {
            'bag': None if snapshot.problem else snapshot.path.name,
            'messages': snapshot.messages,
            'bytes': snapshot.bytes,
            'before_s': snapshot.before_s,
            'after_s': snapshot.after_s,
            'dropped': snapshot.dropped,
            'deleted': snapshot.deleted,
        }
        self._note(message, alarm, names, details)
        self.diagnostics.publish()

    def _note(
        self, message: str, alarm: Alarm, names: list[str], details: Mapping[str, object]
    ) -> None:
        frame = FrameId(alarm.stamp_ns)
        details = {'warnings': names, 'bundle': alarm.bundle, **details}
        self._journal.write(Event('snapshot', message, frame=frame, details=details))

    def _status(self) -> Status:
        if self.problem:
            return Status(diagnostics.ERROR, self.problem)
        snapshots = self._snapshots
        if snapshots is None:
            return Status(diagnostics.OK, self.state)
        ring = snapshots.ring
        values = {
            'directory': self.parameters['directory'],
            **self._counts,
            'last': self._last or 'none',
            'raised': 'unknown'
            if self._known is None
            else ', '.join(sorted(self._known)) or 'nothing',
            'held_mib': ring.bytes / 2**20,
            'rejected_states': self._complaints.count,
            'last_rejection': self._complaints.last or 'none',
        }
        if errors := [*self._mismatches.lines(), *self._complaints.recent()]:
            return Status(diagnostics.ERROR, '; '.join(errors), values)
        warnings = [
            f'nobody publishes {each.topic_name}'
            for each in self.inputs
            if each.msg_type is not CameraInfo and not self.count_publishers(each.topic_name)
        ]
        if self._problem:
            warnings.append(f'the last one failed: {self._problem}')
        if ring.is_short:
            warnings.append(
                f'memory_mib {self._config.memory_bytes >> 20} holds {ring.seconds:.1f} of '
                f'{self._config.before_s:g} s before a warning'
            )
        if warnings:
            return Status(diagnostics.WARN, '; '.join(warnings), values)
        state = 'writing' if snapshots.busy else 'waiting for a warning'
        return Status(diagnostics.OK, state, values)


def main() -> None:
    """Run the node; the console script ``recorder``."""
    exit_with(RecorderNode)


if __name__ == '__main__':
    main()
