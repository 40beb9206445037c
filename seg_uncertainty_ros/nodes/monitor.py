# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The node ``monitor``: planes in, warnings with reasons out."""

from __future__ import annotations

import json
import time
import traceback
from functools import partial
from typing import TYPE_CHECKING
from typing import Any

from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Float32
from std_msgs.msg import String
from std_srvs.srv import Trigger

from seg_uncertainty_ros.bundle import default_bundle_path
from seg_uncertainty_ros.encodings import FrameError
from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.monitor.assessment import Observation
from seg_uncertainty_ros.monitor.config import WARNINGS
from seg_uncertainty_ros.monitor.config import MonitorConfig
from seg_uncertainty_ros.monitor.config import MonitorError
from seg_uncertainty_ros.monitor.events import Event
from seg_uncertainty_ros.monitor.events import Model
from seg_uncertainty_ros.monitor.hysteresis import jumped_back
from seg_uncertainty_ros.monitor.monitor import Monitor
from seg_uncertainty_ros.monitor.narrator import Narrator
from seg_uncertainty_ros.monitor.narrator import Repeats
from seg_uncertainty_ros.nodes import conversions
from seg_uncertainty_ros.nodes import diagnostics
from seg_uncertainty_ros.nodes import journal
from seg_uncertainty_ros.nodes.diagnostics import Complaints
from seg_uncertainty_ros.nodes.diagnostics import Diagnostics
from seg_uncertainty_ros.nodes.diagnostics import Status
from seg_uncertainty_ros.nodes.exact_stamps import ExactStamps
from seg_uncertainty_ros.nodes.journal import Journal
from seg_uncertainty_ros.nodes.lifecycle import ManagedNode
from seg_uncertainty_ros.nodes.lifecycle import overridable
from seg_uncertainty_ros.nodes.parameters import Parameter
from seg_uncertainty_ros.nodes.qos_mismatches import QosMismatches
from seg_uncertainty_ros.nodes.running import exit_with
from seg_uncertainty_ros.recordings.errors import one_line
from seg_uncertainty_ros.structured_text import shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from rclpy.clock import TimeJump
    from rclpy.publisher import Publisher
    from std_msgs.msg import Header

    from seg_uncertainty_ros.bundle import Bundle
    from seg_uncertainty_ros.monitor.assessment import Assessment

try:
    from vision_msgs.msg import Detection2D
    from vision_msgs.msg import Detection2DArray
    from vision_msgs.msg import ObjectHypothesisWithPose
except ImportError:
    Detection2DArray = None

SEGMENTATION = 'segmentation'
PLANES = ('mask', 'confidence', 'anomaly', 'embedding')
DISPERSION = 'dispersion'
IMAGE_STATISTICS = 'image_statistics'
FROM_BUNDLE = -1.0
TICK_S = 0.1
CLOCK_STILL_S = 1.0

_LEVELS = {
    'OK': diagnostics.OK,
    'WARN': diagnostics.WARN,
    'ERROR': diagnostics.ERROR,
    'STALE': diagnostics.STALE,
}
_VALUES = {
    'ood_area': 'fraction of the region of interest that is anomalous',
    'low_confidence': 'mean confidence of the image; raised below',
    'domain_shift': 'distance to the reference, 1 is its bound',
    'stale_input': 'seconds without an image',
    'latency': 'seconds from the stamp until here',
}


