# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The node ``segmentation``: camera images in, class, confidence and anomaly planes out."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CameraInfo
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image

from seg_uncertainty_ros.bundle import default_bundle_path
from seg_uncertainty_ros.drawing import color_mask
from seg_uncertainty_ros.drawing import overlay
from seg_uncertainty_ros.drawing import palette_lut
from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.nodes import conversions
from seg_uncertainty_ros.nodes import diagnostics
from seg_uncertainty_ros.nodes.camera_watch import CameraWatch
from seg_uncertainty_ros.nodes.diagnostics import Complaints
from seg_uncertainty_ros.nodes.diagnostics import Diagnostics
from seg_uncertainty_ros.nodes.diagnostics import Rate
from seg_uncertainty_ros.nodes.diagnostics import Status
from seg_uncertainty_ros.nodes.diagnostics import Window
from seg_uncertainty_ros.nodes.image_topic import IMAGE_TRANSPORT
from seg_uncertainty_ros.nodes.image_topic import image_topic
from seg_uncertainty_ros.nodes.lifecycle import ManagedNode
from seg_uncertainty_ros.nodes.lifecycle import overridable
from seg_uncertainty_ros.nodes.parameters import Parameter
from seg_uncertainty_ros.nodes.qos_mismatches import QosMismatches
from seg_uncertainty_ros.nodes.running import exit_with
from seg_uncertainty_ros.nodes.worker import NewestWins
from seg_uncertainty_ros.pipeline import Pipeline
from seg_uncertainty_ros.recordings.errors import one_line
from seg_uncertainty_ros.runtime.selection import AUTO
from seg_uncertainty_ros.runtime.selection import BACKENDS
from seg_uncertainty_ros.runtime.sharing import Runtimes

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from rclpy.publisher import Publisher

    from seg_uncertainty_ros.frames import Frame
    from seg_uncertainty_ros.pipeline import Result
    from seg_uncertainty_ros.runtime.selection import Selection

try:
    from vision_msgs.msg import LabelInfo
    from vision_msgs.msg import VisionClass
except ImportError:
    LabelInfo = None

PARAMETERS = (
    Parameter('bundle', '', 'Directory of the model bundle; empty: the one that ships.'),
    Parameter(
        'backend',
        'auto',
        f'What runs the graph; auto: the first that can of {", ".join(AUTO)}.',
        choices=BACKENDS,
    ),
    Parameter(
        'precision',
        'fp16',
        "Of TensorRT's engine; int8 needs one built by seg-uncertainty build-engine.",
        choices=('fp16', 'fp32', 'int8'),
    ),
    Parameter(
        'engines', '', "Folder of TensorRT's engines; empty: ~/.cache/seg_uncertainty/engines."
    ),
    Parameter(
        'threads', 0, 'Threads of the runtime; 0: one a physical core.', minimum=0, maximum=256
    ),
    Parameter(
        'anomaly_score',
        '',
        "Score that feeds the anomaly plane; empty: the bundle's default.",
        applied='live',
    ),
    Parameter(
        'plane_size',
        'camera',
        "Size of the planes: the camera's, or the network's to save bandwidth.",
        choices=('camera', 'network'),
    ),
    Parameter(
        'anomaly_encoding',
        'mono8',
        'Encoding of the anomaly plane: mono8 is 0-255, 32FC1 is 0-1.',
        choices=('mono8', '32FC1'),
        applied='live',
    ),
    IMAGE_TRANSPORT,
)

# What an image topic shows of a frame, its result and the palette; None: the result lacks it.
CONTENTS: Mapping[str, Callable[[Frame, Result, NDArray[np.uint8]], Any]] = {
    'mask': lambda _frame, result, _palette: result.mask,
    'confidence': lambda _frame, result, _palette: result.confidence,
    'anomaly': lambda _frame, result, _palette: (
        result.anomaly if result.exact_anomaly is None else result.exact_anomaly
    ),
    'embedding': lambda _frame, result, _palette: result.embedding,
    'dispersion': lambda _frame, result, _palette: result.dispersion,
    'image_statistics': lambda _frame, result, _palette: result.image_statistics,
    'overlay': lambda frame, result, palette: overlay(
        frame.image, result.mask, result.anomaly, palette
    ),
    'color_mask': lambda _frame, result, palette: color_mask(result.mask, palette),
}
# How it becomes an image, where it is none.
ROWS = {
    'embedding': conversions.embedding_message,
    'image_statistics': conversions.image_statistics_message,
}

