# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The node ``replay``: a recording on a topic, with its own stamps and at its own pace."""

from __future__ import annotations

import time
import traceback
from threading import Event
from threading import Thread
from typing import TYPE_CHECKING
from typing import Any

import cv2
from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.nodes import conversions
from seg_uncertainty_ros.nodes import diagnostics
from seg_uncertainty_ros.nodes.diagnostics import Complaints
from seg_uncertainty_ros.nodes.diagnostics import Diagnostics
from seg_uncertainty_ros.nodes.diagnostics import Rate
from seg_uncertainty_ros.nodes.diagnostics import Status
from seg_uncertainty_ros.nodes.image_topic import image_topic
from seg_uncertainty_ros.nodes.lifecycle import naming_the_topic
from seg_uncertainty_ros.nodes.lifecycle import overridable
from seg_uncertainty_ros.nodes.parameters import Parameter
from seg_uncertainty_ros.nodes.parameters import ParameterError
from seg_uncertainty_ros.nodes.parameters import Parameters
from seg_uncertainty_ros.nodes.running import exit_with
from seg_uncertainty_ros.recordings import open_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping

    from seg_uncertainty_ros.frames import Frame

PARAMETERS = (
    Parameter(
        'source',
        '',
        'Bag, video, folder of images or procedural:... to play.',
        applied='start',
    ),
    Parameter(
        'topic',
        '',
        "The bag's image topic; empty where it has only one.",
        applied='start',
    ),
    Parameter(
        'rate',
        1.0,
        'Pace, times that of the recording.',
        minimum=0.01,
        maximum=100.0,
        applied='live',
    ),
    Parameter(
        'loop',
        default=False,
        description='Begin again at the end; stamps go on.',
        applied='live',
    ),
    Parameter(
        'clock',
        default=False,
        description='Publish the time of the recording on /clock, 100 times a second.',
        applied='start',
    ),
    Parameter(
        'stamps',
        'source',
        "Stamps of the images: the recording's, or the time of publication.",
        choices=('source', 'now'),
        applied='start',
    ),
    Parameter(
        'wait_for_subscribers',
        1,
        'Begin when this many listen to the images.',
        minimum=0,
        maximum=100,
        applied='start',
    ),
    Parameter(
        'wait_timeout',
        30.0,
        'Begin after this many seconds even if nobody listens.',
        minimum=0.0,
        maximum=3600.0,
        applied='start',
    ),
    Parameter(
        'image_transport',
        'raw',
        'raw: sensor_msgs/Image on image; compressed: JPEG on image/compressed.',
        choices=('raw', 'compressed'),
        applied='start',
    ),
)

CLOCK_PERIOD_S = 0.01
JPEG_QUALITY = 90
# Our side sees a new subscriber a moment before the subscriber sees us.
GRACE_S = 0.5
# Further behind than this the pace starts anew; before, frames follow each other closely.
PATIENCE_S = 0.5


