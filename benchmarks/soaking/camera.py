# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The camera of a soak: it publishes, waits for answers, and does what faults ask of it."""

from __future__ import annotations

import contextlib
import re
import struct
import time
from array import array

import cv2
import numpy as np
import rclpy
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_msgs.msg import String

from seg_uncertainty_ros.nodes.conversions import image_message
from soaking import faults

ANSWER_S = 1.0
CALL_S = 20.0
STAMP = re.compile(rb'"stamp_ns": (-?\d+)')


class Messages:
    """Images that are serialised already; only their stamp is written anew."""

    def __init__(self, images):
        self._buffers = [bytearray(serialize_message(image)) for image in images]
        self._next = 0

    def next(self, stamp_ns):
        """Return the next image with a stamp."""
        buffer = self._buffers[self._next]
        self._next = (self._next + 1) % len(self._buffers)
        # Little-endian CDR: four bytes of encapsulation, then seconds and nanoseconds.
        struct.pack_into('<iI', buffer, 4, *divmod(stamp_ns, 10**9))
        return bytes(buffer)


def kinds_of_images(frames):
    """Return messages of several encodings and sizes by name; the first is the usual one."""
    header = Header(frame_id='camera')

    def messages(change, encoding, channels):
        made = []
        for frame in frames:
            pixels = change(frame.image)
            message = image_message(pixels.reshape(len(pixels), -1), header)
            message.encoding = encoding
            message.width = pixels.shape[1]
            message.step = pixels.shape[1] * channels
            made.append(message)
        return made

    def to(code):
        return lambda image: cv2.cvtColor(image, code)

    def sized(factor):
        return lambda image: cv2.resize(image, None, fx=factor, fy=factor)

    return {
        'bgr8': messages(lambda image: image, 'bgr8', 3),
        'rgb8': messages(to(cv2.COLOR_BGR2RGB), 'rgb8', 3),
        'bgra8': messages(to(cv2.COLOR_BGR2BGRA), 'bgra8', 4),
        'mono8': messages(to(cv2.COLOR_BGR2GRAY), 'mono8', 1),
        'half': messages(sized(0.5), 'bgr8', 3),
        'double': messages(sized(2.0), 'bgr8', 3),
        'odd': messages(lambda image: image[:-1, :-3].copy(), 'bgr8', 3),
    }


class Camera:
    """Publishes images and holds them back until earlier ones have been judged."""

    def __init__(self, node, spin, images, in_flight, listener):
        self.published = self.overtaken = self.unanswered = 0
        self.calls = self.silent_calls = 0
        self.clean = True
        self.latencies = array('d')
        self.bad = np.array(
            [serialize_message(m) for m in faults.bad_messages(images['bgr8'][0])], object
        )
        self.other_kinds = [kind for kind in images if kind != 'bgr8']
        self._images = {kind: Messages(each) for kind, each in images.items()}
        self._node = node
        self._spin = spin
        self._in_flight = in_flight
        self._listener = listener
        self._pending = {}
        self._clients = {}
        self._publisher = node.create_publisher(Image, 'image', QoSProfile(depth=5))
        self._info = node.create_publisher(CameraInfo, 'camera_info', QoSProfile(depth=5))
        self._states = node.create_subscription(
            String, 'monitor/state', self._on_state, 10, raw=True
        )
        # One for the whole run: destroy_node of rclpy 7.1.6 leaves a service of the node behind,
        # for which every other process in the domain keeps 6 KiB.
        self._never_spun = rclpy.create_node('never_reads')

    def _on_state(self, data):
        now = time.perf_counter()
        stamp_ns = int(STAMP.search(data)[1])
        found = self._pending.pop(stamp_ns, None)
        if found is None:
            return
        sent, clean = found
        if clean:
            self.latencies.append(now - sent)
        # Images are processed in their order: what was sent before has given way to a newer one.
        for stamp_ns in [s for s, (earlier, _) in self._pending.items() if earlier < sent]:
            del self._pending[stamp_ns]
            self.overtaken += 1

    def publish(self, data, publisher=None):
        """Publish a serialised message."""
        (publisher or self._publisher).publish(data)
        self.published += 1

    def publish_next(self, kind='bgr8', publisher=None):
        """Publish the next image of a kind, now, whoever is waiting."""
        stamp_ns = time.time_ns()
        self._pending[stamp_ns] = (time.perf_counter(), False)
        self.publish(self._images[kind].next(stamp_ns), publisher)

    def frames(self, count, kind='bgr8', stamps=time.time_ns):
        """Publish images, each as soon as there is room for it."""
        for _ in range(count):
            self.settle(self._in_flight - 1)
            if self._pending:  # two at once: the first would be dropped
                self._spin(0.003)
            stamp_ns = stamps()
            data = self._images[kind].next(stamp_ns)
            self._pending[stamp_ns] = (time.perf_counter(), self.clean)
            self.publish(data)

    def settle(self, most=0):
        """Wait until no more than ``most`` images are without an answer, or too late for one."""
        while len(self._pending) > most:
            self._spin(0.05)
            late = time.perf_counter() - ANSWER_S
            for stamp_ns in [s for s, (sent, _) in self._pending.items() if sent < late]:
                del self._pending[stamp_ns]
                self.unanswered += 1

    def rest(self, seconds):
        """Publish nothing for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._spin(min(left, 0.1))

    def publish_info(self, width, height):
        """Publish a camera info."""
        self._info.publish(CameraInfo(width=width, height=height))

    def set(self, node, name, value):
        """Ask a node for a parameter; return the future of its answer."""
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]
        )
        return self._call(SetParameters, f'/{node}/set_parameters', request)

    def transition(self, node, label):
        """Ask a node for a transition; return the future of its answer."""
        request = ChangeState.Request()
        request.transition.label = label
        return self._call(ChangeState, f'/{node}/change_state', request)

    def _call(self, kind, name, request):
        if name not in self._clients:
            self._clients[name] = self._node.create_client(kind, name)
        client = self._clients[name]
        end = time.monotonic() + CALL_S
        while not client.service_is_ready() and time.monotonic() < end:
            self._spin(0.05)
        return client.call_async(request)

    def wait_for(self, futures):
        """Wait for answers, and count those that do not come."""
        end = time.monotonic() + CALL_S
        while not all(future.done() for future in futures) and time.monotonic() < end:
            self._spin(0.05)
        self.calls += len(futures)
        self.silent_calls += sum(not future.done() for future in futures)

    @contextlib.contextmanager
    def second_publisher(self):
        """Yield another publisher of images."""
        publisher = self._node.create_publisher(Image, 'image', 5)
        self.rest(0.1)
        yield publisher
        self._node.destroy_publisher(publisher)

    @contextlib.contextmanager
    def unread(self, names):
        """Subscribe to planes with a node that nothing spins."""
        node = self._never_spun
        subscriptions = [
            node.create_subscription(Image, f'segmentation/{name}', id, 1) for name in names
        ]
        self.rest(0.1)
        yield
        for subscription in subscriptions:
            node.destroy_subscription(subscription)

    @contextlib.contextmanager
    def listener(self):
        """Yield the process that listens to planes while it does."""
        self._listener.say(b'+')
        self.rest(0.1)
        yield self._listener.process
        self._listener.say(b'-')

    def close(self):
        """End the node that is never spun."""
        self._never_spun.destroy_node()
