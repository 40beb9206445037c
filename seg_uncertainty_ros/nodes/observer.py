# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Listens to everything the nodes say: records it, and keeps what a person wants to see."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Float32
from std_msgs.msg import String

from seg_uncertainty_ros.encodings import FrameError
from seg_uncertainty_ros.monitor.assessment import parse_state
from seg_uncertainty_ros.nodes.conversions import frame_from_image
from seg_uncertainty_ros.structured_text import TextError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from seg_uncertainty_ros.recordings.bag_writer import BagWriter

TOPICS = (
    ('segmentation/mask', Image),
    ('segmentation/confidence', Image),
    ('segmentation/anomaly', Image),
    ('segmentation/embedding', Image),
    ('segmentation/dispersion', Image),
    ('segmentation/image_statistics', Image),
    ('monitor/ood_area', Float32),
    ('monitor/domain_shift', Float32),
    ('monitor/state', String),
)
OVERLAY = 'segmentation/overlay'
PENDING = 16


class Observer(Node):
    """Writes every output to a bag as it came; pairs each overlay with its assessment.

    ``on_frame(overlay, assessment)`` is called in the order of stamps with the overlay (BGR uint8
    HxWx3) and the assessment as a dictionary, None where the monitor said nothing about it.
    ``values`` holds the newest diagnostics: task ('segmentation: frames') to key to text.
    """

    def __init__(
        self,
        bag: BagWriter,
        on_frame: Callable[[NDArray[np.uint8], int, dict[str, Any] | None], None],
    ) -> None:
        super().__init__('observer')
        self.values: dict[str, dict[str, str]] = {}
        self.messages: dict[str, str] = {}
        self.assessments: list[dict[str, Any]] = []
        self._bag = bag
        self._on_frame = on_frame
        self._overlays: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._states: OrderedDict[int, dict[str, Any]] = OrderedDict()
        for topic, kind in TOPICS:
            self._subscribe(topic, kind)
        self.create_subscription(Image, OVERLAY, self._on_overlay, QoSProfile(depth=5))
        self.create_subscription(
            DiagnosticArray,
            '/diagnostics',
            self._recorder('/diagnostics', DiagnosticArray),
            10,
            raw=True,
        )

    def _subscribe(self, topic: str, kind: type) -> None:
        durability = (
            DurabilityPolicy.TRANSIENT_LOCAL if kind is String else DurabilityPolicy.VOLATILE
        )
        qos = QoSProfile(depth=10, durability=durability)
        name = self.resolve_topic_name(topic)
        self.create_subscription(kind, topic, self._recorder(name, kind), qos, raw=True)

    def _recorder(self, topic: str, kind: type) -> Callable[[bytes], None]:
        package, module, name = kind.__module__.split('.')[0], 'msg', kind.__name__
        msgtype = f'{package}/{module}/{name}'

        def record(data: bytes) -> None:
            self._bag.write_raw(topic, msgtype, data, self.get_clock().now().nanoseconds)
            if kind is String:
                self._on_state(deserialize_message(data, String).data)
            elif kind is DiagnosticArray:
                self._on_diagnostics(deserialize_message(data, DiagnosticArray))

        return record

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            self.values[status.name] = {item.key: item.value for item in status.values}
            self.messages[status.name] = status.message

    def _on_overlay(self, message: Image) -> None:
        try:
            frame = frame_from_image(message)
        except FrameError as error:
            self.get_logger().error(f'{OVERLAY}: {error}')
            return
        self._overlays[frame.stamp_ns] = frame.image
        self._pair()

    def _on_state(self, text: str) -> None:
        try:
            assessment = parse_state(text)
        except TextError as error:
            self.get_logger().error(f'monitor/state: {error}')
            return
        self.assessments.append(assessment)
        self._states[assessment['stamp_ns']] = assessment
        while len(self._states) > 4 * PENDING:
            self._states.popitem(last=False)
        self._pair()

    def _pair(self) -> None:
        """Hand on the oldest overlays that have an assessment, or wait for none any more."""
        while self._overlays:
            stamp_ns = next(iter(self._overlays))
            if stamp_ns not in self._states and len(self._overlays) <= PENDING:
                return
            self._on_frame(self._overlays.pop(stamp_ns), stamp_ns, self._states.get(stamp_ns))

    def flush(self) -> None:
        """Hand on what is left."""
        while self._overlays:
            stamp_ns, image = self._overlays.popitem(last=False)
            self._on_frame(image, stamp_ns, self._states.get(stamp_ns))