# A reliable subscriber that has acknowledged nothing for this long hangs (s).
HANGS_S = 0.5


@dataclass(frozen=True)
class Arrival:
    """An image message and when it came, on the steady clock (s)."""

    message: Image | CompressedImage
    moment: float


class SegmentationNode(ManagedNode):
    """Runs every image through the pipeline and publishes what somebody subscribes to.

    ``runtimes``: shared with the nodes of other cameras in this process.
    """

    def __init__(self, *, runtimes: Runtimes | None = None, **kwargs: Any) -> None:
        super().__init__('segmentation', PARAMETERS, peers=('monitor',), **kwargs)
        self._runtimes = runtimes or Runtimes()
        self._pipeline: Pipeline | None = None
        self._runtime: Selection | None = None
        self._palette = palette_lut(())
        self._mismatches = QosMismatches(self, self.get_logger().error)
        self._camera = CameraWatch(self, self._mismatches)
        self._topic = ''
        self._worker: NewestWins[Arrival] = NewestWins(self._work, self._runtimes.turns)
        self._outputs = {name: self._create_output(name, Image) for name in CONTENTS}
        self._outputs['camera_info'] = self._create_output('camera_info', CameraInfo)
        self._messages: dict[str, Image] = {}
        self._label_publisher = self._create_label_publisher()
        self._rejections = Complaints(self.get_logger().error)
        self._published: Counter[str] = Counter()
        self._acknowledged: dict[str, float] = {}
        self._rate = Rate()
        self._drop_rate = Rate()
        self._latency = Window()
        self._processing = Window()
        self._inference = Window()
        self._latency_judged = True
        self._best_backend: int | None = None
        self.diagnostics = Diagnostics(
            self,
            self.resolve_topic_name('image'),
            {
                'input': self._input_status,
                'frames': self._frames_status,
                'outputs': self._outputs_status,
                'runtime': self._runtime_status,
                'node': self.node_status,
            },
        )

    # Lifecycle

    def configure(self) -> None:
        """Load the bundle and the graph."""
        path = self.parameters['bundle'] or default_bundle_path()
        bundle = self.load_bundle(path)
        engines = self.parameters['engines']
        self._runtime = self._runtimes.open(
            bundle,
            self.parameters['backend'],
            threads=self.parameters['threads'],
            precision=self.parameters['precision'],
            engines=Path(engines) if engines else None,
            background=True,
            say=self.get_logger().info,
        )
        self._pipeline = Pipeline(
            bundle,
            score=self.parameters['anomaly_score'] or None,
            plane_size=self.parameters['plane_size'],
            runtime=self._runtime,
        )
        self._palette = palette_lut(bundle.classes)
        self.get_logger().info(
            f'bundle {bundle.label} from {bundle.path}, '
            f'anomaly score {self._pipeline.anomaly_score}'
        )

    def activate(self) -> None:
        """Publish the labels and listen to the camera."""
        self._publish_labels()
        self._worker.start('inference')
        kind, topic = image_topic(self, self.parameters['image_transport'])
        self.inputs.append(
            self._subscribe(kind, topic, self._on_image, message_lost=self._camera.lost)
        )
        self._topic = self.inputs[0].topic_name
        self._camera.begin(self._topic, kind)
        self.inputs.append(self._subscribe(CameraInfo, 'camera_info', self._camera.info))
        self.get_logger().info(f'listening to {self._topic}')

    def deactivate(self) -> None:
        """Stop to listen; the image in work is finished."""
        self._camera.end()
        self._worker.stop()

    def clean_up(self) -> None:
        """Drop the graph, and the engine that is being built."""
        self._pipeline = None
        self._messages.clear()
        self._best_backend = None
        if self._runtime is not None:
            self._runtimes.release(self._runtime)
            self._runtime = None

    def refuse(self, values: Mapping[str, Any], changed: frozenset[str]) -> str:
        """Refuse a score that the bundle does not have."""
        score = values['anomaly_score']
        if 'anomaly_score' not in changed or not score or self._pipeline is None:
            return ''
        names = [info.name for info in self._pipeline.bundle.scores]
        if score in names:
            return ''
        return f'anomaly_score is {score!r}, expected one of: {", ".join(names)}'

    def apply(self, values: Mapping[str, Any], changed: frozenset[str]) -> None:
        """Change the score while running."""
        if self._pipeline is not None and 'anomaly_score' in changed:
            score = values['anomaly_score'] or self._pipeline.bundle.default_score
            self._pipeline.anomaly_score = score
            self.get_logger().info(f'anomaly score is {score} from the next image on')

    # Input

    def _subscribe(
        self, kind: type, topic: str, callback: Callable[[Any], None], **events: Any
    ) -> Any:
        # Depth: what the executor has not fetched yet. A longer queue makes no lag, since the
        # callback only fills the slot, but what it overwrites would be missing in the counts.
        return self.create_subscription(
            kind,
            topic,
            callback,
            QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT),
            qos_overriding_options=overridable(),
            event_callbacks=self._mismatches.subscription_events(topic, **events),
        )

    def _on_image(self, message: Image | CompressedImage) -> None:
        now = time.monotonic()
        self._camera.image(message, now)
        dropped = self._worker.counts.dropped
        self._worker.put(Arrival(message, now))
        if self._worker.counts.dropped > dropped:
            self._drop_rate.add(now)

    # One image, in the worker's thread

    def _work(self, arrival: Arrival) -> bool:
        try:
            self._process(arrival)
        except SegUncertaintyError as error:
            self._reject(f'rejected: {error}')
        except Exception as error:
            if not self.context.ok():
                return False
            self._reject(f'failed: {type(error).__name__}: {one_line(error)}')
            self.get_logger().debug(traceback.format_exc())
        else:
            return True
        return False

    def _reject(self, what: str) -> None:
        self._rejections.add(f'image on {self._topic} {what}')

    def _process(self, arrival: Arrival) -> None:
        message = arrival.message
        if isinstance(message, CompressedImage):
            frame, kind = conversions.frame_from_compressed(message), message.format
        else:
            frame, kind = conversions.frame_from_image(message), message.encoding
        info = self._camera.frame(frame, kind)
        exact = self.parameters['anomaly_encoding'] == '32FC1'
        result = self._pipeline.process(frame, exact_anomaly=exact)
        for name, content in CONTENTS.items():
            value = content(frame, result, self._palette) if self._is_wanted(name) else None
            if value is not None:
                make = ROWS.get(name, conversions.image_message)
                filled = make(value, message.header, self._messages.get(name))
                self._messages[name] = filled
                self._publish(name, filled)
        if info is not None and self._is_wanted('camera_info'):
            scaled = conversions.scaled_camera_info(info, message.header, *result.mask.shape)
            self._publish('camera_info', scaled)
        now = time.monotonic()
        self._rate.add(now)
        self._processing.add(now - arrival.moment)
        self._inference.add(result.timings.infer_s)
        latency_s = diagnostics.plausible_latency_s(
            (self.get_clock().now().nanoseconds - frame.stamp_ns) * 1e-9
        )
        self._latency_judged = latency_s is not None
        if latency_s is not None:
            self._latency.add(latency_s)

    # Output

    def _create_output(self, name: str, kind: type) -> Publisher:
        # Reliable with depth 1 serves reliable and best-effort subscribers, and nothing queues.
        return self.create_lifecycle_publisher(
            kind,
            f'~/{name}',
            QoSProfile(depth=1),
            qos_overriding_options=overridable(),
            event_callbacks=self._mismatches.publisher_events(f'~/{name}'),
        )

    def _is_wanted(self, name: str) -> bool:
        return self._outputs[name].get_subscription_count() > 0

    def _publish(self, name: str, message: Image | CameraInfo) -> None:
        self._outputs[name].publish(message)
        self._published[name] += 1

    def _create_label_publisher(self) -> Publisher | None:
        if LabelInfo is None:
            self.get_logger().info('vision_msgs is not installed: ~/label_info is not published')
            return None
        return self.create_lifecycle_publisher(
            LabelInfo,
            '~/label_info',
            QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL),
            qos_overriding_options=overridable(),
        )

    def _publish_labels(self) -> None:
        if self._label_publisher is None:
            return
        message = LabelInfo()
        message.header.stamp = self.get_clock().now().to_msg()
        message.class_map = [
            VisionClass(class_id=index, class_name=info.name)
            for index, info in enumerate(self._pipeline.bundle.classes)
        ]
        self._label_publisher.publish(message)

    # Diagnostics

    def _input_status(self) -> Status:
        return self._camera.status(self.state, info_is_wanted=self._is_wanted('camera_info'))

    def _frames_status(self) -> Status:
        now = time.monotonic()
        counts = self._worker.counts
        rate = self._rate.value(now)
        values = {
            'state': self.state,
            'rate_hz': rate,
            **self._latency.percentiles('latency_stamp_to_planes_ms'),
            'latency_judged': self._latency_judged or 'no: stamps are from another clock',
            **self._processing.percentiles('latency_arrival_to_planes_ms'),
            **self._inference.percentiles('inference_ms'),
            'received': counts.received,
            'processed': counts.processed,
            'dropped': counts.dropped,
            'rejected': counts.rejected,
            'in_flight': counts.in_flight,
            'last_rejection': self._rejections.last or 'none',
        }
        if (pipeline := self._pipeline) is not None:
            values['bundle'] = pipeline.bundle.label
            values['anomaly_score'] = pipeline.anomaly_score
        if self.problem:
            return Status(diagnostics.ERROR, self.problem, values)
        if self.state != 'active':
            return Status(diagnostics.OK, self.state, values)
        if rejections := self._rejections.recent():
            return Status(diagnostics.ERROR, '; '.join(rejections), values)
        message = f'{rate:.1f} images a second'
        if dropped := self._drop_rate.value(now):
            message += (
                f', {dropped:.1f} a second are dropped: the camera is faster than the network'
            )
        return Status(diagnostics.OK, message, values)

    def _outputs_status(self) -> Status:
        publishers = self._outputs
        values = {f'published_{name}': self._published[name] for name in publishers}
        values['label_info'] = 'published' if LabelInfo else 'vision_msgs is not installed'
        mismatches = self._mismatches.lines({each.topic_name for each in publishers.values()})
        hanging = [name for name, each in publishers.items() if self._hangs(name, each)]
        if mismatches:
            return Status(diagnostics.ERROR, '; '.join(mismatches), values)
        if hanging:
            names = ', '.join(f'~/{name}' for name in hanging)
            return Status(diagnostics.WARN, f'a subscriber does not take {names}', values)
        subscribed = filter(self._is_wanted, publishers)
        return Status(diagnostics.OK, f'subscribed: {", ".join(subscribed) or "none"}', values)

    def _hangs(self, name: str, publisher: Publisher) -> bool:
        """Tell whether a reliable subscriber has acknowledged nothing for ``HANGS_S``."""
        now = time.monotonic()
        if publisher.wait_for_all_acked(Duration(nanoseconds=0)):
            self._acknowledged[name] = now
        return now - self._acknowledged.setdefault(name, now) > HANGS_S

    def _runtime_status(self) -> Status:
        runtime = self._runtime
        if runtime is None:
            return Status(diagnostics.OK, self.state)
        reasons = dict(runtime.reasons)
        progress = runtime.progress
        values = {
            'backend': runtime.name,
            'engine': progress or 'none is being built',
            **{f'why_not_{name}': reason for name, reason in reasons.items()},
        }
        rank = BACKENDS.index(runtime.name)
        best = self._best_backend = min(
            rank, rank if self._best_backend is None else self._best_backend
        )
        message = ', '.join(filter(None, (runtime.name, progress)))
        if rank > best:
            lost = BACKENDS[best]
            message += f' in place of {lost}: {reasons.get(lost, "it failed")}'
            return Status(diagnostics.WARN, message, values)
        return Status(diagnostics.OK, message, values)


def main() -> None:
    """Run the node; the console script ``segmentation``."""
    exit_with(SegmentationNode)


if __name__ == '__main__':
    main()