def _warning_rows(name: str) -> tuple[Parameter, ...]:
    config = getattr(MonitorConfig(), name)
    return (
        *(
            Parameter(
                f'{name}.{edge}',
                FROM_BUNDLE if getattr(config, edge) is None else getattr(config, edge),
                f'{text}: {_VALUES[name]}'
                + ('; -1: from the bundle' if getattr(config, edge) is None else ''),
                minimum=FROM_BUNDLE if getattr(config, edge) is None else 0.0,
                maximum=1e6,
                applied='live',
            )
            for edge, text in (('enter', 'Raise at'), ('exit', 'Clear at'))
        ),
        *(
            Parameter(
                f'{name}.{hold}',
                getattr(config, f'{hold}_s'),
                f'Seconds that it has to last before the warning is {text}.',
                minimum=0.0,
                maximum=3600.0,
                applied='live',
            )
            for hold, text in (('hold_on', 'raised'), ('hold_off', 'cleared'))
        ),
        Parameter(
            f'{name}.latch',
            config.latch,
            'Keep the warning until ~/reset.',
            applied='live',
        ),
        Parameter(
            f'{name}.level',
            config.level,
            'What the warning makes of the state.',
            choices=('WARN', 'ERROR'),
            applied='live',
        ),
        Parameter(f'{name}.enabled', config.enabled, 'Judge this at all.', applied='live'),
    )


_DEFAULTS = MonitorConfig()

PARAMETERS = (
    Parameter('bundle', '', 'Directory of the model bundle; empty: the one that ships.'),
    *(row for name in WARNINGS for row in _warning_rows(name)),
    Parameter(
        'region.classes',
        list(_DEFAULTS.region.classes),
        'Classes on which unknown objects count; ground: all that the model calls so; '
        'one empty name: everywhere.',
        applied='live',
    ),
    Parameter(
        'region.polygon',
        '',
        "Where unknown objects count: 'x,y x,y x,y', 0-1 of width and height; empty: everywhere.",
        applied='live',
    ),
    Parameter(
        'region.min_area',
        _DEFAULTS.region.min_area,
        'Less than this fraction of the image is no region of interest.',
        minimum=0.0,
        maximum=1.0,
        applied='live',
    ),
    Parameter(
        'anomaly.threshold',
        _DEFAULTS.anomaly.threshold,
        'A pixel at or above this is anomalous: 0.5 is what 1 % of familiar pixels reach.',
        minimum=0.001,
        maximum=1.0,
        applied='live',
    ),
    Parameter(
        'anomaly.min_region',
        _DEFAULTS.anomaly.min_region,
        'Least size of a listed region, as a fraction of the region of interest.',
        minimum=0.0,
        maximum=1.0,
        applied='live',
    ),
    Parameter(
        'anomaly.max_regions',
        _DEFAULTS.anomaly.max_regions,
        'Most regions listed, the largest first.',
        minimum=1,
        maximum=1000,
        applied='live',
    ),
    Parameter(
        'anomaly.meta',
        _DEFAULTS.anomaly.meta,
        "Count only what the bundle's meta model takes for an object.",
        applied='live',
    ),
    Parameter(
        'anomaly.min_age',
        _DEFAULTS.anomaly.min_age_s,
        'Seconds that an object has to be in view before it counts.',
        minimum=0.0,
        maximum=60.0,
        applied='live',
    ),
    Parameter(
        'confidence_in',
        _DEFAULTS.confidence_in,
        'Where confidence is averaged.',
        choices=('image', 'region'),
        applied='live',
    ),
    Parameter(
        'jump',
        _DEFAULTS.jump_s,
        'A gap between stamps of more than these seconds is a jump of time.',
        minimum=0.1,
        maximum=86400.0,
    ),
    *journal.PARAMETERS,
)

# In MonitorConfig the names of these end in their unit.
_SECONDS = ('hold_on', 'hold_off', 'min_age', 'jump')


def config_from(values: Mapping[str, Any]) -> MonitorConfig:
    """Return the configuration that the node's parameters say; raises ``MonitorError``."""
    changes: dict[str, Any] = {}
    for row in PARAMETERS:
        name, value = row.name, values[row.name]
        if name == 'bundle' or name.startswith('event_log.'):
            continue
        if name.endswith(_SECONDS):
            name = f'{name}_s'
        elif name == 'region.classes':
            value = tuple(label for label in value if label)
        elif name == 'region.polygon':
            value = parse_polygon(value)
        elif name.endswith(('.enter', '.exit')) and value < 0.0:
            value = None
        changes[name] = value
    return MonitorConfig().with_values(changes)


