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

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.event_handler import UnsupportedEventTypeError
from rclpy.qos import DurabilityPolicy
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CameraInfo
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import default_bundle_path
from seg_uncertainty_ros.drawing import color_mask
from seg_uncertainty_ros.drawing import overlay
from seg_uncertainty_ros.drawing import palette_lut
from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.nodes import conversions
from seg_uncertainty_ros.nodes import diagnostics
from seg_uncertainty_ros.nodes.diagnostics import Complaints
from seg_uncertainty_ros.nodes.diagnostics import Diagnostics
from seg_uncertainty_ros.nodes.diagnostics import Rate
from seg_uncertainty_ros.nodes.diagnostics import StampGaps
from seg_uncertainty_ros.nodes.diagnostics import Status
from seg_uncertainty_ros.nodes.diagnostics import Window
from seg_uncertainty_ros.nodes.lifecycle import ManagedNode
from seg_uncertainty_ros.nodes.lifecycle import overridable
from seg_uncertainty_ros.nodes.parameters import Parameter
from seg_uncertainty_ros.nodes.running import exit_with
from seg_uncertainty_ros.nodes.worker import NewestWins
from seg_uncertainty_ros.pipeline import Pipeline
from seg_uncertainty_ros.runtime.selection import AUTO
from seg_uncertainty_ros.runtime.selection import BACKENDS
from seg_uncertainty_ros.runtime.sharing import Runtimes

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from rclpy.event_handler import QoSMessageLostInfo
    from rclpy.publisher import Publisher
    from std_msgs.msg import Header

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
    Parameter(
        'image_transport',
        'raw',
        'raw: sensor_msgs/Image on image; compressed: CompressedImage on image/compressed.',
        choices=('raw', 'compressed'),
    ),
)

# Outputs that a result may lack, under the names of its fields.
OPTIONAL = ('dispersion', 'image_statistics')

# Without an image for this long the diagnostics warn (s).
SILENCE_S = 2.0


@dataclass(frozen=True)
class Arrival:
    """An image message and when it came, on the steady clock (s)."""

    message: Image | CompressedImage
    moment: float


@dataclass(frozen=True)
class Output:
    """An image topic: its publisher and how its message is made when somebody listens."""

    publisher: Publisher
    make: Callable[[Frame, Result, Header], Any]


