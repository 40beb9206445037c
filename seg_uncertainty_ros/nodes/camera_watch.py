# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with what a camera sends, though each image by itself is good."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from typing import Any

from seg_uncertainty_ros.nodes import conversions
from seg_uncertainty_ros.nodes import diagnostics
from seg_uncertainty_ros.nodes.diagnostics import Complaints
from seg_uncertainty_ros.nodes.diagnostics import Rate
from seg_uncertainty_ros.nodes.diagnostics import Stamps
from seg_uncertainty_ros.nodes.diagnostics import Status
from seg_uncertainty_ros.nodes.diagnostics import Window
from seg_uncertainty_ros.structured_text import shown

if TYPE_CHECKING:
    from rclpy.event_handler import QoSMessageLostInfo
    from rclpy.node import Node
    from sensor_msgs.msg import CameraInfo
    from sensor_msgs.msg import CompressedImage
    from sensor_msgs.msg import Image

    from seg_uncertainty_ros.frames import Frame
    from seg_uncertainty_ros.nodes.qos_mismatches import QosMismatches

# It is silence when nothing came for this many usual intervals, within these bounds (s).
SILENT_INTERVALS = 5
SHORT_SILENCE_S, LONG_SILENCE_S = 0.5, 2.0
# Images that come for this long without camera_info lack it (s).
INFO_PATIENCE_S = 0.5
# Fast DDS says that so many are lost, or a sum of it that overflows, where it has lost count.
_NO_COUNT = 2**31 - 1


class CameraWatch:
    """Follows the images and the camera info of one camera; changes nothing of them."""

    def __init__(self, node: Node, mismatches: QosMismatches) -> None:
        self._node = node
        self._mismatches = mismatches
        # A function of its own: rclpy allows one severity a line of code.
        self._complaints = Complaints(lambda text: node.get_logger().warning(text))
        self._stamps = Stamps()
        self._rate = Rate()
        self._intervals = Window()
        self._lost = 0
        self._topic = self._type = ''
        self._info: CameraInfo | None = None
        self._info_problem = ''
        self._look = ''
        self._begun: float | None = None
        self._last = 0.0

    # The camera's messages, in the executor's thread

    def begin(self, topic: str, kind: type) -> None:
        """Wait for images of a message type on a topic."""
        self._topic = topic
        self._type = f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'
        self._info, self._info_problem = None, ''
        self._begun, self._last = None, time.monotonic()

    def end(self) -> None:
        """Wait no more."""
        self._stamps.pause()
        self._topic = ''

    def image(self, message: Image | CompressedImage, now: float) -> None:
        """Take an image that came at ``now`` (s, steady clock)."""
        if self._begun is None:
            self._begun = now
        else:
            self._intervals.add(now - self._last)
        self._last = now
        self._rate.add(now)
        if fault := self._stamps.add(conversions.stamp_ns(message.header.stamp)):
            self._complaints.add(fault)

    def info(self, message: CameraInfo) -> None:
        """Take a camera info."""
        self._info = message

    def lost(self, event: QoSMessageLostInfo) -> None:
        """Take the middleware's word that images were lost."""
        lost = event.total_count_change
        known = lost < _NO_COUNT
        self._lost += lost if known else 1
        self._complaints.add(
            f'images on {self._topic} lost in transport: {lost if known else "unknown number"}; '
            'does the camera driver run with FASTRTPS_DEFAULT_PROFILES_FILE set to our '
            'config/fastdds.xml?'
        )

    # An image that was decoded, in the worker's thread

    def frame(self, frame: Frame, kind: str) -> CameraInfo | None:
        """Take a frame and its encoding, or its format; return the camera info that fits it."""
        height, width = frame.image.shape[:2]
        look = f'{width}x{height} {shown(kind, 40)} of {frame.frame_id[:80]!r}'
        if self._look and look != self._look:
            self._complaints.add(f'the images changed from {self._look} to {look}')
        self._look = look
        info = self._info
        problem = '' if info is None else conversions.camera_info_problem(info, frame)
        if problem:
            self._complaints.add(f'{problem}; it is not passed on')
        self._info_problem = problem
        return None if problem else info

    # Diagnostics

    def status(self, state: str, *, info_is_wanted: bool) -> Status:
        """Return what is wrong; ``info_is_wanted``: somebody subscribes to it."""
        now = time.monotonic()
        level, message = diagnostics.OK, state
        peers = self._node.get_publishers_info_by_topic(self._topic) if self._topic else []
        if self._topic:
            level, message = self._verdict(now, peers, info_is_wanted=info_is_wanted)
        info = 'none' if self._info is None else self._info_problem or 'fits the images'
        values = {
            'topic': self._topic or 'none',
            'publishers': ', '.join(peer.node_name for peer in peers) or 'none',
            'rate_hz': self._rate.value(now),
            **self._intervals.percentiles('interval_ms'),
            'images': self._look or 'none',
            'missing_by_stamps': self._stamps.missing,
            **{f'stamps_{kind}': self._stamps.faults[kind] for kind in Stamps.FAULTS},
            'lost': self._lost,
            'camera_info': info,
        }
        return Status(level, message, values)

    def _verdict(self, now: float, peers: list[Any], *, info_is_wanted: bool) -> tuple[bytes, str]:
        mismatches = self._mismatches.lines({self._topic, self._info_topic})
        faults = [*mismatches, *self._peer_faults(peers)]
        silence = now - self._last
        if silence > self._patience_s():
            who = 'somebody publishes it' if peers else 'nobody publishes it'
            faults.append(f'no image on {self._topic} for {silence:.0f} s: {who}')
        faults += self._complaints.recent()
        if info_is_wanted and self._lacks_info(now):
            faults.append(f'camera_info: none on {self._info_topic}, though it is asked for')
        if not faults:
            return diagnostics.OK, f'{self._rate.value(now):.1f} images a second'
        return diagnostics.ERROR if mismatches else diagnostics.WARN, '; '.join(faults)

    def _lacks_info(self, now: float) -> bool:
        begun = self._begun
        return self._info is None and begun is not None and now - begun > INFO_PATIENCE_S

    def _peer_faults(self, peers: list[Any]) -> list[str]:
        faults = [
            f'{peer.node_name} sends {peer.topic_type} on {self._topic}, expected {self._type}'
            for peer in peers
            if peer.topic_type != self._type
        ]
        if len(peers) > 1:
            names = ', '.join(sorted(peer.node_name for peer in peers))
            faults.append(f'{len(peers)} publishers on {self._topic}: {names}')
        return faults

    def _patience_s(self) -> float:
        usual = self._intervals.median()
        if usual is None:
            return LONG_SILENCE_S
        return min(max(SILENT_INTERVALS * usual, SHORT_SILENCE_S), LONG_SILENCE_S)

    @property
    def _info_topic(self) -> str:
        return self._node.resolve_topic_name('camera_info')