def parse_polygon(text: str) -> tuple[tuple[float, float], ...]:
    """Return the points of 'x,y x,y x,y'; raises ``MonitorError``."""
    points = []
    for part in text.split():
        try:
            x, y = map(float, part.split(','))
        except ValueError as error:
            msg = f'region.polygon: {shown(repr(part), 80)}, expected x,y'
            raise MonitorError(msg) from error
        points.append((x, y))
    return tuple(points)


class ClockWatch:
    """For how long a clock has stood still, as a simulated one does when its source dies."""

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None

    def stands_still_s(self, now_ns: int, moment: float) -> float:
        """Take the clock's time at a moment (s, steady) and return for how long it is the same."""
        if self._last is None or self._last[0] != now_ns:
            self._last = (now_ns, moment)
        return moment - self._last[1]


class MonitorNode(ManagedNode):
    """Feeds ``Monitor`` with what ``segmentation`` publishes and tells what it says."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('monitor', PARAMETERS, peers=(SEGMENTATION, 'recorder'), **kwargs)
        self._bundle: Bundle | None = None
        self._monitor: Monitor | None = None
        self._narrator: Narrator | None = None
        self._repeats = Repeats()
        self._time_jumps, self._time_jump = 0, ''
        self._journal = Journal(self)
        self._assessment: Assessment | None = None
        self._timer: Any = None
        self._jumps: Any = None
        self._last_stamp_ns: int | None = None
        self._stamps = ExactStamps(PLANES, optional=(DISPERSION, IMAGE_STATISTICS))
        self._judged = self._with_probability = self._with_image = 0
        self._latency_judged = False
        self._clock_watch = ClockWatch()
        self._complaints = Complaints(self.get_logger().error)
        self._mismatches = QosMismatches(self, self.get_logger().error)
        self._ood_area = self._output(Float32, 'ood_area')
        self._domain_shift = self._output(Float32, 'domain_shift')
        self._state = self._output(String, 'state', DurabilityPolicy.TRANSIENT_LOCAL)
        self._regions = self._output(Detection2DArray, 'regions') if Detection2DArray else None
        if self._regions is None:
            self.get_logger().info(
                'vision_msgs is not installed: ~/regions is not published, ~/state has them'
            )
        self.create_service(Trigger, '~/reset', self._on_reset)
        self.diagnostics = Diagnostics(
            self,
            self.resolve_topic_name('segmentation/mask'),
            {
                'trust': self._status,
                'event log': self._journal.status,
                'node': self.node_status,
            },
        )

    # Lifecycle

    def configure(self) -> None:
        """Load the bundle and take the thresholds."""
        self._bundle = self.load_bundle(self.parameters['bundle'] or default_bundle_path())
        self._monitor = self._create_monitor(self.parameters.values)
        overridden = ', '.join(self._monitor.config.overridden) or 'none'
        self.get_logger().info(
            f'bundle {self._bundle.label} from {self._bundle.path}, '
            f'thresholds overridden by parameters: {overridden}'
        )
        if self._bundle.segments is None:
            self.get_logger().info('the bundle has no meta model: objects have no probability')
        self._narrator = Narrator(self._monitor, Model.of(self._bundle))
        self._journal.open(
            self.parameters['event_log.directory'],
            file_mib=self.parameters['event_log.file_mib'],
            total_mib=self.parameters['event_log.total_mib'],
        )

    def activate(self) -> None:
        """Listen to the planes."""
        reference = self._bundle.reference
        self._journal.write(
            self._narrator.started(
                self.parameters.values, reference.describe() if reference else 'none'
            )
        )
        self._start_anew()
        # Whoever publishes what is optional makes it for this subscription only.
        names = [*PLANES]
        if self._bundle.segments is not None:
            names.append(DISPERSION)
        if self._bundle.reference is not None:
            names.append(IMAGE_STATISTICS)
        for name in names:
            topic = f'segmentation/{name}'
            self.inputs.append(
                self.create_subscription(
                    Image,
                    topic,
                    partial(self._on_plane, name),
                    QoSProfile(depth=5),
                    qos_overriding_options=overridable(),
                    event_callbacks=self._mismatches.subscription_events(topic),
                )
            )
        self._timer = self.create_timer(TICK_S, self._tick)
        threshold = JumpThreshold(
            min_forward=Duration(seconds=self.parameters['jump']),
            min_backward=Duration(nanoseconds=-1),
            on_clock_change=True,
        )
        self._jumps = self.get_clock().create_jump_callback(
            threshold, post_callback=self._on_time_jump
        )
        self.get_logger().info(f'listening to {self.resolve_topic_name("segmentation/mask")}')

    def deactivate(self) -> None:
        """Stop to listen."""
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._tell_of_end()
        if self._jumps is not None:
            self._jumps.unregister()
        self._timer = self._jumps = None
        self._stamps.clear()

    def clean_up(self) -> None:
        """Forget the bundle and every warning."""
        self._journal.close()
        self._bundle = self._monitor = self._narrator = self._assessment = None

    def refuse(self, values: Mapping[str, Any], changed: frozenset[str]) -> str:
        """Refuse thresholds that contradict each other or the bundle."""
        if not changed:
            return ''
        try:
            if self._bundle is None:
                config_from(values)
            else:
                self._create_monitor(values)
        except SegUncertaintyError as error:
            return str(error)
        return ''

    def apply(self, values: Mapping[str, Any], changed: frozenset[str]) -> None:
        """Take new thresholds while running; warnings keep their state."""
        if self._monitor is not None:
            self._monitor.configure(config_from(values))
            changes = {name: values[name] for name in sorted(changed)}
            self._journal.write(self._narrator.reconfigured(changes))

    def _create_monitor(self, values: Mapping[str, Any]) -> Monitor:
        return Monitor.of(self._bundle, config_from(values))

    # Input

    def _on_plane(self, name: str, message: Image) -> None:
        found = self._stamps.add(name, conversions.stamp_ns(message.header.stamp), message)
        if found is None or self._monitor is None:
            return
        stamp_ns, planes = found
        try:
            assessment = self._judge(stamp_ns, planes)
        except SegUncertaintyError as error:
            self._complaints.add(f'planes rejected: {error}')
        except Exception as error:
            self._complaints.add(f'planes failed: {type(error).__name__}: {one_line(error)}')
            self.get_logger().debug(traceback.format_exc())
        else:
            self._judged += 1
            self._with_probability += DISPERSION in planes
            self._with_image += IMAGE_STATISTICS in planes
            self._tell(assessment, planes['mask'].header)

    def _judge(self, stamp_ns: int, planes: Mapping[str, Image]) -> Assessment:
        if jumped_back(self._last_stamp_ns, stamp_ns):
            back_s = (self._last_stamp_ns - stamp_ns) * 1e-9
            self._note_time_jump(f'stamps went back by {back_s:.3f} s')
            self._start_anew()
        self._last_stamp_ns = stamp_ns
        latency_s = diagnostics.plausible_latency_s((self._now_ns() - stamp_ns) * 1e-9)
        self._latency_judged = latency_s is not None

        def read(name: str, convert: Callable[[Image], Any]) -> Any:
            try:
                return convert(planes[name]) if name in planes else None
            except FrameError as error:
                msg = f'{self.resolve_topic_name(f"segmentation/{name}")}: {error}'
                raise FrameError(msg) from error

        return self._monitor.update(
            Observation(
                stamp_ns=stamp_ns,
                mask=read('mask', conversions.plane_from_image),
                confidence=read('confidence', conversions.unit_plane_from_image),
                anomaly=read('anomaly', conversions.unit_plane_from_image),
                embedding=read('embedding', conversions.embedding_from_image),
                latency_s=latency_s,
                dispersion=read(DISPERSION, conversions.dispersion_from_image),
                image_statistics=read(IMAGE_STATISTICS, conversions.image_statistics_from_image),
            )
        )

    def _tick(self) -> None:
        # A simulated clock stands at 0 until its first message.
        if self._monitor is not None and (now_ns := self._now_ns()):
            self._tell(self._monitor.tick(now_ns), None)
        steady_ns = time.monotonic_ns()
        for kind, total, text in (
            ('planes_missing', self._stamps.incomplete, 'a set of planes is incomplete'),
            ('planes_rejected', self._complaints.count, self._complaints.last),
            ('time_jumped', self._time_jumps, self._time_jump),
        ):
            self._journal.write(*self._repeats.update(kind, total, text, steady_ns))

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _on_time_jump(self, jump: TimeJump) -> None:
        text = f'time jumped by {jump.delta.nanoseconds * 1e-9:.3f} s: starting anew'
        self.get_logger().info(text)
        self._note_time_jump(text)
        self._start_anew()

    def _note_time_jump(self, text: str) -> None:
        self._time_jumps += 1
        self._time_jump = text

    def _start_anew(self) -> None:
        # The tick tells the monitor the node's time first. Stamps of a recording may be far from
        # it: silence is measured on the node's clock, holds and windows on the stamps.
        self._stamps.clear()
        self._last_stamp_ns = None
        if self._monitor is not None:
            self._monitor.jump()
            self._tick()

    def _on_reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._monitor is None:
            response.message = f'nothing to reset: the node is {self.state}'
            return response
        active = (
            [warning.name for warning in self._assessment.warnings] if self._assessment else []
        )
        self._monitor.reset()
        self._tick()
        response.success = True
        response.message = f'cleared: {", ".join(active) or "nothing was raised"}'
        return response

    # Output

    def _output(
        self,
        kind: type,
        name: str,
        durability: DurabilityPolicy = DurabilityPolicy.VOLATILE,
    ) -> Publisher:
        return self.create_lifecycle_publisher(
            kind,
            f'~/{name}',
            QoSProfile(depth=1, durability=durability),
            qos_overriding_options=overridable(),
            event_callbacks=self._mismatches.publisher_events(f'~/{name}'),
        )

    def _tell(self, assessment: Assessment, header: Header | None) -> None:
        """Publish an assessment; ``header`` is that of the planes, None after a tick."""
        before, self._assessment = self._assessment, assessment
        for transition in assessment.transitions:
            if transition.raised:
                self.get_logger().warning(f'raised: {transition.message}')
            else:
                self.get_logger().info(transition.message)
        changed = (
            bool(assessment.transitions) or before is None or before.state != assessment.state
        )
        if header is not None:
            self._publish_number(self._ood_area, assessment.ood_area)
            self._publish_number(self._domain_shift, assessment.domain_shift)
            self._publish_regions(assessment, header)
        if header is not None or changed:
            self._state.publish(String(data=json.dumps(assessment.to_dict())))
        if changed:
            self.diagnostics.publish()
        if self._journal.is_open:
            self._journal.write(
                *self._narrator.tell(
                    assessment,
                    None if header is None else header.frame_id,
                    lambda: self._listeners(after_frame=header is not None),
                )
            )

    def _listeners(self, *, after_frame: bool) -> dict[str, int]:
        """Return the topics that told of a change, with their subscribers."""
        found = {
            self._state.topic_name: self._state.get_subscription_count(),
            '/diagnostics': self.count_subscribers('/diagnostics'),
        }
        # The others are published while somebody listens, and after images only.
        for publisher in (self._ood_area, self._domain_shift, self._regions):
            if after_frame and publisher is not None and publisher.get_subscription_count():
                found[publisher.topic_name] = publisher.get_subscription_count()
        return found

    def _tell_of_end(self) -> None:
        active = self._assessment.warnings if self._assessment else ()
        names = ', '.join(warning.name for warning in active)
        self._journal.write(
            Event(
                'stopped',
                f'judges no longer; raised: {names or "nothing"}',
                details={
                    'judged': self._judged,
                    'incomplete': self._stamps.incomplete,
                    'rejected': self._complaints.count,
                },
            )
        )

    def _publish_number(self, publisher: Publisher, value: float | None) -> None:
        if value is not None and publisher.get_subscription_count():
            publisher.publish(Float32(data=float(value)))

    def _publish_regions(self, assessment: Assessment, header: Header) -> None:
        if self._regions is None or not self._regions.get_subscription_count():
            return
        message = Detection2DArray(header=header)
        for region in assessment.regions:
            detection = Detection2D(header=header)
            box = region.box
            detection.bbox.center.position.x = box.x + (box.width - 1) / 2
            detection.bbox.center.position.y = box.y + (box.height - 1) / 2
            detection.bbox.size_x = float(box.width)
            detection.bbox.size_y = float(box.height)
            hypothesis = ObjectHypothesisWithPose()
            detection.id = str(region.track)
            hypothesis.hypothesis.class_id = 'unknown'
            sure = region.anomaly if region.probability is None else region.probability
            hypothesis.hypothesis.score = float(sure)
            detection.results.append(hypothesis)
            message.detections.append(detection)
        self._regions.publish(message)

    # Diagnostics

    def _status(self) -> Status:
        level, message = self._verdict()
        assessment = self._assessment
        values: dict[str, Any] = {
            'state': self.state,
            'judged': self._judged,
            'judged_with_dispersion': self._with_probability,
            'judged_with_image_statistics': self._with_image,
            'incomplete': self._stamps.incomplete,
            'rejected': self._complaints.count,
            'last_rejection': self._complaints.last or 'none',
        }
        if self._bundle is not None:
            values['bundle'] = self._bundle.label
            reference = self._bundle.reference
            values['reference'] = reference.describe() if reference else 'none'
        if assessment is not None:
            values |= {
                'thresholds_overridden': ', '.join(assessment.overridden) or 'none',
                'trust': assessment.state,
                'ood_area': _number(assessment.ood_area),
                'mean_confidence': _number(assessment.mean_confidence),
                'domain_shift': _number(assessment.domain_shift),
                'shift_evidence': _number(assessment.shift_evidence),
                'moved': ', '.join(assessment.moved) or 'nothing',
                'nearest_domain': assessment.nearest_domain,
                'latency_s': _number(assessment.latency_s),
                'latency_judged': self._latency_judged or 'no: stamps are from another clock',
                'regions': len(assessment.regions),
                'dismissed': assessment.dismissed,
                'notes': '; '.join(assessment.notes) or 'none',
            }
            values |= {
                f'warning.{warning.name}': warning.message for warning in assessment.warnings
            }
        return Status(level, message, values)

    def _verdict(self) -> tuple[bytes, str]:
        if self.problem:
            return diagnostics.ERROR, self.problem
        if self.state not in ('active', 'activating'):
            return diagnostics.OK, self.state
        now_ns = self._now_ns()
        if (still_s := self._clock_watch.stands_still_s(now_ns, time.monotonic())) > CLOCK_STILL_S:
            # Then the tick does not come either, and silence is not noticed.
            return diagnostics.STALE, (
                f'the clock stands still at {now_ns * 1e-9:.3f} s for {still_s:.1f} s: '
                'is /clock published?'
            )
        if self._assessment is None:
            return diagnostics.STALE, 'no time yet: is /clock published?'
        faults = [*self._mismatches.lines(), *self._complaints.recent()]
        if faults:
            return diagnostics.ERROR, '; '.join(faults)
        message = self._assessment.message
        if self._assessment.state == 'STALE':
            message += f'; {SEGMENTATION}: {self.peers.describe()[SEGMENTATION]}'
        return _LEVELS[self._assessment.state], message


def _number(value: float | None) -> str:
    return 'unknown' if value is None else f'{value:.4g}'


def main() -> None:
    """Run the node; the console script ``monitor``."""
    exit_with(MonitorNode)


if __name__ == '__main__':
    main()