class SegmentationNode(ManagedNode):
    """Runs every image through the pipeline and publishes what somebody subscribes to.

    ``runtimes``: shared with the nodes of other cameras in this process.
    """

    def __init__(self, *, runtimes: Runtimes | None = None, **kwargs: Any) -> None:
        super().__init__('segmentation', PARAMETERS, **kwargs)
        self._runtimes = runtimes or Runtimes()
        self._pipeline: Pipeline | None = None
        self._runtime: Selection | None = None
        self._palette = palette_lut(())
        self._camera_info: CameraInfo | None = None
        self._inputs: list[Any] = []
        self._worker: NewestWins[Arrival] = NewestWins(self._work, self._runtimes.turns)
        self._outputs = {
            name: Output(self._plane_publisher(name), make)
            for name, make in (
                ('mask', self._make_mask),
                ('confidence', self._make_confidence),
                ('anomaly', self._make_anomaly),
                ('embedding', self._make_embedding),
                ('dispersion', self._make_dispersion),
                ('image_statistics', self._make_image_statistics),
                ('overlay', self._make_overlay),
                ('color_mask', self._make_color_mask),
            )
        }
        self._camera_info_publisher = self._plane_publisher('camera_info', CameraInfo)
        self._label_publisher = self._create_label_publisher()
        self._complaints = Complaints(self.get_logger().error)
        self._published: Counter[str] = Counter()
        self._gaps = StampGaps()
        self._lost = 0
        self._last_arrival = time.monotonic()
        self._rate = Rate()
        self._latency = Window()
        self._processing = Window()
        self._inference = Window()
        self._reported = (0, 0)
        self.diagnostics = Diagnostics(
            self, self.resolve_topic_name('image'), {'frames': self._status}
        )

    # Lifecycle

    def configure(self) -> None:
        """Load the bundle and the graph."""
        path = self.parameters['bundle'] or default_bundle_path()
        bundle = Bundle.load(path)
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
            f'bundle {bundle.name} {bundle.version} ({bundle.digest[:12]}) from {bundle.path}, '
            f'anomaly score {self._pipeline.anomaly_score}'
        )

    def activate(self) -> None:
        """Publish the labels and listen to the camera."""
        self._publish_labels()
        self._camera_info = None
        self._last_arrival = time.monotonic()
        self._worker.start('inference')
        topic = self.resolve_topic_name('image')
        kind: type = Image
        if self.parameters['image_transport'] == 'compressed':
            kind = CompressedImage
            # The convention of image_transport: the transport's name behind the base topic.
            topic = f'{topic.removesuffix("/compressed")}/compressed'
        self._inputs.append(self._subscribe(kind, topic, self._on_image, self._on_lost))
        self._inputs.append(self._subscribe(CameraInfo, 'camera_info', self._on_camera_info))
        self.get_logger().info(f'listening to {self._inputs[0].topic_name}')

    def deactivate(self) -> None:
        """Stop to listen; the image in work is finished."""
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        self._gaps.pause()
        self._worker.stop()

    def clean_up(self) -> None:
        """Drop the graph, and the engine that is being built."""
        self._pipeline = None
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
        self,
        kind: type,
        topic: str,
        callback: Callable[[Any], None],
        on_lost: Callable[[QoSMessageLostInfo], None] | None = None,
    ) -> Any:
        # Depth: what the executor has not fetched yet. A longer queue makes no lag, since the
        # callback only fills the slot, but what it overwrites would be missing in the counts.
        options = {
            'qos_profile': QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT),
            'qos_overriding_options': overridable(),
        }
        try:
            return self.create_subscription(
                kind,
                topic,
                callback,
                event_callbacks=SubscriptionEventCallbacks(message_lost=on_lost),
                **options,
            )
        except UnsupportedEventTypeError:
            return self.create_subscription(kind, topic, callback, **options)

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._last_arrival = time.monotonic()
        self._gaps.add(conversions.stamp_ns(message.header.stamp))
        self._worker.put(Arrival(message, self._last_arrival))

    def _on_camera_info(self, message: CameraInfo) -> None:
        if message.width and message.height:
            self._camera_info = message
        else:
            self._complaints.add(
                f'camera_info: size {message.width} x {message.height}, it is not passed on'
            )

    def _on_lost(self, info: QoSMessageLostInfo) -> None:
        self._lost += info.total_count_change

    # One image, in the worker's thread

    def _work(self, arrival: Arrival) -> bool:
        try:
            self._process(arrival)
        except SegUncertaintyError as error:
            topic = self.resolve_topic_name('image')
            self._complaints.add(f'image on {topic} rejected: {error}')
        except Exception as error:
            if not self.context.ok():
                return False
            self._complaints.add(f'image failed: {type(error).__name__}: {error}')
            self.get_logger().debug(traceback.format_exc())
        else:
            return True
        return False

    def _process(self, arrival: Arrival) -> None:
        message = arrival.message
        if isinstance(message, CompressedImage):
            frame = conversions.frame_from_compressed(message)
        else:
            frame = conversions.frame_from_image(message)
        result = self._pipeline.process(frame)
        for name, output in self._outputs.items():
            if name in OPTIONAL and getattr(result, name) is None:
                continue
            if output.publisher.get_subscription_count():
                output.publisher.publish(output.make(frame, result, message.header))
                self._published[name] += 1
        self._publish_camera_info(result, message.header)
        now = time.monotonic()
        self._rate.add(now)
        self._processing.add(now - arrival.moment)
        self._inference.add(result.timings.infer_s)
        latency = self.get_clock().now().nanoseconds * 1e-9 - frame.stamp_ns * 1e-9
        if 0.0 <= latency <= diagnostics.PLAUSIBLE_LATENCY_S:
            self._latency.add(latency)

    def _publish_camera_info(self, result: Result, header: Header) -> None:
        if self._camera_info is None or not self._camera_info_publisher.get_subscription_count():
            return
        info = conversions.scaled_camera_info(self._camera_info, header, *result.mask.shape)
        self._camera_info_publisher.publish(info)
        self._published['camera_info'] += 1

    # Output

    def _plane_publisher(self, name: str, kind: type = Image) -> Publisher:
        # Reliable with depth 1 serves reliable and best-effort subscribers, and nothing queues.
        return self.create_lifecycle_publisher(
            kind, f'~/{name}', QoSProfile(depth=1), qos_overriding_options=overridable()
        )

    def _make_mask(self, _frame: Frame, result: Result, header: Header) -> Image:
        return conversions.image_message(result.mask, header)

    def _make_confidence(self, _frame: Frame, result: Result, header: Header) -> Image:
        return conversions.image_message(result.confidence, header)

    def _make_anomaly(self, _frame: Frame, result: Result, header: Header) -> Image:
        if self.parameters['anomaly_encoding'] == '32FC1':
            return conversions.image_message(conversions.unit_floats(result.anomaly), header)
        return conversions.image_message(result.anomaly, header)

    def _make_embedding(self, _frame: Frame, result: Result, header: Header) -> Image:
        return conversions.embedding_message(result.embedding, header)

    def _make_dispersion(self, _frame: Frame, result: Result, header: Header) -> Image:
        return conversions.image_message(result.dispersion, header)

    def _make_image_statistics(self, _frame: Frame, result: Result, header: Header) -> Image:
        return conversions.image_statistics_message(result.image_statistics, header)

    def _make_overlay(self, frame: Frame, result: Result, header: Header) -> Image:
        return conversions.image_message(
            overlay(frame.image, result.mask, result.anomaly, self._palette), header
        )

    def _make_color_mask(self, _frame: Frame, result: Result, header: Header) -> Image:
        return conversions.image_message(color_mask(result.mask, self._palette), header)

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

    def _status(self) -> Status:
        level, message = self._verdict()
        counts = self._worker.counts
        values = {
            'state': self.state,
            'rate_hz': self._rate.value(time.monotonic()),
            **self._latency.percentiles('latency_stamp_to_planes_ms'),
            **self._processing.percentiles('latency_arrival_to_planes_ms'),
            **self._inference.percentiles('inference_ms'),
            'received': counts.received,
            'processed': counts.processed,
            'dropped': counts.dropped,
            'rejected': counts.rejected,
            'in_flight': counts.in_flight,
            'lost': self._lost,
            'missing_by_stamps': self._gaps.missing,
            'last_rejection': self._complaints.last or 'none',
            'label_info': 'published' if LabelInfo else 'vision_msgs is not installed',
        }
        if (pipeline := self._pipeline) is not None:
            bundle = pipeline.bundle
            values['bundle'] = bundle.label
            values['anomaly_score'] = pipeline.anomaly_score
        if (runtime := self._runtime) is not None:
            values['backend'] = runtime.name
            values['engine'] = runtime.progress or 'none is being built'
            for name, reason in list(runtime.reasons.items()):
                values[f'why_not_{name}'] = reason
        for name in (*self._outputs, 'camera_info'):
            values[f'published_{name}'] = self._published[name]
        return Status(level, message, values)

    def _verdict(self) -> tuple[bytes, str]:
        if self.problem:
            return diagnostics.ERROR, self.problem
        if self.state != 'active':
            return diagnostics.OK, self.state
        new = (self._complaints.count, self._lost)
        rejected, lost = (now - before for now, before in zip(new, self._reported, strict=True))
        self._reported = new
        if rejected:
            return diagnostics.ERROR, self._complaints.last
        topic = self._inputs[0].topic_name if self._inputs else 'image'
        if (silence := time.monotonic() - self._last_arrival) > SILENCE_S:
            return diagnostics.WARN, f'no image on {topic} for {silence:.1f} s'
        if lost:
            return diagnostics.WARN, (
                f'{lost} images on {topic} lost in transport: does the camera driver run with '
                'FASTRTPS_DEFAULT_PROFILES_FILE set to our config/fastdds.xml?'
            )
        message = f'{self._rate.value(time.monotonic()):.1f} images a second'
        if self._runtime is not None and (progress := self._runtime.progress):
            message += f', {progress}'
        return diagnostics.OK, message


def main() -> None:
    """Run the node; the console script ``segmentation``."""
    exit_with(SegmentationNode)


if __name__ == '__main__':
    main()