class ReplayNode(Node):
    """Publishes a recording; ``exit_status`` is set when it has ended."""

    create_publisher = naming_the_topic(Node.create_publisher)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('replay', **kwargs)
        self.parameters = Parameters(self, self, PARAMETERS)
        if not self.parameters['source']:
            msg = "parameter source is empty, expected a recording or 'procedural:...'"
            raise ParameterError(msg)
        self.exit_status: int | None = None
        self._source = open_source(
            self.parameters['source'], topic=self.parameters['topic'] or None
        )
        self._compressed = self.parameters['image_transport'] == 'compressed'
        kind, topic = image_topic(self, self.parameters['image_transport'])
        # Reliable serves both kinds of subscriber; the depth rides out a short stall of one.
        self._images = self.create_publisher(
            kind,
            topic,
            QoSProfile(depth=5),
            qos_overriding_options=overridable(),
        )
        self._clock_publisher = (
            self.create_publisher(Clock, '/clock', 10) if self.parameters['clock'] else None
        )
        self._state = 'waiting for subscribers'
        self._level = diagnostics.OK
        self._published = 0
        self._skipped = Complaints(self.get_logger().error)
        self._seen_skipped = 0
        self._rate = Rate()
        self._pace = Pace()
        self._stopped = Event()
        self._thread = Thread(target=self._play, name='replay', daemon=True)
        self.diagnostics = Diagnostics(self, self._source.name, {'recording': self._status})

    def is_configured(self) -> bool:
        """Tell whether parameters of a later ``configure`` are in use: there are none."""
        return False

    def refuse(self, values: Mapping[str, Any], changed: frozenset[str]) -> str:
        """Refuse nothing beyond the table."""
        return ''

    def apply(self, values: Mapping[str, Any], changed: frozenset[str]) -> None:
        """Do nothing: the live values are read with each frame."""

    def start(self) -> None:
        """Begin to play."""
        self._thread.start()

    def stop(self) -> None:
        """Stop playing."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def say_goodbye(self) -> None:
        """Tell that the recording was stopped; its end has told itself."""
        if self.exit_status is None:
            self._state = f'stopped while {self._state}'
            self.diagnostics.publish()

    def fail(self, error: Exception) -> None:
        """Report that a callback failed, by our mistake; the recording goes on."""
        self._level, self._state = diagnostics.ERROR, f'{type(error).__name__}: {error}'
        self.get_logger().error(f'{self._state}\n{traceback.format_exc()}')

    # In the thread

    def _play(self) -> None:
        status = 0
        try:
            self._wait_for_subscribers()
            self._state = 'playing'
            for frame in self._frames():
                if self._stopped.is_set():
                    return
                self._wait_until_due(frame)
                self._publish(frame)
        except SegUncertaintyError as error:
            self._end(diagnostics.ERROR, f'ended early: {error}')
            status = 1
        except Exception as error:
            if self._stopped.is_set() or not self.context.ok():
                return
            self._end(diagnostics.ERROR, f'failed: {type(error).__name__}: {error}')
            status = 1
        else:
            self._end(diagnostics.OK, 'finished')
        self._images.wait_for_all_acked(Duration(seconds=2.0))
        self.diagnostics.wait_for_reader()
        self.diagnostics.publish()
        self.diagnostics.flush()
        self.exit_status = status

    def _end(self, level: bytes, state: str) -> None:
        self._level, self._state = level, state
        report = (
            f'{state}: {self._source.name}: published {self._published}, '
            f'skipped {self._skipped.count}'
        )
        if level == diagnostics.OK:
            self.get_logger().info(report)
        else:
            self.get_logger().error(report)

    def _wait_for_subscribers(self) -> None:
        wanted = self.parameters['wait_for_subscribers']
        if not wanted:
            return
        self.get_logger().info(
            f'{self._source.name} on {self._images.topic_name}: waiting for {wanted} subscriber(s)'
        )
        give_up = time.monotonic() + self.parameters['wait_timeout']
        while self._images.get_subscription_count() < wanted:
            if self._stopped.wait(0.05):
                return
            if time.monotonic() > give_up:
                self.get_logger().warning(
                    f'{self._images.get_subscription_count()} of {wanted} subscribers on '
                    f'{self._images.topic_name} after {self.parameters["wait_timeout"]:.0f} s: '
                    'playing all the same'
                )
                return
        self._stopped.wait(GRACE_S)

    def _frames(self) -> Iterator[Frame]:
        """Yield the recording, again and again while ``loop``, with stamps that go on."""
        shift_ns = 0
        while True:
            first_ns = last_ns = None
            for frame in self._source:
                self._count_skipped()
                first_ns = frame.stamp_ns if first_ns is None else first_ns
                last_ns = frame.stamp_ns
                yield type(frame)(frame.image, frame.stamp_ns + shift_ns, frame.frame_id)
            self._count_skipped()
            if first_ns is None or not self.parameters['loop']:
                return
            interval_ns = (
                round(1e9 / self._source.rate_hz) if self._source.rate_hz else 100_000_000
            )
            shift_ns += last_ns - first_ns + interval_ns
            self._seen_skipped = 0

    def _count_skipped(self) -> None:
        skipped = self._source.skipped
        for reason in skipped[self._seen_skipped :]:
            self._skipped.add(f'frame skipped: {reason}')
        self._seen_skipped = len(skipped)

    def _wait_until_due(self, frame: Frame) -> None:
        due = self._pace.due(frame.stamp_ns, self.parameters['rate'], time.monotonic())
        while (remaining := due - time.monotonic()) > 0:
            if self._clock_publisher is None:
                if self._stopped.wait(remaining):
                    return
                break
            self._tick(frame.stamp_ns - round(remaining * self.parameters['rate'] * 1e9))
            if self._stopped.wait(min(remaining, CLOCK_PERIOD_S)):
                return
        self._tick(frame.stamp_ns)

    def _tick(self, now_ns: int) -> None:
        if self._clock_publisher is not None:
            self._clock_publisher.publish(Clock(clock=_time(now_ns)))

    def _publish(self, frame: Frame) -> None:
        stamp = (
            self.get_clock().now().to_msg()
            if self.parameters['stamps'] == 'now'
            else _time(frame.stamp_ns)
        )
        header = Header(stamp=stamp, frame_id=frame.frame_id)
        if self._compressed:
            _, data = cv2.imencode('.jpg', frame.image, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
            message = CompressedImage(header=header, format='bgr8; jpeg compressed bgr8')
            message.data.frombytes(data.data)
        else:
            message = conversions.image_message(frame.image, header)
        self._images.publish(message)
        self._published += 1
        self._rate.add(time.monotonic())

    def _status(self) -> Status:
        values = {
            'source': self._source.name,
            'topic': self._images.topic_name,
            'frames': self._source.frame_count,
            'published': self._published,
            'skipped': self._skipped.count,
            'rate_hz': self._rate.value(time.monotonic()),
            'restarts_of_the_pace': self._pace.restarts,
        }
        return Status(self._level, self._state, values)


class Pace:
    """When frames are due; falls in step anew where the source or the host was too slow."""

    def __init__(self) -> None:
        self._due: float | None = None
        self._stamp_ns = 0
        self.restarts = 0

    def due(self, stamp_ns: int, rate: float, now: float) -> float:
        """Return the moment (s, steady clock) of the frame with this stamp, asked for in order."""
        if self._due is None:
            self._due = now
        else:
            self._due += max(0, stamp_ns - self._stamp_ns) * 1e-9 / rate
            if now - self._due > PATIENCE_S:
                self._due = now
                self.restarts += 1
        self._stamp_ns = stamp_ns
        return self._due


def _time(nanoseconds: int) -> Time:
    sec, nanosec = divmod(nanoseconds, 1_000_000_000)
    return Time(sec=sec, nanosec=nanosec)


def main() -> None:
    """Run the node; the console script ``replay``."""
    exit_with(ReplayNode)


if __name__ == '__main__':
    main()
